//! Tests of one publisher with consumers in Rust, C (also 32-bit) and Python at once.

use framelease::share::Publisher;
use framelease::Station;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::Pid;

use crate::peer::{self, compiled, crc, here, Peer};
use crate::support::{Stage, SOON};

const LANGUAGES: [&str; 4] = ["Rust", "C", "C armv7", "Python"];

/// A consumer that prints sequence number and CRC of every frame. It holds two frames, so there is always room for the
/// next after the line of the last has come. `None` if this machine cannot run it.
fn consumer(language: &str, socket: &Path) -> Option<Command> {
    let cat = "examples/peers/c/framelease-cat.c";
    let mut command = match language {
        "Rust" => return Some(peer::rust_process(socket.to_str().unwrap())),
        "C" => Command::new(compiled("framelease-cat", "cc", cat, &["-O2"])?),
        "C armv7" => peer::on_qemu_arm("framelease-cat-armv7", cat)?,
        _ => {
            let mut command = Command::new(peer::python()?);
            command.args(["-B", "-m", "framelease.view"]).env("PYTHONPATH", here("python/src"));
            command
        }
    };
    command.args(["--hash", "--hold", "2", "--timeout", "60", "--socket"]).arg(socket);
    Some(command)
}

/// Starts a consumer and serves the publisher until it is active.
fn join(s: &mut Stage, language: &str, command: Command) -> Peer {
    let active = s.publisher.active();
    let word = if language == "Rust" { "PEER " } else { "" };
    let peer = Peer::spawn_with(language, command, word);
    s.until("the consumer is active", |p| p.active() == active + 1);
    peer
}

/// A publisher, and a consumer in each language that this machine has.
fn stage() -> (Stage, Vec<Peer>) {
    // An interpreter is slow on a busy machine.
    let mut s = Stage::with(24, |b| b.handshake_timeout(SOON));
    let socket = s.folder.socket();
    // First run all compilers, so that no consumer waits for them.
    let commands: Vec<_> = LANGUAGES.iter().filter_map(|l| Some((l, consumer(l, &socket)?))).collect();
    let peers = commands.into_iter().map(|(language, command)| join(&mut s, language, command)).collect();
    (s, peers)
}

/// Publishes frames. Every consumer must get each of them. Returns the last line.
fn publish(s: &mut Stage, frames: usize, consumers: &[&Peer]) -> String {
    let mut line = String::new();
    for _ in 0..frames {
        let frame = s.source.recv(SOON).unwrap().frame().expect("the source has a free buffer");
        line = format!("{} {:08x}", frame.meta().sequence, crc(&frame).unwrap());
        assert!(s.publisher.publish(frame, SOON).unwrap().is_taken());
        for consumer in consumers {
            assert_eq!(consumer.answer(), line, "{}", consumer.name);
        }
        s.publisher.dispatch().unwrap();
    }
    line
}

#[test]
fn frames_are_the_same_in_every_language() {
    let (mut s, peers) = stage();
    publish(&mut s, 1000, &peers.iter().collect::<Vec<_>>());
    assert!(s.publisher.subscribers().all(|f| f.sent == 1000 && f.dropped == 0));
    assert_eq!(s.publisher.stats().violations, 0);
    // All of them see the end, and exit by themselves.
    drop(s.publisher);
    peers.into_iter().for_each(Peer::finish);
}

#[test]
fn pause_lets_frames_follow_in_every_language() {
    let (mut s, peers) = stage();
    let all: Vec<_> = peers.iter().collect();
    for _ in 0..3 {
        publish(&mut s, 5, &all);
        s.publisher.pause(SOON).unwrap();
        s.until("all have released their frames", |p| p.subscribers().all(|f| f.held == 0));
    }
    publish(&mut s, 5, &all);
    assert!(s.publisher.subscribers().all(|f| f.sent == 20 && f.dropped == 0));
    assert_eq!(s.publisher.stats().violations, 0);
    drop(s.publisher);
    peers.into_iter().for_each(Peer::finish);
}

#[test]
fn policy_latest_gives_the_newest_to_a_slow_consumer_in_every_language() {
    let (mut s, peers) = stage();
    publish(&mut s, 5, &peers.iter().collect::<Vec<_>>());
    let sent = |p: &Publisher| p.subscribers().map(|f| f.sent).sum::<u64>();
    for victim in &peers {
        let others: Vec<_> = peers.iter().filter(|p| p.name != victim.name).collect();
        let pid = Pid::from_raw(victim.child.id() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        let last = publish(&mut s, 20, &others);
        let before = sent(&s.publisher);
        kill(pid, Signal::SIGCONT).unwrap();
        s.until("the newest is sent", |p| sent(p) > before);
        assert_eq!(victim.answer(), last, "{}", victim.name);
    }
    // No consumer has an older frame.
    let last = publish(&mut s, 1, &[]);
    peers.iter().for_each(|peer| assert_eq!(peer.answer(), last, "{}", peer.name));
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn subscriber_stopped_and_killed_in_any_language_costs_the_others_nothing() {
    let (mut s, mut peers) = stage();
    for turn in 0..peers.len() {
        let victim = peers.remove(0);
        let others: Vec<_> = peers.iter().collect();
        let mut all = others.clone();
        all.push(&victim);
        publish(&mut s, 5, &all);
        let pid = Pid::from_raw(victim.child.id() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        publish(&mut s, 40, &others);
        let dropped: Vec<_> = s.publisher.subscribers().map(|f| f.dropped).filter(|&d| d > 0).collect();
        // It got two frames, or one if it had not released the last one before. The newest waits for it.
        assert!(matches!(dropped[..], [37 | 38]), "{}: {dropped:?}", victim.name);
        kill(pid, Signal::SIGKILL).unwrap();
        s.until("the dead one is gone", |p| p.subscribers().count() == others.len());
        let last = publish(&mut s, 20, &others);
        let language = victim.name.clone();
        drop(victim);
        // A subscriber in its place gets the newest frame at once.
        let command = consumer(&language, &s.folder.socket()).unwrap();
        let successor = join(&mut s, &language, command);
        s.until("the newest is sent", |p| p.subscribers().any(|f| f.sent == 1));
        assert_eq!(successor.answer(), last, "turn {turn}");
        peers.push(successor);
    }
    assert_eq!(s.publisher.stats().violations, 0);
}
