//! Leases: a [`Frame`] is a counted lease on one slot of one pool.
//!
//! Clone it as often as needed; when the last clone is dropped, on whatever thread, the slot returns to its producer:
//! QBUF for a camera, the free list for a [`Pool`], RELEASE to the publisher for a frame from a peer. A [`FrameMut`]
//! is the only writable form. Memory never dies under a lease: a producer that is dropped or reconfigured leaves its
//! old buffers to their holders.

mod buffer_budget;
mod buffer_set;
#[cfg(doctest)]
mod compile_fail;
#[allow(clippy::module_inception)] // The file is named after its type.
mod frame;
mod lease;
mod meta;
mod packet;
mod packet_fanout;
mod pixels;
mod pool;
mod slots;

pub use buffer_budget::BufferBudget;
pub(crate) use buffer_set::BufferOwner;
#[cfg(feature = "drm")]
pub(crate) use buffer_set::WeakBuffers;
pub use buffer_set::{BufferSet, CpuReads, PoolId};
pub use frame::{Frame, FrameMut};
pub use meta::{FrameFlags, FrameMeta, Payload};
pub use packet::{Packet, PacketMeta};
pub(crate) use packet_fanout::NextPacket;
pub use packet_fanout::{Overflow, PacketFanout, PacketReceiver, QueueCapacity};
pub use pixels::{FrameRead, FrameWrite};
pub use pool::Pool;
