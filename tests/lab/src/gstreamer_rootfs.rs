//! A Debian root with programs that tests talk to: GStreamer with `unixfdsrc` and `unixfdsink`, and Python. The x86_64
//! guest mounts it and changes its root to it. On this machine the root's own dynamic loader starts its programs.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::apt::Apt;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::Res;

/// The first Debian whose GStreamer has unixfd.
pub const SUITE: &str = "trixie";
/// With all that they need; some of them is what the plug-ins of `ALONE` do.
const WHOLE: [&str; 7] = [
    "gstreamer1.0-tools",
    "gstreamer1.0-plugins-base",
    "python3",
    "libc6",
    "libgudev-1.0-0",
    "libjpeg62-turbo",
    "libv4l-0t64",
];
/// Without what they need: few of their plug-ins are used.
const ALONE: [&str; 2] = ["gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-good"];
/// Those. `/plugins` in the root: others lack their libraries.
const PLUGINS: [&str; 6] = ["coreelements", "jpeg", "unixfd", "video4linux2", "videoconvertscale", "videotestsrc"];

/// By this name the guest mounts it.
pub const TAG: &str = "others";

pub fn root(cache: &Cache, arch: Arch) -> Res<PathBuf> {
    let key = format!("{SUITE} {} {} {}", WHOLE.join(" "), ALONE.join(" "), PLUGINS.join(" "));
    cache.step(&format!("others-{arch}"), &key, |dir| {
        let apt = Apt::open(cache, SUITE, &[arch.debian()])?;
        apt.unpack_closure(&WHOLE, dir)?;
        apt.unpack(&ALONE.map(str::to_string), dir)?;
        let make = || -> io::Result<()> {
            merge(dir)?;
            fs::create_dir(dir.join("plugins"))?;
            PLUGINS.iter().try_for_each(|name| {
                let file = format!("libgst{name}.so");
                symlink(format!("../usr/lib/{}/gstreamer-1.0/{file}", arch.gnu()), dir.join("plugins").join(file))
            })
        };
        make().map_err(|e| format!("{}: {e}", dir.display()))
    })
}

/// What packages of Debian's own would make of an unpacked root: places to mount, and links from `/lib` and others.
pub fn merge(dir: &Path) -> io::Result<()> {
    for folder in ["dev", "lab", "proc", "sys", "tmp"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        if !dir.join(name).exists() {
            symlink(format!("usr/{name}"), dir.join(name))?;
        }
    }
    Ok(())
}
