//! What tests switch on and look at.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ash::vk;

use crate::object::{Object, What};

/// Settings, with what they are at first.
const SETTINGS: &[(&str, i64)] = &[
    // The version of the device.
    ("minor", 1),
    // The driver works on the CPU.
    ("software", 0),
    ("storage_buffer_8_bit", 1),
    ("storage_buffers", 16),
    ("computes", 1),
    ("imports_buffers", 1),
    // An import is for one buffer only.
    ("dedicated", 0),
    // The most bytes of a storage buffer.
    ("most_bytes", 1 << 27),
    // The driver maps imports for writing, as lavapipe does.
    ("maps_for_writing", 0),
    // The imports that are refused.
    ("refused_imports", 0),
    // 1: the wait for a submission does not end until it is 0 again.
    ("hangs", 0),
    // Runs of the shader.
    ("dispatches", 0),
    ("submits", 0),
    ("violations", 0),
];

pub struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

pub struct Inner {
    settings: BTreeMap<&'static str, i64>,
    pub lacking: Vec<String>,
    /// The call that fails, after how many others, and its result.
    failure: Option<(String, i64, vk::Result)>,
    /// How often each call was made that can fail.
    calls: BTreeMap<&'static str, i64>,
    pub objects: BTreeMap<u64, Object>,
    next: u64,
    violation: Option<CString>,
}

thread_local! {
    static IN_USE: Cell<Option<&'static State>> = const { Cell::new(None) };
}

impl State {
    /// Makes a state that is never freed: its devices may be used after a test.
    pub fn new() -> &'static Self {
        let inner = Inner {
            settings: SETTINGS.iter().copied().collect(),
            lacking: Vec::new(),
            failure: None,
            calls: BTreeMap::new(),
            objects: BTreeMap::new(),
            next: 1,
            violation: None,
        };
        Box::leak(Box::new(Self { inner: Mutex::new(inner), changed: Condvar::new() }))
    }

    /// The instances that this thread makes from now on belong to this state.
    pub fn put_in_use(&'static self) {
        IN_USE.with(|used| used.set(Some(self)));
    }

    pub fn in_use() -> Option<&'static Self> {
        IN_USE.with(Cell::get)
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn setting(&self, name: &str) -> i64 {
        self.lock().setting(name)
    }

    pub fn set(&self, name: &str, value: i64) -> bool {
        let is_known = self.lock().set(name, value);
        self.changed.notify_all();
        is_known
    }

    /// Waits while a setting is not 0.
    pub fn wait_while(&self, name: &str) {
        let mut inner = self.lock();
        while inner.setting(name) != 0 {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts a call that can fail, and returns the failure that a test has asked for.
    pub fn call(&self, name: &'static str) -> Result<(), vk::Result> {
        self.lock().call(name)
    }

    /// Makes a call fail once: the next is 1.
    pub fn fail(&self, call: String, at: i64, result: vk::Result) {
        self.lock().failure = Some((call, at, result));
    }

    /// The number of objects of a kind, the number of calls of a name, or a setting.
    pub fn get(&self, name: &str) -> Option<i64> {
        let inner = self.lock();
        if let Some(value) = inner.settings.get(name).or_else(|| inner.calls.get(name)) {
            return Some(*value);
        }
        match name {
            "objects" => Some(inner.objects.len() as i64),
            "instances" => Some(inner.count(|what| matches!(what, What::Instance))),
            "devices" => Some(inner.count(|what| matches!(what, What::Device { .. }))),
            "buffers" => Some(inner.count(|what| matches!(what, What::Buffer { .. }))),
            "memory" => Some(inner.count(|what| matches!(what, What::Memory(_)))),
            _ => None,
        }
    }

    /// The names of all calls that can fail and were made, with a space between them.
    pub fn calls(&self) -> String {
        self.lock().calls.keys().copied().collect::<Vec<_>>().join(" ")
    }

    /// The first violation.
    pub fn violation(&self) -> *const std::ffi::c_char {
        self.lock().violation.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
    }
}

impl Inner {
    pub fn setting(&self, name: &str) -> i64 {
        self.settings.get(name).copied().unwrap_or(0)
    }

    fn set(&mut self, name: &str, value: i64) -> bool {
        self.settings.get_mut(name).map(|old| *old = value).is_some()
    }

    pub fn add_one(&mut self, name: &str) {
        let value = self.setting(name);
        self.set(name, value + 1);
    }

    pub fn call(&mut self, name: &'static str) -> Result<(), vk::Result> {
        *self.calls.entry(name).or_default() += 1;
        let Some((call, left, result)) = self.failure.as_mut().filter(|(call, ..)| *call == name) else {
            return Ok(());
        };
        *left -= 1;
        let (is_now, result) = (*left == 0, *result);
        debug_assert_eq!(call, name);
        if !is_now {
            return Ok(());
        }
        self.failure = None;
        Err(result)
    }

    /// The caller broke a rule of the specification.
    pub fn violation(&mut self, text: impl Into<String>) {
        self.add_one("violations");
        if self.violation.is_none() {
            self.violation = CString::new(text.into()).ok();
        }
    }

    /// Makes an object, whose handle is its number.
    pub fn add(&mut self, device: u64, what: What) -> u64 {
        let number = self.next;
        self.next += 1;
        self.objects.insert(number, Object { device, what });
        number
    }

    fn count(&self, is_it: impl Fn(&What) -> bool) -> i64 {
        self.objects.values().filter(|object| is_it(&object.what)).count() as i64
    }
}
