//! The C library as C programs use it: built in every way that docs/c.md names, linked shared and static, run plain,
//! with the address sanitizer and in valgrind, beside Rust's publisher and subscriber.

mod abi;
mod build;
mod nulls;
mod peers;
mod programs;
