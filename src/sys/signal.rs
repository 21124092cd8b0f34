//! A descriptor that stays readable until it is cleared: an eventfd.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::syscall_count::tick;

/// Readable from [`Signal::set`] to [`Signal::clear`].
#[derive(Debug)]
pub(crate) struct Signal(EventFd);

impl Signal {
    pub(crate) fn new() -> Result<Self, Errno> {
        tick();
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Self)
    }

    pub(crate) fn set(&self) {
        tick();
        // A write to a full counter fails, but then it is readable already.
        let _ = self.0.write(1);
    }

    pub(crate) fn clear(&self) {
        tick();
        // A read fails if it was clear already.
        let _ = self.0.read();
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
