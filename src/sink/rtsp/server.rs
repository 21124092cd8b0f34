//! The server: connections, sessions, deadlines.

use std::fmt;
use std::io::ErrorKind as IoKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};

use super::auth::AuthResult;
use super::builder::{MountOptions, ServerBuilder};
use super::connection::{Arrived, Connection};
use super::handlers::Client;
use super::message::{parse, Parsed, Request, Response, Status};
use super::mount::Mount;
use super::session::{Session, Transport};
use crate::bitstream::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Packet;
use crate::log::event;
use crate::sink::rtp::{DestinationStats, Sender};
use crate::sys;

/// The listening socket among the events; connections have their places.
pub(super) const LISTENER: u64 = u64::MAX;
/// Wrong passwords until the connection is closed.
const MOST_REFUSALS: u32 = 5;
/// How long nothing is accepted after a failure (no descriptors left).
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);
/// Connections that are accepted in one go.
const MOST_ACCEPTS: usize = 32;

/// Names a stream of a [`Server`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MountId(u64);

/// Counts of a server since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were turned away, because there are too many.
    pub refused: u64,
    /// Requests that could be read.
    pub requests: u64,
    /// Connections that were closed for what they sent, or because a request did not end.
    pub malformed: u64,
    /// Requests without the right name and password.
    pub unauthorized: u64,
    /// Sessions whose clients were not heard of any more.
    pub expired: u64,
}

/// One session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientStats {
    /// Where its client is.
    pub peer: SocketAddr,
    /// What it watches.
    pub path: String,
    /// How it gets that.
    pub way: Transport,
    /// It is not paused, and has begun.
    pub is_playing: bool,
    /// What was sent to it; of multicast, to its group.
    pub sent: DestinationStats,
}

/// Serves streams to RTSP clients. Never waits for one: a client that is slow, silent or malicious costs its own
/// connection.
///
/// In an event loop, register [`AsFd`] level-triggered for POLLIN, and call [`Server::dispatch`] when it is readable and
/// when [`Server::next_timeout`] has passed, which is asked anew after each call of the server. A client that joins gets
/// nothing before a key frame: [`Server::awaits_key`] says when to force one.
pub struct Server {
    pub(super) settings: ServerBuilder,
    listener: TcpListener,
    epoll: Epoll,
    pub(super) mounts: Vec<Mount>,
    pub(super) connections: Vec<Option<Connection>>,
    pub(super) sessions: Vec<Session>,
    next_mount: u64,
    next_connection: u64,
    /// When the listening socket is looked at again.
    accepts_again: Option<Instant>,
    stats: ServerStats,
}

impl Server {
    /// A server at an address; port 0 is any free one. 554 is the standard's, 8554 what needs no privilege.
    pub fn builder(address: impl Into<SocketAddr>) -> ServerBuilder {
        ServerBuilder::new(address.into())
    }

    pub(super) fn new(settings: ServerBuilder, listener: TcpListener, epoll: Epoll) -> Self {
        Self {
            settings,
            listener,
            epoll,
            mounts: Vec::new(),
            connections: Vec::new(),
            sessions: Vec::new(),
            next_mount: 0,
            next_connection: 0,
            accepts_again: None,
            stats: ServerStats::default(),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What `getsockname` reports.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::io("getsockname", &e).on(self.settings.address))
    }

    /// Offers a stream at `rtsp://HOST:PORT` and `path`, which begins with a slash: `/live`.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that no URI has, `Busy` for one that is taken, `Unsupported` if the codec has no RTP
    /// payload format.
    pub fn mount(&mut self, path: &str, codec: Codec, options: MountOptions) -> Result<MountId> {
        let path = path.trim_end_matches('/');
        let is_path = (path.is_empty() || path.starts_with('/'))
            && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#<>\"".contains(&b));
        let wrong = |kind, text: String| Err(Error::new(kind, "mount", text));
        if !is_path {
            return wrong(ErrorKind::InvalidArgument, format!("'{path}' is no path of a URI"));
        }
        if let Some(group) = options.group.filter(|g| !g.ip().is_multicast()) {
            return wrong(ErrorKind::InvalidArgument, format!("{group} is no multicast group"));
        }
        if self.mounts.iter().any(|m| m.path == path) {
            return wrong(ErrorKind::Busy, format!("{path} is taken"));
        }
        let id = MountId(self.next_mount);
        let sender = Sender::new(codec, options.rtp.clone())?;
        self.next_mount += 1;
        self.mounts.push(Mount::new(id, path.to_owned(), sender, &options));
        Ok(id)
    }

    /// Takes a stream away; its clients' sessions end (RTCP BYE). Unknown ones are none.
    pub fn unmount(&mut self, id: MountId) {
        self.sessions.retain(|s| s.mount != id);
        self.mounts.retain(|m| m.id != id);
    }

    fn mount_of(&mut self, id: MountId) -> Result<&mut Mount> {
        let mount = self.mounts.iter_mut().find(|m| m.id == id);
        mount.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "submit", "no such mount"))
    }

    /// Gives a packet to those who watch a stream. What is not due yet is sent by [`Server::dispatch`].
    ///
    /// # Errors
    /// `InvalidArgument` for a mount that is not there and a packet of another codec.
    pub fn submit(&mut self, id: MountId, packet: &Packet) -> Result<()> {
        self.mount_of(id)?.submit(packet)?;
        self.look_after_connections();
        Ok(())
    }

    /// `true` while a client of the stream gets nothing until a key frame comes: time to force one.
    pub fn awaits_key(&self, id: MountId) -> bool {
        self.mounts.iter().any(|m| m.id == id && m.awaits_key())
    }

    /// Counts until now.
    pub fn stats(&self) -> ServerStats {
        self.stats
    }

    /// Connections there are now.
    pub fn connections(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// The sessions there are now.
    pub fn clients(&self) -> impl Iterator<Item = ClientStats> + '_ {
        self.sessions.iter().filter_map(|session| {
            let mount = self.mounts.iter().find(|m| m.id == session.mount)?;
            Some(ClientStats {
                peer: session.peer,
                path: mount.path.clone(),
                way: session.way,
                is_playing: session.is_playing,
                sent: mount.sender.stats(session.destination).unwrap_or_default(),
            })
        })
    }

    /// Handles what is pending: connections, requests, packets that are due, deadlines. Never blocks. `true` if there was
    /// something: there may be more.
    ///
    /// # Errors
    /// What `epoll_wait` reports; a client's doings are never an error here.
    pub fn dispatch(&mut self) -> Result<bool> {
        let mut events = [EpollEvent::empty(); 32];
        sys::syscall_count::tick();
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(Error::os("epoll_wait", e).on(self.settings.address)),
        };
        let mut accept = false;
        for event in &events[..count] {
            match event.data() {
                // Last: a new connection may take the place of one that the other events are about.
                LISTENER => accept = true,
                place => self.serve(place as usize, event.events()),
            }
        }
        if accept {
            self.accept();
        }
        let now = Instant::now();
        self.mounts.iter_mut().filter(|m| m.due().is_some_and(|at| at <= now)).for_each(Mount::send_due);
        self.meet_deadlines(now);
        self.look_after_connections();
        Ok(count > 0)
    }

    /// Waits at most `timeout` for something to do, and does it.
    ///
    /// # Errors
    /// As [`Server::dispatch`].
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        let timeout = self.next_timeout().map_or(timeout, |own| own.min(timeout));
        sys::wait::until(self.epoll.0.as_fd(), PollFlags::POLLIN, sys::wait::deadline(timeout))
            .map_err(|e| Error::os("poll", e).on(self.settings.address))?;
        self.dispatch().map(drop)
    }

    /// When [`Server::dispatch`] must be called even if the descriptor is not readable. `None`: no deadline runs.
    pub fn next_timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let left = |at: Instant| at.saturating_duration_since(now);
        let packets = self.mounts.iter().filter_map(|m| m.wait(now));
        let sessions = self.sessions.iter().map(|s| left(s.heard + self.settings.session_timeout));
        let connections = self.connections.iter().flatten().filter_map(|c| self.deadline(c)).map(left);
        packets.chain(sessions).chain(connections).chain(self.accepts_again.map(left)).min()
    }

    /// When a connection is closed if nothing happens: one that closes, one whose request does not end, one that is for
    /// nothing.
    fn deadline(&self, c: &Connection) -> Option<Instant> {
        let idle = || {
            let is_used = self.sessions.iter().any(|s| s.connection == c.number);
            (!is_used).then(|| c.heard + self.settings.session_timeout)
        };
        c.closes.or_else(|| c.since.map(|since| since + self.settings.request_timeout)).or_else(idle)
    }

    fn accept(&mut self) {
        for _ in 0..MOST_ACCEPTS {
            sys::syscall_count::tick();
            match self.listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(e) if e.kind() == IoKind::WouldBlock => return,
                // Its client is gone again.
                Err(e) if matches!(e.kind(), IoKind::Interrupted | IoKind::ConnectionAborted) => {}
                Err(e) => {
                    event!("rtsp: accept: {e}");
                    // Level-triggered, it would come again at once.
                    let _ = self.epoll.delete(&self.listener);
                    self.accepts_again = Some(Instant::now() + ACCEPT_AGAIN);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        // A v4 client of a v6 socket. Of a link-local one, the link stays.
        let mut peer = peer;
        peer.set_ip(peer.ip().to_canonical());
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(self.next_connection, stream, peer, self.settings.backlog_bytes);
        self.next_connection += 1;
        if self.connections() >= self.settings.max_connections {
            self.stats.refused += 1;
            let _ = connection.out.message(Response::new(Status::Unavailable, None).end().as_bytes());
            return;
        }
        let free = self.connections.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        if self.epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, place as u64)).is_ok() {
            self.stats.connections += 1;
            self.connections[place] = Some(connection);
        }
    }

    fn serve(&mut self, place: usize, events: EpollFlags) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        if events.contains(EpollFlags::EPOLLOUT) {
            // A failure is met by whoever looks after the connections.
            let _ = connection.out.flush();
        }
        if !events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return;
        }
        match connection.read() {
            Arrived::End => self.disconnect(place),
            Arrived::Nothing => {}
            Arrived::Bytes => self.read_messages(place),
        }
    }

    /// Answers every message that is complete.
    fn read_messages(&mut self, place: usize) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        let inbox = std::mem::take(&mut connection.inbox);
        let local = connection.local().map(|a| a.ip().to_canonical()).unwrap_or(connection.peer.ip());
        let asker = Client { connection: place, number: connection.number, peer: connection.peer, local };
        let mut at = 0;
        loop {
            let now = Instant::now();
            let Some(connection) = self.connections[place].as_mut().filter(|c| c.closes.is_none()) else { return };
            match parse(&inbox[at..]) {
                Parsed::Incomplete => {
                    let rest = &inbox[at..];
                    connection.inbox.extend_from_slice(rest);
                    // From its first byte on: one byte now and then is no progress.
                    let is_begun = at == 0 && connection.since.is_some();
                    if !is_begun || rest.is_empty() {
                        connection.since = (!rest.is_empty()).then_some(now);
                    }
                    return;
                }
                Parsed::Blank(used) => at += used,
                Parsed::Packet(channel, bytes, used) => {
                    connection.heard = now;
                    self.hear(asker.number, channel, bytes);
                    at += used;
                }
                Parsed::Request(request, used) => {
                    connection.heard = now;
                    self.stats.requests += 1;
                    self.respond(&asker, &request);
                    at += used;
                }
                Parsed::Bad(status) => {
                    self.stats.malformed += 1;
                    self.dismiss(place, status);
                    return;
                }
            }
        }
    }

    fn respond(&mut self, asker: &Client, request: &Request<'_>) {
        let Some(connection) = self.connections[asker.connection].as_mut() else { return };
        let cseq = request.header("CSeq");
        let refused = |status| Response::new(status, cseq);
        let given = request.header("Authorization");
        let judgement = self.settings.users.judge(given, request.method, request.uri, &connection.nonce);
        let text = if cseq.is_none() {
            refused(Status::BadRequest).end()
        } else if let Some(needed) = request.header("Require") {
            refused(Status::OptionNotSupported).header("Unsupported", needed).end()
        } else if request.method != "OPTIONS" && judgement != AuthResult::Admitted {
            self.stats.unauthorized += 1;
            connection.refusals += u32::from(judgement == AuthResult::Refused && given.is_some());
            let challenges = self.settings.users.challenges(&connection.nonce, judgement == AuthResult::Stale);
            let ask = |response: Response, value: &String| response.header("WWW-Authenticate", value);
            challenges.iter().fold(refused(Status::Unauthorized), ask).end()
        } else {
            // Without a password, anybody could begin to guess anew.
            connection.refusals *= u32::from(request.method == "OPTIONS");
            self.answer(asker, request)
        };
        if let Some(connection) = self.connections[asker.connection].as_mut() {
            match connection.out.message(text.as_bytes()) {
                // A client that does not read its answers.
                Err(_) => self.disconnect(asker.connection),
                Ok(()) if connection.refusals >= MOST_REFUSALS => connection.close(),
                Ok(()) => {}
            }
        }
    }

    /// A receiver's report, on the channel behind that of its packets.
    fn hear(&mut self, connection: u64, channel: u8, bytes: &[u8]) {
        let is_its = |s: &&mut Session| {
            s.connection == connection && s.way == Transport::Tcp && s.channel.checked_add(1) == Some(channel)
        };
        let Some(session) = self.sessions.iter_mut().find(is_its) else { return };
        session.heard = Instant::now();
        if let Some(mount) = self.mounts.iter_mut().find(|m| m.id == session.mount) {
            mount.sender.hear(session.destination, bytes);
        }
    }

    pub(super) fn set_playing(&mut self, at: usize, is_playing: bool) {
        let session = &mut self.sessions[at];
        if session.is_playing == is_playing {
            return;
        }
        session.is_playing = is_playing;
        let (id, way, destination) = (session.mount, session.way, session.destination);
        let Some(mount) = self.mounts.iter_mut().find(|m| m.id == id) else { return };
        match (way, is_playing) {
            (Transport::Multicast, _) => {
                if is_playing {
                    mount.want_key();
                }
                self.update_group(id);
            }
            (_, true) => mount.sender.resume(destination),
            (_, false) => mount.sender.pause(destination),
        }
    }

    fn update_group(&mut self, id: MountId) {
        let members = || self.sessions.iter().filter(|s| s.mount == id && s.way == Transport::Multicast);
        let (count, playing) = (members().count(), members().filter(|s| s.is_playing).count());
        if let Some(mount) = self.mounts.iter_mut().find(|m| m.id == id) {
            mount.update_group(count, playing);
        }
    }

    pub(super) fn end_session(&mut self, id: &str) {
        let Some(at) = self.sessions.iter().position(|s| s.id == id) else { return };
        let session = self.sessions.remove(at);
        match session.way {
            Transport::Multicast => self.update_group(session.mount),
            _ => {
                if let Some(mount) = self.mounts.iter_mut().find(|m| m.id == session.mount) {
                    mount.sender.remove(session.destination);
                }
            }
        }
    }

    /// Tells a client what was wrong, and reads it no more.
    fn dismiss(&mut self, place: usize, status: Status) {
        if let Some(connection) = self.connections[place].as_mut() {
            let _ = connection.out.message(Response::new(status, None).end().as_bytes());
            connection.close();
        }
    }

    /// A connection is gone, and with it what was sent in it. Other sessions live until they are not heard of: a client may
    /// come back (RFC 2326, 1.1).
    fn disconnect(&mut self, place: usize) {
        let Some(connection) = self.connections[place].take() else { return };
        let _ = self.epoll.delete(&connection);
        let of_it = |s: &&Session| s.connection == connection.number && s.way == Transport::Tcp;
        let ended: Vec<String> = self.sessions.iter().filter(of_it).map(|s| s.id.clone()).collect();
        ended.iter().for_each(|id| self.end_session(id));
    }

    fn meet_deadlines(&mut self, now: Instant) {
        if self.accepts_again.is_some_and(|at| at <= now) {
            self.accepts_again = None;
            if self.epoll.add(&self.listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).is_err() {
                self.accepts_again = Some(now + ACCEPT_AGAIN);
            }
        }
        let timeout = self.settings.session_timeout;
        let mut expired = Vec::new();
        for session in self.sessions.iter_mut().filter(|s| s.heard + timeout <= now) {
            // Its reports are signs of life, too.
            let mount = self.mounts.iter_mut().find(|m| m.id == session.mount);
            let heard = mount.and_then(|m| m.sender.heard(session.destination));
            session.heard = session.heard.max(heard.unwrap_or(session.heard));
            if session.heard + timeout <= now {
                expired.push(session.id.clone());
            }
        }
        for id in expired {
            event!("rtsp: session {id} was not heard of any more");
            self.stats.expired += 1;
            self.end_session(&id);
        }
        for place in 0..self.connections.len() {
            let Some(connection) = &self.connections[place] else { continue };
            if self.deadline(connection).is_some_and(|at| at <= now) {
                if connection.closes.is_none() && connection.since.is_some() {
                    self.stats.malformed += 1;
                    self.dismiss(place, Status::RequestTimeout);
                } else {
                    self.disconnect(place);
                }
            }
        }
    }

    /// Polls connections for writing while something waits there; drops those that cannot be written.
    fn look_after_connections(&mut self) {
        for place in 0..self.connections.len() {
            let Some(connection) = self.connections[place].as_mut() else { continue };
            let wants = connection.out.waiting() > 0;
            if connection.out.has_failed() {
                self.disconnect(place);
            } else if wants != connection.is_armed {
                let mut flags = EpollFlags::EPOLLIN;
                flags.set(EpollFlags::EPOLLOUT, wants);
                let mut event = EpollEvent::new(flags, place as u64);
                sys::syscall_count::tick();
                connection.is_armed =
                    self.epoll.modify(&*connection, &mut event).map_or(connection.is_armed, |()| wants);
            }
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.mounts.iter().map(|m| &m.path).collect();
        write!(f, "Server({}, mounts {paths:?}, {} sessions)", self.settings.address, self.sessions.len())
    }
}
