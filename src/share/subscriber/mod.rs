//! The subscriber: takes a publisher's frames in another process.

mod receive;
mod reconnect;
mod release;
#[cfg(feature = "unixfd")]
mod unixfd;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;

use self::receive::Step;
use self::reconnect::Reconnector;
use self::release::{Link, RemotePool, SLICE};
use super::policy::{Policy, Rate};
use super::wire::{Format, Hello, LeaseId, ToPublisher, Welcome, MAX_SLOTS, VERSION};
use crate::dmabuf::DmaBuf;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::{BufferSet, Frame};
use crate::sys;
use crate::sys::socket::{self, Block, Carries, FdInbox};

pub use self::reconnect::Reconnect;
#[cfg(feature = "unixfd")]
pub use self::unixfd::{UnixfdSubscriber, UnixfdSubscriberBuilder};
use crate::stats::Histogram;

/// Waits below this are poll's: SO_RCVTIMEO is rounded up to the kernel's ticks.
const SHORT_WAIT: Duration = Duration::from_millis(10);

/// Settings of a [`Subscriber`].
#[derive(Clone, Debug)]
pub struct SubscriberBuilder {
    path: PathBuf,
    hold: u16,
    policy: Policy,
    rate: Rate,
    reconnect: Reconnect,
}

impl SubscriberBuilder {
    /// Frames that this process leases at a time, 1 to 64. Default 1. With the policy's depth it makes the quota.
    /// For a [`Publisher`](super::Publisher) of the frames: the quotas of its subscribers, the newest frame, and its
    /// [reserve](super::PublisherBuilder::reserve).
    pub fn hold(mut self, frames: u16) -> Self {
        self.hold = frames.clamp(1, MAX_SLOTS as u16);
        self
    }

    /// What becomes of frames that come while all leases are in use. Default [`Policy::Latest`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How many of the source's frames are wanted. Default all.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    /// Whether to come back by itself after the publisher was gone. Default never.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Connects and waits at most `timeout` until the publisher has admitted us. With [`Reconnect::Always`] a
    /// publisher that is not there yet is waited for as well.
    ///
    /// # Errors
    /// `NotFound` or `Disconnected` if nobody listens, or who does hangs up; `PermissionDenied` by the socket's file
    /// permissions, `Refused` with the publisher's reason, `Timeout`.
    pub fn connect(self, timeout: Duration) -> Result<Subscriber> {
        let deadline = sys::wait::deadline(timeout);
        let reconnector = Reconnector::new(&self.path)?;
        let mut subscriber = Subscriber {
            settings: self,
            reconnector,
            state: State::Down { next: Instant::now() },
            receive_timeout: Duration::ZERO,
            inbox: FdInbox::default(),
            counts: ReceiverStats::default(),
            latency: Histogram::default(),
            epoch: None,
        };
        loop {
            if let State::Up(Connected { welcome: Some(_), .. }) = subscriber.state {
                return Ok(subscriber);
            }
            let error = match subscriber.state {
                State::Up(_) => {
                    subscriber.step(deadline)?;
                    let is_gone = !matches!(subscriber.state, State::Up(_));
                    let text = "the publisher hung up";
                    is_gone.then(|| subscriber.error(ErrorKind::Disconnected, "connect", text.into()))
                }
                _ => subscriber.open().err(),
            };
            if let Some(error) = error {
                subscriber.settings.reconnect.pause_after(error, deadline)?;
            }
            if Instant::now() >= deadline {
                let text = format!("no answer to HELLO for {timeout:?}");
                return Err(subscriber.error(ErrorKind::Timeout, "connect", text));
            }
        }
    }
}

/// What [`Subscriber::next`] brings.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A frame. Its lease goes back to the publisher when the last clone is dropped.
    Frame(Frame),
    /// The frames that follow have this layout and lie in new buffers. Old frames stay as they are.
    Format(Layout),
    /// The connection was lost and is up again, perhaps to another publisher: sequence numbers may begin anew.
    Reconnected,
    /// The connection was lost; it is being retried. Frames that are still held have lost their leases.
    Lost,
    /// The stream is over: the publisher said so, or it is gone and no reconnect was asked for.
    Ended,
}

/// A subscriber's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverStats {
    /// Frames received.
    pub received: u64,
    /// Frames that were wanted and not given, by the publisher's count, all connections together.
    pub dropped: u64,
    /// Frames that the source itself lost, as far as it reported.
    pub lost: u64,
    /// Leases that the publisher took away.
    pub revoked: u64,
    /// Times the connection came up after the first.
    pub reconnects: u64,
}

/// A publisher's pool as announced so far.
#[derive(Debug)]
struct Incoming {
    format: Format,
    memory: Vec<Vec<DmaBuf>>,
    answered: usize,
    remote: Arc<RemotePool>,
    buffers: Option<BufferSet>,
}

#[derive(Debug)]
struct Connected {
    link: Arc<Link>,
    welcome: Option<Welcome>,
    pool: Option<Incoming>,
    /// The number of the last FORMAT.
    last_pool: Option<u32>,
    /// Retired pools of which frames are perhaps held: their leases can still be revoked.
    old: Vec<Weak<RemotePool>>,
    dropped: u64,
}

impl Connected {
    /// No more frames of the current pool. RETIRED goes out when the last frame of it does.
    fn retire(&mut self) {
        if let Some(pool) = self.pool.take() {
            self.old.retain(|p| p.strong_count() > 0);
            self.old.push(Arc::downgrade(&pool.remote));
        }
    }

    /// The publisher takes a lease away. One that went back meanwhile is no concern of ours.
    fn revoke(&self, id: LeaseId) {
        let current = self.pool.iter().map(|p| Arc::clone(&p.remote));
        let pools = current.chain(self.old.iter().filter_map(Weak::upgrade));
        pools.filter(|p| p.number() == id.pool).for_each(|p| p.revoke(id));
    }
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One in each subscriber.
enum State {
    Up(Connected),
    Down { next: Instant },
    Over,
}

/// Receives the frames of a [`Publisher`](super::Publisher) in another process.
///
/// Poll the descriptor ([`AsFd`]) and call [`try_next`](Self::try_next), or block in [`next`](Self::next). A frame
/// costs one receive and, when its last clone is dropped, one send; no allocation, no mapping, no descriptor.
pub struct Subscriber {
    settings: SubscriberBuilder,
    reconnector: Reconnector,
    state: State,
    receive_timeout: Duration,
    inbox: FdInbox,
    counts: ReceiverStats,
    latency: Histogram,
    epoch: Option<u64>,
}

impl Subscriber {
    /// A subscriber to the publisher that listens at `path`.
    pub fn builder(path: impl AsRef<Path>) -> SubscriberBuilder {
        SubscriberBuilder {
            path: path.as_ref().to_owned(),
            hold: 1,
            policy: Policy::default(),
            rate: Rate::default(),
            reconnect: Reconnect::default(),
        }
    }

    /// The next event, if one is there. Never blocks. One system call; none while disconnected and pausing.
    ///
    /// # Errors
    /// `Refused` with the publisher's reason, `Protocol` if the publisher broke it, `Exhausted` if none of a pool's
    /// buffers could be taken for want of descriptors. The subscriber is over then, unless it reconnects.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        loop {
            match &self.state {
                State::Over => return Ok(Some(Event::Ended)),
                State::Down { next } if Instant::now() < *next => return Ok(None),
                State::Down { .. } => drop(self.open()),
                State::Up(_) => match self.step_once(Block::DontWait)? {
                    Step::Event(event) => return Ok(Some(event)),
                    Step::Handled => {}
                    Step::Nothing => return Ok(None),
                },
            }
        }
    }

    /// The next event, waiting at most `timeout`; `None` if nothing came. One system call per frame.
    ///
    /// # Errors
    /// As [`Subscriber::try_next`].
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Event>> {
        let deadline = sys::wait::deadline(timeout);
        loop {
            if let Some(event) = self.step(deadline)? {
                return Ok(Some(event));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// The layout of the frames, once the publisher has a source.
    pub fn layout(&self) -> Option<&Layout> {
        self.incoming().map(|p| &p.format.layout)
    }

    /// The buffers of the current pool, to import them before the first frame. `None` until all are here.
    pub fn buffers(&self) -> Option<&BufferSet> {
        self.incoming()?.buffers.as_ref()
    }

    /// Whether the publisher's buffers can be mapped for writing by every subscriber: udmabuf and dma-heap
    /// descriptors cannot be made read-only.
    pub fn is_writable(&self) -> bool {
        self.incoming().is_some_and(|p| p.format.writable)
    }

    /// Leases plus waiting frames that the publisher grants us.
    pub fn quota(&self) -> usize {
        match &self.state {
            State::Up(Connected { welcome: Some(w), .. }) => usize::from(w.quota),
            _ => 0,
        }
    }

    /// Totals.
    pub fn stats(&self) -> ReceiverStats {
        let mut counts = self.counts;
        if let State::Up(c) = &self.state {
            counts.dropped += c.dropped;
        }
        counts
    }

    /// From the publisher's send to our receive, in nanoseconds.
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    fn incoming(&self) -> Option<&Incoming> {
        match &self.state {
            State::Up(c) => c.pool.as_ref(),
            _ => None,
        }
    }

    fn error(&self, kind: ErrorKind, op: &'static str, text: String) -> Error {
        Error::new(kind, op, text).on(self.settings.path.display())
    }

    /// Connects and says HELLO. While it fails, the pauses grow.
    fn open(&mut self) -> Result<()> {
        let next = self.reconnector.attempt();
        self.state = State::Down { next };
        match self.greet() {
            Ok(link) => {
                self.reconnector.be_quiet();
                self.receive_timeout = Duration::ZERO;
                self.state = State::Up(Connected {
                    link,
                    welcome: None,
                    pool: None,
                    last_pool: None,
                    old: Vec::new(),
                    dropped: 0,
                });
                Ok(())
            }
            Err(error) => {
                self.reconnector.wake_at(next);
                Err(error)
            }
        }
    }

    fn greet(&self) -> Result<Arc<Link>> {
        let failed = |op| move |e| Error::os(op, e).on(self.settings.path.display());
        let socket = socket::connect(&self.settings.path, Carries::Messages).map_err(failed("connect"))?;
        let link = Link::new(socket, self.settings.hold, self.reconnector.alarm());
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            hold: self.settings.hold,
            policy: self.settings.policy,
            rate: self.settings.rate,
        };
        self.reconnector.watch(link.socket()).map_err(failed("epoll_ctl"))?;
        // A publisher that hung up at once has said why: the first receive brings it. But what was not sent for want of
        // memory must be: nothing else makes it speak.
        if let Ok(false) = socket::send(link.socket().as_fd(), ToPublisher::Hello(hello).encode().as_bytes(), &[]) {
            return Err(failed("sendmsg")(Errno::EAGAIN));
        }
        Ok(link)
    }

    /// Handles one message or waits for one until the deadline.
    fn step(&mut self, mut deadline: Instant) -> Result<Option<Event>> {
        match &self.state {
            State::Over => return Ok(Some(Event::Ended)),
            State::Down { next } => {
                let next = *next;
                std::thread::sleep(next.min(deadline).saturating_duration_since(Instant::now()));
                if next <= deadline {
                    let _ = self.open();
                }
                return Ok(None);
            }
            // The publisher may have nothing to say until it has what is owed, or will be.
            State::Up(c) => {
                if let Some(pause) = c.link.flush() {
                    deadline = deadline.min(Instant::now() + pause);
                }
            }
        }
        let block = self.prepare_wait(deadline)?;
        match self.step_once(block)? {
            Step::Event(event) => Ok(Some(event)),
            Step::Handled | Step::Nothing => Ok(None),
        }
    }

    /// Makes the next receive wait no longer than until the deadline. SO_RCVTIMEO is set only when it is short, or too
    /// long by more than a little: a loop with one timeout sets it once. It counts in the kernel's ticks, so the last
    /// milliseconds are waited by poll.
    fn prepare_wait(&mut self, deadline: Instant) -> Result<Block> {
        let State::Up(c) = &self.state else { return Ok(Block::DontWait) };
        let failed = |op| {
            let path = self.settings.path.display().to_string();
            move |e| Error::os(op, e).on(path)
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left < SHORT_WAIT {
            sys::wait::until(c.link.socket().as_fd(), PollFlags::POLLIN, deadline).map_err(failed("poll"))?;
            return Ok(Block::DontWait);
        }
        let slack = (left / 8).min(SHORT_WAIT);
        if !(left.min(SLICE)..=left + slack).contains(&self.receive_timeout) {
            let timeout = left + slack / 2;
            socket::set_receive_timeout(c.link.socket().as_fd(), timeout).map_err(failed("SO_RCVTIMEO"))?;
            self.receive_timeout = timeout;
        }
        Ok(Block::Wait)
    }
}

impl AsFd for Subscriber {
    /// Readable when [`Subscriber::try_next`] has something to do: one descriptor for all connections to come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reconnector.epoll().0.as_fd()
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Up(c) if c.welcome.is_some() => "connected",
            State::Up(_) => "greeting",
            State::Down { .. } => "reconnecting",
            State::Over => "over",
        };
        write!(f, "Subscriber({}, {state}, {} received)", self.settings.path.display(), self.counts.received)
    }
}
