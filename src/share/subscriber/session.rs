//! The life of a subscriber, whatever protocol it speaks: connections that come up, are lost, and are tried again.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::event::{ReceiverStats, SubscriberEvent};
use super::reconnect::{Reconnect, Reconnector, LONGEST, SHORTEST};
use crate::error::{Error, ErrorKind, Result};
use crate::log::event;
use crate::station::{ended, Received};
use crate::sys::wait::{self, Waited};

/// Reads in one call that does not wait, so that a peer which never ends cannot keep it.
const MOST_READS: usize = 64;

/// What one protocol does in a session.
pub(super) trait Dialect: Sized {
    /// A connection.
    type Link;

    /// Connects and asks for frames. What wakes the subscriber is watched by `reconnector`.
    fn open(&mut self, reconnector: &Reconnector) -> Result<Self::Link>;

    /// Ends a connection. Frames that are still held stay mapped, but are not leased any more.
    fn close(&mut self, link: Self::Link, session: &mut Io);

    /// The publisher has admitted us.
    fn is_admitted(link: &Self::Link) -> bool;

    /// Reads and handles what there is, and adds events to `io`. Waits until the deadline for something to read, if
    /// there is a deadline.
    fn read(
        &mut self,
        link: &mut Self::Link,
        io: &mut Io,
        deadline: Option<Instant>,
    ) -> std::result::Result<Read, Fault>;
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Something was handled.
    Some,
    /// There was nothing.
    Nothing,
    /// There was nothing before a signal handler ran.
    Interrupted,
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    /// The publisher hung up or closed: an ordinary end.
    pub(super) is_clean: bool,
}

impl Fault {
    pub(super) fn clean(path: &Path, text: &str) -> Self {
        let error = Error::new(ErrorKind::Disconnected, "subscribe", text).on(path.display());
        Self { error, is_clean: true }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { error, is_clean: false }
    }
}

/// What a dialect and its session share.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) path: PathBuf,
    pub(super) reconnector: Reconnector,
    pub(super) events: VecDeque<SubscriberEvent>,
    pub(super) counts: ReceiverStats,
}

impl Io {
    pub(super) fn error(&self, kind: ErrorKind, op: &'static str, text: impl Into<String>) -> Error {
        Error::new(kind, op, text).on(self.path.display())
    }

    pub(super) fn failed(&self, op: &'static str) -> impl Fn(nix::errno::Errno) -> Error + '_ {
        move |e| Error::os(op, e).on(self.path.display())
    }
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One in each subscriber.
enum State<L> {
    Up(L),
    Down {
        next: Instant,
    },
    /// The end is still to be reported.
    Over(Option<Error>),
    Reported,
}

/// A dialect with its connection.
#[derive(Debug)]
pub(super) struct Session<D: Dialect> {
    pub(super) dialect: D,
    pub(super) io: Io,
    reconnect: Reconnect,
    state: State<D::Link>,
    /// The present connection was admitted.
    is_admitted: bool,
    /// One was.
    was_admitted: bool,
    /// Events are left for the next call, and the descriptor says so.
    has_unread: bool,
}

impl<D: Dialect> Session<D> {
    /// Connects and waits at most `timeout` to be admitted.
    pub(super) fn connect(path: &Path, reconnect: Reconnect, dialect: D, timeout: Duration) -> Result<Self> {
        let deadline = wait::deadline(timeout);
        let (path, reconnector) = (path.to_owned(), Reconnector::new(path)?);
        let io = Io { path, reconnector, events: VecDeque::new(), counts: ReceiverStats::default() };
        let state = State::Down { next: Instant::now() };
        let mut session =
            Self { dialect, io, reconnect, state, is_admitted: false, was_admitted: false, has_unread: false };
        let mut last = None;
        while !session.is_admitted {
            let error = match &session.state {
                State::Up(_) => match session.read(Some(deadline)) {
                    Err(fault) if session.is_admitted && (fault.is_clean || !session.io.events.is_empty()) => {
                        session.lose(fault);
                        break;
                    }
                    Err(fault) => {
                        session.close();
                        Some(fault.error)
                    }
                    Ok(_) => None,
                },
                _ => session.open().err(),
            };
            let is_late = Instant::now() + SHORTEST >= deadline;
            if let Some(error) = error {
                if is_late || !session.is_worth_another_try(&error) {
                    return Err(error);
                }
                let pause = match error.kind() {
                    // The publisher has no room. Each attempt costs it a connection.
                    ErrorKind::Refused => LONGEST,
                    _ => SHORTEST,
                };
                last = Some(error);
                std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
            } else if is_late && !session.is_admitted && Instant::now() >= deadline {
                let text = format!("no answer within {timeout:?}");
                return Err(last.unwrap_or_else(|| session.io.error(ErrorKind::Timeout, "connect", text)));
            }
        }
        session.mark_unread();
        Ok(session)
    }

    /// Whether [`Session::connect`] may succeed later.
    fn is_worth_another_try(&self, error: &Error) -> bool {
        // EAGAIN: a publisher listens, and has many to accept before us.
        if error.errno() == Some(libc::EAGAIN) {
            return true;
        }
        let is_temporary = match error.kind() {
            ErrorKind::Refused => error.reason().is_some_and(|reason| reason.is_temporary()),
            ErrorKind::Protocol | ErrorKind::Unsupported | ErrorKind::WrongFile | ErrorKind::InvalidArgument => false,
            _ => true,
        };
        self.reconnect == Reconnect::Always && is_temporary
    }

    /// The present connection.
    pub(super) fn link(&self) -> Option<&D::Link> {
        match &self.state {
            State::Up(link) => Some(link),
            _ => None,
        }
    }

    pub(super) fn state_name(&self) -> &'static str {
        match &self.state {
            State::Up(_) if self.is_admitted => "connected",
            State::Up(_) => "connecting",
            State::Down { .. } => "reconnecting",
            State::Over(_) | State::Reported => "over",
        }
    }

    /// The next event. Waits until the deadline, if there is one.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Result<Received<SubscriberEvent>> {
        let mut reads = 0;
        loop {
            if let Some(event) = self.io.events.pop_front() {
                self.mark_unread();
                return Ok(Received::Item(event));
            }
            let is_late = || deadline.map_or(true, |deadline| deadline <= Instant::now());
            match &mut self.state {
                State::Over(error) => {
                    let error = error.take();
                    self.state = State::Reported;
                    self.mark_unread();
                    return error.map_or(Ok(Received::Ended), Err);
                }
                State::Reported => return Err(ended("subscribe").on(self.io.path.display())),
                State::Down { next } if *next > Instant::now() => {
                    let next = *next;
                    let Some(deadline) = deadline else { return Ok(Received::Nothing) };
                    // The timer of the next attempt is in the epoll.
                    let waited = wait::readable(self.io.reconnector.as_fd(), deadline.min(next));
                    let waited = waited.map_err(self.io.failed("poll"))?;
                    if waited == Waited::Interrupted || is_late() {
                        return Ok(Received::Nothing);
                    }
                }
                State::Down { .. } => {
                    if let Err(error) = self.open() {
                        event!("{}: {error}", self.io.path.display());
                    }
                }
                State::Up(_) => match self.read(deadline) {
                    Ok(Read::Some) => {}
                    Ok(Read::Interrupted) => return Ok(Received::Nothing),
                    Ok(Read::Nothing) if is_late() => return Ok(Received::Nothing),
                    Ok(Read::Nothing) => {}
                    Err(fault) => self.lose(fault),
                },
            }
            reads += 1;
            if reads >= MOST_READS && self.io.events.is_empty() && deadline.map_or(true, |d| d <= Instant::now()) {
                // The socket stays readable.
                return Ok(Received::Nothing);
            }
        }
    }

    fn read(&mut self, deadline: Option<Instant>) -> std::result::Result<Read, Fault> {
        let State::Up(link) = &mut self.state else { return Ok(Read::Nothing) };
        let before = self.io.events.len();
        let read = self.dialect.read(link, &mut self.io, deadline);
        if !self.is_admitted && D::is_admitted(link) {
            self.is_admitted = true;
            self.io.reconnector.is_taken();
            if std::mem::replace(&mut self.was_admitted, true) {
                self.io.counts.reconnects += 1;
                self.io.events.insert(before, SubscriberEvent::Returned);
            }
        }
        read
    }

    /// Keeps the descriptor readable while events are left, or the end: it may have come with the last event.
    fn mark_unread(&mut self) {
        let has_unread = !self.io.events.is_empty() || matches!(self.state, State::Over(_));
        if has_unread != self.has_unread {
            self.has_unread = has_unread;
            self.io.reconnector.set_unread(has_unread);
        }
    }

    /// Connects. While it fails, the pauses grow.
    fn open(&mut self) -> Result<()> {
        let next = self.io.reconnector.attempt();
        self.state = State::Down { next };
        match self.dialect.open(&self.io.reconnector) {
            Ok(link) => {
                self.io.reconnector.disarm();
                self.state = State::Up(link);
                Ok(())
            }
            Err(error) => {
                self.io.reconnector.wake_at(next);
                Err(error.on(self.io.path.display()))
            }
        }
    }

    fn close(&mut self) {
        if let State::Up(link) = std::mem::replace(&mut self.state, State::Down { next: Instant::now() }) {
            self.dialect.close(link, &mut self.io);
        }
        self.is_admitted = false;
    }

    /// The connection is over.
    fn lose(&mut self, fault: Fault) {
        let was_admitted = self.is_admitted;
        self.close();
        let Fault { error, is_clean } = fault;
        event!("{}: the connection is over: {error}", self.io.path.display());
        if self.reconnect == Reconnect::Never {
            self.io.reconnector.disarm();
            self.state = State::Over((!is_clean).then_some(error));
            return;
        }
        if !is_clean {
            // Another attempt at once would hardly do better.
            self.io.reconnector.hold_off();
        }
        self.state = State::Down { next: self.io.reconnector.lost() };
        // Of a connection that was never admitted the user knows nothing.
        if was_admitted {
            self.io.events.push_back(SubscriberEvent::Lost(error));
        }
    }
}

impl<D: Dialect> AsFd for Session<D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.reconnector.as_fd()
    }
}
