mod abi;
mod conforming;
mod drawing;
mod faults;
mod importing;
mod info;
mod opening;
mod refusing;
pub mod support;
