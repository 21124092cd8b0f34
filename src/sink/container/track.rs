//! The stream that a file holds.

use std::sync::Arc;

use crate::bitstream::{nal_units, Codec, NalKind, NalUnit, ParameterSets};
use crate::format::Size;
use crate::frame::Packet;

/// The stream that the header of a file describes.
pub(in crate::sink) struct Track {
    codec: Codec,
    size: Size,
    parameters: Option<Arc<ParameterSets>>,
    /// The sets in force: the header's, or others that came in a packet.
    latest: Option<Arc<ParameterSets>>,
    /// Packets in the file contain parameter sets that differ from the header's.
    has_other_sets: bool,
}

/// Returns `true` if a decoder can begin with this packet.
pub(in crate::sink) fn begins_file(packet: &Packet) -> bool {
    packet.can_begin() && !packet.picture().is_empty()
}

impl Track {
    pub(in crate::sink) fn new(first: &Packet) -> Self {
        let meta = first.meta();
        let parameters = first.parameter_sets().cloned();
        Self { codec: meta.codec, size: meta.size, latest: parameters.clone(), parameters, has_other_sets: false }
    }

    pub(super) fn is_of(&self, packet: &Packet) -> bool {
        let same = |a: &Arc<ParameterSets>, b: &Arc<ParameterSets>| Arc::ptr_eq(a, b) || a == b;
        // The sets of the sequence describe the track. Others may change, if the packet has them.
        let of_sequence = |sets: &ParameterSets| {
            let kinds = [NalKind::Vps, NalKind::Sps];
            kinds.map(|kind| sets.of(kind).map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        let sets = match (&self.latest, packet.parameter_sets()) {
            (Some(a), Some(b)) => same(a, b) || packet.carries_parameters() && of_sequence(a) == of_sequence(b),
            // A new stream is unknown before its first key frame.
            (Some(_), None) => false,
            (None, _) => true,
        };
        sets && (self.codec, self.size) == (packet.meta().codec, packet.meta().size)
    }

    pub(super) fn is_in_header(&self, unit: &NalUnit<'_>) -> bool {
        self.parameters.as_ref().is_some_and(|sets| sets.contains(unit.data))
    }

    /// Looks for parameter sets that differ from the header's. Returns `true` once there were any.
    pub(super) fn has_other_sets(&mut self, packet: &Packet) -> bool {
        if self.codec.has_nal_units() && !self.has_other_sets {
            let is_other = |unit: NalUnit<'_>| unit.kind(self.codec).is_parameters() && !self.is_in_header(&unit);
            self.has_other_sets = nal_units(packet.bytes()).any(is_other);
        }
        self.has_other_sets
    }

    /// Notes the parameter sets of a packet that is in the file.
    pub(super) fn stored(&mut self, packet: &Packet) {
        if packet.carries_parameters() {
            self.latest = packet.parameter_sets().cloned();
        }
    }
}
