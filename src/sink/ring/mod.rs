//! Recordings of events: each begins before its trigger.
//!
//! [`EventRecorder`] keeps the last packets in memory ([`RingOptions`]). A trigger writes them to a file, and the
//! packets that follow. So the file shows what led to the event.

mod packets;
mod recorder;

pub use packets::RingOptions;
pub use recorder::EventRecorder;
