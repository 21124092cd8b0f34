//! CPU of one 1080p30 H.264 frame of 8 Mbit/s into a Matroska or MP4 file and to four RTP receivers on loopback, beside
//! ffmpeg and GStreamer in the same run.
//!
//! Every contender, ours too, is a process of its own, whose whole CPU time counts. The receivers are threads of this
//! process, whose time does not. `docs/performance.md` says how to read it.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{IoSlice, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::bitstream::{AccessUnitSplitter, Codec};
use framelease::format::Size;
use framelease::frame::{Packet, PacketMeta};
use framelease::sink::{matroska, mp4, rtp, Summary, WriterOptions, Written};
use framelease::stats::{process_cpu_time, syscalls};
use framelease::{Station, Submit};
use nix::sys::resource::{getrusage, UsageWho};
use nix::sys::socket::{sendmsg, setsockopt, sockopt::RcvBufForce, ControlMessage, MsgFlags};
use nix::sys::time::TimeValLike;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const RECEIVERS: usize = 4;
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);
/// UDP's payload at the default MTU.
const DATAGRAM: usize = 1352;
const SIZE: Size = Size::new(1920, 1080);

/// How fast, and how often.
struct Row {
    name: &'static str,
    is_paced: bool,
    frames: usize,
    turns: usize,
}

const ROWS: [Row; 2] = [
    Row { name: "as fast as it goes", is_paced: false, frames: 1500, turns: 7 },
    Row { name: "at 30 frames a second", is_paced: true, frames: 150, turns: 3 },
];
/// To see that all works.
const QUICK: [Row; 2] = [
    Row { name: "as fast as it goes", is_paced: false, frames: 300, turns: 1 },
    Row { name: "at 30 frames a second", is_paced: true, frames: 30, turns: 1 },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    /// A frame's datagrams at once.
    Ours,
    /// Over half of the frame interval, the default.
    OursSpread,
    /// Into an MP4 file, at once.
    OursMp4,
    /// The cost that every program has in the kernel: one write of the bytes, and one call for each receiver's socket.
    Floor,
    Ffmpeg,
    GStreamer,
    /// One payloader for all receivers, which is not what one writes first.
    GStreamerMulti,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "framelease",
            Self::OursSpread => "framelease, default spread",
            Self::OursMp4 => "framelease, MP4",
            Self::Floor => "bare write and sendmsg",
            Self::Ffmpeg => "ffmpeg, tee muxer",
            Self::GStreamer => "GStreamer, 4 x rtph264pay ! udpsink",
            Self::GStreamerMulti => "GStreamer, rtph264pay ! multiudpsink",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursSpread | Self::OursMp4)
    }

    /// A process of this program.
    fn is_child(self) -> bool {
        self.is_ours() || self == Self::Floor
    }

    /// The whole job, or parsing alone.
    fn command(self, row: &Row, stream: &Path, file: &Path, to: &[SocketAddr], whole: bool) -> Command {
        let (stream, file) = (stream.display(), file.display());
        let line = match self {
            Self::Ours | Self::OursSpread | Self::OursMp4 | Self::Floor => {
                let job = match whole {
                    false => "parse",
                    true if self == Self::Floor => "floor",
                    true => "whole",
                };
                let pace = if row.is_paced { "paced" } else { "fast" };
                let spread = if self == Self::OursSpread { "spread" } else { "burst" };
                let container = if self == Self::OursMp4 { "mp4" } else { "mkv" };
                let to: Vec<_> = to.iter().map(SocketAddr::to_string).collect();
                format!("--child {job} {pace} {spread} {container} {stream} {file} {}", to.join(" "))
            }
            Self::Ffmpeg => {
                let to: String = to.iter().map(|to| format!("|[f=rtp]rtp://{to}")).collect();
                let pace = if row.is_paced { "-re " } else { "" };
                let output = if whole { format!("-f tee [f=matroska]{file}{to}") } else { "-f null -".into() };
                format!("-v error -nostdin -y -framerate 30 {pace}-f h264 -i {stream} -map 0 -c copy {output}")
            }
            Self::GStreamer | Self::GStreamerMulti => {
                // Without the timestamper Matroska gets but some of the frames.
                let head = format!("-q filesrc location={stream} ! h264parse ! h264timestamper");
                let sync = format!("sync={} async=false", row.is_paced);
                if whole {
                    let sinks: String = if self == Self::GStreamer {
                        let sink = |to: &SocketAddr| {
                            format!(" t. ! rtph264pay ! udpsink host={} port={} {sync}", to.ip(), to.port())
                        };
                        to.iter().map(sink).collect()
                    } else {
                        let to: Vec<_> = to.iter().map(SocketAddr::to_string).collect();
                        format!(" t. ! rtph264pay ! multiudpsink clients={} {sync}", to.join(","))
                    };
                    let file =
                        format!("m.video_0 matroskamux name=m ! filesink location={file} sync=false async=false");
                    format!("{head} ! tee name=t t. ! {file}{sinks}")
                } else {
                    format!("{head} ! fakesink {sync}")
                }
            }
        };
        let mut command = match self {
            _ if self.is_child() => Command::new(std::env::current_exe().expect("the bench's own path")),
            Self::Ffmpeg => Command::new("ffmpeg"),
            _ => Command::new("gst-launch-1.0"),
        };
        command.args(line.split(' '));
        command
    }
}

/// Sockets that are read and thrown away.
struct Receivers {
    to: Vec<SocketAddr>,
    bytes: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    /// A socket also listens for reports, so that no sender gets ICMP errors.
    _control: Vec<UdpSocket>,
}

impl Receivers {
    fn new() -> Result<Self> {
        let (bytes, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (mut to, mut control) = (Vec::new(), Vec::new());
        while to.len() < RECEIVERS {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let at = socket.local_addr()?;
            // RTP has an even port, its reports the next one.
            if at.port() % 2 == 1 {
                continue;
            }
            let Ok(next) = UdpSocket::bind((at.ip(), at.port() + 1)) else { continue };
            // Room for what comes faster than it is read: a datagram that is dropped costs its sender less. Root only;
            // else the column of what was received tells.
            let _ = setsockopt(&socket, RcvBufForce, &(256 << 20));
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            control.push(next);
            to.push(at);
            let (bytes, is_over) = (Arc::clone(&bytes), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut buffer = [0; 2000];
                while !is_over.load(Ordering::Relaxed) {
                    bytes.fetch_add(socket.recv(&mut buffer).unwrap_or(0) as u64, Ordering::Relaxed);
                }
            });
        }
        Ok(Self { to, bytes, is_over, _control: control })
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// User and system time of all children that have ended.
fn children_us() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64)
}

/// Microseconds of CPU that a process took. What it printed is shown if it failed.
fn run(mut command: Command) -> Result<f64> {
    let before = children_us()?;
    let out = command.stdin(Stdio::null()).output()?;
    if !out.status.success() {
        return Err(format!("{command:?}: {} {}", out.status, String::from_utf8_lossy(&out.stderr)).into());
    }
    print!("{}", String::from_utf8_lossy(&out.stdout));
    Ok(children_us()? - before)
}

/// Returns this number of frames: 300 of x264's, repeated.
fn stream(folder: &Path, frames: usize) -> Result<PathBuf> {
    let once = folder.join("300.h264");
    if !once.exists() {
        let mut command = Command::new("ffmpeg");
        command.args("-v error -y -f lavfi -i testsrc2=size=1920x1080:rate=30 -frames:v 300".split(' '));
        // Without noise there is nothing to spend 8 Mbit/s on.
        command.args("-vf noise=alls=20:allf=t -pix_fmt yuv420p -c:v libx264 -preset ultrafast".split(' '));
        command.args("-profile:v baseline -bf 0 -g 30 -b:v 8M -maxrate 8M -bufsize 8M -f h264".split(' '));
        command.arg(&once);
        run(command)?;
    }
    let units = units(&std::fs::read(&once)?)?;
    let mut all = Vec::new();
    units.iter().cycle().take(frames).for_each(|unit| all.extend_from_slice(unit));
    let path = folder.join(format!("{frames}.h264"));
    std::fs::write(&path, all)?;
    Ok(path)
}

fn units(stream: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut units = Vec::new();
    each_unit(stream, |unit| {
        units.push(unit.to_vec());
        Ok(())
    })?;
    Ok(units)
}

fn each_unit(mut stream: impl std::io::Read, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut cutter = AccessUnitSplitter::new(Codec::H264, 1 << 20);
    let mut piece = vec![0; 1 << 16];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return each(&cutter.finish());
        }
        cutter.push(&piece[..count]);
        while let Some(unit) = cutter.next_unit()? {
            each(unit)?;
        }
    }
}

enum Movie {
    Matroska(matroska::Writer),
    Mp4(mp4::Writer),
}

impl Movie {
    fn write(&mut self, packet: &Packet) -> framelease::Result<Written> {
        match self {
            Self::Matroska(writer) => writer.write(packet),
            Self::Mp4(writer) => writer.write(packet),
        }
    }

    fn finish(self) -> framelease::Result<Summary> {
        match self {
            Self::Matroska(writer) => writer.finish(),
            Self::Mp4(writer) => writer.finish(),
        }
    }
}

/// What the library does, in a process of its own.
fn child(args: &[String]) -> Result<()> {
    let [job, pace, spread, container, stream, file, to @ ..] = args else {
        return Err("arguments are missing".into());
    };
    let stream = std::fs::File::open(stream)?;
    let (is_paced, mut count, begun) = (pace == "paced", 0, Instant::now());
    let wait = |count: u32| {
        if is_paced {
            std::thread::sleep((FRAME * count).saturating_sub(begun.elapsed()));
        }
    };
    if job == "parse" {
        return each_unit(stream, |_| {
            wait(count);
            count += 1;
            Ok(())
        });
    }
    if job == "floor" {
        return floor(stream, file, to, wait);
    }
    let mut options = rtp::SenderOptions::default();
    if spread == "burst" {
        options = options.spread(Duration::ZERO);
    }
    let mut sender = rtp::Sender::new(Codec::H264, options)?;
    let ids = to.iter().map(|to| Ok(sender.add(to.parse()?)?)).collect::<Result<Vec<_>>>()?;
    let options = WriterOptions::default();
    let mut writer = match container.as_str() {
        "mp4" => Movie::Mp4(mp4::Writer::create(file, options)?),
        _ => Movie::Matroska(matroska::Writer::create(file, options)?),
    };
    let mut sets = None;
    let (calls, cpu) = (syscalls(), process_cpu_time());
    each_unit(stream, |unit| {
        wait(count);
        let time = FRAME * count;
        let meta = PacketMeta::new(Codec::H264, SIZE, count.into(), time.as_nanos() as u64);
        let packet = Packet::new(meta, unit, sets.take());
        sets = packet.parameter_sets().cloned();
        writer.write(&packet)?;
        let _ = sender.try_submit(packet)?;
        // Until the frame is sent, or a tenth of a second passed.
        let end = Instant::now() + Duration::from_millis(100);
        while let (true, Some(left)) = (sender.is_sending(), end.checked_duration_since(Instant::now())) {
            let _ = sender.recv(left)?;
        }
        count += 1;
        Ok(())
    })?;
    let (calls, cpu) = (syscalls() - calls, process_cpu_time().saturating_sub(cpu));
    let frames = writer.finish()?.packets;
    let stats: Vec<_> = ids.into_iter().filter_map(|id| sender.stats(id)).collect();
    if frames != u64::from(count) || stats.iter().any(|s| s.dropped > 0) {
        return Err(format!("{frames} of {count} frames recorded; {stats:?}").into());
    }
    if std::env::var_os("FRAMELEASE_BENCH_VERBOSE").is_some() {
        let each = f64::from(count.max(1));
        println!("  in it: {:.1} system calls, {:.1} us a frame", calls as f64 / each, cpu.as_secs_f64() * 1e6 / each);
    }
    Ok(())
}

/// The same bytes in as few system calls, with nothing of what makes them Matroska or RTP.
fn floor(stream: std::fs::File, file: &str, to: &[String], wait: impl Fn(u32)) -> Result<()> {
    let mut file = std::fs::File::create(file)?;
    let mut sockets = Vec::new();
    for to in to {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(to)?;
        sockets.push(socket);
    }
    let mut count = 0;
    each_unit(stream, |unit| {
        wait(count);
        count += 1;
        file.write_all(unit)?;
        for socket in &sockets {
            // 45 of them are less than the 64 KiB that a call takes.
            for piece in unit.chunks(45 * DATAGRAM) {
                let segments = [ControlMessage::UdpGsoSegments(&(DATAGRAM as u16))];
                sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(piece)], &segments, MsgFlags::empty(), None)?;
            }
        }
        Ok(())
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Microseconds a frame: all of it, parsing alone, the difference; and which share of the bytes was received.
struct Figure {
    contender: Contender,
    whole: f64,
    parse: f64,
    net: f64,
    received: f64,
}

fn measure(row: &Row, folder: &Path, contenders: &[Contender]) -> Result<Vec<Figure>> {
    let stream = stream(folder, row.frames)?;
    let bytes = std::fs::metadata(&stream)?.len() as f64;
    println!(
        "{}: {} frames, {:.2} Mbit/s, median of {} turns",
        row.name,
        row.frames,
        bytes * 8.0 * 30.0 / row.frames as f64 / 1e6,
        row.turns
    );
    let mut got: Vec<[Vec<f64>; 3]> = contenders.iter().map(|_| Default::default()).collect();
    for turn in 0..row.turns {
        for i in 0..contenders.len() {
            // The order rotates, so that none always runs first.
            let at = (i + turn) % contenders.len();
            let (contender, file) = (contenders[at], folder.join("record.mkv"));
            let mut attempts = 0;
            let (whole, parse, received) = loop {
                let receivers = Receivers::new()?;
                let _ = std::fs::remove_file(&file);
                let parse = run(contender.command(row, &stream, &file, &receivers.to, false))?;
                let whole = run(contender.command(row, &stream, &file, &receivers.to, true))?;
                std::thread::sleep(Duration::from_millis(50));
                let received = receivers.bytes.load(Ordering::Relaxed) as f64;
                let recorded = std::fs::metadata(&file)?.len() as f64 / bytes;
                if (0.99..1.05).contains(&recorded) {
                    break (whole, parse, received);
                }
                // gst-launch ends at times without having begun, and reports success.
                let what = format!("{} recorded {recorded:.2} of the stream", contender.name());
                attempts += 1;
                if contender.is_child() || attempts == 5 {
                    return Err(what.into());
                }
                println!("REPEATED: {what}");
            };
            got[at][0].push(whole / row.frames as f64);
            got[at][1].push(parse / row.frames as f64);
            got[at][2].push(received / bytes / RECEIVERS as f64);
        }
    }
    let figure = |(contender, [whole, parse, received]): (&Contender, [Vec<f64>; 3])| {
        let net = median(whole.iter().zip(&parse).map(|(w, p)| w - p).collect());
        let (whole, parse, received) = (median(whole), median(parse), median(received));
        Figure { contender: *contender, whole, parse, net, received }
    };
    Ok(contenders.iter().zip(got).map(figure).collect())
}

fn report(row: &Row, figures: &[Figure], json: &mut String) {
    println!("| {} | whole, us | parsing alone | difference | received |", row.name);
    println!("|---|---|---|---|---|");
    for f in figures {
        let name = f.contender.name();
        // In a short run, parsing alone may have cost more than all.
        let net = if f.net > 0.0 { format!("{:.1}", f.net) } else { "run too short".into() };
        println!("| {name} | {:.1} | {:.1} | {net} | {:.3} |", f.whole, f.parse, f.received);
        let _ = write!(
            json,
            "{}\n  {{\"row\": \"{}\", \"contender\": \"{name}\", \"whole_us\": {:.2}, \"parse_us\": {:.2}, \
             \"difference_us\": {:.2}, \"received\": {:.4}}}",
            if json.is_empty() { "" } else { "," },
            row.name,
            f.whole,
            f.parse,
            f.net,
            f.received
        );
    }
    for ours in figures.iter().filter(|f| f.contender.is_ours()) {
        for rival in figures.iter().filter(|f| !f.contender.is_ours()) {
            let has_both = ours.net > 0.0 && rival.net > 0.0;
            let net = if has_both { format!(", difference {:.2}", ours.net / rival.net) } else { String::new() };
            let (whole, name) = (ours.whole / rival.whole, ours.contender.name());
            println!("{name} to {}: {whole:.2}{net}", rival.contender.name());
        }
    }
    println!();
}

/// `is_whole`: the figures are kept.
fn compare(rows: &[Row], is_whole: bool) -> Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sinks");
    std::fs::create_dir_all(&folder)?;
    let there = |program: &str, args: &[&str]| {
        let out = Command::new(program).args(args).stdin(Stdio::null()).output();
        let is_there = out.is_ok_and(|out| out.status.success());
        if !is_there {
            println!("NOT MEASURED: {program} {} does not work here", args.join(" "));
        }
        is_there
    };
    if !there("ffmpeg", &["-version"]) {
        println!("It makes the stream: nothing can be measured.");
        return Ok(());
    }
    let needed = ["h264parse", "h264timestamper", "matroskamux", "rtph264pay", "udpsink", "multiudpsink"];
    let has_gstreamer = there("gst-launch-1.0", &["--version"])
        && needed.iter().all(|element| there("gst-inspect-1.0", &["--exists", element]));
    let mut json = String::new();
    for row in rows {
        let mut contenders = vec![Contender::Floor, Contender::Ours, Contender::OursMp4];
        if row.is_paced {
            contenders.push(Contender::OursSpread);
        }
        contenders.push(Contender::Ffmpeg);
        if has_gstreamer {
            contenders.extend([Contender::GStreamer, Contender::GStreamerMulti]);
        }
        report(row, &measure(row, &folder, &contenders)?, &mut json);
    }
    if is_whole {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("sinks.json");
        std::fs::write(&path, format!("[{json}\n]\n"))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--child") => child(&args[1..]),
        _ if args.iter().any(|a| a == "--bench") && !args.iter().any(|a| a == "--quick") => compare(&ROWS, true),
        // Also `cargo test --benches`.
        _ => compare(&QUICK, false),
    }
}
