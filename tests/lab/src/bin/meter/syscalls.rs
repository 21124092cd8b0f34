//! System calls of threads, counted by the kernel: a histogram of the tracepoint at which every system call begins.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use crate::processes::Processes;
use crate::Res;

const EVENT: &str = "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter";
const HISTOGRAM: &str = "hist:keys=common_pid:size=4096";

/// Stops counting when dropped.
pub struct Calls(());

impl Calls {
    pub fn begin() -> Res<Self> {
        command(HISTOGRAM)?;
        Ok(Self(()))
    }

    /// Those of the threads that are there now.
    pub fn end(self, processes: &Processes) -> Res<u64> {
        let path = PathBuf::from(EVENT).join("hist");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let threads = processes.threads();
        Ok(counts(&text).filter(|(thread, _)| threads.contains(thread)).map(|(_, count)| count).sum())
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = command(&format!("!{HISTOGRAM}"));
    }
}

fn command(text: &str) -> Res<()> {
    let path = PathBuf::from(EVENT).join("trigger");
    let opened = OpenOptions::new().append(true).open(&path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| format!("{}: {text}: {e}", path.display()))
}

/// Thread and count of each line `{ common_pid: 12 } hitcount: 34`.
fn counts(text: &str) -> impl Iterator<Item = (u32, u64)> + '_ {
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["{", "common_pid:", thread, "}", "hitcount:", count] = words[..] else { return None };
        Some((thread.parse().ok()?, count.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_histogram() {
        let text = "# event histogram\n#\n\n{ common_pid:        155 } hitcount:         21\n\
                    { common_pid:          1 } hitcount:          3\n\nTotals:\n    Hits: 24\n";
        assert_eq!(counts(text).collect::<Vec<_>>(), [(155, 21), (1, 3)]);
    }
}
