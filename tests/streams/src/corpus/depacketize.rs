//! Takes frames out of RTP packets. It knows what simple receivers know: in H.265 fragments and single units, no
//! aggregation.

use framelease::bitstream::Codec;

use super::made::ivf;
use crate::Res;

/// Returns the stream in the datagrams, as a file. Not for Motion JPEG, whose headers are not sent (RFC 2435).
pub fn depacketize(codec: Codec, size: (u32, u32), datagrams: &[Vec<u8>]) -> Res<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut last: Option<u16> = None;
    for datagram in datagrams {
        let Some((head, payload)) = datagram.split_first_chunk::<12>() else { return Err("a short datagram".into()) };
        if head[0] != 0x80 {
            return Err(format!("a header that begins with {:#x}", head[0]));
        }
        let sequence = u16::from_be_bytes([head[2], head[3]]);
        if last.is_some_and(|last| sequence != last.wrapping_add(1)) {
            return Err(format!("a gap before packet {sequence}"));
        }
        last = Some(sequence);
        payloads.push((head[1] & 0x80 != 0, payload));
    }
    match codec {
        Codec::Vp8 => vp8(size, &payloads),
        _ => units(codec, &payloads),
    }
}

/// RFC 6184 and RFC 7798.
fn units(codec: Codec, payloads: &[(bool, &[u8])]) -> Res<Vec<u8>> {
    const START: [u8; 4] = [0, 0, 0, 1];
    let mut out = Vec::new();
    for (_, payload) in payloads {
        let (kind, header) = match codec {
            Codec::H264 => (payload[0] & 31, 1),
            _ => (payload[0] >> 1 & 63, 2),
        };
        match (codec, kind) {
            (Codec::H264, 24) => {
                let mut rest = &payload[1..];
                while let Some((len, body)) = rest.split_first_chunk::<2>() {
                    let len = usize::from(u16::from_be_bytes(*len));
                    let unit = body.get(..len).ok_or("an aggregation that is cut")?;
                    out.extend([&START, unit].concat());
                    rest = &body[len..];
                }
            }
            (Codec::H264, 28) | (Codec::Hevc, 49) => {
                let state = payload[header];
                if state & 0x80 != 0 {
                    out.extend(START);
                    match codec {
                        Codec::H264 => out.push(payload[0] & 0xe0 | state & 31),
                        _ => out.extend([payload[0] & 0x81 | (state & 63) << 1, payload[1]]),
                    }
                }
                out.extend_from_slice(&payload[header + 1..]);
            }
            (Codec::H264, 24..) | (Codec::H264, 0) | (Codec::Hevc, 48..) => {
                return Err(format!("a payload of type {kind}"))
            }
            _ => out.extend([&START, *payload].concat()),
        }
    }
    Ok(out)
}

/// RFC 7741.
fn vp8(size: (u32, u32), payloads: &[(bool, &[u8])]) -> Res<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = vec![Vec::new()];
    for (is_last, payload) in payloads {
        let (head, body) = payload.split_first().ok_or("an empty payload")?;
        let frame = frames.last_mut().ok_or("no frame")?;
        if (*head == 0x10) != frame.is_empty() || head & !0x10 != 0 {
            return Err(format!("a payload descriptor {head:#x} at byte {} of a frame", frame.len()));
        }
        frame.extend_from_slice(body);
        if *is_last {
            frames.push(Vec::new());
        }
    }
    frames.pop();
    Ok(ivf(size, frames.iter().enumerate().map(|(i, frame)| (&frame[..], i as u64 * 40))))
}
