mod abi;
mod drawing;
mod faults;
mod importing;
mod opening;
mod refusing;
mod support;
