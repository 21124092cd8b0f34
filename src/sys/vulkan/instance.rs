//! Opens the loader and lists devices.

use std::ffi::CStr;
use std::sync::{Mutex, PoisonError};

use ash::{ext, khr, vk};

use super::Failure;

/// The oldest version that has all of [`REQUIRED`] as extensions or in its core.
const VERSION: u32 = vk::API_VERSION_1_1;

/// The memory planes of a picture.
pub(super) const PLANES: usize = 3;
/// The shader's buffers: the planes of a source, those of the target, the steps.
pub(super) const BINDINGS: u32 = 2 * PLANES as u32 + 1;

/// What a device needs beside Vulkan 1.1.
pub(super) const REQUIRED: [&CStr; 4] = [
    khr::external_memory_fd::NAME,
    ext::external_memory_dma_buf::NAME,
    ext::queue_family_foreign::NAME,
    khr::_8bit_storage::NAME,
];

/// The loader's instance, without layers of its own.
pub(crate) struct Instance(pub(super) ash::Instance);

/// A device of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Physical {
    pub(super) raw: vk::PhysicalDevice,
    /// The device and its driver: `V3D 7.1.7 (V3DV Mesa 25.0.7)`.
    pub(crate) name: String,
    /// The driver works on the CPU.
    pub(crate) is_software: bool,
    /// What the device lacks. Empty if it can be used.
    pub(crate) missing: Vec<String>,
    pub(super) queue_family: u32,
    /// The driver takes an import for one buffer only.
    pub(super) is_dedicated: bool,
    /// The most bytes of a buffer that a shader can use.
    pub(crate) most_bytes: u32,
}

/// Opens the loader, `libvulkan.so.1`, once. It is never closed: drivers that it has loaded may have threads.
fn entry() -> Result<&'static ash::Entry, String> {
    static OPEN: Mutex<Option<&'static ash::Entry>> = Mutex::new(None);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = *open {
        return Ok(entry);
    }
    // SAFETY: contract: the loader is the system's, and its initialization functions may run in any process. Lifetime:
    // the entry is leaked, so no address in it dangles.
    let entry = unsafe { ash::Entry::load() }.map_err(|e| e.to_string())?;
    Ok(*open.insert(Box::leak(Box::new(entry))))
}

impl Instance {
    /// Opens the loader. The error is the text of the dynamic loader.
    pub(crate) fn open() -> Result<Result<Self, Failure>, String> {
        let entry = entry()?;
        let application = vk::ApplicationInfo::default().engine_name(name(b"framelease\0")).api_version(VERSION);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: memory: `info` and what it points to live during the call. Contract: no layers and no extensions are
        // asked for; `api_version` is valid.
        let instance = unsafe { entry.create_instance(&info, None) };
        Ok(instance.map(Self).map_err(Failure::of("vkCreateInstance")))
    }

    /// Returns all devices, in the order of the loader.
    pub(crate) fn devices(&self) -> Result<Vec<Physical>, Failure> {
        // SAFETY: contract: the instance is valid.
        let all = unsafe { self.0.enumerate_physical_devices() }.map_err(Failure::of("vkEnumeratePhysicalDevices"))?;
        all.into_iter().map(|raw| self.describe(raw)).collect()
    }

    fn describe(&self, raw: vk::PhysicalDevice) -> Result<Physical, Failure> {
        // SAFETY: contract: the device is one of this instance, and the query belongs to Vulkan 1.0.
        let properties = unsafe { self.0.get_physical_device_properties(raw) };
        let (limits, version) = (properties.limits, properties.api_version);
        let device = text(&properties.device_name);
        let mut physical = Physical {
            raw,
            name: device,
            is_software: properties.device_type == vk::PhysicalDeviceType::CPU,
            missing: Vec::new(),
            queue_family: 0,
            is_dedicated: false,
            most_bytes: limits.max_storage_buffer_range,
        };
        let missing = &mut physical.missing;
        if version < VERSION {
            let (major, minor) = (vk::api_version_major(version), vk::api_version_minor(version));
            missing.push(format!("Vulkan 1.1 (it has {major}.{minor})"));
            return Ok(physical);
        }
        // SAFETY: contract: as above.
        let extensions = unsafe { self.0.enumerate_device_extension_properties(raw) };
        let extensions = extensions.map_err(Failure::of("vkEnumerateDeviceExtensionProperties"))?;
        let has = |name: &CStr| extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
        missing.extend(REQUIRED.iter().filter(|name| !has(name)).map(|name| name.to_string_lossy().into_owned()));

        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut more = vk::PhysicalDeviceProperties2::default();
        if has(khr::driver_properties::NAME) {
            more = more.push_next(&mut driver);
        }
        // SAFETY: memory: the chain's structures live during the call. Contract: the device has 1.1, to which the query
        // belongs, and the extension of the chained structure.
        unsafe { self.0.get_physical_device_properties2(raw, &mut more) };
        if driver.driver_name[0] != 0 {
            let (driver, version) = (text(&driver.driver_name), text(&driver.driver_info));
            physical.name = format!("{} ({})", physical.name, format!("{driver} {version}").trim_end());
        }

        let mut bytes = vk::PhysicalDevice8BitStorageFeatures::default();
        let mut features = vk::PhysicalDeviceFeatures2::default();
        if has(khr::_8bit_storage::NAME) {
            features = features.push_next(&mut bytes);
        }
        // SAFETY: as for the properties.
        unsafe { self.0.get_physical_device_features2(raw, &mut features) };
        if bytes.storage_buffer8_bit_access == vk::FALSE {
            missing.push("storageBuffer8BitAccess".into());
        }
        if limits.max_per_stage_descriptor_storage_buffers < BINDINGS {
            let has = limits.max_per_stage_descriptor_storage_buffers;
            missing.push(format!("{} storage buffers in a shader (it has {has})", BINDINGS));
        }

        // SAFETY: contract: as for the first query.
        let families = unsafe { self.0.get_physical_device_queue_family_properties(raw) };
        match families.iter().position(|f| f.queue_flags.contains(vk::QueueFlags::COMPUTE) && f.queue_count > 0) {
            Some(family) => physical.queue_family = family as u32,
            None => missing.push("a queue that computes".into()),
        }
        let asked = vk::PhysicalDeviceExternalBufferInfo::default()
            .usage(vk::BufferUsageFlags::STORAGE_BUFFER)
            .handle_type(vk::ExternalMemoryHandleTypeFlags::DMA_BUF_EXT);
        let mut answer = vk::ExternalBufferProperties::default();
        // SAFETY: memory: both structures live during the call. Contract: the query belongs to Vulkan 1.1.
        unsafe { self.0.get_physical_device_external_buffer_properties(raw, &asked, &mut answer) };
        let can = answer.external_memory_properties.external_memory_features;
        if !can.contains(vk::ExternalMemoryFeatureFlags::IMPORTABLE) {
            missing.push("import of dma-bufs as storage buffers".into());
        }
        physical.is_dedicated = can.contains(vk::ExternalMemoryFeatureFlags::DEDICATED_ONLY);
        Ok(physical)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: contract: each device holds its instance, so none of them exists.
        unsafe { self.0.destroy_instance(None) };
    }
}

fn text(bytes: &[std::ffi::c_char]) -> String {
    bytes.iter().take_while(|c| **c != 0).map(|c| char::from(*c as u8)).collect()
}

/// A C string of bytes that end with a NUL.
pub(super) fn name(bytes: &'static [u8]) -> &'static CStr {
    CStr::from_bytes_until_nul(bytes).unwrap_or_default()
}
