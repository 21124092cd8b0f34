//! The records of a frame store: as bytes, and read from a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::dmabuf::DEFAULT_WAIT;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::Flags;
use crate::format::{ColorSpace, Colorimetry, Encoding, FourCc, Layout, Plane, Range, Size, Transfer, MAX_PLANES};
use crate::frame::{FrameFlags, FrameMeta, FrameMut, Payload};

const MAGIC: &[u8; 8] = b"FLFRAMES";
const VERSION: u32 = 1;
/// The start of the file, and of each record.
const HEAD: usize = 16;
const LAYOUT: u32 = 1;
const LAYOUT_BYTES: usize = 36 + MAX_PLANES * 16;
const FRAME: u32 = 2;
const FRAME_BYTES: usize = 24 + MAX_PLANES * 4;
/// The size of a bitstream's buffers does not follow from the picture.
const MOST_BITSTREAM: u64 = 16 << 20;
/// Bytes that are read at a time.
const STEP: usize = 1 << 17;

/// Opens a regular file, without a wait for the other end of a pipe.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> Result<File> {
    let file = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(|e| Error::io("open", &e).on(path.display()))?;
    let meta = file.metadata().map_err(|e| Error::io("fstat", &e).on(path.display()))?;
    match meta.is_file() {
        true => Ok(file),
        false => Err(Error::new(ErrorKind::WrongFile, "open", "not a regular file").on(path.display())),
    }
}

/// Numbers that are appended.
fn put(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

pub(super) fn file_head() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put(&mut out, &[VERSION, 0]);
    out
}

fn record_head(out: &mut Vec<u8>, kind: u32, bytes: u64) {
    put(out, &[kind, 0]);
    out.extend_from_slice(&bytes.to_le_bytes());
}

pub(super) fn put_layout(out: &mut Vec<u8>, layout: &Layout) {
    let (size, color) = (layout.size(), layout.colorimetry());
    record_head(out, LAYOUT, LAYOUT_BYTES as u64);
    put(out, &[layout.fourcc().into(), size.width, size.height]);
    put(out, &[color.space.to_v4l2(), color.encoding.to_v4l2(), color.range.to_v4l2(), color.transfer.to_v4l2()]);
    put(out, &[layout.memory_bytes().len() as u32, layout.planes().len() as u32]);
    put(out, &std::array::from_fn::<_, MAX_PLANES, _>(|i| layout.memory_bytes().get(i).copied().unwrap_or(0)));
    for i in 0..MAX_PLANES {
        let plane = layout.planes().get(i).copied().unwrap_or_default();
        put(out, &[plane.memory, plane.offset_bytes, plane.stride_bytes]);
    }
}

/// Appends the record without the bytes of the picture, which follow it.
pub(super) fn put_frame(out: &mut Vec<u8>, meta: &FrameMeta) {
    let picture: u64 = meta.payload.iter().map(|payload| u64::from(payload.bytes)).sum();
    record_head(out, FRAME, FRAME_BYTES as u64 + picture);
    out.extend_from_slice(&meta.sequence.to_le_bytes());
    out.extend_from_slice(&meta.timestamp_ns.to_le_bytes());
    put(out, &[meta.lost, meta.flags.bits()]);
    put(out, &meta.payload.map(|payload| payload.bytes));
}

/// The number at place `i` of a record of numbers.
fn number(bytes: &[u8], i: usize) -> u32 {
    let four = bytes.get(i * 4..i * 4 + 4).and_then(|four| four.try_into().ok());
    four.map_or(0, u32::from_le_bytes)
}

fn long(bytes: &[u8], i: usize) -> u64 {
    u64::from(number(bytes, i)) | u64::from(number(bytes, i + 1)) << 32
}

/// A frame in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredFrame {
    pub(super) layout: Layout,
    pub(super) meta: FrameMeta,
    /// Where its bytes begin.
    at: u64,
}

/// The frames of a file in their order.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    name: String,
    length: u64,
    at: u64,
    layout: Option<Layout>,
}

impl Records {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open(path, OpenOptions::new().read(true))?;
        let name = path.display().to_string();
        let mut records = Self { file, name, length: 0, at: 0, layout: None };
        let mut head = [0; HEAD];
        records.rewind()?;
        if !records.read(0, &mut head)? || !head.starts_with(MAGIC) {
            return Err(records.error(ErrorKind::WrongFile, "not a file of a FrameStore".into()));
        }
        match number(&head, 2) {
            VERSION => Ok(records),
            version => {
                let text =
                    format!("the file has version {version} of the format; this library reads version {VERSION}");
                Err(records.error(ErrorKind::Unsupported, text))
            }
        }
    }

    /// Continues with the first frame.
    pub(super) fn rewind(&mut self) -> Result<()> {
        self.length = self.file.metadata().map_err(|e| self.failed(&e))?.len();
        (self.at, self.layout) = (HEAD as u64, None);
        Ok(())
    }

    /// Returns the next frame. `None` at the end of the file, or where it was cut.
    pub(super) fn next(&mut self) -> Result<Option<StoredFrame>> {
        loop {
            let mut head = [0; HEAD];
            if !self.read(self.at, &mut head)? {
                return Ok(None);
            }
            let (kind, bytes, body) = (number(&head, 0), long(&head, 2), self.at + HEAD as u64);
            let end = body.checked_add(bytes).filter(|&end| end <= self.length);
            let Some(end) = end.filter(|_| kind != 0) else { return Ok(None) };
            match kind {
                LAYOUT if bytes == LAYOUT_BYTES as u64 => {
                    let mut fields = [0; LAYOUT_BYTES];
                    if !self.read(body, &mut fields)? {
                        return Ok(None);
                    }
                    self.layout = Some(self.layout(&fields)?);
                }
                FRAME if bytes >= FRAME_BYTES as u64 => {
                    let mut fields = [0; FRAME_BYTES];
                    if !self.read(body, &mut fields)? {
                        return Ok(None);
                    }
                    let frame = self.frame(&fields, body, bytes)?;
                    self.at = end;
                    return Ok(Some(frame));
                }
                LAYOUT | FRAME => return Err(self.mismatch(format!("a record of kind {kind} has {bytes} bytes"))),
                _ => return Err(self.mismatch(format!("a record has the unknown kind {kind}"))),
            }
            self.at = end;
        }
    }

    fn layout(&self, fields: &[u8]) -> Result<Layout> {
        let f = |i| number(fields, i);
        let (memory, planes) = (f(7) as usize, f(8) as usize);
        if !(1..=MAX_PLANES).contains(&memory) || planes > MAX_PLANES {
            return Err(self.mismatch(format!("{memory} memory planes, {planes} color planes")));
        }
        let sizes: [u32; MAX_PLANES] = std::array::from_fn(|i| f(9 + i));
        let plane =
            |i: usize| Plane { memory: f(13 + 3 * i), offset_bytes: f(14 + 3 * i), stride_bytes: f(15 + 3 * i) };
        let places: [Plane; MAX_PLANES] = std::array::from_fn(plane);
        let (fourcc, size) = (FourCc::from(f(0)), Size::new(f(1), f(2)));
        let layout = Layout::from_planes(fourcc, size, &sizes[..memory], &places[..planes]);
        let layout = layout.map_err(|e| self.mismatch(e.to_string()))?;
        layout.check_rows("replay").map_err(|e| e.on(&self.name))?;
        // The buffers must not be larger than the file justifies.
        let most = if layout.is_compressed() { self.length.max(MOST_BITSTREAM) } else { self.length };
        let total: u64 = sizes[..memory].iter().map(|&bytes| u64::from(bytes)).sum();
        if total > most || sizes[..memory].contains(&0) {
            let text = format!("memory planes of {:?} bytes in a file of {} bytes", &sizes[..memory], self.length);
            return Err(self.mismatch(text));
        }
        Ok(layout.with_colorimetry(Colorimetry {
            space: ColorSpace::from_v4l2(f(3)),
            encoding: Encoding::from_v4l2(f(4)),
            range: Range::from_v4l2(f(5)),
            transfer: Transfer::from_v4l2(f(6)),
        }))
    }

    fn frame(&self, fields: &[u8], body: u64, bytes: u64) -> Result<StoredFrame> {
        let Some(layout) = self.layout else { return Err(self.mismatch("a frame has no layout before it".into())) };
        let payload = std::array::from_fn(|i| Payload { offset_bytes: 0, bytes: number(fields, 6 + i) });
        let meta = FrameMeta {
            sequence: long(fields, 0),
            timestamp_ns: long(fields, 2),
            lost: number(fields, 4),
            flags: FrameFlags::from_known_bits(number(fields, 5)),
            payload,
            ..FrameMeta::default()
        };
        let sizes = layout.memory_bytes();
        let fits = |(i, payload): (usize, &Payload)| payload.bytes <= sizes.get(i).copied().unwrap_or(0);
        let picture: u64 = payload.iter().map(|payload| u64::from(payload.bytes)).sum();
        if !payload.iter().enumerate().all(fits) || FRAME_BYTES as u64 + picture != bytes {
            let has = payload.map(|payload| payload.bytes);
            return Err(self.mismatch(format!("a frame of {has:?} bytes, in {bytes} bytes, for {layout}")));
        }
        Ok(StoredFrame { layout, meta, at: body + FRAME_BYTES as u64 })
    }

    /// Copies the bytes of a frame into a buffer. `false` if the file ends before the frame does.
    pub(super) fn copy(&self, from: &StoredFrame, to: &mut FrameMut, scratch: &mut Vec<u8>) -> Result<bool> {
        scratch.resize(STEP, 0);
        let mut pixels = to.write(DEFAULT_WAIT)?;
        let mut at = from.at;
        for (memory, payload) in from.meta.payload.iter().enumerate() {
            let bytes = payload.bytes as usize;
            for offset in (0..bytes).step_by(STEP) {
                let part = &mut scratch[..STEP.min(bytes - offset)];
                if !self.read(at, part)? {
                    return Ok(false);
                }
                pixels.copy_memory_from_source(memory, offset, part)?;
                at += part.len() as u64;
            }
        }
        Ok(true)
    }

    /// `false` if the file ends earlier.
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<bool> {
        match self.file.read_exact_at(bytes, at) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn failed(&self, e: &io::Error) -> Error {
        Error::io("read", e).on(&self.name)
    }

    fn mismatch(&self, text: String) -> Error {
        self.error(ErrorKind::Mismatch, format!("at byte {}: {text}", self.at))
    }

    pub(super) fn error(&self, kind: ErrorKind, text: String) -> Error {
        Error::new(kind, "replay", text).on(&self.name)
    }
}
