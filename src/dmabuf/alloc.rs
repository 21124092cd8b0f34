//! Allocators of shared memory, for buffers that no device provides.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{fcntl, open, FcntlArg, OFlag, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};
use nix::sys::stat::Mode;
use nix::unistd::ftruncate;

use super::buffer::DmaBuf;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

const UDMABUF: &str = "/dev/udmabuf";
/// In MiB.
const UDMABUF_LIMIT: &str = "/sys/module/udmabuf/parameters/size_limit_mb";
const HEAPS: &str = "/dev/dma_heap";

/// An allocator of shared memory.
///
/// A heap and udmabuf allocate dma-bufs, which devices can import. Every process that has such a dma-buf can write to
/// it, because the descriptor of a dma-buf cannot be made read-only. A memfd is read-only for other processes. Devices
/// cannot import a memfd.
///
/// ```
/// use framelease::dmabuf::{Allocator, MemoryKind};
///
/// let buffer = Allocator::Memfd.allocate(640 * 480, "preview")?;
/// assert_eq!(buffer.kind(), MemoryKind::Memfd);
/// assert!(buffer.size_bytes() >= 640 * 480); // Whole pages.
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allocator {
    /// A dma-heap by its path, such as `/dev/dma_heap/system` or `/dev/dma_heap/linux,cma`. Needs Linux 5.6.
    Heap(PathBuf),
    /// `/dev/udmabuf`: a dma-buf over the pages of a memfd. Needs Linux 4.20. A buffer has at most 64 MiB, unless the
    /// module's limit is raised.
    Udmabuf,
    /// A memfd, sealed against resizing and against new writable mappings. Needs Linux 5.1.
    Memfd,
}

impl Allocator {
    /// Returns the best allocator for memory that the CPU fills and other processes read: udmabuf if it can be
    /// opened, else a sealed memfd.
    pub fn for_cpu_source() -> Self {
        if open_device(Path::new(UDMABUF)).is_ok() {
            Self::Udmabuf
        } else {
            Self::Memfd
        }
    }

    /// Finds an allocator for memory that devices can import. Tries uncached contiguous heaps first, then other
    /// contiguous heaps, then all other heaps, then udmabuf. This order suits 2D engines and encoders, which need
    /// contiguous memory and do not see data that is only in the CPU's caches. Allocates and frees one page from each
    /// allocator that it tries.
    ///
    /// # Errors
    /// `Unsupported` if no allocator of this machine gives dma-bufs. The text contains the error of each allocator.
    pub fn for_devices() -> Result<Self> {
        let mut heaps = Self::heaps();
        heaps.sort_by_key(Self::rank);
        let mut refused = Vec::new();
        for allocator in heaps.into_iter().chain([Self::Udmabuf]) {
            match allocator.allocate(4096, "probe") {
                Ok(_) => return Ok(allocator),
                Err(e) => refused.push(e.to_string()),
            }
        }
        let text = format!("no allocator of this machine gives dma-bufs: {}", refused.join("; "));
        Err(Error::new(ErrorKind::Unsupported, "allocate", text))
    }

    /// Returns the place of a heap in the order of [`Allocator::for_devices`]. The kernel's contiguous heap is
    /// `default_cma_region` since Linux 6.17, and was `linux,cma`, `reserved` or `default-pool`. The uncached one is
    /// NXP's.
    fn rank(&self) -> u8 {
        match self.to_string() {
            name if name.contains("cma-uncached") => 0,
            name if ["cma", "reserved", "default-pool"].iter().any(|part| name.contains(part)) => 1,
            _ => 2,
        }
    }

    /// Returns the dma-heaps of this machine, sorted by name.
    pub fn heaps() -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(HEAPS) else { return Vec::new() };
        let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        paths.into_iter().map(Self::Heap).collect()
    }

    /// Allocates a buffer of at least `size_bytes`, rounded up to whole pages. The kernel shows `name` in debugfs.
    ///
    /// # Errors
    /// `InvalidArgument` for a size of 0. `NotFound` or `PermissionDenied` if the allocator's device cannot be opened.
    /// `Exhausted` if memory is not available. Other errors are those of the kernel. The text names the device and the
    /// size.
    #[doc(alias = "DMA_HEAP_IOCTL_ALLOC")]
    #[doc(alias = "UDMABUF_CREATE")]
    pub fn allocate(&self, size_bytes: usize, name: &str) -> Result<DmaBuf> {
        let page = page_size();
        let size = size_bytes.checked_next_multiple_of(page).filter(|&s| s > 0 && s <= isize::MAX as usize);
        let Some(size) = size else {
            let text = format!("{size_bytes} bytes cannot be allocated");
            return Err(Error::new(ErrorKind::InvalidArgument, "allocate", text).on(self));
        };
        let failed = |op| move |e: Errno| Error::os(op, e).on(self).detail(format!("{}; {size} bytes asked", e.desc()));
        match self {
            Self::Heap(path) => {
                let heap = open_device(path)?;
                let fd = sys::dma_buf::heap_alloc(heap.as_fd(), size as u64).map_err(failed("DMA_HEAP_IOCTL_ALLOC"))?;
                named(fd, name)
            }
            Self::Udmabuf => {
                let device = open_device(Path::new(UDMABUF))?;
                // The kernel requires SHRINK and refuses WRITE.
                let memfd = memory_file(size, name, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)?;
                let fd = sys::dma_buf::udmabuf_create(device.as_fd(), memfd.as_fd(), size as u64).map_err(|e| {
                    let error = failed("UDMABUF_CREATE")(e);
                    match udmabuf_limit() {
                        Some(limit) if e == Errno::EINVAL && size as u64 > limit => {
                            let text = format!("{size} bytes asked; {UDMABUF_LIMIT} allows {limit} bytes for a buffer");
                            error.kind_is(ErrorKind::Exhausted).detail(text)
                        }
                        _ => error,
                    }
                })?;
                named(fd, name)
            }
            Self::Memfd => {
                let fd = memory_file(size, name, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)?;
                let buffer = DmaBuf::from_fd(fd)?;
                // Maps it first: the seal forbids every later writable mapping, this process's too.
                buffer.mapping()?;
                fcntl(&buffer, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE)).map_err(failed("F_ADD_SEALS"))?;
                Ok(buffer)
            }
        }
    }
}

impl fmt::Display for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heap(path) => write!(f, "{}", path.display()),
            Self::Udmabuf => f.write_str(UDMABUF),
            Self::Memfd => f.write_str("memfd"),
        }
    }
}

/// Returns the largest buffer that udmabuf makes, if the kernel reports it.
fn udmabuf_limit() -> Option<u64> {
    let text = std::fs::read_to_string(UDMABUF_LIMIT).ok()?;
    text.trim().parse::<u64>().ok()?.checked_mul(1 << 20)
}

fn open_device(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    sys::syscall_count::retry(|| open(path, flags, Mode::empty())).map_err(|e| Error::os("open", e).on(path.display()))
}

fn memory_file(size: usize, name: &str, seals: SealFlag) -> Result<OwnedFd> {
    let name = CString::new(name.replace('\0', " ")).unwrap_or_default();
    let fd = memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|e| Error::os("memfd_create", e))?;
    sys::syscall_count::retry(|| ftruncate(&fd, size as libc::off_t))
        .map_err(|e| Error::os("ftruncate", e).detail(format!("{size} bytes")))?;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).map_err(|e| Error::os("F_ADD_SEALS", e))?;
    Ok(fd)
}

fn named(fd: OwnedFd, name: &str) -> Result<DmaBuf> {
    let buffer = DmaBuf::from_fd(fd)?;
    // A failure is ignored: the name only helps people who read debugfs.
    let _ = buffer.set_name(name);
    Ok(buffer)
}

fn page_size() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryKind, DEFAULT_WAIT};
    use super::*;
    use crate::stats::cpu_bytes;

    #[test]
    fn for_devices_prefers_contiguous_heaps_by_all_their_names() {
        let rank = |name: &str| Allocator::Heap(Path::new(HEAPS).join(name)).rank();
        assert_eq!(rank("linux,cma-uncached"), 0);
        for name in ["default_cma_region", "linux,cma", "reserved", "default-pool"] {
            assert_eq!(rank(name), 1, "{name}");
        }
        assert_eq!(rank("system"), 2);
    }

    #[test]
    fn allocate_seals_a_memfd() {
        let mut ours = Allocator::Memfd.allocate(5000, "test").unwrap();
        assert_eq!((ours.kind(), ours.size_bytes()), (MemoryKind::Memfd, 8192));
        let mut theirs = DmaBuf::from_fd(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(ours, theirs);
        ours.write(DEFAULT_WAIT).unwrap().copy_from(4990, b"pixels").unwrap();
        let mut got = [0; 6];
        let before = cpu_bytes().read;
        theirs.read(DEFAULT_WAIT).unwrap().copy_to(4990, &mut got).unwrap();
        assert_eq!(&got, b"pixels");
        assert!(cpu_bytes().read >= before + 6);
        // Another process's CPU cannot write it, cannot resize it, and cannot remove the seals.
        assert_eq!(theirs.write(DEFAULT_WAIT).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(ftruncate(&theirs, 100).is_err());
        let e = theirs.set_name("x").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn access_allows_one_writer_or_many_readers() {
        let mut a = Allocator::Memfd.allocate(4096, "test").unwrap();
        let mut b = a.clone();
        let busy = |e: Error| e.kind() == ErrorKind::Busy;
        {
            let _first = a.read(DEFAULT_WAIT).unwrap();
            let _second = a.read(DEFAULT_WAIT).unwrap();
            assert!(b.write(DEFAULT_WAIT).is_err_and(busy));
        }
        {
            let _writer = a.write(DEFAULT_WAIT).unwrap();
            assert!(b.read(DEFAULT_WAIT).is_err_and(busy));
            assert!(b.write(DEFAULT_WAIT).is_err_and(busy));
        }
        assert!(b.write(DEFAULT_WAIT).is_ok());
    }

    #[test]
    fn copy_to_refuses_ranges_outside() {
        let b = Allocator::Memfd.allocate(4096, "test").unwrap();
        let read = b.read(DEFAULT_WAIT).unwrap();
        for offset in [4093, 4097, usize::MAX] {
            assert_eq!(read.copy_to(offset, &mut [0; 4]).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert!(read.copy_to(4092, &mut [0; 4]).is_ok());
    }

    #[test]
    fn from_fd_and_allocate_refuse_other_files_and_sizes() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(DmaBuf::from_fd(null.into()).unwrap_err().kind(), ErrorKind::WrongFile);
        let loose = memory_file(4096, "loose", SealFlag::empty()).unwrap();
        assert_eq!(DmaBuf::from_fd(loose).unwrap_err().kind(), ErrorKind::WrongFile);
        let empty = memory_file(0, "empty", SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW).unwrap();
        assert_eq!(DmaBuf::from_fd(empty).unwrap_err().kind(), ErrorKind::WrongFile);
        for (allocator, size, kind) in [
            (Allocator::Memfd, 0, ErrorKind::InvalidArgument),
            (Allocator::Memfd, usize::MAX, ErrorKind::InvalidArgument),
            (Allocator::Heap("/dev/dma_heap/none".into()), 4096, ErrorKind::NotFound),
            (Allocator::Heap("/dev/null".into()), 4096, ErrorKind::Unsupported),
        ] {
            assert_eq!(allocator.allocate(size, "x").unwrap_err().kind(), kind, "{allocator} {size}");
        }
    }
}
