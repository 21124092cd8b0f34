//! Tests on real kernel drivers. `cargo lab test` runs them in a guest, as root and one at a time; plain `cargo test`
//! uses what the machine has, and says what it skips.

#[path = "../../examples/common/mod.rs"]
mod common;
#[path = "../conformance/mod.rs"]
mod conformance;
#[path = "../../examples/common/picture.rs"]
mod picture;

mod allocations;
mod camera;
mod compliance;
mod controls;
mod devices;
mod dmabuf;
mod faults;
mod imports;
mod m2m;
mod m2m_scaler;
mod mem2mem;
mod regressions;
mod share;
