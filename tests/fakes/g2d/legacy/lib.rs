//! A software libg2d as headers up to 2.2 have it: physical addresses are `int`.

/// `g2d_phys_addr_t`.
pub type Address = std::ffi::c_int;
const MODERN: bool = false;

#[path = "../common/mod.rs"]
mod common;
