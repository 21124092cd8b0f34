//! Tests of the C library by its examples, as C and as C++, on the kernel's drivers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framelease::share::Publisher;
use framelease::Station;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::coding::*;
use crate::devices::*;
use crate::node::{free_port, peer, watch, write_stream, MANY};
use crate::share::{example, SOON};

/// The programs of this name: in C, and in C++ where the lab has a compiler.
fn programs(name: &str) -> Vec<(PathBuf, &'static str)> {
    let Some(c) = example(name) else { return Vec::new() };
    let cpp = c.with_file_name(format!("{name}-cpp"));
    let mut all = vec![(c, "c")];
    if cpp.exists() {
        all.push((cpp, "cpp"));
    }
    all
}

/// A program that is killed when its test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Sends Ctrl-C, and returns what the program printed.
    fn interrupted(mut self) -> String {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        text
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("capi-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The number after `name` in the line of a station.
fn count(printed: &str, station: &str, name: &str) -> u64 {
    let line = printed.lines().find(|line| line.starts_with(&format!("{station}:")));
    let line = line.unwrap_or_else(|| panic!("{station} in: {printed}"));
    let rest = line.split_once(&format!(" {name} ")).unwrap_or_else(|| panic!("{name} in: {line}")).1;
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn c_node_gives_every_consumer_the_same_pixels() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("")) else { return };
    let (camera, encoder) = (text(&camera.info().path), text(&encoder.info().path));
    for (program, language) in programs("camnode") {
        let (folder, streams) = (folder(language), Judged::folder());
        let name = format!("capi-{language}");
        let (socket, rtsp, file) = (folder.join("socket"), free_port(), streams.join(format!("{name}.mkv")));
        let mut command = Command::new(program);
        command.args(["--camera", &camera, "--encoder", &encoder, "--size", "320x180", "--fps", "15"]);
        command.args([&text(&socket), &rtsp.to_string(), &text(&file)]).stdout(Stdio::piped());
        let node = Running(command.spawn().unwrap());
        let peers = ["peer1", "peer2"].map(|which| peer(&socket, &streams.join(format!("{name}-{which}.raw"))));
        let start = Instant::now();
        while std::net::TcpStream::connect(rtsp).is_err() {
            assert!(start.elapsed() < SOON, "it serves RTSP");
            std::thread::sleep(Duration::from_millis(20));
        }
        let (client, watched) = watch(rtsp);
        assert_eq!(peers.map(|peer| peer.join().unwrap()), [MANY; 2]);
        drop(client);
        let printed = node.interrupted();
        assert!(!socket.exists(), "its socket is gone");
        // As many packets as frames that the encoder took, all of them recorded, and no byte copied.
        let (encoded, recorded) = (count(&printed, "encoder", "packets"), count(&printed, "recorder", "packets"));
        assert!(encoded >= MANY as u64 && recorded == encoded, "{printed}");
        assert_eq!(count(&printed, "encoder", "frames"), encoded, "{printed}");
        assert_eq!(count(&printed, "source", "copied_bytes"), 0, "{printed}");
        assert_eq!(count(&printed, "publisher", "admitted"), 2, "{printed}");
        let frames = write_stream(&streams.join(format!("{name}-rtsp.h264")), &watched);
        let mut parts = vec![format!("{name}-00001.mkv"), format!("{name}-rtsp.h264 {frames}")];
        parts.extend((1..=2).map(|i| format!("{name}-peer{i}.raw {MANY} nv12 320x180")));
        std::fs::write(streams.join(format!("{name}.parts")), parts.join("\n")).unwrap();
        let _ = std::fs::remove_dir_all(&folder);
    }
}

#[test]
fn c_consumer_maps_dmabufs() {
    leaving_nothing(|| {
        let Some(device) = vivid(Planar::Single) else { return };
        for (program, language) in programs("consumer") {
            const FRAMES: usize = 6;
            let folder = folder(&format!("consumer-{language}"));
            let socket = folder.join("socket");
            let mut source = camera(&device, "YUYV").buffers(10).open().unwrap();
            let mut publisher = Publisher::builder(&socket).reserve(3).bind().unwrap();
            publisher.announce(framelease::capture::FrameSource::buffers(&source).unwrap()).unwrap();
            let mut command = Command::new(program);
            command.args(["--frames", &FRAMES.to_string()]).arg(&socket).stdout(Stdio::piped());
            let mut child = Running(command.spawn().unwrap());
            let (start, mut means) = (Instant::now(), std::collections::BTreeMap::new());
            while child.0.try_wait().unwrap().is_none() {
                assert!(start.elapsed() < SOON, "the consumer takes frames");
                drop(publisher.recv(Duration::from_millis(1)).unwrap());
                let Some(frame) = source.recv(Duration::from_millis(100)).unwrap().frame() else { continue };
                let bytes = pixels(&frame);
                let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
                means.insert(frame.meta().sequence, sum / bytes.len() as u64);
                let _ = publisher.try_publish(frame).unwrap();
            }
            let mut printed = String::new();
            std::io::Read::read_to_string(&mut child.0.stdout.take().unwrap(), &mut printed).unwrap();
            assert_eq!(printed.lines().count(), FRAMES, "{printed}");
            for line in printed.lines() {
                let (sequence, mean) = line.strip_prefix("frame ").unwrap().split_once(": mean ").unwrap();
                assert_eq!(means[&sequence.parse::<u64>().unwrap()].to_string(), mean, "{language}: {line}");
            }
            let _ = std::fs::remove_dir_all(&folder);
        }
    });
}

#[test]
fn c_program_lists_devices_and_sets_controls() {
    let Some(device) = vivid(Planar::Single) else { return };
    let path = text(&device.info().path);
    for (program, language) in programs("devices") {
        let run = |args: &[&str]| {
            let output = Command::new(&program).args(args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{language} {args:?}: {said}");
            String::from_utf8(output.stdout).unwrap()
        };
        let all = run(&[]);
        let line = all.lines().find(|line| line.starts_with(&format!("{path} vivid ")));
        assert!(line.is_some_and(|line| line.contains("\" capture")), "{all}");
        let shown = run(&[&path]);
        assert!(shown.contains("  YUYV\n    320x180 "), "{shown}");
        // A boolean, a menu with its items, and an integer that is set.
        assert!(shown.contains(" Horizontal Flip (boolean): 0 to 1, now 0\n"), "{shown}");
        let (_, menu) = shown.split_once(" Test Pattern (menu)").unwrap_or_else(|| panic!("{shown}"));
        assert!(menu.lines().nth(1).is_some_and(|item| item.starts_with("    0: ")), "{menu}");
        let brightness = "0x00980900";
        let (_, rest) = shown.split_once(&format!("{brightness} Brightness (integer): 0 to 255, now ")).unwrap();
        let before = rest.split('\n').next().unwrap();
        assert_eq!(run(&[&path, brightness, "77"]), "now 77\n");
        assert!(run(&[&path]).contains("Brightness (integer): 0 to 255, now 77\n"));
        run(&[&path, brightness, before]);
    }
}

#[test]
fn c_misuse_is_an_error() {
    for (program, language) in programs("misuse") {
        let folder = folder(&format!("misuse-{language}"));
        let output = Command::new(program).arg(&folder).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed == "misuse: all as expected\n", "{language}: {printed}");
        let _ = std::fs::remove_dir_all(&folder);
    }
}

#[cfg(feature = "drm")]
#[test]
fn c_program_shows_frames() {
    use framelease::capture::{FrameSource, TestPattern};
    use framelease::dmabuf::Allocator;
    use framelease::format::FourCc;

    // Only the first process that opens the device may change its screen.
    let Some(device) = crate::display::vkms().map(|device| device.info().path.clone()) else { return };
    for (program, language) in programs("show") {
        let folder = folder(&format!("show-{language}"));
        let socket = folder.join("socket");
        let builder = TestPattern::builder(crate::display::SCREEN).fourcc(FourCc::BGRX32).buffers(10);
        let mut source = builder.allocator(Allocator::for_devices().unwrap()).start().unwrap();
        let mut publisher = Publisher::builder(&socket).reserve(3).bind().unwrap();
        publisher.announce(source.buffers().unwrap()).unwrap();
        let mut command = Command::new(program);
        command.args(["--frames", "5", "--device"]).arg(&device).arg(&socket).stdout(Stdio::piped());
        let mut child = Running(command.spawn().unwrap());
        let start = Instant::now();
        while child.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < SOON, "frames are shown");
            drop(publisher.recv(Duration::from_millis(1)).unwrap());
            if let Some(frame) = source.recv(Duration::from_millis(10)).unwrap().frame() {
                let _ = publisher.try_publish(frame).unwrap();
            }
        }
        let mut printed = String::new();
        std::io::Read::read_to_string(&mut child.0.stdout.take().unwrap(), &mut printed).unwrap();
        assert!(child.0.wait().unwrap().success() && printed == "show: 5 frames\n", "{language}: {printed}");
        let _ = std::fs::remove_dir_all(&folder);
    }
}
