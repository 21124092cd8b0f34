//! The contract for `sink::rtsp::Server`. Its items are clients that join and leave, also through HTTP.

use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use framelease::bitstream::Codec;
use framelease::sink::rtsp::{MountId, MountOptions, Server, ServerEvent};
use framelease::Station;
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{connect, socket, AddressFamily, SockFlag, SockType, SockaddrIn};

use crate::client::Client;
use crate::packet_receiver::packet;
use crate::scene::{Crowd, Description, Kind, Scene};
use crate::support::SOON;

struct Clients<const TUNNELED: bool> {
    server: Server,
    live: MountId,
    clients: Vec<Client>,
    crowd: Vec<OwnedFd>,
}

const MOST_CLIENTS: usize = 4;

impl<const TUNNELED: bool> Clients<TUNNELED> {
    /// Runs a client in a thread while this thread serves the server.
    fn served<T: Send + 'static>(&mut self, client: impl FnOnce() -> T + Send + 'static) -> T {
        let client = std::thread::spawn(client);
        while !client.is_finished() {
            self.server.dispatch().unwrap();
            std::thread::yield_now();
        }
        client.join().unwrap()
    }

    /// A client sends PLAY, or hangs up although another process may have its descriptor.
    fn come_or_go(&mut self) {
        if self.clients.len() == MOST_CLIENTS {
            let mut client = self.clients.remove(0);
            assert_eq!(client.response().map(|response| response.status), Some(200));
            return client.stream.shutdown(Shutdown::Both).unwrap();
        }
        let address = self.server.local_addr().unwrap();
        let (mut client, session) = self.served(move || {
            let mut client = if TUNNELED { Client::tunnel(address) } else { Client::connect(address) };
            let session = client.setup("RTP/AVP/TCP;unicast;interleaved=0-1").session();
            (client, session)
        });
        // After the last dispatch, which would count as a look at the event.
        client.say("PLAY", "/live", &format!("Session: {session}\r\n"));
        self.clients.push(client);
    }
}

impl<const TUNNELED: bool> Scene for Clients<TUNNELED> {
    type Station = Server;

    const DESCRIPTION: Description<Self> = Description {
        give: Self::come_or_go,
        most_waiting: 4,
        many: 60,
        // A connection, and its hang-up.
        extra_wakes: 2,
        most_ignored: Some(256),
        // Errors of clients are only counted.
        fail: None,
        // It has no end.
        end: None,
        gives_before_end: false,
        // It always has room.
        fill: None,
        make_room: None,
        // Another thread cannot make anything possible.
        elsewhere: None,
        // It does not use a device.
        restart: None,
        last_lease: Some(|scene| {
            scene.come_or_go();
            let packet = packet(1, 1_000, 1_000_000);
            scene.server.submit(scene.live, &packet).unwrap();
            Box::new(move || assert_eq!(packet.bytes().len(), 1_000_000))
        }),
        crowd: Some(Crowd {
            knock: |scene| {
                let SocketAddr::V4(address) = scene.server.local_addr().unwrap() else { panic!("not IPv4") };
                let before = scene.crowd.len();
                // The backlog of the standard library's listener, and more.
                for _ in 0..200 {
                    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
                    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
                    let connected = connect(fd.as_raw_fd(), &SockaddrIn::from(address));
                    assert!(matches!(connected, Ok(()) | Err(Errno::EINPROGRESS)), "{connected:?}");
                    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&fd), PollFlags::POLLOUT)];
                    if poll(&mut fds, PollTimeout::ZERO).unwrap() == 0 {
                        break;
                    }
                    scene.crowd.push(fd);
                }
                scene.crowd.len() - before
            },
            leave: |scene| scene.crowd.clear(),
        }),
        drop_is_seen: Some(|scene| {
            let Self { server, clients, .. } = scene;
            let address = server.local_addr().unwrap();
            drop(server);
            for mut client in clients {
                client.stream.set_read_timeout(Some(SOON)).unwrap();
                let end = client.stream.read_to_end(&mut Vec::new());
                assert!(end.is_ok(), "the client does not see the end: {end:?}");
            }
            // The port is free.
            Server::builder(address).bind().unwrap();
        }),
    };

    fn new() -> Self {
        let mut server = Server::builder((Ipv4Addr::LOCALHOST, 0)).bind().unwrap();
        let live = server.mount("/live", Codec::Vp8, MountOptions::default()).unwrap();
        let mut scene = Self { server, live, clients: Vec::new(), crowd: Vec::new() };
        // A client that waits for a key frame. The server reports that here, once.
        scene.come_or_go();
        while scene.server.try_recv().unwrap().item().is_some() {}
        scene
    }

    fn station(&mut self) -> &mut Server {
        &mut self.server
    }

    fn kind(event: &ServerEvent) -> Kind {
        match event {
            ServerEvent::Joined(..) | ServerEvent::Left(..) => Kind::Item,
            _ => Kind::Other,
        }
    }
}

mod direct {
    crate::contract!(super::Clients<false>);
}

mod tunneled {
    crate::contract!(super::Clients<true>);
}
