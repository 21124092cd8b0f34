//! Analog video standards of an input: PAL, NTSC, SECAM.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::{flags, Flags};
use crate::sys::v4l2_calls as calls;

flags! {
    /// One or more analog video standards (`v4l2_std_id`).
    pub struct Standard {
        /// All PAL standards of 625 lines and 4.43 MHz: B, G, H, I, D, K.
        pub const PAL = 0xff;
        /// PAL of 525 lines, as in Brazil.
        pub const PAL_M = 0x100;
        /// PAL of 625 lines and 3.58 MHz, as in Uruguay.
        pub const PAL_N = 0x200;
        /// The combination N standard, as in Argentina.
        pub const PAL_NC = 0x400;
        /// PAL of 525 lines and 60 fields a second.
        pub const PAL_60 = 0x800;
        /// NTSC of 525 lines: M, also of Japan and Korea.
        pub const NTSC = 0xb000;
        /// NTSC with the color carrier of PAL.
        pub const NTSC_443 = 0x4000;
        /// All SECAM standards, of 625 lines.
        pub const SECAM = 0xff_0000;
    }
}

impl Standard {
    /// Returns `true` for standards of 525 lines. The bottom field of their pictures comes first.
    pub(super) fn has_525_lines(self) -> bool {
        self.intersects(Self::PAL_M | Self::PAL_60 | Self::NTSC | Self::NTSC_443)
    }
}

impl Device {
    /// Returns the analog standard of the present input, or `None` if the input does not have one. Ioctl:
    /// `VIDIOC_G_STD`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug. Other errors are those of the driver.
    #[doc(alias = "VIDIOC_G_STD")]
    pub fn standard(&self) -> Result<Option<Standard>> {
        self.ask_standard("VIDIOC_G_STD", calls::g_std)
    }

    /// Returns the standards that the present input may be receiving, or `None` without a signal. Several standards are
    /// set if the driver cannot tell them apart. Ioctl: `VIDIOC_QUERYSTD`.
    ///
    /// # Errors
    /// `Busy` while some devices stream. Other errors are those of the driver.
    #[doc(alias = "VIDIOC_QUERYSTD")]
    pub fn detect_standard(&self) -> Result<Option<Standard>> {
        self.ask_standard("VIDIOC_QUERYSTD", calls::querystd)
    }

    /// Sets the analog standard of the present input. The size and the frame interval change with it, so set it before
    /// the camera is opened. Ioctl: `VIDIOC_S_STD`.
    ///
    /// # Errors
    /// `InvalidArgument` if the input does not support the standard. `Unsupported` if it is not an analog input. `Busy`
    /// while buffers are allocated.
    #[doc(alias = "VIDIOC_S_STD")]
    pub fn set_standard(&self, standard: Standard) -> Result<()> {
        const OP: &str = "VIDIOC_S_STD";
        calls::s_std(self.as_fd(), &mut u64::from(standard.bits())).map_err(|e| match e {
            Errno::ENODATA => Error::new(ErrorKind::Unsupported, OP, "the input has no analog standard").on(self),
            e => self.failed(OP, e).detail(format!("{}; asked {standard:?}", e.desc())),
        })
    }

    fn ask_standard(
        &self,
        op: &'static str,
        call: fn(std::os::fd::BorrowedFd<'_>, &mut u64) -> std::result::Result<(), Errno>,
    ) -> Result<Option<Standard>> {
        let mut id = 0;
        match call(self.as_fd(), &mut id) {
            // Drops those of digital television.
            Ok(()) => Ok(Some(Standard::from_known_bits(id as u32)).filter(|standard| standard.bits() != 0)),
            Err(Errno::ENODATA | Errno::ENOTTY | Errno::ENOLINK | Errno::ENOLCK) => Ok(None),
            Err(e) => Err(self.failed(op, e)),
        }
    }
}
