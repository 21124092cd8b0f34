//! A page for browsers: the live picture and the live table of the node. Without a browser it costs a listener.

mod client;
mod live;
mod request;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use framelease::frame::Packet;
use nix::poll::PollFlags;

use client::Client;
use request::{Answer, Logins, Request};

const PAGE: &str = include_str!("page.html");
/// A page has one connection for the picture and, for moments, one for the table.
const MOST_CLIENTS: usize = 32;
/// The others get the page and the table.
const MOST_VIEWERS: usize = 24;
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

pub struct Web {
    listener: TcpListener,
    clients: Vec<Client>,
    logins: Logins,
    /// No descriptors were left: when the next client is looked for.
    accepts_again: Option<Instant>,
}

/// What a browser that shows the picture got.
pub struct Viewer {
    pub peer: SocketAddr,
    pub frames: u64,
    pub dropped: u64,
    pub bytes: u64,
}

impl Web {
    /// Listens. With users, a browser asks for a name and a password.
    pub fn bind(address: SocketAddr, users: &[(String, String)]) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("{address}: {e}");
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, clients: Vec::new(), logins: Logins::new(users), accepts_again: None })
    }

    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Descriptors to wait for.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let has_room = self.clients.len() < MOST_CLIENTS;
        let accepts = has_room && self.accepts_again.map_or(true, |at| at <= Instant::now());
        let listener = accepts.then(|| (self.listener.as_fd(), PollFlags::POLLIN));
        listener.into_iter().chain(self.clients.iter().map(Client::fd))
    }

    /// Takes new connections, answers requests and sends what waits. `status` gives the table as JSON.
    pub fn dispatch(&mut self, status: impl Fn() -> String) {
        while self.clients.len() < MOST_CLIENTS {
            match self.listener.accept() {
                Ok((stream, peer)) => self.clients.extend(Client::new(stream, peer)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.accepts_again = Some(Instant::now() + ACCEPT_AGAIN);
                    break;
                }
            }
        }
        let (logins, viewers) = (&self.logins, self.viewers().count());
        let answer = |request: &Request| match answer(request, logins, &status) {
            Answer::Live if viewers >= MOST_VIEWERS => Answer::refused(503, "too many browsers show the picture\n"),
            answer => answer,
        };
        self.clients.retain_mut(|client| client.serve(answer));
    }

    pub fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Returns `true` if a browser shows the picture.
    pub fn is_watched(&self) -> bool {
        self.clients.iter().any(|client| client.viewer().is_some())
    }

    /// Sends a packet to every browser that shows the picture.
    pub fn push(&mut self, packet: &Packet) {
        self.clients.retain_mut(|client| client.push(packet));
    }

    /// A browser waits for a key frame.
    pub fn awaits_key(&self) -> bool {
        self.clients.iter().any(Client::awaits_key)
    }

    pub fn viewers(&self) -> impl Iterator<Item = Viewer> + '_ {
        self.clients.iter().filter_map(Client::viewer)
    }
}

fn answer(request: &Request, logins: &Logins, status: &dyn Fn() -> String) -> Answer {
    if !logins.admit(request) {
        return Answer::refused(401, "a name and a password, please\n");
    }
    match (&*request.method, &*request.path) {
        ("GET" | "HEAD", "/") => Answer::whole("text/html; charset=utf-8", PAGE.into()),
        ("GET" | "HEAD", "/status.json") => Answer::whole("application/json", status()),
        ("GET", "/live.mp4") => Answer::Live,
        ("GET" | "HEAD", _) => Answer::refused(404, "there are /, /live.mp4 and /status.json\n"),
        _ => Answer::refused(405, "only GET and HEAD\n"),
    }
}
