//! Command buffers, and what the queue does with them.

use ash::vk;

use crate::object::{code, number, Commands, Target, What};
use crate::state::Inner;

/// The bindings of the first buffers of the source and of the target.
const SOURCE: usize = 0;
const TARGET: usize = 3;

// SAFETY: of all functions: the caller passes handles of this library, and pointers to structures of the types that the
// headers name. They live during the call.

unsafe fn record(command: vk::CommandBuffer, change: impl FnOnce(&mut Commands)) {
    // SAFETY: as above.
    let target = unsafe { Target::of(command) };
    let mut inner = target.state.lock();
    let Some(commands) = inner.commands(target.number) else { return };
    change(commands);
    if !commands.is_recording {
        inner.violation("a command outside of a recording");
    }
}

pub unsafe extern "system" fn begin(
    command: vk::CommandBuffer,
    _: *const vk::CommandBufferBeginInfo<'_>,
) -> vk::Result {
    // SAFETY: as above.
    let target = unsafe { Target::of(command) };
    let mut inner = target.state.lock();
    if let Err(error) = inner.call("vkBeginCommandBuffer") {
        return error;
    }
    let Some(commands) = inner.commands(target.number) else { return vk::Result::ERROR_UNKNOWN };
    let is_used = commands.fence != 0;
    *commands = Commands { is_recording: true, fence: commands.fence, ..Commands::default() };
    if is_used {
        inner.violation("a command buffer is recorded while the device uses it");
    }
    vk::Result::SUCCESS
}

pub unsafe extern "system" fn end(command: vk::CommandBuffer) -> vk::Result {
    // SAFETY: as above.
    let target = unsafe { Target::of(command) };
    let mut inner = target.state.lock();
    let result = inner.call("vkEndCommandBuffer");
    let Some(commands) = inner.commands(target.number) else { return vk::Result::ERROR_UNKNOWN };
    let was_recording = std::mem::replace(&mut commands.is_recording, false);
    commands.is_complete = result.is_ok();
    if !was_recording {
        inner.violation("a recording ends that did not begin");
    }
    code(result)
}

pub unsafe extern "system" fn barrier(
    command: vk::CommandBuffer,
    _: vk::PipelineStageFlags,
    _: vk::PipelineStageFlags,
    _: vk::DependencyFlags,
    _: u32,
    _: *const vk::MemoryBarrier<'_>,
    count: u32,
    barriers: *const vk::BufferMemoryBarrier<'_>,
    _: u32,
    _: *const vk::ImageMemoryBarrier<'_>,
) {
    if count == 0 {
        return;
    }
    // SAFETY: as above.
    unsafe {
        let barriers = std::slice::from_raw_parts(barriers, count as usize);
        record(command, |commands| {
            for barrier in barriers {
                let buffer = number(barrier.buffer);
                match (barrier.src_queue_family_index, barrier.dst_queue_family_index) {
                    (vk::QUEUE_FAMILY_FOREIGN_EXT, 1) => commands.owned.push(buffer),
                    (1, vk::QUEUE_FAMILY_FOREIGN_EXT) => commands.returned.push(buffer),
                    _ => {}
                }
            }
        });
    }
}

pub unsafe extern "system" fn bind_pipeline(command: vk::CommandBuffer, _: vk::PipelineBindPoint, _: vk::Pipeline) {
    // SAFETY: as above.
    unsafe { record(command, |commands| commands.has_pipeline = true) };
}

pub unsafe extern "system" fn bind_sets(
    command: vk::CommandBuffer,
    _: vk::PipelineBindPoint,
    _: vk::PipelineLayout,
    _: u32,
    _: u32,
    sets: *const vk::DescriptorSet,
    _: u32,
    _: *const u32,
) {
    // SAFETY: as above.
    unsafe { record(command, |commands| commands.set = number(*sets)) };
}

pub unsafe extern "system" fn push_constants(
    command: vk::CommandBuffer,
    _: vk::PipelineLayout,
    _: vk::ShaderStageFlags,
    _: u32,
    _: u32,
    _: *const std::ffi::c_void,
) {
    // SAFETY: as above.
    unsafe { record(command, |_| {}) };
}

pub unsafe extern "system" fn dispatch(command: vk::CommandBuffer, x: u32, y: u32, z: u32) {
    // SAFETY: as above.
    unsafe {
        record(command, |commands| {
            if x * y * z > 0 && commands.has_pipeline {
                commands.runs.push(commands.set);
            }
        });
    }
}

pub unsafe extern "system" fn reset_fences(device: vk::Device, count: u32, fences: *const vk::Fence) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let mut inner = Target::of(device).state.lock();
        if let Err(error) = inner.call("vkResetFences") {
            return error;
        }
        for fence in std::slice::from_raw_parts(fences, count as usize) {
            if inner.is_used(number(*fence)) {
                inner.violation("a fence is reset while the device uses it");
            }
            if let Some(What::Fence { is_signaled }) = inner.objects.get_mut(&number(*fence)).map(|o| &mut o.what) {
                *is_signaled = false;
            }
        }
    }
    vk::Result::SUCCESS
}

pub unsafe extern "system" fn submit(
    queue: vk::Queue,
    _: u32,
    submits: *const vk::SubmitInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let target = Target::of(queue);
        let mut inner = target.state.lock();
        let called = inner.call("vkQueueSubmit");
        if called == Err(vk::Result::ERROR_DEVICE_LOST) {
            inner.lose(target.number);
        }
        if inner.is_lost(target.number) {
            return vk::Result::ERROR_DEVICE_LOST;
        }
        if let Err(error) = called {
            return error;
        }
        let number_of_command = Target::of(*(*submits).p_command_buffers).number;
        if let Some(What::Fence { is_signaled: true }) = inner.objects.get(&number(fence)).map(|o| &o.what) {
            inner.violation("a fence is signaled already");
        }
        let Some(commands) = inner.commands(number_of_command) else { return vk::Result::ERROR_UNKNOWN };
        let (is_complete, runs) = (commands.is_complete, commands.runs.clone());
        let (owned, returned) = (commands.owned.clone(), commands.returned.clone());
        (commands.is_complete, commands.fence) = (false, number(fence));
        if !is_complete {
            inner.violation("a recording is submitted that is not complete, or twice");
        }
        inner.add_one("submits");
        for set in runs {
            inner.add_one("dispatches");
            run(&mut inner, set, &owned, &returned);
        }
    }
    vk::Result::SUCCESS
}

/// Copies the source's first buffer to the target's.
fn run(inner: &mut Inner, set: u64, owned: &[u64], returned: &[u64]) {
    let Some(What::Set { buffers }) = inner.objects.get(&set).map(|o| &o.what) else {
        return inner.violation("a run without a set");
    };
    let buffers = *buffers;
    for buffer in buffers {
        match inner.objects.get(&buffer).map(|o| &o.what) {
            Some(What::Buffer { is_import: true, .. }) if !owned.contains(&buffer) || !returned.contains(&buffer) => {
                inner.violation(format!("buffer {buffer} is not taken from other devices, or not given back"));
            }
            Some(What::Buffer { .. }) => {}
            _ => inner.violation(format!("a run with buffer {buffer}, which does not exist")),
        }
    }
    let memory = |binding: usize| match inner.objects.get(&buffers[binding]).map(|o| &o.what) {
        Some(What::Buffer { memory, .. }) => match inner.objects.get(memory).map(|o| &o.what) {
            Some(What::Memory(memory)) => Some((memory.at, memory.bytes, memory.is_writable)),
            _ => None,
        },
        _ => None,
    };
    match (memory(SOURCE), memory(TARGET)) {
        // SAFETY: two mappings with their lengths, of which the second is writable.
        (Some((from, has, _)), Some((to, room, true))) => unsafe { std::ptr::copy(from, to, has.min(room)) },
        _ => inner.violation("a run into memory that does not exist or is read-only"),
    }
}

pub unsafe extern "system" fn wait(
    device: vk::Device,
    _: u32,
    fences: *const vk::Fence,
    _: vk::Bool32,
    _: u64,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let target = Target::of(device);
        if let Err(error) = target.state.call("vkWaitForFences") {
            if error == vk::Result::ERROR_DEVICE_LOST {
                target.state.lock().lose(target.number);
            }
            return error;
        }
        target.state.wait_while("hangs");
        let (mut inner, fence) = (target.state.lock(), number(*fences));
        if inner.is_lost(target.number) {
            return vk::Result::ERROR_DEVICE_LOST;
        }
        let mut is_submitted = false;
        for object in inner.objects.values_mut() {
            if let What::CommandBuffer(commands) = &mut object.what {
                if commands.fence == fence {
                    (commands.fence, is_submitted) = (0, true);
                }
            }
        }
        if !is_submitted {
            // The real call would not return.
            inner.violation("a wait for a fence that was not submitted");
        }
        if let Some(What::Fence { is_signaled }) = inner.objects.get_mut(&fence).map(|o| &mut o.what) {
            *is_signaled = true;
        }
    }
    vk::Result::SUCCESS
}
