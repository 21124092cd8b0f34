//! Tests of the JPEG decoder of the CPU: its samples are those of ffmpeg, but for rounding.

use framelease::bitstream::Codec;
use framelease::codec::{DecoderEvent, JpegDecoder, Pictures};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Size};
use framelease::frame::{Frame, FrameFlags, Packet, PacketMeta};
use framelease::stats::cpu_bytes;
use framelease::{ErrorKind, Station, Submit};

use crate::support::*;

/// Decodes packets. Returns the last format and the frames.
fn decoded(decoder: &mut JpegDecoder, packets: &[Packet]) -> (Option<Pictures>, Vec<Frame>) {
    let (mut pictures, mut frames) = (None, Vec::new());
    for packet in packets {
        assert!(decoder.try_submit(packet.clone()).unwrap().is_taken());
        while let Some(event) = decoder.try_recv().unwrap().item() {
            match event {
                DecoderEvent::Format(format) => pictures = Some(format),
                DecoderEvent::Frame(frame) => frames.push(frame),
                other => panic!("{other:?}"),
            }
        }
    }
    (pictures, frames)
}

/// The visible samples of a frame, plane by plane: Y, Cb, Cr.
fn visible(frame: &Frame, size: Size) -> Vec<u8> {
    let (read, layout) = (frame.read(DEFAULT_WAIT).unwrap(), frame.layout());
    let (width, height) = (size.width as usize, size.height);
    let row = |plane, row| {
        let mut bytes = vec![0; layout.row_bytes(plane) as usize];
        read.copy_row(plane, row, &mut bytes).unwrap();
        bytes
    };
    let every = |bytes: &[u8], first: usize, step: usize, count: usize| {
        bytes.iter().skip(first).step_by(step).take(count).copied().collect::<Vec<u8>>()
    };
    let (luma, chroma) = match layout.fourcc() {
        FourCc::YUYV => (2, (0, height, [1, 3], 4)),
        FourCc::NV12 => (1, (1, height.div_ceil(2), [0, 1], 2)),
        _ => (1, (0, 0, [0, 0], 1)),
    };
    let mut all: Vec<u8> = (0..height).flat_map(|y| every(&row(0, y), 0, luma, width)).collect();
    let (plane, rows, firsts, step) = chroma;
    for first in firsts {
        all.extend((0..rows).flat_map(|y| every(&row(plane, y), first, step, width.div_ceil(2))));
    }
    all
}

/// The greatest difference of two samples, and the mean.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let all = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    (all().max().unwrap(), all().map(f64::from).sum::<f64>() / a.len() as f64)
}

fn by_ffmpeg(stream: &[u8], format: &str) -> Option<Vec<u8>> {
    let args = ["-v", "error", "-f", "mjpeg", "-i", "-", "-pix_fmt", format, "-f", "rawvideo", "-"];
    program("ffmpeg", &args, stream).map(|out| out.stdout)
}

fn gstreamer(format: &str, size: Size) -> Option<Vec<u8>> {
    let line = format!(
        "-q videotestsrc num-buffers=5 horizontal-speed=3 ! video/x-raw,format={format},width={},height={} ! \
         jpegenc quality=95 ! fdsink",
        size.width, size.height
    );
    clean("gst-launch-1.0", &line.split_whitespace().collect::<Vec<_>>(), &[])
}

#[test]
fn jpeg_decoder_gives_the_samples_of_ffmpeg() {
    let (size, odd) = (JPEG_SIZE, Size::new(99, 51));
    let ffmpeg = |size, more: &[&str]| stream_with(Codec::Mjpeg, 5, size, more);
    let slices = ["-threads", "2", "-thread_type", "slice"];
    for (what, size, stream, fourcc, format) in [
        ("4:2:0", size, ffmpeg(size, &[]), FourCc::NV12, "yuvj420p"),
        ("optimal codes", size, ffmpeg(size, &["-huffman", "optimal", "-q:v", "1"]), FourCc::NV12, "yuvj420p"),
        ("restart markers", size, ffmpeg(size, &slices), FourCc::NV12, "yuvj420p"),
        ("4:2:2 in MCUs of 16x16", size, ffmpeg(size, &["-pix_fmt", "yuvj422p"]), FourCc::YUYV, "yuvj422p"),
        ("4:2:2", size, gstreamer("Y42B", size), FourCc::YUYV, "yuvj422p"),
        ("gray", size, gstreamer("GRAY8", size), FourCc::GREY, "gray"),
        ("an odd size", odd, gstreamer("I420", odd), FourCc::NV12, "yuvj420p"),
    ] {
        let Some(stream) = stream else { return };
        let Some(expected) = by_ffmpeg(&stream, format) else { return };
        let packets = packets(Codec::Mjpeg, &stream, size);
        let mut decoder = JpegDecoder::new(&Allocator::Memfd, 5).unwrap();
        let (pictures, frames) = decoded(&mut decoder, &packets);
        let pictures = pictures.unwrap();
        assert_eq!((pictures.buffers.layout().fourcc(), pictures.visible.size), (fourcc, size), "{what}");
        assert_eq!(frames.len(), 5);
        let pixels: Vec<u8> = frames.iter().flat_map(|frame| visible(frame, size)).collect();
        let (most, mean) = difference(&pixels, &expected);
        assert!(most <= 2 && mean < 0.1, "{what}: {most} at most, {mean:.3} on average");
        for (frame, packet) in frames.iter().zip(&packets) {
            let (meta, of) = (frame.meta(), packet.meta());
            assert_eq!(
                (meta.sequence, meta.timestamp_ns, meta.flags),
                (of.sequence, of.timestamp_ns, of.flags & meta.flags)
            );
        }
    }
}

#[test]
fn jpeg_decoder_gives_thirty_1080p_pictures_as_ffmpeg_does() {
    const OF_EACH: usize = 15;
    let size = Size::new(1920, 1080);
    for format in ["yuvj420p", "yuvj422p"] {
        let more = ["-vf", "noise=alls=4:allf=t", "-pix_fmt", format];
        let Some(stream) = stream_with(Codec::Mjpeg, OF_EACH, size, &more) else { return };
        let Some(expected) = by_ffmpeg(&stream, format) else { return };
        let packets = packets(Codec::Mjpeg, &stream, size);
        let each = expected.chunks_exact(expected.len() / OF_EACH);
        assert!(packets.len() == OF_EACH && each.clone().zip(each.clone().skip(1)).all(|(a, b)| a != b));
        let mut decoder = JpegDecoder::new(&Allocator::Memfd, 1).unwrap();
        for (at, (packet, expected)) in packets.iter().zip(each).enumerate() {
            let (_, frames) = decoded(&mut decoder, std::slice::from_ref(packet));
            assert!(!frames[0].meta().flags.contains(FrameFlags::ERROR));
            let (most, mean) = difference(&visible(&frames[0], size), expected);
            assert!(most <= 2 && mean < 0.1, "{format}, picture {at}: {most} at most, {mean:.3} on average");
        }
    }
}

#[test]
fn jpeg_decoder_counts_the_bytes_that_the_cpu_touches() {
    let Some(stream) = stream(Codec::Mjpeg, 3, JPEG_SIZE) else { return };
    let packets = packets(Codec::Mjpeg, &stream, JPEG_SIZE);
    let mut decoder = JpegDecoder::new(&Allocator::Memfd, 3).unwrap();
    let before = cpu_bytes();
    let _frames = decoded(&mut decoder, &packets);
    let after = cpu_bytes();
    assert!(after.read - before.read >= stream.len() as u64);
    assert!(after.written - before.written >= 3 * 320 * 176 * 3 / 2);
    let stats = decoder.stats();
    assert_eq!((stats.packets, stats.frames, stats.errors, stats.formats), (3, 3, 0, 1));
    assert_eq!(stats.bytes, stream.len() as u64);
}

#[test]
fn jpeg_decoder_flags_damaged_pictures_and_refuses_others() {
    let slices = ["-threads", "2", "-thread_type", "slice"];
    let Some(stream) = stream_with(Codec::Mjpeg, 1, JPEG_SIZE, &slices) else { return };
    let good = packets(Codec::Mjpeg, &stream, JPEG_SIZE).remove(0);
    let of = |bytes: &[u8]| Packet::new(*good.meta(), bytes, None);
    let mut decoder = JpegDecoder::new(&Allocator::Memfd, 4).unwrap();
    let (_, whole) = decoded(&mut decoder, std::slice::from_ref(&good));
    assert!(!whole[0].meta().flags.contains(FrameFlags::ERROR));
    let expected = visible(&whole[0], JPEG_SIZE);
    // Damage in the middle ends at the next restart marker. Rows before and after it are as in the whole picture.
    let mut bytes = stream.clone();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20].fill(0xfe);
    let cut = &stream[..middle];
    for (what, bytes) in [("damaged", &bytes[..]), ("cut", cut)] {
        let (_, frames) = decoded(&mut decoder, &[of(bytes)]);
        assert!(frames[0].meta().flags.contains(FrameFlags::ERROR), "{what}");
        let pixels = visible(&frames[0], JPEG_SIZE);
        assert_eq!(pixels[..320 * 16], expected[..320 * 16], "{what}: the first row of MCUs");
        let last = 320 * (176 - 16)..320 * 176; // Of the luma.
        assert_eq!(pixels[last.clone()] == expected[last], what == "damaged", "{what}: the last row of MCUs");
    }
    assert_eq!(decoder.stats().errors, 2);
    let Some(odd) = stream_with(Codec::Mjpeg, 1, JPEG_SIZE, &["-pix_fmt", "yuvj444p"]) else { return };
    let h264 = Packet::new(PacketMeta::new(Codec::H264, JPEG_SIZE, 0, 0), &stream[..], None);
    for (packet, kind) in [
        (of(&odd), ErrorKind::Unsupported),
        (of(&stream[..100]), ErrorKind::InvalidArgument),
        (of(b"no picture"), ErrorKind::InvalidArgument),
        (h264, ErrorKind::InvalidArgument),
        (Packet::new(PacketMeta::new(Codec::Mjpeg, Size::new(320, 160), 0, 0), &stream[..], None), ErrorKind::Mismatch),
    ] {
        let rejected = decoder.try_submit(packet.clone()).unwrap_err();
        assert_eq!((rejected.error.kind(), rejected.item.bytes()), (kind, packet.bytes()), "{}", rejected.error);
    }
    assert!(decoder.try_submit(good).unwrap().is_taken(), "the next picture is decoded");
}

#[test]
fn jpeg_decoder_flags_wrong_restart_markers_and_takes_bytes_before_them() {
    let slices = ["-threads", "2", "-thread_type", "slice"];
    let Some(stream) = stream_with(Codec::Mjpeg, 1, JPEG_SIZE, &slices) else { return };
    let good = packets(Codec::Mjpeg, &stream, JPEG_SIZE).remove(0);
    let marker = |pair: &[u8]| pair[0] == 0xff && (0xd0..=0xd7).contains(&pair[1]);
    let at: Vec<usize> = (0..stream.len() - 1).filter(|&i| marker(&stream[i..i + 2])).collect();
    assert_eq!(at.len(), 10, "a marker between all rows of MCUs");
    let mut decoder = JpegDecoder::new(&Allocator::Memfd, 2).unwrap();
    let mut decode = |bytes: &[u8]| {
        let (_, frames) = decoded(&mut decoder, &[Packet::new(*good.meta(), bytes, None)]);
        (visible(&frames[0], JPEG_SIZE), frames[0].meta().flags.contains(FrameFlags::ERROR))
    };
    let (expected, is_damaged) = decode(&stream);
    assert!(!is_damaged);
    // The rows of MCUs that differ.
    let rows = |pixels: &[u8]| -> Vec<usize> {
        let band = |pixels: &[u8], row: usize| pixels[320 * 16 * row..][..320 * 16].to_vec();
        (0..11).filter(|&row| band(pixels, row) != band(&expected, row)).collect()
    };
    let other = |number: usize, by: u8| {
        let mut bytes = stream.clone();
        bytes[at[number] + 1] = 0xd0 | (bytes[at[number] + 1] + by) & 7;
        bytes
    };
    let interval = &stream[at[3]..at[4]];
    let lacking = [&stream[..at[3]], &stream[at[4]..]].concat();
    let twice = [&stream[..at[4]], interval, &stream[at[4]..]].concat();
    for (what, bytes, damaged) in [
        ("another number", other(3, 4), &[][..]),
        ("an interval is missing", lacking, &[4]),
        ("an interval comes twice", twice, &[]),
        ("a number that is ahead", other(3, 1), &[4, 5]),
    ] {
        let (pixels, is_damaged) = decode(&bytes);
        assert!(is_damaged, "{what}");
        assert_eq!(rows(&pixels), damaged, "{what}");
    }
    // Webcams write more bytes before a marker.
    let end = stream.len() - 2;
    let more = [&stream[..at[2]], &[0x5a; 3], &stream[at[2]..end], &[0; 9], &stream[end..]].concat();
    assert!(decode(&more) == (expected, false));
}

#[test]
fn jpeg_decoder_gives_another_format_after_the_frames_of_the_present_one() {
    let (small, large) = (Size::new(64, 48), JPEG_SIZE);
    let (Some(a), Some(b)) = (stream(Codec::Mjpeg, 1, small), stream(Codec::Mjpeg, 1, large)) else { return };
    let [a, b] = [(a, small), (b, large)].map(|(stream, size)| packets(Codec::Mjpeg, &stream, size).remove(0));
    let mut decoder = JpegDecoder::new(&Allocator::Memfd, 2).unwrap();
    assert!(decoder.pictures().is_none());
    assert!(decoder.try_submit(a.clone()).unwrap().is_taken());
    assert!(decoder.try_submit(b.clone()).unwrap().full().is_some(), "events of the first format wait");
    let (_, first) = decoded(&mut decoder, &[]);
    let held = loop {
        match decoder.try_recv().unwrap().item().unwrap() {
            DecoderEvent::Frame(frame) => break frame,
            DecoderEvent::Format(pictures) => assert_eq!(pictures.visible.size, small),
            other => panic!("{other:?}"),
        }
    };
    assert!(first.is_empty());
    let before = visible(&held, small);
    let (pictures, frames) = decoded(&mut decoder, &[b]);
    assert_eq!((pictures.unwrap().visible.size, frames.len()), (large, 1));
    assert_eq!(visible(&held, small), before, "a frame of the earlier buffers stays");
}
