//! Choosing a device.

use framelease::convert::Vulkan;
use framelease::ErrorKind;

use super::support::vulkan;

#[test]
fn open_names_each_device_that_it_passes_over() {
    let Some(_) = vulkan() else { return };
    let e = Vulkan::builder().device("no such device").open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("is not 'no such device'"), "{e}");
}

#[test]
fn open_refuses_impossible_settings() {
    for (builder, text) in [
        (Vulkan::builder().depth(0), "0 jobs in flight; 1 to 64 are possible"),
        (Vulkan::builder().depth(65), "65 jobs in flight"),
        (Vulkan::builder().thread_name("a\0b"), "contains a NUL"),
    ] {
        let e = builder.open().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.to_string().contains(text), "{e}");
    }
}
