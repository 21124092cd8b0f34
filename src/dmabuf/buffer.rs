//! [`DmaBuf`]: a handle to one shared buffer, with its kind, size and identity.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag, SealFlag};
use nix::unistd::{lseek, Whence};

use super::users::Users;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;
use crate::sys::map::Mapping;

/// The kind of memory that a file descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryKind {
    /// A dma-buf. Devices can import dma-bufs.
    DmaBuf,
    /// A memfd that is sealed against shrinking. Processes can map it, but devices cannot import it. This crate accepts
    /// an unsealed memfd only from GStreamer's `unixfdsink`, and only if the caller permits it.
    Memfd,
}

/// How to treat a memfd that may shrink. A reader of the lost pages would get SIGBUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "unixfd"), allow(dead_code))] // Only `unixfd` constructs the other variants.
pub(crate) enum Shrinkable {
    Refused,
    /// It is sealed here, and refused if its creator forbids that.
    Sealed,
    /// It is sealed here if its creator allows that, else accepted without a seal.
    Taken,
}

/// The kernel's identity of a dma-buf or memfd. Two descriptors with the same identity refer to the same memory.
/// Therefore, use the identity as the key of an import cache.
///
/// The same memory can have several identities: each `VIDIOC_EXPBUF` makes another dma-buf of the driver's buffer. This
/// crate exports each buffer once.
///
/// The identity consists of `st_dev`, `st_ino` and `st_size` of `fstat`. The kernel does not reuse the identity of a
/// buffer while any descriptor of that buffer is open. One exception is left: before Linux 5.15, and on 32-bit
/// machines, the inode number has 32 bits and begins again after four billion files. A new buffer of the same size
/// could then have the number of an old buffer that is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId {
    dev: u64,
    ino: u64,
    size: u64,
}

/// A counted handle to one shared buffer. Clones share the descriptor and its mapping.
///
/// The memory exists until every process has dropped its handles, leases, imports and mappings.
///
/// ```
/// use std::os::fd::AsFd;
/// use framelease::dmabuf::{Allocator, DmaBuf};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ours = Allocator::Memfd.allocate(4096, "example")?;
/// let fd = ours.as_fd().try_clone_to_owned()?; // As if another process had sent it.
/// let theirs = DmaBuf::from_fd(fd)?;
/// assert_eq!(ours, theirs); // The same memory.
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct DmaBuf(pub(super) Arc<Inner>);

/// A weak handle to a buffer. See [`DmaBuf::downgrade`].
#[cfg(any(feature = "g2d", feature = "vulkan"))]
#[derive(Clone, Debug)]
pub(crate) struct WeakDmaBuf(std::sync::Weak<Inner>);

#[cfg(any(feature = "g2d", feature = "vulkan"))]
impl WeakDmaBuf {
    /// Returns `true` while the original handle or a clone exists. Until then, no other buffer has its identity.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

pub(super) struct Inner {
    pub(super) fd: OwnedFd,
    pub(super) id: BufferId,
    pub(super) kind: MemoryKind,
    pub(super) size_bytes: usize,
    pub(super) read_only: bool,
    mapping: OnceLock<Mapping>,
    pub(super) users: Users,
}

impl BufferId {
    /// Returns the identity of an open descriptor. One system call.
    pub(crate) fn of(fd: &OwnedFd) -> Result<Self> {
        sys::syscall_count::tick();
        let stat = nix::sys::stat::fstat(fd).map_err(|e| Error::os("fstat", e))?;
        // The fields differ in width between targets.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Ok(Self { dev: stat.st_dev as u64, ino: stat.st_ino as u64, size: stat.st_size as u64 })
    }
}

impl DmaBuf {
    /// Takes a descriptor from elsewhere (an export, another process, another library) and checks its type.
    ///
    /// The checks cost five system calls. Later accesses do not repeat the checks.
    ///
    /// # Errors
    /// `WrongFile` if the descriptor is neither a dma-buf nor a memfd that is sealed against shrinking, or if its size
    /// is unknown. The memory of an unsealed memfd could disappear during a read.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::take(fd, Shrinkable::Refused)
    }

    /// [`DmaBuf::from_fd`] for a caller that may accept an unsealed memfd.
    pub(crate) fn take(fd: OwnedFd, shrinkable: Shrinkable) -> Result<Self> {
        let os = |op| move |e| Error::os(op, e);
        let id = BufferId::of(&fd)?;
        let kind = if sys::dma_buf::is_dma_buf(fd.as_fd()).map_err(os("fstatfs"))? {
            MemoryKind::DmaBuf
        } else {
            check_seals(&fd, shrinkable)?;
            MemoryKind::Memfd
        };
        let size = lseek(&fd, 0, Whence::SeekEnd).map_err(os("lseek"))?;
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(os("fcntl"))?;
        sys::syscall_count::tick();
        sys::syscall_count::tick();
        let read_only = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE == OFlag::O_RDONLY;
        let size_bytes = usize::try_from(size).unwrap_or(0);
        if size_bytes == 0 {
            return Err(Error::new(ErrorKind::WrongFile, "lseek", "the buffer has no size"));
        }
        Ok(Self(Arc::new(Inner {
            fd,
            id,
            kind,
            size_bytes,
            read_only,
            mapping: OnceLock::new(),
            users: Users::default(),
        })))
    }

    /// Returns the kernel's identity of this memory.
    pub fn id(&self) -> BufferId {
        self.0.id
    }

    /// Returns the size in bytes, a multiple of the page size for dma-bufs.
    pub fn size_bytes(&self) -> usize {
        self.0.size_bytes
    }

    /// Returns whether this is a dma-buf or a memfd.
    pub fn kind(&self) -> MemoryKind {
        self.0.kind
    }

    /// Returns `true` if this descriptor cannot be mapped for writing. Devices can write a dma-buf through any
    /// descriptor.
    #[doc(hidden)]
    pub fn is_read_only(&self) -> bool {
        self.0.read_only
    }

    /// Returns `true` if another process that gets this descriptor can map it for writing: the descriptor is not
    /// read-only, and it is not a memfd with a write seal.
    pub(crate) fn is_writable_by_others(&self) -> bool {
        let sealed = || {
            sys::syscall_count::tick();
            let seals = fcntl(self, FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_truncate);
            seals.intersects(SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_WRITE)
        };
        match self.0.kind {
            MemoryKind::DmaBuf => !self.0.read_only,
            MemoryKind::Memfd => !self.0.read_only && !sealed(),
        }
    }

    /// Names the buffer for `/sys/kernel/debug/dma_buf/bufinfo`, with at most 31 bytes. Ioctl: `DMA_BUF_SET_NAME`.
    ///
    /// # Errors
    /// `Unsupported` on a memfd (which has its name from its creation) or before Linux 5.3, `Busy` while a device has
    /// the buffer attached (before Linux 5.15).
    #[doc(alias = "DMA_BUF_SET_NAME")]
    pub(crate) fn set_name(&self, name: &str) -> Result<()> {
        self.dma_buf_only("DMA_BUF_SET_NAME")?;
        sys::dma_buf::set_name(self.as_fd(), name).map_err(|e| Error::os("DMA_BUF_SET_NAME", e))
    }

    /// Returns a handle that keeps neither the memory nor the descriptor.
    #[cfg(any(feature = "g2d", feature = "vulkan"))]
    pub(crate) fn downgrade(&self) -> WeakDmaBuf {
        WeakDmaBuf(Arc::downgrade(&self.0))
    }

    /// Returns the driver that exported the dma-buf, such as `system`, `linux,cma`, `udmabuf`,
    /// `videobuf2_dma_contig`: `exp_name` in its fdinfo, since Linux 5.3. Three system calls.
    #[cfg(feature = "g2d")]
    pub(crate) fn exporter(&self) -> Option<String> {
        use std::os::fd::AsRawFd;
        (0..3).for_each(|_| sys::syscall_count::tick());
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.as_fd().as_raw_fd())).ok()?;
        text.lines().find_map(|l| l.strip_prefix("exp_name:")).map(|name| name.trim().to_owned())
    }

    pub(super) fn dma_buf_only(&self, op: &'static str) -> Result<()> {
        match self.0.kind {
            MemoryKind::DmaBuf => Ok(()),
            MemoryKind::Memfd => Err(Error::new(ErrorKind::Unsupported, op, "a memfd is not a dma-buf")),
        }
    }

    /// Returns the bytes of a bitstream, see [`Mapping::quiet`]. `None` if the range exceeds the buffer or the memory
    /// could be written.
    pub(crate) fn quiet(&self, range: std::ops::Range<usize>) -> Result<Option<&[u8]>> {
        if !self.0.read_only {
            return Ok(None);
        }
        Ok(self.mapping()?.quiet(range))
    }

    /// Returns the mapping of the whole buffer, created at first use and kept. It is writable if the descriptor is.
    pub(super) fn mapping(&self) -> Result<&Mapping> {
        if let Some(mapping) = self.0.mapping.get() {
            return Ok(mapping);
        }
        let map = |writable| Mapping::new(self.as_fd(), self.0.size_bytes, writable);
        let mapping = match map(!self.0.read_only) {
            // A memfd with F_SEAL_FUTURE_WRITE has a writable descriptor and refuses writable mappings.
            Err(e) if !self.0.read_only && e.raw_os_error() == Some(libc::EPERM) => map(false),
            done => done,
        }
        .map_err(|e| Error::io("mmap", &e).detail(format!("{} bytes of a {:?}", self.0.size_bytes, self.0.kind)))?;
        // If another thread was faster, its mapping stays and this one is unmapped.
        let _ = self.0.mapping.set(mapping);
        self.0.mapping.get().ok_or_else(|| Error::new(ErrorKind::Os, "mmap", "the mapping was lost"))
    }
}

fn check_seals(fd: &OwnedFd, shrinkable: Shrinkable) -> Result<()> {
    sys::syscall_count::tick();
    let seals = match fcntl(fd, FcntlArg::F_GET_SEALS) {
        Ok(bits) => SealFlag::from_bits_truncate(bits),
        Err(Errno::EINVAL) => {
            return Err(Error::new(ErrorKind::WrongFile, "fstatfs", "the descriptor is neither a dma-buf nor a memfd"))
        }
        Err(e) => return Err(Error::os("F_GET_SEALS", e)),
    };
    if seals.contains(SealFlag::F_SEAL_SHRINK) {
        return Ok(());
    }
    if shrinkable == Shrinkable::Refused {
        return Err(Error::new(ErrorKind::WrongFile, "F_GET_SEALS", "the memfd is not sealed against shrinking"));
    }
    sys::syscall_count::tick();
    match fcntl(fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)) {
        Err(e) if shrinkable == Shrinkable::Sealed => {
            let text = format!("the memfd may shrink under a reader, and cannot be sealed against it: {}", e.desc());
            Err(Error::new(ErrorKind::WrongFile, "F_ADD_SEALS", text))
        }
        _ => Ok(()),
    }
}

impl AsFd for DmaBuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

/// Compares the identity: equal handles refer to the same memory.
impl PartialEq for DmaBuf {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for DmaBuf {}

#[cfg(any(feature = "g2d", feature = "vulkan"))]
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inner(inode {})", self.id.ino)
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.0.read_only { "read-only" } else { "read-write" };
        write!(f, "{:?}({} bytes, inode {}, {mode})", self.0.kind, self.0.size_bytes, self.0.id.ino)
    }
}
