//! Writes session descriptions (RFC 8866; RFC 6184, 8.2; RFC 7798, 7.2; RFC 7741, 6.2).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::bitstream::{Codec, NalKind, ParameterSets};
use crate::sink::base64;

fn list<'a>(units: impl Iterator<Item = &'a [u8]>) -> String {
    units.map(base64::encode).collect::<Vec<_>>().join(",")
}

/// The ends of a session.
pub(in crate::sink) struct Session<'a> {
    /// The destination; an address of zeros and port 0 if the receiver chooses its own (RFC 2326, C.1).
    pub(in crate::sink) to: SocketAddr,
    pub(in crate::sink) from: IpAddr,
    pub(in crate::sink) ttl: u32,
    /// The track's name in RTSP.
    pub(in crate::sink) control: Option<&'a str>,
}

/// Returns the description of a session with one video stream to one destination.
pub(super) fn describe(codec: Codec, session: &Session<'_>, id: u64, sets: Option<&ParameterSets>) -> Option<String> {
    let Session { to, from, ttl, control } = *session;
    let (kind, encoding) = codec.names().rtp?;
    let family = |ip: IpAddr| if ip.is_ipv4() { "IP4" } else { "IP6" };
    // RFC 8866, 5.7: an IPv4 multicast address has a TTL.
    let reach = if to.is_ipv4() && to.ip().is_multicast() { format!("/{ttl}") } else { String::new() };
    let mut text = format!(
        "v=0\r\no=- {id} 1 IN {} {from}\r\ns=framelease\r\nc=IN {} {}{reach}\r\nt=0 0\r\n\
         m=video {} RTP/AVP {kind}\r\na=rtpmap:{kind} {encoding}/90000\r\n",
        family(from),
        family(to.ip()),
        to.ip(),
        to.port(),
    );
    let format = match (codec, sets) {
        (Codec::H264, Some(sets)) => {
            let sps = sets.of(NalKind::Sps).next().unwrap_or(&[]);
            let level: String = sps.get(1..4).unwrap_or(&[]).iter().map(|b| format!("{b:02X}")).collect();
            let both = list(sets.of(NalKind::Sps).chain(sets.of(NalKind::Pps)));
            format!("packetization-mode=1;profile-level-id={level};sprop-parameter-sets={both}")
        }
        (Codec::H264, None) => "packetization-mode=1".into(),
        (Codec::Hevc, Some(sets)) => {
            let of = |kind| list(sets.of(kind));
            format!("sprop-vps={};sprop-sps={};sprop-pps={}", of(NalKind::Vps), of(NalKind::Sps), of(NalKind::Pps))
        }
        _ => String::new(),
    };
    if !format.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "a=fmtp:{kind} {format}\r\n");
    }
    if let Some(control) = control {
        let _ = write!(text, "a=recvonly\r\na=control:{control}\r\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions() {
        let stream = [0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0, 0, 1, 0x68, 0xce];
        let sets = ParameterSets::find(Codec::H264, &stream);
        let to: SocketAddr = "239.1.2.3:5004".parse().unwrap();
        let session = Session { to, from: "10.0.0.1".parse().unwrap(), ttl: 4, control: None };
        let text = describe(Codec::H264, &session, 7, sets.as_ref()).unwrap();
        for line in [
            "o=- 7 1 IN IP4 10.0.0.1",
            "c=IN IP4 239.1.2.3/4",
            "m=video 5004 RTP/AVP 96",
            "a=rtpmap:96 H264/90000",
            "a=fmtp:96 packetization-mode=1;profile-level-id=42C01E;sprop-parameter-sets=Z0LAHg==,aM4=",
        ] {
            assert!(text.split("\r\n").any(|l| l == line), "{line} in {text}");
        }
        let session =
            Session { to: "[::]:0".parse().unwrap(), from: "::1".parse().unwrap(), ttl: 1, control: Some("video") };
        let text = describe(Codec::Vp8, &session, 7, None).unwrap();
        assert!(text.contains("c=IN IP6 ::\r\n") && text.contains("VP8/90000") && !text.contains("fmtp"));
        assert!(text.ends_with("a=control:video\r\n"));
        assert!(describe(Codec::Fwht, &session, 7, None).is_none());
    }
}
