//! V4L2 mem-to-mem converters: i.MX ISI and PXP, Rockchip RGA, vim2m. Both queues use dma-bufs, without a copy.

mod colors;
mod setup;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dmabuf::MemoryKind;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{FourCc, Layout, Size};
use crate::frame::{Frame, FrameFlags, FrameMeta, FrameMut, PoolId};
use crate::station::{sealed, Received, Station, SubmitResult, Submitted};
use crate::sys::wait;
use crate::v4l2::{mem_to_mem_devices, Device, Direction, FormatRequest, MemToMem, MemToMemInfo, Processed};

use super::converter::{opened, Candidate, Converter, ConverterEvent, Refusal};
use super::plan::{meta, Plan};
use setup::{unsupported, Setup};

/// The fewest indices of a queue, and so of jobs in flight, if the first pools are smaller. An index costs little.
const LEAST_INDICES: usize = 4;

/// A V4L2 mem-to-mem scaler, rotator or color converter.
///
/// It draws one source, whole or cropped, into one target. The device's formats, sizes, controls and selections decide
/// which plans it can carry out, and [`Converter::check`] refuses all others:
///
/// - scaling: different sizes on both queues;
/// - a crop: `V4L2_SEL_TGT_CROP` on the output queue;
/// - a place within the target: `V4L2_SEL_TGT_COMPOSE` on the capture queue;
/// - orientation: the controls `V4L2_CID_HFLIP`, `V4L2_CID_VFLIP` and `V4L2_CID_ROTATE` (taken as clockwise).
///
/// The first job sets the device up for the job's plan. If a later job has another plan, `try_submit` returns the job's
/// target in [`Submitted::Full`] until the caller has received the jobs in flight. Then the device is set up again, and
/// attaches the buffers again. If streams with several plans alternate, use one converter for each plan: every open of
/// the node has its own settings.
///
/// In steady state a job costs two QBUF and two DQBUF. Each queue gets at least 4 buffer indices, or one for each slot
/// of its first frame's pool if that pool has more slots. The number of indices also limits the jobs in flight. The
/// driver attaches each dma-buf once.
///
/// The lease of a source ends when the caller receives the job. If the driver returns the source later than the result,
/// the lease ends at the next call. Dropping the converter waits for the picture that the device works on, and ends all
/// leases. When the device is lost ([`ErrorKind::DeviceLost`]), the converter gives the targets back. The driver may
/// still write to these targets until the last handle of the device is dropped.
///
/// ```no_run
/// use framelease::convert::{Converter, Layer, M2m, Plan, Request};
/// use framelease::format::{FourCc, Layout, Size};
///
/// let converter = M2m::find()?;
/// let source = Layout::packed(FourCc::YUYV, Size::new(640, 480))?;
/// let target = converter.target_layout(FourCc::NV12, Size::new(320, 240))?;
/// let plan = Plan::new(&Request::convert(Layer::default()), &[source], &target)?;
/// converter.check(&plan)?;
/// # Ok::<(), framelease::Error>(())
/// ```
///
/// Sources: `dev-mem2mem.rst`, `selection-api-targets.rst`, `colorspaces-details.rst` of the kernel.
pub struct M2m {
    pair: MemToMem,
    device: Device,
    name: String,
    /// The plan that the device is set up for. If set, both queues have indices and stream.
    setup: Option<Setup>,
    jobs: VecDeque<Job>,
    /// A source was queued whose target was refused. The driver must not pair it with the next job's target.
    orphan: bool,
    /// The device was lost. Reported after the jobs that failed.
    lost: Option<Error>,
}

/// A job that was not returned yet.
struct Job {
    /// What its target takes from the source.
    meta: FrameMeta,
    /// The pool and the slot of its target.
    target: (PoolId, usize),
    end: Option<End>,
}

enum End {
    Done(Frame),
    Failed(Error, Option<FrameMut>),
}

impl M2m {
    /// Opens a device node. Ioctls: `VIDIOC_QUERYCAP`, `VIDIOC_ENUM_FMT`.
    ///
    /// # Errors
    /// Errors of [`Device::open`]. `Unsupported` if the node is not a mem-to-mem device, or if it encodes or decodes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(&Device::open(path)?)
    }

    /// Opens the first converter of the machine.
    ///
    /// # Errors
    /// `NotFound` if the machine has no converter. The text lists the mem-to-mem devices that were found.
    pub fn find() -> Result<Self> {
        Self::new(&Device::find_mem_to_mem("converter", MemToMemInfo::converts)?)
    }

    /// Takes both queues of an open device.
    ///
    /// # Errors
    /// `Unsupported` if the node is not a mem-to-mem device, or if it encodes or decodes. `Busy` if a queue of this
    /// handle is in use.
    pub fn new(device: &Device) -> Result<Self> {
        let info = MemToMemInfo::for_device(device)?;
        if !info.converts() {
            return Err(unsupported(format!("not a converter: its formats are {info}")).on(device));
        }
        let (device, pair, name) = (device.clone(), MemToMem::new(device)?, name(device));
        Ok(Self { pair, device, name, setup: None, jobs: VecDeque::with_capacity(64), orphan: false, lost: None })
    }

    /// Returns the device that the converter uses.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Checks a job before the device gets it, and sets the device up for its plan. `false`: jobs must be taken first.
    fn prepare(&mut self, plan: &Plan, sources: &[Frame], target: &FrameMut) -> Result<bool> {
        plan.check_frames(sources, target)?;
        let setup = Setup::of(plan)?;
        let source = &sources[0];
        if source.memory().iter().chain(target.memory()).any(|m| m.kind() != MemoryKind::DmaBuf) {
            return Err(Error::new(ErrorKind::WrongFile, "convert", "a memfd cannot be imported"));
        }
        if source.meta().payload.iter().any(|p| p.offset_bytes != 0) {
            // Most drivers ignore data_offset and would read the wrong pixels.
            return Err(unsupported("the source's data does not begin at the start of its buffer (data_offset)"));
        }
        if self.setup != Some(setup) {
            if !self.jobs.is_empty() {
                return Ok(false);
            }
            self.set_up(setup, source.buffers().slots(), target.buffers().slots())?;
        }
        self.settle_orphan()?;
        // If a target was refused, the driver must not pair its source with this job's target.
        Ok(!self.orphan && self.pair.output().free_slots() > 0 && self.pair.capture().free_slots() > 0)
    }

    fn set_up(&mut self, setup: Setup, sources: usize, targets: usize) -> Result<()> {
        self.setup = None;
        drop(self.pair.free());
        self.orphan = false;
        setup.apply(&self.device)?;
        let started = self
            .pair
            .output_mut()
            .import(sources.max(LEAST_INDICES))
            .and_then(|()| self.pair.capture_mut().import(targets.max(LEAST_INDICES)))
            .and_then(|()| self.pair.start());
        if let Err(e) = started {
            drop(self.pair.free());
            return Err(e);
        }
        self.setup = Some(setup);
        Ok(())
    }

    /// Takes the source without a target back, once the driver has nothing else.
    fn settle_orphan(&mut self) -> Result<()> {
        if self.orphan && self.pair.capture().queued() == 0 {
            self.pair.restart_output()?;
            self.orphan = false;
        }
        Ok(())
    }

    fn named(&self, error: Error) -> Error {
        error.on(&self.name)
    }

    /// Notes that a target came back filled.
    fn finish(&mut self, frame: Frame) {
        let target = (frame.buffers().id(), frame.slot());
        let Some(job) = self.jobs.iter_mut().find(|j| j.target == target && j.end.is_none()) else { return };
        let damaged = frame.meta().flags.contains(FrameFlags::ERROR);
        job.end = Some(match frame.into_unique() {
            Ok(frame) if damaged => {
                let text = "the device flags the result as damaged (V4L2_BUF_FLAG_ERROR)";
                let error = Error::new(ErrorKind::Os, "VIDIOC_DQBUF", text).on(&self.name);
                End::Failed(error, Some(frame))
            }
            Ok(frame) => {
                let meta = meta(&job.meta, &frame);
                End::Done(frame.freeze(meta))
            }
            // Unreachable: only the queue held the frame.
            Err(frame) => End::Done(frame),
        });
        // The source is back at the same time. Takes at most one per job, to save calls.
        while self.pair.output().queued() > self.pair.capture().queued() + usize::from(self.orphan) {
            match self.pair.try_source() {
                Ok(Some(_)) => {}
                // The next call on the capture queue reports the error.
                Ok(None) | Err(_) => break,
            }
        }
        // If the queue cannot be restarted, the next job reports why.
        let _ = self.settle_orphan();
    }

    /// Handles a failed device: ends every job in flight. The next job sets the device up again, if it is still there.
    fn fail(&mut self, error: &Error) {
        (self.setup, self.orphan) = (None, false);
        let targets = self.pair.free().empty;
        self.end_jobs(error, targets);
    }

    /// Ends every job in flight with an error, and gives these targets back.
    fn end_jobs(&mut self, error: &Error, targets: Vec<FrameMut>) {
        for frame in targets {
            let target = (frame.buffers().id(), frame.slot());
            if let Some(job) = self.jobs.iter_mut().find(|j| j.target == target && j.end.is_none()) {
                job.end = Some(End::Failed(error.clone(), Some(frame)));
            }
        }
        for job in self.jobs.iter_mut().filter(|j| j.end.is_none()) {
            job.end = Some(End::Failed(error.clone(), None));
        }
    }

    fn next_until(&mut self, deadline: Instant) -> Result<Received<ConverterEvent>> {
        loop {
            if self.jobs.front().is_some_and(|job| job.end.is_some()) {
                let end = self.jobs.pop_front().and_then(|job| job.end);
                return Ok(Received::Item(match end {
                    Some(End::Done(frame)) => ConverterEvent::Frame(frame),
                    Some(End::Failed(error, target)) => ConverterEvent::Failed { error, target },
                    None => continue,
                }));
            }
            if let Some(error) = self.lost.take() {
                return Ok(Received::Item(ConverterEvent::Lost(error)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pair.recv(left)? {
                Received::Item(Processed::Result { frame, .. }) => self.finish(frame),
                Received::Item(Processed::Lost(error)) => self.lose(error),
                Received::Item(Processed::Returned) => return Ok(Received::Item(ConverterEvent::Returned)),
                Received::Item(Processed::Source(_) | Processed::Event(_)) => {}
                Received::Nothing => return Ok(Received::Nothing),
                Received::Ended => {
                    let text = "the device reports the end of its stream";
                    let error = Error::new(ErrorKind::DeviceLost, "VIDIOC_DQBUF", text).on(&self.name);
                    self.pair.search_again();
                    self.lose(error);
                }
            }
        }
    }

    fn lose(&mut self, error: Error) {
        self.fail(&error);
        self.lost = Some(error);
        // The caller gets the failed jobs and the loss one at a time.
        self.pair.wake();
    }
}

impl Converter for M2m {
    fn name(&self) -> &str {
        &self.name
    }

    /// Asks the device: sets the formats on the open device if it is not set up yet, otherwise on a second open of its
    /// node.
    fn check(&self, plan: &Plan) -> Result<()> {
        let setup = Setup::of(plan).map_err(|e| self.named(e))?;
        match &self.setup {
            Some(now) if *now == setup => Ok(()),
            Some(_) => setup.apply(&Device::open(&self.device.info().path)?),
            None => setup.apply(&self.device),
        }
    }

    fn target_layout(&self, fourcc: FourCc, size: Size) -> Result<Layout> {
        // Uses another open of the node, because the output side limits the capture side.
        let device = Device::open(&self.device.info().path)?;
        let takes = device.formats(Direction::Output)?.into_iter().map(|o| o.fourcc);
        for source in takes.filter(|f| Layout::packed(*f, size).is_ok()) {
            if device.set_format(Direction::Output, &FormatRequest::new(source, size)).is_ok() {
                break;
            }
        }
        match device.try_format(Direction::Capture, &FormatRequest::new(fourcc, size)) {
            Ok(given) if given.size() == size => Ok(given.with_colorimetry(Default::default())),
            // `check` refuses an impossible layout, with the device's reason.
            _ => Layout::packed(fourcc, size).or_else(|_| Layout::aligned(fourcc, size, 4)),
        }
    }

    fn try_submit(&mut self, plan: &Arc<Plan>, sources: &[Frame], target: FrameMut) -> SubmitResult<FrameMut> {
        match self.prepare(plan, sources, &target) {
            Ok(true) => {}
            Ok(false) => return Ok(Submitted::Full(target)),
            Err(error) => {
                self.pair.refused(&error);
                return Err(Rejected { error, item: target });
            }
        }
        let meta = plan.carried(sources[0].meta());
        let place = (target.buffers().id(), target.slot());
        match self.pair.queue(sources[0].clone()) {
            Ok(Submitted::Taken) => {}
            Ok(Submitted::Full(_)) => return Ok(Submitted::Full(target)),
            Err(rejected) => return Err(Rejected { error: rejected.error, item: target }),
        }
        match self.pair.queue_empty(target) {
            Ok(Submitted::Taken) => {
                self.jobs.push_back(Job { meta, target: place, end: None });
                Ok(Submitted::Taken)
            }
            refused => {
                self.orphan = true;
                // If the queue cannot be restarted, the next job reports why.
                let _ = self.settle_orphan();
                refused
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// Opens the device again. The next job sets it up for its plan. Jobs that are still in flight come back as
    /// [`ConverterEvent::Failed`].
    fn reopen(&mut self) -> Result<()> {
        let targets = self.pair.reopen()?.empty;
        let text = "the device was opened again before the job was done";
        let error = Error::new(ErrorKind::DeviceLost, "reopen", text).on(&self.name);
        self.end_jobs(&error, targets);
        if !self.jobs.is_empty() {
            self.pair.wake();
        }
        (self.device, self.setup, self.orphan, self.lost) = (self.pair.device().clone(), None, false, None);
        self.name = name(&self.device);
        Ok(())
    }
}

impl sealed::Sealed for M2m {}

/// `dispatch`, `try_recv` and `recv` fail only if the kernel reports an error of the converter's own descriptors.
impl Station for M2m {
    type Event = ConverterEvent;

    fn dispatch(&mut self) -> Result<()> {
        self.pair.dispatch()
    }

    fn try_recv(&mut self) -> Result<Received<ConverterEvent>> {
        self.next_until(Instant::now())
    }

    fn recv(&mut self, timeout: Duration) -> Result<Received<ConverterEvent>> {
        self.next_until(wait::deadline(timeout))
    }
}

impl AsFd for M2m {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pair.as_fd()
    }
}

fn name(device: &Device) -> String {
    format!("m2m ({})", device.info().path.display())
}

impl fmt::Debug for M2m {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "M2m({}, {:?}, {} jobs)", self.device, self.setup, self.jobs.len())
    }
}

/// Returns every mem-to-mem converter of the machine, by number, or the reason why none was found.
pub(super) fn candidates() -> Vec<Candidate> {
    let converters: Vec<_> = mem_to_mem_devices().into_iter().filter(MemToMemInfo::converts).collect();
    if converters.is_empty() {
        let error = Error::new(ErrorKind::NotFound, "find", "found no mem-to-mem converter that can be opened");
        return vec![Err(Refusal { backend: "m2m".to_owned(), error })];
    }
    let open = |info: MemToMemInfo| {
        let path = info.device.path;
        opened(&format!("m2m ({})", path.display()), M2m::open(&path))
    };
    converters.into_iter().map(open).collect()
}
