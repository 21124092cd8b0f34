//! Settings of a subscriber.

use std::path::{Path, PathBuf};

use super::reconnect::Reconnect;
use crate::error::{Error, ErrorKind, Result};
use crate::share::peer_info::PeerInfo;
use crate::share::policy::{Policy, Rate};
use crate::share::wire::MAX_SLOTS;

/// Settings of a [`Subscriber`](super::Subscriber).
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::share::{Policy, Rate, Reconnect, Subscriber};
///
/// let subscriber = Subscriber::builder("/run/camera/socket")
///     .hold(3)
///     .policy(Policy::Fifo(4))
///     .rate(Rate::EveryNth(2))
///     .reconnect(Reconnect::Always)
///     .connect(Duration::from_secs(10))?;
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SubscriberBuilder {
    pub(super) path: PathBuf,
    pub(super) hold: u16,
    pub(super) policy: Policy,
    pub(super) rate: Rate,
    pub(super) reconnect: Reconnect,
    pub(super) fences: bool,
    publisher_user: Option<u32>,
}

impl SubscriberBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            hold: 1,
            policy: Policy::default(),
            rate: Rate::default(),
            reconnect: Reconnect::default(),
            fences: false,
            publisher_user: None,
        }
    }

    /// Sets how many frames this process leases at a time, 1 to 64. Default 1. The quota that the publisher must grant
    /// is this number plus the number of frames that the policy lets wait. A process that publishes the frames again
    /// sets this number to the [`BufferBudget::total`](crate::frame::BufferBudget::total) of its own publisher. The
    /// budget's `driver` is then 0.
    pub fn hold(mut self, frames: u16) -> Self {
        self.hold = frames;
        self
    }

    /// Sets what happens to new frames while all leases are in use. Default [`Policy::Latest`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how many of the source's frames are wanted. Default [`Rate::All`].
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    /// Sets whether to connect again after the publisher is gone. Default [`Reconnect::Never`].
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Lets this process drop frames that its device still reads. The process attaches the device's fence to each
    /// memory plane first: [`DmaBuf::import_sync_file`](crate::dmabuf::DmaBuf::import_sync_file) with
    /// [`Access::Read`](crate::dmabuf::Access::Read), or a driver that does the same by itself, as those of OpenGL do.
    /// The lease then counts until the fences have signaled, so [`SubscriberBuilder::hold`] must have room for the
    /// frames that the device still reads. Default: no; a frame is dropped when its device has finished.
    ///
    /// [`SubscriberBuilder::connect`] fails with `Unsupported` if the publisher has no
    /// [`fence_timeout`](crate::share::PublisherBuilder::fence_timeout). A later publisher without it counts as
    /// missing: with [`Reconnect::Always`](super::Reconnect::Always) the subscriber tries again. The publisher makes
    /// one `poll` more for each frame and memory plane.
    pub fn fences(mut self) -> Self {
        self.fences = true;
        self
    }

    /// Accepts only a publisher that runs as the user `uid`. Any process that may write to the socket's folder can
    /// listen there. By default every publisher is accepted. Another user's publisher is `PermissionDenied`, and gets
    /// no message.
    pub fn publisher_user(mut self, uid: u32) -> Self {
        self.publisher_user = Some(uid);
        self
    }

    pub(super) fn check_publisher(&self, publisher: &PeerInfo) -> Result<()> {
        match self.publisher_user {
            Some(uid) if uid != publisher.uid => {
                let PeerInfo { pid, uid: other, .. } = publisher;
                let text = format!("process {pid} of user {other} listens there; only user {uid} is accepted");
                Err(Error::new(ErrorKind::PermissionDenied, "connect", text))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let refused =
            |text: String| Err(Error::new(ErrorKind::InvalidArgument, "connect", text).on(self.path.display()));
        if !(1..=MAX_SLOTS as u16).contains(&self.hold) {
            return refused(format!("hold {}: 1 to {MAX_SLOTS} are possible", self.hold));
        }
        self.policy.check().and_then(|()| self.rate.check()).or_else(refused)
    }
}
