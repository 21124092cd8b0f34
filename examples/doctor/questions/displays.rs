//! What a display answers to test commits, and to one frame.

use std::time::Duration;

use framelease::dmabuf::Allocator;
use framelease::drm::{Device, LayerRequirements, PlaneLayer, Scanout};
use framelease::format::{ColorSpace, Colorimetry, Encoding, FourCc, Layout, Range, Rect, Size};
use framelease::frame::Pool;

use super::super::common::Result;
use super::super::options::Options;
use super::super::paths::FORMATS;
use super::paint::{moved, OFFSET};
use super::{reply, unasked, Reply};

const WAIT: Duration = Duration::from_secs(5);

fn open(node: &str) -> Result<Scanout> {
    Ok(Scanout::builder().device(&Device::open(node)?).open()?)
}

fn half(size: Size) -> Size {
    Size::new((size.width / 2) & !15, (size.height / 2) & !15)
}

fn named(layer: PlaneLayer) -> String {
    format!("{:?} plane {} takes {}", layer.kind(), layer.plane_id(), layer.fourcc())
}

pub fn nv12(_: &Options, node: &str) -> Result<Reply> {
    let mut screen = open(node)?;
    let size = screen.size();
    match screen.add_layer(&LayerRequirements::new([FourCc::NV12], size)) {
        Ok(layer) => reply("yes", named(layer)),
        Err(e) => reply("no", format!("no: {e}")),
    }
}

pub fn scaling(_: &Options, node: &str) -> Result<Reply> {
    let mut screen = open(node)?;
    let size = screen.size();
    let wish = LayerRequirements::new(FORMATS, half(size)).destination(Rect::from(size));
    match screen.add_layer(&wish) {
        Ok(layer) => reply("yes", format!("{} and doubles its size", named(layer))),
        Err(e) => reply("no", format!("no: {e}")),
    }
}

pub fn memory(_: &Options, node: &str) -> Result<Reply> {
    let mut screen = open(node)?;
    let size = screen.size();
    let layer = screen.add_layer(&LayerRequirements::new(FORMATS, size))?;
    let allocator = Allocator::for_devices()?;
    let pool = Pool::new(&allocator, Layout::aligned(layer.fourcc(), size, 64)?, 1)?;
    let frame = pool.try_acquire().ok_or("the buffer is leased")?.freeze_full(0, 0);
    match screen.present_frame(layer, frame, WAIT) {
        Ok(_) => {
            let _ = screen.present(WAIT)?;
            reply("yes", format!("yes, {} of {allocator}", layer.fourcc()))
        }
        Err(e) => reply("no", format!("not of {allocator}: {}", e.error)),
    }
}

pub fn offset(_: &Options, node: &str) -> Result<Reply> {
    let mut screen = open(node)?;
    let size = screen.size();
    let layer = screen.add_layer(&LayerRequirements::new(FORMATS, size))?;
    let plain = Layout::aligned(layer.fourcc(), size, 64)?;
    let pool = Pool::new(&Allocator::for_devices()?, moved(&plain)?, 1)?;
    let frame = pool.try_acquire().ok_or("the buffer is leased")?.freeze_full(0, 0);
    match screen.present_frame(layer, frame, WAIT) {
        Ok(_) => {
            let _ = screen.present(WAIT)?;
            reply(
                "yes",
                format!("yes, {} at {OFFSET}; whether it is the right picture, only eyes can see", plain.fourcc()),
            )
        }
        Err(e) => reply("no", format!("no: {}", e.error)),
    }
}

pub fn colors(_: &Options, node: &str) -> Result<Reply> {
    let mut taken = Vec::new();
    let mut refused = Vec::new();
    for (encoding, range) in [
        (Encoding::Bt601, Range::Limited),
        (Encoding::Bt601, Range::Full),
        (Encoding::Bt709, Range::Limited),
        (Encoding::Bt709, Range::Full),
    ] {
        let mut screen = open(node)?;
        let size = screen.size();
        let Ok(layer) = screen.add_layer(&LayerRequirements::new([FourCc::NV12], size)) else {
            return unasked("no plane takes NV12");
        };
        let color = Colorimetry { space: ColorSpace::Default, encoding, range, ..Colorimetry::default() };
        let layout = Layout::aligned(FourCc::NV12, size, 64)?.with_colorimetry(color);
        let pool = Pool::new(&Allocator::for_devices()?, layout, 1)?;
        let frame = pool.try_acquire().ok_or("the buffer is leased")?.freeze_full(0, 0);
        let name = format!("{encoding:?} {range:?}");
        match screen.present_frame(layer, frame, WAIT) {
            Ok(_) => taken.push(name),
            Err(e) => refused.push(format!("{name}: {}", e.error)),
        }
        let _ = screen.present(WAIT);
    }
    let text = format!("takes {}; refuses {}", taken.join(", "), refused.join("; "));
    reply(&taken.join(", "), text)
}
