//! Signs of life for systemd (sd_notify(3)) and figures for Prometheus.

use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::report::Status;

/// How often the figures are written.
const METRICS: Duration = Duration::from_secs(5);

/// The service manager, if one has started this.
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Half of the watchdog's patience.
    every: Option<Duration>,
    last: Instant,
}

impl Manager {
    pub fn of_environment() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|path| match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            _ => SocketAddr::from_pathname(&path).ok(),
        });
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_meant = number("WATCHDOG_PID").map_or(true, |pid| pid == u64::from(std::process::id()));
        let every = number("WATCHDOG_USEC").filter(|&us| is_meant && us > 0).map(|us| Duration::from_micros(us / 2));
        Self { socket: address.and_then(|to| Some((UnixDatagram::unbound().ok()?, to))), every, last: Instant::now() }
    }

    /// Does not fail if the service manager does not listen.
    pub fn tell(&self, state: &str) {
        if let Some((socket, to)) = &self.socket {
            let _ = socket.send_to_addr(state.as_bytes(), to);
        }
    }

    /// A sign of life, if it is time. To be called from the loop that must not hang.
    pub fn alive(&mut self) {
        if self.every.is_some_and(|every| self.last.elapsed() >= every) {
            self.last = Instant::now();
            self.tell("WATCHDOG=1");
        }
    }
}

/// A file for node_exporter's textfile collector.
pub struct Metrics {
    path: PathBuf,
    last: Option<Instant>,
}

impl Metrics {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), last: None }
    }

    /// Writes the figures, if it is time. A reader sees the old file or the new one, never a part.
    pub fn write(&mut self, status: impl FnOnce() -> Status) -> Result<(), String> {
        if self.last.is_some_and(|at| at.elapsed() < METRICS) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        let new = self.path.with_extension("new");
        let written = std::fs::File::create(&new).and_then(|mut file| file.write_all(status().prometheus().as_bytes()));
        let done = written.and_then(|()| std::fs::rename(&new, &self.path));
        done.map_err(|e| format!("{}: {e}", self.path.display()))
    }
}
