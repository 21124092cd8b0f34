//! Sinks of coded packets: Matroska files, RTP, RTSP. Displays are in `drm`.
//!
//! A sink takes [`Packet`](crate::frame::Packet)s and writes their bytes from where they are. A sink in a thread of its own
//! gets them from a [`PacketReceiver`](crate::frame::PacketReceiver).

pub mod matroska;
pub mod rtp;
pub mod rtsp;
