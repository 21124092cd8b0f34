//! A receiver of RTP with H.264 (RFC 6184): counts frames and keeps them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::Res;

/// Of RTP timestamps, a second.
const CLOCK: f64 = 90_000.0;

/// Receives in a thread.
pub struct Receiver {
    pub port: u16,
    has_frames: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Stream>,
}

impl Receiver {
    pub fn start(port: u16) -> Res<Self> {
        let open = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            Ok(socket)
        };
        let socket = open().map_err(|e| format!("UDP port {port}: {e}"))?;
        let (has_frames, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (Arc::clone(&has_frames), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut stream, mut buffer) = (Stream::default(), vec![0; 1 << 16]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(n) => stream.add(&buffer[..n], Instant::now()),
                    Err(_) if stopped.load(Ordering::Relaxed) => return stream,
                    Err(_) => {}
                }
                if !stream.frames.is_empty() {
                    seen.store(true, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { port, has_frames, stop, thread })
    }

    pub fn has_frames(&self) -> bool {
        self.has_frames.load(Ordering::Relaxed)
    }

    pub fn finish(self) -> Stream {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// What has come.
#[derive(Default)]
pub struct Stream {
    /// Arrival and timestamp of the last packet of each frame.
    frames: Vec<(Instant, u32)>,
    sequence: Option<u16>,
    lost_packets: u64,
    packets: u64,
    malformed: u64,
    /// Annex B, up to the end of the last frame at `whole`.
    bytes: Vec<u8>,
    whole: usize,
}

impl Stream {
    fn add(&mut self, packet: &[u8], now: Instant) {
        let Some((&[0x80, kind, s0, s1, t0, t1, t2, t3, _, _, _, _], payload @ [_, ..])) = packet.split_first_chunk()
        else {
            self.malformed += 1;
            return;
        };
        let sequence = u16::from_be_bytes([s0, s1]);
        if let Some(before) = self.sequence.replace(sequence) {
            self.lost_packets += u64::from(sequence.wrapping_sub(before).wrapping_sub(1));
        }
        self.packets += 1;
        if !self.unpack(payload) {
            self.malformed += 1;
        }
        if kind & 0x80 != 0 {
            self.frames.push((now, u32::from_be_bytes([t0, t1, t2, t3])));
            self.whole = self.bytes.len();
        }
    }

    /// Appends the units of a payload; `false` if it is damaged.
    fn unpack(&mut self, payload: &[u8]) -> bool {
        let start = [0, 0, 0, 1];
        match (payload[0] & 31, payload) {
            (24, [_, units @ ..]) => {
                let mut rest = units;
                while let [high, low, more @ ..] = rest {
                    let Some((unit, after)) = more.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
                    else {
                        return false;
                    };
                    self.bytes.extend(start);
                    self.bytes.extend_from_slice(unit);
                    rest = after;
                }
                rest.is_empty()
            }
            (28, [indicator, header, part @ ..]) => {
                if header & 0x80 != 0 {
                    self.bytes.extend(start);
                    self.bytes.push(indicator & 0xe0 | header & 31);
                }
                self.bytes.extend_from_slice(part);
                true
            }
            (1..=23, unit) => {
                self.bytes.extend(start);
                self.bytes.extend_from_slice(unit);
                true
            }
            _ => false,
        }
    }

    pub fn write(&self, path: &Path) -> Res<()> {
        let write = || -> io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            file.write_all(&self.bytes[..self.whole])?;
            file.flush()
        };
        write().map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Of the frames that came in this time.
    pub fn figures(&self, from: Instant, to: Instant, interval: Duration) -> Value {
        let first = self.frames.iter().take_while(|(at, _)| *at < from).count();
        let within: Vec<u32> = self.frames[first..].iter().take_while(|(at, _)| *at < to).map(|f| f.1).collect();
        json!({
            "first": first,
            "frames": within.len(),
            "lost": gaps(&within, interval),
            "lost_packets": self.lost_packets,
            "malformed": self.malformed,
            "packets": self.packets,
            "bytes": self.whole,
            "all_frames": self.frames.len(),
        })
    }
}

/// Frames that timestamps at this interval lack.
fn gaps(timestamps: &[u32], interval: Duration) -> u64 {
    let step = interval.as_secs_f64() * CLOCK;
    let missing = |w: &[u32]| (f64::from(w[1].wrapping_sub(w[0])) / step).round() as u64;
    timestamps.windows(2).map(|w| missing(w).saturating_sub(1)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(marker: bool, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80, 96 | if marker { 0x80 } else { 0 }];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn units_are_put_together() {
        let (mut stream, now) = (Stream::default(), Instant::now());
        stream.add(&packet(false, 65535, 1, &[24, 0, 2, 0x67, 1, 0, 1, 0x68]), now);
        stream.add(&packet(false, 0, 1, &[0x7c, 0x85, 7]), now);
        stream.add(&packet(true, 1, 1, &[0x7c, 0x45, 8]), now);
        // A packet is missing before this one, which is not the last of its frame.
        stream.add(&packet(false, 3, 2, &[0x41, 9]), now);
        stream.add(&[0x80; 5], now);
        assert_eq!(stream.bytes[..stream.whole], [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 7, 8]);
        assert_eq!((stream.frames.len(), stream.lost_packets, stream.malformed), (1, 1, 1));
    }

    #[test]
    fn gaps_are_lost_frames() {
        let second = Duration::from_secs(1);
        assert_eq!(gaps(&[0, 90_100, 179_900, 270_000], second), 0);
        assert_eq!(gaps(&[u32::MAX - 10, 90_000, 360_000], second), 2);
        assert_eq!(gaps(&[], second), 0);
    }
}
