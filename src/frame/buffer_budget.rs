//! How many buffers a pool needs.

use std::fmt;

/// The number of buffers that each user of a pool needs.
///
/// The default budget has 12 buffers. By default, cameras and test patterns request this number. A publisher of these
/// buffers admits three subscribers with default settings. An encoder of this process can then still use frames.
///
/// ```
/// use framelease::frame::BufferBudget;
///
/// let mut budget = BufferBudget::default();
/// budget.subscribers = 8; // Four subscribers that need 2 buffers each.
/// assert_eq!(budget.reserve(), 5);
/// assert_eq!(budget.total(), 14);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferBudget {
    /// Buffers that the driver needs to continue capturing. Most drivers need 2.
    pub driver: usize,
    /// Frames that this process uses at the same time, for example one in its main loop, one in an encoder and one on a
    /// display.
    pub local: usize,
    /// The sum of the quotas of all subscribers. A subscriber's quota is the number of frames that the subscriber may
    /// hold, plus the number of frames that may wait for the subscriber. Under `Latest` and `Block`, one frame may
    /// wait. Under `Fifo(n)`, n frames may wait.
    pub subscribers: usize,
}

impl Default for BufferBudget {
    /// Returns 2 for the driver, 3 for this process, and 6 for three subscribers that need 2 each.
    fn default() -> Self {
        Self { driver: 2, local: 3, subscribers: 6 }
    }
}

impl BufferBudget {
    /// Buffers for the newest frame, which a publisher keeps for subscribers that join late.
    const NEWEST: usize = 1;

    /// Returns the number of buffers that the pool needs.
    pub fn total(&self) -> usize {
        self.reserve().saturating_add(Self::NEWEST).saturating_add(self.subscribers)
    }

    /// Returns the number of buffers that subscribers never get. Pass this number to
    /// [`PublisherBuilder::reserve`](crate::share::PublisherBuilder::reserve).
    pub fn reserve(&self) -> usize {
        self.driver.saturating_add(self.local)
    }

    /// Returns the number of buffers that a pool of `slots` has for subscribers.
    pub(crate) fn left(slots: usize, reserve: usize) -> usize {
        slots.saturating_sub(reserve.saturating_add(Self::NEWEST))
    }

    /// Returns the text that explains why a pool cannot grant one more quota.
    pub(crate) fn explain(slots: usize, reserve: usize, granted: usize, wanted: usize) -> String {
        format!(
            "the pool has {slots} buffers: {reserve} for the driver and the publisher's process, {} for the newest frame, \
             {granted} for other subscribers; this subscriber needs {wanted}",
            Self::NEWEST
        )
    }
}

impl fmt::Display for BufferBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { driver, local, subscribers } = self;
        write!(
            f,
            "{} buffers: {driver} for the driver, {local} for this process, {} for the newest frame, {subscribers} for \
             subscribers",
            self.total(),
            Self::NEWEST
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_adds_up_and_says_so() {
        let budget = BufferBudget::default();
        assert_eq!((budget.total(), budget.reserve()), (12, 5));
        assert_eq!(BufferBudget::left(12, 5), 6);
        assert_eq!(BufferBudget::left(3, usize::MAX), 0);
        assert!(budget.to_string().starts_with("12 buffers: 2 for the driver"));
    }
}
