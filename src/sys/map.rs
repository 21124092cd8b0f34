//! Mappings of shared buffers. Their bytes may change at any time, so they are never lent as slices: bytes are copied
//! in and out through raw pointers.

use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{MmapOptions, MmapRaw};

/// A shared mapping of a whole buffer, for the life of the buffer's handle.
#[derive(Debug)]
pub(crate) struct Mapping {
    raw: MmapRaw,
    writable: bool,
}

impl Mapping {
    /// Maps `len` bytes. The length is given because a dma-buf's `st_size` is not to be relied on.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize, writable: bool) -> std::io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len);
        super::syscall_count::tick();
        let raw =
            if writable { options.map_raw(fd.as_raw_fd())? } else { options.map_raw_read_only(fd.as_raw_fd())? };
        Ok(Self { raw, writable })
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Lends bytes of a buffer that nobody writes. `None` if the range leaves the mapping or it is writable.
    ///
    /// For the bitstreams of [`Packet`](crate::frame::Packet) alone, which keeps the promise below.
    pub(crate) fn quiet(&self, range: std::ops::Range<usize>) -> Option<&[u8]> {
        if self.writable || range.start > range.end || range.end > self.len() {
            return None;
        }
        // SAFETY: memory: the range was just checked against the mapping, which lives as long as the borrow of `self`
        // and whose file cannot shrink. Contract: a V4L2 capture buffer belongs to its user from VIDIOC_DQBUF to
        // VIDIOC_QBUF (`buffer.rst`), and the caller holds the lease whose end makes that QBUF. It was exported
        // read-only, its descriptor never leaves this crate, and this mapping is not writable, so no process or import
        // of ours can write it either.
        Some(unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(range.start), range.end - range.start) })
    }

    /// Copies bytes out. `false`, and nothing is copied, if the range leaves the mapping.
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) -> bool {
        if offset.checked_add(to.len()).map_or(true, |end| end > self.len()) {
            return false;
        }
        // SAFETY: memory: the range was just checked against the mapping, which lives as long as `self` and whose
        // file cannot shrink (dma-bufs have a fixed size, memfds are taken with F_SEAL_SHRINK; without it only where
        // the user chose the SIGBUS that ends the process then, which is no access to other memory). `to` is private
        // memory, so the ranges do not overlap. Contract: a device or another process may write meanwhile; no reference
        // to the mapped bytes exists, and any bit pattern is a valid `u8`, so a torn copy is all that follows. Other
        // threads of this process that write through this mapping are kept out by `dmabuf::access::Users`.
        unsafe { std::ptr::copy_nonoverlapping(self.raw.as_ptr().add(offset), to.as_mut_ptr(), to.len()) };
        true
    }

    /// Copies bytes in. `false`, and nothing is copied, if the range leaves the mapping or it is read-only.
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) -> bool {
        if !self.writable || offset.checked_add(from.len()).map_or(true, |end| end > self.len()) {
            return false;
        }
        // SAFETY: as in `copy_out`; the mapping was made PROT_WRITE, and concurrent writers are other holders of the
        // shared file, to whom no Rust reference exists.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.raw.as_mut_ptr().add(offset), from.len()) };
        true
    }

    /// Copies `len` bytes from another mapping in one pass. `false`, and nothing is copied, if a range leaves its
    /// mapping, this one is read-only, or both are the same memory.
    pub(crate) fn copy_across(&self, offset: usize, from: &Self, from_offset: usize, len: usize) -> bool {
        let inside = |m: &Self, at: usize| at.checked_add(len).is_some_and(|end| end <= m.len());
        if !self.writable || !inside(self, offset) || !inside(from, from_offset) || std::ptr::eq(self, from) {
            return false;
        }
        // SAFETY: memory: both ranges were just checked against mappings that live as long as the borrows. They are
        // different mappings, so the addresses do not overlap, even if both show the same file. Contract: as in
        // `copy_out` and `copy_in`.
        unsafe {
            let source = from.raw.as_ptr().add(from_offset);
            std::ptr::copy_nonoverlapping(source, self.raw.as_mut_ptr().add(offset), len);
        }
        true
    }
}
