//! Jobs of a backend whose calls block: they enter a worker thread by a bounded queue and leave by another. An eventfd
//! reports them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::converter::ConverterEvent;
use super::request::MAX_LAYERS;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{Frame, FrameMeta, FrameMut};
use crate::station::{Received, SubmitResult, Submitted};
use crate::sys;
use crate::sys::signal::Signal;

/// The most jobs in flight that a caller may ask for.
const MAX_DEPTH: usize = 64;

/// A job, with what the backend needs to carry it out.
pub(super) struct Job<W> {
    pub(super) work: W,
    pub(super) sources: Vec<Frame>,
    pub(super) target: FrameMut,
    meta: FrameMeta,
}

struct Finished {
    target: FrameMut,
    meta: FrameMeta,
    result: Result<()>,
}

pub(super) struct State<W, X> {
    queue: VecDeque<Job<W>>,
    done: VecDeque<Finished>,
    /// Empty source lists, kept to reuse their memory.
    spare: Vec<Vec<Frame>>,
    /// The device is lost, so no job is accepted.
    lost: Option<Error>,
    /// The device is lost, and all jobs have come back.
    ended: bool,
    closed: bool,
    /// Further requests and answers of the backend.
    pub(super) extra: X,
}

impl<W, X> State<W, X> {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn next(&mut self) -> Option<Job<W>> {
        self.queue.pop_front()
    }
}

/// State that a caller and its worker share.
pub(super) struct Shared<W, X> {
    state: Mutex<State<W, X>>,
    /// Wakes the worker: there is work, or no more will come.
    work: Condvar,
    /// Wakes a caller that waits for an answer.
    answer: Condvar,
    event: Signal,
    /// Wakes a worker that waits for something else than `work`.
    kick: Option<Signal>,
}

fn signal() -> Result<Signal> {
    Signal::new().map_err(|e| Error::os("eventfd", e))
}

/// Whether a worker waits for descriptors too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kick {
    Yes,
    No,
}

impl<W, X: Default> Shared<W, X> {
    pub(super) fn new(depth: usize, kick: Kick) -> Result<Self> {
        let state = State {
            queue: VecDeque::with_capacity(depth),
            done: VecDeque::with_capacity(depth),
            spare: (0..depth).map(|_| Vec::with_capacity(MAX_LAYERS)).collect(),
            lost: None,
            ended: false,
            closed: false,
            extra: X::default(),
        };
        let (event, kick) = (signal()?, (kick == Kick::Yes).then(signal).transpose()?);
        Ok(Self { state: Mutex::new(state), work: Condvar::new(), answer: Condvar::new(), event, kick })
    }
}

impl<W, X> Shared<W, X> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<W, X>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn event(&self) -> &Signal {
        &self.event
    }

    #[cfg(feature = "g2d")]
    pub(super) fn kick(&self) -> Option<&Signal> {
        self.kick.as_ref()
    }

    pub(super) fn wake(&self) {
        self.work.notify_one();
        if let Some(kick) = &self.kick {
            kick.set();
        }
    }

    /// Makes the worker wait until it is woken.
    pub(super) fn sleep<'a>(&'a self, state: MutexGuard<'a, State<W, X>>) -> MutexGuard<'a, State<W, X>> {
        self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the queue. Drops the jobs that have not begun, with their frames. The worker finishes those that have.
    pub(super) fn close(&self) {
        let (queue, done) = {
            let mut state = self.lock();
            state.closed = true;
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.done))
        };
        self.wake();
        // Outside of the lock, because dropping a frame may call its driver.
        drop((queue, done));
    }

    /// Answers a caller that is in [`Shared::await_answer`].
    pub(super) fn answer(&self, set: impl FnOnce(&mut X)) {
        set(&mut self.lock().extra);
        self.answer.notify_all();
    }

    /// Waits for an answer of the worker, at most `timeout`.
    pub(super) fn await_answer<T>(&self, timeout: Duration, mut take: impl FnMut(&mut X) -> Option<T>) -> Option<T> {
        let deadline = sys::wait::deadline(timeout);
        let mut state = self.lock();
        loop {
            if let Some(answer) = take(&mut state.extra) {
                return Some(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.answer.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the oldest finished job. The descriptor stays readable while another waits.
    fn take(&self) -> Option<Finished> {
        let mut state = self.lock();
        let finished = state.done.pop_front()?;
        // The loss of the device is still to be reported.
        if state.done.is_empty() && !state.ended {
            self.event.clear();
        }
        Some(finished)
    }

    pub(super) fn give_back(&self, job: Job<W>, result: Result<()>) {
        let Job { mut sources, target, meta, .. } = job;
        // Outside of the lock, because dropping a frame may call its driver.
        sources.clear();
        let mut state = self.lock();
        state.spare.push(sources);
        let finished = Finished { target, meta, result };
        if state.closed {
            drop(state);
            return drop(finished);
        }
        if state.done.is_empty() {
            self.event.set();
        }
        state.done.push_back(finished);
    }

    /// Accepts no further job, and gives back all that wait.
    pub(super) fn lose(&self, error: &Error) {
        loop {
            let mut state = self.lock();
            state.lost = Some(error.clone());
            let Some(job) = state.next() else {
                state.ended = true;
                self.event.set();
                break;
            };
            drop(state);
            self.give_back(job, Err(error.clone()));
        }
    }
}

/// Notifies the caller if the worker's thread panics, which would be a defect of this crate.
pub(super) struct Guard<W, X>(pub(super) Arc<Shared<W, X>>, pub(super) &'static str);

impl<W, X> Drop for Guard<W, X> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.lock();
            state.lost = Some(Error::new(ErrorKind::DeviceLost, self.1, "the worker thread has panicked"));
            state.ended = true;
            self.0.event.set();
        }
    }
}

/// The caller's end of the queues.
pub(super) struct Caller<W, X> {
    shared: Arc<Shared<W, X>>,
    depth: usize,
    in_flight: usize,
    /// The loss of the device was reported.
    is_lost: bool,
}

impl<W, X> Caller<W, X> {
    pub(super) fn new(shared: Arc<Shared<W, X>>, depth: usize) -> Self {
        Self { shared, depth, in_flight: 0, is_lost: false }
    }

    pub(super) fn shared(&self) -> &Shared<W, X> {
        &self.shared
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Queues a job, if `prepare` accepts it.
    pub(super) fn submit(
        &mut self,
        sources: &[Frame],
        target: FrameMut,
        prepare: impl FnOnce(&FrameMut) -> Result<(W, FrameMeta)>,
    ) -> SubmitResult<FrameMut> {
        if self.in_flight >= self.depth {
            return Ok(Submitted::Full(target));
        }
        let (work, meta) = match prepare(&target) {
            Ok(prepared) => prepared,
            Err(error) => return Err(Rejected { error, item: target }),
        };
        let mut state = self.shared.lock();
        if let Some(lost) = &state.lost {
            return Err(Rejected { error: lost.clone(), item: target });
        }
        let mut held = state.spare.pop().unwrap_or_default();
        held.extend(sources.iter().cloned());
        state.queue.push_back(Job { work, sources: held, target, meta });
        drop(state);
        self.shared.wake();
        self.in_flight += 1;
        Ok(Submitted::Taken)
    }

    pub(super) fn try_recv(&mut self) -> Received<ConverterEvent> {
        if let Some(Finished { target, meta, result }) = self.shared.take() {
            self.in_flight = self.in_flight.saturating_sub(1);
            return Received::Item(match result {
                Ok(()) => ConverterEvent::Frame(target.freeze(meta)),
                Err(error) => ConverterEvent::Failed { error, target: Some(target) },
            });
        }
        let lost = {
            let state = self.shared.lock();
            state.lost.clone().filter(|_| state.ended && state.done.is_empty())
        };
        match lost {
            // A worker that panicked has lost these jobs with their frames.
            Some(error) if self.in_flight > 0 => {
                self.in_flight -= 1;
                Received::Item(ConverterEvent::Failed { error, target: None })
            }
            Some(error) if !self.is_lost => {
                self.is_lost = true;
                self.shared.event().clear();
                Received::Item(ConverterEvent::Lost(error))
            }
            _ => Received::Nothing,
        }
    }
}

impl<W, X> Drop for Caller<W, X> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Checks what a caller asks for its queue and its thread.
pub(super) fn check_options(backend: &'static str, depth: usize, thread_name: &str) -> Result<()> {
    if !(1..=MAX_DEPTH).contains(&depth) {
        let text = format!("{depth} jobs in flight; 1 to {MAX_DEPTH} are possible");
        return Err(Error::new(ErrorKind::InvalidArgument, backend, text));
    }
    if thread_name.contains('\0') {
        return Err(Error::new(ErrorKind::InvalidArgument, backend, "the thread's name contains a NUL"));
    }
    Ok(())
}

/// The compiled form of plans, which is made at a plan's first use and kept.
pub(super) struct Programs<P>(Vec<Arc<P>>);

impl<P> Default for Programs<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<P> Programs<P> {
    /// How many are kept. A further one replaces the oldest.
    const MOST: usize = 4;

    pub(super) fn get_or(&mut self, is_it: impl Fn(&P) -> bool, compile: impl FnOnce() -> Result<P>) -> Result<Arc<P>> {
        if let Some(known) = self.0.iter().find(|p| is_it(p)) {
            return Ok(Arc::clone(known));
        }
        let program = Arc::new(compile()?);
        if self.0.len() == Self::MOST {
            self.0.remove(0);
        }
        self.0.push(Arc::clone(&program));
        Ok(program)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
