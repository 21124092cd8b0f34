//! The devices that tests need, freshly loaded, and the rule for missing devices.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framelease::capture::{Camera, CameraBuilder, CameraEvent};
use framelease::format::{FourCc, FrameInterval, Layout, Size};
use framelease::frame::Frame;
use framelease::v4l2::{Control, ControlValue, Device};
use framelease::Error;
use framelease::{Received, Station, SubmitResult};

/// The drivers that the lab loads. Tests that change a device load its driver again.
pub const VIVID: &str = "n_devs=2 node_types=0x101,0x101 multiplanar=1,2 cache_hints=1,1";

pub const SMALL: Size = Size::new(640, 360);

/// Returns a device that a test needs. If it is missing, the test fails where the lab promises it; elsewhere it prints
/// a skip.
pub fn needed<T>(what: &str, found: Result<T, String>) -> Option<T> {
    let why = match found {
        Ok(device) => return Some(device),
        Err(why) => why,
    };
    let promised = std::env::var("FRAMELEASE_LAB_PROMISES").unwrap_or_default();
    assert!(!promised.split_whitespace().any(|p| p == what), "the lab promises {what}: {why}");
    // Not `eprintln!`, which the test harness captures.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
    None
}

/// Checks for a file that a test needs.
pub fn needed_path(what: &str, path: &str) -> Option<()> {
    needed(what, Path::new(path).exists().then_some(()).ok_or_else(|| format!("{path} does not exist")))
}

/// Starts a program. [`ended`] takes its output.
pub fn start(program: &str, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Waits for a program to end and returns its output. A program that does not end is killed and fails the test.
pub fn ended(mut child: Child) -> Output {
    // The lab gives up on a guest that prints nothing for 60 seconds.
    const LIMIT: Duration = Duration::from_secs(50);
    fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
        // Read while the program runs: a full pipe would block it.
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            bytes
        })
    }
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            None if start.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(5)),
            status => break status,
        }
    };
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let text = |bytes| String::from_utf8_lossy(bytes);
    let status = status.unwrap_or_else(|| panic!("killed after {LIMIT:?}: {}{}", text(&stdout), text(&stderr)));
    Output { status, stdout, stderr }
}

/// Runs a program and returns its standard output. If the program fails, the test fails.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = ended(start(program, args));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

/// Checks that a program is installed.
pub fn program(name: &str) -> Option<()> {
    let found = Command::new(name).arg("--help").output().map(drop);
    needed(name, found.map_err(|e| e.to_string()))
}

/// Selects the nodes of one of the two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planar {
    Single,
    Multi,
}

/// Loads vivid again in the lab, so that a test does not see the settings of another.
pub fn reload_vivid(parameters: &str) {
    reload("vivid", parameters);
}

/// Loads a driver again in the lab.
pub fn reload(driver: &str, parameters: &str) {
    if std::env::var_os("FRAMELEASE_LAB_PROMISES").is_none() {
        return;
    }
    unload(driver);
    let words: Vec<&str> = std::iter::once(driver).chain(parameters.split_whitespace()).collect();
    run("modprobe", &words);
}

/// Unloads a driver in the lab.
pub fn unload(driver: &str) {
    // A driver that is not loaded cannot be removed.
    if !Path::new("/sys/module").join(driver.replace('-', "_")).exists() {
        return;
    }
    // The kernel closes files a moment after the last descriptor.
    let removed = || ended(start("modprobe", &["-r", driver])).status.success();
    if !(0..50).any(|_| {
        removed() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }
    }) {
        run("modprobe", &["-r", driver]);
    }
}

/// vim2m. Every open file has its own settings.
pub fn vim2m() -> Option<Device> {
    let device = Device::find(|d| d.driver == "vim2m").map_err(|e| e.to_string());
    let device = needed("vim2m", device)?;
    // The default of 40 ms is meant for viewers.
    set(&device, "Transaction Time (msec)", 1);
    Some(device)
}

/// Unbinds vim2m's device, as if it were unplugged, while `test` runs.
pub fn unplugging_vim2m(test: impl FnOnce()) {
    let driver = Path::new("/sys/bus/platform/drivers/vim2m");
    let device = "vim2m.0";
    std::fs::write(driver.join("unbind"), device).unwrap();
    test();
    std::fs::write(driver.join("bind"), device).unwrap();
}

/// vicodec's nodes, loaded for one of the two APIs.
pub fn vicodec(planar: Planar) -> Option<()> {
    reload("vicodec", if planar == Planar::Multi { "multiplanar=1" } else { "" });
    let found = Device::find(|d| d.driver == "vicodec" && d.is_multi_planar() == (planar == Planar::Multi));
    needed("vicodec", found.map(drop).map_err(|e| e.to_string()))
}

/// vivid's capture node of one API, with default settings.
pub fn vivid(planar: Planar) -> Option<Device> {
    reload_vivid(VIVID);
    vivid_as_is(planar)
}

pub fn vivid_as_is(planar: Planar) -> Option<Device> {
    let found =
        Device::find(|d| d.driver == "vivid" && d.is_capture() && d.is_multi_planar() == (planar == Planar::Multi));
    needed("vivid", found.map_err(|e| e.to_string()))
}

/// vivid's output node of one API.
pub fn vivid_output(planar: Planar) -> Option<Device> {
    reload_vivid(VIVID);
    let found =
        Device::find(|d| d.driver == "vivid" && d.is_output() && d.is_multi_planar() == (planar == Planar::Multi));
    needed("vivid", found.map_err(|e| e.to_string()))
}

/// Selects vivid's HDMI input, which scales to any size, with a signal.
pub fn set_hdmi(device: &Device) {
    let inputs = device.inputs().unwrap();
    let hdmi = inputs.iter().find(|i| i.name.starts_with("HDMI")).expect("an HDMI input");
    device.set_input(hdmi.index).unwrap();
}

/// Returns a control by the name that its driver gives it.
pub fn control(device: &Device, name: &str) -> Control {
    let all = device.controls().unwrap();
    all.into_iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no control '{name}'"))
}

pub fn set(device: &Device, name: &str, value: impl Into<ControlValue>) {
    device.set_control(control(device, name).id, value).unwrap();
}

pub fn press(device: &Device, name: &str) {
    set(device, name, ControlValue::Press);
}

/// A pattern that does not change from frame to frame.
pub fn freeze_pattern(device: &Device) {
    set(device, "OSD Text Mode", 2);
}

pub fn fourcc(name: &str) -> FourCc {
    name.parse().unwrap()
}

/// A small, quick camera.
pub fn camera(device: &Device, format: &str) -> CameraBuilder {
    Camera::builder().device(device.clone()).formats([fourcc(format)]).size(SMALL).interval(FrameInterval::from_fps(60))
}

/// The next frame; anything else fails the test.
pub fn frame(camera: &mut Camera) -> Frame {
    match camera.recv(Duration::from_secs(5)) {
        Ok(Received::Item(CameraEvent::Frame(frame))) => frame,
        other => panic!("{other:?} instead of a frame"),
    }
}

/// Waits for an event and returns what `what` makes of it. Drops frames and other events before it.
pub fn told<T>(camera: &mut Camera, what: impl Fn(CameraEvent) -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if let Some(told) = camera.recv(Duration::from_secs(1)).unwrap().item().and_then(&what) {
            return told;
        }
    }
    panic!("the event does not come");
}

/// For [`told`]: the error of a lost device or signal.
pub fn lost(event: CameraEvent) -> Option<Error> {
    match event {
        CameraEvent::Lost(e) => Some(e),
        _ => None,
    }
}

/// The pixels of a frame.
pub fn pixels(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.read(Duration::from_secs(1)).unwrap().write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, frame.layout().pixel_bytes());
    bytes
}

/// A packed layout by the name of its format.
pub fn packed(format: &str, size: Size) -> Layout {
    Layout::packed(fourcc(format), size).unwrap()
}

/// Returns the number of dma-bufs in the machine.
pub fn dma_bufs() -> Option<u64> {
    let text = std::fs::read_to_string("/sys/kernel/debug/dma_buf/bufinfo").ok()?;
    let total = text.lines().rev().find_map(|l| l.strip_prefix("Total "))?;
    total.split(' ').next()?.parse().ok()
}

/// Returns how often the kernel calls a function while `test` runs. `bufinfo` does not list attachments here: all
/// drivers of the lab import in kernel memory.
pub fn calls_of(function: &str, test: impl FnOnce()) -> Option<u64> {
    let file = |name: &str| format!("/sys/kernel/debug/tracing/{name}");
    let probe = |line: &str| std::fs::write(file("kprobe_events"), line).map_err(|e| format!("{function}: {e}"));
    needed("kprobes", probe(&format!("p:framelease/calls {function}")))?;
    std::fs::write(file("events/framelease/calls/enable"), "1").unwrap();
    test();
    let profile = std::fs::read_to_string(file("kprobe_profile")).unwrap();
    std::fs::write(file("events/framelease/calls/enable"), "0").unwrap();
    // Opening it for writing removes the old probes.
    probe("").unwrap();
    let line = profile.lines().find(|l| l.trim_start().starts_with("calls ")).expect("the probe's line");
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The kernel function that attaches an imported dma-buf for vivid, vim2m and vicodec.
pub const ATTACH: &str = "vb2_vmalloc_attach_dmabuf";

/// Runs a test and fails if it leaves a dma-buf.
pub fn leaving_nothing<T>(test: impl FnOnce() -> T) -> T {
    let before = dma_bufs();
    let result = test();
    let mut after = dma_bufs();
    for _ in 0..50 {
        if after <= before {
            break;
        }
        // The kernel closes files a moment after the last descriptor.
        std::thread::sleep(Duration::from_millis(20));
        after = dma_bufs();
    }
    assert!(after <= before, "dma-bufs before {before:?}, after {after:?}");
    result
}

/// A submit that must find room.
pub trait Taken {
    fn taken(self);
}

impl<T: std::fmt::Debug> Taken for SubmitResult<T> {
    #[track_caller]
    fn taken(self) {
        assert!(self.unwrap().is_taken(), "the queue is full");
    }
}

/// Whether a station's descriptor is readable.
pub fn is_readable(station: &impl std::os::fd::AsFd) -> bool {
    let mut fds = [nix::poll::PollFd::new(station.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, 0u8).unwrap() == 1
}
