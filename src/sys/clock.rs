//! Clocks that this process shares with the kernel and other processes.

use nix::time::{clock_gettime, ClockId};

fn read(clock: ClockId) -> u64 {
    // Neither clock can fail: both exist since Linux 2.6, and the pointer is nix's own.
    clock_gettime(clock)
        .map(|t| u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0))
        .unwrap_or(0)
}

/// Returns `CLOCK_MONOTONIC` in nanoseconds, which is the clock of V4L2 timestamps. A vDSO call.
pub(crate) fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Returns the CPU time of this process, user and system, in nanoseconds. This system call is not counted, because it
/// is only used for measurements.
pub(crate) fn process_cpu_ns() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}
