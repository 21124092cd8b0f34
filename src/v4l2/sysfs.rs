//! What sysfs says of an open node.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::{fstat, major, minor};

/// The folder of a node in sysfs. It exists while the device does.
pub(super) struct NodeFolder(PathBuf);

impl NodeFolder {
    pub(super) fn of(node: BorrowedFd<'_>) -> Option<Self> {
        let stat = fstat(node).ok()?;
        // The width of st_rdev differs between targets.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        let rdev = stat.st_rdev as u64;
        Some(Self(format!("/sys/dev/char/{}:{}", major(rdev), minor(rdev)).into()))
    }

    /// Returns the index of the node within its device.
    pub(super) fn index(&self) -> Option<u32> {
        fs::read_to_string(self.0.join("index")).ok()?.trim().parse().ok()
    }

    /// Returns the serial number of the USB device that the node belongs to, directly or by an interface.
    pub(super) fn serial(&self) -> Option<String> {
        // The next folder above is that of a hub, which may have a serial number as well.
        let devices = ["device", "device/.."].map(|at| self.0.join(at));
        let usb = devices.iter().find(|device| device.join("idVendor").exists())?;
        read_text(&usb.join("serial"))
    }
}

fn read_text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn serial_is_that_of_the_usb_device_and_not_of_its_hub() {
        let root = std::env::temp_dir().join(format!("framelease-sysfs-{}", std::process::id()));
        let file = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let serial = |node: &str| NodeFolder(root.join(node)).serial();
        file("hub/idVendor", "1d6b\n");
        file("hub/serial", "HUB\n");
        file("hub/camera/idVendor", "046d\n");
        file("hub/camera/interface/class", "0e\n");
        for (node, device) in [("by_interface", "hub/camera/interface"), ("by_device", "hub/camera")] {
            fs::create_dir_all(root.join(node)).unwrap();
            symlink(root.join(device), root.join(node).join("device")).unwrap();
        }
        assert_eq!((serial("by_interface"), serial("by_device")), (None, None));
        file("hub/camera/serial", "B16D 7F20\n");
        let expected = Some("B16D 7F20".to_owned());
        assert_eq!((serial("by_interface"), serial("by_device")), (expected.clone(), expected));
        file("hub/camera/serial", "\n");
        assert_eq!(serial("by_interface"), None);
        fs::remove_dir_all(root).unwrap();
    }
}
