//! Copies from memory that the CPU does not cache. An ordinary load there is an access of the bus, whatever its width.

/// The bytes that one burst of the bus reads: a cache line of x86-64, and of most Arm processors.
const LINE: usize = 64;

/// Copies `len` bytes. Reads whole lines with the processor's non-temporal loads if it has them.
///
/// # Safety
/// As [`copy_nonoverlapping`](std::ptr::copy_nonoverlapping).
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // Miri does not run assembly.
    if cfg!(miri) || !line::is_loaded_at_once() {
        // SAFETY: the caller's contract.
        return unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
    }
    let head = from.align_offset(LINE).min(len);
    let tail = head + (len - head) / LINE * LINE;
    // SAFETY: memory: the parts are the `len` bytes of the caller's contract. Contract: the processor has the
    // instructions, and each line begins at a multiple of its size.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, head);
        line::begin();
        (head..tail).step_by(LINE).for_each(|at| line::copy(from.add(at), to.add(at)));
        std::ptr::copy_nonoverlapping(from.add(tail), to.add(tail), len - tail);
    }
}

#[cfg(target_arch = "x86_64")]
mod line {
    pub(super) fn is_loaded_at_once() -> bool {
        std::arch::is_x86_feature_detected!("sse4.1")
    }

    /// MOVNTDQA may return a line that the processor fetched earlier. The fence makes it fetch what a device has
    /// written since.
    pub(super) fn begin() {
        // SAFETY: a fence accesses no memory, and every x86-64 processor has it.
        unsafe { std::arch::x86_64::_mm_mfence() };
    }

    #[inline(always)]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8) {
        // SAFETY: memory: the caller's. Contract: the assembly changes the declared registers and the line at `to`. All
        // loads come first, so that they share one burst.
        unsafe {
            std::arch::asm!(
                "movntdqa {a}, [{from}]",
                "movntdqa {b}, [{from} + 16]",
                "movntdqa {c}, [{from} + 32]",
                "movntdqa {d}, [{from} + 48]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + 32], {c}",
                "movups [{to} + 48], {d}",
                from = in(reg) from, to = in(reg) to,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod line {
    pub(super) fn is_loaded_at_once() -> bool {
        true
    }

    pub(super) fn begin() {}

    #[inline(always)]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8) {
        // SAFETY: memory: the caller's. Contract: the assembly changes the declared registers and the line at `to`.
        unsafe {
            std::arch::asm!(
                "ldnp {a:q}, {b:q}, [{from}]",
                "ldnp {c:q}, {d:q}, [{from}, #32]",
                "stp {a:q}, {b:q}, [{to}]",
                "stp {c:q}, {d:q}, [{to}, #32]",
                from = in(reg) from, to = in(reg) to,
                a = out(vreg) _, b = out(vreg) _, c = out(vreg) _, d = out(vreg) _,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod line {
    pub(super) fn is_loaded_at_once() -> bool {
        false
    }

    pub(super) fn begin() {}

    pub(super) unsafe fn copy(_from: *const u8, _to: *mut u8) {}
}

#[cfg(test)]
mod tests {
    #[test]
    fn copy_moves_the_bytes_of_every_alignment_and_length() {
        let memory: Vec<u8> = (0..400).map(|i| i as u8 | 1).collect();
        let steps = |most: usize| (0..most).step_by(if cfg!(miri) { 29 } else { 1 });
        for (start, len) in steps(80).flat_map(|start| steps(270).map(move |len| (start, len))) {
            let mut to = [0; 320];
            let into = 3 + start % 7;
            // SAFETY: both ranges are within their arrays, which are different memory.
            unsafe { super::copy(memory[start..start + len].as_ptr(), to[into..into + len].as_mut_ptr(), len) };
            let (before, rest) = to.split_at(into);
            let (copied, after) = rest.split_at(len);
            assert_eq!(copied, &memory[start..start + len], "{len} bytes at {start}");
            assert!(before.iter().chain(after).all(|&byte| byte == 0), "{len} bytes at {start}: others were written");
        }
    }
}
