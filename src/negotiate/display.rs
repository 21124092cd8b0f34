//! A display, and the converter in front of it if there is one.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use super::open::devices;
use crate::convert::{first_of, keep_ratio, Converter, ConverterEvent, Cpu, Layer, Plan, Request, Scaling};
use crate::dmabuf::{DmaBuf, MemoryKind};
use crate::drm::{Device, LayerRequirements, PlaneLayer, Scanout, ScanoutEvent};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{FormatKind, FourCc, Layout, Rect, Size};
use crate::frame::{BufferSet, Frame, Pool};
use crate::station::{sealed, wait_readable, Received, Station, Submit, SubmitResult, Submitted};
use crate::sys::readiness::Readiness;
use crate::sys::signal::Signal;
use crate::sys::wait::{self, Waited};

/// Tokens of the epoll.
const DISPLAY: u64 = 0;
const CONVERTER: u64 = 1;
const FOUND: u64 = 2;

/// Buffers between a converter and a display: one that is shown, one whose flip is pending, one to draw.
const BETWEEN: usize = 3;

/// Formats that displays usually show.
const SHOWN: [FourCc; 4] = [FourCc::NV12, FourCc::XBGR32, FourCc::ABGR32, FourCc::RGB565];

/// A [`Scanout`] that shows frames from elsewhere, such as the frames of a subscriber. It shows them directly, or
/// through a converter if no plane takes them. [`EncoderChain`](super::EncoderChain) does the same for an encoder.
///
/// With [`Scaling::Keep`] the picture is as large as possible, in the middle of the screen, with black margins. With
/// [`Scaling::Stretch`] it fills the screen. If a plane accepts the frames, it also scales them. Otherwise a converter
/// draws each frame into one of three dumb buffers of the display. The converter is a device if any device can convert
/// the frames. Otherwise the CPU converts them, in the calling thread.
///
/// A plane leases the frame that it shows until the flip to the next frame has completed. So set a subscriber's `hold`
/// to at least 3. A frame that is converted is leased until the converter has read it.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::convert::Scaling;
/// use framelease::drm::{Scanout, ScanoutEvent};
/// use framelease::negotiate::DisplayChain;
/// use framelease::share::{Subscriber, SubscriberEvent};
/// use framelease::{wait, Received, Station, Submit};
///
/// let subscriber = Subscriber::builder("/run/camera/socket").hold(3);
/// let mut subscriber = subscriber.connect(Duration::from_secs(5))?;
/// let first = loop {
///     if let Some(frame) = subscriber.recv(Duration::from_secs(5))?.frame() {
///         break frame;
///     }
/// };
/// let mut display = DisplayChain::open(Scanout::builder().open()?, first.buffers(), Scaling::Keep)?;
/// loop {
///     wait(&[&subscriber, &display], Duration::from_secs(5))?;
///     while let Received::Item(event) = subscriber.try_recv()? {
///         if let SubscriberEvent::Frame(frame) = event {
///             // Without room, this frame is not shown.
///             if let Err(rejected) = display.try_submit(frame) {
///                 eprintln!("{}", rejected.error);
///                 display.reopen(rejected.item.buffers())?;
///             }
///         }
///     }
///     while let Received::Item(event) = display.try_recv()? {
///         if let ScanoutEvent::Lost(error) = event {
///             eprintln!("{error}");
///         }
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct DisplayChain {
    /// Watches the display, the converter, and `signal`.
    readiness: Readiness,
    scanout: Scanout,
    /// `None` after a failed reopen.
    layer: Option<PlaneLayer>,
    between: Option<Between>,
    fit: Scaling,
    /// The converter's event that a call other than `try_recv` found. `signal` is set then.
    found: Option<Result<ScanoutEvent>>,
    signal: Signal,
}

/// The converter in front of the display.
struct Between {
    converter: Box<dyn Converter>,
    plan: Arc<Plan>,
    pool: Pool,
    /// A picture that the display does not accept now. The converter is not watched then.
    waiting: Option<Frame>,
    is_watched: bool,
}

impl DisplayChain {
    /// Takes a plane of the screen for frames in these buffers, and a converter if one is needed. The screen changes
    /// with the first frame.
    ///
    /// Ioctls: those of [`Scanout::add_layer`], one import of a buffer (`DRM_IOCTL_PRIME_FD_TO_HANDLE`,
    /// `DRM_IOCTL_MODE_ADDFB2`), and for a converter those of [`Device::dumb_pool`](crate::drm::Device::dumb_pool).
    ///
    /// # Errors
    /// If no plane and no converter accepts the frames, the error has the kind of the planes' error: `Unsupported`,
    /// `Busy`, or the kind of the driver's error for a buffer. The text has the reason of each plane and converter.
    /// `PermissionDenied` while another process is DRM master. `DeviceLost` after an unplug. `Exhausted` if the process
    /// has no descriptors left. After an error the scanout is dropped.
    pub fn open(scanout: Scanout, frames: &BufferSet, fit: Scaling) -> Result<Self> {
        let readiness = Readiness::new().map_err(|e| Error::os("epoll_create1", e))?;
        let signal = Signal::new().map_err(|e| Error::os("eventfd", e))?;
        let mut chain = Self { readiness, scanout, layer: None, between: None, fit, found: None, signal };
        chain.watch(&chain.scanout, DISPLAY)?;
        chain.watch(&chain.signal, FOUND)?;
        chain.set_up(frames)?;
        Ok(chain)
    }

    /// Opens the chain again for frames in these buffers. Call it after the layout of the frames has changed, and after
    /// the device of the display or of the converter was lost and has returned. The descriptor stays the same. Waits
    /// for a pending flip.
    ///
    /// After a change of layout, the old picture stays on the screen until the first new frame. If the display was
    /// lost, or came back with other modes, this call opens the display as [`Scanout::reopen`] does. The call also
    /// chooses a new converter.
    ///
    /// # Errors
    /// `Timeout` if the pending flip does not complete in half a second. Otherwise the errors of [`DisplayChain::open`]
    /// and [`Scanout::reopen`]. The call can be repeated. If the display was never lost, frames of the old layout can
    /// still be shown.
    pub fn reopen(&mut self, frames: &BufferSet) -> Result<()> {
        if self.scanout.wants_reopen() {
            self.end_between();
            self.scanout.reopen_without(self.layer.take())?;
        }
        self.set_up(frames)
    }

    /// Takes a new plane, and a converter if one is needed.
    fn set_up(&mut self, frames: &BufferSet) -> Result<()> {
        let (layer, between) = set_up(&mut self.scanout, self.layer, frames, self.fit)?;
        self.end_between();
        self.layer = Some(layer);
        if let Some(between) = between {
            self.watch(between.converter.as_fd(), CONVERTER)?;
            self.between = Some(between);
        }
        Ok(())
    }

    fn watch(&self, fd: impl AsFd, token: u64) -> Result<()> {
        self.readiness.add(fd, EpollFlags::EPOLLIN, token).map_err(|e| Error::os("epoll_ctl", e))
    }

    /// Returns the display, for its connector, size and counts.
    pub fn scanout(&self) -> &Scanout {
        &self.scanout
    }

    /// Returns the converter's name, if there is one.
    #[doc(hidden)]
    pub fn converter(&self) -> Option<&str> {
        self.between.as_ref().map(|between| between.converter.name())
    }

    /// Stops the converter and drops what it reported.
    fn end_between(&mut self) {
        if let Some(between) = self.between.take() {
            self.readiness.remove(between.converter.as_fd());
        }
        self.take_found();
    }

    fn take_found(&mut self) -> Option<Result<ScanoutEvent>> {
        let found = self.found.take();
        if found.is_some() {
            self.signal.clear();
        }
        found
    }

    /// Presents the waiting picture. Returns `false` if it still waits.
    fn present_waiting(&mut self) -> Result<bool> {
        let (Some(between), Some(layer)) = (&mut self.between, self.layer) else { return Ok(true) };
        let Some(frame) = between.waiting.take() else { return Ok(true) };
        let (waiting, presented) = match present(&mut self.scanout, layer, frame) {
            Ok(Submitted::Taken) => (None, Ok(true)),
            Ok(Submitted::Full(frame)) => (Some(frame), Ok(false)),
            Err(Rejected { error, item }) => (Some(item), Err(error)),
        };
        between.waiting = waiting;
        presented
    }

    /// Passes converted pictures to the display. Returns an event of the converter that the caller must know.
    fn pump(&mut self) -> Result<Option<ScanoutEvent>> {
        loop {
            // The next submit reports the reason why a picture must wait.
            if !self.present_waiting().unwrap_or(false) {
                return Ok(None);
            }
            let Some(between) = &mut self.between else { return Ok(None) };
            match between.converter.try_recv()? {
                Received::Item(ConverterEvent::Frame(frame)) => between.waiting = Some(frame),
                // The loss is reported as an event, after the jobs that failed because of it.
                Received::Item(ConverterEvent::Failed { error, .. }) if error.kind() == ErrorKind::DeviceLost => {}
                Received::Item(ConverterEvent::Failed { error, .. }) => return Err(error),
                Received::Item(ConverterEvent::Lost(error)) => return Ok(Some(ScanoutEvent::Lost(error))),
                Received::Item(ConverterEvent::Returned) => return Ok(Some(ScanoutEvent::Returned)),
                Received::Nothing | Received::Ended => return Ok(None),
            }
        }
    }

    /// Does the same as `pump`. Then watches the converter only while the display accepts its pictures.
    fn pump_and_watch(&mut self) -> Result<Option<ScanoutEvent>> {
        let found = self.pump();
        if let Some(between) = &mut self.between {
            let watches = between.waiting.is_none();
            if watches != between.is_watched {
                let events = if watches { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
                let changed = self.readiness.modify(between.converter.as_fd(), events, CONVERTER);
                changed.map_err(|e| Error::os("epoll_ctl", e))?;
                between.is_watched = watches;
            }
        }
        found
    }

    /// Waits for a flip, or for the converter that has the last buffers.
    fn wait_for_room(&mut self, deadline: Instant) -> Result<Waited> {
        match &self.between {
            _ if self.found.is_some() => Ok(Waited::Interrupted),
            Some(between) if between.waiting.is_none() && between.converter.in_flight() > 0 => {
                wait_readable(&*between.converter, deadline)
            }
            _ => self.scanout.wait_for_room(deadline),
        }
    }

    /// Does pending work, and keeps an event for `try_recv`.
    fn work(&mut self) {
        if self.found.is_none() {
            self.found = self.pump_and_watch().transpose();
            if self.found.is_some() {
                self.signal.set();
            }
        }
    }
}

impl sealed::Sealed for DisplayChain {}

/// The events are those of [`Scanout`]. [`ScanoutEvent::Lost`] and [`ScanoutEvent::Returned`] also report the device
/// of a converter. [`DisplayChain::reopen`] opens either device again.
///
/// The errors are the scanout's errors and failed conversions. The frame of a failed conversion is lost. When
/// [`ScanoutEvent::Lost`] reports that the converter is lost, the frames that the converter had are lost as well.
impl Station for DisplayChain {
    type Event = ScanoutEvent;

    fn dispatch(&mut self) -> Result<()> {
        self.scanout.dispatch()?;
        if let Some(between) = &mut self.between {
            between.converter.dispatch()?;
        }
        self.work();
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<ScanoutEvent>> {
        if let Some(found) = self.take_found() {
            self.work();
            return found.map(Received::Item);
        }
        // The display first, because its events make room.
        let received = self.scanout.try_recv()?;
        if self.between.is_none() {
            return Ok(received);
        }
        if !received.is_nothing() {
            self.work();
            return Ok(received);
        }
        match self.pump_and_watch()? {
            Some(event) => Ok(Received::Item(event)),
            // A flip may have completed in the meantime.
            None => self.scanout.try_recv(),
        }
    }
}

impl Submit for DisplayChain {
    type Item = Frame;

    /// Shows a frame, or gives it to the converter in front of the display. After [`Submitted::Full`], the descriptor
    /// becomes readable when there may be room. An unplugged display accepts no frames.
    ///
    /// # Errors
    /// Every error gives the frame back. The errors are those of [`Scanout::stage`], [`Scanout::try_present`] and
    /// [`Converter::try_submit`]. `Mismatch` for a frame of another layout: call [`DisplayChain::reopen`] with the
    /// buffers of that frame. `PermissionDenied` while another process is DRM master: a later frame may be shown.
    fn try_submit(&mut self, frame: Frame) -> SubmitResult<Frame> {
        let Some(layer) = self.layer else {
            let error = Error::new(ErrorKind::DeviceLost, "present", "the last reopen failed: call it again");
            return Err(Rejected { error: error.on(self.scanout.device()), item: frame });
        };
        if self.between.is_none() {
            return present(&mut self.scanout, layer, frame);
        }
        match self.present_waiting() {
            Ok(true) => self.work(),
            Ok(false) => {}
            Err(error) => return Err(Rejected { error, item: frame }),
        }
        let Some(between) = &mut self.between else { return Ok(Submitted::Full(frame)) };
        let Some(target) = between.pool.try_acquire() else { return Ok(Submitted::Full(frame)) };
        match between.converter.try_submit(&between.plan, std::slice::from_ref(&frame), target) {
            Ok(Submitted::Taken) => {
                // The CPU converter has finished already.
                self.work();
                Ok(Submitted::Taken)
            }
            Ok(Submitted::Full(_)) => Ok(Submitted::Full(frame)),
            Err(rejected) => Err(Rejected { error: rejected.error, item: frame }),
        }
    }

    /// Shows a frame, and waits at most `timeout` for room, even while the caller has not received completed flips.
    /// Returns the frame early if the converter has an event or a signal handler runs.
    fn submit(&mut self, mut frame: Frame, timeout: Duration) -> SubmitResult<Frame> {
        let deadline = wait::deadline(timeout);
        loop {
            match self.try_submit(frame)? {
                Submitted::Taken => return Ok(Submitted::Taken),
                Submitted::Full(back) => frame = back,
            }
            match self.wait_for_room(deadline) {
                Ok(Waited::Ready) => {}
                Ok(Waited::TimedOut | Waited::Interrupted) => return Ok(Submitted::Full(frame)),
                Err(error) => return Err(Rejected { error, item: frame }),
            }
        }
    }
}

impl AsFd for DisplayChain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl Drop for DisplayChain {
    fn drop(&mut self) {
        self.end_between();
        self.readiness.remove(&self.signal);
        self.readiness.remove(&self.scanout);
    }
}

impl fmt::Debug for DisplayChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.converter() {
            Some(name) => write!(f, "DisplayChain({name}, {:?})", self.scanout),
            None => write!(f, "DisplayChain({:?})", self.scanout),
        }
    }
}

/// Does the same as [`Scanout::present_frame`] without waiting.
fn present(scanout: &mut Scanout, layer: PlaneLayer, frame: Frame) -> SubmitResult<Frame> {
    let spare = frame.clone();
    drop(scanout.stage(layer, frame)?);
    let presented = scanout.try_present();
    if !matches!(presented, Ok(Submitted::Taken)) {
        drop(scanout.unstage(layer));
    }
    match presented {
        Ok(Submitted::Taken) => Ok(Submitted::Taken),
        Ok(Submitted::Full(())) => Ok(Submitted::Full(spare)),
        Err(error) => Err(Rejected { error, item: spare }),
    }
}

/// The requirements for a layer of the screen.
struct Wish<'a> {
    /// The layer to replace.
    old: Option<PlaneLayer>,
    from: &'a Layout,
    memory: &'a [DmaBuf],
    fit: Scaling,
}

/// Takes a plane for the frames themselves, else a converter and a plane for its pictures.
fn set_up(
    scanout: &mut Scanout,
    old: Option<PlaneLayer>,
    frames: &BufferSet,
    fit: Scaling,
) -> Result<(PlaneLayer, Option<Between>)> {
    let (from, whole) = (frames.layout(), Rect::from(scanout.size()));
    let place = match fit {
        Scaling::Stretch => whole,
        // Sides and corners are even, for subsampled formats.
        Scaling::Keep => keep_ratio(from.size(), whole, (2, 2)),
    };
    // A publisher has one allocator. Buffers that are not known yet are assumed to be dma-bufs. Otherwise the first
    // frame is refused.
    let wish = Wish { old, from, memory: frames.memory(0), fit };
    let direct = match wish.memory.first().map_or(MemoryKind::DmaBuf, DmaBuf::kind) {
        MemoryKind::DmaBuf => {
            scanout.change_layer(old, &LayerRequirements::for_layout(from).destination(place), frames)
        }
        _ => Err(Error::new(ErrorKind::Unsupported, "add_layer", "the frames are memfds, which displays cannot show")),
    };
    let why = match direct {
        Ok(layer) => return Ok((layer, None)),
        Err(e) if is_final(&e) => return Err(e),
        Err(e) => e,
    };
    let mut refused = vec![why.to_string()];
    let targets = targets(scanout, &wish, place, &mut refused)?;
    // Each error text with the targets that it is about.
    let mut said: Vec<(String, Vec<String>)> = Vec::new();
    for is_cpu in [false, true] {
        for &(fourcc, place) in &targets {
            let error = match converted(scanout, &wish, (fourcc, place), is_cpu) {
                Ok((layer, between)) => return Ok((layer, Some(between))),
                Err(e) if is_final(&e) => return Err(e),
                Err(e) => e.to_string(),
            };
            let target = format!("{fourcc} at {place}");
            match said.iter_mut().find(|(text, _)| *text == error) {
                Some((_, targets)) => targets.push(target),
                None => said.push((error, vec![target])),
            }
        }
    }
    refused.extend(said.into_iter().map(|(text, targets)| format!("{}: {text}", targets.join(", "))));
    Err(Error::new(why.kind(), "negotiate", refused.join("; ")).on(scanout.device()))
}

/// Returns `true` if another format would not help.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::DeviceLost | ErrorKind::Timeout)
}

/// Returns the formats that planes show for a converter, best first: for pictures of the place, then for pictures of
/// the whole screen with margins.
fn targets(
    scanout: &mut Scanout,
    wish: &Wish<'_>,
    place: Rect,
    refused: &mut Vec<String>,
) -> Result<Vec<(FourCc, Rect)>> {
    let whole = Rect::from(scanout.size());
    let mut all = SHOWN;
    // A converter should keep RGB as RGB and YUV as YUV, which keeps the colors.
    all.sort_by_key(|&fourcc| is_yuv(fourcc) != is_yuv(wish.from.fourcc()));
    let mut found = Vec::new();
    for place in std::iter::once(place).chain((place != whole).then_some(whole)) {
        let mut formats = all.to_vec();
        while !formats.is_empty() {
            let layer = LayerRequirements::new(formats.iter().copied(), place.size).destination(place);
            match scanout.find_format(wish.old, &layer) {
                Ok(fourcc) => {
                    found.push((fourcc, place));
                    formats.retain(|&f| f != fourcc);
                }
                Err(e) if is_final(&e) => return Err(e),
                Err(e) => {
                    // If the screen shows other formats, this is not the reason.
                    if formats.len() == all.len() {
                        refused.push(e.to_string());
                    }
                    break;
                }
            }
        }
    }
    Ok(found)
}

/// Finds a converter to one target, and a plane for its pictures.
fn converted(
    scanout: &mut Scanout,
    wish: &Wish<'_>,
    (fourcc, place): (FourCc, Rect),
    is_cpu: bool,
) -> Result<(PlaneLayer, Between)> {
    let pool = pool(scanout.device(), fourcc, place.size, wish.from)?;
    // The place already has the aspect ratio of the picture, except for rounding.
    let fit = if place == Rect::from(scanout.size()) { wish.fit } else { Scaling::Stretch };
    let request = Request::convert(Layer::default().fit(fit));
    let plan = |_: &dyn Converter| {
        Plan::new(&request, &[*wish.from], pool.buffers().layout()).map(|plan| plan.memory_in(wish.memory))
    };
    let choice = match is_cpu {
        false => first_of(devices(), plan)?,
        true => {
            let cpu: Box<dyn Converter> = Box::new(Cpu::new()?);
            first_of([Ok(cpu)], plan)?
        }
    };
    let layer = LayerRequirements::new([fourcc], place.size).destination(place);
    let layer = scanout.change_layer(wish.old, &layer, pool.buffers())?;
    let (converter, plan) = (choice.converter, Arc::new(choice.plan));
    Ok((layer, Between { converter, plan, pool, waiting: None, is_watched: true }))
}

/// Allocates dumb buffers with the colorimetry of the source.
fn pool(device: &Device, fourcc: FourCc, size: Size, from: &Layout) -> Result<Pool> {
    let pool = device.dumb_pool(fourcc, size, BETWEEN)?;
    if !is_yuv(fourcc) || !is_yuv(from.fourcc()) {
        return Ok(pool);
    }
    let layout = pool.buffers().layout().with_colorimetry(from.colorimetry());
    Pool::from_memory(layout, (0..BETWEEN).map(|slot| pool.buffers().memory(slot).to_vec()).collect())
}

fn is_yuv(fourcc: FourCc) -> bool {
    fourcc.info().is_some_and(|info| info.kind == FormatKind::Yuv)
}
