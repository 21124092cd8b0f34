//! RTP over UDP (RFC 3550): one stream to any number of hosts and multicast groups.
//!
//! Coded bytes go to the kernel from where they are: a datagram is a small header and a slice of the packet, and many
//! datagrams are one system call (`UDP_SEGMENT`, else `sendmmsg`). No thread: [`Sender::submit`] takes a frame,
//! [`Sender::send_due`] sends what is due and says when it wants to be called again.

mod destination;
mod header;
mod interleaved;
mod payload;
mod plan;
mod sdp;
mod sender;
mod sockets;

pub(in crate::sink) use interleaved::Outbox;
pub(in crate::sink) use sdp::{base64, Session};
pub(in crate::sink) use sender::random;

pub use destination::{DestinationStats, Reception};
pub use sender::{DestinationId, Sender, SenderOptions, Spread};

/// The first dynamic payload type (RFC 3551, 6).
const PAYLOAD_TYPE: u8 = 96;
