//! The contract for `share::Publisher` with GStreamer's `unixfd` protocol. Its items are clients that join and leave.

use std::io::Read;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use framelease::capture::{FrameSource, TestPattern};
use framelease::share::{Policy, Publisher, PublisherEvent, UnixfdTerms};
use framelease::{ErrorKind, Station, Submitted};
use nix::errno::Errno;
use nix::sys::socket::{connect, socket, AddressFamily, SockFlag, SockType, UnixAddr};

use crate::scene::{Crowd, Description, Kind, Scene};
use crate::support::{publisher_at, source, Folder, SOON};
use crate::unixfd_client::{release, Client};

struct Peers {
    publisher: Publisher,
    peers: Vec<Client>,
    /// A client that takes frames.
    blocking: Option<Client>,
    source: TestPattern,
    crowd: Vec<OwnedFd>,
    path: PathBuf,
    folder: Folder,
}

const MOST_PEERS: usize = 4;

fn bind(folder: &Folder, path: &Path) -> Publisher {
    publisher_at(folder.socket()).unixfd(path, UnixfdTerms::hold(1).policy(Policy::Block)).bind().unwrap()
}

/// Releases the next frame of a client.
fn release_one(client: &mut Client) {
    let (id, _) = client.buffer();
    client.send(&release(id));
}

impl Peers {
    /// A client connects, or hangs up although another process may have its descriptor.
    fn come_or_go(&mut self) {
        match self.peers.len() {
            MOST_PEERS => self.peers.remove(0).socket.shutdown(Shutdown::Both).unwrap(),
            _ => self.peers.push(Client::connect(&self.path).unwrap()),
        }
    }

    /// Publishes until a client with policy block has no room.
    fn fill(&mut self) {
        if self.blocking.is_none() {
            self.publisher.announce(self.source.buffers().unwrap()).unwrap();
            let mut client = Client::connect(&self.path).unwrap();
            let start = Instant::now();
            while self.publisher.active() == 0 {
                assert!(start.elapsed() < SOON, "the client does not become active");
                self.publisher.dispatch().unwrap();
            }
            client.caps();
            self.blocking = Some(client);
        }
        loop {
            let frame = self.source.recv(SOON).unwrap().frame().expect("a free buffer");
            if let Submitted::Full(frame) = self.publisher.try_publish(frame).unwrap() {
                return drop(frame);
            }
        }
    }
}

impl Scene for Peers {
    type Station = Publisher;

    const DESCRIPTION: Description<Self> = Description {
        give: Self::come_or_go,
        most_waiting: 4,
        many: 200,
        // A hang-up.
        extra_wakes: 1,
        most_ignored: Some(256),
        fail: Some(|scene| {
            scene.come_or_go();
            scene.peers[0].send(&release(7));
        }),
        // It has no end.
        end: None,
        gives_before_end: false,
        fill: Some(Self::fill),
        make_room: Some(|scene| release_one(scene.blocking.as_mut().unwrap())),
        elsewhere: Some(|scene| {
            scene.fill();
            let mut client = scene.blocking.take().unwrap();
            Box::new(move || {
                release_one(&mut client);
                // The client stays connected.
                std::mem::forget(client);
            })
        }),
        // It does not use a device.
        restart: None,
        // The client has the leases.
        last_lease: None,
        crowd: Some(Crowd {
            knock: |scene| {
                let before = scene.crowd.len();
                loop {
                    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
                    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
                    match connect(fd.as_raw_fd(), &UnixAddr::new(&scene.path).unwrap()) {
                        Ok(()) => scene.crowd.push(fd),
                        Err(Errno::EAGAIN) => return scene.crowd.len() - before,
                        Err(e) => panic!("{e}"),
                    }
                }
            },
            leave: |scene| scene.crowd.clear(),
        }),
        drop_is_seen: Some(|scene| {
            let Self { publisher, peers, folder, path, .. } = scene;
            drop(publisher);
            for mut peer in peers {
                peer.socket.set_read_timeout(Some(SOON)).unwrap();
                let end = peer.socket.read_to_end(&mut Vec::new());
                assert!(end.is_ok(), "the client does not see the end: {end:?}");
            }
            // Both paths are free.
            bind(&folder, &path);
        }),
    };

    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.file("gst");
        Self {
            publisher: bind(&folder, &path),
            peers: Vec::new(),
            blocking: None,
            source: source(12),
            crowd: Vec::new(),
            path,
            folder,
        }
    }

    fn station(&mut self) -> &mut Publisher {
        &mut self.publisher
    }

    fn kind(event: &PublisherEvent) -> Kind {
        match event {
            PublisherEvent::Left { error, .. } if error.kind() == ErrorKind::Protocol => Kind::Error,
            PublisherEvent::Joined(_) | PublisherEvent::Left { .. } => Kind::Item,
            _ => Kind::Other,
        }
    }
}

crate::contract!(Peers);
