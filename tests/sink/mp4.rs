//! Tests of MP4 files: players decode the same frames from them as from the stream, from whole files and from cut ones.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::format::{ColorSpace, Colorimetry, Size};
use framelease::sink::mp4::{repair, Writer};
use framelease::sink::recorder::FileRotation;
use framelease::sink::{WriterOptions, Written};
use framelease::{ErrorKind, Submit};

use crate::limits::file_limit;
use crate::recorder::{files, open, recorded};
use crate::support::*;

const CODECS: [Codec; 2] = [Codec::H264, Codec::Hevc];

#[test]
fn mp4_file_holds_the_stream() {
    let folder = Folder::new("mp4-whole");
    for codec in CODECS {
        let Some(stream) = stream(codec, 75, SIZE) else { return };
        let packets = packets(codec, &stream, SIZE);
        let path = folder.path("a.mp4");
        let colors = Colorimetry { space: ColorSpace::Rec709, ..Colorimetry::default() };
        let mut writer = Writer::create(&path, options().colorimetry(colors)).unwrap();
        assert_eq!(writer.write(&packets[3]).unwrap(), Written::Skipped, "a file begins with a key frame");
        packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
        let summary = writer.finish().unwrap();
        assert_eq!((summary.packets, summary.duration), (75, Duration::from_secs(3)));
        assert_eq!(summary.bytes, std::fs::metadata(&path).unwrap().len());
        let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
        assert_eq!(Some(&sums), frame_sums("-", Some(format(codec)), &stream).as_ref(), "{codec}");
        let asked = "stream=codec_tag_string,width,height,r_frame_rate,color_space,start_time,nb_read_packets:\
            format=duration,format_name";
        let args = ["-v", "error", "-count_packets", "-show_entries", asked, "-of", "flat", text(&path)];
        let Some(about) = clean("ffprobe", &args, &[]) else { return };
        let about = String::from_utf8(about).unwrap();
        let tag = if codec == Codec::H264 { "codec_tag_string=\"avc1\"" } else { "codec_tag_string=\"hvc1\"" };
        let parts =
            ["width=320", "height=180", "r_frame_rate=\"25/1\"", "duration=\"3.000000\"", "packets=\"75\"", tag];
        for part in parts.into_iter().chain(["start_time=\"0.000000\""]) {
            assert!(about.contains(part), "{codec}: {part} in {about}");
        }
        // For H.265, ffprobe uses only the parameter sets.
        assert!(codec == Codec::Hevc || about.contains("color_space=\"bt709\""), "{codec}: {about}");
        // A seek by the index: to the last key frame before, in the middle of a fragment.
        let args =
            ["-v", "error", "-read_intervals", "2.1%+#1", "-show_entries", "packet=pts_time,flags", "-of", "csv"];
        let Some(jumped) = clean("ffprobe", &[&args[..], &[text(&path)]].concat(), &[]) else { return };
        let jumped = String::from_utf8(jumped).unwrap();
        assert!(jumped.starts_with("packet,2.000000,K"), "{codec}: {jumped}");
        // Key frames are 400 ms apart. A fragment has half a second at least.
        let fragments = std::fs::read(&path).unwrap().windows(4).filter(|w| w == b"moof").count();
        assert_eq!(fragments, 4, "{codec}");
        if let Some(out) = program("mkvmerge", &["-o", text(&folder.path("again.mkv")), text(&path)], &[]) {
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success() && !said.contains("Warning") && !said.contains("Error"), "{codec}: {said}");
        }
        let source = format!("location={}", text(&path));
        let pipeline = ["-v", "filesrc", &source, "!", "qtdemux", "!", "fakesink", "silent=false"];
        if let Some(out) = program("gst-launch-1.0", &pipeline, &[]) {
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            let shown = said.lines().filter(|line| line.contains("chain   *******")).count();
            assert!(out.status.success() && shown == 75, "{codec}: {shown} {said}");
        }
    }
}

#[test]
fn mp4_writer_keeps_times_of_reordered_packets() {
    let folder = Folder::new("mp4-reordered");
    for codec in CODECS {
        let Some(packets) = reordered(&folder, codec) else { return };
        let given: Vec<u64> = packets.iter().map(|p| p.meta().timestamp_ns / 1_000_000 - 1000).collect();
        let path = folder.path("c.mp4");
        let mut writer = Writer::create(&path, options()).unwrap();
        packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
        assert_eq!(writer.finish().unwrap().duration, Duration::from_millis(45 * 40), "{codec}");
        // ffmpeg adds the largest time between decoding and display before it, the same for all frames.
        let mut times = times(&path).unwrap();
        let added = times[0];
        times.iter_mut().for_each(|time| *time -= added);
        assert!(times == given && added <= 80, "{codec}: {added} {times:?}");
        let args = ["-v", "error", "-show_entries", "packet=dts", "-of", "csv=p=0", text(&path)];
        let Some(out) = clean("ffprobe", &args, &[]) else { return };
        let out = String::from_utf8(out).unwrap();
        let decoded: Vec<i64> = out.lines().map(|line| line.trim_end_matches(',').parse().unwrap()).collect();
        assert!(decoded.windows(2).all(|pair| pair[1] == pair[0] + 3600), "{codec}: {decoded:?}");
        let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
        assert_eq!(Some(&sums), frame_sums(text(&folder.path("b.mp4")), None, &[]).as_ref(), "{codec}");
    }
}

#[test]
fn mp4_file_cut_at_any_byte_plays_its_complete_fragments() {
    const SMALL: Size = Size::new(128, 96);
    let folder = Folder::new("mp4-cut");
    let Some(stream) = stream(Codec::H264, 75, SMALL) else { return };
    let packets = packets(Codec::H264, &stream, SMALL);
    let Some(whole) = frame_sums("-", Some("h264"), &stream) else { return };
    let path = folder.path("a.mp4");
    let mut writer = Writer::create(&path, options()).unwrap();
    packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
    drop(writer); // As a crash leaves it.
    let all = std::fs::read(&path).unwrap();
    // Where fragments end, and the frames up to there. Each ends before a key frame: they are 400 ms apart.
    let ends = fragments(&all);
    assert_eq!(ends.iter().map(|(_, frames)| *frames).collect::<Vec<_>>(), [20, 40, 60]);
    for i in 0..24 {
        let cut = match ends.get(i / 3) {
            Some((at, _)) => at + [0, 1, 600][i % 3],
            None => all.len() * i / 24,
        };
        let path = folder.path("cut.mp4");
        std::fs::write(&path, &all[..cut]).unwrap();
        let complete = ends.iter().filter(|(at, _)| *at <= cut).map(|(_, frames)| *frames).max().unwrap_or(0);
        let args = ["-v", "quiet", "-i", text(&path), "-fps_mode", "passthrough", "-f", "framemd5", "-"];
        let Some(out) = program("ffmpeg", &args, &[]) else { return };
        let text = String::from_utf8(out.stdout).unwrap();
        let sums: Vec<&str> =
            text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit(", ").next().unwrap()).collect();
        assert!(sums.len() >= complete && sums[..complete] == whole[..complete], "cut at {cut}: {}", sums.len());
    }
}

/// VLC finds no frames after a box between a fragment's header and its data, and does not end at data without a header.
#[test]
fn mp4_files_play_in_vlc_and_mpv() {
    let folder = Folder::new("mp4-players");
    for codec in CODECS {
        let Some(stream) = stream(codec, 100, SIZE) else { return };
        let packets = packets(codec, &stream, SIZE);
        for case in ["finished", "crashed", "repaired"] {
            let path = folder.path(&format!("{case}.mp4"));
            let mut writer = Writer::create(&path, options()).unwrap();
            packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
            match case {
                "finished" => drop(writer.finish().unwrap()),
                _ => drop(writer),
            }
            if case == "repaired" {
                assert!(repair(&path).unwrap().is_some());
            }
            let all = std::fs::read(&path).unwrap();
            assert_eq!(fragments(&all).len(), if case == "finished" { 5 } else { 4 }, "{codec} {case}");
            // From a place in the third fragment on.
            if let Some(said) = vlc(&folder, &["--start-time=2.2", text(&path)]) {
                assert!(said.contains("Received first picture"), "{codec} {case}: {said}");
            }
            let args = ["60", "mpv", "--no-config", "--vo=null", "--ao=null", "--untimed", "--start=2.2"];
            let shown = ["--term-status-msg=${=time-pos}", text(&path)];
            let is_here = program("mpv", &["--version"], &[]).is_some();
            if let Some(out) = is_here.then(|| program("timeout", &[&args[..], &shown].concat(), &[])).flatten() {
                let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
                assert!(out.status.success() && said.contains("Exiting... (End of file)"), "{codec} {case}: {said}");
            }
        }
    }
}

/// Plays a file in VLC without a window, up to its end. Returns what VLC says. It refuses to run as root.
fn vlc(folder: &Folder, args: &[&str]) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    program("cvlc", &["--version"], &[])?;
    let open = |path: &std::path::Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    open(&folder.path(""), 0o777);
    let user = if nix::unistd::geteuid().is_root() {
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"][..]
    } else {
        &[]
    };
    let home = format!("HOME={}", text(&folder.path("")));
    let vlc = ["cvlc", "-vv", "--no-audio", "-V", "vdummy", "--play-and-exit"];
    let out = program("timeout", &[&["60", "env", &home][..], user, &vlc, args].concat(), &[])?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{}: {said}", out.status);
    Some(said)
}

/// Where each complete fragment of a file ends, and the frames up to there.
fn fragments(file: &[u8]) -> Vec<(usize, usize)> {
    let number = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut frames, mut ends) = (0, 0, Vec::new());
    let mut has_header = false;
    while at + 8 <= file.len() && number(at) > 0 {
        assert!(!has_header || &file[at + 4..at + 8] == b"mdat", "a box is between a header and its frames");
        match &file[at + 4..at + 8] {
            b"moof" => (has_header, frames) = (true, frames + number(at + 80)),
            b"mdat" if has_header => {
                ends.push((at + number(at), frames));
                has_header = false;
            }
            _ => {}
        }
        at += number(at);
    }
    ends
}

#[test]
fn mp4_fragments_of_slow_and_of_varying_streams_are_small_and_complete() {
    let folder = Folder::new("mp4-rates");
    let Some(stream) = stream(Codec::H264, 75, SIZE) else { return };
    let Some(whole) = frame_sums("-", Some("h264"), &stream) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let coded: usize = packets.iter().map(|packet| packet.bytes().len()).sum();
    // Two seconds from frame to frame; 200 frames a second; and a change from the one to the other.
    let times: [fn(u64) -> u64; 3] = [|i| i * 2000, |i| i * 5, |i| if i < 10 { i * 2000 } else { 20_000 + i * 5 }];
    for (case, time) in times.into_iter().enumerate() {
        let path = folder.path("a.mp4");
        let mut writer = Writer::create(&path, WriterOptions::default()).unwrap();
        let timed = (0..).zip(&packets).map(|(i, packet)| at(packet, 1000 + time(i)));
        timed.for_each(|packet| assert_eq!(writer.write(&packet).unwrap(), Written::Stored));
        let summary = writer.finish().unwrap();
        let headers = summary.bytes as usize - coded;
        // A frame costs 16 bytes, and a fragment 88, room for eight more frames, and its index entry.
        assert!(headers < 1500 + 75 * 300, "case {case}: {headers} bytes beside the frames");
        let Some(given) = crate::support::times(&path) else { return };
        assert_eq!(given, (0..75).map(time).collect::<Vec<_>>(), "case {case}");
        let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
        assert_eq!(sums, whole, "case {case}");
    }
}

/// Bytes that arrive, and how many calls brought them.
#[derive(Clone, Default)]
struct Arrived(Arc<Mutex<(Vec<u8>, usize)>>);

impl Write for Arrived {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut got = self.0.lock().unwrap();
        got.0.extend_from_slice(bytes);
        got.1 += 1;
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let mut got = self.0.lock().unwrap();
        slices.iter().for_each(|slice| got.0.extend_from_slice(slice));
        got.1 += 1;
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn mp4_live_stream_has_each_frame_at_once() {
    for codec in CODECS {
        let Some(stream) = stream(codec, 25, SIZE) else { return };
        let packets = packets(codec, &stream, SIZE);
        let got = Arrived::default();
        let mut writer = Writer::live(got.clone(), WriterOptions::default());
        assert_eq!(writer.media_type(), None);
        assert_eq!(writer.write(&packets[0]).unwrap(), Written::Stored);
        let name = if codec == Codec::H264 { "codecs=\"avc1." } else { "codecs=\"hvc1.1.6.L60" };
        assert!(writer.media_type().is_some_and(|text| text.contains(name)), "{:?}", writer.media_type());
        let first = got.0.lock().unwrap().0.clone();
        let Some(whole) = frame_sums("-", Some(format(codec)), &stream) else { return };
        let Some(sums) = frame_sums("-", Some("mp4"), &first) else { return };
        assert_eq!(sums[..], whole[..1], "the first frame needs no other");
        let before = got.0.lock().unwrap().1;
        packets[1..].iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
        assert_eq!(got.0.lock().unwrap().1 - before, 24, "one call a frame");
        assert_eq!(writer.finish().unwrap().packets, 25);
        let all = got.0.lock().unwrap().0.clone();
        let Some(sums) = frame_sums("-", Some("mp4"), &all) else { return };
        assert_eq!(sums, whole, "{codec}");
        assert_eq!(all.windows(4).filter(|w| w == b"moof").count(), 25);
        assert_eq!(&all[4..8], b"ftyp");
    }
}

#[test]
fn mp4_refuses_what_it_cannot_hold_and_recovers_from_full_disks() {
    let folder = Folder::new("mp4-refused");
    let Some(jpeg) = stream(Codec::Mjpeg, 1, SIZE) else { return };
    let Some(stream) = stream(Codec::H264, 60, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let path = folder.path("a.mp4");
    let mut writer = Writer::create(&path, options()).unwrap();
    let e = writer.write(&crate::support::packets(Codec::Mjpeg, &jpeg, SIZE)[0]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("Matroska"), "{e}");
    // The refused packet is not in the file.
    assert_eq!(writer.write(&packets[0]).unwrap(), Written::Stored);
    let e = Writer::create(&path, options()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
    drop(writer);
    if !alone("mp4::mp4_refuses_what_it_cannot_hold_and_recovers_from_full_disks", &["env"]) {
        return;
    }
    let (limit, hard) = file_limit();
    let mut recorder = open(folder.path("r.mp4"), FileRotation::default()).unwrap();
    packets[..30].iter().for_each(|p| assert_eq!(recorded(&mut recorder, p).0, 1));
    let path = folder.path("r-00001.mp4");
    limit(std::fs::metadata(&path).unwrap().len() + 3);
    assert_eq!(recorder.try_submit(packets[30].clone()).unwrap_err().error.kind(), ErrorKind::Exhausted);
    limit(hard);
    packets[31..].iter().for_each(|p| assert!(recorded(&mut recorder, p).0 <= 1));
    let files = files(recorder);
    // The index has no room in the first file. Its last fragment is complete.
    assert!(files.len() == 2 && files[0].is_err(), "{files:?}");
    let Some(first) = frame_sums(text(&path), None, &[]) else { return };
    let Some(second) = frame_sums(text(&folder.path("r-00002.mp4")), None, &[]) else { return };
    let whole = frame_sums("-", Some("h264"), &stream).unwrap();
    assert_eq!([first, second].concat(), [&whole[..30], &whole[40..]].concat());
}

#[test]
fn recorder_writes_mp4_to_files_and_pipes() {
    let folder = Folder::new("mp4-recorder");
    let Some(stream) = stream(Codec::H264, 45, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let rotation = FileRotation::default().duration(Duration::from_millis(800));
    let mut recorder = open(folder.path("r.mp4"), rotation).unwrap();
    let begun: Vec<usize> =
        (0..).zip(&packets).filter_map(|(i, p)| (recorded(&mut recorder, p).1 == 1).then_some(i)).collect();
    assert_eq!(begun, [0, 20, 40]);
    assert_eq!(files(recorder).len(), 3);
    let mut sums = Vec::new();
    for number in 1..=3 {
        let path = folder.path(&format!("r-{number:05}.mp4"));
        let Some(more) = frame_sums(text(&path), None, &[]) else { return };
        sums.extend(more);
    }
    assert_eq!(Some(sums), frame_sums("-", Some("h264"), &stream));
    // A pipe gets one live stream.
    let path = folder.path("live.mp4");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut reader = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut recorder = open(&path, rotation).unwrap();
    let mut got = Vec::new();
    for packet in &packets {
        assert_eq!(recorded(&mut recorder, packet).0, 1);
        let mut bytes = [0; 65536];
        while let Ok(n @ 1..) = reader.read(&mut bytes) {
            got.extend_from_slice(&bytes[..n]);
        }
    }
    let Some(live) = frame_sums("-", Some("mp4"), &got) else { return };
    assert_eq!(Some(live), frame_sums("-", Some("h264"), &stream));
}

#[test]
fn mp4_times_advance_where_one_timestamp_is_a_day_ahead() {
    let folder = Folder::new("mp4-ahead");
    let Some(stream) = stream(Codec::H264, 20, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let path = folder.path("a.mp4");
    let mut writer = Writer::create(&path, options()).unwrap();
    for (i, packet) in (0..).zip(&packets) {
        let ahead = if i == 5 { 86_400_000 } else { 0 };
        assert_eq!(writer.write(&at(packet, 1000 + i * 40 + ahead)).unwrap(), Written::Stored);
    }
    writer.finish().unwrap();
    let Some(times) = times(&path) else { return };
    assert!(times.len() == 20 && times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert!(times[19] - times[6] == 13 * 40, "{times:?}");
}
