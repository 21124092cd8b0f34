//! Buffers and their memory.

use std::ffi::c_void;
use std::os::fd::{FromRawFd as _, OwnedFd};

use ash::vk;
use ash::vk::Handle as _;

use crate::instance::made;
use crate::object::{chain, code, number, Target, What};
use crate::sealed::{double, inode_of};

/// Memory of the device, mapped from its beginning to its end.
pub struct Memory {
    pub at: *mut c_void,
    pub bytes: usize,
    pub is_writable: bool,
    is_visible: bool,
    is_mapped: bool,
    /// The descriptor that the driver has taken over.
    _file: Option<OwnedFd>,
}

// SAFETY: memory: the mapping belongs to no thread.
unsafe impl Send for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `new` has made this mapping.
        unsafe { libc::munmap(self.at, self.bytes) };
    }
}

impl Memory {
    /// Maps a descriptor, or memory of the device's own if it is -1.
    fn new(fd: i32, bytes: usize, needs_writing: bool) -> Result<Self, vk::Result> {
        // SAFETY: the call looks at a number.
        let mode = unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_ACCMODE;
        let is_read_only = fd >= 0 && mode != libc::O_RDWR;
        if needs_writing && is_read_only {
            return Err(vk::Result::ERROR_INVALID_EXTERNAL_HANDLE);
        }
        let map = |protection| {
            let flags = libc::MAP_SHARED | if fd < 0 { libc::MAP_ANONYMOUS } else { 0 };
            // SAFETY: a new mapping at an address that the kernel chooses.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, fd, 0) };
            (at != libc::MAP_FAILED).then_some(at)
        };
        let sealed = || double(&inode_of(fd)?, bytes).map(|at| at as *mut c_void);
        let writable = (!is_read_only).then(|| map(libc::PROT_READ | libc::PROT_WRITE).or_else(sealed)).flatten();
        let at = writable.or_else(|| map(libc::PROT_READ)).ok_or(vk::Result::ERROR_OUT_OF_DEVICE_MEMORY)?;
        let is_writable = writable.is_some();
        // SAFETY: an import that succeeds takes the descriptor over, as the specification says.
        let file = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { at, bytes, is_writable, is_visible: fd < 0, is_mapped: false, _file: file })
    }
}

// SAFETY: of all functions: the caller passes handles of this library, and pointers to structures of the types that the
// headers name. They live during the call.

pub unsafe extern "system" fn create_buffer(
    device: vk::Device,
    info: *const vk::BufferCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    to: *mut vk::Buffer,
) -> vk::Result {
    // SAFETY: as above. A structure of the chain has the type that its first field names.
    unsafe {
        let (target, info) = (Target::of(device), &*info);
        let mut inner = target.state.lock();
        if info.size == 0 || !info.usage.contains(vk::BufferUsageFlags::STORAGE_BUFFER) {
            inner.violation("an empty buffer, or one that is not for storage");
        }
        let is_import =
            chain(info.p_next).any(|s| (*s).s_type == vk::StructureType::EXTERNAL_MEMORY_BUFFER_CREATE_INFO);
        let result = inner.call("vkCreateBuffer").map(|()| {
            let what = What::Buffer { bytes: info.size, memory: 0, is_import };
            vk::Buffer::from_raw(inner.add(target.number, what))
        });
        made(to, result)
    }
}

pub unsafe extern "system" fn destroy_buffer(
    device: vk::Device,
    buffer: vk::Buffer,
    _: *const vk::AllocationCallbacks<'_>,
) {
    // SAFETY: as above.
    let target = unsafe { Target::of(device) };
    target.state.lock().remove(target.number, number(buffer), |what| matches!(what, What::Buffer { .. }));
}

pub unsafe extern "system" fn requirements(device: vk::Device, buffer: vk::Buffer, to: *mut vk::MemoryRequirements) {
    // SAFETY: as above.
    unsafe {
        let mut inner = Target::of(device).state.lock();
        match inner.objects.get(&number(buffer)).map(|o| &o.what) {
            Some(What::Buffer { bytes, .. }) => {
                *to = vk::MemoryRequirements { size: *bytes, alignment: 4, memory_type_bits: 0b11 };
            }
            _ => inner.violation("the needs of a buffer that does not exist"),
        }
    }
}

pub unsafe extern "system" fn of_descriptor(
    device: vk::Device,
    kind: vk::ExternalMemoryHandleTypeFlags,
    fd: i32,
    to: *mut vk::MemoryFdPropertiesKHR<'_>,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let mut inner = Target::of(device).state.lock();
        if kind != vk::ExternalMemoryHandleTypeFlags::DMA_BUF_EXT || libc::fcntl(fd, libc::F_GETFD) < 0 {
            inner.violation("a descriptor that is not open, or not that of a dma-buf");
        }
        code(inner.call("vkGetMemoryFdPropertiesKHR").map(|()| (*to).memory_type_bits = 0b01))
    }
}

pub unsafe extern "system" fn allocate(
    device: vk::Device,
    info: *const vk::MemoryAllocateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    to: *mut vk::DeviceMemory,
) -> vk::Result {
    // SAFETY: as above. A structure of the chain has the type that its first field names.
    unsafe {
        let (target, info) = (Target::of(device), &*info);
        let mut inner = target.state.lock();
        if let Err(error) = inner.call("vkAllocateMemory") {
            return error;
        }
        let of = |kind| chain(info.p_next).find(|s| (**s).s_type == kind);
        let import =
            of(vk::StructureType::IMPORT_MEMORY_FD_INFO_KHR).map(|s| (*s.cast::<vk::ImportMemoryFdInfoKHR<'_>>()).fd);
        if import.is_some() != (info.memory_type_index == 0) {
            inner.violation("an import is of type 0, other memory of type 1");
        }
        let is_dedicated = of(vk::StructureType::MEMORY_DEDICATED_ALLOCATE_INFO).is_some();
        if import.is_some() && is_dedicated != (inner.setting("dedicated") != 0) {
            inner.violation("an import for one buffer, or for any, against what the device says");
        }
        if import.is_some() && inner.setting("refused_imports") != 0 {
            return vk::Result::ERROR_INVALID_EXTERNAL_HANDLE;
        }
        let needs_writing = import.is_some() && inner.setting("maps_for_writing") != 0;
        let memory = Memory::new(import.unwrap_or(-1), info.allocation_size as usize, needs_writing);
        made(to, memory.map(|memory| vk::DeviceMemory::from_raw(inner.add(target.number, What::Memory(memory)))))
    }
}

pub unsafe extern "system" fn free(
    device: vk::Device,
    memory: vk::DeviceMemory,
    _: *const vk::AllocationCallbacks<'_>,
) {
    // SAFETY: as above.
    let target = unsafe { Target::of(device) };
    target.state.lock().remove(target.number, number(memory), |what| matches!(what, What::Memory(_)));
}

pub unsafe extern "system" fn bind(
    device: vk::Device,
    buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    offset: vk::DeviceSize,
) -> vk::Result {
    // SAFETY: as above.
    let target = unsafe { Target::of(device) };
    let mut inner = target.state.lock();
    if let Err(error) = inner.call("vkBindBufferMemory") {
        return error;
    }
    let room = match inner.objects.get(&number(memory)).map(|o| &o.what) {
        Some(What::Memory(memory)) => memory.bytes as u64,
        _ => 0,
    };
    match inner.objects.get_mut(&number(buffer)).map(|object| &mut object.what) {
        Some(What::Buffer { bytes, memory: bound, .. }) if *bound == 0 && offset == 0 && *bytes <= room => {
            *bound = number(memory);
        }
        _ => inner.violation("a buffer that is bound already, or memory that is too small for it"),
    }
    vk::Result::SUCCESS
}

pub unsafe extern "system" fn map(
    device: vk::Device,
    memory: vk::DeviceMemory,
    _: vk::DeviceSize,
    _: vk::DeviceSize,
    _: vk::MemoryMapFlags,
    to: *mut *mut c_void,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let mut inner = Target::of(device).state.lock();
        if let Err(error) = inner.call("vkMapMemory") {
            return error;
        }
        match inner.objects.get_mut(&number(memory)).map(|object| &mut object.what) {
            Some(What::Memory(memory)) if memory.is_visible && !memory.is_mapped => {
                (memory.is_mapped, *to) = (true, memory.at);
                vk::Result::SUCCESS
            }
            _ => {
                inner.violation("memory is mapped that is mapped already or not visible");
                vk::Result::ERROR_MEMORY_MAP_FAILED
            }
        }
    }
}

pub unsafe extern "system" fn unmap(device: vk::Device, memory: vk::DeviceMemory) {
    // SAFETY: as above.
    let mut inner = unsafe { Target::of(device) }.state.lock();
    match inner.objects.get_mut(&number(memory)).map(|object| &mut object.what) {
        Some(What::Memory(memory)) if memory.is_mapped => memory.is_mapped = false,
        _ => inner.violation("memory is unmapped that is not mapped"),
    }
}
