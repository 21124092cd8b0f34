//! Sends on TCP connections.

use std::io::IoSlice;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{sendmsg, MsgFlags};

use super::syscall_count::retry;

/// Sends bytes without SIGPIPE. Returns how many the kernel took. Never blocks.
pub(crate) fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match retry(|| sendmsg::<()>(stream.as_raw_fd(), slices, &[], flags, None)) {
        Err(Errno::EAGAIN) => Ok(0),
        sent => sent,
    }
}
