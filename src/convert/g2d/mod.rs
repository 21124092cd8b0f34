//! The i.MX 2D engines through libg2d, which is opened at run time (feature `g2d`).
//!
//! libg2d has one name and several natures: two layouts of its structs under one soname, three kinds of hardware, and
//! symbols that come and go. [`G2dBuilder::open`] finds out which it is ([`G2d::report`](super::G2d::report) tells), the rules of the kind
//! are checked before any call, and calls are made by one named thread per handle. What libg2d says is believed only
//! where a trial confirms it.
//!
//! Not on every i.MX8: 8MN, 8MQ and 8DXL have no 2D engine, and [`G2dBuilder::open`] answers `NotFound` there.

mod builder;
mod engine;
mod import;
mod probe;
mod report;
mod report_text;
mod rules;
mod settings;
pub(super) mod station;
mod warp;
mod worker;

pub use builder::G2dBuilder;
pub use report::{Abi, Report, Variant};
#[doc(hidden)] // For this project's tests.
pub use report::{Answer, FormatTrial, Survey, Vote};
#[doc(hidden)] // For this project's tests.
pub use settings::Contiguity;
pub use settings::Wait;
pub use warp::{WarpFormat, WarpMap};
