//! Tests of failures around an encoder: unplugged devices, consumers that keep frames, wrong arguments of the examples.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::capture::FrameSource;
use framelease::codec::{Decoder, DecoderEvent, Encoder, EncoderEvent, Outcome, Setting};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::frame::{Frame, Pool};
use framelease::share::{Policy, Publisher, Subscriber, SubscriberEvent};
use framelease::v4l2::{ControlValue, Resumed};
use framelease::ErrorKind;
use framelease::{Received, Station, Submit};
use nix::errno::Errno;
use nix::sys::resource::{getrlimit, setrlimit, Resource};

use crate::coding::*;
use crate::devices::*;
use crate::ioctls::{self, Fault};
use crate::share::example;

const TINY: Size = Size::new(64, 48);

/// Unbinds fl_h264's device, as if it were unplugged, while `test` runs.
pub fn unplugging_h264(test: impl FnOnce()) {
    let driver = Path::new("/sys/bus/platform/drivers/fl_h264");
    std::fs::write(driver.join("unbind"), "fl_h264").unwrap();
    test();
    std::fs::write(driver.join("bind"), "fl_h264").unwrap();
}

#[test]
fn encoder_that_is_unplugged_is_reported_and_reopened() {
    let (Some(camera), Some(device)) = (vivid(Planar::Multi), h264("")) else { return };
    leaving_nothing(|| {
        let (mut camera, mut encoder, _) = pair(&camera, device, params(Codec::H264, SMALL), &[fourcc("NV12")]);
        let held = coded(&mut encoder, frame(&mut camera));
        let bytes = held.bytes().to_vec();
        let (early, late) = (coded(&mut encoder, frame(&mut camera)), coded(&mut encoder, frame(&mut camera)));
        encoder.try_submit(frame(&mut camera)).taken();
        unplugging_h264(|| {
            // The packet's buffer cannot be returned to the device.
            drop(early);
            let told = (0..3).find_map(|_| match encoder.recv(WAIT).unwrap() {
                // Frames that were finished before may still come.
                Received::Item(EncoderEvent::Packet(_)) => None,
                Received::Item(EncoderEvent::Lost(e)) => Some(e.kind()),
                other => panic!("{other:?}"),
            });
            assert_eq!(told, Some(ErrorKind::DeviceLost));
            assert!(encoder.recv(Duration::from_millis(50)).unwrap().is_nothing(), "reported once");
            drop(late);
            assert!(
                encoder.recv(Duration::from_millis(50)).unwrap().is_nothing(),
                "no event for the return of a packet"
            );
            let rejected = encoder.try_submit(frame(&mut camera)).unwrap_err();
            assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
            drop(rejected);
            let e = encoder.reopen().unwrap_err();
            assert_eq!(e.error.kind(), ErrorKind::NotFound, "{}", e.error);
            assert!(e.item.len() <= 2, "{:?}", e.item);
        });
        // The node may have another number now. Usually it is the same.
        encoder.reopen().unwrap();
        assert_eq!(camera.stats().leased, 0, "no frame is lost");
        assert_eq!(held.bytes(), bytes, "a packet outlives its device");
        let packet = coded(&mut encoder, frame(&mut camera));
        assert!(packet.is_key() && packet.carries_parameters());
        drop((held, packet, encoder, camera));
    });
}

#[test]
fn reopen_applies_the_settings_that_were_changed_since() {
    let (Some(pool), Some(device)) = (pictures(), h264("")) else { return };
    let params = params(Codec::H264, TINY).wish(Setting::BitrateBps(4_000_000));
    let mut encoder = Encoder::builder(params).device(device).open(pool.buffers()).unwrap();
    drop(coded(&mut encoder, picture(&pool, 1)));
    assert!(matches!(encoder.apply(Setting::BitrateBps(1_000_000)).unwrap(), Outcome::Exact));
    // The driver does not have it.
    assert!(matches!(encoder.apply(Setting::Quality(50)).unwrap(), Outcome::Missing));
    let settings: Vec<Setting> = encoder.applied().iter().map(|applied| applied.setting).collect();
    unplugging_h264(|| {
        while !matches!(encoder.recv(WAIT).unwrap(), Received::Item(EncoderEvent::Lost(_))) {
            let _ = encoder.force_key();
        }
    });
    encoder.reopen().unwrap();
    assert!(coded(&mut encoder, picture(&pool, 2)).is_key());
    let bitrate = control(encoder.device(), "Video Bitrate").id;
    assert_eq!(encoder.device().control_value(bitrate).unwrap(), ControlValue::Number(1_000_000));
    let changed = |setting: Setting| {
        if setting == Setting::BitrateBps(4_000_000) {
            Setting::BitrateBps(1_000_000)
        } else {
            setting
        }
    };
    let now: Vec<Setting> = encoder.applied().iter().map(|applied| applied.setting).collect();
    assert_eq!(now, settings.into_iter().map(changed).collect::<Vec<_>>());
}

#[test]
fn decoder_that_is_unplugged_is_reported_and_reopened() {
    let Some(device) = fwht(Planar::Single) else { return };
    let pool = Pool::new(&Allocator::Udmabuf, packed("YUYV", Size::new(640, 368)), 2).unwrap();
    let params = params(Codec::Fwht, Size::new(640, 368));
    let mut encoder = Encoder::builder(params).device(device).open(pool.buffers()).unwrap();
    let coded = coded(&mut encoder, picture(&pool, 1)).detach();
    drop(encoder);
    let mut decoder = Decoder::builder(Codec::Fwht).open().unwrap();
    let decoded = |decoder: &mut Decoder| {
        decoder.try_submit(coded.clone()).taken();
        (0..3).find_map(|_| decoder.recv(WAIT).unwrap().frame()).expect("a frame")
    };
    let held = decoded(&mut decoder);
    let before = pixels(&held);
    let driver = Path::new("/sys/bus/platform/drivers/vicodec");
    std::fs::write(driver.join("unbind"), "vicodec.0").unwrap();
    let rejected = decoder.try_submit(coded.clone()).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
    let told = decoder.recv(WAIT).unwrap();
    assert!(matches!(told, Received::Item(DecoderEvent::Lost(_))), "{told:?}");
    assert!(decoder.recv(Duration::from_millis(50)).unwrap().is_nothing(), "reported once");
    assert_eq!(decoder.reopen().unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(driver.join("bind"), "vicodec.0").unwrap();
    let told = decoder.recv(WAIT).unwrap();
    assert!(matches!(told, Received::Item(DecoderEvent::Returned)), "{told:?}");
    decoder.reopen().unwrap();
    assert!(pixels(&decoded(&mut decoder)) == before && pixels(&held) == before, "a frame outlives its device");
}

#[test]
fn encoder_without_a_frame_reports_its_loss() {
    let (Some(device), Some(())) = (h264(""), needed_path("udmabuf", "/dev/udmabuf")) else { return };
    let pattern = framelease::capture::TestPattern::builder(SMALL).layout(packed("NV12", SMALL)).unpaced();
    let mut source = pattern.allocator(framelease::dmabuf::Allocator::Udmabuf).start().unwrap();
    let builder = framelease::codec::Encoder::builder(params(Codec::H264, SMALL)).device(device);
    let mut encoder = builder.open(source.buffers().unwrap()).unwrap();
    unplugging_h264(|| {
        assert!(encoder.recv(Duration::from_millis(50)).unwrap().is_nothing(), "its queues are not watched");
        let rejected = encoder.try_submit(source.recv(WAIT).unwrap().frame().unwrap()).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
        assert!(is_readable(&encoder));
        let told = encoder.try_recv().unwrap();
        assert!(matches!(told, Received::Item(EncoderEvent::Lost(_))), "{told:?}");
        assert!(encoder.recv(Duration::from_millis(50)).unwrap().is_nothing(), "reported once");
    });
    let told = encoder.recv(WAIT).unwrap();
    assert!(matches!(told, Received::Item(EncoderEvent::Returned)), "{told:?}");
    encoder.reopen().unwrap();
    assert!(coded(&mut encoder, source.recv(WAIT).unwrap().frame().unwrap()).is_key());
}

/// Returns a pool of pictures for fl_h264, and their format.
fn pictures() -> Option<Pool> {
    needed_path("udmabuf", "/dev/udmabuf")?;
    Some(Pool::new(&Allocator::Udmabuf, packed("NV12", TINY), 4).unwrap())
}

fn picture(pool: &Pool, number: u64) -> Frame {
    pool.acquire(WAIT).expect("a free buffer").freeze_full(number, number)
}

#[test]
fn encoder_that_is_unplugged_after_a_drain_reports_its_loss() {
    let (Some(pool), Some(device)) = (pictures(), h264("")) else { return };
    type Call = fn(&mut Encoder) -> framelease::Result<()>;
    let calls: [Call; 4] = [
        |encoder| encoder.resume().map(drop),
        |encoder| encoder.reset(),
        |encoder| encoder.drain(),
        |encoder| encoder.force_key(),
    ];
    let mut encoder = Encoder::builder(params(Codec::H264, TINY)).device(device).open(pool.buffers()).unwrap();
    for call in calls {
        drop(coded(&mut encoder, picture(&pool, 1)));
        assert!(drained(&mut encoder).is_empty());
        unplugging_h264(|| {
            let e = call(&mut encoder).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::DeviceLost, "{e}");
            assert!(is_readable(&encoder));
            let told = encoder.recv(WAIT).unwrap();
            assert!(matches!(told, Received::Item(EncoderEvent::Lost(_))), "{told:?}");
            assert!(encoder.recv(Duration::from_millis(50)).unwrap().is_nothing(), "reported once");
        });
        let told = encoder.recv(WAIT).unwrap();
        assert!(matches!(told, Received::Item(EncoderEvent::Returned)), "{told:?}");
        encoder.reopen().unwrap();
    }
    assert_eq!(pool.buffers().leased(), 0);
}

#[test]
fn encoder_that_cannot_start_again_keeps_its_other_frames() {
    let (Some(pool), Some(device)) = (pictures(), h264("broken_start=1")) else { return };
    let mut encoder = Encoder::builder(params(Codec::H264, TINY)).device(device).open(pool.buffers()).unwrap();
    drop(coded(&mut encoder, picture(&pool, 1)));
    encoder.drain().unwrap();
    // They wait for the resume.
    (2..4).for_each(|number| encoder.try_submit(picture(&pool, number)).taken());
    assert!(packet(&mut encoder).is_none());
    let fault = Fault { kind: b'V', number: 18, nth: 1, errno: Errno::ENOMEM };
    let e = ioctls::with(fault, || encoder.resume()).unwrap_err();
    assert_eq!(e.op(), "VIDIOC_STREAMON", "{e}");
    let rejected = ioctls::with(fault, || encoder.try_submit(picture(&pool, 4))).unwrap_err();
    assert_eq!((rejected.error.op(), rejected.item.meta().sequence), ("VIDIOC_STREAMON", 4), "{}", rejected.error);
    assert_eq!((pool.buffers().leased(), encoder.stats().in_flight), (3, 2));
    encoder.try_submit(rejected.item).taken();
    let sources: Vec<_> = (0..3).map(|_| packet(&mut encoder).unwrap().meta().source).collect();
    assert_eq!(sources, [Some(2), Some(3), Some(4)]);
}

#[test]
fn encoder_that_is_lost_at_its_start_reports_that() {
    const STREAMON: u8 = 18;
    let (Some(pool), Some(device)) = (pictures(), h264("")) else { return };
    let mut encoder = Encoder::builder(params(Codec::H264, TINY)).device(device).open(pool.buffers()).unwrap();
    let start = || encoder.try_submit(picture(&pool, 1));
    let rejected = ioctls::refusing([STREAMON; 2], Errno::ENODEV, start).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
    assert!(is_readable(&encoder));
    let told = encoder.try_recv().unwrap();
    assert!(matches!(told, Received::Item(EncoderEvent::Lost(_))), "{told:?}");
}

#[test]
fn resume_that_fails_after_its_command_can_be_repeated() {
    const QBUF: u8 = 15;
    let (Some(pool), Some(device)) = (pictures(), h264("")) else { return };
    let mut encoder = Encoder::builder(params(Codec::H264, TINY)).device(device).open(pool.buffers()).unwrap();
    drop(coded(&mut encoder, picture(&pool, 1)));
    encoder.drain().unwrap();
    assert_eq!(encoder.resume().unwrap_err().kind(), ErrorKind::State, "the drain goes on");
    (2..4).for_each(|number| encoder.try_submit(picture(&pool, number)).taken());
    assert!(packet(&mut encoder).is_none());
    let e = ioctls::refusing([QBUF; 2], Errno::ENOMEM, || encoder.resume()).unwrap_err();
    assert_eq!((e.op(), encoder.stats().in_flight, pool.buffers().leased()), ("VIDIOC_QBUF", 2, 2), "{e}");
    // A drain also begins with what waits.
    encoder.drain().unwrap();
    let sources: Vec<_> = std::iter::from_fn(|| packet(&mut encoder).map(|p| p.meta().source)).collect();
    assert_eq!(sources, [Some(2), Some(3)]);
}

#[test]
fn reset_loses_no_frame_of_a_source_that_repeats_its_numbers() {
    let (Some(pool), Some(device)) = (pictures(), h264("delay=3")) else { return };
    let mut encoder = Encoder::builder(params(Codec::H264, TINY)).device(device).open(pool.buffers()).unwrap();
    (0..4).for_each(|_| encoder.try_submit(picture(&pool, 0)).taken());
    drop(packet(&mut encoder).unwrap());
    encoder.reset().unwrap();
    assert_eq!((encoder.stats().in_flight, drained(&mut encoder).len()), (3, 3));
}

#[test]
fn encoder_ends_leases_in_dispatch() {
    let (Some(pool), Some(device)) = (pictures(), h264("")) else { return };
    let mut encoder = Encoder::builder(params(Codec::H264, TINY)).device(device).open(pool.buffers()).unwrap();
    encoder.try_submit(picture(&pool, 1)).taken();
    for _ in 0..100 {
        encoder.dispatch().unwrap();
        if pool.buffers().leased() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(pool.buffers().leased(), 0);
    assert_eq!(packet(&mut encoder).unwrap().meta().source, Some(1));
    // The loss of a device is an event.
    encoder.try_submit(picture(&pool, 2)).taken();
    unplugging_h264(|| {
        encoder.dispatch().unwrap();
        let lost = (0..3).any(|_| matches!(encoder.recv(WAIT).unwrap(), Received::Item(EncoderEvent::Lost(_))));
        assert!(lost);
    });
}

#[test]
fn decoder_that_cannot_allocate_tries_again() {
    let Some(device) = fwht(Planar::Single) else { return };
    let pool = Pool::new(&Allocator::Udmabuf, packed("YUYV", Size::new(640, 368)), 2).unwrap();
    let params = params(Codec::Fwht, Size::new(640, 368));
    let mut encoder = Encoder::builder(params).device(device).open(pool.buffers()).unwrap();
    let coded = coded(&mut encoder, picture(&pool, 1)).detach();
    for number in [8, 18] {
        let mut decoder = Decoder::builder(Codec::Fwht).open().unwrap();
        decoder.try_submit(coded.clone()).taken();
        let fault = Fault { kind: b'V', number, nth: 1, errno: Errno::ENOMEM };
        let e = ioctls::with(fault, || decoder.recv(WAIT)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Exhausted, "{e}");
        assert!(!is_readable(&decoder), "the error was reported");
        let again = decoder.recv(Duration::from_millis(50)).unwrap();
        assert!(matches!(again, Received::Item(DecoderEvent::Format(_))), "{again:?}");
        assert!(decoder.recv(WAIT).unwrap().frame().is_some());
    }
}

#[test]
fn resume_that_failed_can_be_repeated() {
    let Some(device) = fwht(Planar::Single) else { return };
    let pool = Pool::new(&Allocator::Udmabuf, packed("YUYV", Size::new(640, 368)), 2).unwrap();
    let params = params(Codec::Fwht, Size::new(640, 368));
    let mut encoder = Encoder::builder(params).device(device).open(pool.buffers()).unwrap();
    let coded = coded(&mut encoder, picture(&pool, 1)).detach();
    let mut decoder = Decoder::builder(Codec::Fwht).open().unwrap();
    let decodes = |decoder: &mut Decoder| {
        decoder.try_submit(coded.clone()).taken();
        (0..2).any(|_| decoder.recv(WAIT).unwrap().frame().is_some())
    };
    assert!(decodes(&mut decoder));
    decoder.drain().unwrap();
    assert!(decoder.recv(WAIT).unwrap().is_ended());
    let fault = Fault { kind: b'V', number: 18, nth: 1, errno: Errno::ENOMEM };
    for _ in 0..2 {
        let e = ioctls::with(fault, || decoder.resume()).unwrap_err();
        assert_eq!(e.op(), "VIDIOC_STREAMON", "{e}");
    }
    assert_eq!(decoder.resume().unwrap(), Resumed::Restarted);
    assert_eq!(decoder.resume().unwrap_err().kind(), ErrorKind::State);
    assert!(decodes(&mut decoder));
}

#[test]
fn reopen_that_fails_before_the_loss_is_reported_announces_the_return() {
    let (Some(pool), Some(device)) = (pictures(), h264("")) else { return };
    let mut encoder = Encoder::builder(params(Codec::H264, TINY)).device(device).open(pool.buffers()).unwrap();
    unplugging_h264(|| {
        let rejected = encoder.try_submit(picture(&pool, 1)).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
        let rejected = encoder.reopen().unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::NotFound, "{}", rejected.error);
    });
    let told = encoder.recv(WAIT).unwrap();
    assert!(matches!(told, Received::Item(EncoderEvent::Returned)), "{told:?}");
    encoder.reopen().unwrap();
    assert!(coded(&mut encoder, picture(&pool, 2)).is_key());
}

#[test]
fn loss_is_reported_without_free_descriptors() {
    let (Some(pool), Some(device)) = (pictures(), h264("")) else { return };
    let mut encoder = Encoder::builder(params(Codec::H264, TINY)).device(device).open(pool.buffers()).unwrap();
    drop(coded(&mut encoder, picture(&pool, 1)));
    unplugging_h264(|| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
        assert!(std::fs::File::open("/dev/null").is_err());
        let told = encoder.recv(WAIT);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert!(matches!(told, Ok(Received::Item(EncoderEvent::Lost(_)))), "{told:?}");
    });
    let told = encoder.recv(WAIT).unwrap();
    assert!(matches!(told, Received::Item(EncoderEvent::Returned)), "{told:?}");
    encoder.reopen().unwrap();
    assert!(coded(&mut encoder, picture(&pool, 2)).is_key());
}

#[test]
fn encoder_keeps_the_frames_of_an_unplugged_camera() {
    let (Some(vivid), Some(device)) = (vivid(Planar::Multi), h264("")) else { return };
    leaving_nothing(|| {
        let (mut camera, mut encoder, _) = pair(&vivid, device, params(Codec::H264, SMALL), &[fourcc("NV12")]);
        for _ in 0..2 {
            encoder.try_submit(frame(&mut camera)).taken();
        }
        press(&vivid, "Disconnect");
        assert_eq!(told(&mut camera, lost).kind(), ErrorKind::DeviceLost);
        drop((camera, vivid));
        assert_eq!(drained(&mut encoder).len(), 2, "captured frames are encoded");
        drop(encoder);
    });
    reload_vivid(VIVID);
}

#[test]
fn frame_is_held_by_an_encoder_and_a_subscriber_at_once() {
    let (Some(vivid), Some(device)) = (vivid(Planar::Multi), h264("")) else { return };
    leaving_nothing(|| {
        let (mut camera, mut encoder, _) = pair(&vivid, device, params(Codec::H264, SMALL), &[fourcc("NV12")]);
        let folder = std::env::temp_dir().join(format!("framelease-encode-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let mut publisher = Publisher::builder(&path).reserve(2).bind().unwrap();
        publisher.announce(camera.buffers().unwrap()).unwrap();
        let thread = std::thread::spawn(move || {
            let mut subscriber = Subscriber::builder(path).policy(Policy::Latest).hold(1).connect(WAIT).unwrap();
            let frame = loop {
                if let Received::Item(SubscriberEvent::Frame(frame)) = subscriber.recv(WAIT).unwrap() {
                    break frame;
                }
            };
            let (sequence, picture) = (frame.meta().sequence, pixels(&frame));
            std::thread::sleep(Duration::from_millis(300));
            (sequence, picture == pixels(&frame))
        });
        let mut packets = 0;
        while !thread.is_finished() {
            let frame = frame(&mut camera);
            assert!(publisher.publish(frame.clone(), Duration::ZERO).unwrap().is_taken());
            publisher.dispatch().unwrap();
            packets += u64::from(coded(&mut encoder, frame).meta().source.is_some());
        }
        let (sequence, unchanged) = thread.join().unwrap();
        assert!(unchanged, "frame {sequence} was held and did not change");
        assert!(packets > 2);
        drop((publisher, encoder));
        assert_eq!(camera.stats().leased, 0);
        drop(camera);
        let _ = std::fs::remove_dir_all(folder);
    });
}

#[test]
fn encode_and_decode_examples_work() {
    if vivid(Planar::Single).is_none() || h264("").is_none() || fwht(Planar::Single).is_none() {
        return;
    }
    let (Some(encode), Some(decode)) = (example("encode"), example("decode")) else { return };
    let folder = std::env::temp_dir().join(format!("framelease-coded-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    leaving_nothing(|| {
        let (stream, raw, png) = (path("s.fwht"), path("s.yuv"), path("s.png"));
        let common = ["--codec", "fwht", "--size", "640x360", "--fps", "60", "--json"];
        let camera = ["--camera", "auto", "--frames", "10", "--output", &stream];
        let json = run(encode.to_str().unwrap(), &[&common[..], &camera].concat());
        for part in ["\"packets\":10", "\"cpu_bytes_read\":0", "\"cpu_bytes_written\":0", "\"driver\":\"vicodec\""] {
            assert!(json.contains(part), "{part} in {json}");
        }
        let args = ["--input", &stream, "--codec", "fwht", "--output", &raw, "--png", &png, "--json"];
        let json = run(decode.to_str().unwrap(), &args);
        assert!(json.contains("\"frames\":10") && json.contains("\"width\":640"), "{json}");
        assert!(std::fs::metadata(&raw).unwrap().len() >= 10 * 640 * 360 * 3 / 2);
        assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));

        let stream = path("s.h264");
        let args = ["--size", "320x180", "--frames", "5", "--gop", "2", "--bitrate", "1", "--output", &stream];
        let text = run(encode.to_str().unwrap(), &args);
        assert!(text.contains("not as asked: BitrateBps(1): the device takes 10000"), "{text}");
        assert!(text.contains("5 packets") && text.contains("3 key frames"), "{text}");
        assert_eq!(std::fs::read(&stream).unwrap()[..5], [0, 0, 0, 1, 0x67]);

        for (args, part) in [
            (&["--codec", "vp8"][..], "not found"),
            (&["--codec", "av1"], "is not a codec"),
            (&["--device", "/dev/video999"], "/dev/video999"),
            (&["--frames", "3", "--size", "320x180", "--output", "/dev/full"], "/dev/full"),
            (&["--fps", "0"], "--fps 0"),
        ] {
            let out = Command::new(&encode).args(args).output().unwrap();
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(!out.status.success() && text.contains("error: ") && text.contains(part), "{args:?}: {text}");
        }
        let out = Command::new(&decode).args(["--codec", "h264", "--input", &stream]).output().unwrap();
        assert!(String::from_utf8_lossy(&out.stderr).contains("not found"), "{out:?}");
    });
    let _ = std::fs::remove_dir_all(folder);
}
