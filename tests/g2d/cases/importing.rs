//! How buffers are imported: each method is tried once per buffer. Covers the limits of each method.

use std::io::Write;

use crate::conformance::converting::Jobs;
use framelease::convert::g2d::{Abi, Contiguity};
use framelease::convert::Layer;
use framelease::dmabuf::{Allocator, MemoryKind};
use framelease::frame::Pool;
use framelease::ErrorKind;

use super::support::*;

/// Draws a frame `times` and returns what the fake counted: dma-buf blits, blits, imports.
fn count(fake: &Fake, times: usize) -> [i64; 3] {
    let mut g2d = fake.open();
    let pool = pool(layout("RGBA32", 16, 16), 2);
    let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
    let frame = source(&pool, noise);
    let names = ["dmabuf_blits", "blits", "imports"];
    let before = names.map(|n| fake.get(n));
    for _ in 0..times {
        let done = run(&mut g2d, &p, std::slice::from_ref(&frame), pool.try_acquire().unwrap());
        assert_eq!(rows(&done, 0), rows(&frame, 0));
    }
    let after = names.map(|n| fake.get(n));
    [after[0] - before[0], after[1] - before[1], after[2] - before[2]]
}

#[test]
fn import_tries_each_method_once_per_buffer() {
    let fake = Fake::new(Abi::Modern);
    assert_eq!(count(&fake, 10), [10, 0, 0]);
    // The library exports g2d_blit_dmabuf but does not support it, as on the PXP: one trial, then one import by address
    // for each buffer.
    fake.set("blit_dmabuf", 1);
    assert_eq!(count(&fake, 10), [1, 10, 2]);
    fake.lawful();
    let fake = Fake::without(Abi::Modern, &["g2d_blit_dmabuf"]);
    assert_eq!(count(&fake, 10), [0, 10, 2]);
    let fake = Fake::new(Abi::Legacy);
    assert_eq!(count(&fake, 10), [0, 10, 2]);
    fake.lawful();
}

#[test]
fn import_by_address_is_only_for_buffers_refused_by_file() {
    let fake = Fake::new(Abi::Modern);
    let mut g2d = fake.open();
    let pool = pool(layout("RGBA32", 16, 16), 4);
    let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
    let (good, bad) = (source(&pool, noise), source(&pool, noise));
    let text = format!("{:?}", bad.memory()[0]);
    let inode = text.split("inode ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    fake.set("refuse_inode", inode);
    let mut one = |frame: &framelease::frame::Frame| {
        let before = (fake.get("dmabuf_blits"), fake.get("blits"));
        let target = pool.try_acquire().unwrap();
        let done = run(&mut g2d, &p, std::slice::from_ref(frame), target);
        assert_eq!(rows(&done, 0), rows(frame, 0));
        (fake.get("dmabuf_blits") - before.0, fake.get("blits") - before.1)
    };
    assert_eq!(one(&good), (1, 0));
    // The other two slots are used in turn as the target.
    assert_eq!(one(&good), (1, 0));
    assert_eq!(one(&bad), (1, 1));
    assert_eq!(one(&bad), (0, 1));
    assert_eq!(one(&good), (1, 0));
    fake.lawful();
}

#[test]
fn import_error_names_every_method() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.set("from_fd_fails", 1).set("blit_dmabuf", 1).open();
        let pool = pool(layout("RGBA32", 16, 16), 2);
        let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
        g2d.begin(&p, &[source(&pool, noise)], pool.try_acquire().unwrap()).unwrap();
        let rejected = g2d.done(TIMEOUT).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::Unsupported);
        let text = rejected.error.to_string();
        assert!(text.contains("DMA_BUF_IOCTL_PHYS: ENOTTY; g2d_buf_from_fd: NULL"), "{text}");
        assert_eq!(text.contains("g2d_blit_dmabuf"), abi == Abi::Modern, "{text}");
        drop(rejected.item.expect("the target comes back"));
        eventually(|| pool.buffers().leased() == 0);
    }
}

#[test]
fn addresses_above_two_and_four_gib_are_handled() {
    // `(int)address` in 64 bits; above 4 GiB; both ends of the range of the legacy layout.
    for (abi, base, extend, works) in [
        (Abi::Modern, 0x9000_0000u64, 1, true),
        (Abi::Legacy, 0x9000_0000, 1, true),
        (Abi::Modern, 0x1_4000_0000, 0, true),
        (Abi::Legacy, 0xfff0_0000, 0, true),
    ] {
        let fake = Fake::new(abi);
        fake.set("blit_dmabuf", 1).set("base", base as i64).set("sign_extend", extend);
        assert_eq!(count(&fake, 2)[1..], [2, 2], "{base:#x}");
        assert!(works);
        fake.lawful();
    }
    // A buffer that ends above 4 GiB.
    let fake = Fake::without(Abi::Legacy, &["g2d_alloc"]);
    let mut g2d = fake.set("base", 0xffff_f000).open();
    let pool = pool(layout("RGBA32", 64, 64), 2);
    let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
    g2d.begin(&p, &[source(&pool, noise)], pool.try_acquire().unwrap()).unwrap();
    let rejected = g2d.done(TIMEOUT).unwrap_err();
    assert!(rejected.error.to_string().contains("end at 4 GiB"), "{}", rejected.error);
    assert!(rejected.item.is_some());
    assert_eq!(fake.get("frees"), 1, "a refused import is freed in the library");
}

#[test]
fn imports_end_with_their_buffers() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.set("blit_dmabuf", 1).open();
        let live = fake.get("live");
        for round in 1..=20 {
            let pool = pool(layout("RGBA32", 16, 16), 2);
            let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
            run(&mut g2d, &p, &[source(&pool, noise)], pool.try_acquire().unwrap());
            assert_eq!(fake.get("imports"), 2 * round);
            assert!(fake.get("live") <= live + 4, "at most the imports of this pool and of the last one");
        }
        drop(g2d);
        eventually(|| fake.get("frees") >= 40);
        fake.lawful();
    }
}

/// Returns the udmabuf allocator if the machine has it, as every guest of the lab does.
fn udmabuf() -> Option<Allocator> {
    if std::path::Path::new("/dev/udmabuf").exists() {
        return Some(Allocator::Udmabuf);
    }
    let promised = std::env::var("FRAMELEASE_LAB_PROMISES").is_ok_and(|p| p.split(' ').any(|w| w == "udmabuf"));
    assert!(!promised, "the lab must have udmabuf");
    let _ = writeln!(std::io::stderr(), "SKIPPED udmabuf: no /dev/udmabuf here");
    None
}

#[test]
fn dma_bufs_that_are_scattered_are_imported_by_file_alone() {
    let Some(allocator) = udmabuf() else { return };
    for (abi, contiguity, works) in [
        (Abi::Modern, Contiguity::ByExporter, true),
        (Abi::Legacy, Contiguity::ByExporter, false),
        (Abi::Legacy, Contiguity::Assume, true),
    ] {
        let fake = Fake::new(abi);
        let mut g2d = fake.builder().contiguity(contiguity).open().unwrap();
        let pool = Pool::new(&allocator, layout("NV12", 64, 48), 1).unwrap();
        let targets = Pool::new(&allocator, layout("RGBA32", 64, 48), 1).unwrap();
        let p = simple(Layer::default(), pool.buffers().layout(), targets.buffers().layout());
        let frame = source(&pool, |plane, _, at| if plane == 0 { 145 } else { [54, 34][at % 2] });
        assert_eq!(frame.memory()[0].kind(), MemoryKind::DmaBuf);
        g2d.begin(&p, &[frame], targets.try_acquire().unwrap()).unwrap();
        match g2d.done(TIMEOUT) {
            Ok(done) => {
                assert!(works);
                let pixel = &rows(&done, 0)[9][..4];
                assert!(pixel[0] < 4 && pixel[1] > 251 && pixel[2] < 4, "{pixel:?}");
            }
            Err(rejected) => {
                assert!(!works, "{}", rejected.error);
                assert_eq!(rejected.error.kind(), ErrorKind::Unsupported);
                assert!(rejected.error.to_string().contains("of udmabuf is scattered"), "{}", rejected.error);
                assert!(rejected.item.is_some());
            }
        }
        fake.lawful();
    }
}
