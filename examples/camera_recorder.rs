//! A recorder in another process: a publisher's frames go into an encoder by dma-buf, and its packets into files and to
//! RTSP clients. docs/embedding.md shows this file.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::codec::{EncoderEvent, Params, Setting, Switch};
use framelease::format::FrameInterval;
use framelease::frame::BufferSet;
use framelease::negotiate::{EncoderChain, Negotiation};
use framelease::share::{Policy, Reconnect, Subscriber, SubscriberEvent};
use framelease::sink::recorder::{FileRotation, Recorder, RecorderOptions};
use framelease::sink::rtsp::{MountOptions, Server};
use framelease::{wait, Received, Station, Submit};

/// Opens an encoder for these frames, and a converter if it needs one.
fn encoder(frames: &BufferSet) -> framelease::Result<EncoderChain> {
    let params = Params::new(Codec::H264, frames.layout().size())
        .interval(FrameInterval::from_fps(30)) // The publisher's rate: its frames do not say it.
        .wish(Setting::BitrateBps(4_000_000))
        .wish(Setting::RepeatHeaders(Switch::On));
    Negotiation::new(params).open_for(frames)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: &str| args.next().unwrap_or(default.into());
    let (socket, address, file) = (arg("/run/camera/socket"), arg("0.0.0.0:8554"), arg("/data/camera.mkv"));
    // The encoder holds up to four frames, and one waits. Most encoders need fewer.
    let builder = Subscriber::builder(socket).hold(4).policy(Policy::Fifo(1)).reconnect(Reconnect::Always);
    let mut subscriber = builder.connect(Duration::from_secs(10))?;
    let mut server = Server::builder(address.parse::<std::net::SocketAddr>()?).user("viewer", "secret").bind()?;
    let live = server.mount("/live", Codec::H264, MountOptions::default())?;
    let rotation = FileRotation::default().duration(Duration::from_secs(60));
    let mut recorder = Recorder::new(file, RecorderOptions::default().rotation(rotation))?;
    let (mut chain, mut frames): (Option<EncoderChain>, Option<BufferSet>) = (None, None);
    let mut attempt = Instant::now();
    loop {
        let mut stations: Vec<&dyn AsFd> = vec![&subscriber, &server, &recorder];
        stations.extend(chain.iter().map(|chain| chain as &dyn AsFd));
        wait(&stations, Duration::from_secs(1))?;
        while let Received::Item(event) = subscriber.try_recv()? {
            match event {
                // Dropped while the encoder is full or lost.
                SubscriberEvent::Frame(frame) => drop(chain.as_mut().map(|chain| chain.try_submit(frame))),
                SubscriberEvent::Format(buffers) => {
                    drop(chain.take()); // Its device is free then.
                    (frames, attempt) = (Some(buffers), Instant::now());
                }
                event => eprintln!("{event:?}"), // The publisher is gone, or back.
            }
        }
        if let (None, Some(buffers), true) = (&chain, &frames, Instant::now() >= attempt) {
            // Tried again in a second, if the encoder is in use or unplugged now.
            attempt = Instant::now() + Duration::from_secs(1);
            chain = encoder(buffers).map_err(|error| eprintln!("{error}")).ok();
        }
        while let Some(Received::Item(event)) = chain.as_mut().map(|chain| chain.try_recv()).transpose()? {
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
        if let Some(chain) = chain.as_mut().filter(|_| server.awaits_key(live) || recorder.awaits_key()) {
            chain.force_key()?;
        }
    }
}
