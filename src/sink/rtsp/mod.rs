//! An RTSP 1.0 server (RFC 2326): streams for clients by UDP, in the RTSP connection, or by multicast.
//!
//! There is no thread: [`Server`] is a [`Station`](crate::Station) with one descriptor. Each mount sends its packets as
//! [`rtp::Sender`](super::rtp::Sender) does, from where they are.

mod auth;
mod builder;
mod connection;
mod handlers;
mod message;
mod mount;
mod server;
mod session;
mod settings;
mod transport;

pub use builder::ServerBuilder;
#[cfg(fuzzing)]
pub use message::{parse, Parsed};
pub use mount::{MountId, MountOptions};
pub use server::{ClientStats, Server, ServerEvent, ServerStats};
pub use session::Transport;
