//! Recordings as sources: a recording of a customer becomes a test.
//!
//! - [`FrameStore`] writes raw frames with their times, gaps and flags to a file. [`FrameReplay`] plays such a file. It
//!   is a [`FrameSource`](crate::capture::FrameSource), so a program can use it in the place of its camera.
//! - [`PacketReplay`] plays the video of a Matroska file, or of an MP4 file of this library, as packets for a sink or a
//!   decoder.
//!
//! Both play the items at the original intervals. The first item is due at once. Times become those of
//! `CLOCK_MONOTONIC`, with the original distances.
//!
//! A replay gives every item of its file, even if the caller is late. Only one case loses frames: a frame that is due
//! while every buffer of a `FrameReplay` is leased counts as lost, as a camera's does.
//!
//! `try_recv` reads the file. Such a call does not wait for other processes, but it may block on the disk.
//!
//! ```
//! use std::time::Duration;
//! use framelease::capture::TestPattern;
//! use framelease::format::Size;
//! use framelease::replay::{FrameReplay, FrameStore};
//! use framelease::{Received, Station};
//!
//! # let path = std::env::temp_dir().join(format!("framelease-replay-{}.frames", std::process::id()));
//! let mut camera = TestPattern::builder(Size::new(64, 48)).start()?;
//! let mut store = FrameStore::create(&path)?;
//! for frame in camera.frames().take(3) {
//!     store.write(&frame?)?;
//! }
//! store.finish()?;
//!
//! let mut replay = FrameReplay::builder(&path).open()?;
//! let frames = replay.frames().collect::<framelease::Result<Vec<_>>>()?;
//! assert_eq!(frames.len(), 3);
//! # std::fs::remove_file(path).unwrap();
//! # Ok::<(), framelease::Error>(())
//! ```
//!
//! # The file of a `FrameStore`
//!
//! All numbers are unsigned and in little endian. The file begins with 16 bytes:
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `FLFRAMES` in ASCII |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | 0 |
//!
//! Records follow each other without a gap. Each begins with 16 bytes:
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 4 | kind: 1 for a layout, 2 for a frame. A 0 ends the store, because a power failure can leave zeros |
//! | 4 | 4 | 0 |
//! | 8 | 8 | number of bytes of the record after this one |
//!
//! A layout is that of the frames after it, up to the next layout. It has 100 bytes:
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 4 | format: the FourCC of V4L2 |
//! | 4 | 4 | width in pixels |
//! | 8 | 4 | height in pixels |
//! | 12 | 4 | `enum v4l2_colorspace`, or 0 |
//! | 16 | 4 | `enum v4l2_ycbcr_encoding`, or 0 |
//! | 20 | 4 | `enum v4l2_quantization`, or 0 |
//! | 24 | 4 | `enum v4l2_xfer_func`, or 0 |
//! | 28 | 4 | number of memory planes: 1 to 4 |
//! | 32 | 4 | number of color planes: 0 to 4. 0 for a bitstream |
//! | 36 | 4 x 4 | size of each memory plane in bytes, or 0 |
//! | 52 | 4 x 12 | for each color plane: memory plane, offset of the first row, stride. Or zeros |
//!
//! A frame has 40 bytes, and then the bytes of its memory planes, one plane after another, with padding:
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 8 | sequence number |
//! | 8 | 8 | time in nanoseconds |
//! | 16 | 4 | frames that the source lost directly before this one |
//! | 20 | 4 | the bits of [`FrameFlags`](crate::frame::FrameFlags) |
//! | 24 | 4 x 4 | bytes of each memory plane that follow, at most the size in the layout |
//!
//! A file that was cut holds the frames up to the cut.

mod due;
mod frame_replay;
mod frame_store;
mod matroska;
mod mp4;
mod packet_replay;
mod records;
mod timeline;
mod track;

pub use frame_replay::{FrameReplay, FrameReplayBuilder};
pub use frame_store::FrameStore;
pub use packet_replay::PacketReplay;
