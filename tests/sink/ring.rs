//! Tests of recordings of events.

use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::frame::Packet;
use framelease::sink::recorder::{RecorderEvent, RecorderOptions};
use framelease::sink::ring::{EventRecorder, RingOptions};
use framelease::{ErrorKind, Received, Station, Submit};

use crate::station::{idle_wakes, is_readable};
use crate::support::*;

fn recorder(folder: &Folder, extension: &str, before: u64, after: u64) -> EventRecorder {
    let ring = RingOptions::default().before(Duration::from_millis(before)).after(Duration::from_millis(after));
    let path = folder.path(&format!("e.{extension}"));
    EventRecorder::new(path, RecorderOptions::default().writer(options()), ring).unwrap()
}

/// The packets in each file, as events report them.
fn reported(recorder: &mut EventRecorder) -> Vec<u64> {
    let mut counts = Vec::new();
    while let Received::Item(event) = recorder.try_recv().unwrap() {
        match event {
            RecorderEvent::File { summary, .. } => counts.push(summary.packets),
            other => panic!("{other:?}"),
        }
    }
    counts
}

#[test]
fn event_recorder_begins_before_its_trigger_and_goes_on_after_it() {
    let Some(stream) = stream(Codec::H264, 100, SIZE) else { return };
    let Some(whole) = frame_sums("-", Some("h264"), &stream) else { return };
    // 40 ms apart, key frames 400 ms apart.
    let packets = packets(Codec::H264, &stream, SIZE);
    for extension in ["mkv", "mp4"] {
        let folder = Folder::new("ring");
        let mut recorder = recorder(&folder, extension, 500, 600);
        assert!(recorder.awaits_key() && idle_wakes(&mut recorder) == 0);
        let submit = |recorder: &mut EventRecorder, range: std::ops::Range<usize>| {
            packets[range].iter().for_each(|p| assert!(recorder.try_submit(p.clone()).unwrap().is_taken()));
        };
        submit(&mut recorder, 0..37);
        assert!(!recorder.awaits_key() && !recorder.is_recording());
        assert!(!folder.path(&format!("e-00001.{extension}")).exists());
        // From the key frame that is 500 ms older than packet 36: that is 20. Up to 600 ms later: 51.
        recorder.trigger().unwrap();
        assert!(recorder.is_recording() && recorder.stats().packets == 17);
        submit(&mut recorder, 37..52);
        assert!(recorder.is_recording() && !is_readable(&recorder));
        submit(&mut recorder, 52..54);
        assert!(!recorder.is_recording() && is_readable(&recorder));
        assert_eq!(reported(&mut recorder), [32]);
        // Two triggers: the second extends the recording, from 53 - 12 = 41 on, to 60 + 15.
        recorder.trigger().unwrap();
        submit(&mut recorder, 54..61);
        recorder.trigger().unwrap();
        submit(&mut recorder, 61..100);
        assert_eq!(reported(&mut recorder), [36]);
        for (file, frames) in [(1, 20..52), (2, 40..76)] {
            let path = folder.path(&format!("e-{file:05}.{extension}"));
            let Some(sums) = frame_sums(text(&path), None, &[]) else { return };
            assert_eq!(sums, whole[frames], "{extension}: file {file}");
        }
        recorder.finish();
        assert!(recorder.try_recv().unwrap().is_ended());
        assert_eq!(recorder.try_submit(packets[0].clone()).unwrap_err().error.kind(), ErrorKind::State);
    }
}

#[test]
fn event_recorder_is_triggered_at_any_moment() {
    let Some(stream) = stream(Codec::H264, 40, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let folder = Folder::new("ring-any");
    let mut recorder = recorder(&folder, "mkv", 500, 200);
    // Before the first packet, whose timestamps may be of any clock.
    let late: Vec<Packet> = (0..).zip(&packets).map(|(i, p)| at(p, 100_000 + i * 40)).collect();
    recorder.trigger().unwrap();
    late[5..20].iter().for_each(|p| assert!(recorder.try_submit(p.clone()).unwrap().is_taken()));
    assert!(!recorder.is_recording());
    // From the first key frame on.
    assert_eq!(reported(&mut recorder), [6]);
    recorder.trigger().unwrap();
    // A source that restarts ends the recording. Its packets are in the ring.
    packets[..5].iter().for_each(|p| assert!(recorder.try_submit(p.clone()).unwrap().is_taken()));
    assert_eq!(reported(&mut recorder), [10]);
    recorder.trigger().unwrap();
    recorder.finish();
    assert_eq!(reported(&mut recorder), [5]);
    let e = recorder.trigger().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::State);
    // Where no file can be created.
    let mut nowhere = EventRecorder::new("/nowhere/e.mkv", RecorderOptions::default(), RingOptions::default()).unwrap();
    assert!(nowhere.try_submit(packets[0].clone()).unwrap().is_taken());
    assert_eq!(nowhere.trigger().unwrap_err().kind(), ErrorKind::NotFound);
    let e = EventRecorder::new("/dev/null", RecorderOptions::default(), RingOptions::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn event_recorder_ends_where_timestamps_stand_still() {
    let Some(stream) = stream(Codec::H264, 20, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let folder = Folder::new("ring-still");
    let mut recorder = recorder(&folder, "mkv", 500, 1);
    assert!(recorder.try_submit(at(&packets[0], 1000)).unwrap().is_taken());
    recorder.trigger().unwrap();
    for packet in &packets[1..10] {
        std::thread::sleep(Duration::from_millis(2));
        assert!(recorder.try_submit(at(packet, 1000)).unwrap().is_taken());
    }
    assert!(!recorder.is_recording());
}
