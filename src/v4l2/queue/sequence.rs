//! Extends a driver's 32-bit frame count to 64 bits, and finds gaps.

use crate::frame::FrameFlags;

/// Extends a driver's count. Continues to count over a restart of the stream, where drivers begin at 0.
///
/// Where each buffer is a field (`V4L2_FIELD_ALTERNATE`), the driver counts pictures: both fields of a picture have the
/// same number.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The driver's last number in this stream, and the field that its buffer was.
    last: Option<(u32, FrameFlags)>,
    /// The field that comes second in a picture, after both fields of a picture have come.
    second: Option<FrameFlags>,
    /// The extended number, or `None` before the first frame.
    total: Option<u64>,
}

impl Sequence {
    /// Returns the frame's number, and how many frames were lost directly before it. `field` is the flag of a buffer
    /// that is a field, or empty.
    pub(super) fn next(&mut self, raw: u32, field: FrameFlags) -> (u64, u32) {
        let step = match self.last {
            Some((last, last_field)) => match raw.wrapping_sub(last) {
                0 => {
                    if last_field != field {
                        self.second = Some(field);
                    }
                    1
                }
                // The driver began again.
                0x8000_0000.. => 1,
                pictures => match (u64::from(pictures), self.second) {
                    (pictures, Some(_)) if last_field == field => 2 * pictures,
                    (pictures, Some(second)) if field == second => 2 * pictures + 1,
                    (pictures, Some(_)) => 2 * pictures - 1,
                    (pictures, None) => pictures,
                },
            },
            // Frames that the driver took before it had a buffer do not count as lost.
            None => 1,
        };
        let total = self.total.map_or(u64::from(raw), |t| t + step);
        (self.last, self.total) = (Some((raw, field)), Some(total));
        (total, u32::try_from(step - 1).unwrap_or(u32::MAX))
    }

    /// Notes that the stream was stopped: the driver's next number is not a gap.
    pub(super) fn restart(&mut self) {
        (self.last, self.second) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_counts_the_fields_of_pictures() {
        let (top, bottom) = (FrameFlags::TOP_FIELD, FrameFlags::BOTTOM_FIELD);
        for (first, second) in [(top, bottom), (bottom, top)] {
            let mut s = Sequence::default();
            let buffers =
                [(0, first), (0, second), (1, first), (1, second), (2, second), (4, first), (7, second), (8, second)];
            let steps = [(0, 0), (1, 0), (2, 0), (3, 0), (5, 1), (8, 2), (15, 6), (17, 1)];
            assert_eq!(buffers.map(|(raw, field)| s.next(raw, field)), steps);
        }
        // The stream begins again, with whole pictures.
        let mut s = Sequence::default();
        let _ = [(0, top), (0, bottom)].map(|(raw, field)| s.next(raw, field));
        s.restart();
        assert_eq!([0, 1, 3].map(|raw| s.next(raw, FrameFlags::default())), [(2, 0), (3, 0), (5, 1)]);
        // A driver that gives one field of each picture, or that counts fields.
        let mut s = Sequence::default();
        assert_eq!([0, 1, 3].map(|raw| s.next(raw, top)), [(0, 0), (1, 0), (3, 1)]);
        let mut s = Sequence::default();
        assert_eq!(
            [(0, top), (1, bottom), (3, bottom)].map(|(raw, field)| s.next(raw, field)),
            [(0, 0), (1, 0), (3, 1)]
        );
    }

    #[test]
    fn sequence_handles_wraps_gaps_and_restarts() {
        let none = FrameFlags::default();
        let mut s = Sequence::default();
        assert_eq!(s.next(u32::MAX - 1, none), (0xffff_fffe, 0));
        assert_eq!(s.next(u32::MAX, none), (0xffff_ffff, 0));
        assert_eq!(s.next(0, none), (0x1_0000_0000, 0));
        assert_eq!(s.next(4, none), (0x1_0000_0004, 3));
        s.restart();
        assert_eq!(s.next(0, none), (0x1_0000_0005, 0));
        assert_eq!(s.next(0, none), (0x1_0000_0006, 0), "a driver that does not count");
        let mut fresh = Sequence::default();
        assert_eq!((fresh.next(0, none), fresh.next(1, none)), ((0, 0), (1, 0)));
    }
}
