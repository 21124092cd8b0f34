//! The guest's file system: one archive that never changes, one per job.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::arch::Arch;
use crate::cache::{hash, Cache};
use crate::cpio::Cpio;
use crate::kernel::Kernel;
use crate::say;
use crate::{userland, Res};

/// Modules of Debian's kernel in the guest, beside what these and our own depend on. The last
/// three make a UVC camera out of nothing.
const DEBIAN_MODULES: [&str; 7] = [
    "9p",
    "9pnet_virtio",
    "vivid",
    "vgem",
    "uvcvideo",
    "usb_f_uvc",
    "dummy_hcd",
];

const INIT: &str = include_str!("../guest/init");

/// What a single start of a guest brings along.
#[derive(Default)]
pub struct Job {
    /// `modprobe` lines.
    pub modules: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Program and arguments; empty for an interactive shell.
    pub command: Vec<String>,
    /// Executables: path in the guest without the leading slash, path here.
    pub programs: Vec<(String, PathBuf)>,
}

/// The archive with Debian's programs and all modules.
pub fn base(cache: &Cache, arch: Arch, kernel: &Kernel, root: &Path) -> Res<PathBuf> {
    let key = format!(
        "{} {} {} {}",
        root.display(),
        kernel.built_modules.display(),
        DEBIAN_MODULES.join(" "),
        hash(include_bytes!("initramfs.rs")),
    );
    let dir = cache.step(&format!("initramfs-{arch}"), &key, |dir| {
        say!("packing the guest's file system ({arch})");
        let path = dir.join("base.cpio");
        pack_base(&path, arch, kernel, root)
    })?;
    Ok(dir.join("base.cpio"))
}

fn pack_base(path: &Path, arch: Arch, kernel: &Kernel, root: &Path) -> Res<()> {
    let mut files = Vec::new();
    for (name, from) in userland::files(root, arch)? {
        let data = fs::read(&from).map_err(|e| format!("{}: {e}", from.display()))?;
        files.push((name, data));
    }
    let modules = format!("usr/lib/modules/{}", kernel.release);
    for (name, data) in collect_modules(kernel)? {
        files.push((format!("{modules}/{name}.ko"), data));
    }
    // depmod wants to see these, and does without their contents.
    for name in ["modules.order", "modules.builtin"] {
        files.push((format!("{modules}/{name}"), Vec::new()));
    }
    let pack = || -> io::Result<()> {
        let mut cpio = Cpio::new(BufWriter::new(File::create(path)?));
        let mut made = BTreeSet::new();
        for folder in [
            "dev", "proc", "sys", "run", "tmp", "root", "etc", "out", "lab", "var",
        ] {
            make_dirs(&mut cpio, &mut made, &format!("{folder}/x"))?;
        }
        cpio.char_device("dev/console", 5, 1)?;
        cpio.char_device("dev/null", 1, 3)?;
        make_dirs(&mut cpio, &mut made, "usr/bin/x")?;
        make_dirs(&mut cpio, &mut made, "usr/lib/x")?;
        make_dirs(&mut cpio, &mut made, "usr/lib64/x")?;
        cpio.symlink("usr/sbin", "bin")?;
        for folder in ["bin", "sbin", "lib", "lib64"] {
            cpio.symlink(folder, &format!("usr/{folder}"))?;
        }
        for (name, data) in &files {
            make_dirs(&mut cpio, &mut made, name)?;
            cpio.file(name, !name.ends_with(".ko"), data)?;
        }
        cpio.finish().map(drop)
    };
    pack().map_err(|e| format!("{}: {e}", path.display()))
}

/// Adds the folders above `file` that are not there yet.
fn make_dirs<W: Write>(
    cpio: &mut Cpio<W>,
    made: &mut BTreeSet<String>,
    file: &str,
) -> io::Result<()> {
    for (at, _) in file.match_indices('/') {
        if made.insert(file[..at].to_string()) {
            cpio.dir(&file[..at])?;
        }
    }
    Ok(())
}

/// The modules to pack, uncompressed: what is built, [`DEBIAN_MODULES`], and all they depend on.
fn collect_modules(kernel: &Kernel) -> Res<BTreeMap<String, Vec<u8>>> {
    let mut known = BTreeMap::new();
    list_modules(&kernel.debian_modules, &mut known);
    let mut wanted: Vec<String> = DEBIAN_MODULES.map(str::to_string).to_vec();
    let mut built = BTreeMap::new();
    list_modules(&kernel.built_modules, &mut built);
    wanted.extend(built.keys().cloned());
    known.extend(built);
    let mut packed = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        let Some(path) = known.get(&name) else {
            return Err(format!(
                "the kernel {} has no module {name}",
                kernel.release
            ));
        };
        if packed.contains_key(&name) {
            continue;
        }
        let data = read_module(path)?;
        wanted.extend(depends(&data));
        packed.insert(name, data);
    }
    Ok(packed)
}

fn list_modules(folder: &Path, known: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list_modules(&path, known);
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            known.insert(name.replace('-', "_"), path);
        }
    }
}

fn read_module(path: &Path) -> Res<Vec<u8>> {
    let fail = |e: io::Error| format!("{}: {e}", path.display());
    if path.extension().is_some_and(|e| e == "ko") {
        return fs::read(path).map_err(fail);
    }
    let xz = Command::new("xz")
        .arg("-dc")
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .map_err(fail)?;
    if !xz.status.success() {
        return Err(format!("xz cannot unpack {}", path.display()));
    }
    Ok(xz.stdout)
}

/// What a module itself says that it needs: `depends=a,b` among its NUL-separated facts.
fn depends(module: &[u8]) -> Vec<String> {
    module
        .split(|b| *b == 0)
        .find_map(|fact| fact.strip_prefix(b"depends="))
        .map(|names| String::from_utf8_lossy(names).into_owned())
        .unwrap_or_default()
        .split(',')
        .filter(|n| !n.is_empty())
        .map(|n| n.replace('-', "_"))
        .collect()
}

/// Writes the whole initramfs for one start: the base, then the job's own archive.
pub fn for_job(base: &Path, job: &Job, path: &Path) -> Res<()> {
    let pack = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        io::copy(&mut File::open(base)?, &mut out)?;
        let mut cpio = Cpio::new(out);
        let mut made = BTreeSet::from(["lab".to_string()]);
        cpio.file("init", true, INIT.as_bytes())?;
        cpio.file(
            "lab/modules",
            false,
            (job.modules.join("\n") + "\n").as_bytes(),
        )?;
        let env: String = job
            .env
            .iter()
            .map(|(k, v)| format!("export {k}={}\n", quote(v)))
            .collect();
        cpio.file("lab/env", false, env.as_bytes())?;
        if !job.command.is_empty() {
            let words: Vec<String> = job.command.iter().map(|w| quote(w)).collect();
            cpio.file(
                "lab/command",
                false,
                format!("exec {}\n", words.join(" ")).as_bytes(),
            )?;
        }
        for (name, from) in &job.programs {
            make_dirs(&mut cpio, &mut made, name)?;
            let data = fs::read(from)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", from.display())))?;
            cpio.file(name, true, &data)?;
        }
        cpio.finish().map(drop)
    };
    pack().map_err(|e| format!("cannot pack the initramfs: {e}"))
}

/// A word for the guest's shell, whatever it contains.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_are_read_from_the_module() {
        let module = b"\x7fELF\0license=GPL\0depends=videodev,v4l2-mem2mem\0name=vim2m\0";
        assert_eq!(depends(module), ["videodev", "v4l2_mem2mem"]);
        assert!(depends(b"\0depends=\0").is_empty());
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
    }
}
