//! Everything a guest needs before it can start, from the cache or made now.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::qemu::{self, escape, Pace, Qemu};
use crate::{initramfs, kernel, userland, Res};

/// A guest ready to start.
pub struct Machine {
    pub arch: Arch,
    pub base: PathBuf,
    /// Names of our own drivers.
    pub own_modules: Vec<String>,
    pub console_log: PathBuf,
    /// The host's folder that is `/out` in the guest.
    pub out: PathBuf,
    /// More folders of the host for the guest to mount, read-only: tag and folder.
    pub shared: Vec<(String, PathBuf)>,
    pub pace: Pace,
    image: PathBuf,
    qemu: Qemu,
}

pub fn prepare(arch: Arch, workspace: &Path) -> Res<Machine> {
    let cache = Cache::open()?;
    let qemu = qemu::find(&cache, arch)?;
    let root = userland::prepare(&cache, arch)?;
    let kernel = kernel::prepare(&cache, arch, &workspace.join("tests/lab"))?;
    let base = initramfs::base(&cache, arch, &kernel, &root)?;
    let target = workspace.join("target/lab");
    let out = target.join("out");
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    Ok(Machine {
        arch,
        base,
        own_modules: kernel.own,
        console_log: target.join(format!("{arch}-console.log")),
        out,
        shared: Vec::new(),
        pace: Pace::default(),
        image: kernel.image,
        qemu,
    })
}

impl Machine {
    /// QEMU with kernel and shared folder, still without console and ports.
    pub fn command(&self, initrd: &Path, parameters: &str) -> Command {
        let mut command = self.qemu.command(self.arch, self.pace);
        command.arg("-kernel").arg(&self.image).arg("-initrd").arg(initrd);
        // panic=-1: a panic restarts at once, and with -no-reboot that ends QEMU. Without mitigations and what calls
        // for them, such as KPTI, which KASLR brings on aarch64: emulated, they take a sixth of the camera tests' time.
        let own = self.arch.kernel_parameters();
        command.arg("-append").arg(format!("{own} panic=-1 mitigations=off nokaslr {parameters}"));
        let out = escape(&self.out);
        command.arg("-fsdev").arg(format!("local,id=out,path={out},security_model=none"));
        command.args(["-device", "virtio-9p-pci,fsdev=out,mount_tag=out"]);
        for (tag, folder) in &self.shared {
            let path = escape(folder);
            command.arg("-fsdev").arg(format!("local,id={tag},path={path},security_model=none,readonly=on"));
            command.args(["-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]);
        }
        command
    }
}
