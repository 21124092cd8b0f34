//! Clocks that other processes and the kernel share with us.

use nix::time::{clock_gettime, ClockId};

fn read(clock: ClockId) -> u64 {
    // Neither clock can fail: both exist since Linux 2.6 and the pointer is nix's own.
    clock_gettime(clock)
        .map(|t| u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0))
        .unwrap_or(0)
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of V4L2 timestamps. A vDSO call.
pub(crate) fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// CPU time of this process, user and system, in nanoseconds. A system call, but one that measures: it is not counted.
pub(crate) fn process_cpu_ns() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}
