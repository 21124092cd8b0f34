//! Devices that answer as the drivers of boards do, by their sources.

use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::capture::{Camera, CameraBuilder, Fit, FrameSource};
use framelease::codec::{Decoder, DecoderEvent, Encoder, EncoderEvent, Params, Quirks};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::format::{ColorSpace, Colorimetry, FormatKind, FrameInterval, Range, Size};
use framelease::frame::{FrameFlags, Packet, Pool};
use framelease::v4l2::{Device, Resumed};
use framelease::{ErrorKind, Received, Station, Submit};
use nix::errno::Errno;

use crate::coding::{coded, drained, fwht, h264, packet, params, WAIT};
use crate::devices::*;
use crate::encode::{self, encodes, grey, tiny, tiny_encoder, tiny_pool};
use crate::ioctls::{self, Fault, Habit};

#[test]
fn camera_of_a_driver_that_forgets_its_format_opens_and_reports_its_rate() {
    let Some(device) = vivid(Planar::Single) else { return };
    let rate = FrameInterval::from_fps(30);
    for (format, size) in [("YUYV", SMALL), ("UYVY", Size::new(640, 480)), ("NV12", SMALL)] {
        let builder = Camera::builder().device(device.clone()).formats([fourcc(format)]).size(size).interval(rate);
        let open = || builder.clone().fit(Fit::Nearest).open().unwrap();
        let (layout, interval) = {
            let camera = open();
            (*camera.layout().unwrap(), camera.interval())
        };
        ioctls::answering_as(Habit::Mx6s, || {
            let mut camera = open();
            assert_eq!((*camera.layout().unwrap(), camera.interval()), (layout, interval), "{format}");
            assert_eq!(frame(&mut camera).layout(), &layout);
        });
    }
}

#[test]
fn camera_with_two_planes_under_the_code_of_one_gives_both() {
    let Some(device) = vivid(Planar::Multi) else { return };
    freeze_pattern(&device);
    let open = |format| camera(&device, format).open().unwrap();
    let expected = pixels(&frame(&mut open("NV12M")));
    ioctls::answering_as(Habit::OldIsi, || {
        let mut camera = open("NV12");
        let layout = *camera.layout().unwrap();
        assert_eq!((layout.fourcc(), layout.memory_bytes().len()), (fourcc("NV12M"), 2));
        let frame = frame(&mut camera);
        assert_eq!(frame.memory().len(), 2);
        assert!(pixels(&frame) == expected);
    });
}

#[test]
fn encoder_of_vsi_gets_a_frame_interval_that_was_not_requested() {
    const S_PARM: usize = 22;
    // This driver begins at 25 seconds a frame.
    let (opened, counts) = ioctls::counted(b'V', || tiny_encoder("vsi=1", tiny()));
    let Some((encoder, _pool)) = opened else { return };
    assert_eq!((counts[S_PARM], encoder.interval()), (1, Some(FrameInterval::from_fps(30))));
}

/// The encoders that fl_h264 imitates, and how they resume after a drain.
pub const ENCODERS: [(&str, Resumed); 6] = [
    ("", Resumed::Continued),
    ("vsi=1", Resumed::Restarted),
    ("amphion=1", Resumed::Restarted),
    ("venus=1", Resumed::Continued),
    ("coda=1", Resumed::Restarted),
    ("bcm2835=1", Resumed::Restarted),
];

/// Opens one of them, with the quirks of the real one.
fn open(habit: &str, params: Params) -> Option<(Encoder, Pool)> {
    let (device, pool) = (h264(habit)?, tiny_pool()?);
    let mut quirks = Quirks::default();
    quirks.restart_continues = habit.contains("bcm2835");
    Some((Encoder::builder(params).device(device).quirks(quirks).open(pool.buffers()).unwrap(), pool))
}

/// Encodes frames one by one, and asserts that their buffers come back and that a new stream begins if it should.
fn continues(encoder: &mut Encoder, pool: &Pool, from: u64, is_new: bool) {
    for i in from..from + 8 {
        let packet = coded(encoder, grey(pool, i));
        assert_eq!(packet.meta().source, Some(i));
        if is_new {
            assert_eq!(packet.is_key(), (i - from) % 4 == 0, "a new stream from frame {from}, frame {i}");
            assert!(i > from || packet.carries_parameters());
        }
        let more = encoder.try_recv().unwrap();
        assert!(more.is_nothing(), "{more:?}");
        assert!(pool.buffers().leased() <= 1, "frame {i}: {} leased", pool.buffers().leased());
    }
    assert!(!is_readable(encoder));
}

#[test]
fn encoder_of_every_board_keeps_the_camera_s_frames_whole() {
    for (habit, _) in ENCODERS {
        encodes(Planar::Multi, habit, "NV12");
        encodes(Planar::Multi, habit, "NV12M");
    }
}

#[test]
fn encoder_of_every_board_continues_after_a_drain() {
    for (habit, resumes) in ENCODERS {
        println!("{habit}");
        let Some((mut encoder, pool)) = open(habit, tiny()) else { return };
        leaving_nothing(|| {
            for from in (0..8).map(|i| 20 * i) {
                (from..from + 3).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
                assert_eq!(drained(&mut encoder).len(), 3, "{habit}");
                assert!(!is_readable(&encoder), "{habit}: a frame that was read may stay, and must not be polled for");
                // These wait for the resume.
                (from + 3..from + 5).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
                assert_eq!(encoder.resume().unwrap(), resumes, "{habit}");
                for i in from + 3..from + 5 {
                    assert_eq!(packet(&mut encoder).unwrap().meta().source, Some(i), "{habit}");
                }
                continues(&mut encoder, &pool, from + 5, false);
            }
            drop(encoder);
            assert_eq!(pool.buffers().leased(), 0, "{habit}");
        });
    }
}

#[test]
fn encoder_of_every_board_continues_after_a_reset() {
    for (habit, _) in ENCODERS {
        let Some((mut encoder, pool)) = open(habit, tiny()) else { return };
        leaving_nothing(|| {
            continues(&mut encoder, &pool, 0, true);
            for from in [10, 20, 30] {
                encoder.reset().unwrap();
                for _ in 0..3 {
                    let got = encoder.recv(Duration::from_millis(20)).unwrap();
                    assert!(got.is_nothing(), "{habit}: {got:?}: a reset does not end the stream");
                }
                assert!(!is_readable(&encoder), "{habit}");
                continues(&mut encoder, &pool, from, true);
            }
            // With frames under way, which are encoded in the new stream.
            encoder.drain().unwrap();
            let held = packet(&mut encoder);
            (40..43).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
            encoder.reset().unwrap();
            assert!((40..43).all(|i| packet(&mut encoder).unwrap().meta().source == Some(i)), "{habit}");
            drop((held, encoder));
            assert_eq!(pool.buffers().leased(), 0, "{habit}");
        });
    }
}

#[test]
fn encoder_whose_reset_fails_keeps_its_frames_for_the_next() {
    // Of both queues: memory for the buffers, and the start.
    for (number, nth) in [(8, 3), (8, 4), (15, 2), (18, 1), (18, 2)] {
        let Some((mut encoder, pool)) = tiny_encoder("delay=3 min_buffers=3", tiny()) else { return };
        (0..3).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
        let fault = Fault { kind: b'V', number, nth, errno: Errno::ENOMEM };
        let e = ioctls::with(fault, || encoder.reset()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Exhausted, "ioctl {number}, {nth}: {e}");
        assert_eq!(pool.buffers().leased(), 3, "ioctl {number}, {nth}");
        // The queues have no buffers to free now.
        let again = Fault { nth: if number == 8 { nth - 2 } else { nth }, ..fault };
        let rejected = ioctls::with(again, || encoder.try_submit(grey(&pool, 3))).unwrap_err();
        assert_eq!((rejected.error.kind(), rejected.item.meta().sequence), (ErrorKind::Exhausted, 3));
        assert!(encoder.recv(Duration::from_millis(10)).unwrap().is_nothing() && !is_readable(&encoder));
        assert_eq!((encoder.stats().in_flight, pool.buffers().leased()), (3, 4));
        encoder.try_submit(rejected.item).taken();
        let sources: Vec<_> = drained(&mut encoder).iter().map(|p| p.meta().source).collect();
        assert_eq!(sources, [Some(0), Some(1), Some(2), Some(3)]);
        // Another setup also gives them back.
        assert_eq!(encoder.resume().unwrap(), Resumed::Continued);
        (4..6).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
        ioctls::with(fault, || encoder.reset()).unwrap_err();
        let back = encoder.reconfigure(tiny(), pool.buffers()).unwrap();
        assert_eq!(back.iter().map(|f| f.meta().sequence).collect::<Vec<_>>(), [4, 5]);
    }
}

#[test]
fn drain_of_amphion_ends_while_every_packet_is_leased() {
    let Some((mut encoder, pool)) = open("amphion=1", tiny().packet_buffers(6)) else { return };
    (0..4).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
    let mut held: Vec<_> = (0..4).map(|_| packet(&mut encoder).unwrap()).collect();
    held.extend((4..6).map(|i| coded(&mut encoder, grey(&pool, i))));
    encoder.drain().unwrap();
    assert!(encoder.recv(WAIT).unwrap().is_ended());
    assert_eq!((held.len(), encoder.stats().leased), (6, 6));
}

#[test]
fn packet_that_does_not_fit_amphion_spoils_the_stream_until_a_reset() {
    let Some((mut encoder, pool)) = open("amphion=1 tight=1", tiny().packet_bytes(300)) else { return };
    let is_damaged = |packet: &Packet| packet.meta().flags.contains(FrameFlags::ERROR);
    assert!(is_damaged(&coded(&mut encoder, grey(&pool, 0))) && is_damaged(&coded(&mut encoder, grey(&pool, 0))));
    let params = tiny().packet_bytes(1 << 20);
    assert!(encoder.reconfigure(params, pool.buffers()).unwrap().is_empty());
    assert!(!is_damaged(&coded(&mut encoder, grey(&pool, 1))));
}

#[test]
fn encoders_write_the_same_colors() {
    let colors = |space, range| Colorimetry { space, range, ..Colorimetry::default() };
    let sets_of = |habit, colors| {
        // More than vsi_v4l2enc gives, so that the coded format is set again.
        let (mut encoder, pool) = open(habit, tiny().colorimetry(colors).packet_bytes(9 << 20))?;
        Some(coded(&mut encoder, grey(&pool, 0)).parameter_sets().unwrap().to_annexb())
    };
    // The kernel drops the range of a format without a color space.
    let full = |space| sets_of("", colors(space, Range::Full));
    assert_eq!(full(ColorSpace::Default), full(ColorSpace::Smpte170m));
    for colors in [
        colors(ColorSpace::Default, Range::Full),
        colors(ColorSpace::Jpeg, Range::Default),
        colors(ColorSpace::Rec709, Range::Default),
        colors(ColorSpace::Srgb, Range::Full),
        colors(ColorSpace::Bt2020, Range::Default),
    ] {
        for (habit, _) in ENCODERS {
            assert_eq!(sets_of(habit, colors), sets_of("", colors), "{habit}, {colors:?}");
        }
    }
}

#[test]
fn camera_s_colors_can_be_overruled() {
    let Some(device) = vivid(Planar::Single) else { return };
    let colors = Colorimetry { space: ColorSpace::Smpte170m, range: Range::Limited, ..Colorimetry::default() };
    let mut camera = camera(&device, "NV12").colorimetry(colors).open().unwrap();
    assert_eq!(camera.layout().unwrap().colorimetry(), colors);
    assert_eq!(frame(&mut camera).layout().colorimetry(), colors);
    camera.reconfigure(fourcc("YUYV"), Size::new(640, 480)).unwrap();
    assert_eq!(camera.layout().unwrap().colorimetry(), colors);
}

#[test]
fn camera_s_stride_can_be_overruled() {
    let Some(device) = vivid(Planar::Single) else { return };
    freeze_pattern(&device);
    let pixels = |camera: &mut Camera| {
        let mut bytes = Vec::new();
        frame(camera).read(DEFAULT_WAIT).unwrap().write_to(&mut bytes).unwrap();
        bytes
    };
    let grey = || camera(&device, "GREY").fit(Fit::Exact);
    let expected = pixels(&mut grey().open().unwrap());
    ioctls::answering_as(Habit::ShortStride, || {
        let kind = |builder: CameraBuilder| builder.open().unwrap_err().kind();
        assert_eq!(kind(grey()), ErrorKind::Mismatch);
        let mut camera = grey().stride_bytes(SMALL.width).open().unwrap();
        assert!(pixels(&mut camera) == expected);
        drop(camera);
        assert_eq!(kind(grey().stride_bytes(2 * SMALL.width)), ErrorKind::Mismatch, "the buffers are too small");
        assert_eq!(kind(grey()), ErrorKind::Mismatch, "the next camera of the device has no such setting");
    });
    let planes = camera(&device, "422P").stride_bytes(SMALL.width).open().unwrap();
    let strides = planes.layout().unwrap().planes().iter().map(|plane| plane.stride_bytes).collect::<Vec<_>>();
    assert_eq!(strides, [640, 320, 320]);
}

#[test]
fn decoder_that_writes_only_tiles_gives_opaque_frames() {
    // Whole tiles of 128 rows in both planes, as the driver's pictures have.
    let size = Size::new(640, 512);
    let (Some(device), Some(pool)) = (fwht(Planar::Single), encode::pool("NV12", size, 4)) else { return };
    let mut encoder = Encoder::builder(params(Codec::Fwht, size)).device(device).open(pool.buffers()).unwrap();
    let packets: Vec<Packet> = (0..3).map(|i| coded(&mut encoder, grey(&pool, i)).detach()).collect();
    ioctls::answering_as(Habit::AmphionDecoder, || {
        let mut decoder = Decoder::builder(Codec::Fwht).frames_held(4).open().unwrap();
        let mut frames = Vec::new();
        for packet in packets {
            decoder.try_submit(packet).taken();
            while frames.len() < 3 {
                match decoder.recv(Duration::from_millis(500)).unwrap() {
                    Received::Item(DecoderEvent::Frame(frame)) => frames.push(frame),
                    Received::Item(_) => {}
                    _ => break,
                }
            }
        }
        assert_eq!(frames.len(), 3);
        for frame in &frames {
            let info = frame.layout().fourcc().info().unwrap();
            assert_eq!((info.name, info.kind), ("NV12_8L128", FormatKind::Opaque));
            assert_eq!(frame.layout().fourcc().modifier(), Some(0xf000_0000_0000_0001));
            let read = frame.read(WAIT).and_then(|read| read.copy_row(0, 0, &mut [0; 640]));
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Unsupported);
        }
        // Another format was requested.
        let wish = Decoder::builder(Codec::Fwht).formats([fourcc("NV12")]);
        drop((frames, decoder));
        let mut decoder = wish.open().unwrap();
        let packet = coded(&mut encoder, grey(&pool, 3)).detach();
        decoder.try_submit(packet).taken();
        let e = decoder.recv(WAIT).unwrap_err();
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("AT12"), "{e}");
    });
}

#[test]
fn codec_without_its_daemon_names_it() {
    let Some(device) = vivid(Planar::Single) else { return };
    let fault = Fault { kind: b'V', number: 0, nth: 1, errno: Errno::ENODEV };
    let e = ioctls::with(fault, || Device::open(&device.info().path)).unwrap_err();
    assert!(e.kind() == ErrorKind::DeviceLost && e.to_string().contains("vsidaemon"), "{e}");
}

#[test]
fn encoder_whose_failure_shows_in_poll_alone_is_lost() {
    let Some((mut encoder, pool)) = tiny_encoder("fails_after=3", tiny()) else { return };
    leaving_nothing(|| {
        let mut got = Vec::new();
        for i in 0..4 {
            assert!(encoder.try_submit(grey(&pool, i)).unwrap().is_taken());
            // As an event loop: nothing is asked while the descriptor is not readable.
            assert!(framelease::wait(&[&encoder], WAIT).unwrap(), "{got:?}");
            while let Received::Item(event) = encoder.try_recv().unwrap() {
                got.push(format!("{event:?}"));
                if let EncoderEvent::Lost(error) = event {
                    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
                    return drop(encoder);
                }
            }
        }
        panic!("{got:?}");
    });
    assert_eq!(pool.buffers().leased(), 0);
}
