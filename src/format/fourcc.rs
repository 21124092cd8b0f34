//! The code of a pixel or bitstream format.

/// A V4L2 pixel format code (`V4L2_PIX_FMT_*`).
///
/// A `FourCc` can have any code. [`FourCc::info`] returns the properties of the codes that this crate knows. Common
/// formats have constants. For other formats, create the `FourCc` from the code, or parse the name.
///
/// ```
/// use framelease::format::FourCc;
///
/// assert_eq!(FourCc::new(b"NV12"), FourCc::NV12);
/// assert_eq!("NV12M".parse::<FourCc>()?, FourCc::new(b"NM12"));
/// assert_eq!(FourCc::NV12.info().map(|info| info.memory_planes), Some(1));
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FourCc(u32);

/// The bit that `v4l2_fourcc_be` sets.
pub(super) const BIG_ENDIAN: u32 = 1 << 31;

impl FourCc {
    /// Creates a code from its four characters.
    pub const fn new(code: &[u8; 4]) -> Self {
        Self(u32::from_le_bytes(*code))
    }

    /// The code of `v4l2_fourcc_be`.
    pub(super) const fn big_endian(self) -> Self {
        Self(self.0 | BIG_ENDIAN)
    }
}

/// Converts the code from a number, as the kernel has it: the first character is the lowest byte.
impl From<u32> for FourCc {
    fn from(code: u32) -> Self {
        Self(code)
    }
}

impl From<FourCc> for u32 {
    fn from(fourcc: FourCc) -> Self {
        fourcc.0
    }
}

macro_rules! constants {
    ($($name:ident = $code:literal, $what:literal;)*) => {
        impl FourCc {
            $(#[doc = concat!("`V4L2_PIX_FMT_", stringify!($name), "`: ", $what, ".")]
            pub const $name: Self = Self::new($code);)*
        }
    };
}

constants! {
    NV12 = b"NV12", "8-bit Y plane, then a plane of Cb and Cr pairs, 4:2:0";
    NV21 = b"NV21", "8-bit Y plane, then a plane of Cr and Cb pairs, 4:2:0";
    NV12M = b"NM12", "`NV12` with one memory plane per color plane";
    NV16 = b"NV16", "8-bit Y plane, then a plane of Cb and Cr pairs, 4:2:2";
    YUV420 = b"YU12", "8-bit planes Y, Cb and Cr, 4:2:0";
    YVU420 = b"YV12", "8-bit planes Y, Cr and Cb, 4:2:0";
    YUV420M = b"YM12", "`YUV420` with one memory plane per color plane";
    YUYV = b"YUYV", "packed bytes Y, Cb, Y, Cr, 4:2:2";
    UYVY = b"UYVY", "packed bytes Cb, Y, Cr, Y, 4:2:2";
    GREY = b"GREY", "8-bit luma without color";
    RGB565 = b"RGBP", "16-bit words with red in the highest bits";
    RGB24 = b"RGB3", "bytes R, G, B";
    BGR24 = b"BGR3", "bytes B, G, R";
    RGBA32 = b"AB24", "bytes R, G, B, A";
    RGBX32 = b"XB24", "bytes R, G, B, padding";
    ABGR32 = b"AR24", "bytes B, G, R, A";
    XBGR32 = b"XR24", "bytes B, G, R, padding";
    ARGB32 = b"BA24", "bytes A, R, G, B";
    BGRA32 = b"RA24", "bytes A, B, G, R";
    XRGB32 = b"BX24", "bytes padding, R, G, B";
    BGRX32 = b"RX24", "bytes padding, B, G, R";
    H264 = b"H264", "an H.264 byte stream with start codes";
    HEVC = b"HEVC", "an H.265 byte stream with start codes";
    VP8 = b"VP80", "a VP8 frame per buffer";
    MJPEG = b"MJPG", "a Motion JPEG picture per buffer";
    JPEG = b"JPEG", "a JPEG picture per buffer";
    FWHT = b"FWHT", "the coded format of the test driver vicodec";
}
