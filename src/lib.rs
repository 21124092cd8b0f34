//! framelease
#![deny(missing_docs, missing_debug_implementations)]

pub mod capture;
pub mod dmabuf;
pub mod error;
pub mod format;
pub mod frame;
mod log;
pub mod share;
mod sys;
pub mod v4l2;
pub use error::{Error, ErrorKind, Result};
