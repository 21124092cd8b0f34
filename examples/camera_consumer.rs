//! Takes the frames of `camera_service`. The README shows this file.

use std::time::Duration;

use framelease::share::{Reconnect, Subscriber};
use framelease::Station;

fn main() -> framelease::Result<()> {
    let socket = std::env::args().nth(1).unwrap_or("/run/camera/socket".into());
    let builder = Subscriber::builder(socket).reconnect(Reconnect::Always);
    let mut subscriber = builder.connect(Duration::from_secs(10))?;
    for frame in subscriber.frames() {
        let frame = frame?;
        // frame.memory() has the dma-bufs for a device, frame.read() the pixels for the CPU.
        println!("{}, captured at {} ns", frame.layout(), frame.meta().timestamp_ns);
    } // Each frame is dropped here, and its buffer goes back to the camera.
    Ok(())
}
