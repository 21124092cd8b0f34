//! Limits, deadlines and users of a server.

use std::net::SocketAddr;
use std::time::Duration;

use super::auth::Users;
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
    /// Clients connect with TLS.
    pub(super) identity: Option<Identity>,
}
