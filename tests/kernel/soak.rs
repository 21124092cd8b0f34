//! A camera that is shared, encoded and recorded for any time, while subscribers come, go, stop and die. Values that
//! must not change are recorded every second and checked at the end. It takes some seconds; `cargo lab soak` runs it
//! for longer.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::capture::{Camera, CameraEvent, FrameSource};
use framelease::codec::{negotiate, Encoder, EncoderEvent};
use framelease::format::FrameInterval;
use framelease::share::{Policy, Publisher, Subscriber, SubscriberEvent};
use framelease::sink::recorder::{FileRotation, Recorder, RecorderEvent, RecorderOptions};
use framelease::{Received, Station, Submit};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::coding::*;
use crate::devices::*;
use crate::random::Random;
use crate::share::example;

const PEERS: usize = 8;
/// Memory that may be allocated late: a queue that grows once, a lazily bound symbol.
const LATE_KIB: u64 = 512;

/// Subscribers that come and go.
struct Crowd<'a> {
    program: &'a Path,
    socket: &'a Path,
    random: Random,
    peers: Vec<Child>,
    due: Instant,
    came: u32,
}

impl Crowd<'_> {
    fn stir(&mut self) {
        if Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + Duration::from_millis(100 + self.random.below(400));
        self.peers.retain_mut(|p| p.try_wait().unwrap().is_none());
        let signal = match self.random.below(8) {
            0 => Signal::SIGKILL,
            1 => Signal::SIGINT,
            2 => Signal::SIGSTOP,
            3 => Signal::SIGCONT,
            _ if self.peers.len() < PEERS => return self.spawn(),
            _ => Signal::SIGTERM,
        };
        if !self.peers.is_empty() {
            let one = self.random.index(self.peers.len());
            let _ = kill(Pid::from_raw(self.peers[one].id() as i32), signal);
        }
    }

    fn spawn(&mut self) {
        let policies = ["latest", "fifo:1", "fifo:2"];
        let policy = policies[self.random.index(policies.len())];
        let frames = (5 + self.random.below(200)).to_string();
        let peer = Command::new(self.program)
            .args(["--socket", self.socket.to_str().unwrap(), "--policy", policy, "--frames", &frames])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.peers.push(peer);
        self.came += 1;
    }

    fn end(&mut self) {
        for mut peer in self.peers.drain(..) {
            let _ = peer.kill();
            let _ = peer.wait();
        }
    }
}

/// A subscriber that behaves well. It records the time from the publisher to it in nanoseconds, and counts its frames.
type Latencies = Arc<Mutex<(Vec<u64>, u64)>>;

fn watch(socket: &Path, latencies: Latencies, is_over: Arc<AtomicBool>) -> u64 {
    let mut subscriber = Subscriber::builder(socket).policy(Policy::Latest).connect(WAIT).unwrap();
    while !is_over.load(Ordering::Relaxed) {
        if let Received::Item(SubscriberEvent::Frame(frame)) = subscriber.recv(Duration::from_millis(100)).unwrap() {
            let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
            let now = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
            let mut latencies = latencies.lock().unwrap();
            latencies.0.push(now.saturating_sub(frame.meta().published_ns));
            latencies.1 += 1;
        }
    }
    latencies.lock().unwrap().1
}

/// Values that are sampled every second.
#[derive(Clone, Copy, Debug)]
struct Sample {
    resident_kib: u64,
    descriptors: usize,
    mappings: usize,
    dma_bufs: u64,
}

fn sample() -> Sample {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    Sample {
        resident_kib: resident.split_whitespace().nth(1).unwrap().parse().unwrap(),
        descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        mappings: std::fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
        dma_bufs: dma_bufs().unwrap_or(0),
    }
}

#[test]
fn camera_is_shared_encoded_and_recorded_for_long() {
    let minutes = std::env::var("FRAMELEASE_SOAK_MINUTES").ok().and_then(|m| m.parse().ok()).unwrap_or(0.1);
    let (Some(vivid), Some(device), Some(program)) = (vivid(Planar::Multi), h264(""), example("subscriber")) else {
        return;
    };
    // khugepaged may make a page of 2 MiB from heap memory of other tests at any time.
    nix::sys::prctl::set_thp_disable(true).unwrap();
    leaving_nothing(|| soak(&vivid, device, &program, Duration::from_secs_f64(minutes * 60.0)));
    nix::sys::prctl::set_thp_disable(false).unwrap();
}

fn soak(vivid: &framelease::v4l2::Device, device: framelease::v4l2::Device, program: &Path, time: Duration) {
    let folder = std::env::temp_dir().join(format!("framelease-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("socket");
    let params = params(Codec::H264, SMALL);
    let agreement = negotiate(&device, vivid, &params, &[fourcc("NV12")]).unwrap();
    let camera = Camera::builder().device(vivid.clone()).layout(&agreement.source).buffers(32);
    let mut camera = camera.interval(FrameInterval::from_fps(25)).open().unwrap();
    let encoder = Encoder::builder(params.resized(agreement.size)).device(device);
    let mut encoder = encoder.open(camera.buffers().unwrap()).unwrap();
    let mut publisher = Publisher::builder(&socket).reserve(4).bind().unwrap();
    publisher.announce(camera.buffers().unwrap()).unwrap();
    let rotation = FileRotation::default().duration(Duration::from_secs(4));
    let mut recorder = Recorder::new(folder.join("film.mkv"), RecorderOptions::default().rotation(rotation)).unwrap();

    let (latencies, is_over) = (Latencies::default(), Arc::new(AtomicBool::new(false)));
    let watcher = {
        let (socket, latencies, is_over) = (socket.clone(), Arc::clone(&latencies), Arc::clone(&is_over));
        std::thread::spawn(move || watch(&socket, latencies, is_over))
    };
    let mut crowd =
        Crowd { program, socket: &socket, random: Random(1), peers: Vec::new(), due: Instant::now(), came: 0 };
    let mut csv = std::fs::create_dir_all("/out").and_then(|()| File::create("/out/soak.csv")).unwrap();
    writeln!(csv, "second,resident_kib,descriptors,mappings,dma_bufs,p50_us,p99_us,frames,packets,peers").unwrap();

    let (start, mut seconds, mut frames) = (Instant::now(), 0, 0u64);
    let mut samples = Vec::new();
    while start.elapsed() < time {
        match camera.recv(Duration::from_millis(20)).unwrap() {
            Received::Item(CameraEvent::Frame(frame)) => {
                frames += 1;
                if encoder.free_slots() > 0 {
                    encoder.try_submit(frame.clone()).taken();
                }
                // A publisher that is full is expected: some subscribers stop.
                let _ = publisher.try_publish(frame).unwrap();
            }
            Received::Nothing => {}
            other => panic!("{other:?}"),
        }
        publisher.dispatch().unwrap();
        while let Received::Item(EncoderEvent::Packet(packet)) = encoder.try_recv().unwrap() {
            assert!(recorder.try_submit(packet).unwrap().is_taken());
            while let Received::Item(event) = recorder.try_recv().unwrap() {
                match event {
                    RecorderEvent::File { path, .. } => std::fs::remove_file(path).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
        }
        crowd.stir();
        if start.elapsed().as_secs() > seconds {
            seconds += 1;
            let mut times = std::mem::take(&mut latencies.lock().unwrap().0);
            times.sort_unstable();
            let at = |share: usize| times.get(times.len() * share / 100).map_or(0, |ns| ns / 1000);
            let s = sample();
            let line = format!(
                "{seconds},{},{},{},{},{},{},{frames},{},{}",
                s.resident_kib,
                s.descriptors,
                s.mappings,
                s.dma_bufs,
                at(50),
                at(99),
                recorder.stats().packets,
                publisher.subscribers().count(),
            );
            writeln!(csv, "{line}").unwrap();
            if seconds % 20 == 0 {
                println!("{line}");
            }
            samples.push(s);
        }
    }
    crowd.end();
    is_over.store(true, Ordering::Relaxed);
    let seen = watcher.join().unwrap();
    let recorded = recorder.stats().packets;
    println!("{frames} frames: {recorded} recorded, {seen} seen by one, {} peers came", crowd.came);
    assert!(frames > 10 && recorded > frames / 4 && seen > frames / 4 && crowd.came > 2);
    assert_eq!(publisher.stats().violations, 0);
    // Each connection costs one or two descriptors. Nothing grows.
    let first = samples.len() / 4;
    let most = |part: &[Sample], what: fn(&Sample) -> u64| part.iter().map(what).max().unwrap_or(0);
    let (early, late) = (&samples[..first.max(1)], &samples[samples.len() - first.max(1)..]);
    let (a, b) = (most(early, |s| s.resident_kib), most(late, |s| s.resident_kib));
    assert!(b <= a + LATE_KIB, "{a} KiB resident at first, {b} at the end");
    let base = samples.iter().map(|s| (s.mappings, s.dma_bufs)).min().unwrap();
    assert!(late.iter().any(|s| s.dma_bufs == base.1), "dma-bufs: {late:?}");
    let descriptors = samples.iter().map(|s| s.descriptors).min().unwrap();
    assert!(late.iter().all(|s| s.descriptors <= descriptors + 2 * PEERS + 4), "descriptors: {late:?}");
    recorder.finish();
    drop((publisher, encoder));
    assert_eq!(camera.stats().leased, 0, "buffers are still leased");
    drop(camera);
    let _ = std::fs::remove_dir_all(folder);
}
