//! Recordings as packets.

use std::path::{Path, PathBuf};

use framelease::bitstream::Codec;
use framelease::format::Size;
use framelease::frame::{FrameFlags, Packet, PacketMeta};
use framelease::replay::PacketReplay;
use framelease::sink::matroska::Writer;
use framelease::sink::recorder::{Recorder, RecorderOptions};
use framelease::sink::Written;
use framelease::{ErrorKind, Received, Station, Submit};

use crate::support::{
    clean, frame_sums, options, packets, reordered, stream, text, times, with, Folder, JPEG_SIZE, SIZE,
};
use crate::SOON;

/// Records packets that are a quarter as far apart, so that a test lasts a quarter as long. Returns the file.
fn record(folder: &Folder, extension: &str, packets: &[Packet]) -> PathBuf {
    let name = folder.path(&format!("a.{extension}"));
    let mut recorder = Recorder::new(name, RecorderOptions::default().writer(options())).unwrap();
    for packet in packets {
        let quick = with(packet, |meta| meta.timestamp_ns = 1_000_000_000 + meta.timestamp_ns / 4);
        assert!(recorder.submit(quick, SOON).unwrap().is_taken());
    }
    recorder.finish();
    folder.path(&format!("a-00001.{extension}"))
}

fn played(path: &Path) -> Vec<Packet> {
    let mut replay = PacketReplay::open(path).unwrap();
    let mut packets = Vec::new();
    loop {
        match replay.recv(SOON).unwrap() {
            Received::Item(packet) => packets.push(packet),
            Received::Ended => return packets,
            Received::Nothing => panic!("nothing after {} packets", packets.len()),
        }
    }
}

fn write(path: &Path, packets: &[Packet]) {
    let mut writer = Writer::create(path, options()).unwrap();
    packets.iter().for_each(|packet| assert_eq!(writer.write(packet).unwrap(), Written::Stored));
    writer.finish().unwrap();
}

/// Checks that a file and its replay into another file have the same frames and times.
fn assert_same(folder: &Folder, path: &Path) {
    let (played, copy) = (played(path), folder.path("copy.mkv"));
    for packet in played.iter().filter(|packet| packet.is_key() && packet.meta().codec.has_nal_units()) {
        assert!(packet.carries_parameters(), "a viewer cannot join at {packet:?}");
    }
    assert!(played[0].is_key() && played.iter().all(|packet| packet.meta().flags.contains(FrameFlags::MONOTONIC)));
    assert!(played.iter().enumerate().all(|(i, packet)| packet.meta().sequence == i as u64));
    write(&copy, &played);
    assert_eq!(frame_sums(text(&copy), None, &[]), frame_sums(text(path), None, &[]), "{}", path.display());
    // Milliseconds of the copy are rounded.
    let (copied, original) = (times(&copy).unwrap(), times(path).unwrap());
    assert_eq!(copied.len(), original.len());
    let distance = |(a, b): (&u64, &u64)| (a - copied[0]).abs_diff(b - original[0]);
    assert!(copied.iter().zip(&original).map(distance).all(|ms| ms <= 1), "{copied:?}, {original:?}");
}

#[test]
fn packet_replay_of_h264_with_b_frames_is_the_same_stream() {
    let folder = Folder::new("replay-h264");
    let Some(packets) = reordered(&folder, Codec::H264) else { return };
    for extension in ["mkv", "mp4"] {
        assert_same(&folder, &record(&folder, extension, &packets));
    }
}

#[test]
fn packet_replay_of_h265_with_b_frames_is_the_same_stream() {
    let folder = Folder::new("replay-hevc");
    let Some(packets) = reordered(&folder, Codec::Hevc) else { return };
    for extension in ["mkv", "mp4"] {
        assert_same(&folder, &record(&folder, extension, &packets));
    }
}

#[test]
fn packet_replay_of_vp8_and_jpeg_is_the_same_stream() {
    for (codec, size) in [(Codec::Vp8, SIZE), (Codec::Mjpeg, JPEG_SIZE)] {
        let Some(stream) = stream(codec, 25, size) else { return };
        let folder = Folder::new(&format!("replay-{codec}"));
        let packets = packets(codec, &stream, size);
        let path = record(&folder, "mkv", &packets);
        assert_same(&folder, &path);
        let replay = PacketReplay::open(&path).unwrap();
        assert_eq!((replay.codec(), replay.size()), (codec, size));
        let played = played(&path);
        assert!(played.iter().zip(&packets).all(|(a, b)| a.bytes() == b.bytes() && a.is_key() == b.is_key()));
    }
}

/// A file of ffmpeg, with sound.
fn of_ffmpeg(path: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let video = format!("testsrc2=size={SIZE}:rate=50");
    let sources = ["-v", "error", "-y", "-f", "lavfi", "-i", "sine=duration=1", "-f", "lavfi", "-i", &video];
    clean("ffmpeg", &[&sources[..], &["-t", "1", "-pix_fmt", "yuv420p"], args, &[text(path)]].concat(), &[])
}

#[test]
fn packet_replay_plays_the_video_of_files_of_ffmpeg() {
    let folder = Folder::new("replay-ffmpeg");
    let x264 = ["-c:v", "libx264", "-g", "20", "-bf", "2"];
    let fragments = ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov+default_base_moof"];
    let positions = ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"];
    let webm = ["-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis"];
    for (name, args) in [
        ("a.mkv", [&x264[..], &["-c:a", "flac"]].concat()),
        ("clusters.mkv", [&x264[..], &["-c:a", "flac", "-cluster_time_limit", "100", "-live", "1"]].concat()),
        ("a.mp4", [&x264[..], &fragments].concat()),
        ("positions.mp4", [&x264[..], &positions].concat()),
        ("a.webm", webm.to_vec()),
    ] {
        let path = folder.path(name);
        let Some(_) = of_ffmpeg(&path, &args) else { return };
        let (played, copy) = (played(&path), folder.path("copy.mkv"));
        write(&copy, &played);
        assert_eq!(played.len(), 50, "{name}");
        let sums = |path: &Path| {
            let args =
                ["-v", "error", "-i", text(path), "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"];
            let text = String::from_utf8(clean("ffmpeg", &args, &[]).unwrap()).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(|line| line.rsplit(", ").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(sums(&path), sums(&copy), "{name}");
        let span = |packets: &[Packet]| {
            let times = || packets.iter().map(|packet| packet.meta().timestamp_ns);
            times().max().unwrap() - times().min().unwrap()
        };
        assert!(span(&played).abs_diff(49 * 20_000_000) <= 1_000_000, "{name}: {}", span(&played));
    }
}

#[test]
fn packet_replay_refuses_mp4_without_fragments_and_other_codecs() {
    let folder = Folder::new("replay-refused");
    let path = folder.path("a.mp4");
    let Some(_) = of_ffmpeg(&path, &["-c:v", "libx264", "-c:a", "aac"]) else { return };
    let error = PacketReplay::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().ends_with("ffmpeg -i IN -c copy OUT.mkv"), "{error}");
    let path = folder.path("a.mkv");
    of_ffmpeg(&path, &["-c:v", "mpeg4", "-c:a", "flac"]).unwrap();
    let error = PacketReplay::open(&path).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("V_MPEG4/ISO/ASP"), "{error}");
    std::fs::write(&path, b"RIFF").unwrap();
    assert_eq!(PacketReplay::open(&path).unwrap_err().kind(), ErrorKind::WrongFile);
}

/// Packets of VP8 in a Matroska file, and where its blocks are.
fn vp8(folder: &Folder) -> (PathBuf, Vec<usize>) {
    let path = folder.path("vp8.mkv");
    let meta = |i| PacketMeta::new(Codec::Vp8, Size::new(16, 16), i, i * 4_000_000);
    let packets: Vec<Packet> =
        (0..3).map(|i| Packet::new(meta(i), [0x11 - u8::from(i == 0), 0, 0, 99], None)).collect();
    write(&path, &packets);
    let file = std::fs::read(&path).unwrap();
    // SimpleBlock, its size in eight bytes, and the track.
    let block = [0xa3, 1, 0, 0, 0, 0, 0, 0, 8, 0x81];
    let blocks: Vec<usize> = (0..file.len()).filter(|&i| file[i..].starts_with(&block)).collect();
    assert_eq!(blocks.len(), 3);
    (path, blocks)
}

#[test]
fn laced_block_is_unsupported_and_then_the_stream_continues_to_its_end() {
    let folder = Folder::new("replay-laced");
    let (path, blocks) = vp8(&folder);
    let mut file = std::fs::read(&path).unwrap();
    file[blocks[1] + 12] |= 2;
    std::fs::write(&path, file).unwrap();
    let mut replay = PacketReplay::open(&path).unwrap();
    assert!(replay.recv(SOON).unwrap().item().is_some());
    let error = replay.recv(SOON).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("lacing"), "{error}");
    assert!(replay.recv(SOON).unwrap().is_ended());
    assert_eq!(replay.recv(SOON).unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn block_group_is_a_packet() {
    let folder = Folder::new("replay-group");
    let (path, blocks) = vp8(&folder);
    let mut file = std::fs::read(&path).unwrap();
    // The group has the place of the block: it is three bytes longer, so sizes are shorter.
    let at = blocks[1];
    let content = file[at + 9..at + 17].to_vec();
    file[at..at + 17]
        .copy_from_slice(&[&[0xa0, 0x80 | 15, 0xa1, 0x80 | 8][..], &content, &[0xfb, 0x81, 0xff, 0xec, 0x80]].concat());
    std::fs::write(&path, file).unwrap();
    let played = played(&path);
    assert_eq!(played.iter().map(|packet| packet.bytes()[3]).collect::<Vec<_>>(), [99; 3]);
    assert_eq!(played.iter().map(Packet::is_key).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn looped_recording_continues_numbers_and_times() {
    let folder = Folder::new("replay-looped");
    let (path, _) = vp8(&folder);
    let mut replay = PacketReplay::open(&path).unwrap().looped(true);
    let packets: Vec<Packet> = (0..7).map(|_| replay.recv(SOON).unwrap().item().unwrap()).collect();
    let first = packets[0].meta().timestamp_ns;
    let facts = |packet: &Packet| (packet.meta().sequence, (packet.meta().timestamp_ns - first) / 1_000_000);
    let expected: Vec<(u64, u64)> = (0..7).map(|i| (i, i * 4)).collect();
    assert_eq!(packets.iter().map(facts).collect::<Vec<_>>(), expected);
}

#[test]
fn looped_recording_begins_again_with_the_sets_of_its_header() {
    let folder = Folder::new("replay-sets");
    let path = folder.path("sets.mkv");
    let unit = |pps: u8| {
        let sets = [0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0xda, 2, 0x80, 0xf6, 0x40, 0, 0, 0, 1, 0x68, 0xce, pps, 0x80];
        [&sets[..], &[0, 0, 0, 1, 0x65, 0x88, 0x84, 0, 0x33]].concat()
    };
    let meta = |i: u64| PacketMeta::new(Codec::H264, Size::new(16, 16), i, i * 4_000_000);
    let packet = |i: u64, pps| Packet::new(meta(i), unit(pps), None);
    let written = [packet(0, 0x3c), packet(1, 0x3e), packet(2, 0x3e)];
    write(&path, &written);
    let mut file = std::fs::read(&path).unwrap();
    // In the first block, the sets become filler data.
    for unit in [[0, 0, 0, 9, 0x67], [0, 0, 0, 4, 0x68]] {
        let at = file.windows(5).position(|window| window == unit).unwrap();
        file[at + 4] = 12;
    }
    std::fs::write(&path, file).unwrap();
    let mut replay = PacketReplay::open(&path).unwrap().looped(true);
    for i in 0..6 {
        let packet = replay.recv(SOON).unwrap().item().unwrap();
        assert!(packet.carries_parameters(), "packet {i}");
        assert_eq!(packet.parameter_sets(), written[i % 3].parameter_sets(), "packet {i}");
    }
}

#[test]
fn damaged_lengths_are_flagged() {
    let folder = Folder::new("replay-damaged");
    let Some(stream) = stream(Codec::H264, 3, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let path = record(&folder, "mkv", &packets);
    let mut file = std::fs::read(&path).unwrap();
    // The second picture, after the length of its first unit.
    let picture = &packets[1].picture()[4..];
    let at = file.windows(picture.len()).position(|window| window == picture).unwrap();
    file[at - 1] ^= 0x10;
    std::fs::write(&path, file).unwrap();
    let played = played(&path);
    let flags: Vec<bool> = played.iter().map(|packet| packet.meta().flags.contains(FrameFlags::ERROR)).collect();
    assert_eq!(flags.iter().filter(|flag| **flag).count(), 1, "{flags:?}");
    assert!(!flags[0]);
}
