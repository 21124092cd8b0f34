//! The GPU: choosing a device, and drawing a picture with a label.

use std::sync::{Arc, Mutex};

use framelease::format::{FormatKind, Layout, Rect, Size};
use wgpu::util::DeviceExt;

use crate::color;
use crate::common::Result;
use crate::vulkan::{lacks, Device, Image};

/// The bytes of `Facts` in the shader.
const FACTS: usize = 64;

pub struct Gpu {
    pub link: Device,
    pub name: String,
    sampler: wgpu::Sampler,
    facts: wgpu::Buffer,
    group_layout: wgpu::BindGroupLayout,
    picture: wgpu::RenderPipeline,
    label: wgpu::RenderPipeline,
    /// The first error that wgpu has reported.
    failed: Arc<Mutex<Option<String>>>,
}

/// A picture's planes on the GPU.
pub struct Picture {
    images: Vec<Image>,
    group: wgpu::BindGroup,
    layout: Layout,
}

impl Gpu {
    /// Opens the device whose name has this part, or the first GPU that can import dma-bufs.
    pub fn open(name: Option<&str>) -> Result<Self> {
        let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
        desc.backends = wgpu::Backends::VULKAN;
        desc.flags = wgpu::InstanceFlags::empty();
        let instance = wgpu::Instance::new(desc);
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
        if adapters.is_empty() {
            let text = "no Vulkan device: is a driver installed (Debian: libvulkan1, mesa-vulkan-drivers)?";
            return Err(format!("{text} vulkaninfo --summary lists devices").into());
        }
        let mut refused = Vec::new();
        for adapter in &adapters {
            let info = adapter.get_info();
            let why = match name {
                Some(name) if !info.name.contains(name) => "has another name".to_owned(),
                None if info.device_type == wgpu::DeviceType::Cpu => {
                    "works on the CPU; name it to use it nevertheless".to_owned()
                }
                _ => match lacks(adapter) {
                    Some(what) => format!("lacks {what}"),
                    None => match Self::with(adapter) {
                        Ok(gpu) => return Ok(gpu),
                        Err(e) => e.to_string(),
                    },
                },
            };
            refused.push(format!("{} ({}) {why}", info.name, info.driver));
        }
        Err(format!("no Vulkan device to draw with: {}", refused.join("; ")).into())
    }

    fn with(adapter: &wgpu::Adapter) -> Result<Self> {
        let link = Device::open(adapter)?;
        let device = &link.device;
        let failed: Arc<Mutex<Option<String>>> = Arc::default();
        let keep = Arc::clone(&failed);
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            if let Ok(mut first) = keep.lock() {
                first.get_or_insert(e.to_string());
            }
        }));
        let keep = Arc::clone(&failed);
        device.set_device_lost_callback(move |reason, text| {
            if let (wgpu::DeviceLostReason::Unknown, Ok(mut first)) = (reason, keep.lock()) {
                first.get_or_insert(format!("the GPU is lost: {text}"));
            }
        });
        let sampler = device.create_sampler(&wgpu::SamplerDescriptor {
            mag_filter: wgpu::FilterMode::Linear,
            min_filter: wgpu::FilterMode::Linear,
            ..Default::default()
        });
        let facts = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: &[0; FACTS],
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        });
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::FRAGMENT,
            ty,
            count: None,
        };
        let plane = |binding| {
            entry(
                binding,
                wgpu::BindingType::Texture {
                    sample_type: wgpu::TextureSampleType::Float { filterable: true },
                    view_dimension: wgpu::TextureViewDimension::D2,
                    multisampled: false,
                },
            )
        };
        let group_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: None,
            entries: &[
                entry(
                    0,
                    wgpu::BindingType::Buffer {
                        ty: wgpu::BufferBindingType::Uniform,
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    },
                ),
                entry(1, wgpu::BindingType::Sampler(wgpu::SamplerBindingType::Filtering)),
                plane(2),
                plane(3),
                plane(4),
            ],
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&group_layout)],
            immediate_size: 0,
        });
        let shader = device.create_shader_module(wgpu::include_wgsl!("shader.wgsl"));
        let pipeline = |entry, blend| {
            device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
                label: None,
                layout: Some(&layout),
                vertex: wgpu::VertexState {
                    module: &shader,
                    entry_point: Some("corner"),
                    compilation_options: Default::default(),
                    buffers: &[],
                },
                primitive: Default::default(),
                depth_stencil: None,
                multisample: Default::default(),
                fragment: Some(wgpu::FragmentState {
                    module: &shader,
                    entry_point: Some(entry),
                    compilation_options: Default::default(),
                    targets: &[Some(wgpu::ColorTargetState {
                        format: wgpu::TextureFormat::Bgra8Unorm,
                        blend,
                        write_mask: wgpu::ColorWrites::ALL,
                    })],
                }),
                multiview_mask: None,
                cache: None,
            })
        };
        let (picture, label) = (pipeline("picture", None), pipeline("label", Some(wgpu::BlendState::ALPHA_BLENDING)));
        let name = adapter.get_info().name;
        let gpu = Self { name, sampler, facts, group_layout, picture, label, failed, link };
        gpu.check()?;
        Ok(gpu)
    }

    /// The first error of calls that return none.
    fn check(&self) -> Result<()> {
        match self.failed.lock().map_or(None, |mut first| first.take()) {
            Some(text) => Err(format!("{}: {text}", self.name).into()),
            None => Ok(()),
        }
    }

    /// Makes a picture of its planes, in their order.
    pub fn picture(&self, layout: &Layout, images: Vec<Image>) -> Result<Picture> {
        let views: Vec<wgpu::TextureView> = images.iter().map(Image::view).collect();
        let last = views.len().checked_sub(1).ok_or("a picture without planes")?;
        // What the picture does not have is not read.
        let view = |n: usize| wgpu::BindingResource::TextureView(&views[n.min(last)]);
        let resources =
            [self.facts.as_entire_binding(), wgpu::BindingResource::Sampler(&self.sampler), view(0), view(1), view(2)];
        let entries: Vec<_> =
            (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        let layout_of = wgpu::BindGroupDescriptor { label: None, layout: &self.group_layout, entries: &entries };
        let group = self.link.device.create_bind_group(&layout_of);
        self.check()?;
        Ok(Picture { images, group, layout: *layout })
    }

    /// Draws a picture into the middle of a target, and a number above it. Returns when the GPU has finished.
    pub fn draw(&self, picture: &Picture, target: &Image, size: Size, number: Option<u64>) -> Result<()> {
        // As many digits as there is room for.
        let (cell, digits) = (f32::max(1.0, (size.width / 160) as f32), number.map_or(1, digits));
        let number = number.map(|n| (n % 1_000_000_000) as u32);
        let facts = facts(&picture.layout, number.unwrap_or(0), digits);
        self.link.queue.write_buffer(&self.facts, 0, &facts);
        let mut encoder = self.link.device.create_command_encoder(&Default::default());
        let view = target.view();
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::BLACK), store: wgpu::StoreOp::Store },
            })],
            ..Default::default()
        });
        pass.set_bind_group(0, &picture.group, &[]);
        pass.set_pipeline(&self.picture);
        let Rect { left: x, top: y, size: fitted } = middle(picture.layout.size(), size);
        pass.set_viewport(x as f32, y as f32, fitted.width as f32, fitted.height as f32, 0.0, 1.0);
        pass.draw(0..3, 0..1);
        let (width, height) = (cell * (4 * digits + 1) as f32, cell * 7.0);
        let has_room = width + 2.0 * cell <= size.width as f32 && height + 2.0 * cell <= size.height as f32;
        if number.is_some() && has_room {
            pass.set_pipeline(&self.label);
            pass.set_viewport(cell, cell, width, height, 0.0, 1.0);
            pass.draw(0..3, 0..1);
        }
        drop(pass);
        let done = self.link.submit(picture.images.iter().chain([target]), encoder.finish());
        self.check()?;
        done
    }
}

/// The digits of a number, 9 at most.
fn digits(number: u64) -> u32 {
    number.checked_ilog10().map_or(1, |n| n + 1).min(9)
}

/// The bytes of `Facts`.
fn facts(layout: &Layout, number: u32, digits: u32) -> [u8; FACTS] {
    let info = layout.fourcc().info();
    let is_rgb = info.is_some_and(|info| info.kind == FormatKind::Rgb);
    let kind = if is_rgb { 0 } else { layout.planes().len() as u32 };
    let swapped = info
        .is_some_and(|i| matches!(i.name.trim_end_matches('M'), "NV21" | "NV61" | "NV42") || i.name.starts_with("YVU"));
    let words = color::matrix(layout).into_iter().flatten().map(f32::to_bits);
    let words = words.chain([kind, swapped.into(), number, digits]);
    let mut bytes = [0; FACTS];
    bytes.chunks_exact_mut(4).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
    bytes
}

/// The largest rectangle with the shape of `picture` in `target`, in its middle.
fn middle(picture: Size, target: Size) -> Rect {
    let part = |side: u32, n: u32, of: u32| (u64::from(side) * u64::from(n) / u64::from(of.max(1))).max(1) as u32;
    let by_width = Size::new(target.width, part(picture.height, target.width, picture.width));
    let by_height = Size::new(part(picture.width, target.height, picture.height), target.height);
    let size = if by_width.height <= target.height { by_width } else { by_height };
    Rect::new(((target.width - size.width) / 2) as i32, ((target.height - size.height) / 2) as i32, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_keeps_its_shape_in_the_middle() {
        let rect = |picture: (u32, u32), target: (u32, u32)| {
            let at = middle(Size::new(picture.0, picture.1), Size::new(target.0, target.1));
            (at.left, at.top, at.size.width, at.size.height)
        };
        assert_eq!(rect((640, 360), (640, 480)), (0, 60, 640, 360));
        assert_eq!(rect((480, 640), (640, 480)), (140, 0, 360, 480));
        assert_eq!(rect((35, 21), (35, 21)), (0, 0, 35, 21));
        assert_eq!(rect((1, 30_000), (640, 480)), (319, 0, 1, 480));
    }

    #[test]
    fn number_has_digits() {
        assert_eq!([0, 9, 10, 123, u64::MAX].map(digits), [1, 1, 2, 3, 9]);
    }
}
