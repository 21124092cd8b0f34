//! CPU access to a frame by rows of color planes. Access begins and ends for all buffers of the frame together.

use std::io::{self, Write};
use std::ops::Range;
use std::time::Duration;

use super::buffer_set::CpuReads;
use super::frame::{Frame, FrameMut};
use super::meta::{FrameMeta, Payload};
use super::plane_read::PlaneRead;
use crate::dmabuf::{CpuRead, CpuWrite, DmaBuf, SharedBytes};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Layout, MAX_PLANES};
use crate::sys::map::Mapping;
use crate::sys::wait;

/// Read access of the CPU to all pixels of a frame. The access ends when the value is dropped.
#[derive(Debug)]
pub struct FrameRead<'a> {
    frame: &'a Frame,
    memory: [Option<CpuRead<'a>>; MAX_PLANES],
}

/// Write access of the CPU to all pixels of a frame. The access ends when the value is dropped.
#[derive(Debug)]
pub struct FrameWrite<'a> {
    layout: &'a Layout,
    memory: [Option<CpuWrite<'a>>; MAX_PLANES],
}

impl Frame {
    /// Begins reading the pixels with the CPU. If a device still writes the pixels, waits at most `timeout`.
    ///
    /// The call makes one [`DmaBuf::read`](crate::dmabuf::DmaBuf::read) for each buffer of the frame.
    /// [`FrameRead::plane`] then lends the pixels for reading in place, and [`FrameRead::copy_row`] copies them. If the
    /// frame came from a publisher, check [`Frame::is_valid`] after the last byte was read.
    ///
    /// ```
    /// use std::time::Duration;
    /// use framelease::capture::TestPattern;
    /// use framelease::dmabuf::DEFAULT_WAIT;
    /// use framelease::format::Size;
    /// use framelease::frame::Frame;
    /// use framelease::Station;
    ///
    /// /// The mean of the luma, for formats whose first color plane is luma: NV12, YU12, GREY and their relatives.
    /// fn mean(frame: &Frame) -> framelease::Result<Option<u64>> {
    ///     let pixels = frame.read(DEFAULT_WAIT)?;
    ///     let luma = pixels.plane(0)?;
    ///     let sum: u64 = luma.rows().map(|row| row.fold(0, |sum, byte| sum + u64::from(byte))).sum();
    ///     let count = u64::from(luma.row_count()) * luma.row_bytes() as u64;
    ///     Ok(frame.is_valid().then_some(sum / count))
    /// }
    ///
    /// let mut source = TestPattern::builder(Size::new(64, 48)).start()?;
    /// if let Some(frame) = source.recv(Duration::from_secs(1))?.frame() {
    ///     println!("mean luma {:?}", mean(&frame)?);
    /// }
    /// # Ok::<(), framelease::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Timeout` if a device still writes after `timeout`. `Busy` while this process writes the buffer. `Unsupported`
    /// for an opaque layout. Other errors are those of `mmap` and `DMA_BUF_IOCTL_SYNC`.
    pub fn read(&self, timeout: Duration) -> Result<FrameRead<'_>> {
        self.layout().check_rows("read")?;
        let deadline = wait::deadline(timeout);
        let mut memory: [Option<CpuRead<'_>>; MAX_PLANES] = Default::default();
        for (guard, buffer) in memory.iter_mut().zip(self.memory()) {
            *guard = Some(buffer.read(wait::remaining(deadline))?);
        }
        Ok(FrameRead { frame: self, memory })
    }
}

impl FrameMut {
    /// Begins writing the pixels with the CPU. If a device still uses the buffer, waits at most `timeout`.
    ///
    /// # Errors
    /// `Timeout` if a device still uses the buffer after `timeout`. `Busy` while this process reads or writes the
    /// buffer. `PermissionDenied` if the buffer is read-only. `Unsupported` for an opaque layout. Other errors are
    /// those of `mmap` and `DMA_BUF_IOCTL_SYNC`.
    pub fn write(&mut self, timeout: Duration) -> Result<FrameWrite<'_>> {
        let deadline = wait::deadline(timeout);
        self.begin(|buffer| buffer.begin_write(wait::remaining(deadline)))
    }

    /// [`FrameMut::write`] for a caller that also reads the present content.
    pub(crate) fn write_over(&mut self, timeout: Duration) -> Result<FrameWrite<'_>> {
        let deadline = wait::deadline(timeout);
        self.begin(|buffer| buffer.begin_update(wait::remaining(deadline)))
    }

    fn begin<'a>(&'a mut self, access: impl Fn(&'a DmaBuf) -> Result<CpuWrite<'a>>) -> Result<FrameWrite<'a>> {
        self.layout().check_rows("write")?;
        let mut memory: [Option<CpuWrite<'_>>; MAX_PLANES] = Default::default();
        for (guard, buffer) in memory.iter_mut().zip(self.memory()) {
            *guard = Some(access(buffer)?);
        }
        Ok(FrameWrite { layout: self.layout(), memory })
    }

    /// Returns the payload of a full picture: every memory plane from its start to the end of its rows.
    #[doc(hidden)]
    pub fn full_payload(&self) -> [Payload; MAX_PLANES] {
        let mut payload = [Payload::default(); MAX_PLANES];
        for (p, &bytes) in payload.iter_mut().zip(self.layout().memory_bytes()) {
            p.bytes = bytes;
        }
        payload
    }

    /// Ends writing and returns the frame, with a payload of the full picture. For other metadata, use
    /// [`FrameMut::freeze`].
    pub fn freeze_full(self, sequence: u64, timestamp_ns: u64) -> Frame {
        let payload = self.full_payload();
        let flags = super::FrameFlags::MONOTONIC;
        self.freeze(FrameMeta { sequence, timestamp_ns, flags, payload, ..FrameMeta::default() })
    }
}

impl FrameRead<'_> {
    /// Lends the pixels of a color plane, for reading in place. All further accesses are within the bounds that this
    /// call checks: the frame's layout, its payload and its memory.
    ///
    /// Do not read an [uncached](super::CpuReads::Uncached) buffer in place: use [`FrameRead::copy_row`].
    ///
    /// ```
    /// use framelease::dmabuf::DEFAULT_WAIT;
    /// use framelease::frame::Frame;
    ///
    /// /// The brightest byte in the left half of the luma.
    /// fn brightest(frame: &Frame) -> framelease::Result<u8> {
    ///     let pixels = frame.read(DEFAULT_WAIT)?;
    ///     let luma = pixels.plane(0)?;
    ///     let halves = luma.rows().filter_map(|row| row.get(0..luma.row_bytes() / 2));
    ///     Ok(halves.map(|half| half.fold(0, u8::max)).max().unwrap_or(0))
    /// }
    /// # use framelease::{dmabuf::Allocator, format::{FourCc, Layout, Size}, frame::Pool};
    /// # let layout = Layout::packed(FourCc::NV12, Size::new(70, 48))?;
    /// # let mut frame = Pool::new(&Allocator::Memfd, layout, 1)?.try_acquire().expect("a free buffer");
    /// # frame.write(DEFAULT_WAIT)?.copy_row(0, 47, &[vec![9; 35], vec![200; 35]].concat())?;
    /// # assert_eq!(brightest(&frame.freeze_full(0, 0))?, 9);
    /// # Ok::<(), framelease::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the plane does not exist. `Mismatch` if the frame's payload ends before the last row.
    pub fn plane(&self, plane: usize) -> Result<PlaneRead<'_>> {
        let layout = self.frame.layout();
        let row_count = layout.rows(plane);
        let (memory, first, row_bytes) = row_range(layout, plane, 0)?;
        let stride_bytes = layout.planes()[plane].stride_bytes as usize;
        let len = (row_count as usize - 1) * stride_bytes + row_bytes;
        let bytes = self.lend(memory, first, len, || format!("plane {plane}"))?;
        Ok(PlaneRead { bytes, stride_bytes, row_bytes, row_count })
    }

    /// Copies the pixels of one row of a color plane, without padding, to the start of the slice `to`.
    ///
    /// # Errors
    /// `InvalidArgument` if the plane or row does not exist, or if the slice is too short. `Mismatch` if the frame's
    /// payload ends before the end of the row.
    pub fn copy_row(&self, plane: usize, row: u32, to: &mut [u8]) -> Result<()> {
        let (_, _, len) = row_range(self.frame.layout(), plane, row)?;
        let short = to.len();
        let to = to.get_mut(..len).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "copy", format!("a row of {len} bytes does not fit {short} bytes"))
        })?;
        self.copy_span(plane, row, 0, to)
    }

    /// Copies part of a row of a color plane, from its byte `first_byte` on, until the slice `to` is full.
    ///
    /// # Errors
    /// `InvalidArgument` if the plane or row does not exist or the row ends before the slice is full, `Mismatch` if the
    /// frame's payload ends before that.
    #[doc(hidden)]
    pub fn copy_span(&self, plane: usize, row: u32, first_byte: usize, to: &mut [u8]) -> Result<()> {
        self.copy(self.span(plane, row, first_byte, to.len())?, to);
        Ok(())
    }

    /// Lends part of a row of a color plane: `len` bytes from its byte `first_byte` on.
    pub(crate) fn span(&self, plane: usize, row: u32, first_byte: usize, len: usize) -> Result<SharedBytes<'_>> {
        let (memory, offset, row_len) = row_range(self.frame.layout(), plane, row)?;
        if first_byte.checked_add(len).map_or(true, |end| end > row_len) {
            let text = format!("{len} bytes at {first_byte} exceed a row of {row_len} bytes");
            return Err(Error::new(ErrorKind::InvalidArgument, "copy", text));
        }
        self.lend(memory, offset + first_byte, len, || format!("row {row} of plane {plane}"))
    }

    /// Copies raw bytes of a memory plane's payload, including padding, starting at `offset_bytes`.
    ///
    /// # Errors
    /// `InvalidArgument` if the range exceeds the payload.
    pub fn copy_payload(&self, memory: usize, offset_bytes: usize, to: &mut [u8]) -> Result<()> {
        let payload = self.frame.meta().payload.get(memory).copied().unwrap_or_default();
        if offset_bytes.checked_add(to.len()).map_or(true, |end| end > payload.bytes as usize) {
            let text = format!("{} bytes at {offset_bytes} exceed the payload of {} bytes", to.len(), payload.bytes);
            return Err(Error::new(ErrorKind::InvalidArgument, "copy", text));
        }
        self.copy(self.guard(memory)?.bytes(within(payload, offset_bytes, to.len()))?, to);
        Ok(())
    }

    /// Passes each row of each color plane to `sink`, in order and without padding. A bitstream, or a format that
    /// this crate does not know, is passed unchanged, in pieces. `scratch` is the buffer for the bytes of one call of
    /// `sink`. If `scratch` is shorter than a row, the method enlarges it.
    ///
    /// # Errors
    /// `Mismatch` if the frame's payload ends before the last row.
    pub fn for_each_row(&self, scratch: &mut Vec<u8>, mut sink: impl FnMut(&[u8])) -> Result<()> {
        let layout = self.frame.layout();
        if !layout.has_rows() {
            for memory in 0..layout.memory_bytes().len() {
                let bytes = self.frame.meta().payload[memory].bytes as usize;
                scratch.resize(scratch.len().max(4096), 0);
                let step = scratch.len();
                for at in (0..bytes).step_by(step) {
                    let part = &mut scratch[..step.min(bytes - at)];
                    self.copy_payload(memory, at, part)?;
                    sink(part);
                }
            }
            return Ok(());
        }
        for plane in 0..layout.planes().len() {
            let len = layout.row_bytes(plane) as usize;
            scratch.resize(scratch.len().max(len), 0);
            for row in 0..layout.rows(plane) {
                self.copy_row(plane, row, &mut scratch[..len])?;
                sink(&scratch[..len]);
            }
        }
        Ok(())
    }

    /// Writes every pixel byte to `out`, in the order of [`FrameRead::for_each_row`]. `v4l2-ctl --stream-to` writes
    /// the same bytes if the layout has no padding.
    ///
    /// # Errors
    /// An I/O error that contains `Mismatch` if the frame's payload ends before the last row. Other errors are those of
    /// `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut result = Ok(());
        self.for_each_row(&mut vec![0; 65_536], |bytes| {
            if result.is_ok() {
                result = out.write_all(bytes);
            }
        })?;
        result
    }

    /// Lends `len` bytes of a memory plane's payload, from its byte `first` on.
    fn lend(&self, memory: usize, first: usize, len: usize, what: impl FnOnce() -> String) -> Result<SharedBytes<'_>> {
        let (payload, end) = (self.frame.meta().payload[memory], first + len);
        if end > payload.bytes as usize {
            let text = format!("{} ends at byte {end}, the frame has {} bytes", what(), payload.bytes);
            return Err(Error::new(ErrorKind::Mismatch, "read", text));
        }
        self.guard(memory)?.bytes(within(payload, first, len))
    }

    /// Copies bytes that this access has lent, as fast as their memory permits.
    pub(crate) fn copy(&self, from: SharedBytes<'_>, to: &mut [u8]) {
        match self.is_uncached() {
            true => from.copy_uncached_to(to),
            false => from.copy_to(to),
        };
    }

    /// Returns `true` for memory that is not for reading in place.
    pub(crate) fn is_uncached(&self) -> bool {
        self.frame.buffers().cpu_reads() == CpuReads::Uncached
    }

    fn guard(&self, memory: usize) -> Result<&CpuRead<'_>> {
        self.memory.get(memory).and_then(Option::as_ref).ok_or_else(|| no_memory(memory))
    }
}

impl<'a> FrameWrite<'a> {
    /// Copies the bytes of the slice `from` to the start of one row of a color plane.
    ///
    /// # Errors
    /// `InvalidArgument` if the plane or row does not exist, or if the row is shorter than the slice.
    pub fn copy_row(&mut self, plane: usize, row: u32, from: &[u8]) -> Result<()> {
        let (guard, offset) = self.row(plane, row, from.len())?;
        guard.copy_from(offset, from)
    }

    /// Copies bytes of a bitstream into its buffer, starting at `offset_bytes`.
    ///
    /// # Errors
    /// `InvalidArgument` if the buffer is too small.
    pub fn copy_payload(&mut self, offset_bytes: usize, from: &[u8]) -> Result<()> {
        let guard = self.memory[0].as_mut().ok_or_else(|| no_memory(0))?;
        guard.copy_from(offset_bytes, from)
    }

    /// Copies bytes of a mapping to the same place of a memory plane.
    pub(crate) fn copy_mapping(&mut self, memory: usize, from: &Mapping, bytes: Range<usize>) -> Result<()> {
        let to = self.memory.get_mut(memory).and_then(Option::as_mut).ok_or_else(|| no_memory(memory))?;
        to.copy_from_mapping(bytes.start, from, bytes.start, bytes.len())
    }

    /// Copies all data of another frame with the same layout, in one pass per memory plane. The data keep their
    /// offsets. Afterwards, call [`FrameMut::freeze`] with the payload of the other frame.
    ///
    /// # Errors
    /// `Mismatch` if the layouts or their colorimetry differ. The text names the difference. `InvalidArgument` if the
    /// data do not fit.
    pub fn copy_frame(&mut self, from: &FrameRead<'_>) -> Result<()> {
        if from.frame.layout() != self.layout {
            let layout = from.frame.layout();
            let text = format!("{layout} into {}{}", self.layout, layout.hidden_difference(self.layout));
            return Err(Error::new(ErrorKind::Mismatch, "copy", text));
        }
        for (i, payload) in from.frame.meta().payload.iter().enumerate().take(self.layout.memory_bytes().len()) {
            let to = self.memory[i].as_mut().ok_or_else(|| no_memory(i))?;
            let offset = payload.offset_bytes as usize;
            to.copy_from_buffer(offset, from.guard(i)?, offset, payload.bytes as usize)?;
        }
        Ok(())
    }

    /// [`FrameWrite::copy_row`] for a software source. The bytes are counted separately.
    pub(crate) fn copy_row_from_source(&mut self, plane: usize, row: u32, from: &[u8]) -> Result<()> {
        let (guard, offset) = self.row(plane, row, from.len())?;
        guard.copy_from_source(offset, from)
    }

    /// Copies bytes to any place of a memory plane, for a software source.
    pub(crate) fn copy_memory_from_source(&mut self, memory: usize, offset_bytes: usize, from: &[u8]) -> Result<()> {
        let guard = self.memory.get_mut(memory).and_then(Option::as_mut).ok_or_else(|| no_memory(memory))?;
        guard.copy_from_source(offset_bytes, from)
    }

    /// Copies the present content of one row of a color plane. For [`FrameMut::write_over`].
    pub(crate) fn copy_row_out(&mut self, plane: usize, row: u32, to: &mut [u8]) -> Result<()> {
        let (guard, offset) = self.row(plane, row, to.len())?;
        guard.copy_to(offset, to)
    }

    fn row(&mut self, plane: usize, row: u32, len: usize) -> Result<(&mut CpuWrite<'a>, usize)> {
        let (memory, offset, row_len) = row_range(self.layout, plane, row)?;
        if len > row_len {
            let text = format!("{len} bytes do not fit a row of {row_len} bytes");
            return Err(Error::new(ErrorKind::InvalidArgument, "copy", text));
        }
        let guard = self.memory.get_mut(memory).and_then(Option::as_mut).ok_or_else(|| no_memory(memory))?;
        Ok((guard, offset))
    }
}

/// Returns where bytes of a payload are in the buffer. A publisher chooses the payload's offset.
fn within(payload: Payload, first: usize, len: usize) -> Range<usize> {
    let start = (payload.offset_bytes as usize).saturating_add(first);
    start..start.saturating_add(len)
}

fn no_memory(memory: usize) -> Error {
    Error::new(ErrorKind::InvalidArgument, "copy", format!("memory plane {memory} does not exist"))
}

/// Returns memory plane, offset and length of the pixels of one row.
fn row_range(layout: &Layout, plane: usize, row: u32) -> Result<(usize, usize, usize)> {
    match layout.planes().get(plane) {
        Some(p) if row < layout.rows(plane) => {
            let offset = p.offset_bytes as usize + row as usize * p.stride_bytes as usize;
            Ok((p.memory as usize, offset, layout.row_bytes(plane) as usize))
        }
        _ => {
            let text = format!("{layout} has no row {row} in plane {plane}");
            Err(Error::new(ErrorKind::InvalidArgument, "copy", text))
        }
    }
}
