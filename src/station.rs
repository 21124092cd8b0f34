//! The contract that every station follows.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{Frame, NextPacket, Packet, PacketReceiver};
use crate::sys::wait::{self, Waited};

/// What a receiving call returns: an item, nothing yet, or the end.
#[derive(Debug)]
#[must_use]
pub enum Received<T> {
    /// An item or an event.
    Item(T),
    /// No item and no event is ready. A call that waits returns this when its timeout has passed, or earlier when a
    /// signal handler ran.
    Nothing,
    /// The stream is over. Reported once.
    Ended,
}

impl<T> Received<T> {
    /// Returns the item of [`Received::Item`], otherwise `None`.
    pub fn item(self) -> Option<T> {
        match self {
            Self::Item(item) => Some(item),
            Self::Nothing | Self::Ended => None,
        }
    }

    /// Returns `true` for [`Received::Nothing`].
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Returns `true` for [`Received::Ended`].
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Maps the item.
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Received<U> {
        match self {
            Self::Item(item) => Received::Item(map(item)),
            Self::Nothing => Received::Nothing,
            Self::Ended => Received::Ended,
        }
    }
}

impl<T: FrameEvent> Received<T> {
    /// Returns the frame if the event is a frame. Drops any other event.
    pub fn frame(self) -> Option<Frame> {
        self.item().and_then(T::into_frame)
    }
}

impl<T> From<Option<T>> for Received<T> {
    fn from(item: Option<T>) -> Self {
        item.map_or(Self::Nothing, Self::Item)
    }
}

/// What a submitting call returns: the station took the item, or it was full.
#[derive(Debug)]
#[must_use]
pub enum Submitted<T> {
    /// The station has the item.
    Taken,
    /// The station is full and gives the item back. The descriptor becomes readable when the station has room, and
    /// stays readable until the next call of any kind on the station.
    Full(T),
}

/// The result of a submitting call. If the call fails, the error contains the item.
pub type SubmitResult<T> = std::result::Result<Submitted<T>, Rejected<T>>;

impl<T> Submitted<T> {
    /// Returns `true` if the station took the item.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Taken)
    }

    /// Returns the item if the station was full.
    pub fn full(self) -> Option<T> {
        match self {
            Self::Taken => None,
            Self::Full(item) => Some(item),
        }
    }
}

pub(crate) mod sealed {
    /// Only this crate implements stations.
    pub trait Sealed {}
}

/// The contract that every station follows. Sealed.
///
/// A station is anything that gives or takes frames or packets: a camera, a converter, an encoder, a publisher, a
/// recorder, a display. All of them follow the same rules:
///
/// 1. **One descriptor for life.** [`AsFd`] gives the same descriptor from construction to drop. Register it once,
///    level-triggered, for POLLIN. The descriptor is readable exactly while a `try_` call has something to report: an
///    item, an event, an error, a deadline that has passed, or room after [`Submitted::Full`].
/// 2. **Giving.** [`Station::try_recv`] and [`Station::recv`] return [`Received`]. After [`Received::Nothing`] the
///    descriptor is not readable until there is something new. [`Received::Ended`] comes once; later calls are errors
///    of kind [`State`](crate::ErrorKind::State).
/// 3. **Taking.** [`Submit::try_submit`] and [`Submit::submit`] return [`Submitted`]. A lack of room is not an error. A
///    call that fails gives its item back ([`Rejected`]). In a publisher, the submitting call is named `publish`. In a
///    display, it is named `present`.
/// 4. **Other work.** [`Station::dispatch`] does the work that is due (connections, deadlines, pacing) and never
///    blocks. Every `try_` call does the same work first, so most programs never call `dispatch`. Events that a program
///    may ignore keep the descriptor readable only until the next `dispatch`.
/// 5. **Changes of a device.** When a device is lost, returns or changes, its station reports an event, and the program
///    continues.
///
/// No station has a thread, except `convert::G2d`. A `calloop` or `mio` loop needs only [`AsFd`]. For tokio,
/// `reactor::Ready` (feature `tokio`) wraps any station.
pub trait Station: AsFd + sealed::Sealed {
    /// The items and events that the station gives: an enum whose first variant is the item, or the item itself.
    type Event;

    /// Does the work that is due and returns. Never blocks. If this work leads to events, [`Station::try_recv`] returns
    /// them.
    ///
    /// Handles a bounded number of connections and messages. If work remains, the descriptor stays readable.
    ///
    /// A station that takes items (a publisher, a sender, a server, a recorder, a display) has events that a program
    /// may ignore. Such an event keeps the descriptor readable only until the next `dispatch`. So a loop that never
    /// receives events does not spin. [`Station::try_recv`] still returns the events. The station keeps a limited
    /// number of events, and drops the oldest first.
    ///
    /// A station that gives items (a camera, a subscriber, a converter, an encoder) stays readable while an item waits.
    /// Call [`Station::try_recv`] for such a station.
    ///
    /// # Errors
    /// Errors that the kernel reports for the station's own descriptors. A fault of a peer or a device is an event.
    fn dispatch(&mut self) -> Result<()>;

    /// Returns the next item or event, if there is one. Never blocks.
    ///
    /// # Errors
    /// The errors of the station, and `State` after [`Received::Ended`]. Each error is reported once. Unless the
    /// station's documentation says otherwise, the station continues: a service that must not stop logs the error and
    /// calls again.
    fn try_recv(&mut self) -> Result<Received<Self::Event>>;

    /// Returns the next item or event, and waits at most `timeout` for one.
    ///
    /// # Errors
    /// The errors of [`Station::try_recv`].
    fn recv(&mut self, timeout: Duration) -> Result<Received<Self::Event>> {
        recv(self, timeout)
    }

    /// Iterates over frames for as long as the stream lasts. Skips other events, and waits without a limit.
    ///
    /// The iterator ends after [`Received::Ended`], or after it has returned an error. A program that must react to
    /// signals calls [`Station::recv`] instead.
    fn frames(&mut self) -> Frames<'_, Self>
    where
        Self: Sized,
        Self::Event: FrameEvent,
    {
        Frames { station: self, is_over: false }
    }
}

/// A station that takes items. Sealed.
pub trait Submit: Station {
    /// The item that the station takes: a frame or a packet.
    type Item;

    /// Gives an item to the station, or returns it if the station is full. Never blocks.
    ///
    /// # Errors
    /// The errors of the station, with the item.
    fn try_submit(&mut self, item: Self::Item) -> SubmitResult<Self::Item>;

    /// Gives an item to the station, and waits at most `timeout` for room. Returns the item early if the caller must
    /// first receive something from the station, or if a signal handler runs.
    ///
    /// # Errors
    /// The errors of [`Submit::try_submit`], with the item.
    fn submit(&mut self, item: Self::Item, timeout: Duration) -> SubmitResult<Self::Item> {
        let deadline = wait::deadline(timeout);
        let Submitted::Full(item) = self.try_submit(item)? else { return Ok(Submitted::Taken) };
        match wait_readable(self, deadline) {
            Ok(Waited::Ready) => self.try_submit(item),
            Ok(Waited::TimedOut | Waited::Interrupted) => Ok(Submitted::Full(item)),
            Err(error) => Err(Rejected { error, item }),
        }
    }
}

/// An event that may be a frame. Sealed.
pub trait FrameEvent: Sized + sealed::Sealed {
    /// Returns the frame, or the event if it is another one.
    fn frame_or_event(self) -> std::result::Result<Frame, Self>;

    /// Returns the frame if the event is a frame. Drops any other event.
    fn into_frame(self) -> Option<Frame> {
        self.frame_or_event().ok()
    }
}

impl sealed::Sealed for Frame {}

impl FrameEvent for Frame {
    fn frame_or_event(self) -> std::result::Result<Frame, Self> {
        Ok(self)
    }
}

/// The frames of a station, as an iterator. See [`Station::frames`].
pub struct Frames<'a, S: Station> {
    station: &'a mut S,
    is_over: bool,
}

impl<S: Station> Iterator for Frames<'_, S>
where
    S::Event: FrameEvent,
{
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        while !self.is_over {
            match self.station.recv(Duration::MAX) {
                Ok(Received::Item(event)) => {
                    if let Some(frame) = event.into_frame() {
                        return Some(Ok(frame));
                    }
                }
                Ok(Received::Nothing) => {}
                Ok(Received::Ended) => self.is_over = true,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl<S: Station> fmt::Debug for Frames<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames(over: {})", self.is_over)
    }
}

// This is not in `frame`, which is below this module.
impl sealed::Sealed for PacketReceiver {}

impl Station for PacketReceiver {
    type Event = Packet;

    /// Does nothing: a receiver does not have other work.
    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<Packet>> {
        match self.take() {
            NextPacket::Packet(packet) => Ok(Received::Item(packet)),
            NextPacket::Nothing => Ok(Received::Nothing),
            NextPacket::Ended => Ok(Received::Ended),
            NextPacket::Over => Err(ended("recv")),
        }
    }
}

/// Waits until one of up to 16 stations or other descriptors (such as a signalfd) is readable. Returns `true` if one is
/// readable, or `false` if `timeout` has passed or a signal handler ran. Costs one `poll`.
///
/// This function is for programs with few stations and no event loop. Call `try_recv` on every station after each wait,
/// until it returns [`Received::Nothing`]: a remaining item or event ends the next wait at once.
///
/// ```
/// use std::time::Duration;
/// use framelease::capture::TestPattern;
/// use framelease::format::Size;
/// use framelease::{wait, Station};
///
/// let mut pattern = TestPattern::builder(Size::new(64, 48)).start()?;
/// assert!(wait(&[&pattern], Duration::from_secs(5))?);
/// if let Some(frame) = pattern.try_recv()?.frame() {
///     println!("{frame:?}");
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument` if `stations` is empty or has more than 16 entries. Errors of `poll`.
pub fn wait(stations: &[&dyn AsFd], timeout: Duration) -> Result<bool> {
    const MOST: usize = 16;
    const OP: &str = "poll";
    if stations.is_empty() || stations.len() > MOST {
        let text = format!("{} stations: poll waits for 1 to {MOST}, use epoll for more", stations.len());
        return Err(Error::new(ErrorKind::InvalidArgument, OP, text));
    }
    let last = stations.len() - 1;
    let fds: [BorrowedFd<'_>; MOST] = std::array::from_fn(|i| stations[i.min(last)].as_fd());
    wait::any_readable(&fds[..=last], wait::deadline(timeout)).map_err(|e| Error::os(OP, e))
}

/// Implements [`Station::recv`] by `try_recv` and waits for the descriptor. Looks once more after the last wait.
pub(crate) fn recv<S: Station + ?Sized>(station: &mut S, timeout: Duration) -> Result<Received<S::Event>> {
    let deadline = wait::deadline(timeout);
    loop {
        match station.try_recv()? {
            Received::Nothing => {}
            got => return Ok(got),
        }
        // The clock is compared in each round: the descriptor of a busy station may be readable every time.
        if Instant::now() >= deadline || wait_readable(station, deadline)? != Waited::Ready {
            return Ok(Received::Nothing);
        }
    }
}

/// Waits until the station's descriptor is readable.
pub(crate) fn wait_readable<S: AsFd + ?Sized>(station: &S, deadline: Instant) -> Result<Waited> {
    wait::readable(station.as_fd(), deadline).map_err(|e| Error::os("poll", e))
}

/// The error of a call after [`Received::Ended`].
pub(crate) fn ended(op: &'static str) -> Error {
    Error::new(ErrorKind::State, op, "the stream has ended, as an earlier call reported")
}
