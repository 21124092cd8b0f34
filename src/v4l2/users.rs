//! The processes that have a device open, for the texts of errors.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::fstat;

use super::Device;

/// Names at most so many processes.
const MOST: usize = 4;

impl Device {
    /// Returns `; in use by NAME (pid N)`, or an empty text. A process sees only those of its own user, and root sees
    /// all in its PID namespace.
    pub(super) fn in_use_by(&self) -> String {
        let Ok(node) = fstat(self) else { return String::new() };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
        let others = numbers.filter(|&pid| pid != std::process::id());
        let holds = |pid: &u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::metadata(file.path()).ok()).any(|file| file.rdev() == node.st_rdev)
        };
        let name = |pid: u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim())
        };
        let found: Vec<String> = others.filter(holds).take(MOST).map(name).collect();
        if found.is_empty() {
            String::new()
        } else {
            format!("; in use by {}", found.join(", "))
        }
    }
}
