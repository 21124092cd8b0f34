//! A frame as datagrams: the header of each piece, and the position of the piece.

use super::header::{rtp, Stamp, RTP_BYTES};
use super::payload::{each_parameter, parameters, pieces, Piece, MOST_PREFIX};
use crate::bitstream::ParameterSets;
use crate::frame::Packet;
use crate::sys::udp::{Datagram, MOST};

struct Planned {
    head: [u8; RTP_BYTES + MOST_PREFIX],
    head_len: u8,
    start: usize,
    len: usize,
    /// The bytes are in `own`, not in the frame.
    is_own: bool,
}

/// The datagrams of one frame. Reuses its memory for the next frame.
#[derive(Default)]
pub(super) struct Plan {
    planned: Vec<Planned>,
    own: Vec<u8>,
}

impl Plan {
    /// Plans a frame, with `room` bytes of payload per datagram. `first` are parameter sets to send before it. Returns
    /// `true` if the frame contains other parameter sets.
    pub(super) fn make(&mut self, packet: &Packet, first: Option<&ParameterSets>, room: usize, stamp: Stamp) -> bool {
        self.planned.clear();
        self.own.clear();
        if let Some(sets) = first {
            if parameters(sets, room, &mut self.own) {
                let together = Piece::new(&[], &self.own);
                add(&mut self.planned, &together, 0, true);
            } else {
                let (planned, own) = (&mut self.planned, &mut self.own);
                each_parameter(sets, room, |piece| {
                    add(planned, &piece, own.len(), true);
                    own.extend_from_slice(piece.body);
                });
            }
        }
        let (data, planned) = (packet.bytes(), &mut self.planned);
        // A key frame's sets are those in force. Sets in other frames stay where they are.
        let apart = packet.parameter_sets().filter(|_| packet.is_key());
        let has_others = pieces(packet.meta().codec, data, room, apart.map(|sets| &**sets), |piece| {
            // A piece is a slice of the data, so this is its offset.
            let start = piece.body.as_ptr() as usize - data.as_ptr() as usize;
            add(planned, &piece, start, false);
        });
        let last = self.planned.len().saturating_sub(1);
        for (i, planned) in self.planned.iter_mut().enumerate() {
            planned.head[..RTP_BYTES].copy_from_slice(&rtp(stamp, i, i == last));
        }
        has_others
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.planned.len()
    }

    /// Returns the datagrams from `from` up to `until`, as many as one call sends, and their number. `data` are the
    /// frame's bytes.
    pub(super) fn datagrams<'a>(&'a self, data: &'a [u8], from: usize, until: usize) -> ([Datagram<'a>; MOST], usize) {
        let mut datagrams: [Datagram<'_>; MOST] = [[&[]; 2]; MOST];
        let planned = self.planned.get(from..until.min(self.len()).min(from + MOST)).unwrap_or(&[]);
        for (datagram, p) in datagrams.iter_mut().zip(planned) {
            let bytes = if p.is_own { &self.own } else { data };
            let body = bytes.get(p.start..p.start + p.len).unwrap_or(&[]);
            *datagram = [&p.head[..usize::from(p.head_len)], body];
        }
        (datagrams, planned.len())
    }
}

fn add(planned: &mut Vec<Planned>, piece: &Piece<'_>, start: usize, is_own: bool) {
    let prefix = piece.prefix();
    let mut head = [0; RTP_BYTES + MOST_PREFIX];
    head[RTP_BYTES..RTP_BYTES + prefix.len()].copy_from_slice(prefix);
    let head_len = (RTP_BYTES + prefix.len()) as u8;
    planned.push(Planned { head, head_len, start, len: piece.body.len(), is_own });
}
