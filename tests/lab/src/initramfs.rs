//! The guest's file system: one archive that never changes, one per job.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::arch::Arch;
use crate::cache::{hash, Cache};
use crate::cpio::Cpio;
use crate::kernel::Kernel;
use crate::kmods::{collect_modules, modules_dep, DEBIAN_MODULES};
use crate::say;
use crate::{userland, Res};

const INIT: &str = include_str!("../guest/init");
const MODPROBE: &str = include_str!("../guest/modprobe");

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
        "{} {} {} {} {}",
        root.display(),
        kernel.built_modules.display(),
        DEBIAN_MODULES.join(" "),
        hash(include_bytes!("initramfs.rs")),
        MODPROBE,
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
    let packed = collect_modules(kernel)?;
    files.push((format!("{modules}/modules.dep"), modules_dep(&packed).into_bytes()));
    for (name, data) in packed {
        files.push((format!("{modules}/{name}.ko"), data));
    }
    let pack = || -> io::Result<()> {
        let mut cpio = Cpio::new(BufWriter::new(File::create(path)?));
        let mut made = BTreeSet::new();
        for folder in ["dev", "proc", "sys", "run", "tmp", "root", "etc", "out", "lab", "var"] {
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
            cpio.file(name, !name.starts_with(&modules), data)?;
        }
        // busybox's own shell runs its applets even where PATH has something else of that name.
        cpio.symlink("usr/bin/sh", "dash")?;
        cpio.file("usr/bin/modprobe", true, MODPROBE.as_bytes())?;
        cpio.finish().map(drop)
    };
    pack().map_err(|e| format!("{}: {e}", path.display()))
}

/// Adds the folders above `file` that are not there yet.
fn make_dirs<W: Write>(cpio: &mut Cpio<W>, made: &mut BTreeSet<String>, file: &str) -> io::Result<()> {
    for (at, _) in file.match_indices('/') {
        if made.insert(file[..at].to_string()) {
            cpio.dir(&file[..at])?;
        }
    }
    Ok(())
}

/// Writes the whole initramfs for one start: the base, then the job's own archive.
pub fn for_job(base: &Path, job: &Job, path: &Path) -> Res<()> {
    let pack = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        io::copy(&mut File::open(base)?, &mut out)?;
        let mut cpio = Cpio::new(out);
        let mut made = BTreeSet::from(["lab".to_string()]);
        cpio.file("init", true, INIT.as_bytes())?;
        cpio.file("lab/modules", false, (job.modules.join("\n") + "\n").as_bytes())?;
        let env: String = job.env.iter().map(|(k, v)| format!("export {k}={}\n", quote(v))).collect();
        cpio.file("lab/env", false, env.as_bytes())?;
        if !job.command.is_empty() {
            let words: Vec<String> = job.command.iter().map(|w| quote(w)).collect();
            cpio.file("lab/command", false, format!("exec {}\n", words.join(" ")).as_bytes())?;
        }
        for (name, from) in &job.programs {
            make_dirs(&mut cpio, &mut made, name)?;
            let data = fs::read(from).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", from.display())))?;
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
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
    }
}
