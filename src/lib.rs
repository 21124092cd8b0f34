//! framelease
pub mod capture;
pub mod dmabuf;
pub mod error;
pub mod format;
pub mod frame;
mod sys;
pub mod v4l2;
pub use error::{Error, ErrorKind, Result};
