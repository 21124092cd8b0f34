//! The functions for tests.

use std::ffi::{c_char, CStr, CString};

use ash::vk;

use crate::state::State;

fn text(raw: *const c_char) -> String {
    // SAFETY: tests pass C strings that live during the call.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}

/// Makes a state, and uses it for the instances of this thread.
#[no_mangle]
pub extern "C" fn fake_vulkan_new() -> &'static State {
    let state = State::new();
    state.put_in_use();
    state
}

/// Uses a state for the instances of this thread.
#[no_mangle]
pub extern "C" fn fake_vulkan_use(state: &'static State) {
    state.put_in_use();
}

/// Sets a setting. -1 for a name that is not known.
#[no_mangle]
pub extern "C" fn fake_vulkan_set(state: &'static State, name: *const c_char, value: i64) -> i64 {
    i64::from(state.set(&text(name), value)) - 1
}

/// Returns a setting, the number of calls, or the number of objects. -1 for a name that is not known.
#[no_mangle]
pub extern "C" fn fake_vulkan_get(state: &'static State, name: *const c_char) -> i64 {
    state.get(&text(name)).unwrap_or(-1)
}

/// Takes an extension from the device.
#[no_mangle]
pub extern "C" fn fake_vulkan_lack(state: &'static State, extension: *const c_char) {
    state.lock().lacking.push(text(extension));
}

/// Makes a call fail once: the next of this name is 1.
#[no_mangle]
pub extern "C" fn fake_vulkan_fail(state: &'static State, call: *const c_char, at: i64, result: i32) {
    state.fail(text(call), at, vk::Result::from_raw(result));
}

/// Returns the names of all calls that can fail and were made, with a space between them. It is never freed.
#[no_mangle]
pub extern "C" fn fake_vulkan_calls(state: &'static State) -> *const c_char {
    CString::new(state.calls()).map_or(std::ptr::null(), |text| text.into_raw().cast_const())
}

/// Returns the first violation, or NULL.
#[no_mangle]
pub extern "C" fn fake_vulkan_violation(state: &'static State) -> *const c_char {
    state.violation()
}
