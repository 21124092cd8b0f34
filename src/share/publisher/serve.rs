//! How a publisher serves its connections: accepts, reads, sends, keeps deadlines.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::EpollFlags;

use super::connection::{Connection, Ending, Stage};
use super::fence_waits::Reader;
use super::ledger::{Leases, Ledger, Terms};
use super::outcome::{Announced, Fault, Incoming};
use super::peer_socket::PeerSocket;
use super::{Publisher, PublisherEvent, FENCE, LISTENER, PIDFD};
use crate::error::{Error, ErrorKind, Reason};
use crate::frame::Frame;
use crate::log::event;
use crate::share::peer_info::PeerInfo;
use crate::share::policy::Policy;
use crate::share::wire::{Bye, Hello, LeaseId, SlotId, ToPublisher, ToSubscriber, Welcome, VERSION};
use crate::sys;
use crate::sys::clock::monotonic_ns;
use crate::sys::{peer, socket};

/// The pause before a retry of calls that failed for lack of room or descriptors.
const RETRY_NS: u64 = 50_000_000;
/// How many messages are read from one peer before the others are read.
const READ_AT_ONCE: usize = 64;
const MAX_CONNECTIONS: usize = 128;
/// How many connections one call accepts.
const MOST_ACCEPTS: usize = 32;

/// A refusal: the message to the peer, and the cause for this program.
pub(super) struct Refusal {
    bye: Bye,
    detail: String,
}

impl From<Bye> for Refusal {
    fn from(bye: Bye) -> Self {
        Self { bye, detail: bye.text() }
    }
}

impl Publisher {
    fn retry_later(&mut self) {
        let at = monotonic_ns() + RETRY_NS;
        self.retry_ns = Some(self.retry_ns.map_or(at, |t| t.min(at)));
    }

    pub(super) fn accept(&mut self, listener: usize) {
        // Bounded: peers that connect and hang up again and again cannot keep the caller or the others. The listener
        // stays readable.
        for _ in 0..MOST_ACCEPTS {
            match socket::accept(self.listeners[listener].socket.as_fd()) {
                Ok(Some(socket)) => self.greet(socket, self.listeners[listener].terms),
                Ok(None) => return,
                Err(e) => {
                    // There are no descriptors or no memory. The listener would stay readable and spin, so listen again
                    // later.
                    event!("{}: accept: {e}", self.settings.path.display());
                    self.work.remove(&self.listeners[listener].socket);
                    self.listeners[listener].listening = false;
                    self.retry_later();
                    return;
                }
            }
        }
    }

    /// Takes a new connection. `terms` are set for a `unixfdsrc`, which sends no HELLO.
    fn greet(&mut self, socket: OwnedFd, terms: Option<Terms>) {
        let Ok(info) = peer::credentials(socket.as_fd()).map(PeerInfo::from) else { return };
        // A process that connected and died needs no answer, even if its child has the socket.
        let Some(socket) = PeerSocket::new(socket, info.pid) else { return };
        let handshake = u64::try_from(self.settings.handshake.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = monotonic_ns().saturating_add(handshake);
        let mut c = Connection::new(socket, info, deadline_ns);
        #[cfg(feature = "unixfd")]
        if terms.is_some() {
            c.speak_unixfd();
        }
        if self.is_full(c.info.uid) {
            self.close_dead();
        }
        let is_full = self.is_full(c.info.uid);
        if is_full || !self.settings.accept.as_mut().map_or(true, |hook| hook(&c.info)) {
            self.counts.refused += 1;
            c.say_bye(Reason::Denied.into());
            let detail = match is_full {
                true => format!(
                    "max_per_user is {}; a user has at most as many of {MAX_CONNECTIONS} connections as are free",
                    self.settings.max_per_user
                ),
                false => "accept_if returned false".to_owned(),
            };
            event!("{}: refused {:?}: {detail}", self.settings.path.display(), c.info);
            self.events.push(PublisherEvent::Refused { peer: c.info, reason: Reason::Denied, detail });
            return;
        }
        let free = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
        if free == self.connections.len() {
            self.connections.push(None);
        }
        c.interest = EpollFlags::EPOLLIN;
        if self.work.add(&c.socket, c.interest, free as u64).is_err() {
            return;
        }
        if let Some(pidfd) = c.socket.pidfd() {
            // Without the pidfd, the hang-up still shows that the peer died.
            let _ = self.work.add(pidfd, EpollFlags::EPOLLIN, PIDFD | free as u64);
        }
        self.connections[free] = Some(c);
        if let Some(terms) = terms {
            self.admit(free, Ok(terms));
        }
    }

    /// Returns `true` if this user may not have another connection. A user has at most as many as are left for others:
    /// so a few users cannot take all of them.
    fn is_full(&self, uid: u32) -> bool {
        let others = self.connections.iter().flatten();
        let same_user = others.clone().filter(|o| o.info.uid == uid).count();
        let left = MAX_CONNECTIONS.saturating_sub(others.count());
        same_user >= self.settings.max_per_user.min(left)
    }

    /// Closes connections that were hung up and whose events were not read yet. Many may have come and gone in the
    /// backlog before a new connection.
    fn close_dead(&mut self) {
        let (mut numbers, mut fds) = (Vec::new(), Vec::new());
        for (i, c) in self.connections.iter().enumerate().filter_map(|(i, c)| Some((i, c.as_ref()?))) {
            numbers.push(i);
            fds.push(PollFd::new(c.socket.as_fd(), PollFlags::empty()));
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

    /// Handles events of a peer's socket.
    pub(super) fn serve(&mut self, i: usize, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLIN) {
            self.read(i);
            // A peer that the stream waited for will likely be waited for at the next frame, too. Disarm only if there
            // was nothing to send.
            if self.flush(i) == 0 {
                self.set_interest(i);
            }
        }
        if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.disconnect(i, ErrorKind::Disconnected, "it hung up");
        }
    }

    /// Returns `true` for an active peer that holds nothing: it can only hang up, which `EPOLLHUP` reports.
    fn owes_nothing(&self, i: usize) -> bool {
        let active = self.connections[i].as_ref().filter(|c| c.stage == Stage::Active);
        active.and_then(|c| c.peer).is_some_and(|peer| self.ledger.held_by(peer) == 0)
    }

    /// Reads a peer's releases, unless this call of the caller's has read them already or the peer holds nothing.
    pub(super) fn drain(&mut self, i: usize) {
        let unread = self.connections[i].as_ref().filter(|c| c.read_in != self.round);
        if unread.and_then(|c| c.peer).is_some_and(|peer| self.ledger.held_by(peer) > 0) {
            self.read(i);
        }
    }

    /// Reads a peer. Bounded: a peer that sends more is read on in the caller's next call.
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

    /// Reads and handles one message. `false`: no message is there, or the peer is gone.
    fn read_one(&mut self, i: usize) -> bool {
        let Some(c) = self.connections.get_mut(i).and_then(Option::as_mut) else { return false };
        let received = c.receive();
        if received.as_ref().is_ok_and(Incoming::is_answer) {
            if let Some(pidfd) = c.socket.confirm_process() {
                let _ = self.work.add(pidfd, EpollFlags::EPOLLIN, PIDFD | i as u64);
            }
        }
        let handled = match received {
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
                c.waits_for_fences = hello.fences && self.fence_waits.is_some();
                let terms = self.terms_of(hello);
                self.admit(i, terms);
            }
            (_, None) => return Err(Fault::Protocol("the first message must be HELLO".into())),
            (ToPublisher::Hello(_), Some(_)) => return Err(Fault::Protocol("a second HELLO".into())),
            (ToPublisher::BufferOk(id), Some(peer)) => self.buffer_answered(i, peer, id, true)?,
            (ToPublisher::BufferFailed(id), Some(peer)) => self.buffer_answered(i, peer, id, false)?,
            (ToPublisher::Release(leases), Some(peer)) => {
                let waits = c.waits_for_fences;
                leases.as_slice().iter().try_for_each(|&id| self.end_lease(peer, id, waits))?;
                self.let_go(i, peer);
            }
            (ToPublisher::Retired { pool }, Some(peer)) => {
                c.retired()?;
                let waits = c.waits_for_fences;
                self.ledger.leases_of(peer, pool).into_iter().try_for_each(|id| self.end_lease(peer, id, waits))?;
                self.let_go(i, peer);
            }
        }
        Ok(())
    }

    /// Ends a lease. With `waits_for_fences`, not before the devices that use the buffer have finished.
    fn end_lease(&mut self, peer: usize, id: LeaseId, waits_for_fences: bool) -> std::result::Result<(), Fault> {
        let frame = if waits_for_fences { self.ledger.leased(peer, id) } else { None };
        let is_read = match (frame, &mut self.fence_waits) {
            (Some(frame), Some(waits)) => waits.add(Reader::Peer(peer, id), frame.clone(), &self.work, FENCE),
            _ => false,
        };
        let released = if is_read { self.ledger.settle(peer, id) } else { self.ledger.release(peer, id) };
        released.map_err(|e| Fault::Protocol(e.to_string()))
    }

    /// The RELEASE of a `unixfdsrc`.
    #[cfg(feature = "unixfd")]
    fn released(&mut self, i: usize, generation: u64) -> std::result::Result<(), Fault> {
        let Some(peer) = self.connections[i].as_ref().and_then(|c| c.peer) else { return Ok(()) };
        let unknown = || Fault::Protocol(format!("buffer {generation}: released but not held"));
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
            // More BUFFERs of this pool, or another pool that has come in the meantime.
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

    /// Disconnects an expelled peer after its last lease.
    pub(super) fn let_go(&mut self, i: usize, peer: usize) {
        let expelled = self.connections[i].as_ref().is_some_and(|c| matches!(c.stage, Stage::Expelled { .. }));
        if expelled && self.ledger.held_by(peer) == 0 {
            self.disconnect(i, ErrorKind::Disconnected, "it has returned its last lease");
        }
    }

    /// Returns the terms that a HELLO asks for, or the reason to refuse them.
    fn terms_of(&self, hello: Hello) -> std::result::Result<Terms, Refusal> {
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            Err(Bye::from(Reason::Version).into())
        } else if hello.hold > self.settings.max_hold {
            let detail = format!("max_hold is {}, and it asks for {}", self.settings.max_hold, hello.hold);
            Err(Refusal { bye: Reason::Denied.into(), detail })
        } else if hello.policy == Policy::Block && self.settings.block.is_none() {
            Err(Bye::from(Reason::BlockDenied).into())
        } else {
            Ok(Terms { hold: u32::from(hello.hold), policy: hello.policy, rate: hello.rate })
        }
    }

    fn admit(&mut self, i: usize, terms: std::result::Result<Terms, Refusal>) {
        let members = self.connections.iter().flatten().filter(|c| c.peer.is_some()).count();
        let admitted = match terms {
            Ok(_) if members >= self.settings.max_subscribers => {
                let detail = format!("max_subscribers is {}", self.settings.max_subscribers);
                Err(Refusal { bye: Reason::Denied.into(), detail })
            }
            Ok(terms) => match self.ledger.admit(terms) {
                Some(peer) => Ok((peer, terms)),
                None => Err(self.no_room(&terms).into()),
            },
            Err(refusal) => Err(refusal),
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
                    fences: c.waits_for_fences,
                });
                let info = c.info;
                // Nothing was sent on this connection yet, so its queue is empty.
                match c.send(&welcome) {
                    Ok(true) => {
                        self.events.push(PublisherEvent::Joined(info));
                        self.announce_to(i);
                    }
                    _ => self.disconnect(i, ErrorKind::Disconnected, "WELCOME could not be sent"),
                }
            }
            Err(Refusal { bye, detail }) => {
                self.counts.refused += 1;
                c.say_bye(bye);
                event!("{}: refused {:?}: {detail}", self.settings.path.display(), c.info);
                self.events.push(PublisherEvent::Refused { peer: c.info, reason: bye.reason, detail });
                self.disconnect(i, ErrorKind::Refused, "it was refused");
            }
        }
    }

    /// Returns the numbers that explain a refusal for lack of buffers.
    fn no_room(&self, terms: &Terms) -> Bye {
        let slots = self.pool.as_ref().map_or(0, |p| p.buffers.max_leases());
        let [slots, reserve] = [slots, self.settings.reserve].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        let [granted, wanted] = [self.ledger.quotas(), terms.quota()].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        Bye { reason: Reason::Capacity, slots, reserve, granted, wanted }
    }

    /// Announces the current pool to a peer.
    pub(super) fn announce_to(&mut self, i: usize) {
        let answer_ns = u64::try_from(self.settings.handshake.as_nanos()).unwrap_or(u64::MAX).saturating_mul(5);
        let (Some(c), Some(pool)) = (&mut self.connections[i], &self.pool) else { return };
        let first = c.peer.is_some_and(|peer| !self.ledger.was_active(peer));
        if let (true, Stage::Announcing { deadline_ns: deadline @ None }) = (first, &mut c.stage) {
            *deadline = Some(monotonic_ns().saturating_add(answer_ns));
        }
        match (c.announce(pool), c.peer) {
            // A peer that gets descriptors with every frame does not answer.
            (Ok(Announced::All), Some(peer)) if c.is_ready_for(pool) => self.activate(i, peer),
            (Ok(Announced::All | Announced::Unanswered), _) => self.set_interest(i),
            (Ok(Announced::Full), _) => self.retry_later(),
            (Err(fault), _) => self.fail(i, fault),
        }
    }

    /// Sends the waiting frames for which the peer has credit, then END if that is due. Returns the number of frames
    /// sent.
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
                // A peer whose socket is full has a full queue to read first, so it does not need NEWER.
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

    /// Watches a peer's socket only if its releases must wake the publisher: while frames wait for them, or after the
    /// stream has ended. Otherwise the next publish reads them.
    pub(super) fn set_interest(&mut self, i: usize) {
        let Some(c) = &mut self.connections[i] else { return };
        let waits = c.peer.is_some_and(|peer| self.ledger.waits_for(peer));
        let quiet = c.stage == Stage::Active && !waits && c.ending == Ending::No;
        let wanted = if quiet { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        if c.interest != wanted && self.work.modify(&c.socket, wanted, i as u64).is_ok() {
            c.interest = wanted;
        }
    }

    /// Ends the stream for a peer. The connection stays for the leases that the peer still has.
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

    /// Sends BYE to an expelled peer, if that is still to be sent.
    fn tell_expelled(&mut self, i: usize) {
        let Some(c) = &mut self.connections[i] else { return };
        if let Stage::Expelled { untold: Some(reason) } = c.stage {
            match c.say_bye(reason.into()) {
                true => c.stage = Stage::Expelled { untold: None },
                false => self.retry_later(),
            }
        }
    }

    /// Closes a connection and ends all leases of the peer.
    pub(super) fn disconnect(&mut self, i: usize, kind: ErrorKind, why: &str) {
        let Some(c) = self.connections.get_mut(i).and_then(Option::take) else { return };
        event!("{}: {:?} disconnected: {why}", self.settings.path.display(), c.info);
        // The epoll entry would outlive the close if a forked process has a copy of the descriptor.
        self.work.remove(&c.socket);
        if let Some(pidfd) = c.socket.pidfd() {
            self.work.remove(pidfd);
        }
        if let Some(peer) = c.peer {
            self.counts.dropped += self.ledger.figures(peer).dropped;
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

    /// Expels the subscribers that have blocked the stream for too long.
    fn end_stall(&mut self, now: u64) {
        if !self.stall_ends_ns().is_some_and(|ends| ends <= now) {
            return;
        }
        // Reads releases first: a peer may have released in time.
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

    /// Revokes leases and expels peers whose time has passed. If a socket has no room for REVOKE, it is sent later, and
    /// the peer is expelled at the same time as otherwise.
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
            // Reads releases first: the peer may have released in time.
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
