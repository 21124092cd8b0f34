//! Which files of a recording are deleted.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::names::Existing;

/// Limits of a whole recording. The recorder deletes its oldest files beyond them.
///
/// Only regular files whose names this recorder could have given are counted, also those of earlier runs. Of these,
/// only files of this library and empty ones are deleted, and none that a writer has open. The oldest file is the one
/// with the lowest number or the earliest time in its name. With a limit, the recorder also deletes its oldest file
/// each time that the disk is full.
///
/// The recorder looks for old files when it is created, and at most once a second when it is called. A call deletes
/// eight files at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// The bytes of all files.
    pub bytes: Option<u64>,
    /// The time since a file was last written, by the system's clock. A clock that is set to a wrong date in the future
    /// makes all files old.
    pub age: Option<Duration>,
}

impl Retention {
    /// Sets the bytes of all files.
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    /// Sets the time since a file was last written.
    pub fn age(self, age: Duration) -> Self {
        Self { age: Some(age), ..self }
    }

    /// Returns `true` if there is a limit.
    pub(super) fn has_limit(self) -> bool {
        self != Self::default()
    }
}

/// The finished files of a recording, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    files: VecDeque<Existing>,
    bytes: u64,
}

impl Kept {
    /// Replaces the list. The file `current` is being written.
    pub(super) fn list(&mut self, files: Vec<Existing>, current: Option<&Path>) {
        self.files = files.into_iter().filter(|file| Some(&*file.path) != current).collect();
        self.bytes = self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes));
    }

    /// Takes the oldest file out of the list if it is beyond a limit, while the current file has this many bytes.
    pub(super) fn take_surplus(&mut self, limits: Retention, current_bytes: u64, now: SystemTime) -> Option<PathBuf> {
        let oldest = self.files.front()?;
        let is_old = |most| now.duration_since(oldest.modified).is_ok_and(|age| age > most);
        let are_many = |most| self.bytes.saturating_add(current_bytes) > most;
        if !limits.age.is_some_and(is_old) && !limits.bytes.is_some_and(are_many) {
            return None;
        }
        self.take_oldest()
    }

    /// Takes the oldest file out of the list.
    pub(super) fn take_oldest(&mut self) -> Option<PathBuf> {
        let oldest = self.files.pop_front()?;
        self.bytes = self.bytes.saturating_sub(oldest.bytes);
        Some(oldest.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_takes_the_oldest_files_and_not_the_current_one() {
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let file = |at, name: &str, bytes| Existing { number: at, modified: time(at), path: name.into(), bytes };
        let files = vec![file(10, "c", 5), file(20, "a", 7), file(30, "b", 9)];
        let mut kept = Kept::default();
        kept.list(files.clone(), Some(Path::new("b")));
        let by_bytes = Retention::default().bytes(20);
        assert_eq!(kept.take_surplus(by_bytes, 8, time(99)), None);
        assert_eq!(kept.take_surplus(by_bytes, 9, time(99)), Some("c".into()));
        assert_eq!(kept.take_surplus(by_bytes, 9, time(99)), None);
        assert_eq!(kept.take_surplus(by_bytes, u64::MAX, time(99)), Some("a".into()));
        assert_eq!(kept.take_surplus(by_bytes, u64::MAX, time(99)), None, "the current one stays");
        kept.list(files, None);
        let by_age = Retention::default().age(Duration::from_secs(60));
        assert_eq!(kept.take_surplus(by_age, 0, time(70)), None);
        assert_eq!(kept.take_surplus(by_age, 0, time(71)), Some("c".into()));
        assert_eq!(kept.take_surplus(by_age, 0, time(5)), None, "the clock was set back");
        assert_eq!(kept.take_surplus(Retention::default(), u64::MAX, time(9999)), None);
    }
}
