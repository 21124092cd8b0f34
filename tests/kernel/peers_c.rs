//! Tests of the C subscriber (examples/peers/c) on dma-bufs: a camera's own, and those of the kernel's allocators.

use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::Instant;

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::{Allocator, DmaBuf, MemoryKind};
use framelease::frame::{BufferSet, Frame};
use framelease::share::Publisher;
use framelease::Station;

use crate::devices::*;
use crate::dmabuf::allocators;
use crate::share::{example, SOON};

/// Asserts that framelease-cat writes the published frames, byte for byte.
fn cat_writes(buffers: &BufferSet, mut next: impl FnMut() -> Frame) {
    const FRAMES: usize = 8;
    assert_eq!(buffers.memory(0)[0].kind(), MemoryKind::DmaBuf);
    let Some(program) = example("framelease-cat") else { return };
    let folder = std::env::temp_dir().join(format!("framelease-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (socket, output) = (folder.join("socket"), folder.join("frames"));
    let mut publisher = Publisher::builder(&socket).reserve(3).allow_block(SOON).bind().unwrap();
    publisher.announce(buffers).unwrap();
    let mut command = Command::new(program);
    command.args(["--policy", "block", "--frames", &FRAMES.to_string(), "--socket"]).arg(&socket);
    let child = command.arg("--output").arg(&output).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while publisher.active() == 0 {
        assert!(start.elapsed() < SOON, "the peer does not attach");
        drop(publisher.recv(std::time::Duration::from_millis(5)).unwrap());
    }
    let mut want = Vec::new();
    for _ in 0..FRAMES {
        let frame = next();
        want.extend(pixels(&frame));
        assert!(publisher.publish(frame, SOON).unwrap().is_taken());
    }
    publisher.pause(SOON).unwrap();
    let ended = ended(child);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(std::fs::read(&output).unwrap() == want, "other pixels arrived");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn camera_buffers_reach_a_c_program() {
    leaving_nothing(|| {
        for (planar, format) in [(Planar::Single, "YUYV"), (Planar::Multi, "NV12M")] {
            let Some(device) = vivid(planar) else { return };
            let mut source = camera(&device, format).buffers(10).open().unwrap();
            let buffers = source.buffers().unwrap().clone();
            cat_writes(&buffers, || frame(&mut source));
        }
    });
}

#[test]
fn allocated_buffers_reach_a_c_program() {
    leaving_nothing(|| {
        for allocator in allocators() {
            let mut source = TestPattern::builder(SMALL).allocator(allocator).buffers(10).unpaced().start().unwrap();
            let buffers = source.buffers().unwrap().clone();
            cat_writes(&buffers, || source.recv(SOON).unwrap().frame().expect("a free buffer"));
        }
    });
}

/// The Python subscriber has no fstatfs that returns the file system's type. It uses fdinfo.
#[test]
fn fdinfo_of_a_dma_buf_alone_names_an_exporter() {
    let names_exporter = |buffer: &DmaBuf| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", buffer.as_fd().as_raw_fd())).unwrap();
        info.lines().any(|line| line.starts_with("exp_name:"))
    };
    for allocator in allocators() {
        assert!(names_exporter(&allocator.allocate(4096, "peers").unwrap()), "{allocator}");
    }
    assert!(!names_exporter(&Allocator::Memfd.allocate(4096, "peers").unwrap()));
}
