//! How a subscriber handles what its publisher says: one message at a time, nothing of it trusted.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::reconnect::Reconnect;
use super::release::{RemoteOwner, RemotePool};
use super::{Connected, Event, Incoming, State, Subscriber};
use crate::dmabuf::DmaBuf;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{BufferSet, FrameMeta};
use crate::log::event;
use crate::share::reason::Reason;
use crate::share::wire::{Format, LeaseId, SlotId, ToPublisher, ToSubscriber, Welcome, MAX_MESSAGE, VERSION};
use crate::sys::clock::monotonic_ns;
use crate::sys::socket::{self, Block, Received};

/// What one receive came to.
pub(super) enum Step {
    Event(Event),
    Handled,
    Nothing,
}

impl Subscriber {
    pub(super) fn step_once(&mut self, block: Block) -> Result<Step> {
        let State::Up(c) = &mut self.state else { return Ok(Step::Nothing) };
        c.link.flush();
        let mut bytes = [0; MAX_MESSAGE];
        let received = socket::receive_with_fds(c.link.socket().as_fd(), &mut bytes, block, &mut self.inbox);
        let (len, complete) = match received {
            Ok(Received::Message(len)) => (len, true),
            Ok(Received::FdsLost(len)) => (len, false),
            Ok(Received::WouldBlock) => return Ok(Step::Nothing),
            Ok(Received::Closed) => return Ok(self.lost()),
            // Reported once when the peer closed without reading all; what it sent before is still to be read.
            Err(Errno::ECONNRESET) => return Ok(Step::Handled),
            Ok(Received::Truncated) => return self.violated("a message is too long"),
            Err(e) => {
                let error = Error::os("recvmsg", e).on(self.settings.path.display());
                self.lost();
                return Err(error);
            }
        };
        let message = match ToSubscriber::decode(&bytes[..len]) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(Step::Handled),
            Err(e) => return self.violated(&e.to_string()),
        };
        if !matches!(message, ToSubscriber::Buffer(_)) {
            self.inbox.clear();
        }
        let greeted = c.welcome.is_some();
        match message {
            ToSubscriber::Welcome(welcome) if !greeted && welcome.version == VERSION => Ok(self.welcomed(welcome)),
            ToSubscriber::Bye(reason) => self.bye(reason),
            _ if !greeted => self.violated("the first message must be WELCOME, of our version"),
            ToSubscriber::Welcome(_) => self.violated("a second WELCOME"),
            ToSubscriber::Format(format) => self.format(format),
            ToSubscriber::Buffer(id) => self.buffer(id, complete),
            ToSubscriber::Frame(id, meta) => self.frame(id, meta),
            ToSubscriber::Revoke(id) => {
                self.counts.revoked += 1;
                c.revoke(id);
                Ok(Step::Handled)
            }
            ToSubscriber::Retire { pool } => {
                if c.pool.as_ref().map_or(true, |p| p.format.pool != pool) {
                    return self.violated("RETIRE of a pool that is not the current one");
                }
                c.retire();
                Ok(Step::Handled)
            }
            ToSubscriber::End => Ok(Step::Event(Event::Ended)),
        }
    }

    fn welcomed(&mut self, welcome: Welcome) -> Step {
        if let State::Up(c) = &mut self.state {
            c.welcome = Some(welcome);
        }
        self.reconnector.is_taken();
        event!("{}: admitted, quota {}", self.settings.path.display(), welcome.quota);
        if self.epoch.replace(welcome.epoch).is_none() {
            return Step::Handled;
        }
        self.counts.reconnects += 1;
        Step::Event(Event::Reconnected)
    }

    fn bye(&mut self, reason: Reason) -> Result<Step> {
        match reason {
            // An ordinary end.
            Reason::Closing => Ok(self.lost()),
            reason => {
                let error = self.error(ErrorKind::Refused, "subscribe", reason.to_string());
                // Another try may fare better when a neighbour has left or the publisher was replaced.
                self.reconnector.hold_off();
                self.lost();
                Err(error)
            }
        }
    }

    fn violated<T>(&mut self, what: &str) -> Result<T> {
        let error = self.error(ErrorKind::Protocol, "receive", format!("the publisher broke the protocol: {what}"));
        self.reconnector.hold_off();
        self.lost();
        Err(error)
    }

    /// The connection is gone. Frames that are still held stay mapped, but are not leased any more.
    fn lost(&mut self) -> Step {
        self.inbox.clear();
        let old = std::mem::replace(&mut self.state, State::Over);
        let mut was_up = false;
        if let State::Up(c) = old {
            c.link.close();
            was_up = c.welcome.is_some();
            self.counts.dropped += c.dropped;
            let _ = self.reconnector.epoll().delete(c.link.socket());
        }
        event!("{}: the connection is gone", self.settings.path.display());
        if self.settings.reconnect == Reconnect::Never {
            self.reconnector.be_quiet();
            return Step::Event(Event::Ended);
        }
        self.state = State::Down { next: self.reconnector.lost() };
        if was_up {
            Step::Event(Event::Lost)
        } else {
            Step::Handled
        }
    }

    fn format(&mut self, format: Format) -> Result<Step> {
        let State::Up(c) = &mut self.state else { return Ok(Step::Nothing) };
        if c.pool.is_some() || c.last_pool == Some(format.pool) {
            return self.violated("FORMAT before RETIRE, or with the number of the last pool");
        }
        let slots = usize::from(format.slots);
        let remote = RemotePool::new(&c.link, format.pool, slots);
        c.pool = Some(Incoming { format, memory: vec![Vec::new(); slots], answered: 0, remote, buffers: None });
        c.last_pool = Some(format.pool);
        Ok(Step::Event(Event::Format(format.layout)))
    }

    /// Takes a slot's descriptors, after checking what they are, and answers.
    fn buffer(&mut self, id: SlotId, complete: bool) -> Result<Step> {
        let State::Up(Connected { link, pool: Some(pool), .. }) = &mut self.state else {
            return self.violated("BUFFER without FORMAT");
        };
        let layout = &pool.format.layout;
        let planes = layout.memory_bytes().len();
        let expected =
            pool.format.pool == id.pool && pool.answered == id.slot as usize && pool.answered < pool.memory.len();
        if !expected || (complete && self.inbox.len() != planes) {
            return self.violated("BUFFER out of turn or with a wrong number of descriptors");
        }
        let mut memory = Vec::with_capacity(planes);
        if complete {
            for (i, &needed) in layout.memory_bytes().iter().enumerate() {
                let Some(fd) = self.inbox.take(i) else { break };
                match DmaBuf::from_fd(fd) {
                    Ok(buffer) if buffer.size_bytes() >= needed as usize => memory.push(buffer),
                    Ok(buffer) => {
                        let text =
                            format!("slot {}: {} bytes, its layout needs {needed}", id.slot, buffer.size_bytes());
                        return self.violated(&text);
                    }
                    Err(e) => {
                        let text = format!("slot {}: {e}", id.slot);
                        return self.violated(&text);
                    }
                }
            }
        }
        let ok = memory.len() == planes;
        let answer = if ok { ToPublisher::BufferOk(id) } else { ToPublisher::BufferFailed(id) };
        pool.memory[id.slot as usize] = memory;
        pool.answered += 1;
        let sent = link.send(&answer);
        if pool.answered == pool.memory.len() {
            let memory = std::mem::take(&mut pool.memory);
            let none = memory.iter().all(Vec::is_empty);
            let home = Box::new(RemoteOwner(Arc::clone(&pool.remote)));
            pool.buffers = Some(BufferSet::new(*layout, pool.format.cpu_reads, memory, home));
            if none {
                let text = "no file descriptor is left for the publisher's buffers".into();
                let error = self.error(ErrorKind::Exhausted, "BUFFER", text);
                self.reconnector.hold_off();
                self.lost();
                return Err(error);
            }
        }
        if !sent {
            return Ok(self.lost());
        }
        Ok(Step::Handled)
    }

    fn frame(&mut self, id: LeaseId, meta: FrameMeta) -> Result<Step> {
        let State::Up(c) = &mut self.state else { return Ok(Step::Nothing) };
        let set = c.pool.as_ref().filter(|p| p.format.pool == id.pool).and_then(|p| Some((p, p.buffers.as_ref()?)));
        let Some((pool, buffers)) = set else { return self.violated("FRAME of an unknown pool") };
        let memory = buffers.memory(id.slot as usize);
        let fits = memory.iter().zip(&meta.payload).all(|(buffer, p)| {
            p.offset_bytes.checked_add(p.bytes).is_some_and(|end| end as usize <= buffer.size_bytes())
        });
        if memory.is_empty() || !fits {
            return self.violated("FRAME in a slot we do not have, or larger than its buffer");
        }
        if pool.remote.had(id) || !c.link.has_credit() {
            return self.violated("FRAME of a generation that was, or while we hold all that we asked for");
        }
        let Some(frame) = buffers.lend(id.slot as usize) else {
            return self.violated("FRAME in a slot that we still hold");
        };
        pool.remote.leased(id);
        c.dropped = meta.dropped;
        self.counts.received += 1;
        self.counts.lost += u64::from(meta.lost);
        self.latency.record_ns(monotonic_ns().saturating_sub(meta.published_ns));
        Ok(Step::Event(Event::Frame(frame.freeze(meta))))
    }
}
