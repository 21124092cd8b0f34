//! What the cases need.

use std::io::Write;

use framelease::convert::Vulkan;
use framelease::dmabuf::{Allocator, MemoryKind};
use framelease::ErrorKind;

use crate::conformance::allocator;
use crate::vulkan_driver;

/// Returns a converter and an allocator of dma-bufs. If the machine lacks one of them, prints a skip, or panics if the
/// lab promises it.
pub fn vulkan() -> Option<(Vulkan, Allocator)> {
    vulkan_driver::install();
    // Software drivers must be named. lavapipe's device is called llvmpipe.
    let software = Vulkan::builder().device("llvmpipe");
    let opened = Vulkan::open().or_else(|e| if e.kind() == ErrorKind::NotFound { software.open() } else { Err(e) });
    let why = match (opened, allocator()) {
        (Ok(vulkan), (allocator, MemoryKind::DmaBuf)) => return Some((vulkan, allocator)),
        (Ok(_), _) => "nothing allocates dma-bufs".to_owned(),
        (Err(e), _) => e.to_string(),
    };
    let promised = std::env::var("FRAMELEASE_LAB_PROMISES").unwrap_or_default();
    assert!(!promised.split_whitespace().any(|p| p == "vulkan"), "the lab promises vulkan: {why}");
    // Not `eprintln!`, which the test harness captures.
    let _ = writeln!(std::io::stderr(), "SKIPPED vulkan: {why}");
    None
}
