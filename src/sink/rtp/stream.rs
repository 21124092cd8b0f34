//! The packets of one stream as datagrams, sent at their time.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::destination::{Destination, DestinationId, DestinationStats, JoinState, Transport};
use super::header::{Stamp, RTP_BYTES};
use super::interleaved::Outbox;
use super::jpeg::{Picture, LEAST_ROOM};
use super::options::{SenderOptions, Spread};
use super::plan::Plan;
use super::sdp::{describe, Session};
use super::sockets::Sockets;
use crate::bitstream::{Codec, ParameterSets};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{AdvancingTime, FrameFlags, Packet};
use crate::sys::clock::monotonic_ns;
use crate::sys::random::random;

/// Bursts of datagrams are this far apart, or farther if there are few.
const BURST: Duration = Duration::from_millis(1);
/// The fewest datagrams of a burst. Any queue has room for this many, and each burst costs a system call per
/// destination.
const LEAST: usize = 32;
/// Bytes of the IPv6 and UDP headers.
const BELOW_RTP: usize = 48;

/// The frame that is being sent.
struct Sending {
    /// The packet, which is leased until the frame was sent.
    packet: Packet,
    begun: Instant,
    spread: Duration,
    /// The network has this long to take a datagram. Then the datagram is dropped.
    patience: Duration,
}

/// The packets and the destinations of one stream. A [`Sender`](super::Sender) or a mount of a server calls it in time.
pub(in crate::sink) struct Stream {
    codec: Codec,
    payload_type: u8,
    options: SenderOptions,
    destinations: Vec<(DestinationId, Destination)>,
    next_id: u64,
    ssrc: u32,
    sequence: u16,
    /// The RTP timestamp of time 0.
    offset: u32,
    session: u64,
    frame: Option<Sending>,
    plan: Plan,
    timestamp: u32,
    /// When the picture was captured.
    sampled: Option<Instant>,
    time: AdvancingTime,
    /// The time of the previous frame, and the interval to it.
    last_ns: Option<u64>,
    interval: Duration,
    parameters_sent: Option<Instant>,
    /// The parameter sets of the latest packet that had them.
    latest: Option<Arc<ParameterSets>>,
    /// The canonical name of the source (RFC 3550, 6.5.1).
    name: String,
}

/// The frame interval that is assumed at first, and the shortest and the longest that are accepted.
const INTERVALS: [Duration; 3] = [Duration::from_millis(16), Duration::from_millis(1), Duration::from_secs(1)];

impl Stream {
    /// Creates a stream without destinations. `Unsupported` if the codec does not have an RTP payload format.
    /// `InvalidArgument` if the headers of a JPEG picture do not fit in one packet.
    pub(in crate::sink) fn new(codec: Codec, options: SenderOptions) -> Result<Self> {
        let text = || format!("{codec} does not have an RTP payload format");
        let (payload_type, _) = codec.names().rtp.ok_or_else(|| Error::new(ErrorKind::Unsupported, "rtp", text()))?;
        let options = options.limited();
        let least = BELOW_RTP + RTP_BYTES + LEAST_ROOM;
        if codec == Codec::Mjpeg && options.mtu < least {
            let text = format!("asked packets of {} bytes; JPEG pictures need {least}", options.mtu);
            return Err(Error::new(ErrorKind::InvalidArgument, "rtp", text));
        }
        let (ids, start) = (random(), random());
        Ok(Self {
            codec,
            payload_type,
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
            time: AdvancingTime::default(),
            last_ns: None,
            interval: INTERVALS[0],
            parameters_sent: None,
            latest: None,
            name: format!("framelease-{:08x}", (ids >> 32) as u32),
        })
    }

    /// Adds a host or group, which gets the next intact key frame first. RTCP uses the next port.
    pub(in crate::sink) fn add(&mut self, to: SocketAddr) -> Result<DestinationId> {
        let destination = Destination::udp(to, &self.options)?;
        Ok(self.add_destination(destination))
    }

    /// Adds a receiver that named both of its addresses. Sends from `from`, and returns the local ports.
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

    /// Adds a receiver in a connection, with RTP on `channel` and RTCP on the next channel.
    pub(in crate::sink) fn add_tcp(&mut self, to: SocketAddr, out: Outbox, channel: u8) -> DestinationId {
        self.add_destination(Destination::new(to, Transport::Tcp(out, channel)))
    }

    fn add_destination(&mut self, destination: Destination) -> DestinationId {
        let id = DestinationId(self.next_id);
        self.next_id += 1;
        self.destinations.push((id, destination));
        id
    }

    /// Stops sending to a destination, and sends RTCP BYE.
    pub(in crate::sink) fn remove(&mut self, id: DestinationId) {
        if let Some(at) = self.destinations.iter().position(|(i, _)| *i == id) {
            let (_, mut destination) = self.destinations.remove(at);
            destination.leave(self.ssrc, &self.name, self.timestamp, unix_ns(self.sampled));
        }
    }

    /// Stops sending to a destination until it is resumed.
    pub(in crate::sink) fn pause(&mut self, id: DestinationId) {
        self.set_paused(id, true);
    }

    /// Sends to a destination again, from the next key frame on.
    pub(in crate::sink) fn resume(&mut self, id: DestinationId) {
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

    /// Returns the counts of a destination.
    pub(in crate::sink) fn stats(&self, id: DestinationId) -> Option<DestinationStats> {
        self.destination(id).map(|d| d.stats.clone())
    }

    /// Returns `true` while a destination waits for a key frame. A destination that keeps losing frames asks only five
    /// seconds after the last loss.
    pub(in crate::sink) fn awaits_key(&self) -> bool {
        self.destinations.iter().any(|(_, d)| d.awaits_key())
    }

    /// Returns when a destination begins to ask for a key frame, if one will.
    pub(in crate::sink) fn awaits_key_at(&self) -> Option<Instant> {
        self.destinations.iter().filter_map(|(_, d)| d.asks_at()).min()
    }

    pub(super) fn has_failure(&self) -> bool {
        self.destinations.iter().any(|(_, d)| d.has_failed())
    }

    /// Returns `true` if a destination has failed since the last call.
    pub(super) fn has_newly_failed(&mut self) -> bool {
        self.destinations.iter_mut().fold(false, |is_one, (_, d)| is_one | d.has_newly_failed())
    }

    /// Returns the first destination that has failed since the last call for it.
    pub(super) fn take_failure(&mut self) -> Option<(DestinationId, Error)> {
        self.destinations.iter_mut().find_map(|(id, d)| Some((*id, d.take_failure()?)))
    }

    /// Returns the session description of a destination (RFC 8866), with the parameter sets of the latest packet.
    pub(in crate::sink) fn sdp(&self, id: DestinationId) -> Option<String> {
        let destination = self.destination(id)?;
        let from = destination.from().unwrap_or(destination.to.ip());
        self.describe(&Session { to: destination.to, from, ttl: self.options.ttl, control: None })
    }

    pub(in crate::sink) fn describe(&self, session: &Session<'_>) -> Option<String> {
        describe(self.codec, session, self.session, self.latest.as_deref())
    }

    /// Returns `true` if a description lacks parameter sets, because no packet had them yet.
    pub(in crate::sink) fn lacks_parameters(&self) -> bool {
        self.codec.has_nal_units() && self.latest.is_none()
    }

    /// Returns the sequence number of the next packet, and the stream's SSRC.
    pub(in crate::sink) fn position(&self) -> (u16, u32) {
        (self.sequence, self.ssrc)
    }

    pub(in crate::sink) fn options(&self) -> &SenderOptions {
        &self.options
    }

    /// Reads the receiver's reports. Returns when it last sent one.
    pub(in crate::sink) fn heard(&mut self, id: DestinationId) -> Option<Instant> {
        let ssrc = self.ssrc;
        let destination = self.destination_mut(id)?;
        destination.listen(ssrc);
        destination.heard()
    }

    /// Takes a report that a receiver sent in its connection.
    pub(in crate::sink) fn hear(&mut self, id: DestinationId, bytes: &[u8]) {
        let ssrc = self.ssrc;
        if let Some(destination) = self.destination_mut(id) {
            destination.hear(ssrc, bytes);
        }
    }

    /// Takes a frame, which [`Stream::send_due`] sends. Sends the rest of the previous frame at once. Ignores an empty
    /// packet, which a damaged packet may be, and a damaged JPEG picture that cannot be read. `InvalidArgument` for
    /// another codec. `Unsupported` for a JPEG picture that RTP cannot carry.
    pub(in crate::sink) fn submit(&mut self, packet: &Packet) -> Result<()> {
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
        let picture = match self.codec {
            Codec::Mjpeg if !self.destinations.is_empty() => match Picture::new(packet.bytes()) {
                Err(_) if packet.is_damaged() => return Ok(()),
                picture => Some(picture?),
            },
            _ => None,
        };
        let now_ns = monotonic_ns();
        let time_ns = self.time.next(meta.timestamp_ns, now_ns);
        self.measure(time_ns);
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
        // 90 kHz (RFC 6184, 5.1). The sum wraps.
        let ticks = (u128::from(time_ns) * 9 / 100_000) as u32;
        self.timestamp = self.offset.wrapping_add(ticks);
        // If the clock of the timestamp is unknown, the frame counts as captured now.
        let age = match meta.flags.contains(FrameFlags::MONOTONIC) {
            true => Duration::from_nanos(now_ns.saturating_sub(time_ns)),
            false => Duration::ZERO,
        };
        self.sampled = now.checked_sub(age);
        let Self { payload_type, ssrc, timestamp, sequence, .. } = *self;
        let stamp = Stamp { payload_type, ssrc, timestamp, sequence };
        let room = self.options.mtu.saturating_sub(BELOW_RTP + RTP_BYTES);
        if let Some(picture) = picture {
            self.plan.make_jpeg(packet.bytes(), &picture, room, stamp);
        } else if self.plan.make(packet, first.map(|s| &**s), room, stamp) {
            // Other sets may be in force now, so the next key frame sends them again.
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

    fn measure(&mut self, time_ns: u64) {
        let since = self.last_ns.replace(time_ns).and_then(|last| time_ns.checked_sub(last));
        let interval = since.map(Duration::from_nanos).filter(|i| (INTERVALS[1]..=INTERVALS[2]).contains(i));
        self.interval = interval.unwrap_or(self.interval);
    }

    /// Sends the datagrams that are due. Returns the time until more are due or the network is tried again. `None`
    /// after the whole frame.
    pub(in crate::sink) fn send_due(&mut self) -> Option<Duration> {
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

    /// Sends the datagrams of the frame up to `until`.
    fn send(&mut self, until: usize) {
        let Some(frame) = &self.frame else { return };
        let data = frame.packet.bytes();
        for (_, destination) in &mut self.destinations {
            destination.send(&self.plan, data, until);
        }
    }

    /// Ends the lease of a frame that was sent. Sends reports if they are due.
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

/// Converts an instant, or else the current time, to nanoseconds since 1970.
fn unix_ns(at: Option<Instant>) -> u64 {
    let age = at.map_or(Duration::ZERO, |at| at.elapsed());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.saturating_sub(age).as_nanos()).unwrap_or(0)
}

impl Drop for Stream {
    /// Sends RTCP BYE.
    fn drop(&mut self) {
        let now = unix_ns(self.sampled);
        for (_, destination) in &mut self.destinations {
            destination.leave(self.ssrc, &self.name, self.timestamp, now);
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to: Vec<_> = self.destinations.iter().map(|(_, d)| d).collect();
        write!(f, "{}, ssrc {:08x}, to {to:?}", self.codec, self.ssrc)
    }
}
