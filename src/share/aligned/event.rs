//! Events and counts of an [`Aligned`](super::Aligned).

use crate::frame::Frame;

/// What an [`Aligned`](super::Aligned) gives: sets of frames, and the other events of its sources.
#[derive(Debug)]
#[non_exhaustive]
pub enum AlignedEvent<E, const N: usize> {
    /// One frame of each source, in the order of the sources.
    Frames([Frame; N]),
    /// Another event of a source, with the source's index. The frames of this source that waited for others were
    /// released, because they may belong to a connection or a stream that is over.
    Source(usize, E),
}

/// Counts of an [`Aligned`](super::Aligned) since it was created. The arrays are in the order of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlignedStats<const N: usize> {
    /// Sets that the program received.
    pub sets: u64,
    /// Frames that were released because another source had no frame of that time.
    pub unmatched: [u64; N],
    /// Frames that were released because newer ones of the same source came while another source gave none.
    pub overflowed: [u64; N],
    /// Frames whose timestamp is not in `CLOCK_MONOTONIC`. They were matched by the time at which they were published
    /// or received.
    pub undated: [u64; N],
}

impl<const N: usize> Default for AlignedStats<N> {
    fn default() -> Self {
        Self { sets: 0, unmatched: [0; N], overflowed: [0; N], undated: [0; N] }
    }
}
