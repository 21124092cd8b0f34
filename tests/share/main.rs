//! Tests of a publisher and subscribers over real sockets, with peers that misbehave: as raw bytes, and as stopped,
//! starved and killed processes. No device is needed.

mod aligned;
mod basics;
mod bind;
mod hostile;
mod in_place;
mod processes;
mod rates;
mod raw;
mod regressions;
mod stats;
mod support;
#[cfg(feature = "unixfd")]
mod unixfd;
#[cfg(feature = "unixfd")]
mod unixfd_client;
#[cfg(feature = "unixfd")]
mod unixfd_sink;
mod validity;
