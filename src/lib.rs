//! framelease
pub mod dmabuf;
pub mod error;
pub mod format;
pub mod frame;
mod sys;
pub use error::{Error, ErrorKind, Result};
