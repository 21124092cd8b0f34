//! A receiver of RTP packets.
#![allow(dead_code)] // Not all of it is used by every test.

use std::net::UdpSocket;

/// A received packet: sequence, timestamp, SSRC, marker, payload.
pub type Received = (u16, u32, u32, bool, Vec<u8>);

pub fn received(socket: &UdpSocket) -> Vec<Received> {
    received_as(96, socket)
}

/// Receives packets of a payload type.
pub fn received_as(payload_type: u8, socket: &UdpSocket) -> Vec<Received> {
    let mut all = Vec::new();
    let mut buffer = [0; 9000];
    while let Ok(n) = socket.recv(&mut buffer) {
        all.push(packet_as(payload_type, &buffer[..n]));
    }
    all
}

/// Parses one packet.
pub fn packet(b: &[u8]) -> Received {
    packet_as(96, b)
}

fn packet_as(payload_type: u8, b: &[u8]) -> Received {
    assert!(b.len() >= 12 && b[0] == 0x80 && b[1] & 0x7f == payload_type, "{b:?}");
    let word = |at: usize| u32::from_be_bytes(b[at..at + 4].try_into().unwrap());
    (u16::from_be_bytes([b[2], b[3]]), word(4), word(8), b[1] & 0x80 != 0, b[12..].to_vec())
}

/// The NAL units of H.264 payloads (RFC 6184).
pub fn units(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    for p in payloads {
        match p[0] & 31 {
            24 => {
                let mut at = 1;
                while at < p.len() {
                    let len = usize::from(u16::from_be_bytes([p[at], p[at + 1]]));
                    units.push(p[at + 2..at + 2 + len].to_vec());
                    at += 2 + len;
                }
            }
            28 => {
                if p[1] & 0x80 != 0 {
                    units.push(vec![p[0] & 0xe0 | p[1] & 31]);
                }
                units.last_mut().unwrap().extend_from_slice(&p[2..]);
            }
            _ => units.push(p.clone()),
        }
    }
    units
}
