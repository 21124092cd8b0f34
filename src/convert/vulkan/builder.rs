//! Settings of a GPU's converter.

/// Settings of a [`Vulkan`](super::Vulkan).
///
/// ```no_run
/// use framelease::convert::Vulkan;
///
/// let vulkan = Vulkan::builder().device("V3D").thread_name("preview-gpu").depth(4).open()?;
/// println!("{vulkan:?}");
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct VulkanBuilder {
    pub(super) device: Option<String>,
    pub(super) thread_name: String,
    pub(super) depth: usize,
}

impl Default for VulkanBuilder {
    fn default() -> Self {
        Self { device: None, thread_name: "vulkan".into(), depth: 8 }
    }
}

impl VulkanBuilder {
    /// Sets which device is used: the first whose name, or whose driver's name, contains this text. Default: the value
    /// of the environment variable `FRAMELEASE_VULKAN_DEVICE`, or else the first device that is not a software driver.
    ///
    /// A software driver such as lavapipe does the work on the CPU, slower than [`Cpu`](super::super::Cpu), and maps
    /// dma-bufs for writing. It is used only if it is named here.
    pub fn device(mut self, name: impl Into<String>) -> Self {
        self.device = Some(name.into());
        self
    }

    /// Sets the name of the worker thread, up to 15 bytes, as `ps -L` and `top -H` show it. Default: `vulkan`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Sets how many jobs may be in flight, 1 to 64. Default: 8.
    pub fn depth(mut self, jobs: usize) -> Self {
        self.depth = jobs;
        self
    }
}
