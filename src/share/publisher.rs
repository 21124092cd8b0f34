//! The publisher: lends frames to other processes by descriptor, once per buffer, and by slot number per frame.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::connection::{Connection, Fault, PeerInfo, SharedPool, Stage};
use super::ledger::{Ledger, Terms};
use super::wire::{Hello, Reason, ToPublisher, ToSubscriber, Welcome, MAX_SLOTS, VERSION};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{BufferSet, Frame};
use crate::log::event;
use crate::sys;
use crate::sys::clock::monotonic_ns;
use crate::sys::socket::{self, MAX_FDS};

/// How long a failed accept or announcement waits before it is tried again.
const RETRY_NS: u64 = 50_000_000;
/// Messages read from one peer before the others have their turn.
const READ_AT_ONCE: usize = 64;
const MAX_CONNECTIONS: usize = 128;
const LISTENER: u64 = u64::MAX;
const PIDFD: u64 = 1 << 32;

type AcceptHook = Box<dyn FnMut(&PeerInfo) -> bool + Send>;

/// Settings of a [`Publisher`].
pub struct PublisherBuilder {
    path: PathBuf,
    mode: u32,
    max_subscribers: usize,
    max_per_user: usize,
    reserve: usize,
    handshake: Duration,
    lease: Option<(Duration, Duration)>,
    accept: Option<AcceptHook>,
}

impl PublisherBuilder {
    /// Permissions of the socket file, less the umask. Default 0o660; the directory's permissions count as well.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The most subscribers at a time, 64 at most and by default.
    pub fn max_subscribers(mut self, count: usize) -> Self {
        self.max_subscribers = count.min(super::ledger::MAX_PEERS);
        self
    }

    /// The most connections of one user id, so that one user cannot take all. Default 64.
    pub fn max_per_user(mut self, count: usize) -> Self {
        self.max_per_user = count;
        self
    }

    /// Slots that the source needs for itself and that are never lent: for a camera the driver's minimum plus the
    /// frame in hand. Default 2.
    pub fn reserve(mut self, slots: usize) -> Self {
        self.reserve = slots;
        self
    }

    /// How long a new connection may take to say HELLO. Default one second.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake = timeout;
        self
    }

    /// How long a subscriber may hold a frame: after `revoke` it is told that the lease is over, after `end` (if it
    /// has still not given it back) it gets no more frames. The slot stays in its quota until it says so itself,
    /// hangs up or dies: memory is never reused under a reader. Default: no limit.
    pub fn lease_deadline(mut self, revoke: Duration, end: Duration) -> Self {
        self.lease = Some((revoke, end.max(revoke)));
        self
    }

    /// Decides who may connect. The hook sees the peer's user and process before its HELLO is read.
    pub fn accept_if(mut self, hook: impl FnMut(&PeerInfo) -> bool + Send + 'static) -> Self {
        self.accept = Some(Box::new(hook));
        self
    }

    /// Binds the socket. A file that a dead publisher left is replaced.
    ///
    /// # Errors
    /// `Busy` if a live publisher listens there, `WrongFile` if the path is no socket, and what the kernel reports
    /// (`PermissionDenied`, `NotFound`), naming the path.
    pub fn bind(self) -> Result<Publisher> {
        let at = |op| {
            let path = self.path.display().to_string();
            move |e| Error::os(op, e).on(path)
        };
        remove_stale(&self.path)?;
        let listener = socket::listen(&self.path, self.mode, 64).map_err(at("bind"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(at("epoll_create1"))?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).map_err(at("epoll_ctl"))?;
        let inode = std::fs::symlink_metadata(&self.path).map(|m| m.ino()).unwrap_or(0);
        Ok(Publisher {
            settings: self,
            listener,
            inode,
            epoll,
            epoch: random_epoch(),
            ledger: Ledger::new(),
            connections: Vec::new(),
            pool: None,
            next_pool: 1,
            retry_ns: None,
            listening: true,
            counts: PublisherStats::default(),
        })
    }
}

impl fmt::Debug for PublisherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherBuilder({})", self.path.display())
    }
}

/// What [`Publisher::try_publish`] did with a frame.
#[derive(Debug)]
#[must_use]
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
/// gave back. It costs at most two system calls per subscriber and frame.
///
/// Dropped, it tells the subscribers and removes its socket file. Their leases stay valid.
pub struct Publisher {
    settings: PublisherBuilder,
    listener: OwnedFd,
    inode: u64,
    epoll: Epoll,
    epoch: u64,
    ledger: Ledger<Frame>,
    connections: Vec<Option<Connection>>,
    pool: Option<SharedPool>,
    next_pool: u32,
    retry_ns: Option<u64>,
    listening: bool,
    counts: PublisherStats,
}

impl Publisher {
    /// A publisher that will listen at `path`.
    pub fn builder(path: impl AsRef<Path>) -> PublisherBuilder {
        PublisherBuilder {
            path: path.as_ref().to_owned(),
            mode: 0o660,
            max_subscribers: super::ledger::MAX_PEERS,
            max_per_user: super::ledger::MAX_PEERS,
            reserve: 2,
            handshake: Duration::from_secs(1),
            lease: None,
            accept: None,
        }
    }

    /// Announces the buffers of a source before its first frame, so that quotas are checked as subscribers come.
    /// Publishing a frame of another pool does the same by itself: the format may change at any time.
    ///
    /// # Errors
    /// `InvalidArgument` for more than 64 slots or 4 memory planes.
    pub fn announce(&mut self, buffers: &BufferSet) -> Result<()> {
        if self.pool.as_ref().is_some_and(|p| p.buffers.id() == buffers.id()) {
            return Ok(());
        }
        let (slots, planes) = (buffers.slots(), buffers.memory(0).len());
        if !(1..=MAX_SLOTS).contains(&slots) || !(1..=MAX_FDS).contains(&planes) {
            let text =
                format!("{slots} slots of {planes} memory planes; at most {MAX_SLOTS} of {MAX_FDS} can be shared");
            return Err(self.error(ErrorKind::InvalidArgument, "announce", text));
        }
        let number = self.next_pool;
        self.next_pool += 1;
        self.pool = Some(SharedPool { number, buffers: buffers.clone() });
        event!("{}: pool {number}: {buffers:?}", self.settings.path.display());
        let evicted = self.ledger.set_pool(number, slots, self.settings.reserve);
        for i in 0..self.connections.len() {
            let Some(c) = &mut self.connections[i] else { continue };
            match c.stage {
                Stage::Greeting { .. } | Stage::Expelled => {}
                _ if c.peer.is_some_and(|peer| evicted.contains(&peer)) => self.expel(i, Reason::Capacity),
                Stage::Announcing | Stage::Active => {
                    c.stage = Stage::Announcing;
                    self.announce_to(i);
                }
            }
        }
        Ok(())
    }

    /// Publishes a frame, or hands it back if a subscriber that blocks has no room.
    ///
    /// The frame's lease ends when the last subscriber has released it and a newer one is published.
    ///
    /// # Errors
    /// As [`Publisher::announce`]; the frame comes back. What a subscriber does is never an error here.
    pub fn try_publish(&mut self, frame: Frame) -> std::result::Result<Offer, Rejected<Frame>> {
        if let Err(error) = self.announce(frame.buffers()) {
            return Err(Rejected { error, item: frame });
        }
        for i in 0..self.connections.len() {
            self.drain(i);
        }
        if self.ledger.is_blocked() {
            return Ok(Offer::NotReady(frame));
        }
        let pool = self.pool.as_ref().map_or(0, |p| p.number);
        self.counts.published += 1;
        self.ledger.publish(pool, frame.slot() as u32, frame.meta().timestamp_ns, frame);
        for i in 0..self.connections.len() {
            self.flush(i);
        }
        Ok(Offer::Taken)
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
        sys::calls::tick();
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(Error::os("epoll_wait", e).on(self.settings.path.display())),
        };
        let mut accept = false;
        for event in &events[..count] {
            match event.data() {
                // Last: a new connection may take the number of one that the other events are about.
                LISTENER => accept = true,
                data if data & PIDFD != 0 => self.disconnect((data & !PIDFD) as usize, "its process ended"),
                data => self.serve(data as usize, event.events()),
            }
        }
        if accept {
            self.accept();
        }
        self.meet_deadlines();
        Ok(count > 0)
    }

    /// Waits at most `timeout` for something to do, and does it.
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
            _ => None,
        });
        let (revoke, end) = self.lease_ns();
        let lease =
            |revoked, limit: u64| self.ledger.oldest_lease(revoked).map(|(_, _, sent)| sent.saturating_add(limit));
        let leases = self.settings.lease.and_then(|_| lease(false, revoke).into_iter().chain(lease(true, end)).min());
        let next = handshakes.chain(self.retry_ns).chain(leases).min()?;
        Some(Duration::from_nanos(next.saturating_sub(monotonic_ns())))
    }

    /// Tells every subscriber that the stream has ended. They keep their leases.
    pub fn end_stream(&mut self) {
        for i in 0..self.connections.len() {
            let Some(c) = &self.connections[i] else { continue };
            if c.peer.is_some() && c.send(&ToSubscriber::End).is_err() {
                self.disconnect(i, "it hung up");
            }
        }
    }

    /// Totals.
    pub fn stats(&self) -> PublisherStats {
        self.counts
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

    fn retry_later(&mut self) {
        let at = monotonic_ns() + RETRY_NS;
        self.retry_ns = Some(self.retry_ns.map_or(at, |t| t.min(at)));
    }

    fn accept(&mut self) {
        loop {
            match socket::accept(self.listener.as_fd()) {
                Ok(Some(socket)) => self.greet(socket),
                Ok(None) => return,
                Err(e) => {
                    // Out of descriptors or memory: the listener would stay readable and spin. Listen again later.
                    event!("{}: accept: {e}", self.settings.path.display());
                    if self.epoll.delete(&self.listener).is_ok() {
                        self.listening = false;
                    }
                    self.retry_later();
                    return;
                }
            }
        }
    }

    fn greet(&mut self, socket: OwnedFd) {
        let Ok(credentials) = socket::peer_credentials(socket.as_fd()) else { return };
        let handshake = u64::try_from(self.settings.handshake.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = monotonic_ns().saturating_add(handshake);
        let mut c = Connection::new(socket, credentials, deadline_ns);
        let others = self.connections.iter().flatten();
        let same_user = others.clone().filter(|o| o.info.uid == c.info.uid).count();
        let full = others.count() >= MAX_CONNECTIONS || same_user >= self.settings.max_per_user;
        if full || !self.settings.accept.as_mut().map_or(true, |hook| hook(&c.info)) {
            event!("{}: refused {:?}", self.settings.path.display(), c.info);
            self.counts.refused += 1;
            c.say_bye(Reason::Denied);
            return;
        }
        let free = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
        if free == self.connections.len() {
            self.connections.push(None);
        }
        c.interest = EpollFlags::EPOLLIN;
        sys::calls::tick();
        if self.epoll.add(c.socket(), EpollEvent::new(c.interest, free as u64)).is_err() {
            return;
        }
        if let Some(pidfd) = &c.pidfd {
            sys::calls::tick();
            // Without it, death is still seen by the hang-up.
            let _ = self.epoll.add(pidfd, EpollEvent::new(EpollFlags::EPOLLIN, PIDFD | free as u64));
        }
        self.connections[free] = Some(c);
    }

    /// Reads a peer whose socket woke us.
    fn serve(&mut self, i: usize, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLIN) {
            for _ in 0..READ_AT_ONCE {
                if !self.read_one(i) {
                    break;
                }
            }
            self.flush(i);
        }
        if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.disconnect(i, "it hung up");
        }
    }

    /// Reads what a peer has given back, without asking the kernel more often than it can have answers.
    fn drain(&mut self, i: usize) {
        let holds =
            |p: &Self| p.connections[i].as_ref().and_then(|c| c.peer).is_some_and(|peer| p.ledger.held_by(peer) > 0);
        while holds(self) && self.read_one(i) {}
    }

    /// Reads and handles one message. `false`: there is none, or the peer is gone.
    fn read_one(&mut self, i: usize) -> bool {
        let Some(c) = self.connections.get(i).and_then(Option::as_ref) else { return false };
        let handled = match c.receive() {
            Ok(Some(message)) => self.handle(i, message),
            Ok(None) => return false,
            Err(fault) => Err(fault),
        };
        match handled {
            Ok(()) => true,
            Err(fault) => {
                self.fail(i, fault);
                false
            }
        }
    }

    fn fail(&mut self, i: usize, fault: Fault) {
        match fault {
            Fault::Gone => self.disconnect(i, "it hung up"),
            Fault::Protocol(what) => {
                self.counts.violations += 1;
                if let Some(c) = &self.connections[i] {
                    c.say_bye(Reason::Protocol);
                }
                self.disconnect(i, &what);
            }
        }
    }

    fn handle(&mut self, i: usize, message: ToPublisher) -> std::result::Result<(), Fault> {
        let Some(c) = self.connections.get_mut(i).and_then(Option::as_mut) else { return Ok(()) };
        match (message, c.peer) {
            (ToPublisher::Hello(hello), None) => self.admit(i, hello),
            (_, None) => return Err(Fault::Protocol("the first message must be HELLO".into())),
            (ToPublisher::Hello(_), Some(_)) => return Err(Fault::Protocol("a second HELLO".into())),
            (ToPublisher::BufferOk(id), Some(peer)) => self.buffer_answered(i, peer, id, true)?,
            (ToPublisher::BufferFailed(id), Some(peer)) => self.buffer_answered(i, peer, id, false)?,
            (ToPublisher::Release(leases), Some(peer)) => {
                for &id in leases.as_slice() {
                    self.ledger.release(peer, id).map_err(|e| Fault::Protocol(e.to_string()))?;
                }
                self.let_go(i, peer);
            }
            (ToPublisher::Retired { pool }, Some(peer)) => {
                self.ledger.retired(peer, pool);
                self.let_go(i, peer);
            }
        }
        Ok(())
    }

    fn buffer_answered(
        &mut self,
        i: usize,
        peer: usize,
        id: super::wire::SlotId,
        ok: bool,
    ) -> std::result::Result<(), Fault> {
        let (Some(c), Some(pool)) = (&mut self.connections[i], &self.pool) else { return Ok(()) };
        if c.answered(id, ok, pool)? && c.stage == Stage::Announcing {
            c.stage = Stage::Active;
            self.ledger.activate(peer);
            self.flush(i);
        }
        Ok(())
    }

    /// An expelled peer stays only for its leases.
    fn let_go(&mut self, i: usize, peer: usize) {
        let expelled = self.connections[i].as_ref().is_some_and(|c| c.stage == Stage::Expelled);
        if expelled && self.ledger.held_by(peer) == 0 {
            self.disconnect(i, "it has returned its last lease");
        }
    }

    fn admit(&mut self, i: usize, hello: Hello) {
        let terms = Terms { hold: u32::from(hello.hold), policy: hello.policy, rate: hello.rate };
        let members = self.connections.iter().flatten().filter(|c| c.peer.is_some()).count();
        let admitted = if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            Err(Reason::Version)
        } else if members >= self.settings.max_subscribers {
            Err(Reason::Denied)
        } else {
            self.ledger.admit(terms).ok_or(Reason::Capacity)
        };
        let Some(c) = &mut self.connections[i] else { return };
        match admitted {
            Ok(peer) => {
                event!("{}: subscriber {:?}, {terms:?}", self.settings.path.display(), c.info);
                self.counts.admitted += 1;
                c.peer = Some(peer);
                c.stage = Stage::Announcing;
                let revoke = self.settings.lease.map_or(0, |(revoke, _)| revoke.as_millis());
                let welcome = ToSubscriber::Welcome(Welcome {
                    version: VERSION,
                    quota: terms.quota() as u16,
                    epoch: self.epoch,
                    lease_deadline_ms: u32::try_from(revoke).unwrap_or(u32::MAX),
                });
                // The queue of a connection that has received nothing yet is empty.
                match c.send(&welcome) {
                    Ok(true) => self.announce_to(i),
                    _ => self.disconnect(i, "it does not take WELCOME"),
                }
            }
            Err(reason) => {
                self.counts.refused += 1;
                c.say_bye(reason);
                self.disconnect(i, "it was refused");
            }
        }
    }

    fn announce_to(&mut self, i: usize) {
        let (Some(c), Some(pool)) = (&mut self.connections[i], &self.pool) else { return };
        match c.announce(pool) {
            Ok(true) => self.set_interest(i),
            Ok(false) => self.retry_later(),
            Err(fault) => self.fail(i, fault),
        }
    }

    /// Sends what waits for a peer and it has credit for.
    fn flush(&mut self, i: usize) {
        let Some(c) = self.connections.get(i).and_then(Option::as_ref) else { return };
        let (Some(peer), Stage::Active) = (c.peer, c.stage) else { return };
        while let Some((id, frame, dropped)) = self.ledger.next_for(peer) {
            let now = monotonic_ns();
            let mut meta = *frame.meta();
            (meta.published_ns, meta.dropped) = (now, dropped);
            if !c.has_buffer(id) {
                self.ledger.not_sent(peer);
                continue;
            }
            match c.send(&ToSubscriber::Frame(id, meta)) {
                Ok(true) => self.ledger.sent(peer, now),
                Ok(false) => self.ledger.not_sent(peer),
                Err(fault) => return self.fail(i, fault),
            }
        }
        self.set_interest(i);
    }

    /// Releases need not wake us while nothing waits for them: the next publish reads them.
    fn set_interest(&mut self, i: usize) {
        let Some(c) = &mut self.connections[i] else { return };
        let waits = c.peer.is_some_and(|peer| self.ledger.waits_for(peer));
        let wanted = if c.stage == Stage::Active && !waits { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        if c.interest != wanted {
            sys::calls::tick();
            if self.epoll.modify(c.socket(), &mut EpollEvent::new(wanted, i as u64)).is_ok() {
                c.interest = wanted;
            }
        }
    }

    /// No more frames; the connection stays for the leases that the peer still has.
    fn expel(&mut self, i: usize, reason: Reason) {
        let Some(c) = &mut self.connections[i] else { return };
        let Some(peer) = c.peer else { return };
        event!("{}: {:?} is expelled: {reason}", self.settings.path.display(), c.info);
        c.stage = Stage::Expelled;
        c.say_bye(reason);
        self.ledger.expel(peer);
        self.set_interest(i);
        self.let_go(i, peer);
    }

    /// Closes a connection and takes back all that the peer held.
    fn disconnect(&mut self, i: usize, why: &str) {
        let Some(c) = self.connections.get_mut(i).and_then(Option::take) else { return };
        event!("{}: {:?} disconnected: {why}", self.settings.path.display(), c.info);
        // A forked copy of our descriptor would keep the epoll entry alive beyond the close.
        let _ = self.epoll.delete(c.socket());
        if let Some(pidfd) = &c.pidfd {
            let _ = self.epoll.delete(pidfd);
        }
        if let Some(peer) = c.peer {
            self.ledger.remove(peer);
        }
    }

    fn meet_deadlines(&mut self) {
        let now = monotonic_ns();
        let retry = self.retry_ns.is_some_and(|t| t <= now);
        if retry {
            self.retry_ns = None;
        }
        for i in 0..self.connections.len() {
            let Some(c) = &self.connections[i] else { continue };
            match c.stage {
                Stage::Greeting { deadline_ns } if deadline_ns <= now => {
                    c.say_bye(Reason::Silent);
                    self.counts.refused += 1;
                    self.disconnect(i, "it did not say HELLO in time");
                }
                Stage::Announcing if retry => self.announce_to(i),
                _ => {}
            }
        }
        if retry && !self.listening {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
            self.listening = self.epoll.add(&self.listener, event).is_ok();
        }
        if self.settings.lease.is_some() {
            self.enforce_leases(now);
        }
    }

    fn enforce_leases(&mut self, now: u64) {
        let (revoke, end) = self.lease_ns();
        while let Some((peer, id, _)) = self.ledger.oldest_lease(false).filter(|l| l.2.saturating_add(revoke) <= now) {
            // What the peer gave back in time but was not read yet does not count against it.
            let Some(i) = self.connection_of(peer) else { return };
            self.drain(i);
            if self.ledger.oldest_lease(false).map(|l| (l.0, l.1)) != Some((peer, id)) {
                continue;
            }
            self.ledger.revoke(peer, id);
            self.counts.revoked += 1;
            if let Some(c) = &self.connections[i] {
                event!("{}: revoked {id:?} of {:?}", self.settings.path.display(), c.info);
                let _ = c.send(&ToSubscriber::Revoke(id));
            }
        }
        while let Some((peer, _, _)) = self.ledger.oldest_lease(true).filter(|l| l.2.saturating_add(end) <= now) {
            let Some(i) = self.connection_of(peer) else { return };
            self.drain(i);
            if self.ledger.oldest_lease(true).is_some_and(|l| l.0 == peer && l.2.saturating_add(end) <= now) {
                self.expel(i, Reason::LeaseExpired);
            }
        }
    }

    fn connection_of(&self, peer: usize) -> Option<usize> {
        self.connections.iter().position(|c| c.as_ref().is_some_and(|c| c.peer == Some(peer)))
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
        for c in self.connections.iter().flatten() {
            c.say_bye(Reason::Closing);
        }
        // Only our own file: a successor may have replaced it.
        if std::fs::symlink_metadata(&self.settings.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.settings.path);
        }
    }
}

/// Removes the socket of a publisher that is dead: nobody accepts there any more.
fn remove_stale(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let at = |e: Error| e.on(path.display());
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(at(Error::io("lstat", &e))),
        Ok(m) if !m.file_type().is_socket() => {
            return Err(at(Error::new(ErrorKind::WrongFile, "bind", "the path exists and is not a socket")));
        }
        Ok(_) => {}
    }
    match socket::connect(path, Duration::from_millis(1)) {
        Err(Errno::ECONNREFUSED) => match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(at(Error::io("unlink", &e))),
            _ => Ok(()),
        },
        // EAGAIN: its backlog is full, so somebody listens.
        Ok(_) | Err(Errno::EAGAIN) => Err(at(Error::new(ErrorKind::Busy, "bind", "a publisher listens there already"))),
        Err(e) => Err(at(Error::os("connect", e))),
    }
}

/// Different for every start of a publisher.
fn random_epoch() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hasher keys are the kernel's random numbers.
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u64(monotonic_ns());
    hasher.finish()
}
