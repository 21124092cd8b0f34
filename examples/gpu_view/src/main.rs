//! Draws a publisher's frames by the GPU, with the frame's number above, on a display or into a PNG.
//!
//! Each frame is drawn alone: the program waits for the GPU, and then drops the frame. A program with more work for the
//! GPU keeps each frame until `Queue::on_submitted_work_done` has called it back.

#![deny(unsafe_code)]

mod color;
#[path = "../../common/mod.rs"]
mod common;
mod gpu;
mod imports;
mod options;
mod output;
mod planes;
#[allow(unsafe_code)]
mod vulkan;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use framelease::frame::Frame;
use framelease::share::{Subscriber, SubscriberEvent};
use framelease::stats::cpu_bytes;
use framelease::{Received, Station};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use common::{stopped, Result};
use gpu::Gpu;
use imports::Imports;
use options::Options;
use output::Output;

/// How long another device may write into a frame that was received.
const WRITING: u16 = 1000;

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<()> {
    let Some(o) = Options::parse()? else { return Ok(()) };
    let stop = common::stop_flag()?;
    let gpu = Gpu::open(o.device.as_deref())?;
    let mut subscriber = Subscriber::builder(&o.socket).connect(Duration::from_secs(5))?;
    let mut output = match o.png {
        Some(_) => None,
        None => Some(Output::display(o.drm.as_deref())?),
    };
    eprintln!("drawing by {}", gpu.name);
    let (mut imports, mut newest, mut drawn, mut ended) = (Imports::default(), None, 0, false);
    while !ended && drawn < o.frames && !stopped(&stop) {
        wait(&subscriber, output.as_ref())?;
        loop {
            match subscriber.try_recv()? {
                // It is the newest. With the next, a fast publisher would keep this loop busy.
                Received::Item(SubscriberEvent::Frame(frame)) => {
                    newest = Some(frame);
                    break;
                }
                Received::Item(_) => {}
                Received::Nothing => break,
                Received::Ended => {
                    ended = true;
                    break;
                }
            }
        }
        if let Some(frame) = newest.take() {
            let output = match (&mut output, &o.png) {
                (Some(output), _) => output,
                (none, Some(path)) => none.insert(Output::png(path, frame.layout().size())?),
                (None, None) => return Err("nothing to draw on".into()),
            };
            match output.target() {
                Some(target) => {
                    finished_writing(&frame)?;
                    let picture = imports.picture(&frame, &gpu)?;
                    let (size, sequence) = (output.size(), frame.meta().sequence);
                    gpu.draw(picture, output.image(&target, &gpu)?, size, o.overlay.then_some(sequence))?;
                    // If the publisher has revoked it meanwhile, it may have another frame's pixels.
                    if frame.is_valid() {
                        output.give(target.freeze_full(sequence, frame.meta().timestamp_ns))?;
                        drawn += 1;
                    }
                }
                // All are on their way to the display.
                None => newest = Some(frame),
            }
        }
        if let Some(output) = &mut output {
            output.dispatch()?;
        }
    }
    drop(newest);
    let flips = match output {
        Some(output) => output.finish()?,
        None if ended => return Err("the publisher ended before its first frame".into()),
        None => 0,
    };
    let bytes = cpu_bytes();
    println!(
        "{drawn} frames drawn by {}, {} buffers imported, {flips} flips, {} bytes touched by the CPU",
        gpu.name,
        imports.count,
        bytes.read + bytes.written
    );
    Ok(())
}

/// Until the publisher or the display has something, or half a second.
fn wait(subscriber: &Subscriber, output: Option<&Output>) -> Result<()> {
    let mut fds = vec![PollFd::new(subscriber.as_fd(), PollFlags::POLLIN)];
    fds.extend(output.and_then(Output::waits_for).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    match poll(&mut fds, PollTimeout::from(500u16)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Waits for the fences of devices that write into the frame. Most frames have none.
fn finished_writing(frame: &Frame) -> Result<()> {
    for memory in frame.memory() {
        let mut fds = [PollFd::new(memory.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(WRITING))? == 0 {
            return Err(format!("{frame:?}: a device has not finished writing it").into());
        }
    }
    Ok(())
}
