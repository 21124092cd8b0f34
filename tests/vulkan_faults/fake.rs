//! Loads the fake of `tests/fakes/vulkan` in the place of the machine's Vulkan loader. Each test has its own device.

#![allow(dead_code)] // Not every test program needs all of it.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void, CStr, CString};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use framelease::convert::vulkan::VulkanBuilder;
use framelease::convert::{Layer, Plan, Request, Vulkan};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{Layout, Size};
use framelease::frame::{Frame, Pool};

/// A test waits this long only if it fails.
pub const WAIT: Duration = Duration::from_secs(60);

/// `VK_ERROR_OUT_OF_DEVICE_MEMORY`.
pub const NO_MEMORY: i32 = -2;
/// `VK_ERROR_DEVICE_LOST`.
pub const LOST: i32 = -4;

/// Loads the library once. Its name in the file is that of the loader, so the dynamic linker gives it to all who open
/// the loader afterwards.
fn library() -> &'static libloading::Library {
    static LIBRARY: OnceLock<libloading::Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let path = ["", ".."].map(|folder| beside.join(folder).join("libfake_vulkan.so"));
        let path = path.into_iter().find(|path| path.exists()).expect("cargo builds libfake_vulkan.so with the tests");
        // SAFETY: the fake's initializers are those of the Rust runtime.
        unsafe { libloading::Library::new(path) }.unwrap()
    })
}

/// A function of the fake.
///
/// # Safety
/// `F` is the type of the function.
unsafe fn function<F: Copy>(name: &[u8]) -> F {
    // SAFETY: the caller keeps the contract above.
    *unsafe { library().get::<F>(name) }.unwrap()
}

/// A state of the fake, for the converters that this thread opens.
#[derive(Clone, Copy)]
pub struct Fake(*const c_void);

// SAFETY: the fake's functions may be called from any thread, and never free the state.
unsafe impl Send for Fake {}
// SAFETY: as above.
unsafe impl Sync for Fake {}

impl Fake {
    pub fn new() -> Self {
        // SAFETY: the function has this type, and so have those of the other methods.
        Self(unsafe { function::<extern "C" fn() -> *const c_void>(b"fake_vulkan_new")() })
    }

    pub fn set(&self, name: &str, value: i64) -> &Self {
        let c = CString::new(name).unwrap();
        // SAFETY: as above. The text lives during the call, as in all methods.
        let set: extern "C" fn(*const c_void, *const c_char, i64) -> i64 = unsafe { function(b"fake_vulkan_set") };
        assert_eq!(set(self.0, c.as_ptr(), value), 0, "{name}");
        self
    }

    pub fn get(&self, name: &str) -> i64 {
        let c = CString::new(name).unwrap();
        // SAFETY: as above.
        let get: extern "C" fn(*const c_void, *const c_char) -> i64 = unsafe { function(b"fake_vulkan_get") };
        get(self.0, c.as_ptr())
    }

    /// Takes an extension from the device.
    pub fn lack(&self, extension: &str) {
        let c = CString::new(extension).unwrap();
        // SAFETY: as above.
        let lack: extern "C" fn(*const c_void, *const c_char) = unsafe { function(b"fake_vulkan_lack") };
        lack(self.0, c.as_ptr());
    }

    /// Makes a call fail once: the next of this name is 1.
    pub fn fail(&self, call: &str, at: i64, result: i32) {
        let c = CString::new(call).unwrap();
        // SAFETY: as above.
        let fail: extern "C" fn(*const c_void, *const c_char, i64, i32) = unsafe { function(b"fake_vulkan_fail") };
        fail(self.0, c.as_ptr(), at, result);
    }

    fn text(&self, name: &[u8]) -> Option<String> {
        // SAFETY: as above. The text is never freed.
        unsafe {
            let text = function::<extern "C" fn(*const c_void) -> *const c_char>(name)(self.0);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// How often each call was made that can fail.
    pub fn calls(&self) -> Vec<(String, i64)> {
        let names = self.text(b"fake_vulkan_calls").unwrap();
        names.split_whitespace().map(|name| (name.to_owned(), self.get(name))).collect()
    }

    /// Asserts that the caller has kept all rules that the fake checks.
    #[track_caller]
    pub fn lawful(&self) {
        assert_eq!(self.text(b"fake_vulkan_violation"), None, "{} violations", self.get("violations"));
    }

    /// Asserts that nothing of the device is left.
    #[track_caller]
    pub fn is_empty(&self) {
        self.lawful();
        assert_eq!(self.get("objects"), 0);
    }

    pub fn builder(&self) -> VulkanBuilder {
        Vulkan::builder().device("Fake GPU")
    }

    #[track_caller]
    pub fn open(&self) -> Vulkan {
        self.builder().open().unwrap()
    }
}

/// A plan, its source, and its targets.
pub struct Pictures {
    pub plan: Arc<Plan>,
    pub source: Frame,
    pub sources: Pool,
    pub targets: Pool,
}

impl Pictures {
    pub fn new(targets: usize) -> Self {
        let layout = Layout::packed("RGBA32".parse().unwrap(), Size::new(16, 16)).unwrap();
        let pool = |count| Pool::new(&Allocator::Memfd, layout, count).unwrap();
        let (sources, targets) = (pool(2), pool(targets));
        let mut source = sources.try_acquire().unwrap();
        source.write(DEFAULT_WAIT).unwrap().copy_row(0, 0, &[7; 64]).unwrap();
        let plan = Plan::new(&Request::convert(Layer::default()), &[layout], &layout).unwrap();
        Self { plan: Arc::new(plan), source: source.freeze_full(1, 1), sources, targets }
    }

    /// Whether the fake has drawn a frame.
    pub fn is_drawn(frame: &Frame) -> bool {
        let mut row = [0; 64];
        frame.read(DEFAULT_WAIT).unwrap().copy_row(0, 0, &mut row).unwrap();
        row == [7; 64]
    }
}

/// The descriptors of the process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
