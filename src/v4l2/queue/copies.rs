//! Copies of the buffers of a driver that can neither export nor import them, such as v4l2loopback.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::dmabuf::{Allocator, DmaBuf};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::FrameMut;
use crate::sys::map::Mapping;
use crate::sys::v4l2::BufType;
use crate::sys::v4l2_calls::{querybuf, Buffer};
use crate::v4l2::device::Device;

/// The driver's buffers as this process maps them, by buffer and memory plane.
pub(super) struct Copies(Vec<Vec<Mapping>>);

impl Copies {
    /// Maps the first `count` buffers of a capture queue. Ioctl: `VIDIOC_QUERYBUF` for each.
    pub(super) fn map(device: &Device, kind: BufType, count: usize, layout: &Layout) -> Result<Self> {
        const OP: &str = "VIDIOC_QUERYBUF";
        let map = |index: usize| {
            let buffer = querybuf(device.as_fd(), kind, index as u32).map_err(|e| device.failed(OP, e))?;
            let plane = |(i, &needed): (usize, &u32)| {
                let length = buffer.plane(i).length;
                if length < needed {
                    let text = format!("plane {i} of buffer {index} has {length} bytes; the format needs {needed}");
                    return Err(Error::new(ErrorKind::Mismatch, OP, text).on(device));
                }
                let mapping = Mapping::of_device(device.as_fd(), buffer.map_offset(i), length as usize);
                mapping.map_err(|e| Error::io("mmap", &e).on(device))
            };
            layout.memory_bytes().iter().enumerate().map(plane).collect()
        };
        (0..count).map(map).collect::<Result<_>>().map(Self)
    }

    /// Allocates memory for `count` copies: as much as the driver's own, or `least_bytes` if that is more.
    pub(super) fn allocate(
        &self,
        allocator: &Allocator,
        layout: &Layout,
        count: usize,
        least_bytes: &[u32],
    ) -> Result<Vec<Vec<DmaBuf>>> {
        let name = format!("framelease {}", layout.fourcc());
        let one = |plane: usize| {
            let least = least_bytes.get(plane).map_or(0, |&bytes| bytes as usize);
            let own = self.0.iter().filter_map(|planes| planes.get(plane)).map(Mapping::len);
            allocator.allocate(own.fold(least, usize::max), &name)
        };
        (0..count).map(|_| (0..layout.memory_bytes().len()).map(one).collect()).collect()
    }

    /// Copies the data of a buffer that the driver has just given back, to the same offsets. DQBUF makes them visible
    /// to the CPU. Impossible numbers copy nothing. The frame is flagged elsewhere then.
    pub(super) fn copy(&self, buffer: &Buffer, frame: &mut FrameMut) -> Result<()> {
        let mut to = frame.write(Duration::ZERO)?;
        for (i, from) in self.0.get(buffer.index()).into_iter().flatten().enumerate() {
            let plane = buffer.plane(i);
            let (start, end) = (plane.data_offset as usize, plane.bytesused as usize);
            if start < end && end <= from.len() {
                to.copy_mapping(i, from, start..end)?;
            }
        }
        Ok(())
    }
}
