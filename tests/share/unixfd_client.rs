//! GStreamer's `unixfd` protocol by hand: a `unixfdsrc` that the test controls, without code of the crate.

use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{recvmsg, ControlMessageOwned, MsgFlags};

use crate::raw::own;

pub const NEW_BUFFER: u32 = 0;
pub const RELEASE: u32 = 1;
pub const CAPS: u32 = 2;
pub const EOS: u32 = 3;

pub fn message(kind: u32, payload: &[u8]) -> Vec<u8> {
    [&kind.to_ne_bytes()[..], &(payload.len() as u32).to_ne_bytes(), payload].concat()
}

pub fn release(id: u64) -> Vec<u8> {
    message(RELEASE, &id.to_ne_bytes())
}

pub fn number(payload: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(payload[at..at + 8].try_into().unwrap())
}

pub struct Client {
    pub socket: UnixStream,
    pub fds: Vec<OwnedFd>,
}

impl Client {
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { socket, fds: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Receives the next message like GStreamer: the header with descriptors, then all of the payload at once. Returns
    /// an error if no message comes in time, if half of one comes, or if the publisher hung up.
    pub fn next(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0; 8];
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let mut iov = [IoSliceMut::new(&mut header)];
        let got = recvmsg::<()>(self.socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for control in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                self.fds.extend(raw.into_iter().map(own));
            }
        }
        if got.bytes != 8 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let (kind, len) = (word(0), word(4) as usize);
        let mut payload = vec![0; len];
        if len > 0 && self.socket.read(&mut payload)? != len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok((kind, payload))
    }

    pub fn receive(&mut self) -> (u32, Vec<u8>) {
        self.next().unwrap()
    }

    pub fn buffer(&mut self) -> (u64, Vec<u8>) {
        let (kind, payload) = self.receive();
        assert_eq!(kind, NEW_BUFFER);
        (number(&payload, 0), payload)
    }

    pub fn caps(&mut self) -> String {
        let (kind, mut payload) = self.receive();
        assert_eq!((kind, payload.pop()), (CAPS, Some(0)));
        String::from_utf8(payload).unwrap()
    }

    pub fn nothing(&mut self) {
        self.socket.set_nonblocking(true).unwrap();
        let got = self.socket.read(&mut [0; 1]);
        assert_eq!(got.map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));
        self.socket.set_nonblocking(false).unwrap();
    }
}
