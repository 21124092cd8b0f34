//! A publisher that dies before any of its system calls. Its subscribers see it, find the next publisher, and get all
//! of its frames. Every step of the protocol is covered.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use framelease::share::{Policy, Reconnect, Subscriber, SubscriberEvent};
use framelease::{Received, Station};

use crate::calls::{Answer, Fault, CALLS};
use crate::{descriptors, places, publish, run, Folder, Victim, ALONE, FRAMES, PATIENCE};

const ROLE: &str = "FRAMELEASE_FAULTS_PUBLISHER";

/// Not a test: the publisher that dies.
#[test]
#[ignore = "run by the other test as a process of its own"]
fn publisher_that_is_killed() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.splitn(3, ' ').collect();
    let fault = Fault { call: words[0].parse().unwrap(), nth: words[1].parse().unwrap(), answer: Answer::Death };
    publish(Path::new(words[2]), 2, &AtomicUsize::new(0), Some(fault)).result.unwrap();
}

/// Follows the publishers at a path. Returns the number of frames of the last one.
fn follow(path: &Path) -> Result<u64, String> {
    let start = Instant::now();
    let builder = || Subscriber::builder(path).policy(Policy::Fifo(4)).hold(2).reconnect(Reconnect::Always);
    let mut subscriber = loop {
        match builder().connect(PATIENCE) {
            Ok(subscriber) => break subscriber,
            Err(e) if start.elapsed() > PATIENCE * 2 => return Err(format!("cannot connect: {e}")),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
    };
    let mut frames = 0;
    loop {
        match subscriber.recv(PATIENCE).map_err(|e| e.to_string())? {
            Received::Item(SubscriberEvent::Frame(_)) => frames += 1,
            Received::Item(SubscriberEvent::Lost(_) | SubscriberEvent::Returned) => frames = 0,
            Received::Item(SubscriberEvent::Paused) | Received::Ended => return Ok(frames),
            Received::Item(_) => {}
            Received::Nothing => return Err(format!("nothing more after {frames} frames")),
        }
    }
}

#[test]
fn publisher_that_dies_at_any_call_is_replaced() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (published, _) = run(Victim::None, None).unwrap();
    let mut died = 0;
    for (call, &count) in published.counts.iter().enumerate() {
        for nth in places(count) {
            let folder = Folder::new();
            let path = folder.0.join("socket");
            let before = descriptors();
            std::thread::scope(|scope| {
                let followers = [(); 2].map(|()| scope.spawn(|| follow(&path)));
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "crash::publisher_that_is_killed", "--ignored", "--test-threads=1"])
                    .env(ROLE, format!("{call} {nth} {}", path.display()))
                    .output()
                    .unwrap()
                    .status;
                // A publisher that made fewer calls than the first one did everything, and ended normally.
                if !status.success() {
                    assert_eq!(status.signal(), Some(9), "it panicked instead");
                    died += 1;
                    publish(&path, 2, &AtomicUsize::new(0), None).result.unwrap();
                }
                for follower in followers {
                    assert_eq!(follower.join().unwrap(), Ok(FRAMES), "dead at {} number {nth}", CALLS[call].0);
                }
            });
            assert_eq!(descriptors(), before, "dead at {} number {nth}", CALLS[call].0);
        }
    }
    println!("died at {died} calls");
    assert!(died > 40);
}
