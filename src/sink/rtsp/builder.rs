//! How a server and its streams are set up: address, limits, deadlines, users.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::auth::Users;
use super::server::{Server, LISTENER};
use crate::error::{Error, Result};
use crate::sink::rtp;

/// What any longer timeout means: a clock and a client can count to it.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Settings of a [`Server`].
#[derive(Clone)]
pub struct ServerBuilder {
    pub(super) address: SocketAddr,
    pub(super) users: Users,
    pub(super) max_connections: usize,
    pub(super) max_sessions: usize,
    pub(super) session_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) backlog_bytes: usize,
}

impl ServerBuilder {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            users: Users::default(),
            max_connections: 64,
            max_sessions: 64,
            session_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            backlog_bytes: 1 << 20,
        }
    }

    /// One more user who may watch, by Digest authentication. Without any, everybody may. A name with a quotation mark or,
    /// for Basic, a colon has no way into a request.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.add(name.into(), password.into());
        self
    }

    /// Takes passwords by Basic authentication, too, which sends them readable. Default `false`.
    pub fn basic(mut self, takes_basic: bool) -> Self {
        self.users.takes_basic = takes_basic;
        self
    }

    /// The most connections at a time; others are turned away with 503. Default 64.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count.max(1);
        self
    }

    /// The most sessions at a time; others are turned away with 453. Default 64.
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.max_sessions = count;
        self
    }

    /// A session ends when nothing is heard of its client for so long, and so does a connection without one. Default 60 s,
    /// which clients are told; at least one second, at most a year.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout.clamp(Duration::from_secs(1), LONGEST);
        self
    }

    /// A request that is not complete after so long ends its connection with 408. Default 10 s, at most a
    /// year.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout.min(LONGEST);
        self
    }

    /// What may wait for a client that takes its packets in the connection and reads slowly; beyond it, frames are dropped
    /// for that client up to a key frame. Default 1 MiB.
    pub fn backlog_bytes(mut self, bytes: usize) -> Self {
        self.backlog_bytes = bytes;
        self
    }

    /// Listens.
    ///
    /// # Errors
    /// What the kernel reports, naming the address: `Busy` for one in use, `PermissionDenied` below port 1024.
    pub fn bind(self) -> Result<Server> {
        let io = |op| move |e: std::io::Error| Error::io(op, &e).on(self.address);
        let os = |op| move |e: Errno| Error::os(op, e).on(self.address);
        let listener = TcpListener::bind(self.address).map_err(io("bind"))?;
        listener.set_nonblocking(true).map_err(io("fcntl"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(os("epoll_create1"))?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).map_err(os("epoll_ctl"))?;
        Ok(Server::new(self, listener, epoll))
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerBuilder({}, users {:?})", self.address, self.users)
    }
}

/// How a mount's stream is sent.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MountOptions {
    /// Packets, in all ways.
    pub rtp: rtp::SenderOptions,
    /// The group and port for clients that ask for multicast; without one they are refused (461).
    pub group: Option<SocketAddr>,
}

impl MountOptions {
    /// With other packets.
    pub fn rtp(self, rtp: rtp::SenderOptions) -> Self {
        Self { rtp, ..self }
    }

    /// With a multicast group. RTCP has the next port.
    pub fn group(self, group: SocketAddr) -> Self {
        Self { group: Some(group), ..self }
    }
}
