//! One screen: the frames of its layers, and the flips that show them.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::commit::{Committer, Refusal};
use super::device::Device;
use super::framebuffer::{Framebuffer, Framebuffers};
use super::layer::{Change, LayerRequirements, PlaneLayer, PlaneState};
use super::monitor::Monitor;
use super::negotiate;
use super::objects::{Connection, Connector, Mode, Plane};
use super::output::{Api, Output, OutputRequirements};
use super::retained::{Retained, Until};
use super::scanout_event::{Flipped, ScanoutEvent, ScanoutStats};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, Size};
use crate::frame::BufferSet;
use crate::station::{sealed, Received, Station, Submitted};
use crate::sys;
use crate::sys::wait::{self, Waited};

/// The time that a dropped scanout waits for its last flip.
const LAST_FLIP: Duration = Duration::from_millis(500);

/// A commit that has not completed.
pub(super) struct Pending {
    pub(super) mark: u64,
    pub(super) submitted_ns: u64,
    /// `true` if it shows frames. A write-back does not.
    pub(super) is_flip: bool,
    /// `true` if it sets the mode, which can take long.
    pub(super) is_modeset: bool,
}

/// The screen of one connector.
///
/// Each frame goes to a [`PlaneLayer`]. Stage any number of frames, then present all of them at once. A frame stays
/// leased from staging until the flip that *replaces* the frame has completed. The producer therefore never writes to
/// memory that the screen still reads. A layer can lease three frames at once: one that is shown, one that is pending
/// and one that is staged. If a subscriber gives the frames, set the subscriber's `hold` to 3. If a camera gives the
/// frames, request three more buffers.
///
/// In steady state a frame costs one ioctl, two system calls that read the event of the flip, and a `poll` if a call
/// waits. Twice a second, the scanout asks the kernel whether the display is connected. No memory is copied, imported
/// or allocated.
///
/// A scanout is a [`Station`]. In an event loop, register [`AsFd`] for POLLIN and call [`Station::try_recv`] until it
/// returns [`Received::Nothing`].
///
/// - [`ScanoutEvent::Shown`]: a flip has completed. There is room for the next present.
/// - [`ScanoutEvent::Lost`]: the display is unplugged, or the device is gone. While the display is unplugged, calls
///   that present return [`Submitted::Full`], and staged frames stay staged. If the device is lost, the leases of the
///   shown frames have ended, and calls that present fail.
/// - [`ScanoutEvent::Returned`]: the display or the device is back. After a loss of the display, the next present sets
///   the mode. After a loss of the device, call [`Scanout::reopen`].
///
/// The scanout asks for the display's state only while a flip is pending or the display is lost. While the screen shows
/// a still picture, the scanout causes no wake-ups. The scanout then detects a loss only at the next present.
///
/// Dropping the scanout shows the picture that the CRTC showed before, such as the console. If the framebuffer of that
/// picture does not exist any more, the screen is switched off.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::drm::{LayerRequirements, Scanout, ScanoutEvent};
/// use framelease::format::FourCc;
/// use framelease::{Received, Station};
/// # fn frames() -> Vec<framelease::frame::Frame> { Vec::new() }
///
/// let mut screen = Scanout::builder().open()?;
/// let formats = [FourCc::NV12, FourCc::XBGR32];
/// let layer = screen.add_layer(&LayerRequirements::new(formats, screen.size()))?;
/// // The camera or a converter gives frames in `layer.fourcc()`.
/// for frame in frames() {
///     screen.stage(layer, frame)?;
///     while !screen.try_present()?.is_taken() {
///         match screen.recv(Duration::from_secs(1))? {
///             Received::Item(ScanoutEvent::Shown(flipped)) => println!("shown at {} ns", flipped.time_ns),
///             Received::Item(ScanoutEvent::Lost(error)) => eprintln!("{error}"),
///             Received::Item(_) | Received::Nothing => {}
///             Received::Ended => break,
///         }
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Scanout {
    /// Identifies the layers of this scanout.
    pub(super) id: u64,
    pub(super) output: Output,
    pub(super) committer: Committer,
    pub(super) planes: Vec<PlaneState>,
    pub(super) framebuffers: Framebuffers,
    pub(super) pending: Option<Pending>,
    pub(super) stats: ScanoutStats,
    pub(super) monitor: Monitor,
}

impl Scanout {
    /// Takes a CRTC. The screen does not change.
    pub(super) fn new(
        device: Device,
        requirements: OutputRequirements,
        connector: Connector,
        mode: Mode,
    ) -> Result<Self> {
        let mut monitor = Monitor::new()?;
        let output = Output::new(device, requirements, connector, mode, monitor.wake())?;
        let committer = Committer::open(&output)?;
        monitor.add(&output)?;
        Ok(Self {
            id: next_mark(),
            output,
            committer,
            planes: Vec::new(),
            framebuffers: Framebuffers::default(),
            pending: None,
            stats: ScanoutStats::default(),
            monitor,
        })
    }

    /// Returns the device of the screen.
    pub fn device(&self) -> &Device {
        &self.output.device
    }

    /// Returns the connector, as it was when the scanout was opened.
    pub fn connector(&self) -> &Connector {
        &self.output.connector
    }

    /// Returns the mode of the screen.
    pub fn mode(&self) -> &Mode {
        &self.output.mode
    }

    /// Returns the size of the screen.
    pub fn size(&self) -> Size {
        self.output.mode.size()
    }

    /// Returns the interface in use: [`Api::Atomic`] or [`Api::Legacy`].
    #[doc(hidden)]
    pub fn api(&self) -> Api {
        self.committer.api()
    }

    /// Returns the counts since the scanout was opened.
    pub fn stats(&self) -> ScanoutStats {
        ScanoutStats { framebuffers: self.framebuffers.len(), ..self.stats }
    }

    pub(super) fn requirements(&self) -> &OutputRequirements {
        &self.output.requirements
    }

    /// Asks the kernel whether a display is plugged in. For drivers without a hot-plug interrupt, the kernel checks
    /// every ten seconds. Ioctl: `DRM_IOCTL_MODE_GETCONNECTOR`.
    ///
    /// # Errors
    /// `NotFound` if the connector itself is gone. `DeviceLost` if the device is gone.
    #[doc(alias = "DRM_IOCTL_MODE_GETCONNECTOR")]
    pub fn connection(&self) -> Result<Connection> {
        self.output.connection()
    }

    /// Lists the planes that reach the CRTC of this screen.
    ///
    /// # Errors
    /// `DeviceLost` if the device is gone, and other errors of the listing ioctls.
    #[doc(hidden)]
    pub fn planes(&self) -> Result<Vec<Plane>> {
        self.output.reachable_planes()
    }

    /// Takes a plane for pictures of the required size. The layer has the first required format that a plane supports.
    ///
    /// The call looks up each format and its modifier in the lists of the planes. It then tests the format with a dumb
    /// buffer, together with the existing layers, in a commit that changes nothing (`DRM_MODE_ATOMIC_TEST_ONLY`). The
    /// legacy interface cannot test formats. With that interface, one picture covers the whole screen.
    ///
    /// # Errors
    /// `Unsupported` if no plane supports any of the formats (the text lists the formats of each plane and the result
    /// of each test). `Busy` if other layers use every plane that supports one of the formats. `InvalidArgument` for a
    /// source outside of the picture, or for an empty list of formats. `PermissionDenied` while another process is DRM
    /// master. `DeviceLost` if the device is gone.
    #[doc(alias = "DRM_MODE_ATOMIC_TEST_ONLY")]
    pub fn add_layer(&mut self, requirements: &LayerRequirements) -> Result<PlaneLayer> {
        let taken = negotiate::take_plane(&mut self.output, &mut self.committer, &self.planes, requirements);
        let state = taken.map_err(|error| {
            self.failed(&error);
            error
        })?;
        let (fourcc, plane, kind) = (state.fourcc, state.plane.id, state.plane.kind);
        self.planes.push(state);
        Ok(PlaneLayer { scanout: self.id, index: self.planes.len() - 1, fourcc, plane, kind })
    }

    /// Returns the first of the required formats that a plane supports. The plane of `old` counts as free.
    pub(crate) fn find_format(&mut self, old: Option<PlaneLayer>, wish: &LayerRequirements) -> Result<FourCc> {
        self.without(old, |scanout, _| {
            let state = negotiate::take_plane(&mut scanout.output, &mut scanout.committer, &scanout.planes, wish)?;
            scanout.output.release_plane(state.plane.id);
            Ok((state.fourcc, None))
        })
    }

    /// Takes a plane for these buffers, in place of the layer `old` if there is one. The picture of `old` stays on
    /// the screen until the next flip. That flip sets the mode, because formats and sizes may require it. Waits for a
    /// pending flip. If the call fails, `old` does not change.
    pub(crate) fn change_layer(
        &mut self,
        old: Option<PlaneLayer>,
        wish: &LayerRequirements,
        buffers: &BufferSet,
    ) -> Result<PlaneLayer> {
        self.without(old, |scanout, index| {
            let (output, committer) = (&mut scanout.output, &mut scanout.committer);
            let mut state = negotiate::take_plane(output, committer, &scanout.planes, wish)?;
            // The test commit does not cover colors, pitches, and memory that the device cannot reach.
            let checked = state.check(buffers.layout()).map_err(|e| e.on(&output.device)).and_then(|()| {
                let (memory, layout) = (buffers.memory(0), buffers.layout());
                if memory.is_empty() {
                    return Ok(());
                }
                Framebuffer::of(&output.device, memory, layout, &Default::default(), state.modifier).map(drop)
            });
            if let Err(error) = checked {
                output.release_plane(state.plane.id);
                return Err(error);
            }
            let (fourcc, plane, kind) = (state.fourcc, state.plane.id, state.plane.kind);
            Ok((PlaneLayer { scanout: scanout.id, index, fourcc, plane, kind }, Some(state)))
        })
    }

    /// Calls `take` while the plane of `old` is free. The returned state replaces `old`.
    fn without<T>(
        &mut self,
        old: Option<PlaneLayer>,
        take: impl FnOnce(&mut Self, usize) -> Result<(T, Option<PlaneState>)>,
    ) -> Result<T> {
        let settled = if old.is_some() { self.settle(LAST_FLIP) } else { Ok(true) };
        self.monitor.show_events(&self.output);
        if !settled? {
            let text = "the last flip has not completed: try again";
            return Err(Error::new(ErrorKind::Timeout, "add_layer", text).on(self.device()));
        }
        let index = old.map_or(self.planes.len(), |layer| layer.index);
        let before = old.and_then(|_| (index < self.planes.len()).then(|| self.planes.remove(index)));
        if let Some(before) = &before {
            self.output.release_plane(before.plane.id);
        }
        let (result, state) = match take(self, index) {
            Ok((value, state)) => (Ok(value), state),
            Err(error) => (Err(error), None),
        };
        match (before, state) {
            (Some(before), Some(mut state)) => {
                state.shown = before.shown;
                self.planes.insert(index, state);
                self.output.is_lit = false;
            }
            (Some(before), None) => {
                self.output.claim_plane(before.plane.id);
                self.planes.insert(index, before);
            }
            (None, Some(state)) => self.planes.push(state),
            (None, None) => {}
        }
        if let Err(error) = &result {
            self.failed(error);
        }
        result
    }

    /// Returns `true` if a reopen is needed: the device is gone, or the display that came back lacks the mode.
    pub(crate) fn wants_reopen(&mut self) -> bool {
        self.monitor.is_gone() || self.monitor.check_mode(&self.output).is_err()
    }

    /// Does the same as [`Scanout::reopen`] without this layer, whose place may be outside of a screen of another
    /// size.
    pub(crate) fn reopen_without(&mut self, layer: Option<PlaneLayer>) -> Result<()> {
        let _ = self.turn_off_now(LAST_FLIP);
        if let Some(layer) = layer.filter(|layer| layer.index < self.planes.len()) {
            let state = self.planes.remove(layer.index);
            self.output.release_plane(state.plane.id);
        }
        self.reopen()
    }

    /// Reads the device's events, and handles completed commits.
    pub(super) fn work(&mut self) -> Result<()> {
        self.monitor.work(&mut self.output, self.pending.is_some())?;
        self.give_back_if_gone();
        // Also without a pending commit, because the inbox must be emptied.
        let mark = self.pending.as_ref().map_or(0, |p| p.mark);
        let Some(event) = self.output.device.completion(self.output.crtc, mark) else { return Ok(()) };
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let late = event.time_ns.saturating_sub(pending.submitted_ns).checked_div(self.output.mode.period_ns());
        let missed = if pending.is_modeset { 0 } else { u32::try_from(late.unwrap_or(0)).unwrap_or(u32::MAX) };
        self.planes.iter_mut().for_each(PlaneState::advance);
        self.framebuffers.sweep();
        if pending.is_flip {
            self.stats.flips += 1;
            self.stats.missed_vblanks += u64::from(missed);
            self.monitor.shown(Flipped { vblank: event.sequence, time_ns: event.time_ns, missed });
        }
        Ok(())
    }

    /// Ends the leases of a device that is gone, which reads no memory and completes no flip.
    pub(super) fn give_back_if_gone(&mut self) {
        if self.monitor.is_gone() {
            self.pending = None;
            for plane in &mut self.planes {
                (plane.pending, plane.shown) = (None, None);
            }
        }
    }

    /// Returns the error of a commit.
    pub(super) fn refused(&mut self, refusal: Refusal) -> Error {
        let error = refusal.explain(&mut self.output, &self.planes);
        self.failed(&error);
        error
    }

    /// Handles the failure of a call, which may mean that the device is gone.
    pub(super) fn failed(&mut self, error: &Error) {
        self.monitor.lose_if_gone(&self.output, error);
        self.give_back_if_gone();
        self.monitor.show_events(&self.output);
    }

    pub(super) fn wait_and_work(&mut self, deadline: Instant) -> Result<Waited> {
        let waited = self.monitor.wait(&self.output, deadline)?;
        if waited == Waited::Ready {
            self.work()?;
        }
        Ok(waited)
    }

    /// Waits until there may be room for a present. Events that are not received yet do not end the wait.
    pub(crate) fn wait_for_room(&mut self, deadline: Instant) -> Result<Waited> {
        let waited = self.wait_and_work(deadline);
        self.monitor.show_events(&self.output);
        waited
    }

    /// Waits until no flip is pending. Returns `false` if the timeout passed first.
    pub(super) fn settle(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = wait::deadline(timeout);
        while self.pending.is_some() {
            match self.wait_and_work(deadline)? {
                Waited::Ready | Waited::Interrupted => {}
                Waited::TimedOut => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Waits for the pending flip, switches the screen off and ends the leases of all frames. The next present
    /// switches it on again. Ioctl: `DRM_IOCTL_MODE_ATOMIC` or `SETCRTC`.
    ///
    /// Returns [`Submitted::Full`] if the flip has not completed in `timeout`. The frames then stay leased.
    ///
    /// # Errors
    /// `PermissionDenied` while another process is DRM master. The frames then stay leased. `DeviceLost` if the device
    /// is gone.
    pub fn turn_off(&mut self, timeout: Duration) -> Result<Submitted<()>> {
        let done = self.turn_off_now(timeout);
        self.monitor.show_events(&self.output);
        done
    }

    fn turn_off_now(&mut self, timeout: Duration) -> Result<Submitted<()>> {
        if !self.settle(timeout)? {
            return Ok(Submitted::Full(()));
        }
        // Without a set mode, the screen may still show pictures: those from before this process lost DRM master.
        if self.output.is_lit || self.planes.iter().any(|plane| plane.shown.is_some()) {
            let off = self.committer.turn_off(&self.output, &self.planes);
            off.map_err(|refusal| self.refused(refusal))?;
            self.output.is_lit = false;
        }
        for plane in &mut self.planes {
            (plane.next, plane.shown) = (None, None);
        }
        self.framebuffers.sweep();
        Ok(Submitted::Taken)
    }

    /// Returns the parts that a commit needs.
    pub(super) fn parts(&mut self) -> (&Output, &mut Committer, &[PlaneState]) {
        (&self.output, &mut self.committer, &self.planes)
    }

    /// Notes a commit that does not show a frame. The next flip waits for it.
    pub(super) fn submitted_without_frames(&mut self, mark: u64) {
        let submitted_ns = sys::clock::monotonic_ns();
        self.pending = Some(Pending { mark, submitted_ns, is_flip: false, is_modeset: false });
        self.monitor.submitted();
    }

    /// Changes to another output with the same layers. Ends all leases.
    pub(super) fn replace_output(
        &mut self,
        device: Device,
        requirements: OutputRequirements,
        connector: Connector,
        mode: Mode,
    ) -> Result<()> {
        // The CRTC and the planes may be the same.
        let _ = self.turn_off_now(LAST_FLIP);
        self.end_frames();
        self.monitor.remove(&self.output);
        self.output.release();
        let mut output = Output::new(device, requirements, connector, mode, self.monitor.wake())?;
        let mut committer = Committer::open(&output)?;
        let mut planes = Vec::new();
        for plane in &self.planes {
            let wish = LayerRequirements { formats: vec![plane.fourcc], ..plane.requirements.clone() };
            planes.push(negotiate::take_plane(&mut output, &mut committer, &planes, &wish)?);
        }
        self.monitor.add(&output)?;
        output.continues(&mut self.output);
        (self.output, self.committer, self.planes) = (output, committer, planes);
        self.monitor.show_events(&self.output);
        Ok(())
    }

    /// Ends the leases of all frames, after removing the framebuffers. If a flip is pending, it leaves them to the
    /// device: the display may still read them, and the removal of a framebuffer would wait without a limit.
    fn end_frames(&mut self) {
        let framebuffers = std::mem::take(&mut self.framebuffers);
        let pending = self.pending.take();
        let mut shown = Vec::new();
        for plane in &mut self.planes {
            plane.next = None;
            if let Some(Change::Show(pending)) = plane.pending.take() {
                shown.push(pending);
            }
            shown.extend(plane.shown.take());
            // It was never on the screen.
            plane.trial = None;
        }
        let Some(Pending { mark, .. }) = pending else {
            // A picture that could not be switched off stays on the screen until its framebuffer is removed.
            let frames: Vec<_> = shown.into_iter().map(|s| s.frame).collect();
            drop((framebuffers, frames));
            return;
        };
        crate::log::event!("{self:?}: the last flip has not completed: its frames stay leased");
        let mut ids = framebuffers.leave();
        ids.extend(shown.iter().map(|s| s.framebuffer.leave()));
        ids.sort_unstable();
        ids.dedup();
        let (crtc, planes) = self.output.leave();
        self.output.device.retain(Retained {
            until: Until::Flip(mark),
            framebuffers: ids,
            _frames: shown.into_iter().map(|s| s.frame).collect(),
            _target: None,
            crtc: Some(crtc),
            planes,
        });
    }
}

impl sealed::Sealed for Scanout {}

impl Station for Scanout {
    type Event = ScanoutEvent;

    fn dispatch(&mut self) -> Result<()> {
        let worked = self.work();
        self.monitor.looked();
        self.monitor.show_events(&self.output);
        worked
    }

    fn try_recv(&mut self) -> Result<Received<ScanoutEvent>> {
        let worked = if self.monitor.has_events() { Ok(()) } else { self.work() };
        let event = self.monitor.pop();
        self.monitor.show_events(&self.output);
        worked.map(|()| event.into())
    }

    fn recv(&mut self, timeout: Duration) -> Result<Received<ScanoutEvent>> {
        let deadline = wait::deadline(timeout);
        loop {
            match self.try_recv()? {
                Received::Nothing => {}
                got => return Ok(got),
            }
            if self.monitor.wait(&self.output, deadline)? != Waited::Ready {
                return Ok(Received::Nothing);
            }
        }
    }
}

/// Returns a number that no other commit or scanout of this process has.
pub(super) fn next_mark() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Drop for Scanout {
    fn drop(&mut self) {
        let has_shown = self.output.is_lit || self.stats.flips > 0;
        let off = self.turn_off_now(LAST_FLIP);
        self.end_frames();
        if has_shown && matches!(off, Ok(Submitted::Taken)) {
            self.output.restore();
        }
        self.monitor.remove(&self.output);
    }
}

impl AsFd for Scanout {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.watched(&self.output)
    }
}

impl fmt::Debug for Scanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scanout({} {} on {})", self.output.connector.name, self.output.mode, self.output.device)
    }
}
