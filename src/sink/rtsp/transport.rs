//! Parses the `Transport` header (RFC 2326, 12.39): how a client wants its packets.

/// A transport that this server supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// By UDP to these ports of the client: RTP, RTCP.
    Udp(u16, u16),
    /// In the connection, with RTP on this channel and RTCP on the next. `None`: the server chooses.
    Tcp(Option<u8>),
    /// By UDP to the stream's group.
    Multicast,
}

/// Returns the first transport in the header that `is_available`.
pub(super) fn choose(header: &str, is_available: impl Fn(Wanted) -> bool) -> Option<Wanted> {
    header.split(',').find_map(|spec| wanted(spec.trim()).filter(|&wanted| is_available(wanted)))
}

fn wanted(spec: &str) -> Option<Wanted> {
    let mut parts = spec.split(';').map(str::trim);
    let profile = parts.next()?;
    let (mut is_multicast, mut is_unicast, mut ports, mut channels) = (false, false, None, None);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.to_ascii_lowercase().as_str() {
            "multicast" => is_multicast = true,
            "unicast" => is_unicast = true,
            "client_port" => ports = Some(range::<u16>(value)?),
            "interleaved" => channels = Some(range::<u8>(value)?),
            // The server only plays.
            "mode" if !value.trim_matches('"').eq_ignore_ascii_case("play") => return None,
            _ => {}
        }
    }
    if profile.eq_ignore_ascii_case("RTP/AVP/TCP") {
        return match channels {
            // RTCP must be on the next channel.
            Some((rtp, rtcp)) if rtcp == rtp.checked_add(1)? => Some(Wanted::Tcp(Some(rtp))),
            Some(_) => None,
            None => Some(Wanted::Tcp(None)),
        };
    }
    if !profile.eq_ignore_ascii_case("RTP/AVP") && !profile.eq_ignore_ascii_case("RTP/AVP/UDP") {
        return None;
    }
    // Multicast is the default, but only unicast has ports of the client.
    match (is_unicast || ports.is_some() && !is_multicast, ports) {
        (false, _) => Some(Wanted::Multicast),
        (true, Some((rtp, rtcp))) if rtp > 0 && rtcp > 0 => Some(Wanted::Udp(rtp, rtcp)),
        (true, _) => None,
    }
}

/// Parses `a-b`, or `a`, which means `a` and the next number.
fn range<T: std::str::FromStr + Copy + Into<u32> + TryFrom<u32>>(text: &str) -> Option<(T, T)> {
    match text.split_once('-') {
        Some((a, b)) => Some((a.trim().parse().ok()?, b.trim().parse().ok()?)),
        None => {
            let first: T = text.trim().parse().ok()?;
            Some((first, T::try_from(first.into() + 1).ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choose_takes_the_first_that_is_available() {
        for (header, expected) in [
            ("RTP/AVP;unicast;client_port=5000-5001", Some(Wanted::Udp(5000, 5001))),
            ("rtp/avp/udp; unicast; client_port=5000;mode=\"PLAY\"", Some(Wanted::Udp(5000, 5001))),
            ("RTP/AVP/UDP;client_port=5000-5001", Some(Wanted::Udp(5000, 5001))),
            ("RTP/AVP;multicast;client_port=5000-5001", None),
            ("RTP/AVP/TCP;unicast;interleaved=2-3", Some(Wanted::Tcp(Some(2)))),
            ("RTP/AVP/TCP", Some(Wanted::Tcp(None))),
            ("RTP/AVP/TCP;interleaved=255-256", None),
            ("RTP/AVP/TCP;interleaved=2-9", None),
            ("RTP/AVP;multicast", None),
            ("RTP/AVP;multicast,RTP/AVP/TCP;interleaved=0-1", Some(Wanted::Tcp(Some(0)))),
            ("RTP/SAVP;unicast;client_port=1-2, RTP/AVP;unicast;client_port=3-4", Some(Wanted::Udp(3, 4))),
            ("RTP/AVP;unicast;client_port=0-1", None),
            ("RTP/AVP;unicast;client_port=65535", None),
            ("RTP/AVP;unicast", None),
            ("RTP/AVP;unicast;client_port=1-2;mode=record", None),
            ("", None),
        ] {
            assert_eq!(choose(header, |wanted| wanted != Wanted::Multicast), expected, "{header}");
        }
        assert_eq!(choose("RTP/AVP", |_| true), Some(Wanted::Multicast));
    }
}
