//! A client's session.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::mount::MountId;
use crate::sink::rtp::DestinationId;
use crate::sys::random::random;

/// How a client gets its RTP packets. RFC 2326 calls this the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Over UDP, to ports of the client.
    Udp,
    /// Within the client's RTSP connection, over TCP, also if that goes through HTTP.
    Tcp,
    /// Over UDP, to the multicast group of the mount.
    Multicast,
}

/// Prints `UDP`, `TCP` or `multicast`.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Multicast => "multicast",
        })
    }
}

pub(super) struct Session {
    pub(super) id: String,
    pub(super) mount: MountId,
    /// The number of the connection that set the session up, and its channel there.
    pub(super) connection: u64,
    pub(super) channel: u8,
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    pub(super) destination: DestinationId,
    pub(super) is_playing: bool,
    /// `Joined` was reported for this session.
    pub(super) has_joined: bool,
    pub(super) heard: Instant,
}

impl Session {
    /// Returns an id that cannot be guessed (RFC 2326, 3.4).
    pub(super) fn new_id() -> String {
        format!("{:016x}", random())
    }
}
