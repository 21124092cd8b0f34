//! The border to C: the only unsafe code of this crate. Pointers from C become checked Rust values here.
//!
//! C's side of the contract, which the header states: a pointer is NULL or points to a live value of its type, text
//! ends with NUL, an array has the length that is passed with it, and the `size` of a structure does not exceed its
//! memory.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, CStr, OsStr};
use std::mem::{size_of, MaybeUninit};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use framelease::frame::{Frame, FrameRead};

use crate::status::{exhausted, invalid, unsupported, Failure};

/// A `bool` of a structure that C fills. A Rust `bool` of another byte than 0 and 1 is undefined behavior.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub struct Bool(u8);

impl Bool {
    pub const NO: Self = Self(0);

    pub fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(is: bool) -> Self {
        Self(is.into())
    }
}

/// A structure that begins with its size, so that later versions can append fields. All fields may be zero.
///
/// # Safety
/// The type is `repr(C)`, its first field is `size: usize`, and the bytes of every field may have any value.
pub unsafe trait Sized0: Copy {}

macro_rules! sized {
    ($($name:ty),*) => { $(
        // SAFETY: the type is declared with `repr(C)`, begins with `size`, and has fields of integers, floats, `Bool`,
        // raw pointers and structures of them: no value is invalid.
        unsafe impl crate::ffi::Sized0 for $name {}
    )* };
}
pub(crate) use sized;

/// Reads a structure that the caller filled. Fields that the caller's version lacks are zero. NULL is all zeros, where
/// `default` says so.
pub fn read<T: Sized0>(from: *const T, what: &str) -> Result<T, Failure> {
    if from.is_null() {
        return Err(invalid(format!("{what} is NULL")));
    }
    // SAFETY: not NULL, so it points to a structure of the caller's version, which begins with its size.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    check_size(size, what)?;
    let known = size.min(size_of::<T>());
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the caller's structure has `size` bytes, and `value` has `size_of::<T>()`: `known` exceeds neither. The
    // two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast(), known) };
    // SAFETY: as above: the bytes after `known` are the caller's.
    let rest = unsafe { std::slice::from_raw_parts(from.cast::<u8>().add(known), size - known) };
    if rest.iter().any(|&byte| byte != 0) {
        let text = format!("{what} has {size} bytes, this library knows {known}, and the fields after them are set");
        return Err(unsupported(text));
    }
    // SAFETY: `Sized0` promises that all bytes, also zeros, are valid.
    Ok(unsafe { value.assume_init() })
}

/// [`read`], with zeros for NULL.
pub fn read_or_zero<T: Sized0>(from: *const T, what: &str) -> Result<T, Failure> {
    if from.is_null() {
        // SAFETY: `Sized0` promises that zeros are valid.
        return Ok(unsafe { MaybeUninit::zeroed().assume_init() });
    }
    read(from, what)
}

fn check_size(size: usize, what: &str) -> Result<(), Failure> {
    match size {
        0..=7 => Err(invalid(format!("the size of {what} is {size}: begin it with FL_INIT"))),
        8..=4096 => Ok(()),
        _ => Err(invalid(format!("the size of {what} is {size}, which no version has: begin it with FL_INIT"))),
    }
}

/// Where a structure is written that the caller reads. Only the fields that the caller's version has are written.
pub struct Fill<T> {
    to: *mut T,
    size: usize,
}

impl<T: Sized0> Fill<T> {
    pub fn new(to: *mut T, what: &str) -> Result<Self, Failure> {
        if to.is_null() {
            return Err(invalid(format!("{what} is NULL")));
        }
        // SAFETY: not NULL, so it points to a structure of the caller's version, which begins with its size.
        let size = unsafe { to.cast::<usize>().read_unaligned() };
        check_size(size, what)?;
        Ok(Self { to, size })
    }

    /// Fails if the caller's structure is shorter than `least` bytes.
    pub fn needs(&self, least: usize, what: &str) -> Result<(), Failure> {
        match self.size {
            size if size < least => {
                Err(invalid(format!("the size of {what} is {size}, below the least of {least}: begin it with FL_INIT")))
            }
            _ => Ok(()),
        }
    }

    /// Writes all fields but `size`.
    pub fn put(&self, value: &T) {
        const SIZE: usize = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        // SAFETY: the caller's structure has `self.size` bytes and `value` has `size_of::<T>()`: `known` exceeds
        // neither and is at least `SIZE` for structures of either side. The two do not overlap: `value` is ours.
        unsafe {
            let (from, to) = ((value as *const T).cast::<u8>(), self.to.cast::<u8>());
            std::ptr::copy_nonoverlapping(from.add(SIZE), to.add(SIZE), known.max(SIZE) - SIZE);
        }
    }
}

/// Where a pointer or a number is written. It is NULL or zero from the beginning, so that it never stays undefined.
pub struct Out<T>(*mut T);

impl<T: Copy + Default> Out<T> {
    pub fn number(to: *mut T, what: &str) -> Result<Self, Failure> {
        Self::with(to, T::default(), what)
    }
}

/// Any thread may use a handle that C has.
impl<T: Send> Out<*mut T> {
    pub fn handle(to: *mut *mut T, what: &str) -> Result<Self, Failure> {
        Self::with(to, std::ptr::null_mut(), what)
    }

    pub fn put_box(&self, value: T) {
        self.put(Box::into_raw(Box::new(value)));
    }
}

impl<T> Out<*const T> {
    pub fn pointer(to: *mut *const T, what: &str) -> Result<Self, Failure> {
        Self::with(to, std::ptr::null(), what)
    }
}

impl<T> Out<T> {
    pub fn with(to: *mut T, first: T, what: &str) -> Result<Self, Failure> {
        if to.is_null() {
            return Err(invalid(format!("{what} is NULL")));
        }
        let out = Self(to);
        out.put(first);
        Ok(out)
    }

    pub fn put(&self, value: T) {
        // SAFETY: not NULL (`with`), so it points to memory for a `T`, which the caller may not have initialized.
        unsafe { self.0.write(value) }
    }
}

/// Frees what [`Out::put_box`] gave, and makes the caller's pointer NULL, so that a second call does nothing.
pub fn free_box<T>(at: *mut *mut T) {
    if let Some(owned) = take(at) {
        // SAFETY: the pointer came from `put_box`, which used `Box::into_raw`, and only this call takes it.
        drop(unsafe { Box::from_raw(owned) });
    }
}

/// Takes back what [`Out::put_box`] gave, as [`free_box`] does.
pub fn take_box<T>(at: *mut *mut T) -> Option<Box<T>> {
    // SAFETY: as in `free_box`.
    take(at).map(|owned| unsafe { Box::from_raw(owned) })
}

/// Gives a box back to the caller after [`take_box`].
pub fn return_box<T>(at: *mut *mut T, owned: Box<T>) {
    // SAFETY: `take_box` has read this pointer: it points to memory for a pointer.
    unsafe { at.write(Box::into_raw(owned)) }
}

fn take<T>(at: *mut *mut T) -> Option<*mut T> {
    if at.is_null() {
        return None;
    }
    // SAFETY: not NULL, so it points to a pointer that this library wrote, or to NULL.
    let owned = unsafe { at.replace(std::ptr::null_mut()) };
    (!owned.is_null()).then_some(owned)
}

/// Counted handles: frames and packets. Several threads may use one at the same time.
pub fn counted<T: Send + Sync>(value: T) -> *mut T {
    Arc::into_raw(Arc::new(value)).cast_mut()
}

pub fn count_up<T>(handle: *mut T) -> *mut T {
    if !handle.is_null() {
        // SAFETY: the pointer came from `counted`, and the caller holds a reference, so the count is at least 1.
        unsafe { Arc::increment_strong_count(handle) };
    }
    handle
}

pub fn count_down<T>(at: *mut *mut T) {
    if let Some(handle) = take(at) {
        // SAFETY: the pointer came from `counted`, and the caller gives its reference up.
        drop(unsafe { Arc::from_raw(handle) });
    }
}

/// A further reference, for something that must outlive the caller's.
pub fn share<T>(handle: *const T, what: &str) -> Result<Arc<T>, Failure> {
    if handle.is_null() {
        return Err(invalid(format!("{what} is NULL")));
    }
    // SAFETY: the pointer came from `counted`, and the caller holds a reference during this call.
    Ok(unsafe {
        Arc::increment_strong_count(handle);
        Arc::from_raw(handle)
    })
}

pub fn optional_text<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so it is text that ends with NUL, and the caller keeps it during the call.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| invalid(format!("{what} is not UTF-8")))
}

pub fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    optional_text(text, what)?.ok_or_else(|| invalid(format!("{what} is NULL")))
}

/// A path, which need not be UTF-8.
pub fn optional_path<'a>(path: *const c_char) -> Option<&'a Path> {
    // SAFETY: not NULL, so it is text that ends with NUL, and the caller keeps it during the call.
    (!path.is_null()).then(|| Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes())))
}

pub fn path<'a>(path: *const c_char, what: &str) -> Result<&'a Path, Failure> {
    optional_path(path).ok_or_else(|| invalid(format!("{what} is NULL")))
}

/// A descriptor of the program's, duplicated: the program keeps its own.
pub fn descriptor(fd: c_int, what: &str) -> Result<OwnedFd, Failure> {
    if fd < 0 {
        return Err(invalid(format!("{what} is {fd}")));
    }
    // SAFETY: not -1. The program keeps the descriptor open during the call. A number that is not open is an error of
    // the call below, which does nothing else with it.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    copy.map_err(|error| {
        const EMFILE: i32 = 24;
        let text = format!("{what} {fd} cannot be duplicated: {error}");
        if error.raw_os_error() == Some(EMFILE) {
            exhausted(text)
        } else {
            invalid(text)
        }
    })
}

/// An array. A NULL pointer is allowed for an empty one.
pub fn slice<'a, T: Copy>(first: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    match count {
        0 => Ok(&[]),
        _ if first.is_null() => Err(invalid(format!("{what} is NULL, and its count is {count}"))),
        _ if count.checked_mul(size_of::<T>()).map_or(true, |bytes| bytes > isize::MAX as usize) => {
            Err(invalid(format!("{what} cannot have {count} elements")))
        }
        // SAFETY: not NULL, so it has `count` elements, which the caller keeps unchanged during the call. Their size is
        // within the limit of slices.
        _ => Ok(unsafe { std::slice::from_raw_parts(first, count) }),
    }
}

/// Memory of the caller's that this library fills.
pub fn slice_mut<'a>(first: *mut u8, bytes: usize, what: &str) -> Result<&'a mut [u8], Failure> {
    if first.is_null() {
        return Err(invalid(format!("{what} is NULL")));
    }
    if bytes > isize::MAX as usize {
        return Err(invalid(format!("{what} cannot have {bytes} bytes")));
    }
    // SAFETY: as in `slice`. No other reference to it exists: the caller does not use it during the call.
    Ok(unsafe { std::slice::from_raw_parts_mut(first, bytes) })
}

/// Read access of the CPU, with the frame that it reads.
pub struct HeldRead {
    // Dropped before `frame`, which it borrows.
    read: FrameRead<'static>,
    _frame: Arc<crate::frame::fl_frame>,
}

impl HeldRead {
    pub fn begin(
        frame: Arc<crate::frame::fl_frame>,
        begin: impl for<'a> FnOnce(&'a Frame) -> framelease::Result<FrameRead<'a>>,
    ) -> framelease::Result<Self> {
        let read = begin(&frame.frame)?;
        // SAFETY: the borrowed frame is in the memory of the `Arc`, which does not move, is never changed, and lives
        // until after `read` is dropped (order of the fields). `get` gives no longer borrow than that of `self`.
        let read = unsafe { std::mem::transmute::<FrameRead<'_>, FrameRead<'static>>(read) };
        Ok(Self { read, _frame: frame })
    }

    pub fn get(&self) -> &FrameRead<'_> {
        &self.read
    }
}

/// Writes as many of `values` as the caller's array has room for.
pub fn fill_array<T: Copy>(to: *mut T, capacity: usize, values: &[T], what: &str) -> Result<(), Failure> {
    if to.is_null() && capacity > 0 {
        return Err(invalid(format!("{what} is NULL, and its capacity is {capacity}")));
    }
    for (i, value) in values.iter().enumerate().take(capacity) {
        // SAFETY: not NULL, so the array has room for `capacity` values, and `i` is below it.
        unsafe { to.add(i).write(*value) };
    }
    Ok(())
}

/// A handle that the call changes. For handles that are not stations: one thread at a time, as the header says.
pub fn exclusive<'a, T>(handle: *mut T, what: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: NULL, or a live handle, which no other call uses now (the header's rule for this kind of handle).
    unsafe { handle.as_mut() }.ok_or_else(|| invalid(format!("{what} is NULL")))
}

/// Reads an array of structures that begin with their size. The caller's structures may be smaller than ours, so the
/// first one's size is the distance between them. `what` names one of them.
pub fn elements<T: Sized0>(first: *const T, count: usize, what: &str) -> Result<Vec<T>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if first.is_null() {
        return Err(invalid(format!("the first {what} is NULL, and the count is {count}")));
    }
    // SAFETY: not NULL, so it points to a structure of the caller's version, which begins with its size.
    let size = unsafe { first.cast::<usize>().read_unaligned() };
    check_size(size, &format!("{what} 0"))?;
    if count > isize::MAX as usize / size {
        return Err(invalid(format!("an array cannot have {count} elements: {what}")));
    }
    (0..count).map(|i| read(first.cast::<u8>().wrapping_add(size * i).cast(), &format!("{what} {i}"))).collect()
}
