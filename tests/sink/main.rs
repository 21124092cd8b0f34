//! Sinks against programs that we did not write: streams made by ffmpeg's encoders, files read by ffprobe, ffmpeg and
//! mkvmerge. Where a program is missing, the test says so and is skipped.

#[path = "../kernel/allocations.rs"]
mod allocations;
mod blocks;
mod client;
mod matroska;
mod packet_receiver;
mod receive;
mod rtp;
mod rtsp;
mod station;
mod support;
