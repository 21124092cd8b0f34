//! The instance and its one device.

use std::ffi::{c_char, CStr};

use ash::vk::Handle as _;
use ash::{ext, khr, vk};

use crate::object::{chain, code, Target, What};
use crate::state::State;

/// What the device has, if no test takes it away.
const EXTENSIONS: [&CStr; 5] = [
    khr::external_memory_fd::NAME,
    ext::external_memory_dma_buf::NAME,
    ext::queue_family_foreign::NAME,
    khr::_8bit_storage::NAME,
    khr::driver_properties::NAME,
];

fn put(to: &mut [c_char], text: &[u8]) {
    to.iter_mut().zip(text).for_each(|(to, byte)| *to = *byte as c_char);
}

fn has(state: &State, name: &CStr) -> bool {
    !state.lock().lacking.iter().any(|lacking| lacking.as_bytes() == name.to_bytes())
}

// SAFETY: of all functions: the caller passes handles of this library, and pointers to structures of the types that the
// headers name. They live during the call.

pub unsafe extern "system" fn create(
    info: *const vk::InstanceCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    made: *mut vk::Instance,
) -> vk::Result {
    let Some(state) = State::in_use() else { return vk::Result::ERROR_INCOMPATIBLE_DRIVER };
    if let Err(error) = state.call("vkCreateInstance") {
        return error;
    }
    // SAFETY: as above.
    unsafe {
        if (*info).enabled_layer_count + (*info).enabled_extension_count > 0 {
            state.lock().violation("layers or extensions of the instance, of which the device does not know any");
        }
        let number = state.lock().add(0, What::Instance);
        *made = vk::Instance::from_raw(Target::raw(state, number));
    }
    vk::Result::SUCCESS
}

pub unsafe extern "system" fn destroy(instance: vk::Instance, _: *const vk::AllocationCallbacks<'_>) {
    // SAFETY: as above.
    let target = unsafe { Target::of(instance) };
    let mut inner = target.state.lock();
    if inner.objects.values().any(|object| object.device == target.number) {
        inner.violation("the instance is destroyed before its device");
    }
    inner.remove(0, target.number, |what| matches!(what, What::Instance));
}

pub unsafe extern "system" fn devices(
    instance: vk::Instance,
    count: *mut u32,
    devices: *mut vk::PhysicalDevice,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        if let Err(error) = Target::of(instance).state.call("vkEnumeratePhysicalDevices") {
            return error;
        }
        *count = 1;
        if !devices.is_null() {
            // The device has the target of its instance.
            *devices = vk::PhysicalDevice::from_raw(instance.as_raw());
        }
    }
    vk::Result::SUCCESS
}

pub unsafe extern "system" fn properties(device: vk::PhysicalDevice, to: *mut vk::PhysicalDeviceProperties) {
    // SAFETY: as above.
    let (state, to) = unsafe { (Target::of(device).state, &mut *to) };
    *to = vk::PhysicalDeviceProperties::default();
    to.api_version = vk::make_api_version(0, 1, state.setting("minor") as u32, 0);
    to.device_type = match state.setting("software") {
        0 => vk::PhysicalDeviceType::INTEGRATED_GPU,
        _ => vk::PhysicalDeviceType::CPU,
    };
    put(&mut to.device_name, b"Fake GPU");
    to.limits.max_storage_buffer_range = state.setting("most_bytes") as u32;
    to.limits.max_per_stage_descriptor_storage_buffers = state.setting("storage_buffers") as u32;
}

pub unsafe extern "system" fn properties_2(device: vk::PhysicalDevice, to: *mut vk::PhysicalDeviceProperties2<'_>) {
    // SAFETY: as above. A structure of the chain has the type that its first field names.
    unsafe {
        properties(device, &mut (*to).properties);
        for next in chain((*to).p_next) {
            if (*next).s_type == vk::StructureType::PHYSICAL_DEVICE_DRIVER_PROPERTIES {
                let driver = &mut *next.cast::<vk::PhysicalDeviceDriverProperties<'_>>();
                put(&mut driver.driver_name, b"fake\0");
                put(&mut driver.driver_info, b"0.1\0");
            }
        }
    }
}

pub unsafe extern "system" fn features_2(device: vk::PhysicalDevice, to: *mut vk::PhysicalDeviceFeatures2<'_>) {
    // SAFETY: as above. A structure of the chain has the type that its first field names.
    unsafe {
        let state = Target::of(device).state;
        (*to).features.robust_buffer_access = vk::TRUE;
        for next in chain((*to).p_next) {
            if (*next).s_type == vk::StructureType::PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES {
                let bytes = &mut *next.cast::<vk::PhysicalDevice8BitStorageFeatures<'_>>();
                bytes.storage_buffer8_bit_access = state.setting("storage_buffer_8_bit") as u32;
            }
        }
    }
}

pub unsafe extern "system" fn extensions(
    device: vk::PhysicalDevice,
    _: *const c_char,
    count: *mut u32,
    to: *mut vk::ExtensionProperties,
) -> vk::Result {
    // SAFETY: as above.
    unsafe {
        let state = Target::of(device).state;
        if let Err(error) = state.call("vkEnumerateDeviceExtensionProperties") {
            return error;
        }
        let offered = EXTENSIONS.iter().filter(|name| has(state, name));
        if to.is_null() {
            *count = offered.count() as u32;
            return vk::Result::SUCCESS;
        }
        let room = *count as usize;
        *count = 0;
        for (i, name) in offered.take(room).enumerate() {
            let mut property = vk::ExtensionProperties::default();
            put(&mut property.extension_name, name.to_bytes());
            *to.add(i) = property;
            *count += 1;
        }
    }
    vk::Result::SUCCESS
}

pub unsafe extern "system" fn queues(device: vk::PhysicalDevice, count: *mut u32, to: *mut vk::QueueFamilyProperties) {
    // SAFETY: as above.
    unsafe {
        // The second family computes: callers must not assume that it is the first.
        *count = 2;
        if !to.is_null() {
            let family = |flags| vk::QueueFamilyProperties { queue_flags: flags, queue_count: 1, ..Default::default() };
            *to = family(vk::QueueFlags::TRANSFER);
            *to.add(1) = family(match Target::of(device).state.setting("computes") {
                0 => vk::QueueFlags::TRANSFER,
                _ => vk::QueueFlags::COMPUTE,
            });
        }
    }
}

pub unsafe extern "system" fn external(
    device: vk::PhysicalDevice,
    info: *const vk::PhysicalDeviceExternalBufferInfo<'_>,
    to: *mut vk::ExternalBufferProperties<'_>,
) {
    // SAFETY: as above.
    unsafe {
        let state = Target::of(device).state;
        if (*info).handle_type != vk::ExternalMemoryHandleTypeFlags::DMA_BUF_EXT {
            state.lock().violation("an import of another kind than dma-buf");
        }
        let mut features = vk::ExternalMemoryFeatureFlags::empty();
        if state.setting("imports_buffers") != 0 {
            features |= vk::ExternalMemoryFeatureFlags::IMPORTABLE;
        }
        if state.setting("dedicated") != 0 {
            features |= vk::ExternalMemoryFeatureFlags::DEDICATED_ONLY;
        }
        (*to).external_memory_properties.external_memory_features = features;
    }
}

/// Type 0 is for imports, type 1 is visible.
pub unsafe extern "system" fn memory(_: vk::PhysicalDevice, to: *mut vk::PhysicalDeviceMemoryProperties) {
    let mut properties = vk::PhysicalDeviceMemoryProperties { memory_type_count: 2, ..Default::default() };
    properties.memory_types[0].property_flags = vk::MemoryPropertyFlags::DEVICE_LOCAL;
    properties.memory_types[1].property_flags =
        vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT;
    // SAFETY: as above.
    unsafe { *to = properties };
}

/// Checks what a device is made with.
pub unsafe fn check(device: vk::PhysicalDevice, info: &vk::DeviceCreateInfo<'_>) -> Result<(), vk::Result> {
    // SAFETY: as above.
    unsafe {
        let state = Target::of(device).state;
        state.call("vkCreateDevice")?;
        let names =
            (0..info.enabled_extension_count as usize).map(|i| CStr::from_ptr(*info.pp_enabled_extension_names.add(i)));
        for name in names {
            if !EXTENSIONS.contains(&name) || !has(state, name) {
                return Err(vk::Result::ERROR_EXTENSION_NOT_PRESENT);
            }
        }
        if (*info.p_queue_create_infos).queue_family_index != 1 {
            state.lock().violation("a queue of a family that does not compute");
        }
        let is_robust = !info.p_enabled_features.is_null() && (*info.p_enabled_features).robust_buffer_access != 0;
        if !is_robust {
            state.lock().violation("robust buffer access is off");
        }
    }
    Ok(())
}

/// A result for a function that makes one object.
pub unsafe fn made<H>(to: *mut H, result: Result<H, vk::Result>) -> vk::Result {
    code(result.map(|handle| {
        // SAFETY: as above.
        unsafe { *to = handle };
    }))
}
