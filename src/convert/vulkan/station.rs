//! An open device as a converter.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sys::epoll::EpollFlags;

use super::builder::VulkanBuilder;
use super::imports::Imports;
use super::program::{self, Limits, Program};
use crate::convert::converter::{Converter, ConverterEvent};
use crate::convert::jobs::{self, Caller, Guard, Kick, Programs};
use crate::convert::plan::{self, Plan};
use crate::dmabuf::{DmaBuf, MemoryKind, DEFAULT_WAIT};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, Layout, Size};
use crate::frame::{Frame, FrameMut};
use crate::station::{sealed, Received, Station, SubmitResult};
use crate::sys::readiness::Readiness;
use crate::sys::vulkan::{Device, Failure, Instance, Physical, Planes};
use crate::sys::wait;

type Job = jobs::Job<Arc<Program>>;
type Shared = jobs::Shared<Arc<Program>, Ended>;

/// The worker has destroyed what it had.
type Ended = bool;

fn failed(failure: Failure) -> Error {
    let kind = if failure.is_lost() { ErrorKind::DeviceLost } else { ErrorKind::Os };
    Error::new(kind, failure.call, failure.to_string())
}

impl VulkanBuilder {
    /// Opens the loader, chooses a device, and starts a worker thread.
    ///
    /// The loader is never closed.
    ///
    /// # Errors
    /// `NotFound` if the loader is missing, or if no device can be used. The text has each device and the reason why it
    /// was passed over. `InvalidArgument` for a depth that is not 1 to 64 or a thread name with a NUL. Otherwise errors
    /// of the driver.
    pub fn open(self) -> Result<Vulkan> {
        let readiness = Readiness::new().map_err(|e| Error::os("epoll_create1", e))?;
        let engine = self.start(&readiness)?;
        Ok(Vulkan { readiness, settings: self, programs: Programs::default(), engine })
    }

    fn start(&self, readiness: &Readiness) -> Result<Engine> {
        jobs::check_options("vulkan", self.depth, &self.thread_name)?;
        let instance = Instance::open().map_err(|text| Error::new(ErrorKind::NotFound, "dlopen", text))?;
        let instance = Arc::new(instance.map_err(failed)?);
        let wanted = self.device.clone().or_else(|| std::env::var("FRAMELEASE_VULKAN_DEVICE").ok());
        let physical = choose(instance.devices().map_err(failed)?, wanted.as_deref())?;
        let device = Device::open(instance, &physical).map_err(|e| failed(e).on(&physical.name))?;
        let shared = Arc::new(Shared::new(self.depth, Kick::No)?);
        readiness.add(shared.event(), EpollFlags::EPOLLIN, 0).map_err(|e| Error::os("epoll_ctl", e))?;
        let (worker_shared, name) = (Arc::clone(&shared), physical.name.clone());
        let work = move || {
            let _guard = Guard(Arc::clone(&worker_shared), "vulkan");
            Worker { shared: &worker_shared, device, name, imports: Imports::default() }.run();
            worker_shared.answer(|ended| *ended = true);
        };
        let thread = std::thread::Builder::new().name(self.thread_name.clone()).spawn(work);
        Ok(Engine {
            thread: Some(thread.map_err(|e| Error::io("pthread_create", &e))?),
            jobs: Caller::new(shared, self.depth),
            name: format!("vulkan ({})", physical.name),
            limits: Limits { most_bytes: physical.most_bytes },
            maps_for_writing: physical.is_software,
        })
    }
}

/// A device with its worker.
struct Engine {
    jobs: Caller<Arc<Program>, Ended>,
    thread: Option<JoinHandle<()>>,
    name: String,
    limits: Limits,
    /// A driver that works on the CPU refuses read-only buffers.
    maps_for_writing: bool,
}

impl Drop for Engine {
    /// Waits for the worker. If the program ends first, its driver is destroyed while it is in use.
    fn drop(&mut self) {
        let shared = self.jobs.shared();
        shared.close();
        if let (Some(()), Some(thread)) =
            (shared.await_answer(DEFAULT_WAIT, |ended| ended.then_some(())), self.thread.take())
        {
            let _ = thread.join();
        }
    }
}

/// Chooses the first device that can be used.
fn choose(devices: Vec<Physical>, wanted: Option<&str>) -> Result<Physical> {
    let mut reasons = Vec::new();
    for device in devices {
        let reason = match wanted {
            Some(name) if !device.name.contains(name) => format!("is not '{name}'"),
            None if device.is_software => "works on the CPU, so it is used only if it is named".into(),
            _ if !device.missing.is_empty() => format!("lacks {}", device.missing.join(", ")),
            _ => return Ok(device),
        };
        reasons.push(format!("{} {reason}", device.name));
    }
    let text = match reasons.is_empty() {
        true => "no Vulkan device was found; possibly a driver is not installed".to_owned(),
        false => format!("no Vulkan device can be used: {}", reasons.join("; ")),
    };
    Err(Error::new(ErrorKind::NotFound, "vulkan", text))
}

/// A GPU as a [`Converter`], by Vulkan.
///
/// One thread makes the calls and waits for the GPU, so the caller never waits: [`Converter::try_submit`] puts the job
/// into a bounded queue. The thread first waits for devices that still use the buffers of the job, at most
/// [`DEFAULT_WAIT`]. Each buffer is imported at its first job, and the import is freed after the buffer. Dropping the
/// `Vulkan` waits for the running job, at most [`DEFAULT_WAIT`].
///
/// Drivers that work on the CPU, such as lavapipe, map buffers for writing. They refuse a camera's buffers, which are
/// exported read-only, unless
/// [`CameraBuilder::writable_buffers`](crate::capture::CameraBuilder::writable_buffers) asks for others.
///
/// Of the 10 or 12 bits of P010 and P012 it uses the upper 8. It does not write these formats.
///
/// In steady state a job does not allocate and does not open a descriptor. It costs a wake-up of the thread, a write
/// and a read of an eventfd, a `poll` for each buffer, and the calls of the driver.
///
/// ```no_run
/// use framelease::convert::{Converter, Layer, Plan, Request, Vulkan};
/// use framelease::format::{FourCc, Layout, Size};
///
/// let vulkan = Vulkan::open()?;
/// let source = Layout::packed(FourCc::NV12, Size::new(1920, 1080))?;
/// let target = vulkan.target_layout(FourCc::RGBA32, Size::new(640, 360))?;
/// let plan = Plan::new(&Request::convert(Layer::default()), &[source], &target)?;
/// vulkan.check(&plan)?;
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Vulkan {
    readiness: Readiness,
    settings: VulkanBuilder,
    engine: Engine,
    programs: Programs<Program>,
}

impl Vulkan {
    /// Returns a builder with the defaults. Call [`VulkanBuilder::open`] at the end.
    pub fn builder() -> VulkanBuilder {
        VulkanBuilder::default()
    }

    /// Opens the first device with the defaults.
    ///
    /// # Errors
    /// The errors of [`VulkanBuilder::open`].
    pub fn open() -> Result<Self> {
        VulkanBuilder::default().open()
    }
}

impl Converter for Vulkan {
    fn name(&self) -> &str {
        &self.engine.name
    }

    fn check(&self, plan: &Plan) -> Result<()> {
        if plan.memory_kind() == MemoryKind::Memfd {
            let text = "the frames are in memfds, which devices cannot import";
            return Err(Error::new(ErrorKind::Unsupported, "convert", text).on(self.name()));
        }
        if self.engine.maps_for_writing && plan.is_read_only() {
            let text = "the sources are read-only, and a driver that works on the CPU maps them for writing: \
                        CameraBuilder::writable_buffers exports a camera's buffers for writing too";
            return Err(Error::new(ErrorKind::Unsupported, "convert", text).on(self.name()));
        }
        program::check(plan, self.engine.limits).map_err(|e| e.on(self.name()))
    }

    fn target_layout(&self, fourcc: FourCc, size: Size) -> Result<Layout> {
        // The alignment also keeps chroma rows of odd widths whole.
        Layout::aligned(fourcc, size, 4)
    }

    fn try_submit(&mut self, plan: &Arc<Plan>, sources: &[Frame], target: FrameMut) -> SubmitResult<FrameMut> {
        let Self { engine: Engine { jobs, limits, name, .. }, programs, .. } = self;
        jobs.submit(sources, target, |target| {
            plan.check_frames(sources, target)?;
            let compile = || Program::new(plan, *limits).map_err(|e| e.on(&*name));
            let program = programs.get_or(|p| Arc::ptr_eq(&p.plan, plan), compile)?;
            // A plan has a source.
            Ok((program, plan::meta(&plan.carried(sources[0].meta()), target)))
        })
    }

    fn in_flight(&self) -> usize {
        self.engine.jobs.in_flight()
    }

    /// Opens the device again, or another one. Jobs that the caller has not received are lost.
    fn reopen(&mut self) -> Result<()> {
        let engine = self.settings.start(&self.readiness)?;
        self.readiness.remove(self.engine.jobs.shared().event());
        self.engine = engine;
        self.programs.clear();
        Ok(())
    }
}

impl sealed::Sealed for Vulkan {}

/// [`ConverterEvent::Returned`] does not occur, because a driver does not report that it works again. Call
/// [`Converter::reopen`].
impl Station for Vulkan {
    type Event = ConverterEvent;

    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<ConverterEvent>> {
        Ok(self.engine.jobs.try_recv())
    }
}

impl AsFd for Vulkan {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for Vulkan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vulkan({}, {} in flight)", self.name(), self.in_flight())
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    imports: Imports,
    device: Device,
    name: String,
}

impl Worker<'_> {
    fn run(mut self) {
        let mut is_swept = true;
        loop {
            let shared = self.shared;
            let mut state = shared.lock();
            let job = loop {
                if state.is_closed() {
                    return;
                }
                match state.next() {
                    Some(job) => break job,
                    None if is_swept => state = shared.sleep(state),
                    None => {
                        // The sweep calls the driver, so not under the lock, which the caller's thread takes.
                        drop(state);
                        self.imports.sweep();
                        is_swept = true;
                        state = shared.lock();
                    }
                }
            };
            drop(state);
            is_swept = false;
            let result = self.draw(&job);
            let lost = result.clone().err().filter(|e| e.kind() == ErrorKind::DeviceLost);
            shared.give_back(job, result);
            if let Some(error) = lost {
                crate::log::event!("{error}");
                return shared.lose(&error);
            }
        }
    }

    fn draw(&mut self, job: &Job) -> Result<()> {
        let deadline = wait::deadline(DEFAULT_WAIT);
        for (i, buffer) in job.sources.iter().enumerate().flat_map(|(i, s)| s.memory().iter().map(move |m| (i, m))) {
            let ready =
                buffer.wait_readable(wait::remaining(deadline)).and_then(|()| self.imports.add(buffer, &self.device));
            ready.map_err(|e| e.on(format!("{}, source {i}", self.name)))?;
        }
        for buffer in job.target.memory() {
            let ready =
                buffer.wait_writable(wait::remaining(deadline)).and_then(|()| self.imports.add(buffer, &self.device));
            ready.map_err(|e| e.on(format!("{}, the target", self.name)))?;
        }
        let program = &job.work;
        let steps = match program.uploaded.get() {
            Some(steps) => steps,
            None => {
                let steps = self.device.buffer(&program.steps).map_err(|e| failed(e).on(&self.name))?;
                program.uploaded.get_or_init(|| steps)
            }
        };
        let imports = &self.imports;
        let planes = |memory: &[DmaBuf], offset: &dyn Fn(usize) -> u32| -> Option<Planes<'_>> {
            let first = imports.get(memory.first()?)?;
            let mut planes = Planes { buffers: [first; 3], offsets: [0; 3] };
            for (i, buffer) in memory.iter().enumerate().take(3) {
                (planes.buffers[i], planes.offsets[i]) = (imports.get(buffer)?, offset(i));
            }
            Some(planes)
        };
        let gone = || Error::new(ErrorKind::State, "vulkan", "a buffer was freed during its job");
        let target = planes(job.target.memory(), &|_| 0).ok_or_else(gone)?;
        let sources = job
            .sources
            .iter()
            .map_while(|frame| planes(frame.memory(), &|i| frame.meta().payload.get(i).map_or(0, |p| p.offset_bytes)));
        let job = crate::sys::vulkan::Job { sources, target, steps, passes: &program.passes };
        self.device.run(job).map_err(|e| failed(e).on(&self.name))
    }
}
