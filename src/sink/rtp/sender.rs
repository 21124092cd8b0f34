//! Frames become datagrams, in time.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::destination::{Destination, DestinationStats, JoinState, Transport};
use super::header::RTP_BYTES;
use super::interleaved::Outbox;
use super::plan::{Plan, Stamp};
use super::sdp::{describe, encoding, Session};
use super::sockets::Sockets;
use crate::bitstream::{Codec, ParameterSets};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{FrameFlags, Packet};
use crate::sys::clock::monotonic_ns;

/// Datagrams go out in bursts this far apart, or farther if they are few.
const BURST: Duration = Duration::from_millis(1);
/// Datagrams of a burst at least: any queue on the way takes so many, and each burst is a system call a destination.
const LEAST: usize = 32;
/// IP and UDP headers, of IPv6.
const BELOW_RTP: usize = 48;

/// The time that a frame's packets are spread over, so that a key frame does not overrun queues on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// A part of the time from frame to frame, which is taken from the packets' timestamps.
    Percent(u8),
    /// A time.
    Time(Duration),
}

impl From<Duration> for Spread {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

/// How a stream is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderOptions {
    /// Bytes of the largest IP packet. Default 1400, which tunnels leave room for.
    pub mtu: usize,
    /// A frame's packets are spread over this time, in bursts of at least 32. Default half of the frame interval.
    pub spread: Spread,
    /// Parameter sets are sent before a key frame when this time has passed since they last were, when they are others,
    /// and when a destination's stream begins. Default zero: before each.
    pub parameters_every: Duration,
    /// Hops of multicast packets. Default 1: the own network.
    pub ttl: u32,
    /// Receivers on this host hear multicast packets, too. Default `true`.
    pub loopback: bool,
    /// The interface that multicast goes out by, else the routes say.
    pub interface: Option<String>,
    /// Differentiated services code point (RFC 2474) of all packets: 34 (AF41) is usual for video.
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
    /// With another largest packet, at least 128 bytes.
    pub fn mtu(self, bytes: usize) -> Self {
        Self { mtu: bytes.clamp(128, 9000), ..self }
    }

    /// Spread over another time; [`Duration::ZERO`] sends at once.
    pub fn spread(self, spread: impl Into<Spread>) -> Self {
        Self { spread: spread.into(), ..self }
    }

    /// With parameter sets at most so often.
    pub fn parameters_every(self, interval: Duration) -> Self {
        Self { parameters_every: interval, ..self }
    }

    /// With another reach of multicast.
    pub fn ttl(self, ttl: u32) -> Self {
        Self { ttl: ttl.min(255), ..self }
    }

    /// With multicast heard on this host, or not.
    pub fn loopback(self, loopback: bool) -> Self {
        Self { loopback, ..self }
    }

    /// Multicast by this interface.
    pub fn interface(self, name: impl Into<String>) -> Self {
        Self { interface: Some(name.into()), ..self }
    }

    /// With a code point, 0 to 63.
    pub fn dscp(self, dscp: u8) -> Self {
        Self { dscp: Some(dscp & 63), ..self }
    }
}

/// Names a destination of a [`Sender`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DestinationId(u64);

/// The frame that is being sent.
struct Sending {
    /// Its lease.
    packet: Packet,
    begun: Instant,
    spread: Duration,
    /// What the network has not taken by then is given up.
    patience: Duration,
}

/// Sends one stream.
///
/// The destinations of a sender get the same packets, with one SSRC; each loses and drops for itself: where the network
/// takes no more for a frame interval, or the host is unreachable, the rest of that frame and everything up to an intact
/// key frame is not sent there, counted, and nobody else notices.
///
/// Costs of a frame: a system call for each burst of up to 64 datagrams and destination; no copy and, in steady state, no
/// allocation.
pub struct Sender {
    codec: Codec,
    options: SenderOptions,
    destinations: Vec<(DestinationId, Destination)>,
    next_id: u64,
    ssrc: u32,
    sequence: u16,
    /// RTP time at the stream's time 0.
    offset: u32,
    session: u64,
    frame: Option<Sending>,
    plan: Plan,
    timestamp: u32,
    /// When the moment was that it is of.
    sampled: Option<Instant>,
    /// The frame before: its time, and what the time to it was.
    last_ns: Option<u64>,
    interval: Duration,
    parameters_sent: Option<Instant>,
    /// The latest stream's parameter sets.
    latest: Option<Arc<ParameterSets>>,
    /// What receivers know the source by (RFC 3550, 6.5.1).
    name: String,
}

/// The frame interval while nothing is known, and the shortest and the longest that is believed.
const INTERVALS: [Duration; 3] = [Duration::from_millis(16), Duration::from_millis(1), Duration::from_secs(1)];

/// What nobody can guess (RFC 3550, 5.1: sequence numbers, timestamps and SSRC begin at random).
pub(in crate::sink) fn random() -> u64 {
    // The standard library's hasher keys are the kernel's random numbers.
    RandomState::new().build_hasher().finish()
}

impl Sender {
    /// A sender without destinations.
    ///
    /// # Errors
    /// `Unsupported` if the codec has no RTP payload format.
    pub fn new(codec: Codec, options: SenderOptions) -> Result<Self> {
        if encoding(codec).is_none() {
            return Err(Error::new(ErrorKind::Unsupported, "rtp", format!("{codec} has no RTP payload format")));
        }
        let (ids, start) = (random(), random());
        Ok(Self {
            codec,
            options,
            destinations: Vec::new(),
            next_id: 0,
            ssrc: ids as u32,
            sequence: start as u16,
            offset: (start >> 32) as u32,
            session: ids >> 32,
            frame: None,
            plan: Plan::default(),
            timestamp: 0,
            sampled: None,
            last_ns: None,
            interval: INTERVALS[0],
            parameters_sent: None,
            latest: None,
            name: format!("framelease-{:08x}", (ids >> 32) as u32),
        })
    }

    /// Sends to one more host or group, from the next intact key frame on. RTCP goes to the next port.
    ///
    /// # Errors
    /// What the socket reports: an unknown interface, no route.
    pub fn add(&mut self, to: SocketAddr) -> Result<DestinationId> {
        let destination = Destination::udp(to, &self.options)?;
        Ok(self.add_destination(destination))
    }

    /// Sends to a receiver that named both of its addresses, from `from`. Returns the ports that it comes from.
    pub(in crate::sink) fn add_udp(
        &mut self,
        to: SocketAddr,
        control: SocketAddr,
        from: IpAddr,
    ) -> Result<(DestinationId, (u16, u16))> {
        let sockets = Sockets::open(to, Some(control), Some(from), &self.options)?;
        let ports = sockets.ports();
        Ok((self.add_destination(Destination::new(to, Transport::Udp(sockets))), ports))
    }

    /// Sends in a connection, RTP on `channel` and RTCP on the next one.
    pub(in crate::sink) fn add_tcp(&mut self, to: SocketAddr, out: Outbox, channel: u8) -> DestinationId {
        self.add_destination(Destination::new(to, Transport::Tcp(out, channel)))
    }

    fn add_destination(&mut self, destination: Destination) -> DestinationId {
        let id = DestinationId(self.next_id);
        self.next_id += 1;
        self.destinations.push((id, destination));
        id
    }

    /// Sends there no more, and says so (RTCP BYE). Unknown ones are none.
    pub fn remove(&mut self, id: DestinationId) {
        if let Some(at) = self.destinations.iter().position(|(i, _)| *i == id) {
            let (_, mut destination) = self.destinations.remove(at);
            destination.leave(self.ssrc, &self.name, self.timestamp, unix_ns(self.sampled));
        }
    }

    /// Sends there nothing from now on; [`Sender::resume`] begins anew with a key frame.
    pub fn pause(&mut self, id: DestinationId) {
        self.set_paused(id, true);
    }

    /// Ends a pause.
    pub fn resume(&mut self, id: DestinationId) {
        self.set_paused(id, false);
    }

    fn set_paused(&mut self, id: DestinationId, is_paused: bool) {
        if let Some(destination) = self.destination_mut(id) {
            destination.pause(is_paused);
        }
    }

    fn destination(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.iter().find(|(i, _)| *i == id).map(|(_, d)| d)
    }

    fn destination_mut(&mut self, id: DestinationId) -> Option<&mut Destination> {
        self.destinations.iter_mut().find(|(i, _)| *i == id).map(|(_, d)| d)
    }

    /// Counts of a destination; `None` for one that is not there.
    pub fn stats(&self, id: DestinationId) -> Option<DestinationStats> {
        self.destination(id).map(|d| d.stats.clone())
    }

    /// `true` while a destination gets nothing until a key frame comes: time to force one. Where frames are
    /// lost again and again, as where nobody listens, not before five seconds after the last.
    pub fn awaits_key(&self) -> bool {
        self.destinations.iter().any(|(_, d)| d.awaits_key())
    }

    /// The session description of a destination (RFC 8866), with the parameter sets of the latest packet; `None` for one
    /// that is not there.
    pub fn sdp(&self, id: DestinationId) -> Option<String> {
        let destination = self.destination(id)?;
        let from = destination.from().unwrap_or(destination.to.ip());
        self.describe(&Session { to: destination.to, from, ttl: self.options.ttl, control: None })
    }

    pub(in crate::sink) fn describe(&self, session: &Session<'_>) -> Option<String> {
        describe(self.codec, session, self.session, self.latest.as_deref())
    }

    /// The sequence number of the next packet, and the stream's SSRC.
    pub(in crate::sink) fn position(&self) -> (u16, u32) {
        (self.sequence, self.ssrc)
    }

    pub(in crate::sink) fn options(&self) -> &SenderOptions {
        &self.options
    }

    /// When the receiver was last heard of; what it sent until now is looked at.
    pub(in crate::sink) fn heard(&mut self, id: DestinationId) -> Option<Instant> {
        let ssrc = self.ssrc;
        let destination = self.destination_mut(id)?;
        destination.listen(ssrc);
        destination.heard()
    }

    /// A report that a receiver sent in its connection.
    pub(in crate::sink) fn hear(&mut self, id: DestinationId, bytes: &[u8]) {
        let ssrc = self.ssrc;
        if let Some(destination) = self.destination_mut(id) {
            destination.hear(ssrc, bytes);
        }
    }

    /// Takes a frame. What is left of the one before is sent at once. [`Sender::send_due`] sends it. An empty packet, as a
    /// damaged one may be, is nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for a packet of another codec.
    pub fn submit(&mut self, packet: &Packet) -> Result<()> {
        let meta = packet.meta();
        if meta.codec != self.codec {
            let text = format!("a packet of {} in a stream of {}", meta.codec, self.codec);
            return Err(Error::new(ErrorKind::InvalidArgument, "rtp", text));
        }
        self.send(usize::MAX);
        self.end_frame();
        if packet.picture().is_empty() {
            return Ok(());
        }
        self.measure(meta.timestamp_ns);
        let sets = packet.parameter_sets();
        let are_new = sets.is_some() && self.latest.as_deref() != sets.map(|s| &**s);
        if are_new {
            self.latest = sets.cloned();
        }
        let (mut is_wanted, mut begins) = (false, false);
        for (_, destination) in &mut self.destinations {
            let begun = destination.begin(packet);
            is_wanted |= begun != JoinState::Not;
            begins |= begun == JoinState::First;
        }
        if !is_wanted {
            return Ok(());
        }
        let now = Instant::now();
        let is_due = self.parameters_sent.map_or(true, |at| now.duration_since(at) >= self.options.parameters_every);
        let first = sets.filter(|_| packet.is_key() && (is_due || are_new || begins));
        if first.is_some() {
            self.parameters_sent = Some(now);
        }
        // 90 kHz (RFC 6184, 5.1), of any length of time.
        let ticks = (u128::from(meta.timestamp_ns) * 9 / 100_000) as u32;
        self.timestamp = self.offset.wrapping_add(ticks);
        // Without a clock that is known, the frame is of now.
        let age = match meta.flags.contains(FrameFlags::MONOTONIC) {
            true => Duration::from_nanos(monotonic_ns().saturating_sub(meta.timestamp_ns)),
            false => Duration::ZERO,
        };
        self.sampled = now.checked_sub(age);
        let stamp = Stamp { ssrc: self.ssrc, timestamp: self.timestamp, sequence: self.sequence };
        let room = self.options.mtu.saturating_sub(BELOW_RTP + RTP_BYTES);
        if self.plan.make(packet, first.map(|s| &**s), room, stamp) {
            // Those in force may not be so any more: the next key frame brings them anew.
            self.parameters_sent = None;
        }
        self.sequence = self.sequence.wrapping_add(self.plan.len() as u16);
        let spread = match self.options.spread {
            Spread::Time(time) => time,
            Spread::Percent(percent) => self.interval * u32::from(percent.min(100)) / 100,
        };
        let patience = spread.max(self.interval);
        self.frame = Some(Sending { packet: packet.clone(), begun: now, spread, patience });
        Ok(())
    }

    fn measure(&mut self, timestamp_ns: u64) {
        let since = self.last_ns.replace(timestamp_ns).and_then(|last| timestamp_ns.checked_sub(last));
        let interval = since.map(Duration::from_nanos).filter(|i| (INTERVALS[1]..=INTERVALS[2]).contains(i));
        self.interval = interval.unwrap_or(self.interval);
    }

    /// Sends the datagrams that are due now, and returns how long it is until it must be called again: more are due, or the
    /// network took no more. `None` if the frame is over.
    pub fn send_due(&mut self) -> Option<Duration> {
        let frame = self.frame.as_ref()?;
        let (elapsed, spread, patience) = (frame.begun.elapsed(), frame.spread, frame.patience);
        let count = self.plan.len();
        let bursts = (spread.as_micros() / BURST.as_micros()).clamp(1, count.div_ceil(LEAST).max(1) as u128) as u32;
        let step = (spread / bursts).max(Duration::from_micros(1));
        let burst =
            u32::try_from(elapsed.as_micros() / step.as_micros()).unwrap_or(bursts).saturating_add(1).min(bursts);
        let due = (count * burst as usize).div_ceil(bursts as usize);
        self.send(due);
        let is_behind = self.destinations.iter().any(|(_, d)| d.is_behind(due));
        if elapsed >= patience || !is_behind && due == count {
            self.end_frame();
            return None;
        }
        let next = if due < count { step * burst } else { elapsed + BURST };
        Some(next.saturating_sub(elapsed))
    }

    /// Sends up to this many datagrams of the frame.
    fn send(&mut self, until: usize) {
        let Some(frame) = &self.frame else { return };
        let data = frame.packet.bytes();
        for (_, destination) in &mut self.destinations {
            destination.send(&self.plan, data, until);
        }
    }

    /// The lease of a frame that was sent ends; receivers are told the time now and then.
    fn end_frame(&mut self) {
        let Some(_frame) = self.frame.take() else { return };
        let sampled = self.sampled;
        for (_, destination) in &mut self.destinations {
            if destination.end(self.plan.len()) {
                destination.report(self.ssrc, &self.name, self.timestamp, || unix_ns(sampled));
            }
        }
        self.plan.clear();
    }
}

/// A moment, else now, in nanoseconds since 1970.
fn unix_ns(at: Option<Instant>) -> u64 {
    let age = at.map_or(Duration::ZERO, |at| at.elapsed());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.saturating_sub(age).as_nanos()).unwrap_or(0)
}

impl Drop for Sender {
    /// Says goodbye (RTCP BYE).
    fn drop(&mut self) {
        let now = unix_ns(self.sampled);
        for (_, destination) in &mut self.destinations {
            destination.leave(self.ssrc, &self.name, self.timestamp, now);
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to: Vec<_> = self.destinations.iter().map(|(_, d)| d).collect();
        write!(f, "Sender({}, ssrc {:08x}, to {to:?})", self.codec, self.ssrc)
    }
}
