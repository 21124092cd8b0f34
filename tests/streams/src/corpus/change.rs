//! Changes of a stream that no encoder makes.

use framelease::bitstream::{nal_units, Codec};

use super::made::{Made, FRAME_MS};

/// An access unit, its NAL units without start codes.
pub struct Unit {
    pub codec: Codec,
    pub index: usize,
    pub nal_units: Vec<Vec<u8>>,
}

/// Returns the access unit with start codes.
pub type Change = fn(Unit) -> Vec<u8>;

const LONG: &[u8] = &[0, 0, 0, 1];
const SHORT: &[u8] = &[0, 0, 1];

/// Types of NAL units that both codecs have, with other numbers (H.264, table 7-1; H.265, table 7-1).
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Parameters,
    Sei,
    Slice,
    Other,
}

impl Unit {
    pub fn of(codec: Codec, index: usize, bytes: &[u8]) -> Self {
        Self { codec, index, nal_units: nal_units(bytes).map(|unit| unit.data.to_vec()).collect() }
    }

    fn number(&self, unit: &[u8]) -> u8 {
        match self.codec {
            Codec::H264 => unit[0] & 31,
            _ => unit[0] >> 1 & 63,
        }
    }

    fn kind(&self, unit: &[u8]) -> Kind {
        match (self.codec, self.number(unit)) {
            (Codec::H264, 7 | 8) | (Codec::Hevc, 32..=34) => Kind::Parameters,
            (Codec::H264, 6) | (Codec::Hevc, 39) => Kind::Sei,
            (Codec::H264, 1..=5) | (Codec::Hevc, 0..=31) => Kind::Slice,
            _ => Kind::Other,
        }
    }

    /// A NAL unit of a type that the codec numbers so.
    fn unit(&self, h264: u8, hevc: u8, body: &[u8]) -> Vec<u8> {
        match self.codec {
            Codec::H264 => [&[h264], body].concat(),
            _ => [&[hevc << 1, 1], body].concat(),
        }
    }

    fn has_sets(&self) -> bool {
        self.nal_units.iter().any(|unit| self.kind(unit) == Kind::Parameters)
    }

    fn with(self, start: &[u8], end: &[u8]) -> Vec<u8> {
        self.nal_units.iter().flat_map(|unit| [start, unit, end].concat()).collect()
    }

    fn write(self) -> Vec<u8> {
        self.with(LONG, &[])
    }

    /// Puts NAL units before each slice.
    fn before_slices(mut self, new: &[Vec<u8>]) -> Self {
        let units = std::mem::take(&mut self.nal_units);
        for unit in units {
            if self.kind(&unit) == Kind::Slice {
                self.nal_units.extend_from_slice(new);
            }
            self.nal_units.push(unit);
        }
        self
    }
}

/// A message that a decoder ignores: user data (payload type 5) with a name of 16 bytes.
fn message(unit: &Unit, bytes: usize) -> Vec<u8> {
    let body = 16 + bytes;
    let mut sei = vec![5];
    sei.resize(1 + body / 255, 255);
    sei.push((body % 255) as u8);
    sei.resize(sei.len() + body, 0x55);
    sei.push(0x80);
    unit.unit(6, 39, &sei)
}

pub fn short_start_codes(unit: Unit) -> Vec<u8> {
    unit.with(SHORT, &[])
}

pub fn trailing_zeros(unit: Unit) -> Vec<u8> {
    unit.with(LONG, &[0; 5])
}

pub fn leading_zeros(unit: Unit) -> Vec<u8> {
    unit.with(&[0, 0, 0, 0, 0, 0, 1], &[])
}

pub fn both_start_codes(unit: Unit) -> Vec<u8> {
    let units = unit.nal_units.iter().enumerate();
    units.flat_map(|(i, unit)| [if i % 2 == 0 { LONG } else { SHORT }, unit].concat()).collect()
}

pub fn messages_first(mut unit: Unit) -> Vec<u8> {
    let first = message(&unit, 20);
    unit.nal_units.insert(0, first);
    unit.write()
}

/// A message that needs several fragments in RTP.
pub fn long_messages(unit: Unit) -> Vec<u8> {
    let long = message(&unit, 70_000);
    let at = unit.nal_units.iter().position(|u| unit.kind(u) == Kind::Slice).unwrap_or(0);
    let mut unit = unit;
    unit.nal_units.insert(at, long);
    unit.write()
}

/// Filler data after each slice.
pub fn filler(mut unit: Unit) -> Vec<u8> {
    unit.nal_units.push(unit.unit(12, 38, &[&[0xff; 300][..], &[0x80]].concat()));
    unit.write()
}

/// An end of sequence before each key frame, which then begins a new sequence.
pub fn end_of_sequence(mut unit: Unit) -> Vec<u8> {
    if unit.index % 10 == 9 {
        unit.nal_units.push(unit.unit(10, 36, &[]));
    }
    unit.write()
}

/// NAL units of types that decoders ignore, before the first slice.
pub fn reserved_types(unit: Unit) -> Vec<u8> {
    let new = [unit.unit(16, 41, &[0x80, 1]), unit.unit(17, 48, &[0x80, 2])];
    let at = unit.nal_units.iter().position(|u| unit.kind(u) == Kind::Slice).unwrap_or(0);
    let mut unit = unit;
    unit.nal_units.splice(at..at, new);
    unit.write()
}

/// NAL units of types that the standards do not specify, after the picture. RTP uses them itself.
pub fn unspecified_types(mut unit: Unit) -> Vec<u8> {
    let new = [(24, 56), (28, 60), (31, 63)].map(|(h264, hevc)| unit.unit(h264, hevc, &[0x80, 3]));
    unit.nal_units.extend(new);
    unit.write()
}

/// Prefix NAL units of scalable H.264, before each slice.
pub fn prefix_units(unit: Unit) -> Vec<u8> {
    let prefix = vec![0x60 | 14, 0x80, 0x80, 0x0f, 0x80];
    unit.before_slices(&[prefix]).write()
}

/// Start codes without a NAL unit.
pub fn empty_units(unit: Unit) -> Vec<u8> {
    unit.nal_units.iter().flat_map(|unit| [SHORT, LONG, unit].concat()).collect()
}

/// Parameter sets in the first access unit alone.
pub fn sets_once(mut unit: Unit) -> Vec<u8> {
    if unit.index > 0 {
        let units = std::mem::take(&mut unit.nal_units);
        unit.nal_units = units.into_iter().filter(|u| unit.kind(u) != Kind::Parameters).collect();
    }
    unit.write()
}

/// Each parameter set twice.
pub fn sets_twice(mut unit: Unit) -> Vec<u8> {
    let units = std::mem::take(&mut unit.nal_units);
    unit.nal_units = units
        .into_iter()
        .flat_map(|u| match unit.kind(&u) {
            Kind::Parameters => vec![u.clone(), u],
            _ => vec![u],
        })
        .collect();
    unit.write()
}

/// The PPS before the SPS.
pub fn sets_reversed(mut unit: Unit) -> Vec<u8> {
    if unit.has_sets() {
        let (mut sets, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut unit.nal_units).into_iter().partition(|u| unit.kind(u) == Kind::Parameters);
        sets.reverse();
        unit.nal_units = [sets, others].concat();
    }
    unit.write()
}

pub fn one_after_the_other(_: Codec, runs: Vec<Made>) -> Made {
    let mut all = Made::default();
    for run in runs {
        let begin = all.packets.len() as u64 * FRAME_MS;
        if all.packets.is_empty() {
            all.size = run.size;
        }
        all.packets.extend(run.packets);
        all.times.extend(run.times.iter().map(|time| begin + time));
    }
    all
}

/// One run without its first GOP.
pub fn from_second_gop(codec: Codec, mut runs: Vec<Made>) -> Made {
    let Made { mut packets, times, size } = runs.remove(0);
    let has_sets = |packet: &Vec<u8>| Unit::of(codec, 0, packet).has_sets();
    let at = packets.iter().skip(1).position(has_sets).map_or(0, |at| at + 1);
    packets.drain(..at);
    let begin = times[at..].iter().min().copied().unwrap_or(0);
    Made { packets, times: times[at..].iter().map(|time| time - begin).collect(), size }
}

/// The parameter sets of all runs first. Each run has others, by their numbers.
pub fn with_all_sets_first(codec: Codec, mut runs: Vec<Made>) -> Made {
    let mut sets: Vec<Vec<u8>> = Vec::new();
    for packet in runs.iter_mut().flat_map(|run| &mut run.packets) {
        let mut unit = Unit::of(codec, 0, packet);
        let (found, others) =
            std::mem::take(&mut unit.nal_units).into_iter().partition(|u| unit.kind(u) == Kind::Parameters);
        unit.nal_units = others;
        *packet = unit.write();
        sets.extend::<Vec<_>>(found);
    }
    sets.sort();
    sets.dedup();
    if let Some(first) = runs.first_mut().and_then(|run| run.packets.first_mut()) {
        // SPS (7) before PPS (8), VPS before SPS before PPS: in the order of their types.
        sets.sort_by_key(|set| set[0] & 31);
        *first = [Unit { codec, index: 0, nal_units: sets }.write(), std::mem::take(first)].concat();
    }
    one_after_the_other(codec, runs)
}
