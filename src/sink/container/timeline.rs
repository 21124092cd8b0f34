//! The times of packets in a file.

use std::time::Duration;

use crate::frame::{AdvancingTime, Packet};
use crate::sys::clock::monotonic_ns;

/// The most frames that an open GOP shows before its first one: as many as a decoder reorders.
const MOST_LEADING: u32 = 16;
/// The longest distance of a packet to the one before, where the source's clock has gone back.
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// How much earlier than its duration a file ends at most.
pub(in crate::sink) const MOST_EARLY: Duration = Duration::from_millis(50);

/// Converts timestamps to ticks since the first packet of a file.
///
/// Packets come in the order of decoding, so the times of a stream with B-frames go back between key frames. A packet
/// that is earlier than the caller's floor means that the source's clock has gone back. This packet follows the latest
/// one, and later packets keep their distance to it.
pub(in crate::sink) struct Timeline {
    ticks_per_second: u64,
    first_ns: u64,
    /// The latest time of all packets, and the step to it from the one before.
    latest: u64,
    step: u64,
    /// The latest timestamp of all packets.
    latest_ns: u64,
    /// Packets that are shown before the first one.
    leading: u32,
    packets: u64,
    clock: Clock,
    /// The clock after a packet that may not be in the file yet.
    next: Clock,
}

#[derive(Clone, Copy, Default)]
struct Clock {
    time: AdvancingTime,
    /// By how much the source's clock has gone back.
    shift_ns: u64,
}

impl Timeline {
    pub(in crate::sink) fn new(ticks_per_second: u64) -> Self {
        Self {
            ticks_per_second,
            first_ns: 0,
            latest: 0,
            step: 1,
            latest_ns: 0,
            leading: 0,
            packets: 0,
            clock: Clock::default(),
            next: Clock::default(),
        }
    }

    /// Begins at a packet. Only the latest call before the first packet counts.
    pub(in crate::sink) fn begin(&mut self, first_ns: u64) {
        self.first_ns = first_ns;
    }

    /// The latest time of all packets.
    pub(in crate::sink) fn latest(&self) -> u64 {
        self.latest
    }

    /// The latest step between two packets.
    pub(in crate::sink) fn step(&self) -> u64 {
        self.step
    }

    pub(in crate::sink) fn packets(&self) -> u64 {
        self.packets
    }

    pub(in crate::sink) fn duration(&self) -> Duration {
        self.duration_of(self.latest)
    }

    pub(in crate::sink) fn duration_of(&self, ticks: u64) -> Duration {
        Duration::from_nanos(self.nanos(ticks))
    }

    pub(in crate::sink) fn ticks(&self, duration: Duration) -> u64 {
        self.ticks_of(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    fn ticks_of(&self, nanos: u64) -> u64 {
        let ticks = (u128::from(nanos) * u128::from(self.ticks_per_second) + 500_000_000) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    fn nanos(&self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Returns the duration of a file that ends before this packet. Timestamps vary, so it is rounded up by half the
    /// time since the packet before.
    pub(in crate::sink) fn duration_before(&self, packet: &Packet) -> Duration {
        let time_ns = packet.meta().timestamp_ns.saturating_add(self.clock.shift_ns).saturating_sub(self.first_ns);
        let time = Duration::from_nanos(time_ns);
        time.saturating_add((time.saturating_sub(self.duration()) / 2).min(MOST_EARLY))
    }

    /// Returns `true` if the packet is older than a packet in the file, which cannot express its time.
    pub(in crate::sink) fn is_behind(&self, packet: &Packet) -> bool {
        packet.meta().timestamp_ns < self.latest_ns
    }

    /// Returns `true` for a packet that is shown before the first one of the file.
    pub(in crate::sink) fn leads(&mut self, packet: &Packet) -> bool {
        let is_leading = self.packets > 0 && self.latest == 0 && packet.meta().timestamp_ns < self.first_ns;
        let leads = is_leading && self.leading < MOST_LEADING;
        self.leading += u32::from(leads);
        leads
    }

    /// Returns the time of a packet, which is `floor` at least.
    pub(in crate::sink) fn next(&mut self, packet: &Packet, floor: u64) -> u64 {
        let mut clock = self.clock;
        let time_ns = clock.time.next(packet.meta().timestamp_ns, monotonic_ns());
        let time = |shift_ns: u64| {
            let since_ns = time_ns.saturating_add(shift_ns).checked_sub(self.first_ns)?;
            Some(self.ticks_of(since_ns))
        };
        let ticks = time(clock.shift_ns).filter(|&ticks| ticks >= floor).unwrap_or_else(|| {
            let next_ns = self.nanos(self.latest.saturating_add(self.step)).saturating_add(self.first_ns);
            clock.shift_ns = next_ns.saturating_sub(time_ns);
            time(clock.shift_ns).unwrap_or(self.latest).max(self.latest)
        });
        self.next = clock;
        ticks
    }

    /// Counts the latest packet of `next`, which is in the file.
    pub(in crate::sink) fn stored(&mut self, packet: &Packet, time: u64) {
        self.clock = self.next;
        if time > self.latest {
            self.step = (time - self.latest).min(self.ticks(LONGEST_STEP));
            self.latest = time;
        }
        self.latest_ns = self.latest_ns.max(packet.meta().timestamp_ns);
        self.packets += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitstream::Codec;
    use crate::format::Size;
    use crate::frame::PacketMeta;

    #[test]
    fn time_of_a_packet_that_is_written_again_is_the_same() {
        let packet = |milliseconds: u64| {
            let meta = PacketMeta::new(Codec::Vp8, Size::new(16, 16), 0, milliseconds * 1_000_000);
            Packet::new(meta, [0x10, 0, 0], None)
        };
        let mut times = Timeline::new(1000);
        let first = packet(5);
        times.begin(5_000_000);
        let time = times.next(&first, 0);
        times.stored(&first, time);
        // The write of this packet fails twice. By arrival, its time would advance.
        let second = packet(45);
        for _ in 0..3 {
            assert_eq!(times.next(&second, 0), 40);
            std::thread::sleep(Duration::from_millis(2));
        }
        times.stored(&second, 40);
        // Timestamps that stand still do advance.
        assert!(times.next(&second, 0) > 40);
        // A clock that has gone back, and a write that fails.
        for _ in 0..2 {
            assert_eq!(times.next(&packet(20), 40), 80);
        }
    }
}
