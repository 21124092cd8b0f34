//! Accesses of one process to a mapped buffer, kept apart.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::dma_buf::SYNC_WRITE;

/// Who of this process accesses a buffer through its mapping: so many readers, or one writer (-1). Two threads that
/// copied in and out at the same time would race, which other processes and devices cannot do to Rust's memory model.
#[derive(Debug, Default)]
pub(super) struct Users(AtomicI32);

impl Users {
    pub(super) fn enter(&self, flags: u64) -> Result<()> {
        let join = |n: i32| match flags & SYNC_WRITE {
            0 => (n >= 0).then(|| n.saturating_add(1)),
            _ => (n == 0).then_some(-1),
        };
        // Acquire: after what the previous user did. Release of the same pair: in `leave`.
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
