//! Installs Mesa's lavapipe in the guest, from the root that the lab shares, and makes it compile quickly.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;

const ROOT: &str = "/run/vulkan";

/// Links the libraries that the guest lacks, and names the driver. Does nothing outside of the lab.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("FRAMELEASE_LAB_ARCH").is_none() || std::fs::create_dir_all(ROOT).is_err() {
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
        let libraries = "usr/lib/x86_64-linux-gnu";
        for entry in std::fs::read_dir(Path::new(ROOT).join(libraries)).unwrap().flatten() {
            // Those of the guest are the same versions.
            let _ = symlink(entry.path(), Path::new("/").join(libraries).join(entry.file_name()));
        }
        let drivers = Path::new("/usr/share/vulkan/icd.d");
        std::fs::create_dir_all(drivers).unwrap();
        symlink(Path::new(ROOT).join("usr/share/vulkan/icd.d/lvp_icd.json"), drivers.join("lvp_icd.json")).unwrap();
    });
}
