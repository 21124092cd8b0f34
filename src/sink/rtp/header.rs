//! The bytes of RTP headers and RTCP packets (RFC 3550, 5.1 and 6).

/// Bytes of an RTP header without contributing sources.
pub(super) const RTP_BYTES: usize = 12;

/// The header fields that all packets of a frame share.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    pub(super) timestamp: u32,
    /// The sequence number of the first packet.
    pub(super) sequence: u16,
}

/// Returns the header of a frame's packet with this index.
pub(super) fn rtp(stamp: Stamp, index: usize, is_last: bool) -> [u8; RTP_BYTES] {
    let mut header = [0; RTP_BYTES];
    header[0] = 0x80;
    header[1] = stamp.payload_type | u8::from(is_last) << 7;
    // The sequence wraps.
    header[2..4].copy_from_slice(&stamp.sequence.wrapping_add(index as u16).to_be_bytes());
    header[4..8].copy_from_slice(&stamp.timestamp.to_be_bytes());
    header[8..].copy_from_slice(&stamp.ssrc.to_be_bytes());
    header
}

/// The content of a sender report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Wall-clock time that belongs to `timestamp`, in nanoseconds since 1970.
    pub(super) unix_ns: u64,
    pub(super) timestamp: u32,
    pub(super) packets: u32,
    pub(super) octets: u32,
}

/// Seconds from 1900, the start of NTP time, to 1970.
const NTP_OFFSET: u64 = 2_208_988_800;

/// Writes a compound packet (RFC 3550, 6.1): a sender report, the canonical name that must follow it, and BYE if the
/// sender leaves. Returns its length. Cuts the name to 128 bytes.
pub(super) fn sender_report(ssrc: u32, report: &Report, name: &str, leaves: bool, out: &mut [u8; 256]) -> usize {
    let (seconds, rest) = (report.unix_ns / 1_000_000_000 + NTP_OFFSET, report.unix_ns % 1_000_000_000);
    let fraction = (rest << 32) / 1_000_000_000;
    let name = &name.as_bytes()[..name.len().min(128)];
    // The SSRC, the item, a zero that ends the list, and zeros up to a whole word.
    let words = (4 + 2 + name.len() + 1).div_ceil(4);
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        out[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    put(&[0x80, SENDER_REPORT, 0, 6]);
    // The seconds of NTP wrap in 2036.
    for word in [ssrc, seconds as u32, fraction as u32, report.timestamp, report.packets, report.octets] {
        put(&word.to_be_bytes());
    }
    put(&[0x81, 202, 0, words as u8]);
    put(&ssrc.to_be_bytes());
    put(&[1, name.len() as u8]);
    put(name);
    put(&[0; 4][..words * 4 - 6 - name.len()]);
    if leaves {
        put(&[0x81, 203, 0, 1]);
        put(&ssrc.to_be_bytes());
    }
    len
}

/// A receiver's report about a stream (RFC 3550, 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reception {
    /// The fraction of RTP packets that were lost since the previous report, in units of 1/256.
    pub fraction_lost: u8,
    /// RTP packets that were lost since the beginning. Negative if RTP packets were duplicated.
    pub lost: i32,
    /// The variation of the transit time of RTP packets, in units of 1/90000 s.
    pub jitter: u32,
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;

/// Returns the reception of `ssrc` that a compound packet reports.
pub(super) fn receiver_report(ssrc: u32, mut bytes: &[u8]) -> Option<Reception> {
    while let &[first, kind, high, low, ..] = bytes {
        let len = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        if first >> 6 != 2 || len > bytes.len() {
            return None;
        }
        let (packet, rest) = bytes.split_at(len);
        // Both have report blocks, after the sender's SSRC and, in a sender report, its counts.
        let blocks = match kind {
            SENDER_REPORT => packet.get(28..),
            RECEIVER_REPORT => packet.get(8..),
            _ => None,
        };
        for block in blocks.unwrap_or(&[]).chunks_exact(24).take(usize::from(first & 31)) {
            let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
            if word(0) == ssrc {
                // 24 bits with a sign.
                let lost = (word(4) << 8) as i32 >> 8;
                return Some(Reception { fraction_lost: block[4], lost, jitter: word(12) });
            }
        }
        bytes = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_rfc() {
        let stamp = Stamp { payload_type: 96, ssrc: 0xdead_beef, timestamp: 0x0102_0304, sequence: 0xffff };
        assert_eq!(rtp(stamp, 3, true), [0x80, 0xe0, 0, 2, 1, 2, 3, 4, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(rtp(Stamp { payload_type: 26, ..stamp }, 0, false)[1], 26);
        let report = Report { unix_ns: 1_500_000_000, timestamp: 9, packets: 2, octets: 3 };
        let mut bytes = [0xee; 256];
        assert_eq!(sender_report(7, &report, "ab", false, &mut bytes), 44);
        assert_eq!(bytes[..8], [0x80, 200, 0, 6, 0, 0, 0, 7]);
        assert_eq!(bytes[8..16], [0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0], "one and a half seconds into 1970");
        assert_eq!(bytes[28..44], [0x81, 202, 0, 3, 0, 0, 0, 7, 1, 2, b'a', b'b', 0, 0, 0, 0]);
        let len = sender_report(7, &report, &"n".repeat(500), true, &mut bytes);
        assert_eq!((len % 4, &bytes[len - 8..len]), (0, &[0x81, 203, 0, 1, 0, 0, 0, 7][..]));
    }

    #[test]
    fn receiver_report_is_parsed() {
        let mut block = [0; 24];
        block[..8].copy_from_slice(&[0, 0, 0, 7, 128, 0xff, 0xff, 0xfe]);
        block[15] = 90;
        let report = [&[0x81, 201, 0, 7, 0, 0, 0, 1][..], &block].concat();
        let heard = Some(Reception { fraction_lost: 128, lost: -2, jitter: 90 });
        assert_eq!(receiver_report(7, &report), heard);
        assert_eq!(receiver_report(8, &report), None, "of another stream");
        let after = [&[0x80, 202, 0, 0][..], &report].concat();
        assert_eq!(receiver_report(7, &after), heard);
        for len in 0..report.len() {
            assert_eq!(receiver_report(7, &report[..len]), None);
        }
    }
}
