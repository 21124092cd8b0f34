//! Where pictures are drawn: the buffers of a display, or memory from which a PNG is written.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::drm::{Device, LayerRequirements, PlaneLayer, Scanout, ScanoutEvent};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, FrameMut, Pool};
use framelease::{ErrorKind, Received, Station};

use crate::common::Result;
use crate::gpu::Gpu;
use crate::planes;
use crate::vulkan::{Image, Use};

/// The bytes of pixels, from the first: blue, green, red, padding.
const DRAWN: FourCc = FourCc::XBGR32;
/// One is shown, one is on its way, one is drawn.
const BUFFERS: usize = 3;
/// A multiple of this is a stride that GPUs draw with.
const STRIDE: u32 = 256;

enum Place {
    Display(Box<Scanout>, PlaneLayer),
    /// The last frame goes into the file.
    Memory(PathBuf, Option<Frame>),
}

pub struct Output {
    place: Place,
    pool: Pool,
    size: Size,
    images: Vec<Option<Image>>,
}

impl Output {
    /// Opens a display.
    pub fn display(path: Option<&Path>) -> Result<Self> {
        let mut builder = Scanout::builder();
        if let Some(path) = path {
            builder = builder.device(&Device::open(path)?);
        }
        let mut screen = builder.open()?;
        let size = screen.size();
        let layer = screen.add_layer(&LayerRequirements::new([DRAWN], size))?;
        let pool = screen.device().dumb_pool(DRAWN, size, BUFFERS)?;
        Ok(Self { place: Place::Display(Box::new(screen), layer), pool, size, images: Vec::new() })
    }

    /// Allocates memory that GPUs can import.
    pub fn png(path: &Path, size: Size) -> Result<Self> {
        let layout = Layout::aligned(DRAWN, size, STRIDE)?;
        let pool = Pool::new(&Allocator::for_devices()?, layout, 2)?;
        Ok(Self { place: Place::Memory(path.into(), None), pool, size, images: Vec::new() })
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// A free buffer to draw into.
    pub fn target(&self) -> Option<FrameMut> {
        self.pool.try_acquire()
    }

    /// The buffer on the GPU. Each is imported once.
    pub fn image(&mut self, target: &FrameMut, gpu: &Gpu) -> Result<&Image> {
        if self.images.len() <= target.slot() {
            self.images.resize_with(target.slot() + 1, || None);
        }
        let slot = &mut self.images[target.slot()];
        let image = match slot.take() {
            Some(image) => image,
            None => gpu.link.import(&planes::of_target(target)?, Use::Draw)?,
        };
        Ok(slot.insert(image))
    }

    /// Takes what was drawn.
    pub fn give(&mut self, drawn: Frame) -> Result<()> {
        match &mut self.place {
            Place::Memory(_, last) => *last = Some(drawn),
            Place::Display(screen, layer) => match screen.stage(*layer, drawn) {
                // Until it is back, there is nothing to show frames on.
                Err(rejected) if rejected.error.kind() == ErrorKind::DeviceLost => {}
                staged => drop(staged?),
            },
        }
        Ok(())
    }

    /// Shows what was drawn, and takes the display's events.
    pub fn dispatch(&mut self) -> Result<()> {
        let Place::Display(screen, _) = &mut self.place else { return Ok(()) };
        while let Received::Item(event) = screen.try_recv()? {
            match event {
                ScanoutEvent::Lost(e) => eprintln!("waiting: {e}"),
                ScanoutEvent::Returned => eprintln!("the display is back"),
                _ => {}
            }
        }
        match screen.try_present() {
            Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::DeviceLost) => {
                Err(format!("the display cannot be used any more: {e}").into())
            }
            // Without room, the descriptor says when there is.
            presented => presented.map(drop).map_err(Into::into),
        }
    }

    /// The display's descriptor.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        match &self.place {
            Place::Display(screen, _) => Some(screen.as_fd()),
            Place::Memory(..) => None,
        }
    }

    /// Writes the file, and returns how many frames the display has shown.
    pub fn finish(self) -> Result<u64> {
        match self.place {
            Place::Display(screen, _) => Ok(screen.stats().flips),
            Place::Memory(path, last) => {
                let frame = last.ok_or("no frame was drawn")?;
                write(&path, &frame).map_err(|e| format!("{}: {e}", path.display()))?;
                Ok(0)
            }
        }
    }
}

fn write(path: &Path, frame: &Frame) -> Result<()> {
    let (size, read) = (frame.layout().size(), frame.read(DEFAULT_WAIT)?);
    let mut bytes = Vec::new();
    read.write_to(&mut bytes)?;
    let rgb: Vec<u8> = bytes.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    let mut encoder = png::Encoder::new(File::create(path)?, size.width, size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&rgb)?;
    Ok(())
}
