//! The date and time of packets.

use std::time::{Duration, SystemTime};

use crate::frame::{FrameFlags, Packet};
use crate::sys::clock::monotonic_ns;

/// The oldest packet whose timestamp is believed. A packet of a ring may be minutes old.
const MOST_AGE: Duration = Duration::from_secs(3600);

/// Returns when the frame of a packet was captured, or the present time if its timestamp does not say.
pub(in crate::sink) fn captured_at(packet: &Packet) -> SystemTime {
    let meta = packet.meta();
    let age = monotonic_ns().checked_sub(meta.timestamp_ns).map(Duration::from_nanos);
    let is_known = meta.flags.contains(FrameFlags::MONOTONIC);
    let age = age.filter(|&age| is_known && age <= MOST_AGE).unwrap_or_default();
    let now = SystemTime::now();
    now.checked_sub(age).unwrap_or(now)
}
