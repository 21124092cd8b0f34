//! The socket of one peer, and the process at its other end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::peer::{self, PeerProcess};
use crate::sys::socket::{self, Block, Received};

/// A connected socket, and how the end of the peer's process can be seen.
#[derive(Debug)]
pub(super) struct PeerSocket {
    fd: OwnedFd,
    process: PeerProcess,
    /// The pid of the sender of the last message, while the process must still prove that it is the peer.
    sender: Option<i32>,
}

/// Shuts the socket down, because a forked child may still have it open.
impl Drop for PeerSocket {
    fn drop(&mut self) {
        socket::hang_up(self.fd.as_fd());
    }
}

impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PeerSocket {
    /// Returns `None` if the peer's process has ended already.
    pub(super) fn new(fd: OwnedFd, pid: i32) -> Option<Self> {
        let process = peer::process(fd.as_fd(), pid);
        (!matches!(process, PeerProcess::Ended)).then_some(Self { fd, process, sender: None })
    }

    /// Receives one message without descriptors, if there is one.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, Errno> {
        match self.process {
            PeerProcess::Presumed(_) => {
                let (received, sender) = socket::receive_from(self.fd.as_fd(), buffer, Block::DontWait)?;
                self.sender = sender;
                Ok(received)
            }
            _ => socket::receive(self.fd.as_fd(), buffer, Block::DontWait),
        }
    }

    /// Confirms the peer's process by the last message, which must answer one that this publisher sent. Returns the
    /// process's pidfd if it has become known by that.
    pub(super) fn confirm_process(&mut self) -> Option<&OwnedFd> {
        match std::mem::replace(&mut self.process, PeerProcess::Unknown) {
            PeerProcess::Presumed(presumed) => {
                peer::end_credentials(self.fd.as_fd());
                self.process = presumed.confirmed_by(self.sender).map_or(PeerProcess::Unknown, PeerProcess::Known);
                self.pidfd()
            }
            process => {
                self.process = process;
                None
            }
        }
    }

    /// Returns the pidfd of the peer's process, if it is known. It is readable when the process has ended, even if a
    /// forked child keeps the socket open.
    pub(super) fn pidfd(&self) -> Option<&OwnedFd> {
        match &self.process {
            PeerProcess::Known(pidfd) => Some(pidfd),
            _ => None,
        }
    }
}
