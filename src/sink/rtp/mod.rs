//! RTP over UDP (RFC 3550): one stream to any number of hosts and multicast groups.
//!
//! Coded bytes go to the kernel without a copy. A datagram is a small header and a slice of the packet. One system call
//! (`UDP_SEGMENT`, or `sendmmsg`) sends many datagrams. A [`Sender`] is a [`Station`](crate::Station) without a thread.
//! Its descriptor becomes readable when more datagrams are due.
//!
//! H.264 and H.265 go by RFC 6184 and RFC 7798. NAL units of types that the standards leave unspecified are not sent,
//! because RTP uses these types itself.
//!
//! JPEG goes by RFC 2435, with the tables of each picture. Such a picture is baseline, has the sampling 4:2:0 or 4:2:2,
//! the usual Huffman tables, and at most 2040 pixels for each side. Receivers round the sides up to a multiple of 8.
//!
//! ```no_run
//! use std::time::Duration;
//! use framelease::bitstream::Codec;
//! use framelease::sink::rtp::{Sender, SenderEvent, SenderOptions};
//! use framelease::{Received, Station, Submit};
//! # fn packet() -> framelease::frame::Packet { unimplemented!() }
//!
//! let mut sender = Sender::new(Codec::H264, SenderOptions::default())?;
//! sender.add(([192, 168, 1, 20], 5004).into())?;
//! loop {
//!     let _ = sender.try_submit(packet())?;
//!     // In an event loop: until the next packet comes, whenever the descriptor is readable.
//!     while let Received::Item(event) = sender.recv(Duration::from_millis(10))? {
//!         match event {
//!             SenderEvent::KeyFrameWanted => { /* encoder.force_key() */ }
//!             SenderEvent::Failed(_, error) => eprintln!("{error}"),
//!             _ => {}
//!         }
//!     }
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), framelease::Error>(())
//! ```

mod destination;
mod header;
mod interleaved;
mod jpeg;
mod options;
mod payload;
mod plan;
mod sdp;
mod sender;
mod sockets;
mod stream;

pub(in crate::sink) use interleaved::Outbox;
pub(in crate::sink) use sdp::Session;
pub(in crate::sink) use stream::Stream;

pub use destination::{DestinationId, DestinationStats};
pub use header::Reception;
pub use options::{SenderOptions, Spread};
pub use sender::{Sender, SenderEvent};
