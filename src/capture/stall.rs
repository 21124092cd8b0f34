//! Notices a camera that gives no frames although it has buffers.

use std::time::{Duration, Instant};

/// Costs nothing for a frame but a look at the clock. The camera's alarm wakes it once in the time limit.
#[derive(Debug)]
pub(super) struct StallWatch {
    limit: Duration,
    /// Since when no frame has come.
    since: Instant,
    /// The driver has had buffers since then.
    is_fed: bool,
}

impl StallWatch {
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, since: now, is_fed: true }
    }

    /// Returns when to check next.
    pub(super) fn due(&self) -> Instant {
        self.since + self.limit
    }

    /// Notes a frame, and how many buffers the driver has left.
    pub(super) fn on_frame(&mut self, queued: usize, now: Instant) {
        (self.since, self.is_fed) = (now, queued > 0);
    }

    /// Returns `true` if the camera has stalled. A driver without buffers cannot give frames: the time begins again when
    /// it has some.
    pub(super) fn has_stalled(&mut self, queued: usize, now: Instant) -> bool {
        if now < self.due() {
            return false;
        }
        let has_stalled = self.is_fed && queued > 0;
        (self.since, self.is_fed) = (now, queued > 0);
        has_stalled
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
        let mut watch = StallWatch::new(LIMIT, start);
        assert_eq!(watch.due(), at(1000));
        watch.on_frame(3, at(900));
        assert!(!watch.has_stalled(3, at(1000)), "a frame came 100 ms before");
        assert!(watch.has_stalled(3, at(1900)));
        // The consumers have all buffers, and give one back between two checks.
        watch.on_frame(0, at(2000));
        assert!(!watch.has_stalled(0, at(3000)) && !watch.has_stalled(1, at(4000)));
        assert!(watch.has_stalled(1, at(5000)));
        watch.on_frame(0, at(6000));
        assert!(!watch.has_stalled(1, at(7000)), "the buffer may have come back just now");
    }
}
