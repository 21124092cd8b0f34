//! framelease
#![deny(missing_docs, missing_debug_implementations)]

pub mod capture;
pub mod dmabuf;
pub mod error;
pub mod format;
pub mod frame;
mod log;
#[cfg(feature = "tokio")]
pub mod reactor;
pub mod share;
mod sys;
pub use error::{Error, ErrorKind, Result};
