//! Finished jobs of a backend that works in its caller's thread, and the descriptor that reports them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::sys::signal::Signal;

/// The most finished jobs that wait to be taken. No pool has more slots.
const MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Finished {
    frames: VecDeque<Frame>,
    event: Signal,
    /// The caller has asked for the descriptor. Before that, no system call is made for it.
    is_watched: AtomicBool,
}

impl Finished {
    pub(super) fn new() -> Result<Self> {
        let event = Signal::new().map_err(|e| Error::os("eventfd", e))?;
        Ok(Self { frames: VecDeque::with_capacity(MAX), event, is_watched: AtomicBool::new(false) })
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() == MAX
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn push(&mut self, frame: Frame) {
        if self.frames.is_empty() && *self.is_watched.get_mut() {
            self.event.set();
        }
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        if self.frames.is_empty() && *self.is_watched.get_mut() {
            self.event.clear();
        }
        Some(frame)
    }
}

impl AsFd for Finished {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if !self.is_watched.swap(true, Ordering::Relaxed) && !self.frames.is_empty() {
            self.event.set();
        }
        self.event.as_fd()
    }
}
