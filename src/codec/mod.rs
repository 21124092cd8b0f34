//! Stateful V4L2 encoders and decoders, fed with dma-bufs.
//!
//! An [`Encoder`] imports the frames of a camera or converter as they are, and gives [`Packet`](crate::frame::Packet)s.
//! A packet is a lease on a buffer of the driver. Any number of sinks can have clones of one packet. A [`Decoder`]
//! takes packets and gives frames.
//!
//! [`Negotiation`](crate::negotiate::Negotiation) opens a camera and an encoder that fit each other. To encode frames
//! of your own pool:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use framelease::bitstream::Codec;
//! use framelease::codec::{source_layout, Encoder, EncoderEvent, Params};
//! use framelease::dmabuf::Allocator;
//! use framelease::format::{FourCc, Size};
//! use framelease::frame::Pool;
//! use framelease::{Received, Station, Submit};
//!
//! let params = Params::new(Codec::H264, Size::new(1280, 720));
//! let device = Encoder::find(Codec::H264)?;
//! let layout = source_layout(&device, &params, FourCc::NV12)?;
//! let pool = Pool::new(&Allocator::for_devices()?, layout, 4)?;
//! let mut encoder = Encoder::builder(params).device(device).open(pool.buffers())?;
//! for sequence in 0..100 {
//!     let Some(frame) = pool.acquire(Duration::from_secs(1)) else { break };
//!     // Draw the picture into `frame` here.
//!     let _ = encoder.submit(frame.freeze_full(sequence, sequence * 33_000_000), Duration::from_secs(1))?;
//!     if let Received::Item(EncoderEvent::Packet(packet)) = encoder.recv(Duration::from_secs(1))? {
//!         println!("{} bytes", packet.bytes().len());
//!     }
//! }
//! # Ok::<(), framelease::Error>(())
//! ```

mod controls;
mod decoder;
mod encoder;
mod encoder_builder;
mod encoder_restart;
#[cfg(feature = "mjpeg")]
mod jpeg;
mod negotiate;
mod parameters;
mod quirks;
mod setup;

pub use decoder::{Decoder, DecoderBuilder, DecoderEvent, DecoderStats, Pictures};
pub use encoder::{Encoder, EncoderEvent, EncoderStats};
pub use encoder_builder::EncoderBuilder;
#[cfg(feature = "mjpeg")]
pub use jpeg::JpegDecoder;
#[doc(hidden)] // For this project's tests.
pub use negotiate::negotiate_with;
pub use negotiate::{negotiate, Agreement, SourceMemory};
pub use parameters::{Applied, HeaderMode, Level, Outcome, Params, Profile, RateMode, Setting, SliceMode, Switch};
#[doc(hidden)] // For this project's tests.
pub use quirks::Quirks;
pub use setup::source_layout;

/// A call that does not wait ends after this many buffers without an event for the caller. A driver may return such
/// buffers forever.
const MOST_SKIPPED: usize = 64;
