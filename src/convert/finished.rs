//! Finished jobs of a backend that works in its caller's thread, and the descriptor that tells of them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::sys::calls;

/// More than this are not kept: take one first. No pool has more slots.
const MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Finished {
    frames: VecDeque<Frame>,
    event: EventFd,
}

impl Finished {
    pub(super) fn new() -> Result<Self> {
        let event =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(|e| Error::os("eventfd", e))?;
        calls::tick();
        Ok(Self { frames: VecDeque::with_capacity(MAX), event })
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() == MAX
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn push(&mut self, frame: Frame) {
        if self.frames.is_empty() {
            calls::tick();
            // A counter that goes from 0 to 1 cannot be full.
            let _ = self.event.write(1);
        }
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        if self.frames.is_empty() {
            calls::tick();
            let _ = self.event.read();
        }
        Some(frame)
    }
}

impl AsFd for Finished {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
