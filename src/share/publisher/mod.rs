//! The publisher: lends frames to other processes by descriptor, once per buffer, and by slot number per frame.

mod builder;
mod connection;
mod ledger;
mod listener;
mod native;
mod outcome;
mod protocol;
mod serve;
mod shared_pool;
#[cfg(feature = "unixfd")]
mod unixfd;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use self::connection::{Connection, Ending, Stage};
use self::ledger::{Leases, Ledger};
use self::listener::Listener;
use self::shared_pool::SharedPool;
use super::reason::Reason;
use super::wire::MAX_SLOTS;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{BufferSet, Frame};
use crate::log::event;
use crate::sys;
use crate::sys::clock::monotonic_ns;
use crate::sys::socket::{Carries, MAX_FDS};

pub use self::builder::PublisherBuilder;
pub use self::connection::PeerInfo;
#[cfg(feature = "unixfd")]
pub use self::unixfd::UnixfdTerms;

/// What an epoll event is about: a listener, the pidfd of a connection, or its socket.
const LISTENER: u64 = 1 << 33;
const PIDFD: u64 = 1 << 32;

/// What [`Publisher::try_publish`] did with a frame.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub enum Offer {
    /// Every subscriber that wants it has it, or its policy decided.
    Taken,
    /// A subscriber with [`Policy::Block`](super::Policy::Block) has no room: here is the frame, try again when the
    /// publisher is readable.
    NotReady(Frame),
}

/// A publisher's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherStats {
    /// Frames published.
    pub published: u64,
    /// Connections that were admitted.
    pub admitted: u64,
    /// Connections that were turned down.
    pub refused: u64,
    /// Connections that were ended for breaking the protocol.
    pub violations: u64,
    /// Leases that were revoked.
    pub revoked: u64,
    /// Peers can map the present pool's buffers for writing: udmabuf and dma-heap descriptors cannot be made read-only.
    pub writable_by_peers: bool,
}

/// One subscriber's figures.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SubscriberStats {
    /// Who it is.
    pub peer: PeerInfo,
    /// Frames sent to it.
    pub sent: u64,
    /// Frames that it wanted and was not given.
    pub dropped: u64,
    /// Frames it holds now.
    pub held: usize,
    /// The most it can tie up.
    pub quota: u32,
    /// How long it has held the oldest frame that it holds.
    pub oldest_lease: Option<Duration>,
}

/// Shares the frames of one source with up to 64 other processes.
///
/// Each buffer's descriptors are sent to each subscriber once; a frame is then a message of 96 bytes. A subscriber
/// costs at most its quota of slots, whatever it does: stopped, killed or hostile, it takes nothing from the others.
///
/// No thread of its own. Call [`dispatch`](Self::dispatch) when the descriptor ([`AsFd`], an epoll) is readable or
/// [`next_timeout`](Self::next_timeout) has passed: connections come and go there. Publishing reads what subscribers
/// gave back. A frame costs two system calls per subscriber, and the loop that waits for it.
///
/// Dropped, it tells the subscribers and removes its socket file. The frames that they hold stay mapped, but nothing
/// keeps a source that lives on from filling them again: [`Frame::is_valid`] turns false there.
pub struct Publisher {
    settings: PublisherBuilder,
    listeners: Vec<Listener>,
    epoll: Epoll,
    epoch: u64,
    ledger: Ledger<Frame>,
    connections: Vec<Option<Connection>>,
    pool: Option<SharedPool>,
    next_pool: u32,
    /// When what could not be done is tried again.
    retry_ns: Option<u64>,
    counts: PublisherStats,
}

impl PublisherBuilder {
    /// Binds the socket. A file that a dead publisher left is replaced.
    ///
    /// # Errors
    /// `Busy` if a live publisher listens there, `WrongFile` if the path is no socket, and what the kernel reports
    /// (`PermissionDenied`, `NotFound`), naming the path. With feature `unixfd`, `InvalidArgument` for impossible terms.
    pub fn bind(self) -> Result<Publisher> {
        #[allow(unused_mut)]
        let mut listeners = vec![Listener::bind(&self.path, Carries::Messages, self.mode, None)?];
        #[cfg(feature = "unixfd")]
        for (path, terms) in &self.unixfd {
            if listeners.len() > 8 {
                return Err(Error::new(ErrorKind::InvalidArgument, "bind", "more than 8 paths").on(path.display()));
            }
            let terms = terms.check().map_err(|e| e.on(path.display()))?;
            listeners.push(Listener::bind(path, Carries::Bytes, self.mode, Some(terms))?);
        }
        let at = |op| {
            let path = self.path.display().to_string();
            move |e| Error::os(op, e).on(path)
        };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(at("epoll_create1"))?;
        for (i, listener) in listeners.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER | i as u64);
            epoll.add(&listener.socket, event).map_err(at("epoll_ctl"))?;
        }
        Ok(Publisher::new(self, listeners, epoll, crate::sys::random::random()))
    }
}

impl Publisher {
    fn new(settings: PublisherBuilder, listeners: Vec<Listener>, epoll: Epoll, epoch: u64) -> Self {
        Self {
            settings,
            listeners,
            epoll,
            epoch,
            ledger: Ledger::new(),
            connections: Vec::new(),
            pool: None,
            next_pool: 1,
            retry_ns: None,
            counts: PublisherStats::default(),
        }
    }

    /// A publisher that will listen at `path`.
    pub fn builder(path: impl AsRef<Path>) -> PublisherBuilder {
        PublisherBuilder::new(path.as_ref())
    }

    /// Announces the buffers of a source before its first frame, so that quotas are checked as subscribers come.
    /// Publishing a frame of another pool does the same by itself: the format may change at any time. Frames that wait
    /// for subscribers are dropped, and counted. One publisher is for one source: two that take turns would be announced
    /// at every frame. Buffers that become known with their first frames (`UnixfdSubscriber`'s) are announced anew as
    /// they do.
    ///
    /// # Errors
    /// `InvalidArgument` for more than 64 slots or 4 memory planes.
    pub fn announce(&mut self, buffers: &BufferSet) -> Result<()> {
        let filled = buffers.filled();
        if filled == 0 || self.pool.as_ref().is_some_and(|p| p.buffers.id() == buffers.id() && p.filled == filled) {
            return Ok(());
        }
        let (slots, planes) = (buffers.slots(), buffers.layout().memory_bytes().len());
        if !(1..=MAX_SLOTS).contains(&slots) || !(1..=MAX_FDS).contains(&planes) {
            let text =
                format!("{slots} slots of {planes} memory planes; at most {MAX_SLOTS} of {MAX_FDS} can be shared");
            return Err(self.error(ErrorKind::InvalidArgument, "announce", text));
        }
        let number = self.next_pool;
        self.next_pool += 1;
        self.pool = Some(SharedPool { number, buffers: buffers.clone(), filled });
        event!("{}: pool {number}: {buffers:?}", self.settings.path.display());
        let pool = (!buffers.counts_leases_of_all_pools()).then_some(number);
        let evicted = self.ledger.set_pool(pool, buffers.max_leases(), self.settings.reserve);
        for i in 0..self.connections.len() {
            let Some(c) = &mut self.connections[i] else { continue };
            match c.stage {
                Stage::Greeting { .. } | Stage::Expelled { .. } => continue,
                _ if c.peer.is_some_and(|peer| evicted.contains(&peer)) => {
                    self.expel(i, Reason::Capacity);
                    continue;
                }
                Stage::Announcing { .. } => {}
                Stage::Active => c.stage = Stage::Announcing { deadline_ns: None },
            }
            self.announce_to(i);
        }
        Ok(())
    }

    /// Publishes a frame, or hands it back if a subscriber that blocks has no room.
    ///
    /// The frame's lease ends when the last subscriber has released it and a newer one is published. Releases are read
    /// at the next publish; until then a frame counts as held.
    ///
    /// # Errors
    /// As [`Publisher::announce`]; the frame comes back. What a subscriber does is never an error here.
    pub fn try_publish(&mut self, frame: Frame) -> std::result::Result<Offer, Rejected<Frame>> {
        // Before the new pool, if it is one: what waits of the old would be dropped.
        if self.is_blocked() {
            return Ok(Offer::NotReady(frame));
        }
        if let Err(error) = self.announce(frame.buffers()) {
            return Err(Rejected { error, item: frame });
        }
        if self.ledger.is_blocked() {
            return Ok(Offer::NotReady(frame));
        }
        let pool = self.pool.as_ref().map_or(0, |p| p.number);
        self.counts.published += 1;
        self.ledger.publish(pool, frame.slot() as u32, frame.meta().timestamp_ns, frame);
        for i in 0..self.connections.len() {
            if let Some(c) = &mut self.connections[i] {
                c.ending = Ending::No;
            }
            self.flush(i);
            self.set_interest(i);
        }
        Ok(Offer::Taken)
    }

    /// Reads what subscribers gave back. If one of them blocks nevertheless, sends what it now has credit for. (Not
    /// otherwise: a frame that waits under `Latest` is about to be replaced.)
    fn is_blocked(&mut self) -> bool {
        (0..self.connections.len()).for_each(|i| self.drain(i));
        if self.ledger.is_blocked() {
            for i in 0..self.connections.len() {
                self.flush(i);
                self.set_interest(i);
            }
        }
        self.ledger.is_blocked()
    }

    /// Publishes a frame, waiting at most `timeout` for subscribers that block.
    ///
    /// # Errors
    /// As [`Publisher::try_publish`], and `Timeout`: the frame comes back.
    pub fn publish(&mut self, frame: Frame, timeout: Duration) -> std::result::Result<(), Rejected<Frame>> {
        let deadline = sys::wait::deadline(timeout);
        let mut frame = frame;
        loop {
            match self.try_publish(frame)? {
                Offer::Taken => return Ok(()),
                Offer::NotReady(back) => frame = back,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = if left.is_zero() {
                Err(self.error(
                    ErrorKind::Timeout,
                    "publish",
                    format!("a subscriber that blocks had no room for {timeout:?}"),
                ))
            } else {
                self.wait(left)
            };
            if let Err(error) = waited {
                return Err(Rejected { error, item: frame });
            }
        }
    }

    /// Handles what is pending: new connections, handshakes, hang-ups, deadlines. Never blocks. `true` if there was
    /// something: there may be more.
    ///
    /// # Errors
    /// What `epoll_wait` reports; a peer's doings are never an error here.
    pub fn dispatch(&mut self) -> Result<bool> {
        let mut events = [EpollEvent::empty(); 32];
        sys::syscall_count::tick();
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(Error::os("epoll_wait", e).on(self.settings.path.display())),
        };
        let mut accept = 0u64;
        for event in &events[..count] {
            match event.data() {
                // Last: a new connection may take the number of one that the other events are about.
                data if data & LISTENER != 0 => accept |= 1 << (data & !LISTENER),
                data if data & PIDFD != 0 => self.disconnect((data & !PIDFD) as usize, "its process ended"),
                data => self.serve(data as usize, event.events()),
            }
        }
        for listener in (0..self.listeners.len()).filter(|l| accept & (1 << l) != 0) {
            self.accept(listener);
        }
        self.meet_deadlines();
        Ok(count > 0)
    }

    /// Waits at most `timeout` for something to do, and does it.
    ///
    /// The last frame's return is not seen here: while the stream goes on, a release that nothing waits for wakes nobody
    /// and is read at the next publish (docs/adr, ADR 2).
    ///
    /// # Errors
    /// As [`Publisher::dispatch`].
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        let timeout = self.next_timeout().map_or(timeout, |own| own.min(timeout));
        sys::wait::until(self.epoll.0.as_fd(), PollFlags::POLLIN, sys::wait::deadline(timeout))
            .map_err(|e| Error::os("poll", e).on(self.settings.path.display()))?;
        self.dispatch().map(drop)
    }

    /// When [`Publisher::dispatch`] must be called even if the descriptor is not readable. `None`: no deadline runs.
    pub fn next_timeout(&self) -> Option<Duration> {
        let handshakes = self.connections.iter().flatten().filter_map(|c| match c.stage {
            Stage::Greeting { deadline_ns } => Some(deadline_ns),
            Stage::Announcing { deadline_ns } => deadline_ns,
            _ => None,
        });
        let (revoke, end) = self.lease_ns();
        let peers = self.connections.iter().flatten().filter(|_| self.settings.lease.is_some());
        let limits = peers.flat_map(|c| {
            // Where it found no room it is tried again at `retry_ns`.
            let to_revoke = (!c.owes_revoke).then_some((c.peer, Leases::NotRevoked, revoke));
            [to_revoke, Some((c.peer, Leases::All, end))].into_iter().flatten()
        });
        let leases =
            limits.filter_map(|(peer, of, limit)| Some(self.ledger.oldest_lease(peer?, of)?.1.saturating_add(limit)));
        let next = handshakes.chain(self.retry_ns).chain(leases).min()?;
        Some(Duration::from_nanos(next.saturating_sub(monotonic_ns())))
    }

    /// Ends the stream: every subscriber gets the frames that still wait for it, then END. Serves the publisher for at
    /// most `timeout`; `false` if somebody was not told by then, which may be one that still takes a new pool. What
    /// they hold stays theirs.
    ///
    /// A later frame begins the stream anew.
    ///
    /// # Errors
    /// As [`Publisher::dispatch`].
    pub fn end_stream(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = sys::wait::deadline(timeout);
        for i in 0..self.connections.len() {
            if let Some(c) = self.connections[i].as_mut().filter(|c| c.ending == Ending::No) {
                c.ending = Ending::Due;
            }
            self.drain(i);
            self.flush(i);
            self.set_interest(i);
        }
        loop {
            // Who takes its first pool and has missed nothing yet is not waited for.
            let is_owed = |peer| self.ledger.waits_for(peer) || self.ledger.was_active(peer);
            let due = |c: &&Connection| match c.stage {
                Stage::Active => true,
                Stage::Announcing { .. } => c.peer.is_some_and(is_owed),
                Stage::Greeting { .. } | Stage::Expelled { .. } => false,
            };
            if !self.connections.iter().flatten().filter(due).any(|c| c.ending == Ending::Due) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.wait(left)?;
        }
    }

    /// Totals.
    pub fn stats(&self) -> PublisherStats {
        PublisherStats { writable_by_peers: self.pool.as_ref().is_some_and(SharedPool::is_writable), ..self.counts }
    }

    /// Figures of each subscriber.
    pub fn subscribers(&self) -> impl Iterator<Item = SubscriberStats> + '_ {
        let now = monotonic_ns();
        self.connections.iter().flatten().filter_map(move |c| {
            let figures = self.ledger.figures(c.peer?);
            Some(SubscriberStats {
                peer: c.info,
                sent: figures.sent,
                dropped: figures.dropped,
                held: figures.held,
                quota: figures.quota,
                oldest_lease: figures.oldest_ns.map(|t| Duration::from_nanos(now.saturating_sub(t))),
            })
        })
    }

    /// Subscribers that take frames now.
    pub fn active(&self) -> usize {
        self.connections.iter().flatten().filter(|c| c.stage == Stage::Active).count()
    }

    fn error(&self, kind: ErrorKind, op: &'static str, text: String) -> Error {
        Error::new(kind, op, text).on(self.settings.path.display())
    }

    fn lease_ns(&self) -> (u64, u64) {
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        self.settings.lease.map_or((u64::MAX, u64::MAX), |(revoke, end)| (ns(revoke), ns(end)))
    }
}

impl AsFd for Publisher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({}, {} active)", self.settings.path.display(), self.active())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        for c in self.connections.iter_mut().flatten() {
            c.say_bye(Reason::Closing);
        }
    }
}
