//! Random numbers for ids.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Returns a number that other processes cannot guess.
pub(crate) fn random() -> u64 {
    // The standard library takes the keys of a hasher from the kernel's random numbers.
    RandomState::new().build_hasher().finish()
}
