//! Splits a JPEG picture into RTP payloads (RFC 2435). The tables of the picture are sent with each picture.

use super::payload::Piece;
use crate::bitstream::Jpeg;
use crate::error::{Error, ErrorKind, Result};

/// The main header (3.1).
const MAIN_BYTES: usize = 8;
/// The restart marker header (3.1.7).
const RESTART_BYTES: usize = 4;
/// The quantization table header (3.1.8) with two tables of 8 bits.
const TABLES_BYTES: usize = 4 + 2 * 64;
/// The first payload has all headers, and at least one byte of the picture.
pub(super) const LEAST_ROOM: usize = MAIN_BYTES + RESTART_BYTES + TABLES_BYTES + 1;

/// The headers count rows and columns in blocks of 8, in a byte (3.1.5, 3.1.6).
const MOST_PIXELS: u32 = 255 * 8;
/// The offset of a fragment has 24 bits (3.1.2).
const MOST_BYTES: usize = 1 << 24;

/// A picture that RTP can carry.
pub(super) struct Picture<'a> {
    jpeg: Jpeg<'a>,
    quantizers: [&'a [u8]; 2],
    /// 0 for 4:2:2, 1 for 4:2:0, each plus 64 with restart markers (3.1.3).
    kind: u8,
}

impl<'a> Picture<'a> {
    /// Reads the headers of a packet's bytes.
    ///
    /// # Errors
    /// `InvalidArgument` if they are not a JPEG picture. `Unsupported` for a picture that RFC 2435 cannot describe.
    pub(super) fn new(data: &'a [u8]) -> Result<Self> {
        let refused = |why: &str| {
            let text = format!("RTP cannot carry this JPEG picture (RFC 2435): {why}");
            Error::new(ErrorKind::Unsupported, "rtp", text)
        };
        let jpeg = Jpeg::parse(data)?;
        let size = jpeg.size;
        if [size.width, size.height].iter().any(|side| !(1..=MOST_PIXELS).contains(side)) {
            return Err(refused(&format!("it is {size}, and the limit is {MOST_PIXELS} pixels for each side")));
        }
        let kind = match jpeg.subsampling {
            Some((2, 1)) => 0,
            Some((2, 2)) => 1,
            _ => return Err(refused("its components are sampled neither as 4:2:0 nor as 4:2:2 with MCUs of 16x8")),
        };
        if !jpeg.is_typical() {
            return Err(refused("it is not baseline, or its Huffman tables are not those of Annex K"));
        }
        let quantizers = jpeg.quantizers.ok_or_else(|| refused("it lacks a quantization table of 8 bits"))?;
        if jpeg.scan.len() >= MOST_BYTES {
            return Err(refused("its coded data have 16 MiB or more"));
        }
        Ok(Self { kind: kind | if jpeg.restart_interval > 0 { 64 } else { 0 }, jpeg, quantizers })
    }

    /// Calls `each` with every piece of the picture, in order. `room` is at least [`LEAST_ROOM`].
    pub(super) fn pieces(&self, room: usize, mut each: impl FnMut(Piece<'_>)) {
        let Jpeg { size, restart_interval, mut scan, .. } = self.jpeg;
        let blocks = |side: u32| side.div_ceil(8) as u8;
        // The type is not specific. Q is 255: the tables come with each picture.
        let mut headers = [0; LEAST_ROOM];
        headers[4..MAIN_BYTES].copy_from_slice(&[self.kind, 255, blocks(size.width), blocks(size.height)]);
        let mut used = MAIN_BYTES;
        if restart_interval > 0 {
            headers[used..used + 2].copy_from_slice(&restart_interval.to_be_bytes());
            // Pieces end anywhere, so a receiver needs the whole picture.
            headers[used + 2..used + RESTART_BYTES].copy_from_slice(&[0xff, 0xff]);
            used += RESTART_BYTES;
        }
        headers[used..used + 4].copy_from_slice(&[0, 0, 0, 2 * 64]);
        for (to, table) in headers[used + 4..].chunks_exact_mut(64).zip(self.quantizers) {
            to.copy_from_slice(table);
        }
        let (mut offset, mut prefix_bytes) = (0u32, used + TABLES_BYTES);
        while !scan.is_empty() {
            let (body, rest) = scan.split_at(scan.len().min(room.saturating_sub(prefix_bytes).max(1)));
            headers[1..4].copy_from_slice(&offset.to_be_bytes()[1..]);
            each(Piece { prefix: &headers[..prefix_bytes], body });
            (scan, offset, prefix_bytes) = (rest, offset + body.len() as u32, used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
        [&[0xff, marker], &((body.len() + 2) as u16).to_be_bytes()[..], body].concat()
    }

    fn picture(size: [u16; 2], factors: [u8; 3], restart: Option<u8>, scan: &[u8]) -> Vec<u8> {
        let [[w1, w0], [h1, h0]] = size.map(u16::to_be_bytes);
        let frame = [8, h1, h0, w1, w0, 3, 1, factors[0], 0, 2, factors[1], 1, 3, factors[2], 1];
        let tables = [&[0][..], &[16; 64], &[1], &[17; 64]].concat();
        let restart = restart.map_or_else(Vec::new, |interval| segment(0xdd, &[0, interval]));
        let [tables, frame] = [segment(0xdb, &tables), segment(0xc0, &frame)];
        let header = segment(0xda, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
        [&[0xff, 0xd8], &tables[..], &restart, &frame, &header, scan, &[0xff, 0xd9]].concat()
    }

    fn payloads(data: &[u8], room: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        Picture::new(data).unwrap().pieces(room, |piece| all.push([piece.prefix, piece.body].concat()));
        all
    }

    #[test]
    fn jpeg_payloads_have_the_headers_of_the_rfc() {
        let data = picture([65, 48], [0x21, 0x11, 0x11], None, &[7; 300]);
        let all = payloads(&data, 200);
        assert_eq!(all[0][..12], [0, 0, 0, 0, 0, 255, 9, 6, 0, 0, 0, 128], "sizes are rounded up to blocks");
        assert_eq!(all[0][12..140], [[16; 64], [17; 64]].concat());
        assert_eq!((all[0].len(), all[1].len(), all.len()), (200, 200, 3));
        assert_eq!(all[1][..9], [0, 0, 0, 60, 0, 255, 9, 6, 7], "offset 60, without tables");
        assert_eq!(all[2], [&[0, 0, 0, 252, 0, 255, 9, 6][..], &[7; 48]].concat());
        let data = picture([2040, 2040], [0x22, 0x11, 0x11], Some(5), &[7; 3]);
        let head = [0, 0, 0, 0, 65, 255, 255, 255, 0, 5, 0xff, 0xff, 0, 0, 0, 128];
        assert_eq!(payloads(&data, LEAST_ROOM)[0][..16], head);
    }

    #[test]
    fn jpeg_pictures_that_rtp_cannot_carry_are_refused_with_the_reason() {
        for (size, factors, why) in [
            ([2041, 48], [0x22, 0x11, 0x11], "2041x48, and the limit is 2040"),
            ([64, 2160], [0x22, 0x11, 0x11], "64x2160, and the limit is 2040"),
            ([64, 0], [0x22, 0x11, 0x11], "64x0"),
            ([64, 48], [0x11, 0x11, 0x11], "neither as 4:2:0 nor as 4:2:2"),
            ([64, 48], [0x22, 0x12, 0x12], "neither as 4:2:0 nor as 4:2:2"),
        ] {
            let error = Picture::new(&picture(size, factors, None, &[1])).map(|_| ()).unwrap_err();
            assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(why), "{error}");
        }
        let mut progressive = picture([64, 48], [0x22, 0x11, 0x11], None, &[1]);
        let at = progressive.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        progressive[at + 1] = 0xc2;
        let mut bare = picture([64, 48], [0x22, 0x11, 0x11], None, &[1]);
        // Its tables have numbers that no component names.
        (bare[6], bare[71]) = (2, 3);
        for (data, why) in [(progressive, "not baseline"), (bare, "lacks a quantization table")] {
            let error = Picture::new(&data).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn jpeg_payloads_can_be_put_together(
            scan in proptest::collection::vec(0u8..0xff, 1..2000),
            room in LEAST_ROOM..600,
            restart in proptest::option::of(1u8..),
        ) {
            let data = picture([640, 480], [0x22, 0x11, 0x11], restart, &scan);
            let mut joined = Vec::new();
            for payload in payloads(&data, room) {
                prop_assert!(payload.len() <= room);
                let offset = u32::from_be_bytes([0, payload[1], payload[2], payload[3]]) as usize;
                prop_assert_eq!(offset, joined.len());
                let tables = if offset == 0 { TABLES_BYTES } else { 0 };
                let restart = if restart.is_some() { RESTART_BYTES } else { 0 };
                joined.extend_from_slice(&payload[MAIN_BYTES + restart + tables..]);
            }
            prop_assert_eq!(joined, scan);
        }
    }
}
