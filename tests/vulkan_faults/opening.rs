//! Devices that lack something.

use framelease::convert::Vulkan;
use framelease::ErrorKind;

use super::fake::Fake;

#[track_caller]
fn assert_refused(fake: &Fake, reason: &str) {
    let e = fake.builder().open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    assert!(e.to_string().contains("Fake GPU") && e.to_string().contains(reason), "{reason}: {e}");
    fake.is_empty();
}

#[test]
fn open_names_each_extension_that_is_missing() {
    for extension in [
        "VK_KHR_external_memory_fd",
        "VK_EXT_external_memory_dma_buf",
        "VK_EXT_queue_family_foreign",
        "VK_KHR_8bit_storage",
    ] {
        let fake = Fake::new();
        fake.lack(extension);
        assert_refused(&fake, &format!("lacks {extension}"));
    }
}

#[test]
fn open_names_everything_else_that_is_missing() {
    for (setting, value, reason) in [
        ("minor", 0, "lacks Vulkan 1.1 (it has 1.0)"),
        ("storage_buffer_8_bit", 0, "lacks storageBuffer8BitAccess"),
        ("storage_buffers", 6, "lacks 7 storage buffers in a shader (it has 6)"),
        ("computes", 0, "lacks a queue that computes"),
        ("imports_buffers", 0, "lacks import of dma-bufs as storage buffers"),
    ] {
        let fake = Fake::new();
        fake.set(setting, value);
        assert_refused(&fake, reason);
    }
    let fake = Fake::new();
    fake.set("computes", 0);
    fake.lack("VK_KHR_external_memory_fd");
    assert_refused(&fake, "lacks VK_KHR_external_memory_fd, a queue that computes");
}

#[test]
fn open_needs_only_what_it_names() {
    let fake = Fake::new();
    fake.lack("VK_KHR_driver_properties");
    drop(fake.open());
    fake.is_empty();
}

#[test]
fn open_uses_software_only_if_it_is_named() {
    let fake = Fake::new();
    fake.set("software", 1);
    let e = Vulkan::open().unwrap_err();
    assert!(e.to_string().contains("Fake GPU (fake 0.1) works on the CPU, so it is used only if it is named"), "{e}");
    let vulkan = fake.open();
    assert!(format!("{vulkan:?}").contains("Fake GPU (fake 0.1)"), "{vulkan:?}");
    drop(vulkan);
    fake.is_empty();
}
