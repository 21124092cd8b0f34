//! An RTSP 1.0 server (RFC 2326): sends streams to clients over UDP, within the RTSP connection, or by multicast.
//!
//! A client can also connect through HTTP, at the same port: with ffmpeg's `-rtsp_transport http`, GStreamer's
//! `rtsph://`, or `openRTSP -T`. It sends a GET and a POST, as QuickTime does, and they carry its RTSP connection.
//! Passwords, limits and timeouts are those of any client. The server answers every other HTTP request with an error.
//!
//! With the feature `tls`, a server can serve RTSPS: see `ServerBuilder::tls`.
//!
//! [`Server`] is a [`Station`](crate::Station) with one descriptor and without a thread. Each mount sends its packets
//! without a copy, as [`rtp::Sender`](super::rtp::Sender) does.

mod auth;
mod builder;
mod connection;
mod connections;
mod handlers;
mod message;
mod mount;
mod server;
mod session;
mod settings;
mod transport;
mod tunnel;

#[cfg(feature = "tls")]
pub use crate::sink::tls::Identity;
pub use builder::ServerBuilder;
#[cfg(fuzzing)]
pub use message::{parse, Parsed};
pub use mount::{MountId, MountOptions};
pub use server::{ClientStats, Server, ServerEvent, ServerStats};
pub use session::Transport;
