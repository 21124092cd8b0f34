//! Where packets go: files now; RTP and RTSP are on their way.
//!
//! A sink takes [`Packet`](crate::frame::Packet)s, mostly from a [`PacketTap`](crate::frame::PacketTap), and writes their
//! bytes from where they are.

pub mod matroska;
