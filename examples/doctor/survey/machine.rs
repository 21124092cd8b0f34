//! The board, the kernel, contiguous memory.

use std::fs;

use super::super::findings::Machine;

pub fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim_matches(['\0', '\n']).to_owned();
    let memory = read("/proc/meminfo");
    let model = match read("/proc/device-tree/model") {
        // A PC does not have a device tree.
        model if model.is_empty() => read("/sys/class/dmi/id/product_name"),
        model => model,
    };
    Machine {
        model,
        kernel: read("/proc/sys/kernel/osrelease"),
        architecture: std::env::consts::ARCH.into(),
        processors: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
        memory_kib: kib(&memory, "MemTotal").unwrap_or(0),
        cma_kib: kib(&memory, "CmaTotal").zip(kib(&memory, "CmaFree")),
        is_root: nix::unistd::geteuid().is_root(),
        is_static: cfg!(target_feature = "crt-static"),
        has_vsidaemon: has_process("vsidaemon"),
    }
}

fn kib(memory: &str, name: &str) -> Option<u64> {
    let line = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn has_process(name: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.map(|p| p.path().join("comm")).any(|path| fs::read_to_string(path).is_ok_and(|comm| comm.trim() == name))
}
