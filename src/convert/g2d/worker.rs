//! The thread of a handle, which carries out jobs.
//!
//! A thread outlives its [`G2d`](crate::convert::G2d), because handles are closed only if they fail. It is parked with
//! its handle, and serves the next `G2d` that opens the same library.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::convert::jobs;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;
use crate::sys::g2d::{Handle, Library};
use crate::sys::syscall_count;

use super::engine::Engine;
use super::report::{Abi, Report, Survey};
use super::rules::{Profile, Program};
use super::settings::{Contiguity, Wait};
use super::warp::WarpMap;
use crate::dmabuf::{self, DmaBuf};

/// How many submitted jobs may wait for their fences while the next is submitted.
const PIPELINE: usize = 2;

/// What a job needs beside its frames.
pub(super) struct Work {
    pub(super) program: Arc<Program>,
    pub(super) warp: Option<Arc<WarpMap>>,
}

/// The worker's result of opening the library.
pub(super) type Opened = Result<(Arc<Report>, Profile)>;

/// Requests and answers beside jobs.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) opened: Option<Opened>,
    pub(super) survey: Option<Option<DmaBuf>>,
    pub(super) surveyed: Option<Result<Survey>>,
}

type Job = jobs::Job<Work>;
pub(super) type Shared = jobs::Shared<Work, Asked>;

/// A request of one `G2d` to a worker.
pub(super) struct Assignment {
    pub(super) shared: Arc<Shared>,
    pub(super) abi: Option<Abi>,
    pub(super) wait: Wait,
    pub(super) contiguity: Contiguity,
    pub(super) name: String,
}

/// A parked worker, with its handle open.
struct Parked {
    library: &'static Library,
    next: Mutex<Option<Assignment>>,
    claimed: Condvar,
}

static PARKED: Mutex<Vec<Arc<Parked>>> = Mutex::new(Vec::new());

fn parked() -> MutexGuard<'static, Vec<Arc<Parked>>> {
    PARKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the request to a parked worker of this library, or to a new thread.
pub(super) fn assign(library: &'static Library, assignment: Assignment) -> Result<()> {
    let idle = {
        let mut all = parked();
        let at = all.iter().position(|p| p.library.is(library));
        at.map(|i| all.swap_remove(i))
    };
    if let Some(worker) = idle {
        *worker.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(assignment);
        worker.claimed.notify_one();
        return Ok(());
    }
    let name = assignment.name.clone();
    let thread = std::thread::Builder::new().name(name).spawn(move || live(library, assignment));
    thread.map(drop).map_err(|e| Error::io("pthread_create", &e))
}

/// The main function of a worker: serves one `G2d` after the other with one handle. Ends when the handle's device is
/// lost.
fn live(library: &'static Library, first: Assignment) {
    let mut handle = match Handle::open(library) {
        Ok(handle) => handle,
        Err(status) => {
            let path = library.path().display();
            let error = Error::new(ErrorKind::Os, "g2d_open", status.to_string()).on(path);
            first.shared.answer(|asked| asked.opened = Some(Err(error)));
            return;
        }
    };
    let mut assignment = first;
    loop {
        let (engine, report) = Engine::new(handle, assignment.abi, assignment.contiguity);
        let opened = Ok((Arc::new(report), engine.profile()));
        assignment.shared.answer(|asked| asked.opened = Some(opened));
        handle = {
            let _guard = jobs::Guard(Arc::clone(&assignment.shared), "g2d");
            let (shared, wait) = (&*assignment.shared, assignment.wait);
            let server = Server { shared, engine, wait, pending: VecDeque::new(), swept: true };
            match server.run() {
                Some(handle) => handle,
                None => return,
            }
        };
        // A parked worker holds nothing of its last `G2d`.
        drop(assignment);
        let parking = Arc::new(Parked { library, next: Mutex::new(None), claimed: Condvar::new() });
        parked().push(Arc::clone(&parking));
        let mut next = parking.next.lock().unwrap_or_else(PoisonError::into_inner);
        assignment = loop {
            match next.take() {
                Some(claim) => break claim,
                None => next = parking.claimed.wait(next).unwrap_or_else(PoisonError::into_inner),
            }
        };
        // The thread takes the name of the `G2d` that it serves. Linux allows 15 bytes.
        sys::g2d::name_thread(&assignment.name);
    }
}

struct Server<'a> {
    shared: &'a Shared,
    engine: Engine,
    wait: Wait,
    /// Submitted jobs with their fences, oldest first.
    pending: VecDeque<(Job, OwnedFd)>,
    /// No job has brought new buffers since the last sweep of the imports.
    swept: bool,
}

/// Whether another job may be submitted while the worker waits for a fence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    ForMore,
    None,
}

enum Next {
    Job(Job),
    Survey(Option<DmaBuf>),
    /// No new job is waiting, but fences are pending.
    Fence,
    End,
}

impl Server<'_> {
    /// Serves until the `G2d` is gone (returns the handle) or the device is lost (returns `None`).
    fn run(mut self) -> Option<Handle> {
        self.pending.reserve(PIPELINE);
        loop {
            let next = self.next();
            let done = match next {
                Next::End => break,
                Next::Survey(buffer) => {
                    let survey = self.engine.survey(buffer.as_ref());
                    self.shared.answer(|asked| asked.surveyed = Some(survey));
                    Ok(())
                }
                Next::Job(job) => self.begin(job),
                Next::Fence if self.pending.len() < PIPELINE => self.oldest(Room::ForMore),
                Next::Fence => self.oldest(Room::None),
            };
            if let Err(lost) = done {
                self.lose(lost);
                return None;
            }
        }
        // The hardware must finish before the frames are dropped.
        while !self.pending.is_empty() {
            if let Err(lost) = self.oldest(Room::None) {
                self.lose(lost);
                return None;
            }
        }
        Some(self.engine.into_handle())
    }

    fn next(&mut self) -> Next {
        let mut state = self.shared.lock();
        loop {
            if state.is_closed() {
                return Next::End;
            }
            if let Some(buffer) = state.extra.survey.take() {
                return Next::Survey(buffer);
            }
            if self.pending.len() < PIPELINE {
                if let Some(job) = state.next() {
                    return Next::Job(job);
                }
            }
            if !self.pending.is_empty() {
                return Next::Fence;
            }
            if !self.swept {
                // The sweep calls libg2d, so not under the lock, which the caller's thread takes.
                drop(state);
                self.engine.sweep();
                self.swept = true;
                state = self.shared.lock();
                continue;
            }
            state = self.shared.sleep(state);
        }
    }

    /// Submits a job.
    ///
    /// # Errors
    /// The device is lost.
    fn begin(&mut self, job: Job) -> Result<()> {
        self.swept = false;
        let drawn = self.engine.draw(&job.work.program, &job.sources, &job.target, job.work.warp.as_ref());
        if drawn.is_ok() && self.wait == Wait::Fence {
            if let Some(fence) = self.engine.fence() {
                self.pending.push_back((job, fence));
                return Ok(());
            }
        }
        // Jobs finish in order.
        while !self.pending.is_empty() {
            if let Err(lost) = self.oldest(Room::None) {
                self.shared.give_back(job, Err(lost.clone()));
                return Err(lost);
            }
        }
        // Also after an error, because an earlier call of the job may be running.
        let finished = self.engine.finish();
        let lost = finished.clone();
        self.shared.give_back(job, finished.and(drawn));
        lost
    }

    /// Waits for the oldest fence without a limit: until then its frames cannot be given back. A new job that can be
    /// submitted in the meantime interrupts the wait.
    fn oldest(&mut self, room: Room) -> Result<()> {
        let Some((_, fence)) = self.pending.front() else { return Ok(()) };
        let waited = loop {
            let kick = self.shared.kick().filter(|_| room == Room::ForMore);
            let second = kick.map_or(fence.as_fd(), |kick| kick.as_fd());
            let mut fds = [PollFd::new(fence.as_fd(), PollFlags::POLLIN), PollFd::new(second, PollFlags::POLLIN)];
            syscall_count::tick();
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break self.engine.finish(),
            }
            let state = fds[0].revents().unwrap_or(PollFlags::empty());
            if state.contains(PollFlags::POLLIN) {
                break Ok(());
            }
            // The descriptor is not a fence, so only the blocking call can wait.
            if !state.is_empty() {
                break self.engine.finish();
            }
            if let Some(kick) = kick.filter(|_| fds[1].any() == Some(true)) {
                kick.clear();
                return Ok(());
            }
        };
        if let Some((job, fence)) = self.pending.pop_front() {
            let result = waited.clone().and_then(|()| dmabuf::check(fence.as_fd()));
            drop(fence);
            self.shared.give_back(job, result);
        }
        waited
    }

    /// Gives every job back with the error, and closes the handle. A new handle may find the device again.
    fn lose(mut self, error: Error) {
        crate::log::event!("{error}");
        while let Some((job, _)) = self.pending.pop_front() {
            self.shared.give_back(job, Err(error.clone()));
        }
        self.shared.lose(&error);
        let _ = self.engine.into_handle().close();
    }
}
