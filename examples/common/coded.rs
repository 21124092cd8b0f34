//! A coded stream in a file: Matroska or MP4 by its name, else a byte stream, IVF for VP8, or FWHT frames one after the
//! other.
#![allow(dead_code)] // No example both reads and writes.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use framelease::bitstream::{AccessUnitSplitter, Codec};
use framelease::format::Size;
use framelease::frame::Packet;
use framelease::sink::Written;

use super::common;
use super::movie::Movie;

pub enum StreamFile {
    Movie(Movie),
    Plain(PlainFile),
}

impl StreamFile {
    pub fn create(path: &str, codec: Codec, size: Size, fps: u32) -> common::Result<Self> {
        if !path.ends_with(".mkv") && !path.ends_with(".mp4") {
            return PlainFile::create(path, codec, size, fps).map(Self::Plain);
        }
        Ok(Self::Movie(Movie::create(path.as_ref(), fps)?))
    }

    pub fn write(&mut self, packet: &Packet) -> common::Result<()> {
        match self {
            Self::Movie(movie) => match movie.write(packet)? {
                Written::OtherStream => Err("the stream's parameters have changed".into()),
                _ => Ok(()),
            },
            Self::Plain(file) => file.write(packet),
        }
    }

    pub fn finish(self) -> common::Result<()> {
        match self {
            Self::Movie(movie) => Ok(movie.finish()?),
            Self::Plain(file) => file.finish(),
        }
    }
}

pub struct PlainFile {
    path: String,
    out: BufWriter<File>,
    codec: Codec,
    written: u32,
}

impl PlainFile {
    fn create(path: &str, codec: Codec, size: Size, fps: u32) -> common::Result<Self> {
        let out = BufWriter::new(File::create(path).map_err(|e| format!("{path}: {e}"))?);
        let mut file = Self { path: path.into(), out, codec, written: 0 };
        if codec == Codec::Vp8 {
            let mut header = Vec::from(*b"DKIF\0\0\x20\0VP80");
            header.extend((size.width as u16).to_le_bytes());
            header.extend((size.height as u16).to_le_bytes());
            header.extend(fps.to_le_bytes());
            header.extend(1u32.to_le_bytes());
            header.extend([0; 8]);
            file.put(&header)?;
        }
        Ok(file)
    }

    fn write(&mut self, packet: &Packet) -> common::Result<()> {
        match (self.codec, packet.parameter_sets()) {
            (Codec::Vp8, _) => {
                let mut header = (packet.bytes().len() as u32).to_le_bytes().to_vec();
                header.extend(u64::from(self.written).to_le_bytes());
                self.put(&header)?;
            }
            // Drivers that send the parameter sets apart.
            (_, Some(sets)) if packet.is_key() && !packet.carries_parameters() => {
                self.put(&sets.to_annexb())?;
            }
            _ => {}
        }
        self.written += 1;
        self.put(packet.bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> common::Result<()> {
        self.out.write_all(bytes).map_err(|e| format!("{}: {e}", self.path).into())
    }

    /// Writes what is buffered, and the count of frames into IVF's header where the file can be rewound.
    fn finish(mut self) -> common::Result<()> {
        let flushed = self.out.flush().map_err(|e| format!("{}: {e}", self.path).into());
        if self.codec == Codec::Vp8 && self.out.seek(SeekFrom::Start(24)).is_ok() {
            self.put(&self.written.to_le_bytes())?;
            self.out.flush().map_err(|e| format!("{}: {e}", self.path))?;
        }
        flushed
    }
}

/// Reads such a file frame by frame.
pub struct StreamReader {
    path: String,
    from: BufReader<File>,
    codec: Codec,
    units: AccessUnitSplitter,
    ended: bool,
}

/// More bytes than any frame has, to detect a file that is not a stream.
const LIMIT: usize = 64 << 20;

impl StreamReader {
    pub fn open(path: &str, codec: Codec) -> common::Result<Self> {
        let from = BufReader::new(File::open(path).map_err(|e| format!("{path}: {e}"))?);
        let mut reader =
            Self { path: path.into(), from, codec, units: AccessUnitSplitter::new(codec, LIMIT), ended: false };
        if codec == Codec::Vp8 && reader.exactly(32)?.map_or(true, |header| !header.starts_with(b"DKIF")) {
            return Err(format!("{path}: not an IVF file").into());
        }
        Ok(reader)
    }

    /// The next frame; `None` at the end.
    pub fn next(&mut self) -> common::Result<Option<Vec<u8>>> {
        match self.codec {
            Codec::Vp8 => {
                let Some(header) = self.exactly(12)? else { return Ok(None) };
                self.body(Vec::new(), u32::from_le_bytes([header[0], header[1], header[2], header[3]]))
            }
            Codec::Fwht => {
                let Some(header) = self.exactly(44)? else { return Ok(None) };
                if !header.starts_with(b"OOOO\xff\xff\xff\xff") {
                    return Err(format!("{}: not FWHT", self.path).into());
                }
                let bytes = u32::from_be_bytes([header[40], header[41], header[42], header[43]]);
                self.body(header, bytes)
            }
            _ => self.unit(),
        }
    }

    fn body(&mut self, mut frame: Vec<u8>, bytes: u32) -> common::Result<Option<Vec<u8>>> {
        if bytes as usize > LIMIT {
            return Err(format!("{}: a frame of {bytes} bytes", self.path).into());
        }
        let body = self.exactly(bytes as usize)?.ok_or_else(|| format!("{}: cut within a frame", self.path))?;
        frame.extend(body);
        Ok(Some(frame))
    }

    fn unit(&mut self) -> common::Result<Option<Vec<u8>>> {
        loop {
            if let Some(unit) = self.units.next_unit().map_err(|e| format!("{}: {e}", self.path))? {
                return Ok(Some(unit.to_vec()));
            }
            if self.ended {
                return Ok(None);
            }
            let mut piece = vec![0; 1 << 16];
            let n = self.from.read(&mut piece).map_err(|e| format!("{}: {e}", self.path))?;
            self.units.push(&piece[..n]);
            if n == 0 {
                self.ended = true;
                let units = std::mem::replace(&mut self.units, AccessUnitSplitter::new(self.codec, LIMIT));
                return Ok(Some(units.finish()).filter(|rest| !rest.is_empty()));
            }
        }
    }

    /// Reads this number of bytes. `None` at the end of the file.
    fn exactly(&mut self, bytes: usize) -> common::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        let read =
            (&mut self.from).take(bytes as u64).read_to_end(&mut out).map_err(|e| format!("{}: {e}", self.path))?;
        Ok((read == bytes).then_some(out))
    }
}
