//! Frames and packets: counted leases on buffers.
//!
//! A [`Frame`] is a lease on one buffer of a pool. Clone it as often as needed. The last clone can be dropped on any
//! thread. The buffer then returns to its producer. For example, a camera queues the buffer again, a [`Pool`] can lease
//! it again, and a subscriber sends RELEASE to its publisher. Only a [`FrameMut`] gives write access to pixels. If a
//! producer is dropped or reconfigured, its old buffers stay allocated while they are leased. A leased buffer therefore
//! never disappears.
//!
//! ```
//! use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
//! use framelease::format::{FourCc, Layout, Size};
//! use framelease::frame::Pool;
//!
//! let layout = Layout::packed(FourCc::GREY, Size::new(64, 48))?;
//! let pool = Pool::new(&Allocator::Memfd, layout, 2)?;
//! let Some(mut frame) = pool.try_acquire() else { return Ok(()) }; // None while all buffers are in use.
//! frame.write(DEFAULT_WAIT)?.copy_row(0, 0, &[255; 64])?;
//! let frame = frame.freeze_full(1, 0); // Sequence 1, taken at time 0.
//! let clone = frame.clone();
//! drop(frame);
//! assert_eq!(pool.buffers().leased(), 1);
//! drop(clone); // The last one: the buffer is free again.
//! assert_eq!(pool.buffers().leased(), 0);
//! # Ok::<(), framelease::Error>(())
//! ```

mod advancing_time;
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
mod plane_read;
mod pool;
mod slots;

pub(crate) use advancing_time::AdvancingTime;
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
pub use plane_read::PlaneRead;
pub use pool::Pool;
