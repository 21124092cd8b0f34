//! Zero-copy video on Linux: one camera for many processes, without copying a frame.
//!
//! ```text
//!  camera service                            other processes
//!
//!  /dev/videoN ─► Camera ─┬─► Publisher ════► Subscriber ─► your code,
//!     ▲            Frame  ├─► Converter         Frame       a device
//!     │                   └─► Encoder ─► Matroska, MP4, RTP, RTSP
//!     │                         Packet
//!     └── VIDIOC_QBUF, after the last clone of the frame was
//!         dropped: on any thread, in any process
//! ```
//!
//! A [`Camera`](capture::Camera) exports its driver's buffers as dma-bufs and gives each picture as a
//! [`Frame`](frame::Frame). A [`Publisher`](share::Publisher) lends the frames to other processes. It sends the
//! descriptors of a buffer to each subscriber once. After that, a frame is a message of 96 bytes. Encoders, converters
//! and displays import the same buffers. No pixel is copied on the way.
//!
//! # A first program
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use framelease::capture::{Camera, CameraEvent, FrameSource, Reopen};
//! use framelease::share::Publisher;
//! use framelease::{wait, Received, Station};
//!
//! fn main() -> framelease::Result<()> {
//!     let mut camera = Camera::builder().reopen(Reopen::Always).open()?;
//!     let mut publisher = Publisher::builder("/run/camera/socket").bind()?;
//!     publisher.announce(camera.buffers()?)?;
//!     loop {
//!         wait(&[&camera, &publisher], Duration::from_secs(10))?;
//!         while let Received::Item(event) = publisher.try_recv()? {
//!             println!("{event:?}"); // A subscriber has come, gone, or was refused.
//!         }
//!         while let Received::Item(event) = camera.try_recv()? {
//!             match event {
//!                 CameraEvent::Frame(frame) => drop(publisher.try_publish(frame)?),
//!                 event => println!("{event:?}"), // Unplugged, back, or another format.
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! The page of [`Subscriber`](share::Subscriber) shows the consumer's side. The [guides](guide) explain leases, memory,
//! event loops and more.
//!
//! # Where to start
//!
//! | task | start with |
//! |---|---|
//! | share a camera | [`capture::Camera`], [`share::Publisher`] |
//! | take frames in another process | [`share::Subscriber`] |
//! | encode a camera | [`negotiate::Negotiation`], then [`sink`] |
//! | encode frames of a subscriber | [`negotiate::Negotiation::open_for`] |
//! | show frames | `negotiate::DisplayChain`, `drm::Scanout` (feature `drm`) |
//! | scale or convert frames | [`convert`] |
//! | decode a stream | [`codec::Decoder`] |
//! | set controls, choose inputs | [`v4l2::Device`] |
//! | write your own event loop | [`Station`], the contract that all of these follow |
//! | run without a camera | [`capture::TestPattern`], or a recording: [`replay`] |
//!
//! # Words
//!
//! - **Frame**: one picture in one buffer. **Packet**: one coded picture.
//! - **Station**: anything that gives or takes frames or packets.
//! - **Lease**: the right to use a buffer. A `Frame` is a counted lease: clone it as often as needed. The lease ends
//!   when the last clone is dropped.
//! - **Pool**: one set of buffers. A camera that is reconfigured gets a new pool.
//! - **Slot**: the number of a buffer in its pool. In one pool, the same number always means the same memory.
//! - **Generation**: the serial number of a lease. It distinguishes an old lease of a slot from the present one.
//! - **Announce**: to send the descriptors of a pool to the subscribers, once.
//! - **Quota**: the largest number of buffers that one subscriber can tie up: frames that it holds, plus frames that
//!   wait for it.
//! - **Credit**: the number of frames that the publisher may still send to a subscriber before that subscriber releases
//!   a frame.
//! - **Reserve**: the buffers that a publisher keeps for the camera's driver and for its own process.
//! - **Revoke**: to end the lease of a subscriber that holds a frame for too long. The subscriber's `Frame` is then no
//!   longer valid.
//! - **Memory plane**: one block of a frame's memory, with its own descriptor.
//! - **Color plane**: one array of samples in a memory plane. NV12 has two color planes in one memory plane.
//! - **Mem-to-mem device**: a V4L2 device with two queues, such as an encoder or a scaler.
//! - **Drain**: to let an encoder or decoder finish everything that it has taken.
//! - **Access unit**: the bytes of one coded picture.
//! - **Parameter sets**: the settings that a decoder needs before the first picture.
//! - **Straight alpha**: colors that are not multiplied by their opacity. The opposite is premultiplied alpha.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `g2d` | yes | `convert::G2d`: the G2D engine of i.MX, through libg2d, which is loaded at run time |
//! | `vulkan` | no | `convert::Vulkan`: GPUs, through Vulkan, whose loader is opened at run time |
//! | `drm` | no | `drm`, `negotiate::DisplayChain`, `dmabuf::Attachment` |
//! | `unixfd` | no | `share` sends frames to GStreamer's `unixfdsrc` and receives them from its `unixfdsink` |
//! | `mjpeg` | no | `codec::JpegDecoder`: Motion JPEG by the CPU |
//! | `tls` | no | `sink::rtsp::Identity`: RTSPS. Needs a C compiler |
//! | `tokio` | no | `reactor`: stations in a tokio reactor |
//! | `simd` | no | a faster `convert::Cpu`. Needs Rust 1.87 |
//! | `log` | no | log messages about rare events, through the `log` crate |
//! | `v4l` | no | conversions from and to the types of the `v4l` crate. Needs libclang |
//!
//! # Rules of this crate
//!
//! - The crate starts no threads, except one for each `convert::G2d` and `convert::Vulkan`. The caller can set the name
//!   of that thread.
//! - No call blocks without a timeout. No call panics because of data from the kernel, a peer or a file.
//! - The crate copies no pixel unless the caller asks for it, and counts every frame that it drops.
//! - No safe call returns a `&[u8]` to memory that a device or another process may write.
//!
//! Public items that this documentation hides exist for the tests of this project. They may change in any release.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs, missing_debug_implementations)]

#[cfg(not(any(target_os = "linux", doc)))]
compile_error!("framelease is for Linux: it needs V4L2, dma-buf and Unix sockets of type SOCK_SEQPACKET");

pub mod bitstream;
pub mod capture;
pub mod codec;
pub mod convert;
pub mod dmabuf;
#[cfg(feature = "drm")]
pub mod drm;

mod device_nodes;
mod error;
mod flags;
pub mod format;
pub mod frame;
mod log;
pub mod negotiate;
#[cfg(feature = "tokio")]
pub mod reactor;
pub mod replay;
pub mod share;
pub mod sink;
mod station;
pub mod stats;
mod sys;
pub mod v4l2;

pub use error::{Error, ErrorKind, Reason, Rejected, Result};
pub use station::{wait, FrameEvent, Frames, Received, Station, Submit, SubmitResult, Submitted};

#[cfg(doc)]
pub mod guide;

/// Compiles the programs of the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
