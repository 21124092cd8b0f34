//! Keeps the accesses of one process to a mapped buffer apart.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::dma_buf::SYNC_WRITE;

/// The number of accesses of this process through the buffer's mapping: n readers, or -1 for one writer. Two threads
/// that copy in and out at the same time would be a data race. Other processes and devices are outside Rust's memory
/// model.
#[derive(Debug, Default)]
pub(super) struct Users(AtomicI32);

impl Users {
    pub(super) fn enter(&self, flags: u64) -> Result<()> {
        let join = |n: i32| match flags & SYNC_WRITE {
            // Never more than can be counted: leaked guards would otherwise let a writer in beside a reader.
            0 if n >= 0 => n.checked_add(1),
            0 => None,
            _ => (n == 0).then_some(-1),
        };
        // Acquire: the previous access happens before this one. The matching release is in `leave`.
        match self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, join) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Busy, "access", "another part of this process accesses the buffer")),
        }
    }

    pub(super) fn leave(&self, flags: u64) {
        let left = if flags & SYNC_WRITE != 0 { 1 } else { -1 };
        self.0.fetch_add(left, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dma_buf::SYNC_READ;

    #[test]
    fn users_are_never_more_than_can_be_counted() {
        let users = Users(AtomicI32::new(i32::MAX));
        assert_eq!(users.enter(SYNC_READ).unwrap_err().kind(), ErrorKind::Busy);
        users.leave(SYNC_READ);
        users.enter(SYNC_READ).unwrap();
        assert_eq!(users.enter(SYNC_WRITE).unwrap_err().kind(), ErrorKind::Busy);
    }
}
