//! The contract for `sink::rtp::Sender`. Its items are requests for a key frame.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::sink::rtp::{DestinationId, Sender, SenderEvent, SenderOptions};
use framelease::Submit;

use crate::packet_receiver::packet;
use crate::scene::{Description, Kind, Scene};

struct Hosts {
    sender: Sender,
    receiver: UdpSocket,
    destination: Option<DestinationId>,
    next: u64,
}

impl Hosts {
    fn submit(&mut self) {
        self.next += 1;
        assert!(self.sender.try_submit(packet(self.next, self.next * 1000, 100)).unwrap().is_taken());
    }
}

impl Scene for Hosts {
    type Station = Sender;

    const DESCRIPTION: Description<Self> = Description {
        // The destination that waited for a key frame gets one, and another destination waits.
        give: |scene| {
            scene.submit();
            if let Some(last) = scene.destination.take() {
                scene.sender.remove(last);
            }
            scene.destination = Some(scene.sender.add(scene.receiver.local_addr().unwrap()).unwrap());
        },
        most_waiting: 1,
        many: 50,
        extra_wakes: 1,
        most_ignored: Some(2),
        fail: Some(|scene| {
            let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            scene.sender.add(gone).unwrap();
            // A later datagram reports that an earlier one was refused.
            (0..3).for_each(|_| scene.submit());
        }),
        // It has no end.
        end: None,
        gives_before_end: false,
        // It always has room.
        fill: None,
        make_room: None,
        // Another thread cannot make anything possible.
        elsewhere: None,
        // It does not use a device.
        restart: None,
        last_lease: Some(|scene| {
            (Self::DESCRIPTION.give)(scene);
            let large = packet(100, 1_000_000_000, 1_000_000);
            let clone = large.clone();
            assert!(scene.sender.try_submit(large).unwrap().is_taken());
            Box::new(move || assert_eq!(clone.bytes().len(), 1_000_000))
        }),
        // It has no clients.
        crowd: None,
        // Datagrams have no connection.
        drop_is_seen: None,
    };

    fn new() -> Self {
        let sender = Sender::new(Codec::Vp8, SenderOptions::default().spread(Duration::ZERO)).unwrap();
        let receiver = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        Self { sender, receiver, destination: None, next: 0 }
    }

    fn station(&mut self) -> &mut Sender {
        &mut self.sender
    }

    fn kind(event: &SenderEvent) -> Kind {
        match event {
            SenderEvent::KeyFrameWanted => Kind::Item,
            _ => Kind::Error,
        }
    }
}

crate::contract!(Hosts);
