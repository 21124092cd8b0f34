//! Tests of devices that write into the memory of another runtime, where an accelerator reads the input of its model.

use std::os::fd::AsFd;
use std::sync::Arc;

use framelease::convert::g2d::Contiguity;
use framelease::convert::{Converter, Cpu, Layer, M2m, Plan, Request};
use framelease::dmabuf::{Allocator, DmaBuf, DEFAULT_WAIT};
use framelease::format::{Layout, Size};
use framelease::frame::{Frame, Pool};
use framelease::stats::cpu_bytes;
use framelease::v4l2::Device;
use framelease::ErrorKind;

use crate::coding::WAIT;
use crate::conformance::converting::Jobs;
use crate::conformance::picture::{self, psnr};
use crate::conformance::rgb::rgb;
use crate::devices::*;
use crate::g2d::support::{Changes, Fake, ABIS};

const PICTURE: Size = Size::new(320, 192);
/// Its rows have a multiple of 64 bytes in RGB24 and RGBA32, so neither device needs padding.
const INPUT: Size = Size::new(128, 96);
const SLOTS: usize = 3;

/// Stands for a runtime and its accelerator: it has dma-bufs, hands out their descriptors and reads them by itself.
struct Delegate {
    memory: Vec<DmaBuf>,
    offset_bytes: usize,
    bytes: usize,
}

impl Delegate {
    /// The input of the model is `bytes` long and begins at `offset_bytes`.
    fn new(offset_bytes: usize, bytes: usize) -> Self {
        let allocate = |_| Allocator::Udmabuf.allocate(offset_bytes + bytes, "delegate").unwrap();
        let delegate = Self { memory: (0..SLOTS).map(allocate).collect(), offset_bytes, bytes };
        // It maps all of them at its start.
        (0..SLOTS).for_each(|slot| drop(delegate.input(slot)));
        delegate
    }

    fn pool(&self, layout: Layout) -> Pool {
        let received = |own: &DmaBuf| vec![DmaBuf::from_fd(own.as_fd().try_clone_to_owned().unwrap()).unwrap()];
        Pool::from_memory(layout, self.memory.iter().map(received).collect()).unwrap()
    }

    fn input(&self, slot: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        self.memory[slot].read(DEFAULT_WAIT).unwrap().copy_to(self.offset_bytes, &mut bytes).unwrap();
        bytes
    }
}

/// Draws pictures into the delegate's memory. Returns the input that the accelerator finds, and the picture.
fn draw(converter: &mut dyn Converter, target: &Layout, delegate: &Delegate) -> (Vec<u8>, Frame) {
    let source = Layout::aligned(fourcc("NV12"), PICTURE, 64).unwrap();
    let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[source], target).unwrap());
    converter.check(&plan).unwrap();
    let pool = delegate.pool(*target);
    let picture = picture::frame(&Allocator::Udmabuf, &source, 1, false);
    let mut job = || {
        converter.begin(&plan, std::slice::from_ref(&picture), pool.acquire(WAIT).unwrap()).unwrap();
        converter.done(WAIT).unwrap().slot()
    };
    // Each buffer is imported once.
    (0..SLOTS).for_each(|_| _ = job());
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let counts = || (mappings(), descriptors(), cpu_bytes(), dma_bufs());
    let (before, mut last) = (counts(), 0);
    (0..4 * SLOTS).for_each(|_| last = job());
    assert_eq!(counts(), before, "a frame costs no mapping, descriptor, dma-buf or byte of the CPU");
    (delegate.input(last), picture)
}

/// Returns what the CPU draws into memory of its own.
fn expected(picture: &Frame, format: &str) -> Frame {
    let mut cpu = Cpu::new().unwrap();
    let target = packed(format, INPUT);
    let plan = Plan::new(&Request::convert(Layer::default()), &[*picture.layout()], &target).unwrap();
    let pool = Pool::new(&Allocator::Memfd, target, 1).unwrap();
    cpu.begin(&Arc::new(plan), std::slice::from_ref(picture), pool.try_acquire().unwrap()).unwrap();
    cpu.done(WAIT).unwrap()
}

#[test]
fn m2m_writes_where_the_accelerator_reads() {
    let device = Device::find(|d| d.driver == "fl_scaler").map_err(|e| e.to_string());
    let (Some(device), Some(())) = (needed("fl_scaler", device), needed_path("udmabuf", "/dev/udmabuf")) else {
        return;
    };
    leaving_nothing(|| {
        let mut m2m = M2m::new(&device).unwrap();
        let target = m2m.target_layout(fourcc("RGB24"), INPUT).unwrap();
        let delegate = Delegate::new(0, target.memory_bytes()[0] as usize);
        let (input, picture) = draw(&mut m2m, &target, &delegate);
        let db = psnr(&rgb(&expected(&picture, "RGB24")).unwrap(), &input, |_| true);
        assert!(db > 30.0, "{db:.1} dB");
        // V4L2 cannot begin a picture within a buffer.
        let plan = Plan::new(&Request::convert(Layer::default()), &[*picture.layout()], &later(&target, 4096)).unwrap();
        assert_eq!(m2m.check(&plan).unwrap_err().kind(), ErrorKind::Unsupported);
    });
}

/// The layout, with the picture some bytes into the buffer.
fn later(layout: &Layout, offset_bytes: u32) -> Layout {
    let mut plane = layout.planes()[0];
    plane.offset_bytes = offset_bytes;
    let bytes = layout.memory_bytes()[0] + offset_bytes;
    Layout::from_planes(layout.fourcc(), layout.size(), &[bytes], &[plane]).unwrap()
}

#[test]
fn g2d_writes_where_the_accelerator_reads() {
    if needed_path("udmabuf", "/dev/udmabuf").is_none() {
        return;
    }
    let fake = Fake::changed(ABIS[1], &Changes { file: Some("libg2d-dpu.so"), ..Changes::default() });
    fake.set("variant", 1);
    leaving_nothing(|| {
        let mut g2d = fake.builder().contiguity(Contiguity::Assume).open().unwrap();
        // The model's other inputs come first in the same buffer.
        let target = later(&g2d.target_layout(fourcc("RGBA32"), INPUT).unwrap(), 4096);
        let delegate = Delegate::new(4096, target.memory_bytes()[0] as usize - 4096);
        let (input, picture) = draw(&mut g2d, &target, &delegate);
        let opaque: Vec<u8> = input.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        let db = psnr(&rgb(&expected(&picture, "RGBA32")).unwrap(), &opaque, |_| true);
        assert!(db > 30.0, "{db:.1} dB");
        fake.lawful();
    });
}
