//! Tests of 32-bit programs on a 64-bit kernel, as on boards with an older Arm userland. Their structures of V4L2, of
//! dma-buf and of the sockets differ.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framelease::capture::{Camera, FrameSource};
use framelease::share::Publisher;
use framelease::Station;

use crate::coding::{fwht, h264};
use crate::devices::*;
use crate::share::SOON;

/// Returns an example that was built for 32 bits. Only the lab's aarch64 guest has them.
fn narrow(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("FRAMELEASE_EXAMPLES_DIR").unwrap_or_default());
    let path = folder.join(format!("{name}-arm-linux-gnueabihf"));
    needed(
        "programs of 32 bits",
        path.exists().then_some(path).ok_or_else(|| format!("{name} is not built for 32 bits")),
    )
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("framelease-narrow-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn capture_example_of_32_bits_captures_the_same_frames() {
    let Some(capture) = narrow("capture") else { return };
    for (planar, format) in [(Planar::Single, "YUYV"), (Planar::Multi, "NV12M")] {
        let Some(device) = vivid(planar) else { return };
        freeze_pattern(&device);
        leaving_nothing(|| {
            let ours = pixels(&frame(&mut camera(&device, format).open().unwrap()));
            let folder = Folder::new();
            let output = folder.file("frames");
            let path = device.info().path.to_str().unwrap();
            let args =
                ["--device", path, "--fourcc", format, "--size", "640x360", "--frames", "3", "--output", &output];
            run(capture.to_str().unwrap(), &args);
            assert!(std::fs::read(&output).unwrap() == ours.repeat(3), "{format}: the bytes differ");
        });
    }
}

#[test]
fn encode_example_of_32_bits_encodes_the_same_stream() {
    let Some(narrow) = narrow("encode") else { return };
    let Some(wide) = crate::share::example("encode") else { return };
    let (Some(camera), Some(_), Some(_)) = (vivid(Planar::Single), h264(""), fwht(Planar::Single)) else { return };
    freeze_pattern(&camera);
    drop(camera);
    let folder = Folder::new();
    for codec in ["h264", "fwht"] {
        let stream = |program: &Path| {
            let output = folder.file("stream");
            let args = ["--camera", "auto", "--codec", codec, "--size", "640x360", "--gop", "2", "--frames", "5"];
            run(program.to_str().unwrap(), &[&args[..], &["--output", &output]].concat());
            std::fs::read(output).unwrap()
        };
        leaving_nothing(|| {
            let wide = stream(&wide);
            assert!(wide.len() > 1000 && stream(&narrow) == wide, "{codec}: the streams differ");
        });
    }
}

/// Starts a subscriber that writes its frames, and waits until it is active.
fn join(publisher: &mut Publisher, program: &Path, args: &[&str]) -> Child {
    let active = publisher.active();
    let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while publisher.active() == active {
        assert!(start.elapsed() < SOON, "{program:?} does not attach");
        drop(publisher.recv(Duration::from_millis(5)).unwrap());
    }
    child
}

#[test]
fn subscribers_of_32_bits_get_a_camera_s_frames() {
    const FRAMES: usize = 8;
    let Some(programs) = narrow("subscriber").zip(narrow("framelease-cat")) else { return };
    leaving_nothing(|| {
        let Some(device) = vivid(Planar::Multi) else { return };
        let mut camera: Camera = camera(&device, "NV12M").buffers(12).open().unwrap();
        let folder = Folder::new();
        let socket = folder.file("socket");
        let mut publisher = Publisher::builder(&socket).reserve(3).allow_block(SOON).bind().unwrap();
        publisher.announce(camera.buffers().unwrap()).unwrap();
        let outputs = [folder.file("rust"), folder.file("c")];
        let common = ["--policy", "block", "--frames", "8", "--socket", &socket, "--output"];
        let children = [(&programs.0, &outputs[0]), (&programs.1, &outputs[1])]
            .map(|(program, output)| join(&mut publisher, program, &[&common[..], &[output]].concat()));
        let mut want = Vec::new();
        for _ in 0..FRAMES {
            let frame = frame(&mut camera);
            want.extend(pixels(&frame));
            assert!(publisher.publish(frame, SOON).unwrap().is_taken());
        }
        publisher.pause(SOON).unwrap();
        for (child, output) in children.into_iter().zip(outputs) {
            let ended = ended(child);
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            assert!(std::fs::read(&output).unwrap() == want, "{output}: the pixels differ");
        }
        assert_eq!(publisher.stats().violations, 0);
    });
}
