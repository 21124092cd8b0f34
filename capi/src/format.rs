//! Formats.
//!
//! A format is a V4L2 fourcc: FL_FOURCC(), or V4L2_PIX_FMT_... of linux/videodev2.h. V4L2 names bytes in the order of
//! memory: 'RGB3' (V4L2_PIX_FMT_RGB24) is red, green, blue.
//!
//! A layout says exactly where each color plane of a picture lies in its buffers.

use std::ffi::c_char;

use framelease::format::{
    ColorSpace, Colorimetry, Encoding, FourCc, FrameInterval, Layout, Plane, Range, Rect, Size, Transfer,
};

use crate::ffi::{self, sized, Fill};
use crate::status::fl_status::{self, FL_OK};
use crate::status::{c, call, invalid, numbers, Failure};

/// The most color planes, and the most memory planes, of a layout.
pub const FL_MAX_PLANES: usize = 4;

/// The time between two frames, in seconds: 1/30 for 30 frames a second. 0/0: not stated.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct fl_interval {
    pub numerator: u32,
    pub denominator: u32,
}

/// A part of a picture, in pixels. With width and height 0: the whole picture.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct fl_rect {
    pub left: i32,
    pub top: i32,
    pub width: u32,
    pub height: u32,
}

/// How the numbers of pixels become colors, in the numbers of V4L2 (linux/videodev2.h). 0: not stated.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct fl_colorimetry {
    /// enum v4l2_colorspace
    pub space: u32,
    /// enum v4l2_ycbcr_encoding
    pub encoding: u32,
    /// enum v4l2_quantization
    pub range: u32,
    /// enum v4l2_xfer_func
    pub transfer: u32,
}

/// Where a color plane lies.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct fl_plane {
    /// The memory plane (buffer) that it lies in.
    pub memory: u32,
    /// The offset of the first row in that memory plane, in bytes.
    pub offset_bytes: u32,
    /// The distance from a row to the next, in bytes.
    pub stride_bytes: u32,
    /// The bytes of pixels in a row, without padding.
    pub row_bytes: u32,
    /// The number of rows. 0 if the format is compressed or opaque.
    pub rows: u32,
}

/// The exact layout of a picture in memory.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_layout {
    /// sizeof(fl_layout): FL_INIT sets it.
    pub size: usize,
    /// The V4L2 fourcc, such as FL_FOURCC('N', 'V', '1', '2').
    pub fourcc: u32,
    /// The picture's width, in pixels.
    pub width: u32,
    /// The picture's height, in pixels.
    pub height: u32,
    /// The number of color planes, which is 0 for a bitstream.
    pub plane_count: u32,
    /// The color planes.
    pub planes: [fl_plane; FL_MAX_PLANES],
    /// The number of memory planes: of buffers for one picture.
    pub memory_count: u32,
    /// The bytes of each memory plane.
    pub memory_bytes: [u32; FL_MAX_PLANES],
    pub colorimetry: fl_colorimetry,
}

sized!(fl_layout);

impl fl_interval {
    /// The interval, or `None` if it is not stated.
    pub fn get(self, what: &str) -> Result<Option<FrameInterval>, Failure> {
        match (self.numerator, self.denominator) {
            (0, 0) => Ok(None),
            (0, _) | (_, 0) => Err(invalid(format!("{what} is {}/{}", self.numerator, self.denominator))),
            (numerator, denominator) => {
                let mut interval = FrameInterval::from_fps(1);
                (interval.numerator, interval.denominator) = (numerator, denominator);
                Ok(Some(interval))
            }
        }
    }
}

impl From<Option<FrameInterval>> for fl_interval {
    fn from(interval: Option<FrameInterval>) -> Self {
        interval.map_or(Self::default(), |i| Self { numerator: i.numerator, denominator: i.denominator })
    }
}

impl fl_rect {
    pub fn get(self) -> Option<Rect> {
        let size = Size::new(self.width, self.height);
        (size != Size::new(0, 0)).then(|| Rect::new(self.left, self.top, size))
    }
}

impl From<Rect> for fl_rect {
    fn from(rect: Rect) -> Self {
        Self { left: rect.left, top: rect.top, width: rect.size.width, height: rect.size.height }
    }
}

impl fl_colorimetry {
    pub fn get(self) -> Option<Colorimetry> {
        let stated = Colorimetry {
            space: ColorSpace::from_v4l2(self.space),
            encoding: Encoding::from_v4l2(self.encoding),
            range: Range::from_v4l2(self.range),
            transfer: Transfer::from_v4l2(self.transfer),
        };
        (stated != Colorimetry::default()).then_some(stated)
    }
}

impl From<Colorimetry> for fl_colorimetry {
    fn from(colorimetry: Colorimetry) -> Self {
        Self {
            space: colorimetry.space.to_v4l2(),
            encoding: colorimetry.encoding.to_v4l2(),
            range: colorimetry.range.to_v4l2(),
            transfer: colorimetry.transfer.to_v4l2(),
        }
    }
}

/// A size, or `None` for 0x0.
pub fn size(width: u32, height: u32, what: &str) -> Result<Option<Size>, Failure> {
    match (width, height) {
        (0, 0) => Ok(None),
        (0, _) | (_, 0) => Err(invalid(format!("{what} is {width}x{height}"))),
        _ => Ok(Some(Size::new(width, height))),
    }
}

pub fn needed_size(width: u32, height: u32, what: &str) -> Result<Size, Failure> {
    size(width, height, what)?.ok_or_else(|| invalid(format!("{what} is 0x0")))
}

pub fn code(fourcc: FourCc) -> u32 {
    u32::from(fourcc)
}

impl From<&Layout> for fl_layout {
    fn from(layout: &Layout) -> Self {
        let mut planes = [fl_plane::default(); FL_MAX_PLANES];
        for (i, (to, from)) in planes.iter_mut().zip(layout.planes()).enumerate() {
            *to = fl_plane {
                memory: from.memory,
                offset_bytes: from.offset_bytes,
                stride_bytes: from.stride_bytes,
                row_bytes: layout.row_bytes(i),
                rows: layout.rows(i),
            };
        }
        let mut memory_bytes = [0; FL_MAX_PLANES];
        for (to, from) in memory_bytes.iter_mut().zip(layout.memory_bytes()) {
            *to = *from;
        }
        Self {
            size: 0,
            fourcc: code(layout.fourcc()),
            width: layout.size().width,
            height: layout.size().height,
            plane_count: layout.planes().len() as u32,
            planes,
            memory_count: layout.memory_bytes().len() as u32,
            memory_bytes,
            colorimetry: layout.colorimetry().into(),
        }
    }
}

pub fn read_layout(layout: *const fl_layout, what: &str) -> Result<Layout, Failure> {
    layout_of(&ffi::read(layout, what)?, what)
}

/// Checks the caller's layout. `row_bytes` and `rows` follow from the format and are not read.
pub fn layout_of(given: &fl_layout, what: &str) -> Result<Layout, Failure> {
    let (planes, memory) = (given.plane_count as usize, given.memory_count as usize);
    if planes > FL_MAX_PLANES || memory > FL_MAX_PLANES {
        return Err(invalid(format!("{what} has {planes} planes in {memory} memory planes: at most {FL_MAX_PLANES}")));
    }
    let mut plane = [Plane::default(); FL_MAX_PLANES];
    for (to, from) in plane.iter_mut().zip(&given.planes) {
        (to.memory, to.offset_bytes, to.stride_bytes) = (from.memory, from.offset_bytes, from.stride_bytes);
    }
    let size = needed_size(given.width, given.height, what)?;
    let layout =
        Layout::from_planes(FourCc::from(given.fourcc), size, &given.memory_bytes[..memory], &plane[..planes])?;
    Ok(match given.colorimetry.get() {
        Some(colorimetry) => layout.with_colorimetry(colorimetry),
        None => layout,
    })
}

/// Fills the layout of a picture whose rows have no padding but the least that makes each stride a multiple of
/// `alignment_bytes` (0 or 1: no padding). All planes lie in one buffer.
#[no_mangle]
pub extern "C" fn fl_layout_make(
    fourcc: u32,
    width: u32,
    height: u32,
    alignment_bytes: u32,
    layout: *mut fl_layout,
) -> fl_status {
    call("fl_layout_make", || {
        let to = Fill::new(layout, "layout")?;
        let size = needed_size(width, height, "the size")?;
        to.put(&(&Layout::aligned(FourCc::from(fourcc), size, alignment_bytes.max(1))?).into());
        Ok(FL_OK)
    })
}

/// Writes the fourcc as text with its end, such as "NV12", or "0x00000001" if it has characters that cannot be printed.
/// `text` has room for 16 bytes.
#[no_mangle]
pub extern "C" fn fl_fourcc_text(fourcc: u32, text: *mut c_char) -> fl_status {
    call("fl_fourcc_text", || {
        let to = ffi::slice_mut(text.cast(), 16, "text")?;
        let name = FourCc::from(fourcc).to_string();
        let bytes = &name.as_bytes()[..name.len().min(15)];
        to.fill(0);
        to[..bytes.len()].copy_from_slice(bytes);
        Ok(FL_OK)
    })
}

/// The codec of packets.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_codec {
    FL_CODEC_H264 = 1,
    FL_CODEC_HEVC = 2,
    FL_CODEC_VP8 = 3,
    FL_CODEC_MJPEG = 4,
    /// The test codec of Linux's driver vicodec.
    FL_CODEC_FWHT = 5,
}

numbers!(fl_codec: FL_CODEC_H264, FL_CODEC_HEVC, FL_CODEC_VP8, FL_CODEC_MJPEG, FL_CODEC_FWHT);

pub fn codec(number: u32) -> Result<framelease::bitstream::Codec, Failure> {
    use framelease::bitstream::Codec;
    Ok(match number {
        FL_CODEC_H264 => Codec::H264,
        FL_CODEC_HEVC => Codec::Hevc,
        FL_CODEC_VP8 => Codec::Vp8,
        FL_CODEC_MJPEG => Codec::Mjpeg,
        FL_CODEC_FWHT => Codec::Fwht,
        _ => return Err(invalid(format!("codec {number}: see fl_codec"))),
    })
}

pub fn codec_number(codec: framelease::bitstream::Codec) -> u32 {
    use framelease::bitstream::Codec;
    match codec {
        Codec::H264 => FL_CODEC_H264,
        Codec::Hevc => FL_CODEC_HEVC,
        Codec::Vp8 => FL_CODEC_VP8,
        Codec::Mjpeg => FL_CODEC_MJPEG,
        Codec::Fwht => FL_CODEC_FWHT,
        _ => 0,
    }
}

/// The name of a codec, for logs. Static text.
#[no_mangle]
pub extern "C" fn fl_codec_name(codec: u32) -> *const c_char {
    match codec {
        FL_CODEC_H264 => c!("H.264"),
        FL_CODEC_HEVC => c!("H.265"),
        FL_CODEC_VP8 => c!("VP8"),
        FL_CODEC_MJPEG => c!("Motion JPEG"),
        FL_CODEC_FWHT => c!("FWHT"),
        _ => c!("unknown codec"),
    }
}
