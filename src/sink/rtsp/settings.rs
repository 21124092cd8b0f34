//! Limits, deadlines and users of a server.

use std::net::SocketAddr;
use std::time::Duration;

use super::auth::Users;
#[cfg(feature = "tls")]
use crate::sink::tls::Identity;

/// The settings of a server.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) address: SocketAddr,
    pub(super) users: Users,
    pub(super) max_connections: usize,
    pub(super) max_sessions: usize,
    pub(super) session_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) backlog_bytes: usize,
    #[cfg(feature = "tls")]
    pub(super) identity: Option<Identity>,
}

impl Settings {
    /// Returns `true` if clients connect with TLS.
    pub(super) fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.identity.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}
