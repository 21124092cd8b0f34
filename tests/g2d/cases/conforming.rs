//! The suite that every converter must pass, on each kind of library in both layouts.

use framelease::convert::g2d::{Abi, Contiguity};

use super::support::*;
use crate::conformance::{self, allocator, cases, suite, tiled};

/// Strides are whole pixels of every format, and multiples of 64 bytes.
const ALIGN: u32 = 192;

/// An emulated processor is slow. There, only the kind of library that draws most is tested, once in each layout.
fn abis() -> &'static [Abi] {
    match std::env::var("FRAMELEASE_LAB_ARCH").as_deref() {
        Err(_) => &ABIS,
        Ok("x86_64") => &ABIS[..1],
        Ok(_) => &ABIS[1..],
    }
}

#[test]
fn g2d_draws_the_suite_or_refuses_by_a_rule() {
    let kinds = [(1, "libg2d-dpu.so", 300), (0, "libg2d-viv.so", 200), (2, "libg2d-pxp.so", 110)];
    for (variant, file, drawn) in kinds.into_iter().take(if abis().len() < 2 { 1 } else { 3 }) {
        for &abi in abis() {
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

#[test]
fn old_gpu_draws_the_suite_or_refuses_by_a_rule() {
    // Headers 1.1 and 1.4, with the symbols that they had.
    const SINCE_2_0: [&str; 2] = ["g2d_create_fence_fd", "g2d_set_warp_coordinates"];
    const SINCE_1_2: [&str; 3] = ["g2d_buf_export_fd", "g2d_blitEx", "g2d_set_clipping"];
    if abis().len() < 2 {
        return;
    }
    for (header, without, drawn) in [(11, [&SINCE_2_0[..], &SINCE_1_2].concat(), 150), (14, SINCE_2_0.to_vec(), 150)] {
        let changes = Changes { file: Some("libg2d.so.1.5"), without: &without, ..Changes::default() };
        let fake = Fake::changed(ABIS[0], &changes);
        fake.set("header", header);
        let mut g2d = fake.builder().contiguity(Contiguity::Assume).open().unwrap();
        let report = suite(&mut g2d, &allocator().0, ALIGN, 30.0);
        assert!(report.drawn.len() >= drawn, "{} drawn; refused: {:#?}", report.drawn.len(), report.refused);
        let refuses = |what: &str| report.refused.iter().any(|text| text.contains(what));
        assert!(refuses("this libg2d has one matrix, YUV_BT_601") && refuses("before header 1.6"));
        assert_eq!(refuses("before header 1.3, which exchanges its planes"), header == 11, "{:#?}", report.refused);
        fake.lawful();
    }
}

#[test]
fn dpu_draws_tiled_sources_as_it_draws_rows() {
    for &abi in abis() {
        let format = if abi == Abi::Legacy { "NV12_8L128" } else { "NV12M_8L128" };
        let fake = Fake::changed(abi, &Changes { file: Some("libg2d-dpu.so"), ..Changes::default() });
        fake.set("variant", 1).set("nv12_target", 1);
        let mut g2d = fake.builder().contiguity(Contiguity::Assume).open().unwrap();
        let (allocator, mut drawn) = (allocator().0, 0);
        // Bytes are not copied from tiles.
        for rows in cases(ALIGN).into_iter().filter(|case| case.sources != [case.target]) {
            let Some(tiles) = tiled(&rows, format.parse().unwrap()) else { continue };
            let is_drawn = conformance::run(&mut g2d, &allocator, &rows).is_ok();
            let blits = fake.get("tiled_blits");
            match conformance::run(&mut g2d, &allocator, &tiles) {
                Ok(db) => assert!(db > 30.0 && fake.get("tiled_blits") > blits, "{db:.1} dB: {tiles}"),
                Err(rule) => assert!(!is_drawn, "{tiles}: {rule}"),
            }
            drawn += usize::from(is_drawn);
        }
        assert!(drawn > 100, "{drawn}");
        fake.lawful();
    }
}
