//! The socket that subscribers connect to.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::ledger::Terms;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::lock::LockedFile;
use crate::sys::peer;
use crate::sys::socket::{self, Carries};

/// Connections that can wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket that subscribers connect to. Removes its file when dropped, if this process made the file.
pub(super) struct Listener {
    /// The file and its inode.
    file: Option<(PathBuf, u64)>,
    pub(super) socket: OwnedFd,
    /// Whether the socket is watched. It is not while the process lacks a descriptor for another connection.
    pub(super) listening: bool,
    /// Set if `unixfdsrc` elements connect here, which cannot say what they want.
    pub(super) terms: Option<Terms>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some((path, inode)) = &self.file else { return };
        // Removes only our own file: another publisher may have replaced it.
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.ino() == *inode) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    pub(super) fn bind(path: &Path, carries: Carries, mode: u32, terms: Option<Terms>) -> Result<Self> {
        // Held until the socket listens: if two publishers start at once, the second sees the first.
        let _lock = lock(path)?;
        remove_stale(path, carries)?;
        let socket = socket::listen(path, carries, mode, BACKLOG).map_err(|e| bind_error(e).on(path.display()))?;
        let inode = std::fs::symlink_metadata(path).map(|m| m.ino()).unwrap_or(0);
        Ok(Self { file: Some((path.to_owned(), inode)), socket, listening: true, terms })
    }

    /// Takes a socket that another program has bound to the path.
    pub(super) fn take(path: &Path, socket: OwnedFd) -> Result<Self> {
        match socket::take_listener(&socket, Carries::Messages, BACKLOG) {
            Ok(true) => Ok(Self { file: None, socket, listening: true, terms: None }),
            Ok(false) => {
                let text = "the listener is not a Unix socket of type SOCK_SEQPACKET that listens \
                            (ListenSequentialPacket= of systemd)";
                Err(Error::new(ErrorKind::WrongFile, "listener", text).on(path.display()))
            }
            Err(e) => Err(Error::os("listener", e).on(path.display())),
        }
    }
}

/// Returns the error of a bind that failed, with its usual cause.
fn bind_error(errno: Errno) -> Error {
    let error = Error::os("bind", errno);
    match errno {
        Errno::ENOENT => error.detail("the folder of the socket does not exist"),
        Errno::EACCES => error.detail("this user may not create a socket in the folder"),
        Errno::EROFS => error.detail("the folder is on a read-only file system"),
        _ => error,
    }
}

/// Removes the socket file of a publisher that has died: no process accepts connections there.
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
    let remove = || match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(at(Error::io("unlink", &e))),
        _ => Ok(()),
    };
    match socket::connect(path, carries) {
        Err(Errno::ECONNREFUSED) => remove(),
        // A child that the publisher has forked still has the listening socket.
        Ok(socket) if peer::has_ended(socket.as_fd()) => remove(),
        // EAGAIN: a process listens, and its backlog is full. EPROTOTYPE: a process listens on a socket of another
        // kind, which is not ours.
        Ok(_) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => {
            Err(at(Error::new(ErrorKind::Busy, "bind", "another process already listens there")))
        }
        Err(e) => Err(at(Error::os("connect", e))),
    }
}

/// The right to start a publisher at a path. Its drop removes the lock file, and then gives up the lock.
struct Lock {
    path: PathBuf,
    /// Unlocked after the drop below: a process that waits for the lock then sees that its file has no name any more.
    _file: LockedFile,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Locks a file beside the socket, which only this user can open. So no other user's lock can prevent a start. On a
/// file system without locks, the file is not locked.
fn lock(socket: &Path) -> Result<Lock> {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let deadline = Instant::now() + Duration::from_secs(1);
    // O_NONBLOCK: another user may have put a FIFO there.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    loop {
        let opened =
            File::options().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(&path);
        let file = opened.map_err(|e| {
            let errno = e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            match std::fs::symlink_metadata(&path) {
                Ok(_) => foreign(&path),
                // The folder's error is the socket's.
                Err(_) => bind_error(errno).on(socket.display()),
            }
        })?;
        let meta = file.metadata().map_err(|e| Error::io("fstat", &e).on(path.display()))?;
        if !meta.is_file() || meta.uid() != socket::effective_user() {
            return Err(foreign(&path));
        }
        let locked = LockedFile::lock(file);
        // A publisher that has just started has removed the file.
        let is_gone = std::fs::symlink_metadata(&path).map_or(true, |there| there.ino() != meta.ino());
        match locked {
            Some(file) if !is_gone => return Ok(Lock { path, _file: file }),
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let text = "other publishers have been starting there for a second";
                return Err(Error::new(ErrorKind::Busy, "flock", text).on(path.display()));
            }
        }
    }
}

/// Returns the error of a lock file that this user did not make.
fn foreign(path: &Path) -> Error {
    Error::new(ErrorKind::WrongFile, "open", "the lock file is not a file of this user; remove it").on(path.display())
}
