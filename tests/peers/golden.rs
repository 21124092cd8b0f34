//! The files in `golden/`: sessions as bytes, written as text, so that they can test any implementation. The test plays
//! the publisher's side against each peer.
//!
//! A session begins with `[its name]`. Each line is a step; `#` begins a comment.
//!
//! | step | the publisher's side |
//! |---|---|
//! | `use NAME` | takes the steps of another session, of this file or of common.txt |
//! | `say HEX…` | sends one message; `00*9` is nine bytes of 0 |
//! | `with memfd N` | attaches a sealed memfd of N bytes to the next message. See below for its bytes |
//! | `with unsealed N`, `with null` | attaches a memfd without seals, or /dev/null |
//! | `hear HEX…` | receives exactly this message |
//! | `order connect HOLD POLICY EVERY MILLI_FPS` | tells the peer to connect, and accepts the connection |
//! | `order next`, `poll` | tells the peer to take the next event, or to answer `nothing` if it has none yet |
//! | `order release N`, `valid N` | tells the peer to release its N-th frame, from 0; asks whether it is valid |
//! | `order memory` | asks how many of the session's buffers the peer has open |
//! | `order starve`, `feed` | tells the peer to leave itself no free descriptor; or as many as before |
//! | `answer TEXT` | expects this answer to the oldest order without one |
//! | `hang-up` | closes the connection |
//! | `open`, `gone` | expects that the peer has not, or has, closed it. Releases and RETIRED may come first |
//!
//! Byte k of the session's n-th descriptor is (k + 13 n) mod 251, n from 0.
//!
//! A session ends when the peer has released everything and closed the connection.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};

use crate::peer::Peer;
use crate::raw::{self, kind, Listener, Raw};
use crate::support::Folder;

pub const COMMON: &str = include_str!("golden/common.txt");
pub const GOOD: &str = include_str!("golden/good.txt");
pub const STARVED: &str = include_str!("golden/starved.txt");
pub const FORBIDDEN: &str = include_str!("golden/forbidden.txt");

/// Name and steps.
pub type Session = (String, Vec<Step>);

#[derive(Clone, Debug)]
pub enum Step {
    Say(Vec<u8>),
    Hear(Vec<u8>),
    With(Descriptor),
    Order(String),
    Answer(String),
    HangUp,
    Open,
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub enum Descriptor {
    Memfd { bytes: usize, sealed: bool },
    Null,
}

impl Descriptor {
    pub fn open(self, index: usize) -> OwnedFd {
        let Self::Memfd { bytes, sealed } = self else { return std::fs::File::open("/dev/null").unwrap().into() };
        let fd = memfd_create("golden", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        let content: Vec<u8> = (0..bytes).map(|k| ((k + 13 * index) % 251) as u8).collect();
        std::io::Write::write_all(&mut std::fs::File::from(fd.try_clone().unwrap()), &content).unwrap();
        if sealed {
            fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)).unwrap();
        }
        fd
    }
}

/// Returns the sessions of a file, with the steps of `use` included.
pub fn sessions(text: &str) -> Vec<Session> {
    let mut all: Vec<Session> = if text == COMMON { Vec::new() } else { sessions(COMMON) };
    let common = all.len();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap().trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            assert!(all.iter().all(|(n, _)| n != name), "two sessions are named {name}");
            all.push((name.into(), Vec::new()));
            continue;
        }
        let steps = match word {
            "" => continue,
            "use" => all.iter().find(|(n, _)| n == rest).unwrap_or_else(|| panic!("no session {rest}")).1.clone(),
            "say" => vec![Step::Say(bytes(rest))],
            "hear" => vec![Step::Hear(bytes(rest))],
            "with" => vec![Step::With(descriptor(rest))],
            "order" => vec![Step::Order(rest.into())],
            "answer" => vec![Step::Answer(rest.into())],
            "hang-up" => vec![Step::HangUp],
            "open" => vec![Step::Open],
            "gone" => vec![Step::Gone],
            other => panic!("line {}: '{other}' is not a step", number + 1),
        };
        all.last_mut().expect("a session's name comes first").1.extend(steps);
    }
    all.split_off(common)
}

fn bytes(hex: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for word in hex.split_whitespace() {
        match word.split_once('*') {
            Some((byte, times)) => {
                let byte = u8::from_str_radix(byte, 16).unwrap();
                out.resize(out.len() + times.parse::<usize>().unwrap(), byte);
            }
            None => out.extend((0..word.len()).step_by(2).map(|i| u8::from_str_radix(&word[i..i + 2], 16).unwrap())),
        }
    }
    out
}

fn descriptor(text: &str) -> Descriptor {
    match text.split_once(' ') {
        Some((kind, bytes)) => Descriptor::Memfd { bytes: bytes.parse().unwrap(), sealed: kind == "memfd" },
        None => Descriptor::Null,
    }
}

/// Plays the sessions against a peer. Panics with the session's name, the step and the message that came instead.
pub fn play(peer: &mut Peer, sessions: &[Session]) {
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    for (name, steps) in sessions {
        let mut stage = Stage {
            peer,
            folder: &folder,
            listener: &listener,
            link: None,
            fds: VecDeque::new(),
            opened: 0,
            late: vec![],
        };
        for (i, step) in steps.iter().enumerate() {
            if let Err(came) = stage.take(step) {
                panic!("{} [{name}] step {}, {step:x?}: {came}", stage.peer.name, i + 1);
            }
        }
        stage.peer.order("close");
        assert_eq!(stage.answer(), "closed", "[{name}]");
        if let Err(came) = stage.take(&Step::Gone) {
            panic!("{} [{name}] at its end: {came}", stage.peer.name);
        }
    }
}

struct Stage<'a> {
    peer: &'a mut Peer,
    folder: &'a Folder,
    listener: &'a Listener,
    link: Option<Raw>,
    fds: VecDeque<OwnedFd>,
    opened: usize,
    /// Formats that Rust has not reported yet. It reports them when it has the buffers; C and Python report them before
    /// that.
    late: Vec<String>,
}

impl Stage<'_> {
    fn answer(&mut self) -> String {
        loop {
            let came = self.peer.answer();
            match self.late.iter().position(|late| *late == came) {
                Some(i) => drop(self.late.remove(i)),
                // The order was for an event after a format that no longer comes.
                None if !self.late.is_empty()
                    && came.ends_with("the stream has ended, as an earlier call reported") => {}
                None => return came,
            }
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        let same = |ok: bool, came: String| if ok { Ok(()) } else { Err(came) };
        match step {
            Step::Order(order) => match order.strip_prefix("connect ") {
                Some(terms) => {
                    self.peer.order(&format!("connect {} {terms}", self.folder.socket().display()));
                    self.link = Some(self.listener.accept());
                }
                None => self.peer.order(order),
            },
            Step::Answer(want) if self.peer.name == "Rust" && want.starts_with("format ") => {
                self.late.push(want.clone())
            }
            Step::Answer(want) => {
                let came = self.answer();
                return same(came == *want, came);
            }
            Step::With(descriptor) => {
                self.fds.push_back(descriptor.open(self.opened));
                self.opened += 1;
            }
            Step::Say(message) => {
                let fds: Vec<_> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
                let link = self.link.as_ref().ok_or("not connected")?;
                if fds.is_empty() {
                    link.send(message);
                } else {
                    link.send_with_fds(message, &fds);
                }
                self.fds.clear();
            }
            Step::Hear(want) => {
                let came = self.link.as_ref().ok_or("not connected")?.receive();
                return same(came == *want, format!("{came:x?}"));
            }
            Step::HangUp => self.link = None,
            Step::Open => {
                let came = self.link.as_ref().ok_or("not connected")?.try_receive();
                return same(came.is_none(), format!("{came:x?}"));
            }
            Step::Gone => {
                while let Some(link) = &self.link {
                    let came = match link.receive() {
                        // The receive timed out, the connection was reset, or the peer has hung up.
                        empty if empty.is_empty() => link.try_receive().ok_or("it has not hung up")?.0,
                        came => came,
                    };
                    match kind(&came) {
                        raw::RELEASE | raw::RETIRED => {}
                        _ if came.is_empty() => self.link = None,
                        _ => return Err(format!("{came:x?}")),
                    }
                }
            }
        }
        Ok(())
    }
}
