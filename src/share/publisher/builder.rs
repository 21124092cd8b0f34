//! How a publisher is set up: limits, deadlines, the socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::connection::PeerInfo;
use super::ledger::MAX_PEERS;
#[cfg(feature = "unixfd")]
use super::unixfd::UnixfdTerms;
use crate::frame::BufferBudget;
use crate::share::wire::MAX_SLOTS;

type AcceptHook = Box<dyn FnMut(&PeerInfo) -> bool + Send>;

/// Settings of a [`Publisher`](super::Publisher).
pub struct PublisherBuilder {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) max_subscribers: usize,
    pub(super) max_per_user: usize,
    pub(super) max_hold: u16,
    pub(super) reserve: usize,
    /// Whether, and how long, a subscriber may hold the stream up.
    pub(super) block: Option<Duration>,
    pub(super) handshake: Duration,
    /// When a lease is revoked, and when its holder is expelled.
    pub(super) lease: Option<(Duration, Duration)>,
    pub(super) accept: Option<AcceptHook>,
    #[cfg(feature = "unixfd")]
    pub(super) unixfd: Vec<(PathBuf, UnixfdTerms)>,
}

impl PublisherBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o660,
            max_subscribers: MAX_PEERS,
            max_per_user: MAX_PEERS,
            max_hold: MAX_SLOTS as u16,
            reserve: BufferBudget::default().reserve(),
            block: None,
            handshake: Duration::from_secs(1),
            lease: None,
            accept: None,
            #[cfg(feature = "unixfd")]
            unixfd: Vec::new(),
        }
    }

    /// Listens at another path for GStreamer's `unixfdsrc` (1.24 and later), unchanged: each that connects is a
    /// subscriber on these terms. Limits, quotas, deadlines, the accept hook and the file's mode are as for all others;
    /// [`max_hold`](Self::max_hold) is not for it. Up to 8 paths, each with terms of its own.
    ///
    /// See `docs/interop.md` for what GStreamer is told and what it cannot be told.
    #[cfg(feature = "unixfd")]
    pub fn unixfd(mut self, path: impl AsRef<Path>, terms: UnixfdTerms) -> Self {
        self.unixfd.push((path.as_ref().to_owned(), terms));
        self
    }

    /// Permissions of the socket file, less the umask. Default 0o660; the directory's permissions count as well.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The most subscribers at a time, 64 at most and by default.
    pub fn max_subscribers(mut self, count: usize) -> Self {
        self.max_subscribers = count.min(MAX_PEERS);
        self
    }

    /// The most connections of one user id, so that one user cannot take all. Default 64.
    pub fn max_per_user(mut self, count: usize) -> Self {
        self.max_per_user = count;
        self
    }

    /// The most frames that one subscriber may hold at a time. Default 64: as many as the pool has room for.
    pub fn max_hold(mut self, frames: u16) -> Self {
        self.max_hold = frames;
        self
    }

    /// Sets how many buffers subscribers can never have: those that the driver needs, and those that this process has in
    /// use, such as an encoder's. See [`BufferBudget`]. To republish a subscriber's frames, 1 is enough. Default 5.
    pub fn reserve(mut self, slots: usize) -> Self {
        self.reserve = slots;
        self
    }

    /// Grants [`Policy::Block`](crate::share::Policy::Block) to subscribers that ask for it: the stream then waits for
    /// them, and all others with it. One that holds the stream up for longer than `longest_stall` is disconnected with
    /// [`Reason::Stalled`](crate::Reason::Stalled). Default: not granted, such subscribers are refused with
    /// [`Reason::BlockDenied`](crate::Reason::BlockDenied).
    pub fn allow_block(mut self, longest_stall: Duration) -> Self {
        self.block = Some(longest_stall);
        self
    }

    /// How long a new connection may take to say HELLO, and five times that to take the buffers. Default one second.
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
}

impl fmt::Debug for PublisherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherBuilder({})", self.path.display())
    }
}
