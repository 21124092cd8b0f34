//! The EBML header, and the segment up to the first cluster.

use super::ebml::{Elements, UNKNOWN_SIZE};
use crate::error::Result;
use crate::frame::{FrameFlags, Packet};
use crate::sink::container::{captured_at, is_progressive, private, ColorCodes, ContainerFile};

/// The bytes reserved for the seek head: its own header and three entries of 21 bytes.
pub(super) const SEEK_HEAD_BYTES: usize = 68;
pub(super) const DURATION_BYTES: usize = 11;

/// Positions in a file.
#[derive(Default)]
pub(super) struct Header {
    /// The first byte of the segment's content, which is the seek head of a file.
    pub(super) segment_at: u64,
    pub(super) info_at: u64,
    /// The position of the tracks. The duration is directly before it.
    pub(super) tracks_at: u64,
}

impl Header {
    /// Returns the header of a file that begins with this packet.
    pub(super) fn of(packet: &Packet, file: &ContainerFile) -> Result<(Vec<u8>, Self)> {
        let meta = packet.meta();
        let id = meta.codec.names().matroska;
        let id = id.ok_or_else(|| file.unsupported(format!("Matroska has no name for {}", meta.codec)))?;
        let mut entry =
            Elements::default().number(0xd7, 1).number(0x73c5, 1).number(0x83, 1).number(0x9c, 0).text(0x86, id);
        if meta.codec.has_nal_units() {
            let sets = packet.parameter_sets().and_then(|sets| private(sets, false));
            let sets = sets.ok_or_else(|| file.unsupported("the parameter sets are missing or cannot be parsed"))?;
            entry = entry.bytes(0x63a2, &sets);
        }
        if let Some(nanos) = file.interval().and_then(|interval| u64::try_from(interval.as_nanos()).ok()) {
            entry = entry.number(0x23_e383, nanos);
        }
        let mut video = Elements::default().number(0xb0, meta.size.width.into()).number(0xba, meta.size.height.into());
        // Interlaced, with the order of the fields, or progressive. Without the element, it is unknown.
        if meta.flags.contains(FrameFlags::INTERLACED) {
            let order = if meta.flags.contains(FrameFlags::BOTTOM_FIRST) { 6 } else { 1 };
            video = video.number(0x9a, 1).number(0x9d, order);
        } else if packet.parameter_sets().map_or(true, |sets| is_progressive(sets)) {
            video = video.number(0x9a, 2);
        }
        if let Some(colors) = file.options.colorimetry {
            video = video.master(0x55b0, color(colors.into()));
        }
        let tracks =
            Elements::default().master(0x1654_ae6b, Elements::default().master(0xae, entry.master(0xe0, video)));
        let header = Elements::default()
            .number(0x4286, 1)
            .number(0x42f7, 1)
            .number(0x42f2, 4)
            .number(0x42f3, 8)
            .text(0x4282, "matroska")
            .number(0x4287, 4)
            .number(0x4285, 2);
        let mut all = Elements::default().master(0x1a45_dfa3, header);
        all.0.extend_from_slice(&[0x18, 0x53, 0x80, 0x67]);
        all.0.extend_from_slice(&UNKNOWN_SIZE);
        let segment_at = all.0.len() as u64;
        if file.is_file() {
            all = all.void(SEEK_HEAD_BYTES);
        }
        let info_at = all.0.len() as u64;
        let mut info = Elements::default()
            .number(0x2a_d7b1, 1_000_000)
            .date(0x4461, captured_at(packet))
            .text(0x4d80, "framelease")
            .text(0x5741, concat!("framelease ", env!("CARGO_PKG_VERSION")));
        if file.is_file() {
            // The Void is overwritten at the end. It is the last child.
            info = info.void(DURATION_BYTES);
        }
        all = all.master(0x1549_a966, info);
        let tracks_at = all.0.len() as u64;
        all.0.extend_from_slice(&tracks.0);
        Ok((all.0, Self { segment_at, info_at, tracks_at }))
    }
}

/// The seek head, of exactly [`SEEK_HEAD_BYTES`]. All positions are those in the file.
pub(super) fn seek_head(segment_at: u64, info_at: u64, tracks_at: u64, cues_at: u64) -> Vec<u8> {
    let entries = [(0x1549_a966u32, info_at), (0x1654_ae6b, tracks_at), (0x1c53_bb6b, cues_at)];
    let seek = entries.into_iter().fold(Elements::default(), |seek, (element, at)| {
        let place = (at - segment_at).to_be_bytes();
        seek.master(0x4dbb, Elements::default().bytes(0x53ab, &element.to_be_bytes()).bytes(0x53ac, &place))
    });
    Elements::default().master(0x114d_9b74, seek).0
}

fn color(colors: ColorCodes) -> Elements {
    let range = if colors.is_full_range { 2 } else { 1 };
    let mut all = Elements::default().number(0x55b1, colors.matrix.into()).number(0x55b9, range);
    for (element, code) in [(0x55ba, colors.transfer), (0x55bb, colors.primaries)] {
        if let Some(code) = code {
            all = all.number(element, code.into());
        }
    }
    all
}
