//! Tests of Matroska files: ffmpeg decodes the same frames from them as from the stream, from whole files and from cut
//! ones.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use framelease::bitstream::{nal_units, Codec, NalKind};
use framelease::format::{ColorSpace, Colorimetry, FrameInterval, Size};
use framelease::frame::{FrameFlags, Packet, PacketMeta};
use framelease::sink::matroska::{FileRotation, Recorder, RecorderEvent, Summary, Writer, WriterOptions, Written};
use framelease::{Error, ErrorKind, Received, Station, Submit};
use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::{SigSet, Signal};

use crate::blocks::blocks;
use crate::station::{assert_signal_ends_recv, idle_wakes, is_readable, signaled};
use crate::support::*;

const CODECS: [Codec; 4] = [Codec::H264, Codec::Hevc, Codec::Vp8, Codec::Mjpeg];

fn options() -> WriterOptions {
    WriterOptions::default().interval(FrameInterval::from_fps(25))
}

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

/// A stream with B-frames, an open GOP every tenth frame in H.265. The packets have the times of ffmpeg.
fn reordered(folder: &Folder, codec: Codec) -> Option<Vec<Packet>> {
    reordered_with(folder, codec, "b-pyramid=normal")
}

/// The same with another parameter of x264.
fn reordered_with(folder: &Folder, codec: Codec, last: &str) -> Option<Vec<Packet>> {
    let x264 = format!("keyint=10:scenecut=0:bframes=3:b-adapt=0:{last}");
    let (encoder, parameters) = match codec {
        Codec::H264 => ("libx264", ["-x264-params", &x264]),
        _ => ("libx265", ["-x265-params", "keyint=10:scenecut=0:bframes=3:b-adapt=0:open-gop=1:log-level=none"]),
    };
    let path = folder.path("b.mp4");
    let source = format!("testsrc2=size={SIZE}:rate=25");
    let args = ["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-frames:v", "45", "-pix_fmt", "yuv420p"];
    clean("ffmpeg", &[&args[..], &["-c:v", encoder], &parameters, &[text(&path)]].concat(), &[])?;
    let filter = if codec == Codec::H264 { "h264_mp4toannexb" } else { "hevc_mp4toannexb" };
    let args = ["-v", "error", "-i", text(&path), "-c", "copy", "-bsf:v", filter, "-f", format(codec), "-"];
    let stream = clean("ffmpeg", &args, &[])?;
    let times = times(&path)?;
    let packets = packets(codec, &stream, SIZE);
    assert_eq!(packets.len(), times.len());
    Some(packets.iter().zip(&times).map(|(packet, &time)| at(packet, 1000 + time)).collect())
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

/// Cameras' clocks vary: a key frame may come a little before the time.
#[test]
fn rotation_happens_at_key_frames_that_reach_its_duration() {
    let Some(stream) = stream(Codec::H264, 41, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    for early_ms in [0, 3] {
        let folder = Folder::new("on-time");
        let rotation = FileRotation::default().duration(Duration::from_millis(800));
        let mut recorder = Recorder::new(folder.path("r.mkv"), options(), rotation).unwrap();
        let begun = |(i, packet): (usize, &Packet)| {
            let early_ms = if i % 20 == 0 && i > 0 { early_ms } else { 0 };
            (recorded(&mut recorder, &at(packet, 1000 + i as u64 * 40 - early_ms)).1 == 1).then_some(i)
        };
        // Key frames are 400 ms apart.
        let begun: Vec<usize> = packets.iter().enumerate().filter_map(begun).collect();
        assert_eq!(begun, [0, 20, 40], "{early_ms} ms early");
    }
}

/// Streams without IDR frames after the first: open GOPs, and intra refresh. Their entry points are recovery points and
/// CRA pictures.
#[test]
fn rotation_happens_at_recovery_points_and_cra_pictures() {
    for (codec, last, left_out) in
        [(Codec::H264, "open-gop=1", 1), (Codec::H264, "intra-refresh=1:bframes=0", 9), (Codec::Hevc, "none", 0)]
    {
        let folder = Folder::new("entry");
        let Some(packets) = reordered_with(&folder, codec, last) else { return };
        let has_idr = |p: &Packet| nal_units(p.bytes()).any(|u| u.data[0] & 31 == 5);
        assert!(codec == Codec::Hevc || packets[1..].iter().all(|p| !has_idr(p)), "{last}");
        let rotation = FileRotation::default().duration(Duration::from_millis(800));
        let mut recorder = Recorder::new(folder.path("r.mkv"), options(), rotation).unwrap();
        let mut stored: Vec<Vec<u64>> = Vec::new();
        for packet in &packets {
            let (is_stored, is_begun) = recorded(&mut recorder, packet);
            if is_begun == 1 {
                stored.push(Vec::new());
            }
            if is_stored == 1 {
                stored.last_mut().unwrap().push(packet.meta().timestamp_ns / 1_000_000);
            }
        }
        assert_eq!(stored.len(), 3, "{codec} {last}");
        for (i, stored) in stored.iter().enumerate() {
            let path = folder.path(&format!("r-{:05}.mkv", i + 1));
            // A frame that is shown before the first one of its file cannot be decoded there.
            let expected: Vec<u64> = stored.iter().map(|time| time - stored[0]).collect();
            let Some(times) = times(&path) else { return };
            assert_eq!(times, expected, "{codec} {last}: file {}", i + 1);
            // ffmpeg reports references to frames before the file, and leaves frames out until it has recovered.
            let args = ["-v", "quiet", "-i", text(&path), "-fps_mode", "passthrough", "-f", "framemd5", "-"];
            let Some(out) = program("ffmpeg", &args, &[]) else { return };
            let shown = String::from_utf8(out.stdout).unwrap().lines().filter(|line| !line.starts_with('#')).count();
            assert!(shown + left_out >= stored.len(), "{codec} {last}: file {}, {shown} of {stored:?}", i + 1);
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

/// Records a packet. Returns the increase of the counts of packets and files.
fn recorded(recorder: &mut Recorder, packet: &Packet) -> (u64, u64) {
    let before = recorder.stats();
    assert!(recorder.try_submit(packet.clone()).unwrap().is_taken());
    let after = recorder.stats();
    (after.packets - before.packets, after.files - before.files)
}

/// Ends a recording. Returns its reports about files.
fn files(mut recorder: Recorder) -> Vec<Result<(PathBuf, Summary), Error>> {
    recorder.finish();
    let mut files = Vec::new();
    loop {
        assert!(is_readable(&recorder), "events and the end must make it readable");
        match recorder.try_recv().unwrap() {
            Received::Item(RecorderEvent::File { path, summary }) => files.push(Ok((path, summary))),
            Received::Item(RecorderEvent::Error(e)) => files.push(Err(e)),
            Received::Item(other) => panic!("{other:?}"),
            Received::Nothing => panic!("the end comes last"),
            Received::Ended => break,
        }
    }
    assert!(!is_readable(&recorder));
    assert_eq!(recorder.try_recv().unwrap_err().kind(), ErrorKind::State);
    files
}

#[test]
fn recorder_reports_files_once_and_asks_for_key_frames() {
    let folder = Folder::new("events");
    let Some(stream) = stream(Codec::H264, 30, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let rotation = FileRotation::default().duration(Duration::from_millis(200));
    let mut recorder = Recorder::new(folder.path("e.mkv"), options(), rotation).unwrap();
    assert!(recorder.awaits_key() && !is_readable(&recorder));
    assert_eq!(idle_wakes(&mut recorder), 0);
    assert_signal_ends_recv(&mut recorder);
    // Key frames are 400 ms apart.
    let asked: Vec<bool> =
        packets[..10].iter().map(|p| (recorded(&mut recorder, p), recorder.awaits_key()).1).collect();
    assert_eq!(asked, [[false; 5], [true; 5]].concat());
    assert!(!is_readable(&recorder));
    assert_eq!(recorded(&mut recorder, &packets[10]), (1, 1));
    assert!(!recorder.awaits_key() && is_readable(&recorder));
    match recorder.recv(Duration::ZERO).unwrap() {
        Received::Item(RecorderEvent::File { path, summary }) => {
            assert_eq!((path, summary.packets), (folder.path("e-00001.mkv"), 10));
        }
        other => panic!("{other:?}"),
    }
    assert!(recorder.try_recv().unwrap().is_nothing() && !is_readable(&recorder));
    assert_eq!(files(recorder).len(), 1);
}

#[test]
fn rotation_continues_in_another_file_without_a_gap() {
    let folder = Folder::new("rotate");
    let (Some(first), Some(second)) = (stream(Codec::H264, 45, SIZE), stream(Codec::H264, 12, Size::new(160, 96)))
    else {
        return;
    };
    let packets: Vec<Packet> =
        [packets(Codec::H264, &first, SIZE), packets(Codec::H264, &second, Size::new(160, 96))].concat();
    // An existing file is not overwritten.
    std::fs::write(folder.path("r-00002.mkv"), "mine").unwrap();
    let rotation = FileRotation::default().duration(Duration::from_millis(700));
    let mut recorder = Recorder::new(folder.path("r.mkv"), options(), rotation).unwrap();
    assert_eq!(recorded(&mut recorder, &packets[1]), (0, 0));
    assert!(recorder.awaits_key());
    assert!(recorder.path().is_none() && !folder.path("r-00001.mkv").exists());
    let mut begun = Vec::new();
    for (i, packet) in packets.iter().enumerate() {
        if recorded(&mut recorder, packet).1 == 1 {
            begun.push(i);
        }
    }
    // Key frames are 400 ms apart. Another size is another stream.
    assert_eq!(begun, [0, 20, 40, 45]);
    let stats = recorder.stats();
    assert_eq!((stats.files, stats.packets, stats.skipped), (4, 57, 1));
    let files = files(recorder);
    assert_eq!(files.len(), 4);
    let (last, summary) = files[3].as_ref().unwrap();
    assert_eq!((last, summary.packets), (&folder.path("r-00005.mkv"), 12));
    assert_eq!(std::fs::read(folder.path("r-00002.mkv")).unwrap(), b"mine");
    let mut sums = Vec::new();
    for number in [1, 3, 4, 5] {
        let Some(more) = frame_sums(text(&folder.path(&format!("r-{number:05}.mkv"))), None, &[]) else { return };
        sums.extend(more);
    }
    let both = [frame_sums("-", Some("h264"), &first).unwrap(), frame_sums("-", Some("h264"), &second).unwrap()];
    assert_eq!(sums, both.concat());
    let by_bytes = FileRotation::default().bytes(1);
    let mut recorder = Recorder::new(folder.path("b"), options(), by_bytes).unwrap();
    packets[..25].iter().for_each(|p| assert_eq!(recorded(&mut recorder, p).0, 1));
    assert_eq!((recorder.stats().files, recorder.path()), (3, Some(&*folder.path("b-00003"))));
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
    let mut recorder = Recorder::new("/nowhere/a.mkv", options(), FileRotation::default()).unwrap();
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

/// x265 with `opt-qp-pps`, for example, has another PPS before each key frame.
#[test]
fn recorder_keeps_its_file_for_other_picture_parameter_sets() {
    let folder = Folder::new("pps");
    for codec in [Codec::H264, Codec::Hevc] {
        let other = match codec {
            Codec::H264 => ["-x264-params", "keyint=10:scenecut=0:chroma-qp-offset=6"],
            _ => ["-x265-params", "keyint=10:bframes=0:scenecut=0:log-level=none:cbqpoffs=6"],
        };
        let (Some(first), Some(second)) = (stream(codec, 15, SIZE), stream_with(codec, 10, SIZE, &other)) else {
            return;
        };
        let all = [&first, &second, &first].map(|stream| packets(codec, stream, SIZE));
        let sets = |i: usize, kind| all[i][0].parameter_sets().unwrap().of(kind).next().unwrap().to_vec();
        assert_eq!(sets(0, NalKind::Sps), sets(1, NalKind::Sps));
        assert_ne!(sets(0, NalKind::Pps), sets(1, NalKind::Pps));
        let mut recorder =
            Recorder::new(folder.path(&format!("{codec}.mkv")), options(), FileRotation::default()).unwrap();
        for (i, packet) in all.iter().flatten().enumerate() {
            assert_eq!(recorded(&mut recorder, &at(packet, 1000 + i as u64 * 40)).0, 1);
        }
        assert_eq!(recorder.stats().files, 1, "{codec}");
        let (path, _) = files(recorder).remove(0).unwrap();
        let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
        let stream = [&first[..], &second, &first].concat();
        assert_eq!(Some(sums), frame_sums("-", Some(format(codec)), &stream), "{codec}");
    }
}

fn with(packet: &Packet, change: impl FnOnce(&mut PacketMeta)) -> Packet {
    let mut meta = *packet.meta();
    change(&mut meta);
    Packet::new(meta, packet.bytes(), packet.parameter_sets().cloned())
}

fn at(packet: &Packet, milliseconds: u64) -> Packet {
    with(packet, |meta| meta.timestamp_ns = milliseconds * 1_000_000)
}

fn damaged(packet: &Packet) -> Packet {
    with(packet, |meta| meta.flags = FrameFlags::ERROR)
}

/// Times of a file's packets in milliseconds.
fn times(path: &Path) -> Option<Vec<u64>> {
    let args = ["-v", "error", "-show_entries", "packet=pts_time", "-of", "csv=p=0", text(path)];
    let text = String::from_utf8(clean("ffprobe", &args, &[])?).unwrap();
    Some(text.lines().map(|l| (l.trim_end_matches(',').parse::<f64>().unwrap() * 1000.0).round() as u64).collect())
}

#[test]
fn rotation_begins_no_file_with_a_damaged_key_frame() {
    let folder = Folder::new("damaged");
    let Some(stream) = stream(Codec::H264, 25, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let mut recorder = Recorder::new(folder.path("d.mkv"), options(), FileRotation::default().bytes(1)).unwrap();
    assert_eq!(recorded(&mut recorder, &damaged(&packets[0])), (0, 0));
    assert!(recorder.path().is_none() && !folder.path("d-00001.mkv").exists());
    assert_eq!(recorded(&mut recorder, &packets[0]), (1, 1));
    // A file may contain a damaged key frame, but a rotation waits for an undamaged one.
    let stored = [packets[1..10].to_vec(), vec![damaged(&packets[10])], packets[11..20].to_vec()].concat();
    stored.iter().for_each(|p| assert_eq!(recorded(&mut recorder, p), (1, 0)));
    assert_eq!(recorded(&mut recorder, &packets[20]), (1, 1));
    assert_eq!((recorder.stats().files, recorder.stats().packets, recorder.stats().skipped), (2, 21, 1));
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
    let mut recorder = Recorder::new(folder.path("r.mkv"), options(), FileRotation::default()).unwrap();
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

/// Runs a test of this program in a child process, which `wrap` may start in another environment. Returns `true` in
/// that process.
fn alone(test: &str, wrap: &[&str]) -> bool {
    const CHILD: &str = "FRAMELEASE_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let args = [wrap, &[text(&program), "--exact", test, "--nocapture"]].concat();
    let out = Command::new(args[0]).args(&args[1..]).env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
    false
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn recorder_leaves_no_empty_files_on_a_full_disk() {
    const DISK: &str = "/mnt";
    let mount = format!("mount -t tmpfs -o size=512k none {DISK} && exec \"$@\"");
    let wrap = ["unshare", "-Urm", "sh", "-c", &mount, "sh"];
    let can = program("unshare", &["-Urm", "sh", "-c", &mount, "sh", "true"], &[]);
    if !can.is_some_and(|out| out.status.success()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED a full disk: no mount namespace here");
        return;
    }
    if !alone("matroska::recorder_leaves_no_empty_files_on_a_full_disk", &wrap) {
        return;
    }
    let Some(stream) = stream(Codec::H264, 60, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let disk = Path::new(DISK);
    let fill = |most: usize| {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(disk.join("filler")).unwrap();
        let _ = file.write_all(&vec![1; most]);
    };
    let mut recorder = Recorder::new(disk.join("r.mkv"), options(), FileRotation::default()).unwrap();
    assert_eq!(recorded(&mut recorder, &packets[0]), (1, 1));
    fill(1 << 20);
    let mut full = 0;
    for packet in &packets[1..50] {
        if let Err(e) = recorder.try_submit(packet.clone()) {
            assert_eq!(e.error.kind(), ErrorKind::Exhausted, "{e}");
            full += 1;
        }
    }
    // Once in the file, then at every key frame, unless it fits in the rest of a page.
    assert!(full >= 4, "{full}");
    assert_eq!(names(disk), ["filler", "r-00001.mkv"]);
    assert_eq!(recorder.stats().files, 1);
    std::fs::remove_file(disk.join("filler")).unwrap();
    assert_eq!(recorded(&mut recorder, &packets[51]), (0, 0));
    let again = with(&packets[50], |_| {});
    assert_eq!(recorded(&mut recorder, &again), (1, 1));
    let (path, summary) = files(recorder).pop().unwrap().unwrap();
    assert_eq!((path, summary.packets), (disk.join("r-00002.mkv"), 1));
    assert_eq!(names(disk), ["r-00001.mkv", "r-00002.mkv"]);
}

/// Returns what limits the size of files, and the size that ends the limit. Writes beyond it fail, and the signal stays
/// blocked.
fn file_limit() -> (impl Fn(u64), u64) {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    (move |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).unwrap(), hard)
}

#[test]
fn finish_that_fails_costs_no_packet() {
    if !alone("matroska::finish_that_fails_costs_no_packet", &["env"]) {
        return;
    }
    let (limit, hard) = file_limit();
    let folder = Folder::new("unfinished");
    let Some(stream) = stream(Codec::H264, 21, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let rotation = FileRotation::default().duration(Duration::from_millis(500));
    let mut recorder = Recorder::new(folder.path("r.mkv"), options(), rotation).unwrap();
    packets[..20].iter().for_each(|p| assert_eq!(recorded(&mut recorder, p).0, 1));
    let path = folder.path("r-00001.mkv");
    limit(std::fs::metadata(&path).unwrap().len() + 3);
    assert_eq!(recorded(&mut recorder, &packets[20]), (1, 1));
    let Received::Item(RecorderEvent::Error(e)) = recorder.try_recv().unwrap() else {
        panic!("the error is not reported")
    };
    assert!(e.to_string().contains(text(&path)), "{e}");
    assert_eq!(e.kind(), framelease::ErrorKind::Exhausted);
    assert_eq!((recorder.stats().files, recorder.stats().packets, recorder.stats().skipped), (2, 21, 0));
    // A file with only a header has not begun.
    let mut writer = Writer::create(Folder::new("header").path("w.mkv"), options()).unwrap();
    limit(800);
    drop(writer.write(&packets[0]).unwrap_err());
    assert!(writer.bytes() > 0);
    limit(hard);
    assert_eq!(writer.write(&packets[1]).unwrap(), Written::Skipped);
    assert_eq!(writer.write(&packets[0]).unwrap(), Written::Stored);
    // A file cannot be created either. Its number is not used.
    limit(100);
    drop(recorder.try_submit(with(&packets[20], |meta| meta.timestamp_ns = 0)).unwrap_err());
    assert_eq!(names(&folder.path("")), ["r-00001.mkv", "r-00002.mkv"]);
    limit(hard);
    let Received::Item(RecorderEvent::Error(_)) = recorder.try_recv().unwrap() else {
        panic!("the error is not reported")
    };
    assert_eq!(recorded(&mut recorder, &packets[0]), (1, 1));
    assert_eq!(recorder.path(), Some(&*folder.path("r-00003.mkv")));
    assert_eq!(files(recorder).pop().unwrap().unwrap().1.packets, 1);
    let sums = ["r-00001.mkv", "r-00002.mkv"].map(|name| frame_sums(text(&folder.path(name)), None, &[]));
    let [Some(first), Some(second)] = sums else { return };
    assert_eq!(Some([first, second].concat()), frame_sums("-", Some("h264"), &stream));
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

/// Closes the reading end of a named pipe. A process that another test starts has it, too, until it runs its program.
fn close_reader(reader: std::fs::File, path: &Path) {
    drop(reader);
    let start = Instant::now();
    let open = || std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
    while open().map_or_else(|e| e.raw_os_error(), |_| None) != Some(libc::ENXIO) {
        assert!(start.elapsed() < Duration::from_secs(10), "the pipe still has a reader");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn recorder_is_full_while_the_reader_of_a_pipe_is_behind() {
    let folder = Folder::new("full");
    let Some(stream) = stream(Codec::H264, 25, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let path = folder.path("a.mkv");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut recorder = Recorder::new(&path, options(), FileRotation::default().bytes(1)).unwrap();
    let e = recorder.try_submit(packets[0].clone()).unwrap_err();
    assert_eq!(e.error.kind(), ErrorKind::Disconnected, "{e}");
    let mut reader = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let (mut got, mut sent) = (Vec::new(), 0);
    let all: Vec<Packet> = (0..150).map(|i| at(&packets[i as usize % 25], i * 40)).collect();
    let mut all = all.iter();
    let mut fulls = 0;
    let mut next = all.next();
    while let Some(packet) = next {
        if recorder.try_submit(packet.clone()).unwrap().is_taken() {
            (sent, next) = (sent + 1, all.next());
            continue;
        }
        fulls += 1;
        assert!(!is_readable(&recorder), "readable without room");
        assert!(!recorder.submit(packet.clone(), Duration::from_millis(20)).unwrap().is_taken());
        assert_signal_ends_submit(&mut recorder, packet);
        let mut bytes = [0; 8192];
        while let Ok(n @ 1..) = reader.read(&mut bytes) {
            got.extend_from_slice(&bytes[..n]);
        }
        assert!(is_readable(&recorder), "not readable after the reader made room");
        assert!(recorder.try_recv().unwrap().is_nothing() && !is_readable(&recorder), "everything is written");
    }
    assert!(fulls > 0 && sent == 150, "{fulls}");
    assert_eq!(recorder.stats().files, 1, "no rotation");
    let mut bytes = [0; 8192];
    while let Ok(n @ 1..) = reader.read(&mut bytes) {
        got.extend_from_slice(&bytes[..n]);
        recorder.dispatch().unwrap();
    }
    assert_eq!(blocks(&got).len(), 150);
    // If the reader closes the pipe, the packets that wait fail, or the next packet does.
    close_reader(reader, &path);
    let failed = (150..160).find_map(|i| recorder.try_submit(at(&packets[0], i * 40)).err());
    assert_eq!(failed.unwrap().error.kind(), ErrorKind::Disconnected);
    recorder.finish();
    while !recorder.try_recv().unwrap().is_ended() {}
}

fn assert_signal_ends_submit(recorder: &mut Recorder, packet: &Packet) {
    use nix::sys::signal::SaFlags;
    let start = Instant::now();
    let done =
        signaled(SaFlags::SA_RESTART, || recorder.submit(packet.clone(), Duration::from_secs(10)).map_err(Error::from));
    assert!(done.unwrap().full().is_some() && start.elapsed() < Duration::from_secs(5));
}
