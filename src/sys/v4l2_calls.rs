//! The V4L2 ioctls as safe functions. Single- and multi-planar buffers take the same path.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::from_kernel::own;
use super::syscall_count::retry;
use super::v4l2::*;

mod raw {
    use super::super::v4l2::*;
    use libc::c_int;
    nix::ioctl_read!(querycap, b'V', 0, Capability);
    nix::ioctl_readwrite!(enum_fmt, b'V', 2, FmtDesc);
    nix::ioctl_readwrite!(g_fmt, b'V', 4, Format);
    nix::ioctl_readwrite!(s_fmt, b'V', 5, Format);
    nix::ioctl_readwrite!(reqbufs, b'V', 8, RequestBuffers);
    nix::ioctl_readwrite!(querybuf, b'V', 9, RawBuffer);
    nix::ioctl_readwrite!(qbuf, b'V', 15, RawBuffer);
    nix::ioctl_readwrite!(expbuf, b'V', 16, ExportBuffer);
    nix::ioctl_readwrite!(dqbuf, b'V', 17, RawBuffer);
    nix::ioctl_write_ptr!(streamon, b'V', 18, c_int);
    nix::ioctl_write_ptr!(streamoff, b'V', 19, c_int);
    nix::ioctl_readwrite!(g_parm, b'V', 21, StreamParm);
    nix::ioctl_readwrite!(s_parm, b'V', 22, StreamParm);
    nix::ioctl_read!(g_std, b'V', 23, u64);
    nix::ioctl_write_ptr!(s_std, b'V', 24, u64);
    nix::ioctl_readwrite!(enuminput, b'V', 26, Input);
    nix::ioctl_readwrite!(querymenu, b'V', 37, QueryMenu);
    nix::ioctl_read!(g_input, b'V', 38, c_int);
    nix::ioctl_readwrite!(s_input, b'V', 39, c_int);
    nix::ioctl_readwrite!(g_edid, b'V', 40, RawEdid);
    nix::ioctl_readwrite!(s_edid, b'V', 41, RawEdid);
    nix::ioctl_read!(querystd, b'V', 63, u64);
    nix::ioctl_readwrite!(try_fmt, b'V', 64, Format);
    nix::ioctl_readwrite!(g_ext_ctrls, b'V', 71, RawControls);
    nix::ioctl_readwrite!(s_ext_ctrls, b'V', 72, RawControls);
    nix::ioctl_readwrite!(enum_framesizes, b'V', 74, FrmSizeEnum);
    nix::ioctl_readwrite!(enum_frameintervals, b'V', 75, FrmIvalEnum);
    nix::ioctl_readwrite!(encoder_cmd, b'V', 77, EncoderCmd);
    nix::ioctl_readwrite!(try_encoder_cmd, b'V', 78, EncoderCmd);
    nix::ioctl_readwrite!(s_dv_timings, b'V', 87, DvTimings);
    nix::ioctl_read!(dqevent, b'V', 89, Event);
    nix::ioctl_write_ptr!(subscribe_event, b'V', 90, EventSubscription);
    nix::ioctl_write_ptr!(unsubscribe_event, b'V', 91, EventSubscription);
    nix::ioctl_readwrite!(create_bufs, b'V', 92, CreateBuffers);
    nix::ioctl_readwrite!(g_selection, b'V', 94, Selection);
    nix::ioctl_readwrite!(s_selection, b'V', 95, Selection);
    nix::ioctl_readwrite!(decoder_cmd, b'V', 96, DecoderCmd);
    nix::ioctl_readwrite!(try_decoder_cmd, b'V', 97, DecoderCmd);
    nix::ioctl_read!(query_dv_timings, b'V', 99, DvTimings);
    nix::ioctl_readwrite!(query_ext_ctrl, b'V', 103, QueryExtCtrl);
    nix::ioctl_readwrite!(remove_bufs, b'V', 104, RemoveBuffers);
    nix::ioctl_readwrite!(subdev_g_fmt, b'V', 4, SubdevFormat);
    nix::ioctl_readwrite!(subdev_s_fmt, b'V', 5, SubdevFormat);
    nix::ioctl_readwrite!(subdev_enum_code, b'V', 2, SubdevCode);
    nix::ioctl_readwrite!(subdev_enum_size, b'V', 74, SubdevSize);
    nix::ioctl_readwrite!(subdev_enum_interval, b'V', 75, SubdevIntervalOffer);
    nix::ioctl_readwrite!(subdev_g_interval, b'V', 21, SubdevInterval);
    nix::ioctl_readwrite!(subdev_s_interval, b'V', 22, SubdevInterval);
    nix::ioctl_readwrite!(subdev_g_selection, b'V', 61, SubdevSelection);
    nix::ioctl_readwrite!(subdev_s_selection, b'V', 62, SubdevSelection);
}

/// Safe functions for ioctls whose argument consists of integers.
macro_rules! plain_calls {
    ($($(#[$meta:meta])* $name:ident($type:ty);)*) => {$(
        $(#[$meta])*
        pub(crate) fn $name(fd: BorrowedFd<'_>, arg: &mut $type) -> Result<(), Errno> {
            // SAFETY: memory: `arg` is exclusively borrowed for the call and exactly as large as the ioctl's number
            // says. Contract: it is a `Plain` struct without pointers (`Format` allows only the four kinds without
            // pointers), so the driver reads and writes only within it, and every result is a valid value.
            retry(|| unsafe { raw::$name(fd.as_raw_fd(), arg) }).map(drop)
        }
    )*};
}

plain_calls! {
    querycap(Capability);
    enum_fmt(FmtDesc);
    g_fmt(Format);
    s_fmt(Format);
    try_fmt(Format);
    reqbufs(RequestBuffers);
    create_bufs(CreateBuffers);
    remove_bufs(RemoveBuffers);
    g_parm(StreamParm);
    s_parm(StreamParm);
    g_std(u64);
    s_std(u64);
    querystd(u64);
    enuminput(Input);
    g_input(i32);
    s_input(i32);
    querymenu(QueryMenu);
    query_ext_ctrl(QueryExtCtrl);
    enum_framesizes(FrmSizeEnum);
    enum_frameintervals(FrmIvalEnum);
    g_selection(Selection);
    s_selection(Selection);
    query_dv_timings(DvTimings);
    s_dv_timings(DvTimings);
    dqevent(Event);
    subscribe_event(EventSubscription);
    unsubscribe_event(EventSubscription);
    encoder_cmd(EncoderCmd);
    try_encoder_cmd(EncoderCmd);
    decoder_cmd(DecoderCmd);
    try_decoder_cmd(DecoderCmd);
    /// For `/dev/v4l-subdevN`, as those that follow.
    subdev_g_fmt(SubdevFormat);
    subdev_s_fmt(SubdevFormat);
    subdev_enum_code(SubdevCode);
    subdev_enum_size(SubdevSize);
    subdev_enum_interval(SubdevIntervalOffer);
    subdev_g_interval(SubdevInterval);
    subdev_s_interval(SubdevInterval);
    subdev_g_selection(SubdevSelection);
    subdev_s_selection(SubdevSelection);
}

/// `VIDIOC_STREAMON`.
pub(crate) fn streamon(fd: BorrowedFd<'_>, kind: BufType) -> Result<(), Errno> {
    let kind = kind as i32;
    // SAFETY: the kernel reads one `int`, which lives for the call.
    retry(|| unsafe { raw::streamon(fd.as_raw_fd(), &kind) }).map(drop)
}

/// `VIDIOC_STREAMOFF`.
pub(crate) fn streamoff(fd: BorrowedFd<'_>, kind: BufType) -> Result<(), Errno> {
    let kind = kind as i32;
    // SAFETY: the kernel reads one `int`, which lives for the call.
    retry(|| unsafe { raw::streamoff(fd.as_raw_fd(), &kind) }).map(drop)
}

/// Exports a memory plane, close-on-exec (`VIDIOC_EXPBUF`). Each call creates a new dma-buf object. The CPU can write
/// it only if it `is_writable`.
pub(crate) fn expbuf(
    fd: BorrowedFd<'_>,
    kind: BufType,
    (index, plane): (u32, u32),
    is_writable: bool,
) -> Result<OwnedFd, Errno> {
    let mode = if is_writable { libc::O_RDWR } else { libc::O_RDONLY };
    let flags = (mode | libc::O_CLOEXEC) as u32;
    let mut arg = ExportBuffer { kind: kind as u32, index, plane, flags, fd: -1, ..ExportBuffer::zeroed() };
    // SAFETY: `arg` is a live, exclusively borrowed `struct v4l2_exportbuffer` without pointers.
    retry(|| unsafe { raw::expbuf(fd.as_raw_fd(), &mut arg) })?;
    own(arg.fd)
}

/// One memory plane of a buffer for QBUF and DQBUF. `bytesused` counts from the start of the buffer, including the
/// offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BufferPlane {
    pub(crate) length: u32,
    pub(crate) bytesused: u32,
    pub(crate) data_offset: u32,
}

/// The argument of QBUF and DQBUF: a buffer and its planes, for queues of either API.
pub(crate) struct Buffer {
    raw: RawBuffer,
    planes: [RawPlane; 8],
}

impl Buffer {
    /// Creates the argument for QBUF of a buffer with `planes` memory planes. DQBUF accepts any number up to 8.
    pub(crate) fn new(kind: BufType, memory: u32, index: u32, planes: usize) -> Self {
        let mut raw = RawBuffer::zeroed();
        (raw.kind, raw.memory, raw.index) = (kind as u32, memory, index);
        if kind.is_multi_planar() {
            raw.length = planes.min(8) as u32;
        }
        raw.field = FIELD_NONE;
        Self { raw, planes: [RawPlane::zeroed(); 8] }
    }

    fn is_multi_planar(&self) -> bool {
        self.raw.kind == BufType::CaptureMplane as u32 || self.raw.kind == BufType::OutputMplane as u32
    }

    /// Describes a memory plane. `MEMORY_DMABUF` needs a descriptor. The single-planar API has one plane and no
    /// offset.
    pub(crate) fn set_plane(&mut self, i: usize, plane: BufferPlane, fd: Option<BorrowedFd<'_>>) {
        let m = fd.map(|fd| Place { fd: fd.as_raw_fd() });
        if !self.is_multi_planar() {
            (self.raw.length, self.raw.bytesused) = (plane.length, plane.bytesused);
            self.raw.m = m.unwrap_or(self.raw.m);
        } else if let Some(raw) = self.planes.get_mut(i) {
            (raw.length, raw.bytesused, raw.data_offset) = (plane.length, plane.bytesused, plane.data_offset);
            raw.m = m.unwrap_or(raw.m);
        }
    }

    /// Returns a memory plane as the driver described it.
    pub(crate) fn plane(&self, i: usize) -> BufferPlane {
        if !self.is_multi_planar() {
            return BufferPlane { length: self.raw.length, bytesused: self.raw.bytesused, data_offset: 0 };
        }
        self.planes.get(i).map_or_else(BufferPlane::default, |p| BufferPlane {
            length: p.length,
            bytesused: p.bytesused,
            data_offset: p.data_offset,
        })
    }

    /// Returns where a memory plane can be mapped, in the answer to QUERYBUF.
    pub(crate) fn map_offset(&self, i: usize) -> u64 {
        let m = if self.is_multi_planar() { self.planes.get(i).map(|plane| plane.m) } else { Some(self.raw.m) };
        // SAFETY: the offset is the first field of the union, as the descriptor is. Both have four bytes, which are
        // zero or written by the kernel, and any bit pattern is valid.
        m.map_or(0, |m| unsafe { m.fd } as u32).into()
    }

    pub(crate) fn index(&self) -> usize {
        self.raw.index as usize
    }

    pub(crate) fn flags(&self) -> u32 {
        self.raw.flags
    }

    pub(crate) fn field(&self) -> u32 {
        self.raw.field
    }

    pub(crate) fn sequence(&self) -> u32 {
        self.raw.sequence
    }

    pub(crate) fn timestamp_ns(&self) -> u64 {
        let part = |n: i64| u64::try_from(n).unwrap_or(0);
        part(self.raw.seconds)
            .saturating_mul(1_000_000_000)
            .saturating_add(part(self.raw.microseconds).saturating_mul(1000))
    }

    /// Sets the timestamp, which a mem-to-mem device copies to its result.
    pub(crate) fn set_timestamp_ns(&mut self, ns: u64) {
        self.raw.seconds = (ns / 1_000_000_000) as i64;
        self.raw.microseconds = (ns % 1_000_000_000 / 1000) as i64;
    }

    /// Runs `call` with the plane array attached if the queue is multi-planar.
    fn with(
        &mut self,
        call: unsafe fn(i32, *mut RawBuffer) -> nix::Result<i32>,
        fd: BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        retry(|| {
            let mut arg = self.raw;
            if self.is_multi_planar() {
                arg.m = Place { planes: self.planes.as_mut_ptr() };
            }
            // SAFETY: memory: `arg` lives on this stack frame. A multi-planar kind makes `m` point to the eight
            // planes of `self`, exclusively borrowed for the call, and `length` is at most 8 (`new`); the kernel
            // writes back no more entries than that. A single-planar kind has no pointer: memory is MMAP or DMABUF,
            // never USERPTR. Contract: `call` is QUERYBUF, QBUF or DQBUF, which take this struct; descriptors in it are
            // only looked up.
            let done = unsafe { call(fd.as_raw_fd(), &mut arg) };
            if done.is_ok() {
                // The pointer must not outlive this frame, and the kernel's count of planes must not exceed the
                // array.
                if self.is_multi_planar() {
                    (arg.m, arg.length) = (self.raw.m, arg.length.min(8));
                }
                self.raw = arg;
            }
            done
        })
        .map(drop)
    }
}

/// `VIDIOC_QUERYBUF` of one of the driver's own buffers.
pub(crate) fn querybuf(fd: BorrowedFd<'_>, kind: BufType, index: u32) -> Result<Buffer, Errno> {
    let mut buffer = Buffer::new(kind, MEMORY_MMAP, index, 8);
    buffer.with(raw::querybuf, fd)?;
    Ok(buffer)
}

/// `VIDIOC_QBUF`.
pub(crate) fn qbuf(fd: BorrowedFd<'_>, buffer: &mut Buffer) -> Result<(), Errno> {
    buffer.with(raw::qbuf, fd)
}

/// `VIDIOC_DQBUF`.
pub(crate) fn dqbuf(fd: BorrowedFd<'_>, kind: BufType, memory: u32) -> Result<Buffer, Errno> {
    let mut buffer = Buffer::new(kind, memory, 0, 8);
    buffer.with(raw::dqbuf, fd)?;
    Ok(buffer)
}

/// Whether to read or write an EDID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EdidCall {
    Get,
    Set,
}

/// Reads or writes the EDID of an input (`VIDIOC_G_EDID`, `VIDIOC_S_EDID`), in whole blocks of 128 bytes. Returns the
/// number of blocks that were read.
pub(crate) fn edid(fd: BorrowedFd<'_>, call: EdidCall, pad: u32, bytes: &mut [u8]) -> Result<u32, Errno> {
    let room = u32::try_from(bytes.len() / 128).map_err(|_| Errno::EINVAL)?;
    let mut arg = RawEdid { pad, start_block: 0, blocks: room, reserved: [0; 5], edid: bytes.as_mut_ptr() };
    retry(|| {
        // SAFETY: memory: `arg` is live and points to `bytes`, which are exclusively borrowed and at least `blocks`
        // times 128 long. Contract: the kernel reads or writes at most `blocks` blocks there.
        unsafe {
            match call {
                EdidCall::Get => raw::g_edid(fd.as_raw_fd(), &mut arg),
                EdidCall::Set => raw::s_edid(fd.as_raw_fd(), &mut arg),
            }
        }
    })?;
    Ok(arg.blocks.min(room))
}

/// Whether to read or write a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlCall {
    Get,
    Set,
}

/// Reads or writes one number (`VIDIOC_G_EXT_CTRLS`, `VIDIOC_S_EXT_CTRLS`). Native-endian; 32-bit values are in the
/// first four bytes.
pub(crate) fn control_number(fd: BorrowedFd<'_>, call: ControlCall, id: u32, value: &mut [u8; 8]) -> Result<(), Errno> {
    let mut control = RawControl { id, size: 0, reserved2: 0, value: *value };
    one_control(fd, call, &mut control)?;
    *value = control.value;
    Ok(())
}

/// Reads or writes one control whose value is an array of bytes (`VIDIOC_G_EXT_CTRLS`, `VIDIOC_S_EXT_CTRLS`).
pub(crate) fn control_bytes(fd: BorrowedFd<'_>, call: ControlCall, id: u32, bytes: &mut [u8]) -> Result<(), Errno> {
    let size = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
    let mut value = [0; 8];
    let address = (bytes.as_mut_ptr() as usize).to_ne_bytes();
    value[..address.len()].copy_from_slice(&address);
    let mut control = RawControl { id, size, reserved2: 0, value };
    // The kernel copies at most `size` bytes from or to `bytes`, which is exclusively borrowed until this returns.
    one_control(fd, call, &mut control)
}

fn one_control(fd: BorrowedFd<'_>, call: ControlCall, control: &mut RawControl) -> Result<(), Errno> {
    let mut arg = RawControls { which: 0, count: 1, error_idx: 0, request_fd: 0, reserved: 0, controls: control };
    retry(|| {
        // SAFETY: memory: `arg` is live and points to one live `struct v4l2_ext_control`, exclusively borrowed. Its
        // callers set `size` to the length of the bytes that it points to, or to 0 for a number. Contract: for a
        // control with a payload and a `size` that is 0 or too small, the kernel returns ENOSPC or EFAULT; for a
        // number it ignores `size`.
        unsafe {
            match call {
                ControlCall::Get => raw::g_ext_ctrls(fd.as_raw_fd(), &mut arg),
                ControlCall::Set => raw::s_ext_ctrls(fd.as_raw_fd(), &mut arg),
            }
        }
    })
    .map(drop)
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::mem::size_of;

    #[test]
    fn numbers_are_the_uapi_s() {
        macro_rules! number {
            ($n:literal, $type:ty) => {
                nix::request_code_readwrite!(b'V', $n, size_of::<$type>()) as u32
            };
        }
        assert_eq!(nix::request_code_read!(b'V', 0, size_of::<Capability>()), 0x8068_5600);
        assert_eq!(number!(2, FmtDesc), 0xc040_5602);
        assert_eq!(number!(5, Format), 0xc0d0_5605);
        assert_eq!(number!(8, RequestBuffers), 0xc014_5608);
        assert_eq!(number!(9, RawBuffer), 0xc058_5609);
        assert_eq!(number!(15, RawBuffer), 0xc058_560f);
        assert_eq!(number!(16, ExportBuffer), 0xc040_5610);
        assert_eq!(number!(17, RawBuffer), 0xc058_5611);
        assert_eq!(nix::request_code_write!(b'V', 18, size_of::<i32>()), 0x4004_5612);
        assert_eq!(number!(22, StreamParm), 0xc0cc_5616);
        assert_eq!(number!(26, Input), 0xc050_561a);
        assert_eq!(number!(37, QueryMenu), 0xc02c_5625);
        assert_eq!(number!(72, RawControls), 0xc020_5648);
        assert_eq!(number!(74, FrmSizeEnum), 0xc02c_564a);
        assert_eq!(number!(75, FrmIvalEnum), 0xc034_564b);
        assert_eq!(number!(77, EncoderCmd), 0xc028_564d);
        assert_eq!(number!(87, DvTimings), 0xc084_5657);
        assert_eq!(nix::request_code_read!(b'V', 89, size_of::<Event>()), 0x8088_5659);
        assert_eq!(nix::request_code_write!(b'V', 90, size_of::<EventSubscription>()), 0x4020_565a);
        assert_eq!(number!(92, CreateBuffers), 0xc100_565c);
        assert_eq!(number!(95, Selection), 0xc040_565f);
        assert_eq!(number!(96, DecoderCmd), 0xc048_5660);
        assert_eq!(number!(103, QueryExtCtrl), 0xc0e8_5667);
        assert_eq!(number!(104, RemoveBuffers), 0xc040_5668);
        assert_eq!(number!(4, SubdevFormat), 0xc058_5604);
    }

    #[test]
    fn calls_are_the_same_for_both_plane_models() {
        let plane = BufferPlane { length: 4096, bytesused: 300, data_offset: 128 };
        let mut single = Buffer::new(BufType::Output, MEMORY_DMABUF, 1, 1);
        single.set_plane(0, plane, None);
        assert_eq!(single.plane(0), BufferPlane { data_offset: 0, ..plane });
        let mut multi = Buffer::new(BufType::OutputMplane, MEMORY_DMABUF, 1, 2);
        multi.set_plane(1, plane, None);
        multi.set_plane(8, plane, None);
        assert_eq!((multi.plane(1), multi.plane(8)), (plane, BufferPlane::default()));
        multi.set_timestamp_ns(3_000_001_999);
        assert_eq!(multi.timestamp_ns(), 3_000_001_000);
    }
}
