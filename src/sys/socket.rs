//! `AF_UNIX` sockets with descriptors as ancillary data, without allocations.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;

use super::syscall_count::{retry, tick};

/// The largest number of descriptors in one message.
pub(crate) const MAX_FDS: usize = 4;

/// Room for more descriptors than expected, so that surplus descriptors are detected and closed here.
const CONTROL_FDS: usize = 8;

/// Room for the descriptors and the credentials of one message.
const CONTROL_BYTES: usize = 80;

#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

impl Control {
    const EMPTY: Self = Self([0; CONTROL_BYTES]);
}

const _: () = assert!(
    CONTROL_BYTES >= 2 * size_of::<libc::cmsghdr>() + size_of::<libc::ucred>() + CONTROL_FDS * size_of::<RawFd>()
);

/// The type of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Messages: `SOCK_SEQPACKET`.
    Messages,
    /// Bytes: `SOCK_STREAM`.
    #[cfg(feature = "unixfd")]
    Bytes,
}

/// The result of a receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// One message of this many bytes; on a stream, the bytes that were available.
    Message(usize),
    /// One message of this many bytes whose descriptors did not all arrive. None is kept.
    FdsLost(usize),
    /// A message that was longer than the buffer.
    Truncated,
    /// No message within the allowed time.
    WouldBlock,
    /// No message before a signal handler ran.
    Interrupted,
    /// The peer closed the connection. (An empty message has the same result, but this protocol does not have empty
    /// messages.)
    Closed,
}

pub(super) fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    Errno::result(result)
}

fn socket(carries: Carries) -> Result<OwnedFd, Errno> {
    let kind = match carries {
        Carries::Messages => libc::SOCK_SEQPACKET,
        #[cfg(feature = "unixfd")]
        Carries::Bytes => libc::SOCK_STREAM,
    };
    let kind = kind | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; a new descriptor belongs to the caller alone.
    let fd = retry(|| check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) }))?;
    // SAFETY: just created; no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address(path: &Path) -> Result<(libc::sockaddr_un, libc::socklen_t), Errno> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: sockaddr_un is plain old data, for which all zeros are valid.
    let mut addr: libc::sockaddr_un = unsafe { zeroed() };
    if bytes.is_empty() || bytes[0] == 0 || bytes.contains(&0) || bytes.len() >= addr.sun_path.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    addr.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, &from) in addr.sun_path.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    let len = size_of::<libc::sa_family_t>() + bytes.len() + 1;
    Ok((addr, len as libc::socklen_t))
}

/// Binds and listens. The socket file gets `mode`, whatever the umask is, before anyone can connect.
pub(crate) fn listen(path: &Path, carries: Carries, mode: u32, backlog: i32) -> Result<OwnedFd, Errno> {
    let (addr, len) = address(path)?;
    let fd = socket(carries)?;
    set_flags(&fd, libc::O_NONBLOCK)?;
    // SAFETY: plain descriptor calls; `addr` is an initialized sockaddr_un of which `len` bytes are valid.
    unsafe {
        check(libc::fchmod(fd.as_raw_fd(), mode as libc::mode_t))?;
        check(libc::bind(fd.as_raw_fd(), ptr::addr_of!(addr).cast(), len))?;
    }
    if let Err(e) = set_mode(path, mode) {
        let _ = std::fs::remove_file(path);
        return Err(e);
    }
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(fd)
}

/// Prepares a socket that another program has made. Returns `false` if it does not listen, is not of the Unix domain,
/// or carries something else.
///
/// Listens again: the kernel then names this process as the peer of those that connect, instead of the other program.
pub(crate) fn take_listener(fd: &OwnedFd, carries: Carries, backlog: i32) -> Result<bool, Errno> {
    use nix::fcntl::{fcntl, FcntlArg, FdFlag};
    use nix::sys::socket::{getsockname, getsockopt, sockopt, SockType, UnixAddr};
    let kind = match carries {
        Carries::Messages => SockType::SeqPacket,
        #[cfg(feature = "unixfd")]
        Carries::Bytes => SockType::Stream,
    };
    let is_ours = getsockopt(fd, sockopt::SockType)? == kind && getsockopt(fd, sockopt::AcceptConn)?;
    // A socket of another domain does not have a Unix address.
    if !is_ours || getsockname::<UnixAddr>(fd.as_raw_fd()).is_err() {
        return Ok(false);
    }
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    set_flags(fd, libc::O_NONBLOCK)?;
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(|_| true)
}

/// Returns the user id with which this process creates files.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: no pointers. It cannot fail.
    unsafe { libc::geteuid() }
}

/// Gives a socket file its mode. `bind` has taken the umask's bits away. Never follows a link: another user who may
/// write to the folder could put one there.
fn set_mode(path: &Path, mode: u32) -> Result<(), Errno> {
    use nix::fcntl::{open, OFlag};
    use nix::sys::stat::{fchmodat, fstat, FchmodatFlags, Mode, SFlag};
    let file = retry(|| open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()))?;
    let stat = fstat(&file)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(Errno::EEXIST);
    }
    let mode = Mode::from_bits_truncate(mode);
    if Mode::from_bits_truncate(stat.st_mode) == mode {
        return Ok(());
    }
    // The file behind an O_PATH descriptor has no other name that is safe to use.
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    fchmodat(nix::fcntl::AT_FDCWD, name.as_str(), mode, FchmodatFlags::FollowSymlink)
}

/// Connects without waiting. EAGAIN means that the listener's backlog is full. The connected socket blocks, unless a
/// call asks otherwise.
pub(crate) fn connect(path: &Path, carries: Carries) -> Result<OwnedFd, Errno> {
    let (addr, len) = address(path)?;
    let fd = socket(carries)?;
    set_flags(&fd, libc::O_NONBLOCK)?;
    // SAFETY: `addr` is an initialized sockaddr_un of which `len` bytes are valid.
    retry(|| check(unsafe { libc::connect(fd.as_raw_fd(), ptr::addr_of!(addr).cast(), len) }))?;
    set_flags(&fd, 0)?;
    Ok(fd)
}

/// Accepts one connection, if there is one. The new socket blocks, unless a call asks otherwise.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    // SAFETY: null address pointers are allowed: the peer's address is not needed.
    let accept =
        || unsafe { libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC) };
    match retry(|| check(accept())) {
        // SAFETY: accept4 just created it for this call alone.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        // ECONNABORTED: the connection ended before it was accepted.
        Err(Errno::EAGAIN | Errno::ECONNABORTED) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sends one message with up to [`MAX_FDS`] descriptors. Never blocks, never raises SIGPIPE. Returns `false` if
/// nothing was sent, because the peer's queue is full or (ETOOMANYREFS) this user has too many descriptors in flight.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<bool, Errno> {
    send_some(fd, bytes, fds).map(|sent| sent.is_some())
}

/// Does the same as [`send`], also on a stream. Returns how many bytes were sent. The descriptors go with the first
/// byte.
pub(crate) fn send_some(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Option<usize>, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    if fds.is_empty() {
        let (data, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: `data` and `len` are those of `bytes`, which send only reads.
        return sent(retry(|| Errno::result(unsafe { libc::send(fd.as_raw_fd(), data, len, flags) })));
    }
    let mut control = Control::EMPTY;
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain old data, for which all zeros are valid.
    let mut msg: libc::msghdr = unsafe { zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    if fds.len() > MAX_FDS {
        return Err(Errno::EINVAL);
    }
    let payload = (fds.len() * size_of::<RawFd>()) as u32;
    msg.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute. The control buffer is aligned for a cmsghdr and larger than
    // CMSG_SPACE of MAX_FDS descriptors, so the first header and its data are inside it.
    unsafe {
        msg.msg_controllen = libc::CMSG_SPACE(payload) as _;
        let header = libc::CMSG_FIRSTHDR(&msg);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
        for (i, f) in fds.iter().enumerate() {
            ptr::write_unaligned(libc::CMSG_DATA(header).cast::<RawFd>().add(i), f.as_raw_fd());
        }
    }
    // SAFETY: `msg` points at `iov`, `bytes` and `control`, which all live for the call. sendmsg only reads them.
    sent(retry(|| Errno::result(unsafe { libc::sendmsg(fd.as_raw_fd(), &msg, flags) })))
}

fn sent(result: Result<libc::ssize_t, Errno>) -> Result<Option<usize>, Errno> {
    match result {
        Ok(len) => Ok(Some(len as usize)),
        Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::ETOOMANYREFS) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Returns `true` if the peer has read everything that was sent (`SIOCOUTQ`), and if the kernel does not report it.
pub(crate) fn is_read(fd: BorrowedFd<'_>) -> bool {
    let mut unread: libc::c_int = 0;
    tick();
    // SAFETY: `unread` is live and has the size that the ioctl writes. A failure leaves it 0.
    let _ = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ as _, &mut unread) };
    unread == 0
}

/// Shuts down the sending direction. The peer may still send.
#[cfg(feature = "unixfd")]
pub(crate) fn end_sending(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointers.
    retry(|| check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) })).map(drop)
}

/// Ends the connection in both directions, even if another process still has the descriptor. A listener then refuses
/// connections.
pub(crate) fn hang_up(fd: BorrowedFd<'_>) {
    // SAFETY: no pointers. The call fails if the connection has ended already.
    let _ = retry(|| check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) }));
}

/// Whether a receive may wait, for as long as [`set_receive_timeout`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    Wait,
    DontWait,
}

/// Receives one message without room for descriptors. Attached descriptors are never installed in this process, and
/// give [`Received::FdsLost`].
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], block: Block) -> Result<Received, Errno> {
    receive_message(fd, buffer, block, None)
}

/// Does the same as [`receive`], also on a socket where the sender's credentials come with each message. Returns the
/// sender's pid.
pub(crate) fn receive_from(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    block: Block,
) -> Result<(Received, Option<i32>), Errno> {
    let mut inbox = FdInbox::default();
    let received = match receive_message(fd, buffer, block, Some(&mut inbox))? {
        Received::Message(len) if inbox.len() > 0 => Received::FdsLost(len),
        received => received,
    };
    Ok((received, inbox.sender))
}

/// Receives one message and its descriptors, close-on-exec. Keeps no descriptor of a truncated message.
#[cfg(any(test, feature = "unixfd"))]
pub(crate) fn receive_with_fds(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    block: Block,
    fds: &mut FdInbox,
) -> Result<Received, Errno> {
    fds.clear();
    receive_message(fd, buffer, block, Some(fds))
}

/// The descriptors of one message, in order, and its sender. Descriptors that are not taken are closed.
#[derive(Debug, Default)]
pub(crate) struct FdInbox {
    fds: [Option<OwnedFd>; CONTROL_FDS],
    count: usize,
    /// The pid of the message's sender, if the socket asks for it (`SO_PASSCRED`).
    pub(crate) sender: Option<i32>,
}

impl FdInbox {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Takes the `i`th descriptor.
    pub(crate) fn take(&mut self, i: usize) -> Option<OwnedFd> {
        self.fds.get_mut(i)?.take()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn push(&mut self, fd: OwnedFd) {
        if let Some(free) = self.fds.get_mut(self.count) {
            *free = Some(fd);
            self.count += 1;
        }
    }
}

fn receive_message(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    block: Block,
    mut fds: Option<&mut FdInbox>,
) -> Result<Received, Errno> {
    let mut control = Control::EMPTY;
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain old data, for which all zeros are valid.
    let mut msg: libc::msghdr = unsafe { zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    if fds.is_some() {
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = size_of::<Control>() as _;
    }
    let wait = if block == Block::DontWait { libc::MSG_DONTWAIT } else { 0 };
    tick();
    // SAFETY: `msg` points at `iov`, `buffer` and `control`, which all live for the call and are exclusively
    // borrowed.
    let result = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut msg, wait | libc::MSG_CMSG_CLOEXEC) };
    let len = match Errno::result(result) {
        Ok(len) => len as usize,
        Err(Errno::EAGAIN) => return Ok(Received::WouldBlock),
        Err(Errno::EINTR) => return Ok(Received::Interrupted),
        Err(e) => return Err(e),
    };
    if let Some(inbox) = fds.as_deref_mut() {
        // SAFETY: `msg` was filled by recvmsg just now, and `control` is alive.
        unsafe { take_fds(&msg, inbox) };
    }
    Ok(outcome(&msg, len, fds))
}

/// Takes the descriptors and the credentials that came with a message.
///
/// # Safety
/// A receive must have filled `msg`, and no other call may have taken its descriptors. Its control buffer must be
/// alive.
unsafe fn take_fds(msg: &libc::msghdr, inbox: &mut FdInbox) {
    // SAFETY: the headers between CMSG_FIRSTHDR and CMSG_NXTHDR are in the control buffer, and `cmsg_len` is the
    // length of each header's data. The receive installed each descriptor for this process alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(msg);
        while !header.is_null() {
            let bytes = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for i in 0..bytes / size_of::<RawFd>() {
                        let raw = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>().add(i));
                        inbox.push(OwnedFd::from_raw_fd(raw));
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if bytes >= size_of::<libc::ucred>() => {
                    let credentials = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::ucred>());
                    inbox.sender = Some(credentials.pid);
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(msg, header);
        }
    }
}

/// Classifies a message of `len` bytes. Keeps no descriptor of a truncated message.
fn outcome(msg: &libc::msghdr, len: usize, fds: Option<&mut FdInbox>) -> Received {
    if msg.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        if let Some(inbox) = fds {
            inbox.clear();
        }
        let truncated = msg.msg_flags & libc::MSG_TRUNC != 0;
        return if truncated { Received::Truncated } else { Received::FdsLost(len) };
    }
    if len == 0 {
        Received::Closed
    } else {
        Received::Message(len)
    }
}

/// The number of messages that one [`receive_batch`] takes.
pub(crate) const BATCH: usize = 8;

/// Room for some messages of at most `SIZE` bytes with their descriptors, allocated once.
#[derive(Debug)]
pub(crate) struct Batch<const SIZE: usize> {
    bytes: Box<[[u8; SIZE]; BATCH]>,
    fds: [FdInbox; BATCH],
}

impl<const SIZE: usize> Batch<SIZE> {
    pub(crate) fn new() -> Self {
        Self { bytes: Box::new([[0; SIZE]; BATCH]), fds: Default::default() }
    }

    /// Returns the bytes of the `i`th message of the last receive, and its descriptors.
    pub(crate) fn message(&mut self, i: usize, len: usize) -> (&[u8], &mut FdInbox) {
        (&self.bytes[i][..len.min(SIZE)], &mut self.fds[i])
    }

    /// Returns the pid of the sender of the `i`th message of the last receive, if the socket asks for it.
    pub(crate) fn sender(&self, i: usize) -> Option<i32> {
        self.fds[i].sender
    }

    /// Closes the descriptors that were not taken.
    pub(crate) fn close_fds(&mut self) {
        self.fds.iter_mut().for_each(FdInbox::clear);
    }
}

/// Receives up to `most` messages of a message socket in one system call, close-on-exec. Waits for the first if
/// `block` allows it, and takes further messages that are available. Writes the result of the `i`th message to
/// `got[i]` and returns the number of messages. If that is 0, `got[0]` is the reason.
pub(crate) fn receive_batch<const SIZE: usize>(
    fd: BorrowedFd<'_>,
    batch: &mut Batch<SIZE>,
    most: usize,
    block: Block,
    got: &mut [Received; BATCH],
) -> Result<usize, Errno> {
    let most = most.clamp(1, BATCH);
    batch.close_fds();
    let mut control: [Control; BATCH] = std::array::from_fn(|_| Control::EMPTY);
    let mut iov: [libc::iovec; BATCH] =
        std::array::from_fn(|i| libc::iovec { iov_base: batch.bytes[i].as_mut_ptr().cast(), iov_len: SIZE });
    // SAFETY: mmsghdr is plain old data, for which all zeros are valid.
    let mut msgs: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    for ((msg, iov), control) in msgs.iter_mut().zip(&mut iov).zip(&mut control) {
        msg.msg_hdr.msg_iov = iov;
        msg.msg_hdr.msg_iovlen = 1;
        msg.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_hdr.msg_controllen = size_of::<Control>() as _;
    }
    let wait = if block == Block::DontWait { libc::MSG_DONTWAIT } else { libc::MSG_WAITFORONE };
    let flags = wait | libc::MSG_CMSG_CLOEXEC;
    tick();
    // SAFETY: each of the first `most` of `msgs` points at its own entries of `iov`, the batch's bytes and `control`,
    // which all live for the call and are exclusively borrowed. No timeout is passed.
    let result = unsafe { libc::recvmmsg(fd.as_raw_fd(), msgs.as_mut_ptr(), most as _, flags as _, ptr::null_mut()) };
    let count = match check(result) {
        Ok(count) => (count as usize).min(most),
        Err(e @ (Errno::EAGAIN | Errno::EINTR)) => {
            got[0] = if e == Errno::EINTR { Received::Interrupted } else { Received::WouldBlock };
            return Ok(0);
        }
        Err(e) => return Err(e),
    };
    for i in 0..count {
        // SAFETY: this message was filled by recvmmsg just now, and `control` is alive.
        unsafe { take_fds(&msgs[i].msg_hdr, &mut batch.fds[i]) };
        got[i] = outcome(&msgs[i].msg_hdr, msgs[i].msg_len as usize, Some(&mut batch.fds[i]));
    }
    Ok(count)
}

/// Sets how long a receive with [`Block::Wait`] waits (`SO_RCVTIMEO`). Zero would mean "without limit" to the kernel,
/// so it is rounded up to a microsecond.
pub(crate) fn set_receive_timeout(fd: BorrowedFd<'_>, timeout: Duration) -> Result<(), Errno> {
    let timeout = timeout.clamp(Duration::from_micros(1), Duration::from_secs(86_400));
    let value = libc::timeval { tv_sec: timeout.as_secs() as _, tv_usec: timeout.subsec_micros() as _ };
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)
}

pub(super) fn set_option<T>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> Result<(), Errno> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is a live T of `len` bytes, which the kernel only reads.
    retry(|| check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (value as *const T).cast(), len) }))
        .map(drop)
}

/// Sets the file status flags (`F_SETFL`): O_NONBLOCK or none.
fn set_flags(fd: &OwnedFd, flags: libc::c_int) -> Result<(), Errno> {
    tick();
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let mut fds = [0; 2];
        // SAFETY: `fds` has room for two descriptors, which this process then owns.
        unsafe {
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
            check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr())).unwrap();
            (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
        }
    }

    fn open_fds() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn receive_sets_close_on_exec_and_closes_unwanted_descriptors() {
        let (a, b) = pair();
        let null = File::open("/dev/null").unwrap();
        assert!(send(a.as_fd(), b"two", &[null.as_fd(), null.as_fd()]).unwrap());
        assert!(send(a.as_fd(), b"two", &[null.as_fd(), null.as_fd()]).unwrap());
        let mut inbox = FdInbox::default();
        let mut buffer = [0; 16];
        let got = receive_with_fds(b.as_fd(), &mut buffer, Block::DontWait, &mut inbox).unwrap();
        assert_eq!((got, inbox.len()), (Received::Message(3), 2));
        let first = inbox.take(0).unwrap();
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::fcntl(first.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
        // Without room for descriptors, none is installed, and the result shows it.
        assert_eq!(receive(b.as_fd(), &mut buffer, Block::DontWait), Ok(Received::FdsLost(3)));
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buffer, Block::DontWait), Ok(Received::Closed));
    }

    #[test]
    fn receive_detects_a_truncated_message() {
        let (a, b) = pair();
        assert!(send(a.as_fd(), &[7; 64], &[]).unwrap());
        assert_eq!(receive(b.as_fd(), &mut [0; 16], Block::DontWait), Ok(Received::Truncated));
        assert_eq!(receive(b.as_fd(), &mut [0; 16], Block::DontWait), Ok(Received::WouldBlock));
    }

    #[test]
    fn receive_closes_surplus_descriptors() {
        let (a, b) = pair();
        let null = File::open("/dev/null").unwrap();
        let before = open_fds();
        for _ in 0..10 {
            assert!(send(a.as_fd(), b"x", &[null.as_fd(); 4]).unwrap());
            let mut inbox = FdInbox::default();
            receive_with_fds(b.as_fd(), &mut [0; 4], Block::DontWait, &mut inbox).unwrap();
        }
        // Other tests of this process open files, too. The margin allows for them, but not for forty.
        assert!(open_fds() < before + 30);
    }

    #[test]
    fn send_returns_false_for_a_full_queue() {
        let (a, _b) = pair();
        let sent = (0..100_000).take_while(|_| send(a.as_fd(), &[0; 16], &[]).unwrap()).count();
        assert!(sent > 1 && sent < 100_000);
    }
}
