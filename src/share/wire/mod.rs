//! The messages of the share protocol, version 1: `docs/protocol.md` in code. Bytes in, values out; no descriptor.
//!
//! Fixed little-endian layouts over SOCK_SEQPACKET. A message may be longer than this version knows: the rest is
//! ignored. One that is shorter, or holds an impossible value, is a [`Malformed`](fields::Malformed).

mod codec;
mod fields;
mod messages;
mod reason;
mod wishes;

pub(crate) use messages::*;
pub use reason::Reason;
pub use wishes::{Policy, Rate};

/// Any bytes as a message of either side: what is understood is written again, and then understood as the same. Whether
/// it was understood. For `tests/fuzz` and `benches/instructions.rs` alone.
#[doc(hidden)]
pub fn reads_as_written(message: &[u8]) -> bool {
    if let Ok(Some(said)) = ToPublisher::decode(message) {
        assert_eq!(ToPublisher::decode(said.encode().as_bytes()), Ok(Some(said)));
        return true;
    }
    let Ok(Some(said)) = ToSubscriber::decode(message) else { return false };
    assert_eq!(ToSubscriber::decode(said.encode().as_bytes()), Ok(Some(said)));
    true
}
