//! Where packets go: files, RTP, RTSP.
//!
//! A sink takes [`Packet`](crate::frame::Packet)s, mostly from a [`PacketReceiver`](crate::frame::PacketReceiver), and writes their
//! bytes from where they are.

pub mod matroska;
pub mod rtp;
pub mod rtsp;
