//! A publisher that sends damaged sessions: a peer must survive, answer, and keep nothing open.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{shutdown, Shutdown};

use crate::golden::{self, Step};
use crate::peer::{self, Peer, SANITIZED};
use crate::raw::Raw;
use crate::support::Folder;

/// xorshift: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// The messages of a publisher, with their descriptors.
type Script = Vec<(Vec<u8>, Vec<OwnedFd>)>;

fn script(steps: &[Step]) -> Script {
    let mut all = Script::new();
    let (mut fds, mut opened) = (Vec::new(), 0);
    for step in steps {
        match step {
            Step::With(descriptor) => {
                fds.push(descriptor.open(opened));
                opened += 1;
            }
            Step::Say(message) => all.push((message.clone(), std::mem::take(&mut fds))),
            _ => {}
        }
    }
    all
}

/// Damages a script in one to three places.
fn damage(script: &mut Script, dice: &mut Dice) {
    const EDGES: [u8; 8] = [0, 1, 2, 63, 64, 127, 128, 255];
    for _ in 0..=dice.below(3) {
        if script.is_empty() {
            return;
        }
        let at = dice.below(script.len());
        let (message, fds) = &mut script[at];
        match dice.below(10) {
            0 => message.truncate(dice.below(message.len())),
            1 => message.resize(dice.below(300), 0xa5),
            2 if !fds.is_empty() => drop(fds.pop()),
            3 => fds.push(std::fs::File::open("/dev/null").unwrap().into()),
            4 => {
                let again = (message.clone(), fds.iter().map(|f| f.try_clone().unwrap()).collect());
                script.insert(at, again);
            }
            5 => drop(script.remove(at)),
            6 => {
                let other = dice.below(script.len());
                script.swap(at, other);
            }
            _ if message.is_empty() => {}
            _ => {
                let byte = dice.below(message.len());
                message[byte] = EDGES[dice.below(EDGES.len())];
            }
        }
    }
}

fn survives(mut peer: Peer, sessions: usize) {
    let good = golden::sessions(golden::GOOD);
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let (mut dice, mut frames, mut violations) = (Dice(0x5eed_5eed_5eed), 0, 0);
    for number in 0..sessions {
        let (name, steps) = &good[dice.below(good.len())];
        let Some(Step::Order(order)) = steps.first() else { panic!("{name} does not begin by a connect") };
        let mut script = script(steps);
        let messages = script.len();
        damage(&mut script, &mut dice);
        peer.order(&order.replace("connect", &format!("connect {}", folder.socket().display())));
        let link = listener.accept();
        for (message, fds) in &script {
            let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            if fds.is_empty() {
                link.send(message);
            } else {
                link.send_with_fds(message, &fds);
            }
        }
        // A hang-up after the script. The peer can still answer.
        shutdown(link.as_raw_fd(), Shutdown::Write).unwrap();
        let mut answer = peer.answer();
        let mut held = 0;
        for _ in 0..messages + 20 {
            assert_ne!(answer, "no answer", "{} in session {number}, {name}: {script:x?}", peer.name);
            violations += usize::from(answer == "error protocol");
            if answer.starts_with("error") || answer == "lost" {
                break;
            }
            if answer.starts_with("frame") {
                frames += 1;
                if dice.below(2) == 0 {
                    peer.order(&format!("release {held}"));
                    assert_eq!(peer.answer(), "released");
                }
                held += 1;
            }
            peer.order("next");
            answer = peer.answer();
        }
        peer.order("close");
        assert_eq!(peer.answer(), "closed", "{name}");
        peer.order("memory");
        assert_eq!(peer.answer(), "memory 0", "{} in session {number}, {name}: {script:x?}", peer.name);
    }
    // The damage must leave some sessions with frames, and some with violations.
    let some = sessions / 8;
    assert!(frames > some && violations > some, "{frames} frames, {violations} violations in {sessions} sessions");
    peer.finish();
}

#[test]
fn session_damaged_c_sanitized() {
    if let Some(peer) = peer::c("C-sanitized", SANITIZED) {
        survives(peer, 1000);
    }
}

#[test]
fn session_damaged_python() {
    if let Some(peer) = peer::python_peer() {
        survives(peer, 300);
    }
}

#[test]
fn session_damaged_rust() {
    survives(peer::rust(), 300);
}
