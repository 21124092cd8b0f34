//! Checks of stations: the descriptor, wake-ups, and waits that a signal ends.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use framelease::{Received, Station};
use nix::libc;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

/// `true` if the descriptor becomes readable within `timeout`.
pub fn is_readable_within(station: &impl AsFd, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        let mut fds = [PollFd::new(station.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left as i32).unwrap()) {
            Ok(0) if Instant::now() < deadline => {}
            Ok(_) => return fds[0].any().unwrap_or(false),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

pub fn is_readable(station: &impl AsFd) -> bool {
    is_readable_within(station, Duration::ZERO)
}

/// Counts the wake-ups of an event loop in a second without events.
pub fn idle_wakes<S: Station>(station: &mut S) -> usize
where
    S::Event: std::fmt::Debug,
{
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut wakes = 0;
    while is_readable_within(station, deadline.saturating_duration_since(Instant::now())) {
        wakes += 1;
        assert!(wakes < 100, "the descriptor stays readable");
        let got = station.try_recv().unwrap();
        assert!(got.is_nothing(), "{got:?}");
    }
    wakes
}

/// Checks that a signal handler ends a wait, with and without SA_RESTART.
pub fn assert_signal_ends_recv<S: Station>(station: &mut S)
where
    S::Event: std::fmt::Debug,
{
    for flags in [SaFlags::empty(), SaFlags::SA_RESTART] {
        let start = Instant::now();
        let got: Received<_> = signaled(flags, || station.recv(Duration::from_secs(10))).unwrap();
        assert!(got.is_nothing() && start.elapsed() < Duration::from_secs(5), "{flags:?}: {got:?}");
    }
}

/// Runs a signal handler in this thread during a call.
pub fn signaled<T>(flags: SaFlags, call: impl FnOnce() -> T) -> T {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), flags, SigSet::empty());
    // SAFETY: the handler does nothing, which is safe at any time.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    // SAFETY: no preconditions.
    let thread = unsafe { libc::pthread_self() } as usize;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            // SAFETY: the thread waits for the end of this scope.
            unsafe { libc::pthread_kill(thread as libc::pthread_t, libc::SIGUSR1) };
        });
        call()
    })
}
