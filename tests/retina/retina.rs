//! Checks that every NAL unit that retina reads from our RTSP streams is one of the encoder's.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::bitstream::{nal_units, Codec, NalKind};
use framelease::frame::Packet;
use framelease::sink::rtsp::{MountOptions, Server};
use framelease::Station;
use futures::StreamExt;
use retina::client::{Credentials, PlayOptions, Session, SessionOptions, SetupOptions, Transport};
use retina::codec::CodecItem;

#[path = "../sink/support.rs"]
#[allow(dead_code)]
mod support;

const FRAMES: usize = 30;

/// Slices and SEI, which a depacketizer must not change.
fn pictures(codec: Codec, units: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let is_kept = |unit: &Vec<u8>| {
        let with_start = [&[0, 0, 1], &unit[..]].concat();
        let kind = nal_units(&with_start).next().map(|u| u.kind(codec));
        kind.is_some_and(|k| !k.is_parameters() && k != NalKind::Delimiter)
    };
    units.filter(is_kept).collect()
}

/// Units after lengths of four bytes.
fn lengths(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut units = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (unit, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        units.push(unit.to_vec());
        data = rest;
    }
    units
}

#[tokio::test(flavor = "multi_thread")]
async fn retina_takes_out_what_went_in() {
    for codec in [Codec::H264, Codec::Hevc] {
        let Some(stream) = support::stream(codec, 40, support::SIZE) else { return };
        let packets = support::packets(codec, &stream, support::SIZE);
        let expected: Vec<Vec<Vec<u8>>> =
            packets.iter().map(|p| pictures(codec, nal_units(p.bytes()).map(|u| u.data.to_vec()))).collect();
        let mut server = Server::builder((Ipv4Addr::LOCALHOST, 0)).user("eve", "s3cret").bind().unwrap();
        let url = format!("rtsp://{}/live", server.local_addr().unwrap());
        let live = server.mount("/live", codec, MountOptions::default()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let node = std::thread::spawn(move || {
            let (start, mut sent) = (Instant::now(), 0u32);
            while !stopped.load(Ordering::Relaxed) {
                let packet = &packets[sent as usize % packets.len()];
                let mut meta = *packet.meta();
                meta.timestamp_ns = u64::from(sent) * support::FRAME_NS;
                server.submit(live, &Packet::new(meta, packet.bytes(), packet.parameter_sets().cloned())).unwrap();
                sent += 1;
                while let Some(left) = (start + Duration::from_millis(10) * sent).checked_duration_since(Instant::now())
                {
                    let _ = server.recv(left).unwrap();
                }
            }
        });
        for transport in ["tcp", "udp"] {
            let got = received(&url, transport).await;
            let first = expected.iter().position(|units| *units == got[0]).expect("a frame of ours");
            let same = got.iter().enumerate().filter(|(i, units)| **units == expected[(first + i) % 40]).count();
            assert_eq!((first % 10, same), (0, FRAMES), "{codec} by {transport}");
        }
        stop.store(true, Ordering::Relaxed);
        node.join().unwrap();
    }
}

/// The pictures of the first frames.
async fn received(url: &str, transport: &str) -> Vec<Vec<Vec<u8>>> {
    let login = Credentials { username: "eve".into(), password: "s3cret".into() };
    let options = SessionOptions::default().creds(Some(login));
    let mut session = Session::describe(url::Url::parse(url).unwrap(), options).await.unwrap();
    let codec = match session.streams()[0].encoding_name() {
        "h264" => Codec::H264,
        _ => Codec::Hevc,
    };
    let transport: Transport = transport.parse().unwrap();
    session.setup(0, SetupOptions::default().transport(transport)).await.unwrap();
    let mut frames = session.play(PlayOptions::default()).await.unwrap().demuxed().unwrap();
    let mut got = Vec::new();
    while got.len() < FRAMES {
        match tokio::time::timeout(Duration::from_secs(20), frames.next()).await.expect("a frame in time") {
            Some(Ok(CodecItem::VideoFrame(frame))) => {
                assert_eq!(frame.loss(), 0);
                got.push(pictures(codec, lengths(frame.data()).into_iter()));
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?} instead of a frame"),
        }
    }
    got
}
