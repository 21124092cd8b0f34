//! The publisher: lends frames to other processes. It sends a buffer's descriptors once, then only slot numbers.

mod builder;
mod connection;
mod fence_waits;
mod ledger;
mod listener;
mod native;
mod outcome;
mod peer_socket;
mod protocol;
mod serve;
mod shared_pool;
#[cfg(feature = "unixfd")]
mod unixfd;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};

use self::connection::{Connection, Ending, Stage};
use self::fence_waits::{FenceWaits, Reader};
use self::ledger::{Leases, Ledger};
use self::listener::Listener;
use self::shared_pool::SharedPool;
use super::peer_info::PeerInfo;
use super::wire::MAX_SLOTS;
use crate::error::Reason;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{AdvancingTime, BufferSet, Frame};
use crate::log::event;
use crate::station::{sealed, Received, Station, Submit, SubmitResult, Submitted};
use crate::sys::clock::monotonic_ns;
use crate::sys::event_queue::EventQueue;
use crate::sys::readiness::{Alarm, Readiness};
use crate::sys::socket::{Carries, MAX_FDS};
use crate::sys::wait::{self, Waited};

pub use self::builder::PublisherBuilder;
#[cfg(feature = "unixfd")]
pub use self::unixfd::UnixfdTerms;

/// What the number of an epoll event means: a listener, the pidfd of a connection, the alarm, or a connection's socket.
const LISTENER: u64 = 1 << 33;
const PIDFD: u64 = 1 << 32;
const ALARM: u64 = 1 << 34;
const FENCE: u64 = 1 << 35;

/// What a publisher reports about its subscribers.
#[derive(Debug)]
#[non_exhaustive]
pub enum PublisherEvent {
    /// A subscriber was admitted.
    Joined(PeerInfo),
    /// A subscriber is gone: it hung up, died or was disconnected. Its leases have ended.
    Left {
        /// The process that was connected.
        peer: PeerInfo,
        /// Why the subscriber is gone: `Disconnected` if it hung up or died, otherwise the reason why the publisher
        /// disconnected it.
        error: Error,
    },
    /// The publisher refused a connection.
    Refused {
        /// The process that tried to connect.
        peer: PeerInfo,
        /// The reason that the publisher sent.
        reason: Reason,
        /// A text that names the setting or the numbers that caused the refusal. The peer does not get this text.
        detail: String,
    },
}

/// How many events are kept for [`Station::try_recv`]. If more are unread, the oldest are dropped.
const MAX_EVENTS: usize = 256;

/// Totals of a publisher since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherStats {
    /// Frames that were published.
    pub published: u64,
    /// Connections that were admitted.
    pub admitted: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that were ended because the peer broke the protocol.
    pub violations: u64,
    /// Leases that were revoked.
    pub revoked: u64,
    /// Frames that subscribers wanted and did not get. Includes the frames of subscribers that have left.
    pub dropped: u64,
    /// `true` if peers can map the current pool's buffers for writing. This is so if the buffers come from udmabuf or a
    /// dma-heap, because such descriptors cannot be made read-only.
    pub writable_by_peers: bool,
}

/// Figures of one subscriber.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SubscriberStats {
    /// The process that is connected.
    pub peer: PeerInfo,
    /// Frames that were sent to the subscriber.
    pub sent: u64,
    /// Frames that the subscriber wanted and did not get.
    pub dropped: u64,
    /// Frames that the subscriber holds now. A frame that only waits for the subscriber does not count.
    pub held: usize,
    /// The largest number of buffers that the subscriber can tie up: frames that it holds, plus frames that wait for
    /// it.
    pub quota: u32,
    /// How long the subscriber has held its oldest frame. `None` if it holds no frame.
    pub oldest_lease: Option<Duration>,
    /// `true` if the publisher watches the subscriber's process (pidfd). Otherwise, the process's end shows only when
    /// its socket closes, which a forked child can delay. Before Linux 6.5, this is `false` until the subscriber has
    /// answered a message.
    pub watches_process: bool,
}

/// Shares the frames of one source with up to 64 other processes.
///
/// The publisher sends each buffer's descriptors to each subscriber once. After that, a frame is a message of 96 bytes.
/// A subscriber costs at most its quota of buffers. If a subscriber stops, dies or breaks the protocol, the other
/// subscribers lose no frame. A subscriber with [`Policy::Block`](super::Policy::Block) is the exception: it can stop
/// the stream for as long as [`allow_block`](PublisherBuilder::allow_block) permits.
///
/// A publisher is a [`Station`]. Its events report subscribers that come and go. Publishing also does the work of
/// [`Station::dispatch`]. A frame costs two system calls per subscriber, and one `epoll_wait`.
///
/// Dropping the publisher notifies the subscribers and removes its socket file. Subscribers keep their mappings, but
/// [`Frame::is_valid`] then returns `false`, because a source that outlives the publisher may overwrite the frames.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::capture::{Camera, Reopen};
/// use framelease::share::Publisher;
/// use framelease::Station;
///
/// let mut camera = Camera::builder().reopen(Reopen::Always).open()?;
/// let mut publisher = Publisher::builder("/run/camera/socket").bind()?;
/// for frame in camera.frames() {
///     // Drops the frame if a blocking subscriber has no room.
///     let _ = publisher.publish(frame?, Duration::ZERO)?;
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Publisher {
    /// The descriptor that the caller polls: `work` and the events.
    readiness: Readiness,
    /// Listeners, connections and the alarm.
    work: Readiness,
    alarm: Alarm,
    events: EventQueue<PublisherEvent>,
    settings: PublisherBuilder,
    listeners: Vec<Listener>,
    epoch: u64,
    ledger: Ledger<Frame>,
    time: AdvancingTime,
    fence_waits: Option<FenceWaits>,
    connections: Vec<Option<Connection>>,
    pool: Option<SharedPool>,
    next_pool: u32,
    /// When to retry sends and accepts that failed for lack of room or descriptors.
    retry_ns: Option<u64>,
    /// Since when a blocking subscriber has had no room.
    blocked_ns: Option<u64>,
    /// `dispatch` was called since the last frame.
    has_worked: bool,
    /// Counts the caller's calls: each call reads a peer only once.
    round: u64,
    counts: PublisherStats,
}

impl PublisherBuilder {
    /// Binds the socket. Replaces the socket file of a publisher that has died.
    ///
    /// # Errors
    /// `Busy` if a live publisher listens at the path. `WrongFile` if the path is not a socket, or if the socket of
    /// [`PublisherBuilder::listener`] does not listen for subscribers. `InvalidArgument` for
    /// terms that exceed their limits (feature `unixfd`). Otherwise errors of the kernel, such as `PermissionDenied`
    /// and `NotFound`, with the path.
    pub fn bind(mut self) -> Result<Publisher> {
        let first = match self.listener.take() {
            Some(socket) => Listener::take(&self.path, socket)?,
            None => Listener::bind(&self.path, Carries::Messages, self.mode, None)?,
        };
        #[allow(unused_mut)]
        let mut listeners = vec![first];
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
        let readiness = Readiness::new().map_err(at("epoll_create1"))?;
        let work = Readiness::new().map_err(at("epoll_create1"))?;
        let alarm = Alarm::new().map_err(at("timerfd_create"))?;
        let events = EventQueue::new(MAX_EVENTS).map_err(at("eventfd"))?;
        readiness.add(&work, EpollFlags::EPOLLIN, 0).map_err(at("epoll_ctl"))?;
        readiness.add(&events, EpollFlags::EPOLLIN, 1).map_err(at("epoll_ctl"))?;
        work.add(&alarm, EpollFlags::EPOLLIN, ALARM).map_err(at("epoll_ctl"))?;
        for (i, listener) in listeners.iter().enumerate() {
            work.add(&listener.socket, EpollFlags::EPOLLIN, LISTENER | i as u64).map_err(at("epoll_ctl"))?;
        }
        let fence_timeout = self.fence_timeout;
        Ok(Publisher {
            readiness,
            work,
            alarm,
            events,
            settings: self,
            listeners,
            epoch: crate::sys::random::random(),
            ledger: Ledger::new(fence_timeout.is_some()),
            time: AdvancingTime::default(),
            fence_waits: fence_timeout.map(FenceWaits::new),
            connections: Vec::new(),
            pool: None,
            next_pool: 1,
            retry_ns: None,
            blocked_ns: None,
            has_worked: false,
            round: 0,
            counts: PublisherStats::default(),
        })
    }
}

impl Publisher {
    /// Returns a builder for a publisher that listens at `path`.
    pub fn builder(path: impl AsRef<Path>) -> PublisherBuilder {
        PublisherBuilder::new(path.as_ref())
    }

    /// Announces the buffers of a source before its first frame, so that quotas are checked when subscribers connect.
    /// [`Publisher::publish`] does the same when a frame of another pool comes, so the format may change at any time.
    /// Frames that wait for subscribers are then dropped, and counted.
    ///
    /// One publisher serves one source. If two sources alternated, the publisher would announce buffers at every frame.
    /// A buffer of a `UnixfdSubscriber` becomes known when its first frame arrives. The publisher then announces the
    /// set of buffers again.
    ///
    /// # Errors
    /// `InvalidArgument` if the set has more than 64 slots or 4 memory planes. `Unsupported` for an opaque layout.
    pub fn announce(&mut self, buffers: &BufferSet) -> Result<()> {
        let filled = buffers.filled();
        if filled == 0 || self.pool.as_ref().is_some_and(|p| p.buffers.id() == buffers.id() && p.filled == filled) {
            return Ok(());
        }
        buffers.layout().check_rows("announce").map_err(|e| e.on(self.settings.path.display()))?;
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

    /// Publishes a frame, or returns it if a blocking subscriber has no room. First does the work of
    /// [`Station::dispatch`].
    ///
    /// The frame's lease ends when every subscriber has released the frame and a newer frame is published. The
    /// publisher reads releases at the next publish; until then a released frame counts as leased.
    ///
    /// # Errors
    /// Every error gives the frame back. `InvalidArgument` for a new pool of more than 64 slots or 4 memory planes.
    /// `Mismatch` if the frame's data exceed its buffers. Errors of the kernel about the publisher's own descriptors. A
    /// fault of a subscriber is an event, never an error.
    pub fn try_publish(&mut self, frame: Frame) -> SubmitResult<Frame> {
        // An event loop has already called `dispatch`.
        self.round += 1;
        let dispatched = if std::mem::take(&mut self.has_worked) { Ok(()) } else { self.work() };
        self.has_worked = false;
        if let Err(error) = dispatched.and_then(|()| self.check(&frame)) {
            return Err(Rejected { error, item: frame });
        }
        // Before a new pool is announced: the announcement drops the frames that wait.
        if self.is_blocked() {
            return Ok(Submitted::Full(frame));
        }
        if let Err(error) = self.announce(frame.buffers()) {
            return Err(Rejected { error, item: frame });
        }
        if self.note_blocked() {
            return Ok(Submitted::Full(frame));
        }
        let pool = self.pool.as_ref().map_or(0, |p| p.number);
        self.counts.published += 1;
        let time_ns = self.time.next(frame.meta().timestamp_ns, monotonic_ns());
        self.ledger.publish(pool, frame.slot() as u32, time_ns, frame);
        self.wait_for_fences();
        for i in 0..self.connections.len() {
            if let Some(c) = &mut self.connections[i] {
                c.ending = Ending::No;
            }
            self.flush(i);
            self.set_interest(i);
        }
        if let Some((revoke, _)) = self.settings.lease {
            // No lease is revoked before this time.
            self.alarm.wake_at(wait::deadline(revoke));
        }
        self.set_alarm_for_retry();
        Ok(Submitted::Taken)
    }

    /// Checks that the frame's data lie in its buffers. A subscriber would report a protocol violation otherwise.
    fn check(&self, frame: &Frame) -> Result<()> {
        for (i, (memory, payload)) in frame.memory().iter().zip(&frame.meta().payload).enumerate() {
            let end = payload.offset_bytes.checked_add(payload.bytes);
            if end.map_or(true, |end| end as usize > memory.size_bytes()) {
                let text = format!(
                    "memory plane {i} has {} bytes, the frame's data are {} bytes at {}",
                    memory.size_bytes(),
                    payload.bytes,
                    payload.offset_bytes
                );
                return Err(self.error(ErrorKind::Mismatch, "publish", text));
            }
        }
        Ok(())
    }

    /// Reads the releases of subscribers, unless `work` has read them already. If one blocks nevertheless, sends the
    /// frames that now have credit. Returns `true` if one still blocks. (Sends nothing if none blocks: a frame that
    /// waits under `Latest` is about to be replaced.)
    fn is_blocked(&mut self) -> bool {
        (0..self.connections.len()).for_each(|i| self.drain(i));
        if self.ledger.is_blocked() {
            for i in 0..self.connections.len() {
                self.flush(i);
                self.set_interest(i);
            }
        }
        self.note_blocked()
    }

    /// Notes since when the stream is blocked, for [`PublisherBuilder::allow_block`].
    fn note_blocked(&mut self) -> bool {
        if !self.ledger.is_blocked() {
            self.blocked_ns = None;
            return false;
        }
        if self.blocked_ns.is_none() {
            self.blocked_ns = Some(monotonic_ns());
            if let Some(stall) = self.settings.block {
                self.alarm.wake_at(wait::deadline(stall));
            }
        }
        true
    }

    /// Publishes a frame, and waits at most `timeout` for blocking subscribers. Returns the frame if the timeout passed
    /// or a signal handler ran.
    ///
    /// # Errors
    /// The errors of [`Publisher::try_publish`].
    pub fn publish(&mut self, frame: Frame, timeout: Duration) -> SubmitResult<Frame> {
        let deadline = wait::deadline(timeout);
        let mut frame = frame;
        loop {
            match self.try_publish(frame)? {
                Submitted::Taken => return Ok(Submitted::Taken),
                Submitted::Full(back) => frame = back,
            }
            // Waits for `work` only: unread events would keep `readiness` readable.
            match wait::readable(self.work.as_fd(), deadline) {
                Ok(Waited::Ready) => {}
                Ok(Waited::TimedOut | Waited::Interrupted) => return Ok(Submitted::Full(frame)),
                Err(e) => return Err(Rejected { error: Error::os("poll", e), item: frame }),
            }
        }
    }

    /// Makes the descriptor readable at the next deadline.
    fn set_alarm(&mut self) {
        if let Some(next) = self.next_deadline() {
            self.alarm.wake_at(wait::deadline(Duration::from_nanos(next.saturating_sub(monotonic_ns()))));
        }
    }

    fn set_alarm_for_retry(&mut self) {
        if let Some(next) = self.retry_ns {
            self.alarm.wake_at(wait::deadline(Duration::from_nanos(next.saturating_sub(monotonic_ns()))));
        }
    }

    /// Returns the next time at which `dispatch` has work although no descriptor is readable.
    fn next_deadline(&self) -> Option<u64> {
        let handshakes = self.connections.iter().flatten().filter_map(|c| match c.stage {
            Stage::Greeting { deadline_ns } => Some(deadline_ns),
            Stage::Announcing { deadline_ns } => deadline_ns,
            _ => None,
        });
        let (revoke, end) = self.lease_ns();
        let peers = self.connections.iter().flatten().filter(|_| self.settings.lease.is_some());
        let limits = peers.flat_map(|c| {
            // A REVOKE that found no room is retried at `retry_ns`.
            let to_revoke = (!c.owes_revoke).then_some((c.peer, Leases::NotRevoked, revoke));
            [to_revoke, Some((c.peer, Leases::All, end))].into_iter().flatten()
        });
        let leases =
            limits.filter_map(|(peer, of, limit)| Some(self.ledger.oldest_lease(peer?, of)?.1.saturating_add(limit)));
        let stall = self.stall_ends_ns();
        handshakes.chain(self.retry_ns).chain(leases).chain(stall).min()
    }

    /// Keeps the frames that subscribers held when they went until the fences on their buffers have signaled, and ends
    /// the leases of subscribers whose fences have signaled.
    fn wait_for_fences(&mut self) {
        let Some(waits) = &mut self.fence_waits else { return };
        while let Some((pool, frame)) = self.ledger.take_abandoned() {
            waits.add(Reader::Gone { pool }, frame, &self.work, FENCE);
        }
        waits.settle(&self.work, FENCE);
        self.ledger.withhold(self.pool.as_ref().map_or(0, |pool| waits.abandoned(pool.number)));
        if let Some(deadline) = waits.next_deadline() {
            self.alarm.wake_at(deadline);
        }
        while let Some((peer, id)) = self.fence_waits.as_mut().and_then(FenceWaits::next_settled) {
            self.ledger.settled(peer, id);
            if let Some(i) = self.connections.iter().position(|c| c.as_ref().is_some_and(|c| c.peer == Some(peer))) {
                self.let_go(i, peer);
                self.flush(i);
                self.set_interest(i);
            }
        }
    }

    fn stall_ends_ns(&self) -> Option<u64> {
        let stall = u64::try_from(self.settings.block?.as_nanos()).unwrap_or(u64::MAX);
        Some(self.blocked_ns?.saturating_add(stall))
    }

    /// Pauses the stream. Every subscriber gets the frames that still wait for it, then
    /// [`SubscriberEvent::Paused`](super::SubscriberEvent::Paused). Until every subscriber is notified, this call does
    /// the publisher's work, for at most `timeout`. Returns `false` if the timeout passed before every subscriber was
    /// notified, for example because a subscriber is still receiving a new pool. Later calls of the publisher notify
    /// the remaining subscribers, so an event loop can pass a timeout of zero. Frames that subscribers hold stay valid.
    ///
    /// The next frame continues the stream.
    ///
    /// # Errors
    /// The errors of [`Station::dispatch`].
    pub fn pause(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = wait::deadline(timeout);
        self.round += 1;
        for i in 0..self.connections.len() {
            if let Some(c) = self.connections[i].as_mut().filter(|c| c.ending == Ending::No) {
                c.ending = Ending::Due;
            }
            self.drain(i);
            self.flush(i);
            self.set_interest(i);
        }
        loop {
            // A subscriber that is receiving its first pool has missed nothing, so the pause does not wait for it.
            let is_owed = |peer| self.ledger.waits_for(peer) || self.ledger.was_active(peer);
            let due = |c: &&Connection| match c.stage {
                Stage::Active => true,
                Stage::Announcing { .. } => c.peer.is_some_and(is_owed),
                Stage::Greeting { .. } | Stage::Expelled { .. } => false,
            };
            if !self.connections.iter().flatten().filter(due).any(|c| c.ending == Ending::Due) {
                return Ok(true);
            }
            self.set_alarm();
            let ready = wait::readable(self.work.as_fd(), deadline);
            if ready.map_err(|e| Error::os("poll", e))? == Waited::TimedOut {
                return Ok(false);
            }
            self.round += 1;
            self.work()?;
        }
    }

    /// Returns totals since the publisher was bound.
    pub fn stats(&self) -> PublisherStats {
        let writable_by_peers = self.pool.as_ref().is_some_and(SharedPool::is_writable);
        let present = self.connections.iter().flatten().filter_map(|c| c.peer);
        let dropped = present.map(|peer| self.ledger.figures(peer).dropped).sum::<u64>();
        PublisherStats { dropped: self.counts.dropped + dropped, writable_by_peers, ..self.counts }
    }

    /// Returns the figures of each subscriber.
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
                watches_process: c.socket.pidfd().is_some(),
                oldest_lease: figures.oldest_ns.map(|t| Duration::from_nanos(now.saturating_sub(t))),
            })
        })
    }

    /// Returns how many subscribers take frames now.
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

impl sealed::Sealed for Publisher {}

/// `dispatch`, `try_recv` and `recv` fail only if the kernel reports an error of the publisher's own descriptors.
impl Station for Publisher {
    type Event = PublisherEvent;

    /// Handles new connections, handshakes, releases, hang-ups and deadlines.
    fn dispatch(&mut self) -> Result<()> {
        self.round += 1;
        let worked = self.work();
        self.events.looked();
        worked
    }

    fn try_recv(&mut self) -> Result<Received<PublisherEvent>> {
        self.round += 1;
        self.work()?;
        let event = self.events.pop();
        self.events.given(false);
        Ok(event.into())
    }
}

impl Publisher {
    fn work(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 32];
        let failed = |e| Error::os("epoll_wait", e).on(self.settings.path.display());
        let found = self.work.wait(&mut events, Instant::now()).map_err(failed)?.len();
        let mut accept = 0u64;
        for event in &events[..found] {
            match event.data() {
                // Accept last: a new connection may get a number that the other events of this batch refer to.
                data if data & LISTENER != 0 => accept |= 1 << (data & !LISTENER),
                ALARM | FENCE => {}
                data if data & PIDFD != 0 => {
                    self.disconnect((data & !PIDFD) as usize, ErrorKind::Disconnected, "its process ended");
                }
                data => self.serve(data as usize, event.events()),
            }
        }
        for listener in (0..self.listeners.len()).filter(|l| accept & (1 << l) != 0) {
            self.accept(listener);
        }
        let is_due = self.alarm.acknowledge();
        if is_due {
            self.meet_deadlines();
        }
        if is_due || found > 0 {
            self.set_alarm();
            self.wait_for_fences();
        }
        self.has_worked = true;
        Ok(())
    }
}

impl Submit for Publisher {
    type Item = Frame;

    /// Publishes a frame, as [`Publisher::try_publish`] does.
    fn try_submit(&mut self, frame: Frame) -> SubmitResult<Frame> {
        self.try_publish(frame)
    }

    /// Publishes a frame, as [`Publisher::publish`] does.
    fn submit(&mut self, frame: Frame, timeout: Duration) -> SubmitResult<Frame> {
        self.publish(frame, timeout)
    }
}

impl AsFd for Publisher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
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
            c.say_bye(Reason::Closing.into());
        }
    }
}
