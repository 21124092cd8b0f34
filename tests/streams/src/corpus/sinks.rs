//! A stream through each sink of the library, and back into frames.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::format::FrameInterval;
use framelease::frame::Packet;
use framelease::sink::recorder::{Recorder, RecorderEvent, RecorderOptions};
use framelease::sink::rtp::{DestinationId, Sender, SenderOptions};
use framelease::sink::rtsp::{MountOptions, Server, ServerEvent};
use framelease::sink::WriterOptions;
use framelease::{Received, Station, Submit};

use super::depacketize::depacketize;
use crate::decode::{self, Receiver};
use crate::Res;

/// For anything that another program has to do.
const LIMIT: Duration = Duration::from_secs(30);
/// How much of a receive buffer, which has more than 200,000 bytes, may be used before more is sent.
const MOST_WAITING: u64 = 60_000;

/// The packets of a stream, and a folder for files.
pub struct Stream<'a> {
    pub codec: Codec,
    pub size: (u32, u32),
    pub packets: &'a [Packet],
    pub folder: &'a Path,
}

/// What came out of a sink: checksums of frames.
#[derive(Default)]
pub struct Out {
    pub sums: Vec<String>,
    pub files: usize,
    /// Packets that the sink refused, and the text of the last one.
    pub refused: Option<(usize, String)>,
}

impl Out {
    fn refuse(&mut self, error: impl ToString) {
        let count = self.refused.as_ref().map_or(0, |(count, _)| *count);
        self.refused = Some((count + 1, error.to_string()));
    }
}

pub struct Sink {
    pub name: &'static str,
    pub run: fn(&Stream<'_>) -> Res<Out>,
    /// Codecs that it does not carry.
    pub without: &'static [Codec],
}

/// One line for each sink.
pub const SINKS: [Sink; 6] = [
    Sink { name: "Matroska file", run: |stream| recorded(stream, "mkv"), without: &[] },
    Sink { name: "MP4 file", run: |stream| recorded(stream, "mp4"), without: &[Codec::Vp8, Codec::Mjpeg] },
    Sink { name: "RTP", run: by_own_receiver, without: &[Codec::Mjpeg] },
    Sink { name: "RTP to ffmpeg", run: by_session_description, without: &[] },
    Sink { name: "RTSP to ffmpeg", run: |stream| by_rtsp(stream, "tcp"), without: &[] },
    Sink { name: "RTSP over HTTP to ffmpeg", run: |stream| by_rtsp(stream, "http"), without: &[] },
];

/// Records the stream. The files together are the stream.
fn recorded(stream: &Stream<'_>, extension: &str) -> Res<Out> {
    let options = WriterOptions::default().interval(FrameInterval::from_fps(25));
    let path = stream.folder.join(format!("r.{extension}"));
    let mut recorder = Recorder::new(path, RecorderOptions::default().writer(options)).map_err(|e| e.to_string())?;
    let mut out = Out::default();
    for packet in stream.packets {
        if let Err(rejected) = recorder.try_submit(packet.clone()) {
            out.refuse(rejected.error);
        }
    }
    recorder.finish();
    loop {
        match recorder.recv(Duration::from_secs(10)).map_err(|e| e.to_string())? {
            Received::Item(RecorderEvent::File { path, .. }) => {
                out.sums.extend(decode::of_file(&path)?);
                out.files += 1;
                let _ = fs::remove_file(path);
            }
            Received::Item(RecorderEvent::Error(e)) => return Err(e.to_string()),
            Received::Item(_) => {}
            Received::Nothing => return Err("the recorder does not end".into()),
            Received::Ended => return Ok(out),
        }
    }
}

/// Sockets for RTP and RTCP, with neighboring ports.
fn sockets() -> Res<[UdpSocket; 2]> {
    for _ in 0..100 {
        let bind = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
        let rtp = bind(0).map_err(|e| e.to_string())?;
        let port = rtp.local_addr().map_or(0, |a| a.port());
        if port % 2 == 0 {
            if let Ok(rtcp) = bind(port + 1) {
                return Ok([rtp, rtcp]);
            }
        }
    }
    Err("no two free ports".into())
}

/// The kernel's queues, to be sent and to be read, of each socket with a local port.
fn queues(tables: [&str; 2], port: u16) -> Vec<(u64, u64)> {
    let end = format!(":{port:04X}");
    // A number, the local address, the remote one, the state, the lengths of both queues.
    let of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1).is_some_and(|local| local.ends_with(&end));
        let (sending, received) = words.get(4).filter(|_| is_it)?.split_once(':')?;
        Some((u64::from_str_radix(sending, 16).ok()?, u64::from_str_radix(received, 16).ok()?))
    };
    let texts = tables.map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    texts.iter().flat_map(|text| text.lines()).filter_map(of).collect()
}

/// Bytes that wait in the receive buffer of a local UDP port. `None` if no socket is bound to it.
fn waiting_bytes(port: u16) -> Option<u64> {
    queues(["udp", "udp6"], port).first().map(|(_, received)| *received)
}

/// Sends packets to a local port, as fast as they are read there. So none is lost.
fn send(sender: &mut Sender, packets: &[Packet], to: SocketAddr, out: &mut Out) -> Res<()> {
    let end = Instant::now() + LIMIT;
    let waits = |most: u64| {
        while waiting_bytes(to.port()).is_some_and(|bytes| bytes > most) && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
    };
    for packet in packets {
        waits(MOST_WAITING);
        if let Err(rejected) = sender.try_submit(packet.clone()) {
            out.refuse(rejected.error);
        }
        while sender.is_sending() {
            waits(MOST_WAITING);
            let _ = sender.recv(Duration::from_millis(1)).map_err(|e| e.to_string())?;
        }
    }
    waits(0);
    Ok(())
}

fn sender(codec: Codec, to: SocketAddr) -> Res<(Sender, DestinationId)> {
    let mut sender = Sender::new(codec, SenderOptions::default()).map_err(|e| e.to_string())?;
    let id = sender.add(to).map_err(|e| e.to_string())?;
    Ok((sender, id))
}

/// RTP to a receiver of this program, whose depacketizer is as simple as the standards allow.
fn by_own_receiver(stream: &Stream<'_>) -> Res<Out> {
    let [rtp, _rtcp] = sockets()?;
    rtp.set_read_timeout(Some(Duration::from_millis(200))).map_err(|e| e.to_string())?;
    let to = rtp.local_addr().map_err(|e| e.to_string())?;
    let (mut sender, _) = sender(stream.codec, to)?;
    let (mut out, is_over) = (Out::default(), AtomicBool::new(false));
    let datagrams = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut all, mut buffer) = (Vec::new(), [0; 9000]);
            loop {
                match rtp.recv(&mut buffer) {
                    Ok(n) => all.push(buffer[..n].to_vec()),
                    Err(_) if is_over.load(Ordering::Relaxed) => return all,
                    Err(_) => {}
                }
            }
        });
        let sent = send(&mut sender, stream.packets, to, &mut out);
        is_over.store(true, Ordering::Relaxed);
        sent?;
        receiver.join().map_err(|_| "the receiver panicked".to_string())
    })?;
    out.sums = decode::of_bytes(stream.codec, &depacketize(stream.codec, stream.size, &datagrams)?)?;
    Ok(out)
}

/// Waits until ffmpeg has bound a UDP port.
fn wait_for_port(port: u16, receiver: &mut Receiver) -> Res<()> {
    let end = Instant::now() + LIMIT;
    while waiting_bytes(port).is_none() {
        if !receiver.is_running() || Instant::now() > end {
            return Err("ffmpeg does not listen".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// RTP to ffmpeg by a session description.
fn by_session_description(stream: &Stream<'_>) -> Res<Out> {
    let [rtp, rtcp] = sockets()?;
    let to = rtp.local_addr().map_err(|e| e.to_string())?;
    drop((rtp, rtcp));
    // The description has the parameter sets of packets that a sender has sent.
    let (mut describing, id) = sender(stream.codec, to)?;
    describing.pause(id);
    if let Some(first) = stream.packets.first() {
        let _ = describing.try_submit(first.clone());
    }
    let sdp = stream.folder.join("a.sdp");
    fs::write(&sdp, describing.sdp(id).unwrap_or_default()).map_err(|e| e.to_string())?;
    let whitelist = ["-protocol_whitelist", "file,udp,rtp", "-buffer_size", "400000", "-reorder_queue_size", "0", "-i"];
    let mut receiver = decode::receive(&[&whitelist[..], &[&sdp.to_string_lossy()]].concat())?;
    wait_for_port(to.port() + 1, &mut receiver)?;
    let (mut sender, id) = sender(stream.codec, to)?;
    let mut out = Out::default();
    send(&mut sender, stream.packets, to, &mut out)?;
    // Its BYE ends ffmpeg, which reads it before packets that still wait.
    thread::sleep(Duration::from_millis(30));
    sender.remove(id);
    out.sums = receiver.finish(LIMIT)?;
    Ok(out)
}

/// RTSP to ffmpeg, over TCP.
fn by_rtsp(stream: &Stream<'_>, transport: &str) -> Res<Out> {
    let builder = Server::builder((Ipv4Addr::LOCALHOST, 0)).backlog_bytes(64 << 20);
    let mut server = builder.bind().map_err(|e| e.to_string())?;
    let live = server.mount("/live", stream.codec, MountOptions::default()).map_err(|e| e.to_string())?;
    let mut out = Out::default();
    if let Some(first) = stream.packets.first() {
        let _ = server.submit(live, first);
    }
    let url = format!("rtsp://{}/live", server.local_addr().map_err(|e| e.to_string())?);
    let receiver = decode::receive(&["-rtsp_transport", transport, "-i", &url])?;
    let end = Instant::now() + LIMIT;
    loop {
        let event = server.recv(Duration::from_millis(100)).map_err(|e| e.to_string())?;
        if matches!(event, Received::Item(ServerEvent::Joined(..))) {
            break;
        }
        if Instant::now() > end {
            return Err("ffmpeg does not join".into());
        }
    }
    for packet in stream.packets {
        if let Err(error) = server.submit(live, packet) {
            out.refuse(error);
        }
        // At the pace of a decoder of large pictures.
        let pace = if stream.size.0 > 1000 { 150 } else { 3 };
        let next = Instant::now() + Duration::from_millis(pace);
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            let _ = server.recv(left).map_err(|e| e.to_string())?;
        }
    }
    // Until ffmpeg has taken the last byte. The server fills the kernel's queue as long as it has more.
    let port = server.local_addr().map_err(|e| e.to_string())?.port();
    let (end, mut empty) = (Instant::now() + LIMIT, 0);
    while empty < 4 && Instant::now() < end {
        let next = Instant::now() + Duration::from_millis(5);
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            let _ = server.recv(left).map_err(|e| e.to_string())?;
        }
        let is_empty = queues(["tcp", "tcp6"], port).iter().all(|(sending, _)| *sending == 0);
        empty = if is_empty { empty + 1 } else { 0 };
    }
    drop(server);
    out.sums = receiver.finish(LIMIT)?;
    Ok(out)
}
