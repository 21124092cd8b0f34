//! The server: streams, sessions, events, deadlines.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::connection::Connection;
use super::message::{plain, Response, Status};
use super::mount::{Mount, MountId, MountOptions};
use super::session::{Session, Transport};
use super::settings::Settings;
use crate::bitstream::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Packet;
use crate::log::event;
use crate::sink::rtp::{DestinationStats, Stream};
#[cfg(feature = "tls")]
use crate::sink::tls::Identity;
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
/// The pause after `accept` failed because no descriptor was left.
pub(super) const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

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
    /// RTSP requests that could be parsed.
    pub requests: u64,
    /// Connections that were closed for a malformed or an incomplete request, or for an HTTP request that opens no
    /// tunnel.
    pub malformed: u64,
    /// Requests without a valid name and password.
    pub unauthorized: u64,
    /// TLS handshakes that failed, were given up by the client, or took longer than the request timeout.
    pub failed_handshakes: u64,
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
/// A client may connect before the first packet. Its DESCRIBE asks for a key frame. It is answered when the parameter
/// sets are known, or two seconds after the first such request. Submit a packet with parameter sets before, if you have
/// one.
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
    pub(super) listener: TcpListener,
    pub(super) readiness: Readiness,
    alarm: Alarm,
    pub(super) mounts: Vec<Mount>,
    pub(super) connections: Vec<Option<Connection>>,
    pub(super) sessions: Vec<Session>,
    next_mount: u64,
    pub(super) next_connection: u64,
    /// When the listening socket is watched again.
    pub(super) accepts_again: Option<Instant>,
    /// When all handshakes that clients have caused will be paid for.
    pub(super) handshakes_paid: Option<Instant>,
    events: EventQueue<ServerEvent>,
    pub(super) stats: ServerStats,
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
            handshakes_paid: None,
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
    /// that is taken. `Unsupported` if the codec does not have an RTP payload format, and for a group with TLS.
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
        if self.settings.identity.is_some() && options.group.is_some() {
            return wrong(ErrorKind::Unsupported, "multicast would not be encrypted: mount without a group".into());
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

    /// Gives clients that connect from now on another certificate, for example before the present one expires.
    ///
    /// # Errors
    /// `State` for a server without TLS.
    #[cfg(feature = "tls")]
    pub fn set_identity(&mut self, identity: Identity) -> Result<()> {
        if self.settings.identity.is_none() {
            let e = Error::new(ErrorKind::State, "tls", "the server was bound without an identity, and has no TLS");
            return Err(e.on(self.settings.address));
        }
        self.settings.identity = Some(identity);
        Ok(())
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
                if connection.shakes_since.is_some() {
                    // It could not read a response.
                    self.stats.failed_handshakes += 1;
                    self.disconnect(place);
                } else if connection.closes.is_none() && connection.since.is_some() {
                    let refusal = Response::refusal(Status::RequestTimeout, &connection.inbox);
                    self.refuse(place, refusal);
                } else {
                    self.disconnect(place);
                }
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
