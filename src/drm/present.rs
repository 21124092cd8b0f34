//! Frames on their way to the screen: staged for a layer, then shown together by one flip.

use std::time::Duration;

use super::commit::FenceWish;
use super::device::Device;
use super::layer::{Change, PlaneLayer, PlaneState, Shown};
use super::monitor::Presence;
use super::output::Api;
use super::scanout::{next_mark, Pending, Scanout};
use crate::dmabuf::SyncFile;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::Frame;
use crate::station::Submitted;
use crate::sys;
use crate::sys::wait::{self, Waited};

impl Scanout {
    /// Returns the frame that the screen shows on a layer.
    #[doc(hidden)]
    pub fn shown(&self, layer: PlaneLayer) -> Option<&Frame> {
        self.planes.get(layer.index_in(self.id)?)?.shown.as_ref().map(|s| &s.frame)
    }

    /// Stages a frame for the next present. Returns the frame that was staged before, if there is one. That frame is
    /// not shown.
    ///
    /// A new buffer is imported (`DRM_IOCTL_PRIME_FD_TO_HANDLE`, `DRM_IOCTL_MODE_ADDFB2`) and stays imported until its
    /// pool is gone. Later frames in the same buffer cost no system call.
    ///
    /// # Errors
    /// Every error gives the frame back. Other staged frames stay staged. `Mismatch` if the frame does not have the
    /// format and size of the layer, or if the frame's buffer is too small. `Unsupported` if the buffer is a memfd.
    /// `State` if the layer belongs to another scanout. `InvalidArgument` if the driver refuses the stride.
    pub fn stage(&mut self, layer: PlaneLayer, frame: Frame) -> std::result::Result<Option<Frame>, Rejected<Frame>> {
        self.put(layer, frame, None)
    }

    /// Stages a frame with a fence. The display waits for the fence before it shows the frame (`IN_FENCE_FD`). Use this
    /// call for a frame that the producer has not finished. Fences that are attached to the dma-buf do not need this
    /// call, because the display waits for them anyway.
    ///
    /// # Errors
    /// The errors of [`Scanout::stage`]. `Unsupported` also if the plane does not support fences.
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
        let device = &self.output.device;
        let Some(plane) = layer.index_in(self.id).and_then(|index| self.planes.get_mut(index)) else {
            return Err(Rejected { error: foreign(device), item: frame });
        };
        if fence.is_some() && !plane.takes_fences() {
            let text = format!("no IN_FENCE_FD: wait for the fence first; {}", plane.plane);
            return Err(Rejected { error: Error::new(ErrorKind::Unsupported, "stage", text).on(device), item: frame });
        }
        self.framebuffers.sweep();
        let checked = plane.check(frame.layout()).map_err(|e| e.on(device));
        let made = checked.and_then(|()| self.framebuffers.get(device, &frame, plane.modifier));
        let framebuffer = match made {
            Ok(framebuffer) => framebuffer,
            Err(error) => {
                self.failed(&error);
                return Err(Rejected { error, item: frame });
            }
        };
        let before = taken(plane.next.replace(Change::Show(Shown { framebuffer, frame, fence })));
        self.stats.replaced += u64::from(before.is_some());
        Ok(before)
    }

    /// Hides a layer with the next present. Returns the frame that was staged for the layer, if there is one.
    ///
    /// # Errors
    /// `State` for a layer of another scanout. `Unsupported` for the legacy interface.
    pub fn hide(&mut self, layer: PlaneLayer) -> Result<Option<Frame>> {
        if self.api() == Api::Legacy {
            let text = "the legacy interface cannot switch a single plane off";
            return Err(Error::new(ErrorKind::Unsupported, "hide", text).on(self.device()));
        }
        let plane = layer.index_in(self.id).and_then(|index| self.planes.get_mut(index));
        let plane = plane.ok_or_else(|| foreign(&self.output.device))?;
        Ok(taken(plane.next.replace(Change::Hide)))
    }

    /// Removes the staged frame of a layer and returns it.
    pub(crate) fn unstage(&mut self, layer: PlaneLayer) -> Option<Frame> {
        taken(self.planes.get_mut(layer.index_in(self.id)?)?.next.take())
    }

    /// Presents everything that is staged, at the next vertical blank. Does not wait for the blank. Does nothing if
    /// nothing is staged.
    ///
    /// Returns [`Submitted::Full`] while the previous flip is pending, and while no display is plugged in. The staged
    /// frames then stay staged. The first present sets the mode, and the screen may blink. The first present after
    /// another process was master, or after the display came back, sets the mode again. Ioctl: `DRM_IOCTL_MODE_ATOMIC`
    /// (nonblocking, with an event), or `DRM_IOCTL_MODE_PAGE_FLIP`.
    ///
    /// # Errors
    /// After an error, staged frames stay staged. `PermissionDenied` while another process is DRM master, for example
    /// after a switch of virtual terminals. `Busy` while a commit of another program is pending. `InvalidArgument` if
    /// the driver cannot show these frames. `NotFound` if the display that came back does not have the mode: call
    /// [`Scanout::reopen`]. `DeviceLost` if the device is gone.
    #[doc(alias = "DRM_IOCTL_MODE_ATOMIC")]
    #[doc(alias = "DRM_IOCTL_MODE_PAGE_FLIP")]
    #[doc(alias = "DRM_IOCTL_MODE_SETCRTC")]
    pub fn try_present(&mut self) -> Result<Submitted<()>> {
        let submitted = self.submit(FenceWish::None).map(|(submitted, _)| submitted);
        self.monitor.show_events(&self.output);
        submitted
    }

    /// Presents like [`Scanout::try_present`], and also returns a fence (`OUT_FENCE_PTR`). The fence signals when the
    /// flip has completed and the replaced frame is free. The fence is `None` if nothing was submitted.
    ///
    /// # Errors
    /// The errors of [`Scanout::try_present`]. `Unsupported` also with the legacy interface.
    pub fn try_present_fenced(&mut self) -> Result<(Submitted<()>, Option<SyncFile>)> {
        if !self.committer.has_out_fence() {
            let text = "the CRTC, or the legacy interface, does not have this property";
            return Err(Error::new(ErrorKind::Unsupported, "OUT_FENCE_PTR", text).on(self.device()));
        }
        let submitted = self.submit(FenceWish::Out);
        self.monitor.show_events(&self.output);
        submitted
    }

    /// Presents everything that is staged. Waits at most `timeout` for the previous flip. A signal handler also ends
    /// the wait. Does not wait for the new flip.
    ///
    /// # Errors
    /// The errors of [`Scanout::try_present`].
    pub fn present(&mut self, timeout: Duration) -> Result<Submitted<()>> {
        let deadline = wait::deadline(timeout);
        let submitted = loop {
            // While a flip is pending, an attempt before the first wait would fail.
            if self.pending.is_none() || self.monitor.presence() != Presence::Here {
                match self.submit(FenceWish::None) {
                    Ok((Submitted::Full(()), _)) => {}
                    done => break done.map(|(submitted, _)| submitted),
                }
            }
            match self.wait_and_work(deadline) {
                Ok(Waited::Ready) => {}
                Ok(Waited::TimedOut | Waited::Interrupted) => break Ok(Submitted::Full(())),
                Err(e) => break Err(e),
            }
        };
        self.monitor.show_events(&self.output);
        submitted
    }

    /// Stages a frame and presents it. Waits at most `timeout` for the previous flip. The frame reaches the screen at
    /// the vertical blank after that.
    ///
    /// # Errors
    /// Every error gives the frame back. The errors are those of [`Scanout::stage`] and [`Scanout::try_present`].
    pub fn present_frame(
        &mut self,
        layer: PlaneLayer,
        frame: Frame,
        timeout: Duration,
    ) -> std::result::Result<Submitted<Frame>, Rejected<Frame>> {
        let spare = frame.clone();
        self.stage(layer, frame)?;
        match self.present(timeout) {
            Ok(Submitted::Taken) => Ok(Submitted::Taken),
            Ok(Submitted::Full(())) => {
                self.unstage(layer);
                Ok(Submitted::Full(spare))
            }
            Err(error) => {
                self.unstage(layer);
                Err(Rejected { error, item: spare })
            }
        }
    }

    /// Submits the staged frames, if no flip is pending.
    fn submit(&mut self, wish: FenceWish) -> Result<(Submitted<()>, Option<SyncFile>)> {
        const FULL: Submitted<()> = Submitted::Full(());
        if self.pending.is_some() || self.monitor.presence() != Presence::Here {
            self.work()?;
        }
        let is_something_staged = self.planes.iter().any(|p| p.next.is_some());
        let now_ns = sys::clock::monotonic_ns();
        let is_due = self.pending.is_none() && is_something_staged && self.output.is_question_due(now_ns);
        // A lost display may be back since the last alarm.
        if is_due || self.monitor.presence() == Presence::NoDisplay {
            self.monitor.look(&mut self.output, now_ns);
            self.give_back_if_gone();
        }
        match self.monitor.presence() {
            Presence::NoDevice { .. } => return Err(self.monitor.no_device(&self.output)),
            Presence::NoDisplay => return Ok((FULL, None)),
            Presence::Here if self.pending.is_some() => return Ok((FULL, None)),
            Presence::Here if !is_something_staged => return Ok((Submitted::Taken, None)),
            Presence::Here => self.monitor.check_mode(&self.output)?,
        }
        let mark = next_mark();
        let is_modeset = !self.output.is_lit;
        if is_modeset {
            self.set_mode()?;
        }
        let flipped = self.committer.flip(&self.output, &self.planes, wish, mark);
        let fence = flipped.map_err(|refusal| self.refused(refusal))?;
        self.output.is_lit = true;
        self.pending = Some(Pending { mark, submitted_ns: now_ns, is_flip: true, is_modeset });
        self.monitor.submitted();
        for plane in &mut self.planes {
            (plane.pending, plane.trial) = (plane.next.take(), None);
            // The kernel has its own reference.
            if let Some(Change::Show(shown)) = &mut plane.pending {
                shown.fence = None;
            }
        }
        Ok((Submitted::Taken, fence))
    }

    /// Sets the mode before a flip, with the legacy interface. The screen then shows a staged picture, also if the flip
    /// fails. So the picture has a second lease.
    fn set_mode(&mut self) -> Result<()> {
        let set = self.committer.set_mode(&self.output, &self.planes);
        if set.map_err(|refusal| self.refused(refusal))? {
            self.output.is_lit = true;
            let _ = self.planes.iter_mut().any(PlaneState::show_staged);
        }
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
    Error::new(ErrorKind::State, "stage", "the layer belongs to another scanout").on(device)
}
