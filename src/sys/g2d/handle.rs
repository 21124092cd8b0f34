//! The calls of libg2d. Each call gets new copies of its structs, because libg2d writes to its arguments.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{addr_of_mut, null_mut, NonNull};

use super::abi::{self, LegacyAddress, ModernAddress};
use super::library::{Library, RawHandle, Symbols};
use super::{Abi, Status, Surface, Tiling};

/// An open handle. It is neither Send nor Sync: libg2d requires all calls on a handle from one thread, and versions
/// before 2.0 require the thread that opened it.
#[derive(Debug)]
pub(crate) struct Handle {
    library: &'static Library,
    raw: RawHandle,
}

/// A `struct g2d_buf` of the library, until [`Handle::free`]. It leaks if it is dropped without that call.
#[derive(Debug)]
pub(crate) struct Buffer(NonNull<c_void>);

/// The largest number of layers in one multi-blit.
pub(crate) const MAX_PAIRS: usize = 8;

/// A call's surface in the layout of the library.
enum Fresh {
    Legacy(abi::Surface<LegacyAddress>),
    Modern(abi::Surface<ModernAddress>),
}

impl Fresh {
    /// Returns `None` if an address does not fit the layout.
    fn new(abi: Abi, s: &Surface) -> Option<Self> {
        Some(match abi {
            Abi::Legacy => Self::Legacy(legacy(s)?),
            Abi::Modern => Self::Modern(modern(s)?),
        })
    }

    fn as_mut_ptr(&mut self) -> *mut c_void {
        match self {
            Self::Legacy(s) => addr_of_mut!(*s).cast(),
            Self::Modern(s) => addr_of_mut!(*s).cast(),
        }
    }
}

fn legacy(s: &Surface) -> Option<abi::Surface<LegacyAddress>> {
    let mut planes = [0; 3];
    for (to, &from) in planes.iter_mut().zip(&s.planes) {
        // The header declares `int`, but the value is unsigned.
        *to = u32::try_from(from).ok()? as LegacyAddress;
    }
    Some(with_planes(s, planes))
}

fn modern(s: &Surface) -> Option<abi::Surface<ModernAddress>> {
    let mut planes = [0; 3];
    for (to, &from) in planes.iter_mut().zip(&s.planes) {
        *to = ModernAddress::try_from(from).ok()?;
    }
    Some(with_planes(s, planes))
}

fn with_planes<P>(s: &Surface, planes: [P; 3]) -> abi::Surface<P> {
    abi::Surface {
        format: s.format,
        planes,
        left: s.left,
        top: s.top,
        right: s.right,
        bottom: s.bottom,
        stride: s.stride,
        width: s.width,
        height: s.height,
        blendfunc: s.blend,
        global_alpha: c_int::from(s.alpha),
        clrcolor: c_int::from_le_bytes(s.clear),
        rot: s.rotation,
    }
}

impl Handle {
    /// Calls `g2d_open`, which takes tens of milliseconds.
    pub(crate) fn open(library: &'static Library) -> Result<Self, Status> {
        let mut raw = null_mut();
        // SAFETY: memory: `raw` is a live pointer variable. Contract: the first call of this handle.
        let status = Status::of(unsafe { (library.symbols.open)(&mut raw) });
        match status {
            Status::Ok if raw.is_null() => Err(Status::Failed(0)),
            Status::Ok => Ok(Self { library, raw }),
            failed => Err(failed),
        }
    }

    pub(crate) fn library(&self) -> &'static Library {
        self.library
    }

    fn symbols(&self) -> &'static Symbols {
        &self.library.symbols
    }

    /// Calls `g2d_close`, for a handle whose device is lost. Other handles are kept.
    pub(crate) fn close(self) -> Status {
        // SAFETY: contract: an open handle, on its thread; it is not used afterwards.
        Status::of(unsafe { (self.symbols().close)(self.raw) })
    }

    pub(crate) fn enable(&self, cap: u32) -> Status {
        // SAFETY: contract: an open handle on its thread; no memory is passed.
        Status::of(unsafe { (self.symbols().enable)(self.raw, cap) })
    }

    pub(crate) fn disable(&self, cap: u32) -> Status {
        // SAFETY: as for `enable`.
        Status::of(unsafe { (self.symbols().disable)(self.raw, cap) })
    }

    /// Submits the pending calls and waits until the hardware has finished, without a limit.
    pub(crate) fn finish(&self) -> Status {
        // SAFETY: contract: an open handle on its thread; the surfaces of the pending calls are leased by the caller.
        Status::of(unsafe { (self.symbols().finish)(self.raw) })
    }

    /// Returns a descriptor that is readable when the work submitted so far is done, or `None` if the library does
    /// not offer fences.
    pub(crate) fn fence(&self) -> Option<OwnedFd> {
        let create = self.symbols().create_fence_fd?;
        // SAFETY: as for `finish`.
        let fd = unsafe { create(self.raw) };
        // SAFETY: by the header, a number from 0 on is a sync descriptor that was created for this call.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Calls `g2d_query_feature`. Returns `None` if the library does not answer.
    pub(crate) fn feature(&self, feature: u32) -> Option<bool> {
        self.query(self.symbols().query_feature, feature)
    }

    /// Calls `g2d_query_hardware`. Returns `None` if the library does not answer.
    pub(crate) fn hardware(&self, kind: u32) -> Option<bool> {
        self.query(self.symbols().query_hardware, kind)
    }

    fn query(
        &self,
        call: Option<unsafe extern "C" fn(RawHandle, u32, *mut c_int) -> c_int>,
        what: u32,
    ) -> Option<bool> {
        let mut answer: c_int = 0;
        // SAFETY: memory: `answer` is a live `int`. Contract: an open handle on its thread.
        let status = Status::of(unsafe { call?(self.raw, what, &mut answer) });
        status.is_ok().then_some(answer != 0)
    }

    /// Calls `g2d_blit`, or `g2d_blitEx` for a source in tiles.
    pub(crate) fn blit(&self, abi: Abi, source: &Surface, target: &Surface) -> Status {
        if source.tiling != Tiling::Linear {
            return match abi {
                Abi::Legacy => self.blit_ex([source, target], legacy),
                Abi::Modern => self.blit_ex([source, target], modern),
            };
        }
        let (Some(mut s), Some(mut d)) = (Fresh::new(abi, source), Fresh::new(abi, target)) else {
            return Status::NotSupported;
        };
        // SAFETY: memory: two live structs of this function, in the layout that the library was found to have; the
        // library may write them. The addresses in them are those of buffers that the caller leases until `finish`.
        Status::of(unsafe { (self.symbols().blit)(self.raw, s.as_mut_ptr(), d.as_mut_ptr()) })
    }

    fn blit_ex<P>(&self, pair: [&Surface; 2], layout: impl Fn(&Surface) -> Option<abi::Surface<P>>) -> Status {
        let Some(call) = self.symbols().blit_ex else { return Status::Missing };
        let fresh = |s: &Surface| {
            Some(abi::SurfaceEx { base: layout(s)?, tiling: s.tiling as u32, ts: [0; 4], reserved: [0; 8] })
        };
        let [Some(mut s), Some(mut d)] = pair.map(fresh) else { return Status::NotSupported };
        // SAFETY: as for `blit`. Contract: the symbol takes these structs, or shorter ones that begin like them.
        Status::of(unsafe { call(self.raw, addr_of_mut!(s).cast(), addr_of_mut!(d).cast()) })
    }

    pub(crate) fn clear(&self, abi: Abi, area: &Surface) -> Status {
        let Some(call) = self.symbols().clear else { return Status::Missing };
        let Some(mut area) = Fresh::new(abi, area) else { return Status::NotSupported };
        // SAFETY: as for `blit`.
        Status::of(unsafe { call(self.raw, area.as_mut_ptr()) })
    }

    /// Calls `g2d_multi_blit` with at most [`MAX_PAIRS`] layers and one target.
    pub(crate) fn multi_blit(&self, abi: Abi, pairs: &[(Surface, Surface)]) -> Status {
        match abi {
            Abi::Legacy => self.multi(pairs, legacy),
            Abi::Modern => self.multi(pairs, modern),
        }
    }

    fn multi<P: Copy>(
        &self,
        pairs: &[(Surface, Surface)],
        layout: impl Fn(&Surface) -> Option<abi::Surface<P>>,
    ) -> Status {
        let Some(call) = self.symbols().multi_blit else { return Status::Missing };
        let mut fresh: [Option<abi::SurfacePair<P>>; MAX_PAIRS] = [None; MAX_PAIRS];
        let mut pointers: [*mut c_void; MAX_PAIRS] = [null_mut(); MAX_PAIRS];
        if pairs.is_empty() || pairs.len() > MAX_PAIRS {
            return Status::NotSupported;
        }
        for ((slot, pointer), (s, d)) in fresh.iter_mut().zip(&mut pointers).zip(pairs) {
            let (Some(s), Some(d)) = (layout(s), layout(d)) else { return Status::NotSupported };
            *pointer = addr_of_mut!(*slot.insert(abi::SurfacePair { s, d })).cast();
        }
        // SAFETY: memory: `pointers` holds as many pointers to live pairs as `pairs` has elements; the library may
        // write all of it. The addresses are those of buffers that the caller leases until `finish`.
        Status::of(unsafe { call(self.raw, pointers.as_mut_ptr(), pairs.len() as c_int) })
    }

    /// Calls `g2d_blit_dmabuf`. The planes of a surface are offsets into files.
    pub(crate) fn blit_dmabuf(
        &self,
        source: (&Surface, [BorrowedFd<'_>; 3]),
        target: (&Surface, [BorrowedFd<'_>; 3]),
    ) -> Status {
        let Some(call) = self.symbols().blit_dmabuf else { return Status::Missing };
        let fresh = |(surface, fds): (&Surface, [BorrowedFd<'_>; 3])| {
            let mut plane_offset = [0; 3];
            for (to, &from) in plane_offset.iter_mut().zip(&surface.planes) {
                *to = u32::try_from(from).ok()?;
            }
            let base = with_planes(surface, [0; 3]);
            Some(abi::SurfaceDmabuf { base, plane_fd: fds.map(|fd| fd.as_raw_fd()), plane_offset })
        };
        let (Some(mut s), Some(mut d)) = (fresh(source), fresh(target)) else { return Status::NotSupported };
        // SAFETY: memory: two live structs of this function, which the library may write. Contract: the symbol exists
        // from header 2.5 on, and these structs have that layout; the descriptors stay open, and their buffers
        // leased, until `finish`.
        Status::of(unsafe { call(self.raw, addr_of_mut!(s).cast(), addr_of_mut!(d).cast()) })
    }

    pub(crate) fn has_blit_dmabuf(&self) -> bool {
        self.symbols().blit_dmabuf.is_some()
    }

    /// Calls `g2d_set_warp_coordinates`, for the next blit with the cap WARPING. `Missing` before header 2.1.
    pub(crate) fn set_warp(&self, abi: Abi, warp: &Warp) -> Status {
        match abi {
            Abi::Legacy => match u32::try_from(warp.address) {
                Ok(address) => self.warp(warp, address as LegacyAddress),
                Err(_) => Status::NotSupported,
            },
            Abi::Modern => match ModernAddress::try_from(warp.address) {
                Ok(address) => self.warp(warp, address),
                Err(_) => Status::NotSupported,
            },
        }
    }

    fn warp<P>(&self, warp: &Warp, addr: P) -> Status {
        let Some(call) = self.symbols().set_warp_coordinates else { return Status::Missing };
        let [arb_start_x, arb_start_y] = warp.start;
        let [arb_delta_xx, arb_delta_xy, arb_delta_yx, arb_delta_yy] = warp.delta;
        let mut fresh = abi::WarpCoordinates {
            addr,
            format: warp.format,
            bpp: warp.bits_per_point,
            width: warp.width,
            height: warp.height,
            arb_start_x,
            arb_start_y,
            arb_delta_xx,
            arb_delta_xy,
            arb_delta_yx,
            arb_delta_yy,
        };
        // SAFETY: memory: a live struct in the library's layout, which it may write; the caller leases the table at
        // its address until `finish`.
        Status::of(unsafe { call(self.raw, addr_of_mut!(fresh).cast()) })
    }

    /// Calls `g2d_alloc` for uncached memory. Returns `None` if it fails or is missing.
    pub(crate) fn alloc(&self, bytes: i32) -> Option<Buffer> {
        // Without g2d_free, the buffer could not be freed.
        self.symbols().free?;
        // SAFETY: contract: called between open and close, on the handle's thread; no memory is passed.
        NonNull::new(unsafe { self.symbols().alloc?(bytes, 0) }).map(Buffer)
    }

    /// Calls `g2d_buf_from_fd`. It does not duplicate the descriptor, which must stay open until [`Handle::free`].
    pub(crate) fn buf_from_fd(&self, fd: BorrowedFd<'_>) -> Option<Buffer> {
        // SAFETY: contract: as for `alloc`; the descriptor is open.
        NonNull::new(unsafe { self.symbols().buf_from_fd?(fd.as_raw_fd()) }).map(Buffer)
    }

    pub(crate) fn has_buf_from_fd(&self) -> bool {
        self.symbols().buf_from_fd.is_some()
    }

    /// Calls `g2d_buf_export_fd` for a buffer of [`Handle::alloc`]. Duplicates the descriptor, because the library
    /// owns the original.
    pub(crate) fn export(&self, buffer: &Buffer) -> Option<OwnedFd> {
        // SAFETY: contract: a live buffer of this library.
        let fd = unsafe { self.symbols().buf_export_fd?(buffer.0.as_ptr()) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the library keeps this descriptor open while the buffer lives, which is longer than this call.
        unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().ok()
    }

    /// Calls `g2d_free`, if the library has it.
    pub(crate) fn free(&self, buffer: Buffer) {
        if let Some(free) = self.symbols().free {
            // SAFETY: contract: a buffer of this library, which is not used afterwards.
            unsafe { free(buffer.0.as_ptr()) };
        }
    }

    /// Calls `g2d_copy`, which copies raw bytes from the start of one buffer to the start of another.
    pub(crate) fn copy(&self, target: &Buffer, source: &Buffer, bytes: i32) -> Status {
        let Some(call) = self.symbols().copy else { return Status::Missing };
        // SAFETY: memory: two live `struct g2d_buf` that the library created. Contract: the caller leases their
        // memory until `finish`, and has checked that both have `bytes` bytes.
        Status::of(unsafe { call(self.raw, target.0.as_ptr(), source.0.as_ptr(), bytes) })
    }

    /// Detects the layout from the `int` at [`abi::PROBE_OFFSET`] of a new `g2d_alloc(bytes, 0)`. On 32-bit targets
    /// both layouts are equal.
    #[cfg(target_pointer_width = "64")]
    pub(crate) fn probe_alloc(&self, bytes: i32) -> Option<Abi> {
        let buffer = self.alloc(bytes)?;
        // SAFETY: memory: both layouts of `struct g2d_buf` have at least PROBE_OFFSET + 4 bytes (asserted in `abi`);
        // the buffer is alive until `free` below. Any bit pattern is an `i32`.
        let value = unsafe { buffer.0.as_ptr().cast::<u8>().add(abi::PROBE_OFFSET).cast::<i32>().read_unaligned() };
        self.free(buffer);
        Some(if value == bytes { Abi::Legacy } else { Abi::Modern })
    }
}

impl Buffer {
    /// Returns `buf_paddr` as the library gave it, zero-extended if it is an `int`.
    pub(crate) fn address(&self, abi: Abi) -> u64 {
        // SAFETY: memory: a live `struct g2d_buf` in the library's layout. Only this field is read, because libraries
        // leave others unset.
        unsafe {
            match abi {
                Abi::Legacy => {
                    let buf: *const abi::Buf<LegacyAddress> = self.0.as_ptr().cast();
                    u64::from(std::ptr::addr_of!((*buf).buf_paddr).read_unaligned() as u32)
                }
                Abi::Modern => {
                    let buf: *const abi::Buf<ModernAddress> = self.0.as_ptr().cast();
                    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
                    let address = std::ptr::addr_of!((*buf).buf_paddr).read_unaligned() as u64;
                    address
                }
            }
        }
    }
}

/// The argument of [`Handle::set_warp`]: a `struct g2d_warp_coordinates` independent of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Warp {
    pub(crate) address: u64,
    /// `enum g2d_warp_map_format`.
    pub(crate) format: u32,
    pub(crate) bits_per_point: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) start: [u32; 2],
    pub(crate) delta: [u32; 4],
}
