//! One encoder's packets to any number of consumers that come and go, none of which can hold up another.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::PollFlags;

use super::packet::Packet;
use crate::error::{Error, Result};
use crate::sys::signal::Signal;
use crate::sys::wait;

/// What becomes of packets when a consumer's backlog is full. Either way its stream goes on at a key frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// What waits is dropped, for consumers that show the present: RTP, a display.
    #[default]
    DropWaiting,
    /// What waits stays, what comes is dropped, for consumers that keep everything they can: files.
    DropNew,
}

/// How much may wait for one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCapacity {
    /// Packets.
    pub packets: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// And then.
    pub overflow: Overflow,
}

impl Default for QueueCapacity {
    /// Two seconds of 30 frames, 8 MiB.
    fn default() -> Self {
        Self { packets: 60, bytes: 8 << 20, overflow: Overflow::default() }
    }
}

impl QueueCapacity {
    /// A limit of packets and bytes; at least one packet can wait, however large.
    pub fn new(packets: usize, bytes: usize, overflow: Overflow) -> Self {
        Self { packets: packets.max(1), bytes, overflow }
    }
}

/// Buffers that an encoder keeps, whatever consumers do.
const ENCODER_RESERVE: usize = 2;

/// Hands packets to [`PacketReceiver`]s.
///
/// A consumer that keeps up gets the encoder's own buffer. One that does not, for which a packet is waiting already, gets
/// a copy, which all such consumers share; so does everybody while the encoder has only two buffers left. A backlog that is
/// full costs its own consumer packets and nobody else: see [`Overflow`].
///
/// Costs per packet: no system call for consumers that only call [`PacketReceiver::try_next`], one for each that waits or is
/// polled; no allocation unless a copy is made.
#[derive(Debug, Default)]
pub struct PacketFanout {
    taps: Vec<Arc<Shared>>,
    copied_bytes: u64,
}

impl PacketFanout {
    /// One without consumers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a consumer, whose stream begins with the next intact key frame. It leaves by dropping the tap.
    ///
    /// # Errors
    /// `Exhausted` if no descriptor is left.
    pub fn attach(&mut self, backlog: QueueCapacity) -> Result<PacketReceiver> {
        let signal = Signal::new().map_err(|e| Error::os("eventfd", e))?;
        let state = State { awaits_key: true, ..State::default() };
        let tap = Arc::new(Shared { backlog, signal, watched: AtomicBool::new(false), state: Mutex::new(state) });
        self.taps.push(Arc::clone(&tap));
        Ok(PacketReceiver(tap))
    }

    /// Consumers.
    pub fn taps(&mut self) -> usize {
        self.forget_closed();
        self.taps.len()
    }

    /// `true` while a consumer, new or behind, gets nothing until a key frame comes: time to force one. Not before half
    /// of its backlog is free: a stalled disk would have every frame be a key frame that has no room.
    pub fn awaits_key(&self) -> bool {
        self.taps.iter().any(|tap| {
            let state = tap.lock();
            let has_room = state.queue.len() <= tap.backlog.packets / 2 && state.bytes <= tap.backlog.bytes / 2;
            state.awaits_key && !state.is_closed && has_room
        })
    }

    /// Bytes that were copied for consumers that are behind.
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// Gives a packet to every consumer. Never waits.
    pub fn push(&mut self, packet: &Packet) {
        self.forget_closed();
        let is_scarce = packet.left_to_encoder().is_some_and(|left| left < ENCODER_RESERVE);
        let mut copy = None;
        for tap in &self.taps {
            tap.push(packet, |is_behind| {
                if !packet.is_leased() || !(is_behind || is_scarce) {
                    return packet.clone();
                }
                let copied = copy.get_or_insert_with(|| {
                    self.copied_bytes += packet.bytes().len() as u64;
                    packet.clone().detach()
                });
                copied.clone()
            });
        }
    }

    fn forget_closed(&mut self) {
        self.taps.retain(|tap| !tap.lock().is_closed);
    }
}

impl Drop for PacketFanout {
    fn drop(&mut self) {
        for tap in &self.taps {
            tap.lock().is_ended = true;
            tap.signal.set();
        }
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Packet>,
    bytes: usize,
    awaits_key: bool,
    dropped: u64,
    /// The consumer is gone.
    is_closed: bool,
    /// The fan-out is gone.
    is_ended: bool,
}

struct Shared {
    backlog: QueueCapacity,
    signal: Signal,
    /// Somebody waits for the signal or polls it.
    watched: AtomicBool,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, packet: &Packet, form: impl FnOnce(bool) -> Packet) {
        let mut dropped = VecDeque::new();
        let mut state = self.lock();
        if state.awaits_key && !packet.can_begin() {
            state.dropped += 1;
            return;
        }
        let bytes = packet.bytes().len();
        let is_full = |s: &State| {
            !s.queue.is_empty()
                && (s.queue.len() >= self.backlog.packets || s.bytes.saturating_add(bytes) > self.backlog.bytes)
        };
        if is_full(&state) && self.backlog.overflow == Overflow::DropWaiting {
            dropped = std::mem::take(&mut state.queue);
            (state.bytes, state.awaits_key) = (0, true);
            state.dropped += dropped.len() as u64;
        }
        if is_full(&state) || state.awaits_key && !packet.can_begin() {
            state.dropped += 1;
            state.awaits_key = true;
        } else {
            state.awaits_key = false;
            let is_behind = !state.queue.is_empty();
            state.bytes += bytes;
            state.queue.push_back(form(is_behind));
            // Two threads: the consumer marks itself watched before it looks for a packet, under this lock.
            if !is_behind && self.watched.load(Ordering::Relaxed) {
                self.signal.set();
            }
        }
        drop(state);
        // Not under the lock: the end of a lease is a system call.
        drop(dropped);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.lock();
        write!(f, "{} packets and {} bytes wait, {} dropped", s.queue.len(), s.bytes, s.dropped)
    }
}

/// What a tap gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum PacketEvent {
    /// The next packet. A gap in its sequence is what was dropped.
    Packet(Packet),
    /// The fan-out is gone, and everything that waited was given.
    Ended,
}

/// One consumer's end of a [`PacketFanout`], for any thread. Dropping it detaches the consumer.
///
/// In an event loop, register [`AsFd`] level-triggered for POLLIN and call [`PacketReceiver::try_next`] until `None`.
#[derive(Debug)]
pub struct PacketReceiver(Arc<Shared>);

impl PacketReceiver {
    /// The next packet, if there is one.
    pub fn try_next(&mut self) -> Option<PacketEvent> {
        let mut state = self.0.lock();
        let packet = state.queue.pop_front();
        if let Some(packet) = &packet {
            state.bytes = state.bytes.saturating_sub(packet.bytes().len());
        }
        if state.queue.is_empty() && !state.is_ended && self.0.watched.load(Ordering::Relaxed) {
            self.0.signal.clear();
        }
        match packet {
            Some(packet) => Some(PacketEvent::Packet(packet)),
            None => state.is_ended.then_some(PacketEvent::Ended),
        }
    }

    /// The next packet, waiting at most `timeout`; `None` if it passed.
    ///
    /// # Errors
    /// What `poll` reports.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<PacketEvent>> {
        let deadline = wait::deadline(timeout);
        self.watch();
        loop {
            if let Some(tapped) = self.try_next() {
                return Ok(Some(tapped));
            }
            let ready = wait::until(self.0.signal.as_fd(), PollFlags::POLLIN, deadline);
            if ready.map_err(|e| Error::os("poll", e))?.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Packets that this consumer did not get since it was attached: those before its first key frame, those that came
    /// while its backlog was full, and those up to the next key frame.
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Packets that wait.
    pub fn waiting(&self) -> usize {
        self.0.lock().queue.len()
    }

    fn watch(&self) {
        let state = self.0.lock();
        if !self.0.watched.swap(true, Ordering::Relaxed) && (!state.queue.is_empty() || state.is_ended) {
            self.0.signal.set();
        }
    }
}

impl AsFd for PacketReceiver {
    /// Readable while a packet waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch();
        self.0.signal.as_fd()
    }
}

impl Drop for PacketReceiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitstream::Codec;
    use crate::format::Size;
    use crate::frame::PacketMeta;

    /// A packet of three bytes.
    fn packet(sequence: u64, is_key: bool) -> Packet {
        let meta = PacketMeta::new(Codec::Vp8, Size::new(16, 16), sequence, sequence * 1000);
        Packet::new(meta, [u8::from(!is_key), 0, 0], None)
    }

    /// Packets 0.., a key frame every fourth.
    fn push(fanout: &mut PacketFanout, range: std::ops::Range<u64>) {
        range.for_each(|i| fanout.push(&packet(i, i % 4 == 0)));
    }

    fn taken(tap: &mut PacketReceiver) -> Vec<u64> {
        std::iter::from_fn(|| tap.try_next())
            .map(|t| match t {
                PacketEvent::Packet(p) => p.meta().sequence,
                PacketEvent::Ended => panic!("ended"),
            })
            .collect()
    }

    #[test]
    fn consumers_come_and_go_at_key_frames() {
        let mut fanout = PacketFanout::new();
        let mut first = fanout.attach(QueueCapacity::default()).unwrap();
        assert!(fanout.awaits_key());
        push(&mut fanout, 0..2);
        assert!(!fanout.awaits_key());
        let mut second = fanout.attach(QueueCapacity::default()).unwrap();
        push(&mut fanout, 2..6);
        assert_eq!((taken(&mut first), taken(&mut second)), (vec![0, 1, 2, 3, 4, 5], vec![4, 5]));
        assert_eq!((first.dropped(), second.dropped(), fanout.taps()), (0, 2, 2));
        drop(second);
        push(&mut fanout, 6..7);
        assert_eq!((taken(&mut first), fanout.taps()), (vec![6], 1));
        drop(fanout);
        assert!(matches!(first.try_next(), Some(PacketEvent::Ended)));
        assert!(matches!(first.next(Duration::ZERO), Ok(Some(PacketEvent::Ended))));
    }

    #[test]
    fn a_full_backlog_costs_its_own_consumer_up_to_a_key_frame() {
        let mut fanout = PacketFanout::new();
        let mut live = fanout.attach(QueueCapacity::new(3, 1000, Overflow::DropWaiting)).unwrap();
        let mut file = fanout.attach(QueueCapacity::new(3, 1000, Overflow::DropNew)).unwrap();
        let mut large = fanout.attach(QueueCapacity::new(60, 6, Overflow::DropNew)).unwrap();
        let mut fast = fanout.attach(QueueCapacity::default()).unwrap();
        push(&mut fanout, 0..10);
        // The live one lost all at 3, began again with 4, and lost that at 7.
        assert_eq!((taken(&mut live), live.dropped()), (vec![8, 9], 8));
        assert_eq!((taken(&mut file), file.dropped()), (vec![0, 1, 2], 7));
        assert_eq!((taken(&mut large), large.dropped()), (vec![0, 1], 8));
        assert_eq!((taken(&mut fast).len(), fast.dropped()), (10, 0));
        // With room again, not before a key frame.
        push(&mut fanout, 10..13);
        assert_eq!((taken(&mut live), taken(&mut file)), (vec![10, 11, 12], vec![12]));
    }

    #[test]
    fn a_key_frame_that_has_no_room_is_not_asked_for() {
        let mut fanout = PacketFanout::new();
        let mut file = fanout.attach(QueueCapacity::new(4, 1000, Overflow::DropNew)).unwrap();
        push(&mut fanout, 0..6);
        assert!(file.dropped() == 2 && !fanout.awaits_key(), "it would be dropped, and the next, too");
        // Room for one: it would be full at once.
        file.try_next();
        assert!(!fanout.awaits_key());
        file.try_next();
        assert!(fanout.awaits_key());
    }

    #[test]
    fn a_waiting_consumer_is_woken() {
        let mut fanout = PacketFanout::new();
        let mut tap = fanout.attach(QueueCapacity::default()).unwrap();
        assert!(tap.next(Duration::from_millis(1)).unwrap().is_none());
        std::thread::scope(|scope| {
            let consumer = scope.spawn(move || {
                let mut got = Vec::new();
                while let Some(PacketEvent::Packet(p)) = tap.next(Duration::from_secs(60)).unwrap() {
                    got.push(p.meta().sequence);
                }
                got
            });
            push(&mut fanout, 0..50);
            drop(fanout);
            assert_eq!(consumer.join().unwrap(), (0..50).collect::<Vec<_>>());
        });
    }

    #[test]
    fn readable_means_that_something_waits() {
        let ready = |tap: &PacketReceiver| {
            let ready = wait::until(tap.as_fd(), PollFlags::POLLIN, wait::deadline(Duration::ZERO));
            ready.unwrap().contains(PollFlags::POLLIN)
        };
        let mut fanout = PacketFanout::new();
        let mut tap = fanout.attach(QueueCapacity::default()).unwrap();
        // What came before anybody watched counts.
        push(&mut fanout, 0..2);
        assert!(ready(&tap));
        tap.try_next();
        assert!(ready(&tap));
        tap.try_next();
        assert!(!ready(&tap) && tap.try_next().is_none());
        push(&mut fanout, 2..3);
        assert!(ready(&tap));
    }
}
