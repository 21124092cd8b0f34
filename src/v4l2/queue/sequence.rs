//! Extends a driver's 32-bit frame count to 64 bits, and finds gaps.

/// Extends a driver's count. Continues to count over a restart of the stream, where drivers begin at 0.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The driver's last number in this stream.
    last: Option<u32>,
    /// The extended number, or `None` before the first frame.
    total: Option<u64>,
}

impl Sequence {
    /// Returns the frame's number, and how many frames were lost directly before it.
    pub(super) fn next(&mut self, raw: u32) -> (u64, u32) {
        let step = match self.last {
            Some(last) => match raw.wrapping_sub(last) {
                // The driver does not count, or began again.
                0 | 0x8000_0000.. => 1,
                step => step,
            },
            // Frames that the driver took before it had a buffer do not count as lost.
            None => 1,
        };
        let total = self.total.map_or(u64::from(raw), |t| t + u64::from(step));
        (self.last, self.total) = (Some(raw), Some(total));
        (total, step - 1)
    }

    /// Notes that the stream was stopped: the driver's next number is not a gap.
    pub(super) fn restart(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    #[test]
    fn sequence_handles_wraps_gaps_and_restarts() {
        let mut s = Sequence::default();
        assert_eq!(s.next(u32::MAX - 1), (0xffff_fffe, 0));
        assert_eq!(s.next(u32::MAX), (0xffff_ffff, 0));
        assert_eq!(s.next(0), (0x1_0000_0000, 0));
        assert_eq!(s.next(4), (0x1_0000_0004, 3));
        s.restart();
        assert_eq!(s.next(0), (0x1_0000_0005, 0));
        assert_eq!(s.next(0), (0x1_0000_0006, 0), "a driver that does not count");
        let mut fresh = Sequence::default();
        assert_eq!((fresh.next(0), fresh.next(1)), ((0, 0), (1, 0)));
    }
}
