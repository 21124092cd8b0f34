//! Streams of ffmpeg's encoders as packets, and other programs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use framelease::bitstream::{AccessUnitSplitter, Codec};
use framelease::format::{FrameInterval, Size};
use framelease::frame::{FrameFlags, Packet, PacketMeta};
use framelease::sink::WriterOptions;

pub const SIZE: Size = Size::new(320, 180);
/// In RTP, the sides of a JPEG picture are counted in blocks of 8.
pub const JPEG_SIZE: Size = Size::new(320, 176);
pub const FRAME_NS: u64 = 40_000_000;

/// A folder that is removed when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("framelease-sink-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns a program's output. Prints a skip if the program is missing.
pub fn program(name: &str, args: &[&str], input: &[u8]) -> Option<Output> {
    let child =
        Command::new(name).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => {
            // Not `eprintln!`, which the test harness captures.
            let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {e}");
            return None;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It may end before it has read everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        Some(child.wait_with_output().unwrap())
    })
}

/// Returns the standard output of a program that must succeed without an error message.
pub fn clean(name: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let out = program(name, args, input)?;
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.trim().is_empty(), "{name} {args:?}: {} {said}", out.status);
    Some(out.stdout)
}

/// Makes the names and addresses of a test's own links. No process receives at their other ends.
const LINKS: &str = "set -e; ip link set lo up; \
    for i in 0 1; do \
        ip link add cam$i type veth peer name far$i; \
        ip addr add 10.99.$i.1/24 dev cam$i; \
        ip link set cam$i up; ip link set far$i up; \
    done; \
    ip route add 224.0.0.0/4 dev cam0; \
    exec \"$@\"";

const INSIDE: &str = "FRAMELEASE_OWN_NETWORK";

/// Returns `true` if the test is to continue here: in its own network namespace, which has links `cam0` and `cam1` and
/// a route for groups to `cam0`. The first call starts such a process for the test of this name, and checks its result.
/// Without namespaces it prints a skip, and the test uses the links of this machine.
pub fn has_own_network(test: &str) -> bool {
    if is_in_own_network() {
        return true;
    }
    let wrap = ["-Urn", "sh", "-c", LINKS, "sh"];
    let can = program("unshare", &[&wrap[..], &["true"]].concat(), &[]);
    if !can.is_some_and(|out| out.status.success()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED a network of {test}'s own: no namespaces, or no ip, here");
        return true;
    }
    let own = std::env::current_exe().unwrap();
    let out = Command::new("unshare").args(wrap).arg(own).args(["--exact", test]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let _ = std::io::stderr().write_all(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "in a network of its own: {said}");
    false
}

/// Returns `true` if `cam0` and `cam1` exist.
pub fn is_in_own_network() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// ffmpeg's name for the format of a stream.
pub fn format(codec: Codec) -> &'static str {
    name(codec).1
}

fn name(codec: Codec) -> (&'static str, &'static str, &'static [&'static str]) {
    match codec {
        Codec::H264 => ("libx264", "h264", &["-bf", "0", "-x264-params", "keyint=10:scenecut=0"]),
        Codec::Hevc => ("libx265", "hevc", &["-x265-params", "keyint=10:bframes=0:scenecut=0:log-level=none"]),
        Codec::Mjpeg => ("mjpeg", "mjpeg", &["-huffman", "default", "-q:v", "5"]),
        _ => ("libvpx", "ivf", &["-g", "10", "-deadline", "realtime"]),
    }
}

/// A stream of `frames` coded frames, a key frame every tenth. In Motion JPEG, each is a key frame.
pub fn stream(codec: Codec, frames: usize, size: Size) -> Option<Vec<u8>> {
    stream_with(codec, frames, size, &[])
}

/// The same with more arguments for the encoder.
pub fn stream_with(codec: Codec, frames: usize, size: Size, last: &[&str]) -> Option<Vec<u8>> {
    let (encoder, format, more) = name(codec);
    let source = format!("testsrc2=size={size}:rate=25");
    let count = frames.to_string();
    let mut args = vec!["-v", "error", "-f", "lavfi", "-i", &source, "-frames:v", &count];
    let format_of_pixels = if codec == Codec::Mjpeg { "yuvj420p" } else { "yuv420p" };
    args.extend(["-pix_fmt", format_of_pixels, "-c:v", encoder]);
    args.extend(more);
    args.extend(last);
    args.extend(["-f", format, "-"]);
    let out = program("ffmpeg", &args, &[])?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(out.stdout)
}

/// The frames of a stream, 40 ms apart.
pub fn packets(codec: Codec, stream: &[u8], size: Size) -> Vec<Packet> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    if codec == Codec::Mjpeg {
        // The end marker cannot be within the pictures of ffmpeg.
        for byte in stream {
            match units.last_mut().filter(|unit| !unit.ends_with(&[0xff, 0xd9])) {
                Some(unit) => unit.push(*byte),
                None => units.push(vec![*byte]),
            }
        }
    } else if codec == Codec::Vp8 {
        let mut at = 32;
        while let Some(head) = stream.get(at..at + 12) {
            let bytes = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
            units.push(stream[at + 12..at + 12 + bytes].to_vec());
            at += 12 + bytes;
        }
    } else {
        let mut cutter = AccessUnitSplitter::new(codec, 1 << 20);
        for piece in stream.chunks(1000) {
            cutter.push(piece);
            while let Some(unit) = cutter.next_unit().unwrap() {
                units.push(unit.to_vec());
            }
        }
        units.push(cutter.finish());
    }
    let mut sets = None;
    let packet = |(i, unit): (usize, Vec<u8>)| {
        let meta = PacketMeta::new(codec, size, i as u64, 5_000_000_000 + i as u64 * FRAME_NS);
        let packet = Packet::new(meta, unit, sets.clone());
        sets = packet.parameter_sets().cloned();
        packet
    };
    units.into_iter().enumerate().map(packet).collect()
}

/// A checksum for each frame that ffmpeg decodes from a file or, for `-`, from standard input.
pub fn frame_sums(file: &str, format: Option<&str>, input: &[u8]) -> Option<Vec<String>> {
    let mut args = vec!["-v", "error"];
    if let Some(format) = format {
        args.extend(["-f", format]);
    }
    args.extend(["-i", file, "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let out = clean("ffmpeg", &args, input)?;
    let text = String::from_utf8(out).unwrap();
    Some(text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit(", ").next().unwrap().to_owned()).collect())
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The longest run of frames in the order of the stream, which may wrap from its end to its beginning. A busy machine
/// may lose a datagram in the receiver's buffer, and then the frames up to a key frame.
pub fn run(sums: &[String], of: &[String]) -> usize {
    let is_next = |pair: &[String]| (0..of.len()).any(|i| of[i] == pair[0] && of[(i + 1) % of.len()] == pair[1]);
    let mut longest = 0;
    let mut now = 1;
    for pair in sums.windows(2) {
        now = if is_next(pair) { now + 1 } else { 1 };
        longest = longest.max(now);
    }
    longest
}

pub fn options() -> WriterOptions {
    WriterOptions::default().interval(FrameInterval::from_fps(25))
}

/// A stream with B-frames, an open GOP every tenth frame in H.265. The packets have the times of ffmpeg.
pub fn reordered(folder: &Folder, codec: Codec) -> Option<Vec<Packet>> {
    reordered_with(folder, codec, "b-pyramid=normal")
}

/// The same with another parameter of x264.
pub fn reordered_with(folder: &Folder, codec: Codec, last: &str) -> Option<Vec<Packet>> {
    let x264 = format!("keyint=10:scenecut=0:bframes=3:b-adapt=0:{last}");
    let (encoder, parameters) = match codec {
        Codec::H264 => ("libx264", ["-x264-params", &x264]),
        _ => ("libx265", ["-x265-params", "keyint=10:scenecut=0:bframes=3:b-adapt=0:open-gop=1:log-level=none"]),
    };
    let path = folder.path("b.mp4");
    let source = format!("testsrc2=size={SIZE}:rate=25");
    let args = ["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-frames:v", "45", "-pix_fmt", "yuv420p"];
    clean("ffmpeg", &[&args[..], &["-c:v", encoder], &parameters, &[text(&path)]].concat(), &[])?;
    let filter = if codec == Codec::H264 { "h264_mp4toannexb" } else { "hevc_mp4toannexb" };
    let args = ["-v", "error", "-i", text(&path), "-c", "copy", "-bsf:v", filter, "-f", format(codec), "-"];
    let stream = clean("ffmpeg", &args, &[])?;
    let times = times(&path)?;
    let packets = packets(codec, &stream, SIZE);
    assert_eq!(packets.len(), times.len());
    Some(packets.iter().zip(&times).map(|(packet, &time)| at(packet, 1000 + time)).collect())
}

pub fn with(packet: &Packet, change: impl FnOnce(&mut PacketMeta)) -> Packet {
    let mut meta = *packet.meta();
    change(&mut meta);
    Packet::new(meta, packet.bytes(), packet.parameter_sets().cloned())
}

pub fn at(packet: &Packet, milliseconds: u64) -> Packet {
    with(packet, |meta| meta.timestamp_ns = milliseconds * 1_000_000)
}

pub fn damaged(packet: &Packet) -> Packet {
    with(packet, |meta| meta.flags = FrameFlags::ERROR)
}

/// Times of a file's packets in milliseconds.
pub fn times(path: &Path) -> Option<Vec<u64>> {
    let args = ["-v", "error", "-show_entries", "packet=pts_time", "-of", "csv=p=0", text(path)];
    let text = String::from_utf8(clean("ffprobe", &args, &[])?).unwrap();
    Some(text.lines().map(|l| (l.trim_end_matches(',').parse::<f64>().unwrap() * 1000.0).round() as u64).collect())
}

/// Runs a test of this program in a child process, which `wrap` may start in another environment. Returns `true` in
/// that process.
pub fn alone(test: &str, wrap: &[&str]) -> bool {
    const CHILD: &str = "FRAMELEASE_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let args = [wrap, &[text(&program), "--exact", test, "--nocapture"]].concat();
    let out = Command::new(args[0]).args(&args[1..]).env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
    false
}
