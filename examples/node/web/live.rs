//! The picture for one browser: fragmented MP4, a fragment for each frame.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use framelease::frame::Packet;
use framelease::sink::{mp4, WriterOptions, Written};

use super::request::head;

/// Bytes of a stream, until they are taken.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<u8>>>);

impl Taken {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

impl Write for Taken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Live {
    writer: Option<mp4::Writer>,
    taken: Taken,
    takes_chunks: bool,
    /// Frames are left out up to a key frame.
    skips: bool,
    /// The time of the latest frame, and the time to it from the one before.
    latest_ns: u64,
    step_ns: u64,
    /// A key frame ends the wait of a player after a gap.
    has_gap: bool,
    pub frames: u64,
    pub dropped: u64,
}

/// What becomes of a packet.
pub enum Sent {
    Bytes(Vec<u8>),
    Nothing,
    /// The answer ends with these bytes. The page asks again.
    End(Vec<u8>),
}

impl Live {
    pub fn new(takes_chunks: bool) -> Self {
        Self {
            writer: None,
            taken: Taken::default(),
            takes_chunks,
            skips: true,
            latest_ns: 0,
            step_ns: 0,
            has_gap: false,
            frames: 0,
            dropped: 0,
        }
    }

    pub fn awaits_key(&self) -> bool {
        self.skips || self.has_gap
    }

    /// Returns the bytes of a packet. `has_room`: the browser has taken what it got before.
    pub fn push(&mut self, packet: &Packet, has_room: bool) -> Sent {
        self.skips |= !has_room;
        if self.skips && !(has_room && packet.can_begin()) {
            // Those before the first one are not missing.
            self.dropped += u64::from(self.writer.is_some());
            return Sent::Nothing;
        }
        let is_first = self.writer.is_none();
        let (taken, options) = (self.taken.clone(), WriterOptions::default());
        let writer = self.writer.get_or_insert_with(|| mp4::Writer::live(taken, options));
        match writer.write(packet) {
            Ok(Written::Stored) => {}
            Ok(Written::OtherStream) => return self.end(),
            Ok(_) => return Sent::Nothing,
            Err(e) if is_first => {
                let text = format!("{e}\n");
                let length = format!("Content-Length: {}\r\n", text.len());
                return Sent::End((head(501, "text/plain; charset=utf-8", &length) + &text).into());
            }
            Err(_) => return self.end(),
        }
        self.note_gap(packet);
        self.skips = false;
        self.frames += 1;
        let body = self.taken.take();
        let mut out = Vec::with_capacity(body.len() + 512);
        if is_first {
            let kind = writer_type(self.writer.as_ref());
            let length = if self.takes_chunks { "Transfer-Encoding: chunked\r\n" } else { "" };
            out.extend(head(200, &kind, length).into_bytes());
        }
        match self.takes_chunks {
            true => {
                out.extend(format!("{:x}\r\n", body.len()).into_bytes());
                out.extend(body);
                out.extend(b"\r\n");
            }
            false => out.extend(body),
        }
        Sent::Bytes(out)
    }

    /// Browsers wait for a key frame where a frame is later than twice the duration of the one before.
    fn note_gap(&mut self, packet: &Packet) {
        let time_ns = packet.meta().timestamp_ns;
        let step_ns = time_ns.saturating_sub(self.latest_ns);
        self.has_gap = !packet.is_key() && (self.has_gap || self.step_ns > 0 && step_ns > self.step_ns * 2);
        (self.latest_ns, self.step_ns) = (time_ns, if self.frames == 0 { 0 } else { step_ns });
    }

    fn end(&self) -> Sent {
        Sent::End(if self.takes_chunks { b"0\r\n\r\n".to_vec() } else { Vec::new() })
    }
}

fn writer_type(writer: Option<&mp4::Writer>) -> String {
    writer.and_then(mp4::Writer::media_type).unwrap_or("video/mp4").to_owned()
}
