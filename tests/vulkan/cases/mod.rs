mod conforming;
mod opening;
pub mod support;
