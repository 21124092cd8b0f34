//! The contract of a station, checked by the same tests for every station that runs without a device.

mod aligned;
mod checks;
#[path = "../sink/client.rs"]
mod client;
#[path = "../converting/mod.rs"]
mod converting;
mod forked_child;
mod jobs;
#[allow(dead_code)] // Not all of it is used here.
#[path = "../share/raw.rs"]
mod raw;
mod scene;
#[allow(dead_code)] // Not all of it is used here.
#[path = "../share/support.rs"]
mod support;
#[cfg(feature = "unixfd")]
#[allow(dead_code)] // Not all of it is used here.
#[path = "../share/unixfd_client.rs"]
mod unixfd_client;
mod watch;

mod cpu;
#[cfg(feature = "g2d")]
mod g2d;
mod hotplug;
#[cfg(feature = "mjpeg")]
mod jpeg_decoder;
mod packet_receiver;
mod publisher;
mod recorder;
mod replay;
mod rtp_sender;
mod rtsp_server;
mod subscriber;
mod test_pattern;
#[cfg(feature = "unixfd")]
mod unixfd_publisher;
#[cfg(feature = "unixfd")]
mod unixfd_subscriber;
#[cfg(feature = "vulkan")]
mod vulkan;
