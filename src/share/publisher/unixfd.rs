//! GStreamer's `unixfd` protocol at one connection: an unchanged `unixfdsrc` is a subscriber.
//!
//! A `unixfdsrc` cannot say what it wants, so the publisher's builder says it ([`UnixfdTerms`]). Otherwise the
//! connection is like every other: same stages, same ledger, same deadlines. Its protocol sends descriptors with every
//! frame. No more frames are under way than the peer may hold, so a stopped peer ties up no more descriptors than
//! those.
//!
//! | native | here |
//! |---|---|
//! | HELLO, WELCOME, BUFFER, RETIRE | nothing |
//! | FORMAT | CAPS: the first at once, others before the first frame that needs them |
//! | FRAME, RELEASE | NEW_BUFFER, RELEASE_BUFFER; the id is the lease's generation |
//! | REVOKE | nothing: the protocol has no such message |
//! | END | EOS |
//! | BYE | the publisher closes its side of the socket, which `unixfdsrc` reports as an error |

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::ledger::Terms;
use super::outcome::{Announced, Fault, Incoming};
use super::peer_socket::PeerSocket;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::{Frame, FrameFlags, FrameMeta};
use crate::share::policy::{Policy, Rate};
use crate::share::unixfd::{caps, wire};
use crate::share::wire::{LeaseId, ToSubscriber, MAX_SLOTS};
use crate::sys::socket::{self, Received, MAX_FDS};

/// The terms on which `unixfdsrc` elements get frames. A `Subscriber` asks for its own terms, but a `unixfdsrc` cannot
/// ask.
///
/// ```no_run
/// use framelease::share::{Policy, Publisher, UnixfdTerms};
///
/// let terms = UnixfdTerms::hold(4).policy(Policy::Fifo(2));
/// let publisher = Publisher::builder("/run/camera/socket").unixfd("/run/camera/gst", terms).bind()?;
/// # Ok::<(), framelease::Error>(())
/// ```
///
/// See [`PublisherBuilder::unixfd`](crate::share::PublisherBuilder::unixfd).
#[derive(Clone, Copy, Debug)]
pub struct UnixfdTerms(Terms);

impl UnixfdTerms {
    /// Creates terms with the largest number of frames that a `unixfdsrc` has at a time, 1 to 64. Count the frames that
    /// the pipeline's queues hold, and one for a sink that shows the last frame. If a pipeline keeps more frames, it
    /// stalls.
    ///
    /// The default policy is [`Policy::Latest`]. The default rate is [`Rate::All`].
    pub fn hold(hold: u16) -> Self {
        Self(Terms { hold: hold.into(), policy: Policy::Latest, rate: Rate::All })
    }

    /// Sets what happens to new frames while the `unixfdsrc` holds its maximum.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.0.policy = policy;
        self
    }

    /// Sets how many of the source's frames a `unixfdsrc` gets.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.0.rate = rate;
        self
    }

    pub(super) fn check(&self) -> Result<Terms> {
        let Terms { hold, policy, rate } = self.0;
        let refused = |text: String| Err(Error::new(ErrorKind::InvalidArgument, "unixfd", text));
        if !(1..=MAX_SLOTS as u32).contains(&hold) {
            return refused(format!("hold {hold}: 1 to {MAX_SLOTS} are possible"));
        }
        match policy.check().and_then(|()| rate.check()) {
            Ok(()) => Ok(self.0),
            Err(text) => refused(text),
        }
    }
}

/// The state of one connection: what was sent, and the incomplete messages of either direction.
#[derive(Debug, Default)]
pub(super) struct UnixfdPeer {
    /// CAPS of the current pool; empty before the first.
    caps: Vec<u8>,
    /// An interlaced frame was sent: CAPS say that frames can be of either kind.
    is_mixed: bool,
    /// CAPS must be sent before the next frame. Not earlier: formats must not pile up for a peer that does not read.
    caps_due: bool,
    /// Frames dropped before the last frame that was sent: a difference marks a gap.
    dropped: u64,
    /// The bytes of the last frame's message, kept to reuse the allocation.
    message: Vec<u8>,
    /// The rest of a message that was sent in part.
    rest: Vec<u8>,
    inbox: wire::Inbox,
}

impl UnixfdPeer {
    /// Notes the format. Returns `All`, or `Full` if the socket lacks room for the first CAPS.
    pub(super) fn announce(
        &mut self,
        socket: BorrowedFd<'_>,
        layout: &Layout,
    ) -> std::result::Result<Announced, Fault> {
        let is_first = self.caps.is_empty();
        self.set_caps(layout)?;
        Ok(if is_first && !self.say_caps(socket)? { Announced::Full } else { Announced::All })
    }

    fn set_caps(&mut self, layout: &Layout) -> std::result::Result<(), Fault> {
        let caps = caps::of(layout, self.is_mixed)
            .ok_or_else(|| Fault::Unspeakable(format!("GStreamer has no caps for {}", layout.fourcc())))?;
        let caps = wire::caps(&caps);
        self.caps_due |= self.caps != caps;
        self.caps = caps;
        Ok(())
    }

    fn say_caps(&mut self, socket: BorrowedFd<'_>) -> std::result::Result<bool, Fault> {
        if self.caps_due {
            let caps = std::mem::take(&mut self.caps);
            let sent = self.write(socket, &caps, &[]);
            self.caps = caps;
            self.caps_due = !sent?;
        }
        Ok(!self.caps_due)
    }

    /// Sends the messages that GStreamer's protocol has, and skips others.
    pub(super) fn say(&mut self, socket: BorrowedFd<'_>, message: &ToSubscriber) -> std::result::Result<bool, Fault> {
        match message {
            ToSubscriber::End => self.write(socket, &wire::eos(), &[]),
            ToSubscriber::Bye(_) => {
                // The peer must not end with half a message.
                let _ = self.finish(socket);
                socket::end_sending(socket).map(|()| true).map_err(|_| Fault::Gone)
            }
            _ => Ok(true),
        }
    }

    pub(super) fn send_frame(
        &mut self,
        socket: BorrowedFd<'_>,
        id: LeaseId,
        frame: &Frame,
        meta: &FrameMeta,
    ) -> std::result::Result<bool, Fault> {
        if meta.flags.is_one_field() {
            // Caps with interlace-mode=alternate are those of the whole picture, and have a feature of their own.
            return Err(Fault::Unspeakable("each frame is one field of an interlaced picture".into()));
        }
        if meta.flags.contains(FrameFlags::INTERLACED) && !self.is_mixed {
            self.is_mixed = true;
            self.set_caps(frame.layout())?;
        }
        if !self.say_caps(socket)? {
            return Ok(false);
        }
        let has_gap = meta.lost > 0 || meta.dropped != self.dropped;
        let mut message = std::mem::take(&mut self.message);
        wire::new_buffer(&mut message, id.generation, frame, meta, has_gap);
        let memory = frame.memory();
        let mut fds = [socket; MAX_FDS];
        for (fd, buffer) in fds.iter_mut().zip(memory) {
            *fd = buffer.as_fd();
        }
        let sent = self.write(socket, &message, &fds[..memory.len().min(MAX_FDS)]);
        self.message = message;
        let sent = sent?;
        if sent {
            self.dropped = meta.dropped;
        }
        Ok(sent)
    }

    /// Sends a message, or nothing of it. Keeps the part that the socket does not take at once: the message counts as
    /// sent, and no other begins before it is complete.
    fn write(
        &mut self,
        socket: BorrowedFd<'_>,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> std::result::Result<bool, Fault> {
        if !self.finish(socket)? {
            return Ok(false);
        }
        match socket::send_some(socket, bytes, fds) {
            Ok(None) => Ok(false),
            Ok(Some(sent)) => {
                self.rest.extend_from_slice(&bytes[sent.min(bytes.len())..]);
                Ok(true)
            }
            Err(Errno::EPERM) => Err(Fault::Protocol("the peer accepts no descriptors".into())),
            Err(_) => Err(Fault::Gone),
        }
    }

    /// Sends the rest of a message. `false`: some of it still remains.
    pub(super) fn finish(&mut self, socket: BorrowedFd<'_>) -> std::result::Result<bool, Fault> {
        if !self.rest.is_empty() {
            let sent = socket::send_some(socket, &self.rest, &[]).map_err(|_| Fault::Gone)?.unwrap_or(0);
            self.rest.drain(..sent.min(self.rest.len()));
        }
        Ok(self.rest.is_empty())
    }

    /// Reads until one message is complete or the socket is empty.
    pub(super) fn receive(&mut self, socket: &mut PeerSocket) -> std::result::Result<Incoming, Fault> {
        loop {
            match self.inbox.next() {
                Ok(Some(wire::Said::Release(id))) => return Ok(Incoming::Released(id)),
                Ok(Some(wire::Said::Other)) => return Ok(Incoming::Skipped),
                Ok(None) => {}
                Err(what) => return Err(Fault::Protocol(what)),
            }
            let room = self.inbox.room();
            match socket.receive(room) {
                Ok(Received::Message(len)) => self.inbox.received(len),
                Ok(Received::WouldBlock | Received::Interrupted) => return Ok(Incoming::Nothing),
                Ok(Received::FdsLost(_)) => {
                    return Err(Fault::Protocol("descriptors, which a unixfdsrc does not send".into()))
                }
                Ok(Received::Closed | Received::Truncated) | Err(_) => return Err(Fault::Gone),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn message_sent_in_part_is_completed_before_another_begins() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut face = UnixfdPeer::default();
        let long: Vec<u8> = (0..2_000_000u32).map(|i| i as u8).collect();
        assert!(face.write(ours.as_fd(), &long, &[]).unwrap());
        assert!(!face.rest.is_empty(), "longer than the queue");
        let mut got = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while got.len() < long.len() + 8 {
            if !face.caps_due && face.write(ours.as_fd(), &wire::eos(), &[]).unwrap() {
                face.caps_due = true;
            }
            let len = theirs.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..len]);
        }
        assert_eq!(got[..long.len()], long);
        assert_eq!(got[long.len()..], wire::eos());
    }

    #[test]
    fn impossible_terms_are_refused() {
        assert!(UnixfdTerms::hold(1).policy(Policy::Fifo(32)).rate(Rate::EveryNth(1)).check().is_ok());
        for terms in [
            UnixfdTerms::hold(0),
            UnixfdTerms::hold(65),
            UnixfdTerms::hold(1).policy(Policy::Fifo(0)),
            UnixfdTerms::hold(1).policy(Policy::Fifo(33)),
            UnixfdTerms::hold(1).rate(Rate::EveryNth(0)),
        ] {
            assert_eq!(terms.check().unwrap_err().kind(), ErrorKind::InvalidArgument, "{terms:?}");
        }
    }
}
