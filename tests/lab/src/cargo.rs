//! Building what runs in the guests.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::arch::{Arch, Target};
use crate::exec::{ensure, output, run, Need};
use crate::say;
use crate::Res;

/// Features of the library in tests, and in examples alone. Never `v4l`, which needs libclang.
pub const TEST_FEATURES: &str = "framelease/drm,framelease/log,framelease/tokio,framelease/unixfd";
pub const RUN_FEATURES: &str = "framelease/g2d,framelease/drm";

#[derive(Debug, PartialEq)]
pub struct Artifact {
    /// `test`, `example`, and others of cargo's.
    pub kind: String,
    pub name: String,
    pub executable: PathBuf,
}

pub fn cargo(workspace: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace).stdin(Stdio::null());
    // Set by the cargo that runs us, for us; builds inside must not see them change.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command
}

/// Makes sure that Rust programs for `arch` can be built here.
pub fn toolchain(arch: Arch) -> Res<()> {
    match Arch::host() {
        Some(host) if host == arch => Ok(()),
        _ => cross_toolchain(arch.target()),
    }
}

/// The same for a target that is not this machine's own.
pub fn cross_toolchain(target: &Target) -> Res<()> {
    let gcc = format!("{}-gcc", target.gnu);
    let start_file = format!("/usr/{}/lib/crt1.o", target.gnu);
    ensure(&[Need(&gcc, target.gcc_package), Need(&start_file, target.libc_package)])?;
    let target = target.rust;
    if has_std(target) {
        return Ok(());
    }
    say!("adding the Rust target {target}");
    let advice = format!("Rust's target {target} is missing; run: rustup target add {target}");
    run(Command::new("rustup").args(["target", "add", target])).map_err(|e| format!("{advice}\n  {e}"))?;
    if has_std(target) {
        Ok(())
    } else {
        Err(advice)
    }
}

fn has_std(target: &str) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let asked = output(Command::new(rustc).args(["--print", "target-libdir", "--target", target]));
    let folder = asked.unwrap_or_default();
    let entries = std::fs::read_dir(folder.trim()).into_iter().flatten().flatten();
    entries.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Builds with `cargo COMMAND…` for `arch` and returns the executables.
pub fn build(workspace: &Path, arch: Arch, words: &[&str]) -> Res<Vec<Artifact>> {
    let mut command = cargo(workspace);
    command.args(words).arg("--release");
    // For the host itself no target is named: so its artifacts are shared with the host's tests.
    if Arch::host() != Some(arch) {
        aim(&mut command, arch.target());
    }
    command.stderr(Stdio::inherit());
    built(command)
}

/// Names a target and its linker.
fn aim(command: &mut Command, target: &Target) {
    let linker = format!("CARGO_TARGET_{}_LINKER", env_name(target.rust));
    command.args(["--target", target.rust]).env(linker, format!("{}-gcc", target.gnu));
}

/// What a cargo command makes. What it says, unless it says it itself, is shown if it fails.
fn built(mut command: Command) -> Res<Vec<Artifact>> {
    command.arg("--message-format=json-render-diagnostics");
    let result = command.output().map_err(|e| format!("cannot run cargo: {e}"))?;
    if !result.status.success() {
        return Err(format!("failed: {command:?}{}", String::from_utf8_lossy(&result.stderr)));
    }
    Ok(artifacts(&String::from_utf8_lossy(&result.stdout)))
}

/// Examples for a guest whose own target is another one: static, since it has no libraries for them, and named after
/// the target. Not optimized, which is most of what they cost. Cargo, which warns that static programs load no
/// libraries, is heard only if it fails.
pub fn narrow(workspace: &Path, target: &Target) -> Res<Vec<Artifact>> {
    let mut command = cargo(workspace);
    // These would go before what is set here.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.args(["build", "--package", "framelease", "--example", "capture", "--example", "encode"]);
    command.args(["--example", "subscriber"]);
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", env_name(target.rust));
    aim(command.env(flags, "-Ctarget-feature=+crt-static"), target);
    let mut all = built(command)?;
    all.retain(|a| a.kind == "example");
    all.push(framelease_cat(workspace, target)?);
    all.iter_mut().for_each(|a| a.name = format!("{}-{}", a.name, target.gnu));
    Ok(all)
}

/// Builds `framelease-cat` of examples/peers/c, static: a guest needs nothing for it.
pub fn framelease_cat(workspace: &Path, target: &Target) -> Res<Artifact> {
    let name = "framelease-cat";
    let folder = workspace.join("target/lab").join(target.gnu);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let executable = folder.join(name);
    let sources = ["framelease.c", "framelease-cat.c"].map(|f| workspace.join("examples/peers/c").join(f));
    let mut compiler = Command::new(format!("{}-gcc", target.gnu));
    run(compiler.args(["-std=c11", "-O2", "-static", "-o"]).arg(&executable).args(sources))?;
    Ok(Artifact { kind: "example".into(), name: name.into(), executable })
}

fn env_name(target: &str) -> String {
    target.to_ascii_uppercase().replace('-', "_")
}

/// Picks the executables out of cargo's messages: one JSON object a line, in a fixed form.
fn artifacts(messages: &str) -> Vec<Artifact> {
    messages
        .lines()
        .filter(|l| l.contains("\"reason\":\"compiler-artifact\""))
        .filter_map(|l| {
            let (kind, target) = l.split_once("\"target\":{\"kind\":[\"")?.1.split_once('"')?;
            Some(Artifact { kind: kind.into(), name: text(target, "name")?, executable: text(l, "executable")?.into() })
        })
        .collect()
}

/// The first value of `key` that is a string. Paths with quotes or backslashes are unescaped.
fn text(json: &str, key: &str) -> Option<String> {
    let rest = json.split_once(&format!("\"{key}\":\""))?.1;
    let mut value = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(value),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","package_id":"p","manifest_path":"/m","target":{"kind":["lib"],"crate_types":["lib"],"name":"framelease","src_path":"/s"},"executable":null,"fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"p","manifest_path":"/m","target":{"kind":["test"],"crate_types":["bin"],"name":"kernel","src_path":"/s"},"executable":"/t/a \"b\"/kernel-1","fresh":true}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let kernel = Artifact { kind: "test".into(), name: "kernel".into(), executable: "/t/a \"b\"/kernel-1".into() };
        assert_eq!(artifacts(messages), [kernel]);
    }
}
