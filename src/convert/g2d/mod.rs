//! The i.MX 2D engines through libg2d, which is opened at run time (feature `g2d`).
//!
//! Libraries named libg2d differ: they have two layouts of structs under one soname, three kinds of hardware, and
//! different sets of symbols. [`G2dBuilder::open`] finds out which kind of libg2d it has opened, and
//! [`G2d::report`](super::G2d::report) describes it. The converter checks the rules of the opened library before any
//! call. One named thread per handle makes the calls. A capability that libg2d reports is used only after a trial
//! confirms it.
//!
//! Some i.MX8 have no 2D engine: 8MN, 8MQ and 8DXL. [`G2dBuilder::open`] returns `NotFound` there.

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
