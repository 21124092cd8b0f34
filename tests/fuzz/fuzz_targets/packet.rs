//! Any bytes as packets, into a Matroska and an MP4 stream that end anywhere, an RTP sender whose receiver reads
//! nothing, and the JPEG decoder.
//!
//! Input: codec, room of the stream (two bytes), MTU; then packets: time, length (two bytes), bytes.

#![no_main]

use std::io::{self, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::codec::{DecoderEvent, JpegDecoder};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::frame::{Packet, PacketMeta};
use framelease::sink::{matroska, mp4, rtp, WriterOptions};
use framelease::{Station, Submit};
use libfuzzer_sys::fuzz_target;

/// Counts what it takes, and takes no more than so much.
struct Bounded(Arc<AtomicU64>, u64);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = (bytes.len() as u64).min(self.1 - self.0.load(Ordering::Relaxed));
        self.0.fetch_add(taken, Ordering::Relaxed);
        Ok(taken as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    let &[codec, low, high, mtu, ref rest @ ..] = input else { return };
    let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    let (taken, room) = (Arc::new(AtomicU64::new(0)), u64::from(u16::from_le_bytes([low, high])));
    let mut writer = matroska::Writer::live(Bounded(Arc::clone(&taken), room), WriterOptions::default());
    let movie_taken = Arc::new(AtomicU64::new(0));
    let mut movie = mp4::Writer::live(Bounded(Arc::clone(&movie_taken), room), WriterOptions::default());
    let options = rtp::SenderOptions::default().spread(Duration::ZERO).mtu(usize::from(mtu) * 8);
    static RECEIVER: OnceLock<UdpSocket> = OnceLock::new();
    let receiver = RECEIVER.get_or_init(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    let mut sender = rtp::Sender::new(codec, options).ok();
    if let Some(sender) = &mut sender {
        sender.add(receiver.local_addr().expect("bound")).expect("a local address");
    }
    let mut decoder = JpegDecoder::new(&Allocator::Memfd, 1).expect("a descriptor");
    let (mut left, mut sets, mut sequence) = (rest, None, 0);
    while let &[time, low, high, ref rest @ ..] = left {
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([low, high]))));
        left = rest;
        sequence += 1;
        // Times that jump both ways, up to the end of time.
        let timestamp_ns = u64::from(time).pow(8).saturating_mul(u64::from(time % 3));
        let meta = PacketMeta::new(codec, Size::new(64, 48), sequence, timestamp_ns);
        let packet = Packet::new(meta, bytes, sets.take());
        assert!(packet.bytes() == bytes && bytes.ends_with(packet.picture()));
        if writer.write(&packet).is_ok() {
            assert_eq!(writer.bytes(), taken.load(Ordering::Relaxed));
        }
        if movie.write(&packet).is_ok() {
            assert_eq!(movie.bytes(), movie_taken.load(Ordering::Relaxed));
        }
        if let Some(sender) = &mut sender {
            match sender.try_submit(packet.clone()) {
                Ok(submitted) => assert!(submitted.is_taken()),
                // RTP does not carry every JPEG picture.
                Err(rejected) => assert!(codec == Codec::Mjpeg && rejected.item.bytes() == bytes),
            }
            while sender.try_recv().expect("no packet breaks a sender").item().is_some() {}
        }
        decode(&mut decoder, &packet);
        sets = packet.parameter_sets().cloned();
    }
    let _ = (writer.finish(), movie.finish());
});

fn decode(decoder: &mut JpegDecoder, packet: &Packet) {
    let is_taken = decoder.try_submit(packet.clone()).is_ok_and(|submitted| submitted.is_taken());
    let mut frames = 0;
    while let Some(event) = decoder.try_recv().expect("no packet breaks a decoder").item() {
        if let DecoderEvent::Frame(frame) = event {
            assert_eq!(Some(frame.layout()), decoder.pictures().map(|pictures| pictures.buffers.layout()));
            frames += 1;
        }
    }
    assert_eq!(frames, u32::from(is_taken));
}
