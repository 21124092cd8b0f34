//! One stream and its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::builder::MountOptions;
use super::server::MountId;
use crate::error::Result;
use crate::frame::Packet;
use crate::sink::rtp::{self, DestinationId, Sender};
use crate::sys;

/// The name of the one track.
pub(super) const TRACK: &str = "video";

pub(super) struct Mount {
    pub(super) id: MountId,
    /// As in a URI, without a slash at its end.
    pub(super) path: String,
    pub(super) sender: Sender,
    pub(super) group: Option<SocketAddr>,
    /// While clients want it, and whether it is sent to.
    pub(super) group_sent: Option<(DestinationId, bool)>,
    /// One more has joined the group: it needs a key frame, which the sender does not know.
    wants_key: bool,
    due: Option<Instant>,
}

impl Mount {
    pub(super) fn new(id: MountId, path: String, sender: Sender, options: &MountOptions) -> Self {
        Self { id, path, sender, group: options.group, group_sent: None, wants_key: false, due: None }
    }

    /// `true` for its own path and that of its track.
    pub(super) fn is_at(&self, path: &str) -> bool {
        path.strip_prefix(&*self.path).is_some_and(|rest| rest.is_empty() || rest.strip_prefix('/') == Some(TRACK))
    }

    pub(super) fn awaits_key(&self) -> bool {
        self.wants_key || self.sender.awaits_key()
    }

    pub(super) fn submit(&mut self, packet: &Packet) -> Result<()> {
        self.sender.submit(packet)?;
        self.wants_key &= !packet.can_begin();
        self.send_due();
        Ok(())
    }

    pub(super) fn send_due(&mut self) {
        // A time that is spread over may be longer than the clock's.
        self.due = self.sender.send_due().map(sys::wait::deadline);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What a client must know, at an address of the server.
    pub(super) fn describe(&self, local: IpAddr) -> Option<String> {
        let any: IpAddr = if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let (to, ttl) = (SocketAddr::new(any, 0), self.sender.options().ttl);
        self.sender.describe(&rtp::Session { to, from: local, ttl, control: Some(TRACK) })
    }

    /// So many clients have set the group up, and so many of them want it to be sent.
    pub(super) fn update_group(&mut self, members: usize, playing: usize) {
        let Some((id, is_sent)) = self.group_sent else { return };
        if members == 0 {
            self.sender.remove(id);
            self.group_sent = None;
        } else if is_sent != (playing > 0) {
            if is_sent {
                self.sender.pause(id);
            } else {
                self.sender.resume(id);
            }
            self.group_sent = Some((id, playing > 0));
        }
    }

    /// The destination of the group, which nothing is sent to until somebody plays it.
    pub(super) fn join(&mut self, group: SocketAddr) -> Result<DestinationId> {
        if let Some((id, _)) = self.group_sent {
            return Ok(id);
        }
        let id = self.sender.add(group)?;
        self.sender.pause(id);
        self.group_sent = Some((id, false));
        Ok(id)
    }

    pub(super) fn want_key(&mut self) {
        self.wants_key = true;
    }

    /// How long it is until the next datagrams are due.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.map(|at| at.saturating_duration_since(now))
    }
}
