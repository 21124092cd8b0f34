//! What the examples share: arguments, Ctrl-C, a progress line, JSON strings.

#![allow(dead_code)] // No example uses all of it.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::capture::CameraBuilder;
use framelease::format::FourCc;
use framelease::share::{Publisher, PublisherEvent};
use framelease::v4l2::{Device, DeviceInfo};
use framelease::{Received, Station};
use lexopt::ValueExt;

/// An example's result: any error with a text.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs the example and prints its error as one line.
pub fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            if e.downcast_ref::<framelease::Error>().is_some_and(|e| e.op() == "find") {
                let name = std::env::args().next().unwrap_or_default();
                let name = name.rsplit('/').next().unwrap_or_default();
                eprintln!("On virtual devices, from a checkout: cargo lab run -- {name}. docs/first-hour.md has what to check.");
            }
            ExitCode::FAILURE
        }
    }
}

/// Serves the subscribers, and prints why one was refused.
pub fn serve(publisher: &mut Publisher) -> framelease::Result<()> {
    while let Received::Item(event) = publisher.try_recv()? {
        if let PublisherEvent::Refused { peer, detail, .. } = event {
            eprintln!("process {} was refused: {detail}", peer.pid);
        }
    }
    Ok(())
}

/// The value of an option, parsed; the error names the option.
pub fn value<T: FromStr>(parser: &mut lexopt::Parser, option: &str) -> Result<T>
where
    T::Err: Display,
{
    let text = parser.value()?.string()?;
    text.parse().map_err(|e| format!("--{option} {text}: {e}").into())
}

/// The value of `--fourcc`: one format or several, best first.
pub fn formats(parser: &mut lexopt::Parser) -> Result<Vec<FourCc>> {
    let text: String = value(parser, "fourcc")?;
    let all = text.split(',').map(str::parse).collect::<std::result::Result<Vec<_>, _>>();
    all.map_err(|e| format!("--fourcc: {e}").into())
}

/// The end of a help text: how else to name a V4L2 device.
pub const DEVICES: &str = "
PATH may also be serial:S, bus:B, driver:D or card:C, where C is a part of the card's name. The example list prints them.
";

/// Whether a device is the one that the text names: `serial:S`, `bus:B`, `driver:D` or `card:C`. None for a path.
fn condition(name: &str) -> Option<impl Fn(&DeviceInfo) -> bool + Send + Sync + 'static> {
    let (key, wanted) = name.split_once(':')?;
    let (key, wanted) = (key.to_owned(), wanted.to_owned());
    ["serial", "bus", "driver", "card"].contains(&key.as_str()).then_some(move |d: &DeviceInfo| match key.as_str() {
        "serial" => d.serial.as_ref() == Some(&wanted),
        "bus" => d.bus == wanted,
        "driver" => d.driver == wanted,
        _ => d.card.contains(&wanted),
    })
}

/// The camera of this name, or the first one for `auto`.
pub fn camera(builder: CameraBuilder, name: &str) -> CameraBuilder {
    match condition(name) {
        _ if name == "auto" => builder,
        Some(condition) => builder.select(condition),
        None => builder.path(name),
    }
}

/// The device of this name.
pub fn device(name: &str) -> framelease::Result<Device> {
    match condition(name) {
        Some(condition) => Device::find(condition),
        None => Device::open(name),
    }
}

/// A flag that Ctrl-C and SIGTERM set. The second Ctrl-C ends the process.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Whether Ctrl-C was pressed.
pub fn stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed)
}

/// One line on standard error, rewritten on a terminal, every two seconds elsewhere.
pub struct Progress {
    last: Option<Instant>,
    terminal: bool,
    shown: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { last: None, terminal: std::io::stderr().is_terminal(), shown: false }
    }

    /// Shows the text that `line` makes, if it is time.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        let pause = Duration::from_millis(if self.terminal { 100 } else { 2000 });
        let now = Instant::now();
        // Elsewhere than on a terminal, a short run needs no progress.
        let last = *self.last.get_or_insert(if self.terminal { now - pause } else { now });
        if now.duration_since(last) < pause {
            return;
        }
        self.last = Some(now);
        self.shown = true;
        let (start, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        eprint!("{start}{}{end}", line());
        let _ = std::io::stderr().flush();
    }

    /// Leaves the terminal's line to what follows.
    pub fn done(&mut self) {
        if self.terminal && self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Where `publisher` listens and `subscriber` connects if nothing else is said: the user's runtime folder, else `/run`.
/// Other users can write to neither, so they cannot take the publisher's place.
pub fn default_socket() -> std::path::PathBuf {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| "/run".into());
    std::path::Path::new(&folder).join("framelease.socket")
}
