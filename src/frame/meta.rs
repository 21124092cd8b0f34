//! Metadata of one frame: sequence, time, flags and payload.

use crate::flags::flags;
use crate::format::MAX_PLANES;

flags! {
    /// Properties of one frame or packet.
    pub struct FrameFlags {
        /// The content is damaged, as the driver reports (`V4L2_BUF_FLAG_ERROR`), or a part of it is missing: rows of a
        /// picture, or the first or the last marker of a camera's JPEG picture. The stream continues.
        ///
        /// To find the markers, the CPU reads at most the first 2 and the last 256 bytes of a JPEG picture. Bytes after
        /// the last marker do not count as damage.
        pub const ERROR = 1;
        /// A coded frame that decodes without any frame before it.
        pub const KEY = 2;
        /// The last frame of a drained stream.
        pub const LAST = 4;
        /// [`FrameMeta::timestamp_ns`] is in `CLOCK_MONOTONIC`, so this time can be compared with times from other
        /// processes. A captured frame has this flag if its driver names this clock, its time lies between the start of
        /// the stream and the present, and its time is later than that of the frame before.
        pub const MONOTONIC = 8;
        /// The rows are those of two fields, interlaced: the even rows were taken at another time than the odd ones.
        /// The field with the first row is the earlier one, unless [`FrameFlags::BOTTOM_FIRST`] is set. A converter
        /// that scales the height or turns the picture makes it progressive, with the marks of both fields.
        pub const INTERLACED = 16;
        /// The field without the first row is the earlier one. `INTERLACED` is set, too.
        pub const BOTTOM_FIRST = 32;
        /// The frame is one field of an interlaced picture: every other row, from the first one on. The frame's layout
        /// has the rows of the field alone. The next or the previous frame has the other rows, at another time.
        /// Encoders and displays take a field as a picture of half the height. A converter removes the flag where it
        /// changes the height.
        pub const TOP_FIELD = 64;
        /// As `TOP_FIELD`, with the rows from the second one on.
        pub const BOTTOM_FIELD = 128;
    }
}

impl FrameFlags {
    /// The frame is one field.
    pub(crate) const ONE_FIELD: Self = Self(Self::TOP_FIELD.0 | Self::BOTTOM_FIELD.0);
    /// What the flags say of fields.
    pub(crate) const FIELDS: Self = Self(Self::INTERLACED.0 | Self::BOTTOM_FIRST.0 | Self::ONE_FIELD.0);

    /// Returns `true` for a frame that is one field.
    #[cfg(feature = "unixfd")]
    pub(crate) fn is_one_field(self) -> bool {
        self & Self::ONE_FIELD != Self::default()
    }
}

/// The part of one memory plane that holds this frame's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Payload {
    /// Where the data begins in the memory plane (V4L2's `data_offset`).
    pub offset_bytes: u32,
    /// The number of bytes of data from that offset (V4L2's `bytesused` minus `data_offset`).
    pub bytes: u32,
}

/// Sequence, time and payload of one frame. A publisher sends this metadata with the frame to other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameMeta {
    /// The source's frame count. This count has 64 bits and does not wrap, even if the driver's 32-bit count wraps.
    /// Where each frame is a field, it counts fields, although drivers count pictures.
    pub sequence: u64,
    /// Time at which the source took the frame, in nanoseconds. See [`FrameFlags::MONOTONIC`] for the clock. Rates,
    /// recordings and RTP go by this time. Where it stands still from frame to frame, they go by the arrival of the
    /// frames instead.
    pub timestamp_ns: u64,
    /// The number of frames that the source lost directly before this one, from the gap in the source's sequence
    /// numbers. Frames that a publisher dropped do not count. Frames that a subscriber's rate excludes do not count
    /// either.
    pub lost: u32,
    /// Properties such as damaged, key frame or last frame.
    pub flags: FrameFlags,
    /// The part of each memory plane that holds data.
    pub payload: [Payload; MAX_PLANES],
    /// Frames that this subscriber missed since its connection began. Frames that the subscriber's
    /// [`Rate`](crate::share::Rate) excludes do not count. 0 if no publisher sent the frame to this process.
    pub dropped: u64,
    /// Time at which the publisher sent the frame, in nanoseconds of `CLOCK_MONOTONIC`. 0 if no publisher sent the
    /// frame to this process.
    pub published_ns: u64,
}
