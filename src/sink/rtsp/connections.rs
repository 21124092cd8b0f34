//! The connections of a server: accepts, reads, answers and removes them.

use std::io::{ErrorKind as IoKind, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use super::auth::AuthResult;
use super::connection::{Arrived, Client, Connection, Role, READ};
use super::message::{parse, Parsed, Request, Response, Status};
use super::server::{Server, ACCEPT_AGAIN};
use super::session::{Session, Transport};
use crate::log::event;
use crate::sink::tcp::TcpLink;
use crate::sys;

/// How many wrong passwords close a connection.
const MOST_REFUSALS: u32 = 5;
/// About how many bytes the kernel takes that it cannot send yet.
const MOST_UNSENT: i32 = 16 << 10;
/// The most bytes of requests that wait after one that waits for parameter sets.
const MOST_INBOX: usize = 1 << 14;
/// The most connections that one call accepts.
const MOST_ACCEPTS: usize = 32;
/// How many TLS handshakes clients can cause at once, and how often one more.
const MOST_HANDSHAKES: u32 = 32;
const HANDSHAKE_EVERY: Duration = Duration::from_millis(50);

impl Server {
    /// Returns when a connection is closed if nothing happens: because it is closing, has sent an incomplete request,
    /// has not finished its TLS handshake, or is not used. If its request waits for parameter sets, returns when that
    /// ends.
    pub(super) fn deadline(&self, c: &Connection) -> Option<Instant> {
        if let Role::Post { .. } = c.role {
            // It is closed with the other half of its tunnel.
            return None;
        }
        let idle = || {
            let is_used = self.sessions.iter().any(|s| s.connection == c.number);
            (!is_used).then(|| c.heard + self.settings.session_timeout)
        };
        let begun = c.shakes_since.or(c.since);
        c.closes.or(c.waits).or_else(|| begun.map(|since| since + self.settings.request_timeout)).or_else(idle)
    }

    pub(super) fn accept(&mut self) {
        for _ in 0..MOST_ACCEPTS {
            if let Some(at) = self.handshakes_again() {
                return self.pause_accepting(at);
            }
            sys::syscall_count::tick();
            match self.listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(e) if e.kind() == IoKind::WouldBlock => return,
                // The client has already gone.
                Err(e) if matches!(e.kind(), IoKind::Interrupted | IoKind::ConnectionAborted) => {}
                Err(e) => {
                    event!("rtsp: accept: {e}");
                    return self.pause_accepting(Instant::now() + ACCEPT_AGAIN);
                }
            }
        }
    }

    /// Does not look at the listening socket, whose event is level-triggered and would come again at once.
    fn pause_accepting(&mut self, until: Instant) {
        self.readiness.remove(&self.listener);
        self.accepts_again = Some(until);
    }

    /// Returns when the next client may begin a TLS handshake, if not now. Each costs a signature.
    fn handshakes_again(&self) -> Option<Instant> {
        self.settings.identity.as_ref()?;
        let at = self.handshakes_paid?.checked_sub(HANDSHAKE_EVERY * (MOST_HANDSHAKES - 1))?;
        (at > Instant::now()).then_some(at)
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        // An IPv4 client of an IPv6 socket gets its IPv4 address. A link-local address keeps its link.
        let mut peer = peer;
        peer.set_ip(peer.ip().to_canonical());
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let _ = stream.set_nodelay(true);
        // Frames wait here, where old ones are dropped, and not in the kernel.
        let _ = sys::udp::set_option(stream.as_fd(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, MOST_UNSENT);
        let identity = self.settings.identity.as_ref();
        if self.connections() >= self.settings.max_connections {
            self.stats.refused += 1;
            // With TLS, the client could not read it.
            if identity.is_none() {
                let response = Response::new(Status::Unavailable, None).end();
                let _ = sys::tcp::send(&stream, &[IoSlice::new(response.as_bytes())]);
            }
            return;
        }
        if identity.is_some() {
            let now = Instant::now();
            self.handshakes_paid = Some(self.handshakes_paid.map_or(now, |at| at.max(now)) + HANDSHAKE_EVERY);
        }
        let Some(link) = TcpLink::new(stream, identity) else { return };
        let connection = Connection::new(self.next_connection, link, peer, self.settings.backlog_bytes);
        self.next_connection += 1;
        let free = self.connections.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        if self.readiness.add(&connection, EpollFlags::EPOLLIN, place as u64).is_ok() {
            self.stats.connections += 1;
            self.connections[place] = Some(connection);
        }
    }

    pub(super) fn serve(&mut self, place: usize, events: EpollFlags) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        if events.contains(EpollFlags::EPOLLOUT) {
            // `look_after_connections` handles a failure.
            let _ = connection.out.flush();
        }
        if !events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return;
        }
        let mut bytes = [0; READ];
        while let Some(connection) = self.connections[place].as_mut() {
            match connection.read(&mut bytes) {
                Arrived::End => {
                    self.stats.failed_handshakes += u64::from(connection.shakes_since.is_some());
                    return self.disconnect(place);
                }
                Arrived::Nothing => {}
                Arrived::Bytes(len) => self.take(place, &bytes[..len]),
            }
            // The kernel does not announce the rest of a TLS record.
            if !self.connections[place].as_ref().is_some_and(Connection::has_decrypted) {
                return;
            }
        }
    }

    /// Takes bytes that came in a connection.
    pub(super) fn take(&mut self, place: usize, bytes: &[u8]) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        match &mut connection.role {
            Role::New | Role::Rtsp => self.collect(place, bytes),
            Role::Get { .. } => self.take_packets(place, bytes),
            Role::Post { get, decoder } => {
                let (get, decoded) = (*get, decoder.decode(bytes));
                match decoded {
                    Some(bytes) => self.collect(get, &bytes),
                    None => self.refuse(get, Response::new(Status::BadRequest, None)),
                }
            }
        }
    }

    /// Takes the next bytes of the requests that are answered in a connection.
    fn collect(&mut self, place: usize, bytes: &[u8]) {
        let Some(connection) = self.connections[place].as_mut().filter(|c| c.closes.is_none()) else { return };
        connection.inbox.extend_from_slice(bytes);
        if connection.waits.is_none() {
            self.read_messages(place);
        } else if connection.inbox.len() > MOST_INBOX {
            // The bytes of requests that wait are limited.
            self.refuse(place, Response::new(Status::EntityTooLarge, None));
        }
    }

    /// Answers the request of a connection that has waited for parameter sets, and those after it.
    pub(super) fn read_waiting(&mut self, place: usize) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        if connection.waits.take().is_some() {
            self.read_messages(place);
        }
    }

    /// Answers every message that is complete.
    fn read_messages(&mut self, place: usize) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        let inbox = std::mem::take(&mut connection.inbox);
        let local = connection.local().map(|a| a.ip().to_canonical()).unwrap_or(connection.peer.ip());
        let client = Client { connection: place, number: connection.number, peer: connection.peer, local };
        let mut at = 0;
        loop {
            let now = Instant::now();
            let Some(connection) = self.connections[place].as_mut().filter(|c| c.closes.is_none()) else { return };
            match parse(&inbox[at..]) {
                Parsed::Incomplete => {
                    let rest = &inbox[at..];
                    connection.inbox.extend_from_slice(rest);
                    // The time counts from the first byte: further bytes do not extend the deadline.
                    let is_begun = at == 0 && connection.since.is_some();
                    if !is_begun || rest.is_empty() {
                        connection.since = (!rest.is_empty()).then_some(now);
                    }
                    return;
                }
                Parsed::Blank(used) => at += used,
                Parsed::Packet(channel, bytes, used) => {
                    connection.heard = now;
                    self.hear(client.number, channel, bytes);
                    at += used;
                }
                Parsed::Request(request, used) if request.is_http => {
                    connection.since = None;
                    return self.answer_http(place, &request, &inbox[at + used..]);
                }
                Parsed::Request(request, used) => {
                    if let Role::New = connection.role {
                        connection.role = Role::Rtsp;
                    }
                    connection.heard = now;
                    self.keep_sessions(client.number, now);
                    if let Some(until) = self.respond(&client, &request) {
                        if let Some(connection) = self.connections[place].as_mut() {
                            connection.waits = Some(until);
                            connection.since = None;
                            connection.inbox.extend_from_slice(&inbox[at..]);
                        }
                        return;
                    }
                    self.stats.requests += 1;
                    at += used;
                }
                Parsed::Bad(status) => return self.refuse(place, Response::refusal(status, &inbox[at..])),
            }
        }
    }

    /// Keeps the sessions of a connection alive: simple clients send requests that do not name a session.
    fn keep_sessions(&mut self, connection: u64, now: Instant) {
        self.sessions.iter_mut().filter(|s| s.connection == connection).for_each(|s| s.heard = now);
    }

    /// Responds to a request, or returns until when it waits for parameter sets.
    fn respond(&mut self, client: &Client, request: &Request<'_>) -> Option<Instant> {
        let connection = self.connections[client.connection].as_mut()?;
        let cseq = request.header("CSeq");
        let refused = |status| Response::new(status, cseq);
        let given = request.header("Authorization");
        let result = self.settings.users.check(given, request.method, request.uri, &connection.nonce);
        let text = if cseq.is_none() {
            refused(Status::BadRequest).end()
        } else if let Some(needed) = request.header("Require") {
            refused(Status::OptionNotSupported).header("Unsupported", needed).end()
        } else if request.method != "OPTIONS" && result != AuthResult::Admitted {
            self.stats.unauthorized += 1;
            connection.refusals += u32::from(result == AuthResult::Refused && given.is_some());
            let challenges = self.settings.users.challenges(&connection.nonce, result == AuthResult::Stale);
            let ask = |response: Response, value: &String| response.header("WWW-Authenticate", value);
            challenges.iter().fold(refused(Status::Unauthorized), ask).end()
        } else {
            // A request without a password must not reset the count.
            connection.refusals *= u32::from(request.method == "OPTIONS");
            if let Some(until) = self.waits_until(request) {
                return Some(until);
            }
            self.answer(client, request)
        };
        if let Some(connection) = self.connections[client.connection].as_mut() {
            match connection.out.message(text.as_bytes()) {
                // The client does not read its responses.
                Err(_) => self.disconnect(client.connection),
                Ok(()) if connection.refusals >= MOST_REFUSALS => connection.close(),
                Ok(()) => {}
            }
        }
        None
    }

    /// Takes a packet of a client. A receiver's report comes on the channel after that of its packets.
    pub(super) fn hear(&mut self, connection: u64, channel: u8, bytes: &[u8]) {
        self.keep_sessions(connection, Instant::now());
        let is_its = |s: &&mut Session| {
            s.connection == connection && s.transport == Transport::Tcp && s.channel.checked_add(1) == Some(channel)
        };
        let Some(session) = self.sessions.iter_mut().find(is_its) else { return };
        if let Some(mount) = self.mounts.iter_mut().find(|m| m.id == session.mount) {
            mount.stream.hear(session.destination, bytes);
        }
    }

    /// Sends the response to a malformed request, and closes the connection.
    pub(super) fn refuse(&mut self, place: usize, response: Response) {
        if let Some(connection) = self.connections[place].as_mut().filter(|c| c.closes.is_none()) {
            self.stats.malformed += 1;
            let _ = connection.out.message(response.end().as_bytes());
            connection.close();
        }
    }

    /// Removes a connection, and the sessions whose packets it carried. Other sessions live until their deadline: the
    /// client may connect again (RFC 2326, 1.1).
    pub(super) fn disconnect(&mut self, place: usize) {
        let Some(connection) = self.connections[place].take() else { return };
        self.readiness.remove(&connection);
        match connection.role {
            Role::Get { post: Some(post), .. } => self.disconnect(post),
            Role::Post { get, .. } => self.lose_post(get),
            _ => {}
        }
        let of_it = |s: &&Session| s.connection == connection.number && s.transport == Transport::Tcp;
        let ended: Vec<String> = self.sessions.iter().filter(of_it).map(|s| s.id.clone()).collect();
        ended.iter().for_each(|id| self.end_session(id));
    }

    /// Watches connections for writing while bytes wait. Removes connections that cannot be written.
    pub(super) fn look_after_connections(&mut self) {
        for place in 0..self.connections.len() {
            let Some(connection) = self.connections[place].as_mut() else { continue };
            let wants = connection.out.wants_write();
            if connection.out.has_failed() {
                self.disconnect(place);
            } else if wants != connection.is_armed {
                let mut flags = EpollFlags::EPOLLIN;
                flags.set(EpollFlags::EPOLLOUT, wants);
                let changed = self.readiness.modify(&*connection, flags, place as u64);
                connection.is_armed = changed.map_or(connection.is_armed, |()| wants);
            }
        }
    }
}
