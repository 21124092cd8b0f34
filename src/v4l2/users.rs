//! The processes that have a device open, for the texts of errors.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::stat::fstat;

use super::Device;

/// The number of processes that are named at most.
const MOST: usize = 4;
/// The longest time of a search.
const LONGEST: Duration = Duration::from_millis(100);

impl Device {
    /// Returns `; open in NAME (pid N)`, or an empty text. A process sees only those of its own user, and root sees all
    /// in its PID namespace. Never asks a file system but that of /dev.
    pub(super) fn open_in(&self) -> String {
        let Ok(node) = fstat(self) else { return String::new() };
        let start = Instant::now();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
        let mut others: Vec<u32> = numbers.filter(|&pid| pid != std::process::id()).collect();
        // Programs have higher numbers than the kernel's threads.
        others.sort_unstable_by(|a, b| b.cmp(a));
        let others = others.into_iter().take_while(|_| start.elapsed() < LONGEST);
        // A link is read without the file system of its target, which may not answer.
        let is_node = |link: &Path| {
            let target = fs::read_link(link).unwrap_or_default();
            target.starts_with("/dev") && fs::metadata(link).is_ok_and(|file| file.rdev() == node.st_rdev)
        };
        let holds = |pid: &u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.take_while(|_| start.elapsed() < LONGEST).any(|file| is_node(&file.path()))
        };
        let name = |pid: u32| {
            let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name = String::from_utf8_lossy(&name).trim().replace(char::is_control, "?");
            format!("{name} (pid {pid})")
        };
        let found: Vec<String> = others.filter(holds).take(MOST).map(name).collect();
        match found.is_empty() {
            true => String::new(),
            false => format!("; open in {}", found.join(", ")),
        }
    }
}
