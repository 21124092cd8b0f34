//! Installs Mesa's lavapipe in the guest, from the root that the lab shares, and makes it compile quickly. Vulkan's
//! validation layer is in the same root.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Once;

const ROOT: &str = "/run/vulkan";
const LAYER: &str = "VK_LAYER_KHRONOS_validation";
/// In the root.
const LAYERS: &str = "/run/vulkan/usr/share/vulkan/explicit_layer.d";

/// Lets the validation layer watch a program's calls.
pub fn add_layer(command: &mut Command) {
    command.env("VK_INSTANCE_LAYERS", LAYER).env("VK_ADD_LAYER_PATH", LAYERS).env("VK_LOADER_DEBUG", "layer");
}

/// What the validation layer found. The program must have succeeded, and the layer must have been there.
pub fn found_by_layer(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let all = String::from_utf8_lossy(&output.stderr);
    let (loader, said): (Vec<&str>, Vec<&str>) = all.lines().partition(|line| line.starts_with("[Vulkan Loader]"));
    assert!(output.status.success(), "{text}{said:?}");
    let inserted = format!("Insert instance layer \"{LAYER}\"");
    assert!(loader.iter().any(|line| line.contains(&inserted)), "{loader:?}");
    text.lines().filter(|line| line.contains("Validation ")).map(str::to_owned).collect()
}

/// Links the libraries that the guest lacks, and names the driver. Does nothing outside of the lab.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A program that a test has started finds everything in its place.
        let is_installed = std::fs::read_dir(ROOT).is_ok_and(|mut entries| entries.next().is_some());
        let is_lab = std::env::var_os("FRAMELEASE_LAB_ARCH").is_some();
        if !is_lab || is_installed || std::fs::create_dir_all(ROOT).is_err() {
            return;
        }
        // The driver compiles the shader in the first job of each device. An emulated processor needs a minute for
        // that, a fifth of it without optimization and with small vectors, and less if an earlier test has left the
        // result.
        std::env::set_var("GALLIVM_PERF", "nopt");
        std::env::set_var("LP_NATIVE_VECTOR_WIDTH", "128");
        std::env::set_var("MESA_SHADER_CACHE_DIR", "/tmp/shaders");
        let options = "ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144";
        let mut mount = Command::new("mount");
        mount.args(["-t", "9p", "-o", options, "vulkan", ROOT]).stderr(Stdio::null());
        if !mount.status().is_ok_and(|status| status.success()) {
            return;
        }
        let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        for entry in std::fs::read_dir(Path::new(ROOT).join(&libraries)).unwrap().flatten() {
            // Those of the guest are the same versions.
            let _ = symlink(entry.path(), Path::new("/").join(&libraries).join(entry.file_name()));
        }
        let drivers = Path::new("/usr/share/vulkan/icd.d");
        std::fs::create_dir_all(drivers).unwrap();
        symlink(Path::new(ROOT).join("usr/share/vulkan/icd.d/lvp_icd.json"), drivers.join("lvp_icd.json")).unwrap();
    });
}
