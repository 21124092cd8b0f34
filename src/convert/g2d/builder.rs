//! How a libg2d is opened.

use std::path::PathBuf;
use std::time::Duration;

use super::report::Abi;
use super::settings::{Contiguity, Wait};

/// How a library is opened.
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
    /// Opens this file. Default: `FRAMELEASE_G2D_LIBRARY` of the environment, else `libg2d.so.2` as the dynamic loader
    /// finds it.
    ///
    /// The file's code runs in this process: name what you trust.
    pub fn library(mut self, path: impl Into<PathBuf>) -> Self {
        self.library = Some(path.into());
        self
    }

    /// Decides the layout of the library's structs, whatever the probes say. Default: `FRAMELEASE_G2D_ABI` (`legacy`
    /// or `modern`) of the environment, else the probes.
    ///
    /// With the wrong one libg2d reads addresses where there are none.
    pub fn abi(mut self, abi: Abi) -> Self {
        self.abi = Some(abi);
        self
    }

    /// Names the worker thread, as `ps -L` and `top -H` show it: 15 bytes. Default: `g2d`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Jobs that may be in flight. Default: 8.
    pub fn depth(mut self, jobs: usize) -> Self {
        self.depth = jobs;
        self
    }

    /// How the worker waits for the hardware.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How scattered buffers are told.
    #[doc(hidden)]
    pub fn contiguity(mut self, contiguity: Contiguity) -> Self {
        self.contiguity = contiguity;
        self
    }

    /// How long opening may take: `g2d_open` sets up OpenCL on some boards. Default: 10 s.
    #[doc(hidden)]
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }
}
