//! Ends a stream of an encoder and begins the next, with the frames that the device had.

use super::controls::FORCE_KEY_FRAME;
use super::encoder::Encoder;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::v4l2::{ControlValue, Reclaimed, Resumed};

impl Encoder {
    /// Ends the stream. The device encodes every submitted frame. Continue to take packets until
    /// [`Ended`](crate::Received::Ended) comes. Set a time limit for this, because some drivers miss a drain that
    /// arrives while they finish the last frame (see [boards](crate::guide::boards)). Ioctl: `VIDIOC_ENCODER_CMD`
    /// with `V4L2_ENC_CMD_STOP`.
    ///
    /// # Errors
    /// `State` before the first frame (the stream would not end). `Busy` during a drain. `Unsupported` if the driver
    /// cannot drain.
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    pub fn drain(&mut self) -> Result<()> {
        if self.halted.is_some() {
            self.restart()?;
        }
        self.pair.drain()?;
        self.is_draining = true;
        Ok(())
    }

    /// Resumes encoding after [`Ended`](crate::Received::Ended). If the driver cannot resume, the call begins a new
    /// stream, as [`Encoder::reset`] does. Ioctls: `VIDIOC_ENCODER_CMD` with `V4L2_ENC_CMD_START`, `VIDIOC_DQBUF`,
    /// and for a new stream those of [`Encoder::reset`].
    ///
    /// # Errors
    /// `State` before [`Ended`](crate::Received::Ended). `DeviceLost` after an unplug. Other errors are those of the
    /// driver; the call can be repeated.
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    pub fn resume(&mut self) -> Result<Resumed> {
        if self.halted.is_none() && self.continue_stream()? {
            return Ok(Resumed::Continued);
        }
        self.restart()?;
        Ok(Resumed::Restarted)
    }

    /// Continues the stream with the frames that were submitted since the drain. Returns `false` if the driver cannot.
    fn continue_stream(&mut self) -> Result<bool> {
        let had_ended = self.pair.capture().has_ended();
        let resumed = self.pair.try_resume();
        if !had_ended || self.pair.capture().has_ended() {
            return resumed;
        }
        self.is_draining = false;
        let later = std::mem::take(&mut self.later);
        let continued = resumed.and_then(|_| self.queue_all(&later));
        if continued.is_err() {
            // The next call begins a new stream with them.
            drop(self.free());
            self.halted = Some(later);
        }
        self.pair.noted(continued)?;
        Ok(true)
    }

    /// Begins a new stream, with parameter sets and a key frame. Frames that are already submitted are encoded in the
    /// new stream. Packets that the caller has not received are lost. Leased packets stay intact.
    ///
    /// The call restarts both queues with new buffers, because amphion and Venus cannot restart one alone. Ioctls, on
    /// each queue: `VIDIOC_STREAMOFF`, `VIDIOC_REQBUFS` twice, `VIDIOC_QBUF`, and `VIDIOC_STREAMON`;
    /// `VIDIOC_S_EXT_CTRLS`.
    ///
    /// # Errors
    /// `State` before the first frame. `DeviceLost` after an unplug. Other errors are those of the driver. After an
    /// error the encoder keeps its frames. The next frame, or a repeated call, tries again.
    pub fn reset(&mut self) -> Result<()> {
        if self.halted.is_none() && !self.pair.capture().is_streaming() {
            return Err(Error::new(ErrorKind::State, "reset", "no frame was submitted").on(self.device()));
        }
        self.restart()
    }

    /// Restarts both queues with new buffers, and submits the frames again that the device had.
    pub(super) fn restart(&mut self) -> Result<()> {
        let frames = self.free();
        self.stream.restart();
        let begun = self.begin_with(&frames);
        if begun.is_err() {
            self.pair.free();
            self.halted = Some(frames);
        }
        self.pair.noted(begun)
    }

    fn begin_with(&mut self, frames: &[Frame]) -> Result<()> {
        self.wanted.allocate(&mut self.pair, &self.setup)?;
        // On a Raspberry Pi, a restart alone does not begin with a key frame. Some drivers do not have the control.
        let _ = self.device().set_control(FORCE_KEY_FRAME, ControlValue::Press);
        self.queue_all(frames)?;
        match frames {
            [] => Ok(()),
            _ => self.pair.start(),
        }
    }

    fn queue_all(&mut self, frames: &[Frame]) -> Result<()> {
        for frame in frames {
            if !self.pair.queue(frame.clone()).map_err(|rejected| rejected.error)?.is_taken() {
                let text = "the driver gave fewer buffers than before";
                return Err(Error::new(ErrorKind::Exhausted, "VIDIOC_REQBUFS", text).on(self.device()));
            }
        }
        Ok(())
    }

    /// Stops both queues and frees them. Returns the frames that the device had not read, as far as it reports.
    pub(super) fn free(&mut self) -> Vec<Frame> {
        // A lost device reports nothing more.
        let _ = self.collect();
        let has_ended = self.pair.capture().has_ended();
        let Reclaimed { frames, .. } = self.pair.free();
        let coded = self.coded.take();
        let is_coded = |frame: &Frame| Some((frame.meta().sequence, frame.meta().timestamp_ns)) == coded;
        // Sources may repeat both.
        let is_known = frames.iter().filter(|frame| is_coded(frame)).count() == 1;
        let frames = frames.into_iter().filter(|frame| !(has_ended || is_known && is_coded(frame)));
        self.is_draining = false;
        let halted = self.halted.take().unwrap_or_default();
        halted.into_iter().chain(frames).chain(self.later.drain(..)).collect()
    }
}
