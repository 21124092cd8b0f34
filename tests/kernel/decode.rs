//! Tests of decoders: vicodec's FWHT, from packets of our encoder, with changes of the stream.

use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::capture::{Camera, FrameSource};
use framelease::codec::{source_layout, Decoder, DecoderEvent, Encoder};
use framelease::dmabuf::Allocator;
use framelease::format::{FormatKind, FourCc, Rect, Size};
use framelease::frame::{Frame, FrameFlags, Packet, PacketMeta, Pool};
use framelease::v4l2::{Device, Direction, Resumed};
use framelease::ErrorKind;
use framelease::{Received, Station, Submit};

use crate::coding::*;
use crate::devices::*;
use crate::ioctls::{self, Habit};

fn decoder(planar: Planar) -> Option<Decoder> {
    fwht(planar)?;
    Some(Decoder::builder(Codec::Fwht).frames_held(16).open().unwrap())
}

/// Returns all events of these packets, up to the end. The end also needs a buffer, so the test must not hold more
/// frames than it asked for.
fn decoded(decoder: &mut Decoder, packets: &[Packet]) -> Vec<DecoderEvent> {
    let mut got = Vec::new();
    for packet in packets {
        while !decoder.try_submit(packet.clone()).unwrap().is_taken() {
            got.push(decoder.recv(WAIT).unwrap().item().expect("no event in time"));
        }
    }
    while decoder.pictures().is_none() {
        got.push(decoder.recv(WAIT).unwrap().item().expect("no format in time"));
    }
    decoder.drain().unwrap();
    loop {
        match decoder.recv(WAIT).unwrap() {
            Received::Item(event) => got.push(event),
            Received::Nothing => panic!("no end"),
            Received::Ended => return got,
        }
    }
}

fn frames(decoded: &[DecoderEvent]) -> Vec<&Frame> {
    decoded.iter().filter_map(|d| if let DecoderEvent::Frame(f) = d { Some(f) } else { None }).collect()
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares.max(1e-9)).log10()
}

/// Encodes a camera's frames as FWHT and decodes them again. Returns the least PSNR and the number of frames.
pub fn psnr_of_round_trip(mut camera: Camera, mut encoder: Encoder, count: usize) -> (f64, usize) {
    let fourcc = camera.layout().unwrap().fourcc();
    let (mut originals, mut packets) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let frame = frame(&mut camera);
        originals.push(pixels(&frame));
        packets.push(coded(&mut encoder, frame).detach());
    }
    drop((camera, encoder));
    let mut decoder = Decoder::builder(Codec::Fwht).formats([fourcc]).frames_held(count).open().unwrap();
    let got = decoded(&mut decoder, &packets);
    let visible = decoder.pictures().unwrap().visible.size;
    let pictures: Vec<Vec<u8>> = frames(&got).into_iter().map(|f| cropped(f, visible)).collect();
    let worst = pictures.iter().zip(&originals).map(|(a, b)| psnr(a, b)).fold(f64::MAX, f64::min);
    (worst, pictures.len())
}

/// The visible pixels of a frame.
fn cropped(frame: &Frame, visible: Size) -> Vec<u8> {
    let whole = frame.layout().size();
    let read = frame.read(WAIT).unwrap();
    let mut bytes = Vec::new();
    for plane in 0..frame.layout().planes().len() {
        let (row_bytes, rows) = (frame.layout().row_bytes(plane), frame.layout().rows(plane));
        let mut row = vec![0; (row_bytes * visible.width / whole.width) as usize];
        for y in 0..rows * visible.height / whole.height {
            read.copy_span(plane, y, 0, &mut row).unwrap();
            bytes.extend_from_slice(&row);
        }
    }
    bytes
}

/// Coded frames of vivid in one size.
fn stream(size: Size, count: usize) -> Option<Vec<Packet>> {
    let (vivid, device) =
        (vivid(Planar::Single)?, needed("vicodec", Encoder::find(Codec::Fwht).map_err(|e| e.to_string()))?);
    let (mut camera, mut encoder, _) = pair(&vivid, device, params(Codec::Fwht, size), &[fourcc("YUYV")]);
    Some((0..count).map(|_| coded(&mut encoder, frame(&mut camera)).detach()).collect())
}

fn decodes(planar: Planar) {
    let (Some(mut decoder), Some(packets)) = (decoder(planar), stream(SMALL, 6)) else { return };
    leaving_nothing(|| {
        assert_eq!(decoder.drain().unwrap_err().kind(), ErrorKind::State, "nothing is known of the stream");
        assert!(decoder.try_recv().unwrap().is_nothing() && decoder.recv(Duration::ZERO).unwrap().is_nothing());
        let got = decoded(&mut decoder, &packets);
        let DecoderEvent::Format(pictures) = &got[0] else { panic!("{got:?}") };
        assert_eq!(pictures.visible, Rect::from(SMALL));
        assert!(pictures.buffers.memory(0)[0].is_read_only());
        let all = frames(&got);
        assert_eq!(all.len(), 6);
        for (frame, packet) in all.iter().zip(&packets) {
            assert_eq!(frame.meta().timestamp_ns, packet.meta().timestamp_ns);
            assert!(!frame.meta().flags.contains(FrameFlags::ERROR));
            assert_eq!(frame.buffers().id(), pictures.buffers.id());
        }
        assert_eq!((decoder.stats().packets, decoder.stats().frames, decoder.stats().formats), (6, 6, 1));
        drop(got);
        // A new stream after the end.
        assert!(matches!(decoder.resume().unwrap(), Resumed::Continued | Resumed::Restarted));
        let again = decoded(&mut decoder, &packets);
        assert_eq!(frames(&again).len(), 6);
        drop((again, decoder));
    });
}

#[test]
fn decoder_returns_the_encoded_pictures_single_planar() {
    decodes(Planar::Single);
}

#[test]
fn decoder_returns_the_encoded_pictures_multi_planar() {
    decodes(Planar::Multi);
}

/// mxc-jpeg and others have the format JPEG, and bcm2835-codec has MJPG.
#[test]
fn decoder_and_encoder_of_motion_jpeg_take_the_format_that_the_device_has() {
    if fwht(Planar::Single).is_none() || needed_path("udmabuf", "/dev/udmabuf").is_none() {
        return;
    }
    for format in [*b"JPEG", *b"MJPG"] {
        ioctls::answering_as(Habit::Renamed(*b"FWHT", format), || {
            let device = Encoder::find(Codec::Mjpeg).unwrap();
            let parameters = params(Codec::Mjpeg, SMALL);
            let layout = source_layout(&device, &parameters, fourcc("NV12")).unwrap();
            let pool = Pool::new(&Allocator::Udmabuf, layout, 2).unwrap();
            let mut encoder = Encoder::builder(parameters).device(device).open(pool.buffers()).unwrap();
            let packets: Vec<Packet> = (0..4)
                .map(|i| coded(&mut encoder, pool.try_acquire().unwrap().freeze_full(i, 1000 + i)).detach())
                .collect();
            assert!(packets.iter().all(|packet| packet.meta().codec == Codec::Mjpeg));
            drop(encoder);
            let mut decoder = Decoder::builder(Codec::Mjpeg).frames_held(4).open().unwrap();
            let got = decoded(&mut decoder, &packets);
            let times = frames(&got).iter().map(|frame| frame.meta().timestamp_ns).collect::<Vec<_>>();
            assert_eq!(times, [1000, 1001, 1002, 1003], "a frame for each packet");
        });
    }
    let e = Decoder::builder(Codec::Mjpeg).device(Encoder::find(Codec::Fwht).unwrap()).open().unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("no decoder of mjpeg"), "{e}");
}

/// mxc-jpeg reports the size of the first picture by V4L2_EVENT_SOURCE_CHANGE, and each other size.
#[test]
fn decoder_follows_motion_jpeg_on_a_device_that_lists_one_format() {
    let (Some(small), Some(large)) = (stream(SMALL, 3), stream(Size::new(1280, 720), 3)) else { return };
    let packets: Vec<Packet> = [&small, &large, &small]
        .into_iter()
        .flatten()
        .map(|packet| {
            let meta = packet.meta();
            let meta = PacketMeta::new(Codec::Mjpeg, meta.size, meta.sequence, meta.timestamp_ns);
            Packet::new(meta, packet.bytes(), None)
        })
        .collect();
    ioctls::answering_as(Habit::MxcJpeg, || {
        let builder = || Decoder::builder(Codec::Mjpeg).frames_held(16);
        // vicodec's own choice for a stream of YUYV comes last.
        for wish in [&[][..], &["NV12", "YUYV", "YU12", "422P"]] {
            let mut decoder = builder().formats(wish.iter().map(|name| fourcc(name))).open().unwrap();
            let got = decoded(&mut decoder, &packets);
            let sizes = got.iter().filter_map(|event| match event {
                DecoderEvent::Format(pictures) => Some(pictures.visible.size),
                _ => None,
            });
            assert_eq!(sizes.collect::<Vec<_>>(), [SMALL, Size::new(1280, 720), SMALL]);
            assert_eq!(frames(&got).len(), 9, "no frame is lost");
            let times = |metas: &mut dyn Iterator<Item = u64>| metas.collect::<Vec<_>>();
            assert_eq!(
                times(&mut frames(&got).iter().map(|f| f.meta().timestamp_ns)),
                times(&mut packets.iter().map(|p| p.meta().timestamp_ns))
            );
        }
        let mut decoder = builder().formats([fourcc("RGB3")]).open().unwrap();
        decoder.try_submit(packets[0].clone()).taken();
        let e = decoder.recv(WAIT).unwrap_err();
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("asked RGB3; the device offers "), "{e}");
    });
}

#[test]
fn formats_of_both_sides_survive_the_round_trip() {
    let (Some(vivid), Some(_)) = (vivid(Planar::Single), fwht(Planar::Single)) else { return };
    // Any size, so that no format is left out because of its rows.
    set_hdmi(&vivid);
    freeze_pattern(&vivid);
    let size = Size::new(640, 368);
    let list = |device: &Device, direction| -> Vec<FourCc> {
        device.formats(direction).unwrap().iter().map(|o| o.fourcc).collect()
    };
    let read = list(&Encoder::find(Codec::Fwht).unwrap(), Direction::Output);
    let both = list(&vivid, Direction::Capture).into_iter().filter(|f| f.info().is_some() && read.contains(f));
    let mut count = 0;
    for format in both {
        leaving_nothing(|| {
            let encoder = Encoder::find(Codec::Fwht).unwrap();
            let (camera, encoder, _) = pair(&vivid, encoder, params(Codec::Fwht, size), &[format]);
            let (worst, frames) = psnr_of_round_trip(camera, encoder, 2);
            assert_eq!(frames, 2, "{format}");
            // The alpha and the padding of RGB are not always kept.
            assert!(
                worst > if format.info().unwrap().kind == FormatKind::Yuv { 30.0 } else { 10.0 },
                "{format}: {worst} dB"
            );
        });
        count += 1;
    }
    assert!(count >= 15, "{count} formats");
}

#[test]
fn decoder_gives_the_same_pictures_as_v4l2_ctl() {
    let (Some(()), Some(mut decoder)) = (program("v4l2-ctl"), decoder(Planar::Single)) else { return };
    let Some(packets) = stream(SMALL, 6) else { return };
    let folder = std::env::temp_dir().join(format!("framelease-fwht-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    std::fs::write(path("in"), packets.iter().flat_map(|p| p.bytes().to_vec()).collect::<Vec<_>>()).unwrap();
    let node = decoder.device().info().path.to_str().unwrap().to_owned();
    let (from, to) = (format!("--stream-from={}", path("in")), format!("--stream-to={}", path("out")));
    run("v4l2-ctl", &["-d", &node, "--stream-mmap", "--stream-out-mmap", &from, &to]);
    let theirs = std::fs::read(path("out")).unwrap();
    let got = decoded(&mut decoder, &packets);
    let ours: Vec<u8> = frames(&got).into_iter().flat_map(pixels).collect();
    assert!(theirs == ours, "{} bytes from v4l2-ctl, {} from the decoder", theirs.len(), ours.len());
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn stream_change_allocates_other_buffers() {
    follows_a_change();
}

#[test]
fn stream_change_is_one_whatever_the_driver_names_it() {
    ioctls::answering_as(Habit::VsiDecoder, follows_a_change);
}

fn follows_a_change() {
    let Some(mut decoder) = decoder(Planar::Single) else { return };
    let (Some(small), Some(large)) = (stream(SMALL, 4), stream(Size::new(1280, 720), 4)) else { return };
    leaving_nothing(|| {
        let both: Vec<Packet> = small.iter().chain(&large).chain(&small).cloned().collect();
        let got = decoded(&mut decoder, &both);
        let formats: Vec<Size> = got
            .iter()
            .filter_map(|d| if let DecoderEvent::Format(p) = d { Some(p.visible.size) } else { None })
            .collect();
        assert_eq!(formats, [SMALL, Size::new(1280, 720), SMALL]);
        let all = frames(&got);
        assert_eq!(all.len(), 12, "no frame is lost over a change");
        // Frames from before the change stay valid.
        assert!(all.iter().all(|f| !pixels(f).is_empty()));
        drop((got, decoder));
    });
}

#[test]
fn flush_works_while_frames_are_held() {
    let (Some(mut decoder), Some(packets)) = (decoder(Planar::Single), stream(SMALL, 8)) else { return };
    leaving_nothing(|| {
        let mut held = Vec::new();
        let mut left = packets.iter();
        let mut next = left.next();
        let mut quiet = 0;
        while quiet < 3 {
            if let Some(packet) = next {
                if decoder.try_submit(packet.clone()).unwrap().is_taken() {
                    next = left.next();
                }
            }
            match decoder.recv(Duration::from_millis(200)).unwrap() {
                Received::Item(got) => held.push(got),
                Received::Nothing | Received::Ended => quiet += 1,
            }
        }
        let count = frames(&held).len();
        assert!(count >= 8, "at least the frames that may be held: {count}");
        decoder.flush().unwrap();
        held.clear();
        let got = decoded(&mut decoder, &packets[4..]);
        assert!(!frames(&got).is_empty());
        drop((got, decoder));
    });
}

#[test]
fn decoder_refuses_invalid_packets_and_formats() {
    let Some(mut decoder) = decoder(Planar::Single) else { return };
    let meta = PacketMeta::new(Codec::H264, SMALL, 0, 0);
    let e = decoder.try_submit(Packet::new(meta, [0, 0, 1, 0x65], None)).unwrap_err();
    assert_eq!(e.error.kind(), ErrorKind::InvalidArgument, "{e}");
    assert_eq!(decoder.try_submit_bytes(&[], 0, 0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let e = decoder.try_submit_bytes(&vec![0; 64 << 20], 0, 0).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Mismatch, "{e}");
    // Noise is not a stream: the decoder gives nothing, and does not fail.
    assert!(decoder.try_submit_bytes(&[0x55; 4000], 0, 0).unwrap().is_taken());
    assert!(decoder.recv(Duration::from_millis(200)).unwrap().is_nothing());
    drop(decoder);
    let Some(packets) = stream(SMALL, 1) else { return };
    let formats =
        |names: &[&str]| Decoder::builder(Codec::Fwht).formats(names.iter().map(|f| fourcc(f))).open().unwrap();
    let mut decoder = formats(&["NV12M"]);
    decoder.try_submit(packets[0].clone()).taken();
    let e = decoder.recv(WAIT).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("asked NM12; the device offers YU12"), "{e}");
    drop(decoder);
    // vicodec lists formats that it does not convert to, accepts them, and then reports a change of the stream.
    let got = decoded(&mut formats(&["NV12", "YUYV"]), &packets);
    assert_eq!(frames(&got)[0].layout().fourcc(), fourcc("YUYV"), "the next acceptable one");
    let e = Decoder::builder(Codec::Hevc).open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
}
