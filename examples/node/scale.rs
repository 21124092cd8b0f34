//! Between a camera and an encoder that want different pictures: a device that converts, never the CPU.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use framelease::codec::Encoder;
use framelease::convert::{candidates, first_of, Converter, ConverterEvent, Layer, Plan, Request};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Size};
use framelease::frame::{Frame, Pool};
use framelease::{Error, Received};

use super::camera_encoder::{encoded_layout, encoder, Ends};
use super::common;
use super::source::{self, Source, Wish};

/// Pictures between the two.
const PICTURES: usize = 4;

pub struct Scaler {
    converter: Box<dyn Converter>,
    plan: Arc<Plan>,
    pool: Pool,
    pub frames: u64,
    /// Frames that the device had no room for.
    pub skipped: u64,
}

/// Opens a camera with pictures of its own, an encoder, and what makes the one's of the other's.
pub fn open(o: &Ends, size: Size, fourcc: FourCc) -> common::Result<(Source, Scaler, Encoder)> {
    let wish = Wish { device: o.camera.clone(), size, fourcc, fps: o.fps, buffers: o.buffers };
    let source = source::open(&wish)?;
    let device = encoder(o)?;
    let from = *source.buffers()?.layout();
    let to = encoded_layout(o, &device)?.with_colorimetry(from.colorimetry());
    let plan = Plan::new(&Request::convert(Layer::default()), &[from], &to)?;
    let devices = candidates().filter(|c| match c {
        Ok(converter) => converter.name() != "cpu",
        Err(refusal) => refusal.backend != "cpu",
    });
    let converter = first_of(&plan, devices)?.converter;
    let pool = Pool::new(&Allocator::for_devices()?, to, PICTURES)?;
    let encoder = Encoder::builder(o.params()).device(device).open(pool.buffers())?;
    Ok((source, Scaler { converter, plan: Arc::new(plan), pool, frames: 0, skipped: 0 }, encoder))
}

impl Scaler {
    pub fn name(&self) -> &str {
        self.converter.name()
    }

    pub fn submit(&mut self, frame: Frame) -> common::Result<()> {
        // All pictures are on their way: what comes then is not waited for.
        let Some(target) = self.pool.try_acquire() else {
            self.skipped += 1;
            return Ok(());
        };
        let submitted = self.converter.try_submit(&self.plan, &[frame], target).map_err(Error::from)?;
        self.skipped += u64::from(!submitted.is_taken());
        Ok(())
    }

    /// The next picture, if it is finished.
    pub fn try_done(&mut self) -> common::Result<Option<Frame>> {
        match self.converter.try_recv()? {
            Received::Item(ConverterEvent::Frame(frame)) => {
                self.frames += 1;
                Ok(Some(frame))
            }
            Received::Item(ConverterEvent::Failed { error, .. } | ConverterEvent::Lost(error)) => Err(error.into()),
            _ => Ok(None),
        }
    }

    pub fn is_busy(&self) -> bool {
        self.converter.in_flight() > 0
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.converter.as_fd()
    }
}
