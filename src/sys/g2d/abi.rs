//! The structs of `g2d.h` and `g2dExt.h` in both layouts. `P`, the physical address, is `int` up to header 2.2 and
//! `unsigned long` from 2.3 on. Both are shipped as `libg2d.so.2`. On 32-bit targets both layouts are equal.

use std::ffi::{c_int, c_ulong, c_void};

/// `g2d_phys_addr_t` up to header 2.2.
pub(super) type LegacyAddress = c_int;
/// `g2d_phys_addr_t` from header 2.3 on.
pub(super) type ModernAddress = c_ulong;

/// `struct g2d_surface`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Surface<P> {
    pub(super) format: u32,
    pub(super) planes: [P; 3],
    pub(super) left: c_int,
    pub(super) top: c_int,
    pub(super) right: c_int,
    pub(super) bottom: c_int,
    /// The stride in pixels.
    pub(super) stride: c_int,
    pub(super) width: c_int,
    pub(super) height: c_int,
    pub(super) blendfunc: u32,
    pub(super) global_alpha: c_int,
    /// The bytes R, G, B, A, from the lowest.
    pub(super) clrcolor: c_int,
    pub(super) rot: u32,
}

/// `struct g2d_surface_pair`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct SurfacePair<P> {
    pub(super) s: Surface<P>,
    pub(super) d: Surface<P>,
}

/// `struct g2d_surfaceEx`. Headers before 2020 end after `tiling`, and libraries of these read no more.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct SurfaceEx<P> {
    pub(super) base: Surface<P>,
    /// `enum g2d_tiling`.
    pub(super) tiling: u32,
    /// `struct g2d_tile_status`.
    pub(super) ts: [u32; 4],
    pub(super) reserved: [c_int; 8],
}

/// `struct g2d_buf`.
#[repr(C)]
pub(super) struct Buf<P> {
    pub(super) buf_handle: *mut c_void,
    pub(super) buf_vaddr: *mut c_void,
    pub(super) buf_paddr: P,
    pub(super) buf_size: c_int,
}

/// `struct g2d_surface_dmabuf` (header 2.5, so modern only). We found no public header with it: the names are those of
/// NXP's samples, and the types are assumed.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct SurfaceDmabuf {
    pub(super) base: Surface<ModernAddress>,
    pub(super) plane_fd: [c_int; 3],
    pub(super) plane_offset: [u32; 3],
}

/// `struct g2d_warp_coordinates` (header 2.1 on).
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct WarpCoordinates<P> {
    pub(super) addr: P,
    pub(super) format: u32,
    pub(super) bpp: c_int,
    pub(super) width: c_int,
    pub(super) height: c_int,
    /// 16.5 fixed point, like `arb_start_y`.
    pub(super) arb_start_x: u32,
    pub(super) arb_start_y: u32,
    /// 3.5 fixed point, like the other three.
    pub(super) arb_delta_xx: u32,
    pub(super) arb_delta_xy: u32,
    pub(super) arb_delta_yx: u32,
    pub(super) arb_delta_yy: u32,
}

/// The offset that the probe of `g2d_alloc` reads: `buf_size` in the legacy layout, the upper half of `buf_paddr` in
/// the modern layout. Both layouts are longer, so the probe stays within either.
#[cfg(target_pointer_width = "64")]
pub(super) const PROBE_OFFSET: usize = 20;

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::{align_of, size_of};
    assert!(size_of::<Surface<LegacyAddress>>() == 60 && align_of::<Surface<LegacyAddress>>() == 4);
    assert!(size_of::<Surface<ModernAddress>>() == 80 && align_of::<Surface<ModernAddress>>() == 8);
    assert!(size_of::<SurfacePair<LegacyAddress>>() == 120);
    assert!(size_of::<SurfacePair<ModernAddress>>() == 160);
    assert!(size_of::<SurfaceEx<LegacyAddress>>() == 112);
    assert!(size_of::<SurfaceEx<ModernAddress>>() == 136);
    assert!(size_of::<Buf<LegacyAddress>>() == 24);
    assert!(size_of::<Buf<ModernAddress>>() == 32);
    assert!(size_of::<SurfaceDmabuf>() == 104);
    assert!(size_of::<WarpCoordinates<LegacyAddress>>() == 44);
    assert!(size_of::<WarpCoordinates<ModernAddress>>() == 48);
    assert!(PROBE_OFFSET + 4 <= size_of::<Buf<LegacyAddress>>());
};

#[cfg(target_pointer_width = "32")]
const _: () = {
    use std::mem::size_of;
    assert!(size_of::<Surface<LegacyAddress>>() == 60 && size_of::<Surface<ModernAddress>>() == 60);
    assert!(size_of::<SurfacePair<LegacyAddress>>() == 120);
    assert!(size_of::<SurfaceEx<LegacyAddress>>() == 112);
    assert!(size_of::<Buf<LegacyAddress>>() == 16 && size_of::<Buf<ModernAddress>>() == 16);
    assert!(size_of::<SurfaceDmabuf>() == 84);
    assert!(size_of::<WarpCoordinates<LegacyAddress>>() == 44);
};

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn abi_has_the_offsets_of_the_headers() {
        type Legacy = Surface<LegacyAddress>;
        type Modern = Surface<ModernAddress>;
        assert_eq!([offset_of!(Legacy, planes), offset_of!(Legacy, left), offset_of!(Legacy, rot)], [4, 16, 56]);
        assert_eq!([offset_of!(Modern, planes), offset_of!(Modern, left), offset_of!(Modern, rot)], [8, 32, 72]);
        assert_eq!([offset_of!(Legacy, stride), offset_of!(Legacy, clrcolor)], [32, 52]);
        assert_eq!([offset_of!(Modern, stride), offset_of!(Modern, clrcolor)], [48, 68]);
        type LegacyBuf = Buf<LegacyAddress>;
        type ModernBuf = Buf<ModernAddress>;
        assert_eq!([offset_of!(LegacyBuf, buf_paddr), offset_of!(LegacyBuf, buf_size)], [16, 20]);
        assert_eq!([offset_of!(ModernBuf, buf_paddr), offset_of!(ModernBuf, buf_size)], [16, 24]);
        assert_eq!(offset_of!(LegacyBuf, buf_size), PROBE_OFFSET);
        assert_eq!(offset_of!(SurfacePair<LegacyAddress>, d), 60);
        assert_eq!(offset_of!(SurfacePair<ModernAddress>, d), 80);
        assert_eq!([offset_of!(SurfaceEx<LegacyAddress>, tiling), offset_of!(SurfaceEx<LegacyAddress>, ts)], [60, 64]);
        assert_eq!([offset_of!(SurfaceEx<ModernAddress>, tiling), offset_of!(SurfaceEx<ModernAddress>, ts)], [80, 84]);
        assert_eq!([offset_of!(SurfaceDmabuf, plane_fd), offset_of!(SurfaceDmabuf, plane_offset)], [80, 92]);
        assert_eq!(offset_of!(WarpCoordinates<LegacyAddress>, arb_delta_yy), 40);
        assert_eq!(offset_of!(WarpCoordinates<ModernAddress>, arb_delta_yy), 44);
    }
}
