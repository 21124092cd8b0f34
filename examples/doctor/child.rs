//! Parts of the examination in processes of their own: a library that crashes or a driver that blocks ends only one.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framelease::frame::{Frame, FrameMut};
use framelease::Rejected;
use nix::sys::signal::Signal;

use super::common::Result;
use super::findings::Failure;

/// Runs this program again and returns its standard output.
pub fn run(args: &[String], limit: Duration) -> std::result::Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new("", format!("a process cannot be started: {e}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(5)),
            None => {
                // Not waited for: a process that blocks in a driver does not end.
                let _ = child.kill();
                return Err(Failure::new("Timeout", format!("no result after {} s", limit.as_secs())));
            }
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    match status.signal() {
        _ if status.success() => Ok(out),
        Some(number) => {
            let name = Signal::try_from(number).map_or("a signal", Signal::as_str);
            Err(Failure::new("Signal", format!("the process was ended by {name}")))
        }
        // Libraries may have printed before it.
        None => Err(told(err.rsplit("error: ").next().unwrap_or_default().trim())),
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// An error's kind and text, as [`told`] reads them.
pub fn described(e: &(dyn std::error::Error + 'static)) -> String {
    let rejected = |e: &Rejected<Frame>| e.error.clone();
    let error = e.downcast_ref::<framelease::Error>().cloned();
    let error = error.or_else(|| e.downcast_ref().map(rejected));
    let error = error.or_else(|| e.downcast_ref::<Rejected<FrameMut>>().map(|e| e.error.clone()));
    error.map_or_else(|| e.to_string(), |e| format!("[{:?}] {e}", e.kind()))
}

fn told(text: &str) -> Failure {
    match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((kind, text)) => Failure::new(kind, text),
        None => Failure::new("", text),
    }
}

/// The failure of a call in this process.
pub fn failure(e: &(dyn std::error::Error + 'static)) -> Failure {
    told(&described(e))
}

/// The end of a process that [`run`] started.
pub fn exit(result: Result<()>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", described(e.as_ref()));
            std::process::ExitCode::FAILURE
        }
    }
}
