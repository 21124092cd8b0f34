//! What a tensor costs, as counts: allocations, system calls, bytes that are read.

#[path = "kernel/allocations.rs"]
mod allocations;

use framelease::convert::tensor::Fit;
use framelease::convert::{Color, Tensor};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, Pool};
use framelease::stats::{cpu_bytes, syscalls};

fn frame(fourcc: FourCc, size: Size) -> Frame {
    let layout = Layout::aligned(fourcc, size, 64).unwrap();
    let mut frame = Pool::new(&Allocator::Memfd, layout, 1).unwrap().try_acquire().unwrap();
    frame.write(DEFAULT_WAIT).unwrap().copy_row(0, 0, &[200; 32]).unwrap();
    frame.freeze_full(0, 0)
}

/// One test only: the bytes are those of the process.
#[test]
fn tensor_costs_no_allocation_and_reads_needed_rows_once() {
    let (wide, other) = (frame(FourCc::NV12, Size::new(96, 54)), frame(FourCc::YUYV, Size::new(40, 30)));
    let mut tensor = Tensor::builder(Size::new(32, 32)).fit(Fit::Letterbox(Color::BLACK)).build().unwrap();
    let mut into = vec![0f32; tensor.elements()];
    tensor.write(&wide, &mut into).unwrap();
    let first = into.clone();
    let before = (allocations::of_this_thread(), syscalls(), cpu_bytes().read);
    for _ in 0..10 {
        tensor.write(&wide, &mut into).unwrap();
    }
    let after = (allocations::of_this_thread(), syscalls(), cpu_bytes().read);
    assert_eq!((after.0 - before.0, after.1 - before.1), (0, 0));
    // 96x54 to 32x18: of three rows the middle one is needed, and its chroma row.
    assert_eq!((after.2 - before.2) / 10, 96 * (18 + 18));
    tensor.write(&other, &mut into).unwrap();
    tensor.write(&wide, &mut into).unwrap();
    assert!(first == into, "a plan of another layout was used");
}
