//! The guest's programs: Debian 13's busybox, C library and v4l-utils, whatever the host runs.
//!
//! Debian 13's C library also runs what was linked on Debian 12, so our tests and examples need
//! no libraries of the host.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::Apt;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::exec::output;
use crate::Res;

const SUITE: &str = "trixie";
const PACKAGES: [&str; 5] = ["busybox-static", "dash", "v4l-utils", "libgcc-s1", "libc6"];
const PROGRAMS: [&str; 5] = ["busybox", "dash", "v4l2-ctl", "v4l2-compliance", "media-ctl"];
/// What Rust programs are linked with.
const LIBRARIES: [&str; 6] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1"];

pub fn prepare(cache: &Cache, arch: Arch) -> Res<PathBuf> {
    let key = PACKAGES.join(" ");
    cache.step(&format!("userland-{arch}"), &key, |dir| {
        Apt::open(cache, SUITE, &[arch.debian()])?.unpack_closure(&PACKAGES, dir)
    })
}

/// QEMU, if the host has none: the same trick for a whole program of the host's architecture.
pub fn qemu(cache: &Cache, guest: Arch) -> Res<PathBuf> {
    let host = Arch::host().ok_or("the lab runs on x86_64 and aarch64 machines only")?;
    cache.step(guest.qemu(), SUITE, |dir| {
        Apt::open(cache, SUITE, &[host.debian()])?.unpack_closure(&[guest.qemu_package()], dir)
    })
}

/// The files of the guest that come from Debian: path in the guest, path here.
pub fn files(root: &Path, arch: Arch) -> Res<BTreeMap<String, PathBuf>> {
    let libraries = format!("usr/lib/{}", arch.gnu());
    let mut files = BTreeMap::new();
    let mut unread: Vec<PathBuf> = Vec::new();
    for program in PROGRAMS {
        let found = ["usr/bin", "bin", "usr/sbin"]
            .map(|folder| root.join(folder).join(program))
            .into_iter()
            .find(|path| path.is_file())
            .ok_or(format!("Debian's packages have no {program} any more"))?;
        files.insert(format!("usr/bin/{program}"), found.clone());
        unread.push(found);
    }
    let mut wanted: Vec<String> = LIBRARIES.map(str::to_string).to_vec();
    // libv4l loads these by name, not by linking.
    let plugins = root.join(&libraries).join("libv4l/plugins");
    for entry in fs::read_dir(&plugins).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(format!("{libraries}/libv4l/plugins/{name}"), entry.path());
        unread.push(entry.path());
    }
    loop {
        while let Some(file) = unread.pop() {
            wanted.extend(needed(&file)?);
        }
        let Some(name) = wanted.pop() else { break };
        let path = root.join(&libraries).join(&name);
        let target = format!("{libraries}/{name}");
        if path.is_file() && files.insert(target, path.clone()).is_none() {
            unread.push(path);
        }
    }
    let loader = Path::new(arch.loader()).file_name().unwrap_or_default();
    files.insert(format!("usr/{}", arch.loader()), root.join(&libraries).join(loader));
    Ok(files)
}

/// The libraries that a program or library is linked with.
fn needed(file: &Path) -> Res<Vec<String>> {
    let text = output(Command::new("readelf").env("LC_ALL", "C").arg("-d").arg(file))?;
    Ok(parse_needed(&text))
}

fn parse_needed(text: &str) -> Vec<String> {
    text.lines()
        .filter(|l| l.contains("(NEEDED)"))
        .filter_map(|l| Some(l.split_once('[')?.1.split_once(']')?.0.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_names_are_in_brackets() {
        let text = " 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n \
                    0x000000000000000e (SONAME)             Library soname: [libv4l2.so.0]\n";
        assert_eq!(parse_needed(text), ["libc.so.6"]);
    }
}
