//! What is known of one frame besides its pixels.

use crate::flags::flags;
use crate::format::MAX_PLANES;

flags! {
    /// Properties of one frame.
    pub struct FrameFlags {
        /// The driver says that the content may be damaged (`V4L2_BUF_FLAG_ERROR`); the stream goes on.
        pub const ERROR = 1;
        /// A coded frame that decodes by itself.
        pub const KEY = 2;
        /// The last frame of a drained stream.
        pub const LAST = 4;
        /// [`FrameMeta::timestamp_ns`] is of `CLOCK_MONOTONIC`, so it can be compared with other processes' clocks.
        pub const MONOTONIC = 8;
    }
}

/// The part of one memory plane that holds this frame's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Payload {
    /// Where the data begins in the memory plane (V4L2's `data_offset`).
    pub offset_bytes: u32,
    /// Bytes of data from there on: V4L2's `bytesused` less the offset.
    pub bytes: u32,
}

/// Sequence, time and payload of one frame. Travels with it to other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameMeta {
    /// The source's frame count. It does not wrap in practice, also where the driver's 32-bit count does.
    pub sequence: u64,
    /// When the source says the frame was taken, in nanoseconds; see [`FrameFlags::MONOTONIC`].
    pub timestamp_ns: u64,
    /// Frames that the source lost directly before this one: the gap in its sequence.
    pub lost: u32,
    /// Properties.
    pub flags: FrameFlags,
    /// The data in each memory plane.
    pub payload: [Payload; MAX_PLANES],
    /// Frames that this process's subscription was not given since it began, all reasons together. 0 at the source.
    pub dropped: u64,
    /// When the publisher sent the frame, `CLOCK_MONOTONIC`, in nanoseconds. 0 at the source.
    pub published_ns: u64,
}
