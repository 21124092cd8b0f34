//! One client's stream.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::server::MountId;
use crate::sink::rtp::{random, DestinationId};

/// How a client gets its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// By UDP, to it alone.
    Udp,
    /// In its connection.
    Tcp,
    /// By UDP to the mount's group.
    Multicast,
}

/// `UDP`, `TCP`, `multicast`
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
    /// The number of the connection that set it up, and its channel there.
    pub(super) connection: u64,
    pub(super) channel: u8,
    pub(super) peer: SocketAddr,
    pub(super) way: Transport,
    pub(super) destination: DestinationId,
    pub(super) is_playing: bool,
    pub(super) heard: Instant,
}

impl Session {
    /// A name that nobody guesses (RFC 2326, 3.4).
    pub(super) fn new_id() -> String {
        format!("{:016x}", random())
    }
}
