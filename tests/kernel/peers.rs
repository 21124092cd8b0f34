//! The subscriber in C (examples/peers/c) on dma-bufs: a camera's own, and those of the kernel's allocators.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framelease::capture::TestPattern;
use framelease::dmabuf::{Allocator, DmaBuf, MemoryKind};
use framelease::frame::{BufferSet, Frame};
use framelease::share::{Event, Policy, Publisher, Subscriber};

use crate::devices::*;
use crate::dmabuf::allocators;
use crate::share::{example, SOON};

/// framelease-cat writes what was published, byte for byte.
fn cat_writes(buffers: &BufferSet, mut next: impl FnMut() -> Frame) {
    const FRAMES: usize = 8;
    assert_eq!(buffers.memory(0)[0].kind(), MemoryKind::DmaBuf);
    let Some(program) = example("framelease-cat") else { return };
    let folder = std::env::temp_dir().join(format!("framelease-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (socket, output) = (folder.join("socket"), folder.join("frames"));
    let mut publisher = Publisher::builder(&socket).reserve(3).bind().unwrap();
    publisher.announce(buffers).unwrap();
    let mut command = Command::new(program);
    command.args(["--policy", "block", "--frames", &FRAMES.to_string(), "--socket"]).arg(&socket);
    let child = command.arg("--output").arg(&output).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while publisher.active() == 0 {
        assert!(start.elapsed() < SOON, "the peer does not attach");
        publisher.wait(std::time::Duration::from_millis(5)).unwrap();
    }
    let mut want = Vec::new();
    for _ in 0..FRAMES {
        let frame = next();
        want.extend(pixels(&frame));
        publisher.publish(frame, SOON).unwrap();
    }
    publisher.end_stream(SOON).unwrap();
    let ended = ended(child);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(std::fs::read(&output).unwrap() == want, "other pixels arrived");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_cameras_own_buffers_reach_a_c_program() {
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
            let buffers = source.buffers().clone();
            cat_writes(&buffers, || source.next(SOON).unwrap().expect("a free buffer"));
        }
    });
}

/// The Python subscriber has no fstatfs with a file system's type; it goes by fdinfo.
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

/// A Debian root of the lab's with GStreamer and Python, mounted, and `examples/peers/python` as its `/lab`.
fn others() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let mount = || {
        let root = PathBuf::from("/run/others");
        std::fs::create_dir_all(&root).ok()?;
        let mount = |args: &[&str], to: &Path| {
            Command::new("mount").args(args).arg(to).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
        };
        let options = "ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144";
        let well = mount(&["-t", "9p", "-o", options, "others"], &root)
            && mount(&["-t", "9p", "-o", options, "python"], &root.join("lab"))
            && ["dev", "proc", "sys", "tmp"].iter().all(|f| mount(&["--bind", &format!("/{f}")], &root.join(f)));
        well.then_some(root)
    };
    let root = ROOT.get_or_init(mount).as_deref();
    needed("other programs", root.ok_or_else(|| "the lab shares no root with GStreamer and Python here".into()))
}

/// A program in that root.
fn other(root: &Path, program: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg(program);
    command
        .env("GST_PLUGIN_SYSTEM_PATH", "/plugins")
        .env("GST_REGISTRY", "/tmp/registry")
        .env("GST_REGISTRY_FORK", "no");
    command
}

fn crc32(bytes: &[u8]) -> u32 {
    static TABLE: OnceLock<[u32; 256]> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let step = |crc: u32| if crc & 1 != 0 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        std::array::from_fn(|byte| (0..8).fold(byte as u32, |crc, _| step(crc)))
    });
    !bytes.iter().fold(!0, |crc, byte| table[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

/// The hashes that a program prints behind its sequence numbers.
fn printed(child: &mut Child) -> JoinHandle<Vec<u32>> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let hash = |line: String| u32::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap();
    std::thread::spawn(move || lines.map(|line| hash(line.unwrap())).collect())
}

/// One publisher, its frames a camera's own buffers, and a consumer in each language at once: all see the same.
#[test]
#[cfg(feature = "unixfd")]
fn a_thousand_frames_of_a_camera_are_the_same_in_rust_c_python_and_gstreamer() {
    use framelease::format::Size;
    use framelease::share::UnixfdTerms;

    const FRAMES: usize = 1_000;
    const SIZE: Size = Size::new(320, 180);
    let (Some(device), Some(cat), Some(root)) = (vivid(Planar::Multi), example("framelease-cat"), others()) else {
        return;
    };
    let folder = std::env::temp_dir().join(format!("framelease-languages-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (socket, gst) = (folder.join("socket"), folder.join("gst"));
    leaving_nothing(|| {
        let mut source = camera(&device, "NV12").size(SIZE).buffers(24).open().unwrap();
        let layout = *source.layout().unwrap();
        let frame_bytes = layout.pixel_bytes() as usize;
        assert_eq!(layout.memory_bytes().iter().sum::<u32>() as usize, frame_bytes, "without padding");
        let terms = UnixfdTerms::hold(4).policy(Policy::Block);
        let mut publisher =
            Publisher::builder(&socket).reserve(3).handshake_timeout(SOON).unixfd(&gst, terms).bind().unwrap();
        publisher.announce(source.buffers().unwrap()).unwrap();

        let count = FRAMES.to_string();
        let rust = {
            let builder = Subscriber::builder(&socket).policy(Policy::Block);
            std::thread::spawn(move || {
                let mut subscriber = builder.connect(SOON).unwrap();
                let mut hashes = Vec::new();
                while hashes.len() < FRAMES {
                    match subscriber.next(SOON).unwrap() {
                        Some(Event::Frame(frame)) => hashes.push(crc32(&pixels(&frame))),
                        Some(Event::Format(_)) => {}
                        other => panic!("{other:?} behind {} frames", hashes.len()),
                    }
                }
                hashes
            })
        };
        let common = ["--policy", "block", "--hash", "--frames", &count, "--timeout", "60", "--socket"];
        let mut python = other(root, "/usr/bin/python3");
        python.args(["-B", "/lab/view.py"]);
        let mut children: Vec<Child> = [Command::new(cat), python]
            .into_iter()
            .map(|mut command| command.args(common).arg(&socket).stdout(Stdio::piped()).spawn().unwrap())
            .collect();
        let mut hashes: Vec<_> = children.iter_mut().map(printed).collect();
        let mut pipeline = other(root, "/usr/bin/gst-launch-1.0");
        pipeline.args(["--quiet", "unixfdsrc"]).arg(format!("socket-path={}", gst.display()));
        pipeline.args([&format!("num-buffers={FRAMES}"), "!", "fdsink", "fd=1"]);
        let mut pipeline = pipeline.stdout(Stdio::piped()).spawn().unwrap();
        let mut bytes = pipeline.stdout.take().unwrap();
        hashes.push(std::thread::spawn(move || {
            let mut frame = vec![0; frame_bytes];
            let next = || bytes.read_exact(&mut frame).ok().map(|()| crc32(&frame));
            std::iter::from_fn(next).collect()
        }));
        children.push(pipeline);

        let start = Instant::now();
        while publisher.active() < 4 {
            assert!(start.elapsed() < 3 * SOON, "{} of 4 attach", publisher.active());
            publisher.wait(Duration::from_millis(5)).unwrap();
        }
        let mut published = Vec::new();
        for _ in 0..FRAMES {
            let frame = frame(&mut source);
            published.push(crc32(&pixels(&frame)));
            publisher.publish(frame, 3 * SOON).unwrap();
            publisher.dispatch().unwrap();
        }
        hashes.push(rust);
        while hashes.iter().any(|h| !h.is_finished()) {
            publisher.wait(Duration::from_millis(20)).unwrap();
        }
        let hashes: Vec<Vec<u32>> = hashes.into_iter().map(|h| h.join().unwrap()).collect();
        for (language, hashes) in ["C", "Python", "GStreamer", "Rust"].iter().zip(&hashes) {
            assert_eq!(hashes.len(), FRAMES, "{language}");
            assert!(*hashes == published, "{language} saw other pixels");
        }
        assert!(published.windows(2).any(|w| w[0] != w[1]), "the picture moves");
        assert_eq!(publisher.stats().violations, 0);
        for child in children {
            let ended = ended(child);
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        drop(publisher);
    });
    let _ = std::fs::remove_dir_all(folder);
}
