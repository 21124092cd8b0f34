//! An event loop of one descriptor, and signals.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

/// An epoll instance that watches a station's descriptor, level-triggered for EPOLLIN, from the first call on.
pub struct Watch {
    epoll: Epoll,
    fd: RawFd,
}

impl Watch {
    pub fn new(station: &impl AsFd) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        epoll.add(station.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
        Self { epoll, fd: station.as_fd().as_raw_fd() }
    }

    /// Watches the descriptor edge-triggered, as tokio and mio do.
    pub fn edges(station: &impl AsFd) -> Self {
        let watch = Self::new(station);
        let event = &mut EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        watch.epoll.modify(station.as_fd(), event).unwrap();
        watch
    }

    /// Returns `true` if the descriptor becomes readable within `timeout`.
    pub fn is_readable_within(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            let timeout = EpollTimeout::try_from(left as i32).unwrap();
            match self.epoll.wait(&mut [EpollEvent::empty()], timeout) {
                Ok(0) if Instant::now() < deadline => {}
                Ok(count) => return count > 0,
                Err(Errno::EINTR) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }

    pub fn is_readable(&self) -> bool {
        self.is_readable_within(Duration::ZERO)
    }

    /// Asserts that the station still has its descriptor, by number and by file: an epoll instance forgets a file that
    /// was closed, and refuses to add a file that it has.
    #[track_caller]
    pub fn assert_has(&self, station: &impl AsFd) {
        assert_eq!(station.as_fd().as_raw_fd(), self.fd, "another number");
        let again = self.epoll.add(station.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0));
        assert_eq!(again, Err(Errno::EEXIST), "another file");
    }
}

/// Runs a signal handler in this thread during a call, again and again until it returns.
pub fn signaled<T>(flags: SaFlags, call: impl FnOnce() -> T) -> T {
    // The handler belongs to the whole process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), flags, SigSet::empty());
    // SAFETY: the handler does nothing, which is safe at any time.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    // SAFETY: no preconditions.
    let thread = unsafe { libc::pthread_self() } as usize;
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(50));
                // SAFETY: the thread waits for the end of this scope.
                unsafe { libc::pthread_kill(thread as libc::pthread_t, libc::SIGUSR1) };
            }
        });
        let returned = call();
        is_done.store(true, Ordering::Release);
        returned
    })
}

/// CPU time of this thread.
pub fn thread_cpu() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::new(time.tv_sec() as u64, time.tv_nsec() as u32)
}
