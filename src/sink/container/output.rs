//! The output: a file, which can be patched and cut, or a stream, which cannot.

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use crate::sys::lock::LockedFile;
use crate::sys::{pipe, wait};

/// The most slices of one `writev`.
const MOST: usize = 64;

pub(in crate::sink) enum Output {
    File(LockedFile),
    Pipe(Pipe),
    Stream(Box<dyn Write + Send>),
}

/// A pipe or device that does not block.
pub(in crate::sink) struct Pipe {
    file: File,
    /// When a call that waits for the reader gives up.
    deadline: Instant,
    /// Bytes that the reader has not taken. `None`: calls block until it has.
    waiting: Option<Vec<u8>>,
}

impl Pipe {
    pub(in crate::sink) fn new(file: File) -> Self {
        Self { file, deadline: Instant::now(), waiting: None }
    }

    /// Keeps the bytes that the reader has not taken, instead of waiting for it.
    pub(in crate::sink) fn keeping(self) -> Self {
        Self { waiting: Some(Vec::new()), ..self }
    }

    pub(in crate::sink) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(waiting) = &mut self.waiting else { return write_until(&self.file, slices, self.deadline) };
        if waiting.is_empty() {
            match pipe::write(&self.file, slices) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
        slices.iter().for_each(|slice| waiting.extend_from_slice(slice));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    pub(in crate::sink) fn has_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|w| !w.is_empty())
    }

    /// Writes waiting bytes, as far as the reader takes them. Never blocks.
    pub(in crate::sink) fn write_waiting(&mut self) -> io::Result<()> {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        while !waiting.is_empty() {
            match pipe::write(&self.file, &[IoSlice::new(waiting)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(waiting.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all waiting bytes, and waits for the reader until the deadline.
    fn flush(&mut self) -> io::Result<()> {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        while !waiting.is_empty() {
            match write_until(&self.file, &[IoSlice::new(waiting)], self.deadline) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(waiting.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Output {
    /// Sets the time limit for the next writes.
    pub(in crate::sink) fn within(&mut self, time: Duration) {
        if let Self::Pipe(pipe) = self {
            pipe.deadline = wait::deadline(time);
        }
    }

    /// Writes all slices, in order.
    pub(in crate::sink) fn write<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let mut batch: [&[u8]; MOST] = [&[]; MOST];
        let mut filled = 0;
        for slice in slices.filter(|s| !s.is_empty()) {
            batch[filled] = slice;
            filled += 1;
            if filled == MOST {
                self.write_batch(&mut batch)?;
                filled = 0;
            }
        }
        self.write_batch(&mut batch[..filled])
    }

    fn write_batch(&mut self, mut batch: &mut [&[u8]]) -> io::Result<()> {
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); MOST];
            for (to, from) in slices.iter_mut().zip(batch.iter()) {
                *to = IoSlice::new(from);
            }
            let slices = &slices[..batch.len().min(MOST)];
            let written = match self {
                Self::File(file) => (&**file).write_vectored(slices),
                Self::Pipe(pipe) => pipe.write(slices),
                Self::Stream(stream) => stream.write_vectored(slices),
            };
            let mut left = match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
                Err(e) => return Err(e),
            };
            // A slice may be written in part.
            let done = batch
                .iter()
                .take_while(|s| {
                    left >= s.len() && {
                        left -= s.len();
                        true
                    }
                })
                .count();
            batch = &mut batch[done..];
            if let Some(first) = batch.first_mut() {
                *first = &first[left..];
            }
        }
        Ok(())
    }

    /// Overwrites bytes of a file. Does nothing for a stream.
    pub(in crate::sink) fn patch(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all_at(bytes, at),
            Self::Pipe(..) | Self::Stream(_) => Ok(()),
        }
    }

    /// Removes everything after `end`. `false` if that is impossible.
    pub(in crate::sink) fn cut(&mut self, end: u64) -> bool {
        match self {
            Self::File(file) => file.set_len(end).is_ok() && (&**file).seek(SeekFrom::Start(end)).is_ok(),
            Self::Pipe(..) | Self::Stream(_) => false,
        }
    }

    pub(in crate::sink) fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_data(),
            Self::Pipe(..) | Self::Stream(_) => Ok(()),
        }
    }

    pub(in crate::sink) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Pipe(pipe) => pipe.flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }

    pub(in crate::sink) fn pipe(&mut self) -> Option<&mut Pipe> {
        match self {
            Self::Pipe(pipe) => Some(pipe),
            Self::File(_) | Self::Stream(_) => None,
        }
    }

    pub(in crate::sink) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

fn write_until(file: &File, slices: &[IoSlice<'_>], deadline: Instant) -> io::Result<usize> {
    loop {
        match pipe::write(file, slices) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        // Checked here, because a device may report that it is ready and then take nothing.
        if Instant::now() >= deadline {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        wait::until(file.as_fd(), PollFlags::POLLOUT, deadline)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A writer that takes a few bytes at a time, is interrupted, and then full.
    struct Slow(Arc<Mutex<Vec<u8>>>, usize);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut got = self.0.lock().unwrap();
            let n = bytes.len().min(3).min(self.1 - got.len());
            got.extend_from_slice(&bytes[..n]);
            if got.len() % 5 == 1 && n == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn parts_of_slices_are_written_on() {
        let parts: Vec<Vec<u8>> = (0..200u8).map(|i| vec![i; usize::from(i % 8)]).collect();
        let got = Arc::new(Mutex::new(Vec::new()));
        let mut out = Output::Stream(Box::new(Slow(Arc::clone(&got), 10_000)));
        out.write(parts.iter().map(|p| &p[..])).unwrap();
        assert_eq!(*got.lock().unwrap(), parts.concat());
        let mut full = Output::Stream(Box::new(Slow(Arc::default(), 100)));
        assert_eq!(full.write(parts.iter().map(|p| &p[..])).unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
