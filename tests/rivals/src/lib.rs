//! What every contender in Rust has in common: its job, its clock, its figures. `contender.h` is the same in C, and
//! says what the words on the command line mean.

use std::error::Error;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use framelease::dmabuf::SharedBytes;
use nix::time::{clock_gettime, ClockId};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub struct Job {
    pub produces: bool,
    pub is_source_alone: bool,
    /// The source's frames lie elsewhere and are copied into what is shared.
    pub copies: bool,
    pub socket: String,
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    pub consumers: usize,
    pub reads: bool,
    is_over: Arc<AtomicBool>,
}

impl Job {
    pub fn from_args() -> Result<Self> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [role, transport, socket, size, fps, consumers, job] = &words[..] else {
            return Err("usage: produce|consume TRANSPORT SOCKET WIDTHxHEIGHT FPS CONSUMERS idle|read".into());
        };
        let (width, height) = size.split_once('x').ok_or("a size is WIDTHxHEIGHT")?;
        let is_over = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&is_over))?;
        Ok(Self {
            produces: role == "produce",
            is_source_alone: transport == "none",
            copies: transport == "copy",
            socket: socket.clone(),
            width: width.parse()?,
            height: height.parse()?,
            fps: fps.parse()?,
            consumers: consumers.parse()?,
            reads: job == "read",
            is_over,
        })
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Of an NV12 frame.
    pub fn bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3 / 2
    }

    pub fn interval(&self) -> Duration {
        Duration::from_nanos(1_000_000_000 / u64::from(self.fps))
    }
}

pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.map_or(0, |t| t.as_nanos() as u64)
}

pub fn say_ready() -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    Ok(out.flush()?)
}

/// What a consumer has got.
#[derive(Default)]
pub struct Samples {
    all: Vec<[u64; 3]>,
    sum: u64,
}

impl Samples {
    pub fn received(&mut self, sequence: u64, published_ns: u64) -> Result<()> {
        if self.all.is_empty() {
            self.all.reserve(1 << 17);
            say_ready()?;
        }
        self.all.push([sequence, published_ns, now_ns()]);
        Ok(())
    }

    /// Every byte, as a consumer on the CPU would.
    pub fn add_up(&mut self, pixels: &[u8]) {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        self.sum = pixels.chunks_exact(8).map(word).fold(self.sum, u64::wrapping_add);
    }

    /// [`Samples::add_up`], in place.
    pub fn add_up_shared(&mut self, pixels: SharedBytes) {
        let chunks = pixels.chunks_exact::<32>();
        let rest = chunks.remainder().chunks_exact::<8>();
        self.sum = rest.map(u64::from_ne_bytes).fold(self.sum, u64::wrapping_add);
        let mut sums = [0; 4];
        for chunk in chunks {
            for (sum, word) in sums.iter_mut().zip(chunk.chunks_exact(8)) {
                *sum = word.try_into().map_or(0, u64::from_ne_bytes).wrapping_add(*sum);
            }
        }
        self.sum = sums.into_iter().fold(self.sum, u64::wrapping_add);
    }

    pub fn report(&self) -> Result<()> {
        let mut out = std::io::BufWriter::new(std::io::stdout());
        for [sequence, published, received] in &self.all {
            writeln!(out, "{sequence} {published} {received}")?;
        }
        writeln!(out, "sum {}", self.sum)?;
        Ok(out.flush()?)
    }
}
