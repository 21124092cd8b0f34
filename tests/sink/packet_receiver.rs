//! Tests of the receivers of a packet fan-out as stations.

use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::format::Size;
use framelease::frame::{Packet, PacketFanout, PacketMeta, QueueCapacity};
use framelease::{ErrorKind, Station};

use crate::station::{assert_signal_ends_recv, idle_wakes, is_readable, is_readable_within};

fn packet(sequence: u64) -> Packet {
    Packet::new(PacketMeta::new(Codec::Vp8, Size::new(16, 16), sequence, sequence * 1000), [0, 0, 0], None)
}

#[test]
fn receiver_is_readable_while_it_has_something_and_ends_once() {
    let mut fanout = PacketFanout::new();
    let mut receiver = fanout.attach(QueueCapacity::default()).unwrap();
    assert_eq!((fanout.receivers(), idle_wakes(&mut receiver)), (1, 0));
    assert_signal_ends_recv(&mut receiver);
    for i in 0..3 {
        fanout.push(&packet(i));
    }
    for _ in 0..3 {
        assert!(is_readable(&receiver));
        assert!(receiver.recv(Duration::ZERO).unwrap().item().is_some());
    }
    assert!(receiver.try_recv().unwrap().is_nothing() && !is_readable(&receiver));
    // From another thread.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            drop(fanout);
        });
        assert!(is_readable_within(&receiver, Duration::from_secs(5)));
    });
    assert!(receiver.try_recv().unwrap().is_ended() && !is_readable(&receiver));
    assert_eq!(receiver.try_recv().unwrap_err().kind(), ErrorKind::State);
}
