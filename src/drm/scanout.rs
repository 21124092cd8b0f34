//! One connector, its mode, and the flips of the planes before it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::drm::control::Device as _;
use nix::poll::PollFlags;

use super::builder::{Api, ScanoutBuilder};
use super::commit::{AtomicProps, FenceWish};
use super::device::Device;
use super::framebuffer::Framebuffers;
use super::hotplug::Plug;
use super::layer::{Change, PlaneLayer, Shown, Work};
use super::objects::{Connector, Mode};
use super::saved_crtc::SavedCrtc;
use crate::dmabuf::SyncFile;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::Size;
use crate::frame::Frame;
use crate::sys;
use crate::sys::drm::Commit;

/// How long a scanout that is dropped waits for its last flip.
const LAST_FLIP: Duration = Duration::from_millis(500);

/// What became of [`Scanout::try_flip`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlipResult {
    /// What was staged is on its way to the screen.
    Submitted,
    /// The flip before has not completed yet: what is staged waits.
    Pending,
    /// Nothing is staged.
    Nothing,
}

/// A flip that has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flipped {
    /// The CRTC's count of vertical blanks at which it happened. Wraps.
    pub vblank: u32,
    /// When the first pixel of the new picture left, `CLOCK_MONOTONIC`, in nanoseconds: comparable with
    /// [`FrameMeta::timestamp_ns`](crate::frame::FrameMeta::timestamp_ns).
    pub time_ns: u64,
    /// Vertical blanks between submission and completion that passed without the flip: 0 for one that was in time.
    pub missed: u32,
}

/// Counts of a scanout since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanoutStats {
    /// Flips that have completed.
    pub flips: u64,
    /// The sum of [`Flipped::missed`].
    pub missed_vblanks: u64,
    /// Frames that were staged and replaced before they were shown.
    pub replaced: u64,
    /// Framebuffers that exist for the pools in use.
    pub framebuffers: usize,
}

pub(super) struct Pending {
    mark: u64,
    submitted_ns: u64,
    /// A flip of the user's, not one that writes back.
    counts: bool,
    /// The mode was set with it, which takes what it takes.
    modeset: bool,
}

/// The screen behind one connector.
///
/// Frames go to a [`PlaneLayer`] each: stage any number of them, then flip once. A frame is leased from staging until the
/// flip that *replaces* it has completed, so that its producer never writes what the screen still reads. That is up to
/// three frames a layer (shown, pending, staged): what a subscriber must be allowed to hold, and a camera's pool to lend.
///
/// In steady state a flip costs one ioctl (twice a second one more, which asks whether the display is there), and reading
/// its event one `read` (and a `poll` where it waits): no memory is copied, imported or allocated.
///
/// In an event loop, register [`AsFd`] for POLLIN, and call [`Scanout::dispatch`] (of every scanout of the device) when
/// it is readable. The calls that wait have a timeout.
///
/// Dropped, it shows again what its CRTC showed when the scanout was opened, such as the console, or switches the screen
/// off if that is gone.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::drm::{LayerRequirements, Scanout};
/// # fn frames() -> Vec<framelease::frame::Frame> { Vec::new() }
///
/// let mut screen = Scanout::builder().open()?;
/// let formats = ["NV12", "XBGR32"].map(|f| f.parse().unwrap());
/// let layer = screen.add_layer(&LayerRequirements::new(formats, screen.size()))?;
/// // Have the camera, or a converter, give layer.fourcc().
/// for frame in frames() {
///     screen.present(layer, frame, Duration::from_millis(100))?;
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Scanout {
    pub(super) device: Device,
    pub(super) connector: Connector,
    pub(super) mode: Mode,
    pub(super) crtc: u32,
    pub(super) crtc_index: u32,
    /// `None`: the legacy interface.
    pub(super) atomic: Option<AtomicProps>,
    pub(super) work: Vec<Work>,
    pub(super) commit: Commit,
    framebuffers: Framebuffers,
    /// The mode is set, and nobody else has been master since.
    pub(super) lit: bool,
    pub(super) pending: Option<Pending>,
    stats: ScanoutStats,
    pub(super) plug: Plug,
    before: Option<SavedCrtc>,
    /// The writeback connector that was tied to the CRTC.
    pub(super) written_back: Option<super::writeback::Port>,
}

impl Scanout {
    /// A dark screen. Its drop gives the CRTC back.
    pub(super) fn new(device: Device, connector: Connector, mode: Mode, crtc: (u32, u32)) -> Self {
        Self {
            before: SavedCrtc::of(&device, crtc.0),
            device,
            connector,
            mode,
            crtc: crtc.0,
            crtc_index: crtc.1,
            atomic: None,
            work: Vec::new(),
            commit: Commit::default(),
            framebuffers: Framebuffers::default(),
            lit: false,
            pending: None,
            stats: ScanoutStats::default(),
            plug: Plug::default(),
            written_back: None,
        }
    }

    /// Chooses a screen.
    pub fn builder() -> ScanoutBuilder {
        ScanoutBuilder::default()
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The connector, as it was when the scanout was opened.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The mode.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// The screen's size.
    pub fn size(&self) -> Size {
        self.mode.size()
    }

    /// The interface in use: [`Api::Atomic`] or [`Api::Legacy`].
    pub fn api(&self) -> Api {
        match self.atomic {
            Some(_) => Api::Atomic,
            None => Api::Legacy,
        }
    }

    /// Counts.
    pub fn stats(&self) -> ScanoutStats {
        ScanoutStats { framebuffers: self.framebuffers.len(), ..self.stats }
    }

    /// The frame that the screen shows on a layer now.
    pub fn shown(&self, layer: PlaneLayer) -> Option<&Frame> {
        self.work.get(layer.index)?.shown.as_ref().map(|s| &s.frame)
    }

    /// Stages a frame for the next flip. Gives back the frame that was staged before and is not shown any more. A
    /// buffer that the device sees for the first time is imported (`DRM_IOCTL_PRIME_FD_TO_HANDLE`,
    /// `DRM_IOCTL_MODE_ADDFB2`) and stays so until its pool is gone; later ones cost no system call.
    ///
    /// # Errors
    /// `Mismatch` if the frame is not of the layer's format and size, as [`Framebuffer::new`](super::Framebuffer::new);
    /// with the frame. What was staged stays.
    pub fn stage(&mut self, layer: PlaneLayer, frame: Frame) -> std::result::Result<Option<Frame>, Rejected<Frame>> {
        self.put(layer, frame, None)
    }

    /// [`Scanout::stage`] with a fence that the display waits for before it shows the frame (`IN_FENCE_FD`): for a
    /// producer that is not done yet. Fences attached to the dma-buf itself are waited for without this.
    ///
    /// # Errors
    /// As [`Scanout::stage`], and `Unsupported` if the plane takes no fences.
    pub fn stage_fenced(
        &mut self,
        layer: PlaneLayer,
        frame: Frame,
        fence: SyncFile,
    ) -> std::result::Result<Option<Frame>, Rejected<Frame>> {
        self.put(layer, frame, Some(fence))
    }

    fn put(
        &mut self,
        layer: PlaneLayer,
        frame: Frame,
        fence: Option<SyncFile>,
    ) -> std::result::Result<Option<Frame>, Rejected<Frame>> {
        let device = &self.device;
        let Some(work) = self.work.get_mut(layer.index) else {
            return Err(Rejected { error: foreign(device), item: frame });
        };
        if fence.is_some() && !work.takes_fences() {
            let text = format!("no IN_FENCE_FD: wait for the fence before; {}", work.plane);
            return Err(Rejected { error: Error::new(ErrorKind::Unsupported, "stage", text).on(device), item: frame });
        }
        self.framebuffers.sweep();
        let checked = work.check(&frame).map_err(|e| e.on(device));
        let made = checked.and_then(|()| self.framebuffers.get(device, &frame, work.modifier));
        let framebuffer = match made {
            Ok(framebuffer) => framebuffer,
            Err(error) => return Err(Rejected { error, item: frame }),
        };
        let before = work.next.replace(Change::Show(Shown { framebuffer, frame, fence }));
        Ok(match before {
            Some(Change::Show(shown)) => {
                self.stats.replaced += 1;
                Some(shown.frame)
            }
            _ => None,
        })
    }

    /// Has the layer show nothing from the next flip on. Gives back what was staged.
    ///
    /// # Errors
    /// `State` for a layer of another scanout, `Unsupported` for the legacy interface.
    pub fn hide(&mut self, layer: PlaneLayer) -> Result<Option<Frame>> {
        if self.atomic.is_none() {
            let text = "the legacy interface cannot switch a single plane off";
            return Err(Error::new(ErrorKind::Unsupported, "hide", text).on(&self.device));
        }
        let work = self.work.get_mut(layer.index).ok_or_else(|| foreign(&self.device))?;
        Ok(taken(work.next.replace(Change::Hide)))
    }

    /// Takes back what is staged for a layer.
    pub fn unstage(&mut self, layer: PlaneLayer) -> Option<Frame> {
        taken(self.work.get_mut(layer.index)?.next.take())
    }

    /// Shows all that is staged, at the next vertical blank, and does not wait for it. Ioctl: `DRM_IOCTL_MODE_ATOMIC`
    /// (nonblocking, with an event), or `PAGE_FLIP`; the first time, and after another process was master, with the
    /// mode, which may blink.
    ///
    /// # Errors
    /// `PermissionDenied` while another process is master (a switch of virtual terminals): what is staged stays so, and
    /// the next flip that succeeds sets the mode again. `Disconnected` while no display hangs at the connector, which is
    /// asked twice a second: likewise; `NotFound` if the one that came back lacks the mode. `Busy` while somebody else's
    /// commit is under way, `InvalidArgument` if the driver cannot show this, `DeviceLost`.
    #[doc(alias = "DRM_IOCTL_MODE_ATOMIC")]
    #[doc(alias = "DRM_IOCTL_MODE_PAGE_FLIP")]
    #[doc(alias = "DRM_IOCTL_MODE_SETCRTC")]
    pub fn try_flip(&mut self) -> Result<FlipResult> {
        self.flip(FenceWish::None).map(|(flip, _)| flip)
    }

    /// [`Scanout::try_flip`] that also gives a fence (`OUT_FENCE_PTR`), signalled when the flip completes: the frame
    /// that it replaces is free then. `None` if nothing was submitted.
    ///
    /// # Errors
    /// As [`Scanout::try_flip`], and `Unsupported` for the legacy interface.
    pub fn try_flip_fenced(&mut self) -> Result<(FlipResult, Option<SyncFile>)> {
        self.flip(FenceWish::Out)
    }

    fn flip(&mut self, wish: FenceWish) -> Result<(FlipResult, Option<SyncFile>)> {
        let no_fence = wish == FenceWish::Out && self.atomic.as_ref().map_or(true, |p| p.out_fence.is_none());
        if no_fence {
            let text = "the CRTC, or the legacy interface, has no such property";
            return Err(Error::new(ErrorKind::Unsupported, "OUT_FENCE_PTR", text).on(&self.device));
        }
        if let Some(Pending { submitted_ns, .. }) = self.pending {
            self.check_pending(submitted_ns)?;
            return Ok((FlipResult::Pending, None));
        }
        if self.work.iter().all(|w| w.next.is_none()) {
            return Ok((FlipResult::Nothing, None));
        }
        let submitted_ns = sys::clock::monotonic_ns();
        self.check_display(submitted_ns)?;
        let modeset = !self.lit || self.plug.out;
        let mark = next_mark();
        let (done, op) = match self.atomic {
            Some(_) => (self.commit_atomic(wish, modeset, mark), "DRM_IOCTL_MODE_ATOMIC"),
            None => self.flip_legacy(modeset, mark),
        };
        let fence = done.map_err(|e| self.flip_failed(op, e))?;
        (self.lit, self.plug.out) = (true, false);
        self.pending = Some(Pending { mark, submitted_ns, counts: true, modeset });
        for work in &mut self.work {
            (work.pending, work.trial) = (work.next.take(), None);
            // The kernel has a reference of its own.
            if let Some(Change::Show(shown)) = &mut work.pending {
                shown.fence = None;
            }
        }
        Ok((FlipResult::Submitted, fence))
    }

    /// Marks the commit, or page flip, that was just submitted without a change of the planes.
    pub(super) fn pending_write_back(&mut self, mark: u64) {
        self.pending = Some(Pending { mark, submitted_ns: sys::clock::monotonic_ns(), counts: false, modeset: false });
    }

    /// The flip that has completed since, if one has: the frames that it replaced are given back. Does not wait. Costs
    /// one `read`.
    ///
    /// # Errors
    /// `DeviceLost`, and what else `read` reports.
    pub fn dispatch(&mut self) -> Result<Option<Flipped>> {
        let Some(pending) = &self.pending else { return Ok(None) };
        let Some(event) = self.device.flip(pending.mark)? else { return Ok(None) };
        let late = event.time_ns.saturating_sub(pending.submitted_ns).checked_div(self.mode.period_ns());
        let missed = if pending.modeset { 0 } else { u32::try_from(late.unwrap_or(0)).unwrap_or(u32::MAX) };
        let counts = pending.counts;
        self.pending = None;
        for work in &mut self.work {
            match work.pending.take() {
                Some(Change::Show(shown)) => work.shown = Some(shown),
                Some(Change::Hide) => work.shown = None,
                None => {}
            }
        }
        self.framebuffers.sweep();
        if !counts {
            return Ok(None);
        }
        self.stats.flips += 1;
        self.stats.missed_vblanks += u64::from(missed);
        Ok(Some(Flipped { vblank: event.sequence, time_ns: event.time_ns, missed }))
    }

    /// Waits until the pending flip has completed; `None` at once if there is none.
    ///
    /// # Errors
    /// `Timeout`: the flip may still come, and its frames stay leased. `DeviceLost`: it will not; frames come back with
    /// the scanout's drop. As [`Scanout::dispatch`].
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Flipped>> {
        let deadline = sys::wait::deadline(timeout);
        loop {
            let flipped = self.dispatch()?;
            if flipped.is_some() || self.pending.is_none() {
                return Ok(flipped);
            }
            let now = Instant::now();
            if now >= deadline {
                self.check_device()?;
                let text = format!("the flip on {} has not completed in {timeout:?}", self.connector.name);
                return Err(Error::new(ErrorKind::Timeout, "poll", text).on(&self.device));
            }
            // Another scanout of the device may read our event: then nothing more wakes us.
            let alone = self.device.screens().crtcs.len() < 2;
            let slice = if alone { deadline } else { deadline.min(now + Duration::from_millis(5)) };
            let ready = sys::wait::until(self.device.fd(), PollFlags::POLLIN, slice)
                .map_err(|e| self.device.failed("poll", e))?;
            if ready.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) && !ready.contains(PollFlags::POLLIN) {
                let text = "the device gives no events any more";
                return Err(Error::new(ErrorKind::DeviceLost, "poll", text).on(&self.device));
            }
        }
    }

    /// Waits for the pending flip, then stages the frame and flips. The frame reaches the screen at the vertical blank
    /// after; what [`Scanout::wait`] said of the flip before is the answer.
    ///
    /// # Errors
    /// As [`Scanout::wait`], [`Scanout::stage`] and [`Scanout::try_flip`]; with the frame.
    pub fn present(
        &mut self,
        layer: PlaneLayer,
        frame: Frame,
        timeout: Duration,
    ) -> std::result::Result<Option<Flipped>, Rejected<Frame>> {
        let flipped = match self.wait(timeout) {
            Ok(flipped) => flipped,
            Err(error) => return Err(Rejected { error, item: frame }),
        };
        let spare = frame.clone();
        self.stage(layer, frame)?;
        match self.try_flip() {
            Ok(_) => Ok(flipped),
            Err(error) => {
                self.unstage(layer);
                Err(Rejected { error, item: spare })
            }
        }
    }

    /// Waits for the pending flip, switches the screen off and gives every frame back. The next flip switches it on
    /// again. Ioctl: `DRM_IOCTL_MODE_ATOMIC` or `SETCRTC`.
    ///
    /// # Errors
    /// `Timeout` as [`Scanout::wait`], `PermissionDenied` while another process is master: frames stay leased then.
    pub fn turn_off(&mut self, timeout: Duration) -> Result<()> {
        while self.pending.is_some() {
            self.wait(timeout)?;
        }
        if self.lit {
            let (done, op) = self.commit_off();
            done.map_err(|e| self.flip_failed(op, e))?;
            self.lit = false;
            self.written_back = None;
        }
        for work in &mut self.work {
            (work.next, work.shown) = (None, None);
        }
        self.framebuffers.sweep();
        Ok(())
    }
}

fn taken(change: Option<Change>) -> Option<Frame> {
    match change {
        Some(Change::Show(shown)) => Some(shown.frame),
        _ => None,
    }
}

fn foreign(device: &Device) -> Error {
    Error::new(ErrorKind::State, "stage", "the layer is another scanout's").on(device)
}

/// A number that no other commit of this process has.
pub(super) fn next_mark() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Drop for Scanout {
    fn drop(&mut self) {
        let off = self.turn_off(LAST_FLIP);
        // A device that is gone reads nothing any more.
        let gone = off.as_ref().is_err_and(|e| e.kind() == ErrorKind::DeviceLost);
        if self.pending.is_some() && !gone {
            // The display may read these for as long as the flip does not complete, and removing a framebuffer would
            // wait for it without a limit.
            crate::log::event!("{off:?}: the frames stay leased");
            std::mem::forget(std::mem::take(&mut self.work));
            std::mem::forget(std::mem::take(&mut self.framebuffers));
            return;
        }
        // What could not be switched off may be on the screen yet: the kernel takes it away with the framebuffer, which
        // the lease must outlast.
        let work = std::mem::take(&mut self.work);
        let planes: Vec<_> = work.iter().map(|w| w.plane.id).collect();
        let pending = |c: Option<Change>| match c {
            Some(Change::Show(shown)) => Some(shown),
            _ => None,
        };
        let leases = work.into_iter().flat_map(|w| [w.shown, pending(w.pending)]).flatten().map(|s| s.frame);
        let leases: Vec<_> = leases.collect();
        drop(std::mem::take(&mut self.framebuffers));
        drop(leases);
        if let Some(before) = self.before.take().filter(|_| self.stats.flips > 0 && off.is_ok()) {
            before.restore(&self.device);
        }
        if let Some(props) = &self.atomic {
            let _ = self.device.0.node.destroy_property_blob(props.blob);
        }
        self.device.release(self.crtc, planes.into_iter());
    }
}

impl AsFd for Scanout {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.fd()
    }
}

impl fmt::Debug for Scanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scanout({} {} on {})", self.connector.name, self.mode, self.device)
    }
}
