//! The builder of a server.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::auth::Users;
use super::server::Server;
use super::settings::Settings;
use crate::error::{Error, Result};
#[cfg(feature = "tls")]
use crate::sink::tls::Identity;

/// The longest timeout. Clocks and clients can represent it.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Settings of a [`Server`].
///
/// ```
/// use std::time::Duration;
/// use framelease::sink::rtsp::Server;
///
/// let server = Server::builder(([127, 0, 0, 1], 0))
///     .user("viewer", "secret")
///     .max_sessions(8)
///     .session_timeout(Duration::from_secs(30))
///     .bind()?;
/// println!("rtsp://{}", server.local_addr()?);
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct ServerBuilder(Settings);

impl Server {
    /// Returns a builder for a server at an address. With port 0 the kernel chooses a free port. The standard port is
    /// 554; 8554 needs no privilege.
    pub fn builder(address: impl Into<SocketAddr>) -> ServerBuilder {
        ServerBuilder(Settings {
            address: address.into(),
            users: Users::default(),
            max_connections: 64,
            max_sessions: 64,
            session_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            backlog_bytes: 1 << 20,
            identity: None,
        })
    }
}

impl ServerBuilder {
    /// Adds a user who may watch, with Digest authentication. If no user is added, anyone may watch. A name that
    /// contains a quotation mark (or, with Basic, a colon) never matches a request.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.0.users.add(name.into(), password.into());
        self
    }

    /// Accepts Basic authentication as well, which sends passwords in readable form. By default, only Digest is
    /// accepted.
    pub fn allow_basic(mut self) -> Self {
        self.0.users.takes_basic = true;
        self
    }

    /// Sets the largest number of connections at a time. The server answers further connections with 503, or
    /// closes them if it has TLS. A client through HTTP has two. Default 64.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.0.max_connections = count.max(1);
        self
    }

    /// Sets the largest number of sessions at a time. The server answers further requests with 453. Default 64.
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.0.max_sessions = count;
        self
    }

    /// Sets how long a session, or a connection without a session, lives after the client's last message. A message
    /// counts if it names the session, or comes in the connection that set it up. RTCP reports count, too. A client
    /// through HTTP can replace its POST within this time. Default 60 s, at least one second, at most a year. The
    /// server sends this time to clients.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.0.session_timeout = timeout.clamp(Duration::from_secs(1), LONGEST);
        self
    }

    /// Sets how long a request, or a TLS handshake, may take. The server answers a slower request with 408 and closes
    /// the connection. Default 10 s, at most a year.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.0.request_timeout = timeout.min(LONGEST);
        self
    }

    /// Sets how many bytes can wait for a slow client with [`Transport::Tcp`](super::Transport::Tcp). Has no effect on
    /// UDP and multicast. If more bytes would wait, or if a frame has waited for a second, the server drops that
    /// client's frames up to a key frame. Default 1 MiB.
    pub fn backlog_bytes(mut self, bytes: usize) -> Self {
        self.0.backlog_bytes = bytes;
        self
    }

    /// Serves RTSPS: clients connect with TLS to `rtsps://HOST:PORT` (feature `tls`). The standard port is 322; 8322
    /// needs no privilege. Packets come within the connection only, because UDP and multicast would not be encrypted.
    /// Clients through HTTP use TLS, too. The server does not ask clients for certificates. For RTSP beside RTSPS, bind
    /// a second server and submit each packet to both.
    ///
    /// TLS copies and encrypts each packet for each client. The server begins at most 32 handshakes at once, and then
    /// 20 each second. A connection with TLS 1.2 ends after 16 million records, which is days at 4 Mbit/s: the client
    /// must connect again.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, identity: Identity) -> Self {
        self.0.identity = Some(identity);
        self
    }

    /// Binds the address and listens.
    ///
    /// # Errors
    /// `Busy` for an address in use. `PermissionDenied` for a port below 1024. `Exhausted` if no descriptor is left.
    /// The text names the address.
    pub fn bind(self) -> Result<Server> {
        let io = |op| move |e: std::io::Error| Error::io(op, &e).on(self.0.address);
        let listener = TcpListener::bind(self.0.address).map_err(io("bind"))?;
        listener.set_nonblocking(true).map_err(io("fcntl"))?;
        Server::new(self.0, listener)
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerBuilder({}, users {:?})", self.0.address, self.0.users)
    }
}
