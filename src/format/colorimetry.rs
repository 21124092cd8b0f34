//! Colorimetry as V4L2 describes it (`colorspaces-defs.rst`), with the numbers of the UAPI.

use super::FormatKind;

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$vm:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            /// Not stated. If the matrix, range or transfer function is not stated, it follows from the [`ColorSpace`].
            /// The default.
            #[default]
            Default,
            $($(#[$vm])* $variant,)*
        }

        impl $name {
            /// Converts the UAPI's number. An unknown number becomes `Default`.
            #[doc(hidden)]
            pub const fn from_v4l2(code: u32) -> Self {
                match code { $($value => Self::$variant,)* _ => Self::Default }
            }

            /// Returns the UAPI's number.
            #[doc(hidden)]
            pub const fn to_v4l2(self) -> u32 {
                match self { Self::Default => 0, $(Self::$variant => $value,)* }
            }
        }
    };
}

codes! {
    /// The color space (`enum v4l2_colorspace`). It sets the primaries, and the defaults of matrix, range and transfer
    /// function.
    ColorSpace {
        /// SMPTE 170M, for NTSC and PAL.
        Smpte170m = 1,
        /// SMPTE 240M, for early HDTV.
        Smpte240m = 2,
        /// Rec. ITU-R BT.709, for HDTV.
        Rec709 = 3,
        /// ITU-R BT.601, 525 lines (M/NTSC).
        System470M = 5,
        /// ITU-R BT.601, 625 lines (B/G PAL).
        System470Bg = 6,
        /// JPEG: sRGB primaries, BT.601 matrix, full range.
        Jpeg = 7,
        /// IEC 61966-2-1, for webcams and graphics.
        Srgb = 8,
        /// The opRGB (Adobe RGB) color space.
        OpRgb = 9,
        /// ITU-R BT.2020, for UHDTV.
        Bt2020 = 10,
        /// Raw data of a sensor.
        Raw = 11,
        /// The DCI-P3 color space of cinemas.
        DciP3 = 12,
    }
}

codes! {
    /// The YCbCr matrix (`enum v4l2_ycbcr_encoding`).
    Encoding {
        /// The matrix of ITU-R BT.601.
        Bt601 = 1,
        /// The matrix of ITU-R BT.709.
        Bt709 = 2,
        /// The BT.601 matrix with the extended values of xvYCC.
        XvYcc601 = 3,
        /// The BT.709 matrix with the extended values of xvYCC.
        XvYcc709 = 4,
        /// ITU-R BT.2020, non-constant luminance.
        Bt2020 = 6,
        /// ITU-R BT.2020, constant luminance.
        Bt2020ConstantLuminance = 7,
        /// The matrix of SMPTE 240M.
        Smpte240m = 8,
    }
}

codes! {
    /// The quantization range (`enum v4l2_quantization`).
    Range {
        /// Values from 0 to 255.
        Full = 1,
        /// Values from 16 to 235 (luma and RGB) or 16 to 240 (chroma).
        Limited = 2,
    }
}

codes! {
    /// The transfer function (`enum v4l2_xfer_func`).
    Transfer {
        /// The function of ITU-R BT.709, BT.601 and BT.2020.
        Rec709 = 1,
        /// The function of sRGB (IEC 61966-2-1).
        Srgb = 2,
        /// The function of opRGB.
        OpRgb = 3,
        /// The function of SMPTE 240M.
        Smpte240m = 4,
        /// Values proportional to light (linear).
        Linear = 5,
        /// The function of DCI-P3.
        DciP3 = 6,
        /// The function of SMPTE ST 2084, for HDR.
        St2084 = 7,
    }
}

/// The meaning of the numbers in a picture: primaries, matrix, range and transfer function.
///
/// ```
/// use framelease::format::{ColorSpace, Colorimetry, Encoding, FormatKind, Range};
///
/// let hdtv = Colorimetry { space: ColorSpace::Rec709, ..Colorimetry::default() };
/// assert_eq!(hdtv.matrix(), Encoding::Bt709);
/// assert_eq!(hdtv.quantization(FormatKind::Yuv), Range::Limited);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Colorimetry {
    /// The primaries, and the defaults of the other fields.
    pub space: ColorSpace,
    /// The matrix between YCbCr and RGB.
    pub encoding: Encoding,
    /// The values of black and white.
    pub range: Range,
    /// The curve between light and value.
    pub transfer: Transfer,
}

impl Colorimetry {
    /// Returns the matrix. Replaces `Default` with the matrix of the color space (`V4L2_MAP_YCBCR_ENC_DEFAULT`).
    pub const fn matrix(self) -> Encoding {
        match (self.encoding, self.space) {
            (Encoding::Default, ColorSpace::Rec709 | ColorSpace::DciP3) => Encoding::Bt709,
            (Encoding::Default, ColorSpace::Bt2020) => Encoding::Bt2020,
            (Encoding::Default, ColorSpace::Smpte240m) => Encoding::Smpte240m,
            (Encoding::Default, _) => Encoding::Bt601,
            (named, _) => named,
        }
    }

    /// Returns the quantization range. Replaces `Default` with full range for RGB, samples of a sensor and JPEG, and
    /// with limited range for other pictures (`V4L2_MAP_QUANTIZATION_DEFAULT`).
    pub const fn quantization(self, kind: FormatKind) -> Range {
        match (self.range, kind, self.space) {
            (Range::Default, FormatKind::Rgb | FormatKind::Raw, _) | (Range::Default, _, ColorSpace::Jpeg) => {
                Range::Full
            }
            (Range::Default, ..) => Range::Limited,
            (named, ..) => named,
        }
    }
}

impl ColorSpace {
    /// Returns the color space whose default matrix this is.
    pub(crate) const fn with_matrix(matrix: Encoding) -> Self {
        match matrix {
            Encoding::Bt709 | Encoding::XvYcc709 => Self::Rec709,
            Encoding::Bt2020 | Encoding::Bt2020ConstantLuminance => Self::Bt2020,
            Encoding::Smpte240m => Self::Smpte240m,
            Encoding::Default | Encoding::Bt601 | Encoding::XvYcc601 => Self::Smpte170m,
        }
    }
}

impl Colorimetry {
    /// States what follows from the color space, for drivers that do not derive it themselves. The kernel drops the
    /// other fields of a format without a color space, so such colors get the one that has their matrix.
    pub(crate) const fn stated(self, kind: FormatKind) -> Self {
        let transfer = match (self.transfer, self.space) {
            (Transfer::Default, ColorSpace::OpRgb) => Transfer::OpRgb,
            (Transfer::Default, ColorSpace::Smpte240m) => Transfer::Smpte240m,
            (Transfer::Default, ColorSpace::DciP3) => Transfer::DciP3,
            (Transfer::Default, ColorSpace::Raw) => Transfer::Linear,
            (Transfer::Default, ColorSpace::Srgb | ColorSpace::Jpeg) => Transfer::Srgb,
            (Transfer::Default, _) => Transfer::Rec709,
            (named, _) => named,
        };
        let space = match (self.space, self.encoding, self.range, self.transfer) {
            (ColorSpace::Default, Encoding::Default, Range::Default, Transfer::Default) => return self,
            (ColorSpace::Default, ..) => ColorSpace::with_matrix(self.encoding),
            (space, ..) => space,
        };
        Self { space, encoding: self.matrix(), range: self.quantization(kind), transfer }
    }
}

impl Encoding {
    /// Returns the weights of red and blue in luma, K_R and K_B (ITU-R BT.601, BT.709, BT.2020, SMPTE 240M).
    #[doc(hidden)]
    pub const fn luma_weights(self) -> (f32, f32) {
        match self {
            Self::Bt709 | Self::XvYcc709 => (0.2126, 0.0722),
            Self::Bt2020 | Self::Bt2020ConstantLuminance => (0.2627, 0.0593),
            Self::Smpte240m => (0.212, 0.087),
            Self::Default | Self::Bt601 | Self::XvYcc601 => (0.299, 0.114),
        }
    }
}
