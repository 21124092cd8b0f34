//! What the screen shows, written to memory by the display controller: writeback connectors.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ::drm::control::{connector, from_u32, Device as _};

use super::commit::FenceWish;
use super::framebuffer::{drm_code, Framebuffer, Modifier};
use super::objects::{code, Connector};
use super::scanout::{next_mark, Scanout};
use nix::errno::Errno;

use crate::dmabuf::SyncFile;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{Frame, FrameMut, Payload};
use crate::sys;
use crate::sys::drm::{Commit, FenceProp, ValueProp};

/// A writeback connector and its properties.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) id: u32,
    crtc: ValueProp,
    framebuffer: ValueProp,
    fence: FenceProp,
    formats: Vec<u32>,
}

impl Port {
    /// The first writeback connector that takes this CRTC.
    fn find(screen: &Scanout) -> Result<Self> {
        let device = &screen.device;
        let own = screen.connector().writeback.then_some(screen.connector().id);
        let usable = |c: &Connector| c.writeback && own.map_or(true, |id| id == c.id);
        for connector in device.connectors()?.into_iter().filter(usable) {
            if !device.crtcs_of(&connector)?.iter().any(|(id, _)| *id == screen.crtc) {
                continue;
            }
            let Some(handle) = from_u32::<connector::Handle>(connector.id) else { continue };
            let props = device.props(handle)?;
            let formats = props.current("WRITEBACK_PIXEL_FORMATS").filter(|&b| b != 0);
            let blob = formats.and_then(|b| device.0.node.get_property_blob(b).ok()).unwrap_or_default();
            let words = blob.chunks_exact(4).filter_map(|b| b.try_into().ok().map(u32::from_ne_bytes));
            if let (Some(crtc), Some(framebuffer), Some(fence)) =
                (props.value("CRTC_ID"), props.value("WRITEBACK_FB_ID"), props.fence("WRITEBACK_OUT_FENCE_PTR"))
            {
                return Ok(Self { id: connector.id, crtc, framebuffer, fence, formats: words.collect() });
            }
        }
        let text = "no writeback connector takes the picture of this CRTC";
        Err(Error::new(ErrorKind::Unsupported, "WRITEBACK_FB_ID", text).on(device))
    }

    /// Takes it from its CRTC.
    pub(super) fn detach(&self, commit: &mut Commit, display: u32) {
        if self.id == display {
            return;
        }
        commit.object(self.id);
        commit.set(self.crtc, 0);
    }
}

/// A picture that the display controller writes. Dropped before it is done, it keeps its buffer from its pool for ever:
/// [`WriteBack::wait`] for it.
pub struct WriteBack {
    /// `None` once the frame was given out.
    target: Option<(Framebuffer, FrameMut)>,
    fence: SyncFile,
}

impl WriteBack {
    /// Waits until the picture is written. Its time is that of this call's return.
    ///
    /// # Errors
    /// `Timeout`, with what is still to be waited for.
    pub fn wait(mut self, timeout: Duration) -> std::result::Result<Frame, Rejected<Self>> {
        let error = match self.fence.wait(timeout) {
            Ok(true) => match self.target.take() {
                Some((_, frame)) => return Ok(frame.freeze_full(0, sys::clock::monotonic_ns())),
                None => Error::new(ErrorKind::State, "poll", "the picture was given out"),
            },
            Ok(false) => Error::new(ErrorKind::Timeout, "poll", format!("no picture was written in {timeout:?}")),
            Err(e) => e,
        };
        Err(Rejected { error, item: self })
    }
}

/// Readable when the picture is written.
impl AsFd for WriteBack {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fence.as_fd()
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        if self.target.is_some() && !self.fence.wait(Duration::ZERO).unwrap_or(false) {
            // The device may write to it yet.
            std::mem::forget(self.target.take());
        }
    }
}

impl fmt::Debug for WriteBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteBack({:?})", self.target.as_ref().map(|(_, frame)| frame))
    }
}

impl Scanout {
    /// Has the display controller write what the screen shows, all layers composed, into `target`, which has the
    /// screen's size. Waits at most `timeout` for the flip before it; flips behind it wait for it. Properties
    /// `WRITEBACK_FB_ID`, `WRITEBACK_OUT_FENCE_PTR`; atomic alone.
    ///
    /// A scanout on a writeback connector has it already. Beside a display it is tied to the CRTC the first time, for
    /// which some displays blink, and which drivers refuse whose encoders are no clones of each other (vkms, since
    /// Linux has looked at `possible_clones`).
    ///
    /// # Errors
    /// `Unsupported` without a writeback connector, or for a format that it does not write: the text lists those;
    /// `InvalidArgument` if the driver does not write back beside this display, `State` before the first flip,
    /// `Mismatch` for another size, and as [`Scanout::try_flip`]; with the target.
    #[doc(alias = "WRITEBACK_FB_ID")]
    pub fn write_back(
        &mut self,
        target: FrameMut,
        timeout: Duration,
    ) -> std::result::Result<WriteBack, Rejected<FrameMut>> {
        match self.start(&target, timeout) {
            Ok((framebuffer, fence)) => Ok(WriteBack { target: Some((framebuffer, target)), fence }),
            Err(error) => Err(Rejected { error, item: target }),
        }
    }

    fn start(&mut self, target: &FrameMut, timeout: Duration) -> Result<(Framebuffer, SyncFile)> {
        const OP: &str = "WRITEBACK_FB_ID";
        while self.pending.is_some() {
            self.wait(timeout)?;
        }
        let wrong = |kind, text: String| Err(Error::new(kind, OP, text).on(&self.device));
        if self.atomic.is_none() || !self.lit {
            return wrong(ErrorKind::State, "there is no picture yet, or no atomic interface".into());
        }
        let layout = *target.layout();
        if layout.size() != self.size() {
            return wrong(ErrorKind::Mismatch, format!("the screen is {}, the target {layout}", self.size()));
        }
        let port = match &self.written_back {
            Some(port) => port.clone(),
            None => Port::find(self)?,
        };
        let wanted = drm_code(layout.fourcc())?;
        if !port.formats.contains(&wanted) {
            let offered: Vec<_> = port.formats.iter().map(|&f| code(f)).collect();
            let text = format!("asked {}; the connector writes {}", code(wanted), offered.join(", "));
            return wrong(ErrorKind::Unsupported, text);
        }
        let modifier = self.device.info().modifiers.then_some(Modifier::LINEAR);
        let whole = [Payload::default(); crate::format::MAX_PLANES];
        let framebuffer = Framebuffer::of(&self.device, target.memory(), &layout, &whole, modifier)?;
        self.begin(false, FenceWish::None);
        self.commit.object(port.id);
        self.commit.set(port.crtc, self.crtc.into());
        self.commit.set(port.framebuffer, framebuffer.id().into());
        self.commit.ask_fence(port.fence);
        // Planes that do not change must be in it for drivers that compose only what a commit brings.
        for work in &self.work {
            let show = work.shown.as_ref().map(|s| (s.framebuffer.id(), None));
            work.write(&mut self.commit, self.crtc, show);
        }
        let mark = next_mark();
        let tie = self.written_back.is_none() && !self.connector().writeback;
        let first = if tie { sys::drm::ALLOW_MODESET } else { 0 };
        let flags = sys::drm::NONBLOCK | sys::drm::PAGE_FLIP_EVENT | first;
        let done = self.commit.submit(self.device.fd(), flags, mark);
        done.map_err(|e| match e {
            Errno::EINVAL if tie => {
                let text = format!("{}; the driver does not write back beside {}", e.desc(), self.connector().name);
                self.device.failed("DRM_IOCTL_MODE_ATOMIC", e).detail(text)
            }
            e => self.flip_failed("DRM_IOCTL_MODE_ATOMIC", e),
        })?;
        let fence = self.commit.take_fence(0).map(SyncFile::from_fd);
        self.pending_write_back(mark);
        self.written_back = Some(port);
        match fence {
            Some(fence) => Ok((framebuffer, fence)),
            None => {
                // Nobody can tell when the device is done with it.
                std::mem::forget(framebuffer);
                wrong_fence(self)
            }
        }
    }
}

fn wrong_fence(screen: &Scanout) -> Result<(Framebuffer, SyncFile)> {
    let text = "the driver gave no fence";
    Err(Error::new(ErrorKind::Os, "WRITEBACK_OUT_FENCE_PTR", text).on(&screen.device))
}
