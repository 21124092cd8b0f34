//! Results and errors.
//!
//! Every function that can fail returns an fl_status: FL_OK or another number that is not negative, or an error, which
//! is negative. The numbers never change. After an error, fl_message() has a sentence that says what failed, what was
//! asked, and what to do; fl_error_get() has the parts. No call crashes because of what a device, a peer, a file or a
//! network says.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, PoisonError};

use framelease::{Error, ErrorKind, Reason};

use crate::ffi::{sized, Fill};
use crate::station::fl_station;

/// Static text for C. (Literals of C strings need Rust 1.77.)
macro_rules! c {
    ($text:literal) => {
        concat!($text, "\0").as_ptr().cast::<std::ffi::c_char>()
    };
}
pub(crate) use c;

/// What a call returns. Errors are below 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum fl_status {
    /// The call did what it says. For fl_station_recv(): the event is filled.
    FL_OK = 0,
    /// Nothing is there now: the time passed, or a signal handler ran. Not an error.
    FL_NOTHING = 1,
    /// The stream is over. Reported once. Not an error.
    FL_ENDED = 2,
    /// The station has no room now, and did not take the item. Not an error: its descriptor becomes readable when there
    /// is room.
    FL_FULL = 3,
    /// The path, device, driver or socket does not exist.
    FL_ERROR_NOT_FOUND = -1,
    /// The file is of the wrong kind: for example, the path is not a video node.
    FL_ERROR_WRONG_FILE = -2,
    /// The kernel or a publisher denies access to this user.
    FL_ERROR_PERMISSION_DENIED = -3,
    /// Another program streams from the device, or another thread uses the handle.
    FL_ERROR_BUSY = -4,
    /// The device, the kernel, the station or this build of the library does not offer what was requested.
    FL_ERROR_UNSUPPORTED = -5,
    /// An argument is invalid: NULL, a size of zero, a number that no constant has.
    FL_ERROR_INVALID_ARGUMENT = -6,
    /// Sizes, layouts or numbers do not fit together.
    FL_ERROR_MISMATCH = -7,
    /// Links or formats along the media pipeline do not match.
    FL_ERROR_PIPELINE = -8,
    /// The device was unplugged or its driver failed.
    FL_ERROR_DEVICE_LOST = -9,
    /// The other side closed the connection or died. For a screen: the connector does not have a display.
    FL_ERROR_DISCONNECTED = -10,
    /// The publisher refused or ended the connection. fl_error has its reason.
    FL_ERROR_REFUSED = -11,
    /// The peer broke the protocol.
    FL_ERROR_PROTOCOL = -12,
    /// The call's own deadline passed. The awaited event may still occur.
    FL_ERROR_TIMEOUT = -13,
    /// A resource is used up: memory, disk space, file descriptors, buffers.
    FL_ERROR_EXHAUSTED = -14,
    /// The frame's lease ended while the frame was in use. The pixels may have changed.
    FL_ERROR_REVOKED = -15,
    /// The call is not possible in the present state: for example, after FL_ENDED.
    FL_ERROR_STATE = -16,
    /// Another error of a system call: see os_errno of fl_error.
    FL_ERROR_OS = -17,
    /// A fault in this library, with a message on standard error: please report it. The station of the call returns
    /// only this error from then on. Close any other handle of the call.
    FL_ERROR_INTERNAL = -18,
}

use fl_status::*;

/// The numbers of an enum, to match what C passes.
macro_rules! numbers {
    ($name:ident: $($number:ident),*) => { $(
        #[allow(dead_code)]
        const $number: u32 = $name::$number as u32;
    )* };
}
pub(crate) use numbers;

/// Why a publisher refused a subscriber or ended its connection. A later version may have further numbers.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_reason {
    /// The error has no reason of a publisher.
    FL_REASON_NONE = 0,
    /// No common version of the protocol.
    FL_REASON_VERSION = 1,
    /// The pool has no room for this subscriber's quota. A later attempt may succeed.
    FL_REASON_CAPACITY = 2,
    /// The publisher's settings exclude this subscriber.
    FL_REASON_DENIED = 3,
    /// The subscriber sent a message that the protocol forbids.
    FL_REASON_PROTOCOL = 4,
    /// A frame was held beyond the publisher's deadline. A later attempt may succeed.
    FL_REASON_LEASE_EXPIRED = 5,
    /// The publisher is closing. A later attempt may succeed.
    FL_REASON_CLOSING = 6,
    /// The subscriber did not send HELLO in time. A later attempt may succeed.
    FL_REASON_SILENT = 7,
    /// The publisher does not grant FL_POLICY_BLOCK.
    FL_REASON_BLOCK_DENIED = 8,
    /// A subscriber with FL_POLICY_BLOCK held the stream up for too long. A later attempt may succeed.
    FL_REASON_STALLED = 9,
}

numbers!(
    fl_reason:
    FL_REASON_NONE, FL_REASON_VERSION, FL_REASON_CAPACITY, FL_REASON_DENIED, FL_REASON_PROTOCOL,
    FL_REASON_LEASE_EXPIRED, FL_REASON_CLOSING, FL_REASON_SILENT, FL_REASON_BLOCK_DENIED, FL_REASON_STALLED
);

/// The parts of an error.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_error {
    /// sizeof(fl_error): FL_INIT sets it.
    pub size: usize,
    /// The error, or FL_OK if no call failed yet.
    pub status: c_int,
    /// The kernel's error number (errno.h), or 0 if no system call failed.
    pub os_errno: c_int,
    /// An fl_reason.
    pub reason: u32,
    /// The name of the call that failed, such as "VIDIOC_S_FMT". Valid as long as `message`.
    pub op: *const c_char,
    /// The whole sentence, as fl_message() returns it.
    pub message: *const c_char,
}

sized!(fl_error);

/// Why a function of this library failed: an error of framelease, or of the call's arguments.
pub struct Failure {
    status: fl_status,
    error: Option<Error>,
    text: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: status_of(error.kind()), text: error.to_string(), error: Some(error) }
    }
}

pub fn invalid(text: impl Into<String>) -> Failure {
    Failure { status: FL_ERROR_INVALID_ARGUMENT, error: None, text: text.into() }
}

/// Refuses a number that the library would change to one that it allows.
pub fn within(what: &str, given: u32, allowed: std::ops::RangeInclusive<u32>) -> Result<u32, Failure> {
    match allowed.contains(&given) {
        true => Ok(given),
        false => Err(invalid(format!("{what} is {given}: {} to {} are allowed", allowed.start(), allowed.end()))),
    }
}

pub fn unsupported(text: impl Into<String>) -> Failure {
    Failure { status: FL_ERROR_UNSUPPORTED, error: None, text: text.into() }
}

fn failure(status: fl_status, text: impl Into<String>) -> Failure {
    Failure { status, error: None, text: text.into() }
}

pub fn not_found(text: impl Into<String>) -> Failure {
    failure(FL_ERROR_NOT_FOUND, text)
}

pub fn exhausted(text: impl Into<String>) -> Failure {
    failure(FL_ERROR_EXHAUSTED, text)
}

pub fn state(text: &str) -> Failure {
    failure(FL_ERROR_STATE, text)
}

pub fn busy() -> Failure {
    failure(FL_ERROR_BUSY, "another thread uses this handle: one thread at a time")
}

pub fn internal() -> Failure {
    failure(FL_ERROR_INTERNAL, "a fault in the library: please report it, with the message on standard error")
}

impl Failure {
    /// The call was refused because another thread uses the station, whose message may be in use there.
    fn is_of_another_thread(&self) -> bool {
        self.status == FL_ERROR_BUSY && self.error.is_none()
    }
}

/// The status of an error. An error kind of a later version of the library is FL_ERROR_OS.
pub fn status_of(kind: ErrorKind) -> fl_status {
    match kind {
        ErrorKind::NotFound => FL_ERROR_NOT_FOUND,
        ErrorKind::WrongFile => FL_ERROR_WRONG_FILE,
        ErrorKind::PermissionDenied => FL_ERROR_PERMISSION_DENIED,
        ErrorKind::Busy => FL_ERROR_BUSY,
        ErrorKind::Unsupported => FL_ERROR_UNSUPPORTED,
        ErrorKind::InvalidArgument => FL_ERROR_INVALID_ARGUMENT,
        ErrorKind::Mismatch => FL_ERROR_MISMATCH,
        ErrorKind::Pipeline => FL_ERROR_PIPELINE,
        ErrorKind::DeviceLost => FL_ERROR_DEVICE_LOST,
        ErrorKind::Disconnected => FL_ERROR_DISCONNECTED,
        ErrorKind::Refused => FL_ERROR_REFUSED,
        ErrorKind::Protocol => FL_ERROR_PROTOCOL,
        ErrorKind::Timeout => FL_ERROR_TIMEOUT,
        ErrorKind::Exhausted => FL_ERROR_EXHAUSTED,
        ErrorKind::Revoked => FL_ERROR_REVOKED,
        ErrorKind::State => FL_ERROR_STATE,
        _ => FL_ERROR_OS,
    }
}

pub fn reason_of(reason: Option<Reason>) -> u32 {
    match reason {
        None => FL_REASON_NONE,
        Some(Reason::Version) => FL_REASON_VERSION,
        Some(Reason::Capacity) => FL_REASON_CAPACITY,
        Some(Reason::Denied) => FL_REASON_DENIED,
        Some(Reason::Protocol) => FL_REASON_PROTOCOL,
        Some(Reason::LeaseExpired) => FL_REASON_LEASE_EXPIRED,
        Some(Reason::Closing) => FL_REASON_CLOSING,
        Some(Reason::Silent) => FL_REASON_SILENT,
        Some(Reason::BlockDenied) => FL_REASON_BLOCK_DENIED,
        Some(Reason::Stalled) => FL_REASON_STALLED,
        Some(Reason::Other(code)) => code,
        Some(_) => u32::MAX,
    }
}

/// The last failure of a thread or a station, kept for C.
pub struct LastError {
    status: fl_status,
    os_errno: c_int,
    reason: u32,
    op: CString,
    message: CString,
}

impl LastError {
    pub const fn none() -> Option<Self> {
        None
    }

    fn of(function: &'static str, failure: Failure) -> Self {
        let error = failure.error.as_ref();
        Self {
            status: failure.status,
            os_errno: error.and_then(Error::errno).unwrap_or(0),
            reason: reason_of(error.and_then(Error::reason)),
            op: c_text(error.map_or(function, Error::op)),
            message: c_text(&format!("{function}: {}", failure.text)),
        }
    }

    fn fill(&self, to: &Fill<fl_error>) {
        to.put(&fl_error {
            size: 0,
            status: self.status as c_int,
            os_errno: self.os_errno,
            reason: self.reason,
            op: self.op.as_ptr(),
            message: self.message.as_ptr(),
        });
    }
}

/// Text for C. A NUL inside becomes a space.
pub fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

thread_local!(static LAST: RefCell<Option<LastError>> = const { RefCell::new(None) });

/// Keeps a failure for fl_message(NULL). A thread that is ending keeps none: a destructor of the program's, such as one
/// of pthread_key_create(), runs after those of Rust.
fn keep(failed: LastError) {
    let _ = LAST.try_with(|last| *last.borrow_mut() = Some(failed));
}

/// Runs what an exported function does. No panic leaves this function, and every failure is kept for fl_message().
pub fn call(function: &'static str, body: impl FnOnce() -> Result<fl_status, Failure>) -> fl_status {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err(internal()));
    result.unwrap_or_else(|failure| {
        let status = failure.status;
        keep(LastError::of(function, failure));
        status
    })
}

/// [`call`] for a function of a station, which keeps the failure too.
pub fn call_on(
    function: &'static str,
    station: Option<&fl_station>,
    body: impl FnOnce(&fl_station) -> Result<fl_status, Failure>,
) -> fl_status {
    let Some(station) = station else {
        return call(function, || Err(invalid("the station is NULL")));
    };
    let result = catch_unwind(AssertUnwindSafe(|| body(station))).unwrap_or_else(|_| Err(internal()));
    result.unwrap_or_else(|failure| {
        let (status, is_refused) = (failure.status, failure.is_of_another_thread());
        let of_thread = LastError::of(function, failure);
        if !is_refused {
            let copy = LastError { op: of_thread.op.clone(), message: of_thread.message.clone(), ..of_thread };
            *locked(&station.error) = Some(copy);
        }
        keep(of_thread);
        status
    })
}

/// [`call`] for a function that returns a value and cannot fail but by its arguments.
pub fn value<T>(function: &'static str, otherwise: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    let mut result = None;
    call(function, || {
        result = Some(body()?);
        Ok(FL_OK)
    });
    result.unwrap_or(otherwise)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_error() -> *const c_char {
    c!("no call has failed")
}

/// The last error of a station's calls as a sentence. With NULL: the last error of any call of this thread, which is
/// the one to ask after a function that has no station. If another thread uses the station, FL_ERROR_BUSY is in the
/// thread's message alone. Never NULL. Valid until the next call that fails, of the station or the thread, and until
/// the station is closed or the thread ends.
#[no_mangle]
pub extern "C" fn fl_message(station: Option<&fl_station>) -> *const c_char {
    let message = |last: &Option<LastError>| last.as_ref().map_or(no_error(), |last| last.message.as_ptr());
    match station {
        Some(station) => message(&locked(&station.error)),
        None => LAST.try_with(|last| message(&last.borrow())).unwrap_or(no_error()),
    }
}

/// The parts of the last error of a station's calls, or of the thread's with NULL. The texts are valid as long as that
/// of fl_message().
#[no_mangle]
pub extern "C" fn fl_error_get(station: Option<&fl_station>, error: *mut fl_error) -> fl_status {
    // Not by `call`: it would replace the error that is asked for.
    let Ok(to) = Fill::new(error, "error") else { return FL_ERROR_INVALID_ARGUMENT };
    let fill = |last: &Option<LastError>| match last {
        Some(last) => last.fill(&to),
        None => to.put(&fl_error { size: 0, status: 0, os_errno: 0, reason: 0, op: c!(""), message: no_error() }),
    };
    match station {
        Some(station) => fill(&locked(&station.error)),
        None => LAST.try_with(|last| fill(&last.borrow())).unwrap_or_else(|_| fill(&None)),
    }
    FL_OK
}

/// The name of a status, for logs: "FL_ERROR_NOT_FOUND". Static text.
#[no_mangle]
pub extern "C" fn fl_status_name(status: c_int) -> *const c_char {
    match status {
        0 => c!("FL_OK"),
        1 => c!("FL_NOTHING"),
        2 => c!("FL_ENDED"),
        3 => c!("FL_FULL"),
        -1 => c!("FL_ERROR_NOT_FOUND"),
        -2 => c!("FL_ERROR_WRONG_FILE"),
        -3 => c!("FL_ERROR_PERMISSION_DENIED"),
        -4 => c!("FL_ERROR_BUSY"),
        -5 => c!("FL_ERROR_UNSUPPORTED"),
        -6 => c!("FL_ERROR_INVALID_ARGUMENT"),
        -7 => c!("FL_ERROR_MISMATCH"),
        -8 => c!("FL_ERROR_PIPELINE"),
        -9 => c!("FL_ERROR_DEVICE_LOST"),
        -10 => c!("FL_ERROR_DISCONNECTED"),
        -11 => c!("FL_ERROR_REFUSED"),
        -12 => c!("FL_ERROR_PROTOCOL"),
        -13 => c!("FL_ERROR_TIMEOUT"),
        -14 => c!("FL_ERROR_EXHAUSTED"),
        -15 => c!("FL_ERROR_REVOKED"),
        -16 => c!("FL_ERROR_STATE"),
        -17 => c!("FL_ERROR_OS"),
        -18 => c!("FL_ERROR_INTERNAL"),
        _ => c!("unknown status"),
    }
}

/// The library's version: "0.1.0". Static text.
#[no_mangle]
pub extern "C" fn fl_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
