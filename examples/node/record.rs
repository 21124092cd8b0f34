//! A recording in a thread of its own, since disks make their writers wait.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use framelease::format::FrameInterval;
use framelease::frame::{Packet, PacketReceiver};
use framelease::sink::recorder::{Recorder, RecorderEvent, RecorderOptions};
use framelease::sink::ring::{EventRecorder, RingOptions};
use framelease::sink::{WriterOptions, Written};
use framelease::{Received, Station, Submit};

use super::meter::thread_cpu_time;
use super::movie::Movie;

#[derive(Default)]
struct Counts {
    packets: AtomicU64,
    dropped: AtomicU64,
    bytes: AtomicU64,
    cpu_ns: AtomicU64,
    awaits_key: AtomicBool,
    stop: AtomicBool,
    trigger: AtomicBool,
}

/// One file, several, or one for each event.
#[derive(Clone, Copy)]
pub enum Kind {
    One,
    Many(RecorderOptions),
    Events(RecorderOptions, RingOptions),
}

pub struct Recording {
    pub path: PathBuf,
    pub is_of_events: bool,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

enum Files {
    One(Movie),
    Many(Box<Recorder>),
    Events(Box<EventRecorder>),
}

impl Files {
    fn open(path: &Path, fps: u32, kind: Kind) -> framelease::Result<Self> {
        let options =
            |files: RecorderOptions| files.writer(WriterOptions::default().interval(FrameInterval::from_fps(fps)));
        match kind {
            Kind::One => Movie::create(path, fps).map(Self::One),
            Kind::Many(files) => Recorder::new(path, options(files)).map(Box::new).map(Self::Many),
            Kind::Events(files, ring) => EventRecorder::new(path, options(files), ring).map(Box::new).map(Self::Events),
        }
    }

    fn write(&mut self, packet: &Packet) -> Result<bool, String> {
        match self {
            Self::One(movie) => match movie.write(packet).map_err(|e| e.to_string())? {
                Written::OtherStream => Err("the stream's parameters have changed; --rotate goes on".into()),
                written => Ok(written == Written::Stored),
            },
            // They continue by themselves when there is room again.
            Self::Many(recorder) => {
                let before = recorder.stats().packets;
                submit(&mut **recorder, packet);
                Ok(recorder.stats().packets > before)
            }
            Self::Events(recorder) => {
                let before = recorder.stats().packets;
                submit(&mut **recorder, packet);
                Ok(recorder.stats().packets > before)
            }
        }
    }

    /// A file waits for a key frame.
    fn awaits_key(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Many(recorder) => recorder.awaits_key(),
            Self::Events(recorder) => recorder.awaits_key(),
        }
    }

    fn trigger(&mut self) {
        let Self::Events(recorder) = self else { return };
        if let Err(e) = recorder.trigger() {
            eprintln!("recording: {e}");
        }
    }

    fn finish(self) -> Result<(), String> {
        match self {
            Self::One(movie) => movie.finish().map_err(|e| e.to_string()),
            Self::Many(mut recorder) => {
                recorder.finish();
                report(&mut *recorder)
            }
            Self::Events(mut recorder) => {
                recorder.finish();
                report(&mut *recorder)
            }
        }
    }
}

fn submit(recorder: &mut impl Submit<Item = Packet, Event = RecorderEvent>, packet: &Packet) {
    if let Err(e) = recorder.try_submit(packet.clone()) {
        eprintln!("recording: {e}");
    }
    // A file that could not be finished costs no other.
    if let Err(e) = report(recorder) {
        eprintln!("recording: {e}");
    }
}

/// Prints what happened to files, except the error that is returned.
fn report(recorder: &mut impl Station<Event = RecorderEvent>) -> Result<(), String> {
    let mut done = Ok(());
    while let Ok(Received::Item(event)) = recorder.try_recv() {
        match event {
            RecorderEvent::Error(e) => done = Err(e.to_string()),
            RecorderEvent::Repaired { path, repaired } => {
                eprintln!("recording: finished {}, {:.1} s", path.display(), repaired.duration.as_secs_f64());
            }
            _ => {}
        }
    }
    done
}

impl Recording {
    pub fn start(path: &Path, tap: PacketReceiver, fps: u32, kind: Kind) -> Result<Self, String> {
        let files = Files::open(path, fps, kind).map_err(|e| e.to_string())?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name("record".into()).spawn(move || record(files, tap, &shared));
        let thread = thread.map_err(|e| e.to_string())?;
        let is_of_events = matches!(kind, Kind::Events(..));
        Ok(Self { path: path.to_owned(), is_of_events, counts, thread: Some(thread) })
    }

    /// Records what is in memory, and what follows.
    pub fn trigger(&self) {
        self.counts.trigger.store(true, Relaxed);
    }

    pub fn packets(&self) -> u64 {
        self.counts.packets.load(Relaxed)
    }

    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Relaxed)
    }

    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.counts.cpu_ns.load(Relaxed))
    }

    pub fn awaits_key(&self) -> bool {
        self.counts.awaits_key.load(Relaxed)
    }

    /// It ended by itself: something is wrong.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Nothing that comes from now on is recorded. What waits is written and the file ended, by the recording's own
    /// thread.
    pub fn stop(&self) {
        self.counts.stop.store(true, Relaxed);
    }

    /// Stops, and waits until the file has its end. The counts stay.
    pub fn finish(&mut self) -> Result<(), String> {
        self.stop();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let done = thread.join().unwrap_or_else(|_| Err("the thread panicked".into()));
        done.map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

fn record(mut files: Files, mut tap: PacketReceiver, counts: &Counts) -> Result<(), String> {
    let mut done = Ok(());
    // Of a stream that goes on, what waited when it was stopped.
    let mut left = None;
    loop {
        if counts.stop.load(Relaxed) {
            let waiting = *left.get_or_insert_with(|| tap.waiting());
            let Some(rest) = waiting.checked_sub(1) else { break };
            left = Some(rest);
        }
        match tap.recv(Duration::from_millis(100)) {
            Ok(Received::Item(packet)) => match files.write(&packet) {
                Ok(is_stored) => {
                    counts.packets.fetch_add(u64::from(is_stored), Relaxed);
                    counts.bytes.fetch_add(if is_stored { packet.bytes().len() as u64 } else { 0 }, Relaxed);
                }
                Err(e) => {
                    done = Err(e);
                    break;
                }
            },
            Ok(Received::Nothing) => {}
            Ok(Received::Ended) => break,
            Err(e) => {
                done = Err(e.to_string());
                break;
            }
        }
        if counts.trigger.swap(false, Relaxed) {
            files.trigger();
        }
        counts.awaits_key.store(files.awaits_key(), Relaxed);
        counts.dropped.store(tap.dropped(), Relaxed);
        counts.cpu_ns.store(thread_cpu_time().as_nanos() as u64, Relaxed);
    }
    // The first error is the one to tell.
    let finished = files.finish();
    done.and(finished)
}
