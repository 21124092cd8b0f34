//! The server: connections, sessions, deadlines.

use std::fmt;
use std::io::ErrorKind as IoKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::auth::AuthResult;
use super::connection::{Arrived, Client, Connection};
use super::message::{parse, plain, Parsed, Request, Response, Status};
use super::mount::{Mount, MountId, MountOptions};
use super::session::{Session, Transport};
use super::settings::Settings;
use crate::bitstream::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Packet;
use crate::log::event;
use crate::sink::rtp::{DestinationStats, Stream};
use crate::station::{sealed, Received, Station};
use crate::sys;
use crate::sys::event_queue::EventQueue;
use crate::sys::readiness::{Alarm, Readiness};

/// Epoll data of the listening socket, the alarm and the queue of events. A connection has its index.
const LISTENER: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;
const EVENTS: u64 = u64::MAX - 2;
/// The most events that wait. The oldest are dropped.
const MOST_EVENTS: usize = 256;
/// How many wrong passwords close a connection.
const MOST_REFUSALS: u32 = 5;
/// The pause after `accept` failed because no descriptor was left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);
/// About how many bytes the kernel takes that it cannot send yet.
const MOST_UNSENT: i32 = 16 << 10;
/// The most bytes of requests that wait after one that waits for parameter sets.
const MOST_INBOX: usize = 1 << 14;
/// The most connections that one call accepts.
const MOST_ACCEPTS: usize = 32;

/// An event of a [`Server`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A client of this stream waits for a key frame: force one. The server does not repeat this event before a key
    /// frame was submitted. The clients of a stream can cause eight key frames at once, and then one each second.
    KeyFrameWanted(MountId),
    /// A client plays a stream for the first time.
    Joined(MountId, SocketAddr),
    /// The session of a client that had joined has ended.
    Left(MountId, SocketAddr),
}

/// Counts of a server since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were refused because there were too many.
    pub refused: u64,
    /// Requests that could be parsed.
    pub requests: u64,
    /// Connections that were closed for a malformed or an incomplete request.
    pub malformed: u64,
    /// Requests without a valid name and password.
    pub unauthorized: u64,
    /// Sessions that ended because the client sent nothing within the session timeout.
    pub expired: u64,
}

/// One session of a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientStats {
    /// The address of the client.
    pub peer: SocketAddr,
    /// The path of the stream.
    pub path: String,
    /// The transport by which the client gets its RTP packets.
    pub transport: Transport,
    /// `true` after PLAY and until PAUSE.
    pub is_playing: bool,
    /// Counts of the packets that were sent to the client. For multicast, counts of all packets to its group.
    pub sent: DestinationStats,
}

/// Serves streams to RTSP clients. Never waits for a client: a slow, silent or malicious client loses only its own
/// connection.
///
/// A client may connect before the first packet. Its DESCRIBE is answered when the parameter sets are known, or two
/// seconds after the first such request. Submit a packet with parameter sets before, if you have one.
///
/// A server is a [`Station`]. In an event loop, register [`AsFd`] level-triggered for POLLIN. When the descriptor is
/// readable, call [`Station::try_recv`] until it returns [`Received::Nothing`]. `try_recv` also accepts connections,
/// answers requests, and sends RTP packets that are due. At most 256 events wait; if more come, the oldest are dropped.
///
/// ```no_run
/// use std::net::{Ipv4Addr, SocketAddr};
/// use std::time::Duration;
/// use framelease::bitstream::Codec;
/// use framelease::sink::rtsp::{MountOptions, Server, ServerEvent};
/// use framelease::{Received, Station};
/// # fn packet() -> framelease::frame::Packet { unimplemented!() }
///
/// let mut server = Server::builder(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8554))).bind()?;
/// let live = server.mount("/live", Codec::H264, MountOptions::default())?;
/// loop {
///     server.submit(live, &packet())?;
///     // In an event loop: until the next packet comes, whenever the descriptor is readable.
///     while let Received::Item(event) = server.recv(Duration::from_millis(10))? {
///         match event {
///             ServerEvent::KeyFrameWanted(_) => { /* encoder.force_key() */ }
///             ServerEvent::Joined(_, peer) => println!("{peer} watches"),
///             _ => {}
///         }
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Server {
    pub(super) settings: Settings,
    listener: TcpListener,
    readiness: Readiness,
    alarm: Alarm,
    pub(super) mounts: Vec<Mount>,
    pub(super) connections: Vec<Option<Connection>>,
    pub(super) sessions: Vec<Session>,
    next_mount: u64,
    next_connection: u64,
    /// When the listening socket is watched again.
    accepts_again: Option<Instant>,
    events: EventQueue<ServerEvent>,
    stats: ServerStats,
}

impl Server {
    pub(super) fn new(settings: Settings, listener: TcpListener) -> Result<Self> {
        let os = |op| move |e: Errno| Error::os(op, e).on(settings.address);
        let readiness = Readiness::new().map_err(os("epoll_create1"))?;
        let alarm = Alarm::new().map_err(os("timerfd_create"))?;
        let events = EventQueue::new(MOST_EVENTS).map_err(os("eventfd"))?;
        readiness.add(&alarm, EpollFlags::EPOLLIN, ALARM).map_err(os("epoll_ctl"))?;
        readiness.add(&events, EpollFlags::EPOLLIN, EVENTS).map_err(os("epoll_ctl"))?;
        readiness.add(&listener, EpollFlags::EPOLLIN, LISTENER).map_err(os("epoll_ctl"))?;
        Ok(Self {
            settings,
            listener,
            readiness,
            alarm,
            mounts: Vec::new(),
            connections: Vec::new(),
            sessions: Vec::new(),
            next_mount: 0,
            next_connection: 0,
            accepts_again: None,
            events,
            stats: ServerStats::default(),
        })
    }

    /// Returns the address at which the server listens.
    ///
    /// # Errors
    /// Errors of `getsockname`.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::io("getsockname", &e).on(self.settings.address))
    }

    /// Offers a stream at `rtsp://HOST:PORT` and `path`, which begins with a slash: `/live`.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that cannot be in a URI, and for a group that is not multicast. `Busy` for a path
    /// that is taken. `Unsupported` if the codec does not have an RTP payload format.
    pub fn mount(&mut self, path: &str, codec: Codec, options: MountOptions) -> Result<MountId> {
        let path = path.trim_end_matches('/');
        let is_path = (path.is_empty() || path.starts_with('/'))
            && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#<>\"".contains(&b));
        let wrong = |kind, text: String| Err(Error::new(kind, "mount", text));
        if !is_path {
            return wrong(ErrorKind::InvalidArgument, format!("'{path}' is not the path of a URI"));
        }
        if let Some(group) = options.group.filter(|g| !g.ip().is_multicast()) {
            return wrong(ErrorKind::InvalidArgument, format!("{group} is not a multicast group"));
        }
        if self.mounts.iter().any(|m| plain(&m.path) == plain(path)) {
            return wrong(ErrorKind::Busy, format!("{path} is taken"));
        }
        let id = MountId(self.next_mount);
        let stream = Stream::new(codec, options.rtp.clone())?;
        self.next_mount += 1;
        self.mounts.push(Mount::new(id, path.to_owned(), stream, &options));
        Ok(id)
    }

    /// Removes a stream. Ends the sessions of its clients with RTCP BYE. Does nothing for an unknown id.
    pub fn unmount(&mut self, id: MountId) {
        let (ended, kept) = std::mem::take(&mut self.sessions).into_iter().partition(|s| s.mount == id);
        self.sessions = kept;
        let ended: Vec<Session> = ended;
        ended.iter().for_each(|session| self.left(session));
        self.mounts.retain(|m| m.id != id);
        self.schedule(Instant::now());
    }

    fn mount_of(&mut self, id: MountId) -> Result<&mut Mount> {
        let mount = self.mounts.iter_mut().find(|m| m.id == id);
        mount.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "submit", "the stream is not mounted"))
    }

    /// Sends a packet to the clients of a stream. This call sends the first burst of the packet, and later calls of the
    /// server send the rest. The server is never full.
    ///
    /// The server keeps a clone until each client has got the whole packet or has lost it. A stream may change its
    /// size: the next key frame carries the new parameter sets.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown id, and for a packet of another codec. `Unsupported` for a JPEG picture that
    /// RTP cannot carry: see [`rtp`](crate::sink::rtp).
    pub fn submit(&mut self, id: MountId, packet: &Packet) -> Result<()> {
        let mount = self.mount_of(id)?;
        let lacked_parameters = mount.stream.lacks_parameters();
        mount.submit(packet)?;
        if lacked_parameters && !mount.stream.lacks_parameters() {
            (0..self.connections.len()).for_each(|place| self.read_waiting(place));
        }
        self.look_after_connections();
        self.schedule(Instant::now());
        Ok(())
    }

    /// Returns `true` while a client of the stream waits for a key frame: force one.
    pub fn awaits_key(&self, id: MountId) -> bool {
        self.mounts.iter().any(|m| m.id == id && m.awaits_key())
    }

    /// Returns counts since the server was bound.
    pub fn stats(&self) -> ServerStats {
        self.stats
    }

    /// Returns the number of connections.
    #[doc(hidden)]
    pub fn connections(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// Returns the sessions of all clients.
    pub fn clients(&self) -> impl Iterator<Item = ClientStats> + '_ {
        self.sessions.iter().filter_map(|session| {
            let mount = self.mounts.iter().find(|m| m.id == session.mount)?;
            Some(ClientStats {
                peer: session.peer,
                path: mount.path.clone(),
                transport: session.transport,
                is_playing: session.is_playing,
                sent: mount.stream.stats(session.destination).unwrap_or_default(),
            })
        })
    }

    /// Handles at most 32 events of sockets, and the work that is due.
    fn work(&mut self, now: Instant) -> Result<()> {
        let mut events = [EpollEvent::empty(); 32];
        let pending = self.readiness.wait(&mut events, Instant::now());
        let pending = pending.map_err(|e| Error::os("epoll_wait", e).on(self.settings.address))?;
        let mut accept = false;
        for event in pending {
            match event.data() {
                // Accept last: a new connection may get an index that the other events of this batch refer to.
                LISTENER => accept = true,
                ALARM | EVENTS => {}
                place => self.serve(place as usize, event.events()),
            }
        }
        if accept {
            self.accept();
        }
        self.mounts.iter_mut().filter(|m| m.due().is_some_and(|at| at <= now)).for_each(Mount::send_due);
        self.mounts.iter_mut().for_each(|m| m.is_key_reported &= m.awaits_key());
        self.meet_deadlines(now);
        self.look_after_connections();
        Ok(())
    }

    /// Makes the descriptor readable for new events, and sets the alarm for the next deadline.
    fn schedule(&mut self, now: Instant) {
        if self.mounts.iter_mut().fold(false, |is_one, m| is_one | m.newly_wants_key()) {
            self.events.found();
        } else if self.events.is_empty() && !self.wants_to_report_key() {
            // A key frame came before the event was taken.
            self.events.given(false);
        }
        let packets = self.mounts.iter().filter_map(|m| m.next(now));
        let sessions = self.sessions.iter().map(|s| s.heard + self.settings.session_timeout);
        let connections = self.connections.iter().flatten().filter_map(|c| self.deadline(c));
        let next = packets.chain(sessions).chain(connections).chain(self.accepts_again).min();
        self.alarm.next(next, now);
    }

    fn wants_to_report_key(&self) -> bool {
        self.mounts.iter().any(Mount::wants_to_report_key)
    }

    fn next_event(&mut self) -> Option<ServerEvent> {
        let Some(mount) = self.mounts.iter_mut().find(|m| m.wants_to_report_key()) else {
            return self.events.pop();
        };
        mount.is_key_reported = true;
        Some(ServerEvent::KeyFrameWanted(mount.id))
    }

    fn left(&mut self, session: &Session) {
        if session.has_joined {
            self.events.push(ServerEvent::Left(session.mount, session.peer));
        }
    }

    /// Returns when a connection is closed if nothing happens: because it is closing, has sent an incomplete request,
    /// or is not used. If its request waits for parameter sets, returns when that ends.
    fn deadline(&self, c: &Connection) -> Option<Instant> {
        let idle = || {
            let is_used = self.sessions.iter().any(|s| s.connection == c.number);
            (!is_used).then(|| c.heard + self.settings.session_timeout)
        };
        c.closes.or(c.waits).or_else(|| c.since.map(|since| since + self.settings.request_timeout)).or_else(idle)
    }

    fn accept(&mut self) {
        for _ in 0..MOST_ACCEPTS {
            sys::syscall_count::tick();
            match self.listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(e) if e.kind() == IoKind::WouldBlock => return,
                // The client has already gone.
                Err(e) if matches!(e.kind(), IoKind::Interrupted | IoKind::ConnectionAborted) => {}
                Err(e) => {
                    event!("rtsp: accept: {e}");
                    // The event is level-triggered and would come again at once.
                    self.readiness.remove(&self.listener);
                    self.accepts_again = Some(Instant::now() + ACCEPT_AGAIN);
                    return;
                }
            }
        }
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
        if self.readiness.add(&connection, EpollFlags::EPOLLIN, place as u64).is_ok() {
            self.stats.connections += 1;
            self.connections[place] = Some(connection);
        }
    }

    fn serve(&mut self, place: usize, events: EpollFlags) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        if events.contains(EpollFlags::EPOLLOUT) {
            // `look_after_connections` handles a failure.
            let _ = connection.out.flush();
        }
        if !events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return;
        }
        match connection.read() {
            Arrived::End => self.disconnect(place),
            Arrived::Nothing => {}
            // The bytes of requests that wait are limited.
            Arrived::Bytes if connection.waits.is_some() && connection.inbox.len() > MOST_INBOX => {
                self.stats.malformed += 1;
                self.dismiss(place, Status::EntityTooLarge);
            }
            Arrived::Bytes if connection.waits.is_some() => {}
            Arrived::Bytes => self.read_messages(place),
        }
    }

    /// Answers the request of a connection that has waited for parameter sets, and those after it.
    fn read_waiting(&mut self, place: usize) {
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
                    self.keep_sessions(client.number, now);
                    self.hear(client.number, channel, bytes);
                    at += used;
                }
                Parsed::Request(request, used) => {
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
                Parsed::Bad(status) => {
                    self.stats.malformed += 1;
                    self.dismiss(place, status);
                    return;
                }
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

    /// Takes a receiver's report, which comes on the channel after that of its packets.
    fn hear(&mut self, connection: u64, channel: u8, bytes: &[u8]) {
        let is_its = |s: &&mut Session| {
            s.connection == connection && s.transport == Transport::Tcp && s.channel.checked_add(1) == Some(channel)
        };
        let Some(session) = self.sessions.iter_mut().find(is_its) else { return };
        if let Some(mount) = self.mounts.iter_mut().find(|m| m.id == session.mount) {
            mount.stream.hear(session.destination, bytes);
        }
    }

    pub(super) fn set_playing(&mut self, at: usize, is_playing: bool) {
        let session = &mut self.sessions[at];
        if session.is_playing == is_playing {
            return;
        }
        session.is_playing = is_playing;
        let joins = is_playing && !session.has_joined;
        session.has_joined |= is_playing;
        let joined = ServerEvent::Joined(session.mount, session.peer);
        let (id, transport, destination) = (session.mount, session.transport, session.destination);
        let Some(mount) = self.mounts.iter_mut().find(|m| m.id == id) else { return };
        match (transport, is_playing) {
            (Transport::Multicast, _) => {
                if is_playing {
                    mount.want_key();
                }
                self.update_group(id);
            }
            (_, true) => mount.stream.resume(destination),
            (_, false) => mount.stream.pause(destination),
        }
        if joins {
            self.events.push(joined);
        }
    }

    fn update_group(&mut self, id: MountId) {
        let members = || self.sessions.iter().filter(|s| s.mount == id && s.transport == Transport::Multicast);
        let (count, playing) = (members().count(), members().filter(|s| s.is_playing).count());
        if let Some(mount) = self.mounts.iter_mut().find(|m| m.id == id) {
            mount.update_group(count, playing);
        }
    }

    pub(super) fn end_session(&mut self, id: &str) {
        let Some(at) = self.sessions.iter().position(|s| s.id == id) else { return };
        let session = self.sessions.remove(at);
        self.left(&session);
        match session.transport {
            Transport::Multicast => self.update_group(session.mount),
            _ => {
                if let Some(mount) = self.mounts.iter_mut().find(|m| m.id == session.mount) {
                    mount.stream.remove(session.destination);
                }
            }
        }
    }

    /// Sends an error to a client, and closes its connection.
    fn dismiss(&mut self, place: usize, status: Status) {
        if let Some(connection) = self.connections[place].as_mut() {
            let _ = connection.out.message(Response::new(status, None).end().as_bytes());
            connection.close();
        }
    }

    /// Removes a connection, and the sessions whose packets it carried. Other sessions live until their deadline: the
    /// client may connect again (RFC 2326, 1.1).
    fn disconnect(&mut self, place: usize) {
        let Some(connection) = self.connections[place].take() else { return };
        self.readiness.remove(&connection);
        let of_it = |s: &&Session| s.connection == connection.number && s.transport == Transport::Tcp;
        let ended: Vec<String> = self.sessions.iter().filter(of_it).map(|s| s.id.clone()).collect();
        ended.iter().for_each(|id| self.end_session(id));
    }

    fn meet_deadlines(&mut self, now: Instant) {
        if self.accepts_again.is_some_and(|at| at <= now) {
            self.accepts_again = None;
            if self.readiness.add(&self.listener, EpollFlags::EPOLLIN, LISTENER).is_err() {
                self.accepts_again = Some(now + ACCEPT_AGAIN);
            }
        }
        let timeout = self.settings.session_timeout;
        let mut expired = Vec::new();
        for session in self.sessions.iter_mut().filter(|s| s.heard + timeout <= now) {
            // A client's RTCP reports keep its session alive, too.
            let mount = self.mounts.iter_mut().find(|m| m.id == session.mount);
            let heard = mount.and_then(|m| m.stream.heard(session.destination));
            session.heard = session.heard.max(heard.unwrap_or(session.heard));
            if session.heard + timeout <= now {
                expired.push(session.id.clone());
            }
        }
        for id in expired {
            event!("rtsp: session {id} has expired");
            self.stats.expired += 1;
            self.end_session(&id);
        }
        for place in 0..self.connections.len() {
            if self.connections[place].as_ref().and_then(|c| c.waits).is_some_and(|until| until <= now) {
                self.read_waiting(place);
            }
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

    /// Watches connections for writing while bytes wait. Removes connections that cannot be written.
    fn look_after_connections(&mut self) {
        for place in 0..self.connections.len() {
            let Some(connection) = self.connections[place].as_mut() else { continue };
            let wants = connection.out.waiting() > 0;
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

impl sealed::Sealed for Server {}

impl Station for Server {
    type Event = ServerEvent;

    fn dispatch(&mut self) -> Result<()> {
        let now = Instant::now();
        let worked = self.work(now);
        self.schedule(now);
        self.events.looked();
        worked
    }

    fn try_recv(&mut self) -> Result<Received<ServerEvent>> {
        let now = Instant::now();
        let event = self.work(now).map(|()| self.next_event());
        self.schedule(now);
        self.events.given(self.wants_to_report_key());
        event.map(Received::from)
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.connections.iter().flatten().for_each(|connection| self.readiness.remove(connection));
        self.readiness.remove(&self.listener);
        self.readiness.remove(&self.alarm);
        self.readiness.remove(&self.events);
        // A forked child may still have the socket open, which would keep the port in use.
        sys::socket::hang_up(self.listener.as_fd());
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.mounts.iter().map(|m| &m.path).collect();
        write!(f, "Server({}, mounts {paths:?}, {} sessions)", self.settings.address, self.sessions.len())
    }
}
