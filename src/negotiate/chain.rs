//! An encoder, and the converter in front of it if there is one.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use crate::codec::{Encoder, EncoderEvent};
use crate::convert::{Converter, ConverterEvent, Plan};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{Frame, Pool};
use crate::log::event;
use crate::station::{sealed, Received, Station, Submit, SubmitResult, Submitted};
use crate::sys::readiness::Readiness;

const CONVERTER: u64 = 0;
const ENCODER: u64 = 1;

/// An [`Encoder`] that takes a camera's frames, directly or through a converter. The caller uses both forms in the
/// same way.
///
/// With a converter, a frame costs a conversion job and a buffer of a small pool. The leases of the source's frames end
/// when the job is done. The CPU does not touch pixels.
///
/// When a lost device is back, the chain opens the device again. Until then the chain accepts no frames.
pub struct EncoderChain {
    between: Option<Between>,
    encoder: Encoder,
    room: Room,
    lost: Lost,
    /// A key frame was forced and has not been received yet.
    is_key_forced: bool,
}

/// Limits the frames of the source that an encoder has at the same time. A converter is limited by its pool.
struct Room {
    most: usize,
    /// The time since which the encoder has had this many frames, and the work that it had done by then.
    full: Option<(Instant, u64)>,
}

/// An encoder that returns nothing for this time needs more frames than its driver reports.
const PATIENCE: Duration = Duration::from_secs(1);

/// The converter in front of the encoder.
struct Between {
    /// Watches both devices.
    readiness: Readiness,
    converter: Box<dyn Converter>,
    plan: Arc<Plan>,
    pool: Pool,
    /// A picture that the encoder does not accept now. The converter is not watched then.
    waiting: Option<Frame>,
    is_watched: bool,
    drains: bool,
}

/// The devices that were lost and are not open again.
#[derive(Default)]
struct Lost {
    converter: bool,
    encoder: bool,
}

impl EncoderChain {
    pub(super) fn direct(encoder: Encoder, most: usize) -> Self {
        Self { between: None, encoder, room: Room::new(most), lost: Lost::default(), is_key_forced: false }
    }

    pub(super) fn converted(
        converter: Box<dyn Converter>,
        plan: Arc<Plan>,
        pool: Pool,
        encoder: Encoder,
    ) -> Result<Self> {
        let readiness = Readiness::new().map_err(|e| Error::os("epoll_create1", e))?;
        for (fd, token) in [(converter.as_fd(), CONVERTER), (encoder.as_fd(), ENCODER)] {
            readiness.add(fd, EpollFlags::EPOLLIN, token).map_err(|e| Error::os("epoll_ctl", e))?;
        }
        let between = Between { readiness, converter, plan, pool, waiting: None, is_watched: true, drains: false };
        let (room, lost) = (Room::new(usize::MAX), Lost::default());
        Ok(Self { between: Some(between), encoder, room, lost, is_key_forced: false })
    }

    /// Returns the encoder, for its settings and counts.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Returns the encoder, to change its settings. To submit, receive, drain and reopen, call the methods of the
    /// chain.
    pub fn encoder_mut(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Makes the next submitted frame a key frame, as [`Encoder::force_key`] does. Further calls do nothing until the
    /// caller has received the key frame. So a program can call this method each time that a sink awaits a key frame.
    ///
    /// A driver that cannot force a key frame uses its own key frame interval. After a device was lost and opened
    /// again, the stream begins with a key frame.
    ///
    /// # Errors
    /// Errors of the driver. It is not an error if the driver cannot force a key frame.
    pub fn force_key(&mut self) -> Result<()> {
        if !self.is_key_forced && !self.lost.encoder {
            match self.encoder.force_key() {
                Err(e) if !matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::DeviceLost) => return Err(e),
                _ => self.is_key_forced = true,
            }
        }
        Ok(())
    }

    /// Returns the converter's name, if there is one.
    pub fn converter(&self) -> Option<&str> {
        self.between.as_ref().map(|between| between.converter.name())
    }

    /// Returns how many submitted frames have not been received as packets.
    #[doc(hidden)]
    pub fn in_flight(&self) -> usize {
        let between = |b: &Between| b.converter.in_flight() + usize::from(b.waiting.is_some());
        self.encoder.stats().in_flight + self.between.as_ref().map_or(0, between)
    }

    /// Ends the stream, as [`Encoder::drain`] does. The chain converts and encodes every submitted frame, then returns
    /// [`Received::Ended`].
    ///
    /// # Errors
    /// `State` before the first frame. `Busy` during a drain. `Unsupported` if the driver cannot drain.
    pub fn drain(&mut self) -> Result<()> {
        match &mut self.between {
            Some(between) if between.is_busy() => {
                between.drains = true;
                Ok(())
            }
            _ => self.encoder.drain(),
        }
    }

    /// Opens lost devices again: the converter, the encoder, or both. Frames that the encoder had return to their
    /// pools. A device that fails is searched again, which gives another [`EncoderEvent::Returned`].
    fn reopen(&mut self) -> Result<()> {
        if let Some(between) = self.between.as_mut().filter(|_| self.lost.converter) {
            between.converter.reopen()?;
            self.lost.converter = false;
        }
        if self.lost.encoder {
            self.encoder.reopen().map_err(|rejected| rejected.error)?;
            self.lost.encoder = false;
            // Without a frame, the encoder would never make the descriptor readable. A frame that it refuses is lost.
            let _ = self.feed();
        }
        Ok(())
    }

    /// Gives the waiting picture to the encoder. Returns `true` if none waits now.
    fn feed(&mut self) -> Result<bool> {
        let Some(between) = &mut self.between else { return Ok(true) };
        if !self.lost.encoder {
            if let Some(frame) = between.waiting.take() {
                match self.encoder.try_submit(frame) {
                    Ok(submitted) => between.waiting = submitted.full(),
                    // The encoder reports the loss as an event.
                    Err(Rejected { error, item }) if error.kind() == ErrorKind::DeviceLost => {
                        between.waiting = Some(item);
                    }
                    Err(rejected) => {
                        between.watch()?;
                        return Err(rejected.error);
                    }
                }
            }
        }
        between.watch()?;
        Ok(between.waiting.is_none())
    }

    /// Returns the next event of the encoder.
    fn encoded(&mut self) -> Result<Received<EncoderEvent>> {
        let received = self.encoder.try_recv()?;
        self.lost.encoder |= matches!(received, Received::Item(EncoderEvent::Lost(_)));
        Ok(received)
    }

    /// Returns the next event, and passes converted pictures to the encoder.
    fn look(&mut self) -> Result<Received<EncoderEvent>> {
        // The encoder first, because its events make room.
        let received = self.encoded()?;
        if !received.is_nothing() || self.between.is_none() {
            return Ok(received);
        }
        match self.pump()? {
            Some(event) => Ok(Received::Item(event)),
            None => self.encoded(),
        }
    }

    /// Passes converted pictures to the encoder. Returns an event of the converter that the caller must know.
    fn pump(&mut self) -> Result<Option<EncoderEvent>> {
        while self.feed()? {
            let Some(between) = &mut self.between else { return Ok(None) };
            match between.converter.try_recv()? {
                Received::Item(ConverterEvent::Frame(frame)) => between.waiting = Some(frame),
                // The loss is reported as an event, after the jobs that failed because of it.
                Received::Item(ConverterEvent::Failed { error, .. }) if error.kind() == ErrorKind::DeviceLost => {}
                Received::Item(ConverterEvent::Failed { error, .. }) => return Err(error),
                Received::Item(ConverterEvent::Lost(error)) => {
                    self.lost.converter = true;
                    return Ok(Some(EncoderEvent::Lost(error)));
                }
                Received::Item(ConverterEvent::Returned) => return Ok(Some(EncoderEvent::Returned)),
                Received::Nothing | Received::Ended => break,
            }
        }
        let Some(between) = &mut self.between else { return Ok(None) };
        if between.drains && !between.is_busy() {
            between.drains = false;
            self.encoder.drain()?;
        }
        Ok(None)
    }
}

impl Room {
    fn new(most: usize) -> Self {
        Self { most: most.max(1), full: None }
    }

    /// Returns whether the encoder may have one more frame. It may have read a frame already, which `collect` finds
    /// out.
    fn is_there(&mut self, encoder: &mut Encoder) -> Result<bool> {
        if encoder.stats().in_flight >= self.most {
            encoder.collect()?;
        }
        let stats = encoder.stats();
        if stats.in_flight < self.most || encoder.is_halted() {
            self.full = None;
            return Ok(true);
        }
        let done = stats.frames.saturating_sub(stats.in_flight as u64) + stats.packets;
        match self.full {
            Some((since, before)) if before == done => {
                if since.elapsed() >= PATIENCE {
                    event!("{}: the encoder needs more than {} frames at the same time", encoder.device(), self.most);
                    (self.most, self.full) = (self.most + 1, None);
                    return Ok(true);
                }
            }
            _ => self.full = Some((Instant::now(), done)),
        }
        Ok(false)
    }
}

impl Between {
    fn is_busy(&self) -> bool {
        self.waiting.is_some() || self.converter.in_flight() > 0
    }

    /// Watches the converter only while the encoder can take its pictures.
    fn watch(&mut self) -> Result<()> {
        let watches = self.waiting.is_none();
        if watches != self.is_watched {
            let events = if watches { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            let changed = self.readiness.modify(self.converter.as_fd(), events, CONVERTER);
            changed.map_err(|e| Error::os("epoll_ctl", e))?;
            self.is_watched = watches;
        }
        Ok(())
    }
}

impl sealed::Sealed for EncoderChain {}

/// [`EncoderEvent::Returned`] means that the device is open again and the stream continues with a key frame.
///
/// The errors are the encoder's errors and failed conversions. The frame of a failed conversion is lost. When
/// [`EncoderEvent::Lost`] reports that the converter is lost, the frames that the converter had are lost as well.
impl Station for EncoderChain {
    type Event = EncoderEvent;

    fn dispatch(&mut self) -> Result<()> {
        if let Some(between) = &mut self.between {
            between.converter.dispatch()?;
        }
        self.encoder.dispatch()
    }

    fn try_recv(&mut self) -> Result<Received<EncoderEvent>> {
        loop {
            let received = self.look()?;
            match &received {
                // The device is not ready yet, or another program took it.
                Received::Item(EncoderEvent::Returned) if self.reopen().is_err() => continue,
                Received::Item(EncoderEvent::Packet(packet)) if packet.is_key() => self.is_key_forced = false,
                _ => {}
            }
            return Ok(received);
        }
    }
}

impl Submit for EncoderChain {
    type Item = Frame;

    /// Gives a frame to the encoder, or to the converter in front of it. The frame's lease ends when the device has
    /// read it. After [`Submitted::Full`], the descriptor becomes readable when there may be room.
    ///
    /// An encoder that [`Negotiation::open`](super::Negotiation::open) opened has at most
    /// [`local`](crate::frame::BufferBudget::local) frames at the same time. So a slow encoder does not take all of the
    /// camera's buffers. If the encoder returns nothing for a second, the chain raises this limit by one, because the
    /// encoder may need more frames.
    ///
    /// # Errors
    /// Every error gives the frame back. `Mismatch` if the frame's layout is not the one that the chain was opened for,
    /// `WrongFile` for a memfd, `State` while a drain waits for the converter. A lost device is not an error: the chain
    /// accepts no frames until it is back.
    fn try_submit(&mut self, frame: Frame) -> SubmitResult<Frame> {
        if self.lost.encoder || self.lost.converter {
            return Ok(Submitted::Full(frame));
        }
        match self.submit_now(frame) {
            // `try_recv` reports the loss.
            Err(rejected) if rejected.error.kind() == ErrorKind::DeviceLost => Ok(Submitted::Full(rejected.item)),
            done => done,
        }
    }
}

impl EncoderChain {
    fn submit_now(&mut self, frame: Frame) -> SubmitResult<Frame> {
        let Some(between) = &mut self.between else {
            return match self.room.is_there(&mut self.encoder) {
                Ok(true) => self.encoder.try_submit(frame),
                // The device is watched while it has frames.
                Ok(false) => Ok(Submitted::Full(frame)),
                Err(error) => Err(Rejected { error, item: frame }),
            };
        };
        if between.drains {
            let text = "the stream is being drained";
            return Err(Rejected { error: Error::new(ErrorKind::State, "submit", text), item: frame });
        }
        let Some(target) = between.pool.try_acquire() else { return Ok(Submitted::Full(frame)) };
        match between.converter.try_submit(&between.plan, std::slice::from_ref(&frame), target) {
            Ok(Submitted::Taken) => Ok(Submitted::Taken),
            Ok(Submitted::Full(_)) => Ok(Submitted::Full(frame)),
            Err(rejected) => Err(Rejected { error: rejected.error, item: frame }),
        }
    }
}

impl AsFd for EncoderChain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.between {
            Some(between) => between.readiness.as_fd(),
            None => self.encoder.as_fd(),
        }
    }
}

impl Drop for EncoderChain {
    fn drop(&mut self) {
        if let Some(between) = &self.between {
            between.readiness.remove(between.converter.as_fd());
            between.readiness.remove(self.encoder.as_fd());
        }
    }
}

impl fmt::Debug for EncoderChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.converter() {
            Some(name) => write!(f, "EncoderChain({name}, {:?})", self.encoder),
            None => write!(f, "EncoderChain({:?})", self.encoder),
        }
    }
}
