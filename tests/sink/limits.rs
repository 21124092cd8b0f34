//! Files and pipes that take no more.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::{SigSet, Signal};

/// Returns what limits the size of files, and the size that ends the limit. Writes beyond it fail, and the signal stays
/// blocked.
pub fn file_limit() -> (impl Fn(u64), u64) {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    (move |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).unwrap(), hard)
}

/// Closes the reading end of a named pipe. A process that another test starts has it, too, until it runs its program.
pub fn close_reader(reader: std::fs::File, path: &Path) {
    drop(reader);
    let start = Instant::now();
    let open = || std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
    while open().map_or_else(|e| e.raw_os_error(), |_| None) != Some(libc::ENXIO) {
        assert!(start.elapsed() < Duration::from_secs(10), "the pipe still has a reader");
        std::thread::sleep(Duration::from_millis(1));
    }
}
