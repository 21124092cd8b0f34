//! CPU time of one decoded 1080p picture of Motion JPEG, beside a copy of the decoded picture, ffmpeg and GStreamer in
//! the same run. `docs/performance.md` says how to read it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::codec::{DecoderEvent, JpegDecoder};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::frame::{Frame, Packet, PacketMeta};
use framelease::stats::process_cpu_time;
use framelease::{Station, Submit};
use nix::sys::resource::{getrusage, UsageWho};
use nix::sys::time::TimeValLike;

const SIZE: Size = Size::new(1920, 1080);
/// Different pictures in a stream.
const PICTURES: usize = 30;
/// Times that a turn decodes each of them.
const ROUNDS: u32 = 3;
/// Turns of the comparison. Medians are shown.
const TURNS: usize = 5;

/// Returns a stream of different pictures with some noise, by ffmpeg. A camera's pictures have about as many bytes.
fn stream(format: &str, noise: u32) -> Option<Vec<u8>> {
    let source = format!("testsrc2=size={SIZE}:rate=30,noise=alls={noise}:allf=t,format={format}");
    let count = PICTURES.to_string();
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", &source, "-frames:v", &count, "-c:v", "mjpeg"]);
    let out =
        command.args(["-huffman", "default", "-q:v", "4", "-f", "mjpeg", "-"]).stdin(Stdio::null()).output().ok()?;
    out.status.success().then_some(out.stdout)
}

/// Returns the pictures of a stream. ffmpeg writes the end marker at their ends only.
fn packets(stream: &[u8]) -> Vec<Packet> {
    let ends = (2..=stream.len()).filter(|&end| stream[end - 2..end] == [0xff, 0xd9]);
    let mut start = 0;
    ends.map(|end| {
        let picture = &stream[std::mem::replace(&mut start, end)..end];
        Packet::new(PacketMeta::new(Codec::Mjpeg, SIZE, 0, 0), picture, None)
    })
    .collect()
}

fn decoded(decoder: &mut JpegDecoder, packet: &Packet) -> Frame {
    assert!(decoder.try_submit(packet.clone()).expect("a picture of ffmpeg").is_taken());
    loop {
        match decoder.try_recv().expect("no device").item() {
            Some(DecoderEvent::Frame(frame)) => return frame,
            Some(_) => {}
            None => panic!("no frame"),
        }
    }
}

fn cpu_of_each(rounds: u32, mut turn: impl FnMut()) -> Duration {
    let before = process_cpu_time();
    (0..rounds).for_each(|_| turn());
    (process_cpu_time() - before) / rounds / PICTURES as u32
}

fn ours(decoder: &mut JpegDecoder, packets: &[Packet]) -> Duration {
    cpu_of_each(ROUNDS, || packets.iter().for_each(|packet| drop(decoded(decoder, packet))))
}

/// What it costs to read the decoded pictures once.
fn copy(frame: &Frame, to: &mut Vec<u8>) -> Duration {
    cpu_of_each(ROUNDS, || {
        for _ in 0..PICTURES {
            to.clear();
            frame.read(DEFAULT_WAIT).expect("memory").write_to(&mut *to).expect("a vector");
        }
    })
}

/// CPU time of all children until now.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("a valid argument");
    Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds().unsigned_abs())
}

/// CPU time of a program. `None` if it cannot be run.
fn cpu_of(program: &str, line: &str) -> Option<Duration> {
    let before = children();
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().ok()?.success().then(|| children() - before)
}

/// CPU time of a picture by another program in one thread: with its decoder less without it.
fn other(program: &str, with: &str, without: &str) -> Option<Duration> {
    let decoding = cpu_of(program, with)?;
    Some(decoding.saturating_sub(cpu_of(program, without)?) / ROUNDS / PICTURES as u32)
}

fn ffmpeg(file: &Path) -> Option<Duration> {
    let read = format!("-v error -threads 1 -f mjpeg -i {}", file.display());
    other("ffmpeg", &format!("{read} -f null -"), &format!("{read} -c copy -f null -"))
}

fn gstreamer(file: &Path) -> Option<Duration> {
    let read = format!("-q filesrc location={} ! jpegparse", file.display());
    other("gst-launch-1.0", &format!("{read} ! jpegdec ! fakesink"), &format!("{read} ! fakesink"))
}

fn median(mut values: Vec<Duration>) -> Option<Duration> {
    values.sort();
    values.get(values.len() / 2).copied()
}

/// A file with all rounds of a stream, which is removed at the end.
struct Rounds(PathBuf);

impl Rounds {
    fn new(stream: &[u8]) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("framelease-bench-{}.mjpeg", std::process::id()));
        std::fs::write(&path, stream.repeat(ROUNDS as usize))?;
        Ok(Self(path))
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn main() -> std::io::Result<()> {
    // `cargo test --benches`, and a short run.
    let is_short = std::env::args().all(|a| a != "--bench") || std::env::args().any(|a| a == "--quick");
    let turns = if is_short { 1 } else { TURNS };
    println!("CPU time of one {SIZE} picture in us, one thread, median of {turns} turns that alternate:");
    println!("{:24} {:>10} {:>10} {:>8} {:>8} {:>9}", "", "framelease", "frames/s", "copy", "ffmpeg", "GStreamer");
    for (name, format, noise) in [
        ("4:2:0", "yuvj420p", 0),
        ("4:2:2", "yuvj422p", 0),
        ("4:2:0 with noise", "yuvj420p", 12),
        ("4:2:2 with noise", "yuvj422p", 12),
    ]
    .into_iter()
    .take(if is_short { 1 } else { 4 })
    {
        let Some(stream) = stream(format, noise) else {
            println!("{name:24} not here: ffmpeg makes the pictures");
            continue;
        };
        let packets = packets(&stream);
        assert_eq!(packets.len(), PICTURES);
        let file = Rounds::new(&stream)?;
        let mut decoder = JpegDecoder::new(&Allocator::for_cpu_source(), 2).expect("a descriptor");
        let frame = decoded(&mut decoder, &packets[0]);
        let mut to = Vec::new();
        let mut times = [(); 4].map(|()| Vec::new());
        for _ in 0..turns {
            times[0].push(ours(&mut decoder, &packets));
            times[1].push(copy(&frame, &mut to));
            times[2].extend(ffmpeg(&file.0));
            times[3].extend(gstreamer(&file.0));
        }
        let [own, copy, ffmpeg, gstreamer] = times.map(median);
        let us = |time: Option<Duration>| time.map_or("not here".to_owned(), |time| time.as_micros().to_string());
        let rate = own.map_or(0.0, |time| 1.0 / time.as_secs_f64());
        let name = format!("{name}, {} kB", stream.len() / PICTURES / 1000);
        let (ours, copy, ffmpeg, gstreamer) = (us(own), us(copy), us(ffmpeg), us(gstreamer));
        println!("{name:24} {ours:>10} {rate:>10.0} {copy:>8} {ffmpeg:>8} {gstreamer:>9}");
    }
    Ok(())
}
