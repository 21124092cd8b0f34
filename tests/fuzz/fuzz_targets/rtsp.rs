//! Any bytes as what RTSP clients send: to the parser, and in connections to a server that streams.
//!
//! Input: the way that the bytes go and how many a write has; then the bytes.

#![no_main]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::format::Size;
use framelease::frame::{Packet, PacketMeta};
use framelease::sink::rtsp::{parse, MountId, MountOptions, Parsed, Server};
use framelease::Station;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static SERVER: RefCell<(Server, MountId)> = RefCell::new({
        let builder = Server::builder((Ipv4Addr::LOCALHOST, 0)).max_connections(4).max_sessions(1000);
        let mut server = builder.bind().expect("a free port");
        let live = server.mount("/a", Codec::H264, MountOptions::default()).expect("a free path");
        (server, live)
    });
}

/// The way that the bytes go.
enum Way {
    /// In one connection.
    Direct,
    /// In two, in turns.
    Two,
    /// Through HTTP, encoded.
    Tunnel,
    /// Through HTTP, as they are.
    Base64,
}

impl Way {
    fn of(piece: u8) -> Self {
        match piece % 4 {
            3 => Self::Direct,
            2 => Self::Two,
            1 => Self::Base64,
            _ => Self::Tunnel,
        }
    }
}

fn serve(server: &mut Server) {
    while server.try_recv().expect("no client breaks a server").item().is_some() {}
}

/// Returns a connection that the server has accepted.
fn connect(server: &mut Server) -> TcpStream {
    let before = server.connections();
    let stream = TcpStream::connect(server.local_addr().expect("bound")).expect("it listens");
    stream.set_nonblocking(true).expect("a socket");
    // The server forgets a connection after its end, because the number of ports is limited.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    while server.connections() == before {
        server.dispatch().expect("a server");
    }
    stream
}

fn base64(bytes: &[u8]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let word = group.iter().fold(0, |word, &b| word << 8 | usize::from(b)) << (8 * (3 - group.len()));
        let letter = |i: usize| char::from(if i <= group.len() { letters[word >> (18 - 6 * i) & 63] } else { b'=' });
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fuzz_target!(|input: &[u8]| {
    let &[piece, ref bytes @ ..] = input else { return };
    let mut at = 0;
    while let Parsed::Blank(used) | Parsed::Packet(_, _, used) | Parsed::Request(_, used) = parse(&bytes[at..]) {
        assert!(used > 0 && at + used <= bytes.len());
        at += used;
    }
    SERVER.with(|server| {
        let (server, live) = &mut *server.borrow_mut();
        let (mut one, mut other) = (connect(server), None);
        match Way::of(piece) {
            Way::Direct => {}
            Way::Two => other = Some(connect(server)),
            Way::Tunnel | Way::Base64 => {
                one.write_all(b"GET /a HTTP/1.0\r\nx-sessioncookie: a\r\n\r\n").expect("it is open");
                serve(server);
                let get = std::mem::replace(&mut one, connect(server));
                one.write_all(b"POST /a HTTP/1.0\r\nx-sessioncookie: a\r\n\r\n").expect("it is open");
                other = Some(get);
            }
        }
        for (i, part) in bytes.chunks(usize::from(piece) * 16 + 1).enumerate() {
            let written = match (Way::of(piece), &mut other) {
                (Way::Tunnel, _) => one.write_all(base64(part).as_bytes()),
                (Way::Two, Some(other)) if i % 2 == 1 => other.write_all(part),
                _ => one.write_all(part),
            };
            if written.is_err() {
                break;
            }
            serve(server);
            let meta = PacketMeta::new(Codec::H264, Size::new(64, 48), i as u64, i as u64);
            let frame = [0, 0, 1, 0x67, 66, 1, 2, 0, 0, 1, 0x68, 1, 0, 0, 1, 0x65, 0x88];
            server.submit(*live, &Packet::new(meta, frame, None)).expect("its own codec");
            for mut stream in [Some(&one), other.as_ref()].into_iter().flatten() {
                let _ = stream.read(&mut [0; 4096]);
            }
        }
        drop((one, other));
        while server.connections() > 0 {
            server.dispatch().expect("a server");
        }
        // Those by UDP outlive it.
        if server.clients().count() > 100 {
            server.unmount(*live);
            *live = server.mount("/a", Codec::H264, MountOptions::default()).expect("a free path");
        }
    });
});
