//! Tests of the example `prepare`: a camera's frames are scaled once, by a device, and shared as a second stream.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use framelease::capture::Camera;
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::frame::Pool;
use framelease::share::{Publisher, Reconnect, Subscriber, SubscriberEvent};
use framelease::v4l2::Device;
use framelease::{Received, Station};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::conformance::{picture, rgb};
use crate::devices::*;
use crate::share::{example, received, SOON};

const LARGE: Size = Size::new(320, 180);
const SMALL: Size = Size::new(160, 90);

/// The pixels of three results, by the sequence numbers of their frames.
fn results(socket: &Path) -> HashMap<u64, Vec<u8>> {
    let builder = Subscriber::builder(socket).reconnect(Reconnect::Always);
    // The program opens its device first.
    let mut subscriber = builder.connect(5 * SOON).unwrap();
    let frames = (0..3).map(|_| {
        let frame = received(&mut subscriber);
        assert_eq!(frame.layout().size(), SMALL);
        let pixels = rgb::rgb(&frame).unwrap();
        assert!(frame.is_valid());
        (frame.meta().sequence, pixels)
    });
    frames.collect()
}

/// For each value of the small picture, the nearest between the least and the most of the four that it was scaled from.
/// A driver takes one of them, or a mean.
fn halved(large: &[u8], small: &[u8]) -> Vec<u8> {
    let at = |x: usize, y: usize, c: usize| large[(y * LARGE.width as usize + x) * 3 + c];
    let nearest = |(i, &value): (usize, &u8)| {
        let (x, y, c) = (i / 3 % SMALL.width as usize * 2, i / 3 / SMALL.width as usize * 2, i % 3);
        let four = [at(x, y, c), at(x + 1, y, c), at(x, y + 1, c), at(x + 1, y + 1, c)];
        value.clamp(four.into_iter().min().unwrap_or(0), four.into_iter().max().unwrap_or(0))
    };
    small.iter().enumerate().map(nearest).collect()
}

/// A camera, the example with this backend, and two subscribers of the example.
fn scales_once(program: &Path, backend: &str, mut camera: Camera) {
    let folder = std::env::temp_dir().join(format!("framelease-prepare-{backend}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (input, output) = (folder.join("camera"), folder.join("camera.prepared"));
    let mut publisher = Publisher::builder(&input).reserve(3).bind().unwrap();
    let child = Command::new(program)
        .args(["--size", &SMALL.to_string(), "--to", "RGB24", "--stretch", "--backend", backend, "--json", "--input"])
        .arg(&input)
        .env("FRAMELEASE_VULKAN_DEVICE", "llvmpipe")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let models = [0, 1].map(|_| {
        thread::spawn({
            let output = output.clone();
            move || results(&output)
        })
    });
    let (mut sources, begun) = (HashMap::new(), Instant::now());
    while !models.iter().all(|model| model.is_finished()) && begun.elapsed() < 6 * SOON {
        let frame = frame(&mut camera);
        sources.insert(frame.meta().sequence, rgb::rgb(&frame).unwrap());
        assert!(publisher.publish(frame, SOON).unwrap().is_taken());
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let printed = ended(child);
    assert!(models.iter().all(|model| model.is_finished()), "no results");
    let printed = String::from_utf8(printed.stdout).unwrap();
    let expected = format!("\"backend\":\"{backend}");
    assert!(printed.contains(&expected) && printed.contains("\"cpu_bytes_touched\":0"), "{printed}");
    for (sequence, result) in models.into_iter().flat_map(|model| model.join().unwrap()) {
        let db = picture::psnr(&halved(&sources[&sequence], &result), &result, |_| true);
        assert!(db > 30.0, "frame {sequence}: {db:.1} dB");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn prepare_scales_each_frame_once_for_all_subscribers() {
    let Some(device) = vivid(Planar::Single) else { return };
    let scaler = Device::find(|d| d.driver == "fl_scaler").map_err(|e| e.to_string());
    let (Some(_), Some(program)) = (needed("fl_scaler", scaler), example("prepare")) else { return };
    scales_once(&program, "m2m", camera(&device, "NV12").size(LARGE).buffers(8).open().unwrap());
}

#[cfg(feature = "vulkan")]
#[test]
fn prepare_scales_by_vulkan() {
    let (Some(device), Some(program)) = (vivid(Planar::Single), example("prepare")) else { return };
    let Some(()) = crate::convert_vulkan::compiled() else { return };
    let camera = camera(&device, "NV12").size(LARGE).buffers(8).writable_buffers();
    scales_once(&program, "vulkan", camera.open().unwrap());
}

/// A publisher with frames of its own.
fn publisher(input: &Path) -> (Pool, Publisher) {
    let pool = Pool::new(&Allocator::Memfd, packed("NV12", LARGE), 8).unwrap();
    let mut publisher = Publisher::builder(input).reserve(3).bind().unwrap();
    publisher.announce(pool.buffers()).unwrap();
    (pool, publisher)
}

#[test]
fn prepare_survives_damaged_frames_and_restarts() {
    let Some(program) = example("prepare") else { return };
    let folder = std::env::temp_dir().join(format!("framelease-prepare-restart-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let input = folder.join("camera");
    let (mut pool, mut source) = publisher(&input);
    let child = Command::new(program)
        .args(["--size", &SMALL.to_string(), "--backend", "cpu", "--input"])
        .arg(&input)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let models = thread::spawn({
        let output = folder.join("camera.prepared");
        move || {
            let builder = Subscriber::builder(output).reconnect(Reconnect::Always);
            let mut subscriber = builder.connect(SOON).unwrap();
            let mut seen = Vec::new();
            while seen.len() < 60 {
                match subscriber.recv(SOON).unwrap() {
                    Received::Item(SubscriberEvent::Frame(frame)) => seen.push(frame.meta().sequence),
                    Received::Item(SubscriberEvent::Format(_) | SubscriberEvent::Paused) => {}
                    other => panic!("{other:?}"),
                }
            }
            seen
        }
    });
    let begun = Instant::now();
    for sequence in 0.. {
        if models.is_finished() || begun.elapsed() > 3 * SOON {
            break;
        }
        // The publisher ends right after a frame, and another one takes its place.
        if sequence % 30 == 29 {
            drop((pool, source));
            (pool, source) = publisher(&input);
        }
        if let Some(frame) = pool.try_acquire() {
            let mut frame = frame.freeze_full(sequence, sequence);
            if sequence % 10 == 3 {
                let mut meta = *frame.meta();
                meta.payload[0].bytes /= 2;
                frame = frame.with_meta(meta);
            }
            assert!(source.publish(frame, SOON).unwrap().is_taken());
        }
        thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let ended = ended(child);
    assert!(ended.status.success(), "{ended:?}");
    let seen = models.join().unwrap();
    assert!(seen.iter().all(|sequence| sequence % 10 != 3), "{seen:?}");
    assert!(seen.last() > Some(&60), "no result after a restart: {seen:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}
