//! The sender as a station.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::sys::epoll::EpollFlags;

use super::destination::{DestinationId, DestinationStats};
use super::options::SenderOptions;
use super::stream::Stream;
use crate::bitstream::Codec;
use crate::error::{Error, Rejected, Result};
use crate::frame::Packet;
use crate::station::{sealed, Received, Station, Submit, Submitted};
use crate::sys::readiness::{Alarm, Readiness};
use crate::sys::wait;

/// An event of a [`Sender`].
#[derive(Debug)]
#[non_exhaustive]
pub enum SenderEvent {
    /// A destination waits for a key frame: force one. Comes once until a key frame was submitted, and again if a
    /// destination then still waits, or waits again.
    KeyFrameWanted,
    /// A destination lost a frame: the network took no more, or the host is unreachable. Comes once until a frame was sent
    /// completely again. [`DestinationStats`] count every frame.
    Failed(DestinationId, Error),
}

/// Sends one stream to any number of hosts and multicast groups.
///
/// All destinations get the same packets, with one SSRC. Each loses frames for itself: if the network takes no more for a
/// frame interval, or the host is unreachable, that destination does not get the rest of the frame, nor anything up to the
/// next intact key frame. The others do not notice.
///
/// It is a [`Station`] and takes packets ([`Submit`]). It always has room: a new packet sends the rest of the packet before
/// at once. A packet is leased until its last datagram was sent.
///
/// Costs of a frame: a system call for each burst of up to 64 datagrams and destination, and a `timerfd_settime` for each
/// burst but the first. Nothing is copied. In steady state nothing is allocated.
pub struct Sender {
    stream: Stream,
    /// Holds the alarm.
    readiness: Readiness,
    alarm: Alarm,
    /// When datagrams are due.
    due: Option<Instant>,
    /// A key frame is wanted, and that was reported.
    is_key_reported: bool,
}

impl Sender {
    /// Creates a sender without destinations.
    ///
    /// # Errors
    /// `Unsupported` if the codec does not have an RTP payload format. `Exhausted` if no descriptor is left.
    pub fn new(codec: Codec, options: SenderOptions) -> Result<Self> {
        let stream = Stream::new(codec, options)?;
        let readiness = Readiness::new().map_err(|e| Error::os("epoll_create1", e))?;
        let alarm = Alarm::new().map_err(|e| Error::os("timerfd_create", e))?;
        readiness.add(&alarm, EpollFlags::EPOLLIN, 0).map_err(|e| Error::os("epoll_ctl", e))?;
        Ok(Self { stream, readiness, alarm, due: None, is_key_reported: false })
    }

    /// Adds a host or group. Its stream begins with the next intact key frame. RTCP goes to the next port.
    ///
    /// # Errors
    /// `NotFound` or `DeviceLost` for an unknown interface, `Os` without a route, `Exhausted` if no descriptor is left.
    pub fn add(&mut self, to: SocketAddr) -> Result<DestinationId> {
        let added = self.stream.add(to);
        self.schedule(Instant::now());
        added
    }

    /// Stops sending to a destination, and sends RTCP BYE. Does nothing for an unknown id.
    pub fn remove(&mut self, id: DestinationId) {
        self.stream.remove(id);
    }

    /// Stops sending to a destination until [`Sender::resume`]. Does nothing for an unknown id.
    pub fn pause(&mut self, id: DestinationId) {
        self.stream.pause(id);
    }

    /// Sends to a destination again, from the next key frame on. Does nothing for an unknown id.
    pub fn resume(&mut self, id: DestinationId) {
        self.stream.resume(id);
        self.schedule(Instant::now());
    }

    /// Returns the counts of a destination. `None` for an unknown id.
    pub fn stats(&self, id: DestinationId) -> Option<DestinationStats> {
        self.stream.stats(id)
    }

    /// Returns `true` while a destination waits for a key frame: force one. A destination that keeps losing frames, such as
    /// an unreachable host, waits five seconds after the last loss before it asks.
    pub fn awaits_key(&self) -> bool {
        self.stream.awaits_key()
    }

    /// Returns `true` while datagrams of the last packet are still to be sent. A program that ends calls
    /// [`Station::recv`] until then.
    pub fn is_sending(&self) -> bool {
        self.due.is_some()
    }

    /// Returns the session description of a destination (RFC 8866), with the parameter sets of the latest packet. `None` for
    /// an unknown id.
    pub fn sdp(&self, id: DestinationId) -> Option<String> {
        self.stream.sdp(id)
    }

    /// Sends what is due.
    fn work(&mut self, now: Instant) {
        if self.due.is_some_and(|at| at <= now) {
            self.due = self.stream.send_due().map(wait::deadline);
        }
        self.is_key_reported &= self.stream.awaits_key();
    }

    fn event(&mut self) -> Option<SenderEvent> {
        if let Some((id, error)) = self.stream.take_failure() {
            return Some(SenderEvent::Failed(id, error));
        }
        let is_wanted = self.stream.awaits_key();
        (is_wanted && !std::mem::replace(&mut self.is_key_reported, is_wanted)).then_some(SenderEvent::KeyFrameWanted)
    }

    /// Sets the alarm for the next datagrams, or for now if an event waits.
    fn schedule(&mut self, now: Instant) {
        let waits = self.stream.has_failure() || self.stream.awaits_key() && !self.is_key_reported;
        let asks = self.stream.awaits_key_at().filter(|_| !self.is_key_reported);
        let next = self.due.into_iter().chain(asks).chain(waits.then_some(now)).min();
        self.alarm.next(next, now);
    }
}

impl sealed::Sealed for Sender {}

impl Station for Sender {
    type Event = SenderEvent;

    fn dispatch(&mut self) -> Result<()> {
        let now = Instant::now();
        self.work(now);
        self.schedule(now);
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<SenderEvent>> {
        let now = Instant::now();
        self.work(now);
        let event = self.event();
        self.schedule(now);
        Ok(event.into())
    }
}

impl Submit for Sender {
    type Item = Packet;

    /// Takes a packet and sends its first burst. The rest of the packet before is sent at once. Always takes it. An empty
    /// packet, as a damaged one may be, is ignored.
    ///
    /// # Errors
    /// `InvalidArgument` for a packet of another codec, with the packet.
    fn try_submit(&mut self, packet: Packet) -> std::result::Result<Submitted<Packet>, Rejected<Packet>> {
        if let Err(error) = self.stream.submit(&packet) {
            return Err(Rejected { error, item: packet });
        }
        let now = Instant::now();
        // If a key frame was asked for and another destination needs one after this, it is asked for again.
        self.is_key_reported &= !packet.can_begin();
        self.due = self.stream.send_due().map(wait::deadline);
        self.work(now);
        self.schedule(now);
        Ok(Submitted::Taken)
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.readiness.remove(&self.alarm);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?})", self.stream)
    }
}
