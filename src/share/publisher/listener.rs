//! The socket that subscribers connect to.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ledger::Terms;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::socket::{self, Carries};

/// A socket that subscribers connect to. Removes its file when dropped.
pub(super) struct Listener {
    path: PathBuf,
    inode: u64,
    pub(super) socket: OwnedFd,
    /// Whether the socket is watched. It is not while the process lacks a descriptor for another connection.
    pub(super) listening: bool,
    /// Set if `unixfdsrc` elements connect here, which cannot say what they want.
    pub(super) terms: Option<Terms>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Removes only our own file: another publisher may have replaced it.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    pub(super) fn bind(path: &Path, carries: Carries, mode: u32, terms: Option<Terms>) -> Result<Self> {
        // Held until the socket listens: if two publishers start at once, the second sees the first.
        let _lock = lock_folder(path)?;
        remove_stale(path, carries)?;
        let socket = socket::listen(path, carries, mode, 64).map_err(|e| bind_error(e).on(path.display()))?;
        let inode = std::fs::symlink_metadata(path).map(|m| m.ino()).unwrap_or(0);
        Ok(Self { path: path.to_owned(), inode, socket, listening: true, terms })
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
    match socket::connect(path, carries) {
        Err(Errno::ECONNREFUSED) => match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(at(Error::io("unlink", &e))),
            _ => Ok(()),
        },
        // EAGAIN: a process listens, and its backlog is full. EPROTOTYPE: a process listens on a socket of another
        // kind, which is not ours.
        Ok(_) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => {
            Err(at(Error::new(ErrorKind::Busy, "bind", "another process already listens there")))
        }
        Err(e) => Err(at(Error::os("connect", e))),
    }
}

/// Takes an advisory lock on the socket's folder, if the folder can be read.
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
            // Not every file system supports locks.
            Err(_) => return Ok(None),
        }
    }
}
