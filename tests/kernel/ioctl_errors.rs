//! Tests with V4L2 drivers that refuse: every ioctl that a camera, a converter and an encoder make, once, in each way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::conformance::converting::Jobs;
use framelease::bitstream::Codec;
use framelease::capture::CameraEvent;
use framelease::capture::FrameSource;
use framelease::codec::{Encoder, EncoderEvent};
use framelease::convert::{ConverterEvent, Layer, M2m, Plan, Request};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::frame::{Frame, Pool};
use framelease::v4l2::Device;
use framelease::{ErrorKind, Received, Result, Station, Submit};
use nix::errno::Errno;

use crate::coding::{h264, params};
use crate::devices::*;
use crate::ioctls::{self, Fault};

const WAIT: Duration = Duration::from_secs(2);
const TINY: Size = Size::new(64, 48);
/// The result of a run that did not wait.
const NOTHING: usize = usize::MAX;
const ANSWERS: [Errno; 5] = [Errno::EINTR, Errno::ENODEV, Errno::EINVAL, Errno::ENOMEM, Errno::EBUSY];

/// Runs `life` again and again, each time with another ioctl refused: the first of its number, and the last.
fn refuse(name: &str, node: &Path, life: impl Fn() -> Result<usize>) {
    leaving_nothing(|| {
        let (whole, counts) = ioctls::counted(b'V', &life);
        let whole = whole.unwrap();
        let mut wrong = Vec::new();
        let (mut tried, mut failed) = (0, 0);
        for (number, &count) in counts.iter().enumerate().filter(|(_, &count)| count > 0) {
            for nth in if count > 1 { vec![1, count] } else { vec![1] } {
                for errno in ANSWERS {
                    let fault = Fault { kind: b'V', number: number as u8, nth, errno };
                    let done = ioctls::with(fault, &life);
                    let what = format!("{name}: {number} ({nth}) {errno}: {done:?}");
                    tried += 1;
                    failed += usize::from(done.is_err());
                    let is_well = match &done {
                        // An optional ioctl was refused, or the library repeated it.
                        Ok(got) if *got == whole => true,
                        // A lost device ends the waits for it. This one only refuses ioctls.
                        Ok(got) => *got == NOTHING && errno == Errno::ENODEV,
                        Err(e) if errno == Errno::EINTR => {
                            wrong.push(format!("a call that may be repeated: {what}"));
                            e.errno().is_some()
                        }
                        Err(e) => {
                            let text = e.to_string();
                            let names = text.contains(&*node.to_string_lossy()) || text.contains(name);
                            let lost = errno == Errno::ENODEV && e.errno() == Some(Errno::ENODEV as i32);
                            names && (!lost || e.kind() == ErrorKind::DeviceLost)
                        }
                    };
                    if !is_well {
                        wrong.push(what);
                    }
                }
            }
        }
        println!("{name}: {tried} refusals, {failed} of them reported");
        assert!(wrong.is_empty() && tried > 50 && failed > 20, "{}", wrong.join("\n"));
        // The same device works afterwards.
        assert_eq!(life().unwrap(), whole);
    });
}

#[test]
fn camera_survives_each_refused_ioctl() {
    let Some(device) = vivid(Planar::Multi) else { return };
    let node = device.info().path.clone();
    drop(device);
    refuse("vivid", &node, || {
        let mut camera = camera(&Device::open(&node)?, "NV12").buffers(4).open()?;
        let mut frames = 0;
        while frames < 2 {
            match camera.recv(WAIT)? {
                Received::Item(CameraEvent::Frame(_)) => frames += 1,
                Received::Item(CameraEvent::Lost(e)) => return Err(e),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(camera.stats().leased, 0);
        Ok(frames)
    });
}

/// Gray pictures.
fn grey(pool: &Pool, sequence: u64) -> Frame {
    let mut frame = pool.acquire(WAIT).expect("every buffer came back");
    let layout = *frame.layout();
    let mut write = frame.write(DEFAULT_WAIT).unwrap();
    for plane in 0..layout.planes().len() {
        for y in 0..layout.rows(plane) {
            write.copy_row(plane, y, &vec![128; layout.row_bytes(plane) as usize]).unwrap();
        }
    }
    drop(write);
    frame.freeze_full(sequence, sequence * 1_000_000)
}

#[test]
fn encoder_survives_each_refused_ioctl() {
    let (Some(device), Some(())) = (h264(""), needed_path("udmabuf", "/dev/udmabuf")) else { return };
    let node = device.info().path.clone();
    drop(device);
    let pool = Pool::new(&Allocator::Udmabuf, packed("NV12", TINY), 3).unwrap();
    refuse("fl_h264", &node, || {
        let done = (|| {
            let mut encoder =
                Encoder::builder(params(Codec::H264, TINY)).device(Device::open(&node)?).open(pool.buffers())?;
            for i in 0..3 {
                let _ = encoder.try_submit(grey(&pool, i)).map_err(|rejected| rejected.error)?;
            }
            encoder.drain()?;
            let mut packets = 0;
            loop {
                match encoder.recv(WAIT)? {
                    Received::Item(EncoderEvent::Packet(_)) => packets += 1,
                    Received::Item(EncoderEvent::Lost(e)) => return Err(e),
                    Received::Nothing => return Ok(NOTHING),
                    _ => return Ok(packets),
                }
            }
        })();
        assert_eq!(pool.buffers().leased(), 0, "{done:?}");
        done
    });
}

#[test]
fn converter_survives_each_refused_ioctl() {
    let device = Device::find(|d| d.driver == "fl_scaler").map_err(|e| e.to_string());
    let (Some(device), Some(())) = (needed("fl_scaler", device), needed_path("udmabuf", "/dev/udmabuf")) else {
        return;
    };
    let node = device.info().path.clone();
    drop(device);
    let from = Pool::new(&Allocator::Udmabuf, packed("NV12", TINY), 2).unwrap();
    let to = Pool::new(&Allocator::Udmabuf, packed("NV12", Size::new(128, 96)), 2).unwrap();
    let layouts = (*from.buffers().layout(), *to.buffers().layout());
    let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[layouts.0], &layouts.1).unwrap());
    refuse("fl_scaler", &node, || {
        let done = (|| {
            let mut m2m = M2m::new(&Device::open(&node)?)?;
            for i in 0..2 {
                let target = to.acquire(WAIT).expect("every buffer came back");
                m2m.begin(&plan, &[grey(&from, i)], target).map_err(|rejected| rejected.error)?;
                drop(m2m.done(WAIT).map_err(|rejected| rejected.error)?);
            }
            Ok(2)
        })();
        assert_eq!((from.buffers().leased(), to.buffers().leased()), (0, 0), "{done:?}");
        done
    });
}

#[test]
fn converter_reports_a_loss_that_the_target_of_a_job_finds() {
    let device = Device::find(|d| d.driver == "fl_scaler").map_err(|e| e.to_string());
    let (Some(device), Some(())) = (needed("fl_scaler", device), needed_path("udmabuf", "/dev/udmabuf")) else {
        return;
    };
    leaving_nothing(|| {
        let from = Pool::new(&Allocator::Udmabuf, packed("NV12", TINY), 2).unwrap();
        let to = Pool::new(&Allocator::Udmabuf, packed("NV12", Size::new(128, 96)), 2).unwrap();
        let layouts = (*from.buffers().layout(), *to.buffers().layout());
        let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[layouts.0], &layouts.1).unwrap());
        let mut m2m = M2m::new(&device).unwrap();
        m2m.begin(&plan, &[grey(&from, 0)], to.acquire(WAIT).unwrap()).unwrap();
        drop(m2m.done(WAIT).unwrap());
        // The device disappears after VIDIOC_QBUF of the source.
        let fault = Fault { kind: b'V', number: 15, nth: 2, errno: Errno::ENODEV };
        let (source, target) = (grey(&from, 1), to.acquire(WAIT).unwrap());
        ioctls::with(fault, || {
            let rejected = m2m.begin(&plan, &[source], target).unwrap_err();
            assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
            drop(rejected);
            let told = m2m.recv(WAIT).unwrap();
            assert!(matches!(told, Received::Item(ConverterEvent::Lost(_))), "{told:?}");
            assert!(m2m.recv(Duration::ZERO).unwrap().is_nothing(), "reported once");
        });
        drop((m2m, device));
        assert_eq!((from.buffers().leased(), to.buffers().leased()), (0, 0));
        drop((from, to));
    });
}

#[test]
fn cpu_access_is_bracketed_and_continues_after_a_signal() {
    const SYNC: u8 = 0;
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    let pool = Pool::new(&Allocator::Udmabuf, packed("NV12M", TINY), 1).unwrap();
    let frame = grey(&pool, 0);
    let memories = frame.memory().len() as u32;
    let (bytes, counts) = ioctls::counted(b'b', || pixels(&frame));
    assert_eq!(counts[usize::from(SYNC)], 2 * memories, "a start and an end for each memory plane");
    for errno in [Errno::EINTR, Errno::EAGAIN] {
        for nth in 1..=2 * memories {
            let fault = Fault { kind: b'b', number: SYNC, nth, errno };
            let (again, counts) = ioctls::counted(b'b', || ioctls::with(fault, || pixels(&frame)));
            assert!(again == bytes, "{errno} at {nth}");
            assert_eq!(counts[usize::from(SYNC)], 2 * memories + 1, "{errno} at {nth}: repeated, start or end");
        }
    }
    let refused = ioctls::with(Fault { kind: b'b', number: SYNC, nth: 1, errno: Errno::EIO }, || {
        frame.read(DEFAULT_WAIT).map(drop)
    });
    assert!(refused.unwrap_err().to_string().contains("DMA_BUF_IOCTL_SYNC"));
}
