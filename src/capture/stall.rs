//! Notices a camera that gives no frames although it has buffers.

use std::time::{Duration, Instant};

/// The number of buffers that drivers may keep until they get another one.
const KEPT: usize = 2;

/// Costs nothing for a frame but a look at the clock. The camera's alarm wakes it once in the time limit.
#[derive(Debug)]
pub(super) struct StallWatch {
    limit: Duration,
    /// The buffers of the camera.
    slots: usize,
    /// Since when no frame has come.
    since: Instant,
    /// The driver has had buffers that it can give since then.
    is_fed: bool,
}

impl StallWatch {
    pub(super) fn new(limit: Duration, slots: usize, now: Instant) -> Self {
        Self { limit, slots, since: now, is_fed: true }
    }

    /// Returns when to check next. `None` for a time that never comes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.checked_add(self.limit)
    }

    /// Notes a frame, and how many buffers the driver has left.
    pub(super) fn on_frame(&mut self, queued: usize, now: Instant) {
        (self.since, self.is_fed) = (now, self.can_give(queued));
    }

    /// Returns `true` if the camera has stalled. Call it when no frame is ready. A driver that the consumers left too
    /// few buffers is not blamed: the time begins again when it has enough.
    pub(super) fn has_stalled(&mut self, queued: usize, now: Instant) -> bool {
        if self.due().map_or(true, |due| now < due) {
            return false;
        }
        let has_stalled = self.is_fed && self.can_give(queued);
        self.on_frame(queued, now);
        has_stalled
    }

    fn can_give(&self, queued: usize) -> bool {
        queued > KEPT || queued == self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    #[test]
    fn stall_is_noticed_only_while_the_driver_has_buffers() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = StallWatch::new(LIMIT, 8, start);
        assert_eq!(watch.due(), Some(at(1000)));
        watch.on_frame(3, at(900));
        assert!(!watch.has_stalled(3, at(1000)), "a frame came 100 ms before");
        assert!(watch.has_stalled(3, at(1900)));
        // The consumers have all buffers, and give one back between two checks.
        watch.on_frame(0, at(2000));
        assert!(!watch.has_stalled(0, at(3000)) && !watch.has_stalled(3, at(4000)));
        assert!(watch.has_stalled(3, at(5000)));
        watch.on_frame(0, at(6000));
        assert!(!watch.has_stalled(3, at(7000)), "the buffers may have come back just now");
        watch.on_frame(1, at(8000));
        assert!(!watch.has_stalled(1, at(9000)) && !watch.has_stalled(1, at(10_000)), "a driver may keep one");
        // A camera with two buffers has given them both.
        let mut small = StallWatch::new(LIMIT, 2, start);
        assert!(small.has_stalled(2, at(1000)));
    }

    #[test]
    fn stall_limit_may_be_any_time() {
        let start = Instant::now();
        let mut never = StallWatch::new(Duration::MAX, 8, start);
        assert!(never.due().is_none() && !never.has_stalled(8, start));
    }
}
