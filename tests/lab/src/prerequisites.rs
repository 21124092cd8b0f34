//! What this machine must have before a command begins: programs, libraries, Rust targets. All of it is found,
//! installed or named at once, before anything is built, downloaded or run.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::arch::{self, Arch, Target};
use crate::exec::{on_path, output, run};
use crate::say;
use crate::Res;

/// What tests on this machine call, and Debian's package with it. Without one, its tests skip.
const OF_TESTS: [(&str, &str); 23] = [
    ("/usr/include/glib-2.0/glib.h", "libglib2.0-dev"),
    ("abidiff", "abigail-tools"),
    ("chromium", "chromium"),
    ("clang", "clang"),
    ("clang++", "clang"),
    ("cmake", "cmake"),
    ("cvlc", "vlc-bin"),
    (FFMPEG, "ffmpeg"),
    ("ffprobe", "ffmpeg"),
    ("g++", "g++"),
    ("gst-launch-1.0", "gstreamer1.0-tools"),
    ("ip", "iproute2"),
    ("meson", "meson"),
    ("mkvmerge", "mkvtoolnix"),
    ("mpv", "mpv"),
    ("ninja", "ninja-build"),
    ("pkg-config", "pkg-config"),
    ("python3", "python3"),
    ("qemu-arm", "qemu-user"),
    ("strace", "strace"),
    ("tshark", "tshark"),
    ("unshare", "util-linux"),
    ("valgrind", "valgrind"),
];
/// With which streams of the guests are judged.
const FFMPEG: &str = "ffmpeg";
/// Plug-ins that those tests name, in GStreamer's folder.
const PLUGINS: [(&str, &str); 3] = [
    ("libgstvideotestsrc.so", "gstreamer1.0-plugins-base"),
    ("libgstrtsp.so", "gstreamer1.0-plugins-good"),
    ("libgstvideoparsersbad.so", "gstreamer1.0-plugins-bad"),
];
/// What VLC needs to play the tests' files.
const VLC: (&str, &str) = ("vlc/plugins/demux/libmp4_plugin.so", "vlc-plugin-base");
/// Headers of C++, and their package.
const OPENCV: (&str, &str) = ("/usr/include/opencv4/opencv2/core.hpp", "libopencv-core-dev");
/// A module of Python that only `.ci/run opencv` brings, from PyPI.
const CV2: &str = "cv2";

/// A program on PATH or an absolute file, and Debian's package with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    what: String,
    package: String,
}

impl Need {
    pub fn new(what: impl Into<String>, package: impl Into<String>) -> Self {
        Self { what: what.into(), package: package.into() }
    }

    fn is_here(&self) -> bool {
        if self.what.starts_with('/') {
            Path::new(&self.what).exists()
        } else {
            on_path(&self.what).is_some()
        }
    }
}

/// The guests of a command that can be built and started here, and the others with the reason.
pub struct Ready {
    pub archs: Vec<Arch>,
    pub without: Vec<(Arch, String)>,
}

/// For `cargo lab test`: the guests of `archs`, and with `host` the tests on this machine.
pub fn for_tests(host: bool, archs: &[Arch]) -> Ready {
    let mut of_tests = Vec::new();
    if host {
        of_tests.extend(OF_TESTS.map(|(what, package)| Need::new(what, package)));
        let folder = format!("/usr/lib/{}/gstreamer-1.0", host_gnu());
        of_tests.extend(PLUGINS.map(|(file, package)| Need::new(format!("{folder}/{file}"), package)));
        let (file, package) = VLC;
        of_tests.push(Need::new(format!("/usr/lib/{}/{file}", host_gnu()), package));
        of_tests.push(Need::new(OPENCV.0, OPENCV.1));
        // The C client is compiled for both Arms, whether or not Rust has their targets.
        of_tests.extend(arch::CROSS.iter().filter(|t| t.gnu != host_gnu()).flat_map(|t| compiler(t)));
    } else if !archs.is_empty() {
        of_tests.push(Need::new(FFMPEG, FFMPEG));
    }
    get(&of_tests, archs, true);
    let (mut ready, mut without) = (Vec::new(), Vec::new());
    for arch in archs {
        match check_guest(*arch) {
            Ok(()) => ready.push(*arch),
            Err(why) => without.push((*arch, why)),
        }
    }
    Ready { archs: ready, without }
}

/// For a command that needs one guest.
pub fn for_guest(arch: Arch) -> Res<()> {
    get(&[], &[arch], false);
    check_guest(arch)
}

/// For a command that needs no guest.
pub fn ensure(needs: &[Need]) -> Res<()> {
    get(needs, &[], false);
    check(needs)
}

/// Adds Rust targets and installs packages, as far as this user may; names the rest in one line.
fn get(needs: &[Need], archs: &[Arch], with_narrow: bool) {
    let targets: Vec<&Target> = archs.iter().flat_map(|a| targets(*a, with_narrow)).collect();
    let without_std: Vec<&Target> = targets.iter().copied().filter(|t| !has_std(t)).collect();
    let rust = Rust::of_this_machine();
    // All at once; if that fails, one group after the other.
    let mut groups: Vec<Vec<Need>> = vec![archs.iter().flat_map(|a| of_guest(*a)).collect(), needs.to_vec()];
    let can_install = is_root() && on_path("apt-get").is_some();
    // Without the Rust target its C compiler is of no use. A user without root gets one list of all packages instead.
    if can_install {
        rust.add(&without_std);
        groups.push(targets.iter().filter(|t| has_std(t) || rust == Rust::Debian).flat_map(|t| compiler(t)).collect());
    } else {
        groups.push(targets.iter().flat_map(|t| compiler(t)).collect());
    }
    let std_packages: Vec<&str> = match rust {
        Rust::Debian => without_std.iter().map(|t| t.std_package).collect(),
        _ => Vec::new(),
    };
    let mut lists: Vec<Vec<String>> = groups.iter().map(|group| packages(group)).collect();
    lists.push(std_packages.iter().map(|p| p.to_string()).collect());
    let foreign: Vec<&str> = std_packages.iter().filter_map(|p| Some(p.split_once(':')?.1)).collect();
    if lists.iter().all(Vec::is_empty) {
        if !can_install {
            rust.add(&without_std);
        }
        return;
    }
    let all = joined(&lists);
    if !can_install {
        say!("packages are missing here; run as root: {}", advice(&all, &foreign));
        rust.add(&without_std);
        return;
    }
    say!("installing {}", all.join(" "));
    if let Err(why) = install(&all, &foreign) {
        say!("some packages cannot be installed: {why}");
        // One that cannot be had must not cost the others.
        for list in lists.iter().filter(|list| !list.is_empty()) {
            let foreign = if list.iter().any(|p| p.contains(':')) { &foreign[..] } else { &[] };
            if install(list, foreign).is_err() {
                say!("packages are missing here; run as root: {}", advice(list, foreign));
            }
        }
    }
}

/// What a guest needs of this machine, beside its Rust target and the C compiler for that.
fn of_guest(arch: Arch) -> Vec<Need> {
    let mut needs = vec![
        Need::new("dpkg-deb", "dpkg"),
        Need::new("tar", "tar"),
        Need::new("readelf", "binutils"),
        Need::new("xz", "xz-utils"),
        Need::new("make", "make"),
        // objtool, which checks every x86 object, is linked with it.
        Need::new(format!("/usr/lib/{}/libelf.so.1", host_gnu()), "libelf1"),
    ];
    if Arch::host() == Some(arch) {
        needs.push(Need::new(format!("{}-gcc", arch.gnu()), "gcc"));
    }
    needs
}

/// A C compiler that links programs for `target`.
fn compiler(target: &Target) -> [Need; 2] {
    [
        Need::new(format!("{}-gcc", target.gnu), target.gcc_package),
        Need::new(format!("/usr/{}/lib/crt1.o", target.gnu), target.libc_package),
    ]
}

/// The targets that a guest's programs are built for, but this machine's own.
fn targets(arch: Arch, with_narrow: bool) -> Vec<&'static Target> {
    let own = (Arch::host() != Some(arch)).then(|| arch.target());
    own.into_iter().chain(arch.narrow().filter(|_| with_narrow)).collect()
}

fn check_guest(arch: Arch) -> Res<()> {
    check(&of_guest(arch))?;
    targets(arch, false).into_iter().try_for_each(check_target)
}

/// Whether programs for another target than this machine's own can be built here.
pub fn check_target(target: &Target) -> Res<()> {
    if !has_std(target) {
        let how = Rust::of_this_machine().advice(target);
        return Err(format!("Rust's target {} is missing; run: {how}", target.rust));
    }
    check(&compiler(target))
}

fn check(needs: &[Need]) -> Res<()> {
    let missing = packages(needs);
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("packages are missing here; run as root: {}", advice(&missing, &[])))
}

/// The packages of what is missing.
fn packages(needs: &[Need]) -> Vec<String> {
    joined(&[needs.iter().filter(|n| !n.is_here()).map(|n| n.package.clone()).collect()])
}

/// Each once.
fn joined(lists: &[Vec<String>]) -> Vec<String> {
    let mut all: Vec<String> = lists.iter().flatten().cloned().collect();
    all.sort();
    all.dedup();
    all
}

/// The command that installs packages, of other architectures too.
fn advice(packages: &[String], foreign: &[&str]) -> String {
    let mut command = String::new();
    for arch in foreign {
        command.push_str(&format!("dpkg --add-architecture {arch} && "));
    }
    if !foreign.is_empty() {
        command.push_str("apt-get update && ");
    }
    format!("{command}apt-get install --no-install-recommends {}", packages.join(" "))
}

fn install(packages: &[String], foreign: &[&str]) -> Res<()> {
    let update = || run(Command::new("apt-get").args(["update", "-qq"]));
    let install = || {
        run(Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-qq", "--no-install-recommends", "--no-remove"])
            .args(packages))
    };
    for arch in foreign {
        run(Command::new("dpkg").args(["--add-architecture", arch]))?;
    }
    if !foreign.is_empty() {
        update()?;
        return install();
    }
    // A fresh container has no package lists yet, and old lists name versions that are gone.
    install().or_else(|_| update().and_then(|()| install()))
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn host_gnu() -> &'static str {
    Arch::host().unwrap_or(Arch::X86_64).gnu()
}

/// Where this machine's Rust is from, and with that its targets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rust {
    Rustup,
    Debian,
    Other,
}

impl Rust {
    fn of_this_machine() -> Self {
        if output(rustc().args(["--print", "sysroot"])).is_ok_and(|folder| folder.trim() == "/usr") {
            Self::Debian
        } else if on_path("rustup").is_some() {
            Self::Rustup
        } else {
            Self::Other
        }
    }

    /// Adds targets, if rustup does. One that cannot be had must not cost the others.
    fn add(self, targets: &[&Target]) {
        for target in targets.iter().filter(|_| self == Self::Rustup) {
            say!("adding the Rust target {}", target.rust);
            if let Err(why) = run(Command::new("rustup").args(["target", "add", target.rust])) {
                say!("{why}");
            }
        }
    }

    /// The command that adds a target.
    fn advice(self, target: &Target) -> String {
        match self {
            Self::Debian => {
                let package = target.std_package;
                let arch = package.split_once(':').map_or("", |(_, arch)| arch);
                format!("dpkg --add-architecture {arch} && apt-get update && apt-get install {package}")
            }
            Self::Rustup | Self::Other => format!("rustup target add {}", target.rust),
        }
    }
}

fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")))
}

fn has_std(target: &Target) -> bool {
    let folder = output(rustc().args(["--print", "target-libdir", "--target", target.rust])).unwrap_or_default();
    let entries = std::fs::read_dir(folder.trim()).into_iter().flatten().flatten();
    entries.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("libstd-"))
}

/// What would let a skipped test run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remedy {
    /// The missing prerequisites.
    pub what: String,
    /// The command that brings it.
    pub command: String,
    /// Debian or rustup serve it: the lab itself would have installed it, as root.
    pub is_served: bool,
}

/// Finds in the words of a skip what is missing here. `None` if no package would help.
pub fn remedy(skip: &str) -> Option<Remedy> {
    remedy_if(skip, &|need| !need.is_here())
}

fn remedy_if(skip: &str, is_missing: &dyn Fn(&Need) -> bool) -> Option<Remedy> {
    if let Some((_, rest)) = skip.split_once("Rust's target ") {
        let target = rest.split(' ').next().unwrap_or_default();
        let command = rest.split_once("; run: ").map_or("", |(_, command)| command);
        let what = format!("Rust's target {target}");
        return Some(Remedy { what, command: command.into(), is_served: true });
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    let words: Vec<&str> = skip.split(|c: char| !is_word(c)).collect();
    if words.contains(&CV2) {
        let command = "python3 -m pip install opencv-python-headless numpy";
        return Some(Remedy { what: CV2.into(), command: command.into(), is_served: false });
    }
    let mut needs: Vec<(&str, Need)> = OF_TESTS.iter().map(|(what, p)| (*what, Need::new(*what, *p))).collect();
    needs.push((OPENCV.1, Need::new(OPENCV.0, OPENCV.1)));
    let compilers: Vec<[Need; 2]> = arch::CROSS.iter().map(|t| compiler(t)).collect();
    needs.extend(compilers.iter().flatten().map(|need| (need.what.as_str(), need.clone())));
    let missing: Vec<&(&str, Need)> =
        needs.iter().filter(|(word, need)| words.contains(word) && is_missing(need)).collect();
    if missing.is_empty() {
        let of_cache = "the lab's cache";
        return skip.contains(of_cache).then(|| Remedy {
            what: of_cache.into(),
            command: "cargo lab fetch".into(),
            is_served: true,
        });
    }
    let what: Vec<&str> = missing.iter().map(|(word, _)| *word).collect();
    let packages: Vec<String> = missing.iter().map(|(_, need)| need.package.clone()).collect();
    Some(Remedy {
        what: what.join(" and "),
        command: format!("apt-get install {}", joined(&[packages]).join(" ")),
        is_served: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn need_is_a_program_or_a_file() {
        assert!(Need::new("sh", "dash").is_here() && Need::new("/proc/self/maps", "linux").is_here());
        let needs = [Need::new("no-such-program", "b"), Need::new("/no/such/file", "a"), Need::new("no-such-2", "b")];
        assert_eq!(packages(&needs), ["a", "b"]);
        assert!(check(&needs[..1]).is_err_and(|e| e.ends_with("apt-get install --no-install-recommends b")));
        assert_eq!(check(&[Need::new("sh", "dash")]), Ok(()));
    }

    #[test]
    fn command_installs_packages_of_all_architectures() {
        let packages = ["ffmpeg", "libstd-rust-dev:arm64"].map(String::from);
        assert_eq!(
            advice(&packages, &["arm64"]),
            "dpkg --add-architecture arm64 && apt-get update && apt-get install \
             --no-install-recommends ffmpeg libstd-rust-dev:arm64"
        );
    }

    #[test]
    fn skip_names_what_would_end_it() {
        let find = |skip: &str| {
            let all = remedy_if(skip, &|_| true)?;
            Some(format!("{}: {}", all.what, all.command))
        };
        for (skip, expected) in [
            ("ffmpeg: No such file or directory (os error 2)", "ffmpeg: apt-get install ffmpeg"),
            ("a build of the C client: no clang++ here", "clang++: apt-get install clang"),
            ("C-armv7: no qemu-arm here", "qemu-arm: apt-get install qemu-user"),
            ("a network of rtp's own: no namespaces, or no ip, here", "ip: apt-get install iproute2"),
            ("OpenCV in C++: no libopencv-core-dev here", "libopencv-core-dev: apt-get install libopencv-core-dev"),
            (
                "C compilers: aarch64-linux-gnu-gcc, arm-linux-gnueabihf-gcc not on this machine",
                "aarch64-linux-gnu-gcc and arm-linux-gnueabihf-gcc: apt-get install gcc-aarch64-linux-gnu \
                 gcc-arm-linux-gnueabihf",
            ),
            (
                "tests on aarch64: Rust's target a-b-c is missing; run: rustup target add a-b-c",
                "Rust's target a-b-c: rustup target add a-b-c",
            ),
            ("unixfd: neither GStreamer 1.24 nor the lab's cache of it here", "the lab's cache: cargo lab fetch"),
        ] {
            assert_eq!(find(skip).as_deref(), Some(expected));
        }
        assert_eq!(find("udmabuf: no /dev/udmabuf here"), None);
        // Where the program is there, it skips for another reason.
        assert_eq!(remedy_if("tshark: it cannot capture here", &|_| false), None);
        assert!(remedy_if("tensors of OpenCV: no cv2 here", &|_| true).is_some_and(|r| !r.is_served));
    }
}
