//! `cargo lab packages`: the C library by both ways of installing it, and the Debian packages in a clean Debian 13.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{chroot, Apt};
use crate::arch::Arch;
use crate::cache::{remove_dir, Cache};
use crate::cargo::forget_package;
use crate::exec::{output, run};
use crate::gstreamer_rootfs::SUITE;
use crate::prerequisites::{ensure, is_root, Need};
use crate::{say, Res};

/// Roots in which a script of packaging/tests runs, and what they have before the packages. systemd judges the unit.
const ROOTS: [(&str, &[&str]); 2] =
    [("lintian", &["lintian"]), ("installed", &["g++", "libc6-dev", "pkgconf", "systemd"])];

pub fn packages(workspace: &Path) -> Res<i32> {
    if !is_root() {
        return Err("packages are installed in a chroot, which needs root".into());
    }
    let arch = Arch::host().ok_or("packages are tested on x86_64 and aarch64")?;
    let needs = [("dpkg-shlibdeps", "dpkg-dev"), ("nm", "binutils"), ("pkg-config", "pkgconf"), ("strip", "binutils")];
    ensure(&needs.map(|(program, package)| Need::new(program, package)))?;
    let place = workspace.join("target/lab/packages");
    compare_libraries(workspace, arch, &place)?;
    let built = workspace.join("target/debian");
    shown(script(workspace, "debian.sh").arg("--output").arg(&built))?;
    for (name, packages) in ROOTS {
        let clean = clean_root(arch, name, packages)?;
        let root = place.join(name);
        remove_dir(&root)?;
        run(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(&clean).arg(&root))?;
        run(Command::new("cp").arg("--recursive").arg(workspace.join("packaging/tests")).arg(root.join("tests")))?;
        run(Command::new("sh")
            .args(["-c", "mkdir \"$1/packages\" && cp \"$0\"/*.deb \"$1/packages\""])
            .args([&built, &root]))?;
        say!("{name}.sh in a clean {SUITE}");
        shown(chroot(&root).args(["sh", "-eu"]).arg(format!("/tests/{name}.sh")))?;
        remove_dir(&root)?;
    }
    println!("the packages in {} are good", built.display());
    Ok(0)
}

/// Installs the C library by cargo-c and by cargo alone. Files, symbols and what pkg-config says are the same.
fn compare_libraries(workspace: &Path, arch: Arch, place: &Path) -> Res<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path =
        env::join_paths([cargo_c(arch)?].into_iter().chain(env::split_paths(&path))).map_err(|e| e.to_string())?;
    let libdir = format!("usr/lib/{}", arch.gnu());
    let installed = |name: &str, by_cargo_c: &str| {
        let to = place.join(name);
        remove_dir(&to)?;
        let mut install = script(workspace, "install.sh");
        install.arg("library").env("PATH", &path).env("CARGO_C", by_cargo_c);
        install.env("DESTDIR", &to).env("PREFIX", "/usr").env("LIBDIR", format!("/{libdir}"));
        shown(&mut install)?;
        facts(&to, &to.join(&libdir))
    };
    let (with, without) = (installed("cargo-c", "yes")?, installed("cargo", "no")?);
    if with != without {
        return Err(format!("cargo-c and cargo install different libraries:\n{with:#?}\n{without:#?}"));
    }
    say!("cargo-c and cargo install the same library: {} symbols", with[1].len());
    Ok(())
}

/// Files and links, symbols, the soname, and what pkg-config prints.
fn facts(root: &Path, libdir: &Path) -> Res<Vec<Vec<String>>> {
    let so = libdir.join("libframelease.so");
    let files = output(Command::new("find").current_dir(root).args(["!", "-type", "d", "-printf", "%P %l\n"]))?;
    let symbols = output(Command::new("nm").args(["--dynamic", "--defined-only", "--format=just-symbols"]).arg(&so))?;
    let dynamic = output(Command::new("readelf").arg("--dynamic").arg(&so))?;
    let mut facts = vec![files, symbols, dynamic.lines().filter(|line| line.contains("SONAME")).collect()];
    for words in ["--cflags --libs", "--libs --static", "--modversion"] {
        let mut ask = Command::new("pkg-config");
        ask.args(words.split(' ')).arg("framelease").env("PKG_CONFIG_PATH", libdir.join("pkgconfig"));
        facts.push(output(&mut ask)?.replace(' ', "\n"));
    }
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    Ok(facts.into_iter().map(sorted).collect())
}

/// Debian 13's cargo-c, started by the dynamic loader of its own root: a folder for PATH.
fn cargo_c(arch: Arch) -> Res<PathBuf> {
    let cache = Cache::open()?;
    let root = cache.step(&format!("cargo-c-{arch}"), SUITE, |dir| {
        Apt::open(&cache, SUITE, &[arch.debian()])?.unpack_closure(&["cargo-c"], dir)?;
        let text = format!(
            "#!/bin/sh\nroot=$(dirname \"$0\")/..\nexec \"$root\"/usr/lib/{0}/ld-linux-*.so.* \
             --library-path \"$root/usr/lib/{0}\" \"$root/usr/bin/cargo-cinstall\" \"$@\"\n",
            arch.gnu()
        );
        let program = dir.join("path/cargo-cinstall");
        let write = || {
            fs::create_dir(dir.join("path"))?;
            fs::write(&program, text)?;
            fs::set_permissions(&program, Permissions::from_mode(0o755))
        };
        write().map_err(|e| format!("{}: {e}", program.display()))
    })?;
    Ok(root.join("path"))
}

fn clean_root(arch: Arch, name: &str, packages: &[&str]) -> Res<PathBuf> {
    let cache = Cache::open()?;
    cache.step(&format!("{name}-root-{arch}"), &format!("{SUITE} {}", packages.join(" ")), |dir| {
        Apt::open(&cache, SUITE, &[arch.debian()])?.bootstrap(packages, dir)
    })
}

/// A script of the folder `packaging`.
fn script(workspace: &Path, name: &str) -> Command {
    let mut command = Command::new(workspace.join("packaging").join(name));
    forget_package(&mut command);
    command
}

/// Runs a program whose output is for the user.
fn shown(command: &mut Command) -> Res<()> {
    let status = command.status().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {status}"))
}
