//! A software libg2d as headers from 2.3 on have it: physical addresses are `unsigned long`.

/// `g2d_phys_addr_t`.
pub type Address = std::ffi::c_ulong;
const MODERN: bool = true;

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/later.rs"]
mod later;
