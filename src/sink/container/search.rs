//! Looks for bytes in a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Fills the buffer from `at` on, up to the end of the file. Returns how many bytes there are.
pub(in crate::sink) fn read_up_to(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    // Sizes in a file may lead anywhere.
    while filled < bytes.len() && at < i64::MAX as u64 - bytes.len() as u64 {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Returns the first place from `at` on that has these four bytes and that `is_right` accepts.
pub(in crate::sink) fn find(
    file: &File,
    mut at: u64,
    four: [u8; 4],
    is_right: impl Fn(u64) -> io::Result<bool>,
) -> io::Result<Option<u64>> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let filled = read_up_to(file, at, &mut bytes)?;
        for (i, _) in bytes[..filled].windows(4).enumerate().filter(|(_, window)| *window == four) {
            if is_right(at + i as u64)? {
                return Ok(Some(at + i as u64));
            }
        }
        if filled < bytes.len() {
            return Ok(None);
        }
        at += filled as u64 - 3;
    }
}
