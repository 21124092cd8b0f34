//! The types of `identity` and `session` without values.

use std::io::{self, IoSlice};
use std::net::TcpStream;

#[derive(Clone)]
pub(in crate::sink) enum Identity {}

pub(in crate::sink) enum TlsSession {}

impl Identity {
    pub(in crate::sink) fn session(&self) -> Option<TlsSession> {
        match *self {}
    }
}

impl TlsSession {
    pub(in crate::sink) fn send(&self, _: &TcpStream, _: &[IoSlice<'_>]) -> nix::Result<usize> {
        match *self {}
    }

    pub(in crate::sink) fn flush(&self, _: &TcpStream) -> nix::Result<()> {
        match *self {}
    }

    pub(in crate::sink) fn wants_write(&self) -> bool {
        match *self {}
    }

    pub(in crate::sink) fn has_decrypted(&self) -> bool {
        match *self {}
    }

    pub(in crate::sink) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(in crate::sink) fn read(&self, _: &TcpStream, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(in crate::sink) fn end(&self, _: &TcpStream) {
        match *self {}
    }
}
