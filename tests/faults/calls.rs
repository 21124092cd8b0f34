//! System calls that fail on request, in one thread: the functions of this program replace those of the C library.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long, c_void};

type Ptr = *mut c_void;

/// The call that fails: its kind, which call of this kind, and how it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: usize,
    pub nth: u32,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Error(Errno),
    /// The process is killed before the call.
    Death,
    /// The thread's clocks have jumped by this many seconds: the monotonic clock and the wall clock.
    Jump(i64, i64),
}

thread_local! {
    static COUNTS: Cell<Option<[u32; CALLS.len()]>> = const { Cell::new(None) };
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    static JUMP: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// Counts the calls of this thread, and makes one of them fail, until the guard is dropped.
pub struct Armed;

pub fn arm(fault: Option<Fault>) -> Armed {
    COUNTS.set(Some([0; CALLS.len()]));
    FAULT.set(fault);
    JUMP.set((0, 0));
    Armed
}

impl Armed {
    /// Returns the number of calls of each kind.
    pub fn counts(&self) -> [u32; CALLS.len()] {
        COUNTS.get().unwrap_or([0; CALLS.len()])
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        COUNTS.set(None);
        JUMP.set((0, 0));
    }
}

// SAFETY: contract: the C library's function of this name.
#[no_mangle]
unsafe extern "C" fn clock_gettime(clock: c_int, out: *mut libc::timespec) -> c_int {
    // SAFETY: the caller guarantees the arguments, which are passed to the kernel unchanged.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, out) } as c_int;
    let (monotonic, real) = JUMP.try_with(Cell::get).unwrap_or_default();
    if done == 0 {
        // SAFETY: the kernel has just written there.
        unsafe { (*out).tv_sec += if clock == libc::CLOCK_REALTIME { real } else { monotonic } };
    }
    done
}

/// Counts a call. Returns `true` and sets `errno` if it is the one that fails.
fn fails(call: usize) -> bool {
    // The calls of a thread that is being torn down are not counted.
    let Ok(Some(mut counts)) = COUNTS.try_with(Cell::get) else { return false };
    counts[call] += 1;
    COUNTS.set(Some(counts));
    let hit = FAULT.get().filter(|f| f.call == call && f.nth == counts[call]);
    match hit.map(|f| f.answer) {
        Some(Answer::Error(errno)) => errno.set(),
        Some(Answer::Death) => drop(nix::sys::signal::raise(nix::sys::signal::SIGKILL)),
        Some(Answer::Jump(monotonic, real)) => {
            JUMP.set((monotonic, real));
            return false;
        }
        None => {}
    }
    hit.is_some()
}

macro_rules! calls {
    ($($name:ident($($arg:ident: $type:ty),*) = $number:ident($($given:expr),*), $($errno:ident)*;)*) => {
        /// Each kind of call, and the errors that the kernel may return for it.
        pub const CALLS: &[(&str, &[Errno])] = &[$((stringify!($name), &[$(Errno::$errno),*])),*];

        #[allow(non_camel_case_types)]
        enum Call { $($name),* }

        $(
            // SAFETY: contract: the C library's function of this name, as the system call that it is.
            #[no_mangle]
            unsafe extern "C" fn $name($($arg: $type),*) -> c_long {
                if fails(Call::$name as usize) {
                    return -1;
                }
                // SAFETY: the caller guarantees the arguments, which are passed to the kernel unchanged.
                unsafe { libc::syscall(libc::$number, $($given),*) }
            }
        )*
    };
}

const NULL: usize = 0;

/// Set while the kernel counts as older than 6.5.
pub static IS_OLD: AtomicBool = AtomicBool::new(false);

/// Returns the number of a socket option, or one that no kernel knows.
fn known(option: c_int) -> c_int {
    const SO_PEERPIDFD: c_int = 77;
    if option == SO_PEERPIDFD && IS_OLD.load(Ordering::Relaxed) {
        c_int::MAX
    } else {
        option
    }
}

fn timespec(ms: c_int) -> libc::timespec {
    // Without a timeout: two years.
    let ms = if ms < 0 { i64::from(u32::MAX) * 16 } else { ms.into() };
    libc::timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
}

// The last argument of a variadic function may be missing: the kernel then ignores it. All arguments are passed in
// registers on the 64-bit targets that tests run on.
calls! {
    socket(domain: c_int, kind: c_int, protocol: c_int) = SYS_socket(domain, kind, protocol), EMFILE ENOMEM;
    bind(fd: c_int, address: Ptr, len: u32) = SYS_bind(fd, address, len), EACCES ENOSPC;
    listen(fd: c_int, backlog: c_int) = SYS_listen(fd, backlog), EADDRINUSE;
    connect(fd: c_int, address: Ptr, len: u32) = SYS_connect(fd, address, len), EINTR EAGAIN ECONNREFUSED;
    accept4(fd: c_int, address: Ptr, len: Ptr, flags: c_int) = SYS_accept4(fd, address, len, flags),
        EINTR EAGAIN ECONNABORTED EMFILE ENFILE ENOMEM;
    send(fd: c_int, bytes: Ptr, len: usize, flags: c_int) = SYS_sendto(fd, bytes, len, flags, NULL, NULL),
        EINTR EAGAIN ENOMEM EPIPE ECONNRESET;
    sendmsg(fd: c_int, message: Ptr, flags: c_int) = SYS_sendmsg(fd, message, flags),
        EINTR EAGAIN ENOMEM ETOOMANYREFS EPIPE ECONNRESET;
    recvmsg(fd: c_int, message: Ptr, flags: c_int) = SYS_recvmsg(fd, message, flags), EINTR EAGAIN ENOMEM ECONNRESET;
    setsockopt(fd: c_int, level: c_int, name: c_int, value: Ptr, len: u32) =
        SYS_setsockopt(fd, level, name, value, len), ENOMEM ENOPROTOOPT;
    getsockopt(fd: c_int, level: c_int, name: c_int, value: Ptr, len: Ptr) =
        SYS_getsockopt(fd, level, known(name), value, len), ENOMEM ENOPROTOOPT;
    epoll_create1(flags: c_int) = SYS_epoll_create1(flags), EMFILE ENOMEM;
    epoll_ctl(fd: c_int, op: c_int, other: c_int, event: Ptr) = SYS_epoll_ctl(fd, op, other, event), ENOMEM ENOSPC;
    epoll_wait(fd: c_int, events: Ptr, count: c_int, timeout: c_int) =
        SYS_epoll_pwait(fd, events, count, timeout, NULL, NULL), EINTR;
    // Its timeout is in milliseconds; the kernel's is a `timespec` on arm64.
    poll(fds: Ptr, count: u64, timeout: c_int) = SYS_ppoll(fds, count, &timespec(timeout), NULL, 8usize), EINTR ENOMEM;
    timerfd_create(clock: c_int, flags: c_int) = SYS_timerfd_create(clock, flags), EMFILE ENODEV;
    timerfd_settime(fd: c_int, flags: c_int, new: Ptr, old: Ptr) = SYS_timerfd_settime(fd, flags, new, old), EINVAL;
    eventfd(count: u32, flags: c_int) = SYS_eventfd2(count, flags), EMFILE ENODEV;
    memfd_create(name: Ptr, flags: u32) = SYS_memfd_create(name, flags), EMFILE ENOMEM;
    ftruncate(fd: c_int, len: i64) = SYS_ftruncate(fd, len), EINTR ENOSPC;
    // The name that memmap2 uses.
    mmap64(address: Ptr, len: usize, access: c_int, flags: c_int, fd: c_int, offset: i64) =
        SYS_mmap(address, len, access, flags, fd, offset), ENOMEM ENODEV;
    fcntl(fd: c_int, command: c_int, arg: usize) = SYS_fcntl(fd, command, arg), EMFILE EBUSY;
    fchmod(fd: c_int, mode: u32) = SYS_fchmod(fd, mode), EPERM;
    flock(fd: c_int, operation: c_int) = SYS_flock(fd, operation), EINTR ENOLCK;
    fstat(fd: c_int, out: Ptr) = SYS_fstat(fd, out), ENOMEM;
    lseek(fd: c_int, offset: i64, whence: c_int) = SYS_lseek(fd, offset, whence), EINVAL;
    open64(path: Ptr, flags: c_int, mode: u32) = SYS_openat(libc::AT_FDCWD, path, flags, mode),
        EINTR EACCES EMFILE ENOSPC EROFS;
    writev(fd: c_int, slices: Ptr, count: c_int) = SYS_writev(fd, slices, count), EINTR ENOSPC EIO EFBIG;
    pwrite64(fd: c_int, bytes: Ptr, len: usize, at: i64) = SYS_pwrite64(fd, bytes, len, at), EINTR ENOSPC EIO;
    fdatasync(fd: c_int) = SYS_fdatasync(fd), EINTR ENOSPC EIO;
    getsockname(fd: c_int, address: Ptr, len: Ptr) = SYS_getsockname(fd, address, len), ENOBUFS;
    recv(fd: c_int, bytes: Ptr, len: usize, flags: c_int) = SYS_recvfrom(fd, bytes, len, flags, NULL, NULL),
        EINTR EAGAIN ENOMEM ECONNRESET ECONNREFUSED;
    sendmmsg(fd: c_int, messages: Ptr, count: u32, flags: c_int) = SYS_sendmmsg(fd, messages, count, flags),
        EINTR EAGAIN ENOMEM ENOBUFS ECONNREFUSED ENETUNREACH EPERM;
    // The standard library makes a socket non-blocking with it.
    ioctl(fd: c_int, request: u64, arg: Ptr) = SYS_ioctl(fd, request, arg), ENOMEM;
    read(fd: c_int, out: Ptr, len: usize) = SYS_read(fd, out, len), EINTR EAGAIN;
    write(fd: c_int, bytes: Ptr, len: usize) = SYS_write(fd, bytes, len), EINTR EAGAIN;
}
