//! A process that has copies of every descriptor of this one, like a forked child.

use std::os::fd::RawFd;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{fcntl, FcntlArg, FdFlag};

const INSIDE: &str = "FRAMELEASE_CONTRACT_ALONE";

/// Returns `true` in a child process that runs only the test of this name. The first call starts that process and
/// checks its result.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let own = std::env::current_exe().unwrap();
    let out = Command::new(own).args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "{test} in a process of its own: {said}{errors}");
    false
}

/// A child with copies of all descriptors. It ends when this value is dropped.
pub struct ForkedChild(Child);

impl ForkedChild {
    /// Starts the child. The calling test must be the only one in its process.
    pub fn new() -> Self {
        let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let fds = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
        // This includes the descriptor of the folder itself, which is closed after `collect`.
        for fd in fds.filter(|fd| *fd > 2).collect::<Vec<_>>() {
            let _ = fcntl(borrowed(fd), FcntlArg::F_SETFD(FdFlag::empty()));
        }
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for ForkedChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[allow(unsafe_code)]
fn borrowed<'a>(fd: RawFd) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: used for one call. The kernel refuses a number that was closed.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}
