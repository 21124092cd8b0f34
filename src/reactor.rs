//! Readiness for a tokio reactor (feature `tokio`). The stations themselves know no runtime.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

use crate::error::{Error, Result};
use crate::share::Publisher;

/// A station whose descriptor a tokio reactor watches.
///
/// ```no_run
/// # async fn f(subscriber: framelease::share::Subscriber) -> framelease::Result<()> {
/// let mut subscriber = framelease::reactor::Ready::new(subscriber)?;
/// let event = subscriber.run(|s| s.try_next()).await?;
/// # Ok(()) }
/// ```
///
/// A camera must have a buffer queued while it is awaited: the kernel reports an error condition on a V4L2 descriptor
/// without one, at once and for ever. The publisher's reserve sees to that.
pub struct Ready<T> {
    /// A duplicate of the station's descriptor, so that the registration stays valid whatever becomes of the station.
    readiness: AsyncFd<OwnedFd>,
    station: T,
}

impl<T: AsFd> Ready<T> {
    /// Registers a duplicate of the descriptor with the current reactor.
    ///
    /// # Errors
    /// What `dup` or epoll report; the station is dropped then.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as tokio does.
    pub fn new(station: T) -> Result<Self> {
        let fd = station.as_fd().try_clone_to_owned().map_err(|e| Error::io("dup", &e))?;
        // Deprecated because a wrapped object may close its descriptor; an OwnedFd that nobody can reach does not.
        #[allow(deprecated)]
        let readiness = AsyncFd::with_interest(fd, Interest::READABLE).map_err(|e| Error::io("epoll_ctl", &e))?;
        Ok(Self { readiness, station })
    }

    /// Awaits the first value of a non-blocking call: `try_next` of a subscriber, a camera, a test pattern.
    ///
    /// Cancel-safe: dropped early, nothing that the call brought is lost.
    ///
    /// # Errors
    /// What the call or the reactor reports.
    pub async fn run<R>(&mut self, mut call: impl FnMut(&mut T) -> Result<Option<R>>) -> Result<R> {
        loop {
            let mut guard = self.readiness.readable().await.map_err(|e| Error::io("epoll_wait", &e))?;
            if let Some(value) = call(&mut self.station)? {
                return Ok(value);
            }
            guard.clear_ready();
        }
    }

    /// The station.
    pub fn get(&mut self) -> &mut T {
        &mut self.station
    }

    /// Ends the watch.
    pub fn into_inner(self) -> T {
        self.station
    }
}

impl Ready<Publisher> {
    /// Awaits something to do for the publisher, and does it. Bound it by [`Publisher::next_timeout`] if handshakes or
    /// leases have deadlines, and call [`Publisher::dispatch`] when that passes.
    ///
    /// # Errors
    /// As [`Publisher::dispatch`].
    pub async fn serve(&mut self) -> Result<()> {
        let mut guard = self.readiness.readable().await.map_err(|e| Error::io("epoll_wait", &e))?;
        // The reactor tells of changes only: leave nothing behind.
        while self.station.dispatch()? {}
        guard.clear_ready();
        Ok(())
    }
}

impl<T: fmt::Debug> fmt::Debug for Ready<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ready").field(&self.station).finish()
    }
}
