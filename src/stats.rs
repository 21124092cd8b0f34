//! A histogram of durations.
//!
//! ```
//! use framelease::stats::Histogram;
//!
//! let mut latency = Histogram::default();
//! (1..=1000).for_each(|us| latency.record_ns(us * 1000));
//! assert!(latency.quantile_ns(0.5) >= 500_000);
//! println!("{latency:?}");
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) static READ: AtomicU64 = AtomicU64::new(0);
pub(crate) static WRITTEN: AtomicU64 = AtomicU64::new(0);
pub(crate) static SOURCE: AtomicU64 = AtomicU64::new(0);

/// Bytes of shared pixels that the CPU has touched through this crate since the process began.
///
/// Measures "zero-copy": a camera, its publisher and its encoder leave `read` and `written` at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[doc(hidden)]
pub struct CpuBytes {
    /// Bytes copied out of buffers by [`CpuRead`](crate::dmabuf::CpuRead), or lent by it for reading in place.
    pub read: u64,
    /// Bytes copied into buffers by [`CpuWrite`](crate::dmabuf::CpuWrite).
    pub written: u64,
    /// Bytes written by a software source ([`TestPattern`](crate::capture::TestPattern)), which stands for a camera's
    /// DMA.
    pub source: u64,
}

/// Returns the [`CpuBytes`] of this process until now.
#[doc(hidden)]
pub fn cpu_bytes() -> CpuBytes {
    CpuBytes {
        read: READ.load(Ordering::Relaxed),
        written: WRITTEN.load(Ordering::Relaxed),
        source: SOURCE.load(Ordering::Relaxed),
    }
}

/// Returns how many system calls this crate has made in this thread, including waits and CPU-access brackets.
#[doc(hidden)]
pub fn syscalls() -> u64 {
    crate::sys::syscall_count::total()
}

/// Returns the CPU time of this process until now: user and system, all threads. Costs one system call, which
/// [`syscalls`] does not count.
#[doc(hidden)]
pub fn process_cpu_time() -> std::time::Duration {
    std::time::Duration::from_nanos(crate::sys::clock::process_cpu_ns())
}

/// Buckets per doubling: a quantile is off by at most one part in 16.
const STEPS: u64 = 16;
const BUCKETS: usize = (64 - 4 + 1) * STEPS as usize;

/// A histogram of durations in nanoseconds. The buckets are logarithmic, so a quantile is at most 6.25 % too large.
/// Recording does not allocate.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u32]>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, max: 0 }
    }
}

impl Histogram {
    /// Records one value, in nanoseconds.
    pub fn record_ns(&mut self, ns: u64) {
        let count = &mut self.counts[bucket(ns)];
        *count = count.saturating_add(1);
        self.total += 1;
        self.max = self.max.max(ns);
    }

    /// Returns how many values were recorded.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Returns the `q` quantile (0 to 1): 0.99 gives the duration that 99 % of the recorded values do not exceed.
    /// Returns 0 if there are no values.
    pub fn quantile_ns(&self, q: f64) -> u64 {
        let rank = ((self.total as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return upper(i).min(self.max);
            }
        }
        self.max
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Histogram({} values, p50 {}, p99 {})", self.total, self.quantile_ns(0.5), self.quantile_ns(0.99))
    }
}

fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let doubling = u64::from(ns.ilog2()) - 4;
    ((doubling + 1) * STEPS + ((ns >> doubling) - STEPS)) as usize
}

/// Returns the largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let (doubling, step) = (bucket / STEPS - 1, bucket % STEPS);
    ((STEPS + step) << doubling) + ((1 << doubling) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_known_values() {
        let mut h = Histogram::default();
        assert_eq!(h.quantile_ns(0.5), 0);
        (1..=1000).for_each(|i| h.record_ns(i * 1000));
        for (q, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let off = h.quantile_ns(q) as f64 / exact;
            assert!((1.0..1.07).contains(&off), "{q}: {off}");
        }
        assert_eq!((h.count(), h.quantile_ns(1.0)), (1000, 1_000_000));
    }

    proptest! {
        #[test]
        fn every_value_has_its_bucket(ns: u64) {
            let b = bucket(ns);
            prop_assert!(b < BUCKETS);
            prop_assert!(upper(b) >= ns);
            prop_assert!(b == 0 || upper(b - 1) < ns);
        }
    }
}
