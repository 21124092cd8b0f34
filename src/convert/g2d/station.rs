//! An open libg2d as a converter.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::epoll::EpollFlags;

use super::builder::G2dBuilder;
use super::probe;
use super::report::{Report, Vote};
use super::rules::{self, Profile, Program};
use super::settings::{Contiguity, Wait};
use super::warp::WarpMap;
use super::worker::{self, Asked, Assignment, Shared, Work};
use crate::convert::converter::{Converter, ConverterEvent};
use crate::convert::jobs::{self, Caller, Kick, Programs};
use crate::convert::plan::{self, Plan};
use crate::dmabuf::{DmaBuf, MemoryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, Layout, Size};
use crate::frame::{Frame, FrameMut};
use crate::station::{sealed, Received, Station, SubmitResult};
use crate::sys::g2d::{Library, LoadError};
use crate::sys::readiness::Readiness;

/// The name that the dynamic loader looks up by default.
const LIBRARY: &str = "libg2d.so.2";

impl G2dBuilder {
    /// Opens the library and runs the probes. Starts a worker thread, or takes over the thread of an earlier [`G2d`] of
    /// the same library.
    ///
    /// The crate never closes the library, and keeps a working handle. After the [`G2d`] is dropped, the thread sleeps
    /// until the program opens the same library again.
    ///
    /// # Errors
    /// `NotFound` if the library is missing. `WrongFile` if the library lacks a core symbol. `Unsupported` if the
    /// probes of the layout disagree or give no result. `Timeout` if `g2d_open` does not return. `InvalidArgument` for
    /// a depth that is not 1 to 64 or a thread name with a NUL. Otherwise errors of `g2d_open`.
    pub fn open(self) -> Result<G2d> {
        let g2d = self.start()?;
        let report = &g2d.report;
        if report.abi.is_none() {
            let votes: Vec<String> = report.votes.iter().map(Vote::to_string).collect();
            let text = format!(
                "the probes of the structs' layout do not agree: {}; set FRAMELEASE_G2D_ABI or G2dBuilder::abi",
                votes.join("; ")
            );
            return Err(Error::new(ErrorKind::Unsupported, "g2d_open", text).on(report.path.display()));
        }
        Ok(g2d)
    }

    /// Reports the library and its capabilities, even if the probes disagree. If the probes agree, also tries
    /// capabilities and formats, in about a hundred calls. With `buffer`, also tries to import this buffer, but does
    /// not draw to it.
    ///
    /// libg2d may print to standard output when it refuses a call.
    ///
    /// # Errors
    /// The errors of [`G2dBuilder::open`]. Probes that disagree are not an error here.
    pub fn inspect(self, buffer: Option<&DmaBuf>) -> Result<Report> {
        let timeout = self.open_timeout;
        let g2d = self.start()?;
        if g2d.report.abi.is_none() {
            return Ok(Report::clone(&g2d.report));
        }
        let shared = g2d.jobs.shared();
        shared.lock().extra.survey = Some(buffer.cloned());
        shared.wake();
        match shared.await_answer(timeout, |s| s.surveyed.take()) {
            Some(survey) => Ok(Report { survey: Some(survey?), ..Report::clone(&g2d.report) }),
            None => {
                let error = Error::new(ErrorKind::Timeout, "g2d", format!("the trials did not end within {timeout:?}"));
                Err(error.on(g2d.report.path.display()))
            }
        }
    }

    fn start(self) -> Result<G2d> {
        let readiness = Readiness::new().map_err(|e| Error::os("epoll_create1", e))?;
        let (shared, report, profile) = self.worker()?;
        watch(&readiness, &shared)?;
        let name = format!("g2d ({})", report.path.display());
        Ok(G2d {
            readiness,
            jobs: Caller::new(shared, self.depth),
            settings: self,
            report,
            profile,
            name,
            programs: Programs::default(),
            warp: None,
        })
    }

    /// Opens the library and gives it to a worker.
    fn worker(&self) -> Result<(Arc<Shared>, Arc<Report>, Profile)> {
        jobs::check_options("g2d", self.depth, &self.thread_name)?;
        let library = load(self.library.as_ref())?;
        let path = library.path().display();
        let shared = Arc::new(Shared::new(self.depth, kick(self.wait))?);
        let assignment = Assignment {
            shared: Arc::clone(&shared),
            abi: self.abi.or_else(probe::from_environment),
            wait: self.wait,
            contiguity: self.contiguity,
            name: self.thread_name.clone(),
        };
        worker::assign(library, assignment)?;
        match shared.await_answer(self.open_timeout, |s| s.opened.take()) {
            Some(opened) => {
                let (report, profile) = opened?;
                Ok((shared, report, profile))
            }
            None => {
                // The worker finds the state closed when the call returns, and parks.
                shared.close();
                let text = format!("g2d_open did not return within {:?}", self.open_timeout);
                Err(Error::new(ErrorKind::Timeout, "g2d_open", text).on(path))
            }
        }
    }
}

fn kick(wait: Wait) -> Kick {
    match wait {
        Wait::Finish => Kick::No,
        Wait::Fence => Kick::Yes,
    }
}

/// Watches the finished jobs. If that fails, lets the worker go: otherwise it would wait for jobs forever, and no other
/// [`G2d`] could use its handle.
fn watch(readiness: &Readiness, shared: &Shared) -> Result<()> {
    readiness.add(shared.event(), EpollFlags::EPOLLIN, 0).map_err(|e| {
        shared.close();
        Error::os("epoll_ctl", e)
    })
}

fn load(path: Option<&PathBuf>) -> Result<&'static Library> {
    let name = match path {
        Some(path) => path.as_os_str().to_owned(),
        None => std::env::var_os("FRAMELEASE_G2D_LIBRARY").unwrap_or_else(|| OsString::from(LIBRARY)),
    };
    let shown = name.to_string_lossy().into_owned();
    Library::load(&name).map_err(|e| match e {
        LoadError::NotLoaded(words) => Error::new(ErrorKind::NotFound, "dlopen", words).on(shown),
        LoadError::NoSymbol(symbol) => {
            Error::new(ErrorKind::WrongFile, "dlsym", format!("the symbol {symbol} is missing: this is not a libg2d"))
                .on(shown)
        }
    })
}

/// An open libg2d as a [`Converter`].
///
/// One thread makes all calls of libg2d, so the caller never waits for the hardware: [`Converter::try_submit`] puts the
/// job into a bounded queue. If a call of libg2d never returns, its job's frames stay leased and later jobs wait.
/// [`Station::recv`] then returns [`Received::Nothing`](crate::Received::Nothing). Dropping the `G2d` does not wait.
///
/// In steady state a job does not allocate and does not open a descriptor. It costs a wake-up of the worker, a write
/// and a read of an eventfd, and the calls of libg2d.
///
/// ```no_run
/// use framelease::convert::{Converter, G2d, Layer, Plan, Request};
/// use framelease::format::{FourCc, Layout, Size};
///
/// let g2d = G2d::open()?;
/// let source = Layout::packed(FourCc::NV12, Size::new(1920, 1080))?;
/// let target = g2d.target_layout(FourCc::RGBA32, Size::new(640, 360))?;
/// let plan = Plan::new(&Request::convert(Layer::default()), &[source], &target)?;
/// g2d.check(&plan)?;
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct G2d {
    readiness: Readiness,
    settings: G2dBuilder,
    jobs: Caller<Work, Asked>,
    report: Arc<Report>,
    profile: Profile,
    name: String,
    programs: Programs<Program>,
    warp: Option<Arc<WarpMap>>,
}

impl G2d {
    /// Returns a builder with the defaults. Call [`G2dBuilder::open`] at the end.
    pub fn builder() -> G2dBuilder {
        G2dBuilder::default()
    }

    /// Opens `libg2d.so.2` with the defaults.
    ///
    /// # Errors
    /// The errors of [`G2dBuilder::open`].
    pub fn open() -> Result<Self> {
        G2dBuilder::default().open()
    }

    /// Returns a report about the library and its capabilities.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Sets a dewarping table for later jobs. With `None`, later jobs do not use a table. Each job holds the table's
    /// buffer until the job is done.
    ///
    /// # Errors
    /// `Unsupported` if the library does not support such tables (`g2d_set_warp_coordinates`, feature `WARP_DEWARP`).
    /// `Mismatch` if the table is empty or larger than its buffer.
    pub fn set_warp(&mut self, map: Option<WarpMap>) -> Result<()> {
        if let Some(map) = &map {
            if !self.profile.warp {
                let text = format!("WARP_DEWARP: {}", self.report.feature("WARP_DEWARP"));
                return Err(Error::new(ErrorKind::Unsupported, "g2d_set_warp_coordinates", text).on(&self.name));
            }
            let (bytes, room) = (map.bytes(), map.table().size_bytes());
            if bytes == 0 || bytes > room as u128 {
                let text = format!("a table of {bytes} bytes in {:?} of {room}", map.table());
                return Err(Error::new(ErrorKind::Mismatch, "g2d_set_warp_coordinates", text).on(&self.name));
            }
        }
        self.warp = map.map(Arc::new);
        Ok(())
    }
}

/// Adds the library's name to an error, after the names that it has.
fn named(error: Error, name: &str) -> Error {
    let (kind, op) = (error.kind(), error.op());
    let text = error.to_string();
    let detail = text.strip_prefix(op).map_or(text.as_str(), |rest| rest.trim_start_matches([' ', ':']));
    Error::new(kind, op, detail).on(name)
}

/// `data_offset` moves every plane of a buffer, so it needs the alignment of addresses.
fn check_payload(sources: &[Frame]) -> Result<()> {
    for (i, frame) in sources.iter().enumerate() {
        let Some(info) = frame.layout().fourcc().info() else { continue };
        let align = rules::address_align(info);
        if let Some(payload) = frame.meta().payload.iter().find(|p| u64::from(p.offset_bytes) % align != 0) {
            let text = format!("the data begin at byte {}, not at a multiple of {align}", payload.offset_bytes);
            return Err(Error::new(ErrorKind::Unsupported, "libg2d's rules", text).on(format!("source {i}")));
        }
    }
    Ok(())
}

impl Converter for G2d {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, plan: &Plan) -> Result<()> {
        if plan.memory_kind() == MemoryKind::Memfd && self.settings.contiguity == Contiguity::ByExporter {
            let text = "the frames are in memfds: scattered memory, which devices cannot import";
            return Err(Error::new(ErrorKind::Unsupported, "libg2d's rules", text).on(&self.name));
        }
        rules::compile(plan, &self.profile).map(drop).map_err(|e| named(e, &self.name))
    }

    fn target_layout(&self, fourcc: FourCc, size: Size) -> Result<Layout> {
        rules::target_layout(fourcc, size)
    }

    fn try_submit(&mut self, plan: &Arc<Plan>, sources: &[Frame], target: FrameMut) -> SubmitResult<FrameMut> {
        let Self { jobs, programs, profile, warp, name, .. } = self;
        jobs.submit(sources, target, |target| {
            plan.check_frames(sources, target)?;
            check_payload(sources)?;
            let compile = || Program::new(plan, profile).map_err(|e| named(e, name));
            let program = programs.get_or(|p| Arc::ptr_eq(&p.plan, plan), compile)?;
            if program.has_copy && warp.is_some() {
                let text = format!("{} is copied byte by byte here, which cannot dewarp", plan.target());
                return Err(Error::new(ErrorKind::Unsupported, "g2d_copy", text).on(name));
            }
            // A plan has a source.
            let meta = plan::meta(&plan.carried(sources[0].meta()), target);
            Ok((Work { program, warp: warp.clone() }, meta))
        })
    }

    fn in_flight(&self) -> usize {
        self.jobs.in_flight()
    }

    /// Makes a worker open the library again, and waits for it as [`G2dBuilder::open`] does. Jobs that the caller has
    /// not received are lost.
    fn reopen(&mut self) -> Result<()> {
        let (shared, report, profile) = self.settings.worker()?;
        watch(&self.readiness, &shared)?;
        self.readiness.remove(self.jobs.shared().event());
        self.jobs = Caller::new(shared, self.settings.depth);
        (self.report, self.profile) = (report, profile);
        self.programs.clear();
        Ok(())
    }
}

impl sealed::Sealed for G2d {}

/// [`ConverterEvent::Returned`] does not occur, because libg2d does not report that it works again. Call
/// [`Converter::reopen`].
impl Station for G2d {
    type Event = ConverterEvent;

    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<ConverterEvent>> {
        Ok(self.jobs.try_recv())
    }
}

impl AsFd for G2d {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for G2d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "G2d({}, {} in flight)", self.name, self.jobs.in_flight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g2d_lets_its_worker_go_if_it_cannot_be_watched() {
        let (readiness, shared) = (Readiness::new().unwrap(), Shared::new(1, Kick::No).unwrap());
        watch(&readiness, &shared).unwrap();
        assert!(!shared.lock().is_closed());
        // An epoll takes a descriptor once.
        assert!(watch(&readiness, &shared).is_err() && shared.lock().is_closed(), "a thread that waits forever");
    }
}
