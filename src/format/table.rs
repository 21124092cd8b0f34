//! The table of the formats whose bytes this crate knows.

use super::fourcc::FourCc;

impl FourCc {
    /// Returns the properties of the format, or `None` if this crate does not know it.
    pub fn info(self) -> Option<&'static FormatInfo> {
        known().find(|info| info.fourcc == self)
    }

    /// Returns the code of the DRM format (`drm_fourcc.h`) that has the same bytes in memory, if there is one.
    pub fn drm(self) -> Option<u32> {
        self.info()?.drm.map(u32::from_le_bytes)
    }

    /// Returns the DRM format modifier (`DRM_FORMAT_MOD_*`) of the format: how its pixels lie in memory. 0 is linear.
    /// Returns `None` if this crate does not know the format.
    pub fn modifier(self) -> Option<u64> {
        Some(self.info()?.tiles.map_or(0, |tiles| tiles.modifier))
    }

    /// Returns the modifier of an opaque format.
    pub(crate) fn tiling(self) -> Option<u64> {
        Some(self.info()?.tiles?.modifier)
    }

    /// Returns the V4L2 format that has the same bytes in memory as a linear DRM format. The returned format has all
    /// color planes in one memory plane.
    #[cfg(any(feature = "drm", feature = "unixfd", test))]
    pub(crate) fn from_drm(drm: u32) -> Option<Self> {
        known()
            .find(|i| i.tiles.is_none() && i.memory_planes == 1 && i.drm.map(u32::from_le_bytes) == Some(drm))
            .map(|i| i.fourcc)
    }

    /// Returns the format with the same bytes and one memory plane for each color plane: NV12M for NV12.
    pub(crate) fn split(self) -> Option<Self> {
        let is_single = self.info().is_some_and(|i| i.memory_planes == 1);
        known().find(|i| is_single && i.memory_planes > 1 && i.fourcc.has_bytes_of(self)).map(|i| i.fourcc)
    }

    /// Returns `true` if both formats have the same bytes in each color plane.
    pub(crate) fn has_bytes_of(self, other: Self) -> bool {
        self.drm().is_some() && (self.drm(), self.modifier()) == (other.drm(), other.modifier())
    }

    /// Returns the number of this format in libg2d's `enum g2d_format`, if G2D knows the format.
    #[cfg(feature = "g2d")]
    pub(crate) fn g2d(self) -> Option<u32> {
        self.info()?.g2d
    }
}

/// The sampling of one color plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneInfo {
    /// Bytes of one sample group of this plane.
    pub bytes: u32,
    /// Width of one sample group, in luma pixels.
    pub horizontal: u32,
    /// Luma rows that one row of this plane covers.
    pub vertical: u32,
}

/// The kind of content that a format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatKind {
    /// Luma and chroma samples.
    Yuv,
    /// Red, green and blue, perhaps with alpha.
    Rgb,
    /// Samples of a sensor, which have rows and no color yet: a Bayer pattern, or depth.
    Raw,
    /// A coded bitstream without planes.
    Compressed,
    /// Pixels that only devices can read, such as tiles. Operations of the CPU refuse them.
    Opaque,
}

/// The properties of one format.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FormatInfo {
    /// The V4L2 code of the format.
    pub fourcc: FourCc,
    /// The part of the constant's name after `V4L2_PIX_FMT_`.
    pub name: &'static str,
    /// The DRM code with the same bytes in memory, together with [`FourCc::modifier`].
    pub drm: Option<[u8; 4]>,
    /// The number in libg2d's `enum g2d_format`.
    #[doc(hidden)] // For this project's tests.
    pub g2d: Option<u32>,
    /// The kind of content.
    pub kind: FormatKind,
    /// The number of memory planes that V4L2 uses for the format. The `M` formats, such as `NV12M`, have one memory
    /// plane per color plane. Other formats have only one memory plane.
    pub memory_planes: usize,
    /// Color planes, in memory order. The slice is empty for a bitstream and for opaque formats.
    pub planes: &'static [PlaneInfo],
    pub(crate) tiles: Option<Tiles>,
}

/// How an opaque format stores its pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    pub(crate) modifier: u64,
    /// The color planes as they are without tiles, for samples of 8 bits.
    pub(crate) planes: &'static [PlaneInfo],
    /// Bits of a sample.
    pub(crate) bits: u32,
    /// The rows of a tile. A plane has whole tiles.
    pub(crate) rows: u32,
}

impl FormatInfo {
    /// Returns the color planes in memory, also those that only devices can read.
    pub(crate) fn stored_planes(&self) -> &'static [PlaneInfo] {
        self.tiles.map_or(self.planes, |tiles| tiles.planes)
    }

    /// Returns `true` if the CPU can read and write the pixels, row by row.
    pub(crate) fn has_rows(&self) -> bool {
        matches!(self.kind, FormatKind::Yuv | FormatKind::Rgb | FormatKind::Raw)
    }

    /// Returns `true` if the pixels have colors or luma, so that they can be shown.
    pub(crate) fn has_colors(&self) -> bool {
        matches!(self.kind, FormatKind::Yuv | FormatKind::Rgb)
    }

    /// Returns the stride of a color plane in the memory plane of the first one, whose stride is given. V4L2 has one
    /// stride for both, and the other plane has as many bytes for each byte of the first as its samples need.
    pub(crate) fn following_stride(&self, i: usize, first: u32) -> u32 {
        let (Some(lead), Some(plane)) = (self.stored_planes().first(), self.stored_planes().get(i)) else { return 0 };
        let bytes = u64::from(first) * u64::from(plane.bytes * lead.horizontal);
        u32::try_from(bytes / u64::from(lead.bytes * plane.horizontal)).unwrap_or(u32::MAX)
    }

    const fn new(code: &[u8; 4], name: &'static str, kind: FormatKind, planes: &'static [PlaneInfo]) -> Self {
        let fourcc = FourCc::new(code);
        Self { fourcc, name, drm: None, g2d: None, kind, memory_planes: 1, planes, tiles: None }
    }

    const fn drm(mut self, code: &[u8; 4]) -> Self {
        self.drm = Some(*code);
        self
    }

    const fn g2d(mut self, number: u32) -> Self {
        self.g2d = Some(number);
        self
    }

    /// One memory plane for each color plane.
    const fn split(mut self) -> Self {
        self.memory_planes = self.planes.len();
        self
    }

    const fn big_endian(mut self) -> Self {
        self.fourcc = self.fourcc.big_endian();
        self
    }

    /// Returns the number of pixels that share one chroma sample, or the bytes of packed samples, horizontally and
    /// vertically. It is `(2, 2)` for 4:2:0, `(1, 1)` for RGB and `(4, 1)` for four samples in five bytes.
    pub fn subsampling(&self) -> (u32, u32) {
        let most = |f: fn(&PlaneInfo) -> u32| self.stored_planes().iter().map(f).max().unwrap_or(1);
        (most(|p| p.horizontal), most(|p| p.vertical))
    }

    /// Returns `true` if the pixels have an alpha component.
    pub fn has_alpha(&self) -> bool {
        let is_yuv_with_alpha = matches!(self.name, "AYUV32" | "VUYA32" | "YUVA32");
        is_yuv_with_alpha || self.kind == FormatKind::Rgb && self.name.contains('A')
    }
}

const fn plane(bytes: u32, horizontal: u32, vertical: u32) -> PlaneInfo {
    PlaneInfo { bytes, horizontal, vertical }
}

const SEMI_420: &[PlaneInfo] = &[plane(1, 1, 1), plane(2, 2, 2)];
const SEMI_422: &[PlaneInfo] = &[plane(1, 1, 1), plane(2, 2, 1)];
const SEMI_444: &[PlaneInfo] = &[plane(1, 1, 1), plane(2, 1, 1)];
/// Samples of 16 bits.
const WIDE_420: &[PlaneInfo] = &[plane(2, 1, 1), plane(4, 2, 2)];
const PLANAR_420: &[PlaneInfo] = &[plane(1, 1, 1), plane(1, 2, 2), plane(1, 2, 2)];
const PLANAR_422: &[PlaneInfo] = &[plane(1, 1, 1), plane(1, 2, 1), plane(1, 2, 1)];
const PLANAR_444: &[PlaneInfo] = &[plane(1, 1, 1), plane(1, 1, 1), plane(1, 1, 1)];
const PACKED_422: &[PlaneInfo] = &[plane(4, 2, 1)];
/// Bytes of one pixel.
const ONE: &[PlaneInfo] = &[plane(1, 1, 1)];
const TWO: &[PlaneInfo] = &[plane(2, 1, 1)];
const THREE: &[PlaneInfo] = &[plane(3, 1, 1)];
const FOUR: &[PlaneInfo] = &[plane(4, 1, 1)];
/// Samples without gaps: four of 10 bits in 5 bytes, two of 12 bits in 3, four of 14 bits in 7.
const TEN_BITS: &[PlaneInfo] = &[plane(5, 4, 1)];
const TWELVE_BITS: &[PlaneInfo] = &[plane(3, 2, 1)];
const FOURTEEN_BITS: &[PlaneInfo] = &[plane(7, 4, 1)];

const fn yuv(code: &[u8; 4], name: &'static str, planes: &'static [PlaneInfo]) -> FormatInfo {
    FormatInfo::new(code, name, FormatKind::Yuv, planes)
}

const fn rgb(code: &[u8; 4], name: &'static str, planes: &'static [PlaneInfo]) -> FormatInfo {
    FormatInfo::new(code, name, FormatKind::Rgb, planes)
}

const fn raw(code: &[u8; 4], name: &'static str, planes: &'static [PlaneInfo]) -> FormatInfo {
    FormatInfo::new(code, name, FormatKind::Raw, planes)
}

const fn coded(code: &[u8; 4], name: &'static str) -> FormatInfo {
    FormatInfo::new(code, name, FormatKind::Compressed, &[])
}

/// Semi-planar 4:2:0 in the tiles of the i.MX8's Amphion decoder: 8 bytes by 128 rows.
const fn amphion(code: &[u8; 4], name: &'static str, bits: u32) -> FormatInfo {
    // `DRM_FORMAT_MOD_AMPHION_TILED` of NXP's kernels from 5.x on. The mainline kernel has no number for it.
    const MODIFIER: u64 = 0xf000_0000_0000_0001;
    let mut info = FormatInfo::new(code, name, FormatKind::Opaque, &[]);
    info.tiles = Some(Tiles { modifier: MODIFIER, planes: SEMI_420, bits, rows: 128 });
    info
}

const fn two_memories(mut info: FormatInfo) -> FormatInfo {
    info.memory_planes = 2;
    info
}

/// Formats that only devices can read. NXP's composer gives the 10-bit formats to displays as NV15.
const OPAQUE: &[FormatInfo] = &[
    amphion(b"AT12", "NV12_8L128", 8).drm(b"NV12").g2d(20),
    two_memories(amphion(b"NA12", "NV12M_8L128", 8)).drm(b"NV12").g2d(20),
    amphion(b"AX12", "NV12_10BE_8L128", 10).drm(b"NV15").big_endian(),
    two_memories(amphion(b"NT12", "NV12M_10BE_8L128", 10)).drm(b"NV15").big_endian(),
];

pub(super) fn known() -> impl Iterator<Item = &'static FormatInfo> {
    FORMATS.iter().chain(OPAQUE)
}

/// Every format whose rows this crate can lay out, and the bitstreams that it can carry. [`FourCc::info`] also knows
/// opaque formats. A format that is not here has an opaque layout.
///
/// Sources: `videodev2.h` and `drm_fourcc.h`. The libg2d numbers are from the i.MX G2D API. V4L2 and libg2d name RGB
/// formats by the order of bytes in memory; DRM names them by the bits of a little-endian word. Headers disagree
/// about the bit order of `RGB565` in G2D, and only a board can tell (docs/boards.md).
pub const FORMATS: &[FormatInfo] = &[
    // Luma and chroma in planes.
    yuv(b"NV12", "NV12", SEMI_420).drm(b"NV12").g2d(20),
    yuv(b"NV21", "NV21", SEMI_420).drm(b"NV21").g2d(23),
    yuv(b"NM12", "NV12M", SEMI_420).split().drm(b"NV12").g2d(20),
    yuv(b"NM21", "NV21M", SEMI_420).split().drm(b"NV21").g2d(23),
    yuv(b"NV16", "NV16", SEMI_422).drm(b"NV16").g2d(28),
    yuv(b"NV61", "NV61", SEMI_422).drm(b"NV61").g2d(29),
    yuv(b"NM16", "NV16M", SEMI_422).split().drm(b"NV16").g2d(28),
    yuv(b"NM61", "NV61M", SEMI_422).split().drm(b"NV61").g2d(29),
    yuv(b"NV24", "NV24", SEMI_444).drm(b"NV24"),
    yuv(b"NV42", "NV42", SEMI_444).drm(b"NV42"),
    yuv(b"P010", "P010", WIDE_420).drm(b"P010"),
    yuv(b"P012", "P012", WIDE_420).drm(b"P012"),
    yuv(b"YU12", "YUV420", PLANAR_420).drm(b"YU12").g2d(21),
    yuv(b"YV12", "YVU420", PLANAR_420).drm(b"YV12").g2d(22),
    yuv(b"YM12", "YUV420M", PLANAR_420).split().drm(b"YU12").g2d(21),
    yuv(b"YM21", "YVU420M", PLANAR_420).split().drm(b"YV12").g2d(22),
    yuv(b"422P", "YUV422P", PLANAR_422).drm(b"YU16"),
    yuv(b"YM16", "YUV422M", PLANAR_422).split().drm(b"YU16"),
    yuv(b"YM61", "YVU422M", PLANAR_422).split().drm(b"YV16"),
    yuv(b"YM24", "YUV444M", PLANAR_444).split().drm(b"YU24"),
    yuv(b"YM42", "YVU444M", PLANAR_444).split().drm(b"YV24"),
    // Luma and chroma packed.
    yuv(b"YUYV", "YUYV", PACKED_422).drm(b"YUYV").g2d(24),
    yuv(b"YVYU", "YVYU", PACKED_422).drm(b"YVYU").g2d(25),
    yuv(b"UYVY", "UYVY", PACKED_422).drm(b"UYVY").g2d(26),
    yuv(b"VYUY", "VYUY", PACKED_422).drm(b"VYUY").g2d(27),
    yuv(b"YUV3", "YUV24", THREE),
    yuv(b"YUV4", "YUV32", FOUR),
    yuv(b"AYUV", "AYUV32", FOUR),
    yuv(b"XYUV", "XYUV32", FOUR),
    yuv(b"VUYA", "VUYA32", FOUR).drm(b"AYUV"),
    yuv(b"VUYX", "VUYX32", FOUR).drm(b"XYUV"),
    yuv(b"YUVA", "YUVA32", FOUR),
    yuv(b"YUVX", "YUVX32", FOUR),
    yuv(b"Y444", "YUV444", TWO),
    yuv(b"YUVO", "YUV555", TWO),
    yuv(b"YUVP", "YUV565", TWO),
    // Luma.
    yuv(b"GREY", "GREY", ONE).drm(b"R8  ").g2d(19),
    yuv(b"Y10 ", "Y10", TWO),
    yuv(b"Y12 ", "Y12", TWO),
    yuv(b"Y14 ", "Y14", TWO),
    yuv(b"Y16 ", "Y16", TWO),
    yuv(b"Y012", "Y012", TWO),
    yuv(b"Y10P", "Y10P", TEN_BITS),
    yuv(b"Y10B", "Y10BPACK", TEN_BITS),
    yuv(b"Y12P", "Y12P", TWELVE_BITS),
    yuv(b"Y14P", "Y14P", FOURTEEN_BITS),
    // RGB.
    rgb(b"RGBP", "RGB565", TWO).drm(b"RG16").g2d(0),
    rgb(b"RGB3", "RGB24", THREE).drm(b"BG24").g2d(10),
    rgb(b"BGR3", "BGR24", THREE).drm(b"RG24").g2d(11),
    rgb(b"AB24", "RGBA32", FOUR).drm(b"AB24").g2d(1),
    rgb(b"XB24", "RGBX32", FOUR).drm(b"XB24").g2d(2),
    rgb(b"AR24", "ABGR32", FOUR).drm(b"AR24").g2d(3),
    rgb(b"XR24", "XBGR32", FOUR).drm(b"XR24").g2d(4),
    rgb(b"BA24", "ARGB32", FOUR).drm(b"BA24").g2d(6),
    rgb(b"RA24", "BGRA32", FOUR).drm(b"RA24").g2d(7),
    rgb(b"BX24", "XRGB32", FOUR).drm(b"BX24").g2d(8),
    rgb(b"RX24", "BGRX32", FOUR).drm(b"RX24").g2d(9),
    // Older codes for the same bytes, whose fourth byte drivers leave undefined.
    rgb(b"RGB4", "RGB32", FOUR).drm(b"BX24").g2d(8),
    rgb(b"BGR4", "BGR32", FOUR).drm(b"XR24").g2d(4),
    // RGB of other depths.
    rgb(b"RGB1", "RGB332", ONE).drm(b"RGB8"),
    rgb(b"R444", "RGB444", TWO),
    rgb(b"AR12", "ARGB444", TWO).drm(b"AR12"),
    rgb(b"XR12", "XRGB444", TWO).drm(b"XR12"),
    rgb(b"RA12", "RGBA444", TWO).drm(b"RA12"),
    rgb(b"RX12", "RGBX444", TWO).drm(b"RX12"),
    rgb(b"AB12", "ABGR444", TWO).drm(b"AB12"),
    rgb(b"XB12", "XBGR444", TWO).drm(b"XB12"),
    rgb(b"GA12", "BGRA444", TWO).drm(b"BA12"),
    rgb(b"BX12", "BGRX444", TWO).drm(b"BX12"),
    rgb(b"RGBO", "RGB555", TWO),
    rgb(b"AR15", "ARGB555", TWO).drm(b"AR15"),
    rgb(b"XR15", "XRGB555", TWO).drm(b"XR15"),
    rgb(b"RA15", "RGBA555", TWO).drm(b"RA15"),
    rgb(b"RX15", "RGBX555", TWO).drm(b"RX15"),
    rgb(b"AB15", "ABGR555", TWO).drm(b"AB15"),
    rgb(b"XB15", "XBGR555", TWO).drm(b"XB15"),
    rgb(b"BA15", "BGRA555", TWO).drm(b"BA15"),
    rgb(b"BX15", "BGRX555", TWO).drm(b"BX15"),
    rgb(b"RGBQ", "RGB555X", TWO),
    rgb(b"RGBR", "RGB565X", TWO),
    rgb(b"BGRH", "BGR666", FOUR),
    rgb(b"RX30", "RGBX1010102", FOUR),
    rgb(b"RA30", "RGBA1010102", FOUR),
    rgb(b"AR30", "ARGB2101010", FOUR),
    // Sensors: Bayer patterns, named by their first four samples, and depth.
    raw(b"BA81", "SBGGR8", ONE),
    raw(b"GBRG", "SGBRG8", ONE),
    raw(b"GRBG", "SGRBG8", ONE),
    raw(b"RGGB", "SRGGB8", ONE),
    raw(b"BG10", "SBGGR10", TWO),
    raw(b"GB10", "SGBRG10", TWO),
    raw(b"BA10", "SGRBG10", TWO),
    raw(b"RG10", "SRGGB10", TWO),
    raw(b"BG12", "SBGGR12", TWO),
    raw(b"GB12", "SGBRG12", TWO),
    raw(b"BA12", "SGRBG12", TWO),
    raw(b"RG12", "SRGGB12", TWO),
    raw(b"BG14", "SBGGR14", TWO),
    raw(b"GB14", "SGBRG14", TWO),
    raw(b"GR14", "SGRBG14", TWO),
    raw(b"RG14", "SRGGB14", TWO),
    raw(b"BYR2", "SBGGR16", TWO),
    raw(b"GB16", "SGBRG16", TWO),
    raw(b"GR16", "SGRBG16", TWO),
    raw(b"RG16", "SRGGB16", TWO),
    raw(b"pBAA", "SBGGR10P", TEN_BITS),
    raw(b"pGAA", "SGBRG10P", TEN_BITS),
    raw(b"pgAA", "SGRBG10P", TEN_BITS),
    raw(b"pRAA", "SRGGB10P", TEN_BITS),
    raw(b"pBCC", "SBGGR12P", TWELVE_BITS),
    raw(b"pGCC", "SGBRG12P", TWELVE_BITS),
    raw(b"pgCC", "SGRBG12P", TWELVE_BITS),
    raw(b"pRCC", "SRGGB12P", TWELVE_BITS),
    raw(b"pBEE", "SBGGR14P", FOURTEEN_BITS),
    raw(b"pGEE", "SGBRG14P", FOURTEEN_BITS),
    raw(b"pgEE", "SGRBG14P", FOURTEEN_BITS),
    raw(b"pREE", "SRGGB14P", FOURTEEN_BITS),
    raw(b"Z16 ", "Z16", TWO),
    // Bitstreams.
    coded(b"H264", "H264"),
    coded(b"HEVC", "HEVC"),
    coded(b"VP80", "VP8"),
    coded(b"MJPG", "MJPEG"),
    coded(b"JPEG", "JPEG"),
    coded(b"FWHT", "FWHT"),
];
