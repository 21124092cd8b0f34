//! A publisher among peers that send anything, natively and as `unixfdsrc`s; a subscriber of a publisher, and one of a
//! `unixfdsink`, that send anything.
//!
//! Input: which of the three; then steps, each a byte that says what and who, and what that step needs.

#![no_main]

#[allow(dead_code)]
#[path = "../../share/raw.rs"]
mod raw;
mod sink;
#[allow(dead_code)]
#[path = "../../share/unixfd_client.rs"]
mod unixfd_client;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::{Allocator, DmaBuf, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::share::{SubscriberEvent, Publisher, Subscriber, UnixfdTerms};
use framelease::{Received, Station};
use libfuzzer_sys::fuzz_target;
use raw::{hello, kind, message, word, Raw};
use unixfd_client::{number, Client, NEW_BUFFER, RELEASE};

fuzz_target!(|input: &[u8]| {
    let &[which, ref steps @ ..] = input else { return };
    let before = descriptors();
    let mut steps = Steps(steps);
    match which {
        128.. => sink::sink(&mut steps),
        _ if which % 2 == 0 => publisher(&mut steps),
        _ => subscriber(&mut steps),
    }
    assert_eq!(descriptors(), before, "a descriptor stays open");
});

struct Steps<'a>(&'a [u8]);

impl Steps<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// Small numbers, and the largest.
    fn number(&mut self) -> u32 {
        match self.byte() {
            n @ 0..=199 => n.into(),
            n @ 200..=219 => u32::MAX - u32::from(n - 200),
            n => 1 << (n - 220).min(31),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte());
        (0..len).map_while(|_| self.next()).collect()
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a process").count()
}

fn socket() -> PathBuf {
    let path = std::env::temp_dir().join(format!("framelease-fuzz-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn source() -> TestPattern {
    let builder = TestPattern::builder(Size::new(16, 16)).buffers(10).unpaced().allocator(Allocator::Memfd);
    builder.start().expect("memory")
}

/// A peer, the buffers that it has not answered, and its leases.
struct Peer {
    raw: Raw,
    buffers: Vec<[u32; 2]>,
    leases: Vec<[u32; 4]>,
}

impl Peer {
    fn new(raw: Raw) -> Self {
        Self { raw, buffers: Vec::new(), leases: Vec::new() }
    }

    fn listen(&mut self) {
        while let Some((message, _fds)) = self.raw.try_receive().filter(|(m, _)| !m.is_empty()) {
            match kind(&message) {
                raw::BUFFER => self.buffers.push([0, 1].map(|n| word(&message, n))),
                raw::FRAME => self.leases.push([0, 1, 2, 3].map(|n| word(&message, n))),
                _ => {}
            }
        }
    }

    fn acknowledge(&mut self, how: u16) {
        self.listen();
        for buffer in self.buffers.drain(..) {
            self.raw.send(&message(how, &buffer));
        }
    }
}

/// A peer by unixfd, and its leases.
struct Pipeline {
    client: Client,
    leases: Vec<u64>,
}

impl Pipeline {
    fn connect(path: &Path) -> Self {
        let client = Client::connect(path).expect("room in the backlog");
        client.socket.set_nonblocking(true).expect("a socket");
        Self { client, leases: Vec::new() }
    }

    fn listen(&mut self) {
        while let Ok((kind, payload)) = self.client.next() {
            self.client.fds.clear();
            if kind == NEW_BUFFER {
                self.leases.push(number(&payload, 0));
            }
        }
    }

    /// What the publisher does not read in time is lost.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.client.socket.write(bytes);
    }

    fn step(&mut self, steps: &mut Steps<'_>) {
        let what = steps.byte();
        match what % 4 {
            0 => self.send(&steps.bytes()),
            1 => {
                let (kind, len) = (steps.number() % 6, steps.number());
                let payload = steps.bytes();
                self.send(&[&kind.to_ne_bytes()[..], &len.to_ne_bytes(), &payload].concat());
            }
            _ => {
                self.listen();
                if let Some(id) = self.leases.pop() {
                    let release = unixfd_client::message(RELEASE, &id.to_ne_bytes());
                    // Whole, in two pieces, or twice.
                    let (front, back) = release.split_at(usize::from(what >> 4));
                    self.send(front);
                    self.send(back);
                    if what % 4 == 3 {
                        self.send(&release);
                    }
                }
            }
        }
    }
}

fn publisher(steps: &mut Steps<'_>) {
    let path = socket();
    let unixfd = path.with_extension("gst");
    let _ = std::fs::remove_file(&unixfd);
    let mut sources = [source(), source()];
    let mut current = 0;
    let builder = Publisher::builder(&path).reserve(2).allow_block(Duration::from_secs(1)).unixfd(&unixfd, UnixfdTerms::hold(1));
    let mut publisher = builder.bind().expect("a free path");
    publisher.announce(sources[0].buffers().expect("memory")).expect("buffers");
    let mut peers: [Option<Peer>; 4] = Default::default();
    let mut pipelines: [Option<Pipeline>; 4] = Default::default();
    let mut backlog = 0;
    while let Some(step) = steps.next() {
        let peer = &mut peers[usize::from(step >> 4) % 4];
        let pipeline = &mut pipelines[usize::from(step >> 4) % 4];
        if step & 15 < 2 || step & 15 == 14 {
            // A full backlog makes the next `connect` wait, and here no other thread would accept.
            backlog += 1;
            if backlog % 30 == 0 {
                // One call takes a limited number of sockets, and the listener may not be among the first.
                for _ in 0..8 {
                    publisher.dispatch().expect("no peer breaks a publisher");
                }
            }
        }
        match (step & 15, peer) {
            (0, peer) => {
                let raw = Raw::connect(&path);
                let mut first = hello(1, 1, u16::from(steps.byte() % 4));
                // Policy, depth.
                first[18] = steps.byte() % 4;
                first[20] = steps.byte() % 4;
                raw.send(&first);
                *peer = Some(Peer::new(raw));
            }
            (1, peer) => *peer = Some(Peer::new(Raw::connect(&path))),
            (2, Some(peer)) => peer.raw.send(&steps.bytes()),
            (3, Some(peer)) => {
                let kind = u16::from(steps.byte() % 26);
                let words: Vec<u32> = (0..steps.byte() % 10).map(|_| steps.number()).collect();
                peer.raw.send(&message(kind, &words));
            }
            (4 | 5, Some(peer)) => peer.acknowledge(raw::BUFFER_OK),
            (6, Some(peer)) => peer.acknowledge(raw::BUFFER_OK + 1),
            (7 | 8, Some(peer)) => {
                peer.listen();
                if let Some(lease) = peer.leases.pop() {
                    peer.raw.send(&message(raw::RELEASE, &lease));
                    if step & 15 == 8 {
                        peer.raw.send(&message(raw::RELEASE, &lease));
                    }
                }
            }
            (9, Some(peer)) => peer.raw.send(&message(raw::RETIRED, &[steps.number()])),
            (10, peer) => *peer = None,
            (11, _) => {
                current = 1 - current;
                publisher.announce(sources[current].buffers().expect("memory")).expect("buffers");
            }
            (12 | 13, _) => {
                if let Some(frame) = sources[current].try_recv().expect("memory").frame() {
                    let _ = publisher.try_publish(frame);
                }
            }
            // They come, say something, and sometimes go.
            (14, _) => match pipeline {
                Some(_) if steps.byte() % 8 == 0 => *pipeline = None,
                Some(pipeline) => pipeline.step(steps),
                None => *pipeline = Some(Pipeline::connect(&unixfd)),
            },
            _ => publisher.dispatch().expect("no peer breaks a publisher"),
        }
    }
    drop((peers, pipelines));
    serve(&mut publisher, "the dead are gone", |p| p.subscribers().count() == 0);
    // A new peer is served.
    let mut honest = Peer::new(Raw::connect(&path));
    honest.raw.send(&hello(1, 1, 1));
    serve(&mut publisher, "a good peer is admitted", |p| {
        honest.acknowledge(raw::BUFFER_OK);
        p.active() == 1
    });
    let mut pipeline = Pipeline::connect(&unixfd);
    serve(&mut publisher, "a good pipeline is admitted", |p| p.active() == 2);
    let frame = sources[current].try_recv().expect("memory").frame().expect("buffers are at home again");
    assert!(publisher.try_publish(frame).expect("a frame of the set").is_taken(), "no subscriber blocks");
    serve(&mut publisher, "both get a frame", |_| {
        honest.listen();
        pipeline.listen();
        !honest.leases.is_empty() && !pipeline.leases.is_empty()
    });
    drop(publisher);
    assert_eq!(sources.map(|s| s.buffers().expect("memory").leased()), [0, 0], "buffers come home");
}

fn serve(publisher: &mut Publisher, what: &str, mut is_done: impl FnMut(&Publisher) -> bool) {
    for _ in 0..5000 {
        if is_done(publisher) {
            return;
        }
        let _ = publisher.recv(Duration::from_millis(1)).expect("no peer breaks a publisher");
    }
    panic!("not so: {what}");
}

/// A message of 32-bit words, some of which the input changes.
fn changed(steps: &mut Steps<'_>, kind: u16, words: &[u32]) -> Vec<u8> {
    let mut words = words.to_vec();
    for _ in 0..steps.byte() % 4 {
        let (at, value) = (usize::from(steps.byte()) % words.len(), steps.number());
        words[at] = value;
    }
    message(kind, &words)
}

fn subscriber(steps: &mut Steps<'_>) {
    let path = socket();
    let listener = Raw::listen(&path);
    let memory: DmaBuf = Allocator::Memfd.allocate(4096, "fuzz").expect("memory");
    let null = std::fs::File::open("/dev/null").expect("a system");
    let files = [memory.as_fd().as_raw_fd(), null.as_raw_fd()];
    let mut script: Vec<(Vec<u8>, Vec<i32>)> = Vec::new();
    let first = [1 | 2 << 16, 0, 7, 7];
    script.push((changed(steps, raw::WELCOME, &first), Vec::new()));
    let picture = [5, 2, u32::from_le_bytes(*b"GREY"), 16, 16, 0, 0, 0, 0, 0, 0, 1 | 1 << 16, 256, 0, 0, 0, 0, 0, 16];
    let picture: Vec<u32> = picture.into_iter().chain([0; 9]).collect();
    let frame: Vec<u32> = [5, 0, 1].into_iter().chain([0; 12]).chain([256, 0, 0, 0, 0, 0, 0]).collect();
    let mut generation = 0;
    while let Some(step) = steps.next() {
        let (bytes, fds) = match step & 15 {
            0 | 1 => {
                script.push((changed(steps, raw::FORMAT, &picture), Vec::new()));
                script.push((message(raw::BUFFER, &[5, 0]), vec![files[0]]));
                (message(raw::BUFFER, &[5, 1]), vec![files[0]])
            }
            2 => (changed(steps, raw::FORMAT, &picture), Vec::new()),
            3 => {
                let count = steps.byte() % 5;
                let fds = (0..count).map(|_| files[usize::from(steps.byte() % 2)]).collect();
                (changed(steps, raw::BUFFER, &[5, u32::from(step >> 4) % 2]), fds)
            }
            4..=7 => {
                generation += 1;
                let mut frame = frame.clone();
                (frame[1], frame[2]) = (u32::from(step >> 4) % 2, generation);
                (changed(steps, raw::FRAME, &frame), Vec::new())
            }
            8 => (changed(steps, raw::REVOKE, &[5, u32::from(step >> 4) % 2, generation, 0]), Vec::new()),
            9 => (changed(steps, raw::REVOKE + 1, &[5]), Vec::new()),
            10 => (message(raw::END, &[]), Vec::new()),
            11 => (changed(steps, raw::BYE, &[1, 10, 2, 3, 2]), Vec::new()),
            12 => (changed(steps, raw::NEWER, &[5, 0]), Vec::new()),
            _ => (steps.bytes(), Vec::new()),
        };
        script.push((bytes, fds));
    }
    std::thread::scope(|scope| {
        let publisher = scope.spawn(move || {
            let peer = listener.accept();
            for (bytes, fds) in &script {
                match fds.is_empty() {
                    true => peer.send(bytes),
                    false => peer.send_with_fds(bytes, fds),
                }
            }
            // Unread messages are still read after the end of the connection.
        });
        listen(&path);
        // A scope waits for the thread's work, not for its end.
        publisher.join().expect("a publisher made of bytes");
    });
}

/// Takes what comes, until it is over.
fn listen(path: &std::path::Path) {
    let Ok(mut subscriber) = Subscriber::builder(path).hold(2).connect(Duration::from_secs(5)) else { return };
    let mut held = Vec::new();
    for _ in 0..1000 {
        match subscriber.recv(Duration::from_secs(5)) {
            Ok(Received::Item(SubscriberEvent::Frame(frame))) => {
                if let Ok(pixels) = frame.read(DEFAULT_WAIT) {
                    let _ = pixels.write_to(&mut std::io::sink());
                }
                held.push(frame);
                held.truncate(2);
            }
            Ok(Received::Item(SubscriberEvent::Format(_) | SubscriberEvent::Paused)) => {}
            _ => return,
        }
    }
    panic!("events without end");
}
