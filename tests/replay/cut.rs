//! Files that were cut or damaged anywhere.

use std::path::Path;
use std::sync::OnceLock;

use framelease::bitstream::Codec;
use framelease::format::Size;
use framelease::frame::{FrameFlags, Packet, PacketMeta};
use framelease::replay::PacketReplay;
use framelease::sink::{matroska, mp4, WriterOptions, Written};
use framelease::{ErrorKind, Received, Station};
use proptest::prelude::*;

use crate::support::Folder;
use crate::{builder, frames, layout, store, wanted};

/// What a replay gave without a wait.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    items: usize,
    errors: usize,
    is_ended: bool,
}

fn got<S: Station>(station: framelease::Result<S>) -> Got {
    let mut got = Got::default();
    let mut station = match station {
        Ok(station) => station,
        Err(error) => {
            let kinds = [ErrorKind::WrongFile, ErrorKind::Mismatch, ErrorKind::Unsupported, ErrorKind::InvalidArgument];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            return Got { errors: 1, ..got };
        }
    };
    // A damaged packet, or a packet that is due later, is nothing.
    let mut nothings = 0;
    while nothings < 10 {
        match station.try_recv() {
            Ok(Received::Item(_)) => got.items += 1,
            Ok(Received::Nothing) => nothings += 1,
            Ok(Received::Ended) => {
                got.is_ended = true;
                break;
            }
            Err(error) => {
                assert!([ErrorKind::Mismatch, ErrorKind::Unsupported].contains(&error.kind()), "{error:?}");
                got.errors += 1;
            }
        }
        assert!(got.items + got.errors < 1000, "{got:?}");
    }
    got
}

fn small_store(path: &Path) -> Vec<u8> {
    let all = [0, 1, 2].map(|i| wanted(i, i, 0, FrameFlags::MONOTONIC));
    let first = frames(layout("GREY", Size::new(8, 4), 1), &all[..2]);
    let second = frames(layout("NV12", Size::new(4, 4), 1), &all[2..]);
    store(path, first.iter().chain(&second));
    std::fs::read(path).unwrap()
}

#[test]
fn store_that_was_cut_has_the_frames_before_the_cut() {
    let folder = Folder::new("cut");
    let path = folder.path("cut");
    let whole = small_store(&path);
    let ends = [16 + 116 + 56 + 32, 16 + 116 + 2 * (56 + 32), whole.len()];
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let frames = ends.iter().filter(|&&end| end <= cut).count();
        // The third frame has another layout.
        let expected = Got { items: if frames == 3 { 4 } else { frames }, errors: 0, is_ended: true };
        let expected = if frames == 0 { Got { errors: 1, ..Got::default() } } else { expected };
        assert_eq!(got(builder(&path).open()), expected, "cut at {cut}");
    }
    // A power failure can leave zeros.
    std::fs::write(&path, [&whole[..ends[1]], &[0; 300]].concat()).unwrap();
    assert_eq!(got(builder(&path).open()), Got { items: 2, errors: 0, is_ended: true });
}

#[test]
fn store_that_was_cut_while_it_plays_ends() {
    let folder = Folder::new("cutting");
    let path = folder.path("cutting");
    let whole = small_store(&path);
    let mut replay = builder(&path).open().unwrap();
    assert!(replay.try_recv().unwrap().frame().is_some());
    std::fs::File::options().write(true).open(&path).unwrap().set_len(whole.len() as u64 / 2).unwrap();
    assert!(replay.recv(crate::SOON).unwrap().is_ended());
}

/// Key frames of VP8, or H.264 with parameter sets, directly after each other.
fn packets(codec: Codec) -> Vec<Packet> {
    let sets = [0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0xda, 2, 0x80, 0xf6, 0x40, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
    let unit = match codec {
        Codec::Vp8 => vec![0x10, 0, 0, 7, 7],
        _ => [&sets[..], &[0, 0, 0, 1, 0x65, 0x88, 0x84, 0, 0x33]].concat(),
    };
    let packet = |i| Packet::new(PacketMeta::new(codec, Size::new(16, 16), i, i), &unit[..], None);
    (0..4).map(packet).collect()
}

fn recordings(folder: &Folder) -> Vec<Vec<u8>> {
    let (mkv, mp4) = (folder.path("all.mkv"), folder.path("all.mp4"));
    let mut files = Vec::new();
    for codec in [Codec::Vp8, Codec::H264] {
        let mut writer = matroska::Writer::create(&mkv, WriterOptions::default()).unwrap();
        packets(codec).iter().for_each(|packet| assert_eq!(writer.write(packet).unwrap(), Written::Stored));
        writer.finish().unwrap();
        files.push(std::fs::read(&mkv).unwrap());
    }
    let mut writer = mp4::Writer::create(&mp4, WriterOptions::default()).unwrap();
    packets(Codec::H264).iter().for_each(|packet| assert_eq!(writer.write(packet).unwrap(), Written::Stored));
    writer.finish().unwrap();
    files.push(std::fs::read(&mp4).unwrap());
    files
}

#[test]
fn recording_that_was_cut_has_the_packets_before_the_cut() {
    let folder = Folder::new("cutmkv");
    for whole in recordings(&folder) {
        let path = folder.path("cut");
        let mut before = 0;
        // The header of a fragment has room for many frames.
        let step = if whole.len() > 4096 { 7 } else { 1 };
        for cut in (0..=whole.len()).step_by(step) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let got = got(PacketReplay::open(&path));
            assert!(got.items >= before && (got.items == 0) == (got.errors == 1), "cut at {cut}: {got:?}");
            before = got.items;
        }
        std::fs::write(&path, &whole).unwrap();
        let mut replay = PacketReplay::open(&path).unwrap();
        let mut count = 0;
        while replay.recv(crate::SOON).unwrap().item().is_some() {
            count += 1;
        }
        assert_eq!(count, 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_are_played_or_refused(changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6), kind in 0usize..4) {
        let folder = Folder::new(&format!("any-{:?}", std::thread::current().id()));
        static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        let files = FILES.get_or_init(|| [recordings(&folder), vec![small_store(&folder.path("store"))]].concat());
        let mut file = files[kind].clone();
        for (at, byte) in changes {
            // Headers are at the start.
            let at = usize::from(at) % file.len().min(1000);
            file[at] = byte;
        }
        let path = folder.path("any");
        std::fs::write(&path, &file).unwrap();
        let _ = (got(PacketReplay::open(&path)), got(builder(&path).open()));
    }
}
