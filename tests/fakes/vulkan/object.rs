//! The objects of a device, and what their handles point to.

use ash::vk;

use crate::memory::Memory;
use crate::state::{Inner, State};

/// The bindings of a set.
pub const BINDINGS: usize = 7;

pub struct Object {
    /// The device to which it belongs, or the instance of a device.
    pub device: u64,
    pub what: What,
}

pub enum What {
    Instance,
    Device { is_lost: bool },
    CommandPool,
    CommandBuffer(Commands),
    Fence { is_signaled: bool },
    SetLayout,
    PipelineLayout,
    Shader,
    Pipeline,
    DescriptorPool { left: u32 },
    Set { buffers: [u64; BINDINGS] },
    Buffer { bytes: u64, memory: u64, is_import: bool },
    Memory(Memory),
}

#[derive(Default)]
pub struct Commands {
    pub is_recording: bool,
    pub is_complete: bool,
    /// The fence of a submission that runs.
    pub fence: u64,
    pub has_pipeline: bool,
    pub set: u64,
    /// The sets of the runs.
    pub runs: Vec<u64>,
    /// Imported buffers that were taken over from others.
    pub owned: Vec<u64>,
    /// Imported buffers that were given back.
    pub returned: Vec<u64>,
}

/// What the handles of instances, devices, queues and command buffers point to. It is never freed.
pub struct Target {
    pub state: &'static State,
    pub number: u64,
}

impl Target {
    pub fn raw(state: &'static State, number: u64) -> u64 {
        let target: &'static Self = Box::leak(Box::new(Self { state, number }));
        target as *const Self as u64
    }

    /// # Safety
    /// The handle is one of this library.
    pub unsafe fn of(handle: impl vk::Handle) -> &'static Self {
        // SAFETY: the caller passes a handle that `raw` has made, and its target is never freed.
        unsafe { &*(handle.as_raw() as *const Self) }
    }
}

impl Inner {
    /// Removes an object at the end of its life. It must exist, belong to the device, and not be in use. 0 is ignored.
    pub fn remove(&mut self, device: u64, number: u64, is_it: impl Fn(&What) -> bool) {
        if number == 0 {
            return;
        }
        if !self.objects.get(&number).is_some_and(|o| o.device == device && is_it(&o.what)) {
            return self.violation(format!("object {number} is destroyed, which the device does not have"));
        }
        if self.is_used(number) {
            self.violation(format!("object {number} is destroyed while the device uses it"));
        }
        self.objects.remove(&number);
    }

    /// Whether a submission that runs uses an object.
    pub fn is_used(&self, number: u64) -> bool {
        let in_set = |set: &u64| {
            *set == number
                || match self.objects.get(set).map(|o| &o.what) {
                    Some(What::Set { buffers }) => buffers.iter().any(|buffer| {
                        let memory = match self.objects.get(buffer).map(|o| &o.what) {
                            Some(What::Buffer { memory, .. }) => *memory,
                            _ => 0,
                        };
                        *buffer == number || memory == number
                    }),
                    _ => false,
                }
        };
        self.objects.iter().any(|(at, object)| match &object.what {
            What::CommandBuffer(commands) if commands.fence != 0 => {
                *at == number || commands.fence == number || commands.runs.iter().any(in_set)
            }
            _ => false,
        })
    }

    pub fn is_lost(&self, device: u64) -> bool {
        matches!(self.objects.get(&device), Some(Object { what: What::Device { is_lost: true }, .. }))
    }

    /// Loses a device: what it runs ends, and further submissions fail.
    pub fn lose(&mut self, device: u64) {
        for (number, object) in &mut self.objects {
            match &mut object.what {
                What::Device { is_lost } if *number == device => *is_lost = true,
                What::CommandBuffer(commands) if object.device == device => commands.fence = 0,
                _ => {}
            }
        }
    }

    pub fn commands(&mut self, number: u64) -> Option<&mut Commands> {
        match self.objects.get_mut(&number).map(|object| &mut object.what) {
            Some(What::CommandBuffer(commands)) => Some(commands),
            _ => None,
        }
    }
}

/// The number of a handle that is not a pointer.
pub fn number(handle: impl vk::Handle) -> u64 {
    handle.as_raw()
}

/// A result for a caller in C.
pub fn code(result: Result<(), vk::Result>) -> vk::Result {
    result.map_or_else(|error| error, |()| vk::Result::SUCCESS)
}

/// The structures of a chain.
///
/// # Safety
/// `first` and all that it leads to are structures of Vulkan that live for the caller's call.
pub unsafe fn chain(first: *const std::ffi::c_void) -> impl Iterator<Item = *mut vk::BaseOutStructure<'static>> {
    let next = |at: *mut vk::BaseOutStructure<'static>| (!at.is_null()).then_some(at);
    // SAFETY: the caller keeps the contract above, and each structure begins like this one.
    std::iter::successors(next(first as *mut _), move |at| next(unsafe { (**at).p_next }))
}
