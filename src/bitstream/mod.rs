//! Reads the headers of coded streams, to find key frames, parameter sets and the ends of access units.
//!
//! This module only looks at bytes. It does not use a device or a file. For any input, it does not panic and does not
//! allocate more bytes than the input has.
//!
//! ```
//! use framelease::bitstream::{AccessUnitSplitter, Codec};
//!
//! // A byte stream of H.264 that arrives in pieces of any size.
//! let stream = [0, 0, 0, 1, 0x65, 0x88, 0x84, 1, 0, 0, 0, 1, 0x41, 0x9a, 2, 3, 0, 0, 0, 1, 0x41, 0x9a, 4, 5];
//! let mut splitter = AccessUnitSplitter::new(Codec::H264, 1 << 20);
//! let mut units = 0;
//! for piece in stream.chunks(5) {
//!     splitter.push(piece);
//!     while splitter.next_unit()?.is_some() {
//!         units += 1;
//!     }
//! }
//! assert_eq!(units, 2); // The third unit is complete when a fourth unit follows.
//! assert!(!splitter.finish().is_empty()); // Or at the end of the stream.
//! # Ok::<(), framelease::Error>(())
//! ```

mod annexb;
mod bits;
mod codec;
mod head;
mod jpeg;
mod parameters;
mod stream;
mod units;

#[doc(hidden)] // For this project's tests.
pub use annexb::{nal_units, NalKind, NalUnit};
pub(crate) use bits::Bits;
pub use codec::Codec;
#[doc(hidden)] // For this project's tests.
pub use head::{head, Head};
#[cfg(feature = "mjpeg")]
pub(crate) use jpeg::Component;
#[doc(hidden)] // For this project's tests.
pub use jpeg::Jpeg;
pub(crate) use jpeg::{has_end, is_cut, is_jpeg, TAIL_BYTES};
pub use parameters::ParameterSets;
pub(crate) use stream::{Coded, Stream};
pub use units::AccessUnitSplitter;
