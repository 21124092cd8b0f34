//! `linux/videodev2.h` and `linux/v4l2-subdev.h`: structs and constants. Pointers in them are private.
//!
//! Time is 64 bits wide on every target. The ioctl numbers follow from the struct sizes, and kernels since 5.6 accept
//! these forms on 32-bit machines, too. The calls are in [`super::v4l2_calls`].

/// `enum v4l2_buf_type`, as far as this crate uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum BufType {
    Capture = 1,
    Output = 2,
    CaptureMplane = 9,
    OutputMplane = 10,
}

impl BufType {
    pub(crate) fn is_multi_planar(self) -> bool {
        matches!(self, Self::CaptureMplane | Self::OutputMplane)
    }

    pub(crate) fn is_output(self) -> bool {
        matches!(self, Self::Output | Self::OutputMplane)
    }
}

/// A struct for which every bit pattern is valid, including all zeros.
///
/// # Safety
/// Implementors consist of integers, arrays and unions of integers, and raw pointers.
pub(crate) unsafe trait Plain: Copy {
    fn zeroed() -> Self {
        // SAFETY: by the trait's contract, zero is a valid value of every field.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! plain {
    ($($(#[$meta:meta])* struct $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)* }
        // SAFETY: integers and arrays of integers, as the fields above show.
        unsafe impl Plain for $name {}
    )*};
}

plain! {
    /// `struct v4l2_capability`.
    #[repr(C)]
    struct Capability {
        driver: [u8; 16],
        card: [u8; 32],
        bus_info: [u8; 32],
        version: u32,
        capabilities: u32,
        device_caps: u32,
        reserved: [u32; 3],
    }

    /// `struct v4l2_fmtdesc`.
    #[repr(C)]
    struct FmtDesc {
        index: u32,
        kind: u32,
        flags: u32,
        description: [u8; 32],
        pixelformat: u32,
        mbus_code: u32,
        reserved: [u32; 3],
    }

    /// `struct v4l2_frmsizeenum`. `body` is width and height, or min, max and step of the width and then of the
    /// height.
    #[repr(C)]
    struct FrmSizeEnum {
        index: u32,
        pixel_format: u32,
        kind: u32,
        body: [u32; 6],
        reserved: [u32; 2],
    }

    /// `struct v4l2_frmivalenum`. `body` is one fraction, or the fractions min, max and step.
    #[repr(C)]
    struct FrmIvalEnum {
        index: u32,
        pixel_format: u32,
        width: u32,
        height: u32,
        kind: u32,
        body: [u32; 6],
        reserved: [u32; 2],
    }

    /// `struct v4l2_pix_format`.
    #[repr(C)]
    struct PixFormat {
        width: u32,
        height: u32,
        pixelformat: u32,
        field: u32,
        bytesperline: u32,
        sizeimage: u32,
        colorspace: u32,
        private: u32,
        flags: u32,
        ycbcr_enc: u32,
        quantization: u32,
        xfer_func: u32,
    }

    /// `struct v4l2_plane_pix_format`.
    #[repr(C, packed)]
    struct PlanePixFormat {
        sizeimage: u32,
        bytesperline: u32,
        reserved: [u16; 6],
    }

    /// `struct v4l2_pix_format_mplane`.
    #[repr(C, packed)]
    struct PixFormatMplane {
        width: u32,
        height: u32,
        pixelformat: u32,
        field: u32,
        colorspace: u32,
        plane_fmt: [PlanePixFormat; 8],
        num_planes: u8,
        flags: u8,
        ycbcr_enc: u8,
        quantization: u8,
        xfer_func: u8,
        reserved: [u8; 7],
    }

    /// `struct v4l2_streamparm` with the part that `captureparm` and `outputparm` share.
    #[repr(C)]
    struct StreamParm {
        kind: u32,
        capability: u32,
        mode: u32,
        numerator: u32,
        denominator: u32,
        rest: [u32; 46],
    }

    /// `struct v4l2_requestbuffers`.
    #[repr(C)]
    struct RequestBuffers {
        count: u32,
        kind: u32,
        memory: u32,
        capabilities: u32,
        flags: u8,
        reserved: [u8; 3],
    }

    /// `struct v4l2_create_buffers`.
    #[repr(C)]
    struct CreateBuffers {
        index: u32,
        count: u32,
        memory: u32,
        format: Format,
        capabilities: u32,
        flags: u32,
        max_num_buffers: u32,
        reserved: [u32; 5],
    }

    /// `struct v4l2_remove_buffers`.
    #[repr(C)]
    struct RemoveBuffers {
        index: u32,
        count: u32,
        kind: u32,
        reserved: [u32; 13],
    }

    /// `struct v4l2_exportbuffer`.
    #[repr(C)]
    struct ExportBuffer {
        kind: u32,
        index: u32,
        plane: u32,
        flags: u32,
        fd: i32,
        reserved: [u32; 11],
    }

    /// `struct v4l2_selection`.
    #[repr(C)]
    struct Selection {
        kind: u32,
        target: u32,
        flags: u32,
        left: i32,
        top: i32,
        width: u32,
        height: u32,
        reserved: [u32; 9],
    }

    /// `struct v4l2_query_ext_ctrl`.
    #[repr(C)]
    struct QueryExtCtrl {
        id: u32,
        kind: u32,
        name: [u8; 32],
        minimum: i64,
        maximum: i64,
        step: u64,
        default_value: i64,
        flags: u32,
        elem_size: u32,
        elems: u32,
        nr_of_dims: u32,
        dims: [u32; 4],
        reserved: [u32; 32],
    }

    /// `struct v4l2_querymenu`. `body` is the name, or has the value in its first eight bytes.
    #[repr(C, packed)]
    struct QueryMenu {
        id: u32,
        index: u32,
        body: [u8; 32],
        reserved: u32,
    }

    /// `struct v4l2_event_subscription`.
    #[repr(C)]
    struct EventSubscription {
        kind: u32,
        id: u32,
        flags: u32,
        reserved: [u32; 5],
    }

    /// `struct v4l2_event` with a 64-bit timespec.
    #[repr(C)]
    struct Event {
        kind: u32,
        data: [u64; 8],
        pending: u32,
        sequence: u32,
        seconds: i64,
        nanoseconds: i64,
        id: u32,
        reserved: [u32; 8],
    }

    /// `struct v4l2_encoder_cmd`.
    #[repr(C)]
    struct EncoderCmd {
        cmd: u32,
        flags: u32,
        raw: [u32; 8],
    }

    /// `struct v4l2_decoder_cmd`. `raw` is the time of a stop, or speed and format of a start.
    #[repr(C)]
    struct DecoderCmd {
        cmd: u32,
        flags: u32,
        raw: [u32; 16],
    }

    /// `struct v4l2_input`.
    #[repr(C)]
    struct Input {
        index: u32,
        name: [u8; 32],
        kind: u32,
        audioset: u32,
        tuner: u32,
        std: u64,
        status: u32,
        capabilities: u32,
        reserved: [u32; 3],
    }

    /// `struct v4l2_dv_timings`. It is kept whole; only its first words are read.
    #[repr(C, packed)]
    struct DvTimings {
        kind: u32,
        width: u32,
        height: u32,
        rest: [u32; 30],
    }

    /// `struct v4l2_subdev_format` with its `v4l2_mbus_framefmt`.
    #[repr(C)]
    struct SubdevFormat {
        which: u32,
        pad: u32,
        width: u32,
        height: u32,
        code: u32,
        field: u32,
        colorspace: u32,
        rest: [u16; 14],
        stream: u32,
        reserved: [u32; 7],
    }

    /// `struct v4l2_subdev_mbus_code_enum`.
    #[repr(C)]
    struct SubdevCode {
        pad: u32,
        index: u32,
        code: u32,
        which: u32,
        flags: u32,
        stream: u32,
        reserved: [u32; 6],
    }

    /// `struct v4l2_subdev_frame_size_enum`.
    #[repr(C)]
    struct SubdevSize {
        index: u32,
        pad: u32,
        code: u32,
        min_width: u32,
        max_width: u32,
        min_height: u32,
        max_height: u32,
        which: u32,
        stream: u32,
        reserved: [u32; 7],
    }

    /// `struct v4l2_subdev_frame_interval_enum`.
    #[repr(C)]
    struct SubdevIntervalOffer {
        index: u32,
        pad: u32,
        code: u32,
        width: u32,
        height: u32,
        numerator: u32,
        denominator: u32,
        which: u32,
        stream: u32,
        reserved: [u32; 7],
    }

    /// `struct v4l2_subdev_frame_interval`.
    #[repr(C)]
    struct SubdevInterval {
        pad: u32,
        numerator: u32,
        denominator: u32,
        stream: u32,
        which: u32,
        reserved: [u32; 7],
    }

    /// `struct v4l2_subdev_selection`.
    #[repr(C)]
    struct SubdevSelection {
        which: u32,
        pad: u32,
        target: u32,
        flags: u32,
        left: i32,
        top: i32,
        width: u32,
        height: u32,
        stream: u32,
        reserved: [u32; 7],
    }

    /// `struct v4l2_timecode`.
    #[repr(C)]
    struct Timecode {
        words: [u32; 2],
        bytes: [u8; 8],
    }
}

/// `struct v4l2_format`. The kind is private: with an overlay's kind, the body would contain pointers.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Format {
    kind: u32,
    body: FormatBody,
}

#[derive(Clone, Copy)]
#[repr(C)]
union FormatBody {
    pix: PixFormat,
    pix_mp: PixFormatMplane,
    raw: [u8; 200],
    /// The kernel's union has members with pointers, which determine its alignment.
    align: usize,
}

// SAFETY: integers, and a union of structs of integers.
unsafe impl Plain for Format {}

/// The description of a picture that both forms of `v4l2_format` contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) fourcc: u32,
    pub(crate) field: u32,
    pub(crate) flags: u32,
    /// `bytesperline` per memory plane.
    pub(crate) strides: [u32; 8],
    /// `sizeimage` per memory plane.
    pub(crate) sizes: [u32; 8],
    /// The number of memory planes, at most 8.
    pub(crate) planes: usize,
    /// Color space, YCbCr encoding, quantization, transfer function.
    pub(crate) color: [u32; 4],
}

impl Picture {
    /// Returns `true` if the driver reports this picture's size, and no format or no stride.
    pub(crate) fn is_completion_of(&self, reported: &Self) -> bool {
        let is_format = reported.fourcc == 0 || reported.fourcc == self.fourcc;
        let lacks_some = reported.fourcc == 0 || reported.strides == [0; 8] && self.strides != [0; 8];
        is_format && lacks_some && (reported.width, reported.height) == (self.width, self.height)
    }
}

/// `V4L2_PIX_FMT_PRIV_MAGIC`: the fields after `priv` are valid.
const PRIV_MAGIC: u32 = 0xfeed_cafe;

impl Format {
    pub(crate) fn new(kind: BufType, picture: &Picture) -> Self {
        let mut format = Self::zeroed();
        format.kind = kind as u32;
        let [space, encoding, range, transfer] = picture.color;
        if kind.is_multi_planar() {
            let mut pix_mp = PixFormatMplane {
                width: picture.width,
                height: picture.height,
                pixelformat: picture.fourcc,
                field: picture.field,
                colorspace: space,
                num_planes: picture.planes.min(8) as u8,
                flags: picture.flags as u8,
                ycbcr_enc: encoding as u8,
                quantization: range as u8,
                xfer_func: transfer as u8,
                ..PixFormatMplane::zeroed()
            };
            for i in 0..picture.planes.min(8) {
                pix_mp.plane_fmt[i] = PlanePixFormat {
                    sizeimage: picture.sizes[i],
                    bytesperline: picture.strides[i],
                    ..PlanePixFormat::zeroed()
                };
            }
            format.body.pix_mp = pix_mp;
        } else {
            format.body.pix = PixFormat {
                width: picture.width,
                height: picture.height,
                pixelformat: picture.fourcc,
                field: picture.field,
                bytesperline: picture.strides[0],
                sizeimage: picture.sizes[0],
                colorspace: space,
                private: PRIV_MAGIC,
                flags: picture.flags,
                ycbcr_enc: encoding,
                quantization: range,
                xfer_func: transfer,
            };
        }
        format
    }

    pub(crate) fn picture(&self) -> Picture {
        let mut picture = Picture::default();
        if self.kind == BufType::CaptureMplane as u32 || self.kind == BufType::OutputMplane as u32 {
            // SAFETY: every member of the union consists of integers, and all of its bytes are initialized
            // (`zeroed`).
            let pix = unsafe { self.body.pix_mp };
            (picture.width, picture.height, picture.fourcc) = (pix.width, pix.height, pix.pixelformat);
            (picture.field, picture.flags) = (pix.field, pix.flags.into());
            picture.planes = usize::from(pix.num_planes).min(8);
            for (i, plane) in { pix.plane_fmt }.iter().enumerate() {
                (picture.strides[i], picture.sizes[i]) = (plane.bytesperline, plane.sizeimage);
            }
            picture.color = [pix.colorspace, pix.ycbcr_enc.into(), pix.quantization.into(), pix.xfer_func.into()];
        } else {
            // SAFETY: as above.
            let pix = unsafe { self.body.pix };
            (picture.width, picture.height, picture.fourcc) = (pix.width, pix.height, pix.pixelformat);
            (picture.field, picture.flags) = (pix.field, pix.flags);
            picture.planes = 1;
            (picture.strides[0], picture.sizes[0]) = (pix.bytesperline, pix.sizeimage);
            picture.color = [pix.colorspace, pix.ycbcr_enc, pix.quantization, pix.xfer_func];
        }
        picture
    }
}

/// `struct v4l2_plane`. `m` is an offset, an address or a descriptor.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct RawPlane {
    pub(super) bytesused: u32,
    pub(super) length: u32,
    pub(super) m: Place,
    pub(super) data_offset: u32,
    pub(super) reserved: [u32; 11],
}

/// `struct v4l2_buffer` with a 64-bit timeval.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct RawBuffer {
    pub(super) index: u32,
    pub(super) kind: u32,
    pub(super) bytesused: u32,
    pub(super) flags: u32,
    pub(super) field: u32,
    pub(super) seconds: i64,
    pub(super) microseconds: i64,
    pub(super) timecode: Timecode,
    pub(super) sequence: u32,
    pub(super) memory: u32,
    pub(super) m: Place,
    pub(super) length: u32,
    pub(super) reserved2: u32,
    pub(super) request_fd: i32,
}

/// The field `m` of planes and buffers.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Place {
    pub(super) fd: i32,
    pub(super) planes: *mut RawPlane,
    pub(super) address: usize,
}

// SAFETY: integers and a raw pointer; zero is valid for each.
unsafe impl Plain for RawPlane {}
// SAFETY: as above.
unsafe impl Plain for RawBuffer {}

/// `struct v4l2_ext_control`. The union holds a number or an address, native-endian in its first bytes.
#[derive(Clone, Copy)]
#[repr(C, packed)]
pub(super) struct RawControl {
    pub(super) id: u32,
    pub(super) size: u32,
    pub(super) reserved2: u32,
    pub(super) value: [u8; 8],
}

/// `struct v4l2_ext_controls`.
#[repr(C)]
pub(super) struct RawControls {
    pub(super) which: u32,
    pub(super) count: u32,
    pub(super) error_idx: u32,
    pub(super) request_fd: i32,
    pub(super) reserved: u32,
    pub(super) controls: *mut RawControl,
}

/// `struct v4l2_edid`.
#[repr(C)]
pub(super) struct RawEdid {
    pub(super) pad: u32,
    pub(super) start_block: u32,
    pub(super) blocks: u32,
    pub(super) reserved: [u32; 5],
    pub(super) edid: *mut u8,
}

/// `V4L2_MEMORY_MMAP`.
pub(crate) const MEMORY_MMAP: u32 = 1;
/// `V4L2_MEMORY_DMABUF`.
pub(crate) const MEMORY_DMABUF: u32 = 4;
/// `V4L2_MEMORY_FLAG_NON_COHERENT`.
pub(crate) const NON_COHERENT: u8 = 1;
/// `V4L2_FIELD_NONE`: progressive.
pub(crate) const FIELD_NONE: u32 = 1;
/// `V4L2_PIX_FMT_FLAG_SET_CSC`: requests that a capture device converts to the given colorimetry.
pub(crate) const FLAG_SET_CSC: u32 = 2;
/// `V4L2_FMT_FLAG_COMPRESSED`.
pub(crate) const FMT_COMPRESSED: u32 = 1;
/// `V4L2_FMT_FLAG_EMULATED`.
pub(crate) const FMT_EMULATED: u32 = 2;
/// `V4L2_CAP_TIMEPERFRAME`.
pub(crate) const CAP_TIMEPERFRAME: u32 = 0x1000;

/// `V4L2_BUF_FLAG_*`.
pub(crate) mod flag {
    pub(crate) const KEYFRAME: u32 = 8;
    pub(crate) const ERROR: u32 = 0x40;
    pub(crate) const TIMESTAMP_MASK: u32 = 0xe000;
    pub(crate) const TIMESTAMP_MONOTONIC: u32 = 0x2000;
    pub(crate) const LAST: u32 = 0x10_0000;
}

macro_rules! sizes {
    ($($type:ident: $lp64:literal, $ilp32:literal;)*) => {
        #[cfg(target_pointer_width = "64")]
        const _: () = { $(assert!(std::mem::size_of::<$type>() == $lp64);)* };
        // Other 32-bit targets align 64-bit numbers to four bytes. Their sizes follow from the same definitions.
        #[cfg(target_arch = "arm")]
        const _: () = { $(assert!(std::mem::size_of::<$type>() == $ilp32);)* };
    };
}

sizes! {
    Capability: 104, 104;
    FmtDesc: 64, 64;
    FrmSizeEnum: 44, 44;
    FrmIvalEnum: 52, 52;
    PixFormat: 48, 48;
    PlanePixFormat: 20, 20;
    PixFormatMplane: 192, 192;
    Format: 208, 204;
    StreamParm: 204, 204;
    RequestBuffers: 20, 20;
    CreateBuffers: 256, 248;
    RemoveBuffers: 64, 64;
    RawBuffer: 88, 80;
    RawPlane: 64, 60;
    ExportBuffer: 64, 64;
    Selection: 64, 64;
    QueryExtCtrl: 232, 232;
    QueryMenu: 44, 44;
    RawControl: 20, 20;
    RawControls: 32, 24;
    RawEdid: 40, 36;
    EventSubscription: 32, 32;
    Event: 136, 136;
    EncoderCmd: 40, 40;
    DecoderCmd: 72, 72;
    Input: 80, 80;
    DvTimings: 132, 132;
    SubdevFormat: 88, 88;
    SubdevCode: 48, 48;
    SubdevSize: 64, 64;
    SubdevIntervalOffer: 64, 64;
    SubdevInterval: 48, 48;
    SubdevSelection: 64, 64;
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn structs_have_the_uapi_s_offsets() {
        assert_eq!(offset_of!(RawBuffer, seconds), 24);
        assert_eq!(offset_of!(RawBuffer, timecode), 40);
        assert_eq!(offset_of!(RawBuffer, sequence), 56);
        assert_eq!(offset_of!(RawBuffer, m), 64);
        assert_eq!(offset_of!(RawBuffer, length), 72);
        assert_eq!(offset_of!(RawBuffer, request_fd), 80);
        assert_eq!(offset_of!(RawPlane, m), 8);
        assert_eq!(offset_of!(RawPlane, data_offset), 16);
        assert_eq!(offset_of!(Format, body), 8);
        assert_eq!(offset_of!(CreateBuffers, format), 16);
        assert_eq!(offset_of!(CreateBuffers, capabilities), 224);
        assert_eq!(offset_of!(Event, data), 8);
        assert_eq!(offset_of!(Event, seconds), 80);
        assert_eq!(offset_of!(Event, id), 96);
        assert_eq!(offset_of!(QueryExtCtrl, minimum), 40);
        assert_eq!(offset_of!(QueryExtCtrl, flags), 72);
        assert_eq!(offset_of!(RawControls, controls), 24);
        assert_eq!(offset_of!(Input, std), 48);
        assert_eq!(offset_of!(SubdevFormat, stream), 56);
        assert_eq!(offset_of!(PixFormatMplane, num_planes), 180);
    }

    #[test]
    fn format_keeps_a_picture_in_both_forms() {
        let mut p = Picture { width: 640, height: 360, fourcc: 7, field: 1, planes: 1, ..Picture::default() };
        p.color = [3, 2, 1, 4];
        (p.strides[0], p.sizes[0]) = (704, 704 * 360);
        assert_eq!(Format::new(BufType::Capture, &p).picture(), p);
        (p.planes, p.strides[1], p.sizes[1]) = (2, 704, 704 * 180);
        assert_eq!(Format::new(BufType::OutputMplane, &p).picture(), p);
    }
}
