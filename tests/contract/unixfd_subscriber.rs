//! The contract for `share::UnixfdSubscriber`, with a `unixfdsink` of the test: one that stays disconnected, and one
//! that connects again.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use framelease::dmabuf::DEFAULT_WAIT;
use framelease::share::{Policy, Reconnect, SubscriberEvent, UnixfdSubscriber};
use framelease::Station;
use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};
use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags};

use crate::scene::{Description, Kind, Scene, Task};
use crate::subscriber::kind;
use crate::support::{Folder, SOON};

const NEW_BUFFER: u32 = 0;
const RELEASE_BUFFER: u32 = 1;
const CAPS: u32 = 2;
const NONE: u64 = u64::MAX;
const BYTES: u64 = 64 * 48 * 3 / 2;
const NV12: &str = "video/x-raw, format=(string)NV12, width=(int)64, height=(int)48, framerate=(fraction)30/1, \
                    multiview-mode=(string)mono, pixel-aspect-ratio=(fraction)1/1, interlace-mode=(string)progressive";

fn message(kind: u32, payload: &[u8]) -> Vec<u8> {
    [&kind.to_ne_bytes()[..], &(payload.len() as u32).to_ne_bytes(), payload].concat()
}

fn memory() -> File {
    let file = File::from(memfd_create(c"contract", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(BYTES).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    file
}

/// A sink and its only client.
struct Sink {
    listener: UnixListener,
    socket: UnixStream,
    memories: Vec<File>,
    next: u64,
    _folder: Folder,
}

impl Sink {
    fn send(&self, bytes: &[u8], fds: &[&File]) {
        let raw: Vec<_> = fds.iter().map(|file| file.as_raw_fd()).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &control[..] };
        let (iov, flags) = ([IoSlice::new(bytes)], MsgFlags::MSG_NOSIGNAL);
        assert_eq!(sendmsg::<()>(self.socket.as_raw_fd(), &iov, control, flags, None).unwrap(), bytes.len());
    }

    fn caps(&self) {
        self.send(&message(CAPS, format!("{NV12}\0").as_bytes()), &[]);
    }

    /// Sends a frame, and reads the releases.
    fn frame(&mut self) {
        self.next += 1;
        let words = [self.next, self.next * 1_000, NONE, NONE, self.next, self.next + 1];
        let mut payload: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        // Flags, type and number of memories, number of metas; size and offset of the memory.
        payload.extend([0, 0, 0, 0, 0, 1, 0, 0]);
        payload.extend([BYTES.to_ne_bytes(), [0; 8]].concat());
        self.send(&message(NEW_BUFFER, &payload), &[&self.memories[self.next as usize % self.memories.len()]]);
        self.socket.set_nonblocking(true).unwrap();
        while let Ok(1..) = self.socket.read(&mut [0; 4096]) {}
        self.socket.set_nonblocking(false).unwrap();
    }

    /// Hangs up, although another process may have the descriptor.
    fn hang_up(&self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
    }
}

struct Joined {
    subscriber: UnixfdSubscriber,
    sink: Option<Sink>,
}

impl Joined {
    fn new(reconnect: Reconnect) -> Self {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.socket()).unwrap();
        let builder = UnixfdSubscriber::builder(folder.socket()).hold(4).policy(Policy::Fifo(8)).reconnect(reconnect);
        let subscriber = std::thread::spawn(move || builder.connect(SOON));
        let (socket, _) = listener.accept().unwrap();
        let mut sink =
            Sink { listener, socket, memories: (0..12).map(|_| memory()).collect(), next: 0, _folder: folder };
        sink.caps();
        let mut subscriber = subscriber.join().unwrap().unwrap();
        sink.frame();
        while subscriber.recv(SOON).unwrap().frame().is_none() {}
        Self { subscriber, sink: Some(sink) }
    }

    fn give(&mut self) {
        self.sink.as_mut().unwrap().frame();
    }

    fn elsewhere(&mut self) -> Task {
        let mut sink = self.sink.take().unwrap();
        Box::new(move || {
            sink.frame();
            std::mem::forget(sink);
        })
    }

    fn last_lease(&mut self) -> Task {
        self.give();
        let frame = self.subscriber.recv(SOON).unwrap().frame().unwrap();
        Box::new(move || drop(frame.read(DEFAULT_WAIT)))
    }

    /// Asserts that the sink sees that the subscriber is dropped.
    fn drop_is_seen(self) {
        let Self { subscriber, sink } = self;
        drop(subscriber);
        let socket = &sink.as_ref().unwrap().socket;
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut socket = socket;
        let end = socket.read_to_end(&mut Vec::new());
        assert!(end.is_ok(), "the sink does not see the end: {end:?}");
    }
}

mod once {
    use super::*;

    struct Once(Joined);

    impl Scene for Once {
        type Station = UnixfdSubscriber;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| scene.0.give(),
            most_waiting: 8,
            many: 300,
            extra_wakes: 1,
            most_ignored: None,
            fail: Some(|scene| scene.0.sink.as_ref().unwrap().send(&message(RELEASE_BUFFER, &[0; 8]), &[])),
            end: Some(|scene| scene.0.sink.as_ref().unwrap().hang_up()),
            // The leases of frames end with the connection. Frames that waited are counted as dropped.
            gives_before_end: false,
            // It takes no items.
            fill: None,
            make_room: None,
            elsewhere: Some(|scene| scene.0.elsewhere()),
            // It does not connect again.
            restart: None,
            last_lease: Some(|scene| scene.0.last_lease()),
            // It has no clients.
            crowd: None,
            drop_is_seen: Some(|scene| scene.0.drop_is_seen()),
        };

        fn new() -> Self {
            Self(Joined::new(Reconnect::Never))
        }

        fn station(&mut self) -> &mut UnixfdSubscriber {
            &mut self.0.subscriber
        }

        fn kind(event: &SubscriberEvent) -> Kind {
            kind(event)
        }
    }

    crate::contract!(Once);
}

mod always {
    use super::*;

    struct Always(Joined);

    impl Scene for Always {
        type Station = UnixfdSubscriber;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| scene.0.give(),
            most_waiting: 8,
            many: 300,
            extra_wakes: 1,
            most_ignored: None,
            // Each error is an event of a lost connection.
            fail: None,
            // It has no end.
            end: None,
            gives_before_end: false,
            // It takes no items.
            fill: None,
            make_room: None,
            elsewhere: Some(|scene| scene.0.elsewhere()),
            restart: Some(|scene| {
                let Joined { subscriber, sink } = &mut scene.0;
                let sink = sink.as_mut().unwrap();
                sink.hang_up();
                let lost = subscriber.recv(SOON).unwrap().item();
                assert!(matches!(lost, Some(SubscriberEvent::Lost(_))), "{lost:?}");
                sink.listener.set_nonblocking(true).unwrap();
                let start = Instant::now();
                let (mut is_accepted, mut has_returned) = (false, false);
                while !(is_accepted && has_returned) {
                    assert!(start.elapsed() < SOON, "accepted: {is_accepted}, returned: {has_returned}");
                    if let Some(event) = subscriber.try_recv().unwrap().item() {
                        assert!(matches!(event, SubscriberEvent::Returned | SubscriberEvent::Format(_)), "{event:?}");
                        has_returned |= matches!(event, SubscriberEvent::Returned);
                    }
                    if let Ok((socket, _)) = sink.listener.accept() {
                        assert!(!is_accepted, "it connects twice");
                        sink.socket = socket;
                        sink.caps();
                        is_accepted = true;
                    }
                }
                // Known memories do not have a format of their own.
                sink.frame();
                while subscriber.recv(SOON).unwrap().frame().is_none() {}
            }),
            last_lease: Some(|scene| scene.0.last_lease()),
            // It has no clients.
            crowd: None,
            drop_is_seen: Some(|scene| scene.0.drop_is_seen()),
        };

        fn new() -> Self {
            Self(Joined::new(Reconnect::Always))
        }

        fn station(&mut self) -> &mut UnixfdSubscriber {
            &mut self.0.subscriber
        }

        fn kind(event: &SubscriberEvent) -> Kind {
            kind(event)
        }
    }

    crate::contract!(Always);
}
