//! A camera node in one process: raw frames to peers by descriptor, and one encode that is recorded, sent by RTP to
//! hosts and groups, and served by RTSP, to consumers that come and go.

#[path = "../common/camera_encoder.rs"]
mod camera_encoder;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/movie.rs"]
mod movie;
#[path = "../common/source.rs"]
mod source;

mod control;
mod meter;
mod node;
mod notify;
mod options;
mod record;
mod report;
mod rtsp;
mod sinks;
mod web;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use node::Node;
use notify::{Manager, Metrics};
use options::Options;

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> common::Result<()> {
    let Some(options) = Options::parse()? else { return Ok(()) };
    let stop = common::stop_flag()?;
    let mut node = Node::open(&options)?;
    eprintln!("{}", node.described());
    let (start, is_terminal) = (Instant::now(), std::io::stderr().is_terminal() && !options.json);
    let (mut shown, mut lines) = (start, 0);
    let (mut manager, mut metrics) = (Manager::of_environment(), options.metrics.as_deref().map(Metrics::new));
    manager.tell("READY=1");
    let done = loop {
        if common::stopped(&stop) || options.duration.is_some_and(|most| start.elapsed() >= most) {
            break Ok(());
        }
        if let Err(e) = node.turn(Duration::from_millis(200)) {
            break Err(e);
        }
        manager.alive();
        if let Some(Err(e)) = metrics.as_mut().map(|m| m.write(|| node.status())) {
            // The pictures matter more.
            eprintln!("metrics: {e}");
            metrics = None;
        }
        if is_terminal && shown.elapsed() >= Duration::from_millis(500) {
            shown = Instant::now();
            let table = node.status().table();
            // Over the one before.
            let up = if lines > 0 { format!("\x1b[{lines}A") } else { String::new() };
            // Not wrapped where the terminal is narrow: a line is one line.
            eprint!("{up}\x1b[J\x1b[?7l{table}\x1b[?7h");
            let _ = std::io::stderr().flush();
            lines = table.lines().count();
        }
    };
    manager.tell("STOPPING=1");
    // Whatever ended it, files get their ends.
    let finished = node.finish();
    let status = finished.status;
    if options.json {
        println!("{}", status.json());
    } else {
        if lines > 0 {
            eprint!("\x1b[{lines}A\x1b[J");
        }
        print!("{}", status.table());
    }
    done.and(finished.result)
}
