//! Mappings of shared buffers. Their bytes may change at any time, so they are not lent as slices but read and
//! written through raw pointers.

use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{MmapOptions, MmapRaw};

use super::shared_bytes::SharedBytes;

/// A shared mapping of a whole buffer. It exists as long as the buffer's handle.
#[derive(Debug)]
pub(crate) struct Mapping {
    raw: MmapRaw,
    writable: bool,
}

impl Mapping {
    /// Maps `len` bytes. The caller gives the length, because the `st_size` of a dma-buf is not reliable.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize, writable: bool) -> std::io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len);
        super::syscall_count::tick();
        let raw =
            if writable { options.map_raw(fd.as_raw_fd())? } else { options.map_raw_read_only(fd.as_raw_fd())? };
        Ok(Self { raw, writable })
    }

    /// Maps a buffer of a device for reading. The mapping keeps the memory, whatever becomes of the device.
    pub(crate) fn of_device(fd: BorrowedFd<'_>, offset: u64, len: usize) -> std::io::Result<Self> {
        super::syscall_count::tick();
        let raw = MmapOptions::new().offset(offset).len(len).map_raw_read_only(fd.as_raw_fd())?;
        Ok(Self { raw, writable: false })
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Lends bytes of a buffer that cannot be written. Returns `None` if the range exceeds the mapping or the mapping
    /// is writable.
    ///
    /// Only for the bitstreams of [`Packet`](crate::frame::Packet), which fulfill the contract below.
    pub(crate) fn quiet(&self, range: std::ops::Range<usize>) -> Option<&[u8]> {
        if self.writable || range.start > range.end || range.end > self.len() {
            return None;
        }
        // SAFETY: memory: the range was just checked against the mapping, which lives as long as the borrow of `self`
        // and whose file cannot shrink. Contract: a V4L2 capture buffer belongs to user space from VIDIOC_DQBUF to
        // VIDIOC_QBUF (`buffer.rst`), and the caller holds the lease whose end makes that QBUF. The buffer was
        // exported read-only, its descriptor never leaves this crate, and this mapping is not writable. So no process
        // and no import of this crate can write it.
        Some(unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(range.start), range.end - range.start) })
    }

    /// Lends bytes for reading in place. Returns `None` if the range exceeds the mapping. Other threads of
    /// this process do not write: the caller holds a guard, or the mapping is read-only.
    pub(crate) fn bytes(&self, range: std::ops::Range<usize>) -> Option<SharedBytes<'_>> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        // SAFETY: memory: the range was just checked against the mapping, which lives as long as the borrow of `self`
        // and whose file cannot shrink. (Dma-bufs have a fixed size. Memfds have F_SEAL_SHRINK, unless the user
        // accepted the SIGBUS that then ends the process, which is not an access to other memory.) Contract:
        // `dmabuf::users::Users` excludes writes of other threads of this process through this mapping.
        Some(unsafe { SharedBytes::new(self.raw.as_ptr().add(range.start), range.end - range.start) })
    }

    /// Copies bytes out of the mapping. Returns `false` and copies nothing if the range exceeds the mapping.
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) -> bool {
        let end = offset.checked_add(to.len());
        end.and_then(|end| self.bytes(offset..end)).map(|bytes| bytes.copy_to(to)).is_some()
    }

    /// Copies bytes into the mapping. Returns `false` and copies nothing if the range exceeds the mapping or it is
    /// read-only.
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) -> bool {
        if !self.writable || offset.checked_add(from.len()).map_or(true, |end| end > self.len()) {
            return false;
        }
        // SAFETY: as in `bytes`; the mapping was made PROT_WRITE. Concurrent writers are other holders of the
        // shared file, and no Rust reference to its bytes exists.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.raw.as_mut_ptr().add(offset), from.len()) };
        true
    }

    /// Copies `len` bytes from another mapping in one pass. Returns `false` and copies nothing if a range exceeds its
    /// mapping, this one is read-only, or both are the same mapping.
    pub(crate) fn copy_across(&self, offset: usize, from: &Self, from_offset: usize, len: usize) -> bool {
        let inside = |m: &Self, at: usize| at.checked_add(len).is_some_and(|end| end <= m.len());
        if !self.writable || !inside(self, offset) || !inside(from, from_offset) || std::ptr::eq(self, from) {
            return false;
        }
        // SAFETY: memory: both ranges were just checked against mappings that live as long as the borrows. They are
        // different mappings, so the addresses do not overlap, even if both show the same file. Contract: as in
        // `bytes` and `copy_in`.
        unsafe {
            let source = from.raw.as_ptr().add(from_offset);
            std::ptr::copy_nonoverlapping(source, self.raw.as_mut_ptr().add(offset), len);
        }
        true
    }
}
