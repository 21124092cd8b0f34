//! The emulator: which one, and how it is called.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::exec::{on_path, output};
use crate::{userland, Res};

pub enum Qemu {
    /// The host's own.
    Installed(PathBuf),
    /// Unpacked from Debian packages, with the C library they were made for.
    Unpacked(PathBuf),
}

/// How the guest's clock runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// With the host's, on two processors.
    #[default]
    Host,
    /// By instructions, on one processor: a nanosecond each. What the guest calls CPU time is then a count that no load
    /// of the host changes.
    Instructions,
}

/// Debian 12's QEMU is 7.2; nothing older is tried.
const OLDEST: u32 = 7;

/// What the host's QEMU must have.
const DEVICES: [&str; 2] = ["virtio-9p-pci", "virtio-gpu-pci"];

pub fn find(cache: &Cache, arch: Arch) -> Res<Qemu> {
    if let Some(path) = on_path(arch.qemu()) {
        let version = output(Command::new(&path).arg("--version")).unwrap_or_default();
        let devices = output(Command::new(&path).args(["-device", "help"])).unwrap_or_default();
        if suitable(&version, &devices) {
            return Ok(Qemu::Installed(path));
        }
    }
    userland::qemu(cache, arch).map(Qemu::Unpacked)
}

fn suitable(version: &str, devices: &str) -> bool {
    let number = version.strip_prefix("QEMU emulator version ").unwrap_or("");
    let major = number.split('.').next().and_then(|n| n.parse::<u32>().ok());
    major.is_some_and(|m| m >= OLDEST) && DEVICES.iter().all(|d| devices.contains(&format!("\"{d}\"")))
}

impl Qemu {
    /// The command up to the machine; what is attached to it is the caller's.
    pub fn command(&self, arch: Arch, pace: Pace) -> Command {
        let mut command = match self {
            Qemu::Installed(path) => Command::new(path),
            Qemu::Unpacked(root) => {
                let host = Arch::host().unwrap_or(arch);
                let libraries = root.join("usr/lib").join(host.gnu());
                let loader = Path::new(host.loader()).file_name().unwrap_or_default();
                let mut command = Command::new(libraries.join(loader));
                command.arg("--library-path").arg(&libraries);
                // Where its devices are that are modules: virtio-gpu.
                command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
                command.arg(root.join("usr/bin").join(arch.qemu()));
                for data in ["usr/share/seabios", "usr/share/qemu"] {
                    command.arg("-L").arg(root.join(data));
                }
                command
            }
        };
        command.args(arch.machine());
        // TCG, never KVM: where KVM is broken the guest dies in early boot.
        match pace {
            Pace::Host => command.args(["-accel", "tcg,thread=multi", "-smp", "2"]),
            Pace::Instructions => {
                command.args(["-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off"])
            }
        };
        command.args(["-m", "2048"]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        // A display that can be pulled out, with two CRTCs; its driver is loaded by the tests that want it.
        command.args(["-device", "virtio-gpu-pci,max_outputs=2"]);
        command
    }
}

/// A path inside one of QEMU's comma-separated options.
pub fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_or_crippled_emulators_are_refused() {
        let devices = "name \"virtio-9p-pci\", bus PCI\nname \"virtio-gpu-pci\", bus PCI";
        assert!(suitable("QEMU emulator version 7.2.17 (Debian)", devices));
        assert!(suitable("QEMU emulator version 10.0.13", devices));
        assert!(!suitable("QEMU emulator version 5.2.0", devices));
        assert!(!suitable("QEMU emulator version 10.0.13", "name \"virtio-9p-pci\", bus PCI"));
        assert!(!suitable("", devices));
    }

    #[test]
    fn commas_are_doubled() {
        assert_eq!(escape(Path::new("/a,b")), "/a,,b");
    }
}
