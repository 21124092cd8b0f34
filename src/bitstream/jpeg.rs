//! Headers of a JPEG picture (ITU-T T.81), as cameras and JPEG encoders write them.

use memchr::{memchr, memmem};

use crate::error::{Error, ErrorKind, Result};
use crate::format::Size;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
const DHT: u8 = 0xc4;

/// The picture begins with these bytes.
const START: [u8; 2] = [0xff, SOI];
/// The picture ends with these bytes. They cannot be in coded data, where a zero follows each 0xff.
const END: [u8; 2] = [0xff, EOI];

/// [`is_cut`] reads at most this many bytes at the end of a buffer.
pub(crate) const TAIL_BYTES: usize = 256;

/// A color component, as the frame header and the scan header describe it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Component {
    id: u8,
    /// Horizontal and vertical sampling factors, as in the frame header: 0x21 for two and one.
    pub(crate) factors: u8,
    /// The number of its quantization table.
    pub(crate) quantizer: u8,
    /// The numbers of its Huffman tables for DC and AC.
    pub(crate) huffman: [u8; 2],
}

/// A JPEG picture with one scan: the facts that a receiver or a decoder needs, and where the coded data are.
///
/// ```
/// use framelease::bitstream::Jpeg;
///
/// let cut = [0xff, 0xd8, 0xff, 0xdb, 0, 67]; // The headers go on.
/// assert!(Jpeg::parse(&cut).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Jpeg<'a> {
    /// The size of the picture.
    pub size: Size,
    /// The sampling factors of the luminance, relative to a chrominance with the factors one and one. `(2, 2)` is
    /// 4:2:0, `(2, 1)` is 4:2:2. `None` for pictures without two such chrominances.
    pub subsampling: Option<(u8, u8)>,
    /// The number of MCUs between restart markers. 0 without restart markers.
    pub restart_interval: u16,
    /// The quantization tables of the luminance and the chrominance, in zigzag order. `None` if a table is missing,
    /// does not have 8 bits, or if the chrominances have different tables.
    pub quantizers: Option<[&'a [u8]; 2]>,
    /// The coded data of the scan, without the headers and the end marker.
    pub scan: &'a [u8],
    /// The picture has its end marker. Otherwise it was cut, and `scan` has the data up to the end of the buffer.
    pub is_whole: bool,
    /// The picture is baseline (SOF0) with 8 bits.
    is_baseline: bool,
    tables: Tables<'a>,
    components: u8,
}

/// Returns `true` if a JPEG picture begins at the start of the buffer.
pub(crate) fn is_jpeg(data: &[u8]) -> bool {
    data.starts_with(&START)
}

/// Returns `true` if a picture does not have its first or its last marker. `head` are the first two bytes of a buffer,
/// `tail` are up to [`TAIL_BYTES`] bytes at its end. Cameras may write more bytes after the picture, such as padding.
/// If the tail is padding only, the picture counts as whole.
pub(crate) fn is_cut(head: &[u8], tail: &[u8]) -> bool {
    let is_padding = |byte: u8| tail.iter().all(|&b| b == byte);
    !is_jpeg(head) || !(has_end(tail) || tail.len() == TAIL_BYTES && (is_padding(0) || is_padding(0xff)))
}

/// Returns `true` if the bytes have an end marker.
pub(crate) fn has_end(data: &[u8]) -> bool {
    memmem::find(data, &END).is_some()
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "jpeg", text)
}

fn word(data: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(..2)?.try_into().ok()?))
}

/// The tables and components of the segments before the scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tables<'a> {
    quantizers: [Option<&'a [u8]>; 4],
    /// The number of codes of each length, and their values: for DC and AC, by number.
    huffman: [[Option<[&'a [u8]; 2]>; 4]; 2],
    components: [Component; 4],
}

impl<'a> Tables<'a> {
    /// Reads a DQT segment (B.2.4.1).
    fn quantizer(&mut self, mut body: &'a [u8]) -> Option<()> {
        while let Some((&head, rest)) = body.split_first() {
            let bytes = if head >> 4 == 0 { 64 } else { 128 };
            let table = rest.get(..bytes)?;
            *self.quantizers.get_mut(usize::from(head & 15))? = Some(table).filter(|table| table.len() == 64);
            body = &rest[bytes..];
        }
        Some(())
    }

    /// Reads a DHT segment (B.2.4.2).
    fn huffman(&mut self, mut body: &'a [u8]) -> Option<()> {
        while let Some((&head, rest)) = body.split_first() {
            let counts = rest.get(..16)?;
            let end = 16 + counts.iter().map(|&count| usize::from(count)).sum::<usize>();
            let table = self.huffman.get_mut(usize::from(head >> 4))?.get_mut(usize::from(head & 15))?;
            *table = Some([counts, rest.get(16..end)?]);
            body = &rest[end..];
        }
        Some(())
    }

    /// Returns a Huffman table. A table that is missing is the one of Annex K: motion JPEG leaves them out.
    fn codes(&self, class: usize, number: u8) -> Option<[&'a [u8]; 2]> {
        let own = *self.huffman[class].get(usize::from(number))?;
        own.or_else(|| huffman::ANNEX_K[class].get(usize::from(number)).copied())
    }

    /// Reads a frame header (B.2.2). Returns precision, size and the number of components.
    fn frame(&mut self, body: &[u8]) -> Option<(u8, Size, u8)> {
        let size = Size::new(word(body.get(3..)?)?.into(), word(body.get(1..)?)?.into());
        let count = *body.get(5)?;
        for (component, spec) in self.components.get_mut(..count.into())?.iter_mut().zip(0..) {
            let spec = body.get(6 + 3 * spec..9 + 3 * spec)?;
            *component = Component { id: spec[0], factors: spec[1], quantizer: spec[2], ..Component::default() };
        }
        Some((body[0], size, count))
    }

    /// Reads a scan header (B.2.3). Returns the number of its components, which is not 0.
    fn scan(&mut self, body: &[u8]) -> Option<u8> {
        let count = *body.first().filter(|&&count| count > 0)?;
        for spec in body.get(1..1 + 2 * usize::from(count))?.chunks_exact(2) {
            let component = self.components.iter_mut().find(|component| component.id == spec[0])?;
            component.huffman = [spec[1] >> 4, spec[1] & 15];
        }
        Some(count)
    }

    fn subsampling(&self, count: u8) -> Option<(u8, u8)> {
        let [y, u, v, _] = self.components;
        let is_usual = count == 3 && (u.factors, v.factors) == (0x11, 0x11);
        is_usual.then_some((y.factors >> 4, y.factors & 15))
    }

    fn quantizers(&self, count: u8) -> Option<[&'a [u8]; 2]> {
        let [y, u, v, _] = self.components;
        let table = |component: Component| *self.quantizers.get(usize::from(component.quantizer))?;
        let [of_y, of_u, of_v] = [y, u, v].map(table);
        (count == 3 && of_u == of_v).then_some([of_y?, of_u?])
    }

    /// Returns `true` if no component has a Huffman table that differs from that of Annex K.
    fn has_usual_codes(&self, count: u8) -> bool {
        let is_usual = |(kind, component): (usize, &Component)| {
            let is_usual = |class: usize| {
                self.codes(class, component.huffman[class]) == Some(huffman::ANNEX_K[class][kind.min(1)])
            };
            is_usual(0) && is_usual(1)
        };
        self.components.iter().take(count.into()).enumerate().all(is_usual)
    }
}

impl<'a> Jpeg<'a> {
    /// Reads a picture. Ignores bytes after its end. Reads all bytes up to the end of the picture, and copies none.
    ///
    /// # Errors
    /// `InvalidArgument` if the buffer does not begin with a JPEG picture, or ends before its coded data. `Unsupported`
    /// if the picture has several scans.
    pub fn parse(data: &'a [u8]) -> Result<Self> {
        let mut left = data.strip_prefix(&START).ok_or_else(|| invalid("not a JPEG picture"))?;
        let (mut tables, mut frame, mut restart_interval) = (Tables::default(), None, 0);
        let scanned = loop {
            let (marker, body) = segment(&mut left).ok_or_else(|| invalid("the JPEG picture ends in its headers"))?;
            let is_read = match marker {
                DQT => tables.quantizer(body),
                DHT => tables.huffman(body),
                DRI => word(body).map(|interval| restart_interval = interval),
                // SOF0 to SOF15. Between them are DHT, JPG and DAC.
                0xc0..=0xcf if ![0xc8, 0xcc].contains(&marker) => {
                    tables.frame(body).map(|read| frame = Some((marker, read)))
                }
                EOI => None,
                _ => Some(()),
            };
            let scanned = if marker == SOS { tables.scan(body) } else { is_read.map(|()| 0) };
            match scanned {
                None => return Err(invalid(format!("the segment ff{marker:02x} of the JPEG picture is damaged"))),
                Some(0) => {}
                Some(scanned) => break scanned,
            }
        };
        let (marker, (precision, size, components)) =
            frame.ok_or_else(|| invalid("the JPEG picture does not have a frame header"))?;
        let (end, next) = scan_end(left);
        // Another marker in the data of a scan is damage.
        if scanned != components || matches!(next, Some(SOS | DHT | DQT | DRI)) {
            return Err(Error::new(ErrorKind::Unsupported, "jpeg", "the JPEG picture has more than one scan"));
        }
        Ok(Self {
            size,
            subsampling: tables.subsampling(components),
            restart_interval,
            quantizers: tables.quantizers(components),
            scan: &left[..end],
            is_whole: next == Some(EOI),
            is_baseline: (marker, precision) == (0xc0, 8),
            tables,
            components,
        })
    }

    /// Returns `true` for a baseline picture (SOF0) with 8 bits.
    #[cfg(feature = "mjpeg")]
    pub(crate) fn is_baseline(&self) -> bool {
        self.is_baseline
    }

    /// Returns `true` for a baseline picture whose Huffman tables are those of Annex K, also if it leaves them out.
    pub(crate) fn is_typical(&self) -> bool {
        self.is_baseline && self.tables.has_usual_codes(self.components)
    }

    /// Returns the color components.
    #[cfg(feature = "mjpeg")]
    pub(crate) fn components(&self) -> &[Component] {
        &self.tables.components[..usize::from(self.components)]
    }

    /// Returns a quantization table of 8 bits, in zigzag order.
    #[cfg(feature = "mjpeg")]
    pub(crate) fn quantizer(&self, number: u8) -> Option<&'a [u8]> {
        *self.tables.quantizers.get(usize::from(number))?
    }

    /// Returns the numbers of codes of each length and their values: of the table for DC (class 0) or AC (class 1).
    #[cfg(feature = "mjpeg")]
    pub(crate) fn codes(&self, class: usize, number: u8) -> Option<[&'a [u8]; 2]> {
        self.tables.codes(class, number)
    }
}

/// Takes the next marker and its segment (B.1.1.2, B.1.1.4). Fill bytes may precede a marker.
fn segment<'a>(left: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let data = *left;
    let fill = data.iter().take_while(|&&b| b == 0xff).count();
    let marker = *data.get(fill).filter(|_| fill > 0)?;
    let data = &data[fill + 1..];
    // TEM, restart markers, SOI and EOI are alone.
    if matches!(marker, 1 | 0xd0..=0xd9) {
        *left = data;
        return Some((marker, &[]));
    }
    let length = usize::from(word(data)?);
    let body = data.get(2..length)?;
    *left = &data[length..];
    Some((marker, body))
}

/// Returns the length of the coded data, and the marker that ends them. Restart markers do not.
fn scan_end(data: &[u8]) -> (usize, Option<u8>) {
    let mut at = 0;
    while let Some(found) = memchr(0xff, data.get(at..).unwrap_or(&[])) {
        at += found;
        let fill = data[at..].iter().take_while(|&&b| b == 0xff).count();
        match data.get(at + fill) {
            Some(0 | 0xd0..=0xd7) => at += fill + 1,
            Some(&marker) => return (at, Some(marker)),
            None => break,
        }
    }
    (data.len(), None)
}

/// The Huffman tables that motion JPEG leaves out (Annex K.3).
mod huffman {
    const DC: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

    #[rustfmt::skip]
    const AC_LUMINANCE: [u8; 162] = [
        0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
        0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
        0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
        0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
        0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
        0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
        0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
        0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
    ];

    #[rustfmt::skip]
    const AC_CHROMINANCE: [u8; 162] = [
        0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
        0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
        0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
        0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
        0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
        0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
        0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
        0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
        0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
    ];

    /// For DC and AC, for luminance and chrominance: the number of codes of each length, and their values.
    pub(super) const ANNEX_K: [[[&[u8]; 2]; 2]; 2] = [
        [
            [&[0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &DC],
            [&[0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &DC],
        ],
        [
            [&[0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d], &AC_LUMINANCE],
            [&[0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &AC_CHROMINANCE],
        ],
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment_of(marker: u8, body: &[u8]) -> Vec<u8> {
        [&[0xff, marker], &((body.len() + 2) as u16).to_be_bytes()[..], body].concat()
    }

    /// Coded data with a stuffed byte and a restart marker.
    const SCAN: [u8; 8] = [1, 2, 0xff, 0, 3, 0xff, 0xd0, 4];

    /// Returns a picture of 40x24 with these segments before its scan.
    fn picture(factors: [u8; 3], segments: &[Vec<u8>]) -> Vec<u8> {
        let frame = [8, 0, 24, 0, 40, 3, 1, factors[0], 0, 2, factors[1], 1, 3, factors[2], 1];
        let quantizers = [&[0][..], &[16; 64], &[1], &[17; 64]].concat();
        let mut data = START.to_vec();
        data.extend(segment_of(0xe0, b"JFIF\0\xff\xd9 a thumbnail's end"));
        data.extend(segment_of(DQT, &quantizers));
        data.extend(segments.concat());
        data.extend(segment_of(0xc0, &frame));
        data.extend(segment_of(SOS, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]));
        data.extend(SCAN);
        data.extend(END);
        data
    }

    fn usual_codes() -> Vec<u8> {
        let table = |class: usize, kind: usize| {
            let [counts, codes] = huffman::ANNEX_K[class][kind];
            [&[(class << 4 | kind) as u8], counts, codes].concat()
        };
        segment_of(DHT, &[table(0, 0), table(1, 0), table(0, 1), table(1, 1)].concat())
    }

    #[test]
    fn jpeg_parse_reads_what_a_receiver_needs() {
        let data = picture([0x21, 0x11, 0x11], &[usual_codes(), segment_of(DRI, &[0, 5])]);
        let jpeg = Jpeg::parse(&data).unwrap();
        assert_eq!((jpeg.size, jpeg.subsampling, jpeg.restart_interval), (Size::new(40, 24), Some((2, 1)), 5));
        assert_eq!(jpeg.quantizers, Some([&[16; 64][..], &[17; 64]]));
        assert_eq!((jpeg.scan, jpeg.is_typical(), jpeg.is_whole), (&SCAN[..], true, true));
        // Motion JPEG without Huffman tables, and with fill bytes before a marker.
        let mut bare = picture([0x22, 0x11, 0x11], &[]);
        bare.splice(2..2, [0xff; 3]);
        let jpeg = Jpeg::parse(&bare).unwrap();
        assert_eq!((jpeg.subsampling, jpeg.restart_interval, jpeg.is_typical()), (Some((2, 2)), 0, true));
    }

    #[test]
    fn jpeg_parse_takes_a_strange_marker_in_the_scan_for_damage() {
        let data = picture([0x22, 0x11, 0x11], &[]);
        let in_scan = |marker: u8| [&data[..data.len() - 2], &[0xff, marker, 9], &END].concat();
        let damaged = in_scan(0xe5);
        let jpeg = Jpeg::parse(&damaged).unwrap();
        assert_eq!((jpeg.scan, jpeg.is_whole), (&SCAN[..], false));
        for marker in [SOS, DHT] {
            assert_eq!(Jpeg::parse(&in_scan(marker)).unwrap_err().kind(), ErrorKind::Unsupported, "several scans");
        }
    }

    #[test]
    fn jpeg_parse_tells_unusual_pictures_apart() {
        let parsed = |data: &[u8]| Jpeg::parse(data).map(|jpeg| (jpeg.subsampling, jpeg.is_typical())).unwrap();
        let twice = picture([0x22, 0x12, 0x12], &[]);
        assert_eq!(parsed(&twice), (None, true), "4:2:2 with MCUs of other blocks");
        let mut codes = usual_codes();
        *codes.last_mut().unwrap() = 0;
        assert_eq!(parsed(&picture([0x22, 0x11, 0x11], &[codes])), (Some((2, 2)), false), "other Huffman codes");
        let mut progressive = picture([0x22, 0x11, 0x11], &[]);
        let at = memmem::find(&progressive, &[0xff, 0xc0]).unwrap();
        progressive[at + 1] = 0xc2;
        assert_eq!(parsed(&progressive), (Some((2, 2)), false));
        let words = segment_of(DQT, &[&[0x11][..], &[0; 128]].concat());
        let data = picture([0x22, 0x11, 0x11], &[words]);
        assert_eq!(Jpeg::parse(&data).unwrap().quantizers, None, "a table of 16 bits");
        let scans = [&picture([0x22, 0x11, 0x11], &[])[..], &[0xff, SOS]].concat();
        let again = memmem::rfind(&scans, &END).unwrap();
        let second = [&scans[..again], &scans[again + 2..], &END].concat();
        let one = picture([0x22, 0x11, 0x11], &[]);
        let at = memmem::find(&one, &[0xff, SOS]).unwrap();
        let first = [&one[..at], &segment_of(SOS, &[1, 1, 0, 0, 63, 0]), &SCAN].concat();
        for several in [second, first] {
            assert_eq!(Jpeg::parse(&several).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn jpeg_parse_refuses_segments_that_contradict_themselves() {
        for segment in [
            segment_of(DQT, &[4]),
            segment_of(DQT, &[[4].as_slice(), &[1; 64]].concat()),
            segment_of(DHT, &[0x20; 17]),
            segment_of(DHT, &[0xff; 17]),
            segment_of(DRI, &[1]),
            segment_of(0xc1, &[8, 0]),
            segment_of(SOS, &[0]),
            segment_of(SOS, &[1, 9, 0]),
            vec![0xff, 0xe1, 0, 1],
            vec![0xff, EOI],
        ] {
            let error = Jpeg::parse(&picture([0x22, 0x11, 0x11], std::slice::from_ref(&segment))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{segment:?}");
        }
    }

    #[test]
    fn cut_pictures_lack_a_marker_in_their_first_or_last_bytes() {
        let tail = |end: &[u8], padding: u8, count: usize| {
            let all = [&[1; TAIL_BYTES], end, &vec![padding; count]].concat();
            all[all.len() - TAIL_BYTES..].to_vec()
        };
        assert!(!is_cut(&START, &tail(&END, 0, 0)) && !is_cut(&START, &tail(&END, 7, 9)));
        assert!(is_cut(&START, &tail(&[], 0, 0)) && is_cut(&START, &tail(&[], 0, 99)));
        assert!(is_cut(&END, &tail(&END, 0, 0)), "the rest of an earlier picture");
        for padding in [0, 0xff] {
            assert!(!is_cut(&START, &tail(&END, padding, 5000)), "padding to the size of the buffer");
        }
        assert!(is_cut(&START, &[0; TAIL_BYTES - 1]), "all of a short picture, of which the rest is missing");
        assert!(is_cut(&[], &[]) && is_cut(&START, &START) && !is_cut(&START, &[0xff, SOI, 0xff, EOI]));
    }

    proptest! {
        #[test]
        fn jpeg_is_whole_exactly_if_its_end_is_there(
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            restarts in any::<bool>(),
        ) {
            let more = if restarts { vec![usual_codes(), segment_of(DRI, &[0, 1])] } else { Vec::new() };
            let data = picture([0x21, 0x11, 0x11], &more);
            let whole = Jpeg::parse(&data).unwrap();
            prop_assert!(whole.is_whole);
            let padded = [&data[..], &noise].concat();
            prop_assert_eq!(Jpeg::parse(&padded).unwrap(), whole.clone());
            for len in 0..data.len() {
                match Jpeg::parse(&data[..len]) {
                    Ok(cut) => prop_assert!(!cut.is_whole && whole.scan.starts_with(&cut.scan[..cut.scan.len().min(8)])),
                    Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument),
                }
            }
        }

        #[test]
        fn jpeg_parse_accepts_any_bytes(
            data in proptest::collection::vec(prop_oneof![Just(0xffu8), 0xc0u8..0xe0, 0u8..8, any::<u8>()], 0..200),
            at in 0usize..700,
        ) {
            let whole = picture([0x21, 0x11, 0x11], &[usual_codes(), segment_of(DRI, &[0, 5])]);
            let (front, back) = whole.split_at(at.min(whole.len()));
            for data in [[&START, &data[..]].concat(), [front, &data, back].concat()] {
                if let Ok(jpeg) = Jpeg::parse(&data) {
                    let at = jpeg.scan.as_ptr() as usize - data.as_ptr() as usize;
                    prop_assert!(at + jpeg.scan.len() <= data.len());
                    prop_assert!(jpeg.quantizers.iter().flatten().all(|table| table.len() == 64));
                }
            }
        }
    }
}
