//! Opaque layouts: everything that reads or writes pixels with the CPU refuses them.

use framelease::capture::TestPattern;
use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FormatKind, FourCc, Layout, Size};
use framelease::frame::Pool;
use framelease::share::Publisher;
use framelease::{Error, ErrorKind};

#[track_caller]
fn refused<T>(result: Result<T, Error>, text: &str) {
    let e = result.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    assert!(e.to_string().contains(text), "{e}");
}

#[test]
fn opaque_layout_is_refused_by_everything_that_reads_pixels() {
    const TILES: &str = "AT12 64x48 stride 64 is tiled (modifier 0xf000000000000001): only devices can read it";
    let fourcc: FourCc = "NV12_8L128".parse().unwrap();
    assert_eq!(fourcc.info().unwrap().kind, FormatKind::Opaque);
    let size = Size::new(64, 48);
    let tiles = Layout::from_strides(fourcc, size, &[64], &[]).unwrap();
    let rows = Layout::packed(FourCc::NV12, size).unwrap();

    // Its memory can be allocated, leased and passed on.
    let pool = Pool::new(&Allocator::Memfd, tiles, 1).unwrap();
    assert_eq!(pool.buffers().memory(0)[0].size_bytes(), 64 * 256);
    let mut frame = pool.try_acquire().unwrap();
    refused(frame.write(DEFAULT_WAIT), TILES);
    let frame = frame.freeze_full(1, 1);
    refused(frame.read(DEFAULT_WAIT), TILES);

    refused(TestPattern::builder(size).fourcc(fourcc).allocator(Allocator::Memfd).start(), "AT12");
    let request = Request::convert(Layer::default());
    refused(Plan::new(&request, &[rows], &tiles), TILES);
    let plan = Plan::new(&request, &[tiles], &rows).unwrap();
    refused(Cpu::new().unwrap().check(&plan), "does not support AT12");

    let folder = std::env::temp_dir().join(format!("framelease-opaque-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut publisher = Publisher::builder(folder.join("socket")).bind().unwrap();
    refused(publisher.announce(pool.buffers()), TILES);
    refused(publisher.try_publish(frame).map_err(|rejected| rejected.error), TILES);
    drop(publisher);
    std::fs::remove_dir_all(folder).unwrap();
}
