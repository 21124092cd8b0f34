//! Tests of Matroska files: ffmpeg decodes the same frames from them as from the stream, from whole files and from cut
//! ones.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use framelease::bitstream::{nal_units, Codec, NalKind};
use framelease::format::{ColorSpace, Colorimetry, FrameInterval, Size};
use framelease::frame::Packet;
use framelease::sink::matroska::Writer;
use framelease::sink::recorder::FileRotation;
use framelease::sink::{WriterOptions, Written};
use framelease::{ErrorKind, Submit};
use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};

use crate::blocks::blocks;
use crate::limits::{close_reader, file_limit};
use crate::recorder::{open, recorded};
use crate::support::*;

const CODECS: [Codec; 4] = [Codec::H264, Codec::Hevc, Codec::Vp8, Codec::Mjpeg];

#[test]
fn matroska_file_holds_the_stream() {
    let folder = Folder::new("whole");
    for codec in CODECS {
        let Some(stream) = stream(codec, 35, SIZE) else { return };
        let packets = packets(codec, &stream, SIZE);
        assert_eq!(packets.len(), 35);
        let path = folder.path("a.mkv");
        let colors = Colorimetry { space: ColorSpace::Rec709, ..Colorimetry::default() };
        let mut writer = Writer::create(&path, options().colorimetry(colors)).unwrap();
        let is_intra = codec == Codec::Mjpeg;
        // A file begins with an intact key frame.
        let other = if is_intra { damaged(&packets[3]) } else { packets[3].clone() };
        assert_eq!(writer.write(&other).unwrap(), Written::Skipped);
        for packet in &packets {
            assert_eq!(writer.write(packet).unwrap(), Written::Stored);
        }
        let summary = writer.finish().unwrap();
        assert_eq!((summary.packets, summary.duration), (35, Duration::from_millis(35 * 40)));
        assert_eq!(summary.bytes, std::fs::metadata(&path).unwrap().len());
        let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
        assert_eq!(Some(&sums), frame_sums("-", Some(format(codec)), &stream).as_ref(), "{codec}");
        assert_eq!(sums.len(), 35);
        let asked = "stream=codec_name,width,height,r_frame_rate,color_space,color_range:format=duration";
        let args = ["-v", "error", "-show_entries", asked, "-of", "flat", text(&path)];
        let Some(about) = clean("ffprobe", &args, &[]) else { return };
        let about = String::from_utf8(about).unwrap();
        for part in ["width=320", "height=180", "r_frame_rate=\"25/1\"", "duration=\"1.400000\""] {
            assert!(about.contains(part), "{codec}: {part} in {about}");
        }
        // For H.265, ffprobe uses only the parameter sets, and for JPEG its own colors.
        assert!(codec == Codec::Hevc || is_intra || about.contains("color_space=\"bt709\""), "{codec}: {about}");
        // A seek by the index: to the last key frame before.
        let args =
            ["-v", "error", "-read_intervals", "1.3%+#1", "-show_entries", "packet=pts_time,flags", "-of", "csv"];
        let Some(jumped) = clean("ffprobe", &[&args[..], &[text(&path)]].concat(), &[]) else { return };
        let jumped = String::from_utf8(jumped).unwrap();
        // In Motion JPEG, ffprobe finds the key frame within its cluster of 250 ms.
        let place = if is_intra { "packet,1.280000,K" } else { "packet,1.200000,K" };
        assert!(jumped.starts_with(place), "{codec}: {jumped}");
        let clusters = std::fs::read(&path).unwrap().windows(4).filter(|w| w == &[0x1f, 0x43, 0xb6, 0x75]).count();
        assert_eq!(clusters, if is_intra { 5 } else { 4 }, "{codec}");
        if let Some(out) = program("mkvmerge", &["-o", text(&folder.path("again.mkv")), text(&path)], &[]) {
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success() && !said.contains("Warning") && !said.contains("Error"), "{codec}: {said}");
        }
    }
}

#[test]
fn writer_keeps_times_of_reordered_packets() {
    let folder = Folder::new("reordered");
    for codec in [Codec::H264, Codec::Hevc] {
        let Some(packets) = reordered(&folder, codec) else { return };
        let given: Vec<u64> = packets.iter().map(|p| p.meta().timestamp_ns / 1_000_000 - 1000).collect();
        assert!(given.windows(2).any(|pair| pair[1] < pair[0]), "{codec}: nothing is reordered");
        let path = folder.path("b.mkv");
        let mut writer = Writer::create(&path, options()).unwrap();
        packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
        let summary = writer.finish().unwrap();
        assert_eq!(summary.duration, Duration::from_millis(45 * 40), "{codec}");
        assert_eq!(times(&path).unwrap(), given, "{codec}");
        let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
        assert_eq!(Some(&sums), frame_sums(text(&folder.path("b.mp4")), None, &[]).as_ref(), "{codec}");
        if let Some(out) = program("mkvmerge", &["-o", text(&folder.path("again.mkv")), text(&path)], &[]) {
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success() && !said.contains("Warning") && !said.contains("Error"), "{codec}: {said}");
        }
    }
}

#[test]
fn matroska_header_describes_fields_and_formats_of_pixels() {
    let folder = Folder::new("header");
    let path = folder.path("a.mkv");
    let interlaced = ["-x264-params", "keyint=10:interlaced=1"];
    for (arguments, order, extra) in [
        (&["-bf", "0"][..], "progressive", 4),
        // ffprobe takes the order from the SEI of the stream.
        (&interlaced, "tt", 4),
        // High 4:4:4 Predictive: profile 244.
        (&["-pix_fmt", "yuv444p"], "progressive", 4),
        (&["-profile:v", "main"], "progressive", 0),
    ] {
        let Some(stream) = stream_with(Codec::H264, 3, SIZE, arguments) else { return };
        let packets = packets(Codec::H264, &stream, SIZE);
        let mut writer = Writer::create(&path, options()).unwrap();
        packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
        writer.finish().unwrap();
        let asked = "stream=field_order,extradata_size";
        let args = ["-v", "error", "-show_entries", asked, "-of", "csv=p=0", text(&path)];
        let Some(about) = clean("ffprobe", &args, &[]) else { return };
        let sets: usize = packets[0].parameter_sets().unwrap().iter().map(|set| 2 + set.len()).sum();
        let expected = format!("{order},{}", 7 + sets + extra);
        assert_eq!(String::from_utf8(about).unwrap().trim(), expected, "{arguments:?}");
    }
}

/// The bytes of a packet in a block.
fn coded(packet: &Packet) -> Vec<u8> {
    let units = nal_units(packet.bytes()).filter(|u| {
        let kind = u.kind(packet.meta().codec);
        (packet.is_key() || !kind.is_parameters()) && kind != NalKind::Delimiter
    });
    units.flat_map(|u| [&(u.data.len() as u32).to_be_bytes(), u.data].concat()).collect()
}

#[test]
fn matroska_file_cut_at_any_byte_plays_up_to_the_cut() {
    const SMALL: Size = Size::new(128, 96);
    let folder = Folder::new("cut");
    let Some(stream) = stream(Codec::H264, 25, SMALL) else { return };
    let packets = packets(Codec::H264, &stream, SMALL);
    let expected: Vec<Vec<u8>> = packets.iter().map(coded).collect();
    let expected: Vec<(u64, &[u8])> = (0..).zip(&expected).map(|(i, coded)| (i * 40, &coded[..])).collect();
    let Some(whole) = frame_sums("-", Some("h264"), &stream) else { return };
    let mut seed = 1u64;
    for is_finished in [false, true] {
        let path = folder.path("a.mkv");
        let mut writer = Writer::create(&path, options()).unwrap();
        let mut ends = Vec::new();
        for packet in &packets {
            writer.write(packet).unwrap();
            ends.push(writer.bytes() as usize);
        }
        // Or as a crash leaves it.
        if is_finished {
            writer.finish().unwrap();
        }
        let all = std::fs::read(&path).unwrap();
        assert_eq!(frame_sums(text(&path), None, &[]).as_ref(), Some(&whole), "finished: {is_finished}");
        let stored = |cut: usize| ends.iter().filter(|&&end| end <= cut).count();
        for cut in 0..=all.len() {
            assert_eq!(blocks(&all[..cut]), expected[..stored(cut)], "cut at {cut}, finished: {is_finished}");
        }
        // ffmpeg decodes some of the cuts. Some of those are exactly at a border.
        for i in 0..40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let anywhere = (seed >> 33) as usize;
            let cut = if i % 4 == 0 { ends[anywhere % 25] + i / 4 % 3 - 1 } else { anywhere };
            let (path, cut) = (folder.path("cut.mkv"), cut % (all.len() + 1));
            std::fs::write(&path, &all[..cut]).unwrap();
            let args = ["-v", "quiet", "-i", text(&path), "-fps_mode", "passthrough", "-f", "framemd5", "-"];
            let Some(out) = program("ffmpeg", &args, &[]) else { return };
            let text = String::from_utf8(out.stdout).unwrap();
            let sums: Vec<&str> =
                text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit(", ").next().unwrap()).collect();
            let stored = stored(cut);
            // ffmpeg may show the frame that was cut, damaged.
            assert!(
                sums.len() >= stored && sums[..stored] == whole[..stored],
                "cut at {cut}, finished: {is_finished}: {} of {stored}",
                sums.len()
            );
        }
    }
}

/// A file that is full after `most` bytes.
struct Full {
    got: Arc<Mutex<Vec<u8>>>,
    most: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut got = self.got.lock().unwrap();
        let n = bytes.len().min(self.most - got.len());
        if n == 0 {
            return Err(io::Error::from_raw_os_error(28));
        }
        got.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn matroska_live_stream_plays_without_sizes_and_ends() {
    let Some(stream) = stream(Codec::H264, 25, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let got = Arc::new(Mutex::new(Vec::new()));
    let mut writer = Writer::live(Full { got: Arc::clone(&got), most: 1 << 20 }, options());
    packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
    assert_eq!(writer.finish().unwrap().packets, 25);
    let live = got.lock().unwrap().clone();
    let Some(sums) = frame_sums("-", Some("matroska"), &live) else { return };
    assert_eq!(Some(sums), frame_sums("-", Some("h264"), &stream));

    let mut writer = Writer::live(Full { got: Arc::default(), most: live.len() / 2 }, options());
    let e = packets.iter().find_map(|p| writer.write(p).err()).expect("the file is full");
    assert_eq!(e.kind(), ErrorKind::Exhausted);
    assert_eq!(writer.write(&packets[0]).unwrap_err().kind(), ErrorKind::State, "the stream is incomplete");
}

#[test]
fn write_error_is_reported_and_a_disk_with_space_is_used_again() {
    let Some(stream) = stream(Codec::H264, 25, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let mut writer = Writer::create("/dev/full", options()).unwrap();
    let e = writer.write(&packets[0]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Exhausted);
    assert!(e.to_string().contains("/dev/full"), "{e}");
    let e = Writer::create("/nowhere/a.mkv", options()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let mut recorder = open("/nowhere/a.mkv", FileRotation::default()).unwrap();
    assert_eq!(recorder.try_submit(packets[0].clone()).unwrap_err().error.kind(), ErrorKind::NotFound);
    assert_eq!(recorded(&mut recorder, &packets[1]), (0, 0));
    // Matroska does not have a name for FWHT.
    let meta = framelease::frame::PacketMeta::new(Codec::Fwht, SIZE, 0, 0);
    let mut head = b"OOOO\xff\xff\xff\xff".to_vec();
    head.extend([0; 12]);
    head.extend((1u32 << 10).to_be_bytes());
    let folder = Folder::new("errors");
    let mut writer = Writer::create(folder.path("a.mkv"), options()).unwrap();
    let e = writer.write(&Packet::new(meta, head, None)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    assert_eq!(writer.write(&packets[0]).unwrap(), Written::Stored, "the refused packet is in the file");
}

/// The packet without its NAL units of one kind. Its parameter sets stay the same.
fn without(packet: &Packet, kind: NalKind, sets: &Packet) -> Packet {
    let units = nal_units(packet.bytes()).filter(|u| u.kind(packet.meta().codec) != kind);
    let bytes: Vec<u8> = units.flat_map(|u| [&[0, 0, 0, 1], u.data].concat()).collect();
    Packet::new(*packet.meta(), bytes, sets.parameter_sets().cloned())
}

#[test]
fn parameter_sets_that_are_not_in_the_header_stay_in_the_stream() {
    let folder = Folder::new("sets");
    let other = ["-x264-params", "keyint=10:scenecut=0:chroma-qp-offset=6"];
    let (Some(first), Some(second)) = (stream(Codec::H264, 15, SIZE), stream_with(Codec::H264, 10, SIZE, &other))
    else {
        return;
    };
    let (first, second) = (packets(Codec::H264, &first, SIZE), packets(Codec::H264, &second, SIZE));
    let sps = |p: &Packet| p.parameter_sets().unwrap().of(NalKind::Sps).next().unwrap().to_vec();
    assert_eq!(sps(&first[0]), sps(&second[0]), "only the picture parameter sets may differ");
    assert_ne!(first[0].parameter_sets(), second[0].parameter_sets());
    // Another picture parameter set comes alone, and later the first one again, before every key frame.
    let alone: Vec<Packet> = second.iter().map(|p| without(p, NalKind::Sps, &first[0])).collect();
    let mixed = [&first[..10], &alone, &first[..10], &first[10..]].concat();
    let path = folder.path("a.mkv");
    let mut writer = Writer::create(&path, options()).unwrap();
    for (i, packet) in mixed.iter().enumerate() {
        assert_eq!(writer.write(&at(packet, i as u64 * 40)).unwrap(), Written::Stored);
    }
    // With another sequence parameter set, it is another stream.
    // Sets that are in force, but not in the packet.
    let apart = without(&without(&second[0], NalKind::Sps, &second[0]), NalKind::Pps, &second[0]);
    assert_eq!(writer.write(&apart).unwrap(), Written::OtherStream);
    writer.finish().unwrap();
    let stream: Vec<u8> = mixed.iter().flat_map(|p| p.bytes().to_vec()).collect();
    let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
    assert_eq!(Some(sums), frame_sums("-", Some("h264"), &stream));
}

#[test]
fn timestamps_continue_where_clocks_go_back_and_may_jump_ahead() {
    let folder = Folder::new("times");
    let Some(stream) = stream(Codec::H264, 30, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    // A varying rate, a pause of 30 hours, a source that restarts, and a clock that is set back by 300 ms.
    let told = |i: u64| match i {
        0..=9 => 5000 + i * i * 10,
        10..=19 => 5000 + 108_000_000 + i * 33,
        20..=24 => 6000 + i * 40,
        _ => 5700 + i * 40,
    };
    let packets: Vec<Packet> = (0..).zip(&packets).map(|(i, p)| at(p, told(i))).collect();
    // Times go on from the last one, a step later.
    let expected: Vec<u64> = (0..30).map(|i| if i < 20 { told(i) } else { told(19) + 33 + (i - 20) * 40 }).collect();
    let expected: Vec<u64> = expected.iter().map(|ms| ms - 5000).collect();
    for options in
        [WriterOptions::default(), options(), WriterOptions::default().interval(FrameInterval::from_fps(2_000_000_000))]
    {
        let path = folder.path("a.mkv");
        let mut writer = Writer::create(&path, options).unwrap();
        packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
        writer.finish().unwrap();
        let Some(times) = times(&path) else { return };
        assert_eq!(times, expected);
        let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
        assert_eq!(Some(sums), frame_sums("-", Some("h264"), &stream));
        if let Some(out) = program("mkvmerge", &["-o", text(&folder.path("again.mkv")), text(&path)], &[]) {
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success() && !said.contains("Warning") && !said.contains("Error"), "{said}");
        }
    }
    // A recording has one file for each start of the source, from its first key frame on.
    let back = [&packets[..15], &[at(&packets[15], 6500)], &packets[20..]].concat();
    let mut recorder = open(folder.path("r.mkv"), FileRotation::default()).unwrap();
    let is_new = |(i, p)| (recorded(&mut recorder, p).1 == 1).then_some(i);
    let begun: Vec<usize> = back.iter().enumerate().filter_map(is_new).collect();
    assert_eq!(begun, [0, 16]);
    // Times that stand still: the packets' arrival counts.
    let path = folder.path("still.mkv");
    let mut writer = Writer::create(&path, options()).unwrap();
    for packet in &packets[..10] {
        assert_eq!(writer.write(&at(packet, 0)).unwrap(), Written::Stored);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(writer.duration() >= Duration::from_millis(40), "{:?}", writer.duration());
    writer.finish().unwrap();
    let Some(still) = times(&path) else { return };
    assert!(still.len() == 10 && still.windows(2).all(|w| w[0] < w[1]), "{still:?}");
    // Times at the end of the clock.
    let late = [0, u64::MAX / 1_000_000, 1].map(|t| at(&packets[0], t));
    let mut writer = Writer::create(folder.path("late.mkv"), options()).unwrap();
    late.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
    writer.finish().unwrap();
}

#[test]
fn finish_adds_no_index_after_half_an_element() {
    if !alone("matroska::finish_adds_no_index_after_half_an_element", &["env"]) {
        return;
    }
    let (limit, hard) = file_limit();
    let Some(stream) = stream(Codec::H264, 2, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    // A file that cannot be cut.
    let file = memfd_create(c"movie", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut writer = Writer::create(&path, options()).unwrap();
    assert_eq!(writer.write(&packets[0]).unwrap(), Written::Stored);
    let end = writer.bytes();
    limit(end + 3);
    drop(writer.write(&packets[1]).unwrap_err());
    limit(hard);
    assert_eq!(writer.write(&packets[1]).unwrap_err().kind(), ErrorKind::State);
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::State);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), end + 3, "a player takes the index for the rest of a block");
}

#[test]
fn write_timeout_limits_the_wait_for_a_pipe() {
    let folder = Folder::new("pipe");
    let Some(stream) = stream(Codec::H264, 25, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let path = folder.path("a.mkv");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let e = Writer::create(&path, options()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Disconnected, "{e}");
    let open = || std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    // A reader that stalls, and a reader that closes the pipe.
    let reader = open();
    let mut writer = Writer::create(&path, options().write_timeout(Duration::from_millis(50))).unwrap();
    let begin = Instant::now();
    let e = packets.iter().cycle().find_map(|p| writer.write(p).err()).unwrap();
    assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
    assert!(begin.elapsed() >= Duration::from_millis(50));
    assert_eq!(writer.write(&packets[0]).unwrap_err().kind(), ErrorKind::State, "the stream is incomplete");
    drop((reader, writer));
    let reader = open();
    let mut writer = Writer::create(&path, options()).unwrap();
    close_reader(reader, &path);
    assert_eq!(writer.write(&packets[0]).unwrap_err().kind(), ErrorKind::Disconnected);
    drop(writer);
    // A slow reader gets everything, which is more than the pipe holds.
    let reader = open();
    let writer = Writer::create(&path, options()).unwrap();
    let mut slow = std::fs::File::open(&path).unwrap();
    drop(reader);
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            slow.read_to_end(&mut got).unwrap();
        });
        let mut all = (0..6).flat_map(|_| &packets);
        // Moved in here, so that the pipe is always closed and its reader ends.
        let mut writer = writer;
        let done = all.try_for_each(|p| writer.write(p).map(drop)).and_then(|()| writer.finish());
        assert_eq!(done.unwrap().packets, 150);
    });
    assert!(got.len() > 100_000, "{}", got.len());
    let Some(sums) = frame_sums("-", Some("matroska"), &got) else { return };
    assert_eq!(Some(sums), frame_sums("-", Some("h264"), &stream.repeat(6)));
}
