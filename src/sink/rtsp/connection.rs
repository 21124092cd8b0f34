//! One client's TCP connection.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sink::base64;
use crate::sink::rtp::Outbox;
use crate::sink::tcp::TcpLink;
use crate::sys::random::random;

/// The most bytes that one call reads, so that one client cannot keep the others waiting.
pub(super) const READ: usize = 4096;
/// How long a refused client may take to read the reason.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection carries.
pub(super) enum Role {
    /// It is not known before the first request.
    New,
    /// RTSP in both directions.
    Rtsp,
    /// The server's half of an HTTP tunnel: responses and packets. The connection's `inbox` has the requests.
    Get {
        cookie: String,
        /// The index of the client's half, while there is one.
        post: Option<usize>,
        /// An incomplete packet that the client sent in this half. live555 sends its reports here.
        packet: Vec<u8>,
    },
    /// The client's half of the tunnel whose other half has this index: requests and reports in Base64.
    Post { get: usize, decoder: base64::Decoder },
}

pub(super) struct Connection {
    /// A number that earlier connections at this index did not have.
    pub(super) number: u64,
    link: Arc<TcpLink>,
    pub(super) peer: SocketAddr,
    pub(super) role: Role,
    pub(super) out: Outbox,
    /// The bytes of an incomplete message.
    pub(super) inbox: Vec<u8>,
    /// When the first of these bytes arrived.
    pub(super) since: Option<Instant>,
    /// When the client connected, until its TLS handshake has ended.
    pub(super) shakes_since: Option<Instant>,
    /// Until when the first request in `inbox` waits for parameter sets.
    pub(super) waits: Option<Instant>,
    pub(super) heard: Instant,
    pub(super) nonce: String,
    pub(super) refusals: u32,
    /// Whether the socket is also watched for writing.
    pub(super) is_armed: bool,
    /// When to close the connection, at the latest. It is closed earlier if the peer has read everything. Set when no
    /// more requests are read.
    pub(super) closes: Option<Instant>,
}

/// The client that a request comes from.
pub(super) struct Client {
    pub(super) connection: usize,
    pub(super) number: u64,
    pub(super) peer: SocketAddr,
    pub(super) local: IpAddr,
}

/// The result of a read.
#[derive(PartialEq, Eq)]
pub(super) enum Arrived {
    Bytes(usize),
    Nothing,
    End,
}

impl Connection {
    pub(super) fn new(number: u64, link: TcpLink, peer: SocketAddr, backlog_bytes: usize) -> Self {
        let link = Arc::new(link);
        Self {
            number,
            out: Outbox::new(Arc::clone(&link), backlog_bytes),
            peer,
            role: Role::New,
            inbox: Vec::new(),
            since: None,
            shakes_since: link.is_handshaking().then(Instant::now),
            link,
            waits: None,
            heard: Instant::now(),
            nonce: format!("{:016x}{:016x}", random(), random()),
            refusals: 0,
            is_armed: false,
            closes: None,
        }
    }

    /// Returns the address that the client connected to.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.link.local_addr()
    }

    pub(super) fn read(&mut self, bytes: &mut [u8; READ]) -> Arrived {
        let is_closing = self.closes.is_some();
        // A closing connection is read, and the bytes are ignored. TLS has ended there.
        let read = if is_closing { self.link.discard(bytes) } else { self.link.read(bytes) };
        if !self.link.is_handshaking() {
            self.shakes_since = None;
        }
        match read {
            Ok(0) => Arrived::End,
            Ok(_) if is_closing => Arrived::Nothing,
            Ok(len) => Arrived::Bytes(len),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Arrived::Nothing,
            Err(_) => Arrived::End,
        }
    }

    /// Returns `true` if the next read does not need the kernel.
    pub(super) fn has_decrypted(&self) -> bool {
        self.closes.is_none() && self.link.has_decrypted()
    }

    /// Closes the connection after the peer has read the last response. Until then, for a while, reads and ignores what
    /// it sends: if the socket were closed with unread bytes, the kernel would discard the response.
    pub(super) fn close(&mut self) {
        if self.closes.is_none() {
            self.closes = Some(Instant::now() + LINGER);
            self.inbox = Vec::new();
            if !self.out.wants_write() {
                self.link.end();
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.hang_up();
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}
