//! Locks on files (`flock`).

use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::syscall_count::retry;

/// A file that is locked until this value is dropped. On a file system without locks, it is not locked.
///
/// Its drop unlocks the file, and does not rely on closing it: a lock belongs to all descriptors of one open file. A
/// child that another thread has just forked holds one of them until its `exec`, however this one is closed.
#[derive(Debug)]
pub(crate) struct LockedFile {
    file: File,
    /// A child that was forked afterwards does not unlock what its parent has locked.
    process: u32,
}

impl LockedFile {
    /// Locks a file, or returns `None` if it is locked through another open file. Does not wait.
    pub(crate) fn lock(file: File) -> Option<Self> {
        match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Err(Errno::EWOULDBLOCK) => None,
            Ok(()) | Err(_) => Some(Self { file, process: std::process::id() }),
        }
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = flock(&self.file, libc::LOCK_UN);
        }
    }
}

/// nix's guard would panic if unlocking fails.
fn flock(file: &File, operation: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    retry(|| Errno::result(unsafe { libc::flock(file.as_raw_fd(), operation) })).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_ends_with_its_value_although_a_child_has_the_file() {
        let path = std::env::temp_dir().join(format!("framelease-lock-{}", std::process::id()));
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let locked = LockedFile::lock(open()).unwrap();
        assert!(LockedFile::lock(open()).is_none());
        // What a child has until its exec.
        let inherited = locked.try_clone().unwrap();
        drop(locked);
        assert!(LockedFile::lock(open()).is_some());
        drop(inherited);
        std::fs::remove_file(&path).unwrap();
    }
}
