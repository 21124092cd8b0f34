//! Plays the part of the other library. The rest of the program gets descriptors and numbers from it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::time::Duration;

use framelease::dmabuf::{Allocator, DmaBuf, DEFAULT_WAIT};
use framelease::Result;
use nix::time::{clock_gettime, ClockId};

/// A buffer that was filled.
pub struct Request {
    pub buffer: usize,
    pub bytes: u32,
    pub sequence: u64,
    pub timestamp_ns: u64,
}

/// A camera of the other library. Its descriptor is readable while requests are completed.
pub struct Camera {
    bytes: u32,
    buffers: Vec<DmaBuf>,
    requests: Sender<usize>,
    completed: UnixDatagram,
}

impl Camera {
    /// Allocates `count` buffers, and fills queued ones in a thread of its own, 30 in a second.
    pub fn start(bytes: u32, count: usize) -> Result<Self> {
        let allocate = |_| Allocator::for_cpu_source().allocate(bytes as usize, "another library");
        let buffers = (0..count).map(allocate).collect::<Result<Vec<DmaBuf>>>()?;
        let (requests, queue) = channel();
        let pair = UnixDatagram::pair().and_then(|(completed, done)| {
            completed.set_nonblocking(true)?;
            Ok((completed, done))
        });
        let (completed, done) = pair.expect("two descriptors");
        let own = buffers.clone();
        std::thread::spawn(move || fill(own, &queue, &done));
        Ok(Self { bytes, buffers, requests, completed })
    }

    /// Returns a descriptor of each buffer.
    pub fn buffers(&self) -> Vec<OwnedFd> {
        self.buffers.iter().map(|buffer| buffer.as_fd().try_clone_to_owned().expect("a descriptor")).collect()
    }

    /// Queues a buffer. The library writes it from here on, until the request is completed.
    pub fn queue(&self, buffer: usize) {
        let _ = self.requests.send(buffer);
    }

    /// Returns the next completed request.
    pub fn completed(&mut self) -> Option<Request> {
        let mut message = [0; 24];
        self.completed.recv(&mut message).ok()?;
        let mut numbers = message.chunks_exact(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("8 bytes")));
        let [buffer, sequence, timestamp_ns] = [(); 3].map(|()| numbers.next().expect("three numbers"));
        Some(Request { buffer: buffer as usize, bytes: self.bytes, sequence, timestamp_ns })
    }
}

/// Fills each queued buffer with its number.
fn fill(mut buffers: Vec<DmaBuf>, queue: &Receiver<usize>, done: &UnixDatagram) {
    for (sequence, buffer) in (0u64..).zip(queue) {
        std::thread::sleep(Duration::from_millis(33));
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock of every kernel");
        let memory = &mut buffers[buffer];
        let pixels = vec![sequence as u8; memory.size_bytes()];
        let written = memory.write(DEFAULT_WAIT).and_then(|mut write| write.copy_from(0, &pixels));
        let message = [buffer as u64, sequence, Duration::from(now).as_nanos() as u64].map(u64::to_ne_bytes);
        if written.is_err() || done.send(&message.concat()).is_err() {
            return; // The program has ended.
        }
    }
}

impl AsFd for Camera {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.completed.as_fd()
    }
}
