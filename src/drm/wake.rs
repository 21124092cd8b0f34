//! The signal that wakes a scanout.

use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

use crate::sys::signal::Signal;

/// A signal that costs a system call only when it changes.
#[derive(Debug)]
pub(super) struct Wake {
    signal: Signal,
    is_raised: Mutex<bool>,
}

impl Wake {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { signal: Signal::new()?, is_raised: Mutex::new(false) })
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }

    pub(super) fn set(&self, is_wanted: bool) {
        let mut is_raised = self.is_raised.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_raised != is_wanted {
            *is_raised = is_wanted;
            match is_wanted {
                true => self.signal.set(),
                false => self.signal.clear(),
            }
        }
    }
}
