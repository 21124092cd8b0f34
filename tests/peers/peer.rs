//! Subscribers in Rust, C and Python as processes that follow orders, one line in and one out: the orders of golden.rs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::TryRecvError;
use std::sync::{mpsc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use framelease::dmabuf::DEFAULT_WAIT;
use framelease::frame::Frame;
use framelease::share::{Rate, Subscriber, SubscriberEvent};
use framelease::{Error, ErrorKind, Reason, Received, Station};

use nix::sys::resource::{getrlimit, setrlimit, Resource};

use crate::crc32::crc32;
use crate::support::SOON;

const ROLE: &str = "FRAMELEASE_TEST_PEER";

/// A peer's process.
pub struct Peer {
    pub name: String,
    pub child: Child,
    orders: Option<ChildStdin>,
    answers: mpsc::Receiver<String>,
}

impl Peer {
    /// Starts a peer that follows orders.
    pub fn spawn(name: &str, command: Command) -> Self {
        // The test harness of a Rust peer prints lines too.
        Self::spawn_with(name, command, "PEER ")
    }

    /// Starts a peer whose answers are lines that begin with a word.
    pub fn spawn_with(name: &str, mut command: Command, word: &'static str) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let orders = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once(word) {
                    let _ = send.send(answer.to_owned());
                }
            }
        });
        Self { name: name.into(), child, orders, answers }
    }

    pub fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// Returns the answer to the oldest order without one, or "no answer" if the peer hangs or is dead.
    pub fn answer(&self) -> String {
        self.answers.recv_timeout(SOON).unwrap_or_else(|_| "no answer".into())
    }

    /// Waits for the peer to end by itself, so that sanitizers and valgrind can report.
    pub fn finish(mut self) {
        self.orders = None;
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{} ended with {status}", self.name);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}

/// Checks that a program can be run.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub const SANITIZED: &[&str] = &["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Compiles a C program with the client, once for each name. Returns `None` without the compiler.
pub fn compiled(name: &str, compiler: &str, program: &str, flags: &[&str]) -> Option<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, Option<PathBuf>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap();
    let found =
        built.entry(name.into()).or_insert_with(|| has(compiler).then(|| compile(name, compiler, program, flags)));
    if found.is_none() {
        skipped(name, &format!("no {compiler} here"));
    }
    found.clone()
}

fn compile(name: &str, compiler: &str, program: &str, flags: &[&str]) -> PathBuf {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let strict = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Wshadow", "-Werror"];
    let mut command = Command::new(compiler);
    command.args(strict).args(flags).arg("-I").arg(here("examples/peers/c")).arg("-o").arg(&output);
    let built = command.args([here(program), here("examples/peers/c/fls.c")]).output().unwrap();
    assert!(built.status.success(), "{command:?}: {}", String::from_utf8_lossy(&built.stderr));
    output
}

/// This test program again, in a role: to follow orders, or to print sequence number and CRC of every frame from a
/// socket.
pub fn rust_process(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "peer::peer_process", "--ignored", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

pub fn rust() -> Peer {
    Peer::spawn("Rust", rust_process("obey"))
}

/// A C program, built for 32 bits.
pub fn on_qemu_arm(name: &str, program: &str) -> Option<Command> {
    if !has("qemu-arm") {
        skipped(name, "no qemu-arm here");
        return None;
    }
    let mut command = Command::new("qemu-arm");
    command.arg(compiled(name, "arm-linux-gnueabihf-gcc", program, &["-O2", "-static"])?);
    Some(command)
}

pub fn c(name: &str, flags: &[&str]) -> Option<Peer> {
    Some(Peer::spawn(name, Command::new(compiled(name, "cc", "tests/peers/peer.c", flags)?)))
}

/// Python 3.10 or newer.
pub fn python() -> Option<&'static str> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        let test = "import sys; sys.exit(sys.version_info < (3, 10))";
        Command::new("python3").args(["-c", test]).status().is_ok_and(|s| s.success())
    });
    if !found {
        skipped("python3", "not here, or older than 3.10");
    }
    found.then_some("python3")
}

pub fn python_peer() -> Option<Peer> {
    let mut command = Command::new(python()?);
    command.args(["-B", "-X", "dev"]).arg(here("tests/peers/peer.py")).arg(here("python/src"));
    Some(Peer::spawn("Python", command))
}

/// The CRC of all pixels in order, rows without padding. `None` if the frame's data end before.
pub fn crc(frame: &Frame) -> Option<u32> {
    let mut crc = 0;
    frame.read(DEFAULT_WAIT).unwrap().for_each_row(&mut Vec::new(), |row| crc = crc32(crc, row)).ok()?;
    Some(crc)
}

/// Not a test: the program of the Rust peer's process.
#[test]
#[ignore = "run by the other tests as a peer process"]
fn peer_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if role != "obey" {
        return consume(&role);
    }
    let (send, orders) = mpsc::channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let (mut subscriber, mut frames) = (None, Vec::new());
    // A format comes after its buffers: the test gives other orders while it waits for the answer.
    let mut awaited = std::collections::VecDeque::new();
    loop {
        let order = match awaited.is_empty() {
            true => orders.recv().ok(),
            false => orders.try_recv().map_or_else(|e| (e == TryRecvError::Empty).then(String::new), Some),
        };
        match order.as_deref() {
            None => return,
            Some("next") => awaited.push_back(Instant::now() + SOON),
            Some("") => match obey("soon", &mut subscriber, &mut frames) {
                Ok(answer) if answer == "nothing" && awaited.front().is_some_and(|at| Instant::now() < *at) => {}
                Ok(answer) => {
                    println!("PEER {answer}");
                    awaited.pop_front();
                }
                Err(e) => {
                    println!("PEER {}", error(&e));
                    awaited.clear();
                }
            },
            Some(line) => {
                println!("PEER {}", obey(line, &mut subscriber, &mut frames).unwrap_or_else(|e| error(&e)));
                if line == "close" {
                    awaited.clear();
                }
            }
        }
    }
}

fn consume(socket: &str) {
    let mut subscriber = Subscriber::builder(socket).hold(2).connect(SOON).unwrap();
    loop {
        match subscriber.recv(6 * SOON).unwrap() {
            Received::Item(SubscriberEvent::Frame(frame)) => {
                println!("PEER {} {:08x}", frame.meta().sequence, crc(&frame).unwrap())
            }
            Received::Item(SubscriberEvent::Format(_) | SubscriberEvent::Paused) => {}
            // Also after the process was stopped and continued.
            Received::Nothing => {}
            _ => return,
        }
    }
}

fn obey(line: &str, subscriber: &mut Option<Subscriber>, frames: &mut Vec<Option<Frame>>) -> Result<String, Error> {
    let words: Vec<_> = line.split(' ').collect();
    let number = |i: usize| words[i].parse::<u32>().unwrap();
    Ok(match words[0] {
        "connect" => {
            let rate = match (number(4), number(5)) {
                (1, 0) => Rate::All,
                (1, fps) => Rate::MilliFps(fps),
                (nth, _) => Rate::EveryNth(nth),
            };
            let builder = Subscriber::builder(words[1]).hold(number(2) as u16).policy(words[3].parse().unwrap());
            let connected = builder.rate(rate).connect(SOON)?;
            let answer = format!("connected quota {}", connected.quota());
            *subscriber = Some(connected);
            answer
        }
        "soon" | "poll" => {
            let s = subscriber.as_mut().unwrap();
            match if words[0] == "soon" { s.recv(Duration::from_millis(20))? } else { s.try_recv()? } {
                Received::Nothing => "nothing".into(),
                Received::Item(SubscriberEvent::Format(b)) => {
                    format!("format {} {}", code(b.layout().fourcc()), b.layout().size())
                }
                Received::Item(SubscriberEvent::Frame(frame)) => {
                    let text = describe(&frame);
                    frames.push(Some(frame));
                    text
                }
                Received::Item(SubscriberEvent::Paused) => "paused".into(),
                Received::Ended => "lost".into(),
                other => format!("{other:?}"),
            }
        }
        "release" => frames[number(1) as usize].take().map_or("what?", |_| "released").into(),
        "valid" if frames[number(1) as usize].as_ref().is_some_and(Frame::is_valid) => "valid".into(),
        "valid" => "invalid".into(),
        "starve" | "feed" => {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, if words[0] == "starve" { 3 } else { hard }, hard).unwrap();
            if words[0] == "starve" { "starved" } else { "fed" }.into()
        }
        "memory" => format!("memory {}", memory()),
        "close" => {
            *subscriber = None;
            frames.clear();
            "closed".into()
        }
        _ => format!("what? {line}"),
    })
}

/// NV12M has the code NM12.
fn code(fourcc: framelease::format::FourCc) -> String {
    String::from_utf8_lossy(&u32::from(fourcc).to_le_bytes()).into_owned()
}

fn describe(frame: &Frame) -> String {
    let m = frame.meta();
    let memories = frame.layout().memory_bytes().len();
    let data: Vec<_> = m.payload[..memories].iter().map(|p| format!("{}+{}", p.offset_bytes, p.bytes)).collect();
    format!(
        "frame slot {} sequence {} time {} sent {} dropped {} lost {} flags {} data {} {}",
        frame.slot(),
        m.sequence,
        m.timestamp_ns,
        m.published_ns,
        m.dropped,
        m.lost,
        u32::from(m.flags),
        data.join(" "),
        crc(frame).map_or("short".into(), |crc| format!("crc {crc:08x}"))
    )
}

fn error(e: &Error) -> String {
    use Reason::{BlockDenied, Capacity, Closing, Denied, LeaseExpired, Other, Protocol, Silent, Stalled, Version};
    let reasons = [Version, Capacity, Denied, Protocol, LeaseExpired, Closing, Silent, BlockDenied, Stalled];
    match e.kind() {
        ErrorKind::Protocol => "error protocol".into(),
        ErrorKind::Exhausted => "error exhausted".into(),
        ErrorKind::Disconnected => "error disconnected".into(),
        ErrorKind::Refused => {
            let mut all = reasons.into_iter().zip(1..).chain([(Other(99), 99)]);
            let reason = all.find(|&(r, _)| e.reason() == Some(r)).map_or(0, |(_, number)| number);
            format!("error refused {reason}")
        }
        _ => e.to_string(),
    }
}

/// The number of different buffers of the test that are open in this process.
fn memory() -> usize {
    use std::os::unix::fs::MetadataExt;
    let ours = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|e| {
        let name = std::fs::read_link(e.path()).ok()?;
        name.to_string_lossy().contains("golden").then(|| std::fs::metadata(e.path()).ok().map(|m| m.ino()))?
    });
    ours.collect::<std::collections::HashSet<_>>().len()
}
