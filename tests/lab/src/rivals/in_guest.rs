//! One run of a script that measures programs of ours and of others, in a guest whose clock counts instructions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::arch::Arch;
use crate::cargo::Artifact;
use crate::guest::{self, End, Limits, Lines};
use crate::initramfs::Job;
use crate::prepare::{prepare, Machine};
use crate::qemu::Pace;
use crate::run::{environment, EXAMPLES};
use crate::Res;

pub const ARCH: Arch = Arch::X86_64;
/// What the script's first lines mount.
const TAG: &str = "rival";

pub struct Script {
    /// In `tests/lab/guest`.
    pub name: &'static str,
    pub arguments: Vec<String>,
    /// `modprobe` lines.
    pub modules: Vec<String>,
    /// Examples of the library.
    pub examples: Vec<Artifact>,
    /// Other programs: name in `/lab`, path here.
    pub programs: Vec<(&'static str, PathBuf)>,
    pub limit: Duration,
}

/// A guest that has the programs of others in `root`.
pub fn machine(workspace: &Path, root: PathBuf) -> Res<Machine> {
    let mut machine = prepare(ARCH, workspace)?;
    machine.pace = Pace::Instructions;
    machine.shared.push((TAG.into(), root));
    Ok(machine)
}

pub struct Ran {
    pub end: End,
    /// What the script printed.
    pub text: String,
    /// The last lines of the console.
    pub tail: String,
}

pub fn run(workspace: &Path, machine: &Machine, script: Script) -> Res<Ran> {
    let guest = workspace.join("tests/lab/guest");
    let mut command = vec![format!("/lab/{}", script.name)];
    command.extend(script.arguments);
    let mut programs: Vec<(String, PathBuf)> =
        script.examples.into_iter().map(|e| (format!("{}/{}", &EXAMPLES[1..], e.name), e.executable)).collect();
    programs.extend(["rival_root", script.name].map(|name| (format!("lab/{name}"), guest.join(name))));
    programs.extend(script.programs.into_iter().map(|(name, path)| (format!("lab/{name}"), path)));
    let job = Job { modules: script.modules, env: environment(ARCH), command, programs };
    let mut lines = Lines::default();
    let limits = Limits { time: Some(script.limit), pass_interrupt: true };
    let outcome = guest::run(machine, &job, &limits, &mut lines)?;
    let text = String::from_utf8_lossy(&lines.0).into_owned();
    Ok(Ran { end: outcome.end, text, tail: outcome.console.tail(40) })
}
