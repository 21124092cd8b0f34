//! Model check of the protocol in `docs/protocol.md` with the real ledger: tries every order of events in a small
//! world.
//!
//! The world has a publisher, two subscribers, and messages under way in both directions. At any time one of these can
//! happen: a frame is published; a message is delivered or answered; a lease is given back, revoked or quarantined; a
//! device finishes; the pool changes; a subscriber is killed, its death is seen, or another one takes its place; the
//! publisher is killed and another one starts, with other memory and its own count. `FRAMELEASE_STORM` makes the world
//! larger.

use std::collections::{HashSet, VecDeque};

use super::*;

const PEERS: usize = 2;
const SLOTS: u8 = 6;
const RESERVE: u8 = 1;

/// How often each event may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    frames: u8,
    pools: u8,
    kills: u8,
    deadlines: u8,
    restarts: u8,
    fences: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ToPeer {
    Pool(u32),
    Frame(LeaseId),
    Revoke(LeaseId),
    Bye,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FromPeer {
    Acknowledged(u32),
    Release(LeaseId),
    Retired(u32),
}

/// A subscriber, and the publisher's side of its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    /// The subscriber's number in the ledger.
    number: usize,
    is_dead: bool,
    /// The publisher has died. Earlier messages can still be read.
    is_cut_off: bool,
    /// Frames that the subscriber's program reads.
    holds: Vec<LeaseId>,
    /// Frames of a dead publisher that the subscriber's program reads.
    stale: Vec<LeaseId>,
    /// Frames that it has released, and that its device reads.
    devices: Vec<LeaseId>,
    /// Pools that the subscriber has mapped.
    pools: Vec<u32>,
    inbox: VecDeque<ToPeer>,
    outbox: VecDeque<FromPeer>,
    /// The last pool that was announced to it, and whether it has answered.
    told: u32,
    owes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    ledger: Ledger<(u32, u8)>,
    pool: u32,
    peers: [Option<Peer>; PEERS],
    left: Budget,
}

/// Cases that must have occurred, so that no rule holds only because its case did not.
const REVOKED_AND_RELEASED: u8 = 1;
const FREED_FROM_QUARANTINE: u8 = 2;
const HELD_ACROSS_POOLS: u8 = 4;
const DIED_WITH_A_LEASE: u8 = 8;
const STALE_BY_A_NAME_IN_USE: u8 = 16;
const READ_BY_A_DEVICE_AFTER_ITS_POOL: u8 = 32;
const ALL: u8 = 63;

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish,
    ChangePool,
    Revoke,
    Expel,
    Admit(usize),
    Take(usize),
    Settle(usize),
    Signal(usize, usize),
    Reap(usize),
    Deliver(usize),
    Drop(usize, usize),
    Kill(usize),
    Restart,
    Reconnect(usize),
    DropStale(usize, usize),
}

const TERMS: [Terms; PEERS] = [
    Terms { hold: 1, policy: Policy::Latest, rate: Rate::All },
    Terms { hold: 1, policy: Policy::Fifo(1), rate: Rate::All },
];

impl World {
    fn new(left: Budget) -> Self {
        let mut ledger = Ledger::new(false);
        ledger.set_pool(Some(1), SLOTS.into(), RESERVE.into());
        Self { ledger, pool: 1, peers: Default::default(), left }
    }

    /// Returns a buffer of this pool that the source may fill.
    fn free(&self) -> Option<u8> {
        (0..SLOTS).find(|&slot| !self.ledger.lent.iter().any(|l| l.item == (self.pool, slot)))
    }

    /// Returns the oldest lease of the first peer that has one.
    fn oldest_lease(&self, of: Leases) -> Option<(usize, LeaseId)> {
        (0..self.ledger.peers.len()).find_map(|peer| Some((peer, self.ledger.oldest_lease(peer, of)?.0)))
    }

    /// Returns every event that can happen now.
    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Publish, Step::ChangePool, Step::Revoke, Step::Expel, Step::Restart];
        for (p, peer) in self.peers.iter().enumerate() {
            steps.extend([Step::Admit(p), Step::Take(p), Step::Reap(p), Step::Deliver(p), Step::Kill(p)]);
            steps.extend([Step::Reconnect(p), Step::Settle(p)]);
            let lens = |peer: &Peer| (peer.holds.len(), peer.stale.len(), peer.devices.len());
            let (holds, stale, devices) = peer.as_ref().map_or((0, 0, 0), lens);
            steps.extend((0..devices).map(|i| Step::Signal(p, i)));
            steps.extend((0..holds).map(|i| Step::Drop(p, i)));
            steps.extend((0..stale).map(|i| Step::DropStale(p, i)));
        }
        steps
    }

    /// Returns the world after this event, if it can happen.
    fn after(&self, step: Step, seen: &mut u8) -> Option<Self> {
        let mut next = self.clone();
        *seen |= next.act(step)?;
        (0..PEERS).for_each(|p| next.flush(p));
        // These counts have no influence, so worlds that differ only in them are the same.
        for peer in next.ledger.peers.iter_mut().flatten() {
            (peer.joined, peer.dropped, peer.sent, peer.offered) = (0, 0, 0, 0);
        }
        next.ledger.admitted = 0;
        Some(next)
    }

    /// Applies the event. Returns which of the cases above occurred.
    fn act(&mut self, step: Step) -> Option<u8> {
        match step {
            Step::Publish => {
                self.left.frames = self.left.frames.checked_sub(1)?;
                let slot = self.free().expect("the source always has a buffer");
                self.ledger.publish(self.pool, slot.into(), 0, (self.pool, slot));
            }
            Step::ChangePool => {
                self.left.pools = self.left.pools.checked_sub(1)?;
                self.pool += 1;
                assert!(self.ledger.set_pool(Some(self.pool), SLOTS.into(), RESERVE.into()).is_empty());
            }
            Step::Revoke => {
                self.left.deadlines = self.left.deadlines.checked_sub(1)?;
                let (number, id) = self.oldest_lease(Leases::NotRevoked)?;
                self.ledger.revoke(number, id);
                self.at(number)?.inbox.push_back(ToPeer::Revoke(id));
            }
            Step::Expel => {
                let (number, _) = self.oldest_lease(Leases::All)?;
                self.ledger.expel(number);
                self.at(number)?.inbox.push_back(ToPeer::Bye);
            }
            Step::Admit(p) => {
                if self.peers[p].is_some() {
                    return None;
                }
                // An expelled peer costs only what it holds, so there is always room for another.
                let number = self.ledger.admit(TERMS[p]).expect("the quotas fit");
                self.peers[p] = Some(Peer { number, ..Peer::default() });
            }
            Step::Take(p) => return self.take(p),
            // The publisher reads a RELEASE, and the subscriber's device still reads the frame.
            Step::Settle(p) => {
                self.left.fences = self.left.fences.checked_sub(1)?;
                let peer = self.peers[p].as_mut()?;
                let Some(FromPeer::Release(id)) = peer.outbox.front().copied() else { return None };
                peer.outbox.pop_front();
                peer.devices.push(id);
                self.ledger.settle(peer.number, id).expect("a peer that keeps the rules");
                assert!(self.ledger.release(peer.number, id).is_err(), "released twice");
            }
            Step::Signal(p, i) => {
                let peer = self.peers[p].as_mut().filter(|peer| !peer.is_cut_off)?;
                let id = peer.devices.remove(i);
                self.ledger.settled(peer.number, id);
                return Some(if id.pool == self.pool { 0 } else { READ_BY_A_DEVICE_AFTER_ITS_POOL });
            }
            Step::Reap(p) => {
                let peer = self.peers[p].take_if(|peer| peer.is_dead)?;
                // The publisher that served it is dead, too.
                if peer.is_cut_off {
                    return Some(0);
                }
                let held = self.ledger.held_by(peer.number);
                self.ledger.remove(peer.number);
                return Some(if held > 0 { DIED_WITH_A_LEASE } else { 0 });
            }
            Step::Deliver(p) => return self.deliver(p),
            Step::Drop(p, i) => {
                let peer = self.peers[p].as_mut().filter(|peer| !peer.is_dead)?;
                let id = peer.holds.remove(i);
                peer.say(FromPeer::Release(id));
                peer.retire();
            }
            Step::Kill(p) => {
                self.left.kills = self.left.kills.checked_sub(1)?;
                let peer = self.peers[p].as_mut().filter(|peer| !peer.is_dead)?;
                peer.is_dead = true;
                // The subscriber's program is gone. Messages that it had sent are still on their way.
                peer.holds.clear();
                peer.stale.clear();
                peer.inbox.clear();
            }
            Step::Restart => {
                self.left.restarts = self.left.restarts.checked_sub(1)?;
                (self.ledger, self.pool) = (Ledger::new(false), 1);
                self.ledger.set_pool(Some(1), SLOTS.into(), RESERVE.into());
                for place in &mut self.peers {
                    // The new publisher does not know the dead subscribers.
                    *place = place.take().filter(|peer| !peer.is_dead);
                    if let Some(peer) = place {
                        peer.is_cut_off = true;
                        peer.outbox.clear();
                    }
                }
            }
            // The subscriber has read everything, and sees the hang-up.
            Step::Reconnect(p) => {
                let peer = self.peers[p].take_if(|peer| peer.is_cut_off && !peer.is_dead && peer.inbox.is_empty())?;
                let stale = [peer.stale, peer.holds].concat();
                let number = self.ledger.admit(TERMS[p]).expect("the quotas fit");
                self.peers[p] = Some(Peer { number, stale, ..Peer::default() });
            }
            // No message is sent: the same id may be a lease of the new publisher.
            Step::DropStale(p, i) => {
                let id = self.peers[p].as_mut()?.stale.remove(i);
                let is_in_use = self.ledger.lent.iter().any(|l| l.id == id);
                return Some(if is_in_use { STALE_BY_A_NAME_IN_USE } else { 0 });
            }
        }
        Some(0)
    }

    /// Sends frames, as the publisher does after each event.
    fn flush(&mut self, p: usize) {
        let Some(peer) = self.peers[p].as_mut().filter(|peer| !peer.is_cut_off) else { return };
        if peer.told != self.pool && !peer.owes {
            (peer.told, peer.owes) = (self.pool, true);
            peer.tell(ToPeer::Pool(self.pool));
        }
        while let Some((id, _, _)) = self.ledger.next_for(peer.number) {
            assert_eq!(id.pool, self.pool, "of the pool that it knows");
            self.ledger.sent(peer.number, 0);
            peer.tell(ToPeer::Frame(id));
        }
    }

    fn at(&mut self, number: usize) -> Option<&mut Peer> {
        self.peers.iter_mut().flatten().find(|p| p.number == number && !p.is_dead && !p.is_cut_off)
    }

    /// The publisher reads a message.
    fn take(&mut self, p: usize) -> Option<u8> {
        let peer = self.peers[p].as_mut()?;
        let number = peer.number;
        match peer.outbox.pop_front()? {
            FromPeer::Acknowledged(pool) => {
                peer.owes = false;
                if pool == self.pool {
                    self.ledger.activate(number);
                }
            }
            FromPeer::Release(id) => {
                let holder = self.ledger.peers[number].as_ref()?;
                let was_revoked = holder.leases.iter().any(|l| l.id == id && l.revoked);
                let was_expelled = holder.expelled;
                self.ledger.release(number, id).expect("a peer that keeps the rules");
                return Some(
                    u8::from(was_revoked) * REVOKED_AND_RELEASED + u8::from(was_expelled) * FREED_FROM_QUARANTINE,
                );
            }
            FromPeer::Retired(pool) => {
                assert!(self.ledger.leases_of(number, pool).is_empty(), "RELEASE comes before RETIRED");
            }
        }
        Some(0)
    }

    /// The subscriber reads a message.
    fn deliver(&mut self, p: usize) -> Option<u8> {
        let peer = self.peers[p].as_mut().filter(|peer| !peer.is_dead)?;
        match peer.inbox.pop_front()? {
            ToPeer::Pool(pool) => {
                peer.pools.push(pool);
                peer.say(FromPeer::Acknowledged(pool));
                peer.retire();
            }
            ToPeer::Frame(id) => {
                peer.holds.push(id);
                return Some(if id.pool == self.pool { 0 } else { HELD_ACROSS_POOLS });
            }
            // The subscriber is notified; its program may still read.
            ToPeer::Revoke(_) | ToPeer::Bye => {}
        }
        Some(0)
    }

    /// Checks the rules that hold after every event.
    fn check(&self) {
        // No source fills the buffers of a dead publisher.
        for peer in self.peers.iter().flatten().filter(|peer| !peer.is_dead && !peer.is_cut_off) {
            // A frame that is read, or will be read when its message is delivered, is still in its buffer.
            let coming = peer.inbox.iter().filter_map(|m| if let ToPeer::Frame(id) = m { Some(*id) } else { None });
            for id in peer.holds.iter().chain(&peer.devices).copied().chain(coming) {
                let lent = self.ledger.lent.iter().find(|l| l.item == (id.pool, id.slot as u8));
                assert!(lent.is_some_and(|l| l.id == id), "{id:?} is read, and its buffer was returned");
            }
        }
        for peer in self.ledger.peers.iter().flatten() {
            assert!(peer.leases.len() + peer.waiting.len() <= peer.terms.quota() as usize, "a quota is exceeded");
        }
        let lent = self.ledger.lent.iter().filter(|l| l.id.pool == self.pool).count();
        assert!(lent + usize::from(RESERVE) <= usize::from(SLOTS), "peers hold the source's reserve");
        for (i, l) in self.ledger.lent.iter().enumerate() {
            assert!(!self.ledger.lent[..i].iter().any(|other| other.item == l.item), "a buffer has two frames");
        }
        if self.peers.iter().all(Option::is_none) {
            assert!(self.ledger.lent.len() <= 1, "buffers are lost");
        }
    }
}

impl Peer {
    fn tell(&mut self, message: ToPeer) {
        if !self.is_dead {
            self.inbox.push_back(message);
        }
    }

    fn say(&mut self, message: FromPeer) {
        if !self.is_cut_off {
            self.outbox.push_back(message);
        }
    }

    /// Retires old pools of which the subscriber holds nothing.
    fn retire(&mut self) {
        let Some(&newest) = self.pools.last() else { return };
        let holds = &self.holds;
        let (keeps, retired) = std::mem::take(&mut self.pools)
            .into_iter()
            .partition::<Vec<_>, _>(|&pool| pool == newest || holds.iter().any(|id| id.pool == pool));
        self.pools = keeps;
        retired.into_iter().for_each(|pool| self.say(FromPeer::Retired(pool)));
    }
}

/// Visits every world that can be reached. Returns how many there are, and which cases occurred.
fn explore(budget: Budget) -> (usize, u8) {
    let first = World::new(budget);
    let mut known = HashSet::from([first.clone()]);
    let mut rest = VecDeque::from([first]);
    let mut seen = 0;
    while let Some(world) = rest.pop_front() {
        for step in world.steps() {
            let Some(next) = world.after(step, &mut seen) else { continue };
            if !known.contains(&next) {
                next.check();
                known.insert(next.clone());
                rest.push_back(next);
            }
        }
    }
    (known.len(), seen)
}

#[test]
fn rules_hold_in_every_order_of_events() {
    let budget = |[frames, pools, kills, deadlines, restarts, fences]: [u8; 6]| Budget {
        frames,
        pools,
        kills,
        deadlines,
        restarts,
        fences,
    };
    // The larger worlds take half a minute.
    let worlds = match std::env::var_os("FRAMELEASE_STORM") {
        Some(_) => {
            vec![
                [2, 1, 1, 1, 0, 0],
                [4, 0, 0, 1, 0, 0],
                [3, 1, 0, 0, 0, 0],
                [3, 0, 0, 0, 1, 0],
                [2, 1, 0, 0, 1, 0],
                [2, 0, 1, 1, 1, 0],
                [2, 1, 1, 1, 0, 2],
            ]
        }
        None => vec![
            [1, 1, 1, 1, 0, 0],
            [3, 0, 0, 0, 0, 0],
            [2, 0, 0, 1, 0, 0],
            [2, 0, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [2, 1, 0, 0, 0, 0],
            [2, 0, 0, 0, 1, 0],
            [2, 0, 0, 1, 0, 1],
            [1, 1, 0, 0, 0, 1],
        ],
    };
    let mut seen = 0;
    for world in worlds {
        let (states, some) = explore(budget(world));
        println!("{world:?}: {states} states");
        seen |= some;
    }
    assert_eq!(seen, ALL, "a case did not occur");
}
