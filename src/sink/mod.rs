//! Where packets go: files, RTP, RTSP.
//!
//! A sink takes [`Packet`](crate::frame::Packet)s, mostly from a [`PacketTap`](crate::frame::PacketTap), and writes their
//! bytes from where they are.

pub mod matroska;
pub mod rtp;
pub mod rtsp;
