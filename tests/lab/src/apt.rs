//! Debian packages without installing them: an apt of our own beside the machine's.
//!
//! It has its own lists, its own sources and an empty package status. With that status,
//! `apt-get install --download-only` fetches a package together with everything it needs down to
//! the C library, so what is unpacked runs on any host, whatever is or is not installed there.
//! Only the mirror, the keyring and the download settings (proxies) are the machine's.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{remove_dir, Cache};
use crate::exec::{output, run};
use crate::say;
use crate::Res;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// dpkg takes over files that were only unpacked. The users come first, for chown.
const SECOND_STAGE: &str = "
    cp /usr/share/base-passwd/passwd.master /etc/passwd
    cp /usr/share/base-passwd/group.master /etc/group
    touch /var/lib/dpkg/status
    dpkg --force-depends --unpack /archives/*.deb
    dpkg --force-depends --configure --pending
    dpkg --audit";

pub struct Apt {
    root: PathBuf,
}

impl Apt {
    /// An up-to-date view of one suite for packages of `archs` (Debian names, the first is the
    /// one meant when a package name says none).
    pub fn open(cache: &Cache, suite: &str, archs: &[&str]) -> Res<Apt> {
        if output(Command::new("apt-get").arg("--version")).is_err() {
            return Err("no apt-get here: the lab needs a Debian machine (12 or 13)".into());
        }
        let root = cache.root().join(format!("apt/{suite}-{}", archs.join("+")));
        remove_dir(&root)?;
        for folder in ["lists/partial", "archives/partial", "none"] {
            fs::create_dir_all(root.join(folder)).map_err(|e| format!("{}: {e}", root.display()))?;
        }
        let write =
            |name: &str, text: String| fs::write(root.join(name), text).map_err(|e| format!("{}: {e}", root.display()));
        write("status", String::new())?;
        write("sources.list", format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()))?;
        write("conf", configuration(&root, archs))?;
        let apt = Apt { root };
        say!("reading the package list of {suite} ({})", archs.join(", "));
        run(apt.command("apt-get").args(["update", "-qq", "--error-on=any"]))
            .map_err(|e| format!("cannot read Debian's package list of {suite} from {}: {e}", mirror()))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.root.join("conf"));
        command.env("LC_ALL", "C");
        command.current_dir(self.root.join("archives"));
        command
    }

    /// Names of the packages that start with `prefix`.
    pub fn names(&self, prefix: &str) -> Res<Vec<String>> {
        let text = output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_string).collect())
    }

    pub fn version(&self, package: &str) -> Res<Option<String>> {
        let text = output(self.command("apt-cache").args(["policy", package]))?;
        let found = text.lines().find_map(|l| l.trim().strip_prefix("Candidate: "));
        Ok(found.filter(|v| *v != "(none)").map(str::to_string))
    }

    /// Unpacks exactly `packages` into `into`.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Res<()> {
        say!("fetching {}", packages.join(", "));
        self.empty_archives()?;
        run(self.command("apt-get").args(["download", "-qq"]).args(packages))?;
        self.unpack_archives(into)
    }

    /// Unpacks `packages` with all they depend on into `into`.
    pub fn unpack_closure(&self, packages: &[&str], into: &Path) -> Res<()> {
        say!("fetching {} with all it needs", packages.join(", "));
        self.fetch_closure(packages)?;
        self.unpack_archives(into)
    }

    fn fetch_closure(&self, packages: &[&str]) -> Res<()> {
        self.empty_archives()?;
        run(self.command("apt-get").args(["install", "-qq", "--download-only", "--yes"]).args(packages))
    }

    /// Makes `root` a Debian of its own with the essential packages and `packages`. Its dpkg installs them in a chroot.
    /// Needs root.
    pub fn bootstrap(&self, packages: &[&str], root: &Path) -> Res<()> {
        say!("making a root file system with {}", packages.join(", "));
        self.fetch_closure(&[packages, &["?essential"]].concat())?;
        let archives = root.join("archives");
        fs::create_dir_all(&archives).map_err(|e| format!("{}: {e}", archives.display()))?;
        for entry in self.archives()? {
            let to = archives.join(entry.file_name().unwrap_or_default());
            fs::copy(&entry, &to).map_err(|e| format!("{}: {e}", to.display()))?;
        }
        self.unpack_archives(root)?;
        merge(root).map_err(|e| format!("{}: {e}", root.display()))?;
        run(chroot(root).args(["sh", "-ec", SECOND_STAGE]))?;
        remove_dir(&archives)
    }

    fn empty_archives(&self) -> Res<()> {
        let archives = self.root.join("archives");
        remove_dir(&archives)?;
        fs::create_dir_all(archives.join("partial")).map_err(|e| e.to_string())
    }

    fn unpack_archives(&self, into: &Path) -> Res<()> {
        for path in self.archives()? {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(into))?;
        }
        self.empty_archives()
    }

    fn archives(&self) -> Res<Vec<PathBuf>> {
        let entries = fs::read_dir(self.root.join("archives")).map_err(|e| e.to_string())?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths.filter(|path| path.extension().is_some_and(|e| e == "deb")).collect())
    }
}

impl Drop for Apt {
    /// Lists are large and out of date the next time.
    fn drop(&mut self) {
        let _ = remove_dir(&self.root);
    }
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

/// `env` in a root file system that sees this machine's devices and processes: arguments are variables and a command.
pub fn chroot(root: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --rbind /dev \"$0/dev\" && mount --rbind /proc \"$0/proc\" && exec chroot \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-ec", script]).arg(root).args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin"]);
    command.args(["HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
    command
}

/// The Debian mirror that this machine uses, else the public one.
fn mirror() -> String {
    let asked = output(Command::new("apt-get").env("LC_ALL", "C").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]));
    let wanted = [codename(), "stable".into(), "oldstable".into()];
    pick_mirror(&asked.unwrap_or_default(), &wanted).unwrap_or_else(|| "http://deb.debian.org/debian".into())
}

fn pick_mirror(targets: &str, suites: &[String]) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (uri, suite, component) = (words.next()?, words.next()?, words.next()?);
        (suites.iter().any(|s| s == suite) && component == "main").then(|| uri.trim_end_matches('/').to_string())
    })
}

/// This machine's Debian release by name, "" if it has none.
pub fn codename() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME=")).unwrap_or("").trim_matches('"').to_string()
}

fn configuration(root: &Path, archs: &[&str]) -> String {
    let root = root.display();
    let archs_list: String = archs.iter().map(|a| format!("\"{a}\"; ")).collect();
    let mut text = format!(
        "Dir \"{root}\";\n\
         Dir::Etc::parts \"{root}/none\";\nDir::Etc::main \"none/conf\";\n\
         Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"{root}/none\";\n\
         Dir::Etc::preferences \"none/preferences\";\nDir::Etc::preferencesparts \"{root}/none\";\n\
         Dir::State \"{root}\";\nDir::State::lists \"{root}/lists\";\n\
         Dir::State::status \"{root}/status\";\n\
         Dir::Cache \"{root}\";\nDir::Cache::archives \"{root}/archives\";\n\
         APT::Architecture \"{}\";\nAPT::Architectures {{ {archs_list}}};\n\
         APT::Sandbox::User \"root\";\nAPT::Install-Recommends \"false\";\n\
         Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n",
        archs[0]
    );
    // The machine's proxy settings, in the notation that apt itself prints them.
    let dump = output(Command::new("apt-config").args(["dump", "Acquire"])).unwrap_or_default();
    for line in dump.lines().filter(|l| l.to_ascii_lowercase().contains("proxy")) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_that_of_the_main_suite() {
        let targets = "http://sec.example/debian-security/ bookworm-security main\n\
                       http://vendor.example/x/ nodistro main\n\
                       http://mirror.example/debian/ bookworm contrib\n\
                       http://mirror.example/debian/ bookworm main\n";
        let mirror = pick_mirror(targets, &["bookworm".into()]);
        assert_eq!(mirror.as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(pick_mirror(targets, &["trixie".into()]), None);
    }
}
