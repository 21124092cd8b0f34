//! Tests on real kernel drivers. `cargo lab test` runs them in a guest; plain `cargo test` uses what the machine has.
