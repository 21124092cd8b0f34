//! Tests of dma-bufs of the kernel's own allocators: identity, access, fences.

use std::os::fd::AsFd;
use std::time::Duration;

use framelease::capture::TestPattern;
use framelease::dmabuf::{Access, Allocator, DmaBuf, MemoryKind, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::stats::cpu_bytes;
use framelease::ErrorKind;

use crate::devices::*;

pub fn allocators() -> Vec<Allocator> {
    let mut all = Allocator::heaps();
    if needed_path("dma-heap", "/dev/dma_heap/system").is_none() {
        assert!(all.is_empty());
    }
    if needed_path("udmabuf", "/dev/udmabuf").is_some() {
        all.push(Allocator::Udmabuf);
    }
    all
}

#[test]
fn allocated_buffers_have_the_reported_properties() {
    leaving_nothing(|| {
        for allocator in allocators() {
            let mut a = allocator.allocate(5000, "framelease test").unwrap();
            let b = allocator.allocate(5000, "framelease test").unwrap();
            assert_eq!((a.kind(), a.size_bytes(), a.is_read_only()), (MemoryKind::DmaBuf, 8192, false), "{allocator}");
            assert_ne!(a.id(), b.id());
            let again = DmaBuf::from_fd(a.as_fd().try_clone_to_owned().unwrap()).unwrap();
            assert_eq!(a, again, "a duplicate names the same memory");
            let before = cpu_bytes();
            a.write(DEFAULT_WAIT).unwrap().copy_from(8000, b"pixels").unwrap();
            let mut got = [0; 6];
            again.read(DEFAULT_WAIT).unwrap().copy_to(8000, &mut got).unwrap();
            assert_eq!(&got, b"pixels");
            assert_eq!(cpu_bytes().written - before.written, 6);
            assert_eq!(cpu_bytes().read - before.read, 6);
            if let Ok(info) = std::fs::read_to_string("/sys/kernel/debug/dma_buf/bufinfo") {
                assert!(info.contains("framelease test"), "{allocator}: the name is in debugfs");
            }
        }
    });
}

#[test]
fn sync_files_are_exported_and_imported() {
    leaving_nothing(|| {
        for allocator in allocators() {
            let a = allocator.allocate(4096, "fences").unwrap();
            let mut b = allocator.allocate(4096, "fences").unwrap();
            for access in [Access::Read, Access::Write] {
                let fence = a.export_sync_file(access).unwrap();
                // No device uses it.
                assert!(fence.wait(Duration::ZERO).unwrap());
                b.import_sync_file(&fence, access).unwrap();
            }
            assert!(b.read(DEFAULT_WAIT).is_ok() && b.write(DEFAULT_WAIT).is_ok());
            let null = framelease::dmabuf::SyncFile::from_fd(std::fs::File::open("/dev/null").unwrap().into());
            assert_eq!(b.import_sync_file(&null, Access::Read).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    });
}

#[test]
fn allocate_names_the_limit() {
    leaving_nothing(|| {
        if needed_path("udmabuf", "/dev/udmabuf").is_none() {
            return;
        }
        // The module's limit is 64 MiB.
        let e = Allocator::Udmabuf.allocate(65 << 20, "too large").unwrap_err();
        assert!(e.to_string().contains("/dev/udmabuf") && e.to_string().contains("68157440"), "{e}");
    });
}

#[cfg(feature = "drm")]
#[test]
fn attachments_are_made_dropped_and_refused() {
    leaving_nothing(|| {
        if needed_path("vgem", "/dev/dri/renderD128").is_none() {
            return;
        }
        for allocator in allocators() {
            let mut a = allocator.allocate(4096, "attached").unwrap();
            let first = a.attach("/dev/dri/renderD128").unwrap();
            let second = a.attach("/dev/dri/renderD128").unwrap();
            drop(first);
            a.write(DEFAULT_WAIT).unwrap().copy_from(0, b"x").unwrap();
            drop(second);
            assert_eq!(a.attach("/dev/dri/renderD999").unwrap_err().kind(), ErrorKind::NotFound);
            assert!(a.attach("/dev/null").is_err());
        }
        let memfd = Allocator::Memfd.allocate(4096, "no dma-buf").unwrap();
        assert_eq!(memfd.attach("/dev/dri/renderD128").unwrap_err().kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn test_pattern_larger_than_the_limit_of_udmabuf_starts() {
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    let large = TestPattern::builder(Size::new(7680, 4320)).fourcc(fourcc("RGBA32")).buffers(1);
    let error = large.clone().allocator(Allocator::Udmabuf).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert!(error.to_string().contains("size_limit_mb allows 67108864 bytes"), "{error}");
    drop(large.start().unwrap());
}
