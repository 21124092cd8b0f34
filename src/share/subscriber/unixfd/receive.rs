//! How a subscriber handles what a `unixfdsink` says: one message at a time, nothing of it trusted.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::memory::{self, Set};
use super::pending_releases::MAX_UNSENT;
use super::{picture, Connected, State, UnixfdSubscriber};
use crate::dmabuf::Shrinkable;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::{FrameFlags, FrameMeta};
use crate::log::event;
use crate::share::policy::Policy;
use crate::share::subscriber::{Event, Reconnect};
use crate::share::unixfd::caps::Caps;
use crate::share::unixfd::from_sink::{NewBuffer, Said};
use crate::share::wire::MAX_SLOTS;
use crate::sys::clock::monotonic_ns;
use crate::sys::socket::{self, Block, Received};

/// Receives in one call of `try_next`, so that one who never ends cannot keep it. More are read in the next.
const MOST_RECEIVES: usize = 1_000;

/// What one receive came to.
pub(super) enum Step {
    Event(Event),
    Handled,
    Nothing,
}

impl UnixfdSubscriber {
    /// Reads what there is, as far as there is a use for it, and takes the first event.
    pub(super) fn advance(&mut self) -> Result<Option<Event>> {
        self.flush()?;
        for receives in 0.. {
            let State::Up(c) = &self.state else { return Ok(None) };
            if !c.reads(self.settings.policy) {
                break;
            }
            if receives == MOST_RECEIVES {
                c.owed.wake();
                break;
            }
            match self.receive()? {
                Step::Event(event) => return Ok(Some(event)),
                Step::Handled => {}
                Step::Nothing => break,
            }
        }
        self.deliver()
    }

    /// Sends the releases that found no room. While some are left, the timer wakes us to try again.
    fn flush(&mut self) -> Result<()> {
        let State::Up(c) = &self.state else { return Ok(()) };
        let left = c.owed.flush();
        if left > MAX_UNSENT {
            return self.violated("it does not read what is released");
        }
        self.reconnector.alarm().set_owing(left > 0);
        Ok(())
    }

    fn deliver(&mut self) -> Result<Option<Event>> {
        let event = self.take_event();
        let State::Up(c) = &mut self.state else { return Ok(event) };
        if event.is_some() {
            // Whoever takes one event for each time that the descriptor is readable is to get the next, too.
            let has_more = match c.waiting.len() {
                0 => c.is_ended || !c.is_watched,
                waiting => c.owed.has_credit(waiting),
            };
            if has_more {
                c.owed.wake();
            }
            return Ok(event);
        }
        // What is not read must not keep the descriptor readable.
        let reads = c.reads(self.settings.policy);
        if reads != c.is_watched {
            let socket = c.owed.socket();
            let changed = match reads {
                true => self.reconnector.watch(socket),
                false => self.reconnector.epoll().delete(socket),
            };
            changed.map_err(|e| Error::os("epoll_ctl", e).on(self.settings.path.display()))?;
            c.is_watched = reads;
        }
        Ok(None)
    }

    fn take_event(&mut self) -> Option<Event> {
        let State::Up(c) = &mut self.state else { return None };
        if std::mem::take(&mut c.is_back) {
            self.counts.reconnects += 1;
            return Some(Event::Reconnected);
        }
        let Some(front) = c.waiting.front() else {
            return std::mem::take(&mut c.is_ended).then_some(Event::Ended);
        };
        let buffers = front.buffers();
        if c.told.as_ref().map_or(true, |told| told.id() != buffers.id()) {
            let told = c.told.replace(buffers.clone());
            let layout = *buffers.layout();
            if told.map_or(true, |told| is_other_format(told.layout(), &layout)) {
                return Some(Event::Format(layout));
            }
        }
        if !c.owed.has_credit(c.waiting.len()) {
            return None;
        }
        let frame = c.waiting.pop_front()?;
        self.counts.received += 1;
        let meta = FrameMeta { dropped: self.counts.dropped, ..*frame.meta() };
        Some(Event::Frame(frame.with_meta(meta)))
    }

    /// Reads a part of a message, and handles the message if it is complete.
    pub(super) fn receive(&mut self) -> Result<Step> {
        let State::Up(c) = &mut self.state else { return Ok(Step::Nothing) };
        let socket = c.owed.socket().as_fd();
        match socket::receive_with_fds(socket, c.inbox.room(), Block::DontWait, &mut c.fresh) {
            Ok(Received::Message(len)) => c.inbox.received(len),
            Ok(Received::WouldBlock) => return Ok(Step::Nothing),
            // Reported once when the peer closed without reading all; what it sent before is still to be read.
            Err(Errno::ECONNRESET) => return Ok(Step::Handled),
            Ok(Received::Closed) => return Ok(self.lost()),
            Ok(Received::FdsLost(_) | Received::Truncated) => {
                let text = "descriptors were lost: too many in one message, or no more can be opened here";
                let error = self.error(ErrorKind::Exhausted, "NEW_BUFFER", text.into());
                return self.failed(error);
            }
            Err(e) => return self.failed(Error::os("recvmsg", e).on(self.settings.path.display())),
        }
        if c.fresh.len() > 0 {
            if c.fds.len() > 0 {
                return self.violated("descriptors in two parts of one message");
            }
            std::mem::swap(&mut c.fds, &mut c.fresh);
        }
        let said = match c.inbox.next() {
            Ok(Some(said)) => said,
            Ok(None) => return Ok(Step::Handled),
            Err(what) => return self.violated(&what),
        };
        if !std::mem::replace(&mut c.is_greeted, true) {
            c.is_back = std::mem::replace(&mut self.was_up, true);
            self.reconnector.is_taken();
            event!("{}: the sink is there", self.settings.path.display());
        }
        if !matches!(said, Said::Buffer(_)) && c.fds.len() > 0 {
            return self.violated("descriptors with a message that has none");
        }
        match said {
            Said::Buffer(buffer) => self.buffer(&buffer),
            // Its pipeline has not come so far.
            Said::Caps(text) if text == "NULL" => {
                c.caps = None;
                Ok(Step::Handled)
            }
            Said::Caps(text) => match Caps::parse(&text) {
                Ok(caps) => {
                    c.caps = Some(caps);
                    Ok(Step::Handled)
                }
                Err(e) => self.failed(e.on(self.settings.path.display())),
            },
            Said::End => {
                c.is_ended = true;
                Ok(Step::Handled)
            }
            Said::Other => Ok(Step::Handled),
        }
    }

    fn buffer(&mut self, buffer: &NewBuffer) -> Result<Step> {
        let State::Up(c) = &mut self.state else { return Ok(Step::Nothing) };
        let depth = self.settings.policy.depth() as usize;
        // All that may be out at a time, so that a set is not full for that alone.
        let slots = usize::from(self.settings.slots).max(usize::from(self.settings.hold) + depth + 1).min(MAX_SLOTS);
        let is_full = c.waiting.len() >= depth;
        // One that is not wanted takes no slot.
        let is_wanted = !is_full || !matches!(self.settings.policy, Policy::Fifo(_));
        let done = c.check(buffer).and_then(|caps| match is_wanted {
            true => c.frame(&caps, buffer, self.settings.shrinkable, slots),
            false => Ok(c.pass(buffer)),
        });
        match done {
            Ok(lost) => self.counts.lost += u64::from(lost),
            Err(e) => return self.failed(e.on(self.settings.path.display())),
        }
        if is_full {
            self.counts.dropped += 1;
            if is_wanted {
                c.waiting.pop_front();
            }
        }
        Ok(Step::Handled)
    }

    fn violated<T>(&mut self, what: &str) -> Result<T> {
        let text = format!("the sink broke the protocol: {what}");
        let error = self.error(ErrorKind::Protocol, "receive", text);
        self.failed(error)
    }

    fn failed<T>(&mut self, error: Error) -> Result<T> {
        self.reconnector.hold_off();
        self.lost();
        Err(error)
    }

    /// The connection is gone. Frames that are still held stay mapped, but are not leased any more; those that wait are
    /// dropped.
    fn lost(&mut self) -> Step {
        let mut was_told = false;
        if let State::Up(c) = std::mem::replace(&mut self.state, State::Over) {
            // Of one that came and went between two calls the user knows nothing.
            was_told = c.is_greeted && !c.is_back;
            self.counts.dropped += c.waiting.len() as u64;
            // Not with the descriptors: frames that are held have them.
            let _ = self.reconnector.epoll().delete(c.owed.signal());
            if c.is_watched {
                let _ = self.reconnector.epoll().delete(c.owed.socket());
            }
        }
        event!("{}: the connection is gone", self.settings.path.display());
        if self.settings.reconnect == Reconnect::Never {
            self.reconnector.be_quiet();
            return Step::Event(Event::Ended);
        }
        self.state = State::Down { next: self.reconnector.lost() };
        match was_told {
            true => Step::Event(Event::Lost),
            false => Step::Handled,
        }
    }
}

fn lie(what: String) -> Error {
    Error::new(ErrorKind::Protocol, "NEW_BUFFER", what)
}

/// Whether a user who is set up for one must be told of the other: a bitstream's buffers may be of any size.
fn is_other_format(a: &Layout, b: &Layout) -> bool {
    match a.is_compressed() && b.is_compressed() {
        true => (a.fourcc(), a.size(), a.colorimetry()) != (b.fourcc(), b.size(), b.colorimetry()),
        false => a != b,
    }
}

impl Connected {
    /// What can be said of a buffer before it is looked at.
    fn check(&self, buffer: &NewBuffer) -> Result<Caps> {
        let caps = self.caps.ok_or_else(|| lie("a buffer before CAPS".into()))?;
        if self.fds.len() != buffer.memory().len() {
            return Err(lie(format!("{} descriptors for {} memories", self.fds.len(), buffer.memory().len())));
        }
        if self.owed.has(buffer.id) {
            return Err(lie(format!("buffer {:#x} again before it was released", buffer.id)));
        }
        Ok(caps)
    }

    /// Gives a buffer back at once. How many are missing before it.
    fn pass(&mut self, buffer: &NewBuffer) -> u32 {
        self.fds.clear();
        self.owed.give_back(buffer.id);
        self.number(buffer).1
    }

    /// Makes a buffer a frame, which waits. How many are missing before it.
    fn frame(&mut self, caps: &Caps, buffer: &NewBuffer, shrinkable: Shrinkable, slots: usize) -> Result<u32> {
        let (mut layout, payload) = picture::of(caps, buffer)?;
        let planes = memory::take(&mut self.fds, self.set.as_ref(), shrinkable);
        self.fds.clear();
        let planes = planes.map_err(|e| lie(e.to_string()))?;
        for (memory, told) in planes.iter().flatten().zip(buffer.memory()) {
            if told.offset_bytes.checked_add(told.bytes).map_or(true, |end| end > memory.size_bytes() as u64) {
                return Err(lie(format!("{told:?} of a memory of {} bytes", memory.size_bytes())));
            }
        }
        if layout.is_compressed() {
            let size = planes[0].as_ref().map_or(0, |m| m.size_bytes());
            layout = self.bitstream(&layout, u32::try_from(size).unwrap_or(u32::MAX))?;
        }
        let fits = self.set.as_ref().filter(|set| *set.buffers().layout() == layout);
        let lent = fits.and_then(|set| set.lend(&self.owed, buffer.id, &planes));
        let frame = match lent {
            Some(frame) => frame,
            None => {
                let set = Set::new(&self.owed, self.sets, layout, slots, &planes);
                self.sets = self.sets.wrapping_add(1);
                let frame = set.lend(&self.owed, buffer.id, &planes);
                self.set = Some(set);
                frame.ok_or_else(|| lie("a set without slots".into()))?
            }
        };
        let mut flags = FrameFlags::MONOTONIC;
        flags.set(FrameFlags::ERROR, buffer.is_damaged());
        flags.set(FrameFlags::KEY, layout.is_compressed() && !buffer.is_delta());
        let (sequence, lost) = self.number(buffer);
        let timestamp_ns = buffer.pts_ns.unwrap_or_else(monotonic_ns);
        let meta = FrameMeta { sequence, timestamp_ns, lost, flags, payload, ..FrameMeta::default() };
        self.waiting.push_back(frame.freeze(meta));
        Ok(lost)
    }

    /// The layout of a bitstream whose buffer has so many bytes: the current one's, if the buffer is as large and the
    /// data are no more. Buffers that differ a little in size are no new format each.
    fn bitstream(&self, own: &Layout, buffer_bytes: u32) -> Result<Layout> {
        let current = self.set.as_ref().map(|set| *set.buffers().layout());
        let data_bytes = own.memory_bytes()[0];
        let with = |bytes: u32| {
            Layout::from_strides(own.fourcc(), own.size(), &[], &[bytes]).map(|l| l.with_colorimetry(own.colorimetry()))
        };
        match current {
            Some(current)
                if current.is_compressed() && (data_bytes..=buffer_bytes).contains(&current.memory_bytes()[0]) =>
            {
                with(current.memory_bytes()[0])
            }
            _ => with(buffer_bytes),
        }
    }

    /// A frame's number, and how many are missing before it.
    fn number(&mut self, buffer: &NewBuffer) -> (u64, u32) {
        let has_gap = buffer.has_gap() && self.expected.is_some();
        let expected = self.expected.unwrap_or(0);
        let (sequence, lost) = match (buffer.number, self.expected) {
            (Some(number), Some(expected)) => (number, number.saturating_sub(expected).max(has_gap.into())),
            (Some(number), None) => (number, 0),
            (None, _) => (expected.saturating_add(has_gap.into()), has_gap.into()),
        };
        self.expected = sequence.checked_add(1);
        (sequence, u32::try_from(lost).unwrap_or(u32::MAX))
    }
}
