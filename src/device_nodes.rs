//! Lists, chooses and opens device nodes under `/dev`.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::sys::stat::{major, Mode};

use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// Opens a node of one subsystem, readable, writable and non-blocking. `WrongFile` if the file is not such a node.
pub(crate) fn open_node(path: &Path, subsystem: &str, number: u64) -> Result<OwnedFd> {
    // The check comes first because opening some nodes has side effects (watchdogs, tapes).
    let meta = fs::metadata(path).map_err(|e| Error::io("open", &e).on(path.display()))?;
    if !meta.file_type().is_char_device() || major(meta.rdev() as _) as u64 != number {
        let text = format!("not a {subsystem} device: the file is not a node of that subsystem");
        return Err(Error::new(ErrorKind::WrongFile, "open", text).on(path.display()));
    }
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = sys::syscall_count::retry(|| open(path, flags, Mode::empty()));
    opened.map_err(|errno| {
        let error = Error::os("open", errno).on(path.display());
        match errno {
            Errno::EACCES => error.detail("this user may not open the node; its group may"),
            _ => error,
        }
    })
}

/// Lists the nodes in a folder that are named by one of `prefixes` and a number, sorted by prefix, then by number.
pub(crate) fn list(folder: &str, prefixes: &[&str]) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let rank = |name: &str| {
        let ranked = |(at, prefix): (usize, &&str)| Some((at, name.strip_prefix(prefix)?.parse::<u32>().ok()?));
        prefixes.iter().enumerate().find_map(ranked)
    };
    let mut found: Vec<_> =
        entries.flatten().filter_map(|e| Some((rank(e.file_name().to_str()?)?, e.path()))).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Finds the first device for which `wanted` holds. The text of `NotFound` lists the others, in the words of
/// `describe`.
pub(crate) fn find<D>(
    what: &str,
    nodes: &[PathBuf],
    open: impl Fn(&Path) -> Result<D>,
    wanted: impl Fn(&D) -> bool,
    describe: impl Fn(&D) -> String,
) -> Result<D> {
    let mut seen = Vec::new();
    for path in nodes {
        match open(path) {
            Ok(device) if wanted(&device) => return Ok(device),
            Ok(device) => seen.push(describe(&device)),
            Err(e) => seen.push(e.to_string()),
        }
    }
    let text = match seen.len() {
        0 => format!("found no {what} node: no driver is loaded that makes one, or it is not in this container"),
        _ => format!("no device fits: {}", seen.join("; ")),
    };
    Err(Error::new(ErrorKind::NotFound, "find", text))
}
