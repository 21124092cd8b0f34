//! Distributes one encoder's packets to any number of consumers. Consumers can be added and removed at any time, and
//! a slow one does not delay the others.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::packet::Packet;
use crate::error::{Error, Result};
use crate::sys::signal::Signal;

/// Which packets are dropped when a consumer's queue is full. After a drop, further packets are also dropped until a
/// key frame arrives for which the queue has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// Drops the packets that wait. Use it for live consumers, such as RTP or a display. The default.
    #[default]
    DropWaiting,
    /// Keeps the packets that wait and drops the new packet. Use it for consumers that keep as many packets as
    /// possible, such as files.
    DropNew,
}

/// How many packets can wait for one consumer.
///
/// ```
/// use framelease::frame::{Overflow, QueueCapacity};
///
/// // A recording may be 10 s late and keeps its oldest packets.
/// let capacity = QueueCapacity::new(300, 32 << 20, Overflow::DropNew);
/// assert_eq!((capacity.packets, capacity.bytes), (300, 32 * 1024 * 1024));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCapacity {
    /// The largest number of packets.
    pub packets: usize,
    /// The largest sum of the packets' bytes.
    pub bytes: usize,
    /// Which packets are dropped when the queue is full.
    pub overflow: Overflow,
}

impl Default for QueueCapacity {
    /// Returns 60 packets (two seconds at 30 frames/s) and 8 MiB.
    fn default() -> Self {
        Self { packets: 60, bytes: 8 << 20, overflow: Overflow::default() }
    }
}

impl QueueCapacity {
    /// Sets the limits. At least one packet can wait, however large it is.
    pub fn new(packets: usize, bytes: usize, overflow: Overflow) -> Self {
        Self { packets: packets.max(1), bytes, overflow }
    }
}

/// If the encoder has fewer buffers left than this, consumers get copies.
const ENCODER_RESERVE: usize = 2;

/// Distributes packets to [`PacketReceiver`]s.
///
/// A consumer with an empty queue gets the encoder's own buffer. A consumer that still has a packet in its queue gets a
/// copy. One copy serves all such consumers. While the encoder has fewer than two buffers left, every consumer gets the
/// copy. When the queue of a consumer is full, only this consumer misses packets. [`Overflow`] determines which
/// packets.
///
/// A packet costs one system call for each consumer that waits for a packet. Memory is allocated only for a copy.
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::format::Size;
/// use framelease::frame::{Packet, PacketFanout, PacketMeta, QueueCapacity};
/// use framelease::Station;
///
/// let mut fanout = PacketFanout::new();
/// let mut recorder = fanout.attach(QueueCapacity::default())?;
/// let mut network = fanout.attach(QueueCapacity::default())?;
/// let meta = PacketMeta::new(Codec::Vp8, Size::new(16, 16), 0, 0);
/// fanout.push(&Packet::new(meta, [0x10, 0, 0], None));
/// assert!(recorder.try_recv()?.item().is_some());
/// assert!(network.try_recv()?.item().is_some());
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct PacketFanout {
    consumers: Vec<Arc<Shared>>,
    copied_bytes: u64,
}

impl PacketFanout {
    /// Creates a fan-out without consumers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a consumer. Its stream begins with the next intact key frame. Drop the receiver to remove the consumer.
    ///
    /// # Errors
    /// `Exhausted` if the process has no file descriptors left.
    pub fn attach(&mut self, capacity: QueueCapacity) -> Result<PacketReceiver> {
        let signal = Signal::new().map_err(|e| Error::os("eventfd", e))?;
        let state = State { awaits_key: true, ..State::default() };
        let consumer =
            Arc::new(Shared { backlog: capacity, signal, watched: AtomicBool::new(false), state: Mutex::new(state) });
        self.consumers.push(Arc::clone(&consumer));
        Ok(PacketReceiver(consumer))
    }

    /// Returns the number of consumers.
    #[doc(hidden)]
    pub fn receivers(&self) -> usize {
        self.consumers.iter().filter(|c| !c.lock().is_closed).count()
    }

    /// Returns `true` if a consumer needs a key frame and at least half of this consumer's queue is free. In that case,
    /// force a key frame (see [`Encoder::force_key`](crate::codec::Encoder::force_key)).
    pub fn awaits_key(&self) -> bool {
        self.consumers.iter().any(|consumer| {
            let state = consumer.lock();
            let has_room =
                state.queue.len() <= consumer.backlog.packets / 2 && state.bytes <= consumer.backlog.bytes / 2;
            state.awaits_key && !state.is_closed && has_room
        })
    }

    /// Returns the number of bytes that were copied for consumers that did not keep up.
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// Gives a packet to every consumer. Never blocks.
    pub fn push(&mut self, packet: &Packet) {
        self.forget_closed();
        let is_scarce = packet.left_to_encoder().is_some_and(|left| left < ENCODER_RESERVE);
        let mut copy = None;
        for consumer in &self.consumers {
            consumer.push(packet, |is_behind| {
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
        self.consumers.retain(|consumer| !consumer.lock().is_closed);
    }
}

impl Drop for PacketFanout {
    fn drop(&mut self) {
        for consumer in &self.consumers {
            let mut state = consumer.lock();
            state.is_ended = true;
            consumer.announce(&state);
        }
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Packet>,
    bytes: usize,
    awaits_key: bool,
    dropped: u64,
    /// The receiver was dropped.
    is_closed: bool,
    /// The fan-out was dropped.
    is_ended: bool,
    /// The receiver has returned the end.
    is_over: bool,
}

struct Shared {
    backlog: QueueCapacity,
    signal: Signal,
    /// The consumer asked for the descriptor. Only then is the signal used.
    watched: AtomicBool,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the descriptor readable, if the consumer asked for it. Under the lock, because the consumer sets `watched`
    /// and clears the signal under it.
    fn announce(&self, _state: &State) {
        if self.watched.load(Ordering::Relaxed) {
            self.signal.set();
        }
    }

    fn push(&self, packet: &Packet, form: impl FnOnce(bool) -> Packet) {
        let mut dropped = VecDeque::new();
        let mut state = self.lock();
        // The receiver was dropped after `forget_closed`. Its queue would hold the encoder's buffer.
        if state.is_closed {
            return;
        }
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
            if !is_behind {
                self.announce(&state);
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

/// The next result of a receiver. The public form is [`Received`](crate::Received).
#[derive(Debug)]
pub(crate) enum NextPacket {
    Packet(Packet),
    /// The queue is empty.
    Nothing,
    /// The fan-out was dropped, and the queue is empty. Returned once.
    Ended,
    /// The end was returned before.
    Over,
}

/// The receiver of one consumer of a [`PacketFanout`], usable from any thread. Dropping the `PacketReceiver` removes
/// the consumer.
///
/// A `PacketReceiver` is a [`Station`](crate::Station) that gives packets. A gap in the sequence numbers shows how many
/// packets were dropped before they reached the consumer. The stream ends after the fan-out was dropped and every
/// waiting packet was received.
///
/// ```
/// use std::time::Duration;
/// use framelease::frame::{PacketFanout, QueueCapacity};
/// use framelease::{Received, Station};
///
/// let mut fanout = PacketFanout::new();
/// let mut receiver = fanout.attach(QueueCapacity::default())?;
/// // The encoder's loop calls `fanout.push(&packet)`.
/// drop(fanout);
/// loop {
///     match receiver.recv(Duration::from_secs(1))? {
///         Received::Item(packet) => println!("{} bytes", packet.bytes().len()),
///         Received::Nothing => {}
///         Received::Ended => break,
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct PacketReceiver(Arc<Shared>);

impl PacketReceiver {
    /// Takes the next packet.
    pub(crate) fn take(&mut self) -> NextPacket {
        let mut state = self.0.lock();
        let packet = state.queue.pop_front();
        if let Some(packet) = &packet {
            state.bytes = state.bytes.saturating_sub(packet.bytes().len());
        }
        let is_over = state.is_over;
        state.is_over = packet.is_none() && state.is_ended;
        // The end keeps the descriptor readable until it is returned.
        let is_quiet = state.queue.is_empty() && (!state.is_ended || state.is_over);
        if is_quiet && self.0.watched.load(Ordering::Relaxed) && !is_over {
            self.0.signal.clear();
        }
        match packet {
            Some(packet) => NextPacket::Packet(packet),
            None if !state.is_ended => NextPacket::Nothing,
            None if is_over => NextPacket::Over,
            None => NextPacket::Ended,
        }
    }

    /// Returns the number of packets that this consumer missed since it was attached. This number includes the packets
    /// before the consumer's first key frame, and the packets that were dropped because the consumer's queue was full.
    /// After such a drop, the number also includes the packets until the next key frame.
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Returns the number of packets that wait in this consumer's queue.
    pub fn waiting(&self) -> usize {
        self.0.lock().queue.len()
    }

    fn watch(&self) {
        let state = self.0.lock();
        let has_something = !state.queue.is_empty() || state.is_ended && !state.is_over;
        if !self.0.watched.swap(true, Ordering::Relaxed) && has_something {
            self.0.signal.set();
        }
    }
}

impl AsFd for PacketReceiver {
    /// Returns a descriptor that is readable while a packet or the end waits.
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
    use std::time::Duration;

    use nix::poll::PollFlags;

    use crate::bitstream::Codec;
    use crate::format::Size;
    use crate::frame::PacketMeta;
    use crate::sys::wait;
    use crate::{ErrorKind, Received, Station};

    /// Returns a packet of three bytes.
    fn packet(sequence: u64, is_key: bool) -> Packet {
        let meta = PacketMeta::new(Codec::Vp8, Size::new(16, 16), sequence, sequence * 1000);
        Packet::new(meta, [u8::from(!is_key), 0, 0], None)
    }

    /// Pushes the packets of `range`. Every fourth is a key frame.
    fn push(fanout: &mut PacketFanout, range: std::ops::Range<u64>) {
        range.for_each(|i| fanout.push(&packet(i, i % 4 == 0)));
    }

    fn taken(receiver: &mut PacketReceiver) -> Vec<u64> {
        std::iter::from_fn(|| receiver.try_recv().unwrap().item()).map(|p| p.meta().sequence).collect()
    }

    #[test]
    fn attach_begins_and_drop_ends_a_consumer_s_stream() {
        let mut fanout = PacketFanout::new();
        let mut first = fanout.attach(QueueCapacity::default()).unwrap();
        assert!(fanout.awaits_key());
        push(&mut fanout, 0..2);
        assert!(!fanout.awaits_key());
        let mut second = fanout.attach(QueueCapacity::default()).unwrap();
        push(&mut fanout, 2..6);
        assert_eq!((taken(&mut first), taken(&mut second)), (vec![0, 1, 2, 3, 4, 5], vec![4, 5]));
        assert_eq!((first.dropped(), second.dropped(), fanout.receivers()), (0, 2, 2));
        drop(second);
        push(&mut fanout, 6..7);
        assert_eq!((taken(&mut first), fanout.receivers()), (vec![6], 1));
        drop(fanout);
        assert!(first.try_recv().unwrap().is_ended());
        assert_eq!(first.recv(Duration::ZERO).unwrap_err().kind(), ErrorKind::State);
    }

    #[test]
    fn queue_capacity_costs_only_its_own_consumer_until_a_key_frame() {
        let mut fanout = PacketFanout::new();
        let mut live = fanout.attach(QueueCapacity::new(3, 1000, Overflow::DropWaiting)).unwrap();
        let mut file = fanout.attach(QueueCapacity::new(3, 1000, Overflow::DropNew)).unwrap();
        let mut large = fanout.attach(QueueCapacity::new(60, 6, Overflow::DropNew)).unwrap();
        let mut fast = fanout.attach(QueueCapacity::default()).unwrap();
        push(&mut fanout, 0..10);
        // The live consumer dropped 3 packets at 3, began again with 4, and dropped that at 7.
        assert_eq!((taken(&mut live), live.dropped()), (vec![8, 9], 8));
        assert_eq!((taken(&mut file), file.dropped()), (vec![0, 1, 2], 7));
        assert_eq!((taken(&mut large), large.dropped()), (vec![0, 1], 8));
        assert_eq!((taken(&mut fast).len(), fast.dropped()), (10, 0));
        // A consumer with room again still waits for a key frame.
        push(&mut fanout, 10..13);
        assert_eq!((taken(&mut live), taken(&mut file)), (vec![10, 11, 12], vec![12]));
    }

    #[test]
    fn awaits_key_is_false_while_a_key_frame_has_no_room() {
        let mut fanout = PacketFanout::new();
        let mut file = fanout.attach(QueueCapacity::new(4, 1000, Overflow::DropNew)).unwrap();
        push(&mut fanout, 0..6);
        assert!(file.dropped() == 2 && !fanout.awaits_key(), "a key frame would be dropped, and the next one, too");
        // One packet would fill the queue again.
        assert!(file.try_recv().unwrap().item().is_some());
        assert!(!fanout.awaits_key());
        assert!(file.try_recv().unwrap().item().is_some());
        assert!(fanout.awaits_key());
    }

    #[test]
    fn receiver_is_not_readable_after_an_end_that_was_received_before_the_first_poll() {
        let mut fanout = PacketFanout::new();
        let mut receiver = fanout.attach(QueueCapacity::default()).unwrap();
        drop(fanout);
        assert!(receiver.try_recv().unwrap().is_ended());
        let ready = wait::until(receiver.as_fd(), PollFlags::POLLIN, wait::deadline(Duration::ZERO)).unwrap();
        assert!(ready.is_empty(), "an event loop would spin");
    }

    #[test]
    fn push_gives_nothing_to_a_receiver_that_was_dropped_meanwhile() {
        let mut fanout = PacketFanout::new();
        let receiver = fanout.attach(QueueCapacity::default()).unwrap();
        drop(receiver);
        // As `PacketFanout::push` does, after `forget_closed` has seen the receiver.
        fanout.consumers[0].push(&packet(0, true), |_| packet(0, true));
        assert_eq!(fanout.consumers[0].lock().queue.len(), 0, "a lease that ends only with the next packet");
    }

    #[test]
    fn recv_wakes_when_a_packet_is_pushed() {
        let mut fanout = PacketFanout::new();
        let mut receiver = fanout.attach(QueueCapacity::default()).unwrap();
        assert!(receiver.recv(Duration::from_millis(1)).unwrap().is_nothing());
        std::thread::scope(|scope| {
            let consumer = scope.spawn(move || {
                let mut got = Vec::new();
                while let Received::Item(p) = receiver.recv(Duration::from_secs(60)).unwrap() {
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
    fn receiver_is_readable_while_a_packet_or_the_end_waits() {
        let ready = |receiver: &PacketReceiver| {
            let ready = wait::until(receiver.as_fd(), PollFlags::POLLIN, wait::deadline(Duration::ZERO));
            ready.unwrap().contains(PollFlags::POLLIN)
        };
        let mut fanout = PacketFanout::new();
        let mut receiver = fanout.attach(QueueCapacity::default()).unwrap();
        // Packets that were pushed before the first poll count.
        push(&mut fanout, 0..2);
        assert!(ready(&receiver));
        assert!(receiver.try_recv().unwrap().item().is_some());
        assert!(ready(&receiver));
        assert!(receiver.try_recv().unwrap().item().is_some());
        assert!(!ready(&receiver) && receiver.try_recv().unwrap().is_nothing());
        push(&mut fanout, 2..3);
        assert!(ready(&receiver));
        drop(fanout);
        assert!(receiver.try_recv().unwrap().item().is_some() && ready(&receiver), "the end waits");
        assert!(receiver.try_recv().unwrap().is_ended() && !ready(&receiver));
        assert!(receiver.try_recv().is_err() && !ready(&receiver));
    }
}
