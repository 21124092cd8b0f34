//! Formats on the media bus: the names of their codes, and how pads compare them.

use std::fmt;

use crate::format::Size;
use crate::sys::v4l2::{Plain, SubdevFormat, FIELD_NONE};

/// The format of the pictures that arrive at a pad or leave it. Displays as `UYVY8_1X16 1920x1080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusFormat {
    /// The code of the format (`MEDIA_BUS_FMT_*`).
    pub code: u32,
    /// The size of the picture.
    pub size: Size,
    /// `enum v4l2_field`.
    pub(crate) field: u32,
    pub(super) colors: Colors,
}

/// The colorimetry of a pad, which drivers keep and the kernel does not compare.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Colors {
    space: u32,
    rest: [u16; 14],
}

impl PartialEq for Colors {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Colors {}

impl BusFormat {
    #[cfg(test)]
    pub(super) fn new(code: u32, size: Size) -> Self {
        Self { code, size, field: FIELD_NONE, colors: Colors::default() }
    }

    pub(super) fn from_raw(raw: &SubdevFormat) -> Self {
        let colors = Colors { space: raw.colorspace, rest: raw.rest };
        Self { code: raw.code, size: Size::new(raw.width, raw.height), field: raw.field, colors }
    }

    pub(super) fn to_raw(self, which: u32, pad: u32) -> SubdevFormat {
        let Self { code, size: Size { width, height }, field, colors: Colors { space: colorspace, rest } } = self;
        SubdevFormat { which, pad, width, height, code, field, colorspace, rest, ..SubdevFormat::zeroed() }
    }

    /// Returns `true` if a sink with this format takes pictures in the format `source`, by the kernel's rules.
    pub(super) fn takes(self, source: Self) -> bool {
        let field = if self.field == FIELD_NONE { FIELD_NONE } else { source.field };
        self == Self { field, ..source }
    }

    /// Returns `true` for pictures. Pads of statistics and settings have no code, or one that stands for bytes.
    pub(super) fn is_picture(self) -> bool {
        const FIXED: u32 = 1;
        const METADATA: u32 = 0x7000;
        self.code > FIXED && self.code < METADATA && self.size.width > 0 && self.size.height > 0
    }

    /// Returns the field order in the words of `media-ctl`.
    pub(super) fn field_name(self) -> &'static str {
        FIELDS.get(self.field as usize).copied().unwrap_or("any")
    }
}

/// Displays as `UYVY8_1X16 1920x1080`, and with the field order if the picture is not progressive.
impl fmt::Display for BusFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", code_name(self.code), self.size)?;
        match self.field {
            FIELD_NONE => Ok(()),
            _ => write!(f, " field:{}", self.field_name()),
        }
    }
}

/// The names that `media-ctl` has for `enum v4l2_field`.
const FIELDS: [&str; 10] =
    ["any", "none", "top", "bottom", "interlaced", "seq-tb", "seq-bt", "alternate", "interlaced-tb", "interlaced-bt"];

/// Returns the part after `MEDIA_BUS_FMT_`, and the number of a code that is not in the table.
pub(super) fn code_name(code: u32) -> String {
    match CODES.iter().find(|(number, _)| *number == code) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{code:#06x}"),
    }
}

/// Returns the code of a name, for tests.
#[cfg(test)]
pub(super) fn code(name: &str) -> Option<u32> {
    CODES.iter().find(|(_, known)| *known == name).map(|(code, _)| *code)
}

/// `linux/media-bus-format.h` of Linux 6.12.
#[rustfmt::skip]
const CODES: &[(u32, &str)] = &[
    (0x0001, "FIXED"),
    (0x1001, "RGB444_2X8_PADHI_BE"),
    (0x1002, "RGB444_2X8_PADHI_LE"),
    (0x1003, "RGB555_2X8_PADHI_BE"),
    (0x1004, "RGB555_2X8_PADHI_LE"),
    (0x1005, "BGR565_2X8_BE"),
    (0x1006, "BGR565_2X8_LE"),
    (0x1007, "RGB565_2X8_BE"),
    (0x1008, "RGB565_2X8_LE"),
    (0x1009, "RGB666_1X18"),
    (0x100a, "RGB888_1X24"),
    (0x100b, "RGB888_2X12_BE"),
    (0x100c, "RGB888_2X12_LE"),
    (0x100d, "ARGB8888_1X32"),
    (0x100e, "RBG888_1X24"),
    (0x100f, "RGB888_1X32_PADHI"),
    (0x1010, "RGB666_1X7X3_SPWG"),
    (0x1011, "RGB888_1X7X4_SPWG"),
    (0x1012, "RGB888_1X7X4_JEIDA"),
    (0x1013, "BGR888_1X24"),
    (0x1014, "GBR888_1X24"),
    (0x1015, "RGB666_1X24_CPADHI"),
    (0x1016, "RGB444_1X12"),
    (0x1017, "RGB565_1X16"),
    (0x1018, "RGB101010_1X30"),
    (0x1019, "RGB121212_1X36"),
    (0x101a, "RGB161616_1X48"),
    (0x101b, "BGR888_3X8"),
    (0x101c, "RGB888_3X8"),
    (0x101d, "RGB888_3X8_DELTA"),
    (0x101e, "RGB666_1X30_CPADLO"),
    (0x101f, "RGB888_1X30_CPADLO"),
    (0x1020, "RGB666_1X36_CPADLO"),
    (0x1021, "RGB888_1X36_CPADLO"),
    (0x2001, "Y8_1X8"),
    (0x2002, "UYVY8_1_5X8"),
    (0x2003, "VYUY8_1_5X8"),
    (0x2004, "YUYV8_1_5X8"),
    (0x2005, "YVYU8_1_5X8"),
    (0x2006, "UYVY8_2X8"),
    (0x2007, "VYUY8_2X8"),
    (0x2008, "YUYV8_2X8"),
    (0x2009, "YVYU8_2X8"),
    (0x200a, "Y10_1X10"),
    (0x200b, "YUYV10_2X10"),
    (0x200c, "YVYU10_2X10"),
    (0x200d, "YUYV10_1X20"),
    (0x200e, "YVYU10_1X20"),
    (0x200f, "UYVY8_1X16"),
    (0x2010, "VYUY8_1X16"),
    (0x2011, "YUYV8_1X16"),
    (0x2012, "YVYU8_1X16"),
    (0x2013, "Y12_1X12"),
    (0x2014, "YDYUYDYV8_1X16"),
    (0x2015, "UV8_1X8"),
    (0x2016, "YUV10_1X30"),
    (0x2017, "AYUV8_1X32"),
    (0x2018, "UYVY10_2X10"),
    (0x2019, "VYUY10_2X10"),
    (0x201a, "UYVY10_1X20"),
    (0x201b, "VYUY10_1X20"),
    (0x201c, "UYVY12_2X12"),
    (0x201d, "VYUY12_2X12"),
    (0x201e, "YUYV12_2X12"),
    (0x201f, "YVYU12_2X12"),
    (0x2020, "UYVY12_1X24"),
    (0x2021, "VYUY12_1X24"),
    (0x2022, "YUYV12_1X24"),
    (0x2023, "YVYU12_1X24"),
    (0x2024, "VUY8_1X24"),
    (0x2025, "YUV8_1X24"),
    (0x2026, "UYYVYY8_0_5X24"),
    (0x2027, "UYYVYY10_0_5X30"),
    (0x2028, "UYYVYY12_0_5X36"),
    (0x2029, "YUV12_1X36"),
    (0x202a, "YUV16_1X48"),
    (0x202b, "UYYVYY16_0_5X48"),
    (0x202c, "Y10_2X8_PADHI_LE"),
    (0x202d, "Y14_1X14"),
    (0x3001, "SBGGR8_1X8"),
    (0x3002, "SGRBG8_1X8"),
    (0x3003, "SBGGR10_2X8_PADHI_BE"),
    (0x3004, "SBGGR10_2X8_PADHI_LE"),
    (0x3005, "SBGGR10_2X8_PADLO_BE"),
    (0x3006, "SBGGR10_2X8_PADLO_LE"),
    (0x3007, "SBGGR10_1X10"),
    (0x3008, "SBGGR12_1X12"),
    (0x3009, "SGRBG10_DPCM8_1X8"),
    (0x300a, "SGRBG10_1X10"),
    (0x300b, "SBGGR10_DPCM8_1X8"),
    (0x300c, "SGBRG10_DPCM8_1X8"),
    (0x300d, "SRGGB10_DPCM8_1X8"),
    (0x300e, "SGBRG10_1X10"),
    (0x300f, "SRGGB10_1X10"),
    (0x3010, "SGBRG12_1X12"),
    (0x3011, "SGRBG12_1X12"),
    (0x3012, "SRGGB12_1X12"),
    (0x3013, "SGBRG8_1X8"),
    (0x3014, "SRGGB8_1X8"),
    (0x3015, "SBGGR10_ALAW8_1X8"),
    (0x3016, "SGBRG10_ALAW8_1X8"),
    (0x3017, "SGRBG10_ALAW8_1X8"),
    (0x3018, "SRGGB10_ALAW8_1X8"),
    (0x3019, "SBGGR14_1X14"),
    (0x301a, "SGBRG14_1X14"),
    (0x301b, "SGRBG14_1X14"),
    (0x301c, "SRGGB14_1X14"),
    (0x301d, "SBGGR16_1X16"),
    (0x301e, "SGBRG16_1X16"),
    (0x301f, "SGRBG16_1X16"),
    (0x3020, "SRGGB16_1X16"),
    (0x4001, "JPEG_1X8"),
    (0x5001, "S5C_UYVY_JPEG_1X8"),
    (0x6001, "AHSV8888_1X32"),
    (0x7001, "METADATA_FIXED"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_unique() {
        assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(CODES.iter().all(|(number, name)| code(name) == Some(*number) && code_name(*number) == *name));
        assert_eq!(code_name(0x9999), "0x9999");
    }

    #[test]
    fn bus_format_displays_its_field_order_unless_it_is_progressive() {
        let format = BusFormat::new(0x200f, Size::new(640, 480));
        assert_eq!(format.to_string(), "UYVY8_1X16 640x480");
        assert_eq!(BusFormat { field: 7, ..format }.to_string(), "UYVY8_1X16 640x480 field:alternate");
        assert!(format.is_picture() && !BusFormat::new(1, Size::new(640, 480)).is_picture());
    }
}
