//! Frames become datagrams, in time.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::destination::{Destination, DestinationStats};
use super::header::{bye, rtp, sender_report, RTP_BYTES};
use super::payload::{each_parameter, parameters, pieces, Piece, MOST_PREFIX};
use super::sdp::{describe, encoding};
use crate::bitstream::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{FrameFlags, Packet};
use crate::sys::clock::monotonic_ns;
use crate::sys::udp::{Datagram, MOST};

/// How often receivers are told wall-clock time and counts (RFC 3550, 6.2).
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Datagrams go out in bursts this far apart.
const BURST: Duration = Duration::from_millis(1);
/// IP and UDP headers, of IPv6.
const BELOW_RTP: usize = 48;

/// How a stream is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Bytes of the largest IP packet. Default 1400, which tunnels leave room for.
    pub mtu: usize,
    /// A frame's packets are spread over this time. Default 8 ms, half a frame interval of 60 a second; zero sends them at
    /// once.
    pub spread: Duration,
    /// Parameter sets are sent before a key frame when this time has passed since they last were. Default zero: before
    /// each.
    pub parameters_every: Duration,
    /// Hops of multicast packets. Default 1: the own network.
    pub ttl: u32,
    /// The interface that multicast goes out by, else the routes say.
    pub interface: Option<String>,
    /// Differentiated services code point (RFC 2474) of all packets: 34 (AF41) is usual for video.
    pub dscp: Option<u8>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mtu: 1400,
            spread: Duration::from_millis(8),
            parameters_every: Duration::ZERO,
            ttl: 1,
            interface: None,
            dscp: None,
        }
    }
}

impl Options {
    /// With another largest packet, at least 128 bytes.
    pub fn mtu(self, bytes: usize) -> Self {
        Self { mtu: bytes.clamp(128, 9000), ..self }
    }

    /// Spread over another time.
    pub fn spread(self, spread: Duration) -> Self {
        Self { spread, ..self }
    }

    /// With parameter sets at most so often.
    pub fn parameters_every(self, interval: Duration) -> Self {
        Self { parameters_every: interval, ..self }
    }

    /// With another reach of multicast.
    pub fn ttl(self, ttl: u32) -> Self {
        Self { ttl: ttl.min(255), ..self }
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

/// A datagram of the frame that is being sent: what goes before its bytes, and where those are.
struct Planned {
    prefix: [u8; MOST_PREFIX],
    prefix_len: usize,
    start: usize,
    len: usize,
    /// In the parameter sets and not in the packet.
    is_parameters: bool,
}

/// Sends one stream.
///
/// The destinations of a sender get the same packets, with one SSRC; each loses and drops for itself: where the network
/// takes no more (or the host is unreachable), the rest of that frame and everything up to a key frame is not sent there,
/// counted, and nobody else notices.
///
/// Costs of a frame: a system call for each burst of up to 64 datagrams and destination; no copy and, in steady state, no
/// allocation but for parameter sets and reports.
pub struct Sender {
    codec: Codec,
    options: Options,
    destinations: Vec<(DestinationId, Destination)>,
    next_id: u64,
    ssrc: u32,
    sequence: u16,
    /// RTP time at the stream's time 0.
    offset: u32,
    session: u64,
    /// The frame that is being sent, holding its lease.
    frame: Option<Packet>,
    parameters: Vec<u8>,
    plan: Vec<Planned>,
    sent: usize,
    timestamp: u32,
    begun: Instant,
    parameters_sent: Option<Instant>,
    reported: Option<Instant>,
    /// The latest stream's parameter sets, for the session description.
    latest: Option<std::sync::Arc<crate::bitstream::ParameterSets>>,
}

/// RFC 3550, 5.1: sequence numbers, timestamps and SSRC begin at random.
fn random() -> u64 {
    // The standard library's hasher keys are the kernel's random numbers.
    RandomState::new().build_hasher().finish()
}

impl Sender {
    /// A sender without destinations.
    ///
    /// # Errors
    /// `Unsupported` if the codec has no RTP payload format.
    pub fn new(codec: Codec, options: Options) -> Result<Self> {
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
            parameters: Vec::new(),
            plan: Vec::new(),
            sent: 0,
            timestamp: 0,
            begun: Instant::now(),
            parameters_sent: None,
            reported: None,
            latest: None,
        })
    }

    /// Sends to one more host or group, from the next key frame on. RTCP goes to the next port.
    ///
    /// # Errors
    /// What the socket reports: an unknown interface, no route.
    pub fn add(&mut self, to: SocketAddr) -> Result<DestinationId> {
        let destination = Destination::open(to, &self.options)?;
        let id = DestinationId(self.next_id);
        self.next_id += 1;
        self.destinations.push((id, destination));
        Ok(id)
    }

    /// Sends there no more, and says so (RTCP BYE). Unknown ones are none.
    pub fn remove(&mut self, id: DestinationId) {
        if let Some(at) = self.destinations.iter().position(|(i, _)| *i == id) {
            let (_, destination) = self.destinations.remove(at);
            destination.control(&bye(self.ssrc));
        }
    }

    fn destination(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.iter().find(|(i, _)| *i == id).map(|(_, d)| d)
    }

    /// Counts of a destination; `None` for one that is not there.
    pub fn stats(&self, id: DestinationId) -> Option<DestinationStats> {
        self.destination(id).map(|d| d.stats.clone())
    }

    /// `true` while a destination gets nothing until a key frame comes: time to force one.
    pub fn awaits_key(&self) -> bool {
        self.destinations.iter().any(|(_, d)| d.awaits_key)
    }

    /// The session description of a destination (RFC 8866), with the parameter sets of the latest packet; `None` for one
    /// that is not there.
    pub fn sdp(&self, id: DestinationId) -> Option<String> {
        let destination = self.destination(id)?;
        let (to, from) = (destination.to, destination.from().ip());
        describe(self.codec, to, from, self.options.ttl, self.session, self.latest.as_deref())
    }

    /// Takes a frame. What is left of the one before is sent at once. [`Sender::send_due`] sends it. An empty packet, as a
    /// damaged one may be, is nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for a packet of another codec.
    pub fn submit(&mut self, packet: &Packet) -> Result<()> {
        if packet.meta().codec != self.codec {
            let text = format!("a packet of {} in a stream of {}", packet.meta().codec, self.codec);
            return Err(Error::new(ErrorKind::InvalidArgument, "rtp", text));
        }
        self.send(usize::MAX);
        self.end_frame();
        if packet.picture().is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for (_, destination) in &mut self.destinations {
            destination.is_lost = destination.awaits_key && !packet.is_key();
            if destination.is_lost {
                // Nobody misses what came before the first key frame.
                let stats = &mut destination.stats;
                stats.dropped += u64::from(stats.frames > 0 || stats.last_error.is_some());
            } else {
                destination.awaits_key = false;
            }
        }
        if let Some(sets) = packet.parameter_sets() {
            self.latest = Some(sets.clone());
        }
        self.make_plan(packet, now);
        // 90 kHz (RFC 6184, 5.1), of any length of time.
        let ticks = (u128::from(packet.meta().timestamp_ns) * 9 / 100_000) as u32;
        self.timestamp = self.offset.wrapping_add(ticks);
        (self.frame, self.begun, self.sent) = (Some(packet.clone()), now, 0);
        Ok(())
    }

    fn make_plan(&mut self, packet: &Packet, now: Instant) {
        let room = self.options.mtu.saturating_sub(BELOW_RTP + RTP_BYTES);
        self.plan.clear();
        self.parameters.clear();
        let is_due = self.parameters_sent.map_or(true, |at| now.duration_since(at) >= self.options.parameters_every);
        let add = |plan: &mut Vec<Planned>, piece: &Piece<'_>, start: usize, is_parameters: bool| {
            let mut prefix = [0; MOST_PREFIX];
            let prefix_len = piece.prefix().len();
            prefix[..prefix_len].copy_from_slice(piece.prefix());
            plan.push(Planned { prefix, prefix_len, start, len: piece.body.len(), is_parameters });
        };
        if let (Some(sets), true) = (packet.parameter_sets(), packet.is_key() && is_due) {
            let (plan, kept) = (&mut self.plan, &mut self.parameters);
            let mut keep = |piece: Piece<'_>| {
                add(plan, &piece, kept.len(), true);
                kept.extend_from_slice(piece.body);
            };
            match parameters(sets, room) {
                Some(together) => keep(Piece::new(&[], &together)),
                None => each_parameter(sets, room, keep),
            }
            self.parameters_sent = Some(now);
        }
        let data = packet.bytes();
        let plan = &mut self.plan;
        pieces(self.codec, data, room, |piece| {
            // A piece is a part of the data: so far from its start.
            let start = piece.body.as_ptr() as usize - data.as_ptr() as usize;
            add(plan, &piece, start, false);
        });
    }

    /// Sends the datagrams that are due now, and returns how long it is until more are; `None` if none are left.
    pub fn send_due(&mut self) -> Option<Duration> {
        let elapsed = self.begun.elapsed();
        let bursts = (self.options.spread.as_micros() / BURST.as_micros()).max(1) as usize;
        let per_burst = self.plan.len().div_ceil(bursts).max(1);
        let due = match elapsed >= self.options.spread {
            true => usize::MAX,
            false => (elapsed.as_micros() / BURST.as_micros()) as usize + 1,
        };
        self.send(due.saturating_mul(per_burst));
        if self.sent < self.plan.len() {
            let next = BURST * (self.sent / per_burst) as u32;
            return Some(next.saturating_sub(self.begun.elapsed()));
        }
        self.end_frame();
        None
    }

    /// Sends up to this many datagrams of the frame.
    fn send(&mut self, until: usize) {
        let Some(packet) = &self.frame else { return };
        let until = until.min(self.plan.len());
        let data = packet.bytes();
        while self.sent < until {
            let planned = &self.plan[self.sent..until.min(self.sent + MOST)];
            let mut heads = [[0; RTP_BYTES + MOST_PREFIX]; MOST];
            for (i, (head, p)) in heads.iter_mut().zip(planned).enumerate() {
                let is_last = self.sent + i + 1 == self.plan.len();
                let sequence = self.sequence.wrapping_add(i as u16);
                head[..RTP_BYTES].copy_from_slice(&rtp(is_last, sequence, self.timestamp, self.ssrc));
                head[RTP_BYTES..].copy_from_slice(&p.prefix);
            }
            let mut datagrams: [Datagram<'_>; MOST] = [[&[]; 2]; MOST];
            for ((datagram, head), p) in datagrams.iter_mut().zip(&heads).zip(planned) {
                let from = if p.is_parameters { &self.parameters } else { data };
                let body = from.get(p.start..p.start + p.len).unwrap_or(&[]);
                *datagram = [&head[..RTP_BYTES + p.prefix_len], body];
            }
            for (_, destination) in self.destinations.iter_mut().filter(|(_, d)| !d.is_lost) {
                destination.send(&datagrams[..planned.len()]);
            }
            self.sequence = self.sequence.wrapping_add(planned.len() as u16);
            self.sent += planned.len();
        }
    }

    /// The lease of a frame that was sent ends; receivers are told the time now and then.
    fn end_frame(&mut self) {
        let Some(packet) = self.frame.take() else { return };
        for (_, destination) in self.destinations.iter_mut().filter(|(_, d)| !d.is_lost) {
            destination.stats.frames += 1;
        }
        let is_due = self.reported.map_or(true, |at| at.elapsed() >= REPORT_EVERY);
        if !is_due {
            return;
        }
        self.reported = Some(Instant::now());
        // The wall-clock time at which the frame was taken, if its clock is known.
        let age = match packet.meta().flags.contains(FrameFlags::MONOTONIC) {
            true => Duration::from_nanos(monotonic_ns().saturating_sub(packet.meta().timestamp_ns)),
            false => self.begun.elapsed(),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ns = u64::try_from(now.saturating_sub(age).as_nanos()).unwrap_or(0);
        let name = format!("framelease-{:08x}", self.session as u32);
        for (_, destination) in &self.destinations {
            destination.control(&sender_report(self.ssrc, &destination.report(self.timestamp, unix_ns), &name));
        }
    }
}

impl Drop for Sender {
    /// Says goodbye (RTCP BYE).
    fn drop(&mut self) {
        for (_, destination) in &self.destinations {
            destination.control(&bye(self.ssrc));
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to: Vec<_> = self.destinations.iter().map(|(_, d)| d.to).collect();
        write!(f, "Sender({}, ssrc {:08x}, to {to:?})", self.codec, self.ssrc)
    }
}
