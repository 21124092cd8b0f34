//! Frames, and the memory that they lie in.
//!
//! An fl_frame is a counted lease on a buffer: while you hold a reference, no camera and no pool writes into it.
//! Release frames soon: a camera has few buffers.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};

use framelease::dmabuf::{Allocator, DmaBuf, MemoryKind};
use framelease::format::Layout;
use framelease::frame::{BufferSet, CpuReads, Frame, FrameFlags, FrameMeta, FrameMut, Pool};

use crate::ffi::{self, sized, Bool, Fill, HeldRead, Out};
use crate::format::{fl_layout, read_layout, FL_MAX_PLANES};
use crate::station::{fl_station, timeout};
use crate::status::fl_status::{self, FL_ENDED, FL_NOTHING, FL_OK};
use crate::status::{call, call_on, invalid, numbers, value, within, Failure};

/// A shared lease on a buffer with a picture. Counted: fl_frame_ref() and fl_frame_unref().
#[allow(non_camel_case_types)]
pub struct fl_frame {
    pub(crate) frame: Frame,
}

/// An exclusive lease on a buffer of a pool, which may be written.
#[allow(non_camel_case_types)]
pub struct fl_buffer {
    pub(crate) buffer: FrameMut,
}

/// Read access of the CPU to a frame. Close it with fl_mapping_close().
#[allow(non_camel_case_types)]
pub struct fl_mapping {
    read: HeldRead,
}

/// The buffers of a source: what a publisher announces and an encoder imports. Close it with fl_buffers_close().
#[allow(non_camel_case_types)]
pub struct fl_buffers {
    pub(crate) buffers: BufferSet,
}

/// The header promises it. (The functions of `ffi` that give handles check the others.)
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<fl_buffers>();
};

/// A pool of buffers with one layout. Close it with fl_pool_close().
#[allow(non_camel_case_types)]
pub struct fl_pool {
    pool: Pool,
}

/// The picture is damaged: the driver, or a device before it, reported an error.
pub const FL_FRAME_DAMAGED: u32 = 1;
/// The frame or packet can be decoded without those before it.
pub const FL_FRAME_KEY: u32 = 2;
/// The last frame of the stream.
pub const FL_FRAME_LAST: u32 = 4;
/// The timestamp is of CLOCK_MONOTONIC.
pub const FL_FRAME_MONOTONIC: u32 = 8;
/// The rows of two fields, taken one after the other; the field of the first row first.
pub const FL_FRAME_INTERLACED: u32 = 16;
/// With FL_FRAME_INTERLACED: the field of the second row first.
pub const FL_FRAME_BOTTOM_FIRST: u32 = 32;
/// The rows of one field: that of the first row.
pub const FL_FRAME_TOP_FIELD: u32 = 64;
/// The rows of one field: that of the second row.
pub const FL_FRAME_BOTTOM_FIELD: u32 = 128;

const FLAGS: [(FrameFlags, u32); 8] = [
    (FrameFlags::ERROR, FL_FRAME_DAMAGED),
    (FrameFlags::KEY, FL_FRAME_KEY),
    (FrameFlags::LAST, FL_FRAME_LAST),
    (FrameFlags::MONOTONIC, FL_FRAME_MONOTONIC),
    (FrameFlags::INTERLACED, FL_FRAME_INTERLACED),
    (FrameFlags::BOTTOM_FIRST, FL_FRAME_BOTTOM_FIRST),
    (FrameFlags::TOP_FIELD, FL_FRAME_TOP_FIELD),
    (FrameFlags::BOTTOM_FIELD, FL_FRAME_BOTTOM_FIELD),
];

pub fn flags(flags: FrameFlags) -> u32 {
    FLAGS.into_iter().filter(|(flag, _)| flags.contains(*flag)).fold(0, |all, (_, bit)| all | bit)
}

/// A memory plane of a frame or a buffer.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_memory {
    /// The dma-buf, or memfd. It belongs to the library: dup() it to keep it after its frame or buffers. A device
    /// may import it; release the frame after the device has finished. A memfd that the library made can be mapped for
    /// reading alone: fl_buffer_write_rows() writes it.
    pub fd: c_int,
    /// Whether `fd` is a dma-buf. Devices import nothing else.
    pub is_dmabuf: Bool,
    /// The size of the whole buffer, in bytes.
    pub size_bytes: u64,
    /// The offset of this frame's data, in bytes.
    pub offset_bytes: u32,
    /// The length of this frame's data, in bytes.
    pub bytes: u32,
}

/// The facts of a frame, without its pixels.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_frame_info {
    /// sizeof(fl_frame_info): FL_INIT sets it.
    pub size: usize,
    /// The source's number of the frame. A gap means lost frames.
    pub sequence: u64,
    /// When the frame was taken, in nanoseconds. FL_FRAME_MONOTONIC says of which clock.
    pub timestamp_ns: u64,
    /// When the publisher sent the frame, in nanoseconds of CLOCK_MONOTONIC; 0 for other frames.
    pub published_ns: u64,
    /// Frames that this subscriber wanted and did not get until now. 0 for other frames.
    pub dropped: u64,
    /// Frames that the source lost directly before this one.
    pub lost: u32,
    /// FL_FRAME_... together.
    pub flags: u32,
    /// The number of the buffer. The same number means the same memory, as long as the buffers are the same.
    pub slot: u32,
    /// The number of `memory`.
    pub memory_count: u32,
    /// The memory planes.
    pub memory: [fl_memory; FL_MAX_PLANES],
}

sized!(fl_frame_info);

/// The pixels of one color plane, in memory that is mapped for reading.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_pixels {
    /// The first byte of the first row. A device or another process may change the bytes at any time, for example after
    /// a lease was revoked: do not decide by a byte that you read twice.
    pub data: *const u8,
    /// All bytes from the first row to the end of the last, with the padding between rows.
    pub bytes: usize,
    /// The distance from a row to the next, in bytes.
    pub stride_bytes: usize,
    /// The bytes of pixels in a row, without padding.
    pub row_bytes: usize,
    /// The number of rows.
    pub rows: u32,
}

/// How fast the CPU reads the buffers of a source.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_cpu_reads {
    FL_CPU_READS_UNKNOWN = 0,
    FL_CPU_READS_CACHED = 1,
    /// Reading in place is many times slower than a copy with fl_mapping_copy_row().
    FL_CPU_READS_UNCACHED = 2,
}

numbers!(fl_cpu_reads: FL_CPU_READS_UNKNOWN, FL_CPU_READS_CACHED, FL_CPU_READS_UNCACHED);

fn given<'a, T>(handle: Option<&'a T>, what: &str) -> Result<&'a T, Failure> {
    handle.ok_or_else(|| invalid(format!("{what} is NULL")))
}

/// Adds a reference and returns `frame`. Each reference needs one fl_frame_unref(). One atomic addition.
#[no_mangle]
pub extern "C" fn fl_frame_ref(frame: *mut fl_frame) -> *mut fl_frame {
    ffi::count_up(frame)
}

/// Gives a reference back and makes the pointer NULL. With the last reference, the buffer returns to its source. NULL,
/// or a pointer to NULL, is allowed.
#[no_mangle]
pub extern "C" fn fl_frame_unref(frame: *mut *mut fl_frame) {
    call("fl_frame_unref", || {
        ffi::count_down(frame);
        Ok(FL_OK)
    });
}

const NO_MEMORY: fl_memory = fl_memory { fd: -1, is_dmabuf: Bool::NO, size_bytes: 0, offset_bytes: 0, bytes: 0 };

/// Memory planes, each with all data that the layout needs.
fn whole_memory(buffers: &[DmaBuf], needed: &[u32]) -> [fl_memory; FL_MAX_PLANES] {
    memory(buffers, needed.iter().map(|&bytes| (0, bytes)))
}

/// Memory planes, with the offset and the length of the data in each.
fn memory(buffers: &[DmaBuf], data: impl IntoIterator<Item = (u32, u32)>) -> [fl_memory; FL_MAX_PLANES] {
    let mut memory = [NO_MEMORY; FL_MAX_PLANES];
    for ((to, buffer), (offset_bytes, bytes)) in memory.iter_mut().zip(buffers).zip(data) {
        *to = fl_memory {
            fd: buffer.as_fd().as_raw_fd(),
            is_dmabuf: (buffer.kind() == MemoryKind::DmaBuf).into(),
            size_bytes: buffer.size_bytes() as u64,
            offset_bytes,
            bytes,
        };
    }
    memory
}

/// Fills `info`. No system call.
#[no_mangle]
pub extern "C" fn fl_frame_get_info(frame: Option<&fl_frame>, info: *mut fl_frame_info) -> fl_status {
    call("fl_frame_get_info", || {
        let (frame, to) = (&given(frame, "the frame")?.frame, Fill::new(info, "info")?);
        let meta = frame.meta();
        to.put(&fl_frame_info {
            size: 0,
            sequence: meta.sequence,
            timestamp_ns: meta.timestamp_ns,
            published_ns: meta.published_ns,
            dropped: meta.dropped,
            lost: meta.lost,
            flags: flags(meta.flags),
            slot: frame.slot() as u32,
            memory_count: frame.memory().len() as u32,
            memory: memory(frame.memory(), meta.payload.iter().map(|data| (data.offset_bytes, data.bytes))),
        });
        Ok(FL_OK)
    })
}

/// Fills the layout of the frame's pixels.
#[no_mangle]
pub extern "C" fn fl_frame_get_layout(frame: Option<&fl_frame>, layout: *mut fl_layout) -> fl_status {
    call("fl_frame_get_layout", || {
        let frame = given(frame, "the frame")?;
        Fill::new(layout, "layout")?.put(&frame.frame.layout().into());
        Ok(FL_OK)
    })
}

/// Returns whether the lease still holds. It ends early if the publisher revokes it or is gone; then pixels that you
/// have read may belong to a later picture. So ask after the last byte was read. One system call for a subscriber's
/// frame; other frames are always valid.
#[no_mangle]
pub extern "C" fn fl_frame_is_valid(frame: Option<&fl_frame>) -> bool {
    value("fl_frame_is_valid", false, || Ok(given(frame, "the frame")?.frame.is_valid()))
}

/// Begins reading the pixels with the CPU. Waits for at most `timeout_ms` for a device that still writes them. Maps
/// each buffer once in its life (mmap), then costs one DMA_BUF_IOCTL_SYNC for each memory plane.
///
/// FL_ERROR_TIMEOUT if the device still writes after that time. The mapping keeps the frame's lease. End it soon with
/// fl_mapping_close().
#[no_mangle]
pub extern "C" fn fl_frame_map(frame: *const fl_frame, timeout_ms: c_int, mapping: *mut *mut fl_mapping) -> fl_status {
    call("fl_frame_map", || {
        let out = Out::handle(mapping, "mapping")?;
        let frame = ffi::share(frame, "the frame")?;
        out.put_box(fl_mapping { read: HeldRead::begin(frame, |frame| frame.read(timeout(timeout_ms)))? });
        Ok(FL_OK)
    })
}

/// Fills the place of a color plane's pixels, which is valid until fl_mapping_close().
#[no_mangle]
pub extern "C" fn fl_mapping_plane(mapping: Option<&fl_mapping>, plane: u32, pixels: *mut fl_pixels) -> fl_status {
    call("fl_mapping_plane", || {
        let nothing = fl_pixels { data: std::ptr::null(), bytes: 0, stride_bytes: 0, row_bytes: 0, rows: 0 };
        let out = Out::with(pixels, nothing, "pixels")?;
        let read = given(mapping, "the mapping")?.read.get().plane(plane as usize)?;
        out.put(fl_pixels {
            data: read.bytes().as_ptr(),
            bytes: read.bytes().len_bytes(),
            stride_bytes: read.stride_bytes(),
            row_bytes: read.row_bytes(),
            rows: read.row_count(),
        });
        Ok(FL_OK)
    })
}

/// Copies a row of a color plane, without padding. `bytes` is the row_bytes of the plane. For buffers that the CPU
/// reads slowly (FL_CPU_READS_UNCACHED), and for data that must not change while you decide by it.
#[no_mangle]
pub extern "C" fn fl_mapping_copy_row(
    mapping: Option<&fl_mapping>,
    plane: u32,
    row: u32,
    to: *mut u8,
    bytes: usize,
) -> fl_status {
    call("fl_mapping_copy_row", || {
        let read = given(mapping, "the mapping")?.read.get();
        read.copy_row(plane as usize, row, ffi::slice_mut(to, bytes, "to")?)?;
        Ok(FL_OK)
    })
}

/// Ends reading, and makes the pointer NULL. NULL is allowed.
#[no_mangle]
pub extern "C" fn fl_mapping_close(mapping: *mut *mut fl_mapping) {
    call("fl_mapping_close", || {
        ffi::free_box(mapping);
        Ok(FL_OK)
    });
}

/// Gives the present buffers of a camera, a test pattern, a subscriber or a decoder. After FL_EVENT_FORMAT the station
/// has others. A subscriber and a decoder have none before their first FL_EVENT_FORMAT: FL_ERROR_STATE.
#[no_mangle]
pub extern "C" fn fl_station_buffers(station: Option<&fl_station>, buffers: *mut *mut fl_buffers) -> fl_status {
    call_on("fl_station_buffers", station, |station| {
        let out = Out::handle(buffers, "buffers")?;
        out.put_box(fl_buffers { buffers: station.with_any(|station| station.buffers())? });
        Ok(FL_OK)
    })
}

/// Fills the layout of all frames in these buffers.
#[no_mangle]
pub extern "C" fn fl_buffers_get_layout(buffers: Option<&fl_buffers>, layout: *mut fl_layout) -> fl_status {
    call("fl_buffers_get_layout", || {
        let buffers = given(buffers, "buffers")?;
        Fill::new(layout, "layout")?.put(&buffers.buffers.layout().into());
        Ok(FL_OK)
    })
}

/// Returns the number of buffers.
#[no_mangle]
pub extern "C" fn fl_buffers_count(buffers: Option<&fl_buffers>) -> usize {
    value("fl_buffers_count", 0, || Ok(given(buffers, "buffers")?.buffers.slots()))
}

/// Fills the memory plane `plane` of the buffer `slot`, both from 0, so that a device can import all buffers before the
/// first frame. FL_ENDED if the buffers do not have that slot or plane. FL_NOTHING if the memory is not known yet:
/// GStreamer's unixfdsink announces a buffer with the first frame in it. No system call.
#[no_mangle]
pub extern "C" fn fl_buffers_get_memory(
    buffers: Option<&fl_buffers>,
    slot: usize,
    plane: u32,
    memory: *mut fl_memory,
) -> fl_status {
    call("fl_buffers_get_memory", || {
        let out = Out::with(memory, NO_MEMORY, "memory")?;
        let buffers = &given(buffers, "buffers")?.buffers;
        let needed = buffers.layout().memory_bytes();
        let planes = whole_memory(buffers.memory(slot), needed);
        match plane as usize {
            plane if slot >= buffers.slots() || plane >= needed.len() => return Ok(FL_ENDED),
            _ if buffers.memory(slot).is_empty() => return Ok(FL_NOTHING),
            plane => out.put(planes[plane]),
        }
        Ok(FL_OK)
    })
}

/// Returns an fl_cpu_reads.
#[no_mangle]
pub extern "C" fn fl_buffers_cpu_reads(buffers: Option<&fl_buffers>) -> u32 {
    value("fl_buffers_cpu_reads", 0, || {
        Ok(match given(buffers, "buffers")?.buffers.cpu_reads() {
            CpuReads::Cached => FL_CPU_READS_CACHED,
            CpuReads::Uncached => FL_CPU_READS_UNCACHED,
            _ => FL_CPU_READS_UNKNOWN,
        })
    })
}

/// Closes the handle and makes the pointer NULL. Frames and the stations that use the buffers keep them. NULL is
/// allowed.
#[no_mangle]
pub extern "C" fn fl_buffers_close(buffers: *mut *mut fl_buffers) {
    call("fl_buffers_close", || {
        ffi::free_box(buffers);
        Ok(FL_OK)
    });
}

/// The allocator of an option: NULL or "devices", "cpu", "memfd", "udmabuf", or the path of a dma-heap.
pub fn allocator(name: *const c_char) -> Result<Option<Allocator>, Failure> {
    let Some(name) = ffi::optional_text(name, "the allocator")? else { return Ok(None) };
    Ok(Some(match name {
        "devices" => Allocator::for_devices()?,
        "cpu" => Allocator::for_cpu_source(),
        "memfd" => Allocator::Memfd,
        "udmabuf" => Allocator::Udmabuf,
        path if path.starts_with('/') => Allocator::Heap(path.into()),
        other => {
            let text =
                format!("allocator {other:?}: \"devices\", \"cpu\", \"memfd\", \"udmabuf\" or a dma-heap's path");
            return Err(invalid(text));
        }
    }))
}

/// Allocates `count` buffers (1 to 64) of a layout, for a converter's targets or for pictures that your program draws.
///
/// `allocator` names the memory: "devices" (the default for NULL: a dma-heap or udmabuf that devices import), "cpu"
/// (for pictures that the CPU writes), "memfd", "udmabuf", or the path of a dma-heap such as "/dev/dma_heap/system".
#[no_mangle]
pub extern "C" fn fl_pool_create(
    allocator: *const c_char,
    layout: *const fl_layout,
    count: usize,
    pool: *mut *mut fl_pool,
) -> fl_status {
    call("fl_pool_create", || {
        let out = Out::handle(pool, "pool")?;
        let layout: Layout = read_layout(layout, "layout")?;
        let allocator = match self::allocator(allocator)? {
            Some(allocator) => allocator,
            None => Allocator::for_devices()?,
        };
        out.put_box(fl_pool { pool: Pool::new(&allocator, layout, count)? });
        Ok(FL_OK)
    })
}

/// Makes a pool of `count` buffers (1 to 64) that were allocated elsewhere, for example by a graphics driver. They are
/// dma-bufs, or memfds that are sealed against shrinking. `fds` has the memory_count descriptors of the layout for each
/// buffer, one buffer after the other. The pool duplicates them: yours stay yours. Only the holder of a lease may write
/// its buffer.
#[no_mangle]
pub extern "C" fn fl_pool_from_fds(
    layout: *const fl_layout,
    fds: *const c_int,
    count: usize,
    pool: *mut *mut fl_pool,
) -> fl_status {
    call("fl_pool_from_fds", || {
        let out = Out::handle(pool, "pool")?;
        let layout: Layout = read_layout(layout, "layout")?;
        within("count", u32::try_from(count).unwrap_or(u32::MAX), 1..=64)?;
        let planes = layout.memory_bytes().len();
        let fds = ffi::slice(fds, count * planes, "fds")?;
        let take =
            |&fd: &c_int| -> Result<DmaBuf, Failure> { Ok(DmaBuf::from_fd(ffi::descriptor(fd, "a descriptor")?)?) };
        let memory = fds.chunks(planes).map(|slot| slot.iter().map(take).collect());
        out.put_box(fl_pool { pool: Pool::from_memory(layout, memory.collect::<Result<_, _>>()?)? });
        Ok(FL_OK)
    })
}

/// Gives the pool's buffers, to announce them.
#[no_mangle]
pub extern "C" fn fl_pool_buffers(pool: Option<&fl_pool>, buffers: *mut *mut fl_buffers) -> fl_status {
    call("fl_pool_buffers", || {
        let out = Out::handle(buffers, "buffers")?;
        out.put_box(fl_buffers { buffers: given(pool, "the pool")?.pool.buffers().clone() });
        Ok(FL_OK)
    })
}

/// Leases a free buffer. Waits for one for at most `timeout_ms`: FL_NOTHING if all are still leased then.
#[no_mangle]
pub extern "C" fn fl_pool_acquire(pool: Option<&fl_pool>, timeout_ms: c_int, buffer: *mut *mut fl_buffer) -> fl_status {
    call("fl_pool_acquire", || {
        let out = Out::handle(buffer, "buffer")?;
        let pool = &given(pool, "the pool")?.pool;
        let Some(buffer) = pool.acquire(timeout(timeout_ms)) else { return Ok(FL_NOTHING) };
        out.put_box(fl_buffer { buffer });
        Ok(FL_OK)
    })
}

/// Closes the pool and makes the pointer NULL. Leased buffers stay valid. NULL is allowed.
#[no_mangle]
pub extern "C" fn fl_pool_close(pool: *mut *mut fl_pool) {
    call("fl_pool_close", || {
        ffi::free_box(pool);
        Ok(FL_OK)
    });
}

/// Copies rows of pixels into a color plane with the CPU: `rows` rows from `first_row` on, `row_bytes` each, which lie
/// `stride_bytes` apart at `from`.
#[no_mangle]
pub extern "C" fn fl_buffer_write_rows(
    buffer: *mut fl_buffer,
    plane: u32,
    first_row: u32,
    rows: u32,
    from: *const c_void,
    stride_bytes: usize,
    row_bytes: usize,
) -> fl_status {
    call("fl_buffer_write_rows", || {
        let buffer = ffi::exclusive(buffer, "the buffer")?;
        let last = (rows as usize).saturating_sub(1);
        let needed = last.checked_mul(stride_bytes).and_then(|bytes| bytes.checked_add(row_bytes));
        let needed = needed.ok_or_else(|| invalid(format!("{rows} rows, {stride_bytes} bytes apart")))?;
        if stride_bytes < row_bytes && rows > 1 {
            return Err(invalid(format!("rows of {row_bytes} bytes cannot lie {stride_bytes} bytes apart")));
        }
        let from = ffi::slice(from.cast::<u8>(), needed, "from")?;
        let mut write = buffer.buffer.write(framelease::dmabuf::DEFAULT_WAIT)?;
        for i in 0..rows {
            let row = first_row.checked_add(i).ok_or_else(|| invalid(format!("row {first_row} + {i}")))?;
            let first = i as usize * stride_bytes;
            write.copy_row(plane as usize, row, &from[first..first + row_bytes])?;
        }
        Ok(FL_OK)
    })
}

/// Fills `slot` and the memory planes of `info`, and makes its other fields 0: for a device, such as a GPU, that writes
/// the pixels. No system call.
#[no_mangle]
pub extern "C" fn fl_buffer_get_info(buffer: Option<&fl_buffer>, info: *mut fl_frame_info) -> fl_status {
    call("fl_buffer_get_info", || {
        let (buffer, to) = (&given(buffer, "the buffer")?.buffer, Fill::new(info, "info")?);
        to.put(&fl_frame_info {
            size: 0,
            sequence: 0,
            timestamp_ns: 0,
            published_ns: 0,
            dropped: 0,
            lost: 0,
            flags: 0,
            slot: buffer.slot() as u32,
            memory_count: buffer.memory().len() as u32,
            memory: whole_memory(buffer.memory(), buffer.layout().memory_bytes()),
        });
        Ok(FL_OK)
    })
}

/// Ends writing: the buffer becomes a frame with this sequence number and time (nanoseconds of CLOCK_MONOTONIC). Takes
/// the buffer and makes its pointer NULL. No pixel is copied.
#[no_mangle]
pub extern "C" fn fl_buffer_freeze(
    buffer: *mut *mut fl_buffer,
    sequence: u64,
    timestamp_ns: u64,
    frame: *mut *mut fl_frame,
) -> fl_status {
    call("fl_buffer_freeze", || {
        let out = Out::handle(frame, "frame")?;
        let taken = ffi::take_box(buffer).ok_or_else(|| invalid("the buffer is NULL"))?;
        out.put(ffi::counted(fl_frame { frame: taken.buffer.freeze_full(sequence, timestamp_ns) }));
        Ok(FL_OK)
    })
}

/// Ends writing as fl_buffer_freeze() does, with the facts of `info`: sequence, timestamp_ns, lost, flags, and the
/// offset_bytes and bytes of each memory plane. Its other fields are not read. fl_buffer_get_info() fills the memory
/// planes of a whole picture to begin with. After an error the buffer stays yours.
#[no_mangle]
pub extern "C" fn fl_buffer_freeze_with(
    buffer: *mut *mut fl_buffer,
    info: *const fl_frame_info,
    frame: *mut *mut fl_frame,
) -> fl_status {
    call("fl_buffer_freeze_with", || {
        let out = Out::handle(frame, "frame")?;
        let info = ffi::read(info, "info")?;
        let taken = ffi::take_box(buffer).ok_or_else(|| invalid("the buffer is NULL"))?;
        match meta(&info, &taken.buffer) {
            Ok(meta) => out.put(ffi::counted(fl_frame { frame: taken.buffer.freeze(meta) })),
            Err(failure) => {
                ffi::return_box(buffer, taken);
                return Err(failure);
            }
        }
        Ok(FL_OK)
    })
}

fn meta(info: &fl_frame_info, buffer: &FrameMut) -> Result<FrameMeta, Failure> {
    let mut meta = FrameMeta::default();
    (meta.sequence, meta.timestamp_ns, meta.lost) = (info.sequence, info.timestamp_ns, info.lost);
    for (flag, bit) in FLAGS {
        if info.flags & bit != 0 {
            meta.flags |= flag;
        }
    }
    if flags(meta.flags) != info.flags {
        return Err(invalid(format!("flags is {:#x}: see FL_FRAME_...", info.flags)));
    }
    for (i, (memory, from)) in buffer.memory().iter().zip(&info.memory).enumerate() {
        let (offset_bytes, bytes) = (from.offset_bytes, from.bytes);
        if u64::from(offset_bytes) + u64::from(bytes) > memory.size_bytes() as u64 {
            let has = memory.size_bytes();
            return Err(invalid(format!("memory {i} has {has} bytes, not {bytes} from offset {offset_bytes} on")));
        }
        (meta.payload[i].offset_bytes, meta.payload[i].bytes) = (offset_bytes, bytes);
    }
    Ok(meta)
}

/// Gives a buffer back to its pool without a frame, and makes the pointer NULL. NULL is allowed.
#[no_mangle]
pub extern "C" fn fl_buffer_release(buffer: *mut *mut fl_buffer) {
    call("fl_buffer_release", || {
        ffi::free_box(buffer);
        Ok(FL_OK)
    });
}
