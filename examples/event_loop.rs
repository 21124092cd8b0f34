//! A camera service around a firmware's own epoll. docs/embedding.md shows this file.

use std::time::Duration;

use framelease::capture::{Camera, CameraEvent, FrameSource, Reopen};
use framelease::format::{FourCc, FrameInterval, Size};
use framelease::frame::BufferBudget;
use framelease::share::Publisher;
use framelease::{Received, Station, Submitted};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

const CAMERA: u64 = 0;
const PUBLISHER: u64 = 1;
const SIGNALS: u64 = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::args().nth(1).unwrap_or("/run/camera/socket".into());
    let mut budget = BufferBudget::default();
    budget.subscribers = 3 * 2; // Three subscribers; each holds one frame, and one waits for it.
    let mut camera = Camera::builder()
        .formats([FourCc::NV12, FourCc::YUYV])
        .size(Size::new(1920, 1080))
        .interval(FrameInterval::from_fps(30))
        .buffers(budget.total())
        .reopen(Reopen::Always)
        .open()?;
    let builder = Publisher::builder(socket).reserve(budget.reserve());
    // One subscriber may make the camera wait, for half a second at most.
    let mut publisher = builder.allow_block(Duration::from_millis(500)).bind()?;
    publisher.announce(camera.buffers()?)?;

    // Once, for the life of the process: a station's descriptor never changes.
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&camera, EpollEvent::new(EpollFlags::EPOLLIN, CAMERA))?;
    epoll.add(&publisher, EpollEvent::new(EpollFlags::EPOLLIN, PUBLISHER))?;
    let stop = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    stop.thread_block()?;
    let signals = SignalFd::with_flags(&stop, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
    loop {
        let mut events = [EpollEvent::empty(); 3];
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => &events[..count],
            Err(Errno::EINTR) => &[],
            Err(e) => return Err(e.into()),
        };
        let is_ready = |station| ready.iter().any(|event| event.data() == station);
        if is_ready(SIGNALS) {
            return Ok(()); // The publisher's drop tells the subscribers, and removes the socket.
        }
        if is_ready(PUBLISHER) {
            while let Received::Item(event) = publisher.try_recv()? {
                eprintln!("{event:?}");
            }
        }
        if is_ready(CAMERA) {
            while let Received::Item(event) = camera.try_recv()? {
                match event {
                    CameraEvent::Frame(frame) => {
                        if let Submitted::Full(frame) = publisher.try_publish(frame)? {
                            eprintln!("frame {} is dropped: a subscriber blocks", frame.meta().sequence);
                        }
                    }
                    event => eprintln!("{event:?}"),
                }
            }
        }
    }
}
