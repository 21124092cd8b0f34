//! Writes to pipes.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::syscall_count::tick;

/// Writes to a pipe or device without SIGPIPE, which ends a program whose runtime does not ignore it: C programs, and
/// Rust programs that restore the default. `write` has no flag against it, so the thread blocks the signal meanwhile.
pub(crate) fn write(mut file: &File, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    tick();
    let before = pipe.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    tick();
    let written = file.write_vectored(slices);
    let is_ours = !before.contains(Signal::SIGPIPE);
    if is_ours && written.as_ref().is_err_and(|e| e.raw_os_error() == Some(Errno::EPIPE as i32)) {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        tick();
        // SAFETY: memory: `pipe` and `now` are ours and live during the call, which may write nothing (NULL).
        // Contract: takes a signal of the set if one is pending, and does not wait. It is that of the write above: the
        // thread did not block it before, so none was pending.
        unsafe { libc::sigtimedwait(pipe.as_ref(), ptr::null_mut(), &now) };
    }
    if is_ours {
        tick();
        before.thread_set_mask()?;
    }
    written
}
