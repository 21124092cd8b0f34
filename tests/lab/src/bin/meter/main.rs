//! Runs the processes of one contender of `cargo lab before-after` in a guest, and measures them while they run.
//!
//!     meter --fps FPS --frames N [OPTIONS] -- COMMAND…
//!
//! Each COMMAND is a line for the shell. After `--socket PATH`, the others wait until the first has made that socket.
//! `--port PORT` receives RTP and `--record FILE` names a recording: both may be repeated. When all of these have
//! frames, `--warm N` more pass. Then the meter reads its counters, waits for `--frames N` frames and reads them again,
//! so that neither the start nor the end of a process is counted. `--calls N` more frames follow, in which the kernel
//! counts system calls. `--streams FOLDER` keeps what each port received. The one line on standard output is JSON.

mod options;
mod processes;
mod rtp;
mod syscalls;

use std::path::Path;
use std::process::exit;
use std::time::{Duration, Instant};

use options::Options;
use processes::{Counters, Processes};
use rtp::Receiver;
use serde_json::{json, Value};
use syscalls::Calls;

/// Errors are for people: one line where that is enough.
type Res<T> = Result<T, String>;

/// For the first frame of every output, in the guest's time.
const FIRST_FRAME: Duration = Duration::from_secs(240);

fn main() {
    let measured = Options::parse().and_then(|options| measure(&options));
    match measured {
        Ok(figures) => println!("{figures}"),
        Err(why) => {
            println!("{}", json!({ "error": why }));
            exit(1);
        }
    }
}

fn measure(options: &Options) -> Res<Value> {
    let interval = Duration::from_secs(1) / options.fps;
    let receivers = options.ports.iter().map(|&port| Receiver::start(port)).collect::<Res<Vec<_>>>()?;
    let mut processes = Processes::start(&options.commands, options.socket.as_deref())?;
    let deadline = Instant::now() + FIRST_FRAME;
    while !(receivers.iter().all(Receiver::has_frames) && options.records.iter().all(|path| has_content(path))) {
        processes.check()?;
        if Instant::now() > deadline {
            let silent = receivers.iter().filter(|r| !r.has_frames()).map(|r| r.port.to_string());
            let empty = options.records.iter().filter(|path| !has_content(path)).map(|p| p.display().to_string());
            let outputs: Vec<String> = silent.chain(empty).collect();
            return Err(format!("no frame at {} in {} s", outputs.join(", "), FIRST_FRAME.as_secs()));
        }
        std::thread::sleep(interval / 4);
    }
    std::thread::sleep(interval * options.warm);
    let begun = (Instant::now(), Counters::read(&processes)?);
    sleep_until(begun.0 + interval * options.frames);
    let ended = (Instant::now(), Counters::read(&processes)?);
    processes.check()?;
    let memory = processes.memory()?;
    let calls = match options.calls {
        0 => None,
        frames => {
            let calls = Calls::begin()?;
            std::thread::sleep(interval * frames);
            Some(calls.end(&processes)? as f64 / f64::from(frames))
        }
    };
    processes.check()?;
    processes.finish()?;
    let outputs: Vec<Value> = receivers
        .into_iter()
        .map(|receiver| {
            let port = receiver.port;
            let stream = receiver.finish();
            if let Some(folder) = &options.streams {
                stream.write(&folder.join(format!("rtp-{port}.h264")))?;
            }
            Ok(stream.figures(begun.0, ended.0, interval))
        })
        .collect::<Res<_>>()?;
    let mut figures = ended.1.since(&begun.1);
    figures["frames"] = options.frames.into();
    figures["outputs"] = outputs.into();
    figures["processes"] = memory.processes.into();
    figures["threads"] = memory.threads.into();
    figures["peak_kib"] = memory.peak_kib.into();
    figures["proportional_kib"] = memory.proportional_kib.into();
    figures["calls"] = calls.into();
    Ok(figures)
}

fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() > 0)
}

fn sleep_until(end: Instant) {
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
}
