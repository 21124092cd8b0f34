//! A publisher in its own folder, frames to publish, subscribers that read each frame at once.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::frame::Frame;
use framelease::share::{Publisher, PublisherBuilder, Subscriber, SubscriberBuilder, SubscriberEvent};
use framelease::{Received, Station};
use nix::sys::signal::{kill, Signal};
use nix::sys::socket::{bind, socket, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::Pid;

pub const SOON: Duration = Duration::from_secs(10);

/// A folder that is removed with its content.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("framelease-test-{}-{n}", std::process::id()));
        // A process with the same number may have been killed.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.file("socket")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes the file that a dead publisher leaves. It is never a listening socket: a child that another test starts has a
/// copy of every descriptor between fork and exec, and a listener would seem alive.
pub fn dead_socket(path: &Path, kind: SockType) {
    let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
}

/// Borrows a descriptor of the library by its number.
#[allow(unsafe_code)]
pub fn borrowed<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: it is a socket of the calling test, which outlives the call that borrows it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// An unpaced test pattern in memfds.
pub fn source(buffers: usize) -> TestPattern {
    source_of(buffers, Size::new(64, 48))
}

pub fn source_of(buffers: usize, size: Size) -> TestPattern {
    let builder = TestPattern::builder(size).buffers(buffers).unpaced();
    builder.allocator(Allocator::Memfd).start().unwrap()
}

/// A publisher whose source needs two buffers. It waits for subscribers with policy block, and for subscribers that a
/// loaded machine delays.
pub fn publisher_at(path: impl AsRef<Path>) -> PublisherBuilder {
    Publisher::builder(path).reserve(2).allow_block(Duration::from_secs(600)).handshake_timeout(SOON)
}

/// A publisher, its source and its folder.
pub struct Stage {
    pub publisher: Publisher,
    pub source: TestPattern,
    pub folder: Folder,
}

impl Stage {
    pub fn new(buffers: usize) -> Self {
        Self::with(buffers, |b| b)
    }

    pub fn with(buffers: usize, settings: impl FnOnce(PublisherBuilder) -> PublisherBuilder) -> Self {
        Self::in_folder(buffers, |_, b| settings(b))
    }

    /// [`Stage::with`], for settings that name another file of the folder.
    pub fn in_folder(buffers: usize, settings: impl FnOnce(&Folder, PublisherBuilder) -> PublisherBuilder) -> Self {
        let folder = Folder::new();
        let source = source(buffers);
        let mut publisher = settings(&folder, publisher_at(folder.socket())).bind().unwrap();
        publisher.announce(source.buffers().unwrap()).unwrap();
        Self { publisher, source, folder }
    }

    pub fn subscriber(&self) -> SubscriberBuilder {
        Subscriber::builder(self.folder.socket())
    }

    /// Connects a subscriber while this thread serves the publisher, until frames are sent to it.
    pub fn join(&mut self, builder: SubscriberBuilder) -> Subscriber {
        let (subscriber, frame) = self.join_late(builder);
        assert!(frame.is_none(), "{frame:?} before a frame was published");
        subscriber
    }

    /// [`Stage::join`], and the frame that a subscriber gets at once if it joins late.
    pub fn join_late(&mut self, builder: SubscriberBuilder) -> (Subscriber, Option<Frame>) {
        let active = self.publisher.active();
        let mut subscriber = self.connect(builder).unwrap();
        let start = Instant::now();
        let mut first = None;
        while self.publisher.active() == active || first.is_none() && start.elapsed() < Duration::from_millis(20) {
            assert!(start.elapsed() < SOON, "the subscriber does not become active");
            drop(self.publisher.recv(Duration::from_millis(1)).unwrap());
            match subscriber.try_recv().unwrap() {
                Received::Nothing | Received::Item(SubscriberEvent::Format(_)) => {}
                Received::Item(SubscriberEvent::Frame(frame)) => first = Some(frame),
                other => panic!("{other:?} before the subscriber is active"),
            }
        }
        (subscriber, first)
    }

    pub fn connect(&mut self, builder: SubscriberBuilder) -> framelease::Result<Subscriber> {
        let thread = std::thread::spawn(move || builder.connect(SOON));
        while !thread.is_finished() {
            drop(self.publisher.recv(Duration::from_millis(1)).unwrap());
        }
        thread.join().unwrap()
    }

    /// Publishes one frame. Returns its sequence number.
    pub fn publish(&mut self) -> u64 {
        let frame = self.source.recv(SOON).unwrap().frame().expect("the source has a free buffer");
        let sequence = frame.meta().sequence;
        assert!(self.publisher.publish(frame, SOON).unwrap().is_taken());
        sequence
    }

    /// Serves the publisher until `done` returns true.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Publisher) -> bool) {
        let start = Instant::now();
        while !done(&self.publisher) {
            assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
            drop(self.publisher.recv(Duration::from_millis(5)).unwrap());
        }
    }
}

/// Returns the next frame, which must come.
pub fn frame(subscriber: &mut Subscriber) -> Frame {
    loop {
        match subscriber.recv(SOON).unwrap() {
            Received::Item(SubscriberEvent::Frame(frame)) => return frame,
            Received::Item(SubscriberEvent::Format(_)) => {}
            other => panic!("{other:?} instead of a frame"),
        }
    }
}

/// Asserts that no event waits.
pub fn nothing(subscriber: &mut Subscriber) {
    let event = subscriber.try_recv().unwrap();
    assert!(event.is_nothing(), "{event:?}");
}

pub fn pixels(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.read(DEFAULT_WAIT).unwrap().write_to(&mut out).unwrap();
    out
}

/// Sends a signal to a child. After SIGSTOP, it returns when the child has stopped.
pub fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, signal).unwrap();
    if signal == Signal::SIGSTOP {
        // One of its threads may run on until all have received the signal.
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    }
}
