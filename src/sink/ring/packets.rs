//! The last packets of a stream.

use std::collections::VecDeque;
use std::time::Duration;

use crate::frame::Packet;

/// How much an [`EventRecorder`](super::EventRecorder) keeps, and how long it records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingOptions {
    /// The time before a trigger that is recorded. The recording begins at the last key frame before that time, or with
    /// the oldest packet if there are fewer. Default: 10 s.
    pub before: Duration,
    /// The time after the latest trigger that is recorded. Default: 10 s.
    pub after: Duration,
    /// The most bytes that are kept in memory. If `before` needs more, the oldest packets are dropped up to a key
    /// frame. Default: 64 MiB.
    pub bytes: usize,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self { before: Duration::from_secs(10), after: Duration::from_secs(10), bytes: 64 << 20 }
    }
}

impl RingOptions {
    /// Sets the time before a trigger.
    pub fn before(self, before: Duration) -> Self {
        Self { before, ..self }
    }

    /// Sets the time after a trigger.
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// Sets the most bytes in memory.
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }
}

/// The last packets of a stream, from a key frame on.
#[derive(Debug, Default)]
pub(super) struct Packets {
    packets: VecDeque<Packet>,
    bytes: usize,
}

impl Packets {
    /// Adds a packet, and drops those that are no longer needed. Packets before the first key frame are not kept.
    pub(super) fn push(&mut self, packet: &Packet, options: &RingOptions) {
        let time = |packet: &Packet| packet.meta().timestamp_ns;
        // The source has restarted, and the ages of older packets are unknown.
        if packet.can_begin() && self.packets.back().is_some_and(|last| time(packet) < time(last)) {
            self.clear();
        }
        if self.packets.is_empty() && !packet.can_begin() {
            return;
        }
        self.bytes += packet.bytes().len();
        self.packets.push_back(packet.clone().detach());
        let before = u64::try_from(options.before.as_nanos()).unwrap_or(u64::MAX);
        let from = time(packet).saturating_sub(before);
        while let Some(next) = self.next_key() {
            if time(&self.packets[next]) > from && self.bytes <= options.bytes {
                break;
            }
            self.drop_first(next);
        }
        // One group of pictures that is too large.
        if self.bytes > options.bytes {
            self.clear();
        }
    }

    /// Returns the place of the second key frame.
    fn next_key(&self) -> Option<usize> {
        (1..self.packets.len()).find(|&i| self.packets[i].can_begin())
    }

    fn drop_first(&mut self, count: usize) {
        let bytes: usize = self.packets.drain(..count).map(|packet| packet.bytes().len()).sum();
        self.bytes -= bytes;
    }

    fn clear(&mut self) {
        self.packets.clear();
        self.bytes = 0;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitstream::Codec;
    use crate::format::Size;
    use crate::frame::PacketMeta;
    use proptest::prelude::*;

    /// A packet of VP8, with its time in seconds.
    fn packet(seconds: u64, is_key: bool, bytes: usize) -> Packet {
        let meta = PacketMeta::new(Codec::Vp8, Size::new(16, 16), 0, seconds * 1_000_000_000);
        let mut data = vec![0; bytes.max(3)];
        data[0] = if is_key { 0x10 } else { 0x11 };
        Packet::new(meta, data, None)
    }

    fn times(packets: &Packets) -> Vec<u64> {
        packets.iter().map(|packet| packet.meta().timestamp_ns / 1_000_000_000).collect()
    }

    #[test]
    fn ring_keeps_the_time_before_from_a_key_frame_on() {
        let options = RingOptions::default().before(Duration::from_secs(5));
        let mut ring = Packets::default();
        for i in 0..20 {
            ring.push(&packet(i, i % 4 == 2, 10), &options);
        }
        // From the last key frame that is five seconds old.
        assert_eq!(times(&ring), (14..20).collect::<Vec<_>>());
        // A source that restarts.
        ring.push(&packet(3, true, 10), &options);
        assert_eq!(times(&ring), [3]);
    }

    #[test]
    fn ring_drops_groups_of_pictures_beyond_its_bytes() {
        let options = RingOptions::default().bytes(100);
        let mut ring = Packets::default();
        for i in 0..12 {
            ring.push(&packet(i, i % 3 == 0, 20), &options);
            assert!(ring.bytes <= 100, "{}", ring.bytes);
        }
        assert_eq!(times(&ring), [9, 10, 11]);
        // A group that does not fit, up to the next key frame.
        ring.push(&packet(12, true, 20), &options);
        ring.push(&packet(13, false, 90), &options);
        assert!(ring.is_empty());
        ring.push(&packet(14, false, 20), &options);
        assert!(ring.is_empty());
        ring.push(&packet(15, true, 20), &options);
        assert_eq!(times(&ring), [15]);
    }

    proptest! {
        #[test]
        fn ring_begins_with_a_key_frame_and_counts_its_bytes(
            steps in prop::collection::vec((0u64..4, any::<bool>(), 3usize..60), 1..80),
        ) {
            let options = RingOptions::default().before(Duration::from_secs(6)).bytes(200);
            let (mut ring, mut now) = (Packets::default(), 0);
            for (step, is_key, bytes) in steps {
                now += step;
                ring.push(&packet(now, is_key, bytes), &options);
                let sum: usize = ring.iter().map(|packet| packet.bytes().len()).sum();
                prop_assert!(sum == ring.bytes && sum <= 200);
                prop_assert!(ring.iter().next().map_or(true, Packet::can_begin));
                // No group is kept that is older than the time asks for.
                let second = ring.next_key().map(|i| ring.packets[i].meta().timestamp_ns / 1_000_000_000);
                prop_assert!(second.map_or(true, |second| second + 6 > now));
            }
        }
    }
}
