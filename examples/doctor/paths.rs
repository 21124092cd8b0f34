//! The ways of a frame, each in a process of its own, which prints what it counted.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::capture::{Camera, CameraBuilder, CameraEvent, Fit, FrameSource};
use framelease::codec::{negotiate, source_layout, Encoder, EncoderEvent, Params, SourceMemory};
use framelease::convert::{candidates, Converter, ConverterEvent, Layer, Plan, Request};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::drm::{LayerRequirements, Scanout};
use framelease::format::{FourCc, FrameInterval, Layout, Size};
use framelease::frame::{BufferSet, Frame, Pool};
use framelease::share::{Publisher, Subscriber, SubscriberEvent};
use framelease::stats::syscalls;
use framelease::v4l2::{Device, Direction};
use framelease::{wait, Received, Station, Submit, Submitted};

use super::ages::Ages;
use super::common::Result;
use super::findings::Counts;
use super::meter::{Meter, LATENCY, SYSTEM_CALLS};
use super::options::Options;

pub const SUBSCRIBER: &str = "--subscriber";
/// Best first.
pub const FORMATS: [FourCc; 4] = [FourCc::NV12, FourCc::YUYV, FourCc::UYVY, FourCc::XBGR32];
const WAIT: Duration = Duration::from_secs(10);
/// The camera's, and those of each pool.
const BUFFERS: usize = 12;
/// Frames until all is mapped, attached and warm.
const WARM: u64 = 20;
/// The most frames whose age is looked at, after those that are counted.
const AGED: u64 = 100;
/// Frames before these: some have waited while the counts were read.
const SETTLE: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Takes frames and gives them back: what all others do, too.
    Capture,
    /// The same in the format that the display takes.
    CaptureShown,
    /// To this number of other processes.
    Share(usize),
    Encode,
    Display,
    ConvertEncode,
}

pub const PATHS: [Path; 7] = [
    Path::Capture,
    Path::Share(1),
    Path::Share(3),
    Path::Encode,
    Path::ConvertEncode,
    Path::CaptureShown,
    Path::Display,
];

impl Path {
    pub fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::CaptureShown => "capture-shown",
            Self::Share(1) => "share-1",
            Self::Share(_) => "share-3",
            Self::Encode => "encode",
            Self::Display => "display",
            Self::ConvertEncode => "convert-encode",
        }
    }

    /// The capture alone that is part of it; itself if it is one.
    pub fn capture(self) -> Self {
        match self {
            Self::Display | Self::CaptureShown => Self::CaptureShown,
            _ => Self::Capture,
        }
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let names = || PATHS.map(Self::name).join(", ");
        PATHS.into_iter().find(|p| p.name() == s).ok_or_else(|| format!("there are {}", names()))
    }
}

/// How frames go from one stage to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    DmaBuf,
    Copy,
}

impl Memory {
    pub fn name(self) -> &'static str {
        match self {
            Self::DmaBuf => "dmabuf",
            Self::Copy => "copy",
        }
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let both = [Self::DmaBuf, Self::Copy];
        both.into_iter().find(|m| m.name() == s).ok_or_else(|| "dmabuf or copy".into())
    }
}

/// Between two stages: nothing, or buffers of the next one to copy into.
struct Hand(Option<Pool>);

impl Hand {
    fn new(memory: Memory, pool: impl FnOnce() -> Result<Pool>) -> Result<Self> {
        Ok(Self(if memory == Memory::Copy { Some(pool()?) } else { None }))
    }

    /// What the next stage gets frames from.
    fn buffers<'a>(&'a self, before: &'a BufferSet) -> &'a BufferSet {
        self.0.as_ref().map_or(before, Pool::buffers)
    }

    fn on(&self, frame: Frame) -> Result<Frame> {
        let Some(pool) = &self.0 else { return Ok(frame) };
        let mut copy = pool.try_acquire().ok_or("every buffer to copy into is leased")?;
        copy.write(DEFAULT_WAIT)?.copy_frame(&frame.read(DEFAULT_WAIT)?)?;
        Ok(copy.freeze(*frame.meta()))
    }
}

/// One run. Prints counts, lost frames, devices.
pub fn run(o: &Options, path: Path, memory: Memory) -> Result<()> {
    let (Counted { counts, lost }, driver, devices) = match path {
        Path::Capture => capture(o)?,
        Path::Share(consumers) => share(o, consumers, memory)?,
        Path::Encode => encode(o, memory)?,
        Path::CaptureShown => display(o, memory, false)?,
        Path::Display => display(o, memory, true)?,
        Path::ConvertEncode => convert_encode(o, memory)?,
    };
    counts.iter().for_each(|count| print!("{count} "));
    println!("{lost} {driver}{devices}");
    Ok(())
}

struct Counted {
    counts: Counts,
    /// Frames that the camera lost meanwhile.
    lost: u64,
}

/// The driver of the camera, and those of the other devices.
type Done = (Counted, String, String);

fn driver(camera: &Camera) -> String {
    camera.device().info().driver.clone()
}

fn each(
    o: &Options,
    camera: &mut Camera,
    children: &[Child],
    mut take: impl FnMut(Frame) -> Result<()>,
) -> Result<Counted> {
    let mut meter = Meter::new(children, o.bus)?;
    for at in 0..WARM + o.frames {
        if at == WARM {
            meter.begin()?;
        }
        take(next(camera)?)?;
    }
    Ok(Counted { counts: meter.end(o.frames)?, lost: camera.stats().lost })
}

fn next(camera: &mut Camera) -> Result<Frame> {
    match camera.recv(WAIT)? {
        Received::Item(CameraEvent::Frame(frame)) => Ok(frame),
        other => Err(format!("{other:?} from {} instead of a frame", camera.device()).into()),
    }
}

/// Adds the age of frames when `arrive` returns.
fn age(
    counted: &mut Counted,
    o: &Options,
    camera: &mut Camera,
    mut arrive: impl FnMut(Frame) -> Result<()>,
) -> Result<()> {
    let mut ages = Ages::default();
    for at in 0..SETTLE + o.frames.min(AGED) {
        let frame = next(camera)?;
        let (time, flags) = (frame.meta().timestamp_ns, frame.meta().flags);
        arrive(frame)?;
        if at >= SETTLE {
            ages.note(time, flags);
        }
    }
    counted.counts[LATENCY].copy_from_slice(&ages.figures());
    Ok(())
}

/// Adds the age of frames when the encoder has their packets, which may be several frames later. Looks at them for at
/// most ten seconds. `prepare` makes the encoder's frame of a camera's.
fn age_of_packets(
    counted: &mut Counted,
    o: &Options,
    camera: &mut Camera,
    encoder: &mut Encoder,
    mut prepare: impl FnMut(Frame) -> Result<Frame>,
) -> Result<()> {
    let (mut ages, mut packets, start) = (Ages::default(), 0, Instant::now());
    while packets < SETTLE + o.frames.min(AGED) && start.elapsed() < WAIT {
        wait(&[&*camera, &*encoder], WAIT)?;
        while let Received::Item(event) = encoder.try_recv()? {
            if let EncoderEvent::Packet(packet) = event {
                packets += 1;
                if packets > SETTLE {
                    ages.note(packet.meta().timestamp_ns, packet.meta().flags);
                }
            }
        }
        if let Received::Item(CameraEvent::Frame(frame)) = camera.try_recv()? {
            let _ = encoder.try_submit(prepare(frame)?)?;
        }
    }
    counted.counts[LATENCY].copy_from_slice(&ages.figures());
    Ok(())
}

fn device(o: &Options) -> Result<Device> {
    Ok(match &o.camera {
        Some(path) => Device::open(path)?,
        None => Device::find(|d| d.is_capture())?,
    })
}

fn builder(o: &Options, device: Device) -> CameraBuilder {
    Camera::builder().device(device).interval(FrameInterval::from_fps(o.fps)).buffers(BUFFERS)
}

fn camera(o: &Options) -> Result<Camera> {
    Ok(builder(o, device(o)?).formats(FORMATS).size(o.size).fit(Fit::Exact).open()?)
}

/// Dma-bufs that the CPU may fill and devices import.
fn pool(layout: Layout) -> Result<Pool> {
    Ok(Pool::new(&Allocator::for_devices()?, layout, BUFFERS)?)
}

fn capture(o: &Options) -> Result<Done> {
    let mut camera = camera(o)?;
    let mut counted = each(o, &mut camera, &[], |_| Ok(()))?;
    age(&mut counted, o, &mut camera, |_| Ok(()))?;
    Ok((counted, driver(&camera), String::new()))
}

fn share(o: &Options, consumers: usize, memory: Memory) -> Result<Done> {
    let folder = std::env::temp_dir().join(format!("framelease-doctor-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let done = share_in(o, consumers, memory, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    done
}

fn share_in(o: &Options, consumers: usize, memory: Memory, folder: &FilePath) -> Result<Done> {
    let mut camera = camera(o)?;
    let layout = *camera.layout()?;
    let hand = Hand::new(memory, || Ok(Pool::new(&Allocator::Memfd, layout, BUFFERS)?))?;
    let socket = folder.join("socket");
    let mut publisher = Publisher::builder(&socket).bind()?;
    publisher.announce(hand.buffers(camera.buffers()?))?;
    let start = || {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(SUBSCRIBER)
            .arg(&socket)
            .arg((WARM + o.frames + SETTLE).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut children = (0..consumers).map(|_| start()).collect::<std::io::Result<Vec<Child>>>()?;
    while publisher.active() < consumers {
        drop(publisher.recv(Duration::from_millis(10))?);
        if children.iter_mut().any(|c| c.try_wait().is_ok_and(|status| status.is_some())) {
            return Err("a subscriber ended too early".into());
        }
    }
    let mut publish = |frame| -> Result<()> { Ok(publisher.publish(hand.on(frame)?, WAIT).map(drop)?) };
    let mut counted = each(o, &mut camera, &children, &mut publish)?;
    for _ in 0..SETTLE + o.frames.min(AGED) {
        publish(next(&mut camera)?)?;
    }
    publisher.pause(WAIT)?;
    let latencies = &mut Vec::new();
    for child in children {
        let out = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        let words: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [calls, half, most] = words[..] else { return Err("a subscriber failed".into()) };
        counted.counts[SYSTEM_CALLS] += calls;
        latencies.push([half, most]);
    }
    // Of the subscriber that waited longest.
    let longest = |i: usize| latencies.iter().map(|l| l[i]).fold(f64::NAN, f64::max);
    counted.counts[LATENCY].copy_from_slice(&[longest(0), longest(1)]);
    Ok((counted, driver(&camera), String::new()))
}

/// Takes frames and gives them back until the stream ends; prints its system calls for a frame, and how old the frames
/// after the first ones were when they came.
pub fn subscribe(socket: &FilePath, first_frames: u64) -> Result<()> {
    let mut subscriber = Subscriber::builder(socket).connect(WAIT)?;
    let (mut frames, mut first, mut ages) = (0u32, None, Ages::default());
    loop {
        match subscriber.recv(WAIT)? {
            Received::Item(SubscriberEvent::Frame(frame)) => {
                frames += 1;
                first.get_or_insert_with(syscalls);
                if u64::from(frames) > first_frames {
                    ages.note(frame.meta().timestamp_ns, frame.meta().flags);
                }
            }
            Received::Item(SubscriberEvent::Paused) | Received::Ended => break,
            Received::Item(_) => {}
            Received::Nothing => return Err("the publisher is silent".into()),
        }
    }
    let first = first.filter(|_| frames > 1).ok_or("no frames came")?;
    let (calls, [half, most]) = ((syscalls() - first) as f64 / f64::from(frames - 1), ages.figures());
    Ok(writeln!(std::io::stdout(), "{calls} {half} {most}")?)
}

fn params(o: &Options, size: Size) -> Params {
    Params::new(o.codec, size).interval(FrameInterval::from_fps(o.fps))
}

fn encoder_device(o: &Options) -> Result<Device> {
    Ok(match &o.encoder {
        Some(path) => Device::open(path)?,
        None => Encoder::find(o.codec)?,
    })
}

/// Gives the encoder a frame, and takes the packets that are there.
fn feed(encoder: &mut Encoder, frame: Frame) -> Result<()> {
    let (start, mut waiting) = (Instant::now(), frame);
    while start.elapsed() < WAIT {
        while encoder.try_recv()?.item().is_some() {}
        match encoder.submit(waiting, WAIT)? {
            Submitted::Taken => return Ok(()),
            // A packet is to be taken first.
            Submitted::Full(frame) => waiting = frame,
        }
    }
    Err("the encoder is stuck".into())
}

fn encode(o: &Options, memory: Memory) -> Result<Done> {
    let (device, coder) = (device(o)?, encoder_device(o)?);
    let params = params(o, o.size);
    let agreement = negotiate(&coder, &device, &params, &FORMATS)?;
    let mut builder = builder(o, device).layout(&agreement.source);
    if agreement.memory == SourceMemory::Allocated {
        builder = builder.allocator(Allocator::for_devices()?);
    }
    let mut camera = builder.open()?;
    let hand = Hand::new(memory, || pool(agreement.source))?;
    let params = params.resized(agreement.size);
    let mut encoder = Encoder::builder(params).device(coder).open(hand.buffers(camera.buffers()?))?;
    let mut counted = each(o, &mut camera, &[], |frame| feed(&mut encoder, hand.on(frame)?))?;
    age_of_packets(&mut counted, o, &mut camera, &mut encoder, |frame| hand.on(frame))?;
    Ok((counted, driver(&camera), format!(" {}", encoder.device().info().driver)))
}

fn display(o: &Options, memory: Memory, shows: bool) -> Result<Done> {
    let mut screen = match Scanout::builder().size(o.size).open() {
        Err(e) if e.kind() == framelease::ErrorKind::NotFound => Scanout::builder().open()?,
        done => done?,
    };
    let device = device(o)?;
    let offers = device.formats(Direction::Capture)?;
    let mut formats: Vec<FourCc> = offers.iter().map(|f| f.fourcc).filter(|f| f.drm().is_some()).collect();
    // Not in the driver's order, where few bits may come first.
    formats.sort_by_key(|f| FORMATS.iter().position(|b| b == f).unwrap_or(FORMATS.len()));
    let layer = screen.add_layer(&LayerRequirements::new(formats, o.size))?;
    let dumb = Hand::new(memory, || Ok(screen.device().dumb_pool(layer.fourcc(), o.size, BUFFERS)?))?;
    let builder = builder(o, device);
    let builder = match &dumb.0 {
        Some(pool) => builder.layout(pool.buffers().layout()),
        None => builder.formats([layer.fourcc()]).size(o.size).fit(Fit::Exact),
    };
    let mut camera = builder.open()?;
    // The same buffers, and the camera's colors.
    let buffers = dumb.buffers(camera.buffers()?).clone();
    let memory_of = |slot| buffers.memory(slot).to_vec();
    let layout = *camera.layout()?;
    let hand = Hand::new(memory, || Ok(Pool::from_memory(layout, (0..BUFFERS).map(memory_of).collect())?))?;
    let show = |screen: &mut Scanout, frame| -> Result<()> {
        if shows {
            let _ = screen.present_frame(layer, hand.on(frame)?, WAIT)?;
        }
        Ok(())
    };
    let mut counted = each(o, &mut camera, &[], |frame| show(&mut screen, frame))?;
    age(&mut counted, o, &mut camera, |frame| {
        show(&mut screen, frame)?;
        // Waits for the flip.
        Ok(screen.present(WAIT).map(drop)?)
    })?;
    Ok((counted, driver(&camera), format!(" {}", screen.device().info().driver)))
}

/// Scales to a quarter of the picture, with a converter other than the CPU.
fn convert_encode(o: &Options, memory: Memory) -> Result<Done> {
    let mut camera = camera(o)?;
    let even = |side: u32| (side / 2) & !15;
    let (coder, params) = (encoder_device(o)?, params(o, Size::new(even(o.size.width), even(o.size.height))));
    let wanted = source_layout(&coder, &params, FORMATS[0])?.with_colorimetry(camera.layout()?.colorimetry());
    let layout = *camera.layout()?;
    let plan = Arc::new(Plan::new(&Request::compose(vec![Layer::default()]), &[layout], &wanted)?);
    let mut converter = converter(&plan)?;
    let (before, drawn) = (Hand::new(memory, || pool(layout))?, pool(wanted)?);
    let behind = Hand::new(memory, || pool(wanted))?;
    let mut encoder = Encoder::builder(params).device(coder).open(behind.buffers(drawn.buffers()))?;
    let mut convert = |frame| -> Result<Frame> {
        let target = drawn.try_acquire().ok_or("every target is leased")?;
        if !converter.try_submit(&plan, &[before.on(frame)?], target)?.is_taken() {
            return Err("the converter has no room".into());
        }
        match converter.recv(WAIT)? {
            Received::Item(ConverterEvent::Frame(frame)) => behind.on(frame),
            other => Err(format!("{other:?} instead of a converted frame").into()),
        }
    };
    let mut counted = each(o, &mut camera, &[], |frame| feed(&mut encoder, convert(frame)?))?;
    age_of_packets(&mut counted, o, &mut camera, &mut encoder, convert)?;
    let devices = format!(" {} {}", converter.name().replace(' ', "-"), encoder.device().info().driver);
    Ok((counted, driver(&camera), devices))
}

fn converter(plan: &Plan) -> Result<Box<dyn Converter>> {
    let mut refused = String::new();
    for candidate in candidates() {
        match candidate.map_err(|r| r.error).and_then(|c| c.check(plan).map(|()| c)) {
            Ok(c) if c.name() == "cpu" => break,
            Ok(c) => return Ok(c),
            Err(e) => refused += &format!("; {e}"),
        }
    }
    Err(format!("no device converts this{refused}").into())
}
