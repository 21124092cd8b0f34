//! GEM handles: PRIME import and export, dumb buffers, and the count of users of each handle.

use std::fmt;

use nix::errno::Errno;

use super::device::Device;
use crate::dmabuf::{DmaBuf, MemoryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FormatKind, FourCc, Layout, Size};
use crate::frame::Pool;
use crate::sys;

/// A buffer that a device knows, as a counted GEM handle. Dropping the last `Gem` of a buffer closes the handle.
///
/// A `Gem` keeps the memory, even after the last descriptor of its dma-buf is closed.
pub struct Gem {
    device: Device,
    handle: u32,
}

impl Gem {
    /// Counts a handle that the kernel has just given, under the lock that orders it with the last close.
    fn counted(device: &Device, give: impl FnOnce() -> Result<u32>) -> Result<Self> {
        let mut handles = device.handles();
        let handle = give()?;
        *handles.entry(handle).or_insert(0) += 1;
        Ok(Self { device: device.clone(), handle })
    }

    /// Returns the number of the handle. It is valid only in this open file.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Exports the buffer as a dma-buf. The export of an imported buffer is the dma-buf that was imported. Ioctl:
    /// `DRM_IOCTL_PRIME_HANDLE_TO_FD`, with `DRM_RDWR`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not support export.
    #[doc(alias = "DRM_IOCTL_PRIME_HANDLE_TO_FD")]
    pub fn export(&self) -> Result<DmaBuf> {
        const OP: &str = "DRM_IOCTL_PRIME_HANDLE_TO_FD";
        let fd = sys::drm::prime_handle_to_fd(self.device.fd(), self.handle).map_err(|e| self.device.failed(OP, e))?;
        DmaBuf::from_fd(fd)
    }
}

impl Drop for Gem {
    fn drop(&mut self) {
        let mut handles = self.device.handles();
        let left = handles.get_mut(&self.handle).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            handles.remove(&self.handle);
            // Under the lock, because an import in between would get the handle that is about to close. The kernel
            // has closed the handles of an unplugged device already.
            let _ = sys::drm::gem_close(self.device.fd(), self.handle);
        }
    }
}

impl fmt::Debug for Gem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gem({} of {})", self.handle, self.device)
    }
}

/// A dumb buffer with the pitch that the driver chose.
pub(super) struct Dumb {
    pub(super) gem: Gem,
    pub(super) layout: Layout,
}

impl Device {
    /// Imports a dma-buf. A second import of the same dma-buf shares the handle. The device may attach the buffer
    /// only at its first use. Ioctl: `DRM_IOCTL_PRIME_FD_TO_HANDLE`.
    ///
    /// # Errors
    /// `Unsupported` for a memfd, and if the device does not support import or does not accept the buffer. The
    /// driver's own error for memory that it cannot reach.
    #[doc(alias = "DRM_IOCTL_PRIME_FD_TO_HANDLE")]
    #[doc(hidden)]
    pub fn import(&self, buffer: &DmaBuf) -> Result<Gem> {
        use std::os::fd::AsFd;
        const OP: &str = "DRM_IOCTL_PRIME_FD_TO_HANDLE";
        if buffer.kind() != MemoryKind::DmaBuf {
            let text = format!("{buffer:?} is not a dma-buf: allocate from udmabuf, a dma-heap or the device");
            return Err(Error::new(ErrorKind::Unsupported, OP, text).on(self));
        }
        Gem::counted(self, || {
            sys::drm::prime_fd_to_handle(self.fd(), buffer.as_fd()).map_err(|e| {
                let error = self.failed(OP, e).detail(format!("{}; {buffer:?}", e.desc()));
                // virtio_gpu returns ENODEV for every buffer of another device, although it is present.
                match e == Errno::ENODEV && self.is_there() {
                    true => error.kind_is(ErrorKind::Unsupported),
                    false => error,
                }
            })
        })
    }

    /// Allocates a pool of the device's dumb buffers, exported as dma-bufs. Displays of the device can show this
    /// memory. CPU reads of it may be slow. The driver chooses the pitch. The color planes lie directly after each
    /// other. Needs a primary node. Ioctls: `DRM_IOCTL_MODE_CREATE_DUMB`, `DRM_IOCTL_PRIME_HANDLE_TO_FD`, `GEM_CLOSE`.
    ///
    /// # Errors
    /// `Unsupported` if the format is unknown, has several memory planes or does not have a DRM code. `Unsupported`
    /// also if the device does not have dumb buffers or cannot export them. `Exhausted` if memory is not available.
    /// `InvalidArgument` for a count of 0. `Mismatch` if the driver gives buffers of different pitches.
    #[doc(alias = "DRM_IOCTL_MODE_CREATE_DUMB")]
    pub fn dumb_pool(&self, fourcc: FourCc, size: Size, count: usize) -> Result<Pool> {
        let mut memory = Vec::new();
        let mut layout = None;
        for _ in 0..count.min(64) {
            let dumb = self.dumb(fourcc, size)?;
            if *layout.get_or_insert(dumb.layout) != dumb.layout {
                let text = format!("the driver gives {} and {}", layout.unwrap_or(dumb.layout), dumb.layout);
                return Err(Error::new(ErrorKind::Mismatch, "DRM_IOCTL_MODE_CREATE_DUMB", text).on(self));
            }
            memory.push(vec![dumb.gem.export()?]);
        }
        // The dma-buf keeps the memory and the device. The pool refuses a count of 0.
        let layout = layout.map_or_else(|| Layout::packed(fourcc, size), Ok)?;
        Pool::from_memory(layout, memory)
    }

    pub(super) fn dumb(&self, fourcc: FourCc, size: Size) -> Result<Dumb> {
        const OP: &str = "DRM_IOCTL_MODE_CREATE_DUMB";
        let packed = Layout::packed(fourcc, size)?;
        let info =
            fourcc.info().filter(|i| i.memory_planes == 1 && i.drm.is_some() && i.kind != FormatKind::Compressed);
        let Some(first) = info.and_then(|i| i.planes.first()) else {
            let text = format!("{fourcc} has several memory planes, or no DRM format has its bytes");
            return Err(Error::new(ErrorKind::Unsupported, OP, text).on(self));
        };
        // The unit of `bits` is a pixel of the first plane. The other planes are rows below it.
        let bits = first.bytes * 8 / first.horizontal;
        let stride = packed.planes().first().map_or(1, |p| p.stride_bytes.max(1));
        let rows = packed.memory_bytes().first().map_or(0, |bytes| bytes.div_ceil(stride));
        let mut made = None;
        let gem = Gem::counted(self, || {
            let dumb = sys::drm::create_dumb(self.fd(), size.width, rows, bits)
                .map_err(|e| self.failed(OP, e).detail(format!("{}; asked {fourcc} {size}", e.desc())))?;
            made = Some(dumb);
            Ok(dumb.handle)
        })?;
        let (pitch, bytes) = made.map_or((0, 0), |d| (d.pitch_bytes, d.size_bytes));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let layout = Layout::from_strides(fourcc, size, &[pitch], &[bytes]).map_err(|e| e.on(self))?;
        Ok(Dumb { gem, layout })
    }
}
