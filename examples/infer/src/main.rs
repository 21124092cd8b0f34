//! Finds the bars of a test picture in a publisher's frames by a neural network, and prints where they are.

#[path = "../../common/mod.rs"]
mod common;
mod detector;
mod options;
mod picture;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use framelease::convert::tensor::{Fit, Tensor};
use framelease::convert::Color;
use framelease::share::{Subscriber, SubscriberEvent};
use framelease::{Received, Station};

use common::{stopped, Result};
use options::Options;

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<()> {
    let Some(o) = Options::parse()? else { return Ok(()) };
    let (stop, model, mut last) = (common::stop_flag()?, detector::load()?, None);
    let builder = Tensor::builder(detector::SIZE).fit(Fit::Letterbox(Color::rgb(114, 114, 114)));
    let mut tensor = builder.scale([1.0 / 255.0; 3]).build()?;
    let mut subscriber = Subscriber::builder(o.socket).connect(Duration::from_secs(5))?;
    while subscriber.stats().received < o.frames && !stopped(&stop) {
        let frame = match subscriber.recv(Duration::from_millis(200))? {
            Received::Item(SubscriberEvent::Frame(frame)) => frame,
            Received::Ended => break,
            _ => continue,
        };
        let mut input = detector::input()?;
        let placement = tensor.write(&frame, input.as_slice_mut::<f32>()?)?;
        let drawing = o.png.is_some().then(|| picture::read(&frame)).transpose()?;
        if !frame.is_valid() {
            continue; // The publisher revoked it while it was read.
        }
        let sequence = frame.meta().sequence;
        drop(frame); // The camera has its buffer again while the model runs.
        let found = detector::run(&model, input, placement)?;
        found.iter().try_for_each(|bar| writeln!(std::io::stdout(), "{sequence} {bar}"))?;
        last = drawing.map(|picture| (picture, found));
    }
    if let (Some(path), Some((picture, found))) = (o.png, last) {
        picture.write(&path, &found).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}
