//! Sinks whose system calls fail: a recording stores everything that it reports as stored, and at most one of two
//! receivers loses a frame.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

use framelease::bitstream::{AccessUnitSplitter, Codec};
use framelease::format::Size;
use framelease::frame::{Packet, PacketMeta};
use framelease::sink::recorder::{FileRotation, Recorder, RecorderEvent, RecorderOptions, RecorderStats};
use framelease::sink::rtp::{self, DestinationStats, Sender};
use framelease::sink::rtsp::{MountOptions, Server};
use framelease::sink::{Fsync, WriterOptions};
use framelease::{Received, Result, Station, Submit};

use crate::calls::{arm, Fault, CALLS};
use crate::{descriptors, faults, text, Counts, Folder, ALONE, HUNG};

#[path = "../sink/blocks.rs"]
mod blocks;
#[path = "../sink/client.rs"]
mod client;

pub const PACKETS: u64 = 24;

/// A key frame, another frame, a key frame, and so on.
pub fn packets() -> Vec<Packet> {
    let mut cutter = AccessUnitSplitter::new(Codec::H264, 1 << 16);
    cutter.push(include_bytes!("../fuzz/seeds/bitstream/h264"));
    let mut units: Vec<Vec<u8>> = std::iter::from_fn(|| cutter.next_unit().unwrap().map(<[u8]>::to_vec)).collect();
    units.push(cutter.finish());
    let mut sets = None;
    let packet = |i: u64| {
        let meta = PacketMeta::new(Codec::H264, Size::new(32, 32), i, 1_000_000_000 + i * 40_000_000);
        let packet = Packet::new(meta, units[i as usize % units.len()].clone(), sets.clone());
        sets = packet.parameter_sets().cloned();
        packet
    };
    (0..PACKETS).map(packet).collect()
}

/// The reports of a recording.
struct Recording {
    counts: Counts,
    /// `None` if there was no descriptor for a recorder.
    stats: Option<RecorderStats>,
    errors: Vec<String>,
    /// The sum of all files that were finished without an error.
    summed: u64,
}

fn record(to: &Path, packets: &[Packet], fault: Option<Fault>) -> Recording {
    let armed = arm(fault);
    let options = WriterOptions::default().fsync(Fsync::Clusters);
    let rotation = FileRotation::default().duration(Duration::from_millis(400));
    let mut recorder = match Recorder::new(to, RecorderOptions::default().writer(options).rotation(rotation)) {
        Ok(recorder) => recorder,
        Err(e) => return Recording { counts: armed.counts(), stats: None, errors: vec![e.to_string()], summed: 0 },
    };
    let (mut errors, mut summed) = (Vec::new(), 0);
    for packet in packets {
        if let Err(e) = recorder.try_submit(packet.clone()) {
            errors.push(e.to_string());
        }
    }
    recorder.finish();
    loop {
        match recorder.try_recv().unwrap() {
            Received::Item(RecorderEvent::File { summary, .. }) => summed += summary.packets,
            Received::Item(RecorderEvent::Error(e)) => errors.push(e.to_string()),
            Received::Item(other) => panic!("{other:?}"),
            Received::Nothing => panic!("the end comes last"),
            Received::Ended => break,
        }
    }
    Recording { counts: armed.counts(), stats: Some(recorder.stats()), errors, summed }
}

/// Packets in all files of a folder.
fn stored(folder: &Path, extension: &str) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap());
    let count = |file: Vec<u8>| if extension == "mkv" { blocks::blocks(&file).len() as u64 } else { samples(&file) };
    files.map(count).sum()
}

/// The frames that the headers of an MP4 file's fragments name.
fn samples(file: &[u8]) -> u64 {
    let at = |at: usize| u64::from(u32::from_be_bytes(file[at..at + 4].try_into().unwrap()));
    let (mut place, mut found) = (0, 0);
    while place + 8 <= file.len() {
        if &file[place + 4..place + 8] == b"moof" {
            // After the boxes that every fragment has.
            found += at(place + 80);
        }
        place += match at(place) {
            0 => file.len(),
            size => size as usize,
        };
    }
    found
}

#[test]
fn recorder_reports_only_what_is_stored() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let packets = packets();
    for extension in ["mkv", "mp4"] {
        assert_faults_are_reported(extension, &packets);
    }
}

fn assert_faults_are_reported(extension: &str, packets: &[Packet]) {
    let run = |fault| {
        let folder = Folder::new();
        let recording = record(&folder.0.join(format!("film.{extension}")), packets, fault);
        (stored(&folder.0, extension), recording)
    };
    let (there, whole) = run(None);
    let stats = whole.stats.unwrap();
    assert_eq!((there, whole.summed, stats.packets, stats.skipped), (PACKETS, PACKETS, PACKETS, 0));
    assert!(stats.files > 2 && whole.errors.is_empty());
    let before = descriptors();
    let faults = faults(&whole.counts);
    assert!(faults.len() > 50, "{}", faults.len());
    for fault in faults {
        let (there, r) = run(Some(fault));
        let what = format!("{}: {there} stored, {:?}, {:?}", text(Some(fault)), r.stats, r.errors);
        let Some(stats) = r.stats else {
            let is_new = ["eventfd", "epoll_create1", "epoll_ctl"].iter().any(|call| what.contains(call));
            assert!(is_new && descriptors() == before, "{what}");
            continue;
        };
        assert_eq!(there, stats.packets, "{what}");
        assert_eq!(stats.packets + stats.skipped, PACKETS, "{what}");
        // A lost packet takes those after it with it, up to a key frame.
        assert!(stats.skipped <= 2 && r.errors.len() <= 1, "{what}");
        let is_unsaved = what.contains("fdatasync") && !what.contains("EINTR");
        assert!(!r.errors.is_empty() || !is_unsaved, "data that is not on the disk: {what}");
        assert!(r.errors.is_empty() || r.errors[0].contains("film-0000"), "the error must name the file: {what}");
        assert!(!r.errors.is_empty() || (r.summed, there) == (PACKETS, PACKETS), "{what}");
        assert_eq!(descriptors(), before, "{what}");
    }
}

/// Sends all packets to two receivers. Returns the statistics of each.
fn send(to: [SocketAddr; 2], packets: &[Packet], fault: Option<Fault>) -> (Counts, Result<[DestinationStats; 2]>) {
    let armed = arm(fault);
    let sent = (|| {
        let mut sender = Sender::new(Codec::H264, rtp::SenderOptions::default().spread(Duration::ZERO))?;
        let ids = [sender.add(to[0])?, sender.add(to[1])?];
        for packet in packets {
            let _ = sender.try_submit(packet.clone())?;
            // Until the frame is sent, whatever is reported about it.
            let start = Instant::now();
            while sender.is_sending() && start.elapsed() < PATIENCE {
                let _ = sender.recv(Duration::from_millis(1))?;
            }
        }
        Ok(ids.map(|id| sender.stats(id).expect("it is there")))
    })();
    (armed.counts(), sent)
}

/// Returns the number of datagrams that came.
fn drain(socket: &UdpSocket) -> u64 {
    let mut buffer = [0; 2_000];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count() as u64
}

/// Two receivers, and the result of a stream that was sent to them.
fn two_receivers() -> impl Fn(Option<Fault>) -> (Counts, Result<[DestinationStats; 2]>, [u64; 2]) {
    let packets = packets();
    let sockets = [(); 2].map(|()| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    });
    let to = [0, 1].map(|i| sockets[i].local_addr().unwrap());
    move |fault| {
        let (counts, sent) = send(to, &packets, fault);
        (counts, sent, [drain(&sockets[0]), drain(&sockets[1])])
    }
}

/// Returns the sender's statistics of both receivers.
pub fn sent_to_two(fault: Fault) -> [DestinationStats; 2] {
    let (counts, sent, _) = two_receivers()(Some(fault));
    assert!(counts[fault.call] >= fault.nth, "the call was never made");
    sent.unwrap()
}

#[test]
fn rtp_of_two_receivers_at_most_one_loses_a_frame() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let run = two_receivers();
    let (counts, sent, came) = run(None);
    let whole = sent.unwrap();
    assert_eq!([0, 1].map(|i| (whole[i].frames, whole[i].dropped)), [(PACKETS, 0); 2]);
    assert_eq!([0, 1].map(|i| whole[i].packets), came);
    let before = descriptors();
    let faults = faults(&counts);
    assert!(faults.len() > 50, "{}", faults.len());
    for fault in faults {
        let (_, sent, came) = run(Some(fault));
        let what = format!("{}: {sent:?}, {came:?}", text(Some(fault)));
        assert_eq!(descriptors(), before, "{what}");
        // A failure while the receivers are added is reported.
        let Ok(stats) = sent else { continue };
        assert_eq!([0, 1].map(|i| stats[i].packets), came, "{what}");
        assert!(stats.iter().any(|s| (s.frames, s.dropped) == (PACKETS, 0)), "{what}");
        assert!(stats.iter().all(|s| s.frames + s.dropped == PACKETS && s.dropped <= 2), "{what}");
    }
}

/// The result of a server and its two clients.
pub struct Served {
    pub counts: Counts,
    pub result: Result<()>,
    /// Connections that were still open after both clients had left.
    pub left: usize,
    /// Frames of each client; `None` for a client that got no answer or was disconnected.
    pub clients: [Option<usize>; 2],
}

pub fn serve(packets: &[Packet], fault: Option<Fault>) -> Served {
    let (tell, told) = mpsc::channel();
    let (send, done) = mpsc::channel();
    let packets = packets.to_vec();
    let have_left = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&have_left);
    std::thread::spawn(move || {
        let armed = arm(fault);
        let mut left = 0;
        let result = (|| {
            let mut server = Server::builder((Ipv4Addr::LOCALHOST, 0)).bind()?;
            let live = server.mount("/live", Codec::H264, MountOptions::default())?;
            let _ = tell.send(server.local_addr()?);
            let mut packets = packets.iter().cycle();
            while !is_over.load(Ordering::Relaxed) {
                server.submit(live, packets.next().expect("they come again and again"))?;
                let _ = server.recv(Duration::from_millis(2))?;
            }
            // The server sees that they have left.
            let start = Instant::now();
            while server.connections() > 0 && start.elapsed() < PATIENCE {
                let _ = server.recv(Duration::from_millis(2))?;
            }
            left = server.connections();
            Ok(())
        })();
        let _ = send.send((armed.counts(), result, left));
    });
    let clients = match told.recv() {
        Ok(address) => std::thread::scope(|scope| {
            [false, true]
                .map(|by_http| scope.spawn(move || watch(address, by_http)))
                .map(|client| client.join().unwrap())
        }),
        Err(_) => [None, None],
    };
    have_left.store(true, Ordering::Relaxed);
    let (counts, result, left) = done.recv_timeout(HUNG).expect("the server hangs");
    Served { counts, result, left, clients }
}

const PATIENCE: Duration = Duration::from_secs(2);

/// Takes eight frames by TCP, also through HTTP.
fn watch(address: SocketAddr, by_http: bool) -> Option<usize> {
    let mut client = client::Client::try_connect(address).ok()?;
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    if by_http {
        client = client.try_into_tunnel(&client::new_cookie())?;
    }
    let url = format!("rtsp://{address}/live");
    let setup = format!("SETUP {url}/video RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n");
    let session = client.raw(setup.as_bytes()).filter(|r| r.status == 200)?.session();
    let play = format!("PLAY {url} RTSP/1.0\r\nCSeq: 2\r\nSession: {session}\r\n\r\n");
    client.raw(play.as_bytes()).filter(|r| r.status == 200)?;
    let mut frames = 0;
    while frames < 8 {
        let packets = client.try_read_packets(1)?;
        // The marker of a frame's last packet.
        frames += packets.iter().filter(|p| p[1] & 0x80 != 0).count();
    }
    Some(frames)
}

#[test]
fn rtsp_of_two_clients_at_most_one_is_disconnected() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let packets = packets();
    let whole = serve(&packets, None);
    whole.result.unwrap();
    assert!(whole.clients.iter().all(Option::is_some), "{:?}", whole.clients);
    let before = descriptors();
    let (mut wrong, faults) = (Vec::new(), faults(&whole.counts));
    assert!(faults.len() > 50, "{}", faults.len());
    for fault in faults {
        let served = serve(&packets, Some(fault));
        let what = format!("{}: {:?}, {:?}, {} left", text(Some(fault)), served.result, served.clients, served.left);
        let is_well = match served.result {
            Ok(()) => served.left == 0 && served.clients.iter().any(Option::is_some),
            // Only the calls that the server itself needs may fail it.
            Err(_) => [
                "socket",
                "bind",
                "listen",
                "setsockopt",
                "getsockname",
                "epoll_create1",
                "epoll_ctl",
                "timerfd_create",
                "eventfd",
                "ioctl",
                "poll",
            ]
            .contains(&CALLS[fault.call].0),
        };
        if !is_well || descriptors() != before {
            wrong.push(what);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
