//! Sinks of coded packets: Matroska and MP4 files, RTP, RTSP. Displays are in `drm`.
//!
//! A sink takes [`Packet`](crate::frame::Packet)s and writes their bytes without a copy. One encoder can serve all
//! sinks: a clone of a packet increments a counter. A sink in its own thread gets packets from a
//! [`PacketReceiver`](crate::frame::PacketReceiver).
//!
//! ```
//! use framelease::bitstream::Codec;
//! use framelease::format::Size;
//! use framelease::frame::{Packet, PacketMeta};
//! use framelease::sink::recorder::{Recorder, RecorderOptions};
//! use framelease::{Station, Submit};
//!
//! # let folder = std::env::temp_dir().join(format!("framelease-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder).unwrap();
//! # let path = folder.join("camera.mkv");
//! let mut recorder = Recorder::new(&path, RecorderOptions::default())?;
//! # let idr: &[u8] = &[0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0xda, 2, 0x80, 0xf6, 0x40, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80,
//! #     0, 0, 0, 1, 0x65, 0x88, 0x84, 0, 0x33, 0xff];
//! let meta = PacketMeta::new(Codec::H264, Size::new(640, 480), 0, 0);
//! let _ = recorder.try_submit(Packet::new(meta, idr.to_vec(), None))?; // `idr` came from an encoder.
//! recorder.finish();
//! while let Some(event) = recorder.try_recv()?.item() {
//!     println!("{event:?}"); // The file, with its number of packets and its duration.
//! }
//! # std::fs::remove_dir_all(folder).unwrap();
//! # Ok::<(), framelease::Error>(())
//! ```

mod base64;
mod container;
pub mod matroska;
pub mod mp4;
pub mod recorder;
pub mod ring;
pub mod rtp;
pub mod rtsp;
mod tcp;
mod tls;

pub use container::{Fsync, Repaired, Summary, WriterOptions, Written};
