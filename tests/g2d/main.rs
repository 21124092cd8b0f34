//! `convert::G2d` on the software libg2d's of tests/fakes, in both layouts. The same cases run in the guests.

#[path = "../conformance/mod.rs"]
mod conformance;
use conformance::converting;
#[path = "cases/mod.rs"]
mod g2d;
