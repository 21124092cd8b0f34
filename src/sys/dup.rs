//! Duplicates a descriptor that another crate hands out as a number (feature `v4l`).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::syscall_count::{retry, tick};

/// Duplicates `fd`, close-on-exec, and makes the open file non-blocking. Returns EBADF if the number is not open.
pub(crate) fn nonblocking(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers; the kernel checks the number.
    let dup = retry(|| Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) }))?;
    // SAFETY: fcntl has just created this descriptor, and only this call knows it.
    let dup = unsafe { OwnedFd::from_raw_fd(dup) };
    tick();
    let flags = nix::fcntl::OFlag::from_bits_retain(nix::fcntl::fcntl(&dup, nix::fcntl::FcntlArg::F_GETFL)?);
    tick();
    nix::fcntl::fcntl(&dup, nix::fcntl::FcntlArg::F_SETFL(flags | nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(dup)
}
