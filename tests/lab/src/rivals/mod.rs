//! `cargo lab rivals`: one job done by framelease and by others.

mod budgets;
mod build;
mod disturb;
mod encode;
mod figures;
pub mod in_guest;
mod json;
mod process;
mod report;
mod share;
mod spread;
mod turn;

pub use encode::{encode, Encode};
pub use figures::median;
pub use report::insert;
use share::FLAT;
pub use share::{share, Share, Size, SIZES};
