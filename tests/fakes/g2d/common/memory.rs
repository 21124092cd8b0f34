//! The fake's address space: made-up physical addresses for memory of this process.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::control::setting;
use super::sealed::{double, inode_of};

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
                double(self.inode.as_deref()?, self.len)
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
