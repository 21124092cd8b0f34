//! The C library of framelease. The header `include/framelease.h` is made of the files of this crate, in the order
//! below: each file is a section. `tests/header.rs` writes it.
//!
//! All functions follow a few rules:
//!
//! - A function body is one [`status::call`], which catches panics and keeps the error's text.
//! - Structures that programs fill begin with their size ([`ffi::Sized0`]), so that later versions can append fields.
//! - Stations are one opaque type: a function for another kind of station fails, and does not crash.
//! - Nothing but [`ffi`] is unsafe. (`no_mangle` counts as unsafe code, so the modules allow it.)
//!
//! The modules are public for the tests. Programs in Rust use the crate `framelease`.
#![allow(unsafe_code)]

mod ffi;

pub mod status;

pub mod station;

pub mod format;

pub mod frame;

pub mod packet;

pub mod device;

pub mod capture;

pub mod convert;

pub mod codec;

pub mod share;

pub mod sink;

pub mod display;
