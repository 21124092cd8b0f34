//! Tests of recordings in several files.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use framelease::bitstream::{nal_units, Codec, NalKind};
use framelease::format::Size;
use framelease::frame::{FrameFlags, Packet};
use framelease::sink::matroska::Writer;
use framelease::sink::recorder::{FileNames, FileRotation, Recorder, RecorderEvent, RecorderOptions, Retention};
use framelease::sink::{Summary, Written};
use framelease::{Error, ErrorKind, Received, Station, Submit};

use crate::blocks::blocks;
use crate::limits::{close_reader, file_limit};
use crate::station::{assert_signal_ends_recv, idle_wakes, is_readable, signaled};
use crate::support::*;

/// Creates a recorder of files with the test's options.
pub fn open(path: impl AsRef<Path>, rotation: FileRotation) -> framelease::Result<Recorder> {
    Recorder::new(path, RecorderOptions::default().writer(options()).rotation(rotation))
}

/// Records a packet. Returns the increase of the counts of packets and files.
pub fn recorded(recorder: &mut Recorder, packet: &Packet) -> (u64, u64) {
    let before = recorder.stats();
    assert!(recorder.try_submit(packet.clone()).unwrap().is_taken());
    let after = recorder.stats();
    (after.packets - before.packets, after.files - before.files)
}

/// Ends a recording. Returns its reports about files.
pub fn files(mut recorder: Recorder) -> Vec<Result<(PathBuf, Summary), Error>> {
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
    let mut recorder = open(folder.path("e.mkv"), rotation).unwrap();
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
    // An existing file is not overwritten, and numbers continue after it.
    std::fs::write(folder.path("r-00002.mkv"), "mine").unwrap();
    let rotation = FileRotation::default().duration(Duration::from_millis(700));
    let mut recorder = open(folder.path("r.mkv"), rotation).unwrap();
    assert_eq!(recorded(&mut recorder, &packets[1]), (0, 0));
    assert!(recorder.awaits_key());
    assert!(recorder.path().is_none() && !folder.path("r-00003.mkv").exists());
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
    assert_eq!((last, summary.packets), (&folder.path("r-00006.mkv"), 12));
    assert_eq!(std::fs::read(folder.path("r-00002.mkv")).unwrap(), b"mine");
    let mut sums = Vec::new();
    for number in 3..=6 {
        let Some(more) = frame_sums(text(&folder.path(&format!("r-{number:05}.mkv"))), None, &[]) else { return };
        sums.extend(more);
    }
    let both = [frame_sums("-", Some("h264"), &first).unwrap(), frame_sums("-", Some("h264"), &second).unwrap()];
    assert_eq!(sums, both.concat());
    let by_bytes = FileRotation::default().bytes(1);
    let mut recorder = open(folder.path("b"), by_bytes).unwrap();
    packets[..25].iter().for_each(|p| assert_eq!(recorded(&mut recorder, p).0, 1));
    assert_eq!((recorder.stats().files, recorder.path()), (3, Some(&*folder.path("b-00003"))));
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
        let mut recorder = open(folder.path(&format!("{codec}.mkv")), FileRotation::default()).unwrap();
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

#[test]
fn rotation_begins_no_file_with_a_damaged_key_frame() {
    let folder = Folder::new("damaged");
    let Some(stream) = stream(Codec::H264, 25, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let mut recorder = open(folder.path("d.mkv"), FileRotation::default().bytes(1)).unwrap();
    assert_eq!(recorded(&mut recorder, &damaged(&packets[0])), (0, 0));
    assert!(recorder.path().is_none() && !folder.path("d-00001.mkv").exists());
    assert_eq!(recorded(&mut recorder, &packets[0]), (1, 1));
    // A file may contain a damaged key frame, but a rotation waits for an undamaged one.
    let stored = [packets[1..10].to_vec(), vec![damaged(&packets[10])], packets[11..20].to_vec()].concat();
    stored.iter().for_each(|p| assert_eq!(recorded(&mut recorder, p), (1, 0)));
    assert_eq!(recorded(&mut recorder, &packets[20]), (1, 1));
    assert_eq!((recorder.stats().files, recorder.stats().packets, recorder.stats().skipped), (2, 21, 1));
}

/// Cameras' clocks vary: a key frame may come a little before the time.
#[test]
fn rotation_happens_at_key_frames_that_reach_its_duration() {
    let Some(stream) = stream(Codec::H264, 41, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    for early_ms in [0, 3] {
        let folder = Folder::new("on-time");
        let rotation = FileRotation::default().duration(Duration::from_millis(800));
        let mut recorder = open(folder.path("r.mkv"), rotation).unwrap();
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
        let mut recorder = open(folder.path("r.mkv"), rotation).unwrap();
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

pub fn names(folder: &Path) -> Vec<String> {
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
    if !alone("recorder::recorder_leaves_no_empty_files_on_a_full_disk", &wrap) {
        return;
    }
    let Some(stream) = stream(Codec::H264, 60, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let disk = Path::new(DISK);
    let fill = |most: usize| {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(disk.join("filler")).unwrap();
        let _ = file.write_all(&vec![1; most]);
    };
    let mut recorder = open(disk.join("r.mkv"), FileRotation::default()).unwrap();
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
    // With a limit that the disk cannot hold, the oldest files make room.
    let retention = Retention::default().bytes(1 << 30);
    let options = RecorderOptions::default().rotation(FileRotation::default().bytes(1)).retention(retention);
    let mut recorder = Recorder::new(disk.join("r.mkv"), options).unwrap();
    let (mut stored, mut deleted) = (0, Vec::new());
    for i in 0..600 {
        let packet = at(&packets[i % 60], i as u64 * 40);
        stored += u64::from(recorder.try_submit(packet).is_ok_and(|_| recorder.path().is_some()));
        while let Received::Item(event) = recorder.try_recv().unwrap() {
            if let RecorderEvent::Deleted { path } = event {
                deleted.push(path);
            }
        }
    }
    assert!(deleted.len() > 5 && deleted[0] == disk.join("r-00001.mkv"), "{deleted:?}");
    // A full disk costs the frames up to a key frame.
    assert!(stored > 400, "{stored}");
    drop(recorder);
    // One file that fills the disk alone: it makes room for the next.
    names(disk).iter().for_each(|name| std::fs::remove_file(disk.join(name)).unwrap());
    let options = RecorderOptions::default().retention(retention);
    let mut recorder = Recorder::new(disk.join("one.mkv"), options).unwrap();
    let packet = |i: u64| at(&packets[i as usize % 60], i * 40);
    let stored = (0..1200).filter(|&i| recorder.try_submit(packet(i)).is_ok() && recorder.path().is_some()).count();
    assert!(stored > 900 && recorder.stats().files >= 2, "{stored}, {:?}", recorder.stats());
}

#[test]
fn finish_that_fails_costs_no_packet() {
    if !alone("recorder::finish_that_fails_costs_no_packet", &["env"]) {
        return;
    }
    let (limit, hard) = file_limit();
    let folder = Folder::new("unfinished");
    let Some(stream) = stream(Codec::H264, 21, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let rotation = FileRotation::default().duration(Duration::from_millis(500));
    let mut recorder = open(folder.path("r.mkv"), rotation).unwrap();
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
fn recorder_is_full_while_the_reader_of_a_pipe_is_behind() {
    let folder = Folder::new("full");
    let Some(stream) = stream(Codec::H264, 25, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let path = folder.path("a.mkv");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut recorder = open(&path, FileRotation::default().bytes(1)).unwrap();
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

/// Packets of a camera that ended a moment ago: their timestamps are of this machine's clock.
fn captured(packets: &[Packet], milliseconds: u64) -> Vec<Packet> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let now_ms = now.tv_sec() as u64 * 1000 + now.tv_nsec() as u64 / 1_000_000;
    let first_ms = now_ms - packets.len() as u64 * milliseconds;
    let captured = |(i, packet): (u64, &Packet)| {
        with(packet, |meta| {
            meta.timestamp_ns = (first_ms + i * milliseconds) * 1_000_000;
            meta.flags |= FrameFlags::MONOTONIC;
        })
    };
    (0..).zip(packets).map(captured).collect()
}

/// The milliseconds since 1970 in the header of a file.
fn creation(path: &Path) -> Option<u64> {
    let args = ["-v", "error", "-show_entries", "format_tags=creation_time", "-of", "csv=p=0", text(path)];
    let time = String::from_utf8(clean("ffprobe", &args, &[])?).unwrap();
    let seconds = clean("date", &["-u", "+%s%3N", "-d", time.trim()], &[])?;
    Some(String::from_utf8(seconds).unwrap().trim().parse().unwrap())
}

#[test]
fn names_by_the_clock_are_those_of_the_first_frame() {
    let Some(stream) = stream(Codec::H264, 41, SIZE) else { return };
    let coded = packets(Codec::H264, &stream, SIZE);
    for extension in ["mkv", "mp4"] {
        // Key frames are 3 s apart.
        let packets = captured(&coded, 300);
        let first = SystemTime::now() - Duration::from_millis(41 * 300);
        let folder = Folder::new("clock");
        let rotation = FileRotation::default().duration(Duration::from_secs(3));
        let options = RecorderOptions::default().rotation(rotation).names(FileNames::WallClock);
        let mut recorder = Recorder::new(folder.path(&format!("gate.{extension}")), options).unwrap();
        let mut begun = Vec::new();
        for packet in &packets {
            if recorded(&mut recorder, packet).1 == 1 {
                begun.push(recorder.path().unwrap().to_owned());
            }
        }
        drop(recorder);
        assert_eq!(begun.len(), 5);
        for (i, path) in (0..).zip(&begun) {
            let name = path.file_name().unwrap().to_str().unwrap();
            // date reads 2026-11-30T04:20:47Z.
            let at = |range: std::ops::Range<usize>| &name[range];
            let time =
                format!("{}-{}-{}T{}:{}:{}Z", at(5..9), at(9..11), at(11..13), at(14..16), at(16..18), at(18..20));
            let Some(seconds) = clean("date", &["-u", "+%s", "-d", &time], &[]) else { return };
            let seconds: u64 = String::from_utf8(seconds).unwrap().trim().parse().unwrap();
            let expected = first.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64 + i * 3000;
            assert!(seconds.abs_diff(expected / 1000) <= 1, "{name}: {seconds}, not {expected}");
            let Some(created) = creation(path) else { return };
            // In MP4, whole seconds.
            assert!(created.abs_diff(expected) <= 1500, "{name}: {created}, not {expected}");
        }
        // A recorder that was started again in the same second.
        let mut again = Recorder::new(folder.path(&format!("gate.{extension}")), options).unwrap();
        assert_eq!(recorded(&mut again, &packets[0]), (1, 1));
        let stem = begun[0].file_stem().unwrap().to_str().unwrap();
        assert_eq!(again.path(), Some(&*folder.path(&format!("{stem}-2.{extension}"))));
    }
}

#[test]
fn rotation_that_is_aligned_follows_the_clock() {
    let Some(stream) = stream(Codec::H264, 101, SIZE) else { return };
    // Key frames are 400 ms apart.
    let packets = captured(&packets(Codec::H264, &stream, SIZE), 40);
    let folder = Folder::new("aligned");
    let rotation = FileRotation::default().duration(Duration::from_secs(1)).aligned(true);
    let mut recorder = Recorder::new(folder.path("r.mkv"), RecorderOptions::default().rotation(rotation)).unwrap();
    let mut begun = Vec::new();
    for packet in &packets {
        if recorded(&mut recorder, packet).1 == 1 {
            begun.push(recorder.path().unwrap().to_owned());
        }
    }
    drop(recorder);
    assert!((4..=6).contains(&begun.len()), "{begun:?}");
    for path in &begun[1..] {
        let Some(created) = creation(path) else { return };
        // The first key frame of a second, which may come 20 ms early.
        assert!((created + 20) % 1000 < 421, "{path:?} begins at {created}");
    }
}

#[test]
fn retention_deletes_the_oldest_files_of_the_recording() {
    let folder = Folder::new("retention");
    let Some(stream) = stream(Codec::H264, 100, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    // Files of other programs, and a link with such a name.
    for name in ["r-1.mkv", "r-00001.mp4", "other-00001.mkv", "r-00001.mkv.txt"] {
        std::fs::write(folder.path(name), vec![0; 100_000]).unwrap();
    }
    std::os::unix::fs::symlink(folder.path("r-1.mkv"), folder.path("r-00002.mkv")).unwrap();
    // A file of an earlier run.
    std::fs::write(folder.path("r-00003.mkv"), vec![0; 40_000]).unwrap();
    let most = 100_000;
    let rotation = FileRotation::default().bytes(1);
    let options = RecorderOptions::default().rotation(rotation).retention(Retention::default().bytes(most));
    let mut recorder = Recorder::new(folder.path("r.mkv"), options).unwrap();
    let mut deleted = Vec::new();
    let own = || {
        let names = names(&folder.path("")).into_iter().filter(|name| name.starts_with("r-0") && name.ends_with("mkv"));
        names.filter(|name| name != "r-00002.mkv").map(|name| folder.path(&name))
    };
    for packet in &packets {
        assert_eq!(recorded(&mut recorder, packet).0, 1);
        let total: u64 = own().map(|path| std::fs::metadata(path).unwrap().len()).sum();
        assert!(total <= most, "{total}");
        while let Received::Item(event) = recorder.try_recv().unwrap() {
            match event {
                RecorderEvent::Deleted { path } => deleted.push(path),
                RecorderEvent::File { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let numbers: Vec<PathBuf> = (3..).take(deleted.len()).map(|i| folder.path(&format!("r-{i:05}.mkv"))).collect();
    assert!(deleted.len() >= 3 && deleted == numbers, "{deleted:?}");
    drop(recorder);
    for name in ["r-1.mkv", "r-00001.mp4", "other-00001.mkv", "r-00001.mkv.txt", "r-00002.mkv"] {
        assert!(folder.path(name).exists(), "{name}");
    }
    // By age, also of files of earlier runs.
    let left: Vec<PathBuf> = own().collect();
    let hour = Duration::from_secs(3600);
    let old = std::fs::File::options().write(true).open(&left[0]).unwrap();
    old.set_modified(SystemTime::now() - 2 * hour).unwrap();
    let options = RecorderOptions::default().retention(Retention::default().age(hour));
    let mut recorder = Recorder::new(folder.path("r.mkv"), options.repair(false)).unwrap();
    assert_eq!(recorded(&mut recorder, &packets[0]).0, 1);
    let Received::Item(RecorderEvent::Deleted { path }) = recorder.try_recv().unwrap() else { panic!("no event") };
    assert_eq!(path, left[0]);
    assert!(recorder.try_recv().unwrap().is_nothing() && left[1..].iter().all(|path| path.exists()));
}

#[test]
fn retention_keeps_open_files_files_of_others_and_the_newest() {
    let folder = Folder::new("retention-others");
    let Some(stream) = stream(Codec::H264, 20, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let rotation = FileRotation::default().bytes(1);
    let options = RecorderOptions::default().rotation(rotation).repair(false);
    // Files 1 to 4, and the number 5 that another recorder has open.
    let record = |count: usize| {
        let mut recorder = Recorder::new(folder.path("r.mkv"), options).unwrap();
        (0..count as u64).for_each(|i| assert_eq!(recorded(&mut recorder, &at(&packets[0], i * 400)), (1, 1)));
        recorder
    };
    files(record(4));
    let other = record(1);
    let open = other.path().unwrap().to_owned();
    // An export with a date, a file with a number that is not ours, and one that another program wrote.
    let export = std::fs::read(folder.path("r-00001.mkv")).unwrap();
    std::fs::write(folder.path("r-20261130.mkv"), &export).unwrap();
    std::fs::write(folder.path("r-000007.mkv"), &export).unwrap();
    std::fs::write(folder.path("r-00006.mkv"), "a text").unwrap();
    // The newest was written before the clock was set.
    let old = std::fs::File::options().write(true).open(folder.path("r-00004.mkv")).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    // Everything but two files is beyond the limit.
    let bytes = 6 + 2 * export.len() as u64 + std::fs::metadata(&open).unwrap().len();
    let mut recorder =
        Recorder::new(folder.path("r.mkv"), options.retention(Retention::default().bytes(bytes))).unwrap();
    let mut deleted = Vec::new();
    while let Received::Item(event) = recorder.try_recv().unwrap() {
        let RecorderEvent::Deleted { path } = event else { panic!("{event:?}") };
        deleted.push(path);
    }
    assert_eq!(deleted, [folder.path("r-00001.mkv"), folder.path("r-00002.mkv")]);
    // A limit that nothing meets.
    let options = options.retention(Retention::default().bytes(1));
    let mut recorder = Recorder::new(folder.path("r.mkv"), options).unwrap();
    while recorder.try_recv().unwrap().item().is_some() {}
    let left = ["r-000007.mkv", "r-00005.mkv", "r-00006.mkv", "r-20261130.mkv"];
    assert_eq!(names(&folder.path("")), left, "open: {open:?}");
    // The number after the highest of ours.
    assert_eq!(recorded(&mut recorder, &packets[0]), (1, 1));
    assert_eq!(recorder.path(), Some(&*folder.path("r-00007.mkv")));
}

#[test]
fn retention_by_age_needs_no_packet() {
    let folder = Folder::new("retention-idle");
    let Some(stream) = stream(Codec::H264, 1, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    files({
        let mut recorder = open(folder.path("r.mkv"), FileRotation::default()).unwrap();
        assert_eq!(recorded(&mut recorder, &packets[0]), (1, 1));
        recorder
    });
    let hour = Duration::from_secs(3600);
    let options = RecorderOptions::default().retention(Retention::default().age(hour));
    let mut recorder = Recorder::new(folder.path("r.mkv"), options).unwrap();
    assert!(recorder.try_recv().unwrap().is_nothing());
    let file = std::fs::File::options().write(true).open(folder.path("r-00001.mkv")).unwrap();
    file.set_modified(SystemTime::now() - 2 * hour).unwrap();
    // The recorder knows the times that files had when it was created.
    let mut again = Recorder::new(folder.path("r.mkv"), options).unwrap();
    assert!(matches!(again.try_recv().unwrap(), Received::Item(RecorderEvent::Deleted { .. })));
    assert!(names(&folder.path("")).is_empty());
    let short = RecorderOptions::default().retention(Retention::default().age(Duration::from_millis(500)));
    files({
        let mut recorder = open(folder.path("r.mkv"), FileRotation::default()).unwrap();
        assert_eq!(recorded(&mut recorder, &packets[0]), (1, 1));
        recorder
    });
    let mut recorder = Recorder::new(folder.path("r.mkv"), short).unwrap();
    let start = Instant::now();
    while recorder.try_recv().unwrap().is_nothing() {
        assert!(start.elapsed() < Duration::from_secs(20), "an old file stays while nothing is recorded");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(names(&folder.path("")).is_empty());
}
