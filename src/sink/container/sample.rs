//! The bytes of a packet in a file.

use super::track::Track;
use crate::bitstream::{nal_units, NalKind, NalUnit};
use crate::frame::Packet;

/// How many units of a packet need no allocation.
const MOST: usize = 64;

/// A packet as a file holds it. For H.264 and H.265, lengths of four bytes replace the start codes.
pub(in crate::sink) struct Sample<'a> {
    packet: &'a Packet,
    track: &'a Track,
    /// Parameter sets stay that are also in the header.
    keeps_sets: bool,
    lengths: [[u8; 4]; MOST],
    /// The lengths of the units after these. Pictures with more slices are rare, so this may allocate.
    more: Vec<[u8; 4]>,
    bytes: u64,
}

impl<'a> Sample<'a> {
    /// `keeps_sets`: parameter sets of the header stay in this packet. They also stay after other sets have come: a
    /// repeated set of the header puts it in force again. Such a set may also come later in the file, because decoders
    /// keep it when a player seeks back.
    pub(in crate::sink) fn new(track: &'a mut Track, packet: &'a Packet, keeps_sets: bool) -> Self {
        let keeps_sets = track.has_other_sets(packet) || keeps_sets;
        let (lengths, more) = ([[0; 4]; MOST], Vec::new());
        let mut sample = Self { packet, track, keeps_sets, lengths, more, bytes: 0 };
        if !packet.meta().codec.has_nal_units() {
            sample.bytes = packet.bytes().len() as u64;
            return sample;
        }
        let mut units = sample.units();
        let length = |unit: NalUnit<'_>| u32::try_from(unit.data.len()).unwrap_or(u32::MAX).to_be_bytes();
        let (mut lengths, mut bytes) = ([[0; 4]; MOST], 0);
        // Not `zip`, which would take a unit more than there are places.
        for place in &mut lengths {
            let Some(unit) = units.next() else { break };
            bytes += 4 + unit.data.len() as u64;
            *place = length(unit);
        }
        let mut more = Vec::new();
        for unit in units {
            bytes += 4 + unit.data.len() as u64;
            more.push(length(unit));
        }
        Self { lengths, more, bytes, ..sample }
    }

    /// The number of bytes.
    pub(in crate::sink) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn units(&self) -> impl Iterator<Item = NalUnit<'a>> {
        let (codec, keeps_sets, track) = (self.packet.meta().codec, self.keeps_sets, self.track);
        let kept = move |unit: &NalUnit<'_>| {
            let kind = unit.kind(codec);
            // Delimiters are not needed with lengths.
            !unit.data.is_empty()
                && kind != NalKind::Delimiter
                && (keeps_sets || !kind.is_parameters() || !track.is_in_header(unit))
        };
        nal_units(self.packet.bytes()).filter(kept)
    }

    /// The bytes, in parts: lengths and units, or the whole packet.
    pub(in crate::sink) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let has_units = self.packet.meta().codec.has_nal_units();
        let whole = (!has_units).then(|| self.packet.bytes());
        let lengths = self.lengths.iter().chain(&self.more).take(if has_units { usize::MAX } else { 0 });
        whole.into_iter().chain(lengths.zip(self.units()).flat_map(|(length, unit)| [&length[..], unit.data]))
    }
}
