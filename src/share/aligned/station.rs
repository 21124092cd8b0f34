//! [`Aligned`]: the station that receives from several sources.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::event::{AlignedEvent, AlignedStats};
use super::matcher::Matcher;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Frame, FrameFlags};
use crate::station::{ended, sealed, FrameEvent, Received, Station};
use crate::sys::clock::monotonic_ns;
use crate::sys::readiness::Readiness;

/// The most sources.
const MOST_SOURCES: usize = 16;
/// How often one call looks which sources are readable. A source that is always readable cannot keep it longer.
const MOST_ROUNDS: usize = 32;

/// Receives frames of several sources, and gives one frame of each that were taken at the same time: a stereo pair, or
/// depth and color.
///
/// Frames match if their timestamps differ by at most the tolerance. Half of the frame interval of the fastest source
/// is a good tolerance: a frame then has one match at most. A frame whose time is not in `CLOCK_MONOTONIC`
/// ([`FrameFlags::MONOTONIC`]) is matched by the time at which its publisher sent it, or else by its arrival.
///
/// # Leases
/// Frames that wait for others are leased: at most [`depth`](Aligned::depth) of each source, and none of at least one
/// source. If one source gives no frames, the others continue, and their oldest waiting frame is released for each new
/// one. So a publisher lacks at most `depth` buffers, plus those of the sets that the program keeps. Give each
/// subscriber a [`hold`] of both together. With a smaller one, its newer frames wait at the publisher.
///
/// # End
/// `Aligned` ends when one source ends, because no set can be complete after that. Subscribers with
/// [`Reconnect::Always`] do not end: a publisher that restarts is an event of its source.
///
/// [`hold`]: crate::share::SubscriberBuilder::hold
/// [`Reconnect::Always`]: crate::share::Reconnect::Always
///
/// ```no_run
/// use std::time::Duration;
///
/// use framelease::share::{Aligned, AlignedEvent, Reconnect, Subscriber};
/// use framelease::{Received, Station};
///
/// let eye = |path| Subscriber::builder(path).hold(3).reconnect(Reconnect::Always).connect(Duration::from_secs(10));
/// let eyes = [eye("/run/left/socket")?, eye("/run/right/socket")?];
/// // Both cameras run at 30 frames a second.
/// let mut stereo = Aligned::new(eyes, Duration::from_millis(16))?;
/// loop {
///     match stereo.recv(Duration::from_secs(1))? {
///         Received::Item(AlignedEvent::Frames([left, right])) => println!("{left:?} {right:?}"),
///         Received::Item(event) => println!("{event:?}"), // a format, a publisher that restarts
///         Received::Nothing => println!("no pair for a second: {:?}", stereo.stats()),
///         Received::Ended => break, // not with Reconnect::Always
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Aligned<S: Station, const N: usize> {
    sources: [S; N],
    readiness: Readiness,
    matcher: Matcher<Frame, N>,
    is_over: bool,
}

impl<S, const N: usize> Aligned<S, N>
where
    S: Station,
    S::Event: FrameEvent,
{
    /// Takes 2 to 16 sources, which can be subscribers or other stations that give frames. Frames match if their times
    /// differ by at most `tolerance`.
    ///
    /// # Errors
    /// `InvalidArgument` for another number of sources. Errors of epoll.
    pub fn new(sources: [S; N], tolerance: Duration) -> Result<Self> {
        if !(2..=MOST_SOURCES).contains(&N) {
            let text = format!("{N} sources: 2 to {MOST_SOURCES} can be aligned");
            return Err(Error::new(ErrorKind::InvalidArgument, "align", text));
        }
        let failed = |e| Error::os("epoll_ctl", e);
        let readiness = Readiness::new().map_err(failed)?;
        for (i, source) in sources.iter().enumerate() {
            readiness.add(source, EpollFlags::EPOLLIN, i as u64).map_err(failed)?;
        }
        Ok(Self { sources, readiness, matcher: Matcher::new(tolerance), is_over: false })
    }

    /// Sets how many frames of one source may wait for the other sources. Default 2; 0 counts as 1. A set is complete
    /// when its slowest source has given its frame. So if a source is later than the others by several frame intervals,
    /// as many frames of the others must wait.
    pub fn depth(mut self, frames: usize) -> Self {
        self.matcher.depth = frames.max(1);
        self
    }
}

impl<S: Station, const N: usize> Aligned<S, N> {
    /// Returns the sources, for their statistics.
    pub fn sources(&self) -> &[S; N] {
        &self.sources
    }

    /// Returns the sources, to open a lost device again or to change settings. The caller does not receive from them.
    pub fn sources_mut(&mut self) -> &mut [S; N] {
        &mut self.sources
    }

    /// Returns counts since this station was created.
    pub fn stats(&self) -> AlignedStats<N> {
        self.matcher.stats
    }

    /// Releases the waiting frames and watches no source any more.
    fn end(&mut self) {
        self.is_over = true;
        (0..N).for_each(|i| self.matcher.clear(i));
        self.sources.iter().for_each(|source| self.readiness.remove(source));
    }

    /// Returns the time of a frame, in `CLOCK_MONOTONIC`.
    fn time(&mut self, i: usize, frame: &Frame) -> u64 {
        let meta = frame.meta();
        if meta.flags.contains(FrameFlags::MONOTONIC) {
            return meta.timestamp_ns;
        }
        self.matcher.stats.undated[i] += 1;
        match meta.published_ns {
            0 => monotonic_ns(),
            published_ns => published_ns,
        }
    }
}

impl<S: Station, const N: usize> sealed::Sealed for Aligned<S, N> {}

/// `try_recv` looks with `epoll_wait` which sources are readable, and receives from these, until none is or it has
/// looked 32 times. In the second case it returns `Nothing`, and the descriptor reports once more that it is readable.
/// An error of a source is returned as it is, and releases the frames of this source that wait.
impl<S, const N: usize> Station for Aligned<S, N>
where
    S: Station,
    S::Event: FrameEvent,
{
    type Event = AlignedEvent<S::Event, N>;

    /// Does the other work of all sources. Returns the first error.
    fn dispatch(&mut self) -> Result<()> {
        self.sources.iter_mut().map(S::dispatch).fold(Ok(()), Result::and)
    }

    fn try_recv(&mut self) -> Result<Received<Self::Event>> {
        if self.is_over {
            return Err(ended("recv"));
        }
        let mut readable = None;
        for _ in 0..MOST_ROUNDS {
            let mut events = [EpollEvent::empty(); MOST_SOURCES];
            let ready = self.readiness.wait(&mut events, Instant::now()).map_err(|e| Error::os("epoll_wait", e))?;
            readable = ready.first().map(|event| event.data());
            if ready.is_empty() {
                break;
            }
            for i in ready.iter().map(|event| event.data() as usize) {
                let received = self.sources[i].try_recv();
                if received.is_err() {
                    self.matcher.clear(i);
                }
                match received?.map(FrameEvent::frame_or_event) {
                    Received::Item(Ok(frame)) => {
                        let time = self.time(i, &frame);
                        if let Some(set) = self.matcher.push(i, time, frame) {
                            return Ok(Received::Item(AlignedEvent::Frames(set)));
                        }
                    }
                    Received::Item(Err(event)) => {
                        self.matcher.clear(i);
                        return Ok(Received::Item(AlignedEvent::Source(i, event)));
                    }
                    Received::Nothing => {}
                    Received::Ended => {
                        self.end();
                        return Ok(Received::Ended);
                    }
                }
            }
        }
        if let Some(i) = readable {
            // A reactor that hears only of changes, such as tokio's, must hear of what is left. A new entry that is
            // readable is a change.
            let source = &self.sources[i as usize];
            self.readiness.remove(source);
            self.readiness.add(source, EpollFlags::EPOLLIN, i).map_err(|e| Error::os("epoll_ctl", e))?;
        }
        Ok(Received::Nothing)
    }
}

impl<S: Station, const N: usize> AsFd for Aligned<S, N> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl<S: Station, const N: usize> Drop for Aligned<S, N> {
    fn drop(&mut self) {
        if !self.is_over {
            self.end();
        }
    }
}

impl<S: Station, const N: usize> fmt::Debug for Aligned<S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aligned").field("stats", &self.matcher.stats).finish_non_exhaustive()
    }
}
