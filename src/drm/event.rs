//! The events that a DRM file returns on a read (`drm.h`, `struct drm_event_vblank`).

/// `DRM_EVENT_FLIP_COMPLETE`.
const FLIP_COMPLETE: u32 = 2;

/// A commit whose picture the screen now shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlipEvent {
    /// The mark of the commit.
    pub(super) mark: u64,
    pub(super) crtc: u32,
    /// The CRTC's count of vertical blanks. It wraps.
    pub(super) sequence: u32,
    /// Time of the flip by `CLOCK_MONOTONIC`, in nanoseconds.
    pub(super) time_ns: u64,
}

/// Returns the flips among the events of one read. Stops at an event that is cut off or has an invalid length.
pub(super) fn flips(mut bytes: &[u8]) -> impl Iterator<Item = FlipEvent> + '_ {
    std::iter::from_fn(move || loop {
        let word = |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
        let (kind, length) = (word(0)?, word(4)? as usize);
        let mark = bytes.get(8..16).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes);
        let fields = (word(16), word(20), word(24), word(28));
        bytes = bytes.get(length..).filter(|_| length >= 8)?;
        if let (FLIP_COMPLETE, Some(mark), (Some(s), Some(us), Some(sequence), Some(crtc))) = (kind, mark, fields) {
            if length >= 32 {
                let time_ns = u64::from(s) * 1_000_000_000 + u64::from(us) * 1000;
                return Some(FlipEvent { mark, crtc, sequence, time_ns });
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(kind: u32, length: u32, mark: u64) -> Vec<u8> {
        let mut bytes = [kind.to_ne_bytes(), length.to_ne_bytes()].concat();
        bytes.extend(mark.to_ne_bytes());
        for word in [2u32, 500, 77, 31] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn flips_skips_other_events() {
        let bytes =
            [event(1, 32, 1), event(FLIP_COMPLETE, 32, 2), event(9, 32, 3), event(FLIP_COMPLETE, 32, 4)].concat();
        let all: Vec<_> = flips(&bytes).collect();
        assert_eq!(all.iter().map(|e| e.mark).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(all[0], FlipEvent { mark: 2, crtc: 31, sequence: 77, time_ns: 2_000_500_000 });
    }

    #[test]
    fn flips_stops_at_an_invalid_length() {
        for length in [0, 7, 33, u32::MAX] {
            assert_eq!(flips(&event(FLIP_COMPLETE, length, 1)).count(), 0, "{length}");
        }
        assert_eq!(flips(&event(FLIP_COMPLETE, 8, 1)).count(), 0);
    }

    proptest! {
        #[test]
        fn flips_accepts_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(flips(&bytes).count() <= bytes.len() / 32);
        }
    }
}
