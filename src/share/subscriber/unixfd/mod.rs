//! The other direction: a subscriber of GStreamer's `unixfdsink`.
//!
//! The sink lends every buffer to all who are connected, asks nobody, and waits for whoever does not read. So the
//! socket is read until it is empty, and what the policy has no room for is given back at once.

mod memory;
mod pending_releases;
mod picture;
mod receive;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;

use self::memory::Set;
use self::pending_releases::PendingReleases;
use self::receive::Step;
use super::reconnect::{Reconnect, Reconnector};
use super::{Event, ReceiverStats};
use crate::dmabuf::Shrinkable;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::{BufferSet, Frame};
use crate::share::policy::Policy;
use crate::share::unixfd::caps::Caps;
use crate::share::unixfd::from_sink as wire;
use crate::share::wire::MAX_SLOTS;
use crate::sys;
use crate::sys::socket::{self, Carries, FdInbox};

/// Settings of a [`UnixfdSubscriber`].
#[derive(Clone, Debug)]
pub struct UnixfdSubscriberBuilder {
    path: PathBuf,
    hold: u16,
    policy: Policy,
    slots: u16,
    reconnect: Reconnect,
    shrinkable: Shrinkable,
}

impl UnixfdSubscriberBuilder {
    /// Frames that the user of the subscriber has at a time, 1 to 64. Default 1.
    ///
    /// What the policy lets wait comes on top: a pipeline whose source has a fixed number of buffers (`v4l2src`) needs
    /// some beyond both. For a [`Publisher`](crate::share::Publisher) of the frames: the quotas of its
    /// subscribers, the newest frame, and its [reserve](crate::share::PublisherBuilder::reserve).
    pub fn hold(mut self, frames: u16) -> Self {
        self.hold = frames.clamp(1, MAX_SLOTS as u16);
        self
    }

    /// What becomes of frames that come while as many as may be are in use. Default [`Policy::Latest`].
    ///
    /// Under `Latest` and `Fifo` frames are dropped, and counted, before the sink notices. Under `Block` the socket is
    /// not read meanwhile: it takes some 280 frames, of which the pipeline has no more use until they are read, then
    /// the sink stands still, and with it its whole pipeline and all that is connected to it. For a bitstream, which no
    /// frame may miss. That the sink is gone is not seen meanwhile.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Slots of a buffer set, 1 to 64: memories of the sink that are known, mapped and imported at a time. Default 16,
    /// and never fewer than what may be held and may wait, together with one more.
    ///
    /// A pool of more memories makes a new set again and again, each to be imported anew. A pipeline that allocates for
    /// each frame does so in any case, and this many dead ones are kept.
    pub fn slots(mut self, slots: u16) -> Self {
        self.slots = slots.clamp(1, MAX_SLOTS as u16);
        self
    }

    /// Whether to come back by itself after the sink was gone. Default never.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Takes memfds that can shrink, too: of a producer that forbids to seal them, other than GStreamer's own
    /// allocators (1.26), whose memfds are sealed.
    ///
    /// If such a producer truncates one, a CPU that reads it here gets SIGBUS, which ends the process. For producers
    /// that are trusted. (Without this a memfd that is not sealed against shrinking is sealed, which its producer
    /// notices if it wants to shrink it; one that cannot be sealed is refused.)
    pub fn accept_unsealed(mut self) -> Self {
        self.shrinkable = Shrinkable::Taken;
        self
    }

    /// Connects and waits at most `timeout` until the sink has taken us, which it says by CAPS: frames from then on
    /// come. With [`Reconnect::Always`] a sink that is not there yet is waited for as well.
    ///
    /// # Errors
    /// `NotFound` or `Disconnected` if nobody listens, `PermissionDenied` by the socket's file permissions, `WrongFile`
    /// if a publisher of the library's own protocol does, `Timeout`, `InvalidArgument` for [`Policy::Fifo`] of other
    /// than 1 to 32; as [`UnixfdSubscriber::try_next`] for what it says first.
    pub fn connect(self, timeout: Duration) -> Result<UnixfdSubscriber> {
        let deadline = sys::wait::deadline(timeout);
        if matches!(self.policy, Policy::Fifo(n) if !(1..=32).contains(&n)) {
            let text = format!("{}: fifo is 1 to 32", self.policy);
            return Err(Error::new(ErrorKind::InvalidArgument, "connect", text).on(self.path.display()));
        }
        let reconnector = Reconnector::new(&self.path)?;
        let mut subscriber = UnixfdSubscriber {
            settings: self,
            reconnector,
            state: State::Down { next: Instant::now() },
            counts: ReceiverStats::default(),
            was_up: false,
        };
        let mut last = None;
        while !subscriber.is_greeted() {
            if Instant::now() >= deadline {
                let text = format!("no CAPS for {timeout:?}");
                return Err(last.unwrap_or_else(|| subscriber.error(ErrorKind::Timeout, "connect", text)));
            }
            if let Err(error) = subscriber.greet(deadline) {
                let is_final =
                    matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unsupported | ErrorKind::Exhausted);
                if is_final {
                    return Err(error);
                }
                last = Some(error.clone());
                subscriber.settings.reconnect.pause_after(error, deadline)?;
            }
        }
        if let State::Up(Connected { owed, is_ended: true, .. }) = &subscriber.state {
            // It said EOS and no CAPS, which its socket does not tell again.
            owed.wake();
        }
        Ok(subscriber)
    }
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One in each subscriber.
enum State {
    Up(Connected),
    Down { next: Instant },
    Over,
}

#[derive(Debug)]
struct Connected {
    owed: Arc<PendingReleases>,
    inbox: wire::Inbox,
    /// The descriptors of the message that is being read, and those of one receive.
    fds: FdInbox,
    fresh: FdInbox,
    /// It has sent something.
    is_greeted: bool,
    /// The connection before was lost, and the user is to know that this one is up.
    is_back: bool,
    caps: Option<Caps>,
    set: Option<Set>,
    sets: u32,
    /// The set that the user knows: of the last frame that was taken, or of the last format that was told.
    told: Option<BufferSet>,
    /// What the user may have as soon as there is credit.
    waiting: VecDeque<Frame>,
    /// EOS came behind the frames that wait.
    is_ended: bool,
    /// The socket is in the epoll set.
    is_watched: bool,
    /// The sequence number of the next frame, if none is lost.
    expected: Option<u64>,
}

impl Connected {
    /// Whether there is a use for what the sink says next.
    fn reads(&self, policy: Policy) -> bool {
        !self.is_ended && (policy != Policy::Block || self.waiting.is_empty())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.owed.close();
    }
}

/// Receives the frames of GStreamer's `unixfdsink` (1.24 on), from any pipeline.
///
/// Poll the descriptor ([`AsFd`]) and call [`try_next`](Self::try_next), or block in [`next`](Self::next). A frame's
/// buffer goes back to the pipeline when its last clone is dropped, on whatever thread, without blocking; when the
/// subscriber is dropped the connection ends, and with it the leases of all frames ([`Frame::is_valid`]).
///
/// The sink sends descriptors with every frame. They are known by what they name
/// ([`DmaBuf::id`](crate::dmabuf::DmaBuf::id)): of a memory that was seen before, the descriptor is closed and the slot
/// used that has it, with its mapping and its imports; another takes the next slot of the set. In steady state nothing
/// is allocated, mapped or kept for a frame. When all [slots](UnixfdSubscriberBuilder::slots) have memory and one more
/// comes, a new set begins: silently, unless the layout has changed. A memory that comes again while a frame in it is
/// held gets another slot.
///
/// What reads a sink must go on reading it: the sink waits for whoever does not ([`UnixfdSubscriberBuilder::policy`]).
pub struct UnixfdSubscriber {
    settings: UnixfdSubscriberBuilder,
    reconnector: Reconnector,
    state: State,
    counts: ReceiverStats,
    was_up: bool,
}

impl UnixfdSubscriber {
    /// A subscriber to the `unixfdsink` whose `socket-path` is `path`.
    pub fn builder(path: impl AsRef<Path>) -> UnixfdSubscriberBuilder {
        UnixfdSubscriberBuilder {
            path: path.as_ref().to_owned(),
            hold: 1,
            policy: Policy::default(),
            slots: 16,
            reconnect: Reconnect::default(),
            shrinkable: Shrinkable::Sealed,
        }
    }

    /// The next event, if one is there. Never blocks.
    ///
    /// [`Event::Ended`] is the sink's EOS, or the end of the connection where no reconnect was asked for. A frame's
    /// sequence number is the buffer's `offset` where that counts frames, else counted here from 0 on each connection;
    /// its timestamp the PTS, which the sink gives in `CLOCK_MONOTONIC`, or, where it gives none, when it came. DISCONT
    /// is a [loss](crate::frame::FrameMeta::lost) of at least one, CORRUPTED
    /// [`ERROR`](crate::frame::FrameFlags::ERROR), a bitstream without DELTA_UNIT
    /// [`KEY`](crate::frame::FrameFlags::KEY).
    ///
    /// # Errors
    /// `Protocol` if the sink broke its protocol, with what was wrong: sizes, offsets, a number of descriptors that
    /// cannot be, one that is neither dma-buf nor memfd or shrinks, releases that it does not read; `Unsupported` for
    /// caps or memories of a kind that no [`Layout`] describes; `Exhausted` if descriptors were lost. The connection is
    /// over then: the subscriber, too, unless it reconnects.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        loop {
            match &self.state {
                State::Over => return Ok(Some(Event::Ended)),
                State::Down { next } if Instant::now() < *next => return Ok(None),
                State::Down { .. } => drop(self.open()),
                State::Up(_) => return self.advance(),
            }
        }
    }

    /// The next event, waiting at most `timeout`; `None` if nothing came.
    ///
    /// # Errors
    /// As [`UnixfdSubscriber::try_next`].
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Event>> {
        let deadline = sys::wait::deadline(timeout);
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            // Also of a sink that never stops to say what is no event.
            if Instant::now() >= deadline {
                return Ok(None);
            }
            let ready = sys::wait::until(self.as_fd(), PollFlags::POLLIN, deadline);
            ready.map_err(|e| Error::os("poll", e).on(self.settings.path.display()))?;
        }
    }

    /// The layout of the frames that are taken now.
    pub fn layout(&self) -> Option<&Layout> {
        self.buffers().map(BufferSet::layout)
    }

    /// The buffers of the frames that are taken now, as far as they are known: those whose frames have come. `None`
    /// before the first [`Event::Format`].
    pub fn buffers(&self) -> Option<&BufferSet> {
        match &self.state {
            State::Up(c) => c.told.as_ref(),
            _ => None,
        }
    }

    /// Totals. `dropped` are the frames that came and that the policy had no room for.
    pub fn stats(&self) -> ReceiverStats {
        self.counts
    }

    fn error(&self, kind: ErrorKind, op: &'static str, text: String) -> Error {
        Error::new(kind, op, text).on(self.settings.path.display())
    }

    fn is_greeted(&self) -> bool {
        matches!(&self.state, State::Up(c) if c.is_greeted)
    }

    /// Goes a step towards the first message.
    fn greet(&mut self, deadline: Instant) -> Result<()> {
        if !matches!(self.state, State::Up(_)) {
            return self.open();
        }
        match self.receive()? {
            Step::Nothing => {
                let ready = sys::wait::until(self.as_fd(), PollFlags::POLLIN, deadline);
                ready.map(drop).map_err(|e| Error::os("poll", e).on(self.settings.path.display()))
            }
            _ if matches!(self.state, State::Up(_)) => Ok(()),
            _ => Err(self.error(ErrorKind::Disconnected, "connect", "the sink hung up".into())),
        }
    }

    /// Connects. While it fails, the pauses grow.
    fn open(&mut self) -> Result<()> {
        let next = self.reconnector.attempt();
        self.state = State::Down { next };
        match self.connected() {
            Ok(connected) => {
                self.reconnector.be_quiet();
                self.state = State::Up(connected);
                Ok(())
            }
            Err(e) => {
                self.reconnector.wake_at(next);
                Err(e.on(self.settings.path.display()))
            }
        }
    }

    fn connected(&self) -> Result<Connected> {
        let os = |op| move |e| Error::os(op, e);
        let socket = socket::connect(&self.settings.path, Carries::Bytes).map_err(|e| match e {
            Errno::EPROTOTYPE => {
                os("connect")(e).kind_is(ErrorKind::WrongFile).detail("no unixfdsink: the socket carries messages")
            }
            e => os("connect")(e),
        })?;
        let depth = self.settings.policy.depth() as usize;
        // One more comes before one that waits goes.
        let owed = PendingReleases::new(socket, self.settings.hold.into(), depth + 1).map_err(os("eventfd"))?;
        // What was registered before a failure goes with its descriptor.
        self.reconnector.watch(owed.socket()).map_err(os("epoll_ctl"))?;
        self.reconnector.watch(owed.signal()).map_err(os("epoll_ctl"))?;
        Ok(Connected {
            owed,
            inbox: wire::Inbox::default(),
            fds: FdInbox::default(),
            fresh: FdInbox::default(),
            is_greeted: false,
            is_back: false,
            caps: None,
            set: None,
            sets: 0,
            told: None,
            waiting: VecDeque::with_capacity(depth + 1),
            is_ended: false,
            is_watched: true,
            expected: None,
        })
    }
}

impl AsFd for UnixfdSubscriber {
    /// Readable when [`UnixfdSubscriber::try_next`] has something to do: one descriptor for all connections to come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reconnector.epoll().0.as_fd()
    }
}

impl fmt::Debug for UnixfdSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Up(_) => "connected",
            State::Down { .. } => "reconnecting",
            State::Over => "over",
        };
        write!(f, "UnixfdSubscriber({}, {state}, {} received)", self.settings.path.display(), self.counts.received)
    }
}
