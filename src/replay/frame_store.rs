//! Writes raw frames to a file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::records::{file_head, open, put_frame, put_layout};
use crate::dmabuf::DEFAULT_WAIT;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::Frame;

/// Writes raw frames, with their times, gaps and flags, to a file for [`FrameReplay`](super::FrameReplay). The
/// [module](super) describes the file.
///
/// A store of raw frames is large: 1080p30 in NV12 has 93 MB a second. Frames of any source fit into one file, also of
/// a source that changes its layout. Frames are copied by the CPU, and a call may block on the disk.
///
/// ```
/// use std::time::Duration;
/// use framelease::capture::TestPattern;
/// use framelease::format::Size;
/// use framelease::replay::FrameStore;
/// use framelease::Station;
///
/// # let path = std::env::temp_dir().join(format!("framelease-store-{}.frames", std::process::id()));
/// let mut source = TestPattern::builder(Size::new(64, 48)).start()?;
/// let mut store = FrameStore::create(&path)?;
/// if let Some(frame) = source.recv(Duration::from_secs(1))?.frame() {
///     store.write(&frame)?;
/// }
/// store.finish()?;
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct FrameStore {
    file: File,
    name: String,
    layout: Option<Layout>,
    /// Where the last complete record ends.
    end: u64,
    /// The record that is written.
    record: Vec<u8>,
}

impl FrameStore {
    /// Creates a file, or overwrites an existing one.
    ///
    /// # Errors
    /// `WrongFile` if `path` is not a regular file. Errors of `open` and of the first write, such as
    /// `PermissionDenied` and `Exhausted`.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = open(path, OpenOptions::new().write(true).create(true).truncate(false))?;
        let mut store = Self { file, name: path.display().to_string(), layout: None, end: 0, record: file_head() };
        store.cut()?;
        store.append()?;
        Ok(store)
    }

    /// Writes a frame. The call waits at most a second for a device that still writes the pixels.
    ///
    /// # Errors
    /// `Exhausted` on a full disk. `Unsupported` for pixels that only devices can read. `Revoked` if the lease ended
    /// while the frame was read. `Mismatch` for a payload that is larger than the layout. Other errors are those of
    /// [`Frame::read`] and of the write. After each error, the frame is not in the file, and the caller may continue.
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        let layout = *frame.layout();
        let mut meta = *frame.meta();
        for (i, payload) in meta.payload.iter_mut().enumerate() {
            match layout.memory_bytes().get(i) {
                None => payload.bytes = 0,
                Some(&most) if payload.bytes > most => {
                    let text = format!("memory plane {i} has {} bytes, {layout} has {most}", payload.bytes);
                    return Err(Error::new(ErrorKind::Mismatch, "store", text).on(&self.name));
                }
                Some(_) => {}
            }
        }
        self.record.clear();
        if self.layout != Some(layout) {
            put_layout(&mut self.record, &layout);
        }
        put_frame(&mut self.record, &meta);
        let pixels = frame.read(DEFAULT_WAIT)?;
        for (memory, payload) in meta.payload.iter().enumerate().filter(|(_, payload)| payload.bytes > 0) {
            let from = self.record.len();
            self.record.resize(from + payload.bytes as usize, 0);
            pixels.copy_payload(memory, 0, &mut self.record[from..])?;
        }
        drop(pixels);
        if !frame.is_valid() {
            let text = "the publisher ended the lease while the frame was stored";
            return Err(Error::new(ErrorKind::Revoked, "store", text).on(&self.name));
        }
        self.append()?;
        self.layout = Some(layout);
        Ok(())
    }

    /// Finishes the file. A file that is not finished can be played as well, up to the last frame that was written.
    ///
    /// # Errors
    /// Errors of `ftruncate` and `fdatasync`, such as `Exhausted`.
    pub fn finish(self) -> Result<()> {
        self.cut()?;
        self.file.sync_data().map_err(|e| Error::io("fdatasync", &e).on(&self.name))
    }

    /// Removes what is after the last complete record.
    fn cut(&self) -> Result<()> {
        self.file.set_len(self.end).map_err(|e| Error::io("ftruncate", &e).on(&self.name))
    }

    /// Writes the record to the end, as a whole or not at all.
    fn append(&mut self) -> Result<()> {
        if let Err(e) = self.file.write_all_at(&self.record, self.end) {
            // If this fails too, the file ends with half a record, which the next one overwrites.
            let _ = self.cut();
            return Err(Error::io("write", &e).on(&self.name));
        }
        self.end += self.record.len() as u64;
        Ok(())
    }
}
