//! Events that a device reports besides its buffers.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::controls::ControlId;
use super::device::Device;
use crate::error::Result;
use crate::sys::v4l2::{self as uapi, EventSubscription, Plain};
use crate::sys::{v4l2_calls as calls, wait};

/// A kind of event to subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// The vertical sync of an output.
    VerticalSync,
    /// The end of a stream. The kernel deprecates this event. [`FrameFlags::LAST`](crate::frame::FrameFlags::LAST)
    /// marks the last frame instead.
    EndOfStream,
    /// A control's value or range changed.
    Control(ControlId),
    /// A new frame begins to arrive.
    FrameSync,
    /// The resolution or format changed. The number is the number of the input, or 0 for a decoder.
    SourceChange(u32),
}

impl EventKind {
    fn subscription(self) -> EventSubscription {
        let (kind, id) = match self {
            Self::VerticalSync => (1, 0),
            Self::EndOfStream => (2, 0),
            Self::Control(id) => (3, u32::from(id)),
            Self::FrameSync => (4, 0),
            Self::SourceChange(input) => (5, input),
        };
        EventSubscription { kind, id, ..EventSubscription::zeroed() }
    }
}

/// An event that a device reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The vertical sync of an output.
    VerticalSync,
    /// The end of a stream.
    EndOfStream,
    /// The value or range of a control changed.
    Control {
        /// The control that changed.
        id: ControlId,
        /// The present value, or 0 if the control's value is not a number.
        value: i64,
        /// The smallest and the largest value now.
        range: (i64, i64),
    },
    /// A new frame begins to arrive.
    FrameSync {
        /// The number that the frame will have.
        sequence: u32,
    },
    /// The source changed. Read the format (or the timings) again and reconfigure.
    SourceChange {
        /// The number of the input.
        input: u32,
        /// Bits of `V4L2_EVENT_SRC_CH_*`. Bit 0 means that the resolution changed.
        changes: u32,
    },
    /// An event that this crate does not know, with its `V4L2_EVENT_*` number.
    Other(u32),
}

fn decode(raw: &uapi::Event) -> Event {
    let mut data = [0u8; 64];
    for (to, word) in data.chunks_exact_mut(8).zip(raw.data) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    let word = |i: usize| u32::from_ne_bytes([data[i], data[i + 1], data[i + 2], data[i + 3]]);
    let signed = |i: usize| i64::from(word(i) as i32);
    match raw.kind {
        1 => Event::VerticalSync,
        2 => Event::EndOfStream,
        3 => {
            // changes, type, value (64 bits for an integer64), flags, minimum, maximum
            let value = if word(4) == 5 { raw.data[1] as i64 } else { signed(8) };
            Event::Control { id: ControlId::new(raw.id), value, range: (signed(20), signed(24)) }
        }
        4 => Event::FrameSync { sequence: word(0) },
        5 => Event::SourceChange { input: raw.id, changes: word(0) },
        other => Event::Other(other),
    }
}

impl Device {
    /// Subscribes to a kind of event. Subscriptions belong to the open file, so all clones of a `Device` share them.
    /// Ioctl: `VIDIOC_SUBSCRIBE_EVENT`.
    ///
    /// # Errors
    /// `InvalidArgument` or `Unsupported` if the driver does not have the event.
    #[doc(alias = "VIDIOC_SUBSCRIBE_EVENT")]
    pub fn subscribe(&self, kind: EventKind) -> Result<()> {
        calls::subscribe_event(self.as_fd(), &mut kind.subscription())
            .map_err(|e| self.failed("VIDIOC_SUBSCRIBE_EVENT", e).detail(format!("{}; {kind:?}", e.desc())))
    }

    /// Ends a subscription. Ioctl: `VIDIOC_UNSUBSCRIBE_EVENT`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug. Other errors are those of the driver.
    #[doc(alias = "VIDIOC_UNSUBSCRIBE_EVENT")]
    #[doc(hidden)]
    pub fn unsubscribe(&self, kind: EventKind) -> Result<()> {
        calls::unsubscribe_event(self.as_fd(), &mut kind.subscription())
            .map_err(|e| self.failed("VIDIOC_UNSUBSCRIBE_EVENT", e))
    }

    /// Returns the next pending event, if there is one. The device reports POLLPRI while events are pending. Ioctl:
    /// `VIDIOC_DQEVENT`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug.
    #[doc(alias = "VIDIOC_DQEVENT")]
    pub fn try_event(&self) -> Result<Option<Event>> {
        let mut raw = uapi::Event::zeroed();
        match calls::dqevent(self.as_fd(), &mut raw) {
            Ok(()) => Ok(Some(decode(&raw))),
            // ENOTTY: a driver without events.
            Err(Errno::ENOENT | Errno::EAGAIN | Errno::ENOTTY) => Ok(None),
            Err(e) => Err(self.failed("VIDIOC_DQEVENT", e)),
        }
    }

    /// Waits at most `timeout` for an event. Returns `None` if the time has passed.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug.
    #[doc(hidden)]
    pub fn event(&self, timeout: Duration) -> Result<Option<Event>> {
        wait::until(self.as_fd(), PollFlags::POLLPRI, wait::deadline(timeout)).map_err(|e| self.failed("poll", e))?;
        self.try_event()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u32, words: &[u32]) -> uapi::Event {
        let mut event = uapi::Event { kind, id: 7, ..uapi::Event::zeroed() };
        for (i, pair) in words.chunks(2).enumerate() {
            let mut bytes = [0; 8];
            for (to, word) in bytes.chunks_exact_mut(4).zip(pair) {
                to.copy_from_slice(&word.to_ne_bytes());
            }
            event.data[i] = u64::from_ne_bytes(bytes);
        }
        event
    }

    #[test]
    fn event_decodes_each_kind() {
        assert_eq!(decode(&raw(4, &[42])), Event::FrameSync { sequence: 42 });
        assert_eq!(decode(&raw(5, &[1])), Event::SourceChange { input: 7, changes: 1 });
        assert_eq!(decode(&raw(2, &[])), Event::EndOfStream);
        assert_eq!(decode(&raw(1, &[1])), Event::VerticalSync);
        assert_eq!(decode(&raw(99, &[1])), Event::Other(99));
        let control = raw(3, &[1, 1, -5i32 as u32, 0, 0, -10i32 as u32, 10]);
        assert_eq!(decode(&control), Event::Control { id: ControlId::new(7), value: -5, range: (-10, 10) });
        let mut wide = raw(3, &[1, 5]);
        wide.data[1] = 1 << 40;
        assert_eq!(decode(&wide), Event::Control { id: ControlId::new(7), value: 1 << 40, range: (0, 0) });
    }
}
