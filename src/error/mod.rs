//! The error type of this crate. [`Error::kind`] is for a `match`, `Display` is for people.
//!
//! "Would block", "end of stream" and "no room" are values, not errors: see [`Received`](crate::Received) and
//! [`Submitted`](crate::Submitted).

mod reason;

use std::fmt;

use nix::errno::Errno;

pub use reason::Reason;

/// The result of every fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The kind of an error, for a `match`. The error's text has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path, device, driver or socket does not exist.
    NotFound,
    /// The file is of the wrong kind: for example, the path is not a video node, or the descriptor is not a dma-buf.
    WrongFile,
    /// The kernel or a publisher denies access to this user.
    PermissionDenied,
    /// Another program streams from the device, or buffers are still queued.
    Busy,
    /// The device, the kernel or the build does not offer what was requested.
    Unsupported,
    /// An argument of the call is invalid: for example, a size of zero, or a rectangle outside the picture.
    InvalidArgument,
    /// Sizes, layouts or numbers do not fit together: for example, a buffer is smaller than its layout.
    Mismatch,
    /// Links or formats along the media pipeline do not match (EPIPE or ENOLINK at STREAMON).
    Pipeline,
    /// The device was unplugged or its driver failed (ENODEV, or EIO on a queue). Open the device again.
    DeviceLost,
    /// The other side closed the connection or died. For a screen: the connector does not have a display.
    Disconnected,
    /// The publisher refused or ended the connection. [`Error::reason`] returns its reason.
    Refused,
    /// The peer broke the [protocol](crate::guide::protocol).
    Protocol,
    /// The call's own deadline passed. The awaited event may still occur.
    Timeout,
    /// A resource is used up: for example, memory, disk space, file descriptors or buffer slots.
    Exhausted,
    /// The frame's lease ended while the frame was in use. The pixels may have changed.
    Revoked,
    /// The call came too early or too late: for example, streaming before allocation, or using a frame after its queue
    /// was freed.
    State,
    /// Any other error of the kernel. [`Error::errno`] returns its number.
    Os,
}

impl ErrorKind {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT => Self::NotFound,
            Errno::EACCES | Errno::EPERM => Self::PermissionDenied,
            Errno::EBUSY | Errno::EADDRINUSE => Self::Busy,
            Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::ENOSYS => Self::Unsupported,
            Errno::EINVAL | Errno::ERANGE | Errno::EDOM => Self::InvalidArgument,
            Errno::ENODEV | Errno::ENXIO => Self::DeviceLost,
            Errno::ECONNRESET | Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::EPIPE => Self::Disconnected,
            Errno::ETIMEDOUT => Self::Timeout,
            Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::ETOOMANYREFS => Self::Exhausted,
            Errno::ENOSPC | Errno::EFBIG | Errno::EDQUOT => Self::Exhausted,
            Errno::EBADF | Errno::ENOTDIR | Errno::EISDIR => Self::WrongFile,
            _ => Self::Os,
        }
    }
}

/// An error of this crate. It holds the kind, the failed call, the device or peer, and what was requested and
/// offered.
///
/// The text reads, for example: `VIDIOC_S_FMT on /dev/video2 (mxc-isi): EINVAL: asked NV12 …; the device offers …`.
///
/// ```
/// use framelease::v4l2::Device;
/// use framelease::ErrorKind;
///
/// match Device::open("/dev/video-none") {
///     Err(e) if e.kind() == ErrorKind::NotFound => println!("no camera: {e}"),
///     other => println!("{:?}", other?.info()),
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    op: &'static str,
    errno: Option<Errno>,
    reason: Option<Reason>,
    on: String,
    detail: String,
}

impl Error {
    /// Creates an error that no system call reported.
    pub(crate) fn new(kind: ErrorKind, op: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, op, errno: None, reason: None, on: String::new(), detail: detail.into() }))
    }

    /// Creates the error of text that a `FromStr` cannot read.
    pub(crate) fn parse(text: String) -> Self {
        Self::new(ErrorKind::InvalidArgument, "parse", text)
    }

    /// Creates an error that the kernel reported. The kind follows from the number.
    pub(crate) fn os(op: &'static str, errno: Errno) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::of(errno),
            op,
            errno: Some(errno),
            reason: None,
            on: String::new(),
            detail: String::new(),
        }))
    }

    /// Converts an I/O error of the standard library.
    pub(crate) fn io(op: &'static str, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::os(op, Errno::from_raw(errno)),
            None => Self::new(ErrorKind::Os, op, error.to_string()),
        }
    }

    /// Sets the device, path or peer that the error is about.
    pub(crate) fn on(mut self, subject: impl fmt::Display) -> Self {
        self.0.on = subject.to_string();
        self
    }

    /// Sets the text that says what was requested and what was offered.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// Adds what to do to the text.
    pub(crate) fn advice(mut self, advice: &str) -> Self {
        self.0.detail.push_str("; ");
        self.0.detail.push_str(advice);
        self
    }

    /// Creates the error for the reason that a publisher sent when it ended the connection.
    pub(crate) fn refused(op: &'static str, reason: Reason, detail: String) -> Self {
        let mut error = Self::new(ErrorKind::Refused, op, detail);
        error.0.reason = Some(reason);
        error
    }

    /// Replaces the kind that the error number suggests.
    pub(crate) fn kind_is(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Returns the kind of the error, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the name of the call that failed.
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// Returns the reason why a publisher refused or ended the connection, if it did. [`Reason::is_temporary`] says
    /// whether a later attempt may succeed.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// Returns the kernel's error number, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno.map(|e| e as i32)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, op, errno, on, detail, .. } = &*self.0;
        write!(f, "{op}")?;
        if !on.is_empty() {
            write!(f, " on {on}")?;
        }
        match errno {
            Some(e) => write!(f, ": {e:?}: {}", if detail.is_empty() { e.desc() } else { detail }),
            None if detail.is_empty() => write!(f, ": {kind:?}"),
            None => write!(f, ": {detail}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind =
            error.0.errno.map_or(std::io::ErrorKind::Other, |e| std::io::Error::from_raw_os_error(e as i32).kind());
        Self::new(kind, error)
    }
}

/// The error of a call that takes an item by value, together with that item.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct Rejected<T> {
    /// The reason why the call failed.
    pub error: Error,
    /// The item that was passed in, unchanged.
    pub item: T,
}

impl<T> fmt::Debug for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.error)
    }
}

impl<T> From<Rejected<T>> for Error {
    fn from(rejected: Rejected<T>) -> Self {
        rejected.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_call_device_number_and_offer() {
        let e = Error::os("VIDIOC_S_FMT", Errno::EINVAL)
            .on("/dev/video2 (mxc-isi)")
            .detail("asked NV12 1920x1080; the device offers YUYV 640x480");
        assert_eq!(
            e.to_string(),
            "VIDIOC_S_FMT on /dev/video2 (mxc-isi): EINVAL: asked NV12 1920x1080; the device offers YUYV 640x480"
        );
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert_eq!(e.errno(), Some(22));
    }

    #[test]
    fn error_is_one_word() {
        assert_eq!(std::mem::size_of::<Error>(), std::mem::size_of::<usize>());
    }
}
