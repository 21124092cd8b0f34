//! The names of a recording's files.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};

/// How the files of a recording are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileNames {
    /// `NAME-00001.EXT`, `NAME-00002.EXT` and so on, after the highest number that exists.
    #[default]
    Numbered,
    /// `NAME-20261130T042047Z.EXT`: the date and time of the first frame in UTC. If that file exists already, `-2` and
    /// so on follows. The system's clock must be right, because the names tell which file is the oldest.
    WallClock,
}

/// The digits of a number, and the highest number. Dates have more digits.
const DIGITS: usize = 5;
const MOST: u64 = 9_999_999;

/// The names of one recording.
#[derive(Debug)]
pub(super) struct Names {
    path: PathBuf,
    kind: FileNames,
    number: u64,
}

/// A file of the recording. Numbers and names tell its age, because a clock may be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Existing {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) modified: SystemTime,
    pub(super) bytes: u64,
}

impl Names {
    pub(super) fn new(path: &Path, kind: FileNames) -> Self {
        Self { path: path.to_owned(), kind, number: 0 }
    }

    /// Returns the regular files with such a name, the oldest first. Continues after the highest number.
    pub(super) fn existing(&mut self) -> io::Result<Vec<Existing>> {
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = self.number_of(&name) else { continue };
            self.number = self.number.max(number);
            // Not followed: a link's file belongs to another program.
            let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
            if meta.is_file() {
                let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let path = self.path.with_file_name(name);
                found.push(Existing { number, path, modified, bytes: meta.len() });
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Returns the number in a name of this recording, and 0 if a time is in it.
    fn number_of(&self, name: &OsStr) -> Option<u64> {
        let middle = name.as_bytes().strip_prefix(self.path.file_stem()?.as_bytes())?.strip_prefix(b"-")?;
        let middle = match self.path.extension() {
            Some(extension) => middle.strip_suffix(extension.as_bytes())?.strip_suffix(b".")?,
            None => middle,
        };
        let digits = |bytes: &[u8], most: usize| {
            let are = !bytes.is_empty() && bytes.len() <= most && bytes.iter().all(u8::is_ascii_digit);
            are.then(|| bytes.iter().fold(0, |number, &digit| number * 10 + u64::from(digit - b'0')))
        };
        if self.kind == FileNames::Numbered {
            // As `create` writes it: a longer number does not begin with 0.
            let is_ours = middle.len() == DIGITS || middle.len() > DIGITS && middle[0] != b'0';
            return digits(middle, 7).filter(|_| is_ours);
        }
        let is_time = |time: &[u8]| {
            let parts = (time.get(..8)?, time.get(8)?, time.get(9..15)?, time.get(15..)?);
            digits(parts.0, 8).and(digits(parts.2, 6)).filter(|_| (*parts.1, parts.3) == (b'T', b"Z"))
        };
        let (time, again) = middle.split_at(middle.len().min(16));
        is_time(time)?;
        match again.strip_prefix(b"-") {
            Some(again) => digits(again, 9).map(|_| 0),
            None => again.is_empty().then_some(0),
        }
    }

    /// Creates the next file, for a first frame of this time. Never overwrites a file.
    pub(super) fn create(&mut self, time: SystemTime) -> Result<(PathBuf, File)> {
        let mut again = 1;
        loop {
            if self.number >= MOST {
                self.number = 0;
            }
            let path = self.path.with_file_name(match self.kind {
                FileNames::Numbered => self.name(&format!("{:0width$}", self.number + 1, width = DIGITS)),
                FileNames::WallClock if again == 1 => self.name(&utc(time)),
                FileNames::WallClock => self.name(&format!("{}-{again}", utc(time))),
            });
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    self.number += 1;
                    return Ok((path, file));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    (self.number, again) = (self.number + 1, again + 1)
                }
                Err(e) => return Err(Error::io("open", &e).on(path.display())),
            }
        }
    }

    /// Removes a file that got no packet. Its number is used again.
    pub(super) fn remove(&mut self, path: &Path) {
        if fs::remove_file(path).is_ok() {
            self.number = self.number.saturating_sub(1);
        }
    }

    /// A path need not be UTF-8.
    fn name(&self, middle: &str) -> OsString {
        let mut name = self.path.file_stem().unwrap_or_default().to_owned();
        name.push("-");
        name.push(middle);
        if let Some(extension) = self.path.extension() {
            name.push(".");
            name.push(extension);
        }
        name
    }
}

/// Returns a time as `20261130T042047Z` (ISO 8601).
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // The Gregorian calendar repeats every 146,097 days. Its years begin in March here, so that leap days come last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn wall_clock_names_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_799, "20000229T235959Z"),
            (951_868_800, "20000301T000000Z"),
            (1_767_225_599, "20251231T235959Z"),
            (1_796_012_447, "20261130T042047Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn names_of_other_files_are_not_those_of_the_recording() {
        let numbered = Names::new(Path::new("/data/gate.mkv"), FileNames::Numbered);
        let number = |name: &str| numbered.number_of(OsStr::new(name));
        assert_eq!(number("gate-00001.mkv"), Some(1));
        assert_eq!(number("gate-123456.mkv"), Some(123_456));
        for other in ["gate-1.mkv", "gate-0000a.mkv", "gate-00001.mp4", "gate00001.mkv", "gate-00001", "gate-.mkv"] {
            assert_eq!(number(other), None, "{other}");
        }
        for other in [
            "agate-00001.mkv",
            "gate-0000000001.mkv",
            "gate-000001.mkv",
            "gate-20261130.mkv",
            "gate-20261130T042047Z.mkv",
            "gate.mkv",
            "",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
        let clock = Names::new(Path::new("gate"), FileNames::WallClock);
        let is = |name: &str| clock.number_of(OsStr::new(name)).is_some();
        assert!(is("gate-20261130T042047Z") && is("gate-20261130T042047Z-2"));
        for other in ["gate-20261130T042047", "gate-20261130T042047Z-", "gate-20261130 042047Z", "gate-00001", "gate-"]
        {
            assert!(!is(other), "{other}");
        }
    }
}
