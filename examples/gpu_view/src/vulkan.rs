//! The calls below `wgpu`: opening a device with one more extension, importing dma-bufs as textures, and handing them
//! over between devices. All `unsafe` of this program is here.

use std::os::fd::AsFd;

use ash::vk;
use wgpu::hal::api::Vulkan;
use wgpu::hal::{MemoryFlags, TextureDescriptor as HalDescriptor};
use wgpu::TextureUses;

use crate::common::Result;
use crate::planes::Plane;

/// What the GPU does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Use {
    Read,
    Draw,
}

impl Use {
    fn usages(self) -> (wgpu::TextureUsages, TextureUses, vk::ImageUsageFlags) {
        match self {
            Self::Read => (wgpu::TextureUsages::TEXTURE_BINDING, TextureUses::RESOURCE, vk::ImageUsageFlags::SAMPLED),
            Self::Draw => (
                wgpu::TextureUsages::RENDER_ATTACHMENT,
                TextureUses::COLOR_TARGET,
                vk::ImageUsageFlags::COLOR_ATTACHMENT,
            ),
        }
    }

    /// What images of a format and a modifier must be able to do.
    fn features(self) -> vk::FormatFeatureFlags {
        match self {
            Self::Read => vk::FormatFeatureFlags::SAMPLED_IMAGE | vk::FormatFeatureFlags::SAMPLED_IMAGE_FILTER_LINEAR,
            Self::Draw => vk::FormatFeatureFlags::COLOR_ATTACHMENT | vk::FormatFeatureFlags::COLOR_ATTACHMENT_BLEND,
        }
    }

    /// The layout that `wgpu` has for this use, the stage, and the accesses.
    fn state(self) -> (vk::ImageLayout, vk::PipelineStageFlags, vk::AccessFlags) {
        match self {
            Self::Read => (
                vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL,
                vk::PipelineStageFlags::FRAGMENT_SHADER,
                vk::AccessFlags::SHADER_READ,
            ),
            Self::Draw => (
                vk::ImageLayout::COLOR_ATTACHMENT_OPTIMAL,
                vk::PipelineStageFlags::COLOR_ATTACHMENT_OUTPUT,
                vk::AccessFlags::COLOR_ATTACHMENT_READ | vk::AccessFlags::COLOR_ATTACHMENT_WRITE,
            ),
        }
    }
}

/// A dma-buf that a device has imported as a texture. Other devices own it, except in what [`Device::submit`] runs.
pub struct Image {
    texture: wgpu::Texture,
    role: Use,
}

impl Image {
    /// The view of the whole image, for what is given to [`Device::submit`].
    pub fn view(&self) -> wgpu::TextureView {
        self.texture.create_view(&wgpu::TextureViewDescriptor::default())
    }
}

/// The features without which a device cannot import frames.
const NEEDED: wgpu::Features = wgpu::Features::VULKAN_EXTERNAL_MEMORY_DMA_BUF;

/// Says what a device lacks.
pub fn lacks(adapter: &wgpu::Adapter) -> Option<&'static str> {
    if !adapter.features().contains(NEEDED) {
        return Some("VK_EXT_external_memory_dma_buf or VK_EXT_image_drm_format_modifier");
    }
    // SAFETY: contract: the adapter is only asked.
    let has_foreign = unsafe { adapter.as_hal::<Vulkan>() }
        .is_some_and(|a| a.physical_device_capabilities().supports_extension(ash::ext::queue_family_foreign::NAME));
    (!has_foreign).then_some("VK_EXT_queue_family_foreign")
}

/// An open device, which imports and draws.
pub struct Device {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
}

impl Device {
    /// Opens a device that lacks nothing.
    pub fn open(adapter: &wgpu::Adapter) -> Result<Self> {
        if let Some(what) = lacks(adapter) {
            return Err(format!("{} lacks {what}", adapter.get_info().name).into());
        }
        let desc = wgpu::DeviceDescriptor {
            required_features: NEEDED,
            required_limits: wgpu::Limits::downlevel_defaults().using_resolution(adapter.limits()),
            ..Default::default()
        };
        // SAFETY: contract: the adapter is not destroyed.
        let hal = unsafe { adapter.as_hal::<Vulkan>() }.ok_or("wgpu has another backend than Vulkan")?;
        let add = |args: wgpu::hal::vulkan::CreateDeviceCallbackArgs<'_, '_, '_>| {
            args.extensions.push(ash::ext::queue_family_foreign::NAME);
        };
        // SAFETY: contract: the device has the features, the limits are its own or less, and it has the extension that
        // is added. Nothing is removed.
        let open =
            unsafe { hal.open_with_callback(NEEDED, &desc.required_limits, &desc.memory_hints, Some(Box::new(add))) };
        let open = open.map_err(|e| format!("vkCreateDevice: {e}"))?;
        drop(hal);
        // SAFETY: contract: the device was opened from this adapter, with these features.
        let (device, queue) = unsafe { adapter.create_device_from_hal(open, &desc) }?;
        Ok(Self { device, queue })
    }

    /// Imports one color plane. The image keeps the memory, and does not need the buffer's descriptor any more.
    pub fn import(&self, plane: &Plane<'_>, role: Use) -> Result<Image> {
        let failed = |why: &str| {
            let hint = match self.device.adapter_info().device_type {
                wgpu::DeviceType::Cpu => "; a driver that works on the CPU needs a writable buffer",
                _ => "",
            };
            format!(
                "{:?} {} (stride {}, offset {}, modifier {:#x}) of {:?} cannot be imported: {why}{hint}",
                plane.format, plane.size, plane.stride_bytes, plane.offset_bytes, plane.modifier, plane.memory
            )
        };
        let (usage, uses, image_usage) = role.usages();
        let size = wgpu::Extent3d { width: plane.size.width, height: plane.size.height, depth_or_array_layers: 1 };
        let desc = wgpu::TextureDescriptor {
            label: None,
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: plane.format,
            usage,
            view_formats: &[],
        };
        let hal_desc = HalDescriptor {
            label: None,
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: plane.format,
            usage: uses,
            memory_flags: MemoryFlags::empty(),
            view_formats: Vec::new(),
        };
        // SAFETY: contract: the device is not destroyed.
        let hal = unsafe { self.device.as_hal::<Vulkan>() }.ok_or("wgpu has another backend than Vulkan")?;
        check(&hal, plane, role, image_usage).map_err(|why| failed(&why))?;
        let fd = plane.memory.as_fd().try_clone_to_owned().map_err(|e| failed(&format!("dup: {e}")))?;
        // SAFETY: memory: the library has checked that the buffer holds the plane's rows. Lifetime: the driver keeps
        // the buffer by its own descriptor, and wgpu frees the import after the last submission that uses it. Contract:
        // the device has the feature, and was asked whether it imports such an image.
        let texture = unsafe {
            hal.texture_from_dmabuf_fd(fd, &hal_desc, plane.modifier, plane.stride_bytes, plane.offset_bytes)
        };
        let texture = texture.map_err(|e| failed(&e.to_string()))?;
        drop(hal);
        // SAFETY: contract: the texture is of this device and of this description. `submit`, which alone runs commands
        // on it, brings it into the state that is stated here before them.
        let texture = unsafe { self.device.create_texture_from_hal::<Vulkan>(texture, &desc, uses) };
        Ok(Image { texture, role })
    }

    /// Runs commands, and waits until the GPU has finished. The images are those that the commands use. The GPU owns
    /// them from the first command to the last, other devices before and after.
    pub fn submit<'a>(&self, images: impl Iterator<Item = &'a Image> + Clone, draw: wgpu::CommandBuffer) -> Result<()> {
        let acquire = self.transfer(images.clone(), true)?;
        let release = self.transfer(images, false)?;
        self.queue.submit([acquire, draw, release]);
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| format!("waiting for the GPU: {e}"))?;
        Ok(())
    }

    fn transfer<'a>(&self, images: impl Iterator<Item = &'a Image>, acquire: bool) -> Result<wgpu::CommandBuffer> {
        let other = "wgpu has another backend than Vulkan";
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        // SAFETY: contract: the device is not destroyed.
        let hal = unsafe { self.device.as_hal::<Vulkan>() }.ok_or(other)?;
        let (own, foreign) = (hal.queue_family_index(), vk::QUEUE_FAMILY_FOREIGN_EXT);
        let (mut barriers, mut stages) = (Vec::new(), vk::PipelineStageFlags::empty());
        for image in images {
            let (layout, stage, access) = image.role.state();
            stages |= stage;
            // SAFETY: contract: the texture is not destroyed.
            let texture = unsafe { image.texture.as_hal::<Vulkan>() }.ok_or(other)?;
            let range = vk::ImageSubresourceRange::default()
                .aspect_mask(vk::ImageAspectFlags::COLOR)
                .level_count(1)
                .layer_count(1);
            let general = vk::ImageLayout::GENERAL;
            let barrier = vk::ImageMemoryBarrier::default().subresource_range(range);
            // SAFETY: contract: the image is not destroyed.
            let barrier = barrier.image(unsafe { texture.raw_handle() });
            barriers.push(match acquire {
                true => barrier
                    .src_queue_family_index(foreign)
                    .dst_queue_family_index(own)
                    // A target is drawn as a whole.
                    .old_layout(if image.role == Use::Draw { vk::ImageLayout::UNDEFINED } else { general })
                    .new_layout(layout)
                    .dst_access_mask(access),
                false => barrier
                    .src_queue_family_index(own)
                    .dst_queue_family_index(foreign)
                    .old_layout(layout)
                    .new_layout(general)
                    .src_access_mask(access),
            });
        }
        let (before, after) = match acquire {
            true => (vk::PipelineStageFlags::TOP_OF_PIPE, stages),
            false => (stages, vk::PipelineStageFlags::BOTTOM_OF_PIPE),
        };
        let raw = hal.raw_device();
        // SAFETY: memory: the barriers live during the call. Lifetime: the textures live until `submit` has waited.
        // Contract: this encoder records nothing else, is of this device, and is not ended here; the images are of this
        // device, whose extension for the foreign family is enabled; wgpu has them in the layouts of their roles.
        unsafe {
            encoder.as_hal_mut::<Vulkan, _, _>(|commands| {
                let commands = commands.ok_or(other)?;
                let none = vk::DependencyFlags::empty();
                raw.cmd_pipeline_barrier(commands.raw_handle(), before, after, none, &[], &[], &barriers);
                Ok::<_, &str>(())
            })?;
        }
        Ok(encoder.finish())
    }
}

/// Asks the driver whether it imports a dma-buf as such an image.
fn check(
    hal: &wgpu::hal::vulkan::Device,
    plane: &Plane<'_>,
    role: Use,
    usage: vk::ImageUsageFlags,
) -> std::result::Result<(), String> {
    let format = match plane.format {
        wgpu::TextureFormat::R8Unorm => vk::Format::R8_UNORM,
        wgpu::TextureFormat::Rg8Unorm => vk::Format::R8G8_UNORM,
        wgpu::TextureFormat::Rgba8Unorm => vk::Format::R8G8B8A8_UNORM,
        wgpu::TextureFormat::Bgra8Unorm => vk::Format::B8G8R8A8_UNORM,
        other => return Err(format!("{other:?} is not used here")),
    };
    let (instance, physical) = (hal.shared_instance().raw_instance(), hal.raw_physical_device());
    let listed = modifiers(instance, physical, format);
    let wanted =
        listed.iter().find(|m| m.drm_format_modifier == plane.modifier && m.drm_format_modifier_plane_count == 1);
    match wanted {
        None => return Err("the driver does not list the modifier for images with one plane".into()),
        Some(found) if !found.drm_format_modifier_tiling_features.contains(role.features()) => {
            let has = found.drm_format_modifier_tiling_features;
            return Err(format!("the driver has {has:?} for the modifier, not {:?}", role.features()));
        }
        Some(_) => {}
    }
    const DMA_BUF: vk::ExternalMemoryHandleTypeFlags = vk::ExternalMemoryHandleTypeFlags::DMA_BUF_EXT;
    let mut modifier = vk::PhysicalDeviceImageDrmFormatModifierInfoEXT::default()
        .drm_format_modifier(plane.modifier)
        .sharing_mode(vk::SharingMode::EXCLUSIVE);
    let mut external = vk::PhysicalDeviceExternalImageFormatInfo::default().handle_type(DMA_BUF);
    let info = vk::PhysicalDeviceImageFormatInfo2::default()
        .format(format)
        .ty(vk::ImageType::TYPE_2D)
        .tiling(vk::ImageTiling::DRM_FORMAT_MODIFIER_EXT)
        .usage(usage)
        .push_next(&mut modifier)
        .push_next(&mut external);
    let mut answer = vk::ExternalImageFormatProperties::default();
    let mut properties = vk::ImageFormatProperties2::default().push_next(&mut answer);
    // SAFETY: memory: both chains live during the call. Contract: the physical device is this instance's; it has the
    // extensions of the structures.
    let asked = unsafe { instance.get_physical_device_image_format_properties2(physical, &info, &mut properties) };
    asked.map_err(|e| {
        format!("the driver does not have such images (vkGetPhysicalDeviceImageFormatProperties2: {e})")
    })?;
    let most = properties.image_format_properties.max_extent;
    if plane.size.width > most.width || plane.size.height > most.height {
        return Err(format!("images have {}x{} samples at most", most.width, most.height));
    }
    let features = answer.external_memory_properties.external_memory_features;
    match features.contains(vk::ExternalMemoryFeatureFlags::IMPORTABLE) {
        true => Ok(()),
        false => Err("the driver does not import such images".into()),
    }
}

/// The modifiers that the driver has for a format.
fn modifiers(
    instance: &ash::Instance,
    physical: vk::PhysicalDevice,
    format: vk::Format,
) -> Vec<vk::DrmFormatModifierPropertiesEXT> {
    let mut found = Vec::new();
    // The first call counts them.
    for _ in 0..2 {
        let mut list = vk::DrmFormatModifierPropertiesListEXT::default();
        if !found.is_empty() {
            list = list.drm_format_modifier_properties(&mut found);
        }
        let mut properties = vk::FormatProperties2::default().push_next(&mut list);
        // SAFETY: memory: the chain lives during the call, and the list has the length that it states. Contract: the
        // physical device is this instance's, and has the extension.
        unsafe { instance.get_physical_device_format_properties2(physical, format, &mut properties) };
        let count = list.drm_format_modifier_count as usize;
        found.resize(count, vk::DrmFormatModifierPropertiesEXT::default());
    }
    found
}
