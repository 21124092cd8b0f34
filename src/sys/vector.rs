//! Vector instructions beyond those that every processor of the architecture has.

/// A loop that the compiler can vectorize. [`Kernel::run`] and what it calls must be `#[inline(always)]`, so that they
/// become parts of each version of [`widest`].
pub(crate) trait Kernel {
    fn run(self);
}

/// Runs a loop with AVX2 if this processor has it.
pub(crate) fn widest(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        unsafe fn with_avx2(kernel: impl Kernel) {
            kernel.run();
        }

        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: contract: the only requirement of `with_avx2` is a processor with AVX2, which was just checked.
            return unsafe { with_avx2(kernel) };
        }
    }
    kernel.run();
}
