//! An RTSP 1.0 server (RFC 2326): streams for whoever asks, by UDP, in the connection, or by multicast.
//!
//! No thread: [`Server`] is a descriptor to poll and [`Server::dispatch`] to call, as a publisher is. Each mount sends what
//! it is given by one [`rtp::Sender`](super::rtp::Sender), from where it is.

mod auth;
mod builder;
mod connection;
mod handlers;
mod message;
mod mount;
mod server;
mod session;

mod transport;

pub use builder::{MountOptions, ServerBuilder};
#[cfg(fuzzing)]
pub use message::{parse, Parsed};
pub use server::{ClientStats, MountId, Server, ServerStats};
pub use session::Transport;
