//! A Debian root with programs that tests talk to: GStreamer with `unixfdsrc` and `unixfdsink`, and Python. The x86_64
//! guest mounts it and changes its root to it. On this machine the root's own dynamic loader starts its programs.
//! Another root has Mesa's Vulkan drivers.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::apt::{merge, Apt};
use crate::arch::Arch;
use crate::cache::Cache;
use crate::Res;

/// The first Debian whose GStreamer has unixfd.
pub const SUITE: &str = "trixie";
/// What a root has.
pub struct Parts {
    /// Of its folder in the cache.
    pub name: &'static str,
    /// Packages with all that they need.
    pub whole: &'static [&'static str],
    /// Packages without what they need: few of their plug-ins are used.
    pub alone: &'static [&'static str],
    /// Those. `/plugins` in the root: others lack their libraries.
    pub plugins: &'static [&'static str],
}

/// Some of the whole packages are what the plug-ins need.
const OF_TESTS: Parts = Parts {
    name: "others",
    whole: &[
        "gstreamer1.0-tools",
        "gstreamer1.0-plugins-base",
        "python3",
        "libc6",
        "libgudev-1.0-0",
        "libjpeg62-turbo",
        "libv4l-0t64",
    ],
    alone: &["gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-good"],
    plugins: &["coreelements", "jpeg", "unixfd", "video4linux2", "videoconvertscale", "videotestsrc"],
};

/// Mesa's Vulkan drivers, of which the guest uses lavapipe.
const VULKAN: Parts = Parts {
    name: "vulkan",
    whole: &["libvulkan1", "mesa-vulkan-drivers", "vulkan-validationlayers"],
    alone: &[],
    plugins: &[],
};

/// By these names the guest mounts them.
pub const TAG: &str = "others";
pub const VULKAN_TAG: &str = "vulkan";

pub fn vulkan(cache: &Cache, arch: Arch) -> Res<PathBuf> {
    unpack(cache, arch, &VULKAN)
}

pub fn root(cache: &Cache, arch: Arch) -> Res<PathBuf> {
    unpack(cache, arch, &OF_TESTS)
}

pub fn unpack(cache: &Cache, arch: Arch, parts: &Parts) -> Res<PathBuf> {
    let Parts { name, whole, alone, plugins } = parts;
    let key = format!("{SUITE} {} {} {}", whole.join(" "), alone.join(" "), plugins.join(" "));
    cache.step(&format!("{name}-{arch}"), &key, |dir| {
        let apt = Apt::open(cache, SUITE, &[arch.debian()])?;
        apt.unpack_closure(whole, dir)?;
        if !alone.is_empty() {
            apt.unpack(&alone.iter().map(|name| name.to_string()).collect::<Vec<_>>(), dir)?;
        }
        let make = || -> io::Result<()> {
            merge(dir)?;
            fs::create_dir(dir.join("plugins"))?;
            plugins.iter().try_for_each(|name| {
                let file = format!("libgst{name}.so");
                symlink(format!("../usr/lib/{}/gstreamer-1.0/{file}", arch.gnu()), dir.join("plugins").join(file))
            })
        };
        make().map_err(|e| format!("{}: {e}", dir.display()))
    })
}
