//! Scales a publisher's frames once and shares the result as a second stream, so that several models do not each scale
//! the same picture.

#[path = "common/mod.rs"]
mod common;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::convert::{candidates, first_of, Color, Converter, ConverterEvent, Layer, Plan, Request, Scaling};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, Pool};
use framelease::share::{Publisher, Reconnect, Subscriber, SubscriberEvent};
use framelease::stats::cpu_bytes;
use framelease::{Received, Station};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use common::{stopped, value, Progress, Result};

const HELP: &str = "\
Scales the frames of a publisher once, and shares the result with any number of subscribers at a second socket.

Usage: prepare [OPTIONS]

  --input PATH    take frames from the publisher here (default: the default of the example publisher)
  --output PATH   share the results here (default: the input's path, with '.prepared' added)
  --size WxH      size of the results (default 640x640)
  --to C          format of the results, as a V4L2 code or name (default RGB24)
  --stretch       fill the whole result. The default keeps the ratio and adds gray margins
  --backend B     g2d, m2m, vulkan or cpu (default: the first that can do it)
  --buffers N     buffers of the results (default 8)
  --frames N      stop after N results
  --json          print the figures as one JSON object on standard output
  --help          print this text
";

/// How long a publisher may be missing at the start.
const PATIENCE: Duration = Duration::from_secs(10);
/// The gray of the margins. Detectors of the YOLO family were trained with it.
const MARGIN: Color = Color::rgb(114, 114, 114);

struct Options {
    input: PathBuf,
    output: Option<PathBuf>,
    size: Size,
    to: FourCc,
    scaling: Scaling,
    backend: Option<String>,
    buffers: usize,
    frames: u64,
    json: bool,
}

impl Options {
    /// None: the help was asked for and printed.
    fn parse() -> Result<Option<Self>> {
        use lexopt::prelude::*;
        let mut o = Self {
            input: common::default_socket(),
            output: None,
            size: Size::new(640, 640),
            to: FourCc::RGB24,
            scaling: Scaling::Keep,
            backend: None,
            buffers: 8,
            frames: u64::MAX,
            json: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("input") => o.input = parser.value()?.into(),
                Long("output") => o.output = Some(parser.value()?.into()),
                Long("size") => o.size = value(&mut parser, "size")?,
                Long("to") => o.to = value(&mut parser, "to")?,
                Long("stretch") => o.scaling = Scaling::Stretch,
                Long("backend") => match parser.value()?.string()?.as_str() {
                    "auto" => o.backend = None,
                    name @ ("g2d" | "m2m" | "vulkan" | "cpu") => o.backend = Some(name.into()),
                    name => return Err(format!("--backend {name}: it is auto, g2d, m2m, vulkan or cpu").into()),
                },
                Long("buffers") => o.buffers = value(&mut parser, "buffers")?,
                Long("frames") => o.frames = value(&mut parser, "frames")?,
                Long("json") => o.json = true,
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Some(o))
    }

    fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let mut name = self.input.clone().into_os_string();
            name.push(".prepared");
            name.into()
        })
    }
}

/// Scales frames of one layout. An error of a device or of one frame is printed, and the service goes on.
struct Scaler {
    converter: Box<dyn Converter>,
    plan: Arc<Plan>,
    pool: Pool,
    /// The frames of the jobs in flight, in order.
    sources: VecDeque<Frame>,
    /// What was printed last: a device that stays lost fails with every frame.
    printed: String,
}

impl Scaler {
    fn new(o: &Options, source: &Layout) -> Result<Self> {
        let request = Request::convert(Layer::default().fit(o.scaling)).background(Some(MARGIN));
        let is_wanted = |name: &str| o.backend.as_deref().map_or(true, |wanted| name.split(' ').next() == Some(wanted));
        let wanted = candidates().filter(|c| match c {
            Ok(converter) => is_wanted(converter.name()),
            Err(refusal) => is_wanted(&refusal.backend),
        });
        let choice =
            first_of(wanted, |converter| Plan::new(&request, &[*source], &converter.target_layout(o.to, o.size)?))?;
        // What a device writes must be a dma-buf.
        let allocator = Allocator::for_devices().unwrap_or(Allocator::Memfd);
        let pool = Pool::new(&allocator, *choice.plan.target(), o.buffers)?;
        let (plan, sources) = (Arc::new(choice.plan), VecDeque::new());
        Ok(Self { converter: choice.converter, plan, pool, sources, printed: String::new() })
    }

    /// Begins a job. `false`: the frame is skipped.
    fn begin(&mut self, frame: Frame) -> bool {
        let Some(target) = self.pool.try_acquire() else { return false };
        match self.converter.try_submit(&self.plan, std::slice::from_ref(&frame), target) {
            Ok(submitted) if submitted.is_taken() => {
                self.sources.push_back(frame);
                true
            }
            Ok(_) => false,
            Err(rejected) => {
                self.report(&rejected.error);
                false
            }
        }
    }

    /// Returns the next result whose source was valid to the end.
    fn finished(&mut self) -> Option<Frame> {
        loop {
            match self.converter.try_recv() {
                Ok(Received::Item(ConverterEvent::Frame(result))) => {
                    if self.sources.pop_front().is_some_and(|source| source.is_valid()) {
                        self.printed.clear();
                        return Some(result);
                    }
                }
                Ok(Received::Item(ConverterEvent::Failed { error, .. })) => {
                    self.sources.pop_front();
                    self.report(&error);
                }
                Ok(Received::Item(ConverterEvent::Lost(error))) => self.report(&error),
                Ok(Received::Item(ConverterEvent::Returned)) => {
                    if let Err(error) = self.converter.reopen() {
                        self.report(&error);
                    }
                }
                Ok(Received::Item(_)) => {}
                Ok(Received::Nothing | Received::Ended) => return None,
                Err(error) => {
                    self.report(&error);
                    return None;
                }
            }
        }
    }

    fn report(&mut self, error: &framelease::Error) {
        let text = format!("{}: {error}", self.converter.name());
        if text != self.printed {
            eprintln!("{text}");
            self.printed = text;
        }
    }
}

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<()> {
    let Some(o) = Options::parse()? else { return Ok(()) };
    let (stop, output) = (common::stop_flag()?, o.output());
    // One frame is in the converter while the next arrives.
    let builder = Subscriber::builder(&o.input).hold(2).reconnect(Reconnect::Always);
    let mut subscriber = builder.connect(PATIENCE)?;
    let mut publisher = Publisher::builder(&output).reserve(2).bind()?;
    let (mut scaler, mut skipped, mut is_pausing): (Option<Scaler>, u64, bool) = (None, 0, false);
    let (mut progress, start) = (Progress::new(), Instant::now());
    while publisher.stats().published < o.frames && !stopped(&stop) {
        let fds = [Some(subscriber.as_fd()), Some(publisher.as_fd()), scaler.as_ref().map(|s| s.converter.as_fd())];
        let mut fds: Vec<PollFd> = fds.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::from(500u16)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        common::serve(&mut publisher)?;
        match subscriber.try_recv()? {
            Received::Item(SubscriberEvent::Format(buffers)) => {
                if scaler.as_ref().map_or(true, |scaler| scaler.plan.sources() != [*buffers.layout()]) {
                    // The old buffers may be needed for the new ones.
                    scaler = None;
                    match Scaler::new(&o, buffers.layout()) {
                        Ok(new) => {
                            let (name, target) = (new.converter.name(), new.plan.target());
                            eprintln!("{} to {target} by {name}, at {}", buffers.layout(), output.display());
                            publisher.announce(new.pool.buffers())?;
                            scaler = Some(new);
                        }
                        // The next format may be a better one.
                        Err(e) if publisher.stats().published > 0 => eprintln!("{}: {e}", buffers.layout()),
                        Err(e) => return Err(e),
                    }
                }
            }
            Received::Item(SubscriberEvent::Frame(frame)) => {
                is_pausing = false;
                skipped += u64::from(!scaler.as_mut().is_some_and(|scaler| scaler.begin(frame)));
            }
            Received::Item(SubscriberEvent::Paused) => is_pausing = true,
            Received::Item(SubscriberEvent::Lost(e)) => {
                eprintln!("waiting for the publisher: {e}");
                is_pausing = true;
            }
            Received::Item(_) | Received::Nothing => {}
            Received::Ended => break,
        }
        while let Some(result) = scaler.as_mut().and_then(Scaler::finished) {
            // No subscriber may block this publisher, so it always has room.
            let _ = publisher.try_publish(result)?;
        }
        // After the last result: the next one would continue the stream.
        if is_pausing && scaler.as_ref().map_or(true, |scaler| scaler.converter.in_flight() == 0) {
            is_pausing = !publisher.pause(Duration::ZERO)?;
        }
        progress.show(|| {
            let (published, active) = (publisher.stats().published, publisher.active());
            let missed = skipped + subscriber.stats().dropped;
            format!("{published} frames, {active} subscribers, {missed} frames came too fast")
        });
    }
    progress.done();
    let missed = skipped + subscriber.stats().dropped;
    let (published, seconds) = (publisher.stats().published, start.elapsed().as_secs_f64());
    let backend = scaler.as_ref().map_or("", |scaler| scaler.converter.name());
    let bytes = cpu_bytes();
    let touched = bytes.read + bytes.written;
    if o.json {
        println!(
            "{{\"frames\":{published},\"missed\":{missed},\"backend\":{},\"seconds\":{seconds:.1},\
             \"cpu_bytes_touched\":{touched}}}",
            common::quoted(backend)
        );
    } else {
        println!(
            "{published} frames in {seconds:.1} s, {missed} came too fast; {touched} bytes touched by the CPU ({backend})"
        );
    }
    Ok(())
}
