//! Events that are not received yet, and the signal that announces them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::signal::Signal;

/// The rule for events that a program may ignore. After `dispatch`, unread events do not keep the station's
/// descriptor readable; only a new event makes it readable again.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    is_announced: bool,
}

impl Unread {
    /// Notes a new event.
    pub(crate) fn found(&mut self) {
        self.is_announced = true;
    }

    /// Notes that `dispatch` was called.
    pub(crate) fn looked(&mut self) {
        self.is_announced = false;
    }

    /// Notes that a call returned an event or found none. Announces the events that are left.
    pub(crate) fn given(&mut self, is_one_left: bool) {
        self.is_announced = is_one_left;
    }

    /// Returns `true` if the descriptor must be readable.
    pub(crate) fn is_announced(&self) -> bool {
        self.is_announced
    }
}

/// A signal that is readable while events are unread, by the rule of [`Unread`].
#[derive(Debug)]
pub(crate) struct UnreadSignal {
    unread: Unread,
    signal: Signal,
    is_set: bool,
}

impl UnreadSignal {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self { unread: Unread::default(), signal: Signal::new()?, is_set: false })
    }

    /// Notes a new event.
    pub(crate) fn found(&mut self) {
        self.unread.found();
        self.show();
    }

    /// Notes that `dispatch` was called.
    pub(crate) fn looked(&mut self) {
        self.unread.looked();
        self.show();
    }

    /// Notes that a call returned an event or found none. Announces the events that are left.
    pub(crate) fn given(&mut self, is_one_left: bool) {
        self.unread.given(is_one_left);
        self.show();
    }

    fn show(&mut self) {
        let wanted = self.unread.is_announced();
        if std::mem::replace(&mut self.is_set, wanted) != wanted {
            match wanted {
                true => self.signal.set(),
                false => self.signal.clear(),
            }
        }
    }
}

impl AsFd for UnreadSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

/// The events of a station that takes items. Bounded: the oldest event is dropped for a new one.
#[derive(Debug)]
pub(crate) struct EventQueue<E> {
    events: VecDeque<E>,
    most: usize,
    signal: UnreadSignal,
}

impl<E> EventQueue<E> {
    /// Creates a queue for at most this many events.
    pub(crate) fn new(most: usize) -> Result<Self, Errno> {
        Ok(Self { events: VecDeque::new(), most, signal: UnreadSignal::new()? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn push(&mut self, event: E) {
        if self.events.len() == self.most {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.signal.found();
    }

    /// Removes the oldest event. The caller returns it, then calls [`EventQueue::given`].
    pub(crate) fn pop(&mut self) -> Option<E> {
        self.events.pop_front()
    }

    /// Notes a new event that is not in this queue.
    pub(crate) fn found(&mut self) {
        self.signal.found();
    }

    /// Notes that `dispatch` was called.
    pub(crate) fn looked(&mut self) {
        self.signal.looked();
    }

    /// Notes that a call returned an event or found none. Announces the events that are left, in the queue or
    /// elsewhere.
    pub(crate) fn given(&mut self, is_other_left: bool) {
        self.signal.given(is_other_left || !self.events.is_empty());
    }
}

impl<E> AsFd for EventQueue<E> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wait;
    use std::time::Instant;

    fn is_readable<E>(queue: &EventQueue<E>) -> bool {
        wait::readable(queue.as_fd(), Instant::now()).unwrap() == wait::Waited::Ready
    }

    #[test]
    fn event_queue_is_bounded_and_readable_until_a_dispatch() {
        let mut queue = EventQueue::new(3).unwrap();
        assert!(!is_readable(&queue));
        (1..=5).for_each(|event| queue.push(event));
        assert!(is_readable(&queue));
        queue.looked();
        assert!(!is_readable(&queue), "unread, but dispatch was called");
        queue.push(6);
        assert!(is_readable(&queue), "another event is new");
        for (event, is_left) in [(4, true), (5, true), (6, false)] {
            assert_eq!(queue.pop(), Some(event));
            queue.given(false);
            assert_eq!(is_readable(&queue), is_left);
        }
        queue.found();
        assert!(is_readable(&queue), "an event outside of the queue");
        queue.looked();
        queue.given(true);
        assert!(is_readable(&queue), "a call that returns an event announces those that are left");
        queue.given(false);
        assert!(!is_readable(&queue));
    }
}
