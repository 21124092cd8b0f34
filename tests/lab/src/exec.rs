//! Running other programs, with errors that name them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Res;

/// Runs a program whose output only matters when it fails: then its last lines are in the error.
pub fn run(command: &mut Command) -> Res<()> {
    let result = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot run {}: {e}", name(command)))?;
    if result.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&result.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&result.stderr));
    let lines: Vec<&str> = text.trim().lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n  ");
    Err(format!("{} failed ({}):\n  {tail}", name(command), result.status))
}

/// The standard output of a program that must succeed.
pub fn output(command: &mut Command) -> Res<String> {
    let result = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run {}: {e}", name(command)))?;
    if !result.status.success() {
        return Err(format!("{} failed ({})", name(command), result.status));
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}
