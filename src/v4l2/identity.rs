//! The identity of the device that a station opened, to find the device again after an unplug.

use std::fs;
use std::path::PathBuf;

use super::device::{nodes, Condition, Device, Direction};
use crate::error::{Error, ErrorKind, Result};

/// The properties that a device keeps when it returns: its driver, its name, its place on the bus, and the index of
/// this node. The node's number may change.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The path that the user gave. A link by id identifies the device better than its bus does.
    path: PathBuf,
    driver: String,
    card: String,
    bus: String,
    index: Option<u32>,
    serial: Option<String>,
    condition: Option<Condition>,
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
            serial: info.serial.clone(),
            condition: device.condition().cloned(),
        }
    }

    fn is(&self, device: &Device) -> bool {
        let info = device.info();
        let is_same = (&self.driver, &self.card, &self.bus) == (&info.driver, &info.card, &info.bus);
        is_same && (self.index.is_none() || self.index == device.index()) && self.is_allowed(device)
    }

    /// Returns `false` for another device of the same model, if the user named one device.
    fn is_allowed(&self, device: &Device) -> bool {
        match &self.condition {
            Some(condition) => condition.accepts(device.info()),
            None => !self.path.iter().any(|part| part == "by-id") || self.serial == device.info().serial,
        }
    }

    /// Returns `true` for a link by id, which names one device wherever it is plugged in.
    fn is_at_link(&self, device: &Device) -> bool {
        let is_link = fs::symlink_metadata(&self.path).is_ok_and(|m| m.file_type().is_symlink());
        is_link && self.driver == device.info().driver
    }

    /// Opens the device again: by its path if the same device is there, else by searching all nodes for the device,
    /// else for a camera that the condition accepts.
    ///
    /// # Errors
    /// `NotFound` if the device is missing.
    pub(crate) fn find(&self) -> Result<Device> {
        let all = || nodes().into_iter().filter_map(|path| Device::open(path).ok());
        let at_path = Device::open(&self.path).ok().filter(|device| self.is(device) || self.is_at_link(device));
        let found = at_path.or_else(|| all().find(|device| self.is(device))).or_else(|| self.select(all()));
        let Some(device) = found else {
            let text = format!("{} ({}) on {} was not found", self.card, self.driver, self.bus);
            return Err(Error::new(ErrorKind::NotFound, "open", text).on(self.path.display()));
        };
        if let Some(condition) = &self.condition {
            device.select(condition);
        }
        Ok(device)
    }

    /// Returns a camera that the condition accepts and that is free. A camera may have several nodes: the same index
    /// comes first.
    fn select(&self, devices: impl Iterator<Item = Device>) -> Option<Device> {
        let condition = self.condition.as_ref()?;
        let fits = |device: &Device| device.info().is_capture() && condition.accepts(device.info());
        let cameras = devices.filter(|device| fits(device) && !device.has_buffers(Direction::Capture));
        cameras.min_by_key(|device| device.index() != self.index)
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
