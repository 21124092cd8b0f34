//! Builds the contenders, or says why one cannot be had.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Size;
use crate::apt::Apt;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::cargo::cargo;
use crate::exec::run;
use crate::{say, Res};

const SUITE: &str = "trixie";
/// With all that they need.
const LIBRARIES: [&str; 3] = ["libgstreamer1.0-0", "libgstreamer-plugins-base1.0-0", "libc6"];
/// Without: two plug-ins of many, and headers.
const ALONE: [&str; 4] =
    ["gstreamer1.0-plugins-bad", "libgstreamer1.0-dev", "libgstreamer-plugins-base1.0-dev", "libgio-2.0-dev"];
const PLUGINS: [&str; 3] = ["coreelements", "shm", "unixfd"];

/// A way to share frames. Its program's command line is described in `tests/rivals/contender.h`.
#[derive(Clone, Debug)]
pub struct Contender {
    pub name: &'static str,
    pub transport: &'static str,
    program: Vec<PathBuf>,
    env: Vec<(&'static str, PathBuf)>,
}

pub const OURS: &str = "framelease";
pub const FLOOR: &str = "bare C floor";
pub const UNIXFD: &str = "GStreamer unixfdsink";
pub const SHMSINK: &str = "GStreamer shmsink";
pub const ICEORYX2_COPIED: &str = "iceoryx2, camera copied in";
/// Names and transports.
const GSTREAMER: [(&str, &str); 2] = [(UNIXFD, "unixfd"), (SHMSINK, "shm")];
const ICEORYX2: [(&str, &str); 2] = [(ICEORYX2_COPIED, "copy"), ("iceoryx2, drawn in place", "loan")];
/// Who is never there, and why.
const ABSENT: [(&str, &str); 3] = [
    ("EdgeFirst VideoStream", "its crate and its Python package load libvideostream.so, which is in no registry"),
    (
        "PipeWire",
        "it shares a camera's buffers through a daemon and a session manager, which this command does not set up",
    ),
    (
        "crate v4l, MmapStream",
        "it lends the camera's mapping within one process; what hands a frame on from there is the copy that \
         `cargo lab bench` measures",
    ),
];

impl Contender {
    pub fn is_floor(&self) -> bool {
        self.name == FLOOR
    }

    /// `transport`: this contender's, or "none" for its source alone.
    pub fn command(
        &self,
        role: &str,
        transport: &str,
        socket: &Path,
        size: Size,
        consumers: u32,
        reads: bool,
    ) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).args([role, transport]).arg(socket);
        command.arg(format!("{}x{}", size.width, size.height)).arg(size.fps.to_string()).arg(consumers.to_string());
        command.arg(if reads { "read" } else { "idle" }).envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }
}

pub struct Contenders {
    pub there: Vec<Contender>,
    /// Name and why it is absent.
    pub absent: Vec<(&'static str, String)>,
    /// It measures the machine, too.
    pub floor: Contender,
}

/// Those whose name contains one of `wanted`; all if it is empty.
pub fn build(workspace: &Path, wanted: &[String]) -> Res<Contenders> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    let (source, target) = (workspace.join("tests/rivals"), workspace.join("target/rivals"));
    fs::create_dir_all(&target).map_err(|e| format!("{}: {e}", target.display()))?;
    let contender = |name, transport, program: &Path| Contender {
        name,
        transport,
        program: vec![program.to_owned()],
        env: Vec::new(),
    };
    say!("building the contenders");
    let floor = target.join("floor");
    run(&mut cc(&source.join("floor.c"), &floor))?;
    if is_wanted(OURS) {
        rust(&source, &target, "share", &[])?;
    }
    let floor = contender(FLOOR, "floor", &floor);
    let mut there = vec![contender(OURS, "share", &target.join("release/share")), floor.clone()];
    let mut absent = Vec::new();
    if GSTREAMER.iter().any(|(name, _)| is_wanted(name)) {
        match gstreamer(&source, &target) {
            Ok(it) => there.extend(GSTREAMER.map(|(name, transport)| Contender { name, transport, ..it.clone() })),
            Err(e) => absent.push(("GStreamer unixfdsink, shmsink", e)),
        }
    }
    if ICEORYX2.iter().any(|(name, _)| is_wanted(name)) {
        let program = target.join("release/iceoryx2");
        match rust(&source, &target, "iceoryx2", &["--features", "iceoryx2"]) {
            Ok(()) => there.extend(ICEORYX2.map(|(name, transport)| contender(name, transport, &program))),
            Err(e) => absent.push(("iceoryx2", e)),
        }
    }
    absent.extend(ABSENT.map(|(name, why)| (name, why.to_string())));
    for (name, why) in &absent {
        say!("NOT MEASURED: {name}: {why}");
    }
    there.retain(|c| is_wanted(c.name));
    Ok(Contenders { there, absent, floor })
}

fn cc(source: &Path, program: &Path) -> Command {
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror"]).arg(source).arg("-o").arg(program);
    command
}

fn rust(source: &Path, target: &Path, program: &str, features: &[&str]) -> Res<()> {
    let mut command = cargo(source);
    command.args(["build", "--quiet", "--release", "--locked", "--bin", program]).args(features);
    run(command.arg("--target-dir").arg(target))
}

/// Debian 13's GStreamer: the first with unixfd is 1.24. It runs by its own C library, whatever this machine has.
fn gstreamer(source: &Path, target: &Path) -> Res<Contender> {
    let arch = Arch::host().ok_or("this machine is neither x86_64 nor aarch64")?;
    let libraries = PathBuf::from("usr/lib").join(arch.gnu());
    let key = format!("{SUITE} {} {} {}", LIBRARIES.join(" "), ALONE.join(" "), PLUGINS.join(" "));
    let cache = Cache::open()?;
    let root = cache.step("gstreamer-rivals", &key, |dir| {
        let apt = Apt::open(&cache, SUITE, &[arch.debian()])?;
        apt.unpack_closure(&LIBRARIES, dir)?;
        apt.unpack(&ALONE.map(str::to_string), dir)?;
        // A folder of the three plug-ins alone: the others lack their libraries.
        let plugins = dir.join("plugins");
        fs::create_dir_all(&plugins).map_err(|e| e.to_string())?;
        for name in PLUGINS {
            let file = format!("libgst{name}.so");
            let from = Path::new("..").join(&libraries).join("gstreamer-1.0").join(&file);
            symlink(from, plugins.join(file)).map_err(|e| e.to_string())?;
        }
        Ok(())
    })?;
    let (libraries, program) = (root.join(libraries), target.join("gst"));
    let mut command = cc(&source.join("gst.c"), &program);
    for folder in ["usr/include/gstreamer-1.0", "usr/include/glib-2.0"] {
        command.arg("-isystem").arg(root.join(folder));
    }
    command.arg("-isystem").arg(libraries.join("glib-2.0/include")).arg("-L").arg(&libraries);
    command.args(["-lgstallocators-1.0", "-lgstreamer-1.0", "-lgobject-2.0", "-lglib-2.0"]);
    // They are linked with a newer C library than this machine's may be.
    command.args(["-Wl,--unresolved-symbols=ignore-in-shared-libs"]);
    run(&mut command)?;
    let loader = libraries.join(Path::new(arch.loader()).file_name().unwrap_or_default());
    Ok(Contender {
        name: "",
        transport: "",
        program: vec![loader, "--library-path".into(), libraries, program],
        env: vec![
            ("GST_PLUGIN_SYSTEM_PATH_1_0", root.join("plugins")),
            ("GST_REGISTRY_1_0", target.join("gst-registry.bin")),
            ("GST_REGISTRY_FORK", "no".into()),
        ],
    })
}
