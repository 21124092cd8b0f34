//! One connection.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use rustls::ServerConnection;

use crate::sys::syscall_count::tick;
use crate::sys::tcp;

/// The most bytes of a TLS record.
const RECORD: usize = 1 << 14;

/// The TLS of one connection. Its socket is an argument of each call.
pub(in crate::sink) struct TlsSession(Mutex<State>);

struct State {
    connection: ServerConnection,
    /// The bytes that were decrypted and not read.
    decrypted: usize,
    /// The client has said that it sends nothing more.
    has_ended: bool,
    /// Memory for the bytes of one record.
    record: Vec<u8>,
}

impl TlsSession {
    pub(super) fn new(connection: ServerConnection) -> Self {
        Self(Mutex::new(State { connection, decrypted: 0, has_ended: false, record: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encrypts and sends bytes. Returns how many were encrypted: at most one record more than the kernel took.
    pub(in crate::sink) fn send(&self, stream: &TcpStream, slices: &[IoSlice<'_>]) -> nix::Result<usize> {
        let session = &mut *self.lock();
        let mut taken = 0;
        loop {
            session.flush(stream)?;
            if session.connection.wants_write() || session.connection.is_handshaking() {
                return Ok(taken);
            }
            session.record.clear();
            let mut skipped = taken;
            for slice in slices {
                let rest = &slice[skipped.min(slice.len())..];
                skipped -= slice.len() - rest.len();
                let room = RECORD - session.record.len();
                session.record.extend_from_slice(&rest[..rest.len().min(room)]);
            }
            if session.record.is_empty() {
                return Ok(taken);
            }
            taken += session.connection.writer().write(&session.record).map_err(|_| Errno::EPIPE)?;
            // rustls has taken bytes and dropped them: it has ended the stream, because its key was used too often.
            if !session.connection.wants_write() {
                return Err(Errno::EPIPE);
            }
        }
    }

    pub(in crate::sink) fn flush(&self, stream: &TcpStream) -> nix::Result<()> {
        self.lock().flush(stream)
    }

    pub(in crate::sink) fn wants_write(&self) -> bool {
        self.lock().connection.wants_write()
    }

    pub(in crate::sink) fn has_decrypted(&self) -> bool {
        let session = self.lock();
        session.decrypted > 0 || session.has_ended
    }

    pub(in crate::sink) fn is_handshaking(&self) -> bool {
        self.lock().connection.is_handshaking()
    }

    /// Reads bytes that were decrypted, or else receives and decrypts some.
    pub(in crate::sink) fn read(&self, mut stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
        let session = &mut *self.lock();
        if session.decrypted == 0 {
            if session.has_ended {
                return Ok(0);
            }
            tick();
            if session.connection.read_tls(&mut stream)? == 0 {
                return Ok(0);
            }
            let processed = session.connection.process_new_packets();
            // Its part of the handshake, or why it refuses the client's. The next send finds an error.
            let _ = session.flush(stream);
            let state = processed.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            session.decrypted = state.plaintext_bytes_to_read();
            session.has_ended = state.peer_has_closed();
        }
        let read = session.connection.reader().read(bytes)?;
        session.decrypted = session.decrypted.saturating_sub(read);
        Ok(read)
    }

    /// Sends what tells the client that the stream ends here.
    pub(in crate::sink) fn end(&self, stream: &TcpStream) {
        let session = &mut *self.lock();
        session.connection.send_close_notify();
        let _ = session.flush(stream);
    }
}

impl State {
    /// Sends what is encrypted, as far as the kernel takes it.
    fn flush(&mut self, stream: &TcpStream) -> nix::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Unsignaled(stream)) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
            }
        }
        Ok(())
    }
}

/// Writes to a socket without SIGPIPE, which `write_vectored` of the standard library can cause.
struct Unsignaled<'a>(&'a TcpStream);

impl Write for Unsignaled<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match tcp::send(self.0, slices) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
