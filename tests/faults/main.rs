//! Every system call of a publisher and of a subscriber fails once, in each way that the kernel may answer it.
//!
//! In each case nothing panics or hangs, every buffer comes back, and no descriptor stays open. A subscriber that is
//! not at the other end of the failed call gets every frame. If the call may be repeated, the failure has no visible
//! effect.
#![cfg(target_pointer_width = "64")]

mod calls;
mod clocks;
mod crash;
mod old_kernel;
#[allow(dead_code)]
#[path = "../share/raw.rs"]
mod raw;
mod sinks;
#[allow(dead_code)]
#[path = "../share/unixfd_client.rs"]
mod unixfd_client;
#[cfg(feature = "unixfd")]
mod unixfd_sink;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{mpsc, Mutex};
use std::time::{Duration, Instant};

use calls::{arm, Answer, Fault, CALLS};
use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::share::{Policy, Publisher, Subscriber, SubscriberEvent};
use framelease::{Received, Station};
use nix::errno::Errno;
use unixfd_client::{number, release, Client, EOS, NEW_BUFFER};

const FRAMES: u64 = 6;
/// A victim may never connect and report nothing. The publisher then begins without it.
const SOON: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than all deadlines of the library in these scenarios together.
const HUNG: Duration = Duration::from_secs(30);

/// One test at a time: descriptors belong to the whole process.
static ALONE: Mutex<()> = Mutex::new(());

type Result<T> = std::result::Result<T, framelease::Error>;
/// How many calls of each kind a run made.
type Counts = [u32; CALLS.len()];

/// The result of a publisher, and of one of its subscribers.
struct Published {
    counts: Counts,
    result: Result<()>,
    /// Buffers of the source that were still leased after every subscriber had left.
    held: usize,
}

struct Subscribed {
    counts: Counts,
    result: std::result::Result<(), String>,
    frames: u64,
    /// Frames that the publisher reported to it as dropped.
    missed: u64,
}

#[cfg(feature = "unixfd")]
fn publisher(path: &Path) -> Result<Publisher> {
    let terms = framelease::share::UnixfdTerms::hold(2).policy(Policy::Fifo(4));
    Publisher::builder(path).unixfd(unixfd(path), terms).bind()
}

#[cfg(not(feature = "unixfd"))]
fn publisher(path: &Path) -> Result<Publisher> {
    Publisher::builder(path).bind()
}

/// The path at which it serves consumers by unixfd.
fn unixfd(path: &Path) -> PathBuf {
    path.with_extension("gst")
}

/// Publishes frames for this many subscribers. Some may have failed before they connected.
fn publish(path: &Path, subscribers: usize, gone: &AtomicUsize, fault: Option<Fault>) -> Published {
    let armed = arm(fault);
    let mut held = 0;
    let result = (|| {
        let builder = TestPattern::builder(Size::new(64, 48)).buffers(24).unpaced().allocator(Allocator::Memfd);
        let mut source = builder.start()?;
        let published = (|| {
            let mut publisher = publisher(path)?;
            publisher.announce(source.buffers().unwrap())?;
            let start = Instant::now();
            loop {
                // Before the wait, in which the publisher sees their hang-up.
                let gone = gone.load(Ordering::Acquire);
                drop(publisher.recv(Duration::from_millis(20))?);
                if publisher.active() + gone >= subscribers || start.elapsed() > SOON {
                    break;
                }
            }
            for _ in 0..FRAMES {
                let Some(frame) = source.recv(PATIENCE)?.frame() else { break };
                let _ = publisher.publish(frame, PATIENCE).map_err(|e| e.error)?;
            }
            publisher.pause(PATIENCE)?;
            let start = Instant::now();
            while publisher.subscribers().count() > 0 && start.elapsed() < SOON {
                drop(publisher.recv(Duration::from_millis(20))?);
            }
            Ok(())
        })();
        held = source.buffers().unwrap().leased();
        published
    })();
    Published { counts: armed.counts(), result, held }
}

/// Takes frames until the stream ends.
fn subscribe(path: &Path, fault: Option<Fault>, is_over: &AtomicBool) -> Subscribed {
    // At first the publisher does not exist. This is not the fault that is tested.
    while !path.exists() && !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let is_refused = fault.is_some_and(|f| f.answer == Answer::Error(Errno::ECONNREFUSED));
    let armed = arm(fault);
    let (mut frames, mut missed) = (0, 0);
    let result = (|| {
        let mut subscriber = loop {
            match Subscriber::builder(path).policy(Policy::Fifo(4)).hold(2).connect(PATIENCE) {
                // The publisher has bound its socket and does not listen yet.
                Err(e) if e.errno() == Some(Errno::ECONNREFUSED as i32) && !is_refused => {}
                other => break other?,
            }
            if is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
        };
        loop {
            let event = subscriber.recv(PATIENCE);
            missed = subscriber.stats().dropped;
            match event? {
                Received::Item(SubscriberEvent::Frame(frame)) => {
                    // A frame in a buffer that could not be mapped is still a frame.
                    let read = frame.read(DEFAULT_WAIT).map(drop);
                    frames += 1;
                    read?;
                }
                Received::Item(SubscriberEvent::Format(_)) => {}
                _ => return Ok(()),
            }
        }
    })();
    Subscribed { counts: armed.counts(), result: result.map_err(|e: framelease::Error| e.to_string()), frames, missed }
}

/// Takes frames by unixfd, and releases them, until the stream ends.
fn pipeline(path: &Path, is_over: &AtomicBool) -> Subscribed {
    let mut frames = 0;
    let result = (|| {
        let mut client = loop {
            match Client::connect(&unixfd(path)) {
                Err(_) if !is_over.load(Ordering::Relaxed) => std::thread::sleep(Duration::from_millis(1)),
                other => break other?,
            }
        };
        loop {
            match client.next()? {
                (NEW_BUFFER, payload) => {
                    client.fds.clear();
                    frames += 1;
                    client.socket.write_all(&release(number(&payload, 0)))?;
                }
                (EOS, _) => return Ok(()),
                _ => {}
            }
        }
    })();
    let result = result.map_err(|e: std::io::Error| e.to_string());
    Subscribed { counts: [0; CALLS.len()], result, frames, missed: 0 }
}

/// A folder for a socket. It is removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("framelease-faults-{}-{number}", std::process::id()));
        // A process with the same number may have been killed.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    None,
    Publisher,
    Subscriber,
}

/// Runs each participant in its own thread. Only the first subscriber may fail. The last one uses unixfd, if the
/// publisher does.
fn run(victim: Victim, fault: Option<Fault>) -> std::result::Result<(Published, Vec<Subscribed>), &'static str> {
    let folder = Folder::new();
    let path = folder.0.join("socket");
    let (send, done) = mpsc::channel();
    let of = move |who| fault.filter(|_| who == victim);
    std::thread::spawn(move || {
        let (is_over, gone) = (AtomicBool::new(false), AtomicUsize::new(0));
        let outcome = std::thread::scope(|scope| {
            let (path, is_over, gone) = (&path, &is_over, &gone);
            // The publisher does not wait for one that has ended.
            let noted = move |subscribed| {
                gone.fetch_add(1, Ordering::Release);
                subscribed
            };
            let mut subscribers = vec![
                scope.spawn(move || noted(subscribe(path, of(Victim::Subscriber), is_over))),
                scope.spawn(move || noted(subscribe(path, None, is_over))),
            ];
            if cfg!(feature = "unixfd") {
                subscribers.push(scope.spawn(move || noted(pipeline(path, is_over))));
            }
            let count = subscribers.len();
            let published = scope.spawn(move || publish(path, count, gone, of(Victim::Publisher))).join();
            is_over.store(true, Ordering::Relaxed);
            (published, subscribers.into_iter().map(|s| s.join()).collect::<std::thread::Result<_>>())
        });
        let _ = send.send(outcome);
    });
    match done.recv_timeout(HUNG) {
        Ok((Ok(published), Ok(subscribed))) => Ok((published, subscribed)),
        Ok(_) => Err("a panic"),
        Err(_) => Err("a hang"),
    }
}

fn text(fault: Option<Fault>) -> String {
    fault.map_or("nothing".into(), |f| format!("{:?} at {} number {}", f.answer, CALLS[f.call].0, f.nth))
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Which calls of each kind are made to fail: the first ones, and some of the later ones.
fn places(count: u32) -> impl Iterator<Item = u32> {
    let all = std::env::var_os("FRAMELEASE_STORM").is_some();
    (1..=count).filter(move |&n| all || n <= 3 || n % 10 == 0)
}

/// Each call of a run, with each of its errors.
fn faults(counts: &Counts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (call, ((_, errnos), &count)) in CALLS.iter().zip(counts).enumerate() {
        faults.extend(
            places(count)
                .flat_map(|nth| errnos.iter().map(move |&errno| Fault { call, nth, answer: Answer::Error(errno) })),
        );
    }
    faults
}

#[test]
fn syscall_that_fails_costs_only_its_caller() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (published, subscribed) = run(Victim::None, None).unwrap();
    published.result.unwrap();
    for s in &subscribed {
        assert!(s.frames == FRAMES && s.missed == 0 && s.result.is_ok(), "{} {:?}", s.frames, s.result);
    }
    for (i, (name, _)) in CALLS.iter().enumerate() {
        println!("{name}: {} {}", published.counts[i], subscribed[0].counts[i]);
    }
    let mut wrong = Vec::new();
    for (victim, counts) in [(Victim::Publisher, published.counts), (Victim::Subscriber, subscribed[0].counts)] {
        for fault in faults(&counts) {
            let before = descriptors();
            let start = Instant::now();
            let (published, subscribed) = match run(victim, Some(fault)) {
                Ok(outcome) => outcome,
                Err(e) => {
                    wrong.push(format!("{e}: {victim:?}, {}", text(Some(fault))));
                    continue;
                }
            };
            let (first, others) = subscribed.split_first().unwrap();
            let told = subscribed.iter().map(|s| format!("{} frames, {} missed, {:?}", s.frames, s.missed, s.result));
            let what = format!(
                "{victim:?}, {}: publisher {:?}, subscribers {}, {:?}",
                text(Some(fault)),
                published.result,
                told.collect::<Vec<_>>().join("; "),
                start.elapsed()
            );
            let mut check = |is_so: bool, rule: &str| {
                if !is_so {
                    wrong.push(format!("{rule}: {what}"));
                }
            };
            check(descriptors() == before, "a descriptor stays open");
            check(published.held == 0, "a buffer did not come back");
            // The others must not be affected, nor may a call that can be repeated have an effect.
            let is_again = matches!(fault.answer, Answer::Error(Errno::EINTR | Errno::EAGAIN))
                && !CALLS[fault.call].0.starts_with("send");
            let whole = |s: &Subscribed| s.frames == FRAMES && s.result.is_ok();
            match victim {
                Victim::Publisher if is_again => {
                    check(published.result.is_ok() && subscribed.iter().all(whole), "a call that may be repeated");
                }
                Victim::Publisher if published.result.is_ok() => {
                    let lost = subscribed.iter().filter(|s| !whole(s)).count();
                    check(lost <= 1, "more than one subscriber lost a frame");
                    for s in subscribed.iter().filter(|s| s.result.is_ok() && s.frames > 0) {
                        check(
                            s.frames + s.missed <= FRAMES,
                            "more frames were reported as dropped than were published",
                        );
                    }
                }
                Victim::Publisher => {}
                Victim::Subscriber | Victim::None => {
                    check(published.result.is_ok() && others.iter().all(whole), "an error of another participant");
                    check(!is_again || whole(first), "a call that may be repeated");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of the faults:\n{}", wrong.len(), wrong.join("\n"));
}
