//! The subscriber of the library's own protocol. It reads one message at a time and checks every field.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::builder::SubscriberBuilder;
use super::event::{ReceiverStats, SubscriberEvent};
use super::reconnect::Reconnector;
use super::release::{Link, RemoteOwner, RemotePool, SLICE};
use super::session::{connect_error, Dialect, Fault, Io, Read, Session};
use crate::dmabuf::DmaBuf;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{BufferSet, FrameMeta};
use crate::share::peer_info::PeerInfo;
use crate::share::policy::Policy;
use crate::share::wire::{
    Bye, Format, Hello, LeaseId, SlotId, ToPublisher, ToSubscriber, Welcome, MAX_MESSAGE, VERSION,
};
use crate::station::{sealed, Received, Station};
use crate::stats::Histogram;
use crate::sys::clock::monotonic_ns;
use crate::sys::peer::{self, PeerProcess, PresumedProcess};
use crate::sys::socket::{self, Batch, Block, Carries, FdInbox, BATCH};
use crate::sys::wait::{self, Waited};

/// Waits shorter than this use `poll`, because the kernel rounds SO_RCVTIMEO up to its ticks.
const SHORT_WAIT: Duration = Duration::from_millis(10);

impl SubscriberBuilder {
    /// Connects and waits at most `timeout` until the publisher has admitted this subscriber.
    ///
    /// With [`Reconnect::Always`](super::Reconnect::Always) this call tries again until the timeout passes: every 10 ms
    /// if the publisher is missing, and twice a second if the publisher refuses for a
    /// [temporary](crate::Reason::is_temporary) reason. After `timeout` the call returns the error of the last attempt.
    /// A signal that is blocked for a signalfd does not end the call. A program that must end quickly passes a short
    /// timeout and calls again.
    ///
    /// # Errors
    /// `NotFound` if the socket does not exist. `Disconnected` if no publisher listens, or if the publisher closes the
    /// connection. `PermissionDenied` if the socket file's permissions deny access. `Refused` with the publisher's
    /// reason ([`Error::reason`]). `InvalidArgument` for settings that no publisher accepts. `Timeout` if the publisher
    /// does not answer in time.
    pub fn connect(self, timeout: Duration) -> Result<Subscriber> {
        self.check()?;
        let (path, reconnect) = (self.path.clone(), self.reconnect);
        let most = if self.policy == Policy::Latest { BATCH } else { 1 };
        let native = Native { settings: self, batch: Batch::new(), most, latency: Histogram::default() };
        Session::connect(&path, reconnect, native, timeout).map(Subscriber)
    }
}

/// Receives the frames of a [`Publisher`](crate::share::Publisher) in another process.
///
/// A frame costs one receive and, when its last clone is dropped, one send. It costs no allocation, mapping or
/// descriptor. Under [`Policy::Latest`] one receive reads all waiting frames and returns the newest.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::share::{Reconnect, Subscriber, SubscriberEvent};
/// use framelease::{Received, Station};
///
/// let builder = Subscriber::builder("/run/camera/socket").reconnect(Reconnect::Always);
/// let mut subscriber = builder.connect(Duration::from_secs(10))?;
/// loop {
///     match subscriber.recv(Duration::from_secs(1))? {
///         Received::Item(SubscriberEvent::Frame(frame)) => println!("{frame:?}"),
///         Received::Item(event) => println!("{event:?}"), // a format, a pause, a publisher that restarts
///         Received::Nothing => println!("no frame for a second"),
///         Received::Ended => break, // not with Reconnect::Always
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Subscriber(Session<Native>);

impl Subscriber {
    /// Returns a builder for a subscriber to the publisher that listens at `path`.
    pub fn builder(path: impl AsRef<Path>) -> SubscriberBuilder {
        SubscriberBuilder::new(path.as_ref())
    }

    /// Returns the buffers of the current pool, to import them before the first frame. `None` until all of these
    /// buffers have arrived.
    pub fn buffers(&self) -> Option<&BufferSet> {
        self.incoming()?.buffers.as_ref()
    }

    /// Returns `true` if every subscriber can map the publisher's buffers for writing. This is so if the buffers come
    /// from udmabuf or a dma-heap, because such descriptors cannot be made read-only.
    pub fn is_writable(&self) -> bool {
        self.incoming().is_some_and(|p| p.format.writable)
    }

    /// Returns the quota that the publisher granted: the frames that this process may hold, plus the frames that may
    /// wait for it.
    pub fn quota(&self) -> usize {
        self.0.link().and_then(|c| c.welcome).map_or(0, |w| usize::from(w.quota))
    }

    /// Returns counts since the subscriber first connected.
    pub fn stats(&self) -> ReceiverStats {
        let mut counts = self.0.io.counts;
        counts.dropped = counts.dropped.saturating_add(self.0.link().map_or(0, |c| c.dropped));
        counts.watches_process = self.0.link().is_some_and(|c| c.link.pidfd().is_some());
        counts
    }

    /// Returns the process that listened at the socket when this subscriber connected, as the kernel recorded it.
    /// Returns `None` while the subscriber is disconnected. See [`SubscriberBuilder::publisher_user`].
    pub fn publisher(&self) -> Option<PeerInfo> {
        self.0.link().map(|c| c.publisher)
    }

    /// Returns a histogram of the times from the publisher's send to the receive in this process, in nanoseconds.
    /// Frames that were released unseen count as well. So if this process was stopped for a while, the histogram
    /// contains long times.
    pub fn latency(&self) -> &Histogram {
        &self.0.dialect.latency
    }

    fn incoming(&self) -> Option<&Incoming> {
        self.0.link()?.pool.as_ref()
    }
}

impl sealed::Sealed for Subscriber {}

/// `try_recv` costs one system call, whether it finds a frame or not. While the subscriber is disconnected, `try_recv`
/// costs no system call.
///
/// Without [`Reconnect::Always`](super::Reconnect::Always), the errors are as follows. `Refused`, with the publisher's
/// reason. `Protocol` if the publisher broke the protocol. `Exhausted` if the process has no descriptor left for a
/// pool's buffers. After such an error the subscriber has ended.
impl Station for Subscriber {
    type Event = SubscriberEvent;

    /// Sends releases for which the socket had no room. `try_recv` does all other work.
    fn dispatch(&mut self) -> Result<()> {
        if let Some(connected) = self.0.link() {
            connected.link.flush();
        }
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<SubscriberEvent>> {
        self.0.next(None)
    }

    fn recv(&mut self, timeout: Duration) -> Result<Received<SubscriberEvent>> {
        self.0.next(Some(wait::deadline(timeout)))
    }
}

impl AsFd for Subscriber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let io = &self.0.io;
        write!(f, "Subscriber({}, {}, {} received)", io.path.display(), self.0.state_name(), io.counts.received)
    }
}

/// A publisher's pool, as far as it was announced.
#[derive(Debug)]
struct Incoming {
    format: Format,
    memory: Vec<Vec<DmaBuf>>,
    answered: usize,
    remote: Arc<RemotePool>,
    buffers: Option<BufferSet>,
}

#[derive(Debug)]
struct Native {
    settings: SubscriberBuilder,
    batch: Batch<MAX_MESSAGE>,
    /// How many messages one receive reads.
    most: usize,
    latency: Histogram,
}

#[derive(Debug)]
struct Connected {
    link: Arc<Link>,
    publisher: PeerInfo,
    /// The process that may be the publisher, until the first message shows whether it is.
    presumed: Option<PresumedProcess>,
    receive_timeout: Duration,
    /// How many receives in a row found no message.
    idle: u32,
    welcome: Option<Welcome>,
    pool: Option<Incoming>,
    /// The number of the last FORMAT.
    last_pool: Option<u32>,
    /// Retired pools whose frames may still be held: their leases can still be revoked.
    old: Vec<Weak<RemotePool>>,
    dropped: u64,
    /// The generation of the last frame.
    newest: u64,
}

impl Dialect for Native {
    type Link = Connected;

    fn open(&mut self, reconnector: &Reconnector) -> Result<Connected> {
        let failed = |op| move |e| Error::os(op, e);
        let SubscriberBuilder { ref path, hold, policy, rate, fences, .. } = self.settings;
        let socket = socket::connect(path, Carries::Messages).map_err(connect_error)?;
        let publisher = PeerInfo::from(peer::credentials(socket.as_fd()).map_err(failed("SO_PEERCRED"))?);
        self.settings.check_publisher(&publisher)?;
        let process = peer::process(socket.as_fd(), publisher.pid);
        if matches!(process, PeerProcess::Ended) {
            // A child that the publisher has forked still has the listening socket.
            return Err(connect_error(Errno::ECONNREFUSED));
        }
        let link = Link::new(socket, hold, reconnector.alarm());
        let hello = Hello { version_min: VERSION, version_max: VERSION, hold, policy, rate, fences };
        reconnector.watch(link.socket()).map_err(failed("epoll_ctl"))?;
        // Without the pidfd, the hang-up still shows that the publisher died.
        let presumed = match process {
            PeerProcess::Known(pidfd) => {
                let _ = reconnector.watch(link.set_pidfd(pidfd));
                None
            }
            PeerProcess::Presumed(presumed) => Some(presumed),
            PeerProcess::Unknown | PeerProcess::Ended => None,
        };
        // A publisher that has already hung up sent a reason, which the first receive reads. But if HELLO could not be
        // sent for lack of memory, this must fail: the publisher would wait for it.
        let connected = Connected {
            link,
            publisher,
            presumed,
            receive_timeout: Duration::ZERO,
            idle: 0,
            welcome: None,
            pool: None,
            last_pool: None,
            old: Vec::new(),
            dropped: 0,
            newest: 0,
        };
        let hello = ToPublisher::Hello(hello).encode();
        if let Ok(false) = socket::send(connected.link.socket().as_fd(), hello.as_bytes(), &[]) {
            connected.unwatch(reconnector);
            return Err(failed("sendmsg")(Errno::EAGAIN));
        }
        Ok(connected)
    }

    fn close(&mut self, connected: Connected, io: &mut Io) {
        connected.link.close();
        io.counts.dropped = io.counts.dropped.saturating_add(connected.dropped);
        connected.unwatch(&io.reconnector);
    }

    fn is_admitted(connected: &Connected) -> bool {
        connected.welcome.is_some()
    }

    fn read(&mut self, c: &mut Connected, io: &mut Io, deadline: Option<Instant>) -> std::result::Result<Read, Fault> {
        // The publisher may wait for the releases that found no room before it sends more.
        let pause = c.link.flush();
        let block = match deadline {
            None => Block::DontWait,
            Some(deadline) => {
                let deadline = pause.map_or(deadline, |pause| deadline.min(Instant::now() + pause));
                match c.prepare_wait(io, deadline)? {
                    Some(block) => block,
                    None => return Ok(Read::Interrupted),
                }
            }
        };
        let mut got = std::array::from_fn(|_| socket::Received::WouldBlock);
        let socket = c.link.socket().as_fd();
        let count = match socket::receive_batch(socket, &mut self.batch, self.most, block, &mut got) {
            Ok(count) => count,
            // Reported once if the peer closed without reading everything. Earlier messages can still be read.
            Err(Errno::ECONNRESET) => return Ok(Read::Some),
            Err(e) => return Err(io.failed("recvmsg")(e).into()),
        };
        if count == 0 {
            if got[0] == socket::Received::Interrupted {
                return Ok(Read::Interrupted);
            }
            return c.nothing(io, block);
        }
        c.idle = 0;
        if let Some(presumed) = c.presumed.take() {
            // The first message answers HELLO.
            peer::end_credentials(c.link.socket().as_fd());
            if let Some(pidfd) = presumed.confirmed_by(self.batch.sender(0)) {
                let _ = io.reconnector.watch(c.link.set_pidfd(pidfd));
            }
        }
        if count > 1 {
            c.link.cork();
        }
        let handled = (0..count).try_for_each(|i| self.handle(c, io, i, &got[i]));
        if count > 1 {
            c.link.flush();
        }
        if handled.is_err() {
            // No receive follows, which would close them.
            self.batch.close_fds();
        }
        handled.map(|()| Read::Some)
    }
}

impl Connected {
    fn unwatch(&self, reconnector: &Reconnector) {
        reconnector.unwatch(self.link.socket());
        if let Some(pidfd) = self.link.pidfd() {
            reconnector.unwatch(pidfd);
        }
    }

    /// Handles a receive without a message. Checks the publisher's process only after a wait or a second empty receive:
    /// a loop that reads until the socket is empty would otherwise pay for it at each frame.
    fn nothing(&mut self, io: &Io, block: Block) -> std::result::Result<Read, Fault> {
        self.idle = self.idle.saturating_add(1);
        if let Some(pidfd) = self.link.pidfd().filter(|_| self.idle > 1 || block == Block::Wait) {
            if wait::readable(pidfd.as_fd(), Instant::now()).is_ok_and(|waited| waited == Waited::Ready) {
                return Err(Fault::clean(&io.path, "the publisher's process has ended"));
            }
        }
        Ok(Read::Nothing)
    }

    /// Limits the next receive to the deadline. Sets SO_RCVTIMEO only if it is too short, or clearly too long: a loop
    /// with one timeout sets it once. SO_RCVTIMEO counts in the kernel's ticks, so `poll` waits for the last
    /// milliseconds. `None` if a signal handler ran.
    ///
    /// The kernel never restarts a receive with SO_RCVTIMEO after a signal, not even with SA_RESTART.
    fn prepare_wait(&mut self, io: &Io, deadline: Instant) -> Result<Option<Block>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left < SHORT_WAIT {
            return match wait::events(self.link.socket().as_fd(), PollFlags::POLLIN, deadline) {
                Ok(_) => Ok(Some(Block::DontWait)),
                Err(Errno::EINTR) => Ok(None),
                Err(e) => Err(io.failed("poll")(e)),
            };
        }
        let slack = (left / 8).min(SHORT_WAIT);
        if !(left.min(SLICE)..=left + slack).contains(&self.receive_timeout) {
            let timeout = (left + slack / 2).min(SLICE);
            socket::set_receive_timeout(self.link.socket().as_fd(), timeout).map_err(io.failed("SO_RCVTIMEO"))?;
            self.receive_timeout = timeout;
        }
        Ok(Some(Block::Wait))
    }

    /// Ends the current pool. RETIRED is sent when its last frame is dropped.
    fn retire(&mut self) {
        if let Some(pool) = self.pool.take() {
            self.old.retain(|p| p.strong_count() > 0);
            self.old.push(Arc::downgrade(&pool.remote));
        }
    }

    /// Revokes a lease. Does nothing if it was released in the meantime.
    fn revoke(&self, id: LeaseId) {
        let current = self.pool.iter().map(|p| Arc::clone(&p.remote));
        let pools = current.chain(self.old.iter().filter_map(Weak::upgrade));
        pools.filter(|p| p.number() == id.pool).for_each(|p| p.revoke(id));
    }
}

type Handled = std::result::Result<(), Fault>;

fn violated<T>(io: &Io, what: &str) -> std::result::Result<T, Fault> {
    Err(io.error(ErrorKind::Protocol, "receive", format!("the publisher broke the protocol: {what}")).into())
}

impl Native {
    /// Handles the `i`th message of the batch.
    fn handle(&mut self, c: &mut Connected, io: &mut Io, i: usize, got: &socket::Received) -> Handled {
        use socket::Received as R;
        let (len, complete) = match *got {
            R::Message(len) => (len, true),
            R::FdsLost(len) => (len, false),
            R::WouldBlock | R::Interrupted => return Ok(()),
            R::Closed => return Err(Fault::clean(&io.path, "the publisher hung up")),
            R::Truncated => return violated(io, "a message that is too long"),
        };
        let (bytes, fds) = self.batch.message(i, len);
        let message = match ToSubscriber::decode(bytes) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(e) => return violated(io, &e.to_string()),
        };
        if !matches!(message, ToSubscriber::Buffer(_)) {
            fds.clear();
        }
        let is_greeted = c.welcome.is_some();
        match message {
            ToSubscriber::Welcome(welcome) if !is_greeted && welcome.version == VERSION => {
                crate::log::event!("{}: admitted, quota {}", io.path.display(), welcome.quota);
                if self.settings.fences && !welcome.fences {
                    let text = "the publisher does not wait for fences; possibly its fence_timeout is not set";
                    return Err(io.error(ErrorKind::Unsupported, "connect", text).into());
                }
                c.welcome = Some(welcome);
                Ok(())
            }
            ToSubscriber::Bye(bye) => Err(said_bye(io, &bye)),
            _ if !is_greeted => violated(io, "the first message must be WELCOME, with a supported version"),
            ToSubscriber::Welcome(_) => violated(io, "a second WELCOME"),
            ToSubscriber::Format(format) => on_format(c, io, format),
            ToSubscriber::Buffer(id) => on_buffer(c, io, id, complete, fds),
            ToSubscriber::Frame(id, meta) => self.on_frame(c, io, id, meta),
            ToSubscriber::Newer { generation } => {
                // The frame is dropped here, which releases it, and the newest follows.
                if generation >= c.newest && self.settings.policy == Policy::Latest {
                    if let Some(SubscriberEvent::Frame(_)) = io.events.back() {
                        io.events.pop_back();
                        io.counts.received -= 1;
                        io.counts.skipped += 1;
                    }
                }
                Ok(())
            }
            ToSubscriber::Revoke(id) => {
                io.counts.revoked += 1;
                c.revoke(id);
                Ok(())
            }
            ToSubscriber::Retire { pool } => {
                if c.pool.as_ref().map_or(true, |p| p.format.pool != pool) {
                    return violated(io, "RETIRE of a pool that is not the current one");
                }
                c.retire();
                Ok(())
            }
            ToSubscriber::End => {
                io.events.push_back(SubscriberEvent::Paused);
                Ok(())
            }
        }
    }

    fn on_frame(&mut self, c: &mut Connected, io: &mut Io, id: LeaseId, meta: FrameMeta) -> Handled {
        let set = c.pool.as_ref().filter(|p| p.format.pool == id.pool).and_then(|p| Some((p, p.buffers.as_ref()?)));
        let Some((pool, buffers)) = set else { return violated(io, "FRAME of an unknown pool") };
        let memory = buffers.memory(id.slot as usize);
        let fits = memory.iter().zip(&meta.payload).all(|(buffer, p)| {
            p.offset_bytes.checked_add(p.bytes).is_some_and(|end| end as usize <= buffer.size_bytes())
        });
        if memory.is_empty() || !fits {
            return violated(io, "FRAME in a slot that was not announced, or larger than its buffer");
        }
        if pool.remote.had(id) || !c.link.has_credit() {
            return violated(io, "FRAME of an old generation, or while this subscriber holds its maximum");
        }
        let Some(frame) = buffers.lend(id.slot as usize) else {
            return violated(io, "FRAME in a slot that this subscriber still holds");
        };
        pool.remote.leased(id);
        (c.dropped, c.newest) = (meta.dropped, id.generation);
        io.counts.received += 1;
        io.counts.lost = io.counts.lost.saturating_add(u64::from(meta.lost));
        self.latency.record_ns(monotonic_ns().saturating_sub(meta.published_ns));
        let mut frame = frame.freeze(meta);
        if self.settings.policy == Policy::Latest {
            if let Some(SubscriberEvent::Frame(older)) = io.events.back_mut() {
                // Frames that the source lost before the older frame are lost before this one, too.
                let mut meta = *frame.meta();
                meta.lost = meta.lost.saturating_add(older.meta().lost);
                frame = frame.with_meta(meta);
                io.counts.received -= 1;
                io.counts.skipped += 1;
                *older = frame;
                return Ok(());
            }
        }
        io.events.push_back(SubscriberEvent::Frame(frame));
        Ok(())
    }
}

fn said_bye(io: &Io, bye: &Bye) -> Fault {
    use crate::error::Reason;
    let is_clean = bye.reason == Reason::Closing;
    let error = Error::refused("subscribe", bye.reason, bye.text()).on(io.path.display());
    let error = if is_clean { error.kind_is(ErrorKind::Disconnected) } else { error };
    Fault { error, is_clean }
}

fn on_format(c: &mut Connected, io: &mut Io, format: Format) -> Handled {
    if c.pool.is_some() || c.last_pool == Some(format.pool) {
        return violated(io, "FORMAT before RETIRE, or with the number of the last pool");
    }
    let slots = usize::from(format.slots);
    let remote = RemotePool::new(&c.link, format.pool, slots);
    c.pool = Some(Incoming { format, memory: vec![Vec::new(); slots], answered: 0, remote, buffers: None });
    c.last_pool = Some(format.pool);
    Ok(())
}

/// Takes a slot's descriptors, checks what they are, and answers.
fn on_buffer(c: &mut Connected, io: &mut Io, id: SlotId, complete: bool, fds: &mut FdInbox) -> Handled {
    let Connected { link, pool: Some(pool), .. } = c else { return violated(io, "BUFFER without FORMAT") };
    let layout = &pool.format.layout;
    let planes = layout.memory_bytes().len();
    let expected =
        pool.format.pool == id.pool && pool.answered == id.slot as usize && pool.answered < pool.memory.len();
    if !expected || (complete && fds.len() != planes) {
        return violated(io, "BUFFER out of turn or with a wrong number of descriptors");
    }
    let mut memory = Vec::with_capacity(planes);
    if complete {
        for (i, &needed) in layout.memory_bytes().iter().enumerate() {
            let Some(fd) = fds.take(i) else { break };
            match DmaBuf::from_fd(fd) {
                Ok(buffer) if buffer.size_bytes() >= needed as usize => memory.push(buffer),
                Ok(buffer) => {
                    let text = format!("slot {}: {} bytes, the layout needs {needed}", id.slot, buffer.size_bytes());
                    return violated(io, &text);
                }
                Err(e) => return violated(io, &format!("slot {}: {e}", id.slot)),
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
        let owner = Box::new(RemoteOwner(Arc::clone(&pool.remote)));
        let buffers = pool.buffers.insert(BufferSet::new(*layout, pool.format.cpu_reads, memory, owner));
        if none {
            let text = "no file descriptor is left for the publisher's buffers";
            return Err(io.error(ErrorKind::Exhausted, "BUFFER", text).into());
        }
        io.events.push_back(SubscriberEvent::Format(buffers.clone()));
    }
    if sent {
        Ok(())
    } else {
        Err(Fault::clean(&io.path, "the publisher does not take answers"))
    }
}
