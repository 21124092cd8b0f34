//! Shares a camera with other processes, for as long as the machine runs. The README shows this file.

use std::time::Duration;

use framelease::capture::{Camera, CameraEvent, FrameSource, Reopen};
use framelease::share::Publisher;
use framelease::{wait, Received, Station};

fn main() -> framelease::Result<()> {
    let socket = std::env::args().nth(1).unwrap_or("/run/camera/socket".into());
    let mut camera = Camera::builder().reopen(Reopen::Always).open()?;
    let mut publisher = Publisher::builder(socket).bind()?;
    publisher.announce(camera.buffers()?)?;
    loop {
        wait(&[&camera, &publisher], Duration::from_secs(10))?;
        while let Received::Item(event) = publisher.try_recv()? {
            println!("{event:?}"); // A subscriber has come, gone, or was refused.
        }
        while let Received::Item(event) = camera.try_recv()? {
            match event {
                CameraEvent::Frame(frame) => drop(publisher.try_publish(frame)?),
                event => println!("{event:?}"), // Unplugged, back, or another format.
            }
        }
    }
}
