//! Subscribers that are killed and stopped at any point, and others that join. A subscriber that behaves well gets
//! every frame with its pixels. The buffers of dead ones come back soon, and nothing stays open or mapped. With feature
//! `unixfd`, a third of them use GStreamer's protocol, and so does one of the well-behaved.
//!
//! `FRAMELEASE_STORM=N` makes it N times as long, each time with another seed.

mod random;
#[allow(dead_code)]
#[path = "share/raw.rs"]
mod raw;
#[allow(dead_code)]
#[path = "share/support.rs"]
mod support;
#[allow(dead_code)]
#[path = "share/unixfd_client.rs"]
mod unixfd_client;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framelease::capture::FrameSource;
use framelease::format::Size;
use framelease::frame::BufferSet;
#[cfg(feature = "unixfd")]
use framelease::share::UnixfdTerms;
use framelease::share::{Policy, Publisher, PublisherBuilder, Rate, Subscriber, SubscriberEvent};
use framelease::{Received, Station};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use random::Random;
use support::{frame, pixels, Folder, Stage, SOON};
use unixfd_client::{number, release, Client, CAPS, NEW_BUFFER};

const ROLE: &str = "FRAMELEASE_STORM_PEER";
const ROUNDS: u32 = 1_500;
/// The file in the folder at which the publisher serves consumers by unixfd, and the most frames that each may hold.
const UNIXFD: &str = "gst";
const HOLD: u16 = 3;
/// Processes at a time, and enough buffers for the quotas of all.
const PEERS: usize = 8;
const BUFFERS: usize = 64;
/// The time in which a dead subscriber's buffers must come back.
const RECLAIM: Duration = Duration::from_secs(2);

/// Not a test: a subscriber that takes, holds, reads and releases frames as its seed determines.
#[test]
#[ignore = "run by the storm as a peer process"]
fn peer_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (seed, path) = role.split_once(' ').unwrap();
    let mut random = Random(seed.parse().unwrap());
    if path.ends_with(UNIXFD) {
        return drop(pipeline(Path::new(path), &mut random));
    }
    let hold = 1 + random.below(3) as u16;
    let policy = if random.below(2) == 0 { Policy::Latest } else { Policy::Fifo(1 + random.below(3) as u16) };
    let rate = if random.below(4) == 0 { Rate::EveryNth(2) } else { Rate::All };
    let Ok(mut subscriber) = Subscriber::builder(path).hold(hold).policy(policy).rate(rate).connect(SOON) else {
        return;
    };
    let mut held = Vec::new();
    loop {
        match subscriber.recv(Duration::from_millis(100)) {
            Ok(Received::Item(SubscriberEvent::Frame(f))) => {
                if random.below(2) == 0 {
                    pixels(&f);
                }
                held.push(f);
            }
            Ok(_) => {}
            Err(_) => return,
        }
        let most = random.below(u64::from(hold) + 1) as usize;
        while held.len() > most {
            held.swap_remove(random.index(held.len()));
        }
    }
}

/// The same for a pipeline after `unixfdsrc`.
fn pipeline(path: &Path, random: &mut Random) -> io::Result<()> {
    let mut client = Client::connect(path)?;
    client.socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut held = Vec::new();
    loop {
        match client.next() {
            Ok((NEW_BUFFER, payload)) => {
                let memory = File::from(client.fds.remove(0));
                if random.below(2) == 0 {
                    memory.read_exact_at(&mut vec![0; number(&payload, 56) as usize], 0)?;
                }
                held.push((number(&payload, 0), memory));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        let most = random.below(u64::from(HOLD) + 1) as usize;
        while held.len() > most {
            let (id, _) = held.swap_remove(random.index(held.len()));
            client.send(&release(id));
        }
    }
}

struct Peer {
    child: Child,
    is_unixfd: bool,
    is_stopped: bool,
}

impl Peer {
    fn spawn(folder: &Folder, random: &mut Random) -> Self {
        let is_unixfd = cfg!(feature = "unixfd") && random.below(3) == 0;
        let (socket, seed) = (folder.file(if is_unixfd { UNIXFD } else { "socket" }), random.below(u64::MAX));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer_process", "--ignored", "--test-threads=1"])
            .env(ROLE, format!("{seed} {}", socket.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, is_unixfd, is_stopped: false }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Mappings of shared memory.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|l| l.contains("memfd:")).count()
}

/// The statistics of a storm, printed at the end.
#[derive(Default)]
struct Report {
    frames: u64,
    killed: u32,
    stopped: u32,
    changes: u32,
    refused: u64,
    most_peers: usize,
    reclaims: Vec<Duration>,
    /// How many of those were consumers by unixfd.
    unixfd: u32,
}

/// Kills a subscriber, and waits until the publisher has removed it.
fn reclaim(s: &mut Stage, peer: Peer, report: &mut Report) {
    let pid = peer.child.id() as i32;
    let is_there = |p: &Publisher| p.subscribers().any(|s| s.peer.pid == pid);
    let was_there = is_there(&s.publisher);
    let start = Instant::now();
    peer.signal(Signal::SIGKILL);
    while is_there(&s.publisher) {
        assert!(start.elapsed() < RECLAIM, "{pid} is dead, and not removed after {RECLAIM:?}");
        drop(s.publisher.recv(Duration::from_millis(50)).unwrap());
    }
    report.killed += 1;
    if was_there {
        report.unixfd += u32::from(peer.is_unixfd);
        report.reclaims.push(start.elapsed());
    }
}

fn stage() -> Stage {
    #[cfg(feature = "unixfd")]
    let faces = |folder: &Folder, b: PublisherBuilder| b.unixfd(folder.file(UNIXFD), UnixfdTerms::hold(HOLD));
    #[cfg(not(feature = "unixfd"))]
    let faces = |_: &Folder, b: PublisherBuilder| b;
    Stage::in_folder(BUFFERS, faces)
}

/// A well-behaved consumer by unixfd: takes the frame that was published last, and releases it.
fn take(client: &mut Client) -> (u64, Vec<u8>) {
    let (id, payload) = loop {
        match client.receive() {
            (NEW_BUFFER, payload) => break (number(&payload, 0), payload),
            (kind, _) => assert_eq!(kind, CAPS),
        }
    };
    let mut memory = vec![0; number(&payload, 56) as usize];
    File::from(client.fds.remove(0)).read_exact_at(&mut memory, 0).unwrap();
    client.send(&release(id));
    (number(&payload, 32), memory)
}

fn storm(seed: u64, report: &mut Report) {
    let mut random = Random(seed);
    let mut s = stage();
    let mut by_unixfd = cfg!(feature = "unixfd").then(|| {
        let client = Client::connect(&s.folder.file(UNIXFD)).unwrap();
        s.until("the client is active", |p| p.active() == 1);
        client
    });
    let mut innocent =
        [s.join(s.subscriber().policy(Policy::Fifo(4)).hold(2)), s.join(s.subscriber().policy(Policy::Latest))];
    let mut peers: Vec<Peer> = Vec::new();
    let mut former: Vec<BufferSet> = Vec::new();
    for _ in 0..ROUNDS {
        let one = random.index(peers.len().max(1));
        match random.below(24) {
            0..=3 if peers.len() < PEERS => peers.push(Peer::spawn(&s.folder, &mut random)),
            4 if !peers.is_empty() => reclaim(&mut s, peers.swap_remove(one), report),
            5..=6 if !peers.is_empty() && !peers[one].is_stopped => {
                peers[one].signal(Signal::SIGSTOP);
                peers[one].is_stopped = true;
                report.stopped += 1;
            }
            7..=8 if !peers.is_empty() && peers[one].is_stopped => {
                peers[one].signal(Signal::SIGCONT);
                peers[one].is_stopped = false;
            }
            9 if random.below(8) == 0 => {
                former.push(s.source.buffers().unwrap().clone());
                s.source = support::source_of(BUFFERS, Size::new(80 + 16 * (report.changes % 3), 48));
                s.publisher.announce(s.source.buffers().unwrap()).unwrap();
                // The well-behaved must have the new pool before frames are sent to them.
                for subscriber in &mut innocent {
                    let start = Instant::now();
                    while subscriber.buffers().map(BufferSet::layout) != Some(s.source.buffers().unwrap().layout()) {
                        assert!(start.elapsed() < SOON);
                        drop(s.publisher.recv(Duration::from_millis(1)).unwrap());
                        assert!(!matches!(subscriber.try_recv().unwrap(), Received::Item(SubscriberEvent::Frame(_))));
                    }
                }
                s.publisher.dispatch().unwrap();
                report.changes += 1;
            }
            _ => {}
        }
        let published = s.source.recv(SOON).unwrap().frame().expect("the quotas fit the pool");
        let (sequence, want) = (published.meta().sequence, pixels(&published));
        assert!(s.publisher.publish(published, SOON).unwrap().is_taken());
        for subscriber in &mut innocent {
            let got = frame(subscriber);
            assert_eq!((got.meta().sequence, pixels(&got) == want), (sequence, true), "seed {seed}");
        }
        if let Some(client) = &mut by_unixfd {
            // These layouts have no padding.
            let (got, memory) = take(client);
            assert_eq!((got, memory == want), (sequence, true), "seed {seed}, by unixfd");
        }
        s.publisher.dispatch().unwrap();
        report.frames += 1;
        report.most_peers = report.most_peers.max(s.publisher.active());
    }
    for peer in peers {
        reclaim(&mut s, peer, report);
    }
    let living = innocent.len() + usize::from(by_unixfd.is_some());
    s.until("the dead subscribers are removed", |p| p.subscribers().count() == living);
    assert_eq!([0, 1].map(|i| innocent[i].stats().dropped), [0, 0], "seed {seed}");
    report.refused += s.publisher.stats().refused;
    assert_eq!(s.publisher.stats().violations, 0, "a killed subscriber violates the protocol");
    // Only the newest frame is kept, for subscribers that join late.
    assert!(s.source.buffers().unwrap().leased() <= 1, "seed {seed}: {:?}", s.source.buffers().unwrap());
    assert!(former.iter().all(|b| b.leased() == 0), "seed {seed}: {former:?}");
}

/// One test only: descriptors belong to the whole process.
#[test]
fn subscribers_that_die_and_stop_anywhere_cost_others_nothing() {
    let times = std::env::var("FRAMELEASE_STORM").ok().map_or(1, |n| n.parse().unwrap_or(10));
    let mut report = Report::default();
    let before = (descriptors(), mappings());
    for seed in 1..=times {
        storm(seed, &mut report);
        assert_eq!((descriptors(), mappings()), before, "seed {seed}: descriptors, mappings");
    }
    report.reclaims.sort();
    let at = |share: f64| report.reclaims[((report.reclaims.len() - 1) as f64 * share) as usize];
    assert!(report.killed > 10 && report.stopped > 10 && report.changes > 0 && report.most_peers > 4);
    assert!(report.unixfd > 5 || !cfg!(feature = "unixfd"), "{}", report.unixfd);
    println!(
        "{} frames; {} killed, {} stopped, {} refused, {} changes of format; {} peers at most; \
         {} reclaims, {} by unixfd: p50 {:?}, p99 {:?}, longest {:?}",
        report.frames,
        report.killed,
        report.stopped,
        report.refused,
        report.changes,
        report.most_peers,
        report.reclaims.len(),
        report.unixfd,
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
