//! The messages of the share protocol, version 1: `docs/protocol.md` in code. Bytes in, values out; no descriptor.
//!
//! Fixed little-endian layouts over SOCK_SEQPACKET. A message may be longer than this version knows: the rest is
//! ignored. One that is shorter, or holds an impossible value, is a [`Malformed`](fields::Malformed).

mod codec;
mod fields;
mod messages;

pub(crate) use messages::*;

/// Decodes a message of either side. What is understood must survive encoding and decoding again. Returns whether it
/// was understood.
#[cfg(fuzzing)]
pub fn reads_as_written(message: &[u8]) -> bool {
    if let Ok(Some(said)) = ToPublisher::decode(message) {
        assert_eq!(ToPublisher::decode(said.encode().as_bytes()), Ok(Some(said)));
        return true;
    }
    let Ok(Some(said)) = ToSubscriber::decode(message) else { return false };
    assert_eq!(ToSubscriber::decode(said.encode().as_bytes()), Ok(Some(said)));
    true
}
