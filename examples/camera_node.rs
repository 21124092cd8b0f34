//! One camera: shared with other processes, encoded once, recorded, and served by RTSP. docs/embedding.md shows this
//! file.

use std::os::fd::AsFd;

use framelease::bitstream::Codec;
use framelease::capture::{Camera, CameraEvent, Reopen};
use framelease::codec::{EncoderEvent, Params, Setting, Switch};
use framelease::format::{FrameInterval, Size};
use framelease::negotiate::{Negotiated, Negotiation};
use framelease::share::Publisher;
use framelease::sink::recorder::{Recorder, RecorderOptions};
use framelease::sink::rtsp::{MountOptions, Server};
use framelease::{Received, Station, Submit};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: &str| args.next().unwrap_or(default.into());
    let (socket, address, file) = (arg("/run/camera/socket"), arg("0.0.0.0:8554"), arg("/data/camera.mkv"));
    let params = Params::new(Codec::H264, Size::new(1280, 720))
        .interval(FrameInterval::from_fps(30))
        .wish(Setting::BitrateBps(4_000_000))
        .wish(Setting::RepeatHeaders(Switch::On));
    let negotiation = Negotiation::new(params).camera(Camera::builder().reopen(Reopen::Always));
    let Negotiated { source: mut camera, mut encoder, budget, .. } = negotiation.open()?;
    let mut publisher = Publisher::builder(socket).reserve(budget.reserve()).bind()?;
    publisher.announce(camera.buffers()?)?;
    let mut server = Server::builder(address.parse::<std::net::SocketAddr>()?).bind()?;
    let live = server.mount("/live", Codec::H264, MountOptions::default())?;
    let mut recorder = Recorder::new(file, RecorderOptions::default())?;

    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for fd in [camera.as_fd(), encoder.as_fd(), publisher.as_fd(), server.as_fd(), recorder.as_fd()] {
        epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    }
    loop {
        match epoll.wait(&mut [EpollEvent::empty(); 5], EpollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        while let Received::Item(event) = publisher.try_recv()? {
            eprintln!("{event:?}");
        }
        while let Received::Item(event) = camera.try_recv()? {
            let CameraEvent::Frame(frame) = event else {
                eprintln!("{event:?}"); // Unplugged, back, or another format: the camera goes on by itself.
                continue;
            };
            let _ = publisher.try_publish(frame.clone())?;
            let _ = encoder.try_submit(frame); // Dropped while the encoder is full or lost.
        }
        while let Received::Item(event) = encoder.try_recv()? {
            match event {
                EncoderEvent::Packet(packet) => {
                    server.submit(live, &packet)?;
                    if let Err(rejected) = recorder.try_submit(packet) {
                        eprintln!("{}", rejected.error); // The disk is full, perhaps.
                    }
                }
                event => eprintln!("{event:?}"), // Lost, or open again.
            }
        }
        while let Received::Item(event) = server.try_recv()? {
            eprintln!("{event:?}");
        }
        while let Received::Item(event) = recorder.try_recv()? {
            eprintln!("{event:?}");
        }
        if server.awaits_key(live) || recorder.awaits_key() {
            encoder.force_key()?;
        }
    }
}
