//! Coded streams in memory, made by ffmpeg's encoders.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use framelease::bitstream::{AccessUnitSplitter, Codec};
use framelease::format::Size;
use framelease::frame::{Packet, PacketMeta};

use super::change::{Change, Unit};
use super::recipe::Part;
use crate::decode::{self, format};
use crate::Res;

pub const FRAME_MS: u64 = 40;

/// What an encoder made: its packets, and the time of each in milliseconds.
#[derive(Clone, Default)]
pub struct Made {
    pub packets: Vec<Vec<u8>>,
    pub times: Vec<u64>,
    pub size: (u32, u32),
}

impl Made {
    /// Runs ffmpeg. Its packets are those of the encoder, and so are their times.
    pub fn encode(codec: Codec, part: &Part) -> Res<Self> {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let base = format!("framelease-corpus-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let base = std::env::temp_dir().join(base);
        let (stream, list) = (base.with_extension("stream"), base.with_extension("list"));
        let encoder = match codec {
            Codec::H264 => "libx264",
            Codec::Hevc => "libx265",
            Codec::Mjpeg => "mjpeg",
            _ => "libvpx",
        };
        let (width, height) = part.size;
        let mut command = Command::new("ffmpeg");
        // The source has no odd sizes.
        let source = format!("testsrc2=size={}x{}:rate=25", width.max(16), height.max(16));
        command.args(["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-vf", &format!("scale={width}:{height}")]);
        command.args(["-frames:v", &part.frames.to_string(), "-pix_fmt", part.pixels, "-c:v", encoder]);
        command.args(part.args.split_whitespace()).args(["-map", "0:v", "-f", "tee"]);
        command.arg(format!("[f={}]{}|[f=framecrc]{}", format(codec), stream.display(), list.display()));
        let done = decode::output(&mut command, &[]);
        let (bytes, list_text) = (std::fs::read(&stream), std::fs::read_to_string(&list));
        let _ = (std::fs::remove_file(&stream), std::fs::remove_file(&list));
        done?;
        let bytes = bytes.map_err(|e| e.to_string())?;
        // Stream, decoding time, presentation time in frames, duration, bytes, checksum.
        let column = |line: &str, n: usize| line.split(',').nth(n).and_then(|n| n.trim().parse::<i64>().ok());
        let text = list_text.map_err(|e| e.to_string())?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let times: Vec<i64> = lines.iter().filter_map(|line| column(line, 2)).collect();
        let least = times.iter().copied().min().unwrap_or(0);
        let mut packets = Vec::new();
        if codec == Codec::Vp8 {
            let mut rest = bytes.get(32..).unwrap_or(&[]);
            while let Some((head, body)) = rest.split_first_chunk::<12>() {
                let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
                let (packet, after) = body.split_at(len.min(body.len()));
                packets.push(packet.to_vec());
                rest = after;
            }
        } else {
            let mut rest = &bytes[..];
            for bytes in lines.iter().filter_map(|line| column(line, 4)) {
                let (packet, after) = rest.split_at((bytes as usize).min(rest.len()));
                packets.push(packet.to_vec());
                rest = after;
            }
        }
        let times = times.iter().map(|time| (time - least) as u64 * FRAME_MS).collect();
        Ok(Self { packets, times, size: part.size })
    }

    pub fn changed(mut self, codec: Codec, change: Change) -> Self {
        for (index, packet) in self.packets.iter_mut().enumerate() {
            *packet = change(Unit::of(codec, index, packet));
        }
        self
    }

    /// The stream as it is in a file, for a decoder.
    pub fn file(&self, codec: Codec) -> Vec<u8> {
        match codec {
            Codec::Vp8 => {
                ivf(self.size, self.packets.iter().zip(&self.times).map(|(packet, time)| (&packet[..], *time)))
            }
            _ => self.packets.concat(),
        }
    }

    /// The stream as packets of the library. H.264 and H.265 are split by the library, from pieces of 1000 bytes.
    pub fn split(&self, codec: Codec) -> Res<Vec<Packet>> {
        let units = if codec.has_nal_units() {
            let mut splitter = AccessUnitSplitter::new(codec, 32 << 20);
            let mut units = Vec::new();
            for piece in self.packets.concat().chunks(1000) {
                splitter.push(piece);
                while let Some(unit) = splitter.next_unit().map_err(|e| e.to_string())? {
                    units.push(unit.to_vec());
                }
            }
            units.push(splitter.finish());
            units
        } else {
            self.packets.clone()
        };
        if units.len() != self.packets.len() {
            return Err(format!("{} access units of {} packets of the encoder", units.len(), self.packets.len()));
        }
        let mut sets = None;
        let size = Size::new(self.size.0, self.size.1);
        let packet = |(i, (unit, time)): (usize, (Vec<u8>, &u64))| {
            let meta = PacketMeta::new(codec, size, i as u64, (5000 + time) * 1_000_000);
            let packet = Packet::new(meta, unit, sets.clone());
            sets = packet.parameter_sets().cloned();
            packet
        };
        Ok(units.into_iter().zip(&self.times).enumerate().map(packet).collect())
    }
}

/// An IVF file of VP8 frames.
pub fn ivf<'a>(size: (u32, u32), frames: impl Iterator<Item = (&'a [u8], u64)>) -> Vec<u8> {
    let mut out = [&b"DKIF"[..], &[0, 0, 32, 0], b"VP80"].concat();
    out.extend((size.0 as u16).to_le_bytes());
    out.extend((size.1 as u16).to_le_bytes());
    // Times are in milliseconds. The number of frames may be anything.
    out.extend([1000u32, 1, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    for (frame, time) in frames {
        out.extend((frame.len() as u32).to_le_bytes());
        out.extend(time.to_le_bytes());
        out.extend_from_slice(frame);
    }
    out
}
