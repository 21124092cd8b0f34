//! Tests of subscribers in other languages (examples/peers) and of the library's: the same bytes, the same result.
//! Missing programs (compilers, Python, valgrind, qemu) are printed, and their tests skipped.

mod crc32;
mod formats;
mod golden;
mod hostile;
mod opencv;
mod peer;
mod process;
#[path = "../share/raw.rs"]
#[allow(dead_code)]
mod raw;
mod refusals;
#[path = "../share/support.rs"]
#[allow(dead_code)]
mod support;
mod together;
mod tools;

use peer::{compiled, has, skipped, Peer, SANITIZED};
use std::process::Command;

/// Plays every session.
fn every_session(mut peer: Peer) {
    golden::play(&mut peer, &golden::sessions(golden::STARVED));
    most_sessions(peer);
}

/// Plays the sessions that do not take descriptors away: valgrind needs some for itself.
fn most_sessions(mut peer: Peer) {
    let (good, forbidden) = (golden::sessions(golden::GOOD), golden::sessions(golden::FORBIDDEN));
    assert!(good.len() >= 38 && forbidden.len() >= 65, "{} and {} sessions", good.len(), forbidden.len());
    golden::play(&mut peer, &good);
    golden::play(&mut peer, &forbidden);
    peer.finish();
}

#[test]
fn session_golden_rust() {
    every_session(peer::rust());
}

#[test]
fn session_golden_c() {
    peer::c("C", &["-O2"]).into_iter().for_each(every_session);
}

#[test]
fn session_golden_c_sanitized() {
    peer::c("C-sanitized", SANITIZED).into_iter().for_each(every_session);
}

#[test]
fn session_golden_c_valgrind() {
    if !has("valgrind") {
        return skipped("valgrind", "not here");
    }
    let Some(program) = compiled("C-valgrind", "cc", "tests/peers/peer.c", &["-g", "-O1"]) else { return };
    let mut command = Command::new("valgrind");
    command.args(["-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all"]).arg(program);
    most_sessions(Peer::spawn("C under valgrind", command));
}

#[test]
fn session_golden_c_32_bit() {
    if let Some(command) = peer::on_qemu_arm("C-armv7", "tests/peers/peer.c") {
        every_session(Peer::spawn("C armv7", command));
    }
}

#[test]
fn session_golden_python() {
    peer::python_peer().into_iter().for_each(every_session);
}
