//! The contract for `PacketReceiver`.

use framelease::bitstream::Codec;
use framelease::format::Size;
use framelease::frame::{Packet, PacketFanout, PacketMeta, PacketReceiver, QueueCapacity};
use framelease::Station;

use crate::scene::{Description, Kind, Scene};

struct Fanout {
    fanout: Option<PacketFanout>,
    receiver: PacketReceiver,
    next: u64,
}

/// A key frame of VP8.
pub fn packet(sequence: u64, timestamp_ns: u64, bytes: usize) -> Packet {
    Packet::new(PacketMeta::new(Codec::Vp8, Size::new(16, 16), sequence, timestamp_ns), vec![0; bytes], None)
}

impl Scene for Fanout {
    type Station = PacketReceiver;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| {
            scene.next += 1;
            scene.fanout.as_mut().unwrap().push(&packet(scene.next, scene.next * 1000, 3));
        },
        most_waiting: 30,
        many: 500,
        extra_wakes: 0,
        most_ignored: None,
        // It has no errors.
        fail: None,
        end: Some(|scene| scene.fanout = None),
        gives_before_end: true,
        // It takes no items: packets that find no room are counted.
        fill: None,
        make_room: None,
        elsewhere: Some(|scene| {
            let mut fanout = scene.fanout.take().unwrap();
            Box::new(move || {
                fanout.push(&packet(1, 1000, 3));
                std::mem::forget(fanout);
            })
        }),
        // It does not use a device.
        restart: None,
        last_lease: Some(|scene| {
            (Self::DESCRIPTION.give)(scene);
            let packet = scene.receiver.try_recv().unwrap().item().unwrap();
            Box::new(move || assert_eq!(packet.bytes().len(), 3))
        }),
        // It has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn new() -> Self {
        let mut fanout = PacketFanout::new();
        let receiver = fanout.attach(QueueCapacity::default()).unwrap();
        Self { fanout: Some(fanout), receiver, next: 0 }
    }

    fn station(&mut self) -> &mut PacketReceiver {
        &mut self.receiver
    }

    fn kind(_: &Packet) -> Kind {
        Kind::Item
    }
}

crate::contract!(Fanout);
