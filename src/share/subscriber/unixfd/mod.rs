//! A subscriber of GStreamer's `unixfdsink`.
//!
//! The sink lends every buffer to every connected client, and waits for a client that does not read. So the subscriber
//! reads until the socket is empty, and gives back at once the frames for which the policy has no room.

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
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::share::{Policy, Reconnect, UnixfdSubscriber};
///
/// let subscriber = UnixfdSubscriber::builder("/run/pipeline/socket")
///     .hold(2)
///     .policy(Policy::Fifo(4))
///     .reconnect(Reconnect::Always)
///     .connect(Duration::from_secs(10))?;
/// # Ok::<(), framelease::Error>(())
/// ```
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
    /// Sets how many frames the caller holds at a time, 1 to 64. Default 1.
    ///
    /// Frames that wait by the policy do not count in this number. A pipeline's source with a fixed number of buffers
    /// (`v4l2src`) needs some more buffers than the held and waiting frames together. To publish the frames with a
    /// [`Publisher`](crate::share::Publisher), set `hold` to the sum of three numbers: the quotas of the publisher's
    /// subscribers, 1 for the newest frame, and the publisher's [reserve](crate::share::PublisherBuilder::reserve).
    pub fn hold(mut self, frames: u16) -> Self {
        self.hold = frames;
        self
    }

    /// Sets what happens to new frames while the caller holds its maximum. Default [`Policy::Latest`].
    ///
    /// With `Latest` and `Fifo`, the subscriber drops and counts frames itself, so the sink does not wait. With
    /// `Block`, the subscriber does not read the socket while all leases are in use. After about 280 frames the sink
    /// stalls. Its pipeline and all of its other clients then stall as well. The pipeline cannot reuse the buffers of
    /// these frames until the subscriber reads them. Use `Block` for coded streams, where no frame may be lost. The
    /// subscriber detects a closed sink only when it reads again.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the number of slots of a buffer set, 1 to 64: how many of the sink's memories are known, mapped and
    /// imported at a time. Default 16. The subscriber needs a slot for each frame that may be held or may wait, plus 1,
    /// and raises a smaller number to this sum.
    ///
    /// If a pipeline has more memories than slots, new sets begin again and again, and devices must import each set. A
    /// pipeline that allocates memory for each frame always causes this. In this case the subscriber
    /// also keeps old memories open that no frame uses any more, at most as many as it has slots.
    pub fn slots(mut self, slots: u16) -> Self {
        self.slots = slots.clamp(1, MAX_SLOTS as u16);
        self
    }

    /// Sets whether to connect again after the sink is gone. Default [`Reconnect::Never`].
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Accepts memfds that can shrink. A producer may forbid sealing; GStreamer's own allocators (1.26) seal their
    /// memfds.
    ///
    /// If a producer truncates such a memfd, a CPU read of the memfd in this process raises SIGBUS, which ends the
    /// process. Use this for trusted producers only. By default, the subscriber itself seals an unsealed memfd against
    /// shrinking. If the producer then tries to shrink the memfd, the producer gets an error. The subscriber refuses a
    /// memfd that cannot be sealed.
    pub fn accept_unsealed(mut self) -> Self {
        self.shrinkable = Shrinkable::Taken;
        self
    }

    /// Connects and waits at most `timeout` until the sink has accepted this subscriber. The sink then sends CAPS. From
    /// then on, all frames of the sink arrive. With [`Reconnect::Always`], the call tries a missing sink again until
    /// the timeout passes.
    ///
    /// # Errors
    /// `NotFound` if the socket does not exist. `Disconnected` if no sink listens. `PermissionDenied` if the socket
    /// file's permissions deny access. `WrongFile` if a publisher of the library's own protocol listens.
    /// `InvalidArgument` if `hold` is not 1 to 64 or a [`Policy::Fifo`] is not 1 to 32. `Timeout` if the sink does not
    /// answer in time. The errors of [`UnixfdSubscriber`] if the sink's first messages are wrong.
    pub fn connect(self, timeout: Duration) -> Result<UnixfdSubscriber> {
        let error = |text: String| Error::new(ErrorKind::InvalidArgument, "connect", text).on(self.path.display());
        if !(1..=MAX_SLOTS as u16).contains(&self.hold) {
            return Err(error(format!("hold {}: 1 to {MAX_SLOTS} are possible", self.hold)));
        }
        self.policy.check().map_err(error)?;
        let (path, reconnect) = (self.path.clone(), self.reconnect);
        let session = Session::connect(&path, reconnect, Unixfd { settings: self }, timeout)?;
        if let Some(Connected { releases, is_ended: true, .. }) = session.link() {
            // The sink sent EOS and no CAPS. Its socket does not become readable for that again.
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
    /// The descriptors of the incomplete message, and those of one receive.
    fds: FdInbox,
    fresh: FdInbox,
    /// The sink has sent a message.
    is_greeted: bool,
    caps: Option<Caps>,
    set: Option<Set>,
    sets: u32,
    /// The set that the caller knows: that of the last frame that it took, or of the last format event.
    reported: Option<BufferSet>,
    /// Frames that the caller gets as soon as there is credit.
    waiting: VecDeque<Frame>,
    /// EOS came after the frames that wait.
    is_ended: bool,
    /// The epoll set has the socket.
    is_watched: bool,
    /// The sequence number of the next frame if none is lost.
    expected: Option<u64>,
}

impl Connected {
    /// Returns `true` if the policy has a use for the sink's next message.
    fn reads(&self, policy: Policy) -> bool {
        !self.is_ended && (policy != Policy::Block || self.waiting.is_empty())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.releases.close();
    }
}

/// Receives the frames of GStreamer's `unixfdsink` (1.24 and later), from any pipeline.
///
/// A `UnixfdSubscriber` is a [`Station`] with the events of a [`Subscriber`](super::Subscriber).
/// [`SubscriberEvent::Paused`] reports the sink's EOS. When a frame's last clone is dropped, on any thread, the frame's
/// buffer returns to the pipeline, without blocking. Dropping the subscriber ends the connection, and with it the
/// leases of all frames ([`Frame::is_valid`](crate::frame::Frame::is_valid)).
///
/// The sink sends descriptors with every frame. The subscriber identifies the memory of each descriptor
/// ([`DmaBuf::id`](crate::dmabuf::DmaBuf::id)). If it knows the memory, it closes the descriptor and uses the memory's
/// slot, with the slot's mapping and imports. A new memory takes the next slot of the set. So in steady state a frame
/// allocates and maps nothing. When all [slots](UnixfdSubscriberBuilder::slots) have memory and a new memory comes, a
/// new set begins. An event reports this only if the layout has changed. If a memory comes again while a frame in it is
/// still held, the memory gets another slot.
///
/// A frame's sequence number is the buffer's `offset`, if the source counts frames there. Otherwise the subscriber
/// counts from 0 on each connection. The timestamp of a frame is its PTS, which the sink gives in `CLOCK_MONOTONIC`. A
/// frame without a PTS gets its time of arrival. The flag DISCONT counts as a [loss](crate::frame::FrameMeta::lost) of
/// at least one frame. CORRUPTED becomes [`ERROR`](crate::frame::FrameFlags::ERROR). A coded frame without DELTA_UNIT
/// gets [`KEY`](crate::frame::FrameFlags::KEY).
///
/// Call `try_recv` regularly: the sink waits for a client that does not read ([`UnixfdSubscriberBuilder::policy`]).
pub struct UnixfdSubscriber(Session<Unixfd>);

impl UnixfdSubscriber {
    /// Returns a builder for a subscriber to the `unixfdsink` whose `socket-path` is `path`.
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

    /// Returns the buffers of the current set that are known so far. A buffer becomes known with its first frame.
    /// `None` before the first [`SubscriberEvent::Format`].
    pub fn buffers(&self) -> Option<&BufferSet> {
        self.0.link()?.reported.as_ref()
    }

    /// Returns counts since the subscriber first connected. `dropped` counts frames that arrived and for which the
    /// policy had no room.
    pub fn stats(&self) -> ReceiverStats {
        self.0.io.counts
    }
}

impl sealed::Sealed for UnixfdSubscriber {}

/// Without [`Reconnect::Always`], the errors are:
///
/// - `Protocol` if the sink broke the protocol. The text names the fault: for example, wrong sizes or offsets, a wrong
///   number of descriptors, a memfd that can shrink, or a sink that does not read releases.
/// - `Unsupported` for caps or memories that no [`Layout`](crate::format::Layout) describes.
/// - `Exhausted` if descriptors were lost.
///
/// After such an error the subscriber has ended.
impl Station for UnixfdSubscriber {
    type Event = SubscriberEvent;

    /// Sends releases for which the socket had no room. `try_recv` does all other work.
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
