//! Opens a camera and an encoder that fit each other, in one call. The call finds the devices, a common layout and one
//! set of buffers. If no layout suits both devices, the call adds a converter.
//!
//! [`Negotiation::open`] does this setup. Programs that do it step by step can call its parts:
//! [`codec::negotiate`](crate::codec::negotiate) finds a common layout,
//! [`codec::source_layout`](crate::codec::source_layout) asks an encoder how it reads pictures,
//! [`convert::first_of`](crate::convert::first_of) finds a converter, and
//! [`Allocator::for_devices`](crate::dmabuf::Allocator::for_devices) finds memory that devices import.
//!
//! `DisplayChain` (feature `drm`) does the same for a display and the frames of a subscriber.
//!
//! ```no_run
//! use std::time::Duration;
//! use framelease::bitstream::Codec;
//! use framelease::codec::{EncoderEvent, Params};
//! use framelease::format::Size;
//! use framelease::negotiate::{Negotiated, Negotiation};
//! use framelease::{wait, Received, Station, Submit};
//!
//! let params = Params::new(Codec::H264, Size::new(1280, 720));
//! let Negotiated { mut source, mut encoder, .. } = Negotiation::new(params).open()?;
//! loop {
//!     wait(&[&source, &encoder], Duration::from_secs(10))?;
//!     if let Some(frame) = source.try_recv()?.frame() {
//!         let _ = encoder.try_submit(frame)?; // Without room, this frame is not encoded.
//!     }
//!     while let Received::Item(event) = encoder.try_recv()? {
//!         if let EncoderEvent::Packet(packet) = event {
//!             println!("{} bytes", packet.bytes().len());
//!         }
//!     }
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), framelease::Error>(())
//! ```

mod chain;
#[cfg(feature = "drm")]
mod display;
mod open;

pub use chain::EncoderChain;
#[cfg(feature = "drm")]
pub use display::DisplayChain;
pub use open::{Negotiated, Negotiation};
