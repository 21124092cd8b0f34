//! The suite that every converter must pass, and a comparison with the CPU.

use std::sync::Arc;

use framelease::convert::{Converter, Cpu, Plan};
use framelease::format::FourCc;
use framelease::frame::{Frame, Pool};

use super::support::vulkan;
use crate::conformance::{cases, picture, run, suite, WAIT};
use crate::converting::Jobs;

#[test]
fn vulkan_draws_the_suite() {
    let Some((mut vulkan, allocator)) = vulkan() else { return };
    let report = suite(&mut vulkan, &allocator, 4, 34.0);
    assert!(report.refused.is_empty(), "{:#?}", report.refused);
}

/// For an emulated processor, which needs too long for the suite.
#[test]
fn vulkan_draws_ten_cases() {
    let Some((mut vulkan, allocator)) = vulkan() else { return };
    let all = cases(4);
    for case in all.iter().step_by(all.len() / 10).take(10) {
        let db = run(&mut vulkan, &allocator, case).unwrap();
        assert!(db > 34.0, "{db:.1} dB: {case}");
    }
}

/// The arithmetic is the same. Scaling rounds once, where the CPU rounds after each direction.
#[test]
fn vulkan_draws_what_the_cpu_draws() {
    let Some((mut vulkan, allocator)) = vulkan() else { return };
    let mut cpu = Cpu::new().unwrap();
    let (mut same, mut close) = (0, 0);
    for case in cases(4) {
        let plan = Arc::new(Plan::new(&case.request, &case.sources, &case.target).unwrap());
        if cpu.check(&plan).is_err() {
            continue;
        }
        let sources: Vec<Frame> =
            (0..).zip(&case.sources).map(|(i, layout)| picture::frame(&allocator, layout, i, false)).collect();
        let pool = Pool::new(&allocator, case.target, 2).unwrap();
        let drawn = |converter: &mut dyn Converter| {
            converter.begin(&plan, &sources, pool.try_acquire().unwrap()).unwrap_or_else(|e| panic!("{case}: {e}"));
            let done = converter.done(WAIT).unwrap_or_else(|e| panic!("{case}: {e}"));
            let mut bytes = Vec::new();
            done.read(WAIT).unwrap().write_to(&mut bytes).unwrap();
            bytes
        };
        let (expected, got) = (drawn(&mut cpu), drawn(&mut vulkan));
        let most = expected.iter().zip(&got).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        same += usize::from(most == 0);
        close += usize::from(most > 0);
        // In the target's colors, a rounded code of the source counts double. Bytes of RGB565 are not codes.
        assert!(most <= 4 || case.target.fourcc() == FourCc::RGB565, "a code differs by {most}: {case}");
    }
    eprintln!("{same} pictures are the same, {close} differ by rounding");
    assert!(same > 200, "{same}");
}
