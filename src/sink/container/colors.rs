//! Colors in the codes of ITU-T H.273, which containers store.

use crate::format::{ColorSpace, Colorimetry, Encoding, FormatKind, Range, Transfer};

/// The codes of a colorimetry. `None` for values without a code.
pub(in crate::sink) struct ColorCodes {
    pub(in crate::sink) primaries: Option<u8>,
    pub(in crate::sink) transfer: Option<u8>,
    pub(in crate::sink) matrix: u8,
    pub(in crate::sink) is_full_range: bool,
}

impl From<Colorimetry> for ColorCodes {
    fn from(colors: Colorimetry) -> Self {
        let matrix = match colors.matrix() {
            Encoding::Bt709 | Encoding::XvYcc709 => 1,
            Encoding::Bt2020 => 9,
            Encoding::Bt2020ConstantLuminance => 10,
            Encoding::Smpte240m => 7,
            _ => 6,
        };
        let transfer = match colors.transfer {
            Transfer::Rec709 => Some(1),
            Transfer::Srgb => Some(13),
            Transfer::Linear => Some(8),
            Transfer::St2084 => Some(16),
            Transfer::Smpte240m => Some(7),
            _ => None,
        };
        let primaries = match colors.space {
            ColorSpace::Rec709 | ColorSpace::Srgb | ColorSpace::Jpeg => Some(1),
            ColorSpace::Smpte170m => Some(6),
            ColorSpace::Smpte240m => Some(7),
            ColorSpace::Bt2020 => Some(9),
            _ => None,
        };
        let is_full_range = colors.quantization(FormatKind::Yuv) == Range::Full;
        Self { primaries, transfer, matrix, is_full_range }
    }
}
