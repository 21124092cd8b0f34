//! One stream of a server, with its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::message::plain;
use crate::error::Result;
use crate::frame::Packet;
use crate::sink::rtp::{self, DestinationId, Stream};
use crate::sys;

/// The name of a stream's only track.
pub(super) const TRACK: &str = "video";

/// Clients can cause this many key frames at once, and one more in each [`KEY_EVERY`]. A key frame costs bandwidth for
/// all clients, and a client causes one whenever it begins to play.
const MOST_KEYS: u32 = 8;
const KEY_EVERY: Duration = Duration::from_secs(1);
/// How long descriptions of a new stream wait for its parameter sets.
const MOST_WAIT: Duration = Duration::from_secs(2);

/// Names a stream of a [`Server`](super::Server).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MountId(pub(super) u64);

/// How a mount's stream is sent.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MountOptions {
    /// Options of the packets, for all transports.
    pub rtp: rtp::SenderOptions,
    /// The group and port for clients that ask for multicast. With `None`, the default, the server answers such clients
    /// with 461.
    pub group: Option<SocketAddr>,
}

impl MountOptions {
    /// Sets the options of the packets.
    pub fn rtp(self, rtp: rtp::SenderOptions) -> Self {
        Self { rtp, ..self }
    }

    /// Sets a multicast group. RTCP uses the next port.
    pub fn group(self, group: SocketAddr) -> Self {
        Self { group: Some(group), ..self }
    }
}

pub(super) struct Mount {
    pub(super) id: MountId,
    /// The path in a URI, without a final slash.
    pub(super) path: String,
    pub(super) stream: Stream,
    pub(super) group: Option<SocketAddr>,
    /// The group's destination while clients have set it up, and whether packets are sent to it.
    pub(super) group_sent: Option<(DestinationId, bool)>,
    /// A client has joined the group, or asks for a description before the first key frame. The stream cannot know
    /// this.
    wants_key: bool,
    /// When clients can cause [`MOST_KEYS`] key frames again.
    keys_back: Option<Instant>,
    due: Option<Instant>,
    /// When the stream is described without parameter sets: [`MOST_WAIT`] after the first request.
    described_at: Option<Instant>,
    /// A key frame is needed, and `KeyFrameWanted` was returned.
    pub(super) is_key_reported: bool,
    /// A key frame is needed, and the descriptor was made readable for that.
    is_key_announced: bool,
}

impl Mount {
    pub(super) fn new(id: MountId, path: String, stream: Stream, options: &MountOptions) -> Self {
        Self {
            id,
            path,
            stream,
            group: options.group,
            group_sent: None,
            wants_key: false,
            keys_back: None,
            due: None,
            described_at: None,
            is_key_reported: false,
            is_key_announced: false,
        }
    }

    /// Returns `true` for the stream's own path and that of its track.
    pub(super) fn is_at(&self, path: &str) -> bool {
        path.strip_prefix(&*plain(&self.path))
            .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('/') == Some(TRACK))
    }

    pub(super) fn awaits_key(&self) -> bool {
        self.has_client_without_key() && self.asks_at().map_or(true, |at| at <= Instant::now())
    }

    fn has_client_without_key(&self) -> bool {
        self.wants_key || self.stream.awaits_key()
    }

    /// Returns the time from which clients can cause another key frame, if they have caused any.
    fn asks_at(&self) -> Option<Instant> {
        self.keys_back?.checked_sub(KEY_EVERY * (MOST_KEYS - 1))
    }

    pub(super) fn submit(&mut self, packet: &Packet) -> Result<()> {
        let is_for_clients = packet.can_begin() && self.awaits_key();
        self.stream.submit(packet)?;
        if is_for_clients {
            let now = Instant::now();
            self.keys_back = Some(self.keys_back.map_or(now, |at| at.max(now)) + KEY_EVERY);
        }
        self.wants_key &= !packet.can_begin();
        self.is_key_reported &= !packet.can_begin();
        self.send_due();
        Ok(())
    }

    pub(super) fn send_due(&mut self) {
        // `deadline` limits the time: a spread may be longer than the clock can represent.
        self.due = self.stream.send_due().map(sys::wait::deadline);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns until when a description waits for parameter sets. Some players need them. `None` if it does not wait.
    pub(super) fn waits_until(&mut self, now: Instant) -> Option<Instant> {
        if !self.stream.lacks_parameters() {
            return None;
        }
        // The first request asks for a key frame: most encoders send their parameter sets with it.
        self.wants_key |= self.described_at.is_none();
        let until = *self.described_at.get_or_insert(now + MOST_WAIT);
        (now < until).then_some(until)
    }

    /// Returns the session description, with an address of the server.
    pub(super) fn describe(&self, local: IpAddr) -> Option<String> {
        let any: IpAddr = if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let (to, ttl) = (SocketAddr::new(any, 0), self.stream.options().ttl);
        self.stream.describe(&rtp::Session { to, from: local, ttl, control: Some(TRACK) })
    }

    /// Takes the number of clients that have set the group up, and of those that play it.
    pub(super) fn update_group(&mut self, members: usize, playing: usize) {
        let Some((id, is_sent)) = self.group_sent else { return };
        if members == 0 {
            self.stream.remove(id);
            self.group_sent = None;
        } else if is_sent != (playing > 0) {
            if is_sent {
                self.stream.pause(id);
            } else {
                self.stream.resume(id);
            }
            self.group_sent = Some((id, playing > 0));
        }
    }

    /// Returns the destination of the group. Nothing is sent to it until a client plays it.
    pub(super) fn join(&mut self, group: SocketAddr) -> Result<DestinationId> {
        if let Some((id, _)) = self.group_sent {
            return Ok(id);
        }
        let id = self.stream.add(group)?;
        self.stream.pause(id);
        self.group_sent = Some((id, false));
        Ok(id)
    }

    pub(super) fn want_key(&mut self) {
        self.wants_key = true;
    }

    /// Returns the next time at which datagrams are due, or a client begins to ask for a key frame.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let asks = self.stream.awaits_key_at().into_iter();
        let asks = asks.chain(self.asks_at().filter(|_| self.has_client_without_key()));
        self.due.into_iter().chain(asks.filter(|at| *at > now && !self.is_key_reported)).min()
    }

    /// Returns `true` once each time that a key frame becomes needed.
    pub(super) fn newly_wants_key(&mut self) -> bool {
        let wants_key = self.wants_to_report_key();
        let was_announced = std::mem::replace(&mut self.is_key_announced, wants_key);
        wants_key && !was_announced
    }

    /// Returns `true` if a key frame is needed and that was not returned as an event.
    pub(super) fn wants_to_report_key(&self) -> bool {
        self.awaits_key() && !self.is_key_reported
    }
}
