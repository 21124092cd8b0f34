//! The commands that drain and resume a stateful encoder or decoder.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::device::Device;
use crate::error::{ErrorKind, Result};
use crate::sys::v4l2::{DecoderCmd, EncoderCmd, Plain};
use crate::sys::v4l2_calls as calls;

/// A command to a codec (`V4L2_ENC_CMD_*`, `V4L2_DEC_CMD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodecCommand {
    /// Resumes after a drain.
    Start,
    /// Drains the codec. It processes everything that is queued, and flags the last capture buffer
    /// [`LAST`](crate::frame::FrameFlags::LAST).
    Stop,
}

impl CodecCommand {
    fn number(self) -> u32 {
        match self {
            Self::Start => 0,
            Self::Stop => 1,
        }
    }
}

impl Device {
    /// Sends a command to an encoder. The command takes effect only while both queues stream (`dev-encoder.rst`,
    /// "Drain"). Ioctl: `VIDIOC_ENCODER_CMD`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the command, `Busy` during a drain.
    #[doc(hidden)]
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    pub fn encoder_command(&self, command: CodecCommand) -> Result<()> {
        let mut arg = EncoderCmd { cmd: command.number(), ..EncoderCmd::zeroed() };
        calls::encoder_cmd(self.as_fd(), &mut arg).map_err(|e| self.refused("VIDIOC_ENCODER_CMD", command, e))
    }

    /// Sends a command to a decoder. The command takes effect only while both queues stream (`dev-decoder.rst`,
    /// "Drain"). Ioctl: `VIDIOC_DECODER_CMD`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the command, `Busy` during a drain.
    #[doc(hidden)]
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn decoder_command(&self, command: CodecCommand) -> Result<()> {
        let mut arg = DecoderCmd { cmd: command.number(), ..DecoderCmd::zeroed() };
        calls::decoder_cmd(self.as_fd(), &mut arg).map_err(|e| self.refused("VIDIOC_DECODER_CMD", command, e))
    }

    /// Returns whether the device supports a command as an encoder. Changes nothing. Ioctl: `VIDIOC_TRY_ENCODER_CMD`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug.
    #[doc(hidden)]
    #[doc(alias = "VIDIOC_TRY_ENCODER_CMD")]
    pub fn takes_encoder_command(&self, command: CodecCommand) -> Result<bool> {
        let mut arg = EncoderCmd { cmd: command.number(), ..EncoderCmd::zeroed() };
        self.taken("VIDIOC_TRY_ENCODER_CMD", calls::try_encoder_cmd(self.as_fd(), &mut arg))
    }

    /// Returns whether the device supports a command as a decoder. Changes nothing. Ioctl: `VIDIOC_TRY_DECODER_CMD`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug.
    #[doc(hidden)]
    #[doc(alias = "VIDIOC_TRY_DECODER_CMD")]
    pub fn takes_decoder_command(&self, command: CodecCommand) -> Result<bool> {
        let mut arg = DecoderCmd { cmd: command.number(), ..DecoderCmd::zeroed() };
        self.taken("VIDIOC_TRY_DECODER_CMD", calls::try_decoder_cmd(self.as_fd(), &mut arg))
    }

    fn taken(&self, op: &'static str, answer: std::result::Result<(), Errno>) -> Result<bool> {
        match answer {
            Ok(()) => Ok(true),
            Err(Errno::EINVAL | Errno::ENOTTY | Errno::EPERM) => Ok(false),
            Err(e) => Err(self.failed(op, e)),
        }
    }

    fn refused(&self, op: &'static str, command: CodecCommand, errno: Errno) -> crate::Error {
        let error = self.failed(op, errno).detail(format!("{}; asked {command:?}", errno.desc()));
        match errno {
            Errno::EINVAL | Errno::EPERM => error.kind_is(ErrorKind::Unsupported),
            _ => error,
        }
    }
}
