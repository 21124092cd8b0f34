//! How a publisher serves its connections: accepting, reading, sending, deadlines.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::EpollFlags;

use super::connection::{Connection, Ending, Stage};
use super::ledger::{Leases, Ledger, Terms};
use super::outcome::{Announced, Fault, Incoming};
use super::{Publisher, PublisherEvent, LISTENER, PIDFD};
use crate::error::{Error, ErrorKind, Reason};
use crate::frame::Frame;
use crate::log::event;
use crate::share::policy::Policy;
use crate::share::wire::{Bye, Hello, SlotId, ToPublisher, ToSubscriber, Welcome, VERSION};
use crate::sys;
use crate::sys::clock::monotonic_ns;
use crate::sys::socket;

/// How long what failed for want of room or descriptors waits before it is tried again.
const RETRY_NS: u64 = 50_000_000;
/// Messages read from one peer before the others have their turn.
const READ_AT_ONCE: usize = 64;
const MAX_CONNECTIONS: usize = 128;
/// Connections accepted in one call.
const MOST_ACCEPTS: usize = 32;

impl Publisher {
    fn retry_later(&mut self) {
        let at = monotonic_ns() + RETRY_NS;
        self.retry_ns = Some(self.retry_ns.map_or(at, |t| t.min(at)));
    }

    pub(super) fn accept(&mut self, listener: usize) {
        // Bounded: peers that connect and hang up again and again keep neither the caller nor the others. The listener
        // stays readable.
        for _ in 0..MOST_ACCEPTS {
            match socket::accept(self.listeners[listener].socket.as_fd()) {
                Ok(Some(socket)) => self.greet(socket, self.listeners[listener].terms),
                Ok(None) => return,
                Err(e) => {
                    // Out of descriptors or memory: the listener would stay readable and spin. Listen again later.
                    event!("{}: accept: {e}", self.settings.path.display());
                    self.work.remove(&self.listeners[listener].socket);
                    self.listeners[listener].listening = false;
                    self.retry_later();
                    return;
                }
            }
        }
    }

    /// `terms`: those of a peer that has no words for them and says no HELLO.
    fn greet(&mut self, socket: OwnedFd, terms: Option<Terms>) {
        let Ok(credentials) = socket::peer_credentials(socket.as_fd()) else { return };
        let handshake = u64::try_from(self.settings.handshake.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = monotonic_ns().saturating_add(handshake);
        let mut c = Connection::new(socket, credentials, deadline_ns);
        #[cfg(feature = "unixfd")]
        if terms.is_some() {
            c.speak_unixfd();
        }
        if self.is_full(c.info.uid) {
            self.close_dead();
        }
        if self.is_full(c.info.uid) || !self.settings.accept.as_mut().map_or(true, |hook| hook(&c.info)) {
            event!("{}: refused {:?}", self.settings.path.display(), c.info);
            self.counts.refused += 1;
            c.say_bye(Reason::Denied.into());
            self.events.push(PublisherEvent::Refused { peer: c.info, reason: Reason::Denied });
            return;
        }
        let free = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
        if free == self.connections.len() {
            self.connections.push(None);
        }
        c.interest = EpollFlags::EPOLLIN;
        if self.work.add(c.socket(), c.interest, free as u64).is_err() {
            return;
        }
        if let Some(pidfd) = &c.pidfd {
            // Without it, death is still seen by the hang-up.
            let _ = self.work.add(pidfd, EpollFlags::EPOLLIN, PIDFD | free as u64);
        }
        self.connections[free] = Some(c);
        if let Some(terms) = terms {
            self.admit(free, Ok(terms));
        }
    }

    /// Whether there are as many connections as may be, of all or of this user.
    fn is_full(&self, uid: u32) -> bool {
        let others = self.connections.iter().flatten();
        let same_user = others.clone().filter(|o| o.info.uid == uid).count();
        others.count() >= MAX_CONNECTIONS || same_user >= self.settings.max_per_user
    }

    /// Closes connections that were hung up and have not woken us yet: many may have come and gone in the backlog before
    /// one that stays.
    fn close_dead(&mut self) {
        let (mut numbers, mut fds) = (Vec::new(), Vec::new());
        for (i, c) in self.connections.iter().enumerate().filter_map(|(i, c)| Some((i, c.as_ref()?))) {
            numbers.push(i);
            fds.push(PollFd::new(c.socket().as_fd(), PollFlags::empty()));
        }
        sys::syscall_count::tick();
        if poll(&mut fds, PollTimeout::ZERO).is_err() {
            return;
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        let is_dead: Vec<bool> = fds.iter().map(|fd| fd.revents().is_some_and(|r| r.intersects(gone))).collect();
        for (i, _) in numbers.into_iter().zip(is_dead).filter(|(_, is_dead)| *is_dead) {
            self.disconnect(i, ErrorKind::Disconnected, "it hung up");
        }
    }

    /// Reads a peer whose socket woke us.
    pub(super) fn serve(&mut self, i: usize, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLIN) {
            self.read(i);
            // A peer that was waited for is likely to be so again at the next frame: disarm only if it woke us for
            // nothing.
            if self.flush(i) == 0 {
                self.set_interest(i);
            }
        }
        if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.disconnect(i, ErrorKind::Disconnected, "it hung up");
        }
    }

    /// An active peer that holds nothing has nothing to say but that it goes, which wakes us by itself.
    fn owes_nothing(&self, i: usize) -> bool {
        let active = self.connections[i].as_ref().filter(|c| c.stage == Stage::Active);
        active.and_then(|c| c.peer).is_some_and(|peer| self.ledger.held_by(peer) == 0)
    }

    /// Reads what a peer has given back, unless this call of the user has read it already or it holds nothing.
    pub(super) fn drain(&mut self, i: usize) {
        let unread = self.connections[i].as_ref().filter(|c| c.read_in != self.round);
        if unread.and_then(|c| c.peer).is_some_and(|peer| self.ledger.held_by(peer) > 0) {
            self.read(i);
        }
    }

    /// Reads a peer. Bounded: one that says more has its turn in the next call of the user.
    fn read(&mut self, i: usize) {
        if let Some(c) = &mut self.connections[i] {
            c.read_in = self.round;
        }
        for _ in 0..READ_AT_ONCE {
            if !self.read_one(i) || self.owes_nothing(i) {
                break;
            }
        }
    }

    /// Reads and handles one message. `false`: there is none, or the peer is gone.
    fn read_one(&mut self, i: usize) -> bool {
        let Some(c) = self.connections.get_mut(i).and_then(Option::as_mut) else { return false };
        let handled = match c.receive() {
            Ok(Incoming::Message(message)) => self.handle(i, message),
            #[cfg(feature = "unixfd")]
            Ok(Incoming::Released(generation)) => self.released(i, generation),
            Ok(Incoming::Skipped) => Ok(()),
            Ok(Incoming::Nothing) => return false,
            Err(fault) => Err(fault),
        };
        match handled {
            Ok(()) => true,
            Err(fault) => {
                self.fail(i, fault);
                false
            }
        }
    }

    fn fail(&mut self, i: usize, fault: Fault) {
        match fault {
            Fault::Gone => self.disconnect(i, ErrorKind::Disconnected, "it hung up"),
            Fault::Protocol(what) => {
                self.counts.violations += 1;
                if let Some(c) = &mut self.connections[i] {
                    c.say_bye(Reason::Protocol.into());
                }
                self.disconnect(i, ErrorKind::Protocol, &what);
            }
            #[cfg(feature = "unixfd")]
            Fault::Unspeakable(what) => {
                self.counts.refused += 1;
                self.disconnect(i, ErrorKind::Unsupported, &what);
            }
        }
    }

    fn handle(&mut self, i: usize, message: ToPublisher) -> std::result::Result<(), Fault> {
        let Some(c) = self.connections.get_mut(i).and_then(Option::as_mut) else { return Ok(()) };
        match (message, c.peer) {
            (ToPublisher::Hello(hello), None) => {
                let terms = self.terms_of(hello);
                self.admit(i, terms);
            }
            (_, None) => return Err(Fault::Protocol("the first message must be HELLO".into())),
            (ToPublisher::Hello(_), Some(_)) => return Err(Fault::Protocol("a second HELLO".into())),
            (ToPublisher::BufferOk(id), Some(peer)) => self.buffer_answered(i, peer, id, true)?,
            (ToPublisher::BufferFailed(id), Some(peer)) => self.buffer_answered(i, peer, id, false)?,
            (ToPublisher::Release(leases), Some(peer)) => {
                for &id in leases.as_slice() {
                    self.ledger.release(peer, id).map_err(|e| Fault::Protocol(e.to_string()))?;
                }
                self.let_go(i, peer);
            }
            (ToPublisher::Retired { pool }, Some(peer)) => {
                c.retired()?;
                self.ledger.retired(peer, pool);
                self.let_go(i, peer);
            }
        }
        Ok(())
    }

    /// The RELEASE of a `unixfdsrc`.
    #[cfg(feature = "unixfd")]
    fn released(&mut self, i: usize, generation: u64) -> std::result::Result<(), Fault> {
        let Some(peer) = self.connections[i].as_ref().and_then(|c| c.peer) else { return Ok(()) };
        let unknown = || Fault::Protocol(format!("buffer {generation} is released but not held"));
        let id = self.ledger.lease(peer, generation).ok_or_else(unknown)?;
        self.ledger.release(peer, id).map_err(|e| Fault::Protocol(e.to_string()))?;
        self.let_go(i, peer);
        Ok(())
    }

    fn buffer_answered(&mut self, i: usize, peer: usize, id: SlotId, ok: bool) -> std::result::Result<(), Fault> {
        let (Some(c), Some(pool)) = (&mut self.connections[i], &self.pool) else { return Ok(()) };
        if !c.answered(id, ok)? || !matches!(c.stage, Stage::Announcing { .. }) {
            return Ok(());
        }
        if c.is_ready_for(pool) {
            self.activate(i, peer);
        } else {
            // The next BUFFERs, or another pool that has come meanwhile.
            self.announce_to(i);
        }
        Ok(())
    }

    fn activate(&mut self, i: usize, peer: usize) {
        let Some(c) = &mut self.connections[i] else { return };
        c.stage = Stage::Active;
        self.ledger.activate(peer);
        self.flush(i);
        self.set_interest(i);
    }

    /// An expelled peer stays only for its leases.
    fn let_go(&mut self, i: usize, peer: usize) {
        let expelled = self.connections[i].as_ref().is_some_and(|c| matches!(c.stage, Stage::Expelled { .. }));
        if expelled && self.ledger.held_by(peer) == 0 {
            self.disconnect(i, ErrorKind::Disconnected, "it has returned its last lease");
        }
    }

    /// What a HELLO asks for, if it may.
    fn terms_of(&self, hello: Hello) -> std::result::Result<Terms, Reason> {
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            Err(Reason::Version)
        } else if hello.hold > self.settings.max_hold {
            Err(Reason::Denied)
        } else if hello.policy == Policy::Block && self.settings.block.is_none() {
            Err(Reason::BlockDenied)
        } else {
            Ok(Terms { hold: u32::from(hello.hold), policy: hello.policy, rate: hello.rate })
        }
    }

    fn admit(&mut self, i: usize, terms: std::result::Result<Terms, Reason>) {
        let members = self.connections.iter().flatten().filter(|c| c.peer.is_some()).count();
        let admitted = match terms {
            Ok(_) if members >= self.settings.max_subscribers => Err(Reason::Denied.into()),
            Ok(terms) => match self.ledger.admit(terms) {
                Some(peer) => Ok((peer, terms)),
                None => Err(self.no_room(&terms)),
            },
            Err(reason) => Err(Bye::from(reason)),
        };
        let Some(c) = &mut self.connections[i] else { return };
        match admitted {
            Ok((peer, terms)) => {
                event!("{}: subscriber {:?}, {terms:?}", self.settings.path.display(), c.info);
                self.counts.admitted += 1;
                c.peer = Some(peer);
                c.stage = Stage::Announcing { deadline_ns: None };
                let revoke = self.settings.lease.map_or(0, |(revoke, _)| revoke.as_millis());
                let welcome = ToSubscriber::Welcome(Welcome {
                    version: VERSION,
                    quota: terms.quota() as u16,
                    epoch: self.epoch,
                    lease_deadline_ms: u32::try_from(revoke).unwrap_or(u32::MAX),
                });
                let info = c.info;
                // The queue of a connection that has received nothing yet is empty.
                match c.send(&welcome) {
                    Ok(true) => {
                        self.events.push(PublisherEvent::Joined(info));
                        self.announce_to(i);
                    }
                    _ => self.disconnect(i, ErrorKind::Disconnected, "it does not take WELCOME"),
                }
            }
            Err(bye) => {
                self.counts.refused += 1;
                c.say_bye(bye);
                let event = PublisherEvent::Refused { peer: c.info, reason: bye.reason };
                event!("{}: {:?} is refused: {}", self.settings.path.display(), c.info, bye.text());
                self.events.push(event);
                self.disconnect(i, ErrorKind::Refused, "it was refused");
            }
        }
    }

    /// The arithmetic of a refusal for want of buffers.
    fn no_room(&self, terms: &Terms) -> Bye {
        let slots = self.pool.as_ref().map_or(0, |p| p.buffers.max_leases());
        let [slots, reserve] = [slots, self.settings.reserve].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        let [granted, wanted] = [self.ledger.quotas(), terms.quota()].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        Bye { reason: Reason::Capacity, slots, reserve, granted, wanted }
    }

    /// Tells a peer about the current pool.
    pub(super) fn announce_to(&mut self, i: usize) {
        let answer_ns = u64::try_from(self.settings.handshake.as_nanos()).unwrap_or(u64::MAX).saturating_mul(5);
        let (Some(c), Some(pool)) = (&mut self.connections[i], &self.pool) else { return };
        let first = c.peer.is_some_and(|peer| !self.ledger.was_active(peer));
        if let (true, Stage::Announcing { deadline_ns: deadline @ None }) = (first, &mut c.stage) {
            *deadline = Some(monotonic_ns().saturating_add(answer_ns));
        }
        match (c.announce(pool), c.peer) {
            // A peer that gets descriptors with every frame answers nothing.
            (Ok(Announced::All), Some(peer)) if c.is_ready_for(pool) => self.activate(i, peer),
            (Ok(Announced::All | Announced::Unanswered), _) => self.set_interest(i),
            (Ok(Announced::Full), _) => self.retry_later(),
            (Err(fault), _) => self.fail(i, fault),
        }
    }

    /// Sends what waits for a peer and it has credit for, then END if that is due. Returns the number of frames sent.
    pub(super) fn flush(&mut self, i: usize) -> usize {
        let Some(c) = self.connections.get_mut(i).and_then(Option::as_mut) else { return 0 };
        let (Some(peer), Stage::Active) = (c.peer, c.stage) else { return 0 };
        let mut sent = 0;
        loop {
            match c.finish() {
                Ok(true) => {}
                Ok(false) => {
                    self.retry_later();
                    return sent;
                }
                Err(fault) => {
                    self.fail(i, fault);
                    return sent;
                }
            }
            let Some((id, frame, dropped)) = self.ledger.next_for(peer) else { break };
            let now = monotonic_ns();
            let mut meta = *frame.meta();
            (meta.published_ns, meta.dropped) = (now, dropped);
            if !c.has_buffer(id) {
                self.ledger.not_sent(peer);
                continue;
            }
            match c.send_frame(id, frame, meta) {
                Ok(true) => self.ledger.sent(peer, now),
                Ok(false) => self.ledger.not_sent(peer),
                Err(fault) => {
                    self.fail(i, fault);
                    return sent;
                }
            }
            sent += 1;
        }
        if let Some(generation) = self.ledger.newly_late(peer) {
            match c.say_newer(generation) {
                // Without room, its queue is full of what is unread: it reads until the end of that.
                Ok(_) => {}
                Err(fault) => {
                    self.fail(i, fault);
                    return sent;
                }
            }
        }
        if c.ending == Ending::Due && !self.ledger.waits_for(peer) {
            match c.send(&ToSubscriber::End) {
                Ok(true) => c.ending = Ending::Told,
                Ok(false) => self.retry_later(),
                Err(fault) => self.fail(i, fault),
            }
        }
        sent
    }

    /// Releases need not wake us while nothing waits for them: the next publish reads them. When the stream has ended
    /// there is no next publish.
    pub(super) fn set_interest(&mut self, i: usize) {
        let Some(c) = &mut self.connections[i] else { return };
        let waits = c.peer.is_some_and(|peer| self.ledger.waits_for(peer));
        let quiet = c.stage == Stage::Active && !waits && c.ending == Ending::No;
        let wanted = if quiet { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        if c.interest != wanted && self.work.modify(c.socket(), wanted, i as u64).is_ok() {
            c.interest = wanted;
        }
    }

    /// No more frames; the connection stays for the leases that the peer still has.
    pub(super) fn expel(&mut self, i: usize, reason: Reason) {
        let Some(c) = &mut self.connections[i] else { return };
        let Some(peer) = c.peer else { return };
        event!("{}: {:?} is expelled: {reason}", self.settings.path.display(), c.info);
        c.stage = Stage::Expelled { untold: Some(reason) };
        self.tell_expelled(i);
        self.ledger.expel(peer);
        self.set_interest(i);
        self.let_go(i, peer);
    }

    /// Says BYE to one who was expelled and does not know it.
    fn tell_expelled(&mut self, i: usize) {
        let Some(c) = &mut self.connections[i] else { return };
        if let Stage::Expelled { untold: Some(reason) } = c.stage {
            match c.say_bye(reason.into()) {
                true => c.stage = Stage::Expelled { untold: None },
                false => self.retry_later(),
            }
        }
    }

    /// Closes a connection and takes back all that the peer held.
    pub(super) fn disconnect(&mut self, i: usize, kind: ErrorKind, why: &str) {
        let Some(c) = self.connections.get_mut(i).and_then(Option::take) else { return };
        event!("{}: {:?} disconnected: {why}", self.settings.path.display(), c.info);
        // A forked copy of our descriptor would keep the epoll entry alive beyond the close.
        self.work.remove(c.socket());
        if let Some(pidfd) = &c.pidfd {
            self.work.remove(pidfd);
        }
        if let Some(peer) = c.peer {
            self.ledger.remove(peer);
            let error = Error::new(kind, "subscriber", why).on(format_args!("pid {} uid {}", c.info.pid, c.info.uid));
            self.events.push(PublisherEvent::Left { peer: c.info, error });
        }
    }

    pub(super) fn meet_deadlines(&mut self) {
        let now = monotonic_ns();
        let retry = self.retry_ns.is_some_and(|t| t <= now);
        if retry {
            self.retry_ns = None;
        }
        for i in 0..self.connections.len() {
            let Some(c) = &mut self.connections[i] else { continue };
            match c.stage {
                Stage::Greeting { deadline_ns } | Stage::Announcing { deadline_ns: Some(deadline_ns) }
                    if deadline_ns <= now =>
                {
                    c.say_bye(Reason::Silent.into());
                    self.counts.refused += 1;
                    self.disconnect(i, ErrorKind::Timeout, "it did not answer in time");
                }
                Stage::Announcing { .. } if retry => self.announce_to(i),
                Stage::Active if retry => drop(self.flush(i)),
                Stage::Expelled { .. } if retry => self.tell_expelled(i),
                _ => {}
            }
        }
        for i in (0..self.listeners.len()).filter(|_| retry) {
            let listener = &mut self.listeners[i];
            if !listener.listening {
                let token = LISTENER | i as u64;
                listener.listening = self.work.add(&listener.socket, EpollFlags::EPOLLIN, token).is_ok();
                if !listener.listening {
                    self.retry_later();
                }
            }
        }
        if self.settings.lease.is_some() {
            self.enforce_leases(now);
        }
        self.end_stall(now);
    }

    /// Expels the subscribers that have held the stream up for too long.
    fn end_stall(&mut self, now: u64) {
        if !self.stall_ends_ns().is_some_and(|ends| ends <= now) {
            return;
        }
        // What a peer gave back in time but was not read yet does not count against it.
        (0..self.connections.len()).for_each(|i| {
            self.drain(i);
            self.flush(i);
        });
        let blocking = self.ledger.blocking();
        for i in 0..self.connections.len() {
            let peer = self.connections[i].as_ref().and_then(|c| c.peer);
            if peer.is_some_and(|peer| blocking.contains(&peer)) {
                self.expel(i, Reason::Stalled);
            }
        }
        self.blocked_ns = None;
    }

    /// A peer whose socket has no room for REVOKE hears of it later, and its end comes all the same.
    fn enforce_leases(&mut self, now: u64) {
        let (revoke, end) = self.lease_ns();
        for i in 0..self.connections.len() {
            let Some(&mut Connection { peer: Some(peer), ref mut owes_revoke, .. }) = self.connections[i].as_mut()
            else {
                continue;
            };
            *owes_revoke = false;
            let due = |ledger: &Ledger<Frame>, of, limit| {
                let lease = ledger.oldest_lease(peer, of);
                lease.filter(|(_, sent)| sent.saturating_add(limit) <= now).map(|(id, _)| id)
            };
            let is_due =
                |ledger| due(ledger, Leases::NotRevoked, revoke).is_some() || due(ledger, Leases::All, end).is_some();
            if !is_due(&self.ledger) {
                continue;
            }
            // What the peer gave back in time but was not read yet does not count against it.
            self.drain(i);
            self.flush(i);
            while let Some(id) = due(&self.ledger, Leases::NotRevoked, revoke) {
                let Some(c) = &mut self.connections[i] else { break };
                c.owes_revoke = c.send(&ToSubscriber::Revoke(id)) == Ok(false);
                if c.owes_revoke {
                    self.retry_later();
                    break;
                }
                event!("{}: revoked {id:?} of {:?}", self.settings.path.display(), c.info);
                self.ledger.revoke(peer, id);
                self.counts.revoked += 1;
            }
            if due(&self.ledger, Leases::All, end).is_some() {
                self.expel(i, Reason::LeaseExpired);
            }
        }
    }
}
