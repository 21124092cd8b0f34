//! What can be told of a coded stream from its bytes: whether a frame is a key frame, where its parameter sets end,
//! where one frame of a byte stream ends and the next begins. Looks at headers only; knows no device and no file.
//!
//! Nothing here panics or allocates more than its input's size, whatever the bytes.

mod annexb;
mod bits;
mod codec;
mod head;
mod parameters;
mod units;

#[doc(hidden)] // For this project's tests.
pub use annexb::{nal_units, NalKind, NalUnit};
pub(crate) use bits::Bits;
pub use codec::Codec;
#[doc(hidden)] // For this project's tests.
pub use head::{head, Head};
pub use parameters::ParameterSets;
pub use units::AccessUnitSplitter;
