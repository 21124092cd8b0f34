//! A USB camera of the class UVC 1.1 that a test plugs in. The test chooses its formats, damages frames and refuses
//! requests. Its driver is uvcvideo. Its endpoint is bulk, because dummy_hcd does not transfer isochronously.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framelease::format::Size;
use framelease::v4l2::{self, Device};
use nix::errno::Errno;

use crate::devices::*;
use crate::raw_gadget::{interrupt, RawGadget, Setup};
use crate::uvc_descriptors::{self as descriptors, Format, Stream};

/// Bytes of a transfer. dummy_hcd completes one in a millisecond.
const PAYLOAD: usize = 1 << 16;
/// Time for the bus to find or forget a device.
const SOON: Duration = Duration::from_secs(20);

/// The damage of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The second half is missing.
    Short,
    /// The header has the error bit.
    ErrorBit,
    /// A header without data.
    Empty,
    /// More bytes than the largest frame.
    TooLong,
    /// The header lacks the bit that ends the frame.
    NoEnd,
}

/// The requests that the camera refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// To try a format.
    Probe,
    /// To try a rate other than the default of the size.
    Rate,
    /// To take a format.
    Commit,
    /// To set a control.
    Control,
}

/// A rule for the damage of a frame by its number.
type Rule = Box<dyn Fn(u64) -> Option<Damage> + Send>;

/// The content of a frame by its number.
type Pictures = Box<dyn Fn(u64) -> Vec<u8> + Send>;

/// A plugged camera. Its drop unplugs it.
pub struct Uvc {
    shared: Arc<Shared>,
    bus: Option<JoinHandle<()>>,
}

struct Shared {
    gadget: RawGadget,
    serial: &'static str,
    formats: Vec<Format>,
    state: Mutex<State>,
    /// Signals a change of `stream`, `is_idle` and `is_unplugged`.
    changed: Condvar,
    /// Held while a request is answered: the host may continue before its effect is in `state`.
    answering: Mutex<()>,
}

struct State {
    is_unplugged: bool,
    probed: Stream,
    /// The last PROBE asked for a rate other than the default of its size.
    is_odd_rate: bool,
    /// What the sender sends.
    stream: Option<Stream>,
    /// The sender has stopped.
    is_idle: bool,
    /// Frames that were sent, and those of them that were damaged.
    sent: u64,
    damaged: u64,
    rule: Rule,
    /// What [`Uvc::show`] has set.
    shown: Option<Pictures>,
    refusal: Option<Refusal>,
    brightness: u16,
    exposure: u32,
    /// `bAutoExposureMode`.
    exposure_mode: u8,
    /// `bRequestErrorCode` of the last request.
    error: u8,
}

/// `bAutoExposureMode`: automatic by the aperture. 1 is manual.
const APERTURE: u8 = 8;

impl Uvc {
    /// Plugs a camera in and waits for its nodes.
    pub fn plug(formats: &[Format]) -> Option<Self> {
        Self::plug_with(formats, false)
    }

    /// Plugs a camera in. Its driver gives damaged frames with the error flag, or drops them.
    pub fn plug_with(formats: &[Format], gives_damaged: bool) -> Option<Self> {
        needed("uvcvideo", load())?;
        // The driver reads it when it finds the camera.
        set_parameter("nodrop", if gives_damaged { "1" } else { "0" });
        wait("the last camera stays", || nodes() == 0);
        Some(Self::plug_into(0, "0001", formats))
    }

    /// Plugs a camera with a serial number into port 0 or 1, beside others.
    pub fn plug_into(port: u8, serial: &'static str, formats: &[Format]) -> Self {
        let before = nodes();
        let shared = Arc::new(Shared {
            gadget: RawGadget::plug(port).unwrap(),
            serial,
            formats: formats.to_vec(),
            state: Mutex::new(State {
                is_unplugged: false,
                probed: Stream::nearest(formats, &[0; 8]),
                is_odd_rate: false,
                stream: None,
                is_idle: false,
                sent: 0,
                damaged: 0,
                rule: Box::new(|_| None),
                shown: None,
                refusal: None,
                brightness: 128,
                exposure: 100,
                exposure_mode: APERTURE,
                error: 0,
            }),
            changed: Condvar::new(),
            answering: Mutex::new(()),
        });
        let bus = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || answer(&shared)
        });
        let uvc = Self { shared, bus: Some(bus) };
        // The second one is for metadata.
        wait("the camera does not appear", || nodes() == before + 2);
        uvc
    }

    /// The capture node, opened again.
    pub fn device(&self) -> Device {
        Device::find(|d| d.driver == DRIVER && d.is_capture()).unwrap()
    }

    /// Damages the frames for which `rule` names a damage, from the next frame on.
    pub fn damage(&self, rule: impl Fn(u64) -> Option<Damage> + Send + 'static) {
        let mut state = self.shared.state();
        (state.rule, state.damaged) = (Box::new(rule), 0);
    }

    /// Sends these pictures, from the next frame on.
    #[cfg_attr(not(feature = "mjpeg"), allow(dead_code))]
    pub fn show(&self, pictures: impl Fn(u64) -> Vec<u8> + Send + 'static) {
        self.shared.state().shown = Some(Box::new(pictures));
    }

    /// Frames that were damaged since the last [`Uvc::damage`].
    pub fn damaged(&self) -> u64 {
        self.shared.state().damaged
    }

    /// Refuses these requests from now on.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.shared.state().refusal = refusal;
    }

    /// The brightness and the exposure time that the camera has.
    pub fn controls(&self) -> (u16, u32) {
        let _answered = self.shared.answering.lock().unwrap();
        let state = self.shared.state();
        (state.brightness, state.exposure)
    }

    /// Unplugs the camera. Does not wait until its driver has noticed that.
    pub fn unplug(self) {}

    /// Unplugs the camera, and waits until its nodes are gone.
    pub fn unplug_and_wait(self) {
        let before = nodes();
        drop(self);
        wait("the camera stays", || nodes() < before);
    }
}

impl Drop for Uvc {
    fn drop(&mut self) {
        self.shared.state().is_unplugged = true;
        self.shared.changed.notify_all();
        if let Some(bus) = self.bus.take() {
            if end(bus).is_err() && !std::thread::panicking() {
                panic!("the camera failed");
            }
        }
    }
}

const DRIVER: &str = "uvcvideo";

/// Loads the drivers in the lab.
fn load() -> Result<(), String> {
    if std::env::var_os("FRAMELEASE_LAB_PROMISES").is_some() {
        for module in [&["dummy_hcd", "num=2"][..], &["raw_gadget"], &[DRIVER]] {
            ended(start("modprobe", module));
        }
    }
    let is_there = std::path::Path::new("/dev/raw-gadget").exists();
    is_there.then_some(()).ok_or_else(|| "/dev/raw-gadget does not exist".into())
}

/// Sets a parameter of uvcvideo.
pub fn set_parameter(name: &str, value: &str) {
    std::fs::write(format!("/sys/module/{DRIVER}/parameters/{name}"), value).unwrap();
}

fn nodes() -> usize {
    v4l2::devices().iter().filter(|d| d.driver == DRIVER).count()
}

fn wait(what: &str, is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Interrupts a thread until it has ended.
fn end(thread: JoinHandle<()>) -> std::thread::Result<()> {
    while !thread.is_finished() {
        interrupt(&thread);
        std::thread::sleep(Duration::from_millis(1));
    }
    thread.join()
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the host's control requests until the unplug.
fn answer(shared: &Arc<Shared>) {
    let mut sender = None;
    while !shared.state().is_unplugged {
        let done = match shared.gadget.next() {
            Ok(Some(setup)) => {
                let _answering = shared.answering.lock().unwrap();
                request(shared, &setup, &mut sender)
            }
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        // The host gave up a request, or this is the unplug.
        assert!(matches!(done, Ok(()) | Err(Errno::EINTR | Errno::EBUSY | Errno::ESHUTDOWN)), "{done:?}");
    }
    if let Some(sender) = sender {
        end(sender).unwrap();
    }
}

/// Kinds of requests, without the direction.
const STANDARD: u8 = 0x00;
const CLASS: u8 = 0x20;
const KIND: u8 = 0x60;
const TO_HOST: u8 = 0x80;

fn request(shared: &Arc<Shared>, setup: &Setup, sender: &mut Option<JoinHandle<()>>) -> Result<(), Errno> {
    const GET_DESCRIPTOR: u8 = 6;
    const SET_CONFIGURATION: u8 = 9;
    const SET_INTERFACE: u8 = 11;
    let gadget = &shared.gadget;
    match (setup.kind & KIND, setup.request) {
        (STANDARD, GET_DESCRIPTOR) => match setup.value.to_be_bytes() {
            [1, _] => gadget.reply(setup, &descriptors::DEVICE),
            [2, _] => gadget.reply(setup, &descriptors::configuration(&shared.formats)),
            [3, number] => gadget.reply(setup, &descriptors::string(number, shared.serial)),
            [6, _] => gadget.reply(setup, &descriptors::QUALIFIER),
            _ => gadget.stall(),
        },
        (STANDARD, SET_CONFIGURATION) => {
            if sender.is_none() {
                let endpoint = gadget.enable(descriptors::ENDPOINT)?;
                gadget.configured()?;
                let shared = Arc::clone(shared);
                *sender = Some(std::thread::spawn(move || send(&shared, endpoint)));
            }
            gadget.accept(setup).map(drop)
        }
        (STANDARD, SET_INTERFACE) => gadget.accept(setup).map(drop),
        (CLASS, _) if setup.index.to_le_bytes()[0] == descriptors::STREAMING_INTERFACE => {
            streaming(shared, setup, sender.as_ref())
        }
        (CLASS, _) => control(shared, setup),
        _ => gadget.stall(),
    }
}

/// Requests of the class.
const SET_CUR: u8 = 0x01;
const GET_CUR: u8 = 0x81;
const GET_MIN: u8 = 0x82;
const GET_MAX: u8 = 0x83;
const GET_RES: u8 = 0x84;
const GET_LEN: u8 = 0x85;
const GET_INFO: u8 = 0x86;
const GET_DEF: u8 = 0x87;

/// A request to the streaming interface: PROBE or COMMIT.
fn streaming(shared: &Shared, setup: &Setup, sender: Option<&JoinHandle<()>>) -> Result<(), Errno> {
    const COMMIT: u8 = 2;
    let (gadget, formats) = (&shared.gadget, &shared.formats);
    let is_commit = setup.value.to_be_bytes()[0] == COMMIT;
    let refusal = shared.state().refusal;
    match setup.request {
        SET_CUR if refusal == Some(if is_commit { Refusal::Commit } else { Refusal::Probe }) => gadget.stall(),
        SET_CUR => {
            if is_commit {
                end_stream(shared, sender);
            }
            let stream = Stream::nearest(formats, &gadget.accept(setup)?);
            let mut state = shared.state();
            state.probed = stream;
            let rates = &formats[stream.format].sizes[stream.size].fps;
            state.is_odd_rate = stream.interval != descriptors::interval(rates[0]);
            if is_commit {
                (state.stream, state.is_idle) = (Some(stream), false);
                shared.changed.notify_all();
            }
            Ok(())
        }
        GET_LEN => gadget.reply(setup, &[descriptors::PROBE_BYTES, 0]),
        GET_INFO => gadget.reply(setup, &[3]),
        request => {
            let (stream, is_odd_rate) = {
                let state = shared.state();
                (state.probed, state.is_odd_rate)
            };
            match request == GET_CUR && is_odd_rate && refusal == Some(Refusal::Rate) {
                true => gadget.stall(),
                false => gadget.reply(setup, &stream.probe(formats, PAYLOAD as u32)),
            }
        }
    }
}

/// Stops the sender, and takes back what it is sending. Otherwise the host would read that as the next stream.
fn end_stream(shared: &Shared, sender: Option<&JoinHandle<()>>) {
    let Some(sender) = sender else { return };
    let mut state = shared.state();
    state.stream = None;
    shared.changed.notify_all();
    while !state.is_idle && !state.is_unplugged {
        interrupt(sender);
        state = shared.changed.wait_timeout(state, Duration::from_millis(1)).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// A request to the control interface.
fn control(shared: &Shared, setup: &Setup) -> Result<(), Errno> {
    const ERROR_CODE: (u8, u8) = (0, 2);
    const EXPOSURE_MODE: (u8, u8) = (descriptors::CAMERA, 2);
    const EXPOSURE: (u8, u8) = (descriptors::CAMERA, 4);
    const BRIGHTNESS: (u8, u8) = (descriptors::PROCESSING, 2);
    const OUT_OF_RANGE: u8 = 4;
    let which = (setup.index.to_be_bytes()[0], setup.value.to_be_bytes()[0]);
    let gadget = &shared.gadget;
    let is_set = setup.kind & TO_HOST == 0;
    if is_set && shared.state().refusal == Some(Refusal::Control) {
        shared.state().error = OUT_OF_RANGE;
        return gadget.stall();
    }
    if is_set {
        let data = gadget.accept(setup)?;
        let number = data.iter().rev().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let mut state = shared.state();
        match which {
            EXPOSURE_MODE => state.exposure_mode = number as u8,
            EXPOSURE => state.exposure = number,
            BRIGHTNESS => state.brightness = number as u16,
            _ => {}
        }
        return Ok(());
    }
    let bytes = match which {
        EXPOSURE => 4,
        BRIGHTNESS => 2,
        _ => 1,
    };
    let number = {
        let state = shared.state();
        match (which, setup.request) {
            (ERROR_CODE, _) => state.error.into(),
            (_, GET_INFO) => 3,
            (_, GET_LEN) => bytes,
            (EXPOSURE_MODE, GET_CUR) => state.exposure_mode.into(),
            // All modes that the camera has.
            (EXPOSURE_MODE, GET_RES) => u32::from(APERTURE | 1),
            (EXPOSURE_MODE, GET_DEF) => APERTURE.into(),
            (EXPOSURE, GET_CUR) => state.exposure,
            (EXPOSURE, GET_MAX) => 10_000,
            (EXPOSURE, GET_DEF) => 100,
            (BRIGHTNESS, GET_CUR) => state.brightness.into(),
            (BRIGHTNESS, GET_MIN) => 0,
            (BRIGHTNESS, GET_MAX) => 255,
            (BRIGHTNESS, GET_DEF) => 128,
            _ => 1,
        }
    };
    let bytes = match setup.request {
        GET_INFO => 1,
        GET_LEN => 2,
        _ => bytes as usize,
    };
    gadget.reply(setup, &number.to_le_bytes()[..bytes])
}

/// Sends frames while the host reads, until the unplug.
fn send(shared: &Shared, endpoint: u16) {
    let mut state = shared.state();
    let mut frame_bit = 0;
    while !state.is_unplugged {
        let Some(stream) = state.stream else {
            state.is_idle = true;
            shared.changed.notify_all();
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let damage = (state.rule)(state.sent);
        let number = state.sent;
        state.sent += 1;
        state.damaged += u64::from(damage.is_some());
        let format = &shared.formats[stream.format];
        let size = format.sizes[stream.size].size;
        let data = state.shown.as_ref().map_or_else(|| picture(format, size, number), |shown| shown(number));
        drop(state);

        let due = Instant::now() + Duration::from_nanos(u64::from(stream.interval) * 100);
        for transfer in transfers(data, format.max_bytes(size), frame_bit, damage) {
            match shared.gadget.write(endpoint, &transfer) {
                Ok(()) => {}
                // A new stream begins, the bus was reset, or this is the unplug.
                Err(Errno::EINTR | Errno::ECONNRESET | Errno::ESHUTDOWN | Errno::EBUSY) => break,
                Err(e) => panic!("EP_WRITE: {e}"),
            }
        }
        frame_bit ^= 1;
        state = shared.state();
        while !state.is_unplugged && state.stream.is_some() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A frame as transfers. Each begins with a header of two bytes.
fn transfers(mut data: Vec<u8>, max_bytes: u32, frame_bit: u8, damage: Option<Damage>) -> Vec<Vec<u8>> {
    const ENDS: u8 = 2;
    const ERROR: u8 = 0x40;
    const HEADER_ENDS: u8 = 0x80;
    match damage {
        Some(Damage::Short) => data.truncate(data.len() / 2),
        Some(Damage::Empty) => data.clear(),
        Some(Damage::TooLong) => data.resize(max_bytes as usize + 1000, 0x77),
        _ => {}
    }
    let parts: Vec<&[u8]> = match data.is_empty() {
        true => vec![&data],
        false => data.chunks(PAYLOAD - 2).collect(),
    };
    let last = parts.len() - 1;
    let transfer = |(at, part): (usize, &&[u8])| {
        let ends = if at == last && damage != Some(Damage::NoEnd) { ENDS } else { 0 };
        let error = if damage == Some(Damage::ErrorBit) { ERROR } else { 0 };
        let mut transfer = vec![2, HEADER_ENDS | frame_bit | ends | error];
        transfer.extend(*part);
        transfer
    };
    parts.iter().enumerate().map(transfer).collect()
}

/// Returns the content of a frame: one value, which is its number. [`is_whole`] checks it.
fn picture(format: &Format, size: Size, number: u64) -> Vec<u8> {
    let content = number as u8 & 0x7f;
    match format.code {
        "MJPG" => {
            // Frames differ in length.
            let mut jpeg = vec![content; 20_000 + 100 * (number % 7) as usize];
            jpeg[..2].copy_from_slice(&[0xff, 0xd8]);
            let end = jpeg.len() - 2;
            jpeg[end..].copy_from_slice(&[0xff, 0xd9]);
            jpeg
        }
        "H264" => {
            let mut unit = vec![content | 1; 3000];
            // A slice of a P picture.
            unit[..6].copy_from_slice(&[0, 0, 0, 1, 0x41, 0x9a]);
            unit
        }
        _ => vec![content; format.max_bytes(size) as usize],
    }
}

/// Returns `true` for the bytes of one whole frame, as [`picture`] makes it.
pub fn is_whole(code: &'static str, size: Size, bytes: &[u8]) -> bool {
    let is_even = |bytes: &[u8]| bytes.iter().all(|byte| *byte == bytes[0]);
    match (code, bytes) {
        ("MJPG", [0xff, 0xd8, inside @ .., 0xff, 0xd9]) => is_even(inside),
        ("H264", [0, 0, 0, 1, 0x41, 0x9a, inside @ ..]) => bytes.len() == 3000 && is_even(inside),
        ("MJPG" | "H264", _) => false,
        _ => bytes.len() == descriptors::format(code, &[]).max_bytes(size) as usize && is_even(bytes),
    }
}
