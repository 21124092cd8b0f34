//! One client's TCP connection.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sink::rtp::Outbox;
use crate::sys::random::random;

/// The most bytes that are read at a time, so that one client does not keep the others waiting.
const READ: usize = 4096;
/// How long a client may take to read why it was turned away.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Connection {
    /// Distinguishes it from others that had its place.
    pub(super) number: u64,
    stream: Arc<TcpStream>,
    pub(super) peer: SocketAddr,
    pub(super) out: Outbox,
    /// Bytes that are not a whole message yet.
    pub(super) inbox: Vec<u8>,
    /// When the first of these bytes came.
    pub(super) since: Option<Instant>,
    pub(super) heard: Instant,
    pub(super) nonce: String,
    pub(super) refusals: u32,
    /// It is watched for writing, too.
    pub(super) is_armed: bool,
    /// When it is closed, or earlier if the peer has read everything. Nothing more is read from it.
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
    Bytes,
    Nothing,
    End,
}

impl Connection {
    pub(super) fn new(number: u64, stream: TcpStream, peer: SocketAddr, backlog_bytes: usize) -> Self {
        let stream = Arc::new(stream);
        Self {
            number,
            out: Outbox::new(Arc::clone(&stream), backlog_bytes),
            stream,
            peer,
            inbox: Vec::new(),
            since: None,
            heard: Instant::now(),
            nonce: format!("{:016x}{:016x}", random(), random()),
            refusals: 0,
            is_armed: false,
            closes: None,
        }
    }

    /// The address that the client connected to.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    pub(super) fn read(&mut self) -> Arrived {
        let mut bytes = [0; READ];
        crate::sys::syscall_count::tick();
        match (&*self.stream).read(&mut bytes) {
            Ok(0) => Arrived::End,
            // Ignored.
            Ok(_) if self.closes.is_some() => Arrived::Nothing,
            Ok(len) => {
                self.inbox.extend_from_slice(&bytes[..len]);
                Arrived::Bytes
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Arrived::Nothing,
            Err(_) => Arrived::End,
        }
    }

    /// Closes it after the last response was read. What the peer still sends is read and ignored for a while: after a close
    /// at once, the kernel would discard the response.
    pub(super) fn close(&mut self) {
        if self.closes.is_none() {
            self.closes = Some(Instant::now() + LINGER);
            self.inbox = Vec::new();
            if self.out.waiting() == 0 {
                let _ = self.stream.shutdown(Shutdown::Write);
            }
        }
    }
}

/// Ends the connection: a forked child may still have the socket.
impl Drop for Connection {
    fn drop(&mut self) {
        crate::sys::socket::hang_up(self.stream.as_fd());
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
