//! The process at the other end of a Unix socket, and its end.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Instant;

use nix::errno::Errno;

use super::socket::{check, set_option};
use super::syscall_count::{retry, tick};
use super::wait::{self, Waited};

/// The identity of a process, as the kernel recorded it at `connect` or `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Returns the identity of the peer when it called `connect` or `listen` (`SO_PEERCRED`).
pub(crate) fn credentials(fd: BorrowedFd<'_>) -> Result<Credentials, Errno> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let out = ptr::addr_of_mut!(cred).cast();
    // SAFETY: `cred` and `len` are live, exclusively borrowed, and have the stated sizes.
    retry(|| check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, out, &mut len) }))?;
    Ok(Credentials { pid: cred.pid, uid: cred.uid, gid: cred.gid })
}

/// How the end of the peer's process can be seen.
#[derive(Debug)]
pub(crate) enum PeerProcess {
    /// By this pidfd, which becomes readable.
    Known(OwnedFd),
    /// By a pidfd of the process that has the peer's pid now, once that process has proven to be the peer.
    Presumed(PresumedProcess),
    /// Only by a hang-up of the socket.
    Unknown,
    /// The process has ended already. A child that it forked may still have the socket.
    Ended,
}

/// A process that has the peer's pid. If the peer has died before this was made, it may be a stranger.
#[derive(Debug)]
pub(crate) struct PresumedProcess {
    pid: i32,
    pidfd: OwnedFd,
}

impl PresumedProcess {
    /// Returns the pidfd if `sender` is the pid that the kernel saw when a message was sent. The peer must have sent
    /// that message after this was made: then the process that has the pid is the peer.
    pub(crate) fn confirmed_by(self, sender: Option<i32>) -> Option<OwnedFd> {
        (sender == Some(self.pid)).then_some(self.pidfd)
    }
}

/// Finds out how the end of the peer's process can be seen. Linux 6.5 has pidfds of peers (`SO_PEERPIDFD`). Before,
/// the peer is the process with the pid of `SO_PEERCRED` (`pidfd_open`, Linux 5.3), if it is still alive. To find out,
/// messages then come with the sender's credentials, until [`end_credentials`].
pub(crate) fn process(fd: BorrowedFd<'_>, pid: i32) -> PeerProcess {
    match peer_pidfd(fd) {
        Ok(pidfd) if is_readable(pidfd.as_fd()) => PeerProcess::Ended,
        Ok(pidfd) => PeerProcess::Known(pidfd),
        // Kernels that have the option report a process without tasks so.
        Err(Errno::ESRCH | Errno::EINVAL) => PeerProcess::Ended,
        // The pid is 0 for a process outside of this pid namespace.
        Err(Errno::ENOPROTOOPT) if pid > 0 => match pidfd_open(pid) {
            // Only now: the proof is a message that the peer sends from now on.
            Ok(pidfd) if set_credentials(fd, true).is_ok() => PeerProcess::Presumed(PresumedProcess { pid, pidfd }),
            Err(Errno::ESRCH) => PeerProcess::Ended,
            Ok(_) | Err(_) => PeerProcess::Unknown,
        },
        Err(_) => PeerProcess::Unknown,
    }
}

/// Returns `true` if the peer's process has ended. A child that it forked may still have the socket.
pub(crate) fn has_ended(fd: BorrowedFd<'_>) -> bool {
    let pid = credentials(fd).map_or(0, |c| c.pid);
    matches!(process(fd, pid), PeerProcess::Ended)
}

/// Ends the credentials that come with messages.
pub(crate) fn end_credentials(fd: BorrowedFd<'_>) {
    let _ = set_credentials(fd, false);
}

fn set_credentials(fd: BorrowedFd<'_>, are_sent: bool) -> Result<(), Errno> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_PASSCRED, &libc::c_int::from(are_sent))
}

fn is_readable(pidfd: BorrowedFd<'_>) -> bool {
    wait::readable(pidfd, Instant::now()).is_ok_and(|waited| waited == Waited::Ready)
}

fn peer_pidfd(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut pidfd: RawFd = -1;
    let mut len = size_of::<RawFd>() as libc::socklen_t;
    let out = ptr::addr_of_mut!(pidfd).cast();
    // SAFETY: `pidfd` and `len` are live, exclusively borrowed, and have the stated sizes.
    retry(|| check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, out, &mut len) }))?;
    // SAFETY: the call has installed it for this process alone.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    tick();
    // SAFETY: no pointers.
    let pidfd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the call has installed it for this process alone.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) })
}
