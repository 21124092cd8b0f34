//! The events and counts of a scanout.

use crate::error::Error;
use crate::sys::event_queue::Unread;

/// An event of a [`Scanout`](super::Scanout).
#[derive(Debug)]
#[non_exhaustive]
pub enum ScanoutEvent {
    /// The screen shows the presented picture. If several flips complete between two calls, only the newest is
    /// reported.
    Shown(Flipped),
    /// The display was unplugged (kind `Disconnected`), or the device is gone (kind `DeviceLost`). Each loss is
    /// reported once. After the loss of the display, the device can still be lost.
    Lost(Error),
    /// The display or the device is back. Reported once after a loss, even if the caller has already called
    /// [`Scanout::reopen`](super::Scanout::reopen). If the device was lost, call `reopen`.
    Returned,
}

/// A flip that has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flipped {
    /// The CRTC's count of vertical blanks at the flip. It wraps.
    pub vblank: u32,
    /// Time at which the first pixel of the new picture was sent, by `CLOCK_MONOTONIC`, in nanoseconds. Comparable
    /// with [`FrameMeta::timestamp_ns`](crate::frame::FrameMeta::timestamp_ns).
    pub time_ns: u64,
    /// The number of vertical blanks that passed between submission and completion without the flip. 0 if the flip was
    /// in time.
    pub missed: u32,
}

/// Counts of a scanout since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanoutStats {
    /// Flips that have completed.
    pub flips: u64,
    /// The sum of [`Flipped::missed`].
    pub missed_vblanks: u64,
    /// Frames that were staged and replaced before they were shown.
    pub replaced: u64,
    /// Framebuffers that exist for the pools in use.
    pub framebuffers: usize,
}

/// The events that are not received yet. Bounded: an event replaces an older one of its kind.
#[derive(Debug, Default)]
pub(super) struct ScanoutEvents {
    shown: Option<Flipped>,
    lost: Option<Error>,
    has_returned: bool,
    unread: Unread,
}

impl ScanoutEvents {
    pub(super) fn shown(&mut self, flipped: Flipped) {
        self.shown = Some(flipped);
        self.unread.found();
    }

    pub(super) fn lost(&mut self, error: Error) {
        // Several losses that were not received are reported as one, without the return in between.
        self.has_returned = false;
        self.lost = Some(error);
        self.unread.found();
    }

    pub(super) fn returned(&mut self) {
        self.has_returned = true;
        self.unread.found();
    }

    /// Notes that `dispatch` was called.
    pub(super) fn looked(&mut self) {
        self.unread.looked();
    }

    /// Returns `true` if the descriptor must be readable.
    pub(super) fn are_announced(&self) -> bool {
        self.unread.is_announced()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shown.is_none() && self.lost.is_none() && !self.has_returned
    }

    pub(super) fn pop(&mut self) -> Option<ScanoutEvent> {
        let event = self.first();
        self.unread.given(!self.is_empty());
        event
    }

    fn first(&mut self) -> Option<ScanoutEvent> {
        if self.lost.is_none() && self.has_returned {
            // A flip after the return is reported after it.
            self.has_returned = false;
            return Some(ScanoutEvent::Returned);
        }
        let shown = self.shown.take().map(ScanoutEvent::Shown);
        shown.or_else(|| self.lost.take().map(ScanoutEvent::Lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn flipped(vblank: u32) -> Flipped {
        Flipped { vblank, time_ns: 0, missed: 0 }
    }

    fn all(events: &mut ScanoutEvents) -> String {
        let name = |event| match event {
            ScanoutEvent::Shown(flipped) => format!("{}", flipped.vblank),
            ScanoutEvent::Lost(error) => format!("lost {:?}", error.op()),
            ScanoutEvent::Returned => "returned".into(),
        };
        std::iter::from_fn(|| events.pop()).map(name).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn scanout_events_are_bounded_and_in_order() {
        let error = |op| Error::new(ErrorKind::Disconnected, op, "");
        let mut events = ScanoutEvents::default();
        assert!(events.is_empty() && !events.are_announced());
        (1..9).for_each(|vblank| events.shown(flipped(vblank)));
        assert_eq!(all(&mut events), "8");
        events.shown(flipped(1));
        events.lost(error("a"));
        events.returned();
        assert_eq!(all(&mut events), "1, lost \"a\", returned");
        events.lost(error("a"));
        events.returned();
        events.lost(error("b"));
        assert_eq!(all(&mut events), "lost \"b\"");
        events.returned();
        assert!(events.are_announced());
        events.looked();
        assert!(!events.are_announced() && !events.is_empty());
        events.shown(flipped(2));
        assert!(events.are_announced() && !events.is_empty());
        assert_eq!(all(&mut events), "returned, 2");
        assert!(events.is_empty());
    }
}
