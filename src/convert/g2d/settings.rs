//! How a library is used.

/// How the worker waits for the hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wait {
    /// Calls `g2d_finish` after every job. The default.
    #[default]
    Finish,
    /// Waits for a fence of `g2d_create_fence_fd` (header 2.0). So the worker can submit the next job while a job is
    /// running. Calls `g2d_finish` if the library returns no fence.
    Fence,
}

/// How to find out whether a buffer is contiguous, if `g2d_blit_dmabuf` cannot be used. The hardware is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Contiguity {
    /// By the driver that exported the buffer (`exp_name` of its fdinfo). Refuses system heaps, udmabuf, and V4L2
    /// buffers of vmalloc and scatter-gather memory; accepts all others. The default.
    #[default]
    ByExporter,
    /// Takes every buffer as contiguous, and memfds too if the library accepts them. For boards whose IOMMU gathers the
    /// pages, or if the caller knows. If this is wrong, the engine draws over other memory.
    Assume,
}
