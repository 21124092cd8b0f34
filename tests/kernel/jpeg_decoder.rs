//! Tests of the JPEG decoder of the CPU with a USB camera.

use std::time::Duration;

use framelease::capture::{Camera, Fit, FrameSource};
use framelease::codec::{DecoderEvent, JpegDecoder};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::share::Policy;
use framelease::{Station, Submit};

use crate::camera::packet;
use crate::devices::*;
use crate::share::{received, Scene};
use crate::uvc::Uvc;
use crate::uvc_descriptors::format;

const QVGA: Size = Size::new(320, 240);

/// A 4:2:0 picture of [`QVGA`] whose samples are 192 + `level`, and 128 in the chroma. `level` is less than 64.
fn flat_jpeg(level: u8) -> Vec<u8> {
    let segment = |marker: u8, body: &[u8]| [&[0xff, marker, 0, body.len() as u8 + 2], body].concat();
    // The first block has the difference to 128, in 7 bits. The other blocks have no difference and no coefficient.
    let first = format!("11110{:07b}1010", 64 + level);
    let mcus =
        ["001010".repeat(3), "0000".repeat(2)].concat() + &["001010".repeat(4), "0000".repeat(2)].concat().repeat(299);
    let bits = (first + &mcus).into_bytes();
    let byte = |bits: &[u8]| bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')) << (8 - bits.len());
    [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[8; 64]].concat()),
        segment(0xc0, &[8, 0, 240, 1, 64, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0]),
        segment(0xda, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]),
        bits.chunks(8).map(byte).collect(),
        vec![0xff, 0xd9],
    ]
    .concat()
}

#[test]
fn jpeg_decoder_keeps_up_with_a_usb_camera_and_two_subscribers() {
    const FRAMES: usize = 120;
    const COUNTED: usize = 90;
    let Some(uvc) = Uvc::plug(&[format("MJPG", &[(QVGA, &[30])])]) else { return };
    uvc.show(|number| flat_jpeg((number % 64) as u8));
    // The camera sends 30 frames a second, and loses a frame while it does not have a buffer.
    let mut camera =
        Camera::builder().device(uvc.device()).interval_fit(Fit::Exact).packets().buffers(8).open().unwrap();
    let mut decoder = JpegDecoder::new(&Allocator::Memfd, 12).unwrap();
    decoder.try_submit(packet(&mut camera)).taken();
    let Some(DecoderEvent::Format(pictures)) = decoder.try_recv().unwrap().item() else { panic!("no format") };
    drop(decoder.try_recv().unwrap().frame().unwrap());
    let mut s = Scene::with(camera, &pictures.buffers);
    let mut subscribers = [s.join_holding(Policy::Fifo(3), 1), s.join_holding(Policy::Fifo(3), 1)];
    let mut last = (0, 0);
    for at in 0..FRAMES {
        decoder.try_submit(packet(&mut s.camera)).taken();
        let frame = decoder.try_recv().unwrap().frame().unwrap();
        let sequence = frame.meta().sequence;
        s.publisher.publish(frame, Duration::from_secs(1)).taken();
        let levels = subscribers.each_mut().map(|subscriber| {
            let shared = received(subscriber);
            assert_eq!((shared.meta().sequence, subscriber.stats().dropped), (sequence, 0));
            let pixels = pixels(&shared);
            let (luma, chroma) = pixels.split_at(320 * 240);
            assert!(luma.iter().all(|sample| *sample == luma[0]) && chroma.iter().all(|sample| *sample == 128));
            luma[0] - 192
        });
        // The first packets have waited for the subscribers.
        if at >= FRAMES - COUNTED {
            assert_eq!((sequence, levels), (last.0 + 1, [(last.1 + 1) % 64; 2]), "{at}: {:?}", s.camera.stats());
        }
        last = (sequence, levels[0]);
    }
    assert_eq!(decoder.stats().errors, 0);
}
