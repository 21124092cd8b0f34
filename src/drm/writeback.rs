//! A picture of the screen that the display controller writes to memory.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::commit::WriteTo;
use super::device::Device;
use super::framebuffer::Framebuffer;
use super::objects::Modifier;
use super::output::Api;
use super::retained::{Retained, Until};
use super::scanout::{next_mark, Scanout};
use super::writeback_port::WriteBackPort;
use crate::dmabuf::{self, SyncFile};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::flags::Flags;
use crate::format::MAX_PLANES;
use crate::frame::{Frame, FrameFlags, FrameMut, Payload};
use crate::station::{ended, sealed, Received, Station};
use crate::sys;
use crate::sys::readiness::Readiness;

/// Longer than the device takes to write a picture.
const WRITTEN: Duration = Duration::from_secs(1);

/// A picture that the display controller is writing. See [`Scanout::write_back`](super::Scanout::write_back).
///
/// A `WriteBack` is a [`Station`] that gives one frame and then [`Received::Ended`]. The frame's timestamp is the time
/// of the call that returns it. If the device failed, the frame has the flag [`ERROR`](FrameFlags::ERROR).
///
/// If the `WriteBack` is dropped before the picture is written, the buffer does not return to its pool at once. The
/// buffer returns in a later call of `write_back`, or when the device is closed.
pub struct WriteBack {
    device: Device,
    /// `None` after the frame was received.
    target: Option<(Framebuffer, FrameMut)>,
    fence: SyncFile,
    /// Watches the fence until `try_recv` has returned the end. A fence that has signaled stays readable.
    readiness: Readiness,
    is_over: bool,
}

impl Scanout {
    /// Starts a write-back. The display controller composes all layers of the screen and writes the result into
    /// `target`. The target must have the size of the screen. Waits at most `timeout` for the pending flip. Later flips
    /// wait for the write-back. Uses the properties `WRITEBACK_FB_ID` and `WRITEBACK_OUT_FENCE_PTR`, and needs the
    /// atomic interface.
    ///
    /// A scanout on a writeback connector can always write back. On the scanout of a display, the first call adds a
    /// writeback connector to the CRTC. Some displays then blink. If a driver cannot clone encoders, it refuses the
    /// writeback connector. One such driver is vkms of Linux 6.12.
    ///
    /// # Errors
    /// Every error gives the target back. `Timeout` if the pending flip has not completed. `State` before the first
    /// flip, or with the legacy interface. `Mismatch` if the target does not have the size of the screen. `Unsupported`
    /// without a writeback connector, or if the connector does not write the target's format (the text lists the
    /// formats that the connector writes). `InvalidArgument` if the driver cannot write back while it drives this
    /// display. `PermissionDenied` while another process is DRM master. `DeviceLost` after an unplug.
    #[doc(alias = "WRITEBACK_FB_ID")]
    pub fn write_back(
        &mut self,
        target: FrameMut,
        timeout: Duration,
    ) -> std::result::Result<WriteBack, Rejected<FrameMut>> {
        match start(self, &target, timeout) {
            Ok(Started { framebuffer, fence, readiness }) => {
                let device = self.device().clone();
                Ok(WriteBack { device, target: Some((framebuffer, target)), fence, readiness, is_over: false })
            }
            Err(error) => Err(Rejected { error, item: target }),
        }
    }
}

/// A write-back that the device has begun.
struct Started {
    framebuffer: Framebuffer,
    fence: SyncFile,
    readiness: Readiness,
}

fn start(screen: &mut Scanout, target: &FrameMut, timeout: Duration) -> Result<Started> {
    const OP: &str = "WRITEBACK_FB_ID";
    let readiness = Readiness::new().map_err(|e| Error::os("epoll_create1", e))?;
    let device = screen.device().clone();
    device.release_retained();
    let wrong = |kind, text: String| Err(Error::new(kind, OP, text).on(&device));
    if !screen.settle(timeout)? {
        return wrong(ErrorKind::Timeout, format!("the pending flip has not completed in {timeout:?}"));
    }
    let size = screen.size();
    let (output, committer, planes) = screen.parts();
    if committer.api() == Api::Legacy || !output.is_lit {
        return wrong(ErrorKind::State, "no picture is shown yet, or the interface is not atomic".into());
    }
    let layout = *target.layout();
    if layout.size() != size {
        return wrong(ErrorKind::Mismatch, format!("the screen is {size}, the target {layout}"));
    }
    let tied = committer.tied().cloned();
    let ties = tied.is_none() && !output.connector.writeback;
    let port = tied.map_or_else(|| WriteBackPort::find(output), Ok)?;
    port.check_format(output, layout.fourcc())?;
    let modifier = device.info().modifiers.then_some(Modifier::LINEAR);
    let whole = [Payload::default(); MAX_PLANES];
    let framebuffer = Framebuffer::of(&device, target.memory(), &layout, &whole, modifier)?;
    let mark = next_mark();
    let to = WriteTo { port: &port, framebuffer: framebuffer.id() };
    let fence = committer.write_back(output, planes, to, mark).map_err(|refusal| {
        if ties && refusal.errno == Errno::EINVAL {
            let name = &screen.connector().name;
            let text = format!("{}; the driver does not write back besides {name}", refusal.errno.desc());
            return device.failed(refusal.op, refusal.errno).detail(text);
        }
        screen.refused(refusal)
    })?;
    screen.submitted_without_frames(mark);
    match fence {
        Some(fence) => {
            if let Err(e) = readiness.add(&fence, EpollFlags::EPOLLIN, 0) {
                // Returns the target only after the device has written it.
                let _ = fence.wait(WRITTEN);
                return Err(Error::os("epoll_ctl", e).on(&device));
            }
            Ok(Started { framebuffer, fence, readiness })
        }
        None => {
            // Without a fence the end of the write is unknown, so the framebuffer stays until the file is closed.
            framebuffer.leave();
            wrong(ErrorKind::Os, "the driver did not return a fence".into())
        }
    }
}

impl sealed::Sealed for WriteBack {}

impl Station for WriteBack {
    type Event = Frame;

    /// Does nothing: the device does the work.
    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<Frame>> {
        if self.target.is_none() {
            return match std::mem::replace(&mut self.is_over, true) {
                false => {
                    self.readiness.remove(&self.fence);
                    Ok(Received::Ended)
                }
                true => Err(ended("recv")),
            };
        }
        if !self.fence.wait(Duration::ZERO)? {
            return Ok(Received::Nothing);
        }
        let failed = dmabuf::check(self.fence.as_fd()).is_err();
        let written = |(_, frame): (_, FrameMut)| {
            let frame = frame.freeze_full(0, sys::clock::monotonic_ns());
            let mut meta = *frame.meta();
            meta.flags.set(FrameFlags::ERROR, failed);
            frame.with_meta(meta)
        };
        Ok(self.target.take().map(written).into())
    }
}

/// Returns a descriptor that is readable after the picture was written. The descriptor stays readable until `try_recv`
/// has returned the end.
impl AsFd for WriteBack {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        self.readiness.remove(&self.fence);
        let Some((framebuffer, target)) = self.target.take() else { return };
        if self.fence.wait(Duration::ZERO).unwrap_or(false) {
            return;
        }
        // The device may still write to the buffer.
        let until =
            self.fence.as_fd().try_clone_to_owned().map_or(Until::Closed, |fd| Until::Fence(SyncFile::from_fd(fd)));
        self.device.retain(Retained {
            until,
            framebuffers: vec![framebuffer.leave()],
            _frames: Vec::new(),
            _target: Some(target),
            crtc: None,
            planes: Vec::new(),
        });
    }
}

impl fmt::Debug for WriteBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteBack({:?})", self.target.as_ref().map(|(_, frame)| frame))
    }
}
