//! A destination: one receiver, or one multicast group.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::header::{receiver_report, sender_report, Reception, Report, RTP_BYTES};
use super::interleaved::Outbox;
use super::options::SenderOptions;
use super::plan::Plan;
use super::sockets::Sockets;
use crate::error::{Error, Result};
use crate::frame::Packet;
use crate::sys::udp::Datagram;

/// How often receivers get the wall-clock time and counts (RFC 3550, 6.2).
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// A destination that keeps losing frames asks for a key frame this long after the last loss. A key frame costs
/// bandwidth for all destinations, even if it cannot reach this one.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Names a destination of a [`Sender`](super::Sender).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DestinationId(pub(super) u64);

/// Counts of one destination.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DestinationStats {
    /// RTP packets that were sent.
    pub packets: u64,
    /// Bytes of the payloads of these packets.
    pub octets: u64,
    /// Frames that were sent completely.
    pub frames: u64,
    /// Frames that were not sent completely, because the network did not take them in time, or because the destination
    /// waited for a key frame.
    pub dropped: u64,
    /// Why the last frame was dropped.
    pub last_error: Option<Error>,
    /// The latest report of the receiver. For a multicast group, the latest report of any receiver. Reports of a group
    /// arrive only if this host is a member of the group.
    pub reception: Option<Reception>,
}

pub(super) enum Transport {
    Udp(Sockets),
    /// The channel is that of RTP; RTCP has the next channel.
    Tcp(Outbox, u8),
}

/// The datagrams of the current frame that a destination still gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    /// Datagrams from this index on.
    From(usize),
    /// No more datagrams.
    None,
}

pub(super) struct Destination {
    pub(super) to: SocketAddr,
    transport: Transport,
    /// Nothing is sent until a key frame comes.
    awaits_key: bool,
    /// When a frame was last lost, and whether a key frame is asked for without waiting for [`ASK_AGAIN`].
    lost: Option<Instant>,
    asks: bool,
    /// Nothing is sent at all.
    is_paused: bool,
    share: Share,
    /// The last frame was sent completely, or no frame was tried.
    is_well: bool,
    /// A frame was lost since then, and `Failed` was not returned.
    has_failed: bool,
    /// As `has_failed`, and the descriptor was not made readable for it.
    is_failure_new: bool,
    reported: Option<Instant>,
    heard: Option<Instant>,
    pub(super) stats: DestinationStats,
}

impl Destination {
    pub(super) fn udp(to: SocketAddr, options: &SenderOptions) -> Result<Self> {
        // RFC 3550, 11: RTCP uses the next port. For port 65535 there are no reports.
        let control = to.port().checked_add(1).map(|port| SocketAddr::new(to.ip(), port));
        Ok(Self::new(to, Transport::Udp(Sockets::open(to, control, None, options)?)))
    }

    pub(super) fn new(to: SocketAddr, transport: Transport) -> Self {
        Self {
            to,
            transport,
            awaits_key: true,
            lost: None,
            asks: true,
            is_paused: false,
            share: Share::None,
            is_well: true,
            has_failed: false,
            is_failure_new: false,
            reported: None,
            heard: None,
            stats: DestinationStats::default(),
        }
    }

    /// Returns the address that packets come from.
    pub(super) fn from(&self) -> Option<IpAddr> {
        match &self.transport {
            Transport::Udp(sockets) => sockets.from(),
            Transport::Tcp(..) => None,
        }
    }

    pub(super) fn awaits_key(&self) -> bool {
        let asks = self.asks || self.lost.map_or(true, |at| at.elapsed() >= ASK_AGAIN);
        self.awaits_key && asks && !self.is_paused
    }

    /// Returns when the destination begins to ask for a key frame, if it will.
    pub(super) fn asks_at(&self) -> Option<Instant> {
        let waits = self.awaits_key && !self.is_paused && !self.asks;
        self.lost.filter(|_| waits).map(|at| at + ASK_AGAIN)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Returns `true` once for each failure.
    pub(super) fn has_newly_failed(&mut self) -> bool {
        std::mem::take(&mut self.is_failure_new)
    }

    /// Returns why frames were lost: once, until a frame is sent completely again.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        if !std::mem::take(&mut self.has_failed) {
            return None;
        }
        self.stats.last_error.clone()
    }

    pub(super) fn pause(&mut self, is_paused: bool) {
        if self.is_paused == is_paused {
            return;
        }
        self.is_paused = is_paused;
        (self.awaits_key, self.asks, self.share) = (true, true, Share::None);
    }

    /// Begins a frame. Returns whether it is sent here, and whether the stream starts with it.
    pub(super) fn begin(&mut self, packet: &Packet) -> JoinState {
        self.share = Share::None;
        if self.is_paused {
            return JoinState::Not;
        }
        let dropped = match &self.transport {
            Transport::Tcp(out, channel) => out.take_dropped(*channel) as u64,
            Transport::Udp(_) => 0,
        };
        if dropped > 0 {
            // They counted as sent when they were kept.
            self.stats.frames = self.stats.frames.saturating_sub(dropped);
            self.stats.dropped += dropped - 1;
            self.lose(Errno::ETIMEDOUT);
        }
        let begins = self.awaits_key;
        if begins && !packet.can_begin() {
            // Frames before the first key frame are not counted as dropped.
            self.stats.dropped += u64::from(self.stats.frames > 0 || self.stats.last_error.is_some());
            return JoinState::Not;
        }
        (self.awaits_key, self.share) = (false, Share::From(0));
        if begins {
            if let Transport::Udp(sockets) = &self.transport {
                sockets.forget_error();
            }
            JoinState::First
        } else {
            JoinState::Next
        }
    }

    /// Sends datagrams up to `until`, as many as the network takes now.
    pub(super) fn send(&mut self, plan: &Plan, data: &[u8], until: usize) {
        while let Share::From(at) = self.share {
            let (datagrams, count) = plan.datagrams(data, at, until);
            if count == 0 {
                return;
            }
            match self.send_some(&datagrams[..count]) {
                Ok(sent) => {
                    let done = &datagrams[..sent.clamp(1, count)];
                    self.stats.packets += done.len() as u64;
                    let bytes: usize = done.iter().flatten().map(|piece| piece.len()).sum();
                    self.stats.octets += (bytes - done.len() * RTP_BYTES) as u64;
                    self.share = Share::From(at + done.len());
                }
                Err(Errno::EAGAIN) => return,
                Err(e) => self.lose(e),
            }
        }
    }

    fn send_some(&mut self, datagrams: &[Datagram<'_>]) -> std::result::Result<usize, Errno> {
        match &mut self.transport {
            Transport::Udp(sockets) => sockets.send(datagrams),
            Transport::Tcp(out, channel) => out.packets(*channel, datagrams),
        }
    }

    /// Returns `true` if fewer than `count` datagrams of the frame were sent and the rest was not dropped.
    pub(super) fn is_behind(&self, count: usize) -> bool {
        matches!(self.share, Share::From(at) if at < count)
    }

    fn lose(&mut self, e: Errno) {
        (self.share, self.awaits_key) = (Share::None, true);
        self.asks = self.lost.replace(Instant::now()).map_or(true, |at| at.elapsed() >= 2 * ASK_AGAIN);
        self.stats.dropped += 1;
        self.has_failed |= self.is_well;
        self.is_failure_new |= self.is_well;
        self.is_well = false;
        self.stats.last_error = Some(Error::os("sendmsg", e).on(self.to));
    }

    /// Ends the frame. Returns `true` if all of it was sent.
    pub(super) fn end(&mut self, count: usize) -> bool {
        if self.is_behind(count) {
            self.lose(Errno::EAGAIN);
        }
        let is_whole = self.share != Share::None;
        self.stats.frames += u64::from(is_whole);
        self.is_well |= is_whole;
        self.share = Share::None;
        is_whole
    }

    /// Sends a report if it is due, and reads the receiver's reports.
    pub(super) fn report(&mut self, ssrc: u32, name: &str, timestamp: u32, unix_ns: impl FnOnce() -> u64) {
        if self.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        let mut bytes = [0; 256];
        let len = sender_report(ssrc, &self.counts(timestamp, unix_ns()), name, false, &mut bytes);
        self.control(&bytes[..len]);
        self.listen(ssrc);
    }

    /// Sends RTCP BYE, if anything was sent (RFC 3550, 6.3.7).
    pub(super) fn leave(&mut self, ssrc: u32, name: &str, timestamp: u32, unix_ns: u64) {
        if self.stats.packets == 0 {
            return;
        }
        let mut bytes = [0; 256];
        let len = sender_report(ssrc, &self.counts(timestamp, unix_ns), name, true, &mut bytes);
        self.control(&bytes[..len]);
    }

    fn counts(&self, timestamp: u32, unix_ns: u64) -> Report {
        // Both counts wrap (RFC 3550, 6.4.1).
        let (packets, octets) = (self.stats.packets as u32, self.stats.octets as u32);
        Report { unix_ns, timestamp, packets, octets }
    }

    /// Sends RTCP. Ignores errors: the receiver may not listen.
    fn control(&mut self, bytes: &[u8]) {
        match &mut self.transport {
            Transport::Udp(sockets) => sockets.control(bytes),
            Transport::Tcp(out, channel) => drop(out.packets(channel.wrapping_add(1), &[[bytes, &[]]])),
        }
    }

    /// Reads the reports of a UDP receiver. Reports in a connection come by [`Destination::hear`].
    pub(super) fn listen(&mut self, ssrc: u32) {
        let mut bytes = [0; 1500];
        // Bounded, whatever a receiver sends.
        for _ in 0..16 {
            let Transport::Udp(sockets) = &self.transport else { return };
            let Some(len) = sockets.receive(&mut bytes) else { return };
            self.hear(ssrc, &bytes[..len]);
        }
    }

    /// Takes a receiver's RTCP packet.
    pub(super) fn hear(&mut self, ssrc: u32, bytes: &[u8]) {
        self.heard = Some(Instant::now());
        self.stats.reception = receiver_report(ssrc, bytes).or(self.stats.reception);
    }

    /// Returns when the receiver last sent a report.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }
}

/// Whether a frame is sent to a destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinState {
    /// It is not sent.
    Not,
    /// It is sent, and the stream starts with it.
    First,
    /// It is sent, and continues the stream.
    Next,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match &self.transport {
            Transport::Udp(_) => "UDP",
            Transport::Tcp(..) => "TCP",
        };
        write!(f, "{} ({by}), {} frames, {} dropped", self.to, self.stats.frames, self.stats.dropped)
    }
}
