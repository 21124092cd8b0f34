//! The structs as the fake sees them: written down apart from the library's, so that an error in one shows.

use std::ffi::{c_int, c_uint, c_void};

use crate::Address;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Surface {
    pub format: c_uint,
    pub planes: [Address; 3],
    pub left: c_int,
    pub top: c_int,
    pub right: c_int,
    pub bottom: c_int,
    pub stride: c_int,
    pub width: c_int,
    pub height: c_int,
    pub blendfunc: c_uint,
    pub global_alpha: c_int,
    pub clrcolor: c_int,
    pub rot: c_uint,
}

/// Of header 1.4 on. Before that, it ends after `tiling`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SurfaceEx {
    pub base: Surface,
    pub tiling: c_uint,
    pub ts: [c_uint; 4],
    pub reserved: [c_int; 8],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pair {
    pub s: Surface,
    pub d: Surface,
}

/// Of header 2.5.
#[allow(dead_code)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SurfaceDmabuf {
    pub base: Surface,
    pub plane_fd: [c_int; 3],
    pub plane_offset: [c_uint; 3],
}

/// `struct g2d_buf` with what follows it in the library's own allocation: poison for a caller that reads too far.
#[repr(C)]
pub struct Buf {
    pub buf_handle: *mut c_void,
    pub buf_vaddr: *mut c_void,
    pub buf_paddr: Address,
    pub buf_size: c_int,
    pub poison: [u8; 32],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Warp {
    pub addr: Address,
    pub format: c_uint,
    pub bpp: c_int,
    pub width: c_int,
    pub height: c_int,
    pub start: [c_uint; 2],
    pub delta: [c_uint; 4],
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::size_of;
    assert!(size_of::<Surface>() == if crate::MODERN { 80 } else { 60 });
    assert!(size_of::<SurfaceEx>() == if crate::MODERN { 136 } else { 112 });
    assert!(size_of::<Pair>() == if crate::MODERN { 160 } else { 120 });
    assert!(size_of::<Warp>() == if crate::MODERN { 48 } else { 44 });
};
