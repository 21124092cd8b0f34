//! Bytes that another process or a device may write while this process reads them in place.

use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{compiler_fence, Ordering};

/// What one instruction loads: the widest register that every processor of the target has.
#[cfg(target_arch = "x86_64")]
type Word = std::arch::x86_64::__m128i;
#[cfg(target_arch = "aarch64")]
type Word = std::arch::aarch64::uint8x16_t;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Word = u64;

/// A word at any address.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

/// Bytes of a buffer that another process or a device may write at any time, for reading in place.
///
/// A slice of these bytes would not be safe: the compiler assumes that a slice never changes, so it may load a byte
/// twice and get two values. The methods here load bytes into values that nothing else can change, in words of 16
/// bytes where the processor has them. That is as fast as reading a slice. If bytes change while they are read,
/// some of the loaded values are old and some are new. [`Frame::is_valid`](crate::frame::Frame::is_valid), called after
/// the last byte was read, finds out whether the publisher kept the frame unchanged.
///
/// The bytes are those of a row or of a plane ([`PlaneRead`](crate::frame::PlaneRead)), or of any range of a buffer
/// ([`CpuRead::bytes`](crate::dmabuf::CpuRead::bytes)). They cannot be used after the access guard was dropped. A slice
/// can be turned into `SharedBytes`, so a function that takes `SharedBytes` also works with private memory.
///
/// ```
/// use framelease::dmabuf::SharedBytes;
///
/// /// Counts the bright bytes.
/// fn bright(row: SharedBytes<'_>) -> usize {
///     let chunks = row.chunks_exact::<32>(); // Loops over arrays become SIMD instructions.
///     let rest = chunks.remainder().fold(0, |n, byte| n + usize::from(byte > 200));
///     chunks.map(|chunk| chunk.iter().filter(|&&byte| byte > 200).count()).sum::<usize>() + rest
/// }
///
/// assert_eq!(bright(SharedBytes::from(&[100, 201, 255][..])), 2);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SharedBytes<'a> {
    first: *const u8,
    len: usize,
    lent: PhantomData<&'a [u8]>,
}

// SAFETY: memory: this is a pointer for reading, which any thread may use while the guard lives. Contract: the guard is
// a reader of `dmabuf::users::Users`, so no thread of this process writes through the same mapping.
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes<'_> {}

impl<'a> From<&'a [u8]> for SharedBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { first: bytes.as_ptr(), len: bytes.len(), lent: PhantomData }
    }
}

impl<'a> SharedBytes<'a> {
    /// Lends mapped bytes.
    ///
    /// # Safety
    /// `len` bytes from `first` on are mapped for reading during `'a`, and no thread of this process writes them during
    /// `'a` through this mapping.
    pub(super) unsafe fn new(first: *const u8, len: usize) -> Self {
        Self { first, len, lent: PhantomData }
    }

    /// Returns the number of bytes.
    pub fn len_bytes(self) -> usize {
        self.len
    }

    /// Returns the address of the first byte, for code in other languages. It is valid for reads of
    /// [`SharedBytes::len_bytes`] bytes until the access guard is dropped. Another process or a device may write there
    /// while you read.
    pub fn as_ptr(self) -> *const u8 {
        self.first
    }

    /// Returns a part of the bytes, or `None` if the range exceeds them.
    pub fn get(self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        // SAFETY: memory: the range was just checked, so the address is in the same bytes or at their end. Lifetime and
        // contract: those of `self`.
        Some(unsafe { Self::new(self.first.add(range.start), range.end - range.start) })
    }

    /// Returns an iterator over arrays of `N` bytes. Up to `N - 1` bytes are left: [`Chunks::remainder`]. `N` = 32 is
    /// usually the fastest. 0 does not compile.
    ///
    /// Each array is a private copy, usually in registers.
    pub fn chunks_exact<const N: usize>(self) -> Chunks<'a, N> {
        let () = Chunks::<N>::IS_NOT_ZERO;
        Chunks { rest: self }
    }

    /// Calls `f` with a value and each byte, in order. Each call returns the value for the next, as in
    /// [`Iterator::fold`].
    pub fn fold<A>(self, first: A, mut f: impl FnMut(A, u8) -> A) -> A {
        let chunks = self.chunks_exact::<32>();
        let rest = chunks.remainder();
        let value = chunks.fold(first, |value, chunk| chunk.into_iter().fold(value, &mut f));
        rest.chunks_exact::<1>().fold(value, |value, [byte]| f(value, byte))
    }

    /// Copies bytes to the start of the slice `to`, until either ends. Returns the number of bytes that were copied.
    pub fn copy_to(self, to: &mut [u8]) -> usize {
        let len = self.len.min(to.len());
        // SAFETY: memory: both have `len` bytes. `to` is private memory, so the ranges do not overlap. Lifetime: the
        // borrow `'a`. Contract: a device or another process may write at the same time. No reference to the mapped
        // bytes exists, unless a caller of `as_slice` promised that nothing writes them. Any bit pattern is a valid
        // `u8`, so the worst result is a torn copy.
        unsafe { std::ptr::copy_nonoverlapping(self.first, to.as_mut_ptr(), len) };
        is_private();
        len
    }

    /// [`SharedBytes::copy_to`] from memory that the CPU does not cache.
    pub(crate) fn copy_uncached_to(self, to: &mut [u8]) -> usize {
        let len = self.len.min(to.len());
        // SAFETY: as in `copy_to`.
        unsafe { super::uncached::copy(self.first, to.as_mut_ptr(), len) };
        is_private();
        len
    }

    /// Returns the bytes as a slice, for code that takes nothing else.
    ///
    /// # Safety
    /// Nothing may write these bytes while the slice lives: no process, no device, and no thread of this process
    /// through another mapping. The compiler relies on it. If a byte changes all the same, the behavior is undefined.
    /// The call is sound if all of the following hold:
    ///
    /// - **The lease is held.** The slice borrows from the access guard, and the guard from the frame. A publisher can
    ///   revoke a lease and use the buffer again, so the program must trust it not to do so while the slice lives.
    ///   [`Frame::is_valid`](crate::frame::Frame::is_valid) reports a revoked lease, but only afterwards.
    /// - **The writers are trusted.** Each process and device that can write the memory writes only while it owns the
    ///   buffer. A memfd that is sealed with `F_SEAL_FUTURE_WRITE`, or a descriptor that is read-only, excludes the
    ///   receivers. It does not exclude the publisher, which mapped the memory before. A dma-buf has no seals.
    /// - **No device still writes.** The guard waits for the fences of the buffer. A driver without fences must have
    ///   finished before it gave the frame out, as V4L2 drivers have.
    ///
    /// A camera and consumers that belong to one product can promise that. A consumer of a publisher that another user
    /// runs cannot: use [`SharedBytes::chunks_exact`].
    pub unsafe fn as_slice(self) -> &'a [u8] {
        // SAFETY: memory: `len` mapped bytes, which are initialized. Lifetime: the borrow `'a`. Contract: the caller's.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}

/// An iterator over arrays of `N` bytes. See [`SharedBytes::chunks_exact`].
#[derive(Clone, Debug)]
pub struct Chunks<'a, const N: usize> {
    rest: SharedBytes<'a>,
}

impl<'a, const N: usize> Chunks<'a, N> {
    const IS_NOT_ZERO: () = assert!(N > 0, "chunks of 0 bytes");

    /// Returns the bytes at the end that do not fill an array. The iterator does not return them.
    pub fn remainder(&self) -> SharedBytes<'a> {
        let len = self.rest.len % N;
        // SAFETY: memory: the last `len` of the bytes. Lifetime and contract: those of `self.rest`.
        unsafe { SharedBytes::new(self.rest.first.add(self.rest.len - len), len) }
    }
}

impl<const N: usize> Iterator for Chunks<'_, N> {
    type Item = [u8; N];

    #[inline]
    fn next(&mut self) -> Option<[u8; N]> {
        if self.rest.len < N {
            return None;
        }
        // SAFETY: memory: `N` bytes are left. Lifetime and contract: those of `self.rest`.
        unsafe {
            let chunk = load(self.rest.first);
            self.rest = SharedBytes::new(self.rest.first.add(N), self.rest.len - N);
            Some(chunk)
        }
    }

    /// Does not load the arrays that it skips.
    fn nth(&mut self, n: usize) -> Option<[u8; N]> {
        let skipped = n.saturating_mul(N).min(self.rest.len);
        self.rest = self.rest.get(skipped..self.rest.len)?;
        self.next()
    }

    fn count(self) -> usize {
        self.len()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.len / N, Some(self.rest.len / N))
    }
}

impl<const N: usize> FusedIterator for Chunks<'_, N> {}

impl<const N: usize> ExactSizeIterator for Chunks<'_, N> {}

/// Ends a copy of shared bytes. Without it, the compiler may copy them a second time instead of the copy, because it
/// assumes that nothing changes them: a program that checks its copy and then moves it would not have what it checked.
#[inline(always)]
fn is_private() {
    compiler_fence(Ordering::SeqCst);
}

/// Loads `N` bytes, each once.
///
/// # Safety
/// The bytes are mapped for reading.
#[inline(always)]
unsafe fn load<const N: usize>(from: *const u8) -> [u8; N] {
    let (mut to, mut at) = ([0; N], 0);
    // SAFETY: the caller's contract.
    unsafe {
        load_words::<Word, N>(from, &mut to, &mut at);
        load_words::<u64, N>(from, &mut to, &mut at);
        load_words::<u32, N>(from, &mut to, &mut at);
        load_words::<u8, N>(from, &mut to, &mut at);
    }
    to
}

/// Loads words from the byte `at` on, while whole words are left.
///
/// # Safety
/// As [`load`]. Any bit pattern is a valid `T`, and `T` has no padding.
#[inline(always)]
unsafe fn load_words<T: Copy, const N: usize>(from: *const u8, to: &mut [u8; N], at: &mut usize) {
    let size = std::mem::size_of::<T>();
    while *at + size <= N {
        // SAFETY: memory: `size` bytes at `at` are within the `N` bytes on both sides. `Unaligned` has an alignment
        // of 1. Contract: another process or a device may write the bytes at the same time. No reference to them
        // exists, and any bit pattern is valid, so the worst result is a value that is partly old and partly new. The
        // compiler neither repeats nor omits a volatile load.
        unsafe {
            let word = from.add(*at).cast::<Unaligned<T>>().read_volatile();
            to.as_mut_ptr().add(*at).cast::<Unaligned<T>>().write(word);
        }
        *at += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const N: usize>(bytes: &[u8]) {
        let chunks = SharedBytes::from(bytes).chunks_exact::<N>();
        assert_eq!(chunks.len(), bytes.len() / N);
        let mut read = chunks.clone().flatten().collect::<Vec<_>>();
        let remainder = chunks.remainder();
        assert_eq!(remainder.len_bytes(), bytes.len() % N);
        remainder.fold((), |(), byte| read.push(byte));
        assert_eq!(read, bytes);
        let chunks = || SharedBytes::from(bytes).chunks_exact::<N>();
        let skipped = |n: usize| chunks().nth(n).map(|chunk| chunk.to_vec());
        let expected = |n: usize| bytes.chunks_exact(N).nth(n).map(<[u8]>::to_vec);
        assert_eq!([0, 1, 5, usize::MAX].map(skipped), [0, 1, 5, usize::MAX].map(expected));
        assert_eq!(
            (chunks().skip(2).flatten().collect::<Vec<_>>(), chunks().count()),
            (bytes.chunks_exact(N).skip(2).flatten().copied().collect::<Vec<_>>(), bytes.len() / N)
        );
    }

    #[test]
    fn chunks_exact_reads_each_byte_once_from_any_address() {
        let memory: Vec<u8> = (0..120).collect();
        for start in 0..17 {
            // Miri is slow.
            for len in (0..=100).step_by(if cfg!(miri) { 33 } else { 1 }) {
                let bytes = &memory[start..start + len];
                check::<1>(bytes);
                check::<3>(bytes);
                check::<16>(bytes);
                check::<32>(bytes);
                check::<47>(bytes);
            }
        }
    }

    #[test]
    fn fold_reads_each_byte_in_order() {
        let memory: Vec<u8> = (0..100).collect();
        for len in 0..=memory.len() {
            let mut read = Vec::new();
            let last = SharedBytes::from(&memory[..len]).fold(None, |_, byte| {
                read.push(byte);
                Some(byte)
            });
            assert_eq!((last, &read[..]), (memory[..len].last().copied(), &memory[..len]));
        }
    }

    #[test]
    fn copy_to_ends_with_the_shorter_side() {
        let bytes = SharedBytes::from(&[1, 2, 3][..]);
        let mut to = [0; 4];
        assert_eq!((bytes.copy_to(&mut to[..2]), to), (2, [1, 2, 0, 0]));
        assert_eq!((bytes.copy_to(&mut to), to), (3, [1, 2, 3, 0]));
    }

    #[test]
    fn get_refuses_what_exceeds_the_bytes() {
        let bytes = SharedBytes::from(&[1, 2, 3][..]);
        let part = |range| bytes.get(range).map(|part| part.fold(Vec::new(), |all, byte| [all, vec![byte]].concat()));
        assert_eq!(part(1..3), Some(vec![2, 3]));
        assert_eq!(part(3..3), Some(vec![]));
        #[allow(clippy::reversed_empty_ranges)]
        let refused = [3..4, 4..4, 2..1, 0..usize::MAX];
        assert!(refused.into_iter().all(|range| part(range).is_none()));
    }

    #[test]
    fn as_slice_is_the_same_memory() {
        let memory = [1, 2, 3];
        let bytes = SharedBytes::from(&memory[..]);
        // SAFETY: private memory, which nothing writes.
        let slice = unsafe { bytes.as_slice() };
        assert_eq!((slice.as_ptr(), slice), (memory.as_ptr(), &memory[..]));
        assert_eq!(bytes.as_ptr(), memory.as_ptr());
    }
}
