//! Tests of RTP on loopback: with our own receiver, which reassembles frames, and with ffmpeg by the session
//! description.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use framelease::bitstream::{nal_units, Codec, NalKind};
use framelease::format::Size;
use framelease::frame::{FrameFlags, Packet, PacketMeta};
use framelease::sink::rtp::{Sender, SenderEvent, SenderOptions};
use framelease::stats::syscalls;
use framelease::{ErrorKind, Received, Station, Submit};

use crate::allocations::of_this_thread;
use crate::receive::{received, received_as, units};
use crate::station::{assert_signal_ends_recv, idle_wakes, is_readable, is_readable_within};
use crate::support::*;

const LARGE: Size = Size::new(640, 360);

fn at_once() -> SenderOptions {
    SenderOptions::default().spread(Duration::ZERO)
}

/// A socket pair of neighboring ports, for RTP and RTCP.
fn receiver() -> (UdpSocket, UdpSocket, SocketAddr) {
    for _ in 0..200 {
        let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = rtp.local_addr().unwrap();
        if let Ok(rtcp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, to.port().wrapping_add(1))) {
            for socket in [&rtp, &rtcp] {
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            }
            return (rtp, rtcp, to);
        }
    }
    panic!("no two neighboring ports are free");
}

/// Sends a frame completely.
fn send(sender: &mut Sender, packet: &Packet) {
    assert!(sender.try_submit(packet.clone()).unwrap().is_taken());
    // If the network is full, the sender tries again after a millisecond.
    finish(sender, Duration::from_millis(3));
}

/// Lets the sender send until it is quiet for this long. Returns the wake-ups.
fn finish(sender: &mut Sender, quiet: Duration) -> usize {
    let mut wakes = 0;
    while is_readable_within(sender, quiet) {
        let _ = sender.try_recv().unwrap();
        wakes += 1;
    }
    wakes
}

#[test]
fn frames_are_reassembled_from_packets() {
    let Some(stream) = stream(Codec::H264, 12, LARGE) else { return };
    let packets = packets(Codec::H264, &stream, LARGE);
    let (rtp, rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    let mut next = None;
    for packet in &packets {
        send(&mut sender, packet);
        let got = received(&rtp);
        assert!(got.iter().all(|g| g.4.len() <= 1400 - 48 - 12), "within the MTU");
        assert_eq!(got.iter().filter(|g| g.3).count(), 1, "one marker");
        assert!(got.last().unwrap().3, "on the last packet");
        for (sequence, timestamp, ssrc, ..) in &got {
            if let Some((last, first, same)) = next {
                assert_eq!((*sequence, *ssrc), (u16::wrapping_add(last, 1), same));
                let ticks = packet.meta().sequence as u32 * 3600;
                assert_eq!(u32::wrapping_sub(*timestamp, first), ticks, "90 kHz");
            }
            let first = next.map_or(*timestamp, |(_, first, _)| first);
            next = Some((*sequence, first, *ssrc));
        }
        let payloads: Vec<Vec<u8>> = got.into_iter().map(|g| g.4).collect();
        let kept = |u: &framelease::bitstream::NalUnit<'_>| u.kind(Codec::H264) != NalKind::Delimiter;
        let mut expected: Vec<Vec<u8>> = nal_units(packet.bytes()).filter(kept).map(|u| u.data.to_vec()).collect();
        if packet.is_key() {
            assert_eq!(payloads[0][0] & 31, 24, "the parameter sets in one packet");
            // x264 puts them first, and so does the sender.
            let is_set = |u: &Vec<u8>| matches!(u[0] & 31, 7 | 8);
            expected.sort_by_key(|u| !is_set(u));
        }
        assert_eq!(units(&payloads), expected, "frame {}", packet.meta().sequence);
    }
    let stats = sender.stats(id).unwrap();
    assert_eq!((stats.frames, stats.dropped), (12, 0));
    assert!(stats.packets > 12 && stats.last_error.is_none());
    // The report counts the frames sent until then: one.
    let mut report = [0; 200];
    let n = rtcp.recv(&mut report).unwrap();
    assert_eq!((report[1], report[29], n % 4), (200, 202, 0));
    assert!(rtcp.recv(&mut report).is_err(), "a report is due only every five seconds");
    drop(sender);
    let n = rtcp.recv(&mut report).unwrap();
    assert_eq!((report[1], report[29], report[n - 7]), (200, 202, 203), "BYE, in a compound packet (RFC 3550, 6.1)");
}

#[test]
fn frame_takes_few_system_calls_and_is_spread() {
    let Some(stream) = stream(Codec::H264, 1, Size::new(1920, 1080)) else { return };
    let packets = packets(Codec::H264, &stream, Size::new(1920, 1080));
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    send(&mut sender, &packets[0]);
    received(&rtp);
    let before = (syscalls(), sender.stats(id).unwrap().packets);
    send(&mut sender, &packets[0]);
    let (calls, sent) = (syscalls() - before.0, sender.stats(id).unwrap().packets - before.1);
    // Parameter sets alone. All packets of the slices in one call, except shorter ones.
    assert!(sent >= 20 && calls <= 4, "{calls} calls for {sent} packets");
    assert_eq!(received(&rtp).len() as u64, sent);

    let mut sender = Sender::new(Codec::H264, SenderOptions::default().spread(Duration::from_secs(1))).unwrap();
    let id = sender.add(to).unwrap();
    let large = Packet::new(meta(0), [&SPS[..], &PPS, &IDR, &[7; 200_000]].concat(), None);
    assert!(matches!(sender.try_recv().unwrap(), Received::Item(SenderEvent::KeyFrameWanted)));
    assert!(sender.try_submit(large.clone()).unwrap().is_taken() && !is_readable(&sender));
    assert_eq!(sender.stats(id).unwrap().packets, 31, "the first of five bursts");
    let calls = syscalls();
    let wakes = finish(&mut sender, Duration::from_millis(300));
    // A datagram burst and its timer. The last burst clears the timer.
    assert!((2..=5).contains(&wakes) && syscalls() - calls <= 4 * wakes as u64 + 1, "{wakes}");
    // The next frame sends the rest of the previous one.
    assert!(sender.try_submit(large.clone()).unwrap().is_taken());
    assert!(sender.try_submit(large).unwrap().is_taken());
    assert_eq!(sender.stats(id).unwrap().frames, 2);
}

#[test]
fn destinations_are_independent() {
    let Some(stream) = stream(Codec::H264, 25, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let (one, _c1, to_one) = receiver();
    let (two, c2, to_two) = receiver();
    let (gone, _, to_gone) = receiver();
    drop(gone);
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let first = sender.add(to_one).unwrap();
    let deaf = sender.add(to_gone).unwrap();
    for packet in &packets[..5] {
        send(&mut sender, packet);
    }
    // Without a listener, the network reports an error. The sender then sends nothing there until the next key frame.
    let stats = sender.stats(deaf).unwrap();
    assert!(stats.dropped > 0 && stats.frames < 5, "{stats:?}");
    assert!(stats.last_error.unwrap().to_string().contains("ECONNREFUSED"));
    assert!(sender.awaits_key());
    // A destination that is added later begins with a key frame, and does not affect the first.
    let second = sender.add(to_two).unwrap();
    for packet in &packets[5..] {
        send(&mut sender, packet);
    }
    let frames = |socket: &UdpSocket| received(socket).iter().filter(|g| g.3).count();
    assert_eq!((frames(&one), frames(&two)), (25, 15));
    let counts = |id| sender.stats(id).map(|s| (s.frames, s.dropped));
    assert_eq!((counts(first), counts(second)), (Some((25, 0)), Some((15, 0))));
    sender.remove(second);
    assert!(sender.stats(second).is_none() && sender.sdp(second).is_none());
    let mut control = [0; 200];
    let mut last = 0;
    while let Ok(n) = c2.recv(&mut control) {
        last = control[n - 7];
    }
    assert_eq!(last, 203, "goodbye");
    // Another stream is refused, and so is a codec without an RTP format.
    let vp8 = framelease::frame::PacketMeta::new(Codec::Vp8, SIZE, 0, 0);
    let e = sender.try_submit(Packet::new(vp8, [0x10, 0, 0], None)).unwrap_err();
    assert_eq!(e.error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(Sender::new(Codec::Fwht, at_once()).unwrap_err().kind(), ErrorKind::Unsupported);
    let e =
        Sender::new(Codec::H264, at_once().interface("no-such-one")).unwrap().add("239.9.9.9:6000".parse().unwrap());
    assert!(e.unwrap_err().to_string().contains("no-such-one"));
}

/// The types of the NAL units that came, in order.
fn kinds(socket: &UdpSocket) -> Vec<u8> {
    let payloads: Vec<Vec<u8>> = received(socket).into_iter().map(|g| g.4).collect();
    units(&payloads).iter().map(|u| u[0] & 31).collect()
}

fn meta(sequence: u64) -> PacketMeta {
    PacketMeta::new(Codec::H264, SIZE, sequence, sequence * FRAME_NS)
}

const SPS: [u8; 8] = [0, 0, 0, 1, 0x67, 66, 0xc0, 30];
const PPS: [u8; 6] = [0, 0, 0, 1, 0x68, 0xce];
const OTHER_PPS: [u8; 6] = [0, 0, 0, 1, 0x68, 0xcf];
const IDR: [u8; 6] = [0, 0, 0, 1, 0x65, 0x88];
const NEXT: [u8; 6] = [0, 0, 0, 1, 0x41, 0x9a];

#[test]
fn rtp_timestamps_advance_where_the_source_s_stand_still() {
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    sender.add(to).unwrap();
    let start = Instant::now();
    let mut times = Vec::new();
    for sequence in 0..3 {
        let meta = PacketMeta::new(Codec::H264, SIZE, sequence, 0);
        send(&mut sender, &Packet::new(meta, [&SPS[..], &PPS, &IDR].concat(), None));
        let got = received(&rtp);
        assert!(got.iter().all(|g| g.1 == got[0].1), "one timestamp for one frame");
        times.push(got[0].1);
    }
    let most = start.elapsed().as_millis() as u32 * 90 + 90;
    let steps = [times[1].wrapping_sub(times[0]), times[2].wrapping_sub(times[1])];
    // `received` waits until the socket is quiet.
    assert!(steps.iter().all(|step| (90 * 200..most).contains(step)), "{steps:?} ticks, at most {most}");
}

#[test]
fn parameter_sets_come_first_for_a_new_destination() {
    let (one, _c1, to_one) = receiver();
    let (two, _c2, to_two) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once().parameters_every(Duration::from_secs(3600))).unwrap();
    sender.add(to_one).unwrap();
    let key = |i, pps: &[u8]| Packet::new(meta(i), [&SPS[..], pps, &IDR].concat(), None);
    send(&mut sender, &key(0, &PPS));
    send(&mut sender, &key(1, &PPS));
    assert_eq!(kinds(&one), [7, 8, 5, 5], "not more often than the interval");
    sender.add(to_two).unwrap();
    send(&mut sender, &key(2, &PPS));
    assert_eq!(kinds(&two), [7, 8, 5], "a stream begins with parameter sets");
    assert_eq!(kinds(&one), [7, 8, 5]);
    send(&mut sender, &key(3, &OTHER_PPS));
    assert_eq!(kinds(&one), [7, 8, 5], "changed parameter sets are sent");
    send(&mut sender, &key(4, &OTHER_PPS));
    assert_eq!(kinds(&one), [5]);
}

/// Receivers of cameras' H.265 that cannot read aggregation packets (type 48) are common.
#[test]
fn parameter_sets_of_h265_are_sent_as_single_units() {
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::Hevc, at_once()).unwrap();
    sender.add(to).unwrap();
    let units = [[32 << 1, 1, 7], [33 << 1, 1, 8], [34 << 1, 1, 9], [19 << 1, 1, 0x80]];
    let bytes: Vec<u8> = units.iter().flat_map(|u| [&[0, 0, 0, 1][..], u].concat()).collect();
    send(&mut sender, &Packet::new(PacketMeta::new(Codec::Hevc, SIZE, 0, 0), bytes, None));
    let payloads: Vec<Vec<u8>> = received(&rtp).into_iter().map(|g| g.4).collect();
    assert_eq!(payloads, units);
}

#[test]
fn parameter_sets_between_key_frames_keep_their_place() {
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    sender.add(to).unwrap();
    let key = Packet::new(meta(0), [&SPS[..], &PPS, &IDR].concat(), None);
    let sets = key.parameter_sets().cloned();
    send(&mut sender, &key);
    send(&mut sender, &Packet::new(meta(1), [&OTHER_PPS[..], &NEXT].concat(), sets.clone()));
    // With a key frame comes a set that is not in force. The sets in force come again after it.
    send(&mut sender, &Packet::new(meta(2), [&OTHER_PPS[..], &IDR].concat(), sets));
    assert_eq!(kinds(&rtp), [7, 8, 5, 8, 1, 7, 8, 8, 5]);
}

#[test]
fn parameter_sets_come_again_after_a_frame_s_own_set() {
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once().parameters_every(Duration::from_secs(3600))).unwrap();
    sender.add(to).unwrap();
    let key = |i| Packet::new(meta(i), [&SPS[..], &PPS, &IDR].concat(), None);
    send(&mut sender, &key(0));
    send(&mut sender, &Packet::new(meta(1), [&OTHER_PPS[..], &NEXT].concat(), key(0).parameter_sets().cloned()));
    send(&mut sender, &key(2));
    send(&mut sender, &key(3));
    assert_eq!(kinds(&rtp), [7, 8, 5, 8, 1, 7, 8, 5, 5]);
}

#[test]
fn destination_joins_at_recovery_points() {
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let sets = Packet::new(meta(0), [&SPS[..], &PPS, &IDR].concat(), None).parameter_sets().cloned();
    sender.add(to).unwrap();
    let recovery = [0, 0, 0, 1, 6, 6, 1, 0xc4, 0x80];
    for bytes in [&NEXT[..], &[&recovery[..], &NEXT].concat(), &NEXT] {
        send(&mut sender, &Packet::new(meta(1), bytes, sets.clone()));
    }
    assert_eq!(kinds(&rtp), [7, 8, 6, 1, 1]);
}

#[test]
fn damaged_key_frame_begins_no_stream() {
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    let mut damaged = meta(0);
    damaged.flags |= FrameFlags::ERROR;
    let bytes = [&SPS[..], &PPS, &IDR].concat();
    send(&mut sender, &Packet::new(damaged, &bytes[..], None));
    assert!(kinds(&rtp).is_empty() && sender.awaits_key());
    send(&mut sender, &Packet::new(meta(1), &bytes[..], None));
    // Within a stream, a damaged key frame is sent.
    send(&mut sender, &Packet::new(damaged, &bytes[..], None));
    assert_eq!(kinds(&rtp), [7, 8, 5, 7, 8, 5]);
    assert_eq!(sender.stats(id).unwrap().frames, 2);
}

#[test]
fn pause_ends_with_a_key_frame() {
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    let bytes = [&SPS[..], &PPS, &IDR].concat();
    send(&mut sender, &Packet::new(meta(0), &bytes[..], None));
    sender.pause(id);
    send(&mut sender, &Packet::new(meta(1), &bytes[..], None));
    assert!(!sender.awaits_key());
    sender.resume(id);
    assert!(sender.awaits_key());
    send(&mut sender, &Packet::new(meta(2), NEXT, None));
    send(&mut sender, &Packet::new(meta(3), &bytes[..], None));
    assert_eq!(kinds(&rtp), [7, 8, 5, 7, 8, 5]);
    assert_eq!(sender.stats(id).unwrap().frames, 2);
}

#[test]
fn resume_does_nothing_without_a_pause() {
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    send(&mut sender, &Packet::new(meta(0), [&SPS[..], &PPS, &IDR].concat(), None));
    sender.resume(id);
    assert!(!sender.awaits_key());
    send(&mut sender, &Packet::new(meta(1), NEXT, None));
    assert_eq!(kinds(&rtp), [7, 8, 5, 1]);
}

#[test]
fn bye_has_the_time_of_its_timestamp() {
    let (_rtp, rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    send(&mut sender, &Packet::new(meta(0), [&SPS[..], &PPS, &IDR].concat(), None));
    std::thread::sleep(Duration::from_millis(500));
    sender.remove(id);
    let report = || {
        let mut bytes = [0; 300];
        rtcp.recv(&mut bytes).unwrap();
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        (u64::from(word(8)) << 32 | u64::from(word(12)), word(16))
    };
    let (first, last) = (report(), report());
    assert_eq!(first.1, last.1, "the timestamp of the one frame");
    // In 2^-32 s (RFC 3550, 6.4.1: both are the same moment).
    assert!(last.0.abs_diff(first.0) < 1 << 30, "{} ms", (last.0.abs_diff(first.0) * 1000) >> 32);
}

#[test]
fn frame_is_spread_over_a_part_of_the_interval() {
    let (_rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, SenderOptions::default()).unwrap();
    let id = sender.add(to).unwrap();
    let large = [&SPS[..], &PPS, &IDR, &[7; 400_000]].concat();
    // Frames are 400 ms apart, so a frame takes half of that. The sender looks at its clock in `try_submit`.
    let (start, mut last) = (Instant::now(), Duration::ZERO);
    for i in 0..2 {
        let mut meta = meta(0);
        meta.timestamp_ns = i * 400_000_000;
        assert!(sender.try_submit(Packet::new(meta, &large[..], None)).unwrap().is_taken());
    }
    while is_readable_within(&sender, Duration::from_millis(300)) {
        let _ = sender.try_recv().unwrap();
        last = start.elapsed();
    }
    let sent = sender.stats(id).unwrap().packets;
    assert!(sent > 590, "{sent} packets");
    // At least, since no packet is sent before its time.
    assert!(last > Duration::from_millis(150), "{last:?}");
}

#[test]
fn report_of_a_receiver_is_counted() {
    let (_rtp, rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    let bytes = [&SPS[..], &PPS, &IDR].concat();
    send(&mut sender, &Packet::new(meta(0), &bytes[..], None));
    let mut report = [0; 300];
    let (_, from) = rtcp.recv_from(&mut report).unwrap();
    let mut answer = [&[0x81, 201, 0, 7, 0, 0, 0, 1][..], &report[4..8]].concat();
    answer.extend([64, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0, 0]);
    rtcp.send_to(&answer, from).unwrap();
    // The report is read with the next report.
    let start = Instant::now();
    while sender.stats(id).unwrap().reception.is_none() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
        send(&mut sender, &Packet::new(meta(1), &bytes[..], None));
    }
    let heard = sender.stats(id).unwrap().reception.expect("a reception");
    assert_eq!((heard.fraction_lost, heard.lost, heard.jitter), (64, 9, 33));
}

#[test]
fn frame_costs_no_allocation() {
    let (_rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    sender.add(to).unwrap();
    let large = [&SPS[..], &PPS, &IDR, &[7; 50_000]].concat();
    let packets: Vec<Packet> = (0..50).map(|i| Packet::new(meta(i), &large[..], None)).collect();
    send(&mut sender, &packets[0]);
    let before = of_this_thread();
    packets[1..].iter().for_each(|p| send(&mut sender, p));
    assert_eq!(of_this_thread() - before, 0);
}

#[test]
fn destination_without_a_listener_does_not_force_key_frames() {
    let (gone, _, to_gone) = receiver();
    drop(gone);
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    let deaf = sender.add(to_gone).unwrap();
    // Like an encoder that makes a key frame at once when it is forced to.
    let keys = (0..50).filter(|&i| {
        let is_key = sender.awaits_key();
        let bytes = if is_key { [&SPS[..], &PPS, &IDR].concat() } else { NEXT.to_vec() };
        send(&mut sender, &Packet::new(meta(i), bytes, None));
        is_key
    });
    assert!(keys.count() <= 2, "key frames without a listener");
    assert!(sender.stats(deaf).unwrap().dropped > 40);
    // An encoder may make none by itself.
    std::thread::sleep(Duration::from_secs(5));
    assert!(sender.awaits_key(), "it does not wait for a key frame");
    send(&mut sender, &Packet::new(meta(50), [&SPS[..], &PPS, &IDR].concat(), None));
    assert!(!sender.awaits_key());
}

#[test]
fn errors_of_a_socket_do_not_cost_a_new_destination_a_frame() {
    let (before, _, to) = receiver();
    drop(before);
    let mut sender = Sender::new(Codec::Vp8, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    let key = Packet::new(PacketMeta::new(Codec::Vp8, SIZE, 0, 0), [0x10, 0, 0, 0x9d, 1, 0x2a, 64, 0, 64, 0], None);
    assert!(key.can_begin());
    // One datagram: the refusal is reported when the next is sent.
    send(&mut sender, &key);
    sender.pause(id);
    let now = UdpSocket::bind(to).unwrap();
    now.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    sender.resume(id);
    send(&mut sender, &key);
    assert_eq!((received(&now).len(), sender.stats(id).unwrap().dropped), (1, 0));
}

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 42, 42);

#[test]
fn interface_of_a_multicast_group_is_used() {
    if !has_own_network("rtp::interface_of_a_multicast_group_is_used") {
        return;
    }
    // An interface that the routes do not name, if there is another.
    let (link, by, other) = match is_in_own_network() {
        true => ("cam1", Ipv4Addr::new(10, 99, 1, 1), Some(Ipv4Addr::new(10, 99, 0, 1))),
        false => ("lo", Ipv4Addr::LOCALHOST, None),
    };
    let Some(stream) = stream(Codec::H264, 5, SIZE) else { return };
    let packets = packets(Codec::H264, &stream, SIZE);
    let members: Vec<UdpSocket> = (0..2)
        .map(|i| {
            let port = 46_000 + (std::process::id() % 1000) as u16 * 4 + 2 * i;
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            socket.join_multicast_v4(&GROUP, &by).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        })
        .collect();
    let options = at_once().interface(link).ttl(3).dscp(34);
    let mut sender = Sender::new(Codec::H264, options).unwrap();
    let groups: Vec<_> = members
        .iter()
        .map(|m| sender.add(SocketAddr::new(GROUP.into(), m.local_addr().unwrap().port())).unwrap())
        .collect();
    packets.iter().for_each(|p| send(&mut sender, p));
    for (member, id) in members.iter().zip(&groups) {
        assert_eq!(received(member).iter().filter(|g| g.3).count(), 5);
        assert!(sender.sdp(*id).unwrap().contains("c=IN IP4 239.255.42.42/3\r\n"));
    }
    // On the other link, members of another group do not get it.
    if let Some(other) = other {
        let group = Ipv4Addr::new(239, 255, 42, 44);
        let stranger = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        stranger.join_multicast_v4(&group, &other).unwrap();
        stranger.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        for (link, heard) in [("cam1", false), ("cam0", true)] {
            let mut sender = Sender::new(Codec::H264, at_once().interface(link)).unwrap();
            sender.add(SocketAddr::new(group.into(), stranger.local_addr().unwrap().port())).unwrap();
            send(&mut sender, &packets[0]);
            assert_eq!(!received(&stranger).is_empty(), heard, "{link}");
        }
    }
}

#[test]
fn loopback_of_a_multicast_group_is_a_setting() {
    if !has_own_network("rtp::loopback_of_a_multicast_group_is_a_setting") {
        return;
    }
    let Some(probe) = routed() else { return };
    let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    member.join_multicast_v4(&GROUP, &probe).unwrap();
    member.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let packet = Packet::new(meta(0), [&SPS[..], &PPS, &IDR].concat(), None);
    for (loopback, heard) in [(true, 2), (false, 0)] {
        let mut sender = Sender::new(Codec::H264, at_once().loopback(loopback)).unwrap();
        sender.add(SocketAddr::new(GROUP.into(), member.local_addr().unwrap().port())).unwrap();
        send(&mut sender, &packet);
        assert_eq!(received(&member).len(), heard, "{loopback}");
    }
}

/// Returns the address from which packets to the group are sent. Without a route it prints a skip.
pub fn routed() -> Option<Ipv4Addr> {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    match probe.connect((GROUP, 9)).and_then(|()| probe.local_addr()) {
        Ok(SocketAddr::V4(from)) => Some(*from.ip()),
        other => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "SKIPPED multicast by the routes: {other:?}");
            None
        }
    }
}

/// Sends a stream to ffmpeg by the session description. Returns the checksums of the decoded frames, and the expected
/// ones.
fn by_ffmpeg(
    codec: Codec,
    size: Size,
    to: SocketAddr,
    options: SenderOptions,
    name: &str,
) -> Option<(Vec<String>, Vec<String>)> {
    bytes_by_ffmpeg(codec, size, &stream(codec, 40, size)?, to, options, name)
}

fn bytes_by_ffmpeg(
    codec: Codec,
    size: Size,
    bytes: &[u8],
    to: SocketAddr,
    options: SenderOptions,
    name: &str,
) -> Option<(Vec<String>, Vec<String>)> {
    let packets = packets(codec, bytes, size);
    assert_eq!(packets.len(), 40);
    let expected = frame_sums("-", Some(format(codec)), bytes)?;
    let folder = Folder::new(name);
    let mut sender = Sender::new(codec, options).unwrap();
    let id = sender.add(to).unwrap();
    // The description has the parameter sets of the packets that were sent. ffmpeg does not listen yet.
    send(&mut sender, &packets[0]);
    std::fs::write(folder.path("a.sdp"), sender.sdp(id).unwrap()).unwrap();
    let sdp = folder.path("a.sdp");
    let args = ["-v", "error", "-protocol_whitelist", "file,udp,rtp", "-i", text(&sdp), "-fps_mode", "passthrough"];
    let child = Command::new("ffmpeg")
        .args(args)
        .args(["-frames:v", "25", "-f", "framemd5", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let mut child = child;
    // Again and again, since ffmpeg does not report when it listens.
    'all: for round in 0.. {
        for (i, packet) in packets.iter().enumerate() {
            let mut meta = *packet.meta();
            meta.timestamp_ns += round * 40 * FRAME_NS;
            send(&mut sender, &Packet::new(meta, packet.bytes(), packet.parameter_sets().cloned()));
            std::thread::sleep(Duration::from_millis(5));
            if i % 10 == 9 && child.try_wait().unwrap().is_some() {
                break 'all;
            }
        }
        if start.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            break;
        }
    }
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let sums = text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit(", ").next().unwrap().to_owned());
    Some((sums.collect(), expected))
}

#[test]
fn rtp_is_decoded_by_ffmpeg() {
    for codec in [Codec::H264, Codec::Hevc, Codec::Vp8] {
        let (_, _, to) = receiver();
        let Some((sums, expected)) = by_ffmpeg(codec, SIZE, to, at_once(), &format!("ffmpeg-{codec}")) else { return };
        assert!(run(&sums, &expected) >= 10, "{codec}: {} of {} frames", run(&sums, &expected), sums.len());
    }
}

/// Returns 40 JPEG pictures of GStreamer's encoder with the sampling 4:2:2.
fn jpeg_422() -> Option<Vec<u8>> {
    let line = format!(
        "-q videotestsrc num-buffers=40 horizontal-speed=3 ! video/x-raw,format=Y42B,width={},height={} ! jpegenc ! fdsink",
        JPEG_SIZE.width, JPEG_SIZE.height
    );
    clean("gst-launch-1.0", &line.split(' ').collect::<Vec<_>>(), &[])
}

#[test]
fn rtp_of_motion_jpeg_is_decoded_by_ffmpeg() {
    // With restart markers, for decoders that work in slices.
    let slices = ["-threads", "2", "-thread_type", "slice"];
    let streams = [stream(Codec::Mjpeg, 40, JPEG_SIZE), stream_with(Codec::Mjpeg, 40, JPEG_SIZE, &slices), jpeg_422()];
    for (bytes, kind) in streams.into_iter().zip([1, 65, 0]) {
        let Some(bytes) = bytes else { return };
        let (rtp, _rtcp, to) = receiver();
        let mut sender = Sender::new(Codec::Mjpeg, at_once()).unwrap();
        sender.add(to).unwrap();
        send(&mut sender, &packets(Codec::Mjpeg, &bytes, JPEG_SIZE)[0]);
        let got = received_as(26, &rtp);
        assert!(got.iter().all(|g| g.4[4..8] == [kind, 255, 40, 22] && g.4.len() <= 1400 - 48 - 12), "type {kind}");
        assert!(got.len() > 1 && got.iter().rev().skip(1).all(|g| !g.3 && g.4.len() == 1400 - 48 - 12));
        drop((rtp, _rtcp, sender));
        let name = format!("ffmpeg-jpeg-{kind}");
        let decoded = bytes_by_ffmpeg(Codec::Mjpeg, JPEG_SIZE, &bytes, to, at_once(), &name);
        let Some((sums, expected)) = decoded else { return };
        assert!(run(&sums, &expected) >= 10, "type {kind}: {} of {} frames", run(&sums, &expected), sums.len());
    }
}

#[test]
fn sender_refuses_a_jpeg_picture_that_rtp_cannot_carry_and_goes_on() {
    let (wide, size) = (Size::new(2048, 64), Size::new(64, 64));
    let (Some(large), Some(good)) = (stream(Codec::Mjpeg, 1, wide), stream(Codec::Mjpeg, 1, size)) else { return };
    let (rtp, _rtcp, to) = receiver();
    let mut sender = Sender::new(Codec::Mjpeg, at_once()).unwrap();
    let id = sender.add(to).unwrap();
    let rejected = sender.try_submit(packets(Codec::Mjpeg, &large, wide).remove(0)).unwrap_err();
    assert_eq!((rejected.error.kind(), rejected.item.meta().size), (ErrorKind::Unsupported, wide));
    assert!(rejected.error.to_string().contains("2048x64, and the limit is 2040 pixels"), "{}", rejected.error);
    // A damaged picture may be without its headers.
    let mut meta = PacketMeta::new(Codec::Mjpeg, size, 1, 1);
    meta.flags = FrameFlags::ERROR;
    send(&mut sender, &Packet::new(meta, &good[..100], None));
    assert!(sender.awaits_key() && received_as(26, &rtp).is_empty());
    send(&mut sender, &packets(Codec::Mjpeg, &good, size)[0]);
    assert_eq!(sender.stats(id).unwrap().frames, 1);
    assert!(!received_as(26, &rtp).is_empty());
    let error = Sender::new(Codec::Mjpeg, at_once().mtu(200)).unwrap_err();
    assert!(error.to_string().contains("asked packets of 200 bytes; JPEG pictures need 205"), "{error}");
}

#[test]
fn rtp_is_received_by_gstreamer() {
    by_gstreamer(
        Codec::H264,
        SIZE,
        "encoding-name=H264,payload=96",
        "rtph264depay ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au",
    );
    by_gstreamer(Codec::Mjpeg, JPEG_SIZE, "encoding-name=JPEG,payload=26", "rtpjpegdepay");
}

fn by_gstreamer(codec: Codec, size: Size, caps: &str, depay: &str) {
    let Some(bytes) = stream(codec, 40, size) else { return };
    let Some(expected) = frame_sums("-", Some(format(codec)), &bytes) else { return };
    let packets = packets(codec, &bytes, size);
    let (_, _, to) = receiver();
    let (folder, port) = (Folder::new("udpsrc"), to.port());
    let file = folder.path("received");
    let line = format!(
        "udpsrc port={port} caps=application/x-rtp,media=video,clock-rate=90000,{caps} ! \
         rtpjitterbuffer latency=100 ! {depay} ! identity eos-after=60 ! filesink location={}",
        text(&file)
    );
    let child = Command::new("gst-launch-1.0")
        .arg("-q")
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "SKIPPED gst-launch-1.0: not found");
        return;
    };
    let mut sender = Sender::new(codec, at_once()).unwrap();
    sender.add(to).unwrap();
    let start = Instant::now();
    for i in 0u64.. {
        let packet = &packets[i as usize % 40];
        let mut meta = *packet.meta();
        meta.timestamp_ns = i * FRAME_NS;
        send(&mut sender, &Packet::new(meta, packet.bytes(), packet.parameter_sets().cloned()));
        std::thread::sleep(Duration::from_millis(5));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        if start.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            break;
        }
    }
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let Some(sums) = frame_sums("-", Some(format(codec)), &std::fs::read(&file).unwrap()) else { return };
    assert!(run(&sums, &expected) >= 10, "{} of {} frames", run(&sums, &expected), sums.len());
}

#[test]
fn rtp_multicast_is_decoded_by_ffmpeg() {
    if !has_own_network("rtp::rtp_multicast_is_decoded_by_ffmpeg") {
        return;
    }
    // ffmpeg joins by the routes, and receives packets that are sent by the routes, so there must be a route.
    if routed().is_none() {
        return;
    }
    let to = SocketAddr::new(GROUP.into(), 45_000 + (std::process::id() % 1000) as u16 * 2);
    let Some((sums, expected)) = by_ffmpeg(Codec::H264, SIZE, to, at_once().ttl(1), "multicast") else { return };
    assert!(run(&sums, &expected) >= 10, "{} of {} frames", run(&sums, &expected), sums.len());
}

#[test]
fn events_of_a_sender_come_once() {
    let (_rtp, _rtcp, to) = receiver();
    let (gone, _, to_gone) = receiver();
    drop(gone);
    let mut sender = Sender::new(Codec::H264, at_once()).unwrap();
    assert_eq!(idle_wakes(&mut sender), 0);
    assert_signal_ends_recv(&mut sender);
    let key = |i| Packet::new(meta(i), [&SPS[..], &PPS, &IDR].concat(), None);
    for i in 0..2 {
        sender.add(to).unwrap();
        assert!(is_readable_within(&sender, Duration::from_secs(1)), "a new destination does not make it readable");
        assert!(matches!(sender.try_recv().unwrap(), Received::Item(SenderEvent::KeyFrameWanted)));
        assert!(sender.try_recv().unwrap().is_nothing() && !is_readable(&sender));
        send(&mut sender, &key(i));
        assert!(!is_readable(&sender));
    }
    let lost = sender.add(to_gone).unwrap();
    let mut failures = 0;
    for i in 2..20 {
        assert!(sender.try_submit(key(i)).unwrap().is_taken());
        while is_readable_within(&sender, Duration::from_millis(3)) {
            match sender.try_recv().unwrap() {
                Received::Item(SenderEvent::Failed(id, e)) => {
                    assert!(id == lost && e.to_string().contains("ECONNREFUSED"), "{e}");
                    failures += 1;
                }
                Received::Item(_) | Received::Nothing => {}
                Received::Ended => panic!("a sender has no end"),
            }
        }
    }
    // A later datagram reports the refusal of an earlier one, so frames may be sent in between.
    assert!(failures > 0 && failures < 18, "{failures}");
    sender.remove(lost);
    assert!(idle_wakes(&mut sender) <= 1);
}
