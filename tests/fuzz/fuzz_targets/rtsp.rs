//! Any bytes as what RTSP clients send: to the parser, and in a connection to a server that streams.
//!
//! Input: how many bytes a write has; then the bytes.

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

fuzz_target!(|input: &[u8]| {
    let &[piece, ref bytes @ ..] = input else { return };
    let mut at = 0;
    while let Parsed::Blank(used) | Parsed::Packet(_, _, used) | Parsed::Request(_, used) = parse(&bytes[at..]) {
        assert!(used > 0 && at + used <= bytes.len());
        at += used;
    }
    SERVER.with(|server| {
        let (server, live) = &mut *server.borrow_mut();
        let mut stream = TcpStream::connect(server.local_addr().expect("bound")).expect("it listens");
        stream.set_nonblocking(true).expect("a socket");
        // The server forgets a connection after its end, because the number of ports is limited.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        while server.connections() == 0 {
            server.dispatch().expect("a server");
        }
        for (i, part) in bytes.chunks(usize::from(piece) * 16 + 1).enumerate() {
            if stream.write_all(part).is_err() {
                break;
            }
            while server.try_recv().expect("no client breaks a server").item().is_some() {}
            let meta = PacketMeta::new(Codec::H264, Size::new(64, 48), i as u64, i as u64);
            let frame = [0, 0, 1, 0x67, 66, 1, 2, 0, 0, 1, 0x68, 1, 0, 0, 1, 0x65, 0x88];
            server.submit(*live, &Packet::new(meta, frame, None)).expect("its own codec");
            let _ = stream.read(&mut [0; 4096]);
        }
        drop(stream);
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
