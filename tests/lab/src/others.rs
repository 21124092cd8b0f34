//! Programs of others that a guest's tests talk to: GStreamer's `unixfdsrc`, and Python. A Debian root that the guest mounts
//! and changes its root to.

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
/// With all that they need.
const WHOLE: [&str; 4] = ["gstreamer1.0-tools", "gstreamer1.0-plugins-base", "python3", "libc6"];
/// Without: one plug-in of many.
const ALONE: &str = "gstreamer1.0-plugins-bad";
/// Those that can be loaded and are used. `/plugins` in the root.
const PLUGINS: [&str; 2] = ["coreelements", "unixfd"];

/// By this name the guest mounts it.
pub const TAG: &str = "others";

pub fn root(cache: &Cache, arch: Arch) -> Res<PathBuf> {
    let key = format!("{SUITE} {} {ALONE} {}", WHOLE.join(" "), PLUGINS.join(" "));
    cache.step(&format!("others-{arch}"), &key, |dir| {
        let apt = Apt::open(cache, SUITE, &[arch.debian()])?;
        apt.unpack_closure(&WHOLE, dir)?;
        apt.unpack(&[ALONE.to_string()], dir)?;
        let make = || -> io::Result<()> {
            merge(dir)?;
            fs::create_dir(dir.join("plugins"))?;
            PLUGINS.iter().try_for_each(|name| {
                let file = format!("libgst{name}.so");
                symlink(format!("/usr/lib/{}/gstreamer-1.0/{file}", arch.gnu()), dir.join("plugins").join(file))
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
