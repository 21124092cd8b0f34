//! Loads the fakes. Each test has its own copy with its own state, and may remove symbols from it.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::converting::Jobs;
use framelease::convert::g2d::{Abi, G2dBuilder};
use framelease::convert::{G2d, Layer, Plan, Request};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, FrameMut, Pool};

pub const TIMEOUT: Duration = Duration::from_secs(20);
pub const ABIS: [Abi; 2] = [Abi::Legacy, Abi::Modern];

/// Returns the path at which cargo or the lab has put the fakes: next to the tests.
fn built(abi: Abi) -> Result<PathBuf, String> {
    let file = match abi {
        Abi::Legacy => "libfake_g2d_legacy.so",
        Abi::Modern => "libfake_g2d_modern.so",
    };
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let beside = exe.parent().ok_or("no folder")?;
    let places = [beside.join(file), beside.join("..").join(file)];
    let found = places.iter().find(|p| p.exists()).cloned();
    found.ok_or_else(|| format!("{file} is in none of {places:?}: cargo builds it with the tests"))
}

/// A loaded fake.
pub struct Fake {
    pub path: PathBuf,
    library: libloading::Library,
}

/// How a copy differs from the fake that was built.
#[derive(Default)]
pub struct Changes<'a> {
    /// The file's name, from which the library's variant is found.
    pub file: Option<&'a str>,
    /// Symbols that the copy does not export.
    pub without: &'a [&'a str],
    /// Text to replace with text of the same length.
    pub replace: &'a [(&'a str, &'a str)],
}

impl Fake {
    pub fn new(abi: Abi) -> Self {
        Self::changed(abi, &Changes::default())
    }

    pub fn without(abi: Abi, symbols: &[&str]) -> Self {
        Self::changed(abi, &Changes { without: symbols, ..Changes::default() })
    }

    pub fn changed(abi: Abi, changes: &Changes<'_>) -> Self {
        Self::load(abi, changes).unwrap()
    }

    /// [`Fake::changed`], or why it cannot be loaded.
    pub fn load(abi: Abi, changes: &Changes<'_>) -> Result<Self, String> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("framelease-fake-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let path = folder.join(changes.file.unwrap_or("libg2d-viv.so.2"));
        let mut bytes = std::fs::read(built(abi)?).map_err(|e| e.to_string())?;
        // What the PXP's published library lacks.
        const NOT_IN_PXP: [&str; 5] =
            ["g2d_query_hardware", "g2d_multi_blit", "g2d_set_csc_matrix", "_G2D_VERSION", "g2d_blit_dmabuf"];
        let is_pxp = changes.file.is_some_and(|file| file.contains("pxp"));
        let count = match (is_pxp, abi) {
            (false, _) => 0,
            (true, Abi::Legacy) => 4,
            (true, _) => 5,
        };
        for symbol in changes.without.iter().chain(&NOT_IN_PXP[..count]) {
            // Another first letter: the loader's hash of the name then does not match.
            let (from, to) = (format!("\0{symbol}\0"), format!("\0#{}\0", &symbol[1..]));
            assert!(replace(&mut bytes, from.as_bytes(), to.as_bytes()) > 0, "{symbol}");
        }
        for (from, to) in changes.replace {
            assert!(replace(&mut bytes, from.as_bytes(), to.as_bytes()) > 0, "{from}");
        }
        std::fs::write(&path, bytes).map_err(|e| e.to_string())?;
        // SAFETY: the fake's initializers are those of the Rust runtime.
        let library = unsafe { libloading::Library::new(&path) }.map_err(|e| format!("{e:?}"))?;
        Ok(Self { path, library })
    }

    pub fn set(&self, name: &str, value: i64) -> &Self {
        let c = CString::new(name).unwrap();
        // SAFETY: the fake's own function, of this type.
        let result = unsafe {
            let set: libloading::Symbol<'_, extern "C" fn(*const std::ffi::c_char, i64) -> i64> =
                self.library.get(b"fake_g2d_set").unwrap();
            set(c.as_ptr(), value)
        };
        assert_eq!(result, 0, "{name}");
        self
    }

    pub fn get(&self, name: &str) -> i64 {
        let c = CString::new(name).unwrap();
        // SAFETY: the fake's own function, of this type.
        unsafe {
            let get: libloading::Symbol<'_, extern "C" fn(*const std::ffi::c_char) -> i64> =
                self.library.get(b"fake_g2d_get").unwrap();
            get(c.as_ptr())
        }
    }

    /// Asserts that the caller has broken none of the rules that the fake checks.
    #[track_caller]
    pub fn lawful(&self) {
        // SAFETY: the fake's own function, of this type; the text lives as long as the library.
        let text = unsafe {
            let text: libloading::Symbol<'_, extern "C" fn() -> *const std::ffi::c_char> =
                self.library.get(b"fake_g2d_violation").unwrap();
            let text = text();
            (!text.is_null()).then(|| std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        assert_eq!(text, None, "{} violations", self.get("violations"));
    }

    pub fn builder(&self) -> G2dBuilder {
        G2d::builder().library(&self.path)
    }

    #[track_caller]
    pub fn open(&self) -> G2d {
        self.builder().open().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.path.parent().unwrap());
    }
}

/// Replaces every occurrence. It uses the C library's search: that of a debug build takes seconds for a file of this
/// size.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) -> usize {
    assert_eq!(from.len(), to.len());
    let (mut count, mut at) = (0, 0);
    loop {
        let rest = &bytes[at..];
        // SAFETY: two live slices with their lengths, which are only read.
        let found = unsafe { libc::memmem(rest.as_ptr().cast(), rest.len(), from.as_ptr().cast(), from.len()) };
        if found.is_null() {
            return count;
        }
        at += found as usize - rest.as_ptr() as usize;
        bytes[at..at + to.len()].copy_from_slice(to);
        count += 1;
    }
}

/// A layout that libg2d supports.
pub fn layout(fourcc: &str, width: u32, height: u32) -> Layout {
    let fourcc = fourcc.parse().unwrap();
    let align = if [FourCc::RGB24, FourCc::BGR24].contains(&fourcc) { 48 } else { 64 };
    Layout::aligned(fourcc, Size::new(width, height), align).unwrap()
}

pub fn pool(layout: Layout, count: usize) -> Pool {
    Pool::new(&Allocator::Memfd, layout, count).unwrap()
}

/// A byte for the sample group at a pixel of a row. It differs from its neighbors.
pub fn noise(plane: usize, row: u32, at: usize) -> u8 {
    let n = (plane as u32 * 7919 + row * 251 + at as u32 * 31).wrapping_mul(0x9e37_79b1);
    (n >> 24) as u8
}

pub fn write(target: &mut FrameMut, byte: impl Fn(usize, u32, usize) -> u8) {
    let layout = *target.layout();
    let mut guard = target.write(DEFAULT_WAIT).unwrap();
    for plane in 0..layout.planes().len() {
        for row in 0..layout.rows(plane) {
            let bytes: Vec<u8> = (0..layout.row_bytes(plane) as usize).map(|at| byte(plane, row, at)).collect();
            guard.copy_row(plane, row, &bytes).unwrap();
        }
    }
}

pub fn source(pool: &Pool, byte: impl Fn(usize, u32, usize) -> u8) -> Frame {
    let mut frame = pool.try_acquire().unwrap();
    write(&mut frame, byte);
    frame.freeze_full(1, 1)
}

pub fn rows(frame: &Frame, plane: usize) -> Vec<Vec<u8>> {
    let (layout, guard) = (frame.layout(), frame.read(DEFAULT_WAIT).unwrap());
    (0..layout.rows(plane))
        .map(|row| {
            let mut bytes = vec![0; layout.row_bytes(plane) as usize];
            guard.copy_row(plane, row, &mut bytes).unwrap();
            bytes
        })
        .collect()
}

pub fn plan(request: &Request, sources: &[Layout], target: &Layout) -> Arc<Plan> {
    Arc::new(Plan::new(request, sources, target).unwrap())
}

pub fn simple(layer: Layer, source: &Layout, target: &Layout) -> Arc<Plan> {
    plan(&Request::convert(layer), &[*source], target)
}

/// Runs one job, from submit to the finished frame.
#[track_caller]
pub fn run(g2d: &mut G2d, plan: &Arc<Plan>, sources: &[Frame], target: FrameMut) -> Frame {
    g2d.begin(plan, sources, target).unwrap();
    g2d.done(TIMEOUT).unwrap()
}

/// Waits until another thread has done something.
#[track_caller]
pub fn eventually(what: impl Fn() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !what() {
        assert!(Instant::now() < end, "it did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}
