//! What a stream of the corpus is made of.

use framelease::bitstream::Codec;

use super::change::{self, Change};
use super::made::Made;
use crate::Res;

/// One run of an encoder.
#[derive(Clone)]
pub struct Part {
    pub size: (u32, u32),
    pub frames: u32,
    pub pixels: &'static str,
    /// Arguments of ffmpeg, separated by spaces.
    pub args: String,
}

/// Where the bytes come from.
pub enum Source {
    /// ffmpeg's encoders, one run after the other.
    Encoded(Vec<Part>),
    Written(fn() -> Made),
}

/// Sinks that give other frames than the source.
struct Expected {
    /// A part of their names.
    sinks: &'static str,
    /// How the table's text begins.
    text: &'static str,
    reason: &'static str,
}

/// A stream of the corpus.
pub struct Recipe {
    pub name: &'static str,
    pub codec: Codec,
    pub source: Source,
    change: Option<Change>,
    /// How the runs of an encoder become one stream.
    join: fn(Codec, Vec<Made>) -> Made,
    expected: Vec<Expected>,
}

const SIZE: (u32, u32) = (160, 96);
const FRAMES: u32 = 25;

impl Recipe {
    fn new(name: &'static str, codec: Codec, source: Source) -> Self {
        Self { name, codec, source, change: None, join: change::one_after_the_other, expected: Vec::new() }
    }

    fn encoded(name: &'static str, codec: Codec, args: &str, pixels: &'static str) -> Self {
        let part = Part { size: SIZE, frames: FRAMES, pixels, args: args.into() };
        Self::new(name, codec, Source::Encoded(vec![part]))
    }

    /// An H.264 stream of x264 with these parameters, a key frame every tenth.
    pub fn h264(name: &'static str, parameters: &str) -> Self {
        Self::encoded(name, Codec::H264, &x264(parameters), "yuv420p")
    }

    /// An H.265 stream of x265 with these parameters, a key frame every tenth.
    pub fn h265(name: &'static str, parameters: &str) -> Self {
        Self::encoded(name, Codec::Hevc, &x265(parameters), "yuv420p")
    }

    /// A VP8 stream of libvpx with these arguments, a key frame every tenth.
    pub fn vp8(name: &'static str, args: &str) -> Self {
        Self::encoded(name, Codec::Vp8, &format!("-g 10 -deadline realtime -cpu-used 8 {args}"), "yuv420p")
    }

    /// A Motion JPEG stream of ffmpeg's encoder with these arguments.
    pub fn jpeg(name: &'static str, args: &str) -> Self {
        Self::encoded(name, Codec::Mjpeg, &format!("-q:v 5 {args}"), "yuvj420p")
    }

    /// A stream that this program writes by itself.
    pub fn written(name: &'static str, codec: Codec, make: fn() -> Made) -> Self {
        Self::new(name, codec, Source::Written(make))
    }

    fn parts(&mut self) -> &mut Vec<Part> {
        match &mut self.source {
            Source::Encoded(parts) => parts,
            Source::Written(_) => panic!("{}: it has no encoder", self.name),
        }
    }

    fn each(mut self, mut change: impl FnMut(&mut Part)) -> Self {
        self.parts().iter_mut().for_each(&mut change);
        self
    }

    pub fn size(self, width: u32, height: u32) -> Self {
        self.each(|part| part.size = (width, height))
    }

    pub fn frames(self, frames: u32) -> Self {
        self.each(|part| part.frames = frames)
    }

    pub fn pixels(self, pixels: &'static str) -> Self {
        self.each(|part| part.pixels = pixels)
    }

    pub fn args(self, args: &str) -> Self {
        self.each(|part| part.args = format!("{} {args}", part.args))
    }

    /// Another run of the encoder, the same but for the size.
    pub fn then_size(mut self, width: u32, height: u32) -> Self {
        let next = Part { size: (width, height), ..self.parts()[0].clone() };
        self.parts().push(next);
        self
    }

    /// Another run of x264, the same but for its parameters.
    pub fn then_x264(mut self, parameters: &str) -> Self {
        let next = Part { args: x264(parameters), ..self.parts()[0].clone() };
        self.parts().push(next);
        self
    }

    pub fn joined(self, join: fn(Codec, Vec<Made>) -> Made) -> Self {
        Self { join, ..self }
    }

    pub fn changed(self, change: Change) -> Self {
        Self { change: Some(change), ..self }
    }

    /// The sinks whose names contain `sinks` give other frames, for a reason.
    pub fn expects(mut self, sinks: &'static str, text: &'static str, reason: &'static str) -> Self {
        self.expected.push(Expected { sinks, text, reason });
        self
    }

    /// Whether a sink's text in the table is as it should be.
    pub fn is_expected(&self, sink: &str, text: &str) -> bool {
        match self.expected.iter().find(|expected| sink.contains(expected.sinks)) {
            Some(expected) => text.starts_with(expected.text),
            None => ["-", "same"].contains(&text),
        }
    }

    /// Why sinks give other frames.
    pub fn reasons(&self) -> impl Iterator<Item = String> + '_ {
        self.expected.iter().map(|expected| format!("{}: {}: {}", self.name, expected.text, expected.reason))
    }

    pub fn make(&self) -> Res<Made> {
        let made = match &self.source {
            Source::Encoded(parts) => {
                let runs = parts.iter().map(|part| Made::encode(self.codec, part)).collect::<Res<_>>()?;
                (self.join)(self.codec, runs)
            }
            Source::Written(make) => make(),
        };
        Ok(match self.change {
            Some(change) => made.changed(self.codec, change),
            None => made,
        })
    }
}

fn x264(parameters: &str) -> String {
    format!("-preset veryfast -x264-params keyint=10:scenecut=0:bframes=0:{parameters}")
}

fn x265(parameters: &str) -> String {
    format!("-preset veryfast -x265-params keyint=10:min-keyint=10:scenecut=0:bframes=0:open-gop=0:log-level=none:{parameters}")
}
