//! One publisher, and consumers in Rust, C (also 32-bit) and Python at once.

use std::process::Command;

use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::Pid;

use crate::peer::{self, compiled, crc, has, here, skipped, Peer};
use crate::support::{Stage, SOON};

/// A consumer that prints sequence number and CRC of every frame. It holds two, so that there is always room for the next
/// when the line of the last has come.
fn consumer(language: &str, s: &Stage) -> Option<Peer> {
    let socket = s.folder.socket();
    let mut command = match language {
        "Rust" => return Some(peer::rust_consumer(&socket)),
        "C" => Command::new(compiled("framelease-cat", "cc", "examples/peers/c/framelease-cat.c", &["-O2"])?),
        "C armv7" => {
            if !has("qemu-arm") {
                skipped("32-bit C consumer", "no qemu-arm here");
                return None;
            }
            let flags = ["-O2", "-static"];
            let program = "examples/peers/c/framelease-cat.c";
            let mut command = Command::new("qemu-arm");
            command.arg(compiled("framelease-cat-armv7", "arm-linux-gnueabihf-gcc", program, &flags)?);
            command
        }
        _ => {
            let mut command = Command::new(peer::python()?);
            command.arg("-B").arg(here("examples/peers/python/view.py"));
            command
        }
    };
    command.args(["--hash", "--hold", "2", "--timeout", "60", "--socket"]).arg(socket);
    Some(Peer::spawn_with(language, command, ""))
}

/// Starts a consumer and serves the publisher until frames go to it.
fn join(s: &mut Stage, language: &str) -> Option<Peer> {
    let active = s.publisher.active();
    let peer = consumer(language, s)?;
    s.until("the consumer is active", |p| p.active() == active + 1);
    Some(peer)
}

/// Publishes frames; every one of the consumers must get each. The last line.
fn publish(s: &mut Stage, frames: usize, consumers: &[&Peer]) -> String {
    let mut line = String::new();
    for _ in 0..frames {
        let frame = s.source.next(SOON).unwrap().expect("the source has a free buffer");
        line = format!("{} {:08x}", frame.meta().sequence, crc(&frame).unwrap());
        s.publisher.publish(frame, SOON).unwrap();
        for consumer in consumers {
            assert_eq!(consumer.answer(), line, "{}", consumer.name);
        }
        s.publisher.dispatch().unwrap();
    }
    line
}

const LANGUAGES: [&str; 4] = ["Rust", "C", "C armv7", "Python"];

#[test]
fn a_thousand_frames_are_the_same_in_every_language() {
    let mut s = Stage::new(20);
    let peers: Vec<_> = LANGUAGES.iter().filter_map(|l| join(&mut s, l)).collect();
    publish(&mut s, 1000, &peers.iter().collect::<Vec<_>>());
    assert!(s.publisher.subscribers().all(|f| f.sent == 1000 && f.dropped == 0));
    assert_eq!(s.publisher.stats().violations, 0);
    // All of them see the end, and leave by themselves.
    s.publisher.end_stream(SOON).unwrap();
    peers.into_iter().for_each(Peer::finish);
}

#[test]
fn a_stopped_and_killed_consumer_of_any_language_costs_the_others_nothing() {
    let mut s = Stage::new(24);
    let mut peers: Vec<_> = LANGUAGES.iter().filter_map(|l| join(&mut s, l)).collect();
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
        // It got two of them, or one if it had not given back the last before, and the newest waits for it.
        assert!(matches!(dropped[..], [37 | 38]), "{}: {dropped:?}", victim.name);
        kill(pid, Signal::SIGKILL).unwrap();
        s.until("the dead one is gone", |p| p.subscribers().count() == others.len());
        let last = publish(&mut s, 20, &others);
        let language = victim.name.clone();
        drop(victim);
        // The next in its place gets the newest frame at once.
        let successor = join(&mut s, &language).unwrap();
        s.until("the newest is sent", |p| p.subscribers().any(|f| f.sent == 1));
        assert_eq!(successor.answer(), last, "turn {turn}");
        peers.push(successor);
    }
    assert_eq!(s.publisher.stats().violations, 0);
}
