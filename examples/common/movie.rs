//! A file for players: MP4 or Matroska, by its name.
#![allow(dead_code)] // `decode` reads only.

use std::path::Path;

use framelease::format::FrameInterval;
use framelease::frame::Packet;
use framelease::sink::{matroska, mp4, WriterOptions, Written};

pub enum Movie {
    Matroska(Box<matroska::Writer>),
    Mp4(Box<mp4::Writer>),
}

impl Movie {
    pub fn create(path: &Path, fps: u32) -> framelease::Result<Self> {
        let options = WriterOptions::default().interval(FrameInterval::from_fps(fps));
        if path.extension().is_some_and(|extension| extension == "mp4") {
            return mp4::Writer::create(path, options).map(Box::new).map(Self::Mp4);
        }
        matroska::Writer::create(path, options).map(Box::new).map(Self::Matroska)
    }

    pub fn write(&mut self, packet: &Packet) -> framelease::Result<Written> {
        match self {
            Self::Matroska(writer) => writer.write(packet),
            Self::Mp4(writer) => writer.write(packet),
        }
    }

    pub fn finish(self) -> framelease::Result<()> {
        match self {
            Self::Matroska(writer) => writer.finish().map(drop),
            Self::Mp4(writer) => writer.finish().map(drop),
        }
    }
}
