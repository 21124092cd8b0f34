//! The kernel modules that go into a guest, with all they depend on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kernel::Kernel;
use crate::Res;

/// Modules of Debian's kernel in the guest, beside what these and our own depend on. With raw_gadget,
/// the last two make a USB camera.
pub const DEBIAN_MODULES: [&str; 7] = ["9p", "9pnet_virtio", "vivid", "vgem", "virtio_gpu", "uvcvideo", "dummy_hcd"];

/// The modules to pack, uncompressed: those that are built, [`DEBIAN_MODULES`], and all that they depend on.
pub fn collect_modules(kernel: &Kernel) -> Res<BTreeMap<String, Vec<u8>>> {
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
            return Err(format!("the kernel {} has no module {name}", kernel.release));
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
    let xz = Command::new("xz").arg("-dc").arg(path).stderr(Stdio::inherit()).output().map_err(fail)?;
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

/// The file in which `modprobe` looks up what to load first. depmod would need five times as long
/// as the whole rest of the boot, in every guest.
pub fn modules_dep(packed: &BTreeMap<String, Vec<u8>>) -> String {
    let direct: BTreeMap<&str, Vec<String>> =
        packed.iter().map(|(name, data)| (name.as_str(), depends(data))).collect();
    let mut text = String::new();
    for name in direct.keys() {
        let mut order = Vec::new();
        load_order(name, &direct, &mut order);
        order.pop(); // the module itself
        order.reverse(); // the nearest first
        text.push_str(&format!("{name}.ko:"));
        for before in order {
            text.push_str(&format!(" {before}.ko"));
        }
        text.push('\n');
    }
    text
}

/// Appends `name` behind everything that must be loaded before it.
fn load_order(name: &str, direct: &BTreeMap<&str, Vec<String>>, order: &mut Vec<String>) {
    if order.iter().any(|n| n == name) {
        return;
    }
    for before in direct.get(name).into_iter().flatten() {
        load_order(before, direct, order);
    }
    order.push(name.to_string());
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
    fn modules_dep_names_the_nearest_first() {
        let module = |needs: &str| format!("\0depends={needs}\0").into_bytes();
        let packed = BTreeMap::from([
            ("vivid".to_string(), module("videodev,tpg")),
            ("videodev".to_string(), module("mc")),
            ("mc".to_string(), module("")),
            ("tpg".to_string(), module("")),
        ]);
        let text = modules_dep(&packed);
        assert!(text.contains("vivid.ko: tpg.ko videodev.ko mc.ko\n"), "{text}");
        assert!(text.contains("mc.ko:\n"));
    }
}
