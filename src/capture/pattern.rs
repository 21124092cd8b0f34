//! A test pattern of moving color bars, which the CPU writes into shared memory. It needs no hardware.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::dmabuf::{Allocator, DEFAULT_WAIT};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ColorSpace, Colorimetry, FormatKind, FourCc, FrameInterval, Layout, Size};
use crate::frame::{BufferBudget, BufferSet, Frame, FrameMut, Pool};
use crate::station::{sealed, Received, Station};
use crate::sys;
use crate::sys::clock::monotonic_ns;
use crate::sys::readiness::Readiness;
use crate::sys::signal::Signal;
use crate::v4l2::Device;

use super::source::{CameraEvent, CameraStats, FrameSource};

/// Pixels that the bars move per frame. Even, so that chroma moves with luma.
const STEP: u32 = 4;
const BARS: u32 = 8;

/// Settings of a [`TestPattern`].
///
/// ```
/// use framelease::capture::TestPattern;
/// use framelease::format::{FourCc, FrameInterval, Size};
///
/// let pattern = TestPattern::builder(Size::new(320, 240))
///     .fourcc(FourCc::YUYV)
///     .interval(FrameInterval::from_fps(50))
///     .start()?;
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TestPatternBuilder {
    pub(crate) fourcc: Option<FourCc>,
    pub(crate) size: Size,
    layout: Option<Layout>,
    interval: Option<FrameInterval>,
    buffers: usize,
    pub(crate) allocator: Option<Allocator>,
}

impl TestPatternBuilder {
    /// Sets the pixel format. The default is NV12.
    pub fn fourcc(mut self, fourcc: FourCc) -> Self {
        self.fourcc = Some(fourcc);
        self
    }

    /// Sets the exact layout, including format and size, for a device that imports the frames.
    pub fn layout(mut self, layout: Layout) -> Self {
        (self.fourcc, self.size, self.layout) = (Some(layout.fourcc()), layout.size(), Some(layout));
        self
    }

    /// Sets the time between frames. The default is 1/30 s.
    pub fn interval(mut self, interval: FrameInterval) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Removes the time between frames: the pattern gives frames as fast as the caller receives them.
    pub fn unpaced(mut self) -> Self {
        self.interval = None;
        self
    }

    /// Sets the number of buffers. The default is 12, the total of the default [`BufferBudget`]. The limit is 64.
    pub fn buffers(mut self, count: usize) -> Self {
        self.buffers = count;
        self
    }

    /// Sets the allocator of the buffers. The default is [`Allocator::for_cpu_source`], or a memfd for a picture that
    /// is too large for udmabuf.
    pub fn allocator(mut self, allocator: Allocator) -> Self {
        self.allocator = Some(allocator);
        self
    }

    /// Allocates the buffers and starts the clock.
    ///
    /// # Errors
    /// `Unsupported` for a format whose pixels the pattern cannot write. `InvalidArgument` for an impossible size,
    /// count or interval. `Exhausted` if memory is not available. Other errors are those of [`Pool::new`].
    pub fn start(self) -> Result<TestPattern> {
        let colors = Colorimetry { space: ColorSpace::Smpte170m, ..Colorimetry::default() };
        // The smallest layout with whole chroma groups in each row.
        let layout = match self.layout {
            Some(layout) => layout,
            None => Layout::aligned(self.fourcc.unwrap_or(FourCc::NV12), self.size, 2)?,
        };
        let layout = layout.with_colorimetry(colors);
        let pool = match self.allocator {
            Some(allocator) => Pool::new(&allocator, layout, self.buffers)?,
            // udmabuf limits the size of a buffer.
            None => match Pool::new(&Allocator::for_cpu_source(), layout, self.buffers) {
                Err(e) if e.kind() == ErrorKind::Exhausted => Pool::new(&Allocator::Memfd, layout, self.buffers)?,
                pool => pool?,
            },
        };
        let rows = pattern_rows(&layout)?;
        let clock = |e| Error::os("timerfd", e);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
            .map_err(clock)?;
        let expiration = match self.interval {
            Some(interval) => {
                let period = interval.duration().filter(|d| !d.is_zero()).ok_or_else(|| {
                    Error::new(
                        ErrorKind::InvalidArgument,
                        "test pattern",
                        format!("the frame interval {interval} is not possible"),
                    )
                })?;
                Expiration::IntervalDelayed(Duration::from_nanos(1).into(), period.into())
            }
            None => Expiration::OneShot(Duration::from_nanos(1).into()),
        };
        timer.set(expiration, TimerSetTimeFlags::empty()).map_err(clock)?;
        let (readiness, signal) = (Readiness::new().map_err(clock)?, Arc::new(Signal::new().map_err(clock)?));
        readiness.add(&timer, EpollFlags::EPOLLIN, 0).map_err(clock)?;
        readiness.add(&*signal, EpollFlags::EPOLLIN, 1).map_err(clock)?;
        Ok(TestPattern {
            readiness,
            signal,
            is_starved: false,
            pool,
            rows,
            timer,
            interval: self.interval,
            sequence: 0,
            lost: 0,
            stats: CameraStats::default(),
        })
    }
}

/// A source of moving color bars, for machines without a camera.
///
/// The pattern is in udmabufs if the machine has them, else in sealed memfds. The CPU writes the pixels that a camera
/// would write by DMA. `CpuBytes::source` counts the bytes of these pixels separately.
///
/// ```
/// use std::time::Duration;
/// use framelease::capture::TestPattern;
/// use framelease::format::Size;
/// use framelease::Station;
///
/// let mut pattern = TestPattern::builder(Size::new(320, 240)).start()?;
/// if let Some(frame) = pattern.recv(Duration::from_secs(1))?.frame() {
///     assert_eq!(frame.layout().size(), Size::new(320, 240));
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct TestPattern {
    readiness: Readiness,
    /// Set when a buffer is free again after all were leased.
    signal: Arc<Signal>,
    /// Every buffer is leased. The clock is not watched until one returns.
    is_starved: bool,
    pool: Pool,
    /// A row of the pattern for each color plane. It is one period longer than the picture is wide.
    rows: Vec<Vec<u8>>,
    timer: TimerFd,
    interval: Option<FrameInterval>,
    sequence: u64,
    lost: u32,
    stats: CameraStats,
}

impl TestPattern {
    /// Creates a builder for a pattern of `size` pixels.
    pub fn builder(size: Size) -> TestPatternBuilder {
        let interval = Some(FrameInterval::from_fps(30));
        TestPatternBuilder {
            fourcc: None,
            size,
            layout: None,
            interval,
            buffers: BufferBudget::default().total(),
            allocator: None,
        }
    }

    /// Returns a free buffer if a frame is due. A frame that is due while every buffer is leased counts as lost, and
    /// the next frame reports it, as a camera's does.
    fn due_buffer(&mut self) -> Result<Option<FrameMut>> {
        let mut buffer = None;
        if self.is_starved {
            self.signal.clear();
            buffer = self.pool.try_acquire_or_signal(&self.signal);
            if buffer.is_none() {
                return Ok(None);
            }
            self.is_starved = false;
            self.watch_clock()?;
        }
        if self.interval.is_some() {
            match self.expirations()? {
                0 => return Ok(None),
                due => self.skip(due - 1),
            }
        }
        buffer = buffer.or_else(|| self.pool.try_acquire_or_signal(&self.signal));
        if buffer.is_none() {
            self.skip(u64::from(self.interval.is_some()));
            self.is_starved = true;
            self.readiness.remove(&self.timer);
        }
        Ok(buffer)
    }

    fn watch_clock(&self) -> Result<()> {
        self.readiness.add(&self.timer, EpollFlags::EPOLLIN, 0).map_err(|e| Error::os("epoll_ctl", e))
    }

    fn draw(&mut self, mut frame: FrameMut) -> Result<Frame> {
        let layout = *frame.layout();
        let shift = (self.sequence as u32).wrapping_mul(STEP);
        {
            let mut pixels = frame.write(DEFAULT_WAIT)?;
            for (plane, pattern) in self.rows.iter().enumerate() {
                let len = layout.row_bytes(plane) as usize;
                let period = pattern.len() - len;
                let down = layout.fourcc().info().map_or(1, |info| info.planes[plane].vertical);
                for row in 0..layout.rows(plane) {
                    // Both are whole sample groups: `period` is [`BARS`] bars of an even number of pixels.
                    let pixels_right = u64::from(shift) + u64::from(row * down / 16 * STEP);
                    let at = (pixels_right * period as u64 / u64::from(period_pixels(layout.size().width))) as usize;
                    let group = group_bytes(layout.fourcc(), plane);
                    let at = at % period / group * group;
                    pixels.copy_row_from_source(plane, row, &pattern[at..at + len])?;
                }
            }
        }
        let frame = frame.freeze_full(self.sequence, monotonic_ns());
        let mut meta = *frame.meta();
        meta.lost = std::mem::take(&mut self.lost);
        self.sequence += 1;
        self.stats.frames += 1;
        self.stats.lost += u64::from(meta.lost);
        Ok(frame.with_meta(meta))
    }

    fn skip(&mut self, frames: u64) {
        self.sequence += frames;
        self.lost = self.lost.saturating_add(u32::try_from(frames).unwrap_or(u32::MAX));
    }

    /// Returns the number of frame times that have passed since the last call.
    fn expirations(&self) -> Result<u64> {
        let mut count = [0; 8];
        sys::syscall_count::tick();
        match nix::unistd::read(&self.timer, &mut count) {
            Ok(_) => Ok(u64::from_ne_bytes(count)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(e) => Err(Error::os("read", e).on("timerfd")),
        }
    }
}

impl FrameSource for TestPattern {
    fn buffers(&self) -> Result<&BufferSet> {
        Ok(self.pool.buffers())
    }

    fn interval(&self) -> Option<FrameInterval> {
        self.interval
    }

    fn stats(&self) -> CameraStats {
        let leased = self.pool.buffers().leased();
        CameraStats { leased, queued: self.pool.buffers().slots() - leased, ..self.stats }
    }

    fn device(&self) -> Option<&Device> {
        None
    }

    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }
}

impl sealed::Sealed for TestPattern {}

/// `try_recv`, `recv` and `frames` read the clock and write the pixels of each frame before they return the frame.
/// These calls fail if the CPU cannot write to the buffer.
impl Station for TestPattern {
    type Event = CameraEvent;

    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<CameraEvent>> {
        let Some(buffer) = self.due_buffer()? else { return Ok(Received::Nothing) };
        self.draw(buffer).map(CameraEvent::Frame).map(Received::Item)
    }
}

impl AsFd for TestPattern {
    /// Returns a descriptor that is readable when the next frame is due and a buffer is free. Without an interval, the
    /// descriptor is readable while a buffer is free.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

/// Returns the number of pixels after which the bars repeat: at least the width, in bars of an even number of pixels.
fn period_pixels(width: u32) -> u32 {
    width.div_ceil(2 * BARS) * 2 * BARS
}

fn group_bytes(fourcc: FourCc, plane: usize) -> usize {
    fourcc.info().and_then(|i| i.planes.get(plane)).map_or(1, |p| p.bytes as usize)
}

/// Returns a row of each plane, which is the picture's width and one period long.
fn pattern_rows(layout: &Layout) -> Result<Vec<Vec<u8>>> {
    let planes = layout.fourcc().info().map_or(&[][..], |i| i.planes);
    let (width, period) = (layout.size().width, period_pixels(layout.size().width));
    let mut rows = Vec::with_capacity(planes.len());
    for (plane, info) in planes.iter().enumerate() {
        let groups = width.div_ceil(info.horizontal) + period / info.horizontal;
        let mut row = Vec::with_capacity((groups * info.bytes) as usize);
        for group in 0..groups {
            let bar = (group * info.horizontal) % period / (period / BARS);
            let (bytes, len) =
                pixels(layout.fourcc(), plane, &COLORS[bar as usize % COLORS.len()]).ok_or_else(|| {
                    let text = format!("the test pattern cannot write {}", layout.fourcc());
                    Error::new(ErrorKind::Unsupported, "test pattern", text)
                })?;
            row.extend_from_slice(&bytes[..len]);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The color of one bar as R'G'B', and as Y'CbCr by the BT.601 matrix in limited range.
struct BarColor {
    rgb: [u8; 3],
    yuv: [u8; 3],
}

/// EBU bars at 100 %.
const COLORS: [BarColor; BARS as usize] = [
    BarColor { rgb: [255, 255, 255], yuv: [235, 128, 128] },
    BarColor { rgb: [255, 255, 0], yuv: [210, 16, 146] },
    BarColor { rgb: [0, 255, 255], yuv: [170, 166, 16] },
    BarColor { rgb: [0, 255, 0], yuv: [145, 54, 34] },
    BarColor { rgb: [255, 0, 255], yuv: [106, 202, 222] },
    BarColor { rgb: [255, 0, 0], yuv: [81, 90, 240] },
    BarColor { rgb: [0, 0, 255], yuv: [41, 240, 110] },
    BarColor { rgb: [0, 0, 0], yuv: [16, 128, 128] },
];

/// Returns the bytes of one sample group of a plane in one color.
fn pixels(fourcc: FourCc, plane: usize, c: &BarColor) -> Option<([u8; 4], usize)> {
    let ([r, g, b], [y, u, v]) = (c.rgb, c.yuv);
    let info = fourcc.info()?;
    // The memory planes of the M formats are the color planes.
    Some(match (info.name.trim_end_matches('M'), plane) {
        ("GREY", 0) => ([y, 0, 0, 0], 1),
        (_, 0) if info.kind == FormatKind::Yuv && info.planes.len() > 1 && info.planes[0].bytes == 1 => {
            ([y, 0, 0, 0], 1)
        }
        ("NV12" | "NV16" | "NV24", 1) => ([u, v, 0, 0], 2),
        ("NV21" | "NV61" | "NV42", 1) => ([v, u, 0, 0], 2),
        ("YUV420" | "YUV422P" | "YUV422" | "YUV444", 1) | ("YVU420" | "YVU422" | "YVU444", 2) => ([u, 0, 0, 0], 1),
        ("YUV420" | "YUV422P" | "YUV422" | "YUV444", 2) | ("YVU420" | "YVU422" | "YVU444", 1) => ([v, 0, 0, 0], 1),
        ("YUYV", 0) => ([y, u, y, v], 4),
        ("YVYU", 0) => ([y, v, y, u], 4),
        ("UYVY", 0) => ([u, y, v, y], 4),
        ("VYUY", 0) => ([v, y, u, y], 4),
        ("RGB565", 0) => {
            let word = u16::from(r >> 3) << 11 | u16::from(g >> 2) << 5 | u16::from(b >> 3);
            let [low, high] = word.to_le_bytes();
            ([low, high, 0, 0], 2)
        }
        ("RGB24", 0) => ([r, g, b, 0], 3),
        ("BGR24", 0) => ([b, g, r, 0], 3),
        ("RGBA32" | "RGBX32", 0) => ([r, g, b, 255], 4),
        ("ABGR32" | "XBGR32" | "BGR32", 0) => ([b, g, r, 255], 4),
        ("ARGB32" | "XRGB32" | "RGB32", 0) => ([255, r, g, b], 4),
        ("BGRA32" | "BGRX32", 0) => ([255, b, g, r], 4),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FormatInfo, FORMATS};
    use crate::stats::cpu_bytes;

    fn picture(frame: &Frame) -> Vec<u8> {
        let mut out = Vec::new();
        frame.read(DEFAULT_WAIT).unwrap().write_to(&mut out).unwrap();
        out
    }

    #[test]
    fn test_pattern_moves_in_every_pixel_format() {
        let drawn = |info: &&FormatInfo| info.has_rows() && pixels(info.fourcc, 0, &COLORS[0]).is_some();
        assert_eq!(FORMATS.iter().filter(drawn).count(), 37);
        for info in FORMATS.iter().filter(drawn) {
            let builder = TestPattern::builder(Size::new(160, 32)).fourcc(info.fourcc).buffers(2).unpaced();
            let mut source = builder.allocator(Allocator::Memfd).start().unwrap();
            let before = cpu_bytes().source;
            let a = source.try_recv().unwrap().frame().unwrap();
            assert!(cpu_bytes().source - before >= a.layout().pixel_bytes());
            let b = source.try_recv().unwrap().frame().unwrap();
            assert_ne!(picture(&a), picture(&b), "{} does not move", info.name);
            assert!(source.try_recv().unwrap().is_nothing(), "both buffers are leased");
            // White is the first bar, black the last.
            let first = &picture(&a)[..4];
            let (white, len) = pixels(info.fourcc, 0, &COLORS[0]).unwrap();
            assert_eq!(first[..len], white[..len], "{}", info.name);
        }
    }

    #[test]
    fn test_pattern_supports_odd_sizes() {
        for name in ["NV12", "YUYV", "YU12", "RGB24", "NV12M"] {
            let builder = TestPattern::builder(Size::new(37, 21)).fourcc(name.parse().unwrap()).unpaced();
            let frame = builder.start().unwrap().try_recv().unwrap().frame().unwrap();
            assert_eq!(picture(&frame).len() as u64, frame.layout().pixel_bytes(), "{name}");
        }
    }

    #[test]
    fn test_pattern_reports_lost_frames() {
        let builder = TestPattern::builder(Size::new(16, 16)).buffers(1).interval(FrameInterval::from_fps(1000));
        let mut source = builder.start().unwrap();
        let first = source.recv(Duration::from_secs(5)).unwrap().frame().unwrap();
        let taken = first.meta().sequence;
        assert!(source.recv(Duration::from_millis(20)).unwrap().is_nothing());
        drop(first);
        let next = source.recv(Duration::from_secs(5)).unwrap().frame().unwrap();
        assert!(next.meta().lost > 0);
        assert_eq!(next.meta().sequence, taken + 1 + u64::from(next.meta().lost));
    }

    #[test]
    fn start_refuses_impossible_settings() {
        let b = || TestPattern::builder(Size::new(16, 16));
        for (builder, kind) in [
            (TestPattern::builder(Size::new(0, 16)), ErrorKind::InvalidArgument),
            (TestPattern::builder(Size::new(16, 1_000_000)), ErrorKind::InvalidArgument),
            (b().fourcc(FourCc::H264), ErrorKind::Unsupported),
            (b().interval(FrameInterval { numerator: 0, denominator: 30 }), ErrorKind::InvalidArgument),
            (b().interval(FrameInterval::from_fps(0)), ErrorKind::InvalidArgument),
            (b().buffers(0), ErrorKind::InvalidArgument),
        ] {
            assert_eq!(builder.start().unwrap_err().kind(), kind);
        }
    }
}
