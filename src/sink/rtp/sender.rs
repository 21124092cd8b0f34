//! The sender of an RTP stream.

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
use crate::sys::event_queue::UnreadSignal;
use crate::sys::readiness::{Alarm, Readiness};
use crate::sys::wait;

/// An event of a [`Sender`].
#[derive(Debug)]
#[non_exhaustive]
pub enum SenderEvent {
    /// A destination waits for a key frame: force one. The sender does not repeat this event before a key frame was
    /// submitted.
    KeyFrameWanted,
    /// A destination lost a frame, because the network did not take it in time, or because the host is unreachable.
    /// After this event, the sender reports no further loss for this destination until a whole frame was sent to it.
    /// [`DestinationStats`] count every frame that was lost.
    Failed(DestinationId, Error),
}

/// Sends one stream to any number of hosts and multicast groups.
///
/// All destinations get the same RTP packets, with one SSRC. A loss at one destination does not affect the others. If
/// the network does not take a frame within a frame interval, or if the host is unreachable, the destination loses the
/// rest of this frame and all frames up to the next intact key frame.
///
/// A sender is a [`Station`] that takes packets ([`Submit`]). The sender is never full: when a new packet comes, the
/// sender sends the rest of the previous packet at once. A packet is leased until its last datagram was sent.
///
/// A frame costs one system call per destination for each burst of up to 64 datagrams, and one `timerfd_settime` for
/// each burst but the first. Nothing is copied. In steady state nothing is allocated.
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::sink::rtp::{Sender, SenderOptions};
///
/// let mut sender = Sender::new(Codec::H264, SenderOptions::default().dscp(34))?;
/// let host = sender.add(([127, 0, 0, 1], 5004).into())?;
/// assert!(sender.awaits_key()); // encoder.force_key()
/// println!("{}", sender.sdp(host).unwrap_or_default());
/// # Ok::<(), framelease::Error>(())
/// ```
///
/// The [module](crate::sink::rtp) has a complete loop.
pub struct Sender {
    stream: Stream,
    /// Holds the alarm, and the signal of events.
    readiness: Readiness,
    alarm: Alarm,
    unread: UnreadSignal,
    /// When more datagrams are due.
    due: Option<Instant>,
    /// A key frame is needed, and `KeyFrameWanted` was returned.
    is_key_reported: bool,
    /// A key frame is needed, and the descriptor was made readable for that.
    is_key_announced: bool,
}

impl Sender {
    /// Creates a sender without destinations.
    ///
    /// # Errors
    /// `Unsupported` if the codec does not have an RTP payload format. `InvalidArgument` for Motion JPEG in packets of
    /// less than 205 bytes. `Exhausted` if no descriptor is left.
    pub fn new(codec: Codec, options: SenderOptions) -> Result<Self> {
        let stream = Stream::new(codec, options)?;
        let readiness = Readiness::new().map_err(|e| Error::os("epoll_create1", e))?;
        let alarm = Alarm::new().map_err(|e| Error::os("timerfd_create", e))?;
        let unread = UnreadSignal::new().map_err(|e| Error::os("eventfd", e))?;
        readiness.add(&alarm, EpollFlags::EPOLLIN, 0).map_err(|e| Error::os("epoll_ctl", e))?;
        readiness.add(&unread, EpollFlags::EPOLLIN, 1).map_err(|e| Error::os("epoll_ctl", e))?;
        Ok(Self { stream, readiness, alarm, unread, due: None, is_key_reported: false, is_key_announced: false })
    }

    /// Adds a host or group. Its stream starts with the next intact key frame. RTCP uses the next port.
    ///
    /// # Errors
    /// `NotFound` or `DeviceLost` for an unknown interface. `Os` without a route to the address. `Exhausted` if no
    /// descriptor is left.
    pub fn add(&mut self, to: SocketAddr) -> Result<DestinationId> {
        let added = self.stream.add(to);
        self.schedule(Instant::now());
        added
    }

    /// Stops sending to a destination, and sends RTCP BYE. Does nothing for an unknown id.
    pub fn remove(&mut self, id: DestinationId) {
        self.stream.remove(id);
        self.schedule(Instant::now());
    }

    /// Stops sending to a destination until [`Sender::resume`]. Does nothing for an unknown id.
    pub fn pause(&mut self, id: DestinationId) {
        self.stream.pause(id);
        self.schedule(Instant::now());
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

    /// Returns `true` while a destination waits for a key frame: force one. If a destination keeps losing frames, for
    /// example because its host is unreachable, this method ignores that destination for five seconds after each loss.
    pub fn awaits_key(&self) -> bool {
        self.stream.awaits_key()
    }

    /// Returns `true` while datagrams of the last packet are still to be sent. Before a program ends, it calls
    /// [`Station::recv`] until this method returns `false`.
    pub fn is_sending(&self) -> bool {
        self.due.is_some()
    }

    /// Returns the session description of a destination (RFC 8866), with the parameter sets of the latest packet.
    /// `None` for an unknown id.
    pub fn sdp(&self, id: DestinationId) -> Option<String> {
        self.stream.sdp(id)
    }

    /// Sends the datagrams that are due.
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
        let is_wanted = self.wants_to_report_key();
        self.is_key_reported |= is_wanted;
        is_wanted.then_some(SenderEvent::KeyFrameWanted)
    }

    fn wants_to_report_key(&self) -> bool {
        self.stream.awaits_key() && !self.is_key_reported
    }

    fn has_event(&self) -> bool {
        self.stream.has_failure() || self.wants_to_report_key()
    }

    /// Makes the descriptor readable for new events. Sets the alarm for the next datagrams, or for the time when a
    /// destination begins to ask for a key frame.
    fn schedule(&mut self, now: Instant) {
        let wants_key = self.wants_to_report_key();
        let is_new = wants_key && !self.is_key_announced;
        self.is_key_announced = wants_key;
        if self.stream.has_newly_failed() || is_new {
            self.unread.found();
        } else if !self.has_event() {
            // A key frame came before the event was taken.
            self.unread.given(false);
        }
        let asks = self.stream.awaits_key_at().filter(|at| *at > now && !self.is_key_reported);
        self.alarm.next(self.due.into_iter().chain(asks).min(), now);
    }
}

impl sealed::Sealed for Sender {}

impl Station for Sender {
    type Event = SenderEvent;

    fn dispatch(&mut self) -> Result<()> {
        let now = Instant::now();
        self.work(now);
        self.schedule(now);
        self.unread.looked();
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<SenderEvent>> {
        let now = Instant::now();
        self.work(now);
        let event = self.event();
        self.schedule(now);
        self.unread.given(self.has_event());
        Ok(event.into())
    }
}

impl Submit for Sender {
    type Item = Packet;

    /// Takes a packet. Sends the rest of the previous packet, then the first burst of this packet. The sender is never
    /// full. It ignores an empty packet. A damaged packet may be empty.
    ///
    /// # Errors
    /// Every error gives the packet back, and the next packet can be sent. `InvalidArgument` for a packet of another
    /// codec, or if the bytes are not a JPEG picture. `Unsupported` for a JPEG picture that RTP cannot carry: see the
    /// [module](crate::sink::rtp). A damaged one is ignored.
    fn try_submit(&mut self, packet: Packet) -> std::result::Result<Submitted<Packet>, Rejected<Packet>> {
        if let Err(error) = self.stream.submit(&packet) {
            return Err(Rejected { error, item: packet });
        }
        let now = Instant::now();
        // A destination that needs a key frame after this one is reported again.
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
        self.readiness.remove(&self.unread);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?})", self.stream)
    }
}
