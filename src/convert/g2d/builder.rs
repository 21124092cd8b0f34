//! Settings of a libg2d.

use std::path::PathBuf;
use std::time::Duration;

use super::report::Abi;
use super::settings::{Contiguity, Wait};

/// Settings of a [`G2d`](super::super::G2d).
///
/// ```no_run
/// use framelease::convert::g2d::Wait;
/// use framelease::convert::G2d;
///
/// let g2d = G2d::builder().thread_name("preview-g2d").depth(4).wait(Wait::Fence).open()?;
/// println!("{}", g2d.report());
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct G2dBuilder {
    pub(super) library: Option<PathBuf>,
    pub(super) abi: Option<Abi>,
    pub(super) thread_name: String,
    pub(super) depth: usize,
    pub(super) wait: Wait,
    pub(super) contiguity: Contiguity,
    pub(super) open_timeout: Duration,
}

impl Default for G2dBuilder {
    fn default() -> Self {
        Self {
            library: None,
            abi: None,
            thread_name: "g2d".into(),
            depth: 8,
            wait: Wait::Finish,
            contiguity: Contiguity::ByExporter,
            open_timeout: Duration::from_secs(10),
        }
    }
}

impl G2dBuilder {
    /// Sets the library's file. Default: the value of the environment variable `FRAMELEASE_G2D_LIBRARY`, or else
    /// `libg2d.so.2` as the dynamic loader finds it.
    ///
    /// The file's code runs in this process, so use a file that you trust.
    pub fn library(mut self, path: impl Into<PathBuf>) -> Self {
        self.library = Some(path.into());
        self
    }

    /// Sets the layout of the library's structs, and overrides the probes. Default: the value of the environment
    /// variable `FRAMELEASE_G2D_ABI` (`legacy` or `modern`), or else the result of the probes.
    ///
    /// With the wrong layout, libg2d reads addresses from the wrong fields.
    pub fn abi(mut self, abi: Abi) -> Self {
        self.abi = Some(abi);
        self
    }

    /// Sets the name of the worker thread, up to 15 bytes, as `ps -L` and `top -H` show it. Default: `g2d`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Sets how many jobs may be in flight, 1 to 64. Default: 8.
    pub fn depth(mut self, jobs: usize) -> Self {
        self.depth = jobs;
        self
    }

    /// Sets how the worker waits for the hardware. Default: [`Wait::Finish`].
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how scattered buffers are recognized.
    #[doc(hidden)]
    pub fn contiguity(mut self, contiguity: Contiguity) -> Self {
        self.contiguity = contiguity;
        self
    }

    /// Sets how long opening may take: `g2d_open` initializes OpenCL on some boards. Default: 10 s.
    #[doc(hidden)]
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }
}
