//! Memfds that are sealed against new writable mappings.

use std::ffi::c_void;
use std::os::fd::RawFd;

/// Finds where the owner of a memfd in this process has mapped it, and doubles that mapping.
pub fn double(inode: &str, len: usize) -> Option<usize> {
    // The mapping may belong to another thread, which unmaps it before it is doubled, and whose place another mapping
    // may take. The new mapping stays: it is checked, and on a mismatch the search starts again.
    (0..50).find_map(|_| {
        let existing = writable_mapping(inode, |_| true)?;
        // SAFETY: an old size of 0 doubles a shared mapping, keeps the old one, and fails without one. The result is an
        // independent mapping.
        let base = unsafe { libc::mremap(existing as *mut c_void, 0, len, libc::MREMAP_MAYMOVE) };
        if base == libc::MAP_FAILED {
            return None;
        }
        if writable_mapping(inode, |at| at == base as usize).is_none() {
            // SAFETY: made by the call above, and no one else has its address.
            unsafe { libc::munmap(base, len) };
            return None;
        }
        Some(base as usize)
    })
}

/// The inode as `/proc/self/maps` prints it.
pub fn inode_of(fd: RawFd) -> Option<String> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a live `struct stat`, which the kernel fills.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: fstat succeeded, and all zeroes are valid for it too.
    Some(unsafe { stat.assume_init() }.st_ino.to_string())
}

/// Where this process has mapped the file shared, writable and from its start: the first such address that `is_wanted`.
/// The kernel does not give the list in one piece: what other threads map at the same time can hide a line.
fn writable_mapping(inode: &str, is_wanted: impl Fn(usize) -> bool) -> Option<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (range, mode) = (words.next()?, words.next()?);
        let (offset, found) = (words.next()?, words.nth(1)?);
        if mode != "rw-s" || found != inode || offset.bytes().any(|b| b != b'0') {
            return None;
        }
        usize::from_str_radix(range.split_once('-')?.0, 16).ok().filter(|at| is_wanted(*at))
    })
}
