//! A coded stream in a file: a byte stream, IVF for VP8, or FWHT frames one after the other.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use framelease::bitstream::Codec;
use framelease::format::Size;
use framelease::frame::Packet;

use super::common;

pub struct StreamFile {
    path: String,
    out: BufWriter<File>,
    codec: Codec,
    written: u32,
}

impl StreamFile {
    pub fn create(path: &str, codec: Codec, size: Size, fps: u32) -> common::Result<Self> {
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

    pub fn write(&mut self, packet: &Packet) -> common::Result<()> {
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
    pub fn finish(mut self) -> common::Result<()> {
        let flushed = self.out.flush().map_err(|e| format!("{}: {e}", self.path).into());
        if self.codec == Codec::Vp8 && self.out.seek(SeekFrom::Start(24)).is_ok() {
            self.put(&self.written.to_le_bytes())?;
            self.out.flush().map_err(|e| format!("{}: {e}", self.path))?;
        }
        flushed
    }
}
