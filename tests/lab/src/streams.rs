//! `cargo lab streams`: unusual streams through every sink. The package `streams` does it, because the lab does not
//! depend on the library.

use std::path::Path;
use std::process::Command;

use crate::cargo::cargo;
use crate::prerequisites::{ensure, Need};
use crate::Res;

pub fn streams(workspace: &Path, filters: &[String], lists: bool) -> Res<i32> {
    ensure(&[Need::new("ffmpeg", "ffmpeg")])?;
    let mut command = runner(workspace, "corpus");
    command.args(filters.iter().flat_map(|filter| ["--filter", filter]));
    if lists {
        command.arg("--list");
    }
    let status = command.status().map_err(|e| format!("cannot run cargo: {e}"))?;
    Ok(status.code().unwrap_or(1))
}

/// Builds and runs a command of the package.
pub fn runner(workspace: &Path, name: &str) -> Command {
    let mut command = cargo(workspace);
    command.args(["run", "--quiet", "--release", "--package", "streams", "--", name]);
    command
}
