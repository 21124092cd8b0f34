//! The imports of a device, by the identity of buffers. Each buffer is imported once.

use std::os::fd::AsFd;

use crate::dmabuf::{BufferId, DmaBuf, WeakDmaBuf};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::vulkan::{Buffer, Device};

/// Why an import of a read-only buffer may fail, and the remedy.
const READ_ONLY: &str = "; it is read-only, and possibly the driver maps it for writing: \
                         CameraBuilder::writable_buffers exports a camera's buffers for writing too";

struct Entry {
    id: BufferId,
    alive: WeakDmaBuf,
    buffer: Buffer,
}

#[derive(Default)]
pub(super) struct Imports(Vec<Entry>);

impl Imports {
    /// Imports a buffer, unless it is imported already.
    pub(super) fn add(&mut self, buffer: &DmaBuf, device: &Device) -> Result<()> {
        if self.get(buffer).is_some() {
            return Ok(());
        }
        self.sweep();
        let imported = device.import(buffer.as_fd(), buffer.size_bytes() as u64).map_err(|failure| {
            let kind = if failure.is_lost() { ErrorKind::DeviceLost } else { ErrorKind::Unsupported };
            let hint = match buffer.is_read_only() {
                true => READ_ONLY,
                false => "",
            };
            Error::new(kind, failure.call, format!("{failure}: {buffer:?} cannot be imported{hint}"))
        })?;
        self.0.push(Entry { id: buffer.id(), alive: buffer.downgrade(), buffer: imported });
        Ok(())
    }

    /// There are few buffers, in an order that repeats, so a scan is faster than hashing.
    pub(super) fn get(&self, buffer: &DmaBuf) -> Option<&Buffer> {
        self.0.iter().find(|e| e.id == buffer.id() && e.alive.is_alive()).map(|e| &e.buffer)
    }

    /// Removes buffers that no longer exist: the kernel may give their identities to others.
    pub(super) fn sweep(&mut self) {
        self.0.retain(|e| e.alive.is_alive());
    }
}
