//! The contract for `codec::JpegDecoder`. Its items are frames.

use framelease::bitstream::Codec;
use framelease::codec::{DecoderEvent, JpegDecoder};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::frame::{Frame, Packet, PacketMeta};
use framelease::{Station, Submit};

use crate::scene::{Description, Kind, Scene};

const BUFFERS: usize = 4;

struct Pictures {
    decoder: JpegDecoder,
    held: Vec<Frame>,
    next: u64,
}

/// A gray picture of 16x16, without Huffman tables.
fn packet(sequence: u64) -> Packet {
    let segment = |marker: u8, body: &[u8]| [&[0xff, marker, 0, body.len() as u8 + 2], body].concat();
    let picture = [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(0xc0, &[8, 0, 16, 0, 16, 1, 1, 0x11, 0]),
        segment(0xda, &[1, 1, 0, 0, 63, 0]),
        // Four blocks: no difference (00), no coefficient (1010).
        vec![0b0010_1000, 0b1010_0010, 0b1000_1010, 0xff, 0xd9],
    ];
    Packet::new(PacketMeta::new(Codec::Mjpeg, Size::new(16, 16), sequence, sequence), picture.concat(), None)
}

impl Pictures {
    fn submit(&mut self) -> bool {
        self.next += 1;
        self.decoder.try_submit(packet(self.next)).unwrap().is_taken()
    }

    fn hold(&mut self) {
        while let Some(event) = self.decoder.try_recv().unwrap().item() {
            if let DecoderEvent::Frame(frame) = event {
                self.held.push(frame);
            }
        }
    }
}

impl Scene for Pictures {
    type Station = JpegDecoder;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| assert!(scene.submit()),
        most_waiting: BUFFERS,
        many: 200,
        extra_wakes: 0,
        most_ignored: None,
        // It decodes in `try_submit`, which returns the errors.
        fail: None,
        // The decoder has no end.
        end: None,
        gives_before_end: false,
        fill: Some(|scene| {
            while scene.submit() {
                scene.hold();
            }
        }),
        make_room: Some(|scene| drop(scene.held.pop())),
        // Another thread can make room, but no event.
        elsewhere: None,
        // It does not use a device.
        restart: None,
        last_lease: Some(|scene| {
            assert!(scene.submit());
            let frame = scene.decoder.try_recv().unwrap().frame().unwrap();
            Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
        }),
        // It has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn new() -> Self {
        let decoder = JpegDecoder::new(&Allocator::Memfd, BUFFERS).unwrap();
        let mut scene = Self { decoder, held: Vec::new(), next: 0 };
        // The format comes with the first frame.
        assert!(scene.submit());
        scene.hold();
        scene.held.clear();
        scene
    }

    fn station(&mut self) -> &mut JpegDecoder {
        &mut self.decoder
    }

    fn kind(event: &DecoderEvent) -> Kind {
        match event {
            DecoderEvent::Frame(_) => Kind::Item,
            DecoderEvent::Lost(_) => Kind::Error,
            _ => Kind::Other,
        }
    }
}

crate::contract!(Pictures);
