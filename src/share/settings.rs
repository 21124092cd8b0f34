//! How a publisher is set up: limits, deadlines, the socket.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::connection::PeerInfo;
use super::ledger::{Terms, MAX_PEERS};
use super::publisher::{Publisher, LISTENER};
#[cfg(feature = "unixfd")]
use super::unixfd::UnixfdTerms;
use super::wire::MAX_SLOTS;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::clock::monotonic_ns;
use crate::sys::socket::{self, Carries};

type AcceptHook = Box<dyn FnMut(&PeerInfo) -> bool + Send>;

/// Settings of a [`Publisher`].
pub struct PublisherBuilder {
    pub(super) path: PathBuf,
    mode: u32,
    pub(super) max_subscribers: usize,
    pub(super) max_per_user: usize,
    pub(super) max_hold: u16,
    pub(super) reserve: usize,
    pub(super) handshake: Duration,
    /// When a lease is revoked, and when its holder is expelled.
    pub(super) lease: Option<(Duration, Duration)>,
    pub(super) accept: Option<AcceptHook>,
    #[cfg(feature = "unixfd")]
    unixfd: Vec<(PathBuf, UnixfdTerms)>,
}

/// A socket that subscribers connect to. Dropped, it removes its file.
pub(super) struct Listener {
    path: PathBuf,
    inode: u64,
    pub(super) socket: OwnedFd,
    /// It is watched: not so while there is no room for another connection's descriptor.
    pub(super) listening: bool,
    /// Who comes here is a `unixfdsrc`, which cannot say what it wants.
    pub(super) terms: Option<Terms>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Only our own file: a successor may have replaced it.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl PublisherBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o660,
            max_subscribers: MAX_PEERS,
            max_per_user: MAX_PEERS,
            max_hold: MAX_SLOTS as u16,
            reserve: 2,
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

    /// Slots that the source needs for itself and that are never lent: for a camera the driver's minimum plus the
    /// frame in hand; for a subscriber whose frames are published again the frame in hand alone. Default 2.
    pub fn reserve(mut self, slots: usize) -> Self {
        self.reserve = slots;
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

    /// Binds the socket. A file that a dead publisher left is replaced.
    ///
    /// # Errors
    /// `Busy` if a live publisher listens there, `WrongFile` if the path is no socket, and what the kernel reports
    /// (`PermissionDenied`, `NotFound`), naming the path. With feature `unixfd`, `InvalidArgument` for impossible terms.
    pub fn bind(self) -> Result<Publisher> {
        #[allow(unused_mut)]
        let mut listeners = vec![Listener::bind(&self.path, Carries::Messages, self.mode, None)?];
        #[cfg(feature = "unixfd")]
        for (path, terms) in &self.unixfd {
            if listeners.len() > 8 {
                return Err(Error::new(ErrorKind::InvalidArgument, "bind", "more than 8 paths").on(path.display()));
            }
            let terms = terms.check().map_err(|e| e.on(path.display()))?;
            listeners.push(Listener::bind(path, Carries::Bytes, self.mode, Some(terms))?);
        }
        let at = |op| {
            let path = self.path.display().to_string();
            move |e| Error::os(op, e).on(path)
        };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(at("epoll_create1"))?;
        for (i, listener) in listeners.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER | i as u64);
            epoll.add(&listener.socket, event).map_err(at("epoll_ctl"))?;
        }
        Ok(Publisher::new(self, listeners, epoll, random_epoch()))
    }
}

impl Listener {
    fn bind(path: &Path, carries: Carries, mode: u32, terms: Option<Terms>) -> Result<Self> {
        // Held until the socket listens, so that of two publishers that start at once one sees the other.
        let _lock = lock_folder(path)?;
        remove_stale(path, carries)?;
        let socket = socket::listen(path, carries, mode, 64).map_err(|e| Error::os("bind", e).on(path.display()))?;
        let inode = std::fs::symlink_metadata(path).map(|m| m.ino()).unwrap_or(0);
        Ok(Self { path: path.to_owned(), inode, socket, listening: true, terms })
    }
}

impl fmt::Debug for PublisherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherBuilder({})", self.path.display())
    }
}

/// Removes the socket of a publisher that is dead: nobody accepts there any more.
fn remove_stale(path: &Path, carries: Carries) -> Result<()> {
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
    match socket::connect(path, carries) {
        Err(Errno::ECONNREFUSED) => match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(at(Error::io("unlink", &e))),
            _ => Ok(()),
        },
        // EAGAIN: its backlog is full, so somebody listens.
        // EPROTOTYPE: of another kind, so not ours, but somebody's.
        Ok(_) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => {
            Err(at(Error::new(ErrorKind::Busy, "bind", "somebody listens there already")))
        }
        Err(e) => Err(at(Error::os("connect", e))),
    }
}

/// An advisory lock on the socket's folder, where we may read it.
fn lock_folder(path: &Path) -> Result<Option<File>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Ok(file) = File::open(folder) else { return Ok(None) };
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match socket::try_lock(&file) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::EWOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Err(Errno::EWOULDBLOCK) => {
                let text = "another publisher has been starting there for a second";
                return Err(Error::new(ErrorKind::Busy, "flock", text).on(folder.display()));
            }
            // Not every file system has locks.
            Err(_) => return Ok(None),
        }
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
