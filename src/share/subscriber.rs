//! The subscriber: takes a publisher's frames in another process.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::lease::{Link, RemoteHome, RemotePool};
use super::wire::{
    Format, Hello, LeaseId, Policy, Rate, Reason, SlotId, ToPublisher, ToSubscriber, Welcome, MAX_MESSAGE, MAX_SLOTS,
    VERSION,
};
use crate::dmabuf::DmaBuf;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::{BufferSet, Frame, FrameMeta, Histogram};
use crate::log::event;
use crate::sys;
use crate::sys::clock::monotonic_ns;
use crate::sys::socket::{self, Block, FdInbox, Received};

/// The first pause before a reconnect; each further one is twice as long, up to [`RECONNECT_MAX`].
const RECONNECT_MIN: Duration = Duration::from_millis(10);
const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// Waits below this are poll's: SO_RCVTIMEO is rounded up to the kernel's ticks.
const SHORT_WAIT: Duration = Duration::from_millis(10);

/// What to do when the publisher goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconnect {
    /// Report it and stay disconnected.
    #[default]
    Never,
    /// Try again by itself, with pauses from 10 ms to half a second, until it is back.
    Always,
}

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
    /// `NotFound` or `Disconnected` if nobody listens, `PermissionDenied` by the socket's file permissions, `Refused`
    /// with the publisher's reason, `Timeout`.
    pub fn connect(self, timeout: Duration) -> Result<Subscriber> {
        let deadline = sys::wait::deadline(timeout);
        let at = |op| {
            let path = self.path.display().to_string();
            move |e| Error::os(op, e).on(path)
        };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(at("epoll_create1"))?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
            .map_err(at("timerfd_create"))?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(at("epoll_ctl"))?;
        let mut subscriber = Subscriber {
            settings: self,
            epoll,
            timer,
            state: State::Down { next: Instant::now() },
            pause: RECONNECT_MIN,
            receive_timeout: Duration::ZERO,
            owes_releases: false,
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
                State::Up(_) => match subscriber.step(deadline)? {
                    Some(Event::Ended) => {
                        Some(subscriber.error(ErrorKind::Disconnected, "connect", "the publisher hung up".into()))
                    }
                    _ => None,
                },
                _ => subscriber.open().err(),
            };
            if let Some(error) = error {
                // EAGAIN: somebody listens, and has many to accept before us.
                let wait = subscriber.settings.reconnect == Reconnect::Always || error.errno() == Some(libc::EAGAIN);
                if !wait || Instant::now() + RECONNECT_MIN >= deadline {
                    return Err(error);
                }
                std::thread::sleep(RECONNECT_MIN);
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
    dropped: u64,
}

#[derive(Debug)]
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
    epoll: Epoll,
    timer: TimerFd,
    state: State,
    /// Before the next attempt to connect. Grows until a publisher has admitted us.
    pause: Duration,
    receive_timeout: Duration,
    /// Releases wait for room in the socket: the timer wakes us to try again.
    owes_releases: bool,
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
        let opened = socket::connect(&self.settings.path);
        self.state = State::Down { next: Instant::now() + self.pause };
        self.pause = (self.pause * 2).min(RECONNECT_MAX);
        let link = match opened {
            Ok(socket) => Link::new(socket),
            Err(e) => {
                self.arm_timer();
                return Err(Error::os("connect", e).on(self.settings.path.display()));
            }
        };
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            hold: self.settings.hold,
            policy: self.settings.policy,
            rate: self.settings.rate,
        };
        let registered = self.epoll.add(link.socket(), EpollEvent::new(EpollFlags::EPOLLIN, 1));
        if let Err(e) = registered {
            self.arm_timer();
            return Err(Error::os("epoll_ctl", e).on(self.settings.path.display()));
        }
        // A publisher that hung up at once has said why: the first receive brings it.
        link.send(&ToPublisher::Hello(hello));
        // Disarmed, it is not readable any more.
        let _ = self.timer.unset();
        self.receive_timeout = Duration::ZERO;
        self.state = State::Up(Connected { link, welcome: None, pool: None, dropped: 0 });
        Ok(())
    }

    /// The epoll descriptor becomes readable when it is time to reconnect.
    fn arm_timer(&self) {
        if let State::Down { next } = &self.state {
            let pause = next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = self.timer.set(Expiration::OneShot(pause.into()), TimerSetTimeFlags::empty());
        }
    }

    /// Handles one message or waits for one until the deadline.
    fn step(&mut self, deadline: Instant) -> Result<Option<Event>> {
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
            State::Up(_) => {}
        }
        let block = self.prepare_wait(deadline)?;
        match self.step_once(block)? {
            Step::Event(event) => Ok(Some(event)),
            Step::Handled | Step::Nothing => Ok(None),
        }
    }

    /// Makes the next receive wait no longer than until the deadline. SO_RCVTIMEO is set only when it is off by more
    /// than a little: a loop with one timeout sets it once. It counts in the kernel's ticks, so the last milliseconds
    /// are waited by poll.
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
        if !(left..left + slack).contains(&self.receive_timeout) {
            let timeout = left + slack / 2;
            socket::set_receive_timeout(c.link.socket().as_fd(), timeout).map_err(failed("SO_RCVTIMEO"))?;
            self.receive_timeout = timeout;
        }
        Ok(Block::Wait)
    }

    fn step_once(&mut self, block: Block) -> Result<Step> {
        let State::Up(c) = &mut self.state else { return Ok(Step::Nothing) };
        let owes = !c.link.flush();
        if owes || self.owes_releases {
            self.owes_releases = owes;
            let _ = match owes {
                true => self.timer.set(Expiration::OneShot(RECONNECT_MIN.into()), TimerSetTimeFlags::empty()),
                false => self.timer.unset(),
            };
        }
        let mut bytes = [0; MAX_MESSAGE];
        let received = socket::receive_with_fds(c.link.socket().as_fd(), &mut bytes, block, &mut self.inbox);
        let (len, complete) = match received {
            Ok(Received::Message(len)) => (len, true),
            Ok(Received::FdsLost(len)) => (len, false),
            Ok(Received::WouldBlock) => return Ok(Step::Nothing),
            Ok(Received::Closed) => return Ok(self.lost()),
            // Reported once when the peer closed without reading all; what it sent before is still to be read.
            Err(Errno::ECONNRESET) => return Ok(Step::Handled),
            Ok(Received::Truncated) => return self.violated("a message is too long"),
            Err(e) => {
                let error = Error::os("recvmsg", e).on(self.settings.path.display());
                self.lost();
                return Err(error);
            }
        };
        let message = match ToSubscriber::decode(&bytes[..len]) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(Step::Handled),
            Err(e) => return self.violated(&e.to_string()),
        };
        let greeted = c.welcome.is_some();
        match message {
            ToSubscriber::Welcome(welcome) if !greeted && welcome.version == VERSION => Ok(self.welcomed(welcome)),
            ToSubscriber::Bye(reason) => self.bye(reason),
            _ if !greeted => self.violated("the first message must be WELCOME, of our version"),
            ToSubscriber::Welcome(_) => self.violated("a second WELCOME"),
            ToSubscriber::Format(format) => Ok(self.format(format)),
            ToSubscriber::Buffer(id) => self.buffer(id, complete),
            ToSubscriber::Frame(id, meta) => self.frame(id, meta),
            ToSubscriber::Revoke(id) => {
                self.counts.revoked += 1;
                if let Some(pool) = self.incoming().filter(|p| p.format.pool == id.pool) {
                    pool.remote.revoke(id);
                }
                Ok(Step::Handled)
            }
            ToSubscriber::Retire { pool } => {
                if let State::Up(c) = &mut self.state {
                    // RETIRED goes out when the last frame of the pool does.
                    if c.pool.as_ref().is_some_and(|p| p.format.pool == pool) {
                        c.pool = None;
                    }
                }
                Ok(Step::Handled)
            }
            ToSubscriber::End => Ok(Step::Event(Event::Ended)),
        }
    }

    fn welcomed(&mut self, welcome: Welcome) -> Step {
        if let State::Up(c) = &mut self.state {
            c.welcome = Some(welcome);
        }
        self.pause = RECONNECT_MIN;
        event!("{}: admitted, quota {}", self.settings.path.display(), welcome.quota);
        if self.epoch.replace(welcome.epoch).is_none() {
            return Step::Handled;
        }
        self.counts.reconnects += 1;
        Step::Event(Event::Reconnected)
    }

    fn bye(&mut self, reason: Reason) -> Result<Step> {
        match reason {
            // An ordinary end.
            Reason::Closing => Ok(self.lost()),
            reason => {
                let error = self.error(ErrorKind::Refused, "subscribe", reason.to_string());
                // Another try may fare better when a neighbour has left or the publisher was replaced.
                self.pause = RECONNECT_MAX;
                self.lost();
                Err(error)
            }
        }
    }

    fn violated<T>(&mut self, what: &str) -> Result<T> {
        let error = self.error(ErrorKind::Protocol, "receive", format!("the publisher broke the protocol: {what}"));
        self.pause = RECONNECT_MAX;
        self.lost();
        Err(error)
    }

    /// The connection is gone. Frames that are still held stay mapped, but are not leased any more.
    fn lost(&mut self) -> Step {
        let old = std::mem::replace(&mut self.state, State::Over);
        let mut was_up = false;
        if let State::Up(c) = old {
            c.link.close();
            was_up = c.welcome.is_some();
            self.counts.dropped += c.dropped;
            let _ = self.epoll.delete(c.link.socket());
        }
        event!("{}: the connection is gone", self.settings.path.display());
        if self.settings.reconnect == Reconnect::Never {
            return Step::Event(Event::Ended);
        }
        self.state = State::Down { next: Instant::now() + self.pause };
        self.arm_timer();
        if was_up {
            Step::Event(Event::Lost)
        } else {
            Step::Handled
        }
    }

    fn format(&mut self, format: Format) -> Step {
        let State::Up(c) = &mut self.state else { return Step::Nothing };
        let slots = usize::from(format.slots);
        let remote = RemotePool::new(&c.link, format.pool, slots);
        c.pool = Some(Incoming { format, memory: vec![Vec::new(); slots], answered: 0, remote, buffers: None });
        Step::Event(Event::Format(format.layout))
    }

    /// Takes a slot's descriptors, after checking what they are, and answers.
    fn buffer(&mut self, id: SlotId, complete: bool) -> Result<Step> {
        let State::Up(Connected { link, pool: Some(pool), .. }) = &mut self.state else {
            return self.violated("BUFFER without FORMAT");
        };
        let layout = &pool.format.layout;
        let planes = layout.memory_bytes().len();
        let expected =
            pool.format.pool == id.pool && pool.answered == id.slot as usize && pool.answered < pool.memory.len();
        if !expected || (complete && self.inbox.len() != planes) {
            return self.violated("BUFFER out of turn or with a wrong number of descriptors");
        }
        let mut memory = Vec::with_capacity(planes);
        if complete {
            for (i, &needed) in layout.memory_bytes().iter().enumerate() {
                let Some(fd) = self.inbox.take(i) else { break };
                match DmaBuf::from_fd(fd) {
                    Ok(buffer) if buffer.size_bytes() >= needed as usize => memory.push(buffer),
                    Ok(buffer) => {
                        let text =
                            format!("slot {}: {} bytes, its layout needs {needed}", id.slot, buffer.size_bytes());
                        return self.violated(&text);
                    }
                    Err(e) => {
                        let text = format!("slot {}: {e}", id.slot);
                        return self.violated(&text);
                    }
                }
            }
        }
        let ok = memory.len() == planes;
        let answer = if ok { ToPublisher::BufferOk(id) } else { ToPublisher::BufferFailed(id) };
        pool.memory[id.slot as usize] = memory;
        pool.answered += 1;
        let sent = link.send(&answer);
        if pool.answered == pool.memory.len() {
            let memory = std::mem::take(&mut pool.memory);
            let none = memory.iter().all(Vec::is_empty);
            let home = Box::new(RemoteHome(Arc::clone(&pool.remote)));
            pool.buffers = Some(BufferSet::new(*layout, pool.format.cpu_reads, memory, home));
            if none {
                let text = "no file descriptor is left for the publisher's buffers".into();
                let error = self.error(ErrorKind::Exhausted, "BUFFER", text);
                self.pause = RECONNECT_MAX;
                self.lost();
                return Err(error);
            }
        }
        if !sent {
            return Ok(self.lost());
        }
        Ok(Step::Handled)
    }

    fn frame(&mut self, id: LeaseId, meta: FrameMeta) -> Result<Step> {
        let State::Up(c) = &mut self.state else { return Ok(Step::Nothing) };
        let set = c.pool.as_ref().filter(|p| p.format.pool == id.pool).and_then(|p| Some((p, p.buffers.as_ref()?)));
        let Some((pool, buffers)) = set else { return self.violated("FRAME of an unknown pool") };
        let memory = buffers.memory(id.slot as usize);
        let fits = memory.iter().zip(&meta.payload).all(|(buffer, p)| {
            p.offset_bytes.checked_add(p.bytes).is_some_and(|end| end as usize <= buffer.size_bytes())
        });
        if memory.is_empty() || !fits {
            return self.violated("FRAME in a slot we do not have, or larger than its buffer");
        }
        let Some(frame) = buffers.lend(id.slot as usize) else {
            return self.violated("FRAME in a slot that we still hold");
        };
        pool.remote.leased(id);
        c.dropped = meta.dropped;
        self.counts.received += 1;
        self.counts.lost += u64::from(meta.lost);
        self.latency.record_ns(monotonic_ns().saturating_sub(meta.published_ns));
        Ok(Step::Event(Event::Frame(frame.freeze(meta))))
    }
}

enum Step {
    Event(Event),
    Handled,
    Nothing,
}

impl AsFd for Subscriber {
    /// Readable when [`Subscriber::try_next`] has something to do: one descriptor for all connections to come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
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
