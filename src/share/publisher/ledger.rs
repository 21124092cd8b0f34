//! The publisher's record of leases: which peer holds which frame. It has no descriptors and no clock.
//!
//! Invariants, checked by random histories below and by all histories of a small world in `ledger_model.rs`:
//! 1. An item is kept exactly as long as a peer holds it, it waits for a peer, or it is the newest.
//! 2. A peer never ties up more than its quota: leases plus waiting frames.
//! 3. The sum of quotas plus the newest frame plus the source's reserve fits the pool. So no set of peers can take the
//!    source's last buffers.
//! 4. A release is legal once for each lease that was sent, revoked or not. Any other release is the peer's fault.

use std::collections::VecDeque;

use crate::frame::BufferBudget;
use crate::share::policy::{Policy, Rate};
use crate::share::wire::LeaseId;

/// Sets of peers are bits of a u64.
pub(crate) const MAX_PEERS: usize = 64;

/// What one peer asks for, or is granted.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(crate) struct Terms {
    /// The most leases at a time.
    pub(crate) hold: u32,
    pub(crate) policy: Policy,
    pub(crate) rate: Rate,
}

impl Terms {
    pub(crate) fn quota(&self) -> u32 {
        self.hold + self.policy.depth()
    }
}

/// A frame that a peer holds, that waits for a peer, or that is the newest.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Lent<T> {
    id: LeaseId,
    time_ns: u64,
    item: T,
    holders: u64,
    waiting: u64,
    /// A peer was removed while it held this.
    is_abandoned: bool,
}

/// Selects among a peer's leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leases {
    All,
    NotRevoked,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
struct Lease {
    id: LeaseId,
    sent_ns: u64,
    revoked: bool,
    /// The peer has released it, and a device of the peer still uses the buffer.
    settling: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Peer {
    terms: Terms,
    /// The peer's place in the order of admission.
    joined: u64,
    /// The peer has acknowledged the pool's buffers, so frames that wait for it can be sent.
    active: bool,
    /// The peer was active before. With policy `Block` the source waits until it is active again.
    was_active: bool,
    /// The peer gets no more frames. It stays until it has given back its leases.
    expelled: bool,
    leases: Vec<Lease>,
    /// Generations that wait, oldest first.
    waiting: VecDeque<u64>,
    dropped: u64,
    sent: u64,
    offered: u64,
    next_due_ns: Option<u64>,
    /// Under `Latest`, a newer frame has replaced one that waited.
    has_replaced: bool,
    /// `newly_late` has already reported this.
    was_late: bool,
}

impl Peer {
    fn has_credit(&self) -> bool {
        self.leases.len() < self.terms.hold as usize
    }

    /// Returns `true` if the rate selects this frame.
    fn wants(&mut self, time_ns: u64) -> bool {
        let n = self.offered;
        self.offered += 1;
        match self.terms.rate {
            Rate::All => true,
            Rate::EveryNth(nth) => n % u64::from(nth.max(1)) == 0,
            Rate::MilliFps(rate) => {
                let interval = 1_000_000_000_000 / u64::from(rate.max(1));
                let due = self.next_due_ns.unwrap_or(time_ns);
                // A source's times jitter, so a frame that is slightly early counts as the one that is due. After
                // a pause, or if the clock stepped back, counting starts at this frame.
                if time_ns.saturating_add(interval / 8) < due && due - time_ns <= 2 * interval {
                    return false;
                }
                let on_time = time_ns.abs_diff(due) < interval;
                self.next_due_ns = Some(if on_time { due } else { time_ns }.saturating_add(interval));
                true
            }
        }
    }
}

/// Figures of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) held: usize,
    pub(crate) quota: u32,
    pub(crate) oldest_ns: Option<u64>,
}

/// A peer released a lease that it does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slot {} of pool {}, generation {}: released but not held", .0.slot, .0.pool, .0.generation)]
pub(crate) struct IllegalRelease(pub(crate) LeaseId);

/// The record of leases; see the module. `T` is the frame: dropping it returns the buffer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(crate) struct Ledger<T> {
    peers: Vec<Option<Peer>>,
    lent: Vec<Lent<T>>,
    next_generation: u64,
    newest: Option<u64>,
    /// The current pool, and how many of its slots peers may tie up together. Without a pool number: slots of any pool.
    room: Option<(Option<u32>, u32)>,
    admitted: u64,
    /// The items that a removed peer held and that no other peer needs. `None`: they are dropped.
    abandoned: Option<Vec<(u32, T)>>,
    /// Abandoned items of the current pool that were taken and are still kept.
    withheld: u32,
}

impl<T> Ledger<T> {
    /// Creates an empty record. With `keeps_abandoned`, the caller gets the items that a removed peer held, by
    /// [`Ledger::take_abandoned`].
    pub(crate) fn new(keeps_abandoned: bool) -> Self {
        Self {
            peers: Vec::new(),
            lent: Vec::with_capacity(64),
            next_generation: 1,
            newest: None,
            room: None,
            admitted: 0,
            abandoned: keeps_abandoned.then(Vec::new),
            withheld: 0,
        }
    }

    /// Returns an item that a removed peer held, with its pool's number.
    pub(crate) fn take_abandoned(&mut self) -> Option<(u32, T)> {
        self.abandoned.as_mut()?.pop()
    }

    /// Sets how many abandoned items the caller keeps. They count as quotas.
    pub(crate) fn withhold(&mut self, count: usize) {
        self.withheld = u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Starts a new pool, of which `slots` are lent at a time and the source needs `reserve`. From now on the quotas
    /// must fit it, and every peer must be activated again. If `pool` is `None`, `slots` counts the slots of all pools
    /// together. Returns the peers that no longer fit, the last admitted first. The caller must expel them.
    pub(crate) fn set_pool(&mut self, pool: Option<u32>, slots: usize, reserve: usize) -> Vec<usize> {
        let room = BufferBudget::left(slots, reserve) as u32;
        self.room = Some((pool, room));
        self.newest = None;
        let mut evicted = Vec::new();
        (0..self.peers.len()).for_each(|peer| self.stop(peer));
        while self.quotas() > room {
            let members = self.peers.iter().enumerate().filter_map(|(i, p)| Some((i, p.as_ref()?)));
            let Some((last, _)) = members.filter(|(_, p)| !p.expelled).max_by_key(|(_, p)| p.joined) else { break };
            self.expel(last);
            evicted.push(last);
        }
        evicted
    }

    /// Returns how many slots of the current pool all peers together can tie up.
    pub(crate) fn quotas(&self) -> u32 {
        let pool = self.room.and_then(|(pool, _)| pool);
        let cost = |p: &Peer| match p.expelled {
            true => p.leases.iter().filter(|l| pool.map_or(true, |pool| l.id.pool == pool)).count() as u32,
            false => p.terms.quota(),
        };
        self.peers.iter().flatten().map(cost).sum::<u32>().saturating_add(self.withheld)
    }

    /// Returns `true` if another quota fits. Until there is a pool, every quota fits.
    pub(crate) fn has_room(&self, terms: &Terms) -> bool {
        self.room.map_or(true, |(_, room)| self.quotas() + terms.quota() <= room)
    }

    /// Admits a peer, which is not yet active. Frames wait for it as for others. Exceptions: under `Block` it starts
    /// with the first frame after its activation, and under `Latest` the newest frame waits at once. The number is the
    /// peer's until [`Ledger::remove`].
    pub(crate) fn admit(&mut self, terms: Terms) -> Option<usize> {
        if !self.has_room(&terms) {
            return None;
        }
        let free = self.peers.iter().position(Option::is_none).unwrap_or(self.peers.len());
        if free == MAX_PEERS {
            return None;
        }
        if free == self.peers.len() {
            self.peers.push(None);
        }
        self.admitted += 1;
        let mut peer = Peer {
            terms,
            joined: self.admitted,
            active: false,
            was_active: false,
            expelled: false,
            leases: Vec::with_capacity(terms.hold as usize),
            waiting: VecDeque::with_capacity(terms.policy.depth() as usize + 1),
            dropped: 0,
            sent: 0,
            offered: 0,
            next_due_ns: None,
            has_replaced: false,
            was_late: false,
        };
        let newest = self.newest.and_then(|g| self.lent.iter_mut().find(|l| l.id.generation == g));
        if let Some(lent) = newest.filter(|l| terms.policy == Policy::Latest && peer.wants(l.time_ns)) {
            peer.waiting.push_back(lent.id.generation);
            lent.waiting |= 1 << free;
        }
        self.peers[free] = Some(peer);
        Some(free)
    }

    /// Marks the peer as able to take frames.
    pub(crate) fn activate(&mut self, peer: usize) {
        let Some(p) = self.peers.get_mut(peer).and_then(Option::as_mut) else { return };
        (p.was_active, p.active) = (true, !p.expelled);
    }

    /// Drops the frames that wait for the peer, and sends it nothing until it is activated again. Its leases stay.
    pub(crate) fn stop(&mut self, peer: usize) {
        let Some(p) = self.peers.get_mut(peer).and_then(Option::as_mut) else { return };
        p.active = false;
        p.dropped += p.waiting.len() as u64;
        p.waiting.clear();
        for lent in &mut self.lent {
            lent.waiting &= !(1 << peer);
        }
        self.sweep();
    }

    /// Ends the stream for the peer. The peer stays while it has leases.
    pub(crate) fn expel(&mut self, peer: usize) {
        self.stop(peer);
        if let Some(p) = self.peers.get_mut(peer).and_then(Option::as_mut) {
            p.expelled = true;
        }
    }

    /// Removes the peer and ends its leases.
    pub(crate) fn remove(&mut self, peer: usize) {
        if let Some(p) = self.peers.get_mut(peer) {
            *p = None;
        }
        for lent in &mut self.lent {
            lent.is_abandoned |= lent.holders & 1 << peer != 0;
            lent.holders &= !(1 << peer);
            lent.waiting &= !(1 << peer);
        }
        self.sweep();
    }

    /// Returns `true` if a peer with policy `Block` has no room for another frame, or has not acknowledged the new
    /// pool.
    pub(crate) fn is_blocked(&self) -> bool {
        let blocks = |p: &Peer| p.terms.policy == Policy::Block && p.was_active && !p.expelled;
        self.peers.iter().flatten().any(|p| blocks(p) && (!p.active || !p.waiting.is_empty()))
    }

    /// Returns the peers that the source waits for.
    pub(crate) fn blocking(&self) -> Vec<usize> {
        let blocks = |p: &Peer| p.terms.policy == Policy::Block && p.was_active && !p.expelled;
        let members = self.peers.iter().enumerate().filter_map(|(i, p)| Some((i, p.as_ref()?)));
        members.filter(|(_, p)| blocks(p) && (!p.active || !p.waiting.is_empty())).map(|(i, _)| i).collect()
    }

    /// Adds a frame. It waits for every peer that wants it, and replaces older ones where the policy says so.
    pub(crate) fn publish(&mut self, pool: u32, slot: u32, time_ns: u64, item: T) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let id = LeaseId { pool, slot, generation };
        let mut lent = Lent { id, time_ns, item, holders: 0, waiting: 0, is_abandoned: false };
        for (i, p) in self.peers.iter_mut().enumerate() {
            let Some(p) = p else { continue };
            if p.expelled || !p.wants(time_ns) {
                continue;
            }
            // The source does not wait for a `Block` peer before that takes its first pool. A frame that waited until
            // then would be followed by a gap.
            let is_early = p.terms.policy == Policy::Block && !p.was_active;
            if is_early || p.waiting.len() >= p.terms.policy.depth() as usize {
                p.dropped += 1;
                if p.terms.policy != Policy::Latest {
                    continue;
                }
                if let Some(old) = p.waiting.pop_front() {
                    p.has_replaced = true;
                    if let Some(old) = self.lent.iter_mut().find(|l| l.id.generation == old) {
                        old.waiting &= !(1 << i);
                    }
                }
            }
            p.waiting.push_back(generation);
            lent.waiting |= 1 << i;
        }
        self.newest = Some(generation);
        self.lent.push(lent);
        self.sweep();
    }

    /// Returns the next frame to send to a peer, and the drop count to send with it.
    pub(crate) fn next_for(&self, peer: usize) -> Option<(LeaseId, &T, u64)> {
        let p = self.peers.get(peer)?.as_ref()?;
        let generation = *p.waiting.front().filter(|_| p.active && p.has_credit())?;
        let lent = self.lent.iter().find(|l| l.id.generation == generation)?;
        Some((lent.id, &lent.item, p.dropped))
    }

    /// Returns the generation of the frame that was last sent to the peer, if it is out of date, and only once. It is
    /// if the policy is `Latest`, no credit is left, and two frames have come since.
    pub(crate) fn newly_late(&mut self, peer: usize) -> Option<u64> {
        let p = self.peers.get_mut(peer)?.as_mut()?;
        let is_late = p.active && p.has_replaced && !p.waiting.is_empty() && !p.has_credit();
        let was_late = std::mem::replace(&mut p.was_late, is_late);
        let last = p.leases.iter().map(|l| l.id.generation).max();
        last.filter(|_| is_late && !was_late)
    }

    /// Notes that the frame of [`Ledger::next_for`] was sent.
    pub(crate) fn sent(&mut self, peer: usize, now_ns: u64) {
        let Some(p) = self.peers.get_mut(peer).and_then(Option::as_mut) else { return };
        let Some(generation) = p.waiting.pop_front() else { return };
        let Some(lent) = self.lent.iter_mut().find(|l| l.id.generation == generation) else { return };
        lent.waiting &= !(1 << peer);
        lent.holders |= 1 << peer;
        p.leases.push(Lease { id: lent.id, sent_ns: now_ns, revoked: false, settling: false });
        p.sent += 1;
        p.has_replaced = false;
    }

    /// Notes that the frame of [`Ledger::next_for`] could not be sent.
    pub(crate) fn not_sent(&mut self, peer: usize) {
        let Some(p) = self.peers.get_mut(peer).and_then(Option::as_mut) else { return };
        let Some(generation) = p.waiting.pop_front() else { return };
        p.dropped += 1;
        if let Some(lent) = self.lent.iter_mut().find(|l| l.id.generation == generation) {
            lent.waiting &= !(1 << peer);
        }
        self.sweep();
    }

    /// Returns the peer's lease of a generation.
    #[cfg(feature = "unixfd")]
    pub(crate) fn lease(&self, peer: usize, generation: u64) -> Option<LeaseId> {
        let peer = self.peers.get(peer)?.as_ref()?;
        peer.leases.iter().map(|l| l.id).find(|id| id.generation == generation)
    }

    /// Returns the item of a lease that the peer has not released.
    pub(crate) fn leased(&self, peer: usize, id: LeaseId) -> Option<&T> {
        self.lease_at(peer, id, false)?;
        self.lent.iter().find(|l| l.id.generation == id.generation).map(|l| &l.item)
    }

    /// Ends a lease that the peer has released.
    pub(crate) fn release(&mut self, peer: usize, id: LeaseId) -> Result<(), IllegalRelease> {
        let at = self.lease_at(peer, id, false).ok_or(IllegalRelease(id))?;
        self.end(peer, at);
        Ok(())
    }

    /// Notes that the peer has released a lease, and that its device still uses the buffer. The lease counts until
    /// [`Ledger::settled`].
    pub(crate) fn settle(&mut self, peer: usize, id: LeaseId) -> Result<(), IllegalRelease> {
        let at = self.lease_at(peer, id, false).ok_or(IllegalRelease(id))?;
        if let Some(p) = self.peers.get_mut(peer).and_then(Option::as_mut) {
            p.leases[at].settling = true;
        }
        Ok(())
    }

    /// Ends a lease after [`Ledger::settle`]. Does nothing if the peer was removed in the meantime.
    pub(crate) fn settled(&mut self, peer: usize, id: LeaseId) {
        if let Some(at) = self.lease_at(peer, id, true) {
            self.end(peer, at);
        }
    }

    fn lease_at(&self, peer: usize, id: LeaseId, settling: bool) -> Option<usize> {
        let p = self.peers.get(peer)?.as_ref()?;
        p.leases.iter().position(|l| l.id == id && l.settling == settling)
    }

    fn end(&mut self, peer: usize, at: usize) {
        let Some(p) = self.peers.get_mut(peer).and_then(Option::as_mut) else { return };
        let id = p.leases.swap_remove(at).id;
        if let Some(lent) = self.lent.iter_mut().find(|l| l.id.generation == id.generation) {
            lent.holders &= !(1 << peer);
        }
        self.sweep();
    }

    /// Returns the leases of a pool that the peer has not released.
    pub(crate) fn leases_of(&self, peer: usize, pool: u32) -> Vec<LeaseId> {
        let leases = self.peers.get(peer).and_then(Option::as_ref).map_or(&[][..], |p| &p.leases);
        leases.iter().filter(|l| l.id.pool == pool && !l.settling).map(|l| l.id).collect()
    }

    /// Returns the oldest lease of a peer that is not expelled, and when it was sent.
    pub(crate) fn oldest_lease(&self, peer: usize, of: Leases) -> Option<(LeaseId, u64)> {
        let p = self.peers.get(peer)?.as_ref().filter(|p| !p.expelled)?;
        let leases = p.leases.iter().filter(|l| of == Leases::All || !l.revoked);
        leases.map(|l| (l.id, l.sent_ns)).min_by_key(|&(_, sent_ns)| sent_ns)
    }

    /// Marks a lease as revoked: it still counts against the quota until it is released.
    pub(crate) fn revoke(&mut self, peer: usize, id: LeaseId) {
        let lease =
            self.peers.get_mut(peer).and_then(Option::as_mut).and_then(|p| p.leases.iter_mut().find(|l| l.id == id));
        if let Some(lease) = lease {
            lease.revoked = true;
        }
    }

    /// Returns how many frames were sent and not released.
    pub(crate) fn held_by(&self, peer: usize) -> usize {
        self.peers.get(peer).and_then(Option::as_ref).map_or(0, |p| p.leases.len())
    }

    /// Returns `true` if the peer has ever been active.
    pub(crate) fn was_active(&self, peer: usize) -> bool {
        self.peers.get(peer).and_then(Option::as_ref).is_some_and(|p| p.was_active)
    }

    /// Returns `true` if frames wait for the peer's next release.
    pub(crate) fn waits_for(&self, peer: usize) -> bool {
        self.peers.get(peer).and_then(Option::as_ref).is_some_and(|p| !p.waiting.is_empty())
    }

    pub(crate) fn figures(&self, peer: usize) -> Figures {
        self.peers.get(peer).and_then(Option::as_ref).map_or_else(Figures::default, |p| Figures {
            sent: p.sent,
            dropped: p.dropped,
            held: p.leases.len(),
            quota: p.terms.quota(),
            oldest_ns: p.leases.iter().map(|l| l.sent_ns).min(),
        })
    }

    /// Drops the frames that no peer holds or waits for, except the newest.
    fn sweep(&mut self) {
        let mut i = 0;
        while let Some(lent) = self.lent.get(i) {
            if lent.holders | lent.waiting != 0 || Some(lent.id.generation) == self.newest {
                i += 1;
                continue;
            }
            let lent = self.lent.remove(i);
            if let Some(abandoned) = self.abandoned.as_mut().filter(|_| lent.is_abandoned) {
                abandoned.push((lent.id.pool, lent.item));
            }
        }
    }
}

#[cfg(test)]
#[path = "ledger_model.rs"]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::rc::Rc;

    fn terms(hold: u32, policy: Policy) -> Terms {
        Terms { hold, policy, rate: Rate::All }
    }

    fn ledger(peers: &[Terms]) -> Ledger<Rc<()>> {
        let mut ledger = Ledger::new(false);
        for (i, t) in peers.iter().enumerate() {
            assert_eq!(ledger.admit(*t), Some(i));
            ledger.activate(i);
        }
        ledger
    }

    fn send_all(ledger: &mut Ledger<Rc<()>>, peer: usize) -> Vec<LeaseId> {
        let mut sent = Vec::new();
        while let Some((id, _, _)) = ledger.next_for(peer) {
            ledger.sent(peer, 0);
            sent.push(id);
        }
        sent
    }

    #[test]
    fn items_of_a_removed_peer_are_given_when_no_other_peer_needs_them() {
        let mut l = Ledger::new(true);
        (0..2).for_each(|i| assert_eq!(l.admit(terms(2, Policy::Latest)), Some(i)));
        (0..2).for_each(|i| l.activate(i));
        assert!(l.set_pool(Some(1), 8, 1).is_empty());
        (0..2).for_each(|i| l.activate(i));
        l.publish(1, 0, 0, Rc::new(()));
        let [a, b] = [0, 1].map(|peer| send_all(&mut l, peer)[0]);
        l.publish(1, 1, 0, Rc::new(()));
        l.release(1, b).unwrap();
        assert!(l.take_abandoned().is_none());
        l.remove(0);
        assert_eq!(l.take_abandoned().map(|(pool, item)| (pool, Rc::strong_count(&item))), Some((1, 1)), "{a:?}");
        assert!(l.take_abandoned().is_none(), "the frame that only waited for it");
        assert!(l.has_room(&terms(2, Policy::Latest)));
        l.withhold(1);
        assert!(!l.has_room(&terms(2, Policy::Latest)), "3 + 1 + 3 > 8 - 1 - 1");
    }

    #[test]
    fn latest_replaces_fifo_keeps_block_stops() {
        let mut l = ledger(&[terms(1, Policy::Latest), terms(1, Policy::Fifo(2)), terms(1, Policy::Block)]);
        let mut first = Vec::new();
        for frame in 0..5 {
            if frame == 1 {
                assert!(!l.is_blocked());
            }
            l.publish(1, frame, 0, Rc::new(()));
            first.push((0..3).map(|p| send_all(&mut l, p)).collect::<Vec<_>>());
        }
        assert!(l.is_blocked());
        let ids: Vec<_> = first[0].iter().map(|s| s[0]).collect();
        assert!(first[1..].iter().flatten().all(Vec::is_empty), "no peer has credit");
        (0..3).for_each(|p| l.release(p, ids[p]).unwrap());
        let next: Vec<_> = (0..3).map(|p| send_all(&mut l, p)[0].generation).collect();
        assert_eq!(next, [5, 2, 2], "the newest, the oldest that waits, the one that blocks");
        assert_eq!((0..3).map(|p| l.figures(p).dropped).collect::<Vec<_>>(), [3, 2, 3]);
        assert!(!l.is_blocked());
    }

    #[test]
    fn release_is_legal_once() {
        let mut l = ledger(&[terms(2, Policy::Latest), terms(2, Policy::Latest)]);
        l.publish(1, 0, 0, Rc::new(()));
        let id = send_all(&mut l, 0)[0];
        assert_eq!(l.release(1, id), Err(IllegalRelease(id)), "another's");
        let stale = LeaseId { generation: id.generation + 1, ..id };
        assert_eq!(l.release(0, stale), Err(IllegalRelease(stale)));
        l.revoke(0, id);
        assert!(l.oldest_lease(0, Leases::NotRevoked).is_none());
        assert_eq!(l.oldest_lease(0, Leases::All), Some((id, 0)));
        assert_eq!(l.release(0, id), Ok(()), "a revoked lease may still be given back");
        assert_eq!(l.release(0, id), Err(IllegalRelease(id)), "twice");
        assert_eq!(l.release(9, id), Err(IllegalRelease(id)));
    }

    #[test]
    fn quotas_leave_the_source_its_reserve() {
        let mut l: Ledger<()> = Ledger::new(false);
        assert!(l.set_pool(Some(1), 8, 3).is_empty());
        assert_eq!(l.admit(terms(1, Policy::Latest)), Some(0));
        assert_eq!(l.admit(terms(1, Policy::Fifo(2))), None, "2 + 3 > 8 - 3 - 1");
        assert_eq!(l.admit(terms(1, Policy::Latest)), Some(1));
        assert_eq!(l.admit(terms(1, Policy::Latest)), None);
        l.remove(0);
        assert_eq!(l.admit(terms(1, Policy::Latest)), Some(0));
        (0..2).for_each(|p| l.activate(p));
        assert_eq!(l.set_pool(Some(2), 6, 3), [0], "a smaller pool: the last admitted is expelled");
    }

    #[test]
    fn late_peer_gets_the_newest_frame() {
        let mut l = ledger(&[]);
        l.publish(1, 0, 0, Rc::new(()));
        l.publish(1, 1, 0, Rc::new(()));
        let late = l.admit(terms(1, Policy::Latest)).unwrap();
        assert!(l.next_for(late).is_none());
        l.activate(late);
        assert_eq!(send_all(&mut l, late)[0].slot, 1);
        let fifo = l.admit(terms(1, Policy::Fifo(1))).unwrap();
        l.activate(fifo);
        assert!(l.next_for(fifo).is_none());
    }

    #[test]
    fn frames_wait_until_the_pool_is_known() {
        let mut l = ledger(&[terms(2, Policy::Fifo(2)), terms(2, Policy::Latest), terms(2, Policy::Fifo(2))]);
        for pool in 2..10 {
            assert!(l.set_pool(Some(pool), 30, 2).is_empty());
            (0..3).for_each(|slot| l.publish(pool, slot, 0, Rc::new(())));
            assert!((0..3).all(|p| l.next_for(p).is_none()));
            (0..2).for_each(|p| l.activate(p));
            let slots = |ids: Vec<LeaseId>| ids.iter().map(|id| id.slot).collect::<Vec<_>>();
            assert_eq!((slots(send_all(&mut l, 0)), slots(send_all(&mut l, 1))), (vec![0, 1], vec![2]));
            for peer in 0..2 {
                l.leases_of(peer, pool).into_iter().for_each(|id| l.release(peer, id).unwrap());
            }
        }
        let counts = |p| (l.figures(p).sent, l.figures(p).dropped);
        // The third has not answered since, so the frames that wait for it are neither sent nor dropped.
        assert_eq!([0, 1, 2].map(counts), [(16, 8), (8, 16), (0, 22)]);
    }

    #[test]
    fn rates_count_frames_or_follow_timestamps() {
        let with = |rate| Terms { hold: 99, policy: Policy::Latest, rate };
        let mut l = ledger(&[with(Rate::EveryNth(3)), with(Rate::MilliFps(10_000)), with(Rate::MilliFps(25_000))]);
        for frame in 0..30u64 {
            // 30 frames a second, each up to 2 ms late.
            l.publish(1, 0, frame * 33_333_333 + frame % 3 * 1_000_000, Rc::new(()));
            (0..3).for_each(|p| drop(send_all(&mut l, p)));
        }
        assert_eq!((l.figures(0).sent, l.figures(1).sent), (10, 10));
        assert!((24..=26).contains(&l.figures(2).sent), "{}", l.figures(2).sent);
        assert_eq!(l.figures(0).dropped, 0, "a frame that the rate skips is not a drop");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit(u32, u16, bool),
        Activate(usize),
        Remove(usize),
        Stop(usize),
        Expel(usize),
        Publish,
        Send(usize),
        NotSent(usize),
        Release(usize, usize),
        Settle(usize, usize),
        Settled(usize),
        Foreign(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let peer = 0usize..6;
        prop_oneof![
            (1u32..3, 1u16..3, any::<bool>()).prop_map(|(h, d, f)| Step::Admit(h, d, f)),
            peer.clone().prop_map(Step::Activate),
            peer.clone().prop_map(Step::Remove),
            peer.clone().prop_map(Step::Stop),
            peer.clone().prop_map(Step::Expel),
            Just(Step::Publish),
            Just(Step::Publish),
            peer.clone().prop_map(Step::Send),
            peer.clone().prop_map(Step::Send),
            peer.clone().prop_map(Step::NotSent),
            (peer.clone(), 0usize..3).prop_map(|(p, n)| Step::Release(p, n)),
            (peer.clone(), 0usize..3).prop_map(|(p, n)| Step::Settle(p, n)),
            peer.clone().prop_map(Step::Settled),
            peer.prop_map(Step::Foreign),
        ]
    }

    proptest! {
        #[test]
        fn invariants_hold(steps in proptest::collection::vec(step(), 1..200)) {
            const SLOTS: usize = 12;
            const RESERVE: usize = 2;
            let mut l: Ledger<Rc<()>> = Ledger::new(false);
            l.set_pool(Some(1), SLOTS, RESERVE);
            let mut out: Vec<(usize, LeaseId)> = Vec::new();
            let mut settling: Vec<(usize, LeaseId)> = Vec::new();
            let mut items: Vec<std::rc::Weak<()>> = Vec::new();
            for s in steps {
                match s {
                    Step::Admit(hold, depth, fifo) => {
                        let policy = if fifo { Policy::Fifo(depth) } else { Policy::Latest };
                        l.admit(terms(hold, policy));
                    }
                    Step::Activate(p) => l.activate(p),
                    Step::Remove(p) => {
                        l.remove(p);
                        out.retain(|&(holder, _)| holder != p);
                        settling.retain(|&(holder, _)| holder != p);
                    }
                    Step::Stop(p) => l.stop(p),
                    Step::Expel(p) => l.expel(p),
                    Step::Publish => {
                        let item = Rc::new(());
                        items.push(Rc::downgrade(&item));
                        l.publish(1, 0, 0, item);
                    }
                    Step::Send(p) => {
                        if let Some((id, _, _)) = l.next_for(p) {
                            l.sent(p, 0);
                            out.push((p, id));
                        }
                    }
                    Step::NotSent(p) => l.not_sent(p),
                    Step::Release(p, n) => {
                        if let Some(at) = out.iter().position(|&(holder, _)| holder == p).map(|at| at + n).filter(|&at| at < out.len()) {
                            let (holder, id) = out.remove(at);
                            prop_assert_eq!(l.release(holder, id), Ok(()));
                            prop_assert!(l.release(holder, id).is_err());
                        }
                    }
                    Step::Settle(p, n) => {
                        let own: Vec<_> = out.iter().filter(|(holder, _)| *holder == p).copied().collect();
                        if let Some(&(holder, id)) = own.get(n) {
                            out.retain(|&lease| lease != (holder, id));
                            settling.push((holder, id));
                            prop_assert_eq!(l.settle(holder, id), Ok(()));
                            prop_assert!(l.settle(holder, id).is_err() && l.release(holder, id).is_err());
                        }
                    }
                    Step::Settled(p) => {
                        if let Some(at) = settling.iter().position(|&(holder, _)| holder == p) {
                            let (holder, id) = settling.remove(at);
                            l.settled(holder, id);
                            l.settled(holder, id);
                        }
                    }
                    Step::Foreign(p) => {
                        let id = LeaseId { pool: 1, slot: 0, generation: u64::MAX };
                        prop_assert!(l.release(p, id).is_err());
                    }
                }
                // Invariant 1: kept exactly as long as needed.
                let alive = items.iter().filter(|i| i.strong_count() > 0).count();
                prop_assert_eq!(alive, l.lent.len());
                for lent in &l.lent {
                    let holders = out.iter().chain(&settling).filter(|(_, id)| *id == lent.id).fold(0u64, |m, (p, _)| m | 1 << p);
                    prop_assert_eq!(lent.holders, holders);
                    prop_assert!(lent.holders | lent.waiting != 0 || Some(lent.id.generation) == l.newest);
                }
                for (_, id) in out.iter().chain(&settling) {
                    prop_assert!(l.lent.iter().any(|lent| lent.id == *id), "a held frame was dropped");
                }
                // Invariants 2 and 3: quotas are limits.
                for p in l.peers.iter().flatten() {
                    prop_assert!(p.leases.len() + p.waiting.len() <= p.terms.quota() as usize);
                }
                prop_assert!(l.lent.len() + RESERVE <= SLOTS);
            }
        }
    }
}
