//! How a library is used.

/// How the worker waits for the hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wait {
    /// `g2d_finish` behind every job.
    #[default]
    Finish,
    /// A fence of `g2d_create_fence_fd` (header 2.0), so that the next job is submitted while one is under way;
    /// `g2d_finish` where the library gives none.
    Fence,
}

/// How it is told whether a buffer without `g2d_blit_dmabuf` is contiguous: nothing asks the hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Contiguity {
    /// By the driver that made it (`exp_name` of its fdinfo): system heaps, udmabuf, vmalloc and scatter-gather
    /// buffers of V4L2 are refused, everything else is taken.
    #[default]
    ByExporter,
    /// Every buffer is, memfds too if the library takes them, because an IOMMU gathers the pages or the user knows.
    /// Wrong, and the engine draws over memory that is not the buffer's.
    Assume,
}
