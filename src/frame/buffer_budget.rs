//! How many buffers a pool needs.

use std::fmt;

/// Who needs the buffers of one pool, and how many. The one place where they are added up.
///
/// The defaults fit each other: a camera or test pattern has as many buffers as the default budget, and a publisher of
/// its frames admits three subscribers with default settings beside an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferBudget {
    /// Buffers that the driver needs to go on capturing. 2 for most.
    pub driver: usize,
    /// Frames that this process has in use at a time: the frame in hand, an encoder's, a display's.
    pub local: usize,
    /// The sum of the quotas of all subscribers. A subscriber's quota is what it may hold, and what may wait for it: 1
    /// under `Latest` and `Block`, n under `Fifo(n)`.
    pub subscribers: usize,
}

impl Default for BufferBudget {
    /// 2 for the driver, 3 for this process, 6 for three subscribers of 2 each.
    fn default() -> Self {
        Self { driver: 2, local: 3, subscribers: 6 }
    }
}

impl BufferBudget {
    /// The newest frame, which a publisher keeps for subscribers that join late.
    const NEWEST: usize = 1;

    /// Returns the number of buffers that the pool needs.
    pub fn total(&self) -> usize {
        self.reserve().saturating_add(Self::NEWEST).saturating_add(self.subscribers)
    }

    /// Returns what subscribers can never have: [`PublisherBuilder::reserve`](crate::share::PublisherBuilder::reserve).
    pub fn reserve(&self) -> usize {
        self.driver.saturating_add(self.local)
    }

    /// Returns what a pool of `slots` has for subscribers.
    pub(crate) fn left(slots: usize, reserve: usize) -> usize {
        slots.saturating_sub(reserve.saturating_add(Self::NEWEST))
    }

    /// Why a pool has no room for one more quota.
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
