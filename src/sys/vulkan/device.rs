//! An open device with the crate's shader.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use ash::{khr, vk};

use super::buffer::{Buffer, Handles};
use super::instance::{name, Instance, Physical, BINDINGS, PLANES, REQUIRED};
use super::Failure;

/// The most sources of a job.
const SOURCES: usize = 16;
/// The pause after a wait that failed.
const PAUSE: Duration = Duration::from_millis(10);
/// The step's number, and the first byte of each plane of the source.
const CONSTANTS: usize = 4 * (1 + PLANES);

static SHADER: &[u8] = include_bytes!("../../convert/vulkan/shaders/convert.spv");

/// The memory planes of a picture, and the byte at which the data of each begin. Planes that it does not have repeat
/// the first.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    pub(crate) buffers: [&'a Buffer; PLANES],
    pub(crate) offsets: [u32; PLANES],
}

/// One run of the shader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) source: usize,
    /// The number of workgroups in each direction.
    pub(crate) groups: (u32, u32),
}

/// Passes over one target, in order. Pass n executes step n.
pub(crate) struct Job<'a, S> {
    pub(crate) sources: S,
    pub(crate) target: Planes<'a>,
    pub(crate) steps: &'a Buffer,
    pub(crate) passes: &'a [Pass],
}

/// A device, its shader, and what it needs to run it.
pub(crate) struct Device {
    queue: vk::Queue,
    queue_family: u32,
    commands: vk::CommandPool,
    command: vk::CommandBuffer,
    done: vk::Fence,
    set_layout: vk::DescriptorSetLayout,
    layout: vk::PipelineLayout,
    pipeline: vk::Pipeline,
    descriptors: vk::DescriptorPool,
    /// One for each source.
    sets: Vec<vk::DescriptorSet>,
    handles: Arc<Handles>,
}

impl Device {
    /// Opens a device that lacks nothing.
    pub(crate) fn open(instance: Arc<Instance>, physical: &Physical) -> Result<Self, Failure> {
        let queues =
            [vk::DeviceQueueCreateInfo::default().queue_family_index(physical.queue_family).queue_priorities(&[1.0])];
        let names = REQUIRED.map(|name| name.as_ptr());
        let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
        let mut bytes = vk::PhysicalDevice8BitStorageFeatures::default().storage_buffer8_bit_access(true);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&names)
            .enabled_features(&features)
            .push_next(&mut bytes);
        // SAFETY: memory: `info` and what it points to live during the call. Contract: the physical device is this
        // instance's, and has the queue, the extensions and the features (robust access is in every device).
        let device = unsafe { instance.0.create_device(physical.raw, &info, None) };
        let device = device.map_err(Failure::of("vkCreateDevice"))?;
        let files = khr::external_memory_fd::Device::new(&instance.0, &device);
        // SAFETY: contract: the physical device is this instance's.
        let memory = unsafe { instance.0.get_physical_device_memory_properties(physical.raw) };
        // SAFETY: contract: the device was made with one queue of this family.
        let queue = unsafe { device.get_device_queue(physical.queue_family, 0) };
        let handles =
            Arc::new(Handles { device, files, memory, is_dedicated: physical.is_dedicated, _instance: instance });
        let mut device = Self {
            queue,
            queue_family: physical.queue_family,
            commands: vk::CommandPool::null(),
            command: vk::CommandBuffer::null(),
            done: vk::Fence::null(),
            set_layout: vk::DescriptorSetLayout::null(),
            layout: vk::PipelineLayout::null(),
            pipeline: vk::Pipeline::null(),
            descriptors: vk::DescriptorPool::null(),
            sets: Vec::new(),
            handles,
        };
        device.prepare_commands()?;
        device.prepare_pipeline()?;
        device.prepare_sets()?;
        Ok(device)
    }

    fn prepare_commands(&mut self) -> Result<(), Failure> {
        let device = &self.handles.device;
        let info = vk::CommandPoolCreateInfo::default()
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER)
            .queue_family_index(self.queue_family);
        // SAFETY: memory: `info` lives during the call. Contract: the device has this queue family.
        let pool = unsafe { device.create_command_pool(&info, None) };
        self.commands = pool.map_err(Failure::of("vkCreateCommandPool"))?;
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(self.commands)
            .level(vk::CommandBufferLevel::PRIMARY)
            .command_buffer_count(1);
        // SAFETY: memory: as above. Contract: the pool is this device's, and only `&mut self` uses it.
        let made = unsafe { device.allocate_command_buffers(&info) };
        self.command = made.map_err(Failure::of("vkAllocateCommandBuffers"))?[0];
        // SAFETY: memory: as above.
        let fence = unsafe { device.create_fence(&vk::FenceCreateInfo::default(), None) };
        self.done = fence.map_err(Failure::of("vkCreateFence"))?;
        Ok(())
    }

    fn prepare_pipeline(&mut self) -> Result<(), Failure> {
        let device = &self.handles.device;
        let binding = |n: usize| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(n as u32)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let bindings: [_; BINDINGS as usize] = std::array::from_fn(binding);
        let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        // SAFETY: memory: `info` and what it points to live during the call, as in all calls of this function.
        let made = unsafe { device.create_descriptor_set_layout(&info, None) };
        self.set_layout = made.map_err(Failure::of("vkCreateDescriptorSetLayout"))?;
        let sets = [self.set_layout];
        let constants =
            [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(CONSTANTS as u32)];
        let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&constants);
        // SAFETY: contract: the set's layout is this device's. 16 bytes of constants are below the least limit, 128.
        let made = unsafe { device.create_pipeline_layout(&info, None) };
        self.layout = made.map_err(Failure::of("vkCreatePipelineLayout"))?;
        let code: Vec<u32> =
            SHADER.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        let info = vk::ShaderModuleCreateInfo::default().code(&code);
        // SAFETY: contract: the code is the crate's shader, compiled for Vulkan 1.1. Its one capability beyond, 8-bit
        // storage, is enabled.
        let module = unsafe { device.create_shader_module(&info, None) };
        let module = module.map_err(Failure::of("vkCreateShaderModule"))?;
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(name(b"main\0"));
        let infos = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(self.layout)];
        // SAFETY: contract: the layout has the bindings and constants that the shader uses.
        let made = unsafe { device.create_compute_pipelines(vk::PipelineCache::null(), &infos, None) };
        // SAFETY: contract: a module is not needed after pipelines are made of it.
        unsafe { device.destroy_shader_module(module, None) };
        self.pipeline = made.map_err(|(_, result)| Failure::of("vkCreateComputePipelines")(result))?[0];
        Ok(())
    }

    fn prepare_sets(&mut self) -> Result<(), Failure> {
        let device = &self.handles.device;
        let sizes = [vk::DescriptorPoolSize::default()
            .ty(vk::DescriptorType::STORAGE_BUFFER)
            .descriptor_count(BINDINGS * SOURCES as u32)];
        let info = vk::DescriptorPoolCreateInfo::default().max_sets(SOURCES as u32).pool_sizes(&sizes);
        // SAFETY: memory: `info` and what it points to live during the call.
        let made = unsafe { device.create_descriptor_pool(&info, None) };
        self.descriptors = made.map_err(Failure::of("vkCreateDescriptorPool"))?;
        let layouts = [self.set_layout; SOURCES];
        let info = vk::DescriptorSetAllocateInfo::default().descriptor_pool(self.descriptors).set_layouts(&layouts);
        // SAFETY: memory: as above. Contract: the pool has room for these sets.
        let made = unsafe { device.allocate_descriptor_sets(&info) };
        self.sets = made.map_err(Failure::of("vkAllocateDescriptorSets"))?;
        Ok(())
    }

    /// Imports a dma-buf of `bytes` bytes, which are not 0.
    pub(crate) fn import(&self, fd: BorrowedFd<'_>, bytes: u64) -> Result<Buffer, Failure> {
        Buffer::import(&self.handles, fd, bytes)
    }

    /// Makes a buffer with these bytes, which are not empty.
    pub(crate) fn buffer(&self, bytes: &[u8]) -> Result<Buffer, Failure> {
        Buffer::with(&self.handles, bytes)
    }

    /// Runs a job and waits until the GPU has finished it.
    pub(crate) fn run<'a, S: Iterator<Item = Planes<'a>> + 'a>(&mut self, job: Job<'a, S>) -> Result<(), Failure> {
        let (commands, fences) = ([self.command], [self.done]);
        self.record(job)?;
        let device = &self.handles.device;
        // SAFETY: contract: the fence is of this device, and no submission uses it.
        unsafe { device.reset_fences(&fences) }.map_err(Failure::of("vkResetFences"))?;
        let submits = [vk::SubmitInfo::default().command_buffers(&commands)];
        // SAFETY: memory: `submits` and what it points to live during the call. Contract: the command buffer is
        // complete; only this thread uses the queue. Lifetime: the job lends its buffers until the wait below has
        // ended.
        unsafe { device.queue_submit(self.queue, &submits, self.done) }.map_err(Failure::of("vkQueueSubmit"))?;
        loop {
            // SAFETY: contract: the fence is of this device.
            match unsafe { device.wait_for_fences(&fences, true, u64::MAX) } {
                Ok(()) => return Ok(()),
                // A lost device uses nothing any more.
                Err(lost @ vk::Result::ERROR_DEVICE_LOST) => return Err(Failure::of("vkWaitForFences")(lost)),
                // There was no memory for the wait. The buffers must stay until the GPU has finished.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn record<'a>(&self, job: Job<'a, impl Iterator<Item = Planes<'a>> + 'a>) -> Result<(), Failure> {
        let device = &self.handles.device;
        let mut imports = Imports::new(self.queue_family);
        let (mut offsets, mut count) = ([[0; PLANES]; SOURCES], 0);
        let is_own = |planes: &Planes<'_>| planes.buffers.iter().all(|buffer| buffer.is_of(&self.handles));
        let misfit = || Failure::of("vkUpdateDescriptorSets")(vk::Result::ERROR_VALIDATION_FAILED_EXT);
        if !is_own(&job.target) || !job.steps.is_of(&self.handles) {
            return Err(misfit());
        }
        imports.add(&job.target);
        for ((source, set), offsets) in job.sources.zip(&self.sets).zip(&mut offsets) {
            if !is_own(&source) {
                return Err(misfit());
            }
            imports.add(&source);
            (*offsets, count) = (source.offsets, count + 1);
            self.write_set(*set, &source, &job.target, job.steps);
        }
        // The set of a source that is missing has buffers of an earlier job.
        if job.passes.iter().any(|pass| pass.source >= count) {
            return Err(misfit());
        }
        let begin = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: memory: `begin` lives during the call. Contract: the last submission has finished; beginning resets
        // the command buffer, which its pool allows.
        unsafe { device.begin_command_buffer(self.command, &begin) }.map_err(Failure::of("vkBeginCommandBuffer"))?;
        imports.transfer(device, self.command, Direction::Acquire);
        // SAFETY: contract: the command buffer is being recorded; the pipeline is this device's.
        unsafe { device.cmd_bind_pipeline(self.command, vk::PipelineBindPoint::COMPUTE, self.pipeline) };
        for (step, pass) in job.passes.iter().enumerate() {
            let source = pass.source;
            let mut constants = [0; CONSTANTS];
            let words = std::iter::once(step as u32).chain(offsets[source]);
            constants.chunks_exact_mut(4).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_ne_bytes()));
            let before = [vk::MemoryBarrier::default()
                .src_access_mask(vk::AccessFlags::SHADER_WRITE)
                .dst_access_mask(vk::AccessFlags::SHADER_READ | vk::AccessFlags::SHADER_WRITE)];
            let sets = [self.sets[source]];
            let compute = vk::PipelineStageFlags::COMPUTE_SHADER;
            // SAFETY: memory: all arrays live during their calls. Contract: the command buffer is being recorded; the
            // layout has this set and these constants; the set was written for this job. A shader that exceeds a buffer
            // is stopped by robust access.
            unsafe {
                if step > 0 {
                    let none = vk::DependencyFlags::empty();
                    device.cmd_pipeline_barrier(self.command, compute, compute, none, &before, &[], &[]);
                }
                let point = vk::PipelineBindPoint::COMPUTE;
                device.cmd_bind_descriptor_sets(self.command, point, self.layout, 0, &sets, &[]);
                let stage = vk::ShaderStageFlags::COMPUTE;
                device.cmd_push_constants(self.command, self.layout, stage, 0, &constants);
                device.cmd_dispatch(self.command, pass.groups.0, pass.groups.1, 1);
            }
        }
        imports.transfer(device, self.command, Direction::Release);
        // SAFETY: contract: the command buffer is being recorded.
        unsafe { device.end_command_buffer(self.command) }.map_err(Failure::of("vkEndCommandBuffer"))
    }

    fn write_set(&self, set: vk::DescriptorSet, source: &Planes<'_>, target: &Planes<'_>, steps: &Buffer) {
        let buffers = source.buffers.iter().chain(&target.buffers).copied().chain([steps]);
        let mut infos = [[vk::DescriptorBufferInfo::default()]; BINDINGS as usize];
        for (info, buffer) in infos.iter_mut().zip(buffers) {
            *info = [vk::DescriptorBufferInfo::default().buffer(buffer.raw).range(vk::WHOLE_SIZE)];
        }
        let writes: [_; BINDINGS as usize] = std::array::from_fn(|n| {
            vk::WriteDescriptorSet::default()
                .dst_set(set)
                .dst_binding(n as u32)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .buffer_info(&infos[n])
        });
        // SAFETY: memory: the writes and what they point to live during the call. Contract: the set is not in use,
        // because the last submission has finished; the buffers are storage buffers, and live until this job has
        // finished.
        unsafe { self.handles.device.update_descriptor_sets(&writes, &[]) };
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let device = &self.handles.device;
        // SAFETY: contract: nothing submitted is running, because `run` waits. Each object is this device's or null,
        // and is used no more.
        unsafe {
            device.destroy_descriptor_pool(self.descriptors, None);
            device.destroy_pipeline(self.pipeline, None);
            device.destroy_pipeline_layout(self.layout, None);
            device.destroy_descriptor_set_layout(self.set_layout, None);
            device.destroy_fence(self.done, None);
            device.destroy_command_pool(self.commands, None);
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Acquire,
    Release,
}

/// The imported buffers of a job, each once. Other devices own them before and after.
struct Imports {
    family: u32,
    buffers: [vk::Buffer; PLANES * (SOURCES + 1)],
    count: usize,
}

impl Imports {
    fn new(family: u32) -> Self {
        Self { family, buffers: [vk::Buffer::null(); PLANES * (SOURCES + 1)], count: 0 }
    }

    fn add(&mut self, planes: &Planes<'_>) {
        for buffer in planes.buffers.iter().filter(|b| b.is_import) {
            if !self.buffers[..self.count].contains(&buffer.raw) && self.count < self.buffers.len() {
                self.buffers[self.count] = buffer.raw;
                self.count += 1;
            }
        }
    }

    fn transfer(&self, device: &ash::Device, command: vk::CommandBuffer, direction: Direction) {
        let (compute, access) =
            (vk::PipelineStageFlags::COMPUTE_SHADER, vk::AccessFlags::SHADER_READ | vk::AccessFlags::SHADER_WRITE);
        let (own, others, none) = (self.family, vk::QUEUE_FAMILY_FOREIGN_EXT, vk::AccessFlags::empty());
        let (from, to, before, after, first, second) = match direction {
            Direction::Acquire => (others, own, none, access, vk::PipelineStageFlags::TOP_OF_PIPE, compute),
            Direction::Release => (own, others, access, none, compute, vk::PipelineStageFlags::BOTTOM_OF_PIPE),
        };
        let barriers = self.buffers.map(|buffer| {
            vk::BufferMemoryBarrier::default()
                .buffer(buffer)
                .size(vk::WHOLE_SIZE)
                .src_queue_family_index(from)
                .dst_queue_family_index(to)
                .src_access_mask(before)
                .dst_access_mask(after)
        });
        let barriers = &barriers[..self.count];
        // SAFETY: memory: the barriers live during the call. Contract: the command buffer is being recorded; the
        // buffers are this device's, and the extension of the foreign family is enabled.
        unsafe {
            device.cmd_pipeline_barrier(command, first, second, vk::DependencyFlags::empty(), &[], barriers, &[]);
        }
    }
}
