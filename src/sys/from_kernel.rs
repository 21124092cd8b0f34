//! Results of the kernel: descriptors, and texts in arrays of fixed size.

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Takes ownership of the descriptor that a successful ioctl wrote into its struct. Only for ioctls that install a
/// new descriptor for their caller.
pub(super) fn own(fd: i32) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: the caller's ioctl succeeded and installed this descriptor for it alone; no other code closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the text in a fixed array of the kernel, up to its NUL.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_ends_at_its_nul() {
        assert_eq!(super::text(b"abc\0def"), "abc");
        assert_eq!(super::text(b"full"), "full");
    }
}
