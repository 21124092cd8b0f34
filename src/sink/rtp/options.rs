//! Options of an RTP stream.

use std::time::Duration;

/// The time over which the RTP packets of one frame are spread, so that a key frame does not overrun queues in the
/// network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// A part of the time between two frames, in percent. The sender takes that time from the timestamps of the frames.
    Percent(u8),
    /// A fixed time for each frame.
    Time(Duration),
}

impl From<Duration> for Spread {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

/// Options of a [`Sender`](super::Sender).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderOptions {
    /// The size of the largest IP packet in bytes. Default 1400, which leaves room for tunnels.
    pub mtu: usize,
    /// The time over which a frame's RTP packets are spread, in bursts of at least 32 packets. Default 50 percent of
    /// the frame interval.
    pub spread: Spread,
    /// The shortest time between parameter sets before key frames. Parameter sets are also sent if they have changed,
    /// and when a destination's stream begins. Default zero: before each key frame.
    pub parameters_every: Duration,
    /// The hop limit of multicast packets. Default 1, which limits the packets to the local network.
    pub ttl: u32,
    /// Whether receivers on this host get multicast packets. Default `true`.
    pub loopback: bool,
    /// The interface for multicast. By default the routes choose it.
    pub interface: Option<String>,
    /// The differentiated services code point (RFC 2474) of all packets. 34 (AF41) is usual for video. By default none
    /// is set.
    pub dscp: Option<u8>,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self {
            mtu: 1400,
            spread: Spread::Percent(50),
            parameters_every: Duration::ZERO,
            ttl: 1,
            loopback: true,
            interface: None,
            dscp: None,
        }
    }
}

impl SenderOptions {
    /// Sets the size of the largest IP packet, from 128 to 9000 bytes.
    pub fn mtu(self, bytes: usize) -> Self {
        Self { mtu: bytes.clamp(128, 9000), ..self }
    }

    /// Sets the time over which packets are spread. [`Duration::ZERO`] sends at once.
    pub fn spread(self, spread: impl Into<Spread>) -> Self {
        Self { spread: spread.into(), ..self }
    }

    /// Sets the shortest time between parameter sets.
    pub fn parameters_every(self, interval: Duration) -> Self {
        Self { parameters_every: interval, ..self }
    }

    /// Sets the hop limit of multicast packets.
    pub fn ttl(self, ttl: u32) -> Self {
        Self { ttl: ttl.min(255), ..self }
    }

    /// Sets whether receivers on this host get multicast packets.
    pub fn loopback(self, loopback: bool) -> Self {
        Self { loopback, ..self }
    }

    /// Sets the interface for multicast.
    pub fn interface(self, name: impl Into<String>) -> Self {
        Self { interface: Some(name.into()), ..self }
    }

    /// Sets the code point, from 0 to 63.
    pub fn dscp(self, dscp: u8) -> Self {
        Self { dscp: Some(dscp & 63), ..self }
    }

    /// Applies the limits of the setters to fields that the program has set itself.
    pub(super) fn limited(self) -> Self {
        let Self { mtu, ttl, dscp, .. } = self;
        let limited = self.mtu(mtu).ttl(ttl);
        Self { dscp: dscp.map(|dscp| dscp & 63), ..limited }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitstream::Codec;
    use crate::sink::rtp::Stream;

    #[test]
    fn sender_options_have_the_same_limits_as_fields_and_by_their_setters() {
        for (number, mtu, ttl) in [(usize::MAX, 9000, 255), (0, 128, 0)] {
            let mut fields = SenderOptions::default();
            (fields.mtu, fields.ttl, fields.dscp) = (number, number as u32, Some(number as u8));
            let setters = SenderOptions::default().mtu(number).ttl(number as u32).dscp(number as u8);
            assert_eq!((setters.mtu, setters.ttl), (mtu, ttl));
            assert_eq!(*Stream::new(Codec::H264, fields).unwrap().options(), setters);
        }
    }
}
