//! Where the pixels of a picture are. A memory plane is the buffer that one file descriptor refers to. It can hold
//! several color planes.

use std::fmt;

use super::{Colorimetry, FormatInfo, FourCc, PlaneInfo, Size};
use crate::error::{Error, ErrorKind, Result};

/// The largest number of color planes, and of memory planes, in a layout.
pub const MAX_PLANES: usize = 4;

/// The largest accepted width or height. The limits of V4L2 and DRM devices are well below it.
pub const MAX_SIDE: u32 = 32_768;

/// One color plane: where its rows begin and how far apart they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plane {
    /// The index of the memory plane that holds this color plane.
    pub memory: u32,
    /// Bytes from the start of the memory plane's payload (after V4L2's `data_offset`) to the first row.
    pub offset_bytes: u32,
    /// Bytes from one row to the next.
    pub stride_bytes: u32,
}

/// The exact layout of one picture, as negotiated with a driver or chosen by an allocator.
///
/// The layout of a bitstream has one memory plane and no color plane. The size of this memory plane is the most that
/// one buffer can hold.
///
/// The color planes of an opaque layout are for devices. They have a place and a stride, but no rows:
/// [`Layout::rows`] and [`Layout::row_bytes`] return 0. A layout is opaque if its pixels are in tiles, which
/// operations of the CPU refuse with `Unsupported`, or if this crate does not know the format. Frames of an unknown
/// format can be captured, shared and imported, and the CPU can read their bytes.
///
/// ```
/// use framelease::format::{FourCc, Layout, Size};
///
/// let layout = Layout::aligned(FourCc::NV12, Size::new(1922, 1080), 64)?;
/// assert_eq!(layout.planes()[0].stride_bytes, 1984);
/// assert_eq!(layout.row_bytes(0), 1922);
/// assert_eq!(layout.to_string(), "NV12 1922x1080 stride 1984");
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    fourcc: FourCc,
    size: Size,
    colorimetry: Colorimetry,
    memory: [u32; MAX_PLANES],
    memory_count: usize,
    planes: [Plane; MAX_PLANES],
    plane_count: usize,
}

impl Layout {
    /// Creates the layout without padding between rows or planes.
    ///
    /// # Errors
    /// `Unsupported` for a bitstream, an opaque or an unknown format. `InvalidArgument` for a side that is 0 or above
    /// [`MAX_SIDE`]. `Mismatch` for an odd width whose chroma rows are longer than the stride.
    pub fn packed(fourcc: FourCc, size: Size) -> Result<Self> {
        Self::aligned(fourcc, size, 1)
    }

    /// Creates a layout whose rows begin at multiples of `stride_align` bytes, in every plane.
    ///
    /// # Errors
    /// `Unsupported` for a bitstream, an opaque or an unknown format. `InvalidArgument` for a side that is 0 or above
    /// [`MAX_SIDE`]. `Mismatch` for an odd width whose chroma rows are longer than the stride.
    pub fn aligned(fourcc: FourCc, size: Size, stride_align: u32) -> Result<Self> {
        let info = fourcc.info().filter(|i| i.has_rows()).ok_or_else(|| unknown(fourcc))?;
        check_size(fourcc, size)?;
        let first = &info.planes[0];
        // V4L2 derives the other strides from the first plane's. This unit also aligns those that are shorter.
        let shorter = |p: &PlaneInfo| (first.bytes * p.horizontal).div_ceil(p.bytes * first.horizontal);
        let unit = stride_align.max(1).saturating_mul(info.planes.iter().map(shorter).max().unwrap_or(1));
        let stride = round_up(row_bytes(first.bytes, first.horizontal, size.width), unit);
        let strides: Vec<u32> = (0..info.memory_planes).map(|i| info.following_stride(i, stride)).collect();
        Self::from_strides(fourcc, size, &strides, &[])
    }

    /// Creates the layout that V4L2 defines for a format. Each memory plane has one stride (`bytesperline`) and one
    /// size (`sizeimage`). If a memory plane has several color planes, they follow each other without a gap
    /// (`pixfmt-yuv-planar.rst`). The second color plane then begins at `bytesperline` x height. The height of a tiled
    /// plane is that of whole tiles.
    ///
    /// If an entry of `sizes` is 0 or missing, the memory plane gets the smallest size that holds the rows.
    ///
    /// A format that this crate does not know needs the size of each memory plane. If its first stride is 0, it is a
    /// bitstream for V4L2, and the layout has no planes. Else it has one opaque plane for each memory plane.
    ///
    /// # Errors
    /// `InvalidArgument` for an impossible size. `Mismatch` if a stride is shorter than a row, if a memory plane is
    /// smaller than its rows, or if a memory plane of an unknown format has no size.
    pub fn from_strides(fourcc: FourCc, size: Size, strides: &[u32], sizes: &[u32]) -> Result<Self> {
        check_size(fourcc, size)?;
        let Some(info) = fourcc.info() else { return Self::unknown(fourcc, size, strides, sizes) };
        let mut layout = Self {
            fourcc,
            size,
            colorimetry: Colorimetry::default(),
            memory: [0; MAX_PLANES],
            memory_count: info.memory_planes,
            planes: [Plane::default(); MAX_PLANES],
            plane_count: info.stored_planes().len(),
        };
        let mut fill = [0u64; MAX_PLANES];
        for i in 0..layout.plane_count {
            let memory = if info.memory_planes == 1 { 0 } else { i };
            let mut stride = strides.get(memory).copied().unwrap_or(0);
            if memory == 0 {
                stride = info.following_stride(i, stride);
            }
            let (row, rows) = layout.stored(i);
            if stride < row {
                return Err(mismatch(
                    fourcc,
                    size,
                    format!("plane {i}: stride {stride} is shorter than a row, {row} bytes"),
                ));
            }
            layout.planes[i] = Plane {
                memory: memory as u32,
                offset_bytes: u32::try_from(fill[memory]).map_err(|_| too_large(fourcc, size))?,
                stride_bytes: stride,
            };
            fill[memory] += u64::from(stride) * u64::from(rows);
        }
        for (i, &rows) in fill.iter().enumerate().take(info.memory_planes) {
            let given = sizes.get(i).copied().unwrap_or(0);
            let needed = u32::try_from(rows).map_err(|_| too_large(fourcc, size))?;
            if given != 0 && given < needed {
                let text = format!("memory plane {i}: {given} bytes offered, its rows need {needed}");
                return Err(mismatch(fourcc, size, text));
            }
            layout.memory[i] = if given == 0 { needed } else { given };
        }
        Ok(layout)
    }

    /// Creates the layout of a format that this crate does not know.
    fn unknown(fourcc: FourCc, size: Size, strides: &[u32], sizes: &[u32]) -> Result<Self> {
        let stride = |memory: usize| strides.get(memory).copied().unwrap_or(0);
        let count = if stride(0) == 0 { 0 } else { sizes.len() };
        let plane = |i: usize| Plane { memory: i as u32, offset_bytes: 0, stride_bytes: stride(i) };
        let planes: Vec<Plane> = (0..count).map(plane).collect();
        if sizes.contains(&0) {
            return Err(mismatch(fourcc, size, format!("memory planes of {sizes:?} bytes")));
        }
        Self::from_planes(fourcc, size, sizes, &planes)
    }

    /// Creates a layout from its parts, for example from parts that another process sent. A format that this crate does
    /// not know can have any number of planes.
    ///
    /// # Errors
    /// `InvalidArgument` for an impossible size. `Mismatch` if the number of planes does not fit the format, if a
    /// stride is shorter than a row, or if a plane exceeds its memory plane.
    pub fn from_planes(fourcc: FourCc, size: Size, memory_bytes: &[u32], planes: &[Plane]) -> Result<Self> {
        check_size(fourcc, size)?;
        let is_expected = match fourcc.info() {
            Some(info) => planes.len() == info.stored_planes().len(),
            None => planes.len() <= MAX_PLANES,
        };
        if !is_expected || memory_bytes.is_empty() || memory_bytes.len() > MAX_PLANES {
            let text = format!("{} planes in {} memory planes cannot be {fourcc}", planes.len(), memory_bytes.len());
            return Err(mismatch(fourcc, size, text));
        }
        let mut layout = Self {
            fourcc,
            size,
            colorimetry: Colorimetry::default(),
            memory: [0; MAX_PLANES],
            memory_count: memory_bytes.len(),
            planes: [Plane::default(); MAX_PLANES],
            plane_count: planes.len(),
        };
        layout.memory[..memory_bytes.len()].copy_from_slice(memory_bytes);
        layout.planes[..planes.len()].copy_from_slice(planes);
        for (i, plane) in planes.iter().enumerate() {
            let room = memory_bytes.get(plane.memory as usize).copied().unwrap_or(0);
            let end = layout.plane_end(i);
            let is_within = (plane.memory as usize) < memory_bytes.len() && end <= u64::from(room);
            if plane.stride_bytes < layout.stored(i).0 || !is_within {
                let text =
                    format!("plane {i} (stride {}, ends at {end}) does not fit its {room} bytes", plane.stride_bytes);
                return Err(mismatch(fourcc, size, text));
            }
        }
        Ok(layout)
    }

    /// Sets the colorimetry. The geometry stays the same.
    pub fn with_colorimetry(mut self, colorimetry: Colorimetry) -> Self {
        self.colorimetry = colorimetry;
        self
    }

    /// Returns the pixel or bitstream format.
    pub fn fourcc(&self) -> FourCc {
        self.fourcc
    }

    /// Returns the width and height in pixels, as the driver reports them. Width and height can include padding, such
    /// as 1088 rows for a picture of 1080 rows. The chroma plane begins after the last of these rows.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Returns the colorimetry of the pixels.
    pub fn colorimetry(&self) -> Colorimetry {
        self.colorimetry
    }

    /// Returns the size of each memory plane's payload, in bytes.
    pub fn memory_bytes(&self) -> &[u32] {
        &self.memory[..self.memory_count]
    }

    /// Returns the color planes. The slice is empty for a bitstream. The planes of an opaque layout are for devices.
    pub fn planes(&self) -> &[Plane] {
        &self.planes[..self.plane_count]
    }

    /// Returns `true` if the content is a bitstream rather than pixels. For a format that this crate does not know, it
    /// is what the driver says: a stride of 0.
    pub fn is_compressed(&self) -> bool {
        self.plane_count == 0
    }

    /// Returns the number of bytes of the pixels in a row of color plane `i`, without padding. Returns 0 if the plane
    /// does not exist or has no rows.
    pub fn row_bytes(&self, i: usize) -> u32 {
        self.plane_info(i).map_or(0, |p| row_bytes(p.bytes, p.horizontal, self.size.width))
    }

    /// Returns the number of rows of color plane `i`. Returns 0 if the plane does not exist or has no rows.
    pub fn rows(&self, i: usize) -> u32 {
        self.plane_info(i).map_or(0, |p| self.size.height.div_ceil(p.vertical))
    }

    /// Returns the number of bytes of all pixels, without any padding.
    pub fn pixel_bytes(&self) -> u64 {
        (0..self.plane_count).map(|i| u64::from(self.row_bytes(i)) * u64::from(self.rows(i))).sum()
    }

    /// Returns `true` if the CPU can read the pixels row by row.
    pub(crate) fn has_rows(&self) -> bool {
        self.plane_count > 0 && self.fourcc.info().is_some_and(FormatInfo::has_rows)
    }

    /// Returns an error if only devices can read the pixels.
    pub(crate) fn check_rows(&self, op: &'static str) -> Result<()> {
        match self.fourcc.tiling() {
            Some(modifier) => {
                let text = format!("{self} is tiled (modifier {modifier:#x}): only devices can read it");
                Err(Error::new(ErrorKind::Unsupported, op, text))
            }
            None => Ok(()),
        }
    }

    /// Returns the bytes of a row and the number of rows that color plane `i` has in memory. Rows are those of whole
    /// tiles.
    fn stored(&self, i: usize) -> (u32, u32) {
        let info = self.fourcc.info();
        let Some(plane) = info.and_then(|info| info.stored_planes().get(i)) else { return (0, 0) };
        let (row, rows) = (row_bytes(plane.bytes, plane.horizontal, self.size.width), self.size.height);
        let rows = rows.div_ceil(plane.vertical);
        match info.and_then(|info| info.tiles) {
            Some(tiles) => ((row * tiles.bits).div_ceil(8), rows.next_multiple_of(tiles.rows)),
            None => (row, rows),
        }
    }

    fn plane_info(&self, i: usize) -> Option<&'static super::PlaneInfo> {
        self.fourcc.info()?.planes.get(i)
    }

    /// Returns the differences from another layout with the same `Display` text: `; range Full into Limited`.
    pub(crate) fn hidden_difference(&self, other: &Self) -> String {
        let parts = |l: &Self| {
            let Colorimetry { space, encoding, range, transfer } = l.colorimetry;
            [
                ("color space", format!("{space:?}")),
                ("encoding", format!("{encoding:?}")),
                ("range", format!("{range:?}")),
                ("transfer", format!("{transfer:?}")),
                ("memory planes of", format!("{:?} bytes", l.memory_bytes())),
                ("planes", format!("{:?}", l.planes())),
            ]
        };
        if self.to_string() != other.to_string() {
            return String::new();
        }
        let pairs = parts(self).into_iter().zip(parts(other)).filter(|(a, b)| a != b);
        pairs.map(|((what, a), (_, b))| format!("; {what} {a} into {b}")).collect()
    }

    /// Returns the first byte after the pixels of color plane `i`, in its memory plane.
    pub(crate) fn plane_end(&self, i: usize) -> u64 {
        let (plane, (row, rows)) = (self.planes[i], self.stored(i));
        u64::from(plane.offset_bytes)
            + u64::from(plane.stride_bytes) * u64::from(rows).saturating_sub(1)
            + u64::from(row)
    }
}

/// Displays the geometry for error texts and listings: `NV12 1920x1088 stride 2048`.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.fourcc, self.size)?;
        match self.planes().first() {
            Some(first) => write!(f, " stride {}", first.stride_bytes),
            None => write!(f, " up to {} bytes", self.memory[0]),
        }
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layout")
            .field("fourcc", &self.fourcc)
            .field("size", &self.size)
            .field("memory_bytes", &self.memory_bytes())
            .field("planes", &self.planes())
            .field("colorimetry", &self.colorimetry)
            .finish()
    }
}

fn row_bytes(bytes: u32, horizontal: u32, width: u32) -> u32 {
    width.div_ceil(horizontal) * bytes
}

fn round_up(value: u32, unit: u32) -> u32 {
    value.div_ceil(unit).saturating_mul(unit)
}

fn check_size(fourcc: FourCc, size: Size) -> Result<()> {
    let range = 1..=MAX_SIDE;
    if range.contains(&size.width) && range.contains(&size.height) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        "layout",
        format!("{fourcc} {size}: each side must be 1 to {MAX_SIDE} pixels"),
    ))
}

fn unknown(fourcc: FourCc) -> Error {
    Error::new(ErrorKind::Unsupported, "layout", format!("{fourcc} is not a pixel format this crate can lay out"))
}

fn mismatch(fourcc: FourCc, size: Size, text: String) -> Error {
    Error::new(ErrorKind::Mismatch, "layout", format!("{fourcc} {size}: {text}"))
}

fn too_large(fourcc: FourCc, size: Size) -> Error {
    Error::new(ErrorKind::InvalidArgument, "layout", format!("{fourcc} {size}: a plane is larger than 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NV12: FourCc = FourCc::NV12;

    #[test]
    fn from_strides_puts_nv12_chroma_after_the_driver_s_last_row() {
        let l = Layout::from_strides(NV12, Size::new(1920, 1088), &[2048], &[3_342_336]).unwrap();
        assert_eq!(l.planes()[1], Plane { memory: 0, offset_bytes: 2048 * 1088, stride_bytes: 2048 });
        assert_eq!(l.memory_bytes(), &[3_342_336]);
        assert_eq!(l.to_string(), "NV12 1920x1088 stride 2048");
    }

    #[test]
    fn packed_gives_multi_planar_formats_a_memory_plane_per_color_plane() {
        let l = Layout::packed("NV12M".parse().unwrap(), Size::new(640, 360)).unwrap();
        assert_eq!(l.memory_bytes(), &[640 * 360, 640 * 180]);
        assert_eq!(l.planes()[1], Plane { memory: 1, offset_bytes: 0, stride_bytes: 640 });
        let l = Layout::packed("YUV420M".parse().unwrap(), Size::new(640, 360)).unwrap();
        assert_eq!(l.memory_bytes(), &[640 * 360, 320 * 180, 320 * 180]);
    }

    #[test]
    fn aligned_halves_the_stride_of_planar_420() {
        let l = Layout::aligned("YU12".parse().unwrap(), Size::new(642, 362), 16).unwrap();
        let strides: Vec<u32> = l.planes().iter().map(|p| p.stride_bytes).collect();
        assert_eq!(strides, [672, 336, 336]);
        assert_eq!(l.planes()[2].offset_bytes, 672 * 362 + 336 * 181);
    }

    #[test]
    fn packed_and_aligned_round_chroma_of_odd_sizes_up() {
        let l = Layout::packed(NV12, Size::new(3, 3));
        // A row of two chroma pairs is four bytes and does not fit a luma stride of three.
        assert_eq!(l.map_err(|e| e.kind()), Err(ErrorKind::Mismatch));
        let l = Layout::aligned(NV12, Size::new(3, 3), 4).unwrap();
        assert_eq!((l.row_bytes(1), l.rows(1), l.pixel_bytes()), (4, 2, 9 + 8));
    }

    #[test]
    fn from_strides_refuses_impossible_geometry() {
        for (size, strides, sizes, kind) in [
            (Size::new(0, 1080), &[0][..], &[][..], ErrorKind::InvalidArgument),
            (Size::new(u32::MAX, 2), &[u32::MAX], &[], ErrorKind::InvalidArgument),
            (Size::new(640, 360), &[320], &[], ErrorKind::Mismatch),
            (Size::new(640, 360), &[640], &[640 * 360], ErrorKind::Mismatch),
            (Size::new(640, 32768), &[u32::MAX], &[], ErrorKind::InvalidArgument),
            (Size::new(640, 360), &[], &[], ErrorKind::Mismatch),
        ] {
            let e = Layout::from_strides(NV12, size, strides, sizes).unwrap_err();
            assert_eq!(e.kind(), kind, "{e}");
        }
        let e = Layout::packed(FourCc::H264, Size::new(640, 360)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn from_strides_puts_tiled_chroma_after_whole_tiles() {
        let size = Size::new(1920, 1080);
        // What the driver of the i.MX8QM reports: 1080 rows are 9 tiles of 128, and 540 are 5.
        let l = Layout::from_strides("NV12_8L128".parse().unwrap(), size, &[2048], &[2048 * (1152 + 640)]).unwrap();
        assert_eq!(l.planes()[1], Plane { memory: 0, offset_bytes: 2048 * 1152, stride_bytes: 2048 });
        assert_eq!((l.plane_end(0), l.plane_end(1)), (2048 * 1151 + 1920, 2048 * 1791 + 1920));
        assert_eq!((l.rows(0), l.row_bytes(0), l.pixel_bytes(), l.is_compressed()), (0, 0, 0, false));
        assert_eq!(Layout::from_planes(l.fourcc(), size, l.memory_bytes(), l.planes()).unwrap(), l);
        assert_eq!(l.check_rows("read").unwrap_err().kind(), ErrorKind::Unsupported);
        let two: FourCc = "NV12M_10BE_8L128".parse().unwrap();
        let l = Layout::from_strides(two, size, &[2560, 2560], &[2560 * 1152, 2560 * 640]).unwrap();
        assert_eq!(l.planes()[1], Plane { memory: 1, offset_bytes: 0, stride_bytes: 2560 });
        for (fourcc, strides, sizes) in [
            (two, [2399; 2], [0; 2]),
            (two, [2560; 2], [2560 * 1152, 2560 * 540]),
            ("NV12_8L128".parse().unwrap(), [2048; 2], [2048 * 1080 * 3 / 2; 2]),
        ] {
            let e = Layout::from_strides(fourcc, size, &strides, &sizes).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Mismatch, "{e}");
        }
        assert_eq!(Layout::packed(two, size).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn from_strides_follows_the_samples_of_every_format() {
        let size = Size::new(64, 4);
        let strides = |name: &str, stride| {
            let l = Layout::from_strides(name.parse().unwrap(), size, &[stride], &[]).unwrap();
            l.planes().iter().map(|p| (p.stride_bytes, p.offset_bytes)).collect::<Vec<_>>()
        };
        // The chroma of NV24 has two bytes for each byte of luma.
        assert_eq!(strides("NV24", 80), [(80, 0), (160, 320)]);
        assert_eq!(strides("P010", 128), [(128, 0), (128, 512)]);
        assert_eq!(strides("422P", 80), [(80, 0), (40, 320), (40, 480)]);
        let row = |name: &str| Layout::packed(name.parse().unwrap(), size).unwrap().row_bytes(0);
        assert_eq!(["pBAA", "pBCC", "pBEE", "RG10", "Z16"].map(row), [80, 96, 112, 128, 128]);
        // Whole groups of samples.
        assert_eq!(Layout::packed("Y10P".parse().unwrap(), Size::new(66, 4)).unwrap().row_bytes(0), 85);
    }

    #[test]
    fn layout_of_an_unknown_format_is_opaque() {
        let (fourcc, size) = ("HSV3".parse().unwrap(), Size::new(64, 48));
        let l = Layout::from_strides(fourcc, size, &[192], &[9216]).unwrap();
        assert_eq!(l.planes(), [Plane { memory: 0, offset_bytes: 0, stride_bytes: 192 }]);
        assert_eq!((l.rows(0), l.row_bytes(0), l.pixel_bytes(), l.is_compressed()), (0, 0, 0, false));
        assert_eq!(l.to_string(), "HSV3 64x48 stride 192");
        assert!(l.check_rows("read").is_ok() && !l.has_rows(), "its bytes can be read");
        let coded = Layout::from_strides(fourcc, size, &[0], &[9216]).unwrap();
        assert!(coded.planes().is_empty() && coded.is_compressed());
        let two = Layout::from_strides(fourcc, size, &[64, 128], &[3072, 6144]).unwrap();
        assert_eq!(two.planes()[1], Plane { memory: 1, offset_bytes: 0, stride_bytes: 128 });
        for (strides, sizes) in [(&[192][..], &[][..]), (&[192], &[0]), (&[8; 2], &[16, 0]), (&[8; 5], &[16; 5])] {
            let e = Layout::from_strides(fourcc, size, strides, sizes).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Mismatch, "{e}");
        }
        let plane = |memory, offset_bytes| Plane { memory, offset_bytes, stride_bytes: 8 };
        for planes in [&[plane(1, 0)][..], &[plane(0, 17)], &[plane(0, 0); 5]] {
            assert!(Layout::from_planes(fourcc, size, &[16], planes).is_err(), "{planes:?}");
        }
        assert_eq!(Layout::packed(fourcc, size).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    proptest! {
        #[test]
        fn from_strides_keeps_planes_within_their_memory(
            format in 0..super::super::FORMATS.len(),
            width in 0u32..40_000, height in 0u32..40_000,
            strides in proptest::collection::vec(any::<u32>(), 0..5),
            sizes in proptest::collection::vec(any::<u32>(), 0..5),
        ) {
            let fourcc = super::super::FORMATS[format].fourcc;
            if let Ok(l) = Layout::from_strides(fourcc, Size::new(width, height), &strides, &sizes) {
                for (i, p) in l.planes().iter().enumerate() {
                    prop_assert!(l.plane_end(i) <= u64::from(l.memory_bytes()[p.memory as usize]));
                }
                prop_assert_eq!(Layout::from_planes(fourcc, l.size(), l.memory_bytes(), l.planes()).unwrap(), l);
            }
        }
    }
}
