//! Sends many UDP datagrams in one call, each from several pieces of memory, without copies (`udp(7)`,
//! `sendmmsg(2)`).

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;

use super::syscall_count::retry;

/// The largest number of datagrams in one call.
pub(crate) const MOST: usize = 64;
/// The number of pieces of one datagram.
pub(crate) const PIECES: usize = 2;
/// The largest sum of the bytes in one `UDP_SEGMENT` send.
pub(crate) const MOST_BYTES: usize = 65_000;

/// `UDP_SEGMENT`, Linux 4.18. The libc crate does not define it for every target.
const UDP_SEGMENT: libc::c_int = 103;

/// The pieces of one datagram.
pub(crate) type Datagram<'a> = [&'a [u8]; PIECES];

fn iovecs(datagrams: &[Datagram<'_>]) -> [[libc::iovec; PIECES]; MOST] {
    let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let mut all = [[none; PIECES]; MOST];
    for (to, from) in all.iter_mut().zip(datagrams) {
        for (iov, piece) in to.iter_mut().zip(from) {
            *iov = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
        }
    }
    all
}

/// Sends datagrams of `segment` bytes, the last of which may be shorter, as one (`UDP_SEGMENT`), without waiting.
/// Sends all or none. The limits are [`MOST`] datagrams and [`MOST_BYTES`] together.
pub(crate) fn send_segments(fd: BorrowedFd<'_>, datagrams: &[Datagram<'_>], segment: u16) -> Result<(), Errno> {
    #[repr(C, align(8))]
    struct Control([u8; 32]);
    let datagrams = &datagrams[..datagrams.len().min(MOST)];
    let mut iov = iovecs(datagrams);
    let mut control = Control([0; 32]);
    // SAFETY: all-zero bytes are a valid msghdr: null pointers and zero lengths.
    let mut msg: libc::msghdr = unsafe { zeroed() };
    msg.msg_iov = iov.as_mut_ptr().cast();
    msg.msg_iovlen = (datagrams.len() * PIECES) as _;
    msg.msg_control = ptr::addr_of_mut!(control).cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic on a size.
    let (space, length) = unsafe { (libc::CMSG_SPACE(2), libc::CMSG_LEN(2)) };
    const _: () = assert!(size_of::<Control>() >= size_of::<libc::cmsghdr>() + 8);
    msg.msg_controllen = space as _;
    // SAFETY: memory: `control` is aligned for a cmsghdr and has room for one with two bytes of data (asserted
    // above), so CMSG_FIRSTHDR is not null and CMSG_DATA is within it. Lifetime: all of it is on this stack until the
    // call returns.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&msg);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = UDP_SEGMENT;
        (*header).cmsg_len = length as _;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
    }
    // SAFETY: memory: every iovec names a slice that lives for the call; `iov` and `control` outlive it, too.
    // Contract: the kernel only reads the memory of a sent iovec, so casting away const does not cause a write.
    retry(|| Errno::result(unsafe { libc::sendmsg(fd.as_raw_fd(), &msg, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }))
        .map(drop)
}

/// Sends datagrams separately in one call (`sendmmsg`), without waiting. Returns how many were sent, which is at
/// least one.
pub(crate) fn send_many(fd: BorrowedFd<'_>, datagrams: &[Datagram<'_>]) -> Result<usize, Errno> {
    let datagrams = &datagrams[..datagrams.len().min(MOST)];
    let mut iov = iovecs(datagrams);
    // SAFETY: all-zero bytes are a valid mmsghdr: null pointers and zero lengths.
    let mut messages: [libc::mmsghdr; MOST] = unsafe { zeroed() };
    for (message, iov) in messages.iter_mut().zip(&mut iov) {
        message.msg_hdr.msg_iov = iov.as_mut_ptr();
        message.msg_hdr.msg_iovlen = PIECES as _;
    }
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as libc::c_uint;
    let count = datagrams.len() as libc::c_uint;
    let sent = retry(|| {
        // SAFETY: memory: as in `send_segments`; `messages` has at least `count` entries, whose iovecs live in `iov`.
        // Contract: the kernel writes only `msg_len` of the entries that it sent.
        Errno::result(unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, flags as _) })
    })?;
    Ok(sent as usize)
}

/// Sets an option whose value is an `int`.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: i32) -> Result<(), Errno> {
    set(fd, level, option, &value)
}

fn set<T: Copy>(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: &T) -> Result<(), Errno> {
    let len = size_of::<T>() as libc::socklen_t;
    let value: *const T = value;
    // SAFETY: `value` points to a `T` that is borrowed for the whole call, and `len` is its size. The kernel only
    // reads it.
    retry(|| Errno::result(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.cast(), len) })).map(drop)
}

/// Selects the interface with this name for sending multicast.
pub(crate) fn set_multicast_interface(fd: BorrowedFd<'_>, name: &str, is_v6: bool) -> Result<(), Errno> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::ENODEV)?;
    // SAFETY: the string ends with a zero and lives for the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(Errno::ENODEV);
    }
    if is_v6 {
        return set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, index as i32);
    }
    let any = libc::in_addr { s_addr: 0 };
    let value = libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index as i32 };
    set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &value)
}
