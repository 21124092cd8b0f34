//! The guest's console log: kernel messages, and what in them means that the kernel is not well.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::Res;

const TROUBLE: [&str; 5] = ["WARNING:", "BUG:", "Oops", "Kernel panic", "INFO: task "];

pub struct Console {
    path: PathBuf,
    file: File,
    text: Vec<u8>,
}

impl Console {
    pub fn new(path: &Path) -> Res<Console> {
        let fail = |e| format!("{}: {e}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(path)).map_err(fail)?;
        // QEMU truncates and then writes this same file.
        File::create(path).map_err(fail)?;
        let file = File::open(path).map_err(fail)?;
        Ok(Console { path: path.to_path_buf(), file, text: Vec::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes in what is new; whether there was anything.
    pub fn read(&mut self) -> bool {
        self.file.read_to_end(&mut self.text).is_ok_and(|n| n > 0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).replace('\r', "")
    }

    /// Lines that say that the kernel, or the guest's set-up, is in trouble.
    pub fn trouble(&self) -> Vec<String> {
        trouble(&self.text())
    }

    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

fn trouble(text: &str) -> Vec<String> {
    text.lines()
        .filter(|l| TROUBLE.iter().any(|t| l.contains(t)) || l.starts_with("lab: cannot"))
        .map(str::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_found() {
        let log = "[    1.0] vivid-000: registered\n\
                   [    2.0] WARNING: CPU: 0 PID: 1 at drivers/media/x.c:1 y+0x1/0x2\n\
                   [    3.0] Oops: 0000 [#1]\nlab: cannot load: vivid\n";
        assert_eq!(trouble(log).len(), 3);
        assert!(trouble("all is well\n").is_empty());
    }
}
