//! The contract for `share::Publisher`. Its items are subscribers that join and leave.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::frame::Frame;
use framelease::share::{Policy, Publisher, PublisherEvent, Subscriber, SubscriberEvent};
use framelease::{ErrorKind, Received, Station, Submitted};
use nix::errno::Errno;
use nix::sys::socket::{connect, shutdown, socket, AddressFamily, Shutdown, SockFlag, SockType, UnixAddr};

use crate::raw::{hello, Raw};
use crate::scene::{Crowd, Description, Kind, Scene};
use crate::support::{publisher_at, source, Folder, SOON};
use crate::watch::Watch;

struct Peers {
    publisher: Publisher,
    peers: Vec<Raw>,
    blocking: Option<Subscriber>,
    held: Vec<Frame>,
    source: TestPattern,
    crowd: Vec<std::os::fd::OwnedFd>,
    folder: Folder,
}

const MOST_PEERS: usize = 4;

impl Peers {
    /// A subscriber joins, or hangs up although another process may have its descriptor.
    fn come_or_go(&mut self) {
        if self.peers.len() == MOST_PEERS {
            let peer = self.peers.remove(0);
            shutdown(peer.as_raw_fd(), Shutdown::Both).unwrap();
            return;
        }
        let peer = Raw::connect(&self.folder.socket());
        peer.send(&hello(1, 1, 1));
        self.peers.push(peer);
    }

    /// A subscriber with policy block joins.
    fn join(&mut self) {
        if self.blocking.is_some() {
            return;
        }
        self.publisher.announce(self.source.buffers().unwrap()).unwrap();
        let builder = Subscriber::builder(self.folder.socket()).policy(Policy::Block);
        let thread = std::thread::spawn(move || builder.connect(SOON));
        while !thread.is_finished() {
            self.publisher.dispatch().unwrap();
        }
        let mut subscriber = thread.join().unwrap().unwrap();
        let start = Instant::now();
        while self.publisher.active() == 0 {
            assert!(start.elapsed() < SOON, "the subscriber does not become active");
            self.publisher.dispatch().unwrap();
            assert!(subscriber.try_recv().unwrap().frame().is_none());
        }
        self.blocking = Some(subscriber);
    }

    /// Publishes until a subscriber with policy block has no room.
    fn fill(&mut self) {
        self.join();
        loop {
            let frame = self.source.recv(SOON).unwrap().frame().expect("a free buffer");
            if let Submitted::Full(frame) = self.publisher.try_publish(frame).unwrap() {
                return drop(frame);
            }
            if self.held.is_empty() {
                self.hold();
            }
        }
    }

    fn hold(&mut self) {
        let subscriber = self.blocking.as_mut().unwrap();
        loop {
            match subscriber.recv(SOON).unwrap() {
                Received::Item(SubscriberEvent::Frame(frame)) => return self.held.push(frame),
                Received::Item(_) => {}
                other => panic!("{other:?} instead of a frame"),
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
        // A connection, and its first message.
        extra_wakes: 2,
        most_ignored: Some(256),
        fail: Some(|scene| {
            scene.come_or_go();
            scene.peers[0].send(&[0xff; 12]);
        }),
        // It has no end.
        end: None,
        gives_before_end: false,
        fill: Some(Self::fill),
        make_room: Some(|scene| scene.held.clear()),
        elsewhere: Some(|scene| {
            scene.fill();
            let held = std::mem::take(&mut scene.held);
            Box::new(move || drop(held))
        }),
        // It does not use a device.
        restart: None,
        last_lease: Some(|scene| {
            scene.fill();
            let held = std::mem::take(&mut scene.held);
            Box::new(move || held.iter().for_each(|frame| drop(frame.read(DEFAULT_WAIT).unwrap())))
        }),
        crowd: Some(Crowd {
            knock: |scene| {
                let before = scene.crowd.len();
                loop {
                    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
                    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
                    match connect(fd.as_raw_fd(), &UnixAddr::new(&scene.folder.socket()).unwrap()) {
                        Ok(()) => scene.crowd.push(fd),
                        Err(Errno::EAGAIN) => return scene.crowd.len() - before,
                        Err(e) => panic!("{e}"),
                    }
                }
            },
            leave: |scene| scene.crowd.clear(),
        }),
        drop_is_seen: Some(|scene| {
            let Self { publisher, peers, folder, .. } = scene;
            drop(publisher);
            for peer in &peers {
                while !peer.receive().is_empty() {}
                let hung_up = Watch::new(peer);
                assert!(hung_up.is_readable_within(Duration::ZERO), "the subscriber does not see the end");
            }
            // The path is free.
            publisher_at(folder.socket()).bind().unwrap();
        }),
    };

    fn new() -> Self {
        let folder = Folder::new();
        Self {
            publisher: publisher_at(folder.socket()).bind().unwrap(),
            peers: Vec::new(),
            blocking: None,
            held: Vec::new(),
            source: source(12),
            crowd: Vec::new(),
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
