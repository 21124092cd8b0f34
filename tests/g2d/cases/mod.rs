mod abi;
mod conforming;
mod drawing;
mod faults;
mod importing;
mod opening;
mod refusing;
mod support;
