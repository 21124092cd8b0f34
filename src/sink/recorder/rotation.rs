//! When a recording continues in another file.

use std::time::{Duration, SystemTime};

use crate::sink::container::MOST_EARLY;

/// Limits of one file. When a file reaches a limit, the recording continues in another file at the next key frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileRotation {
    /// The size of a file in bytes.
    pub bytes: Option<u64>,
    /// The duration of a file. A key frame that comes less than half a frame interval earlier also ends the file.
    pub duration: Option<Duration>,
    /// Files end at multiples of the duration since 1970-01-01 00:00 UTC. With 10 minutes, a recording that begins at
    /// 12:03 continues in another file at 12:10. Default: `false`.
    pub aligned: bool,
}

impl FileRotation {
    /// Sets the size of a file.
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    /// Sets the duration of a file.
    pub fn duration(self, duration: Duration) -> Self {
        Self { duration: Some(duration), ..self }
    }

    /// Sets whether files end at multiples of the duration.
    pub fn aligned(self, aligned: bool) -> Self {
        Self { aligned, ..self }
    }

    /// Returns the duration of a file whose first frame is from this time.
    pub(super) fn duration_from(self, begin: SystemTime) -> Option<Duration> {
        let duration = self.duration?;
        let since = begin.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (step, since) = (duration.as_nanos(), since.as_nanos());
        if !self.aligned || step == 0 {
            return Some(duration);
        }
        // A file that begins a little before a multiple belongs to it.
        let next = (since + MOST_EARLY.as_nanos()) / step * step + step;
        Some(u64::try_from(next - since).map_or(Duration::MAX, Duration::from_nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_that_is_aligned_ends_files_at_multiples_of_its_duration() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let rotation = FileRotation::default().duration(minutes(10)).aligned(true);
        let from = |time: Duration| rotation.duration_from(SystemTime::UNIX_EPOCH + minutes(1_000_000) + time);
        assert_eq!(from(minutes(3)), Some(minutes(7)));
        assert_eq!(from(minutes(10)), Some(minutes(10)));
        // A key frame that came 20 ms early has begun the file of the next ten minutes.
        let early = Duration::from_millis(20);
        assert_eq!(from(minutes(10) - early), Some(minutes(10) + early));
        assert_eq!(rotation.aligned(false).duration_from(SystemTime::UNIX_EPOCH + minutes(3)), Some(minutes(10)));
        let zero = FileRotation::default().duration(Duration::ZERO).aligned(true);
        assert_eq!(zero.duration_from(SystemTime::UNIX_EPOCH), Some(Duration::ZERO));
        let forever = FileRotation::default().duration(Duration::MAX).aligned(true);
        assert_eq!(forever.duration_from(SystemTime::now()), Some(Duration::MAX));
    }
}
