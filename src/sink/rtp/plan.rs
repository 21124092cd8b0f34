//! A frame as datagrams: the header of each piece, and the position of the piece.

use std::ops::Range;

use super::header::{rtp, Stamp, RTP_BYTES};
use super::jpeg::Picture;
use super::payload::{each_parameter, parameters, pieces, Piece};
use crate::bitstream::ParameterSets;
use crate::frame::Packet;
use crate::sys::udp::{Datagram, MOST};

struct Planned {
    /// The position in `own` of the RTP header and the payload's header.
    head: Range<usize>,
    /// The position of the other bytes, in `own` or in the frame.
    body: Range<usize>,
    is_own: bool,
}

/// The datagrams of one frame. Reuses its memory for the next frame.
#[derive(Default)]
pub(super) struct Plan {
    planned: Vec<Planned>,
    /// Headers and parameter sets.
    own: Vec<u8>,
}

impl Plan {
    /// Plans a frame, with `room` bytes of payload per datagram. `first` are parameter sets to send before it. Returns
    /// `true` if the frame contains other parameter sets.
    pub(super) fn make(&mut self, packet: &Packet, first: Option<&ParameterSets>, room: usize, stamp: Stamp) -> bool {
        self.clear();
        if let Some(sets) = first {
            if parameters(sets, room, &mut self.own) {
                self.add(&[], 0..self.own.len(), true);
            } else {
                each_parameter(sets, room, |piece| {
                    let start = self.own.len();
                    self.own.extend_from_slice(piece.body);
                    self.add(piece.prefix, start..self.own.len(), true);
                });
            }
        }
        let data = packet.bytes();
        // A key frame's sets are those in force. Sets in other frames stay where they are.
        let apart = packet.parameter_sets().filter(|_| packet.is_key());
        let has_others =
            pieces(packet.meta().codec, data, room, apart.map(|sets| &**sets), |p| self.add_piece(data, p));
        self.stamp(stamp);
        has_others
    }

    /// Plans a JPEG picture of a packet with these bytes.
    pub(super) fn make_jpeg(&mut self, data: &[u8], picture: &Picture<'_>, room: usize, stamp: Stamp) {
        self.clear();
        picture.pieces(room, |piece| self.add_piece(data, piece));
        self.stamp(stamp);
    }

    fn add_piece(&mut self, data: &[u8], piece: Piece<'_>) {
        // A piece is a slice of the data, so this is its offset.
        let start = piece.body.as_ptr() as usize - data.as_ptr() as usize;
        self.add(piece.prefix, start..start + piece.body.len(), false);
    }

    fn add(&mut self, prefix: &[u8], body: Range<usize>, is_own: bool) {
        let start = self.own.len();
        self.own.extend_from_slice(&[0; RTP_BYTES]);
        self.own.extend_from_slice(prefix);
        self.planned.push(Planned { head: start..self.own.len(), body, is_own });
    }

    /// Writes the RTP headers.
    fn stamp(&mut self, stamp: Stamp) {
        let last = self.planned.len().saturating_sub(1);
        for (i, planned) in self.planned.iter().enumerate() {
            self.own[planned.head.start..][..RTP_BYTES].copy_from_slice(&rtp(stamp, i, i == last));
        }
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
        self.own.clear();
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
            *datagram = [&self.own[p.head.clone()], bytes.get(p.body.clone()).unwrap_or(&[])];
        }
        (datagrams, planned.len())
    }
}
