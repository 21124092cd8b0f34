//! The CPU converter over the conformance suite, against ffmpeg, and against bad input.

#[path = "../conformance/mod.rs"]
mod conformance;

use framelease::convert::Cpu;
use framelease::dmabuf::Allocator;

#[test]
fn the_cpu_draws_the_whole_suite() {
    let report = conformance::suite(&mut Cpu::new().unwrap(), &Allocator::Memfd, 4, 35.0);
    assert!(report.refused.is_empty(), "{:#?}", report.refused);
}
