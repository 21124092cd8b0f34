//! A TCP connection that never blocks, plain or with TLS.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

#[cfg(feature = "tls")]
use super::tls::{Identity, TlsSession};
use crate::sys::socket;
use crate::sys::syscall_count::tick;
use crate::sys::tcp;

pub(super) struct TcpLink {
    stream: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<TlsSession>,
}

impl TcpLink {
    /// Takes a connection whose socket does not block.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self {
            stream,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Takes a connection whose socket does not block, and whose client begins with a TLS handshake.
    #[cfg(feature = "tls")]
    pub(super) fn secure(stream: TcpStream, identity: &Identity) -> Option<Self> {
        Some(Self { stream, tls: Some(identity.session()?) })
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    /// Sends bytes. Returns how many the kernel took, or TLS to be sent next: it encrypts at most one record ahead of
    /// the kernel. 0 if none.
    pub(super) fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.send(&self.stream, slices);
        }
        tcp::send(&self.stream, slices)
    }

    /// Sends encrypted bytes, as far as the kernel takes them.
    pub(super) fn flush(&self) -> Result<(), Errno> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.flush(&self.stream);
        }
        Ok(())
    }

    /// Returns `true` if encrypted bytes wait for the kernel.
    pub(super) fn wants_write(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.wants_write();
        }
        false
    }

    /// Reads bytes, with one call of the kernel. 0 at the end. `WouldBlock` also if only TLS itself received something.
    pub(super) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.read(&self.stream, bytes);
        }
        tick();
        (&self.stream).read(bytes)
    }

    /// Returns `true` if the next read gives bytes that are received and decrypted already.
    pub(super) fn has_decrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.has_decrypted();
        }
        false
    }

    /// Returns `true` until bytes can be exchanged.
    pub(super) fn is_handshaking(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.is_handshaking();
        }
        false
    }

    /// Says that nothing more will be sent. Everything must have been sent.
    pub(super) fn end(&self) {
        self.say_end();
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection in both directions, although a forked child may still have it open.
    pub(super) fn hang_up(&self) {
        self.say_end();
        socket::hang_up(self.stream.as_fd());
    }

    /// Tells a client with TLS that the server ends the stream, and not an attacker.
    fn say_end(&self) {
        #[cfg(feature = "tls")]
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
