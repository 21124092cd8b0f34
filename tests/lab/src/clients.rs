//! `cargo lab clients`: RTSP clients of others on the library's server. The package `streams` starts the server and the
//! clients; this finds the clients, or fetches them into the cache without installing them.

use std::env;
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::apt::{merge, Apt};
use crate::arch::Arch;
use crate::cache::{remove_dir, Cache};
use crate::cargo::cargo;
use crate::exec::{on_path, output, run};
use crate::prerequisites::{ensure, Need};
use crate::rivals::insert;
use crate::streams::runner;
use crate::{say, Res};

/// What the user asked for.
#[derive(Debug, Default, PartialEq)]
pub struct Clients {
    /// Parts of names; empty: all.
    pub names: Vec<String>,
    /// A folder with a build of live555.
    pub live555: Option<PathBuf>,
    /// Seconds.
    pub storm: Option<u32>,
    pub update_docs: bool,
}

const SUITE: &str = "trixie";
/// Debian's packages of these programs have their names.
const OF_DEBIAN: [&str; 2] = ["mpv", "motion"];
/// Folders with libraries, under those of an architecture, that programs find by their configuration.
const MORE_LIBRARIES: [&str; 3] = ["pulseaudio", "blas", "lapack"];
const OF_PYTHON: [&str; 2] = ["av", "opencv-python-headless"];
const LIVE555: [&str; 2] = ["testProgs/openRTSP", "proxyServer/live555ProxyServer"];
const PAGE: &str = "docs/testing.md";

pub fn clients(workspace: &Path, wish: &Clients) -> Res<i32> {
    ensure(&[Need::new("ffmpeg", "ffmpeg")])?;
    let place = workspace.join("target/lab/clients");
    remove_dir(&place)?;
    fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    let is_wanted = |name: &str| wish.names.is_empty() || wish.names.iter().any(|part| name.contains(part.as_str()));
    let is_absent = |program: &&str| on_path(program).is_none();
    let absent: Vec<&str> = OF_DEBIAN.into_iter().filter(is_absent).collect();
    if absent.iter().any(|name| is_wanted(name)) {
        or_say(&absent.join(" and "), of_debian(&absent, &place));
    }
    if is_wanted("PyAV") || is_wanted("OpenCV") {
        or_say("PyAV and OpenCV", of_python(&place));
    }
    if is_wanted("retina") {
        or_say("retina", retina(workspace, &place));
    }
    if let Some(folder) = &wish.live555 {
        live555(folder, &place)?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(place.clone()).chain(env::split_paths(&path));
    let mut command = runner(workspace, "clients");
    command.env("PATH", env::join_paths(folders).map_err(|e| e.to_string())?);
    command.args(wish.names.iter().flat_map(|name| ["--filter", name]));
    if let Some(seconds) = wish.storm {
        command.args(["--storm", &seconds.to_string()]);
    }
    if !wish.update_docs {
        let status = command.status().map_err(|e| format!("cannot run cargo: {e}"))?;
        return Ok(status.code().unwrap_or(1));
    }
    let out = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cannot run cargo: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    print!("{text}");
    let table: String = text.lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
    let page = workspace.join(PAGE);
    let now = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
    let dated = format!("Run of {}:\n\n{table}", output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?.trim());
    fs::write(&page, insert(&now, "cargo lab clients", &dated)?).map_err(|e| format!("{}: {e}", page.display()))?;
    Ok(out.status.code().unwrap_or(1))
}

/// Without it, its client is skipped.
fn or_say(what: &str, done: Res<()>) {
    if let Err(why) = done {
        say!("{what}: {why}");
    }
}

/// A program that `line` starts.
fn script(path: &Path, line: &str) -> Res<()> {
    fs::write(path, format!("#!/bin/sh\nexec {line} \"$@\"\n"))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Debian 13's programs with all that they need, by their own dynamic loader.
fn of_debian(programs: &[&str], place: &Path) -> Res<()> {
    let arch = Arch::host().ok_or("this machine is neither x86_64 nor aarch64")?;
    let cache = Cache::open()?;
    // All of them, so that what one machine installs does not change the result.
    let packages = [&OF_DEBIAN[..], &["libc6"]].concat();
    let root = cache.step(&format!("clients-{arch}"), &format!("{SUITE} {}", packages.join(" ")), |dir| {
        Apt::open(&cache, SUITE, &[arch.debian()])?.unpack_closure(&packages, dir)?;
        merge(dir).map_err(|e| format!("{}: {e}", dir.display()))
    })?;
    let libraries = root.join("usr/lib").join(arch.gnu());
    let folders = MORE_LIBRARIES.map(|folder| format!(":{}", libraries.join(folder).display())).concat();
    let loader = libraries.join(Path::new(arch.loader()).file_name().unwrap_or_default());
    let start = format!("'{}' --library-path '{}{folders}'", loader.display(), libraries.display());
    let bin = root.join("usr/bin");
    programs.iter().try_for_each(|name| script(&place.join(name), &format!("{start} '{}'", bin.join(name).display())))
}

/// This machine's Python with packages of PyPI.
fn of_python(place: &Path) -> Res<()> {
    let version = output(Command::new("python3").arg("--version"))?;
    let cache = Cache::open()?;
    let packages = cache.step("client-python", &format!("{version} {}", OF_PYTHON.join(" ")), |dir| {
        say!("fetching {}", OF_PYTHON.join(", "));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--target"]).arg(dir);
        run(pip.args(OF_PYTHON))
    })?;
    script(&place.join("lab-python"), &format!("env PYTHONPATH='{}' python3", packages.display()))
}

fn retina(workspace: &Path, place: &Path) -> Res<()> {
    let folder = workspace.join("tests/retina");
    let mut command = cargo(&folder);
    command.args(["build", "--quiet", "--release", "--locked", "--example", "client"]);
    run(&mut command)?;
    link(&folder.join("target/release/examples/client"), &place.join("lab-retina"))
}

fn live555(folder: &Path, place: &Path) -> Res<()> {
    for program in LIVE555.map(|program| folder.join(program)) {
        if !program.is_file() {
            return Err(format!("--live555: no {}: build live555 there", program.display()));
        }
        let path = fs::canonicalize(&program).map_err(|e| format!("{}: {e}", program.display()))?;
        link(&path, &place.join(program.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn link(to: &Path, from: &Path) -> Res<()> {
    symlink(to, from).map_err(|e| format!("{}: {e}", from.display()))
}
