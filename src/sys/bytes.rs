//! Numbers as bytes.

/// Numbers without padding, of which every bit pattern is a value.
///
/// # Safety
/// The type has no padding, and every bit pattern is a valid value of it.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: memory: integers and floats have no padding, and every bit pattern is a value of theirs.
unsafe impl Plain for u8 {}
// SAFETY: as for u8.
unsafe impl Plain for i8 {}
// SAFETY: as for u8.
unsafe impl Plain for u16 {}
// SAFETY: as for u8.
unsafe impl Plain for f32 {}

/// Returns the memory of the numbers, to write their bytes.
pub(crate) fn bytes_of<T: Plain>(numbers: &mut [T]) -> &mut [u8] {
    let bytes = std::mem::size_of_val(numbers);
    // SAFETY: memory: the range is that of the slice, `u8` needs no alignment, and a `Plain` type has no padding.
    // Lifetime: the result borrows the slice mutably. Contract: every byte pattern is a valid `T`.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), bytes) }
}
