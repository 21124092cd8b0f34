//! The formats, sizes and intervals that a device offers, and the negotiation of one exact layout.

use std::fmt;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::device::{Device, Direction};
use super::overrule::Overrule;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    ColorSpace, Colorimetry, Encoding, FourCc, FrameInterval, Layout, Range, Size, Transfer, MAX_PLANES,
};
use crate::sys::from_kernel::text;
use crate::sys::v4l2::{
    FmtDesc, Format, FrmIvalEnum, FrmSizeEnum, Picture, Plain, FIELD_NONE, FLAG_SET_CSC, FMT_COMPRESSED, FMT_EMULATED,
};
use crate::sys::v4l2_calls as calls;

/// A limit above the entries of any driver, for drivers whose list does not end.
const MOST: u32 = 256;

/// A format that a device lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FormatOffer {
    /// The code of the format.
    pub fourcc: FourCc,
    /// The name of the format, from the driver or the kernel.
    pub description: String,
    /// `true` for a bitstream.
    pub compressed: bool,
    /// `true` if libv4l converts pictures to this format on the CPU.
    pub emulated: bool,
}

/// The picture sizes that a device lists for a format.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sizes {
    /// A list of sizes.
    Discrete(Vec<Size>),
    /// Every size from `min` to `max` in steps.
    Stepwise {
        /// The smallest possible size.
        min: Size,
        /// The largest possible size.
        max: Size,
        /// The distance between two sizes.
        step: Size,
    },
    /// The driver does not list sizes.
    Unknown,
}

/// The frame intervals that a device lists for a format and size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intervals {
    /// A list of intervals.
    Discrete(Vec<FrameInterval>),
    /// Every interval from the shortest to the longest.
    Stepwise {
        /// The shortest possible interval.
        min: FrameInterval,
        /// The longest possible interval.
        max: FrameInterval,
    },
    /// The driver does not list intervals.
    Unknown,
}

/// A format to request from a driver. The driver chooses values that are zero.
///
/// ```
/// use framelease::format::{FourCc, Size};
/// use framelease::v4l2::FormatRequest;
///
/// let mut request = FormatRequest::new(FourCc::NV12, Size::new(1920, 1080));
/// request.stride_bytes[0] = 2048;
/// assert_eq!(request.to_string(), "NV12 1920x1080 stride 2048");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FormatRequest {
    /// The pixel or bitstream format.
    pub fourcc: FourCc,
    /// Width and height of the picture.
    pub size: Size,
    /// Bytes from row to row, per memory plane.
    pub stride_bytes: [u32; MAX_PLANES],
    /// Bytes of a buffer, per memory plane. For a bitstream, the most that one buffer can hold.
    pub memory_bytes: [u32; MAX_PLANES],
    /// The colorimetry. On an output queue, it describes the pixels. On a capture queue, the device converts its
    /// pictures to this colorimetry if it can.
    pub colorimetry: Colorimetry,
}

impl FormatRequest {
    /// Creates a request for a format and size. The driver chooses the rest.
    pub fn new(fourcc: FourCc, size: Size) -> Self {
        let zero = [0; MAX_PLANES];
        Self { fourcc, size, stride_bytes: zero, memory_bytes: zero, colorimetry: Colorimetry::default() }
    }

    /// Creates a request for exactly the layout of another device.
    pub fn from_layout(layout: &Layout) -> Self {
        let mut request = Self::new(layout.fourcc(), layout.size());
        for plane in layout.planes().iter().rev() {
            // In reverse order: the stride of the first color plane in a memory plane must win.
            request.stride_bytes[plane.memory as usize % MAX_PLANES] = plane.stride_bytes;
        }
        request.memory_bytes[..layout.memory_bytes().len()].copy_from_slice(layout.memory_bytes());
        request.colorimetry = layout.colorimetry();
        request
    }

    /// Returns the number of memory planes with a size, and 1 at least.
    fn stated_planes(&self) -> usize {
        self.memory_bytes.iter().take_while(|&&bytes| bytes > 0).count().max(1)
    }

    fn picture(&self) -> Picture {
        let c = self.colorimetry;
        let mut picture = Picture {
            width: self.size.width,
            height: self.size.height,
            fourcc: u32::from(self.fourcc),
            field: FIELD_NONE,
            planes: self.fourcc.info().map_or_else(|| self.stated_planes(), |i| i.memory_planes),
            color: [c.space.to_v4l2(), c.encoding.to_v4l2(), c.range.to_v4l2(), c.transfer.to_v4l2()],
            ..Picture::default()
        };
        picture.strides[..MAX_PLANES].copy_from_slice(&self.stride_bytes);
        picture.sizes[..MAX_PLANES].copy_from_slice(&self.memory_bytes);
        if c != Colorimetry::default() {
            picture.flags = FLAG_SET_CSC;
        }
        picture
    }
}

impl fmt::Display for FormatRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.fourcc, self.size)?;
        match self.stride_bytes[0] {
            0 => Ok(()),
            stride => write!(f, " stride {stride}"),
        }
    }
}

/// Returns the layout of a driver's answer, with what its user says instead.
fn overruled(overrule: Overrule, mut picture: Picture) -> Result<Layout> {
    if let Some(stride) = overrule.stride_bytes {
        let info = FourCc::from(picture.fourcc).info();
        // A bitstream has the stride 0.
        let strides = picture.strides.iter_mut().enumerate().take(picture.planes);
        for (i, stated) in strides.filter(|(_, stated)| info.is_some() || **stated > 0) {
            *stated = info.filter(|_| i > 0).map_or(stride, |info| info.following_stride(i, stride));
        }
    }
    let layout = layout(&picture)?;
    Ok(overrule.colorimetry.map_or(layout, |colors| layout.with_colorimetry(colors)))
}

/// Returns the layout that a driver's answer describes.
fn layout(picture: &Picture) -> Result<Layout> {
    let [space, encoding, range, transfer] = picture.color;
    let planes = picture.planes;
    let code = FourCc::from(picture.fourcc);
    // NXP's imx8-isi-cap of Linux 5.4 gives NV12 in two memory planes.
    let split = code.split().filter(|split| split.info().is_some_and(|i| i.memory_planes == planes));
    let layout = Layout::from_strides(
        split.unwrap_or(code),
        Size::new(picture.width, picture.height),
        &picture.strides[..planes],
        &picture.sizes[..planes],
    )?;
    if layout.memory_bytes().len() != planes {
        let text = format!("the driver reports {planes} memory planes for {layout}");
        return Err(Error::new(ErrorKind::Mismatch, "layout", text));
    }
    Ok(layout.with_colorimetry(Colorimetry {
        space: ColorSpace::from_v4l2(space),
        encoding: Encoding::from_v4l2(encoding),
        range: Range::from_v4l2(range),
        transfer: Transfer::from_v4l2(transfer),
    }))
}

impl Device {
    /// Returns the formats that a queue lists. Ioctl: `VIDIOC_ENUM_FMT`, one call per format.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the queue.
    #[doc(alias = "VIDIOC_ENUM_FMT")]
    pub fn formats(&self, direction: Direction) -> Result<Vec<FormatOffer>> {
        const OP: &str = "VIDIOC_ENUM_FMT";
        let kind = self.buf_type(direction, OP)?;
        let mut offers = Vec::new();
        for index in 0..MOST {
            let mut desc = FmtDesc { index, kind: kind as u32, ..FmtDesc::zeroed() };
            match calls::enum_fmt(self.as_fd(), &mut desc) {
                Ok(()) => offers.push(FormatOffer {
                    fourcc: FourCc::from(desc.pixelformat),
                    description: text(&desc.description),
                    compressed: desc.flags & FMT_COMPRESSED != 0,
                    emulated: desc.flags & FMT_EMULATED != 0,
                }),
                Err(Errno::EINVAL) => break,
                Err(e) => return Err(self.failed(OP, e)),
            }
        }
        Ok(offers)
    }

    /// Returns the sizes that the device lists for a format. Ioctl: `VIDIOC_ENUM_FRAMESIZES`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug. Other errors are those of the driver. An empty list gives `Sizes::Unknown`.
    #[doc(alias = "VIDIOC_ENUM_FRAMESIZES")]
    pub fn sizes(&self, fourcc: FourCc) -> Result<Sizes> {
        let mut discrete = Vec::new();
        for index in 0..MOST {
            let mut arg = FrmSizeEnum { index, pixel_format: u32::from(fourcc), ..FrmSizeEnum::zeroed() };
            match calls::enum_framesizes(self.as_fd(), &mut arg) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOTTY) => break,
                Err(e) => return Err(self.failed("VIDIOC_ENUM_FRAMESIZES", e)),
            }
            let [a, b, c, d, e, f] = arg.body;
            if arg.kind != 1 {
                return Ok(Sizes::Stepwise { min: Size::new(a, d), max: Size::new(b, e), step: Size::new(c, f) });
            }
            discrete.push(Size::new(a, b));
        }
        Ok(if discrete.is_empty() { Sizes::Unknown } else { Sizes::Discrete(discrete) })
    }

    /// Returns the frame intervals that the device lists for a format and size. Ioctl: `VIDIOC_ENUM_FRAMEINTERVALS`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug. Other errors are those of the driver. An empty list gives `Intervals::Unknown`.
    #[doc(alias = "VIDIOC_ENUM_FRAMEINTERVALS")]
    pub fn intervals(&self, fourcc: FourCc, size: Size) -> Result<Intervals> {
        let mut discrete = Vec::new();
        for index in 0..MOST {
            let (width, height) = (size.width, size.height);
            let mut arg =
                FrmIvalEnum { index, pixel_format: u32::from(fourcc), width, height, ..FrmIvalEnum::zeroed() };
            match calls::enum_frameintervals(self.as_fd(), &mut arg) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOTTY) => break,
                Err(e) => return Err(self.failed("VIDIOC_ENUM_FRAMEINTERVALS", e)),
            }
            let at = |i: usize| FrameInterval { numerator: arg.body[i], denominator: arg.body[i + 1] };
            if arg.kind != 1 {
                return Ok(Intervals::Stepwise { min: at(0), max: at(2) });
            }
            discrete.push(at(0));
        }
        Ok(if discrete.is_empty() { Intervals::Unknown } else { Intervals::Discrete(discrete) })
    }

    /// Returns the present layout of a queue. Ioctl: `VIDIOC_G_FMT`. Some drivers report the size only. The format and
    /// the strides are then those that the driver gave when this handle set the format.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the queue. `Mismatch` for an impossible answer of the driver.
    #[doc(alias = "VIDIOC_G_FMT")]
    pub fn format(&self, direction: Direction) -> Result<Layout> {
        const OP: &str = "VIDIOC_G_FMT";
        let mut arg = Format::new(self.buf_type(direction, OP)?, &Picture::default());
        calls::g_fmt(self.as_fd(), &mut arg).map_err(|e| self.failed(OP, e))?;
        let picture = self.complete(direction, arg.picture());
        overruled(self.overruled(direction), picture).map_err(|e| self.unusable(OP, e))
    }

    /// Returns the present format and size of a queue, also of a format without a known layout. Ioctl: `VIDIOC_G_FMT`.
    pub(crate) fn present_format(&self, direction: Direction) -> Result<(FourCc, Size)> {
        const OP: &str = "VIDIOC_G_FMT";
        let mut arg = Format::new(self.buf_type(direction, OP)?, &Picture::default());
        calls::g_fmt(self.as_fd(), &mut arg).map_err(|e| self.failed(OP, e))?;
        let picture = self.complete(direction, arg.picture());
        Ok((FourCc::from(picture.fourcc), Size::new(picture.width, picture.height)))
    }

    /// Returns the layout that [`Device::set_format`] would give. Changes nothing. Ioctl: `VIDIOC_TRY_FMT`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not offer the format (the text lists the offered formats), `InvalidArgument`
    /// for a size of 0.
    #[doc(hidden)]
    #[doc(alias = "VIDIOC_TRY_FMT")]
    pub fn try_format(&self, direction: Direction, request: &FormatRequest) -> Result<Layout> {
        self.negotiate("VIDIOC_TRY_FMT", calls::try_fmt, direction, request).map(|(layout, _)| layout)
    }

    /// Requests a layout and returns the one that the driver chose. The driver may align size and stride or choose
    /// the nearest size, but it keeps the format. Ioctl: `VIDIOC_S_FMT`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not offer the format (the text lists the offered formats), `InvalidArgument`
    /// for a size of 0, `Busy` while buffers are allocated, here or by another program.
    #[doc(hidden)]
    #[doc(alias = "VIDIOC_S_FMT")]
    pub fn set_format(&self, direction: Direction, request: &FormatRequest) -> Result<Layout> {
        let (layout, answer) = self.negotiate("VIDIOC_S_FMT", calls::s_fmt, direction, request)?;
        self.remember(direction, &answer);
        Ok(layout)
    }

    /// Requests exactly one layout, such as the layout of another device's buffers. The buffers of `wanted` may be
    /// larger than the driver's own buffers. Ioctls: `VIDIOC_TRY_FMT`, `VIDIOC_S_FMT`.
    ///
    /// # Errors
    /// `Mismatch` if the driver chooses another geometry. If `VIDIOC_TRY_FMT` already returns that geometry, the format
    /// does not change. Else the errors of [`Device::set_format`].
    #[doc(hidden)]
    #[doc(alias = "VIDIOC_S_FMT")]
    pub fn set_format_exact(&self, direction: Direction, wanted: &Layout) -> Result<Layout> {
        let request = FormatRequest::from_layout(wanted);
        let would = self.try_format(direction, &request)?;
        if !holds(wanted, &would) {
            return Err(self.mismatch("VIDIOC_TRY_FMT", wanted, &would));
        }
        let given = self.set_format(direction, &request)?;
        if !holds(wanted, &given) {
            return Err(self.mismatch("VIDIOC_S_FMT", wanted, &given));
        }
        Ok(given)
    }

    fn negotiate(
        &self,
        op: &'static str,
        call: fn(std::os::fd::BorrowedFd<'_>, &mut Format) -> std::result::Result<(), Errno>,
        direction: Direction,
        request: &FormatRequest,
    ) -> Result<(Layout, Picture)> {
        let kind = self.buf_type(direction, op)?;
        let asked = |e: Error, why: &str| {
            let offer = self.offer(direction, request.fourcc);
            e.on(self).detail(format!("{why}asked {request}; the device offers {offer}"))
        };
        if request.size.width == 0 || request.size.height == 0 {
            return Err(asked(Error::new(ErrorKind::InvalidArgument, op, ""), "a side is 0: "));
        }
        let mut arg = Format::new(kind, &request.picture());
        call(self.as_fd(), &mut arg).map_err(|e| match e {
            Errno::EBUSY => self.failed(op, e).detail(format!(
                "asked {request}; buffers are allocated, by this handle or another user of the device{}",
                self.open_in()
            )),
            e => asked(Error::os(op, e), ""),
        })?;
        let picture = arg.picture();
        if picture.fourcc != u32::from(request.fourcc) {
            let why = format!("the driver gives {} instead: ", FourCc::from(picture.fourcc));
            return Err(asked(Error::new(ErrorKind::Unsupported, op, ""), &why));
        }
        let refusal = match picture.field {
            // Any, progressive, and both fields of a frame, interleaved: these give whole frames.
            0 | 1 | 4 | 8 | 9 => None,
            // The top or the bottom field, or one after the other. The size is that of a field.
            2 | 3 | 7 if direction == Direction::Capture => None,
            2 | 3 | 7 => Some("each buffer has one field"),
            5 | 6 => Some("each buffer has two fields, one after the other"),
            _ => Some("the order of the fields is not known"),
        };
        if let Some(why) = refusal {
            let why = format!("the pictures are interlaced, and {why} (v4l2_field {}): ", picture.field);
            return Err(asked(Error::new(ErrorKind::Unsupported, op, ""), &why));
        }
        let layout = overruled(self.overruled(direction), picture).map_err(|e| self.unusable(op, e))?;
        Ok((layout, picture))
    }

    fn unusable(&self, op: &'static str, e: Error) -> Error {
        Error::new(e.kind(), op, format!("the driver's format cannot be used: {e}")).on(self)
    }

    pub(crate) fn mismatch(&self, op: &'static str, wanted: &Layout, given: &Layout) -> Error {
        let text = format!("asked {}; the device gives {}", geometry(wanted), geometry(given));
        Error::new(ErrorKind::Mismatch, op, text).on(self)
    }

    /// Returns formats and sizes in one line, the requested format first.
    fn offer(&self, direction: Direction, asked: FourCc) -> String {
        let mut formats: Vec<FourCc> = self.formats(direction).unwrap_or_default().iter().map(|o| o.fourcc).collect();
        if let Some(at) = formats.iter().position(|&f| f == asked) {
            formats.remove(at);
            let rest: Vec<String> = formats.iter().map(FourCc::to_string).collect();
            let sizes = self.sizes(asked).unwrap_or(Sizes::Unknown);
            return format!("{asked} {sizes}, {}", rest.join(", "));
        }
        formats.iter().map(FourCc::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Returns whether a queue of layout `queue` can take a picture of layout `picture`: the format and the place of
/// every color plane must be the same. The queue may have more columns and rows if that moves no plane.
pub(crate) fn holds(picture: &Layout, queue: &Layout) -> bool {
    picture.fourcc() == queue.fourcc()
        && picture.memory_bytes().len() == queue.memory_bytes().len()
        && picture.planes() == queue.planes()
        && (picture.is_compressed() || is_within(picture, queue))
}

fn is_within(picture: &Layout, queue: &Layout) -> bool {
    picture.size().width <= queue.size().width && picture.size().height <= queue.size().height
}

/// Returns whether a picture whose planes share one buffer can be queued where each plane has its own buffer. The
/// same dma-buf is then queued for every plane, each with its own `data_offset`.
pub(crate) fn splits(picture: &Layout, queue: &Layout) -> bool {
    let (from, to) = (picture.planes(), queue.planes());
    picture.fourcc().has_bytes_of(queue.fourcc())
        && picture.memory_bytes().len() == 1
        && queue.memory_bytes().len() == to.len()
        && (from.len() == to.len() && from.len() > 1)
        && from.iter().zip(to).all(|(a, b)| a.stride_bytes == b.stride_bytes && b.offset_bytes == 0)
        && is_within(picture, queue)
}

/// Describes a layout with the place of every plane.
pub(crate) fn geometry(layout: &Layout) -> String {
    let planes: Vec<String> =
        layout.planes().iter().map(|p| format!("{}+{}/{}", p.memory, p.offset_bytes, p.stride_bytes)).collect();
    format!("{layout} (planes memory+offset/stride {}; {:?} bytes)", planes.join(" "), layout.memory_bytes())
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discrete(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(Size::to_string).collect();
                f.write_str(&sizes.join(" "))
            }
            Self::Stepwise { min, max, step } => write!(f, "{min} to {max} in steps of {step}"),
            Self::Unknown => f.write_str("in sizes that it does not list"),
        }
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discrete(all) => {
                let all: Vec<String> = all.iter().map(|i| format!("{:.3}", i.fps())).collect();
                write!(f, "{} fps", all.join(" "))
            }
            Self::Stepwise { min, max } => write!(f, "{:.3} to {:.3} fps", max.fps(), min.fps()),
            Self::Unknown => f.write_str("any rate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nv12(height: u32, stride: u32) -> Layout {
        Layout::from_strides(FourCc::NV12, Size::new(1920, height), &[stride], &[]).unwrap()
    }

    fn nv12m(height: u32, stride: u32) -> Layout {
        Layout::from_strides(FourCc::NV12M, Size::new(1920, height), &[stride; 2], &[]).unwrap()
    }

    #[test]
    fn format_request_from_a_layout_has_all_of_it() {
        let l = Layout::aligned("YUV420M".parse().unwrap(), Size::new(640, 360), 64).unwrap();
        let r = FormatRequest::from_layout(&l);
        assert_eq!(r.stride_bytes, [640, 320, 320, 0]);
        assert_eq!(r.memory_bytes[..3], *l.memory_bytes());
        let mut picture = r.picture();
        picture.planes = 3;
        assert_eq!(layout(&picture).unwrap(), l);
        let planar = Layout::packed("YU12".parse().unwrap(), Size::new(640, 360)).unwrap();
        assert_eq!(FormatRequest::from_layout(&planar).stride_bytes[0], 640);
    }

    #[test]
    fn holds_allows_more_rows_only_if_no_plane_moves() {
        assert!(holds(&nv12(1080, 1920), &nv12(1080, 1920)));
        assert!(!holds(&nv12(1080, 1920), &nv12(1088, 1920)), "the chroma plane would be elsewhere");
        assert!(!holds(&nv12(1080, 1920), &nv12(1080, 2048)));
        let yuyv = |h| Layout::packed(FourCc::YUYV, Size::new(1920, h)).unwrap();
        assert!(holds(&yuyv(1080), &yuyv(1088)));
        assert!(!holds(&yuyv(1088), &yuyv(1080)));
        let padded = |w| Layout::from_strides(FourCc::YUYV, Size::new(w, 64), &[2048], &[]).unwrap();
        assert!(holds(&padded(1000), &padded(1008)) && !holds(&padded(1008), &padded(1000)));
    }

    #[test]
    fn splits_allows_the_same_bytes_in_separate_planes() {
        assert!(splits(&nv12(1080, 1920), &nv12m(1088, 1920)), "rows below a plane move no plane");
        assert!(!splits(&nv12(1080, 1920), &nv12m(1088, 2048)));
        assert!(!splits(&nv12m(1080, 1920), &nv12m(1080, 1920)) && !splits(&nv12m(1080, 1920), &nv12(1080, 1920)));
        assert!(!splits(&Layout::packed(FourCc::NV21, Size::new(1920, 1080)).unwrap(), &nv12m(1080, 1920)));
    }

    #[test]
    fn layout_refuses_impossible_formats_of_a_driver() {
        let p = Picture { width: 640, height: 360, fourcc: u32::from(FourCc::NV12M), ..Picture::default() };
        for planes in 0..=8 {
            assert!(layout(&Picture { planes, ..p }).is_err());
        }
        let one = Picture { planes: 1, strides: [640; 8], sizes: [1 << 20; 8], ..p };
        assert!(layout(&one).is_err(), "two memory planes in one");
        assert!(layout(&Picture { planes: 2, ..one }).is_ok());
    }

    #[test]
    fn layout_of_tiles_has_the_sizes_that_the_driver_reports() {
        let [single, split]: [FourCc; 2] = ["NV12_8L128", "NV12M_8L128"].map(|name| name.parse().unwrap());
        // The Amphion decoder's answer for 1920x1088: whole tiles, and more below the chroma.
        let picture = Picture { width: 1920, height: 1088, strides: [2048; 8], ..Picture::default() };
        let (luma, chroma) = (2048 * 1152, 2048 * 640);
        let mut two = Picture { fourcc: u32::from(split), planes: 2, ..picture };
        two.sizes[..2].copy_from_slice(&[luma, chroma]);
        let two = layout(&two).unwrap();
        assert_eq!(two.memory_bytes(), [luma, chroma]);
        let mut one = Picture { fourcc: u32::from(single), planes: 1, ..picture };
        one.sizes[0] = luma + chroma;
        assert_eq!(layout(&one).unwrap().memory_bytes(), [luma + chroma]);
        assert!(!splits(&layout(&one).unwrap(), &nv12m(1088, 2048)), "tiles are not rows");
        one.sizes[0] = 2048 * 1088 * 3 / 2;
        assert_eq!(layout(&one).unwrap_err().kind(), ErrorKind::Mismatch);
    }
}
