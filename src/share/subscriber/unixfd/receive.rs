//! Handles the messages of a `unixfdsink`, one at a time, and checks every field.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;

use super::memory::{self, Set};
use super::pending_releases::{PendingReleases, MAX_UNSENT};
use super::{picture, wire, Connected, Unixfd};
use crate::dmabuf::Shrinkable;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::Flags;
use crate::format::Layout;
use crate::frame::{FrameFlags, FrameMeta};
use crate::share::policy::Policy;
use crate::share::subscriber::event::SubscriberEvent;
use crate::share::subscriber::reconnect::Reconnector;
use crate::share::subscriber::session::{connect_error, Dialect, Fault, Io, Read};
use crate::share::unixfd::caps::{Caps, Fields};
use crate::share::unixfd::from_sink::{NewBuffer, Said};
use crate::share::wire::MAX_SLOTS;
use crate::sys::clock::monotonic_ns;
use crate::sys::socket::{self, Block, Carries, FdInbox, Received};
use crate::sys::wait::{self, Waited};

/// How many receives one call makes. A sink that sends without pause cannot keep the caller; the next call reads on.
const MOST_RECEIVES: usize = 1_000;

impl Dialect for Unixfd {
    type Link = Connected;

    fn open(&mut self, reconnector: &Reconnector) -> Result<Connected> {
        let os = |op| move |e| Error::os(op, e);
        let socket = socket::connect(&self.settings.path, Carries::Bytes).map_err(|e| match e {
            Errno::EPROTOTYPE => {
                os("connect")(e).kind_is(ErrorKind::WrongFile).detail("not a unixfdsink: the socket carries messages")
            }
            e => connect_error(e),
        })?;
        let depth = self.settings.policy.depth() as usize;
        // One more arrives before one that waits is released.
        let releases = PendingReleases::new(socket, self.settings.hold.into(), depth + 1).map_err(os("eventfd"))?;
        reconnector.watch(releases.socket()).map_err(os("epoll_ctl"))?;
        if let Err(e) = reconnector.watch(releases.signal()) {
            reconnector.unwatch(releases.socket());
            return Err(os("epoll_ctl")(e));
        }
        Ok(Connected {
            releases,
            inbox: wire::Inbox::default(),
            fds: FdInbox::default(),
            fresh: FdInbox::default(),
            is_greeted: false,
            caps: None,
            set: None,
            sets: 0,
            reported: None,
            waiting: std::collections::VecDeque::with_capacity(depth + 1),
            is_ended: false,
            is_watched: true,
            expected: None,
        })
    }

    fn close(&mut self, c: Connected, io: &mut Io) {
        io.counts.dropped = io.counts.dropped.saturating_add(c.waiting.len() as u64);
        // Before the descriptors are closed: frames that are held keep them open.
        io.reconnector.unwatch(c.releases.signal());
        if c.is_watched {
            io.reconnector.unwatch(c.releases.socket());
        }
    }

    fn is_admitted(c: &Connected) -> bool {
        c.is_greeted
    }

    fn read(&mut self, c: &mut Connected, io: &mut Io, deadline: Option<Instant>) -> std::result::Result<Read, Fault> {
        let mut is_read = false;
        flush(c, io)?;
        for receives in 0.. {
            if !c.reads(self.settings.policy) {
                break;
            }
            if receives == MOST_RECEIVES {
                c.releases.wake();
                break;
            }
            match self.receive(c, io)? {
                Read::Some => is_read = true,
                Read::Nothing | Read::Interrupted => break,
            }
            if !c.is_greeted {
                break;
            }
        }
        if self.deliver(c, io)? {
            return Ok(Read::Some);
        }
        match deadline {
            Some(deadline) if !is_read => {
                match wait::readable(io.reconnector.as_fd(), deadline).map_err(io.failed("poll"))? {
                    Waited::Ready => Ok(Read::Some),
                    Waited::TimedOut => Ok(Read::Nothing),
                    Waited::Interrupted => Ok(Read::Interrupted),
                }
            }
            _ => Ok(Read::Nothing),
        }
    }
}

/// Sends the releases that found no room. If some remain, the timer wakes the subscriber to try again.
fn flush(c: &Connected, io: &Io) -> std::result::Result<(), Fault> {
    let left = c.releases.flush();
    if left > MAX_UNSENT {
        return violated(io, "it does not read releases");
    }
    io.reconnector.alarm().set_owing(left > 0);
    Ok(())
}

fn violated<T>(io: &Io, what: &str) -> std::result::Result<T, Fault> {
    Err(io.error(ErrorKind::Protocol, "receive", format!("the sink broke the protocol: {what}")).into())
}

impl Unixfd {
    /// Adds the next event. Returns `false` if nothing is to be reported.
    fn deliver(&self, c: &mut Connected, io: &mut Io) -> std::result::Result<bool, Fault> {
        if let Some(event) = take_event(c, io) {
            io.events.push_back(event);
            // A caller that takes one event each time that the descriptor is readable must get the next event, too.
            let has_more = match c.waiting.len() {
                0 => c.is_ended || !c.is_watched,
                waiting => c.releases.has_credit(waiting),
            };
            if has_more {
                c.releases.wake();
            }
            return Ok(true);
        }
        // A socket that is not read must not keep the descriptor readable.
        let reads = c.reads(self.settings.policy);
        if reads != c.is_watched {
            if reads {
                io.reconnector.watch(c.releases.socket()).map_err(io.failed("epoll_ctl"))?;
            } else {
                io.reconnector.unwatch(c.releases.socket());
            }
            c.is_watched = reads;
        }
        Ok(false)
    }

    /// Reads a part of a message, and handles the message if it is complete.
    fn receive(&self, c: &mut Connected, io: &mut Io) -> std::result::Result<Read, Fault> {
        let socket = c.releases.socket().as_fd();
        match socket::receive_with_fds(socket, c.inbox.room(), Block::DontWait, &mut c.fresh) {
            Ok(Received::Message(len)) => c.inbox.received(len),
            Ok(Received::WouldBlock | Received::Interrupted) => return Ok(Read::Nothing),
            // Reported once if the peer closed without reading everything. Earlier messages can still be read.
            Err(Errno::ECONNRESET) => return Ok(Read::Some),
            Ok(Received::Closed) => return Err(Fault::clean(&io.path, "the sink hung up")),
            Ok(Received::FdsLost(_) | Received::Truncated) => {
                let text = "descriptors were lost: too many in one message, or no more can be opened here";
                return Err(io.error(ErrorKind::Exhausted, "NEW_BUFFER", text).into());
            }
            Err(e) => return Err(io.failed("recvmsg")(e).into()),
        }
        if c.fresh.len() > 0 {
            if c.fds.len() > 0 {
                return violated(io, "descriptors in two parts of one message");
            }
            std::mem::swap(&mut c.fds, &mut c.fresh);
        }
        let said = match c.inbox.next() {
            Ok(Some(said)) => said,
            Ok(None) => return Ok(Read::Some),
            Err(what) => return violated(io, &what),
        };
        c.is_greeted = true;
        if !matches!(said, Said::Buffer(_)) && c.fds.len() > 0 {
            return violated(io, "descriptors with a message that must not have any");
        }
        match said {
            Said::Buffer(buffer) => self.buffer(c, io, &buffer)?,
            // The sink's pipeline has not negotiated its caps yet.
            Said::Caps(text) if text == "NULL" => c.caps = None,
            Said::Caps(text) => c.caps = Some(Caps::parse(&text).map_err(|e| e.on(io.path.display()))?),
            Said::End => c.is_ended = true,
            Said::Other => {}
        }
        Ok(Read::Some)
    }

    fn buffer(&self, c: &mut Connected, io: &mut Io, buffer: &NewBuffer) -> std::result::Result<(), Fault> {
        let depth = self.settings.policy.depth() as usize;
        // As many slots as buffers can be out at a time, so that a set does not fill up by these alone.
        let slots = usize::from(self.settings.slots).max(usize::from(self.settings.hold) + depth + 1).min(MAX_SLOTS);
        let is_full = c.waiting.len() >= depth;
        // A frame that is not wanted takes no slot.
        let is_wanted = !is_full || !matches!(self.settings.policy, Policy::Fifo(_));
        let done = c.check(buffer).and_then(|caps| match is_wanted {
            true => c.frame(&caps, buffer, self.settings.shrinkable, slots),
            false => Ok(c.pass(buffer)),
        });
        let lost = done.map_err(|e| e.on(io.path.display()))?;
        io.counts.lost = io.counts.lost.saturating_add(u64::from(lost));
        if is_full {
            io.counts.dropped += 1;
            if is_wanted {
                c.waiting.pop_front();
            }
        }
        Ok(())
    }
}

fn take_event(c: &mut Connected, io: &mut Io) -> Option<SubscriberEvent> {
    let Some(front) = c.waiting.front() else {
        return std::mem::take(&mut c.is_ended).then_some(SubscriberEvent::Paused);
    };
    let buffers = front.buffers();
    if c.reported.as_ref().map_or(true, |reported| reported.id() != buffers.id()) {
        let reported = c.reported.replace(buffers.clone());
        if reported.map_or(true, |reported| is_other_format(reported.layout(), buffers.layout())) {
            return Some(SubscriberEvent::Format(buffers.clone()));
        }
    }
    if !c.releases.has_credit(c.waiting.len()) {
        return None;
    }
    let frame = c.waiting.pop_front()?;
    io.counts.received += 1;
    let meta = FrameMeta { dropped: io.counts.dropped, ..*frame.meta() };
    Some(SubscriberEvent::Frame(frame.with_meta(meta)))
}

fn violation(what: String) -> Error {
    Error::new(ErrorKind::Protocol, "NEW_BUFFER", what)
}

/// Returns `true` if the caller must be notified of the change. A bitstream's buffers may be of any size.
fn is_other_format(a: &Layout, b: &Layout) -> bool {
    match a.is_compressed() && b.is_compressed() {
        true => (a.fourcc(), a.size(), a.colorimetry()) != (b.fourcc(), b.size(), b.colorimetry()),
        false => a != b,
    }
}

impl Connected {
    /// Checks a buffer before its memories are looked at.
    fn check(&self, buffer: &NewBuffer) -> Result<Caps> {
        let caps = self.caps.ok_or_else(|| violation("a buffer before CAPS".into()))?;
        if self.fds.len() != buffer.memory().len() {
            return Err(violation(format!("{} descriptors for {} memories", self.fds.len(), buffer.memory().len())));
        }
        if self.releases.has(buffer.id) {
            return Err(violation(format!("buffer {:#x} again before it was released", buffer.id)));
        }
        Ok(caps)
    }

    /// Gives a buffer back at once. Returns how many frames are missing before it.
    fn pass(&mut self, buffer: &NewBuffer) -> u32 {
        self.fds.clear();
        self.releases.give_back(buffer.id);
        self.number(buffer).1
    }

    /// Makes a frame of a buffer, and lets it wait. Returns how many frames are missing before it.
    fn frame(&mut self, caps: &Caps, buffer: &NewBuffer, shrinkable: Shrinkable, slots: usize) -> Result<u32> {
        let (mut layout, payload) = picture::of(caps, buffer)?;
        let planes = memory::take(&mut self.fds, self.set.as_ref(), shrinkable);
        self.fds.clear();
        let planes = planes.map_err(|e| violation(e.to_string()))?;
        for (memory, told) in planes.iter().flatten().zip(buffer.memory()) {
            if told.offset_bytes.checked_add(told.bytes).map_or(true, |end| end > memory.size_bytes() as u64) {
                return Err(violation(format!("{told:?} of a memory of {} bytes", memory.size_bytes())));
            }
        }
        if layout.is_compressed() {
            let size = planes[0].as_ref().map_or(0, |m| m.size_bytes());
            layout = self.bitstream(&layout, u32::try_from(size).unwrap_or(u32::MAX))?;
        }
        let fits = self.set.as_ref().filter(|set| *set.buffers().layout() == layout);
        let lent = fits.and_then(|set| set.lend(&self.releases, buffer.id, &planes));
        let frame = match lent {
            Some(frame) => frame,
            None => {
                let set = Set::new(&self.releases, self.sets, layout, slots, &planes);
                self.sets = self.sets.wrapping_add(1);
                let frame = set.lend(&self.releases, buffer.id, &planes);
                self.set = Some(set);
                frame.ok_or_else(|| violation("a set without slots".into()))?
            }
        };
        let mut flags = FrameFlags::MONOTONIC;
        flags.set(FrameFlags::ERROR, buffer.is_damaged());
        flags.set(FrameFlags::KEY, layout.is_compressed() && !buffer.is_delta());
        let is_bottom_first = match caps.fields {
            Fields::Interleaved { is_bottom_first } => Some(is_bottom_first.unwrap_or(!buffer.is_top_first())),
            Fields::ByBuffer => buffer.is_interlaced().then(|| !buffer.is_top_first()),
        };
        if let (true, Some(is_bottom_first)) = (layout.has_rows(), is_bottom_first) {
            flags.set(FrameFlags::INTERLACED, true);
            flags.set(FrameFlags::BOTTOM_FIRST, is_bottom_first);
        }
        let (sequence, lost) = self.number(buffer);
        let timestamp_ns = buffer.pts_ns.unwrap_or_else(monotonic_ns);
        let meta = FrameMeta { sequence, timestamp_ns, lost, flags, payload, ..FrameMeta::default() };
        self.waiting.push_back(frame.freeze(meta));
        Ok(lost)
    }

    /// Returns the layout of a bitstream whose buffer has `buffer_bytes` bytes. The current layout stays if the buffer
    /// is as large and the data fit: buffers of slightly different sizes are not new formats.
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

    /// Returns a frame's number, and how many frames are missing before it.
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
