//! Tests of sinks with other programs: streams of ffmpeg's encoders, files read by ffprobe, ffmpeg and mkvmerge. If a
//! program is missing, the test prints a skip.

#[path = "../kernel/allocations.rs"]
mod allocations;
mod blocks;
mod client;
#[cfg(feature = "mjpeg")]
mod jpeg_decoder;
mod limits;
mod matroska;
mod mp4;
mod packet_receiver;
mod receive;
mod recorder;
mod repair;
mod ring;
mod rtp;
mod rtsp;
mod station;
mod support;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_relay;
mod tunnel;
