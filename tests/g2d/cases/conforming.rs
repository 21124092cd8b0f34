//! The suite that every converter must pass, on each kind of library in both layouts.

use framelease::convert::g2d::Contiguity;

use super::support::*;
use crate::conformance::{allocator, suite};

#[test]
fn g2d_draws_the_suite_or_refuses_by_a_rule() {
    // Strides are whole pixels of every format, and multiples of 64 bytes.
    const ALIGN: u32 = 192;
    let kinds = [(1, "libg2d-dpu.so", 300), (0, "libg2d-viv.so", 200), (2, "libg2d-pxp.so", 110)];
    // An emulated processor is slow. There, only the kind of library that draws most is tested, once in each layout.
    let emulated = std::env::var("FRAMELEASE_LAB_ARCH").ok();
    for (variant, file, drawn) in kinds.into_iter().take(if emulated.is_some() { 1 } else { 3 }) {
        let abis = match emulated.as_deref() {
            None => &ABIS[..],
            Some("x86_64") => &ABIS[..1],
            Some(_) => &ABIS[1..],
        };
        for &abi in abis {
            let fake = Fake::changed(abi, &Changes { file: Some(file), ..Changes::default() });
            // As far as is known: only the DPU draws NV12, and the PXP does not take dma-bufs by file.
            fake.set("variant", variant).set("nv12_target", i64::from(variant == 1));
            fake.set("blit_dmabuf", i64::from(variant == 2));
            let mut g2d = fake.builder().contiguity(Contiguity::Assume).open().unwrap();
            let report = suite(&mut g2d, &allocator().0, ALIGN, 30.0);
            assert!(report.drawn.len() >= drawn, "{} drawn; refused: {:#?}", report.drawn.len(), report.refused);
            fake.lawful();
        }
    }
}
