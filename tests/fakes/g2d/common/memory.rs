//! The fake's address space: made-up physical addresses for memory of this process.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::control::setting;

/// Memory of this process behind an address or a file. It is mapped for reading, and for writing once it is a target:
/// a camera's buffers are exported for reading alone.
#[derive(Debug)]
pub struct Region {
    base: usize,
    len: usize,
    /// The inode of a file.
    inode: Option<String>,
    writable: OnceLock<Option<usize>>,
}

/// Regions that exist: the fake leaks nothing that its caller gave back.
static LIVE: AtomicUsize = AtomicUsize::new(0);

pub fn live() -> i64 {
    LIVE.load(Ordering::Relaxed) as i64
}

impl Region {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.base as *const u8
    }

    /// The memory to write to, if its file allows that. Called once for each target before it is drawn.
    pub fn writable(&self) -> Option<*mut u8> {
        let base = self.writable.get_or_init(|| {
            // SAFETY: the region's own mapping. The kernel refuses what the file does not allow.
            let done =
                unsafe { libc::mprotect(self.base as *mut c_void, self.len, libc::PROT_READ | libc::PROT_WRITE) };
            if done == 0 {
                Some(self.base)
            } else {
                self.doubled()
            }
        });
        base.map(|base| base as *mut u8)
    }

    /// Memory of the fake's own, for `g2d_alloc`.
    pub fn allocate(len: usize) -> Option<Arc<Self>> {
        // SAFETY: an anonymous private mapping; no memory of Rust's is touched.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        Self::new(base, len, None)
    }

    /// The memory of a dma-buf or memfd.
    pub fn of_file(fd: c_int) -> Option<Arc<Self>> {
        // SAFETY: no memory is passed; the kernel checks the number.
        let len = usize::try_from(unsafe { libc::lseek(fd, 0, libc::SEEK_END) }).ok().filter(|l| *l > 0)?;
        // SAFETY: a new shared mapping of the file.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        Self::new(base, len, inode_of(fd))
    }

    fn new(base: *mut c_void, len: usize, inode: Option<String>) -> Option<Arc<Self>> {
        (base != libc::MAP_FAILED).then(|| {
            LIVE.fetch_add(1, Ordering::Relaxed);
            Arc::new(Self { base: base as usize, len, inode, writable: OnceLock::new() })
        })
    }

    /// A memfd that is sealed against new writable mappings is found where its owner in this process has mapped it, and
    /// that mapping is doubled.
    fn doubled(&self) -> Option<usize> {
        let (inode, len) = (self.inode.as_deref()?, self.len);
        // The mapping may belong to another thread, which unmaps it before it is doubled, and whose place
        // another mapping may take. The new mapping stays: it is checked, and on a mismatch the search starts again.
        (0..50).find_map(|_| {
            let existing = writable_mapping(inode, |_| true)?;
            // SAFETY: an old size of 0 doubles a shared mapping, keeps the old one, and fails without one. The
            // result is an independent mapping.
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
}

impl Drop for Region {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
        let doubled = self.writable.get().copied().flatten().filter(|base| *base != self.base);
        for base in std::iter::once(self.base).chain(doubled) {
            // SAFETY: the mappings were made for this region alone and no one else has their addresses.
            unsafe { libc::munmap(base as *mut c_void, self.len) };
        }
    }
}

/// The inode as `/proc/self/maps` prints it.
fn inode_of(fd: c_int) -> Option<String> {
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

struct Range {
    at: u64,
    region: Arc<Region>,
}

struct Space {
    ranges: Vec<Range>,
    next: u64,
}

static SPACE: Mutex<Space> = Mutex::new(Space { ranges: Vec::new(), next: 0 });

fn space() -> MutexGuard<'static, Space> {
    SPACE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a region an address. `base` moves the whole space: above 2, 3 or 4 GiB.
pub fn place(region: &Arc<Region>) -> u64 {
    let mut space = space();
    let base = setting("base") as u64;
    if space.next < base {
        space.next = base;
    }
    let at = space.next;
    // A gap that belongs to no region, so that what runs over is noticed.
    space.next = (at + region.len() as u64).next_multiple_of(0x1000) + 0x10000;
    space.ranges.push(Range { at, region: Arc::clone(region) });
    at
}

pub fn remove(at: u64) {
    space().ranges.retain(|r| r.at != at);
}

/// The region of an address and the offset in it.
pub fn find(address: u64) -> Option<(Arc<Region>, usize)> {
    let space = space();
    let range = space.ranges.iter().find(|r| (r.at..r.at + r.region.len() as u64).contains(&address))?;
    Some((Arc::clone(&range.region), (address - range.at) as usize))
}
