//! A TCP connection that never blocks, plain or with TLS.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::tls::{Identity, TlsSession};
use crate::sys::syscall_count::tick;
use crate::sys::{socket, tcp};

pub(super) struct TcpLink {
    stream: TcpStream,
    tls: Option<TlsSession>,
}

impl TcpLink {
    /// Takes a connection whose socket does not block. With an identity, its client begins with a TLS handshake. `None`
    /// if the system has no random numbers for that.
    pub(super) fn new(stream: TcpStream, identity: Option<&Identity>) -> Option<Self> {
        let tls = match identity {
            Some(identity) => Some(identity.session()?),
            None => None,
        };
        Some(Self { stream, tls })
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    /// Sends bytes. Returns how many the kernel took, or TLS to be sent next: it encrypts at most one record ahead of
    /// the kernel. 0 if none.
    pub(super) fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match &self.tls {
            Some(tls) => tls.send(&self.stream, slices),
            None => tcp::send(&self.stream, slices),
        }
    }

    /// Sends encrypted bytes, as far as the kernel takes them.
    pub(super) fn flush(&self) -> Result<(), Errno> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.flush(&self.stream))
    }

    /// Returns `true` if encrypted bytes wait for the kernel.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(TlsSession::wants_write)
    }

    /// Reads bytes, with one call of the kernel. 0 at the end. `WouldBlock` also if only TLS itself received something.
    pub(super) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            Some(tls) => tls.read(&self.stream, bytes),
            None => self.discard(bytes),
        }
    }

    /// Reads bytes as the client sent them, encrypted or not.
    pub(super) fn discard(&self, bytes: &mut [u8]) -> io::Result<usize> {
        tick();
        (&self.stream).read(bytes)
    }

    /// Returns `true` if the next read gives bytes that are received and decrypted already, or the end.
    pub(super) fn has_decrypted(&self) -> bool {
        self.tls.as_ref().is_some_and(TlsSession::has_decrypted)
    }

    /// Returns `true` until bytes can be exchanged.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(TlsSession::is_handshaking)
    }

    /// Says that nothing more will be sent, if everything was sent.
    pub(super) fn end(&self) {
        self.say_end();
        if !self.wants_write() {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Ends the connection in both directions, although a forked child may still have it open.
    pub(super) fn hang_up(&self) {
        self.say_end();
        socket::hang_up(self.stream.as_fd());
    }

    /// Tells a client with TLS that the server ends the stream, and not an attacker.
    fn say_end(&self) {
        if let Some(tls) = &self.tls {
            tls.end(&self.stream);
        }
    }
}

impl AsFd for TcpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
