//! Devices that answer as the drivers of boards do, by their sources.

use std::time::Duration;

use framelease::capture::{Camera, FrameSource, SizeFit};
use framelease::codec::{Encoder, EncoderEvent};
use framelease::format::{FrameInterval, Size};
use framelease::frame::Pool;
use framelease::v4l2::Resumed;
use framelease::{ErrorKind, Received, Station, Submit};

use crate::coding::{coded, drained, WAIT};
use crate::devices::*;
use crate::encode::{grey, tiny, tiny_encoder};
use crate::ioctls::{self, Habit};

#[test]
fn camera_of_a_driver_that_forgets_its_format_opens_and_reports_its_rate() {
    let Some(device) = vivid(Planar::Single) else { return };
    let rate = FrameInterval::from_fps(30);
    for (format, size) in [("YUYV", SMALL), ("UYVY", Size::new(640, 480)), ("NV12", SMALL)] {
        let builder = Camera::builder().device(device.clone()).formats([fourcc(format)]).size(size).interval(rate);
        let open = || builder.clone().fit(SizeFit::Nearest).open().unwrap();
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

/// Encodes frames one by one, and asserts that their buffers come back.
fn continues(encoder: &mut Encoder, pool: &Pool, from: u64) {
    for i in from..from + 8 {
        let packet = coded(encoder, grey(pool, i));
        assert_eq!(packet.meta().source, Some(i));
        assert_eq!(packet.is_key(), i == from || (i - from) % 4 == 0, "a new stream from frame {from}");
        let more = encoder.try_recv().unwrap();
        assert!(more.is_nothing(), "{more:?}");
        assert!(pool.buffers().leased() <= 1, "frame {i}: {} leased", pool.buffers().leased());
    }
    assert!(!is_readable(encoder));
}

#[test]
fn encoder_of_vsi_continues_after_a_drain() {
    let Some((mut encoder, pool)) = tiny_encoder("vsi=1", tiny()) else { return };
    leaving_nothing(|| {
        for from in [0, 20, 40] {
            (from..from + 3).for_each(|i| assert!(encoder.try_submit(grey(&pool, i)).unwrap().is_taken()));
            assert_eq!(drained(&mut encoder).len(), 3);
            assert!(!is_readable(&encoder), "the driver keeps a frame that was read, and must not be polled for it");
            assert_eq!(encoder.resume().unwrap(), Resumed::Restarted);
            assert!(encoder.try_recv().unwrap().is_nothing() && !is_readable(&encoder));
            continues(&mut encoder, &pool, from + 3);
        }
        drop(encoder);
        assert_eq!(pool.buffers().leased(), 0);
    });
}

#[test]
fn encoder_of_vsi_continues_after_a_reset() {
    let Some((mut encoder, pool)) = tiny_encoder("vsi=1", tiny()) else { return };
    leaving_nothing(|| {
        continues(&mut encoder, &pool, 0);
        for from in [10, 20, 30] {
            encoder.reset().unwrap();
            for _ in 0..3 {
                let got = encoder.recv(Duration::from_millis(20)).unwrap();
                assert!(got.is_nothing(), "{got:?}: a reset does not end the stream");
            }
            assert!(!is_readable(&encoder));
            continues(&mut encoder, &pool, from);
        }
        drop(encoder);
        assert_eq!(pool.buffers().leased(), 0);
    });
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
