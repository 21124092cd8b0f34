//! One connection of a browser.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use framelease::frame::Packet;
use nix::poll::PollFlags;
use nix::sys::socket::{setsockopt, sockopt};

use super::live::{Live, Sent};
use super::request::{head, Answer, Request, MOST};
use super::Viewer;

/// A request takes so long at most, and an answer that the browser does not take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A frame that the browser has not taken after this time makes the next ones wait for a key frame.
const MOST_AGE: Duration = Duration::from_millis(500);
/// The kernel's buffer for the connection. More would be older pictures.
const SEND_BUFFER: usize = 256 << 10;

enum State {
    Asks(Vec<u8>),
    /// The connection ends when all is sent.
    Ends,
    Shows(Box<Live>),
}

pub struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    state: State,
    waiting: Vec<u8>,
    /// Since when bytes wait, or the request is awaited.
    since: Instant,
    /// When the browser has last taken bytes that waited.
    taken: Instant,
    sent: u64,
}

impl Client {
    pub fn new(stream: TcpStream, peer: SocketAddr) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        // A frame is not to wait for the answer to the one before.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER);
        let (state, now) = (State::Asks(Vec::new()), Instant::now());
        Some(Self { stream, peer, state, waiting: Vec::new(), since: now, taken: now, sent: 0 })
    }

    pub fn fd(&self) -> (BorrowedFd<'_>, PollFlags) {
        let writes = if self.waiting.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        (self.stream.as_fd(), PollFlags::POLLIN | writes)
    }

    pub fn viewer(&self) -> Option<Viewer> {
        let State::Shows(live) = &self.state else { return None };
        Some(Viewer { peer: self.peer, frames: live.frames, dropped: live.dropped, bytes: self.sent })
    }

    pub fn awaits_key(&self) -> bool {
        matches!(&self.state, State::Shows(live) if live.awaits_key() && self.waiting.is_empty())
    }

    /// Reads a request and sends what waits. `false`: the connection has ended.
    pub fn serve(&mut self, answer: impl FnOnce(&Request) -> Answer) -> bool {
        let mut bytes = [0; 2048];
        match self.stream.read(&mut bytes) {
            Ok(0) => return false,
            // What comes after the request is not read as another one.
            Ok(n) => {
                if let State::Asks(request) = &mut self.state {
                    request.extend_from_slice(&bytes[..n.min(MOST)]);
                    if let Some(request) = Request::parse(request) {
                        self.answer(request, answer);
                    }
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return false,
        }
        let is_late = match self.state {
            // It holds a place that another browser may need.
            State::Shows(_) => !self.waiting.is_empty() && self.taken.elapsed() > PATIENCE,
            State::Asks(_) | State::Ends => self.since.elapsed() > PATIENCE,
        };
        self.send() && !is_late
    }

    fn answer(&mut self, request: Result<Request, Answer>, answer: impl FnOnce(&Request) -> Answer) {
        let (answer, is_head, takes_chunks) = match request {
            Ok(request) => (answer(&request), request.method == "HEAD", request.takes_chunks),
            Err(refused) => (refused, false, false),
        };
        self.since = Instant::now();
        match answer {
            Answer::Live => self.state = State::Shows(Box::new(Live::new(takes_chunks))),
            Answer::Whole { status, kind, body } => {
                let length = format!("Content-Length: {}\r\n", body.len());
                self.waiting.extend(head(status, kind, &length).into_bytes());
                self.waiting.extend(if is_head { Vec::new() } else { body.into_bytes() });
                self.state = State::Ends;
            }
        }
    }

    /// Sends a packet to a browser that shows the picture. `false`: the connection has ended.
    pub fn push(&mut self, packet: &Packet) -> bool {
        let State::Shows(live) = &mut self.state else { return true };
        let has_room = self.waiting.is_empty() || self.since.elapsed() < MOST_AGE;
        match live.push(packet, has_room) {
            Sent::Nothing => return true,
            Sent::Bytes(bytes) => self.queue(&bytes),
            Sent::End(bytes) => {
                self.queue(&bytes);
                self.state = State::Ends;
            }
        }
        self.send()
    }

    fn queue(&mut self, bytes: &[u8]) {
        if self.waiting.is_empty() {
            self.since = Instant::now();
            self.taken = self.since;
        }
        self.waiting.extend_from_slice(bytes);
    }

    /// Sends what waits, as far as the browser takes it. `false`: the connection has ended.
    fn send(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(0) => return false,
                Ok(n) => {
                    self.sent += n as u64;
                    self.taken = Instant::now();
                    drop(self.waiting.drain(..n));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        !(self.waiting.is_empty() && matches!(self.state, State::Ends))
    }
}
