//! Buffers: imports of dma-bufs, and memory of the device that the CPU fills once.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use ash::{khr, vk};

use super::instance::Instance;
use super::Failure;

const DMA_BUF: vk::ExternalMemoryHandleTypeFlags = vk::ExternalMemoryHandleTypeFlags::DMA_BUF_EXT;

/// A device. The last of its users destroys it.
pub(super) struct Handles {
    pub(super) device: ash::Device,
    pub(super) files: khr::external_memory_fd::Device,
    pub(super) memory: vk::PhysicalDeviceMemoryProperties,
    pub(super) is_dedicated: bool,
    pub(super) _instance: Arc<Instance>,
}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: contract: all objects of the device hold these handles, so none of them exists, and no call is
        // running.
        unsafe { self.device.destroy_device(None) };
    }
}

/// A storage buffer with its memory.
pub(crate) struct Buffer {
    pub(super) raw: vk::Buffer,
    memory: vk::DeviceMemory,
    /// Others use its memory too.
    pub(super) is_import: bool,
    handles: Arc<Handles>,
}

impl Buffer {
    /// Imports a dma-buf. The buffer keeps the memory, and does not need the descriptor any more.
    pub(super) fn import(handles: &Arc<Handles>, fd: BorrowedFd<'_>, bytes: u64) -> Result<Self, Failure> {
        let mut outside = vk::ExternalMemoryBufferCreateInfo::default().handle_types(DMA_BUF);
        let mut buffer = Self::new(handles, bytes, Some(&mut outside))?;
        let mut allowed = vk::MemoryFdPropertiesKHR::default();
        // SAFETY: memory: `allowed` lives during the call. Contract: the extension is enabled, the descriptor is open
        // and stays the caller's. A driver answers one that it cannot import with an error.
        unsafe { handles.files.get_memory_fd_properties(DMA_BUF, fd.as_raw_fd(), &mut allowed) }
            .map_err(Failure::of("vkGetMemoryFdPropertiesKHR"))?;
        let own = fd.try_clone_to_owned().map_err(|_| Failure::of("dup")(vk::Result::ERROR_TOO_MANY_OBJECTS))?;
        buffer.allocate(allowed.memory_type_bits, vk::MemoryPropertyFlags::empty(), Some(own))?;
        Ok(buffer)
    }

    /// Makes a buffer with these bytes.
    pub(super) fn with(handles: &Arc<Handles>, bytes: &[u8]) -> Result<Self, Failure> {
        let mut buffer = Self::new(handles, bytes.len() as u64, None)?;
        let visible = vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT;
        buffer.allocate(u32::MAX, visible, None)?;
        let (device, all) = (&handles.device, vk::WHOLE_SIZE);
        // SAFETY: contract: the memory is visible, is not mapped, and the GPU does not use it yet.
        let at = unsafe { device.map_memory(buffer.memory, 0, all, vk::MemoryMapFlags::empty()) };
        let at = at.map_err(Failure::of("vkMapMemory"))?;
        // SAFETY: memory: the mapping has at least the buffer's size, which is that of `bytes`, and is the buffer's
        // alone. Lifetime: it ends with the unmapping.
        unsafe {
            at.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            device.unmap_memory(buffer.memory);
        }
        Ok(buffer)
    }

    /// Returns whether it is of this device.
    pub(super) fn is_of(&self, handles: &Arc<Handles>) -> bool {
        Arc::ptr_eq(&self.handles, handles)
    }

    fn new(
        handles: &Arc<Handles>,
        bytes: u64,
        outside: Option<&mut vk::ExternalMemoryBufferCreateInfo<'_>>,
    ) -> Result<Self, Failure> {
        let is_import = outside.is_some();
        let mut info = vk::BufferCreateInfo::default().size(bytes).usage(vk::BufferUsageFlags::STORAGE_BUFFER);
        if let Some(outside) = outside {
            info = info.push_next(outside);
        }
        // SAFETY: memory: the chain lives during the call. Contract: callers never ask for 0 bytes; the device was
        // asked whether it imports such buffers.
        let raw = unsafe { handles.device.create_buffer(&info, None) }.map_err(Failure::of("vkCreateBuffer"))?;
        Ok(Self { raw, memory: vk::DeviceMemory::null(), is_import, handles: Arc::clone(handles) })
    }

    fn allocate(
        &mut self,
        allowed: u32,
        wanted: vk::MemoryPropertyFlags,
        import: Option<OwnedFd>,
    ) -> Result<(), Failure> {
        let device = &self.handles.device;
        // SAFETY: contract: the buffer is this device's.
        let needs = unsafe { device.get_buffer_memory_requirements(self.raw) };
        let types = self.handles.memory.memory_types_as_slice();
        let fits = |(i, kind): (usize, &vk::MemoryType)| {
            let is_allowed = (needs.memory_type_bits & allowed) >> i & 1 == 1;
            (is_allowed && kind.property_flags.contains(wanted)).then_some(i as u32)
        };
        let found = types.iter().enumerate().find_map(fits);
        let kind = found.ok_or_else(|| Failure::of("vkAllocateMemory")(vk::Result::ERROR_FEATURE_NOT_PRESENT))?;
        let mut dedicated = vk::MemoryDedicatedAllocateInfo::default().buffer(self.raw);
        let mut info = vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(kind);
        let mut file = vk::ImportMemoryFdInfoKHR::default().handle_type(DMA_BUF);
        if let Some(import) = &import {
            file = file.fd(import.as_raw_fd());
            info = info.push_next(&mut file);
            if self.handles.is_dedicated {
                info = info.push_next(&mut dedicated);
            }
        }
        // SAFETY: memory: the chain lives during the call. Contract: the type is one that the buffer and the dma-buf
        // allow.
        self.memory = unsafe { device.allocate_memory(&info, None) }.map_err(Failure::of("vkAllocateMemory"))?;
        // The driver has taken the descriptor over.
        let _ = import.map(IntoRawFd::into_raw_fd);
        // SAFETY: contract: neither is bound, and the memory has the size and a type that the buffer needs.
        unsafe { device.bind_buffer_memory(self.raw, self.memory, 0) }.map_err(Failure::of("vkBindBufferMemory"))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: contract: the GPU does not use it, because `Device::run` borrows buffers until it has finished.
        // Either handle may be null.
        unsafe {
            self.handles.device.destroy_buffer(self.raw, None);
            self.handles.device.free_memory(self.memory, None);
        }
    }
}
