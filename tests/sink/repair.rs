//! Tests of files that a crash has left: they are finished in place, whatever is at their end.

use std::path::Path;
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::format::Size;
use framelease::frame::Packet;
use framelease::sink::recorder::{Recorder, RecorderEvent, RecorderOptions};
use framelease::sink::{matroska, mp4, Repaired, Written};
use framelease::{ErrorKind, Received, Result, Station};

use crate::recorder::recorded;
use crate::support::*;

const SMALL: Size = Size::new(128, 96);

/// A container, by the extension of its files.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Container {
    Mkv,
    Mp4,
}

use Container::*;

impl Container {
    fn repair(self, path: &Path) -> Result<Option<Repaired>> {
        match self {
            Mkv => matroska::repair(path),
            Mp4 => mp4::repair(path),
        }
    }

    /// Writes packets, and finishes the file or leaves it as a crash does.
    fn write(self, path: &Path, packets: &[Packet], is_finished: bool) {
        match self {
            Mkv => {
                let mut writer = matroska::Writer::create(path, options()).unwrap();
                packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
                is_finished.then(|| writer.finish().unwrap());
            }
            Mp4 => {
                let mut writer = mp4::Writer::create(path, options()).unwrap();
                packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
                is_finished.then(|| writer.finish().unwrap());
            }
        }
    }
}

/// Asks ffprobe for numbers of a file in seconds. Returns milliseconds. Pictures may be damaged, so messages are not
/// printed.
fn asked(path: &Path, args: &[&str]) -> Option<Vec<u64>> {
    let out = program("ffprobe", &[&["-v", "quiet", "-of", "csv=p=0"][..], args, &[text(path)]].concat(), &[])?;
    assert!(out.status.success(), "{args:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    let seconds = text.lines().filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok());
    Some(seconds.map(|seconds| (seconds * 1000.0).round() as u64).collect())
}

/// The times of the packets of a file, its duration, and the time that a seek to its last 100 ms finds.
fn probed(path: &Path) -> Option<(Vec<u64>, u64, Option<u64>)> {
    let times = asked(path, &["-show_entries", "packet=pts_time"])?;
    let duration = asked(path, &["-show_entries", "format=duration"])?;
    let from = format!("{}%+#1", times.last().unwrap_or(&0).saturating_sub(100) as f64 / 1000.0);
    let found = asked(path, &["-read_intervals", &from, "-show_entries", "packet=pts_time"])?;
    Some((times, duration.first().copied().unwrap_or(0), found.first().copied()))
}

#[test]
fn repair_finishes_a_file_that_was_cut_at_any_byte() {
    let folder = Folder::new("repair-cut");
    let Some(stream) = stream(Codec::H264, 75, SMALL) else { return };
    let packets = packets(Codec::H264, &stream, SMALL);
    let mut seed = 1u64;
    for container in [Mkv, Mp4] {
        for is_finished in [false, true] {
            let path = folder.path("a");
            container.write(&path, &packets, is_finished);
            let all = std::fs::read(&path).unwrap();
            for i in 0..40 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let cut = if i == 0 { all.len() } else { (seed >> 33) as usize % all.len() };
                // A file system may also leave zeros or old blocks.
                let tail: &[u8] = [&[][..], &[0; 5000], b"old blocks of another file"][i % 3];
                let left = [&all[..cut], if i == 0 { &[] } else { tail }].concat();
                std::fs::write(&path, &left).unwrap();
                let case = format!("{container:?} cut at {cut}, finished: {is_finished}, {} after", tail.len());
                let repaired = match container.repair(&path) {
                    Ok(repaired) => repaired,
                    // Less than the first bytes.
                    Err(e) => {
                        assert!(e.kind() == ErrorKind::WrongFile && cut < 32, "{case}: {e}");
                        continue;
                    }
                };
                let after = std::fs::read(&path).unwrap();
                let Some(repaired) = repaired else {
                    assert!(after == left, "{case}: changed");
                    let is_whole = is_finished && i == 0;
                    // The first fragment has 20 of 75 frames.
                    assert!(is_whole || cut < all.len() / 3, "{case}: nothing was done");
                    continue;
                };
                assert_eq!(after.len() as u64, repaired.bytes, "{case}");
                let Some((times, duration, found)) = probed(&path) else { return };
                let expected: Vec<u64> = (0..times.len() as u64).map(|i| i * 40).collect();
                assert_eq!(times, expected, "{case}");
                assert_eq!(duration, times.len() as u64 * 40, "{case}");
                assert_eq!(repaired.duration, Duration::from_millis(duration), "{case}");
                let key = times.last().map(|last| last.saturating_sub(100) / 400 * 400);
                assert_eq!(found, key, "{case}: {}", times.len());
                // In Matroska, only the packet that was cut is lost.
                if container == Mkv {
                    let whole = matroska_blocks(&left);
                    assert_eq!(times.len(), whole, "{case}");
                }
                // A second call has nothing to do.
                assert_eq!(container.repair(&path).unwrap(), None, "{case}");
                assert!(std::fs::read(&path).unwrap() == after, "{case}: changed by the second call");
            }
        }
    }
}

/// The number of complete blocks.
fn matroska_blocks(file: &[u8]) -> usize {
    let is_block = |at: usize| file[at..].starts_with(&[0xa3, 1, 0, 0, 0, 0]);
    let ends = |at: usize| {
        let size = u64::from_be_bytes(file[at + 1..at + 9].try_into().unwrap()) & ((1 << 56) - 1);
        at + 9 + size as usize
    };
    (0..file.len().saturating_sub(16)).filter(|&at| is_block(at) && ends(at) <= file.len()).count()
}

#[test]
fn repair_of_a_file_equals_its_end_by_the_writer() {
    let folder = Folder::new("repair-equal");
    for codec in [Codec::H264, Codec::Hevc] {
        let Some(stream) = stream(codec, 75, SMALL) else { return };
        let packets = packets(codec, &stream, SMALL);
        for container in [Mkv, Mp4] {
            let (crashed, finished) = (folder.path("crashed"), folder.path("finished"));
            container.write(&crashed, &packets, false);
            container.write(&finished, &packets, true);
            assert_eq!(container.repair(&finished).unwrap(), None);
            container.repair(&crashed).unwrap().unwrap();
            let [Some(crashed), Some(finished)] = [&crashed, &finished].map(|path| probed(path)) else { return };
            match container {
                Mkv => assert_eq!(crashed, finished, "{codec}"),
                // The last fragment was not complete.
                Mp4 => assert_eq!(crashed.0, finished.0[..crashed.0.len()], "{codec}"),
            }
            assert!(crashed.0.len() >= 60, "{codec}: {}", crashed.0.len());
        }
    }
}

#[test]
fn repair_keeps_what_comes_after_damaged_bytes() {
    let folder = Folder::new("repair-damaged");
    let Some(stream) = stream(Codec::H264, 75, SMALL) else { return };
    let packets = packets(Codec::H264, &stream, SMALL);
    for container in [Mkv, Mp4] {
        let path = folder.path("a");
        container.write(&path, &packets, false);
        let mut all = std::fs::read(&path).unwrap();
        // The head of a cluster or fragment in the middle is lost.
        let id: &[u8] = if container == Mkv { &[0x1f, 0x43, 0xb6, 0x75] } else { b"moof" };
        let heads: Vec<usize> = (0..all.len() - 4).filter(|&at| all[at..].starts_with(id)).collect();
        let at = heads[1] - if container == Mkv { 0 } else { 4 };
        all[at..at + 64].fill(0);
        std::fs::write(&path, &all).unwrap();
        let repaired = container.repair(&path).unwrap().unwrap();
        assert!(repaired.duration >= Duration::from_millis(2400), "{container:?}: {repaired:?}");
        let args = ["-v", "quiet", "-i", text(&path), "-fps_mode", "passthrough", "-f", "framemd5", "-"];
        let Some(out) = program("ffmpeg", &args, &[]) else { return };
        let shown = String::from_utf8(out.stdout).unwrap().lines().filter(|l| !l.starts_with('#')).count();
        assert!(shown >= 40, "{container:?}: {shown}");
    }
}

/// ffmpeg's files have room for what is missing.
#[test]
fn repair_finishes_files_of_ffmpeg() {
    let folder = Folder::new("repair-ffmpeg");
    for (container, format, options) in
        [(Mkv, "matroska", &[][..]), (Mp4, "mp4", &["-movflags", "frag_keyframe+empty_moov+default_base_moof"])]
    {
        let path = folder.path("a");
        let source = format!("testsrc2=size={SMALL}:rate=25");
        let args = ["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-frames:v", "75", "-g", "10", "-bf", "0"];
        let args = [&args[..], options, &["-c:v", "libx264", "-f", format, text(&path)]].concat();
        if clean("ffmpeg", &args, &[]).is_none() {
            return;
        }
        assert_eq!(container.repair(&path).unwrap(), None, "{format}: a finished file");
        let all = std::fs::read(&path).unwrap();
        // As it is before ffmpeg has written its end.
        let mut left = all[..all.len() * 3 / 4].to_vec();
        if container == Mkv {
            left = unfinished(left);
        }
        std::fs::write(&path, &left).unwrap();
        let repaired = container.repair(&path).unwrap().unwrap();
        let Some((times, duration, found)) = probed(&path) else { return };
        assert!(times.len() >= 30, "{format}: {}", times.len());
        assert_eq!(duration, times.len() as u64 * 40, "{format}");
        assert_eq!(repaired.duration, Duration::from_millis(duration), "{format}");
        assert_eq!(found.map(|time| time % 400), Some(0), "{format}: {found:?}");
        let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
        assert_eq!(sums.len(), times.len(), "{format}");
    }
}

/// Makes the size of the segment unknown, as ffmpeg does until the end.
fn unfinished(mut file: Vec<u8>) -> Vec<u8> {
    let segment = file.windows(4).position(|four| four == [0x18, 0x53, 0x80, 0x67]).unwrap();
    file[segment + 4..segment + 12].copy_from_slice(&[1, 255, 255, 255, 255, 255, 255, 255]);
    file
}

#[test]
fn repair_leaves_files_that_are_written_or_of_another_kind() {
    let folder = Folder::new("repair-other");
    let Some(stream) = stream(Codec::H264, 5, SMALL) else { return };
    let packets = packets(Codec::H264, &stream, SMALL);
    let path = folder.path("a");
    let mut writer = matroska::Writer::create(&path, options()).unwrap();
    packets.iter().for_each(|p| assert_eq!(writer.write(p).unwrap(), Written::Stored));
    let e = matroska::repair(&path).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy);
    assert!(e.to_string().contains(text(&path)), "{e}");
    writer.finish().unwrap();
    assert_eq!(mp4::repair(&path).unwrap_err().kind(), ErrorKind::WrongFile);
    let text_file = folder.path("text");
    std::fs::write(&text_file, "This is a text of more than sixteen bytes.").unwrap();
    for container in [Mkv, Mp4] {
        assert_eq!(container.repair(&text_file).unwrap_err().kind(), ErrorKind::WrongFile);
        assert_eq!(container.repair(&folder.path("absent")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(container.repair(&folder.path("")).unwrap_err().kind(), ErrorKind::WrongFile);
        std::fs::write(folder.path("empty"), "").unwrap();
        assert_eq!(container.repair(&folder.path("empty")).unwrap(), None);
    }
    assert_eq!(std::fs::read(&text_file).unwrap(), b"This is a text of more than sixteen bytes.");
    // A plain MP4 file has no fragments.
    let plain = folder.path("plain.mp4");
    let source = format!("testsrc2=size={SMALL}:rate=25:duration=1");
    if clean("ffmpeg", &["-v", "error", "-f", "lavfi", "-i", &source, text(&plain)], &[]).is_some() {
        assert_eq!(mp4::repair(&plain).unwrap(), None);
    }
}

#[test]
fn recorder_repairs_the_file_of_a_crash_when_it_starts() {
    let folder = Folder::new("repair-recorder");
    let Some(stream) = stream(Codec::H264, 75, SMALL) else { return };
    let packets = packets(Codec::H264, &stream, SMALL);
    for (container, extension) in [(Mkv, "mkv"), (Mp4, "mp4")] {
        let crashed = folder.path(&format!("r-00007.{extension}"));
        container.write(&crashed, &packets, false);
        let path = folder.path(&format!("r.{extension}"));
        let mut recorder = Recorder::new(&path, RecorderOptions::default().writer(options())).unwrap();
        match recorder.try_recv().unwrap() {
            Received::Item(RecorderEvent::Repaired { path, repaired }) => {
                assert_eq!(path, crashed);
                assert!(repaired.duration >= Duration::from_millis(2400), "{repaired:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(recorder.try_recv().unwrap().is_nothing());
        assert_eq!(recorded(&mut recorder, &packets[0]), (1, 1));
        assert_eq!(recorder.path(), Some(&*folder.path(&format!("r-00008.{extension}"))));
        // Another recorder of the same name leaves the file that is being written.
        let mut other = Recorder::new(&path, RecorderOptions::default()).unwrap();
        let Received::Item(RecorderEvent::Error(e)) = other.try_recv().unwrap() else { panic!("no error") };
        assert_eq!(e.kind(), ErrorKind::Busy);
        let mut other = Recorder::new(&path, RecorderOptions::default().repair(false)).unwrap();
        assert!(other.try_recv().unwrap().is_nothing());
    }
}

/// An element with a size of eight bytes.
fn element(id: &[u8], size: u64, body: &[u8]) -> Vec<u8> {
    [id, &(size | 1 << 56).to_be_bytes(), body].concat()
}

/// The start of a file of our writer, up to its first cluster.
fn header(folder: &Folder) -> Option<Vec<u8>> {
    let stream = stream(Codec::H264, 5, SMALL)?;
    let path = folder.path("header.mkv");
    Mkv.write(&path, &packets(Codec::H264, &stream, SMALL), false);
    let all = std::fs::read(&path).unwrap();
    let cluster = all.windows(4).position(|four| four == [0x1f, 0x43, 0xb6, 0x75]).unwrap();
    Some(all[..cluster].to_vec())
}

/// Work and memory for hostile files are bounded by their size.
#[test]
fn repair_reads_hostile_files_once() {
    let folder = Folder::new("repair-hostile");
    let Some(header) = header(&folder) else { return };
    let path = folder.path("a");
    // Heads of clusters inside Voids, each of which would be read up to the end of the file. 400 KB took minutes.
    let void = [0xec, 0x8c, 0x1f, 0x43, 0xb6, 0x75, 1, 255, 255, 255, 255, 255, 255, 255];
    std::fs::write(&path, [&header[..], &[0], &void.repeat(30_000)].concat()).unwrap();
    assert_eq!(matroska::repair(&path).unwrap(), None);
    // Times at the end of the clock.
    let cluster = [&[0xe7, 0x88][..], &[255; 8], &[0xa3, 0x85, 0x81, 0, 0, 0x80, 0]].concat();
    let cluster = element(&[0x1f, 0x43, 0xb6, 0x75], cluster.len() as u64, &cluster);
    std::fs::write(&path, [&header[..], &cluster, &cluster].concat()).unwrap();
    let _ = matroska::repair(&path);
    // A place of 4 TiB for the seek head, in a file with a hole.
    let segment = header.windows(4).position(|four| four == [0x18, 0x53, 0x80, 0x67]).unwrap() + 12;
    let void = element(&[0xec], (4 << 40) - 9, &[]);
    let file = std::fs::File::create(&path).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&[&header[..segment], &void].concat(), 0).unwrap();
    let rest =
        [&header[segment + 68..], &element(&[0x1f, 0x43, 0xb6, 0x75], 8, &[0xe7, 0x81, 0, 0xa3, 0x84, 0x81, 0, 0])];
    let rest = [rest.concat(), vec![0x80]].concat();
    if file.write_all_at(&rest, segment as u64 + (4 << 40)).is_ok() {
        drop(file);
        let _ = matroska::repair(&path);
    }
    // A fragment of 64 bytes with a million frames that have no bytes.
    let full = |name: &[u8; 4], content: &[u32]| {
        let content: Vec<u8> = content.iter().flat_map(|word| word.to_be_bytes()).collect();
        [&(content.len() as u32 + 8).to_be_bytes()[..], name, &content].concat()
    };
    let traf = [full(b"tfhd", &[0x2_0000, 1]), full(b"trun", &[0, 1 << 20])].concat();
    let traf = [&(traf.len() as u32 + 8).to_be_bytes()[..], b"traf", &traf].concat();
    let moof = [&(traf.len() as u32 + 8).to_be_bytes()[..], b"moof", &traf].concat();
    let Some(stream) = stream(Codec::H264, 5, SMALL) else { return };
    Mp4.write(&path, &packets(Codec::H264, &stream, SMALL), false);
    let all = std::fs::read(&path).unwrap();
    let end = all.windows(4).position(|four| four == b"trex").unwrap() + 28;
    let fragments = [moof, [0, 0, 0, 8].to_vec(), b"mdat".to_vec()].concat().repeat(10_000);
    std::fs::write(&path, [&all[..end], &fragments].concat()).unwrap();
    assert_eq!(mp4::repair(&path).unwrap(), None);
}

#[test]
fn repair_ends_the_last_cluster_before_what_follows_it() {
    let folder = Folder::new("repair-tags");
    let Some(stream) = stream(Codec::H264, 25, SMALL) else { return };
    let path = folder.path("a");
    Mkv.write(&path, &packets(Codec::H264, &stream, SMALL), false);
    let mut all = std::fs::read(&path).unwrap();
    let end = all.len();
    let cluster = all.windows(4).rposition(|four| four == [0x1f, 0x43, 0xb6, 0x75]).unwrap();
    all.extend(element(&[0x12, 0x54, 0xc3, 0x67], 0, &[]));
    std::fs::write(&path, &all).unwrap();
    assert_eq!(matroska::repair(&path).unwrap().unwrap().removed_bytes, 0);
    let after = std::fs::read(&path).unwrap();
    let size = u64::from_be_bytes(after[cluster + 4..cluster + 12].try_into().unwrap()) & ((1 << 56) - 1);
    assert_eq!(cluster + 12 + size as usize, end);
}
