//! A subscriber of GStreamer's `unixfdsink`.
//!
//! The sink lends every buffer to all who are connected, asks none of them, and waits for one that does not read. So the
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
use std::time::Duration;

use self::memory::Set;
use self::pending_releases::PendingReleases;
use super::event::{ReceiverStats, SubscriberEvent};
use super::reconnect::Reconnect;
use super::session::Session;
use crate::dmabuf::Shrinkable;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{BufferSet, Frame};
use crate::share::policy::Policy;
use crate::share::unixfd::caps::Caps;
use crate::share::unixfd::from_sink as wire;
use crate::share::wire::MAX_SLOTS;
use crate::station::{sealed, Received, Station};
use crate::sys::socket::FdInbox;
use crate::sys::wait;

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
        self.hold = frames;
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
    /// come. With [`Reconnect::Always`] a sink that is not there yet is tried again until then.
    ///
    /// # Errors
    /// `NotFound` if the socket does not exist, `Disconnected` if no sink listens, `PermissionDenied` by the socket's
    /// file permissions, `WrongFile` if a publisher of the library's own protocol listens, `InvalidArgument` for a hold of
    /// other than 1 to 64 or a [`Policy::Fifo`] of other than 1 to 32, `Timeout`, and those of [`UnixfdSubscriber`] for
    /// what the sink says first.
    pub fn connect(self, timeout: Duration) -> Result<UnixfdSubscriber> {
        let error = |text: String| Error::new(ErrorKind::InvalidArgument, "connect", text).on(self.path.display());
        if !(1..=MAX_SLOTS as u16).contains(&self.hold) {
            return Err(error(format!("hold {}: 1 to {MAX_SLOTS} are possible", self.hold)));
        }
        self.policy.check().map_err(error)?;
        let (path, reconnect) = (self.path.clone(), self.reconnect);
        let session = Session::connect(&path, reconnect, Unixfd { settings: self }, timeout)?;
        if let Some(Connected { releases, is_ended: true, .. }) = session.link() {
            // It said EOS and no CAPS, which its socket does not report again.
            releases.wake();
        }
        Ok(UnixfdSubscriber(session))
    }
}

#[derive(Debug)]
struct Unixfd {
    settings: UnixfdSubscriberBuilder,
}

#[derive(Debug)]
struct Connected {
    releases: Arc<PendingReleases>,
    inbox: wire::Inbox,
    /// The descriptors of the message that is being read, and those of one receive.
    fds: FdInbox,
    fresh: FdInbox,
    /// It has sent something.
    is_greeted: bool,
    caps: Option<Caps>,
    set: Option<Set>,
    sets: u32,
    /// The set that the user knows: of the last frame that was taken, or of the last format that was reported.
    reported: Option<BufferSet>,
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
        self.releases.close();
    }
}

/// Receives the frames of GStreamer's `unixfdsink` (1.24 on), from any pipeline.
///
/// A [`Station`] with the events of a [`Subscriber`](super::Subscriber). [`SubscriberEvent::Paused`] is the sink's EOS.
/// A frame's buffer goes back to the pipeline when its last clone is dropped, on whatever thread, without blocking. When
/// the subscriber is dropped the connection ends, and with it the leases of all frames
/// ([`Frame::is_valid`](crate::frame::Frame::is_valid)).
///
/// The sink sends descriptors with every frame. They are known by what they name
/// ([`DmaBuf::id`](crate::dmabuf::DmaBuf::id)): of a memory that was seen before, the descriptor is closed and the slot
/// used that has it, with its mapping and its imports; another takes the next slot of the set. In steady state nothing
/// is allocated, mapped or kept for a frame. When all [slots](UnixfdSubscriberBuilder::slots) have memory and one more
/// comes, a new set begins: silently, unless the layout has changed. A memory that comes again while a frame in it is
/// held gets another slot.
///
/// A frame's sequence number is the buffer's `offset` where that counts frames, else counted here from 0 on each
/// connection; its timestamp is the PTS, which the sink gives in `CLOCK_MONOTONIC`, or, where it gives none, when it came.
/// DISCONT is a [loss](crate::frame::FrameMeta::lost) of at least one, CORRUPTED
/// [`ERROR`](crate::frame::FrameFlags::ERROR), a bitstream without DELTA_UNIT [`KEY`](crate::frame::FrameFlags::KEY).
///
/// A subscriber must go on reading: the sink waits for one that does not ([`UnixfdSubscriberBuilder::policy`]).
pub struct UnixfdSubscriber(Session<Unixfd>);

impl UnixfdSubscriber {
    /// Returns the settings of a subscriber to the `unixfdsink` whose `socket-path` is `path`.
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

    /// Returns the buffers of the frames that are taken now, as far as they are known: those whose frames have come.
    /// `None` before the first [`SubscriberEvent::Format`].
    pub fn buffers(&self) -> Option<&BufferSet> {
        self.0.link()?.reported.as_ref()
    }

    /// Returns counts since the subscriber connected first. `dropped` are the frames that came and that the policy had no
    /// room for.
    pub fn stats(&self) -> ReceiverStats {
        self.0.io.counts
    }
}

impl sealed::Sealed for UnixfdSubscriber {}

/// Its errors, without [`Reconnect::Always`]: `Protocol` if the sink broke its protocol, with what was wrong (sizes,
/// offsets, a number of descriptors that cannot be, one that is neither dma-buf nor memfd or shrinks, releases that it
/// does not read); `Unsupported` for caps or memories of a kind that no [`Layout`](crate::format::Layout) describes; `Exhausted` if descriptors
/// were lost. The subscriber is over then.
impl Station for UnixfdSubscriber {
    type Event = SubscriberEvent;

    /// Sends releases that found no room. The rest is done by `try_recv`.
    fn dispatch(&mut self) -> Result<()> {
        if let Some(connected) = self.0.link() {
            self.0.io.reconnector.alarm().set_owing(connected.releases.flush() > 0);
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

impl AsFd for UnixfdSubscriber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for UnixfdSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let io = &self.0.io;
        write!(f, "UnixfdSubscriber({}, {}, {} received)", io.path.display(), self.0.state_name(), io.counts.received)
    }
}
