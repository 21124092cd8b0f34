//! The identity of the device that a station opened, to find the device again after an unplug.

use std::fs;
use std::path::PathBuf;

use super::device::{nodes, Device};
use crate::error::{Error, ErrorKind, Result};

/// The properties that a device keeps when it returns: its driver, its name, its place on the bus, and the index of
/// this node. The node's number may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The path that the user gave. A link by id identifies the device better than its bus does.
    path: PathBuf,
    driver: String,
    card: String,
    bus: String,
    index: Option<u32>,
}

impl Identity {
    pub(crate) fn of(device: &Device) -> Self {
        let info = device.info();
        Self {
            path: info.path.clone(),
            driver: info.driver.clone(),
            card: info.card.clone(),
            bus: info.bus.clone(),
            index: device.index(),
        }
    }

    fn is(&self, device: &Device) -> bool {
        let info = device.info();
        let is_same = (&self.driver, &self.card, &self.bus) == (&info.driver, &info.card, &info.bus);
        is_same && (self.index.is_none() || self.index == device.index())
    }

    /// Returns `true` for a link by id, which names one device wherever it is plugged in.
    fn is_at_link(&self, device: &Device) -> bool {
        let is_link = fs::symlink_metadata(&self.path).is_ok_and(|m| m.file_type().is_symlink());
        is_link && self.driver == device.info().driver
    }

    /// Opens the device again: by its path if the same device is there, else by searching all nodes.
    ///
    /// # Errors
    /// `NotFound` if the device is missing.
    pub(crate) fn find(&self) -> Result<Device> {
        if let Ok(device) = Device::open(&self.path) {
            if self.is(&device) || self.is_at_link(&device) {
                return Ok(device);
            }
        }
        let others = nodes().into_iter().filter(|path| path != &self.path);
        let found = others.filter_map(|path| Device::open(path).ok()).find(|device| self.is(device));
        found.ok_or_else(|| {
            let text = format!("{} ({}) on {} was not found", self.card, self.driver, self.bus);
            Error::new(ErrorKind::NotFound, "open", text).on(self.path.display())
        })
    }
}

impl Device {
    /// Opens the same device again after an unplug, even if its node has another number.
    ///
    /// # Errors
    /// `NotFound` until the device is back.
    pub(crate) fn find_again(&self) -> Result<Self> {
        Identity::of(self).find()
    }
}
