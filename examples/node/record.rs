//! A recording in a thread of its own, since disks make their writers wait.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use framelease::format::FrameInterval;
use framelease::frame::{Packet, PacketReceiver};
use framelease::sink::recorder::{Recorder, RecorderEvent, RecorderOptions};
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
}

pub struct Recording {
    pub path: PathBuf,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

/// One file, or several.
enum Files {
    One(Movie),
    Many(Box<Recorder>),
}

impl Files {
    fn write(&mut self, packet: &Packet) -> Result<bool, String> {
        match self {
            Self::One(movie) => match movie.write(packet).map_err(|e| e.to_string())? {
                Written::OtherStream => Err("the stream's parameters have changed; --rotate goes on".into()),
                written => Ok(written == Written::Stored),
            },
            // It continues by itself when there is room again.
            Self::Many(recorder) => {
                let before = recorder.stats().packets;
                if let Err(e) = recorder.try_submit(packet.clone()) {
                    eprintln!("recording: {e}");
                }
                report(recorder);
                Ok(recorder.stats().packets > before)
            }
        }
    }

    /// A rotation waits for a key frame.
    fn awaits_key(&self) -> bool {
        matches!(self, Self::Many(recorder) if recorder.awaits_key())
    }

    fn finish(self) -> Result<(), String> {
        let mut recorder = match self {
            Self::One(movie) => return movie.finish().map_err(|e| e.to_string()),
            Self::Many(recorder) => recorder,
        };
        recorder.finish();
        let mut done = Ok(());
        while let Ok(Received::Item(event)) = recorder.try_recv() {
            if let RecorderEvent::Error(e) = event {
                done = Err(e.to_string());
            }
        }
        done
    }
}

impl Recording {
    /// One file, or several if there are options for them.
    pub fn start(path: &Path, tap: PacketReceiver, fps: u32, files: Option<RecorderOptions>) -> Result<Self, String> {
        let files = match files {
            Some(options) => {
                let writer = WriterOptions::default().interval(FrameInterval::from_fps(fps));
                let mut recorder = Recorder::new(path, options.writer(writer)).map_err(|e| e.to_string())?;
                report(&mut recorder);
                Files::Many(Box::new(recorder))
            }
            None => Files::One(Movie::create(path, fps).map_err(|e| e.to_string())?),
        };
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name("record".into()).spawn(move || record(files, tap, &shared));
        let thread = thread.map_err(|e| e.to_string())?;
        Ok(Self { path: path.to_owned(), counts, thread: Some(thread) })
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

fn report(recorder: &mut Recorder) {
    while let Ok(Received::Item(event)) = recorder.try_recv() {
        match event {
            RecorderEvent::Error(e) => eprintln!("recording: {e}"),
            RecorderEvent::Repaired { path, repaired } => {
                eprintln!("recording: finished {}, {:.1} s", path.display(), repaired.duration.as_secs_f64());
            }
            _ => {}
        }
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
        counts.awaits_key.store(files.awaits_key(), Relaxed);
        counts.dropped.store(tap.dropped(), Relaxed);
        counts.cpu_ns.store(thread_cpu_time().as_nanos() as u64, Relaxed);
    }
    // The first error is the one to tell.
    let finished = files.finish();
    done.and(finished)
}
