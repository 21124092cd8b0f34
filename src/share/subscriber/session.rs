//! A subscriber's connections in either protocol: connects, loses the connection, connects again.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::event::{ReceiverStats, SubscriberEvent};
use super::reconnect::{Reconnect, Reconnector, LONGEST, SHORTEST};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::log::event;
use crate::station::{ended, Received};
use crate::sys::wait::{self, Waited};

/// How many reads one call makes if it does not wait. A peer that sends without pause cannot keep the caller.
const MOST_READS: usize = 64;

/// The part of a session that depends on the protocol.
pub(super) trait Dialect: Sized {
    /// A connection with its state.
    type Link;

    /// Connects and asks for frames. `reconnector` watches the descriptors that wake the subscriber.
    fn open(&mut self, reconnector: &Reconnector) -> Result<Self::Link>;

    /// Ends a connection. Frames that are still held stay mapped, but lose their leases.
    fn close(&mut self, link: Self::Link, session: &mut Io);

    /// Returns `true` if the publisher has admitted this subscriber.
    fn is_admitted(link: &Self::Link) -> bool;

    /// Reads and handles messages, and adds events to `io`. If there is a deadline, waits until then for a message.
    fn read(
        &mut self,
        link: &mut Self::Link,
        io: &mut Io,
        deadline: Option<Instant>,
    ) -> std::result::Result<Read, Fault>;
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A message was handled.
    Some,
    /// There was no message.
    Nothing,
    /// A signal handler ran before a message came.
    Interrupted,
}

/// Returns the error of a connect that failed, with its usual cause.
pub(super) fn connect_error(errno: Errno) -> Error {
    let error = Error::os("connect", errno);
    match errno {
        Errno::ENOENT => error.detail("the socket does not exist: no publisher has been started at this path"),
        Errno::ECONNREFUSED => error.detail("no process listens: the publisher has ended, or the file is not a socket"),
        Errno::EACCES => error.detail("the mode of the socket, or of a folder above it, does not admit this user"),
        _ => error,
    }
}

/// Why a connection has ended.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    /// The publisher hung up or closed the connection, without an error.
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

/// State that a dialect and its session share.
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

    pub(super) fn failed(&self, op: &'static str) -> impl Fn(Errno) -> Error + '_ {
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
    /// The connection has ended, and that is still to be reported.
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
    /// A connection was admitted at some time.
    was_admitted: bool,
    /// The reason of the last refusal that was reported since the last connection.
    refused: Option<Reason>,
    /// Events remain for the next call, and the descriptor is readable for them.
    has_unread: bool,
}

impl<D: Dialect> Session<D> {
    /// Connects, and waits at most `timeout` for the publisher to admit this subscriber.
    pub(super) fn connect(path: &Path, reconnect: Reconnect, dialect: D, timeout: Duration) -> Result<Self> {
        let deadline = wait::deadline(timeout);
        let (path, reconnector) = (path.to_owned(), Reconnector::new(path)?);
        let io = Io { path, reconnector, events: VecDeque::new(), counts: ReceiverStats::default() };
        let state = State::Down { next: Instant::now() };
        let mut session = Self {
            dialect,
            io,
            reconnect,
            state,
            is_admitted: false,
            was_admitted: false,
            refused: None,
            has_unread: false,
        };
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
                    // The publisher is full. Each attempt costs it a connection.
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

    /// Returns `true` if [`Session::connect`] may succeed later.
    fn is_worth_another_try(&self, error: &Error) -> bool {
        // EAGAIN: a publisher listens, and its backlog is full.
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

    /// Returns the present connection, if there is one.
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

    /// Returns the next event. If there is a deadline, waits until then.
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
                    // The epoll also has the timer of the next attempt.
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
                // The socket stays readable, so the caller comes back.
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

    /// Keeps the descriptor readable while events or the end are unread. The end may have come with the last event.
    fn mark_unread(&mut self) {
        let has_unread = !self.io.events.is_empty() || matches!(self.state, State::Over(_));
        if has_unread != self.has_unread {
            self.has_unread = has_unread;
            self.io.reconnector.set_unread(has_unread);
        }
    }

    /// Connects. The pauses grow while this fails.
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

    /// Ends the connection and reports it, or plans the next attempt.
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
            // An attempt at once would likely fail, too.
            self.io.reconnector.hold_off();
        }
        self.state = State::Down { next: self.io.reconnector.lost() };
        if was_admitted {
            self.refused = None;
            self.io.events.push_back(SubscriberEvent::Lost(error));
        } else if error.reason().is_some() && error.reason() != self.refused {
            // Once: the next attempt most likely ends in the same way.
            self.refused = error.reason();
            self.io.events.push_back(SubscriberEvent::Refused(error));
        }
    }
}

impl<D: Dialect> AsFd for Session<D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.reconnector.as_fd()
    }
}
