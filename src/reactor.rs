//! Stations in a tokio reactor (feature `tokio`). The stations themselves do not depend on a runtime.

use std::fmt;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

use crate::error::{Error, Rejected, Result};
use crate::station::{Received, Station, Submit, Submitted};

/// A station whose descriptor a tokio reactor watches.
///
/// ```no_run
/// use framelease::reactor::Ready;
/// use framelease::share::SubscriberEvent;
/// use framelease::Received;
///
/// # async fn f(subscriber: framelease::share::Subscriber) -> framelease::Result<()> {
/// let mut subscriber = Ready::new(subscriber)?;
/// while let Received::Item(event) = subscriber.recv().await? {
///     if let SubscriberEvent::Frame(frame) = event {
///         println!("{frame:?}");
///     }
/// }
/// # Ok(()) }
/// ```
pub struct Ready<S> {
    /// A duplicate of the station's descriptor. The registration stays valid when the station is dropped or taken out.
    readiness: AsyncFd<OwnedFd>,
    station: S,
}

impl<S: Station> Ready<S> {
    /// Registers a duplicate of the station's descriptor with the current reactor.
    ///
    /// # Errors
    /// Errors of `dup` and epoll. After an error the station is dropped.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime, as tokio does.
    pub fn new(station: S) -> Result<Self> {
        let fd = station.as_fd().try_clone_to_owned().map_err(|e| Error::io("dup", &e))?;
        // Deprecated because a wrapped object may close its descriptor. This OwnedFd is private, so nothing else closes
        // it.
        #[allow(deprecated)]
        let readiness = AsyncFd::with_interest(fd, Interest::READABLE).map_err(|e| Error::io("epoll_ctl", &e))?;
        Ok(Self { readiness, station })
    }

    /// Awaits the next item or event, or the end of the stream. Never returns [`Received::Nothing`].
    ///
    /// Cancel-safe: if the future is dropped early, nothing is lost.
    ///
    /// # Errors
    /// The errors of [`Station::try_recv`] and of the reactor.
    pub async fn recv(&mut self) -> Result<Received<S::Event>> {
        loop {
            match self.station.try_recv()? {
                Received::Nothing => self.wait().await?,
                got => return Ok(got),
            }
        }
    }

    /// Waits until the station's descriptor is readable.
    async fn wait(&mut self) -> Result<()> {
        let mut guard = self.readiness.readable().await.map_err(|e| Error::io("epoll_wait", &e))?;
        // The reactor reports only changes. The caller looks at the station after this, so it misses no change.
        guard.clear_ready();
        Ok(())
    }

    /// Returns the wrapped station, to call its other methods.
    pub fn get(&mut self) -> &mut S {
        &mut self.station
    }

    /// Unregisters the descriptor and returns the station.
    pub fn into_inner(self) -> S {
        self.station
    }
}

impl<S: Submit> Ready<S> {
    /// Waits for room and gives an item to the station. Returns the item if the station is still full after one wait.
    /// In this case, call [`Ready::recv`] to take the station's output, and submit the item again.
    ///
    /// If the future is dropped early, the item is dropped with it.
    ///
    /// # Errors
    /// Every error gives the item back. The errors are those of [`Submit::try_submit`] and of the reactor.
    pub async fn submit(&mut self, item: S::Item) -> std::result::Result<Submitted<S::Item>, Rejected<S::Item>> {
        let Submitted::Full(item) = self.station.try_submit(item)? else { return Ok(Submitted::Taken) };
        if let Err(error) = self.wait().await {
            return Err(Rejected { error, item });
        }
        self.station.try_submit(item)
    }
}

impl<S: fmt::Debug> fmt::Debug for Ready<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ready").field(&self.station).finish()
    }
}
