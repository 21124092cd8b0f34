//! Speaks the protocol of docs/protocol.md by hand: bytes in and out of a socket, without code of the crate.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{
    accept4, bind, connect, listen, recv, recvmsg, send, sendmsg, setsockopt, socket, sockopt, AddressFamily, Backlog,
    ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
};
use nix::sys::time::TimeVal;

pub const HELLO: u16 = 1;
pub const BUFFER_OK: u16 = 2;
pub const RELEASE: u16 = 4;
pub const RETIRED: u16 = 5;
pub const WELCOME: u16 = 16;
pub const FORMAT: u16 = 17;
pub const BUFFER: u16 = 18;
pub const FRAME: u16 = 19;
pub const REVOKE: u16 = 20;
pub const NEWER: u16 = 24;
pub const END: u16 = 22;
pub const BYE: u16 = 23;

/// A socket that sends and receives bytes.
pub struct Raw(OwnedFd);

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn seqpacket() -> OwnedFd {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

impl Raw {
    pub fn connect(path: &Path) -> Self {
        let fd = seqpacket();
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(10, 0)).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        Self(fd)
    }

    /// The publisher's end: listens, and waits for one subscriber.
    pub fn listen(path: &Path) -> Listener {
        let fd = seqpacket();
        bind(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        // For accept.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(10, 0)).unwrap();
        listen(&fd, Backlog::new(4).unwrap()).unwrap();
        Listener(fd)
    }

    pub fn send(&self, bytes: &[u8]) {
        let _ = send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL);
    }

    pub fn send_with_fds(&self, bytes: &[u8], fds: &[RawFd]) {
        let control = [ControlMessage::ScmRights(fds)];
        let _ = sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::MSG_NOSIGNAL, None);
    }

    /// Receives one message. Returns it empty if the other side hung up.
    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 512];
        let len = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap_or(0);
        buffer[..len].to_vec()
    }

    /// Returns `false` if the other side hung up. Drops a message.
    pub fn receive_nothing(&self) -> bool {
        recv(self.0.as_raw_fd(), &mut [0; 512], MsgFlags::MSG_DONTWAIT) != Ok(0)
    }

    /// Receives one message with its descriptors, if there is one.
    pub fn try_receive(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        let (mut buffer, mut space) = ([0; 512], nix::cmsg_space!([RawFd; 8]));
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.0.as_raw_fd(), &mut iov, Some(&mut space), flags).ok()?;
        let mut fds = Vec::new();
        for control in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(raw) = control {
                fds.extend(raw.into_iter().map(own));
            }
        }
        let len = message.bytes;
        Some((buffer[..len].to_vec(), fds))
    }
}

#[allow(unsafe_code)]
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: recvmsg has just installed this descriptor for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

pub struct Listener(OwnedFd);

impl Listener {
    pub fn accept(&self) -> Raw {
        let fd = own(accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap());
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(1, 0)).unwrap();
        Raw(fd)
    }
}

/// A message of this protocol: header and 32-bit words.
pub fn message(kind: u16, words: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    words.iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
    out
}

/// HELLO: versions, frames to hold, policy latest, every frame.
pub fn hello(version_min: u16, version_max: u16, hold: u16) -> Vec<u8> {
    let versions = u32::from(version_min) | u32::from(version_max) << 16;
    message(HELLO, &[u32::from_le_bytes(*b"FLSP"), versions, u32::from(hold), 1, 1, 0])
}

pub fn kind(message: &[u8]) -> u16 {
    message.get(..2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

/// The `n`-th 32-bit word after the header.
pub fn word(message: &[u8], n: usize) -> u32 {
    let at = 8 + 4 * n;
    u32::from_le_bytes(message[at..at + 4].try_into().unwrap())
}
