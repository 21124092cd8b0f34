//! Two of vivid's cameras, aligned in time: as stations, and as the publishers of two subscribers.

use std::time::{Duration, Instant};

use framelease::capture::{Camera, FrameSource};
use framelease::frame::Frame;
use framelease::share::{Aligned, AlignedEvent, AlignedStats, Policy, Publisher, Subscriber};
use framelease::{FrameEvent, Station};

use crate::devices::*;
use crate::share::SOON;

/// A little more than half of the interval of 60 frames a second.
const TOLERANCE: Duration = Duration::from_millis(9);
const PAIRS: u64 = 60;

/// Both cameras of vivid, at the same rate.
fn cameras() -> Option<[Camera; 2]> {
    let devices = [vivid(Planar::Single)?, vivid_as_is(Planar::Multi)?];
    Some(devices.map(|device| camera(&device, "NV12").buffers(10).open().unwrap()))
}

/// Checks pairs as they come.
#[derive(Default)]
struct Check {
    pairs: u64,
    last: [u64; 2],
}

impl Check {
    fn add(&mut self, frames: &[Frame; 2]) {
        let times = [0, 1].map(|i| frames[i].meta().timestamp_ns);
        assert!(times[0].abs_diff(times[1]) <= TOLERANCE.as_nanos() as u64, "{times:?}");
        assert!(times[0] > self.last[0] && times[1] > self.last[1], "{times:?} after {:?}", self.last);
        (self.last, self.pairs) = (times, self.pairs + 1);
    }

    fn end(&self, stats: &AlignedStats<2>) {
        assert_eq!((stats.sets, stats.undated), (self.pairs, [0, 0]));
        // Two cameras of one rate: most frames have a match, even on a busy machine.
        assert!(stats.unmatched.iter().zip(stats.overflowed).all(|(a, b)| a + b <= PAIRS / 2), "{stats:?}");
    }
}

#[test]
fn aligned_gives_pairs_of_two_cameras() {
    leaving_nothing(|| {
        let Some(cameras) = cameras() else { return };
        let mut aligned = Aligned::new(cameras, TOLERANCE).unwrap();
        let mut check = Check::default();
        while check.pairs < PAIRS {
            match aligned.recv(SOON).unwrap().item() {
                Some(AlignedEvent::Frames(frames)) => check.add(&frames),
                other => panic!("{other:?} after {} pairs", check.pairs),
            }
        }
        check.end(&aligned.stats());
    });
}

#[test]
fn aligned_gives_pairs_of_two_published_cameras() {
    leaving_nothing(|| {
        let Some(mut cameras) = cameras() else { return };
        let folder = std::env::temp_dir().join(format!("framelease-aligned-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |i: usize| folder.join(i.to_string());
        let mut publishers = [0, 1].map(|i| {
            let mut publisher = Publisher::builder(path(i)).reserve(3).bind().unwrap();
            publisher.announce(cameras[i].buffers().unwrap()).unwrap();
            publisher
        });
        let connects = [0, 1].map(|i| {
            let builder = Subscriber::builder(path(i)).hold(4).policy(Policy::Fifo(2));
            std::thread::spawn(move || builder.connect(SOON).unwrap())
        });
        while !connects.iter().all(|connect| connect.is_finished()) {
            publishers.iter_mut().for_each(|publisher| drop(publisher.recv(Duration::from_millis(1)).unwrap()));
        }
        let subscribers = connects.map(|connect| connect.join().unwrap());
        let mut aligned = Aligned::new(subscribers, TOLERANCE).unwrap();
        let (mut check, start) = (Check::default(), Instant::now());
        while check.pairs < PAIRS {
            assert!(start.elapsed() < SOON, "{:?}", aligned.stats());
            for (camera, publisher) in cameras.iter_mut().zip(&mut publishers) {
                publisher.dispatch().unwrap();
                if let Some(frame) = camera.try_recv().unwrap().item().and_then(FrameEvent::into_frame) {
                    let _ = publisher.try_publish(frame).unwrap();
                }
            }
            if let Some(AlignedEvent::Frames(frames)) = aligned.recv(Duration::from_millis(1)).unwrap().item() {
                check.add(&frames);
            }
        }
        check.end(&aligned.stats());
        let _ = std::fs::remove_dir_all(folder);
    });
}
