//! Tests on real kernel drivers. `cargo lab test` runs them in a guest, as root and one at a time; plain `cargo test`
//! uses what the machine has, and says what it skips.

#[path = "../../examples/common/mod.rs"]
mod common;
#[path = "../../examples/common/picture.rs"]
mod picture;

#[path = "../conformance/mod.rs"]
mod conformance;

mod allocations;
mod camera;
mod compliance;
mod controls;
mod convert;
mod devices;
mod dmabuf;
mod faults;
mod imports;
mod regressions;
mod share;
