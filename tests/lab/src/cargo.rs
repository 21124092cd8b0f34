//! Building what runs in the guests.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::arch::{Arch, Target};
use crate::exec::{on_path, run};
use crate::{say, Res};

/// Features of the library in tests, and in examples alone. Never `v4l`, which needs libclang.
pub const TEST_FEATURES: &str =
    "framelease/drm,framelease/log,framelease/mjpeg,framelease/tls,framelease/tokio,framelease/unixfd,framelease/vulkan";
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
    forget_package(&mut command);
    command
}

/// Removes what the cargo that runs us has set for us: builds inside must not see it change.
pub fn forget_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
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
    let sources = ["fls.c", "framelease-cat.c"].map(|f| workspace.join("examples/peers/c").join(f));
    let mut compiler = Command::new(format!("{}-gcc", target.gnu));
    run(compiler.args(["-std=c11", "-O2", "-static", "-o"]).arg(&executable).args(sources))?;
    Ok(Artifact { kind: "example".into(), name: name.into(), executable })
}

/// Builds examples/gpu_view for this machine's own architecture. Not optimized, which is most of what it costs. The
/// step of CI has the same place for it.
pub fn gpu_view(workspace: &Path) -> Res<Vec<Artifact>> {
    let mut command = cargo(workspace);
    command.args(["build", "--quiet", "--locked", "--manifest-path", "examples/gpu_view/Cargo.toml"]);
    command.args(["--target-dir", "target/gpu_view"]).env("CARGO_PROFILE_DEV_DEBUG", "0");
    built(command).map(|all| all.into_iter().map(|a| Artifact { kind: "example".into(), ..a }).collect())
}

/// Programs in C on the C library, in capi/examples and capi/tests/c.
const OF_C: [&str; 5] =
    ["examples/camnode.c", "examples/consumer.c", "examples/devices.c", "examples/show.c", "tests/c/misuse.c"];

/// Builds the C library for `arch`, and the C programs with it. Where a C++ compiler is, also as C++: `NAME-cpp`.
pub fn c_programs(workspace: &Path, arch: Arch) -> Res<Vec<Artifact>> {
    let (target, folder) = (arch.target(), workspace.join("target/lab").join(arch.target().gnu));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut command = cargo(workspace);
    command.args(["rustc", "--quiet", "--package", "framelease-capi", "--lib", "--release"]);
    command.args(["--crate-type", "staticlib", "--target-dir", "target/c"]);
    aim(&mut command, target);
    run(&mut command)?;
    let library = workspace.join("target/c").join(target.rust).join("release/libframelease_capi.a");
    let mut built = Vec::new();
    for (language, driver, standard) in [("c", "gcc", "gnu11"), ("c++", "g++", "gnu++17")] {
        let compiler = format!("{}-{driver}", target.gnu);
        if on_path(&compiler).is_none() {
            say!("{compiler} is missing: no programs in {language} for {arch}");
            continue;
        }
        for source in OF_C {
            let stem = Path::new(source).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let name = if language == "c" { stem } else { format!("{stem}-cpp") };
            let executable = folder.join(&name);
            let mut command = Command::new(&compiler);
            command
                .args(["-x", language, &format!("-std={standard}"), "-O2", "-I"])
                .arg(workspace.join("capi/include"));
            command
                .arg(workspace.join("capi").join(source))
                .args(["-x", "none"])
                .arg(&library)
                .arg("-o")
                .arg(&executable);
            // A guest has no library for C++.
            command.args(["-static-libgcc", "-lpthread", "-ldl", "-lm", "-Wl,--gc-sections"]);
            if language == "c++" {
                command.arg("-static-libstdc++");
            }
            run(&mut command)?;
            built.push(Artifact { kind: "example".into(), name, executable });
        }
    }
    Ok(built)
}

fn env_name(target: &str) -> String {
    target.to_ascii_uppercase().replace('-', "_")
}

/// Picks the executables out of cargo's messages, of which each line is one.
fn artifacts(messages: &str) -> Vec<Artifact> {
    let artifact = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let target = &message["target"];
        Some(Artifact {
            kind: target["kind"][0].as_str()?.into(),
            name: target["name"].as_str()?.into(),
            executable: message["executable"].as_str()?.into(),
        })
    };
    messages.lines().filter_map(artifact).collect()
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
