//! CPU access to buffers. It begins and ends in agreement with caches and devices, waits with a deadline, and counts
//! bytes.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::poll::PollFlags;

use super::buffer::{DmaBuf, MemoryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::stats::{READ, SOURCE, WRITTEN};
use crate::sys;
use crate::sys::dma_buf::{SYNC_END, SYNC_READ, SYNC_WRITE};
use crate::sys::map::Mapping;
use crate::sys::shared_bytes::SharedBytes;

/// A usual timeout for CPU access: one second. CPU access waits for the fences of devices.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// The brackets around an access: `DMA_BUF_IOCTL_SYNC` START at creation, END on drop.
#[derive(Debug)]
struct Bracket<'a> {
    buffer: &'a DmaBuf,
    mapping: &'a Mapping,
    flags: u64,
}

impl<'a> Bracket<'a> {
    fn begin(buffer: &'a DmaBuf, flags: u64, timeout: Duration) -> Result<Self> {
        let mapping = buffer.mapping()?;
        if flags & SYNC_WRITE != 0 && !mapping.is_writable() {
            return Err(Error::new(ErrorKind::PermissionDenied, "mmap", "the buffer is shared read-only"));
        }
        buffer.0.users.enter(flags)?;
        let begun = match buffer.kind() {
            MemoryKind::DmaBuf => wait_for_fences(buffer, flags, timeout).and_then(|()| {
                sys::dma_buf::sync(buffer.as_fd(), flags).map_err(|e| Error::os("DMA_BUF_IOCTL_SYNC", e))
            }),
            MemoryKind::Memfd => Ok(()),
        };
        match begun {
            Ok(()) => Ok(Self { buffer, mapping, flags }),
            Err(e) => {
                buffer.0.users.leave(flags);
                Err(e)
            }
        }
    }
}

/// SYNC waits for fences without a limit, and any holder of a descriptor can attach a fence. Polls first.
fn wait_for_fences(buffer: &DmaBuf, flags: u64, timeout: Duration) -> Result<()> {
    let events = if flags & SYNC_WRITE != 0 { PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let ready =
        sys::wait::until(buffer.as_fd(), events, sys::wait::deadline(timeout)).map_err(|e| Error::os("poll", e))?;
    if ready.is_empty() {
        return Err(Error::new(
            ErrorKind::Timeout,
            "poll",
            format!("a device still works on the buffer after {timeout:?}"),
        ));
    }
    Ok(())
}

impl Drop for Bracket<'_> {
    fn drop(&mut self) {
        if self.buffer.kind() == MemoryKind::DmaBuf {
            // A failure cannot be handled here. The next START reports the same cause.
            let _ = sys::dma_buf::sync(self.buffer.as_fd(), self.flags | SYNC_END);
        }
        self.buffer.0.users.leave(self.flags);
    }
}

/// Read access of the CPU to a buffer. The access ends when the value is dropped. A device or another process may write
/// at any time, so the bytes are lent as [`SharedBytes`] and not as a slice.
#[derive(Debug)]
pub struct CpuRead<'a>(Bracket<'a>);

/// Write access of the CPU to a buffer. The access ends when the value is dropped.
#[derive(Debug)]
pub struct CpuWrite<'a>(Bracket<'a>);

#[cfg(feature = "vulkan")]
impl DmaBuf {
    /// Waits at most `timeout` for devices that still write the buffer. One system call. A memfd has no fences.
    pub(crate) fn wait_readable(&self, timeout: Duration) -> Result<()> {
        self.wait_for_devices(SYNC_READ, timeout)
    }

    /// Waits at most `timeout` for devices that still read or write the buffer. As [`DmaBuf::wait_readable`].
    pub(crate) fn wait_writable(&self, timeout: Duration) -> Result<()> {
        self.wait_for_devices(SYNC_WRITE, timeout)
    }

    fn wait_for_devices(&self, flags: u64, timeout: Duration) -> Result<()> {
        match self.kind() {
            MemoryKind::DmaBuf => wait_for_fences(self, flags, timeout),
            MemoryKind::Memfd => Ok(()),
        }
    }
}

impl DmaBuf {
    /// Begins reading the buffer with the CPU. Waits at most `timeout` for devices that still write. For a fence that
    /// is attached after this wait, the ioctl waits until its driver signals it.
    ///
    /// The first call maps the buffer. The mapping lasts until the last clone of the handle is dropped. Each access to
    /// a dma-buf costs two system calls to begin and one to end. Ioctl: `DMA_BUF_IOCTL_SYNC`, restarted on EINTR and
    /// EAGAIN. Access to a memfd needs no system calls.
    ///
    /// # Errors
    /// `Timeout` if a fence is not signaled in time. `Busy` while this process writes the buffer through another
    /// handle. Other errors are those of `mmap` and the ioctl. A fence that ended with an error counts as signaled.
    #[doc(alias = "DMA_BUF_IOCTL_SYNC")]
    pub fn read(&self, timeout: Duration) -> Result<CpuRead<'_>> {
        Bracket::begin(self, SYNC_READ, timeout).map(CpuRead)
    }

    /// Begins writing the buffer with the CPU. Waits at most `timeout` for devices that still use the buffer. Use this
    /// call for a buffer that is not part of a pool. For a frame of a pool, use
    /// [`FrameMut::write`](crate::frame::FrameMut::write).
    ///
    /// # Errors
    /// `Timeout` if a fence is not signaled in time. `Busy` while this process reads or writes the buffer through
    /// another handle. `PermissionDenied` if the descriptor is read-only, or if the buffer is a sealed memfd of another
    /// process. Other errors are those of `mmap` and the ioctl.
    #[doc(alias = "DMA_BUF_IOCTL_SYNC")]
    pub fn write(&mut self, timeout: Duration) -> Result<CpuWrite<'_>> {
        self.begin_write(timeout)
    }

    /// Copies the first and the last bytes of data in a buffer that its driver has just given back. The driver's own
    /// buffers need no system call: VIDIOC_DQBUF makes the data visible to the CPU. Others cost three, as
    /// [`DmaBuf::read`].
    ///
    /// # Errors
    /// Those of [`DmaBuf::read`], which does not wait. `InvalidArgument` if the range exceeds the buffer.
    pub(crate) fn copy_ends(&self, data: Range<usize>, head: &mut [u8], tail: &mut [u8]) -> Result<()> {
        let last = data.end.saturating_sub(tail.len());
        if !self.0.read_only {
            let read = self.read(Duration::ZERO)?;
            return read.copy_to(data.start, head).and_then(|()| read.copy_to(last, tail));
        }
        let mapping = self.mapping()?;
        if !(mapping.copy_out(data.start, head) && mapping.copy_out(last, tail)) {
            return Err(outside(data.start, data.len(), mapping));
        }
        READ.fetch_add((head.len() + tail.len()) as u64, Ordering::Relaxed);
        Ok(())
    }

    /// [`DmaBuf::write`] for the holder of the only lease.
    pub(crate) fn begin_write(&self, timeout: Duration) -> Result<CpuWrite<'_>> {
        Bracket::begin(self, SYNC_WRITE, timeout).map(CpuWrite)
    }

    /// [`DmaBuf::begin_write`] for a caller that also reads the present content.
    pub(crate) fn begin_update(&self, timeout: Duration) -> Result<CpuWrite<'_>> {
        Bracket::begin(self, SYNC_READ | SYNC_WRITE, timeout).map(CpuWrite)
    }
}

impl CpuRead<'_> {
    /// Returns bytes of the buffer, for reading in place.
    ///
    /// # Errors
    /// `InvalidArgument` if the range exceeds the buffer.
    pub fn bytes(&self, range: Range<usize>) -> Result<SharedBytes<'_>> {
        let (first, len) = (range.start, range.len());
        let bytes = self.0.mapping.bytes(range).ok_or_else(|| outside(first, len, self.0.mapping))?;
        READ.fetch_add(len as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Fills the slice `to` with the bytes of the buffer from `offset_bytes` on.
    ///
    /// # Errors
    /// `InvalidArgument` if the range exceeds the buffer. Nothing is copied then.
    pub fn copy_to(&self, offset_bytes: usize, to: &mut [u8]) -> Result<()> {
        self.bytes(offset_bytes..offset_bytes.saturating_add(to.len()))?.copy_to(to);
        Ok(())
    }
}

impl CpuWrite<'_> {
    /// Copies the bytes of the slice `from` into the buffer, from `offset_bytes` on.
    ///
    /// # Errors
    /// `InvalidArgument` if the range exceeds the buffer. Nothing is copied then.
    pub fn copy_from(&mut self, offset_bytes: usize, from: &[u8]) -> Result<()> {
        if !self.0.mapping.copy_in(offset_bytes, from) {
            return Err(outside(offset_bytes, from.len(), self.0.mapping));
        }
        WRITTEN.fetch_add(from.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Copies `len` bytes from another buffer, in one pass.
    ///
    /// # Errors
    /// `InvalidArgument` if a range exceeds its buffer or both handles share a mapping. Nothing is copied then.
    pub(crate) fn copy_from_buffer(
        &mut self,
        offset_bytes: usize,
        from: &CpuRead<'_>,
        from_bytes: usize,
        len: usize,
    ) -> Result<()> {
        self.copy_from_mapping(offset_bytes, from.0.mapping, from_bytes, len)
    }

    /// [`CpuWrite::copy_from_buffer`] from a mapping whose bytes the CPU sees.
    pub(crate) fn copy_from_mapping(
        &mut self,
        offset_bytes: usize,
        from: &Mapping,
        from_bytes: usize,
        len: usize,
    ) -> Result<()> {
        if !self.0.mapping.copy_across(offset_bytes, from, from_bytes, len) {
            return Err(outside(offset_bytes.max(from_bytes), len, self.0.mapping));
        }
        READ.fetch_add(len as u64, Ordering::Relaxed);
        WRITTEN.fetch_add(len as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Copies bytes to `to`, starting at `offset_bytes`. For [`DmaBuf::begin_update`].
    pub(crate) fn copy_to(&self, offset_bytes: usize, to: &mut [u8]) -> Result<()> {
        if !self.0.mapping.copy_out(offset_bytes, to) {
            return Err(outside(offset_bytes, to.len(), self.0.mapping));
        }
        READ.fetch_add(to.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// [`CpuWrite::copy_from`] for a software source. The bytes are counted separately.
    pub(crate) fn copy_from_source(&mut self, offset_bytes: usize, from: &[u8]) -> Result<()> {
        if !self.0.mapping.copy_in(offset_bytes, from) {
            return Err(outside(offset_bytes, from.len(), self.0.mapping));
        }
        SOURCE.fetch_add(from.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn outside(offset: usize, len: usize, mapping: &Mapping) -> Error {
    let text = format!("{len} bytes at {offset} exceed the buffer of {} bytes", mapping.len());
    Error::new(ErrorKind::InvalidArgument, "copy", text)
}
