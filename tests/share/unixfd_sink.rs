//! Tests of the subscriber of GStreamer's `unixfdsink`: with sinks by hand, correct and faulty, and with real
//! pipelines.

use std::collections::{HashSet, VecDeque};
use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind as Io, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{ColorSpace, FourCc, Layout, Size};
use framelease::frame::{Frame, FrameFlags, FrameMeta, Payload, Pool};
use framelease::share::{
    Policy, Reconnect, Subscriber, SubscriberEvent, UnixfdSubscriber, UnixfdSubscriberBuilder, UnixfdTerms,
};
use framelease::{ErrorKind, Received, Result, Station, Submitted};
use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::memfd::{memfd_create, MFdFlags};
use nix::sys::signal::Signal;
use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags, SockType};

use crate::support::{dead_socket, nothing as native_nothing, pixels, publisher_at, Folder, Stage, SOON};
use crate::unixfd::{gst, without_padding, Pipeline};
use crate::unixfd_client::{message, number, CAPS, EOS, NEW_BUFFER, RELEASE};

const NONE: u64 = u64::MAX;
const NV12: &str = "video/x-raw, format=(string)NV12, width=(int)64, height=(int)48, framerate=(fraction)30/1, \
                    multiview-mode=(string)mono, pixel-aspect-ratio=(fraction)1/1, interlace-mode=(string)progressive";
const NV12_BYTES: u64 = 64 * 48 * 3 / 2;

fn pattern(bytes: u64, seed: u8) -> Vec<u8> {
    (0..bytes).map(|i| (i as u8).wrapping_mul(7).wrapping_add(seed)).collect()
}

/// NEW_BUFFER.
struct Buffer {
    id: u64,
    pts: u64,
    offset: u64,
    flags: u32,
    memory: Vec<(u64, u64)>,
    meta: Vec<u8>,
}

impl Buffer {
    fn new(id: u64, offset: u64) -> Self {
        Self { id, pts: 1_000 * id, offset, flags: 0, memory: vec![(NV12_BYTES, 0)], meta: Vec::new() }
    }

    fn bytes(&self) -> Vec<u8> {
        let end = self.offset.checked_add(1).unwrap_or(NONE);
        let words = [self.id, self.pts, NONE, NONE, self.offset, end];
        let mut out: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        out.extend(self.flags.to_ne_bytes());
        out.extend([0, self.memory.len() as u8]);
        out.extend(u16::from(!self.meta.is_empty()).to_ne_bytes());
        self.memory.iter().for_each(|(bytes, at)| out.extend([bytes.to_ne_bytes(), at.to_ne_bytes()].concat()));
        out.extend(&self.meta);
        message(NEW_BUFFER, &out)
    }
}

/// A serialized `GstVideoMeta`.
fn video_meta(planes: &[(u64, u32)]) -> Vec<u8> {
    let mut data: Vec<u8> = [0, 23, 64, 48, planes.len() as u32].iter().flat_map(|n: &u32| n.to_le_bytes()).collect();
    planes.iter().for_each(|(offset, _)| data.extend(offset.to_le_bytes()));
    planes.iter().for_each(|(_, stride)| data.extend(stride.to_le_bytes()));
    data.extend(vec![0; 16 + 4 * planes.len()]);
    let total = (4 + 4 + 12 + 2 + data.len()) as u32;
    [&total.to_le_bytes()[..], &12u32.to_le_bytes(), b"GstVideoMeta\0\0", &data].concat()
}

/// A `unixfdsink` that the test controls, and its only client.
struct Sink {
    folder: Folder,
    /// The name of its memories, which distinguishes them from those of tests that run at the same time.
    name: CString,
    listener: UnixListener,
    socket: Option<UnixStream>,
}

impl Sink {
    fn new() -> Self {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.socket()).unwrap();
        let name = CString::new(folder.file("").file_name().unwrap().as_encoded_bytes()).unwrap();
        Self { folder, name, listener, socket: None }
    }

    fn unsealed(&self, bytes: u64, seed: u8, flags: MFdFlags) -> File {
        let file = File::from(memfd_create(self.name.as_c_str(), flags).unwrap());
        file.write_all_at(&pattern(bytes, seed), 0).unwrap();
        file
    }

    /// A memory like GStreamer's, with a pattern in it.
    fn memory(&self, seed: u8) -> File {
        let file = self.unsealed(NV12_BYTES, seed, MFdFlags::MFD_ALLOW_SEALING);
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        file
    }

    /// Descriptors and mappings of its memories in this process.
    fn traces(&self) -> [usize; 2] {
        traces(self.name.to_str().unwrap())
    }

    fn builder(&self) -> UnixfdSubscriberBuilder {
        UnixfdSubscriber::builder(self.folder.socket())
    }

    fn accept(&mut self) {
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        self.socket = Some(socket);
    }

    /// Connects, and sends caps.
    fn join(&mut self, builder: UnixfdSubscriberBuilder) -> UnixfdSubscriber {
        self.greet(builder, |sink| sink.caps(NV12)).unwrap()
    }

    fn greet(&mut self, builder: UnixfdSubscriberBuilder, greet: impl FnOnce(&Self)) -> Result<UnixfdSubscriber> {
        let subscriber = std::thread::spawn(move || builder.connect(SOON));
        self.accept();
        greet(self);
        subscriber.join().unwrap()
    }

    fn socket(&self) -> &UnixStream {
        self.socket.as_ref().unwrap()
    }

    fn send(&self, bytes: &[u8], fds: &[&File]) {
        assert!(self.try_send(bytes, fds, MsgFlags::MSG_NOSIGNAL), "the client hung up");
    }

    fn try_send(&self, bytes: &[u8], fds: &[&File], flags: MsgFlags) -> bool {
        let raw: Vec<RawFd> = fds.iter().map(|f| f.as_raw_fd()).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &control[..] };
        let sent = sendmsg::<()>(self.socket().as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None);
        sent.is_ok_and(|sent| sent == bytes.len())
    }

    fn caps(&self, caps: &str) {
        self.send(&message(CAPS, format!("{caps}\0").as_bytes()), &[]);
    }

    fn buffer(&self, id: u64, memory: &File) {
        self.send(&Buffer::new(id, id).bytes(), &[memory]);
    }

    /// The id of the buffer that the client releases next.
    fn released(&self) -> u64 {
        let mut bytes = [0; 16];
        self.socket().read_exact(&mut bytes).unwrap();
        assert_eq!(bytes[..8], [RELEASE.to_ne_bytes(), 8u32.to_ne_bytes()].concat());
        number(&bytes, 8)
    }

    fn nothing_released(&self) {
        self.socket().set_nonblocking(true).unwrap();
        let got = self.socket().read(&mut [0; 1]);
        assert_eq!(got.map_err(|e| e.kind()), Err(Io::WouldBlock));
        self.socket().set_nonblocking(false).unwrap();
    }

    /// Returns `true` if the client has ended the connection.
    fn is_left(&self) -> bool {
        match self.socket().read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            // It may not have read everything.
            Err(e) => e.kind() == Io::ConnectionReset,
        }
    }
}

/// The next event that is not a format.
fn event(subscriber: &mut UnixfdSubscriber) -> SubscriberEvent {
    loop {
        match subscriber.recv(SOON).unwrap() {
            Received::Item(SubscriberEvent::Format(_)) => {}
            other => return other.item().expect("an event"),
        }
    }
}

fn frame(subscriber: &mut UnixfdSubscriber) -> Frame {
    match event(subscriber) {
        SubscriberEvent::Frame(frame) => frame,
        other => panic!("{other:?} instead of a frame"),
    }
}

/// Asserts that the end comes once.
fn ended(subscriber: &mut UnixfdSubscriber) {
    assert!(subscriber.recv(SOON).unwrap().is_ended());
    assert_eq!(subscriber.try_recv().unwrap_err().kind(), ErrorKind::State);
}

fn nothing(subscriber: &mut UnixfdSubscriber) {
    let event = subscriber.try_recv().unwrap();
    assert!(event.is_nothing(), "{event:?}");
}

fn is_readable(subscriber: &UnixfdSubscriber) -> bool {
    let mut fds = [PollFd::new(subscriber.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
}

fn ids(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|f| f.meta().sequence).collect()
}

#[test]
fn frame_comes_as_it_was_sent_and_goes_back() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(2));
    assert!(subscriber.buffers().is_none() && subscriber.recv(Duration::ZERO).unwrap().is_nothing());
    let first = sink.memory(1);
    sink.buffer(7, &first);
    let layout = Layout::packed(FourCc::NV12, Size::new(64, 48)).unwrap();
    assert!(matches!(subscriber.recv(SOON), Ok(Received::Item(SubscriberEvent::Format(b))) if *b.layout() == layout));
    let got = frame(&mut subscriber);
    assert_eq!(pixels(&got), pattern(NV12_BYTES, 1));
    let mut expected = FrameMeta::default();
    (expected.sequence, expected.timestamp_ns, expected.flags) = (7, 7_000, FrameFlags::MONOTONIC);
    expected.payload[0] = Payload { offset_bytes: 0, bytes: NV12_BYTES as u32 };
    assert_eq!(*got.meta(), expected);
    assert_eq!(subscriber.buffers().map(|b| (*b.layout(), b.slots())), Some((layout, 16)));
    // The last clone, on another thread.
    let clone = got.clone();
    drop(got);
    sink.nothing_released();
    std::thread::spawn(move || drop(clone)).join().unwrap();
    assert_eq!(sink.released(), 7);
    // Numbers, times and flags of other sources: no count, no time, a gap, damage.
    let before = subscriber.stats();
    for (offset, flags, sequence, lost) in [(9, 0, 9, 1), (10, 1 << 6, 10, 1), (NONE, 1 << 6, 12, 1), (NONE, 0, 13, 0)]
    {
        let buffer = Buffer { flags: flags | 1 << 8, pts: NONE, ..Buffer::new(8, offset) };
        sink.send(&buffer.bytes(), &[&first]);
        let got = frame(&mut subscriber);
        assert_eq!((got.meta().sequence, got.meta().lost), (sequence, lost));
        assert_eq!(got.meta().flags, FrameFlags::MONOTONIC | FrameFlags::ERROR);
        assert!(got.meta().timestamp_ns > 1_000_000, "the time of arrival");
        drop(got);
        assert_eq!(sink.released(), 8);
    }
    let stats = subscriber.stats();
    assert_eq!((stats.received - before.received, stats.lost, stats.dropped), (4, 3, 0));
    // The end of the stream, and the end of the connection.
    sink.send(&message(EOS, &[]), &[]);
    assert!(matches!(event(&mut subscriber), SubscriberEvent::Paused));
    nothing(&mut subscriber);
    sink.socket = None;
    ended(&mut subscriber);
}

/// Open descriptors and mappings of files with this name.
fn traces(name: &str) -> [usize; 2] {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|e| std::fs::read_link(e.path()).ok());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    [links.filter(|l| l.to_string_lossy().contains(name)).count(), maps.lines().filter(|l| l.contains(name)).count()]
}

#[test]
fn memory_that_is_known_keeps_its_slot_descriptor_and_mapping() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(2));
    let memories = [1, 2, 3].map(|seed| sink.memory(seed));
    let mut slots = [None; 3];
    let mut before = [0; 2];
    let mut held = None;
    for id in 0..300 {
        let which = id as usize % 3;
        sink.buffer(id, &memories[which]);
        let got = frame(&mut subscriber);
        assert_eq!(pixels(&got), pattern(NV12_BYTES, 1 + which as u8));
        assert_eq!(*slots[which].get_or_insert(got.slot()), got.slot());
        // One frame is always held.
        held = Some(got);
        if id > 0 {
            assert_eq!(sink.released(), id - 1);
        }
        match id {
            2 => before = sink.traces(),
            3.. => assert_eq!(sink.traces(), before),
            _ => {}
        }
    }
    assert_eq!((before, slots), ([6, 3], [Some(0), Some(1), Some(2)]), "descriptors of both sides, and the mappings");
    drop((held, subscriber));
    assert_eq!(sink.traces(), [3, 0]);
}

#[test]
fn memory_that_is_held_may_come_again() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(4));
    let memory = sink.memory(1);
    for round in 0..5 {
        let frames: Vec<Frame> = (0..4)
            .map(|n| {
                sink.buffer(10 * round + n, &memory);
                frame(&mut subscriber)
            })
            .collect();
        let mut slots: Vec<usize> = frames.iter().map(Frame::slot).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2, 3]);
        assert!(frames.iter().all(|f| f.memory() == frames[0].memory() && pixels(f) == pattern(NV12_BYTES, 1)));
        for (frame, n) in frames.into_iter().zip(0..) {
            drop(frame);
            assert_eq!(sink.released(), 10 * round + n);
        }
    }
    assert_eq!(sink.traces(), [2, 1]);
}

#[test]
fn buffer_sets_are_bounded() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(2).slots(2));
    let mut sets = Vec::new();
    let mut held = None;
    for id in 0..100 {
        // A sink that allocates memory for every frame.
        sink.buffer(id, &sink.memory(id as u8));
        let got = frame(&mut subscriber);
        assert_eq!(pixels(&got), pattern(NV12_BYTES, id as u8));
        // Two frames may be held, one waits, and one comes before a waiting one is released.
        assert!(got.slot() < 4 && sink.traces().iter().all(|&n| n <= 5), "four of the set, and the frame that is held");
        if !sets.contains(&got.buffers().id()) {
            sets.push(got.buffers().id());
        }
        held = Some(got);
    }
    assert_eq!(sets.len(), 25);
    assert!(matches!(subscriber.recv(Duration::ZERO), Ok(Received::Nothing)), "no event");
    drop((held, subscriber));
    assert_eq!(sink.traces(), [0, 0]);
}

#[test]
fn policy_fifo_gives_no_slot_to_a_dropped_frame() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().policy(Policy::Fifo(1)));
    sink.buffer(0, &sink.memory(0));
    let held = frame(&mut subscriber);
    for id in 1..50 {
        sink.buffer(id, &sink.memory(id as u8));
        nothing(&mut subscriber);
    }
    assert_eq!(sink.traces()[0], 2, "the frame that is held, and the frame that waits");
    assert_eq!((2..50).map(|_| sink.released()).collect::<Vec<_>>(), (2..50).collect::<Vec<_>>());
    drop(held);
    assert_eq!(frame(&mut subscriber).meta().sequence, 1);
    assert_eq!(subscriber.stats().dropped, 48);
    // A message about a dropped frame is still checked.
    let _held = {
        sink.buffer(50, &sink.memory(0));
        frame(&mut subscriber)
    };
    sink.buffer(51, &sink.memory(0));
    sink.send(&Buffer::new(52, 52).bytes(), &[]);
    assert_eq!(subscriber.recv(SOON).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn buffers_are_those_of_the_reported_format() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(4).policy(Policy::Fifo(4)));
    assert!(subscriber.buffers().is_none());
    let memory = sink.memory(1);
    sink.buffer(0, &memory);
    sink.caps("video/x-raw, format=(string)GRAY8, width=(int)64, height=(int)48");
    sink.buffer(1, &memory);
    for code in [b"NV12", b"GREY"] {
        let told = match subscriber.recv(SOON).unwrap() {
            Received::Item(SubscriberEvent::Format(buffers)) => *buffers.layout(),
            other => panic!("{other:?}"),
        };
        assert_eq!((told.fourcc(), subscriber.buffers().map(|b| *b.layout())), (FourCc::new(code), Some(told)));
        let buffers = subscriber.buffers().unwrap().clone();
        let got = frame(&mut subscriber);
        assert_eq!((got.layout(), got.buffers().id()), (&told, buffers.id()));
    }
}

#[test]
fn bitstream_in_memories_of_its_size_is_one_format() {
    let mut sink = Sink::new();
    let mut subscriber = sink.greet(sink.builder(), |s| s.caps("image/jpeg, width=(int)64, height=(int)48")).unwrap();
    let mut formats = 0;
    for (id, bytes) in [4000, 300, 310, 2000, 305].into_iter().enumerate() {
        let memory = sink.unsealed(bytes, 1, MFdFlags::MFD_ALLOW_SEALING);
        sink.send(&Buffer { memory: vec![(bytes, 0)], ..Buffer::new(id as u64, NONE) }.bytes(), &[&memory]);
        loop {
            match subscriber.recv(SOON).unwrap() {
                Received::Item(SubscriberEvent::Format(_)) => formats += 1,
                Received::Item(SubscriberEvent::Frame(frame)) => {
                    break assert_eq!(u64::from(frame.meta().payload[0].bytes), bytes)
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(formats, 1);
}

#[test]
fn sequence_numbers_at_the_end_of_their_range() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(8));
    let memory = sink.memory(1);
    const DISCONT: u32 = 1 << 6;
    // The last value is not a number: the number after it would mean "none".
    for (id, (offset, flags, sequence)) in
        [(NONE - 2, 0, NONE - 2), (NONE, 0, NONE - 1), (NONE, DISCONT, NONE), (NONE - 1, DISCONT, 0)]
            .into_iter()
            .enumerate()
    {
        sink.send(&Buffer { flags, ..Buffer::new(id as u64, offset) }.bytes(), &[&memory]);
        assert_eq!(frame(&mut subscriber).meta().sequence, sequence, "number {id}");
    }
}

#[test]
fn recv_ends_although_a_sink_never_stops_sending() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let chatter = scope.spawn(|| {
            let start = Instant::now();
            let word = message(99, &[0; 64]);
            while !is_over.load(Ordering::Relaxed) && start.elapsed() < SOON {
                sink.try_send(&word, &[], MsgFlags::MSG_NOSIGNAL);
            }
            is_over.load(Ordering::Relaxed)
        });
        for _ in 0..3 {
            assert!(matches!(subscriber.recv(Duration::from_millis(20)), Ok(Received::Nothing)));
        }
        is_over.store(true, Ordering::Relaxed);
        // It may wait for room.
        drop(subscriber);
        assert!(chatter.join().unwrap(), "the wait ended with the sink");
    });
}

#[test]
fn format_is_reported_before_its_first_frame() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(8).policy(Policy::Fifo(8)));
    let memory = sink.memory(1);
    sink.buffer(0, &memory);
    // The same again, with a framerate: the library uses neither.
    sink.caps(&NV12.replace("30/1", "25/1"));
    sink.buffer(1, &memory);
    sink.caps(&format!("{NV12}, colorimetry=(string)bt709"));
    sink.buffer(2, &memory);
    sink.caps("video/x-raw, format=(string)GRAY8, width=(int)64, height=(int)48");
    sink.buffer(3, &memory);
    let padded = Buffer { meta: video_meta(&[(128, 72)]), ..Buffer::new(4, 4) };
    sink.send(&padded.bytes(), &[&memory]);
    sink.caps("image/jpeg, width=(int)64, height=(int)48");
    let coded = Buffer { memory: vec![(1000, 24)], ..Buffer::new(5, NONE) };
    sink.send(&coded.bytes(), &[&memory]);
    // In two memories.
    sink.caps(NV12);
    let luma_and_chroma = vec![(64 * 48, 0), (64 * 24, 512)];
    sink.send(&Buffer { memory: luma_and_chroma, ..Buffer::new(6, 6) }.bytes(), &[&memory, &sink.memory(2)]);
    let mut told = Vec::new();
    let mut frames = Vec::new();
    while frames.len() < 7 {
        match subscriber.recv(SOON).unwrap().item().unwrap() {
            SubscriberEvent::Format(buffers) => told.push((frames.len(), *buffers.layout())),
            SubscriberEvent::Frame(frame) => frames.push(frame),
            other => panic!("{other:?}"),
        }
    }
    let code = |at: usize| told[at].1.fourcc().to_string();
    assert_eq!(told.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6]);
    assert_eq!([0, 1, 2, 3, 4, 5].map(code), ["NV12", "NV12", "GREY", "GREY", "MJPG", "NM12"]);
    assert_eq!(told[1].1.colorimetry().space, ColorSpace::Rec709);
    assert_eq!((told[3].1.planes()[0].offset_bytes, told[3].1.planes()[0].stride_bytes), (128, 72));
    let all = pattern(NV12_BYTES, 1);
    assert_eq!(pixels(&frames[3]), all[..64 * 48]);
    let rows = all[128..].chunks(72).take(48).flat_map(|row| &row[..64]).copied();
    assert_eq!(pixels(&frames[4]), rows.collect::<Vec<_>>());
    assert_eq!(pixels(&frames[5]), all[24..1024]);
    assert!(frames[5].meta().flags.contains(FrameFlags::KEY));
    assert_eq!(pixels(&frames[6]), [&all[..64 * 48], &pattern(NV12_BYTES, 2)[512..512 + 64 * 24]].concat());
    assert!(frames.iter().all(|f| f.memory()[0] == frames[0].memory()[0]));
    // Frames of earlier sets are released like all others.
    for (frame, id) in frames.into_iter().zip(0..) {
        drop(frame);
        assert_eq!(sink.released(), id);
    }
}

#[test]
fn policy_decides_which_frames_wait() {
    for (policy, kept, dropped) in
        [(Policy::Latest, &[0, 5][..], 4), (Policy::Fifo(2), &[0, 1, 2], 3), (Policy::Block, &[0, 1, 2, 3, 4, 5], 0)]
    {
        let mut sink = Sink::new();
        let mut subscriber = sink.join(sink.builder().policy(policy));
        let memories: Vec<File> = (0..6).map(|seed| sink.memory(seed)).collect();
        let mut held = Vec::new();
        for (id, memory) in (0..).zip(&memories) {
            sink.buffer(id, memory);
            match id {
                0 => held.push(frame(&mut subscriber)),
                // Not more than it holds. A frame that it cannot take does not keep it busy.
                _ => nothing(&mut subscriber),
            }
            assert!(!is_readable(&subscriber), "{policy}, {id}");
        }
        let mut got = vec![0];
        while got.len() < kept.len() {
            // A release on another thread wakes a waiter for the next frame.
            let last = held.pop().unwrap();
            std::thread::spawn(move || drop(last)).join().unwrap();
            assert!(is_readable(&subscriber), "{policy}");
            held.push(frame(&mut subscriber));
            got.extend(ids(&held));
        }
        assert_eq!(held[0].meta().dropped, dropped, "{policy}");
        held.clear();
        nothing(&mut subscriber);
        assert!(!is_readable(&subscriber));
        let stats = subscriber.stats();
        assert_eq!((got.as_slice(), stats.received, stats.dropped), (kept, kept.len() as u64, dropped), "{policy}");
        // Each buffer was released once, dropped or not.
        let mut released: Vec<u64> = (0..6).map(|_| sink.released()).collect();
        released.sort_unstable();
        assert_eq!(released, [0, 1, 2, 3, 4, 5], "{policy}");
        sink.nothing_released();
    }
}

#[test]
fn protocol_violation_ends_the_connection_with_a_reason() {
    type Script = fn(&Sink, &File);
    let scripts: &[(&str, ErrorKind, Script)] = &[
        ("0 descriptors for 1 memories", ErrorKind::Protocol, |s, _| s.send(&Buffer::new(1, 1).bytes(), &[])),
        ("2 descriptors for 1 memories", ErrorKind::Protocol, |s, m| s.send(&Buffer::new(1, 1).bytes(), &[m, m])),
        ("8 descriptors for 1 memories", ErrorKind::Protocol, |s, m| s.send(&Buffer::new(1, 1).bytes(), &[m; 12])),
        ("descriptors were lost", ErrorKind::Exhausted, |s, m| s.send(&Buffer::new(1, 1).bytes(), &[m; 40])),
        ("in two parts", ErrorKind::Protocol, |s, m| {
            let bytes = Buffer::new(1, 1).bytes();
            s.send(&bytes[..20], &[m]);
            s.send(&bytes[20..], &[m]);
        }),
        ("a message that must not have any", ErrorKind::Protocol, |s, m| s.send(&message(EOS, &[]), &[m])),
        ("of 5 memories", ErrorKind::Protocol, |s, m| {
            s.send(&Buffer { memory: vec![(10, 0); 5], ..Buffer::new(1, 1) }.bytes(), &[m; 5]);
        }),
        ("of a memory of 4608 bytes", ErrorKind::Protocol, |s, m| {
            s.send(&Buffer { memory: vec![(NV12_BYTES, 1)], ..Buffer::new(1, 1) }.bytes(), &[m]);
        }),
        ("of a memory of 4608 bytes", ErrorKind::Protocol, |s, m| {
            s.send(&Buffer { memory: vec![(NV12_BYTES + 1, 0)], ..Buffer::new(1, 1) }.bytes(), &[m]);
        }),
        ("does not fit its 4607 bytes", ErrorKind::Protocol, |s, m| {
            s.send(&Buffer { memory: vec![(NV12_BYTES - 1, 0)], ..Buffer::new(1, 1) }.bytes(), &[m]);
        }),
        ("18446744073709551615", ErrorKind::Protocol, |s, m| {
            s.send(&Buffer { memory: vec![(NV12_BYTES, NONE)], ..Buffer::new(1, 1) }.bytes(), &[m]);
        }),
        ("1 planes of NV12", ErrorKind::Protocol, |s, m| {
            s.send(&Buffer { meta: video_meta(&[(0, 64)]), ..Buffer::new(1, 1) }.bytes(), &[m]);
        }),
        ("does not fit its", ErrorKind::Protocol, |s, m| {
            s.send(&Buffer { meta: video_meta(&[(0, 64), (4000, 64)]), ..Buffer::new(1, 1) }.bytes(), &[m]);
        }),
        ("NV12 in 3 memories", ErrorKind::Unsupported, |s, m| {
            s.send(&Buffer { memory: vec![(NV12_BYTES, 0); 3], ..Buffer::new(1, 1) }.bytes(), &[m; 3]);
        }),
        ("buffer 0x1 again", ErrorKind::Protocol, |s, m| (0..2).for_each(|_| s.buffer(1, m))),
        ("neither a dma-buf nor a memfd", ErrorKind::Protocol, |s, _| s.buffer(1, &File::open("/dev/null").unwrap())),
        ("of a memory of 100 bytes", ErrorKind::Protocol, |s, _| {
            s.buffer(1, &s.unsealed(100, 0, MFdFlags::MFD_ALLOW_SEALING))
        }),
        ("the buffer has no size", ErrorKind::Protocol, |s, _| {
            s.buffer(1, &s.unsealed(0, 0, MFdFlags::MFD_ALLOW_SEALING))
        }),
        ("cannot be sealed", ErrorKind::Protocol, |s, _| s.buffer(1, &s.unsealed(NV12_BYTES, 0, MFdFlags::empty()))),
        ("type 2 with 4294967295 bytes", ErrorKind::Protocol, |s, _| {
            s.send(&[2u32.to_ne_bytes(), [0xff; 4]].concat(), &[]);
        }),
        ("type 0 with 16777216 bytes", ErrorKind::Protocol, |s, m| {
            s.send(&[0u32.to_ne_bytes(), (1u32 << 24).to_ne_bytes()].concat(), &[m]);
        }),
        ("does not send", ErrorKind::Protocol, |s, _| s.send(&message(RELEASE, &[0; 8]), &[])),
        ("where a media type is expected", ErrorKind::Protocol, |s, _| s.caps("\u{1}")),
        ("a width that is not a valid number", ErrorKind::Protocol, |s, _| {
            s.caps("image/jpeg, width=(int)-1, height=(int)2")
        }),
        ("format I420_10LE is not supported", ErrorKind::Unsupported, |s, _| {
            s.caps(&NV12.replace("NV12", "I420_10LE"))
        }),
        ("not a known video format", ErrorKind::Unsupported, |s, _| s.caps("audio/x-raw, rate=(int)8000")),
        ("CAPS that do not end", ErrorKind::Protocol, |s, _| s.send(&message(CAPS, b"image/jpeg"), &[])),
    ];
    for (n, (what, kind, script)) in scripts.iter().enumerate() {
        // It costs a pause, so not for each case.
        let others = (n % 9 == 0).then_some(Reconnect::Always);
        for reconnect in [Reconnect::Never].into_iter().chain(others) {
            let mut sink = Sink::new();
            let mut subscriber = sink.join(sink.builder().hold(4).policy(Policy::Fifo(4)).reconnect(reconnect));
            let memory = sink.memory(1);
            script(&sink, &memory);
            let error = loop {
                match subscriber.recv(SOON) {
                    Err(e) if reconnect == Reconnect::Never => break e,
                    Ok(Received::Item(SubscriberEvent::Lost(e))) if reconnect == Reconnect::Always => break e,
                    Ok(Received::Item(SubscriberEvent::Format(_) | SubscriberEvent::Frame(_))) => {}
                    other => panic!("{what}: {other:?}"),
                }
            };
            let text = error.to_string();
            assert!(error.kind() == *kind && text.contains(what), "{what}: {text}");
            assert!(text.contains(sink.folder.socket().to_str().unwrap()), "{text}");
            assert!(sink.is_left());
            assert_eq!(sink.traces()[0], 1, "only the sink's own descriptor: {what}");
            // After that comes the end, or a new connection.
            match reconnect {
                Reconnect::Always => {
                    nothing(&mut subscriber);
                    assert!(!is_readable(&subscriber), "no pause before the next attempt");
                    assert!(subscriber.recv(Duration::from_secs(1)).unwrap().is_nothing());
                    sink.accept();
                    sink.caps(NV12);
                    sink.buffer(1, &memory);
                    assert!(matches!(event(&mut subscriber), SubscriberEvent::Returned));
                    assert_eq!(pixels(&frame(&mut subscriber)), pattern(NV12_BYTES, 1));
                }
                _ => assert_eq!(subscriber.try_recv().unwrap_err().kind(), ErrorKind::State),
            }
        }
    }
}

#[test]
fn protocol_violation_by_a_buffer_before_caps_or_half_a_message() {
    let mut sink = Sink::new();
    // At once: another attempt would fail as well.
    let builder = sink.builder().reconnect(Reconnect::Always);
    let e = sink.greet(builder, |sink| sink.buffer(1, &sink.memory(1))).unwrap_err();
    assert!(e.kind() == ErrorKind::Protocol && e.to_string().contains("before CAPS"), "{e}");
    // If the sink ends within a message, the subscriber reports only the end. The message's descriptor is closed too.
    let bytes = Buffer::new(1, 1).bytes();
    for len in [1, 8, 30, bytes.len() - 1] {
        let mut subscriber = sink.join(sink.builder());
        let memory = sink.memory(2);
        sink.send(&bytes[..len], &[&memory]);
        nothing(&mut subscriber);
        sink.socket = None;
        ended(&mut subscriber);
        assert_eq!(sink.traces(), [1, 0]);
    }
}

/// A pipeline that ended before its first frame.
#[test]
fn end_before_caps_makes_the_descriptor_readable() {
    let mut sink = Sink::new();
    let mut subscriber = sink.greet(sink.builder(), |sink| sink.send(&message(EOS, &[]), &[])).unwrap();
    assert!(is_readable(&subscriber));
    assert!(matches!(subscriber.try_recv().unwrap(), Received::Item(SubscriberEvent::Paused)));
    nothing(&mut subscriber);
    assert!(!is_readable(&subscriber), "once");
}

#[test]
fn message_may_come_in_pieces_with_its_descriptor_in_any() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(64));
    let memory = sink.memory(1);
    let mut frames = Vec::new();
    for cut in 1..72 {
        let bytes = Buffer::new(cut, cut).bytes();
        let (first, second) = bytes.split_at(cut as usize);
        let fds = [&memory];
        let (with_first, with_second) = if cut % 2 == 0 { (&fds[..], &[][..]) } else { (&[][..], &fds[..]) };
        sink.send(first, with_first);
        while subscriber.recv(Duration::ZERO).unwrap().item().is_some() {}
        // The next message follows at once.
        sink.send(second, with_second);
        sink.buffer(cut + 1000, &memory);
        frames.push(frame(&mut subscriber));
        assert_eq!(frames.pop().unwrap().meta().sequence, cut + 1000, "the newer of two");
        assert_eq!([sink.released(), sink.released()], [cut, cut + 1000]);
    }
    assert_eq!(sink.traces()[0], 2);
}

#[test]
fn releases_wait_for_space_in_the_sinks_socket() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder());
    let memory = sink.memory(1);
    // More releases than its socket holds, all before it reads any.
    for id in 0..1_000 {
        sink.buffer(id, &memory);
        assert_eq!(frame(&mut subscriber).meta().sequence, id);
    }
    // It reads while nothing else happens here. The descriptor becomes readable when the release can be sent again.
    let start = Instant::now();
    let reader = sink.socket().try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; 16_000];
        (&reader).read_exact(&mut bytes).unwrap();
        bytes.chunks(16).map(|release| number(release, 8)).collect::<Vec<_>>()
    });
    while !reader.is_finished() {
        assert!(start.elapsed() < SOON, "releases are lost");
        assert!(subscriber.recv(Duration::from_millis(100)).unwrap().is_nothing());
    }
    assert_eq!(reader.join().unwrap(), (0..1_000).collect::<Vec<_>>());
    nothing(&mut subscriber);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!is_readable(&subscriber), "nothing is left to do");
}

/// Receives one event each time that the descriptor is readable, while another thread drops the frames. A loop that
/// relies on the descriptor alone gets every frame, and does not spin.
#[test]
fn readiness_loses_no_wake_up() {
    const FRAMES: u64 = 3_000;
    for policy in [Policy::Block, Policy::Fifo(32)] {
        let mut sink = Sink::new();
        let mut subscriber = sink.join(sink.builder().hold(2).policy(policy));
        let memories: Vec<File> = (0..3).map(|seed| sink.memory(seed)).collect();
        let (give, taken) = std::sync::mpsc::channel::<Frame>();
        let dropper = std::thread::spawn(move || taken.iter().for_each(drop));
        let reader = sink.socket().try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; 16 * FRAMES as usize];
            (&reader).read_exact(&mut bytes).unwrap();
            bytes.chunks(16).map(|release| number(release, 8)).collect::<HashSet<_>>()
        });
        let (mut sent, mut got, mut idle) = (0, 0, 0);
        while got + subscriber.stats().dropped < FRAMES {
            while sent < FRAMES && sent < got + subscriber.stats().dropped + 20 {
                sink.buffer(sent, &memories[sent as usize % 3]);
                sent += 1;
            }
            let mut fds = [PollFd::new(subscriber.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, 10_000u16), Ok(1), "{policy}: {got} of {sent}");
            match subscriber.try_recv().unwrap() {
                Received::Item(SubscriberEvent::Frame(frame)) => {
                    got += 1;
                    give.send(frame).unwrap();
                }
                Received::Item(SubscriberEvent::Format(_)) => {}
                Received::Nothing => idle += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(idle < 4 * FRAMES, "{policy}: {idle} wake-ups without an event");
        drop(give);
        dropper.join().unwrap();
        // Releases that found no room are sent by later calls.
        while !reader.is_finished() {
            assert!(subscriber.recv(Duration::from_millis(10)).unwrap().is_nothing());
        }
        assert_eq!(reader.join().unwrap().len() as u64, FRAMES, "{policy}: each buffer is released once");
        nothing(&mut subscriber);
        assert!(!is_readable(&subscriber), "{policy}");
    }
}

#[test]
fn connection_to_a_sink_that_never_reads_is_ended() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder());
    let memory = sink.memory(1);
    let mut sent = 0;
    let error = loop {
        while sink.try_send(&Buffer::new(sent, sent).bytes(), &[&memory], MsgFlags::MSG_DONTWAIT) {
            sent += 1;
        }
        match subscriber.try_recv() {
            Err(e) => break e,
            Ok(_) => assert!(sent < 20_000, "the connection does not end"),
        }
    };
    assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains("does not read"), "{error}");
    assert!(sent > 4_000 && sink.traces()[0] == 1);
}

#[test]
fn lease_ends_with_its_connection() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(2).reconnect(Reconnect::Always));
    let memory = sink.memory(1);
    sink.buffer(1, &memory);
    let held = frame(&mut subscriber);
    assert!(held.is_valid());
    // A frame that waits is lost with the sink.
    sink.buffer(2, &memory);
    sink.socket = None;
    assert!(matches!(event(&mut subscriber), SubscriberEvent::Lost(_)));
    assert!(!held.is_valid() && subscriber.buffers().is_none());
    assert_eq!((pixels(&held), subscriber.stats().dropped), (pattern(NV12_BYTES, 1), 1));
    // The next sink at the same path has its own ids and numbers, and its formats are reported again.
    assert!(subscriber.recv(Duration::from_millis(100)).unwrap().is_nothing());
    sink.accept();
    sink.caps(NV12);
    sink.buffer(1, &memory);
    let events: Vec<SubscriberEvent> = (0..3).map(|_| subscriber.recv(SOON).unwrap().item().unwrap()).collect();
    assert!(
        matches!(&events[..], [SubscriberEvent::Returned, SubscriberEvent::Format(_), SubscriberEvent::Frame(f)] if f.is_valid()),
        "{events:?}"
    );
    drop(held);
    sink.nothing_released();
    drop(events);
    assert_eq!((sink.released(), subscriber.stats().reconnects), (1, 1));
    // A dropped subscriber ends the connection, although a frame still uses its socket: the sink would wait for a
    // reader.
    sink.buffer(2, &memory);
    let held = frame(&mut subscriber);
    drop(subscriber);
    assert!(sink.is_left() && !held.is_valid());
    assert_eq!(pixels(&held), pattern(NV12_BYTES, 1));
    drop(held);
    assert_eq!(sink.traces(), [1, 0]);
}

#[test]
fn memfd_is_sealed_refused_or_accepted_unsealed() {
    let mut sink = Sink::new();
    let seals = |file: &File| SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS).unwrap());
    let mut subscriber = sink.join(sink.builder());
    let open = sink.unsealed(NV12_BYTES, 1, MFdFlags::MFD_ALLOW_SEALING);
    assert!(seals(&open).is_empty());
    sink.buffer(1, &open);
    assert_eq!(pixels(&frame(&mut subscriber)), pattern(NV12_BYTES, 1));
    assert_eq!(seals(&open), SealFlag::F_SEAL_SHRINK, "it can no longer take the memory away");
    assert!(open.set_len(0).is_err());
    let shut = sink.unsealed(NV12_BYTES, 2, MFdFlags::empty());
    sink.buffer(2, &shut);
    let e = subscriber.recv(SOON).unwrap_err();
    assert!(e.to_string().contains("may shrink under a reader, and cannot be sealed"), "{e}");
    let mut subscriber = sink.join(sink.builder().accept_unsealed());
    sink.buffer(3, &shut);
    assert_eq!(pixels(&frame(&mut subscriber)), pattern(NV12_BYTES, 2));
    assert_eq!(sink.released(), 3);
    // A file that is not a memory is refused even so.
    sink.buffer(4, &File::open("/dev/null").unwrap());
    assert_eq!(subscriber.recv(SOON).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn connect_names_the_error() {
    let folder = Folder::new();
    let connect =
        |b: UnixfdSubscriberBuilder| b.connect(Duration::from_millis(50)).map_err(|e| (e.kind(), e.to_string()));
    let missing = UnixfdSubscriber::builder(folder.socket());
    let (kind, text) = connect(missing.clone()).unwrap_err();
    assert!(kind == ErrorKind::NotFound && text.contains(folder.socket().to_str().unwrap()), "{text}");
    assert_eq!(connect(missing.clone().reconnect(Reconnect::Always)).unwrap_err().0, ErrorKind::NotFound);
    for policy in [Policy::Fifo(0), Policy::Fifo(33)] {
        assert_eq!(connect(missing.clone().policy(policy)).unwrap_err().0, ErrorKind::InvalidArgument);
    }
    let publisher = publisher_at(folder.socket()).bind().unwrap();
    let (kind, text) = connect(missing.clone()).unwrap_err();
    assert!(kind == ErrorKind::WrongFile && text.contains("not a unixfdsink"), "{text}");
    drop(publisher);
    dead_socket(&folder.socket(), SockType::Stream);
    assert_eq!(connect(missing.clone()).unwrap_err().0, ErrorKind::Disconnected);
    // It waits for a pipeline that starts late.
    std::fs::remove_file(folder.socket()).unwrap();
    let path = folder.socket();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        let (mut socket, _) = UnixListener::bind(path).unwrap().accept().unwrap();
        // The pipeline does not have caps yet.
        socket.write_all(&message(CAPS, b"NULL\0")).unwrap();
        socket
    });
    let mut subscriber = missing.reconnect(Reconnect::Always).connect(SOON).unwrap();
    nothing(&mut subscriber);
    drop(late.join().unwrap());
    assert!(matches!(event(&mut subscriber), SubscriberEvent::Lost(_)));
    // A sink that sends nothing, or hangs up at once.
    let mut sink = Sink::new();
    let (kind, text) = connect(sink.builder()).unwrap_err();
    assert!(kind == ErrorKind::Timeout && text.contains("no answer"), "{text}");
    sink.accept();
    let e = sink.greet(sink.builder(), |sink| sink.socket().shutdown(Shutdown::Both).unwrap()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Disconnected, "{e}");
}

#[test]
fn frames_of_a_sink_are_published_again() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(8).policy(Policy::Fifo(4)));
    // A publisher of another source until now.
    let mut stage = Stage::new(8);
    let mut native = stage.join(stage.subscriber().hold(2));
    let memories = [1, 2, 3].map(|seed| sink.memory(seed));
    let mut ids = 0;
    let mut round = |stage: &mut Stage, native: &mut Subscriber, which: usize| {
        ids += 1;
        sink.buffer(ids, &memories[which]);
        let got = frame(&mut subscriber);
        let (slot, memory) = (got.slot(), got.memory().to_vec());
        assert!(stage.publisher.publish(got, SOON).unwrap().is_taken());
        let start = Instant::now();
        let far = loop {
            assert!(start.elapsed() < SOON, "the frame does not come");
            drop(stage.publisher.recv(Duration::from_millis(1)).unwrap());
            match native.try_recv().unwrap() {
                Received::Item(SubscriberEvent::Frame(frame)) => break frame,
                Received::Nothing | Received::Item(SubscriberEvent::Format(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(pixels(&far), pattern(NV12_BYTES, 1 + which as u8));
        assert_eq!((far.slot(), far.memory(), far.meta().sequence), (slot, &memory[..], ids));
        far.buffers().id()
    };
    let sets: Vec<_> = (0..100).map(|n| round(&mut stage, &mut native, n % 3)).collect();
    assert!(sets[2..].iter().all(|set| *set == sets[2]), "announced once for each new memory");
    assert_eq!(stage.publisher.stats().violations, 0);
    native_nothing(&mut native);
    // Every buffer is released except the newest, which the publisher keeps for subscribers that join late.
    drop(native);
    stage.until("its connection has ended", |p| p.active() == 0);
    let (late, first) = stage.join_late(stage.subscriber());
    assert_eq!(first.map(|f| f.meta().sequence), Some(100));
    let released: Vec<u64> = (0..99).map(|_| sink.released()).collect();
    assert_eq!(released, (1..100).collect::<Vec<_>>());
    sink.nothing_released();
    drop((late, stage));
    assert_eq!(sink.released(), 100);
}

/// GStreamer without a pool: no memory comes twice, so each frame belongs to a pool that is not announced yet.
#[test]
fn memory_that_is_always_new_reaches_every_subscriber() {
    for policy in [Policy::Latest, Policy::Fifo(2), Policy::Block] {
        let mut sink = Sink::new();
        let mut subscriber = sink.join(sink.builder().hold(8).slots(3).policy(Policy::Fifo(4)));
        let mut stage = Stage::new(8);
        let mut native = stage.join(stage.subscriber().policy(policy));
        for id in 1..=40 {
            let memory = sink.memory(id as u8);
            sink.buffer(id, &memory);
            let mut next = Some(frame(&mut subscriber));
            let start = Instant::now();
            loop {
                if let Some(waits) = next.take() {
                    if let Submitted::Full(back) = stage.publisher.try_publish(waits).unwrap() {
                        next = Some(back);
                    }
                }
                if let Received::Item(SubscriberEvent::Frame(far)) = native.try_recv().unwrap() {
                    assert_eq!((far.meta().sequence, far.meta().dropped), (id, 0), "{policy:?}");
                    assert_eq!(pixels(&far), pattern(NV12_BYTES, id as u8));
                    break;
                }
                assert!(start.elapsed() < SOON, "{policy:?}: frame {id} does not come");
                drop(stage.publisher.recv(Duration::from_millis(1)).unwrap());
            }
        }
        assert_eq!(stage.publisher.stats().violations, 0);
    }
}

/// A subscriber leases at most as many frames as it may hold, however many slots its buffers have.
#[test]
fn quotas_fit_what_a_subscriber_may_hold() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(4));
    sink.buffer(1, &sink.memory(1));
    let got = frame(&mut subscriber);
    assert_eq!((got.buffers().slots(), got.buffers().max_leases()), (16, 4));
    // One frame to hold, one that waits, the newest, and one in hand.
    let mut stage = Stage::with(8, |b| b.reserve(1));
    assert!(stage.publisher.publish(got, SOON).unwrap().is_taken());
    let first = stage.join_late(stage.subscriber());
    assert_eq!(stage.connect(stage.subscriber()).unwrap_err().kind(), ErrorKind::Refused);
    drop(first);
    stage.until("its connection has ended", |p| p.subscribers().count() == 0);
    stage.join_late(stage.subscriber());
}

/// One real pipeline at a time: only GStreamer's name distinguishes its memories from those of others.
static GSTREAMER: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    GSTREAMER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A GStreamer whose sink can wait for us before its first frame: 1.26 or later.
fn waiting_gst(folder: &Folder) -> Option<Command> {
    let version = gst(folder)?.arg("--version").output().unwrap();
    if String::from_utf8_lossy(&version.stdout).contains("GStreamer 1.24.") {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED unixfdsink: that of 1.24 does not wait for a client before its first frame"
        );
        return None;
    }
    gst(folder)
}

/// A pipeline into a `unixfdsink` in a folder.
fn pipeline(folder: &Folder, elements: &str) -> Option<Pipeline> {
    let mut gst = waiting_gst(folder)?;
    gst.arg("--quiet").args(elements.split(' ')).args(["!", "unixfdsink", "wait-for-connection=true"]);
    gst.arg(format!("socket-path={}", folder.socket().display()));
    Some(Pipeline(gst.stdin(Stdio::null()).spawn().unwrap()))
}

fn to_pipeline(folder: &Folder) -> UnixfdSubscriberBuilder {
    UnixfdSubscriber::builder(folder.socket()).hold(4).policy(Policy::Block).reconnect(Reconnect::Always)
}

/// Returns the bytes that the same elements write to a file.
fn to_file(folder: &Folder, elements: &str) -> Option<Vec<u8>> {
    let (mut gst, output) = (waiting_gst(folder)?, folder.file("out"));
    gst.arg("--quiet").args(elements.split(' ')).args(["!", "filesink"]);
    assert!(gst.arg(format!("location={}", output.display())).status().unwrap().success());
    Some(std::fs::read(output).unwrap())
}

#[test]
fn pictures_of_videotestsrc_are_what_it_writes_to_a_file() {
    let _alone = alone();
    let mut layouts = Vec::new();
    for caps in [
        // GStreamer pads it, because its sides are odd.
        "format=NV12,width=321,height=241",
        "format=I420,width=321,height=241",
        "format=YV12,width=319,height=33",
        "format=Y42B,width=323,height=33",
        "format=YUY2,width=322,height=33",
        "format=RGB16,width=33,height=17",
        "format=RGB,width=33,height=17",
        "format=RGBx,width=64,height=48",
        "format=GRAY8,width=33,height=17",
    ] {
        let elements = format!("videotestsrc num-buffers=20 pattern=ball ! video/x-raw,framerate=100/1,{caps}");
        let folder = Folder::new();
        let Some(expected) = to_file(&folder, &elements) else { return };
        // Unchanged, without a video meta, and through an element that adds one.
        for more in ["", " ! videoconvert"] {
            let format = caps.split(',').next().unwrap();
            let elements = match more {
                "" => elements.clone(),
                _ => format!("{}{more} ! video/x-raw,{caps}", elements.replace(format, "format=AYUV")),
            };
            let folder = Folder::new();
            let mut running = pipeline(&folder, &elements).unwrap();
            let mut subscriber = to_pipeline(&folder).connect(SOON).unwrap();
            let mut frames = 0;
            loop {
                match event(&mut subscriber) {
                    SubscriberEvent::Frame(frame) => {
                        let layout = *frame.layout();
                        assert_eq!((frame.meta().sequence, frame.meta().lost), (frames as u64, 0), "{layout}");
                        if more.is_empty() {
                            let bytes = expected.len() / 20;
                            let expected = without_padding(&layout, &expected[frames * bytes..][..bytes]);
                            assert!(pixels(&frame) == expected, "frame {frames} of {layout}");
                        }
                        frames += 1;
                    }
                    SubscriberEvent::Paused => break,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((frames, subscriber.stats().dropped), (20, 0), "{elements}");
            layouts.push(*subscriber.buffers().unwrap().layout());
            assert!(matches!(event(&mut subscriber), SubscriberEvent::Lost(_)));
            assert!(running.0.wait().unwrap().success(), "it must end by itself, with every buffer released");
        }
        // The layout without a meta is the one that GStreamer reports.
        let [without_meta, with_meta] = layouts[layouts.len() - 2..] else { panic!("two") };
        assert_eq!(without_meta, with_meta.with_colorimetry(without_meta.colorimetry()));
    }
}

#[test]
fn reconnect_finds_the_pipeline_after_a_killed_one() {
    let _alone = alone();
    let folder = Folder::new();
    let start = |pattern: &str| {
        let caps = "video/x-raw,format=NV12,width=64,height=48,framerate=100/1";
        pipeline(&folder, &format!("videotestsrc is-live=true pattern={pattern} ! {caps}"))
    };
    let Some(first) = start("black") else { return };
    let mut subscriber = to_pipeline(&folder).connect(SOON).unwrap();
    let black = frame(&mut subscriber);
    assert_eq!(pixels(&black)[0], 16);
    (0..20).for_each(|_| drop(frame(&mut subscriber)));
    first.signal(Signal::SIGKILL);
    let lost =
        std::iter::from_fn(|| subscriber.recv(SOON).unwrap().item()).find(|e| !matches!(e, SubscriberEvent::Frame(_)));
    assert!(matches!(lost, Some(SubscriberEvent::Lost(_))), "{lost:?}");
    assert!(!black.is_valid());
    drop(first);
    std::fs::remove_file(folder.socket()).unwrap();
    let second = start("white").unwrap();
    assert!(matches!(event(&mut subscriber), SubscriberEvent::Returned));
    for n in 0..20 {
        let white = frame(&mut subscriber);
        assert_eq!((pixels(&white)[0], white.meta().sequence), (235, n));
        assert!(white.meta().flags.contains(FrameFlags::MONOTONIC));
        assert!(age(&white) < SOON, "the time is CLOCK_MONOTONIC: {white:?}");
    }
    assert_eq!(pixels(&black)[0], 16, "the memory of a frame stays valid");
    drop((black, second, subscriber));
    assert_eq!(traces("gst-shm"), [0, 0]);
}

/// The age of a frame by its timestamp, which may be slightly in the future.
fn age(frame: &Frame) -> Duration {
    Duration::from_nanos(now_ns().abs_diff(frame.meta().timestamp_ns))
}

#[test]
fn frames_of_a_pipeline_leave_no_descriptor_or_mapping() {
    let _alone = alone();
    let before = traces("gst-shm");
    // Slow, because each frame that this process does not read in time needs another memory.
    let caps = "video/x-raw,format=NV12,width=320,height=240,framerate=60/1";
    for (elements, most) in [
        (format!("videotestsrc ! {caps}"), 64),
        // One memory again and again, while it is held.
        (format!("videotestsrc num-buffers=1 ! {caps} ! imagefreeze ! {caps}"), 1),
    ] {
        let folder = Folder::new();
        let Some(running) = pipeline(&folder, &elements) else { return };
        let mut subscriber = to_pipeline(&folder).slots(64).connect(SOON).unwrap();
        let mut held = VecDeque::new();
        let (mut memories, mut sets) = (HashSet::new(), HashSet::new());
        for _ in 0..300 {
            let got = frame(&mut subscriber);
            got.read(DEFAULT_WAIT).unwrap().copy_row(0, 0, &mut [0; 320]).unwrap();
            memories.insert(got.memory()[0].id());
            sets.insert(got.buffers().id());
            held.push_back(got);
            if held.len() > 2 {
                held.pop_front();
            }
            let [descriptors, mappings] = traces("gst-shm");
            // A frame that waits may have one more.
            assert!(
                (memories.len()..=memories.len() + 1).contains(&descriptors),
                "{descriptors} of {}",
                memories.len()
            );
            assert_eq!(mappings, memories.len());
        }
        assert!(sets.len() == 1 && memories.len() <= most, "{} memories in {} sets", memories.len(), sets.len());
        drop((held, subscriber, running));
        assert_eq!(traces("gst-shm"), before);
    }
}

#[test]
fn publisher_shares_the_frames_of_a_pipeline() {
    let _alone = alone();
    let folder = Folder::new();
    let elements =
        "videotestsrc num-buffers=100 pattern=ball ! video/x-raw,format=NV12,width=322,height=242,framerate=100/1";
    let Some(expected) = to_file(&folder, elements) else { return };
    let _running = pipeline(&folder, elements).unwrap();
    let mut from = to_pipeline(&folder).hold(6).policy(Policy::Fifo(8)).connect(SOON).unwrap();
    let mut publisher = publisher_at(folder.file("native")).reserve(1).bind().unwrap();
    let path = folder.file("native");
    let (send, taken) = std::sync::mpsc::channel();
    let native = std::thread::spawn(move || {
        let builder = Subscriber::builder(path).hold(2).policy(Policy::Fifo(2)).reconnect(Reconnect::Always);
        let mut native = builder.connect(SOON).unwrap();
        while let Received::Item(event) = native.recv(SOON).unwrap() {
            match event {
                SubscriberEvent::Frame(frame) => {
                    send.send((frame.meta().sequence, *frame.layout(), pixels(&frame))).unwrap()
                }
                SubscriberEvent::Paused | SubscriberEvent::Lost(_) => break,
                _ => {}
            }
        }
    });
    let start = Instant::now();
    // It connects before a pool is announced.
    while publisher.subscribers().count() == 0 {
        assert!(start.elapsed() < SOON);
        drop(publisher.recv(Duration::from_millis(5)).unwrap());
    }
    loop {
        match from.recv(Duration::from_millis(5)).unwrap() {
            Received::Item(SubscriberEvent::Frame(frame)) => publisher.publish(frame, SOON).map(drop).unwrap(),
            Received::Item(SubscriberEvent::Paused) => break,
            _ => {}
        }
        publisher.dispatch().unwrap();
        assert!(start.elapsed() < 2 * SOON);
    }
    publisher.pause(SOON).unwrap();
    native.join().unwrap();
    let got: Vec<_> = taken.iter().collect();
    // New memory must be announced, and frames may be dropped until it is.
    assert!(got.len() > 50, "{} of 100", got.len());
    for (sequence, layout, pixels) in got {
        let bytes = expected.len() / 100;
        assert!(
            pixels == without_padding(&layout, &expected[sequence as usize * bytes..][..bytes]),
            "frame {sequence}"
        );
    }
    assert_eq!(publisher.stats().violations, 0);
}

/// Frames that a publisher sends to GStreamer come back unchanged: a bitstream and pictures, with their flags and
/// times.
#[test]
fn unixfd_there_and_back_through_gstreamer() {
    let _alone = alone();
    let size = Size::new(64, 48);
    let coded = |code| Layout::from_strides(FourCc::new(code), size, &[0], &[8192]).unwrap();
    let colors = framelease::format::Colorimetry { space: ColorSpace::Rec709, ..Default::default() };
    // Rows are not padded: unixfdsrc 1.26 does not know the video meta in a process that does not use one.
    let packed = |code| Layout::packed(FourCc::new(code), size).unwrap().with_colorimetry(colors);
    for layout in [coded(b"MJPG"), coded(b"H264"), packed(b"NV12"), packed(b"NM12"), packed(b"XB24")] {
        let terms = UnixfdTerms::hold(6).policy(Policy::Block);
        let mut stage = Stage::in_folder(8, |folder, b| b.unixfd(folder.file("gst"), terms));
        let Some(mut gst) = waiting_gst(&stage.folder) else { return };
        let pool = Pool::new(&Allocator::Memfd, layout, 12).unwrap();
        stage.publisher.announce(pool.buffers()).unwrap();
        let back = stage.folder.file("back");
        gst.arg("--quiet").arg("unixfdsrc").arg(format!("socket-path={}", stage.folder.file("gst").display()));
        gst.args(["!", "unixfdsink", "sync=false", "wait-for-connection=true"])
            .arg(format!("socket-path={}", back.display()));
        let running = Pipeline(gst.stdin(Stdio::null()).spawn().unwrap());
        let builder = UnixfdSubscriber::builder(&back).policy(Policy::Block).reconnect(Reconnect::Always);
        let mut subscriber = builder.connect(SOON).unwrap();
        stage.until("the pipeline is there", |p| p.active() == 1);
        for n in 0..40u64 {
            let mut empty = pool.acquire(SOON).unwrap();
            let bytes = pattern(1_000, n as u8);
            let mut payload = empty.full_payload();
            let mut meta = FrameMeta::default();
            {
                let mut write = empty.write(DEFAULT_WAIT).unwrap();
                match layout.is_compressed() {
                    true => write.copy_payload(16, &bytes).unwrap(),
                    false => (0..48).for_each(|row| write.copy_row(0, row, &bytes[row as usize..][..64]).unwrap()),
                }
            }
            if layout.is_compressed() {
                payload[0] = Payload { offset_bytes: 16, bytes: 1_000 };
            }
            (meta.sequence, meta.timestamp_ns, meta.payload) = (100 + n, now_ns() + n, payload);
            meta.flags = FrameFlags::MONOTONIC;
            if layout.is_compressed() && (n % 4 == 0 || layout == coded(b"MJPG")) {
                meta.flags |= FrameFlags::KEY;
            }
            if n == 7 {
                meta.flags |= FrameFlags::ERROR;
            }
            let sent = empty.freeze(meta);
            let expected = pixels(&sent);
            assert!(stage.publisher.publish(sent, SOON).unwrap().is_taken());
            let start = Instant::now();
            let got = loop {
                assert!(start.elapsed() < SOON, "{n} of {layout} does not come back");
                stage.publisher.dispatch().unwrap();
                match subscriber.recv(Duration::from_millis(20)).unwrap() {
                    Received::Item(SubscriberEvent::Frame(frame)) => break frame,
                    Received::Nothing | Received::Item(SubscriberEvent::Format(_)) => {}
                    other => panic!("{other:?}"),
                }
            };
            let (from, to) = (&meta, got.meta());
            assert_eq!(
                (to.sequence, to.flags, to.payload),
                (from.sequence, from.flags, from.payload),
                "{n} of {layout}"
            );
            // The time is converted to running time and back, by two clocks that the pipeline compared once.
            assert!(age(&got) < SOON, "{to:?} {from:?}");
            match layout.is_compressed() {
                true => assert_eq!(got.layout().fourcc(), layout.fourcc()),
                false => assert_eq!(*got.layout(), layout),
            }
            assert!(pixels(&got) == expected, "{n} of {layout}");
        }
        assert!(subscriber.buffers().is_some_and(|b| b.slots() == 16));
        drop(running);
    }
}

fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    Duration::from(now).as_nanos() as u64
}

#[test]
fn frame_is_invalid_as_soon_as_the_sink_is_gone() {
    let mut sink = Sink::new();
    let mut subscriber = sink.join(sink.builder().hold(2));
    let memory = sink.memory(1);
    sink.buffer(1, &memory);
    let held = frame(&mut subscriber);
    assert!(held.is_valid());
    sink.socket = None;
    assert!(!held.is_valid(), "no call has read the end yet");
}
