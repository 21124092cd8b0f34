//! The archive format of an initramfs ("newc"), written without a cpio program.
//!
//! The kernel unpacks several archives in a row, so what never changes is made once and only a job's own files are
//! packed at each start.

use std::io::{self, Write};

const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHAR: u32 = 0o020_000;

pub struct Cpio<W: Write> {
    out: W,
    at: usize,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    pub fn new(out: W) -> Self {
        Cpio { out, at: 0, inode: 0 }
    }

    pub fn dir(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIR | 0o755, (0, 0), &[])
    }

    pub fn file(&mut self, name: &str, executable: bool, data: &[u8]) -> io::Result<()> {
        let mode = if executable { 0o755 } else { 0o644 };
        self.entry(name, FILE | mode, (0, 0), data)
    }

    pub fn symlink(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, LINK | 0o777, (0, 0), target.as_bytes())
    }

    pub fn char_device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(name, CHAR | 0o600, (major, minor), &[])
    }

    /// Writes the end mark and fills up to 512 bytes, so that another archive can follow.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = u32::MAX; // wraps to 0
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.pad(512)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, dev: (u32, u32), data: &[u8]) -> io::Result<()> {
        let size =
            u32::try_from(data.len()).map_err(|_| io::Error::other(format!("{name} is too large for an initramfs")))?;
        self.inode = self.inode.wrapping_add(1);
        let name_size = name.len() as u32 + 1;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, dev.0, dev.1, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad(4)?;
        self.put(data)?;
        self.pad(4)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self, to: usize) -> io::Result<()> {
        let missing = (to - self.at % to) % to;
        self.put(&[0; 512][..missing])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_layout() {
        let mut cpio = Cpio::new(Vec::new());
        cpio.file("init", true, b"hello").unwrap();
        let bytes = cpio.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000081"), "inode 1, a regular file");
        assert_eq!(&text[14..22], "000081ed", "mode 100755");
        assert_eq!(&text[54..62], "00000005", "size");
        assert_eq!(&text[94..102], "00000005", "length of the name with its NUL");
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"hello", "data starts at a multiple of 4");
        assert_eq!(&bytes[124..130], b"070701", "so does the next header");
        assert!(text.contains("TRAILER!!!"));
        assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn symlink_holds_its_target() {
        let mut cpio = Cpio::new(Vec::new());
        cpio.symlink("bin", "usr/bin").unwrap();
        let bytes = cpio.finish().unwrap();
        assert_eq!(&bytes[14..22], b"0000a1ff");
        assert!(bytes.windows(7).any(|w| w == b"usr/bin"));
    }
}
