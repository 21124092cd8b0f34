//! Frames that subscribers no longer hold, whose devices may still read them.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use crate::frame::Frame;
use crate::share::wire::LeaseId;
use crate::sys::readiness::Readiness;

/// Frames that wait for the fences on their dma-bufs. A dropped frame's buffer may be filled again at once, because
/// V4L2 waits for no fence.
#[derive(Debug)]
pub(super) struct FenceWaits {
    timeout: Duration,
    waits: Vec<FenceWait>,
    /// The leases of subscribers whose frames were dropped, until they are taken.
    settled: Vec<(usize, LeaseId)>,
}

#[derive(Debug)]
struct FenceWait {
    reader: Reader,
    frame: Frame,
    deadline: Instant,
    /// The memory plane whose fences are watched. Those before it are idle.
    plane: usize,
    is_watched: bool,
}

/// Whose device may still read a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A subscriber that is gone, and its frame's pool.
    Gone { pool: u32 },
    /// The number of a subscriber in the ledger, and the lease that it has released.
    Peer(usize, LeaseId),
}

impl FenceWaits {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, waits: Vec::new(), settled: Vec::new() }
    }

    /// Keeps a frame while its buffer has fences. Then `work` is readable with this token when they have signaled.
    /// `false`: the buffer has no fences.
    pub(super) fn add(&mut self, reader: Reader, frame: Frame, work: &Readiness, token: u64) -> bool {
        let deadline = crate::sys::wait::deadline(self.timeout);
        let mut wait = FenceWait { reader, frame, deadline, plane: 0, is_watched: false };
        let is_pending = wait.is_pending(work, token);
        if is_pending {
            self.waits.push(wait);
        }
        is_pending
    }

    /// Drops the frames whose fences have signaled, and those whose time has passed.
    pub(super) fn settle(&mut self, work: &Readiness, token: u64) {
        let now = Instant::now();
        let settled = &mut self.settled;
        self.waits.retain_mut(|wait| {
            let is_kept = wait.deadline > now && wait.is_pending(work, token);
            if !is_kept {
                wait.unwatch(work);
                if let Reader::Peer(peer, id) = wait.reader {
                    settled.push((peer, id));
                }
            }
            is_kept
        });
    }

    /// Returns a subscriber whose lease has ended by [`FenceWaits::settle`].
    pub(super) fn next_settled(&mut self) -> Option<(usize, LeaseId)> {
        self.settled.pop()
    }

    /// Returns when the next frame is dropped at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waits.iter().map(|wait| wait.deadline).min()
    }

    /// Returns how many frames of a pool are kept for subscribers that are gone.
    pub(super) fn abandoned(&self, pool: u32) -> usize {
        self.waits.iter().filter(|wait| wait.reader == Reader::Gone { pool }).count()
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
