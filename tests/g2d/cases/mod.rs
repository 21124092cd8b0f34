mod abi;
mod conforming;
mod doctor;
mod drawing;
mod faults;
mod importing;
mod opening;
mod refusing;
pub mod support;
