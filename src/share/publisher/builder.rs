//! Settings of a publisher: limits, deadlines, the socket.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ledger::MAX_PEERS;
#[cfg(feature = "unixfd")]
use super::unixfd::UnixfdTerms;
use crate::frame::BufferBudget;
use crate::share::peer_info::PeerInfo;
use crate::share::wire::MAX_SLOTS;

type AcceptHook = Box<dyn FnMut(&PeerInfo) -> bool + Send>;

/// Settings of a [`Publisher`](super::Publisher).
///
/// ```
/// use std::time::Duration;
/// use framelease::share::Publisher;
///
/// # let path = std::env::temp_dir().join(format!("framelease-builder-{}", std::process::id()));
/// let publisher = Publisher::builder(&path)
///     .mode(0o600)
///     .max_subscribers(8)
///     .lease_deadline(Duration::from_secs(1), Duration::from_secs(5))
///     .accept_if(|peer| peer.uid == 0 || peer.gid == 44)
///     .bind()?;
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct PublisherBuilder {
    pub(super) path: PathBuf,
    pub(super) listener: Option<OwnedFd>,
    pub(super) mode: u32,
    pub(super) max_subscribers: usize,
    pub(super) max_per_user: usize,
    pub(super) max_hold: u16,
    pub(super) reserve: usize,
    /// How long a blocking subscriber may stop the stream, if it may.
    pub(super) block: Option<Duration>,
    pub(super) handshake: Duration,
    /// When a lease is revoked, and when its holder is disconnected.
    pub(super) lease: Option<(Duration, Duration)>,
    /// How long the buffers of a subscriber that is gone wait for its devices.
    pub(super) fence_timeout: Option<Duration>,
    pub(super) accept: Option<AcceptHook>,
    #[cfg(feature = "unixfd")]
    pub(super) unixfd: Vec<(PathBuf, UnixfdTerms)>,
}

impl PublisherBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            listener: None,
            mode: 0o660,
            max_subscribers: MAX_PEERS,
            max_per_user: MAX_PEERS,
            max_hold: MAX_SLOTS as u16,
            reserve: BufferBudget::default().reserve(),
            block: None,
            handshake: Duration::from_secs(1),
            lease: None,
            fence_timeout: None,
            accept: None,
            #[cfg(feature = "unixfd")]
            unixfd: Vec::new(),
        }
    }

    /// Listens at another path for unchanged `unixfdsrc` elements of GStreamer (1.24 and later). Each element that
    /// connects is a subscriber on these terms. Limits, quotas, deadlines, the accept hook and the socket file's mode
    /// apply as for other subscribers. [`max_hold`](Self::max_hold) does not apply. A publisher can have up to 8 such
    /// paths, each with its own terms.
    ///
    /// [`guide::interop`](crate::guide::interop) lists what GStreamer receives and what its protocol cannot express.
    #[cfg(feature = "unixfd")]
    pub fn unixfd(mut self, path: impl AsRef<Path>, terms: UnixfdTerms) -> Self {
        self.unixfd.push((path.as_ref().to_owned(), terms));
        self
    }

    /// Takes a socket that listens already, instead of binding the path: a service manager passes it (`LISTEN_FDS` of
    /// systemd, with `ListenSequentialPacket=`). Its file and its mode are those of the program that made it, and the
    /// drop of the publisher leaves the file. Connections wait in the socket while no publisher runs.
    ///
    /// For a subscriber that connected before the publisher took the socket, the publisher's process is that of the
    /// program that made the socket. Such a subscriber notices the publisher's death by the end of the connection
    /// alone.
    pub fn listener(mut self, socket: OwnedFd) -> Self {
        self.listener = Some(socket);
        self
    }

    /// Sets the permissions of the socket file. The umask does not change them. Default 0o660. The directory's
    /// permissions apply as well.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Limits the number of subscribers at a time. Default 64, which is also the maximum. The publisher refuses further
    /// subscribers with [`Reason::Denied`](crate::Reason::Denied).
    pub fn max_subscribers(mut self, count: usize) -> Self {
        self.max_subscribers = count.min(MAX_PEERS);
        self
    }

    /// Limits the connections of one user id. Default 64. Besides, a user cannot have more connections than are free,
    /// of 128 in all. So a few users cannot take all connections. The publisher refuses further connections with
    /// [`Reason::Denied`](crate::Reason::Denied).
    pub fn max_per_user(mut self, count: usize) -> Self {
        self.max_per_user = count;
        self
    }

    /// Limits how many frames one subscriber may hold at a time. Default 64, so that only the pool's size limits a
    /// subscriber. The publisher refuses a subscriber that asks for more with
    /// [`Reason::Denied`](crate::Reason::Denied). Frames that wait under `Fifo(n)` do not count against this limit.
    /// They count in the quota.
    pub fn max_hold(mut self, frames: u16) -> Self {
        self.max_hold = frames;
        self
    }

    /// Sets how many buffers are never lent to subscribers. The driver needs some of these buffers, and this process
    /// uses the others, for example in its encoder. See [`BufferBudget`]. To republish a subscriber's frames, 1 is
    /// enough. Default 5.
    pub fn reserve(mut self, slots: usize) -> Self {
        self.reserve = slots;
        self
    }

    /// Allows [`Policy::Block`](crate::share::Policy::Block) to subscribers that ask for it. The stream then waits for
    /// such a subscriber, and all other subscribers wait as well. The publisher disconnects a subscriber that blocks
    /// the stream for longer than `longest_stall`, with [`Reason::Stalled`](crate::Reason::Stalled). By default the
    /// policy is not allowed: the publisher refuses such subscribers with
    /// [`Reason::BlockDenied`](crate::Reason::BlockDenied).
    pub fn allow_block(mut self, longest_stall: Duration) -> Self {
        self.block = Some(longest_stall);
        self
    }

    /// Sets how long a new connection may take to send HELLO. After HELLO, the connection has five times as long to
    /// receive the buffers. Default one second.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake = timeout;
        self
    }

    /// Sets how long a subscriber may hold a frame. Both times count from the moment at which the publisher sent the
    /// frame. After `revoke`, the publisher notifies the subscriber that the lease is over. After `end`, a subscriber
    /// that still holds the frame gets no more frames. The slot counts in the subscriber's quota until the subscriber
    /// releases the frame, hangs up or dies. So the source never overwrites a frame that a connected subscriber still
    /// holds. Default: no limit.
    pub fn lease_deadline(mut self, revoke: Duration, end: Duration) -> Self {
        self.lease = Some((revoke, end.max(revoke)));
        self
    }

    /// Sets how long a buffer waits for the devices of subscribers, as far as drivers attach fences to its dma-bufs.
    /// The publisher keeps the buffer from the source until these fences have signaled, at most for `timeout`. The
    /// buffer counts as a quota meanwhile. This concerns:
    /// - a subscriber that is gone: a process can die while a GPU or a display reads a frame that the process held.
    /// - a subscriber with [`fences`](crate::share::SubscriberBuilder::fences), which releases a frame while its device
    ///   still reads it. After `timeout` its lease ends although the device has not finished.
    ///
    /// By default the source may fill the buffer at once: a camera waits for no fence. The device then reads a later
    /// picture, and nothing else happens. Devices that attach no fence (V4L2) are never waited for.
    pub fn fence_timeout(mut self, timeout: Duration) -> Self {
        self.fence_timeout = Some(timeout);
        self
    }

    /// Decides who may connect. The hook sees the peer's user and process before the publisher reads the peer's HELLO.
    /// If the hook returns `false`, the publisher refuses the peer with [`Reason::Denied`](crate::Reason::Denied). By
    /// default, all peers may connect.
    pub fn accept_if(mut self, hook: impl FnMut(&PeerInfo) -> bool + Send + 'static) -> Self {
        self.accept = Some(Box::new(hook));
        self
    }
}

impl fmt::Debug for PublisherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherBuilder({})", self.path.display())
    }
}
