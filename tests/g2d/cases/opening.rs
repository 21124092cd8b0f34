//! How the library is opened: its layout, its variant, and libraries that cannot be used.

use std::time::Duration;

use crate::conformance::converting::Jobs;
use framelease::convert::g2d::{Abi, Answer, Variant};
use framelease::convert::{Converter, G2d, Layer};
use framelease::ErrorKind;

use super::support::*;

const CORE: [&str; 6] = ["g2d_open", "g2d_close", "g2d_blit", "g2d_finish", "g2d_enable", "g2d_disable"];

#[test]
fn open_error_names_the_missing_library() {
    let e = G2d::builder().library("/nowhere/libg2d.so.2").open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("/nowhere/libg2d.so.2"), "{e}");
    let e = G2d::builder().library("/nowhere/lib\0g2d").open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let e = G2d::builder().library("/proc/self/status").open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
}

#[test]
fn open_refuses_a_library_without_a_core_symbol() {
    for symbol in CORE {
        let fake = Fake::without(Abi::Modern, &[symbol]);
        let e = fake.builder().open().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::WrongFile);
        assert!(e.to_string().contains(&format!("{symbol} is missing")), "{e}");
    }
}

#[test]
fn abi_is_found_by_three_probes() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let g2d = fake.open();
        let report = g2d.report();
        assert_eq!(report.abi, Some(abi));
        // A library of header 2.1 or 2.2 exports nothing that distinguishes it from a later one.
        let votes: Vec<_> = report.votes.iter().map(|v| v.abi).collect();
        let by_symbols = Some(abi).filter(|a| *a == Abi::Modern);
        assert_eq!(votes, [Some(abi), by_symbols, Some(abi)], "{:?}", report.votes);
        assert!(report.version.as_deref().is_some_and(|v| v.contains("$VERSION$6.4.11:")), "{:?}", report.version);
        assert_eq!(report.variant, Variant::Gpu);
        assert_eq!(report.path, fake.path.canonicalize().unwrap());
        assert!(g2d.name().starts_with("g2d (") && g2d.name().contains("libg2d-viv"));
        fake.lawful();
    }
}

#[test]
fn abi_is_found_by_each_probe_alone() {
    // Without the version text, either the symbols alone or the allocation alone decide.
    for (abi, without) in [
        (Abi::Modern, &["_G2D_VERSION"][..]),
        (Abi::Modern, &["_G2D_VERSION", "g2d_blit_dmabuf", "g2d_get_warp_coordinates_from_dct_file"]),
        (Abi::Modern, &["_G2D_VERSION", "g2d_alloc"]),
        (Abi::Modern, &["g2d_blit_dmabuf", "g2d_get_warp_coordinates_from_dct_file", "g2d_alloc"]),
        (Abi::Legacy, &["_G2D_VERSION"]),
        (Abi::Legacy, &["_G2D_VERSION", "g2d_set_warp_coordinates"]),
        (Abi::Legacy, &["_G2D_VERSION", "g2d_set_warp_coordinates", "g2d_alloc"]),
    ] {
        let fake = Fake::without(abi, without);
        assert_eq!(fake.open().report().abi, Some(abi), "without {without:?}");
        fake.lawful();
    }
}

#[test]
fn abi_is_unknown_if_probes_disagree_or_find_nothing() {
    let lying = Changes { replace: &[("6.4.11:1049711:", "6.4.11:1010101:")], ..Changes::default() };
    let mute = Changes { without: &["_G2D_VERSION", "g2d_alloc"], ..Changes::default() };
    for (abi, changes) in [(Abi::Modern, &lying), (Abi::Legacy, &mute)] {
        let fake = Fake::changed(abi, changes);
        let e = fake.builder().open().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        for text in ["_G2D_VERSION: ", "exported symbols: ", "g2d_alloc: ", "FRAMELEASE_G2D_ABI"] {
            assert!(e.to_string().contains(text), "{e}");
        }
        let report = fake.builder().inspect(None).unwrap();
        assert!(report.abi.is_none() && report.survey.is_none());
        assert_eq!(fake.get("blits") + fake.get("dmabuf_blits") + fake.get("clears"), 0);
        // The user's choice overrides the probes.
        let mut g2d = fake.builder().abi(abi).open().unwrap();
        assert!(g2d.report().abi_forced);
        let pool = pool(layout("RGBA32", 16, 16), 2);
        let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
        run(&mut g2d, &p, &[source(&pool, noise)], pool.try_acquire().unwrap());
        fake.lawful();
    }
}

#[test]
fn abi_that_is_wrong_is_detected_by_the_fake() {
    // This is why the probes exist: surfaces in the wrong layout are garbage, and the fake refuses them.
    for (is, told) in [(Abi::Legacy, Abi::Modern), (Abi::Modern, Abi::Legacy)] {
        let fake = Fake::new(is);
        fake.set("blit_dmabuf", -1);
        let mut g2d = fake.builder().abi(told).open().unwrap();
        let pool = pool(layout("RGBA32", 16, 16), 2);
        let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
        let before = fake.get("violations");
        g2d.begin(&p, &[source(&pool, noise)], pool.try_acquire().unwrap()).unwrap();
        assert!(g2d.done(TIMEOUT).unwrap_err().item.is_some());
        assert!(fake.get("violations") > before || fake.get("blits") == 0);
    }
}

#[test]
fn variant_is_detected() {
    for (variant, file, number) in
        [(Variant::Gpu, "libg2d-viv.so", 0), (Variant::Dpu, "libg2d-dpu.so", 1), (Variant::Pxp, "libg2d-pxp.so", 2)]
    {
        for abi in ABIS {
            let fake = Fake::changed(abi, &Changes { file: Some(file), ..Changes::default() });
            fake.set("variant", number);
            assert_eq!(fake.open().report().variant, variant);
        }
        // By the hardware query alone.
        let fake = Fake::changed(Abi::Modern, &Changes { file: Some("libg2d.so.2"), ..Changes::default() });
        fake.set("variant", number);
        assert_eq!(fake.open().report().variant, variant);
    }
}

#[test]
fn open_works_without_each_optional_symbol() {
    let optional = [
        "g2d_alloc",
        "g2d_free",
        "g2d_clear",
        "g2d_copy",
        "g2d_flush",
        "g2d_multi_blit",
        "g2d_query_hardware",
        "g2d_query_feature",
        "g2d_create_fence_fd",
        "g2d_set_warp_coordinates",
        "g2d_query_cap",
        "g2d_cache_op",
        "g2d_make_current",
        "g2d_blitEx",
        "g2d_set_clipping",
        "g2d_set_csc_matrix",
        "g2d_buf_export_fd",
        "g2d_buf_from_virt_addr",
        "_G2D_VERSION",
        "g2d_blit_dmabuf",
    ];
    for abi in ABIS {
        let exported = |s: &&&str| abi == Abi::Modern || **s != "g2d_blit_dmabuf";
        let one_each: Vec<Vec<&str>> = optional.iter().filter(exported).map(|s| vec![*s]).collect();
        let all: Vec<&str> = optional.iter().filter(exported).copied().collect();
        for without in one_each.into_iter().chain([all]) {
            let fake = Fake::without(abi, &without);
            let mut g2d = fake.builder().abi(abi).open().unwrap();
            let pool = pool(layout("RGBA32", 16, 16), 2);
            let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
            let from = source(&pool, noise);
            let done = run(&mut g2d, &p, std::slice::from_ref(&from), pool.try_acquire().unwrap());
            assert_eq!(rows(&done, 0), rows(&from, 0), "without {without:?}");
            fake.lawful();
        }
    }
}

#[test]
fn open_error_of_the_library_is_reported() {
    let fake = Fake::new(Abi::Modern);
    fake.set("open_fails", 1);
    let e = fake.builder().open().unwrap_err();
    assert!(e.kind() == ErrorKind::Os && e.to_string().starts_with("g2d_open on "), "{e}");
    fake.set("open_fails", 0);
    assert!(fake.builder().open().is_ok());
    for depth in [0, 65, usize::MAX] {
        assert_eq!(fake.builder().depth(depth).open().unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(fake.builder().thread_name("a\0b").open().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn open_timeout_ends_an_open_that_hangs() {
    let fake = Fake::new(Abi::Modern);
    fake.set("open_hangs", 1);
    let e = fake.builder().open_timeout(Duration::from_millis(20)).open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Timeout);
    fake.set("open_hangs", 0);
    eventually(|| fake.get("opens") == 1);
    assert!(fake.builder().open().is_ok());
}

#[test]
fn handle_is_opened_once_and_its_thread_is_named() {
    let threads = |name: &str| {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks.filter(|t| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|c| c.trim() == name)).count()
    };
    let fake = Fake::new(Abi::Modern);
    for round in 0..5 {
        let name = format!("blit-{round}");
        let g2d = fake.builder().thread_name(&name).open().unwrap();
        eventually(|| threads(&name) == 1);
        drop(g2d);
        // The worker parks after it has seen the end.
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(fake.get("opens") <= 5 && fake.get("closes") == 0);
    let two = [fake.open(), fake.open()];
    drop(two);
    assert_eq!(fake.get("closes"), 0);
    fake.lawful();
}

#[test]
fn inspect_tries_everything() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        fake.set("fence", 1);
        let buffers = pool(layout("RGBA32", 64, 64), 1);
        let report = fake.builder().inspect(Some(&buffers.buffers().memory(0)[0])).unwrap();
        let survey = report.survey.as_ref().unwrap();
        assert!(survey.fence && survey.caps.iter().all(|(_, on, _)| *on));
        assert_eq!(report.feature("SCALING"), Answer::Yes);
        let row = |name: &str| {
            let fourcc = name.parse().unwrap();
            survey.formats.iter().find(|f| f.fourcc == fourcc).unwrap()
        };
        assert!(row("NV12").source.0 && !row("NV12").target.0 && row("YUYV").target.0 && !row("VYUY").source.0);
        for trial in &survey.formats {
            // The rules do not refuse anything that works here. Everything that they allow works.
            for (rule, (works, why)) in [(trial.rules.0, &trial.source), (trial.rules.1, &trial.target)] {
                assert!(rule == Answer::Unknown || (rule == Answer::Yes) == *works, "{} {rule} {why}", trial.fourcc);
            }
        }
        let rung = |name: &str| survey.imports.iter().find(|(n, ..)| *n == name).unwrap().1;
        assert_eq!(rung("g2d_blit_dmabuf"), abi == Abi::Modern);
        assert!(!rung("DMA_BUF_IOCTL_PHYS") && rung("g2d_buf_from_fd"));
        fake.lawful();
    }
}
