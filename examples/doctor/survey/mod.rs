//! What the machine has: looks, and changes nothing.

pub mod displays;
pub mod g2d;
mod machine;
mod memory;
mod nodes;
mod video;

use super::findings::Findings;

/// Lists everything except libg2d.
pub fn survey() -> Findings {
    Findings {
        machine: machine::machine(),
        video: video::devices(),
        memory: memory::memory(),
        displays: displays::devices(),
        ..Findings::default()
    }
}
