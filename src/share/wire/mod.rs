//! The messages of the share protocol, version 1, as `docs/protocol.md` defines them. Bytes in, values out; no
//! descriptors.
//!
//! Fixed little-endian layouts over SOCK_SEQPACKET. A message may be longer than this version knows: the rest is
//! ignored. A message that is shorter, or has an impossible value, is [`Malformed`](fields::Malformed).

mod codec;
mod fields;
mod messages;

pub(crate) use messages::*;

/// Decodes a message of either side, for fuzzing. Returns whether it could be decoded. A decoded message must survive
/// encoding and decoding again.
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
