//! Records how epoll instances watch V4L2 devices: the `epoll_ctl` and `close` of this program replace those of the C
//! library.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc::{self, c_int, c_void};

/// What was recorded since [`watched`] began.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub added: usize,
    pub deleted: usize,
    pub modified: usize,
    /// Descriptors that were closed while an epoll instance watched them.
    pub closed_first: usize,
}

#[derive(Default)]
struct State {
    seen: Seen,
    /// The epoll instance and the device.
    entries: Vec<(RawFd, RawFd)>,
}

/// If this is not set, calls do not take the lock: a child between fork and exec must not.
static IS_ON: AtomicBool = AtomicBool::new(false);
static STATE: Mutex<State> = Mutex::new(State { seen: NOTHING, entries: Vec::new() });
const NOTHING: Seen = Seen { added: 0, deleted: 0, modified: 0, closed_first: 0 };

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a function, and returns its calls on epoll instances and V4L2 devices. Leaves out entries that existed before.
pub fn watched<T>(test: impl FnOnce() -> T) -> (T, Seen) {
    *state() = State::default();
    IS_ON.store(true, Ordering::Relaxed);
    let done = test();
    IS_ON.store(false, Ordering::Relaxed);
    let state = state();
    assert!(state.entries.is_empty(), "epoll instances still watch {:?}", state.entries);
    (done, state.seen.clone())
}

/// Linux's major number of V4L2 devices.
const MAJOR: u32 = 81;

fn is_v4l2(fd: RawFd) -> bool {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes there, and nothing is read if it does not.
    unsafe { libc::fstat(fd, stat.as_mut_ptr()) == 0 && libc::major(stat.assume_init().st_rdev) == MAJOR }
}

// SAFETY: contract: the C library's function of this name, as the system call that it is.
#[no_mangle]
unsafe extern "C" fn epoll_ctl(epoll: c_int, op: c_int, fd: c_int, event: *mut c_void) -> c_int {
    // SAFETY: the caller answers for the arguments, which go to the kernel as they came.
    let done = unsafe { libc::syscall(libc::SYS_epoll_ctl, epoll, op, fd, event) } as c_int;
    if done == 0 && IS_ON.load(Ordering::Relaxed) && is_v4l2(fd) {
        let mut state = state();
        match op {
            libc::EPOLL_CTL_ADD => {
                state.seen.added += 1;
                state.entries.push((epoll, fd));
            }
            libc::EPOLL_CTL_DEL => {
                state.seen.deleted += 1;
                state.entries.retain(|entry| *entry != (epoll, fd));
            }
            _ => state.seen.modified += 1,
        }
    }
    done
}

// SAFETY: contract: the C library's function of this name, as the system call that it is.
#[no_mangle]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    if IS_ON.load(Ordering::Relaxed) {
        let mut state = state();
        if state.entries.iter().any(|(epoll, device)| *epoll == fd || *device == fd) {
            state.seen.closed_first += 1;
            state.entries.retain(|(epoll, device)| *epoll != fd && *device != fd);
        }
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}
