//! The CPU as a converter, for boards without a 2D engine and as the reference for other backends.
//!
//! It works in bands of rows in private memory that fits the cache, so no slice ever covers shared pixels. It enlarges
//! by bilinear interpolation, and reduces by the mean of the pixels that an output pixel covers. A chroma sample lies
//! in the middle of its pixels. Exception: in subsampled pictures of odd width or height that are flipped or rotated,
//! it lies up to a pixel aside. Matrix and range follow the layouts' colorimetry. Primaries and transfer functions are
//! not converted.

mod bands;
mod blend;
pub(super) mod color;
mod fetch;
mod resample;
pub(super) mod samples;
#[cfg(feature = "simd")]
mod simd;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::dmabuf::DEFAULT_WAIT;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{FourCc, Layout, Size};
use crate::frame::{Frame, FrameMut};
use crate::station::{sealed, Received, Station, SubmitResult, Submitted};
use crate::sys::wait;

use super::converter::{Converter, ConverterEvent};
use super::finished::Finished;
use super::plan::{meta, Plan, Step};

/// The largest factor by which a side can be enlarged or reduced.
const MAX_SCALE: u32 = 64;

/// Counts of a [`Cpu`] converter since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuStats {
    /// Frames that were finished.
    pub frames: u64,
    /// Bytes that were read from sources, and from targets that keep old pixels.
    pub bytes_read: u64,
    /// Bytes that were copied into targets.
    pub bytes_written: u64,
}

/// The CPU backend. [`Converter::try_submit`] does the work in the caller's thread before it returns. The call waits at
/// most [`DEFAULT_WAIT`], one second, for devices that still use the buffers of the job. This backend enlarges or
/// reduces a side by a factor of at most 64.
///
/// Of the 10 or 12 bits of P010 and P012 it uses the upper 8. It does not write these formats.
///
/// ```
/// use std::sync::Arc;
/// use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
/// use framelease::dmabuf::Allocator;
/// use framelease::format::{Flip, FourCc, Layout, Size};
/// use framelease::frame::Pool;
/// use framelease::Station;
///
/// # fn main() -> framelease::Result<()> {
/// let layout = Layout::packed(FourCc::NV12, Size::new(64, 48))?;
/// let pool = Pool::new(&Allocator::Memfd, layout, 2)?;
/// let plan = Plan::new(&Request::convert(Layer::default().flip(Flip::Vertical)), &[layout], &layout)?;
/// let mut cpu = Cpu::new()?;
/// if let (Some(source), Some(target)) = (pool.try_acquire(), pool.try_acquire()) {
///     let _ = cpu.try_submit(&Arc::new(plan), &[source.freeze_full(0, 0)], target)?;
/// }
/// assert!(cpu.try_recv()?.frame().is_some());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Cpu {
    finished: Finished,
    scratch: bands::Scratch,
    #[cfg(feature = "simd")]
    simd_scratch: simd::Scratch,
    prepared: Option<(Arc<Plan>, Way)>,
    stats: CpuStats,
}

/// How a plan is carried out.
#[derive(Debug)]
enum Way {
    Plain(bands::Prepared),
    #[cfg(feature = "simd")]
    Simd(simd::Prepared),
}

impl Way {
    fn of(plan: &Arc<Plan>) -> Result<Self> {
        #[cfg(feature = "simd")]
        if let Some(prepared) = simd::Prepared::new(plan) {
            return Ok(Self::Simd(prepared));
        }
        bands::Prepared::new(plan).map(Self::Plain)
    }
}

impl Cpu {
    /// Creates a converter with one file descriptor and no thread.
    ///
    /// # Errors
    /// Errors of `eventfd`.
    pub fn new() -> Result<Self> {
        Ok(Self {
            finished: Finished::new()?,
            scratch: bands::Scratch::default(),
            #[cfg(feature = "simd")]
            simd_scratch: simd::Scratch::default(),
            prepared: None,
            stats: CpuStats::default(),
        })
    }

    /// Returns counts of frames and bytes since the converter was created.
    pub fn stats(&self) -> CpuStats {
        self.stats
    }

    fn draw(&mut self, plan: &Arc<Plan>, sources: &[Frame], target: &mut FrameMut) -> Result<()> {
        plan.check_frames(sources, target)?;
        self.check(plan)?;
        let way = match &mut self.prepared {
            Some((last, way)) if Arc::ptr_eq(last, plan) => way,
            other => &mut other.insert((Arc::clone(plan), Way::of(plan)?)).1,
        };
        let deadline = wait::deadline(DEFAULT_WAIT);
        let reads = sources.iter().map(|s| s.read(wait::remaining(deadline))).collect::<Result<Vec<_>>>()?;
        let left = wait::remaining(deadline);
        let mut write = if plan.keeps_old() { target.write_over(left)? } else { target.write(left)? };
        let height = plan.target().size().height as usize;
        let bands = |rows: usize| (0..height).step_by(rows).map(move |top| (top, (top + rows).min(height)));
        let (read, written) = match way {
            Way::Plain(prepared) => {
                let scratch = &mut self.scratch;
                for band in bands(prepared.rows_per_band()) {
                    prepared.band(scratch, &reads, &mut write, band)?;
                }
                (&mut scratch.read, &mut scratch.written)
            }
            #[cfg(feature = "simd")]
            Way::Simd(prepared) => {
                let scratch = &mut self.simd_scratch;
                for band in bands(prepared.rows_per_band()) {
                    prepared.band(scratch, &reads, &mut write, band)?;
                }
                (&mut scratch.read, &mut scratch.written)
            }
        };
        self.stats.frames += 1;
        self.stats.bytes_read += std::mem::take(read);
        self.stats.bytes_written += std::mem::take(written);
        Ok(())
    }
}

impl Converter for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn check(&self, plan: &Plan) -> Result<()> {
        let unsupported = |text: String| Err(Error::new(ErrorKind::Unsupported, "convert", text).on("cpu"));
        if let Some(source) = plan.sources().iter().find(|layout| samples::groups(layout).is_none()) {
            return unsupported(format!("this backend does not support {}", source.fourcc()));
        }
        if samples::target_groups(plan.target()).is_none() {
            return unsupported(format!("this backend does not write {}", plan.target().fourcc()));
        }
        for step in plan.steps() {
            let Step::Draw(draw) = step else { continue };
            let (from, to) = (draw.upright(), draw.place.size);
            let far = |a: u32, b: u32| a.max(b) > a.min(b).saturating_mul(MAX_SCALE);
            if far(from.width, to.width) || far(from.height, to.height) {
                return unsupported(format!("{from} to {to}: a side would be scaled by more than {MAX_SCALE}"));
            }
        }
        Ok(())
    }

    fn target_layout(&self, fourcc: FourCc, size: Size) -> Result<Layout> {
        // The alignment also keeps chroma rows of odd widths whole.
        Layout::aligned(fourcc, size, 4)
    }

    fn try_submit(&mut self, plan: &Arc<Plan>, sources: &[Frame], mut target: FrameMut) -> SubmitResult<FrameMut> {
        if self.finished.is_full() {
            return Ok(Submitted::Full(target));
        }
        if let Err(error) = self.draw(plan, sources, &mut target) {
            return Err(Rejected { error, item: target });
        }
        let meta = meta(&plan.carried(sources[0].meta()), &target);
        self.finished.push(target.freeze(meta));
        Ok(Submitted::Taken)
    }

    fn in_flight(&self) -> usize {
        self.finished.len()
    }

    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }
}

impl sealed::Sealed for Cpu {}

impl Station for Cpu {
    type Event = ConverterEvent;

    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<ConverterEvent>> {
        Ok(self.finished.pop().map(ConverterEvent::Frame).into())
    }
}

impl AsFd for Cpu {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.finished.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmabuf::Allocator;
    use crate::frame::Pool;

    pub(super) fn noise(plane: usize, row: u32, at: usize) -> u8 {
        ((plane as u32 * 77 + row * 251 + at as u32 * 31).wrapping_mul(0x9e37_79b1) >> 24) as u8
    }

    pub(super) fn frame(layout: Layout, byte: impl Fn(usize, u32, usize) -> u8) -> Frame {
        let mut frame = Pool::new(&Allocator::Memfd, layout, 1).unwrap().try_acquire().unwrap();
        {
            let mut write = frame.write(DEFAULT_WAIT).unwrap();
            for plane in 0..layout.planes().len() {
                for row in 0..layout.rows(plane) {
                    let bytes: Vec<u8> = (0..layout.row_bytes(plane) as usize).map(|at| byte(plane, row, at)).collect();
                    write.copy_row(plane, row, &bytes).unwrap();
                }
            }
        }
        frame.freeze_full(0, 0)
    }

    /// Returns all rows of all planes, without padding.
    pub(super) fn draw(plan: &Arc<Plan>, way: Way, source: &Frame) -> Vec<u8> {
        let mut cpu = Cpu::new().unwrap();
        cpu.prepared = Some((Arc::clone(plan), way));
        let target = Pool::new(&Allocator::Memfd, *plan.target(), 1).unwrap().try_acquire().unwrap();
        assert!(cpu.try_submit(plan, std::slice::from_ref(source), target).unwrap().is_taken());
        let mut out = Vec::new();
        cpu.try_recv().unwrap().frame().unwrap().read(DEFAULT_WAIT).unwrap().write_to(&mut out).unwrap();
        out
    }
}
