//! The bytes of RTP headers and RTCP packets (RFC 3550, 5.1 and 6).

use super::PAYLOAD_TYPE;

/// Bytes of an RTP header without contributing sources.
pub(super) const RTP_BYTES: usize = 12;

pub(super) fn rtp(is_last: bool, sequence: u16, timestamp: u32, ssrc: u32) -> [u8; RTP_BYTES] {
    let mut header = [0; RTP_BYTES];
    header[0] = 0x80;
    header[1] = PAYLOAD_TYPE | u8::from(is_last) << 7;
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header[4..8].copy_from_slice(&timestamp.to_be_bytes());
    header[8..].copy_from_slice(&ssrc.to_be_bytes());
    header
}

/// What a sender report tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Wall-clock time of the moment that `timestamp` is of, in nanoseconds since 1970.
    pub(super) unix_ns: u64,
    pub(super) timestamp: u32,
    pub(super) packets: u32,
    pub(super) octets: u32,
}

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_OFFSET: u64 = 2_208_988_800;

/// A compound packet: sender report, and the canonical name that must be with it.
pub(super) fn sender_report(ssrc: u32, report: &Report, name: &str) -> Vec<u8> {
    let (seconds, rest) = (report.unix_ns / 1_000_000_000 + NTP_OFFSET, report.unix_ns % 1_000_000_000);
    let fraction = (rest << 32) / 1_000_000_000;
    let mut out = vec![0x80, 200, 0, 6];
    // NTP's seconds wrap in 2036, as everybody's do.
    for word in [ssrc, seconds as u32, fraction as u32, report.timestamp, report.packets, report.octets] {
        out.extend(word.to_be_bytes());
    }
    let name = &name.as_bytes()[..name.len().min(255)];
    // SSRC, the item, a zero that ends the list, and zeros to a whole word.
    let body = 4 + 2 + name.len() + 1;
    let words = body.div_ceil(4);
    out.extend([0x81, 202]);
    out.extend((words as u16).to_be_bytes());
    let end = out.len() + words * 4;
    out.extend(ssrc.to_be_bytes());
    out.extend([1, name.len() as u8]);
    out.extend_from_slice(name);
    out.resize(end, 0);
    out
}

/// The sender leaves.
pub(super) fn bye(ssrc: u32) -> Vec<u8> {
    [&[0x81, 203, 0, 1][..], &ssrc.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_rfc() {
        assert_eq!(
            rtp(true, 0x1234, 0x0102_0304, 0xdead_beef),
            [0x80, 0xe0, 0x12, 0x34, 1, 2, 3, 4, 0xde, 0xad, 0xbe, 0xef]
        );
        assert_eq!(rtp(false, 0, 0, 0)[1], 96);
        let report = Report { unix_ns: 1_500_000_000, timestamp: 9, packets: 2, octets: 3 };
        let bytes = sender_report(7, &report, "ab");
        assert_eq!(bytes[..8], [0x80, 200, 0, 6, 0, 0, 0, 7]);
        assert_eq!(bytes[8..16], [0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0], "one and a half seconds into 1970");
        assert_eq!(bytes[28..], [0x81, 202, 0, 3, 0, 0, 0, 7, 1, 2, b'a', b'b', 0, 0, 0, 0]);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bye(7), [0x81, 203, 0, 1, 0, 0, 0, 7]);
    }
}
