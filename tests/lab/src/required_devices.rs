//! What a guest of each architecture is sure to have.
//!
//! A kernel test that misses a device of this table must fail; one that misses another device says
//! `SKIPPED <what>: <why>`. This table is the only place that decides which it is.

use crate::arch::Arch;

const EVERYWHERE: [&str; 12] = [
    "vivid",
    "vicodec",
    "vim2m",
    "vimc",
    "uvcvideo",
    "fl_scaler",
    "fl_h264",
    "vkms",
    "vgem",
    "virtio-gpu",
    "udmabuf",
    "v4l2-ctl",
];

/// Debian's arm64 kernel is built without dma-heaps. `v4l2-compliance` is in both guests; it is a
/// slow judge of the drivers, not of us, so one architecture is enough.
const X86_64_ONLY: [&str; 2] = ["dma-heap", "v4l2-compliance"];

pub fn required(arch: Arch) -> Vec<&'static str> {
    let mut all = EVERYWHERE.to_vec();
    if arch == Arch::X86_64 {
        all.extend(X86_64_ONLY);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm_requires_less() {
        let arm = required(Arch::Aarch64);
        let x86 = required(Arch::X86_64);
        assert!(arm.contains(&"vivid") && !arm.contains(&"dma-heap"));
        assert!(x86.contains(&"dma-heap") && x86.contains(&"v4l2-compliance"));
        assert!(arm.iter().all(|p| x86.contains(p)));
    }
}
