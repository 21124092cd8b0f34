//! Running other programs, with errors that name them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::say;
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

/// Something of the host that the lab needs: a program on PATH or an absolute file, and the Debian
/// package that has it.
pub struct Need<'a>(pub &'a str, pub &'a str);

impl Need<'_> {
    fn present(&self) -> bool {
        if self.0.starts_with('/') {
            Path::new(self.0).exists()
        } else {
            on_path(self.0).is_some()
        }
    }
}

/// Installs what is missing, as root on Debian; otherwise says which command would.
pub fn ensure(needs: &[Need]) -> Res<()> {
    let mut packages: Vec<&str> = needs.iter().filter(|n| !n.present()).map(|n| n.1).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let advice = format!("run: sudo apt-get install {list}");
    // SAFETY: geteuid has no preconditions.
    #[allow(unsafe_code)]
    let root = unsafe { libc::geteuid() } == 0;
    if !root || on_path("apt-get").is_none() {
        return Err(format!("missing here: {list}; {advice}"));
    }
    say!("installing {list}");
    let install = || {
        run(Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-qq", "--no-install-recommends", "--no-remove"])
            .args(&packages))
    };
    // A fresh container has no package lists yet: fetch them and try again before giving up.
    install()
        .or_else(|_| {
            run(Command::new("apt-get").args(["update", "-qq"]))?;
            install()
        })
        .map_err(|e| format!("could not install {list}; {advice}\n  {e}"))?;
    match needs.iter().find(|n| !n.present()) {
        None => Ok(()),
        Some(n) => Err(format!("{} is still missing after installing {}", n.0, n.1)),
    }
}
