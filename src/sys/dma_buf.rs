//! `linux/dma-buf.h`, `linux/dma-heap.h`, `linux/udmabuf.h`: structs, numbers and calls.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::from_kernel::own;
use super::syscall_count::{retry, tick};

/// `f_type` of a dma-buf in `fstatfs(2)` (`linux/magic.h`).
const DMA_BUF_MAGIC: u64 = 0x444d_4142;

/// `DMA_BUF_SYNC_READ`. In the sync_file ioctls it means the fences that a reader waits for.
pub(crate) const SYNC_READ: u64 = 1;
/// `DMA_BUF_SYNC_WRITE`.
pub(crate) const SYNC_WRITE: u64 = 2;
/// `DMA_BUF_SYNC_END`. Without it, the call means START.
pub(crate) const SYNC_END: u64 = 4;

#[repr(C)]
struct SyncFlags {
    flags: u64,
}

#[repr(C)]
struct SyncFile {
    flags: u32,
    fd: i32,
}

#[repr(C)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

#[repr(C)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

/// `struct sync_file_info` of `linux/sync_file.h`, without room for the single fences.
#[cfg(any(feature = "drm", feature = "g2d"))]
#[repr(C)]
struct FenceInfo {
    name: [u8; 32],
    /// 1 after the work, 0 before it, and a negative error number if it failed.
    status: i32,
    flags: u32,
    fences: u32,
    pad: u32,
    pointer: u64,
}

const UDMABUF_FLAGS_CLOEXEC: u32 = 1;

const _: () = {
    assert!(std::mem::size_of::<SyncFlags>() == 8);
    assert!(std::mem::size_of::<SyncFile>() == 8);
    assert!(std::mem::size_of::<HeapAllocation>() == 24);
    assert!(std::mem::size_of::<UdmabufCreate>() == 24);
    #[cfg(any(feature = "drm", feature = "g2d"))]
    assert!(std::mem::size_of::<FenceInfo>() == 56);
};

mod raw {
    #[cfg(any(feature = "drm", feature = "g2d"))]
    use super::FenceInfo;
    use super::{HeapAllocation, SyncFile, SyncFlags, UdmabufCreate};
    nix::ioctl_write_ptr!(sync, b'b', 0, SyncFlags);
    // The kernel accepts the 32-bit and the 64-bit form of this number on every target.
    nix::ioctl_write_ptr!(set_name, b'b', 1, u64);
    nix::ioctl_readwrite!(export_sync_file, b'b', 2, SyncFile);
    nix::ioctl_write_ptr!(import_sync_file, b'b', 3, SyncFile);
    // NXP's header declares it as "write", but the kernel writes to it.
    #[cfg(feature = "g2d")]
    nix::ioctl_readwrite_bad!(
        phys,
        nix::request_code_write!(b'b', 10, std::mem::size_of::<std::ffi::c_ulong>()),
        std::ffi::c_ulong
    );
    #[cfg(any(feature = "drm", feature = "g2d"))]
    nix::ioctl_readwrite!(fence_info, b'>', 4, FenceInfo);
    nix::ioctl_readwrite!(heap_alloc, b'H', 0, HeapAllocation);
    nix::ioctl_write_ptr!(udmabuf_create, b'u', 0x42, UdmabufCreate);
}

/// Returns whether the file is a dma-buf.
pub(crate) fn is_dma_buf(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    tick();
    let stat = nix::sys::statfs::fstatfs(fd)?;
    // The field's width and sign differ between targets.
    #[allow(clippy::unnecessary_cast)]
    Ok(stat.filesystem_type().0 as u64 & 0xffff_ffff == DMA_BUF_MAGIC)
}

/// Begins or ends an access (`DMA_BUF_IOCTL_SYNC`). Restarts the ioctl as the kernel's documentation requires.
pub(crate) fn sync(fd: BorrowedFd<'_>, flags: u64) -> Result<(), Errno> {
    let arg = SyncFlags { flags };
    loop {
        // SAFETY: `arg` is a live `struct dma_buf_sync`, which the kernel only reads; `fd` is open for the whole call.
        match retry(|| unsafe { raw::sync(fd.as_raw_fd(), &arg) }) {
            Err(Errno::EAGAIN) => {}
            done => return done.map(drop),
        }
    }
}

/// Sets a name of at most 31 bytes (`DMA_BUF_SET_NAME`), shown in `/sys/kernel/debug/dma_buf/bufinfo`.
pub(crate) fn set_name(fd: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let mut bytes = [0u8; 32];
    for (to, from) in bytes[..31].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the kernel reads at most 32 bytes (DMA_BUF_NAME_LEN), up to the NUL that `bytes` always ends with. The
    // pointer's declared type only determines the ioctl number.
    retry(|| unsafe { raw::set_name(fd.as_raw_fd(), bytes.as_ptr().cast()) }).map(drop)
}

/// Exports the fences that an access of this kind must wait for (`DMA_BUF_IOCTL_EXPORT_SYNC_FILE`, Linux 6.0).
pub(crate) fn export_sync_file(fd: BorrowedFd<'_>, access: u64) -> Result<OwnedFd, Errno> {
    let mut arg = SyncFile { flags: access as u32, fd: -1 };
    // SAFETY: `arg` is a live, exclusively borrowed `struct dma_buf_export_sync_file`.
    retry(|| unsafe { raw::export_sync_file(fd.as_raw_fd(), &mut arg) })?;
    own(arg.fd)
}

/// Adds a fence that later accesses wait for (`DMA_BUF_IOCTL_IMPORT_SYNC_FILE`, Linux 6.0).
pub(crate) fn import_sync_file(fd: BorrowedFd<'_>, fence: BorrowedFd<'_>, access: u64) -> Result<(), Errno> {
    let arg = SyncFile { flags: access as u32, fd: fence.as_raw_fd() };
    // SAFETY: `arg` is a live `struct dma_buf_import_sync_file`, which the kernel only reads; both fds are open.
    retry(|| unsafe { raw::import_sync_file(fd.as_raw_fd(), &arg) }).map(drop)
}

/// Returns the error with which the work of a fence ended, if it failed (`SYNC_IOC_FILE_INFO`). ENOTTY for a descriptor
/// that is not a sync_file.
#[cfg(any(feature = "drm", feature = "g2d"))]
pub(crate) fn fence_error(fence: BorrowedFd<'_>) -> Result<Option<Errno>, Errno> {
    let mut arg = FenceInfo { name: [0; 32], status: 0, flags: 0, fences: 0, pad: 0, pointer: 0 };
    // SAFETY: `arg` is a live, exclusively borrowed `struct sync_file_info`. With 0 fences, the kernel does not use the
    // pointer in it.
    retry(|| unsafe { raw::fence_info(fence.as_raw_fd(), &mut arg) })?;
    Ok((arg.status < 0).then(|| Errno::from_raw(arg.status.saturating_neg())))
}

/// Returns the physical address of the first segment (`DMA_BUF_IOCTL_PHYS` of NXP's kernels). ENOTTY on other
/// kernels.
#[cfg(feature = "g2d")]
pub(crate) fn phys(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut address: std::ffi::c_ulong = 0;
    // SAFETY: `address` is a live, exclusively borrowed `unsigned long`, which is the whole of NXP's struct.
    retry(|| unsafe { raw::phys(fd.as_raw_fd(), &mut address) })?;
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    Ok(address as u64)
}

/// Allocates a dma-buf from an open heap, readable and writable (`DMA_HEAP_IOCTL_ALLOC`).
pub(crate) fn heap_alloc(heap: BorrowedFd<'_>, len: u64) -> Result<OwnedFd, Errno> {
    let fd_flags = (libc::O_RDWR | libc::O_CLOEXEC) as u32;
    let mut arg = HeapAllocation { len, fd: 0, fd_flags, heap_flags: 0 };
    // SAFETY: `arg` is a live, exclusively borrowed `struct dma_heap_allocation_data`.
    retry(|| unsafe { raw::heap_alloc(heap.as_raw_fd(), &mut arg) })?;
    own(arg.fd as i32)
}

/// Creates a dma-buf over the pages of a memfd that is sealed against shrinking (`UDMABUF_CREATE`).
pub(crate) fn udmabuf_create(device: BorrowedFd<'_>, memfd: BorrowedFd<'_>, size: u64) -> Result<OwnedFd, Errno> {
    let arg = UdmabufCreate { memfd: memfd.as_raw_fd() as u32, flags: UDMABUF_FLAGS_CLOEXEC, offset: 0, size };
    // SAFETY: `arg` is a live `struct udmabuf_create`, which the kernel only reads; both fds are open.
    own(retry(|| unsafe { raw::udmabuf_create(device.as_raw_fd(), &arg) })?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ioctls_have_the_uapi_s_numbers() {
        assert_eq!(nix::request_code_write!(b'b', 0, 8), 0x4008_6200);
        assert_eq!(nix::request_code_readwrite!(b'b', 2, 8), 0xc008_6202);
        assert_eq!(nix::request_code_write!(b'b', 3, 8), 0x4008_6203);
        assert_eq!(nix::request_code_readwrite!(b'>', 4, 56), 0xc038_3e04);
        assert_eq!(nix::request_code_readwrite!(b'H', 0, 24), 0xc018_4800);
        assert_eq!(nix::request_code_write!(b'u', 0x42, 24), 0x4018_7542);
        let phys = nix::request_code_write!(b'b', 10, std::mem::size_of::<std::ffi::c_ulong>());
        assert_eq!(phys, if cfg!(target_pointer_width = "64") { 0x4008_620a } else { 0x4004_620a });
    }
}
