//! The objects of a device that are made once.

use ash::vk;
use ash::vk::Handle as _;

use crate::instance::{check, made};
use crate::object::{number, Commands, Target, What, BINDINGS};

type Callbacks<'a> = *const vk::AllocationCallbacks<'a>;

// SAFETY: of all functions: the caller passes handles of this library, and pointers to structures of the types that the
// headers name. They live during the call.

pub unsafe extern "system" fn create(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    _: Callbacks<'_>,
    to: *mut vk::Device,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let target = Target::of(physical);
        let new = || target.state.lock().add(target.number, What::Device { is_lost: false });
        made(to, check(physical, &*info).map(|()| vk::Device::from_raw(Target::raw(target.state, new()))))
    }
}

pub unsafe extern "system" fn destroy(device: vk::Device, _: Callbacks<'_>) {
    // SAFETY: as above.
    let target = unsafe { Target::of(device) };
    let mut inner = target.state.lock();
    // Command buffers and sets end with their pools.
    let is_left = |what: &What| !matches!(what, What::CommandBuffer(_) | What::Set { .. });
    if let Some(number) =
        inner.objects.iter().find(|(_, o)| o.device == target.number && is_left(&o.what)).map(|(number, _)| *number)
    {
        inner.violation(format!("the device is destroyed before its object {number}"));
    }
    let Some(instance) = inner.objects.get(&target.number).map(|o| o.device) else {
        return inner.violation("the device is destroyed twice");
    };
    inner.remove(instance, target.number, |what| matches!(what, What::Device { .. }));
}

pub unsafe extern "system" fn queue(device: vk::Device, _: u32, _: u32, to: *mut vk::Queue) {
    // The queue has the target of its device.
    // SAFETY: as above.
    unsafe { *to = vk::Queue::from_raw(device.as_raw()) };
}

/// Functions that make an object of which nothing is looked at, and those that destroy it.
macro_rules! plain {
    ($($make:ident, $destroy:ident: $handle:ident from $info:ident, $call:literal, $what:pat => $new:expr;)*) => { $(
        pub unsafe extern "system" fn $make(
            device: vk::Device,
            _: *const vk::$info<'_>,
            _: Callbacks<'_>,
            to: *mut vk::$handle,
        ) -> vk::Result {
            // SAFETY: as above.
            unsafe {
                let target = Target::of(device);
                let new = || vk::$handle::from_raw(target.state.lock().add(target.number, $new));
                made(to, target.state.call($call).map(|()| new()))
            }
        }

        pub unsafe extern "system" fn $destroy(device: vk::Device, object: vk::$handle, _: Callbacks<'_>) {
            // SAFETY: as above.
            let target = unsafe { Target::of(device) };
            target.state.lock().remove(target.number, number(object), |what| matches!(what, $what));
        }
    )* };
}

plain! {
    make_command_pool, destroy_commands: CommandPool from CommandPoolCreateInfo, "vkCreateCommandPool",
        What::CommandPool => What::CommandPool;
    create_fence, destroy_fence: Fence from FenceCreateInfo, "vkCreateFence",
        What::Fence { .. } => What::Fence { is_signaled: false };
    create_set_layout, destroy_set_layout: DescriptorSetLayout from DescriptorSetLayoutCreateInfo,
        "vkCreateDescriptorSetLayout", What::SetLayout => What::SetLayout;
    create_pipeline_layout, destroy_pipeline_layout: PipelineLayout from PipelineLayoutCreateInfo,
        "vkCreatePipelineLayout", What::PipelineLayout => What::PipelineLayout;
    create_shader, destroy_shader: ShaderModule from ShaderModuleCreateInfo, "vkCreateShaderModule",
        What::Shader => What::Shader;
    make_pipeline, destroy_pipeline: Pipeline from ComputePipelineCreateInfo, "vkCreateComputePipelines",
        What::Pipeline => What::Pipeline;
    make_descriptor_pool, destroy_descriptors: DescriptorPool from DescriptorPoolCreateInfo, "vkCreateDescriptorPool",
        What::DescriptorPool { .. } => What::DescriptorPool { left: 16 };
}

pub unsafe extern "system" fn create_command_pool(
    device: vk::Device,
    info: *const vk::CommandPoolCreateInfo<'_>,
    callbacks: Callbacks<'_>,
    to: *mut vk::CommandPool,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        if (*info).queue_family_index != 1 {
            Target::of(device).state.lock().violation("a command pool for another family of queues");
        }
        make_command_pool(device, info, callbacks, to)
    }
}

pub unsafe extern "system" fn create_descriptor_pool(
    device: vk::Device,
    info: *const vk::DescriptorPoolCreateInfo<'_>,
    callbacks: Callbacks<'_>,
    to: *mut vk::DescriptorPool,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let result = make_descriptor_pool(device, info, callbacks, to);
        if result == vk::Result::SUCCESS {
            let mut inner = Target::of(device).state.lock();
            let object = inner.objects.get_mut(&number(*to));
            if let Some(What::DescriptorPool { left }) = object.map(|object| &mut object.what) {
                *left = (*info).max_sets;
            }
        }
        result
    }
}

/// A pool ends with what was allocated from it. Callers have one pool of a kind.
unsafe fn empty(device: vk::Device, is_it: impl Fn(&What) -> bool) {
    // SAFETY: as above.
    let target = unsafe { Target::of(device) };
    let mut inner = target.state.lock();
    let within: Vec<u64> =
        inner.objects.iter().filter(|(_, o)| o.device == target.number && is_it(&o.what)).map(|(n, _)| *n).collect();
    within.into_iter().for_each(|number| inner.remove(target.number, number, &is_it));
}

pub unsafe extern "system" fn destroy_command_pool(device: vk::Device, pool: vk::CommandPool, c: Callbacks<'_>) {
    // SAFETY: as above.
    unsafe {
        if number(pool) != 0 {
            empty(device, |what| matches!(what, What::CommandBuffer(_)));
        }
        destroy_commands(device, pool, c);
    }
}

pub unsafe extern "system" fn destroy_descriptor_pool(device: vk::Device, pool: vk::DescriptorPool, c: Callbacks<'_>) {
    // SAFETY: as above.
    unsafe {
        if number(pool) != 0 {
            empty(device, |what| matches!(what, What::Set { .. }));
        }
        destroy_descriptors(device, pool, c);
    }
}

pub unsafe extern "system" fn allocate_command_buffers(
    device: vk::Device,
    info: *const vk::CommandBufferAllocateInfo<'_>,
    to: *mut vk::CommandBuffer,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let target = Target::of(device);
        if let Err(error) = target.state.call("vkAllocateCommandBuffers") {
            return error;
        }
        for i in 0..(*info).command_buffer_count as usize {
            let new = target.state.lock().add(target.number, What::CommandBuffer(Commands::default()));
            *to.add(i) = vk::CommandBuffer::from_raw(Target::raw(target.state, new));
        }
    }
    vk::Result::SUCCESS
}

pub unsafe extern "system" fn create_pipelines(
    device: vk::Device,
    _: vk::PipelineCache,
    count: u32,
    infos: *const vk::ComputePipelineCreateInfo<'_>,
    callbacks: Callbacks<'_>,
    to: *mut vk::Pipeline,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        // A pipeline that cannot be made is null.
        (0..count as usize).for_each(|i| *to.add(i) = vk::Pipeline::null());
        (0..count as usize)
            .map(|i| make_pipeline(device, infos.add(i), callbacks, to.add(i)))
            .find(|result| *result != vk::Result::SUCCESS)
            .unwrap_or(vk::Result::SUCCESS)
    }
}

pub unsafe extern "system" fn allocate_sets(
    device: vk::Device,
    info: *const vk::DescriptorSetAllocateInfo<'_>,
    to: *mut vk::DescriptorSet,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let target = Target::of(device);
        let mut inner = target.state.lock();
        if let Err(error) = inner.call("vkAllocateDescriptorSets") {
            return error;
        }
        let wanted = (*info).descriptor_set_count;
        match inner.objects.get_mut(&number((*info).descriptor_pool)).map(|object| &mut object.what) {
            Some(What::DescriptorPool { left }) if *left >= wanted => *left -= wanted,
            _ => return vk::Result::ERROR_OUT_OF_POOL_MEMORY,
        }
        for i in 0..wanted as usize {
            let new = inner.add(target.number, What::Set { buffers: [0; BINDINGS] });
            *to.add(i) = vk::DescriptorSet::from_raw(new);
        }
    }
    vk::Result::SUCCESS
}

pub unsafe extern "system" fn update_sets(
    device: vk::Device,
    count: u32,
    writes: *const vk::WriteDescriptorSet<'_>,
    _: u32,
    _: *const vk::CopyDescriptorSet<'_>,
) {
    // SAFETY: as above.
    unsafe {
        let mut inner = Target::of(device).state.lock();
        for write in std::slice::from_raw_parts(writes, count as usize) {
            let (set, buffer) = (number(write.dst_set), number((*write.p_buffer_info).buffer));
            if inner.is_used(set) {
                inner.violation("a set is written while the device uses it");
            }
            if !matches!(inner.objects.get(&buffer).map(|o| &o.what), Some(What::Buffer { memory, .. }) if *memory != 0)
            {
                inner.violation(format!("buffer {buffer} of a set does not exist or does not have memory"));
            }
            match inner.objects.get_mut(&set).map(|object| &mut object.what) {
                Some(What::Set { buffers }) if (write.dst_binding as usize) < BINDINGS => {
                    buffers[write.dst_binding as usize] = buffer;
                }
                _ => inner.violation(format!("set {set} does not exist, or not its binding {}", write.dst_binding)),
            }
        }
    }
}
