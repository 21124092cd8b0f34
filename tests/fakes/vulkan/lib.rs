//! A Vulkan loader with one device, as much of it as `convert::Vulkan` calls. It runs no shader: each run copies the
//! bytes of the source's first buffer to the target's first buffer.
//!
//! A device belongs to the [`State`](state::State) that was in use when its thread made the instance. So tests that run
//! at once do not see each other. The device checks how it is used, lacks what a test asks for, and fails calls.

mod commands;
mod control;
mod device;
mod instance;
mod memory;
mod object;
#[path = "../sealed.rs"]
mod sealed;
mod state;

use std::ffi::{c_char, CStr};

use ash::vk;

/// Finds functions by name. Each has the type that the name has in the headers.
macro_rules! functions {
    ($name:expr; $($text:literal: $function:path, $kind:ident;)*) => {
        match $name {
            // SAFETY: function pointers have one size. The caller casts it back to the type of its name.
            $($text => Some(unsafe { std::mem::transmute::<vk::$kind, unsafe extern "system" fn()>($function) }),)*
            _ => None,
        }
    };
}

fn find(name: &[u8]) -> vk::PFN_vkVoidFunction {
    functions! { name;
        b"vkGetInstanceProcAddr": vkGetInstanceProcAddr, PFN_vkGetInstanceProcAddr;
        b"vkGetDeviceProcAddr": device_function, PFN_vkGetDeviceProcAddr;
        b"vkCreateInstance": instance::create, PFN_vkCreateInstance;
        b"vkDestroyInstance": instance::destroy, PFN_vkDestroyInstance;
        b"vkEnumeratePhysicalDevices": instance::devices, PFN_vkEnumeratePhysicalDevices;
        b"vkGetPhysicalDeviceProperties": instance::properties, PFN_vkGetPhysicalDeviceProperties;
        b"vkGetPhysicalDeviceProperties2": instance::properties_2, PFN_vkGetPhysicalDeviceProperties2;
        b"vkGetPhysicalDeviceFeatures2": instance::features_2, PFN_vkGetPhysicalDeviceFeatures2;
        b"vkEnumerateDeviceExtensionProperties": instance::extensions, PFN_vkEnumerateDeviceExtensionProperties;
        b"vkGetPhysicalDeviceQueueFamilyProperties": instance::queues, PFN_vkGetPhysicalDeviceQueueFamilyProperties;
        b"vkGetPhysicalDeviceExternalBufferProperties": instance::external,
            PFN_vkGetPhysicalDeviceExternalBufferProperties;
        b"vkGetPhysicalDeviceMemoryProperties": instance::memory, PFN_vkGetPhysicalDeviceMemoryProperties;
        b"vkCreateDevice": device::create, PFN_vkCreateDevice;
        b"vkDestroyDevice": device::destroy, PFN_vkDestroyDevice;
        b"vkGetDeviceQueue": device::queue, PFN_vkGetDeviceQueue;
        b"vkCreateCommandPool": device::create_command_pool, PFN_vkCreateCommandPool;
        b"vkDestroyCommandPool": device::destroy_command_pool, PFN_vkDestroyCommandPool;
        b"vkAllocateCommandBuffers": device::allocate_command_buffers, PFN_vkAllocateCommandBuffers;
        b"vkCreateFence": device::create_fence, PFN_vkCreateFence;
        b"vkDestroyFence": device::destroy_fence, PFN_vkDestroyFence;
        b"vkCreateDescriptorSetLayout": device::create_set_layout, PFN_vkCreateDescriptorSetLayout;
        b"vkDestroyDescriptorSetLayout": device::destroy_set_layout, PFN_vkDestroyDescriptorSetLayout;
        b"vkCreatePipelineLayout": device::create_pipeline_layout, PFN_vkCreatePipelineLayout;
        b"vkDestroyPipelineLayout": device::destroy_pipeline_layout, PFN_vkDestroyPipelineLayout;
        b"vkCreateShaderModule": device::create_shader, PFN_vkCreateShaderModule;
        b"vkDestroyShaderModule": device::destroy_shader, PFN_vkDestroyShaderModule;
        b"vkCreateComputePipelines": device::create_pipelines, PFN_vkCreateComputePipelines;
        b"vkDestroyPipeline": device::destroy_pipeline, PFN_vkDestroyPipeline;
        b"vkCreateDescriptorPool": device::create_descriptor_pool, PFN_vkCreateDescriptorPool;
        b"vkDestroyDescriptorPool": device::destroy_descriptor_pool, PFN_vkDestroyDescriptorPool;
        b"vkAllocateDescriptorSets": device::allocate_sets, PFN_vkAllocateDescriptorSets;
        b"vkUpdateDescriptorSets": device::update_sets, PFN_vkUpdateDescriptorSets;
        b"vkCreateBuffer": memory::create_buffer, PFN_vkCreateBuffer;
        b"vkDestroyBuffer": memory::destroy_buffer, PFN_vkDestroyBuffer;
        b"vkGetBufferMemoryRequirements": memory::requirements, PFN_vkGetBufferMemoryRequirements;
        b"vkGetMemoryFdPropertiesKHR": memory::of_descriptor, PFN_vkGetMemoryFdPropertiesKHR;
        b"vkAllocateMemory": memory::allocate, PFN_vkAllocateMemory;
        b"vkFreeMemory": memory::free, PFN_vkFreeMemory;
        b"vkBindBufferMemory": memory::bind, PFN_vkBindBufferMemory;
        b"vkMapMemory": memory::map, PFN_vkMapMemory;
        b"vkUnmapMemory": memory::unmap, PFN_vkUnmapMemory;
        b"vkBeginCommandBuffer": commands::begin, PFN_vkBeginCommandBuffer;
        b"vkEndCommandBuffer": commands::end, PFN_vkEndCommandBuffer;
        b"vkCmdPipelineBarrier": commands::barrier, PFN_vkCmdPipelineBarrier;
        b"vkCmdBindPipeline": commands::bind_pipeline, PFN_vkCmdBindPipeline;
        b"vkCmdBindDescriptorSets": commands::bind_sets, PFN_vkCmdBindDescriptorSets;
        b"vkCmdPushConstants": commands::push_constants, PFN_vkCmdPushConstants;
        b"vkCmdDispatch": commands::dispatch, PFN_vkCmdDispatch;
        b"vkResetFences": commands::reset_fences, PFN_vkResetFences;
        b"vkQueueSubmit": commands::submit, PFN_vkQueueSubmit;
        b"vkWaitForFences": commands::wait, PFN_vkWaitForFences;
    }
}

/// # Safety
/// `name` is a C string that lives during the call.
#[no_mangle]
#[allow(non_snake_case)]
pub unsafe extern "system" fn vkGetInstanceProcAddr(_: vk::Instance, name: *const c_char) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller keeps the contract above.
    find(unsafe { CStr::from_ptr(name) }.to_bytes())
}

unsafe extern "system" fn device_function(_: vk::Device, name: *const c_char) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller passes a C string, as the headers say.
    find(unsafe { CStr::from_ptr(name) }.to_bytes())
}
