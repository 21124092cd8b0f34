//! Imports buffers into libg2d. The first way that works is found once per buffer:
//!
//! 1. `g2d_blit_dmabuf`, if it is exported and a trial with the buffer succeeds (`engine.rs`);
//! 2. the address from `DMA_BUF_IOCTL_PHYS`, on NXP's kernels;
//! 3. the address from `g2d_buf_from_fd`.
//!
//! 2 and 3 give the address of the first segment, so they work for contiguous memory only.

use std::os::fd::{AsFd, OwnedFd};

use crate::dmabuf::{BufferId, DmaBuf, MemoryKind, WeakDmaBuf};
use crate::error::{Error, ErrorKind, Result};
use crate::sys;
use crate::sys::g2d::{Abi, Buffer, Handle};

use super::Contiguity;

/// Drivers whose buffers are scattered over single pages unless an IOMMU gathers them.
const SCATTERED: [&str; 5] = ["system", "system-uncached", "udmabuf", "videobuf2_vmalloc", "videobuf2_dma_sg"];

const FOUR_GIB: u64 = 1 << 32;
/// The 2D core of an 8MM or 8MP may not reach addresses above this.
const THREE_GIB: u64 = 3 << 30;
/// From header 2.3 on, physical addresses have 48 bits.
const TOP: u64 = 1 << 48;

/// Whether `g2d_blit_dmabuf` takes a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ByFile {
    #[default]
    Untried,
    Yes,
    No,
}

struct Entry {
    id: BufferId,
    alive: WeakDmaBuf,
    by_file: ByFile,
    address: Option<Result<u64>>,
    /// The result of `g2d_buf_from_fd`, with the descriptor, which the library does not duplicate.
    held: Option<(Buffer, OwnedFd)>,
}

/// The imports of one handle, by the identity of buffers.
#[derive(Default)]
pub(super) struct Imports {
    entries: Vec<Entry>,
    contiguity: Contiguity,
}

impl Imports {
    pub(super) fn new(contiguity: Contiguity) -> Self {
        Self { entries: Vec::new(), contiguity }
    }

    fn entry(&mut self, buffer: &DmaBuf, handle: &Handle) -> &mut Entry {
        // There are few buffers, in an order that repeats, so a scan is faster than hashing.
        if let Some(i) = self.entries.iter().position(|e| e.id == buffer.id() && e.alive.is_alive()) {
            return &mut self.entries[i];
        }
        self.sweep(handle);
        let alive = buffer.downgrade();
        self.entries.push(Entry { id: buffer.id(), alive, by_file: ByFile::Untried, address: None, held: None });
        let last = self.entries.len() - 1;
        &mut self.entries[last]
    }

    /// Removes buffers that no longer exist: the kernel may give their identities to others.
    pub(super) fn sweep(&mut self, handle: &Handle) {
        let mut i = 0;
        while i < self.entries.len() {
            if self.entries[i].alive.is_alive() {
                i += 1;
                continue;
            }
            release(self.entries.swap_remove(i), handle);
        }
    }

    pub(super) fn clear(&mut self, handle: &Handle) {
        self.entries.drain(..).for_each(|e| release(e, handle));
    }

    pub(super) fn by_file(&mut self, buffer: &DmaBuf, handle: &Handle) -> ByFile {
        self.entry(buffer, handle).by_file
    }

    pub(super) fn set_by_file(&mut self, buffer: &DmaBuf, handle: &Handle, is: ByFile) {
        self.entry(buffer, handle).by_file = is;
    }

    /// Returns the buffer's address, 64-byte aligned and in the library's reach.
    pub(super) fn address(&mut self, buffer: &DmaBuf, handle: &Handle, abi: Abi) -> Result<u64> {
        let contiguity = self.contiguity;
        let entry = self.entry(buffer, handle);
        if let Some(known) = &entry.address {
            return known.clone();
        }
        let found = resolve(buffer, handle, abi, contiguity, &mut entry.held);
        entry.address = Some(found.clone());
        found
    }
}

impl Imports {
    /// Makes a `g2d_buf` for the buffer, if it does not have one.
    pub(super) fn hold(&mut self, buffer: &DmaBuf, handle: &Handle, abi: Abi) -> Result<()> {
        self.address(buffer, handle, abi)?;
        let entry = self.entry(buffer, handle);
        if entry.held.is_none() {
            let descriptor = buffer.as_fd().try_clone_to_owned().map_err(|e| Error::io("dup", &e))?;
            let Some(imported) = handle.buf_from_fd(descriptor.as_fd()) else {
                return Err(Error::new(ErrorKind::Unsupported, "g2d_buf_from_fd", format!("{buffer:?}: NULL")));
            };
            entry.held = Some((imported, descriptor));
        }
        Ok(())
    }

    /// Returns the `g2d_buf` of [`Imports::hold`].
    pub(super) fn held(&self, buffer: &DmaBuf) -> Option<&Buffer> {
        self.entries.iter().find(|e| e.id == buffer.id()).and_then(|e| e.held.as_ref()).map(|(buffer, _)| buffer)
    }
}

fn release(entry: Entry, handle: &Handle) {
    if let Some((buffer, descriptor)) = entry.held {
        handle.free(buffer);
        drop(descriptor);
    }
}

fn resolve(
    buffer: &DmaBuf,
    handle: &Handle,
    abi: Abi,
    contiguity: Contiguity,
    held: &mut Option<(Buffer, OwnedFd)>,
) -> Result<u64> {
    if contiguity == Contiguity::ByExporter && buffer.kind() == MemoryKind::DmaBuf {
        if let Some(exporter) = buffer.exporter().filter(|name| SCATTERED.contains(&name.as_str())) {
            let text = format!(
                "{buffer:?} of {exporter} is scattered: without g2d_blit_dmabuf libg2d takes contiguous memory only \
                 (a CMA heap, videobuf2_dma_contig)"
            );
            return Err(Error::new(ErrorKind::Unsupported, "import", text));
        }
    }
    let (op, given) = match sys::dma_buf::phys(buffer.as_fd()) {
        Ok(address) => ("DMA_BUF_IOCTL_PHYS", address),
        Err(errno) => {
            let failed = |what: &str| {
                let text = format!("{buffer:?}: DMA_BUF_IOCTL_PHYS: {errno:?}; g2d_buf_from_fd: {what}");
                Err(Error::new(ErrorKind::Unsupported, "import", text))
            };
            if !handle.has_buf_from_fd() {
                return failed("the symbol is missing");
            }
            // The library identifies the buffer by this number, so it needs a descriptor that stays open.
            let descriptor = match buffer.as_fd().try_clone_to_owned() {
                Ok(descriptor) => descriptor,
                Err(e) => return Err(Error::io("dup", &e)),
            };
            let Some(imported) = handle.buf_from_fd(descriptor.as_fd()) else { return failed("NULL") };
            let address = imported.address(abi);
            *held = Some((imported, descriptor));
            ("g2d_buf_from_fd", address)
        }
    };
    match usable(given, buffer.size_bytes() as u64, abi) {
        Ok(address) => {
            if address + buffer.size_bytes() as u64 > THREE_GIB && abi == Abi::Legacy {
                crate::log::event!("{op}: {buffer:?} at {address:#x} is above 3 GiB, which not every 2D core reaches");
            }
            Ok(address)
        }
        Err(why) => {
            if let Some((buffer, descriptor)) = held.take() {
                handle.free(buffer);
                drop(descriptor);
            }
            Err(Error::new(ErrorKind::Unsupported, op, format!("{buffer:?} at {given:#x}: {why}")))
        }
    }
}

/// Returns the address that a library or kernel meant, if libg2d can use it.
fn usable(given: u64, bytes: u64, abi: Abi) -> std::result::Result<u64, &'static str> {
    // The address went through an `int`, which is negative from 2 GiB on.
    let address = if given >> 32 == u64::from(u32::MAX) { given & u64::from(u32::MAX) } else { given };
    match address.checked_add(bytes) {
        _ if address == 0 => Err("the address is 0"),
        _ if address % 64 != 0 => Err("the address is not a multiple of 64 bytes"),
        Some(end) if abi == Abi::Legacy && end > FOUR_GIB => Err("the legacy ABI's addresses end at 4 GiB"),
        Some(end) if end <= TOP => Ok(address),
        _ => Err("the address has more than 48 bits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_repaired_or_refused() {
        for (given, abi, expected) in [
            (0x4000_0000, Abi::Legacy, Some(0x4000_0000)),
            (0xffff_ffff_c000_0000, Abi::Modern, Some(0xc000_0000)),
            (0xffff_ffff_c000_0000, Abi::Legacy, Some(0xc000_0000)),
            (0xffff_f000, Abi::Legacy, Some(0xffff_f000)),
            (0xffff_ffc0, Abi::Legacy, None),
            (0x1_0000_0000, Abi::Legacy, None),
            (0x1_0000_0000, Abi::Modern, Some(0x1_0000_0000)),
            (1 << 48, Abi::Modern, None),
            (u64::MAX - 63, Abi::Legacy, None),
            (0x4000_0010, Abi::Modern, None),
            (0, Abi::Modern, None),
        ] {
            assert_eq!(usable(given, 4096, abi).ok(), expected, "{given:#x} {abi:?}");
        }
    }
}
