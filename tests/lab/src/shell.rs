//! `cargo lab shell`: an interactive shell in a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::arch::Arch;
use crate::exec::output;
use crate::guest::TempDir;
use crate::initramfs::{self, Job};
use crate::prepare::prepare;
use crate::run::{environment, EXAMPLES};
use crate::{modules, prerequisites, signals, Res};

pub fn shell(workspace: &Path, arch: Arch, wishes: &[String]) -> Res<i32> {
    prerequisites::for_guest(arch)?;
    let machine = prepare(arch, workspace)?;
    let temp = TempDir::new(arch)?;
    let initrd = temp.path().join("initrd");
    let mut env = environment(arch);
    env.push(("TERM".into(), std::env::var("TERM").unwrap_or_else(|_| "vt100".into())));
    if let Some((rows, columns)) = terminal_size() {
        env.push(("LAB_ROWS".into(), rows));
        env.push(("LAB_COLUMNS".into(), columns));
    }
    let job = Job {
        modules: modules::load_lines(&machine.own_modules, wishes),
        env,
        command: Vec::new(),
        programs: built_examples(workspace, arch),
    };
    initramfs::for_job(&machine.base, &job, &initrd)?;
    let mut command = machine.command(&initrd, "quiet");
    command.args(["-chardev", "stdio,id=console,mux=on,signal=off"]);
    command.args(["-serial", "chardev:console", "-mon", "chardev=console"]);
    command.stdin(Stdio::inherit());
    signals::die_with_parent(&mut command);
    signals::catch(); // the terminal's Ctrl-C is the guest shell's
    let status = command.status().map_err(|e| format!("cannot start {}: {e}", arch.qemu()))?;
    Ok(status.code().unwrap_or(1))
}

/// The examples that happen to be built already: a shell should not have to wait for cargo.
fn built_examples(workspace: &Path, arch: Arch) -> Vec<(String, PathBuf)> {
    let target = workspace.join("target");
    let folder = if Arch::host() == Some(arch) {
        target.join("release/examples")
    } else {
        target.join(arch.target().rust).join("release/examples")
    };
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.path().is_file())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
        // cargo keeps each also under a name with a hash, and lists of dependencies beside it
        .filter(|(name, _)| !name.contains(['-', '.']))
        .map(|(name, path)| (format!("{}/{name}", &EXAMPLES[1..]), path))
        .collect()
}

fn terminal_size() -> Option<(String, String)> {
    let mut stty = std::process::Command::new("stty");
    let text = output(stty.args(["-F", "/dev/tty", "size"])).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    (rows != "0").then(|| (rows.to_string(), columns.to_string()))
}
