//! What tests switch on and look at: named numbers, in each loaded copy of the library its own. A program that loads a
//! copy itself gets them from the environment: `FAKE_G2D=variant=2,fence=1`.

use std::collections::BTreeMap;
use std::ffi::{c_char, CStr, CString};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every name with what it is at first. Settings, then counters.
const NAMES: &[(&str, i64)] = &[
    // 0 GPU, 1 DPU, 2 PXP.
    ("variant", 0),
    // Where the address space begins.
    ("base", 0x4000_0000),
    // g2d_buf_from_fd gives (int)address, as the PXP's library does.
    ("sign_extend", 0),
    // What g2d_buf_from_fd does: 0 gives a buffer, 1 gives NULL.
    ("from_fd_fails", 0),
    // What g2d_blit_dmabuf returns before it looks at anything: 0, 1 or -1.
    ("blit_dmabuf", 0),
    // The file whose import g2d_blit_dmabuf refuses with -1: its inode.
    ("refuse_inode", 0),
    // g2d_query_feature(DST_YUV), and whether a blit to NV12 works.
    ("dst_yuv", 1),
    ("nv12_target", 0),
    ("multi_source", 1),
    ("warp", 0),
    // 1: blits are accepted and nothing is drawn, to measure what is around them.
    ("no_raster", 0),
    ("open_fails", 0),
    ("open_hangs", 0),
    ("finish_hangs", 0),
    // From this finish on (1 is the next) the device is lost; 0: it is not.
    ("lost_at_finish", 0),
    // From this blit on (1 is the next) blits return this.
    ("blit_fails_at", 0),
    ("blit_result", -1),
    // A cap that g2d_enable refuses, plus 1.
    ("no_cap", 0),
    // The header of a GPU's library, times ten: 15 brought caps for two matrices, 16 two more and BGR888. The planes of
    // YV12 were exchanged up to 12.
    ("header", 25),
    ("alloc_fails", 0),
    // 0: -1; 1: a fence that signals when the work is done; 2: one that signals when "fence_signals" is set.
    ("fence", 0),
    ("fence_signals", 0),
    // Counters.
    ("opens", 0),
    ("closes", 0),
    ("blits", 0),
    ("dmabuf_blits", 0),
    ("multi_blits", 0),
    ("tiled_blits", 0),
    ("clears", 0),
    ("copies", 0),
    ("finishes", 0),
    ("imports", 0),
    ("frees", 0),
    ("fences", 0),
    ("warps", 0),
    ("violations", 0),
    // The cap of the last blit's matrix.
    ("matrix", -1),
];

static VALUES: Mutex<BTreeMap<&'static str, i64>> = Mutex::new(BTreeMap::new());
static TEXT: Mutex<Option<CString>> = Mutex::new(None);

fn values() -> MutexGuard<'static, BTreeMap<&'static str, i64>> {
    let mut values = VALUES.lock().unwrap_or_else(PoisonError::into_inner);
    if values.is_empty() {
        values.extend(NAMES.iter().copied());
        let settings = std::env::var("FAKE_G2D").unwrap_or_default();
        for (name, value) in settings.split(',').filter_map(|setting| setting.split_once('=')) {
            if let (Some(v), Ok(value)) = (values.get_mut(name), value.parse()) {
                *v = value;
            }
        }
    }
    values
}

pub fn setting(name: &str) -> i64 {
    values().get(name).copied().unwrap_or(0)
}

pub fn set(name: &str, value: i64) {
    if let Some(v) = values().get_mut(name) {
        *v = value;
    }
}

pub fn count(name: &str) {
    if let Some(v) = values().get_mut(name) {
        *v += 1;
    }
}

/// One less of a countdown; true when it has just reached or passed its end and was begun.
pub fn counted_down(name: &str) -> bool {
    let mut values = values();
    let Some(v) = values.get_mut(name).filter(|v| **v > 0) else { return false };
    if *v > 1 {
        *v -= 1;
        return false;
    }
    true
}

/// The caller broke a rule that the real library would not have forgiven.
pub fn violation(text: String) {
    count("violations");
    let mut last = TEXT.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none() {
        *last = CString::new(text).ok();
    }
}

fn known(name: *const c_char) -> Option<&'static str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: tests pass C strings, alive for the call.
    let name = unsafe { CStr::from_ptr(name) };
    NAMES.iter().map(|(n, _)| *n).find(|n| n.as_bytes() == name.to_bytes())
}

/// Sets a value. -1 for a name that is not known.
#[no_mangle]
pub extern "C" fn fake_g2d_set(name: *const c_char, value: i64) -> i64 {
    match known(name) {
        Some(name) => {
            set(name, value);
            0
        }
        None => -1,
    }
}

/// Reads a value; `live` is the number of regions in the address space. `i64::MIN` for a name that is not known.
#[no_mangle]
pub extern "C" fn fake_g2d_get(name: *const c_char) -> i64 {
    match known(name) {
        Some(name) => setting(name),
        None => super::memory::live(),
    }
}

/// The first violation as text, or NULL. Valid until the library is gone.
#[no_mangle]
pub extern "C" fn fake_g2d_violation() -> *const c_char {
    let text = TEXT.lock().unwrap_or_else(PoisonError::into_inner);
    text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr())
}
