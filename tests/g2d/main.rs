//! Tests `convert::G2d` with the software libg2d of tests/fakes, in both layouts. The guests run the same cases.

#[path = "../conformance/mod.rs"]
mod conformance;
use conformance::converting;
#[path = "cases/mod.rs"]
mod g2d;
