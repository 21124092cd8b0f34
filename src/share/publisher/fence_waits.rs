//! Buffers of subscribers that are gone, whose devices may still read them.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use crate::frame::Frame;
use crate::sys::readiness::Readiness;

/// Frames that wait for the fences on their dma-bufs. A dropped frame's buffer may be filled again at once, because
/// V4L2 waits for no fence.
#[derive(Debug)]
pub(super) struct FenceWaits {
    timeout: Duration,
    waits: Vec<FenceWait>,
}

#[derive(Debug)]
struct FenceWait {
    pool: u32,
    frame: Frame,
    deadline: Instant,
    /// The memory plane whose fences are watched. Those before it are idle.
    plane: usize,
    is_watched: bool,
}

impl FenceWaits {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, waits: Vec::new() }
    }

    /// Keeps a frame while its buffer has fences. Then `work` is readable with this token when they have signaled.
    pub(super) fn add(&mut self, pool: u32, frame: Frame, work: &Readiness, token: u64) {
        let deadline = crate::sys::wait::deadline(self.timeout);
        let mut wait = FenceWait { pool, frame, deadline, plane: 0, is_watched: false };
        if wait.is_pending(work, token) {
            self.waits.push(wait);
        }
    }

    /// Drops the frames whose fences have signaled, and those whose time has passed.
    pub(super) fn settle(&mut self, work: &Readiness, token: u64) {
        let now = Instant::now();
        self.waits.retain_mut(|wait| {
            let is_kept = wait.deadline > now && wait.is_pending(work, token);
            if !is_kept {
                wait.unwatch(work);
            }
            is_kept
        });
    }

    /// Returns when the next frame is dropped at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waits.iter().map(|wait| wait.deadline).min()
    }

    /// Returns how many frames of a pool are kept.
    pub(super) fn count(&self, pool: u32) -> usize {
        self.waits.iter().filter(|wait| wait.pool == pool).count()
    }
}

impl FenceWait {
    /// Returns `true` while a memory plane has a fence, and watches that plane.
    fn is_pending(&mut self, work: &Readiness, token: u64) -> bool {
        while let Some(memory) = self.frame.memory().get(self.plane) {
            if !memory.has_fences() {
                self.unwatch(work);
                self.plane += 1;
                continue;
            }
            if !self.is_watched {
                // Without the watch, the deadline ends the wait.
                self.is_watched = work.add(memory.as_fd(), EpollFlags::EPOLLOUT, token).is_ok();
            }
            return true;
        }
        false
    }

    fn unwatch(&mut self, work: &Readiness) {
        if let Some(memory) = self.frame.memory().get(self.plane).filter(|_| self.is_watched) {
            work.remove(memory.as_fd());
        }
        self.is_watched = false;
    }
}
