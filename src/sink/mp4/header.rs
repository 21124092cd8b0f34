//! The header of a file: its type, and the track without frames.

use std::time::{Duration, SystemTime};

use super::boxes::{Boxes, Fields};
use crate::bitstream::Codec;
use crate::error::Result;
use crate::format::Size;
use crate::frame::Packet;
use crate::sink::container::{captured_at, private, ColorCodes, ContainerFile};

/// Ticks of a second, in all boxes: those of RTP.
pub(super) const TICKS: u64 = 90_000;
/// The time from 1904 to 1970.
const YEAR_1970: Duration = Duration::from_secs(2_082_844_800);
/// The matrix that does not transform the picture.
const UNITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// What the header says, except the duration.
pub(super) struct Header {
    size: Size,
    /// The entry of the codec, with its parameter sets.
    entry: Boxes,
    brand: &'static [u8; 4],
    /// Seconds since 1904.
    created: u64,
    /// With the codec's name (RFC 6381).
    pub(super) media_type: String,
}

impl Header {
    /// Describes a file that begins with this packet.
    pub(super) fn of(packet: &Packet, file: &ContainerFile) -> Result<Self> {
        let meta = packet.meta();
        let (name, configuration) = match meta.codec {
            Codec::H264 => (b"avc1", b"avcC"),
            Codec::Hevc => (b"hvc1", b"hvcC"),
            codec => {
                let text = format!("this MP4 writer holds H.264 and H.265 only; Matroska (.mkv) holds {codec}");
                return Err(file.unsupported(text));
            }
        };
        let sets = packet.parameter_sets().and_then(|sets| private(sets, true));
        let sets = sets.ok_or_else(|| file.unsupported("the parameter sets are missing or cannot be parsed"))?;
        let side = |side: u32| {
            let fits = u16::try_from(side);
            fits.map_err(|_| file.unsupported(format!("MP4 holds pictures up to 65535x65535, not {}", meta.size)))
        };
        let (width, height) = (side(meta.size.width)?, side(meta.size.height)?);
        let media_type = format!("video/mp4; codecs=\"{}\"", codec_name(meta.codec, &sets).unwrap_or_default());
        let mut inside = Boxes::default().add(configuration, Fields(sets));
        if let Some(colors) = file.options.colorimetry {
            inside = inside.add(b"colr", color(colors.into()));
        }
        inside = inside.add(b"pasp", Fields::default().u32(1).u32(1));
        let fields = Fields::default()
            .zeros(6)
            .u16(1) // data_reference_index
            .zeros(16)
            .u16(width)
            .u16(height)
            .u32(72 << 16) // dots per inch
            .u32(72 << 16)
            .zeros(4)
            .u16(1) // frames in a sample
            .zeros(32)
            .u16(24) // depth
            .u16(0xffff);
        let since = captured_at(packet).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + YEAR_1970;
        let (entry, created) = (Boxes::default().add(name, fields.bytes(&inside.0)), since.as_secs());
        Ok(Self { size: meta.size, entry, brand: name, created, media_type })
    }

    /// Returns the boxes. Their length does not depend on the duration, in ticks: it is patched at the end.
    pub(super) fn boxes(&self, duration: Option<u64>) -> Vec<u8> {
        let brands = Fields::default().bytes(b"iso6").u32(0).bytes(b"iso6isommp41").bytes(self.brand);
        let times = |ticks: u32| Fields::default().u64(self.created).u64(self.created).u32(ticks);
        let known = duration.unwrap_or(0);
        let matrix = |fields: Fields| UNITY.into_iter().fold(fields, Fields::u32);
        let movie = times(TICKS as u32).u64(known).u32(0x1_0000).u16(0x100).zeros(10);
        let movie = matrix(movie).zeros(24).u32(2); // next_track_ID
                                                    // The track is enabled and used.
        let side = |side: u32| side << 16;
        let track = matrix(times(1).zeros(4).u64(known).zeros(16));
        let track = track.u32(side(self.size.width)).u32(side(self.size.height));
        let length = match duration {
            Some(ticks) => Boxes::default().full(b"mehd", 1, 0, Fields::default().u64(ticks)),
            None => Boxes::default().free(20),
        };
        // Track, description, no defaults.
        let defaults = Fields::default().u32(1).u32(1).zeros(12);
        let boxes = Boxes::default().full(b"mvhd", 1, 0, movie).parent(
            b"trak",
            Boxes::default().full(b"tkhd", 1, 3, track).parent(b"mdia", self.media(times(TICKS as u32).u64(known))),
        );
        let all = boxes.parent(b"mvex", length.full(b"trex", 0, 0, defaults));
        Boxes::default().add(b"ftyp", brands).parent(b"moov", all).0
    }

    fn media(&self, times: Fields) -> Boxes {
        let handler = Fields::default().zeros(4).bytes(b"vide").zeros(12).bytes(b"framelease\0");
        let reference = Boxes::default().full(b"url ", 0, 1, Fields::default());
        let references = Fields::default().u32(1).bytes(&reference.0);
        // Frames are in the fragments.
        let none = || Fields::default().u32(0);
        let samples = Boxes::default()
            .full(b"stsd", 0, 0, Fields::default().u32(1).bytes(&self.entry.0))
            .full(b"stts", 0, 0, none())
            .full(b"stsc", 0, 0, none())
            .full(b"stsz", 0, 0, none().u32(0))
            .full(b"stco", 0, 0, none());
        let information = Boxes::default()
            .full(b"vmhd", 0, 1, Fields::default().zeros(8))
            .parent(b"dinf", Boxes::default().full(b"dref", 0, 0, references))
            .parent(b"stbl", samples);
        // The language is undetermined.
        Boxes::default()
            .full(b"mdhd", 1, 0, times.u16(0x55c4).u16(0))
            .full(b"hdlr", 0, 0, handler)
            .parent(b"minf", information)
    }
}

/// Returns the name of a codec with its profile and level, from its configuration (ISO/IEC 14496-15, annex E).
fn codec_name(codec: Codec, configuration: &[u8]) -> Option<String> {
    if codec == Codec::H264 {
        let &[_, profile, constraints, level, ..] = configuration else { return None };
        return Some(format!("avc1.{profile:02X}{constraints:02X}{level:02X}"));
    }
    let &[_, profile, c0, c1, c2, c3, ref constraints @ ..] = configuration else { return None };
    let (constraints, level) = (constraints.get(..6)?, constraints.get(6)?);
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let compatible = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let used = constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let constraints: String = constraints[..used].iter().map(|byte| format!(".{byte:X}")).collect();
    Some(format!("hvc1.{space}{}.{compatible:X}.{tier}{level}{constraints}", profile & 0x1f))
}

/// Colors without a code are unspecified (2).
fn color(colors: ColorCodes) -> Fields {
    let code = |code: Option<u8>| u16::from(code.unwrap_or(2));
    let range = if colors.is_full_range { 0x80 } else { 0 };
    let fields = Fields::default().bytes(b"nclx").u16(code(colors.primaries)).u16(code(colors.transfer));
    fields.u16(colors.matrix.into()).u8(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_names_are_those_of_browsers() {
        assert_eq!(codec_name(Codec::H264, &[1, 0x64, 0, 0x28, 0xff]).as_deref(), Some("avc1.640028"));
        let main = [1, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0];
        assert_eq!(codec_name(Codec::Hevc, &main).as_deref(), Some("hvc1.1.6.L93.90"));
        let high = [1, 0x62, 0x20, 0, 0, 0, 0xb0, 0, 0x10, 0, 0, 0, 150, 0xf0];
        assert_eq!(codec_name(Codec::Hevc, &high).as_deref(), Some("hvc1.A2.4.H150.B0.0.10"));
        assert_eq!(codec_name(Codec::Hevc, &high[..12]), None);
    }
}
