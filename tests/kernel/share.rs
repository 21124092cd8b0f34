//! Tests of sharing a camera's own buffers: published from vivid, received by subscribers and by other processes.

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framelease::capture::{Camera, FrameSource, TestPattern};
use framelease::dmabuf::{MemoryKind, DEFAULT_WAIT};
use framelease::format::{FrameInterval, Size};
use framelease::frame::{BufferSet, Frame};
use framelease::share::{Policy, Publisher, Reconnect, Subscriber, SubscriberEvent};
use framelease::stats::{cpu_bytes, syscalls};
use framelease::v4l2::{Direction, FormatRequest, Queue};
use framelease::ErrorKind;
use framelease::{Received, Station};
use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;

use crate::allocations;
use crate::devices::*;
use crate::negotiate::running;

pub const SOON: Duration = Duration::from_secs(10);

/// A camera and its publisher.
pub struct Scene {
    pub camera: Camera,
    pub publisher: Publisher,
    folder: PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Scene {
    fn new(planar: Planar, format: &str, buffers: usize) -> Option<Self> {
        let device = vivid(planar)?;
        Some(Self::of(camera(&device, format).buffers(buffers).open().unwrap()))
    }

    pub fn of(camera: Camera) -> Self {
        let buffers = camera.buffers().unwrap().clone();
        Self::with(camera, &buffers)
    }

    /// A camera and a publisher of buffers that need not be the camera's.
    pub fn with(camera: Camera, buffers: &BufferSet) -> Self {
        let folder = std::env::temp_dir().join(format!("framelease-kernel-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut publisher = Publisher::builder(folder.join("socket")).reserve(3).bind().unwrap();
        publisher.announce(buffers).unwrap();
        Self { camera, publisher, folder }
    }

    /// A subscriber in this process, active.
    fn join(&mut self, policy: Policy) -> Subscriber {
        self.join_holding(policy, 1)
    }

    pub fn join_holding(&mut self, policy: Policy, hold: u16) -> Subscriber {
        let (path, active) = (self.folder.join("socket"), self.publisher.active());
        let thread =
            std::thread::spawn(move || Subscriber::builder(path).policy(policy).hold(hold).connect(SOON).unwrap());
        while !thread.is_finished() {
            drop(self.publisher.recv(Duration::from_millis(1)).unwrap());
        }
        let mut subscriber = thread.join().unwrap();
        let start = Instant::now();
        while self.publisher.active() == active {
            assert!(start.elapsed() < SOON);
            let _ = subscriber.try_recv().unwrap();
            drop(self.publisher.recv(Duration::from_millis(1)).unwrap());
        }
        subscriber
    }

    /// Starts the example `subscriber` as another process, and waits until it is active.
    fn peer(&mut self, args: &[&str]) -> Option<Child> {
        let program = example("subscriber")?;
        let active = self.publisher.active();
        let child = Command::new(program)
            .arg("--socket")
            .arg(self.folder.join("socket"))
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while self.publisher.active() == active {
            assert!(start.elapsed() < SOON, "the peer does not attach");
            drop(self.publisher.recv(Duration::from_millis(5)).unwrap());
        }
        Some(child)
    }

    fn publish(&mut self) -> u64 {
        let frame = frame(&mut self.camera);
        let sequence = frame.meta().sequence;
        assert!(self.publisher.publish(frame, SOON).unwrap().is_taken());
        self.publisher.dispatch().unwrap();
        sequence
    }
}

/// Returns the path of an example: from the lab, or next to this program after a plain `cargo test`.
pub fn example(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("FRAMELEASE_EXAMPLES_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe().ok()?.parent()?.parent()?.join("examples"),
    };
    let path = folder.join(name);
    needed("examples", path.exists().then_some(path).ok_or_else(|| format!("the example {name} is not built")))
}

pub fn received(subscriber: &mut Subscriber) -> Frame {
    loop {
        match subscriber.recv(SOON).unwrap() {
            Received::Item(SubscriberEvent::Frame(frame)) => return frame,
            Received::Item(SubscriberEvent::Format(_)) => {}
            other => panic!("{other:?} instead of a frame"),
        }
    }
}

/// The example `foreign_buffers` fills each buffer with the number of its frame.
#[test]
fn buffers_of_another_library_return_to_it_when_their_leases_end() {
    let folder = std::env::temp_dir().join(format!("framelease-foreign-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("socket");
    let Some(_service) = running("foreign_buffers", &[socket.to_str().unwrap()]) else { return };
    let builder = Subscriber::builder(&socket).hold(2).reconnect(Reconnect::Always);
    let mut subscriber = builder.connect(SOON).unwrap();
    let content = |frame: &Frame| {
        let pixels = pixels(frame);
        assert!(pixels.iter().all(|byte| *byte == pixels[0]));
        pixels[0]
    };
    let held = received(&mut subscriber);
    let number = held.meta().sequence as u8;
    let (mut last, mut slots) = (held.meta().sequence, HashSet::new());
    for _ in 0..30 {
        let frame = received(&mut subscriber);
        assert!(frame.meta().sequence > last && frame.slot() != held.slot());
        last = frame.meta().sequence;
        assert_eq!((content(&frame), content(&held)), (last as u8, number));
        slots.insert(frame.slot());
    }
    let slot = held.slot();
    drop(held);
    // The library fills the buffer only after that.
    assert!((0..30).any(|_| received(&mut subscriber).slot() == slot));
    assert!(slots.len() > 3, "the others are used again and again");
    let _ = std::fs::remove_dir_all(folder);
}

fn shares(planar: Planar, format: &str) {
    leaving_nothing(|| {
        let Some(mut s) = Scene::new(planar, format, 10) else { return };
        let mut a = s.join(Policy::Latest);
        let mut b = s.join(Policy::Fifo(2));
        for _ in 0..10 {
            let published = frame(&mut s.camera);
            let (want, memory, meta) = (pixels(&published), published.memory().to_vec(), *published.meta());
            assert!(s.publisher.publish(published, SOON).unwrap().is_taken());
            for subscriber in [&mut a, &mut b] {
                let got = received(subscriber);
                assert_eq!(pixels(&got), want, "{format}");
                assert_eq!(got.memory(), memory, "the driver's own buffers");
                assert!(got.memory().iter().all(|m| m.kind() == MemoryKind::DmaBuf && m.is_read_only()));
                assert_eq!((got.meta().sequence, got.meta().timestamp_ns), (meta.sequence, meta.timestamp_ns));
                assert_eq!(got.meta().payload, meta.payload);
                // A subscriber's CPU cannot write to the picture.
                assert_eq!(
                    got.memory()[0].clone().write(DEFAULT_WAIT).unwrap_err().kind(),
                    ErrorKind::PermissionDenied
                );
            }
        }
        assert!(!a.is_writable() && !s.publisher.stats().writable_by_peers);
    });
}

#[test]
fn subscribers_read_the_driver_s_own_buffers() {
    shares(Planar::Single, "NV12");
    shares(Planar::Single, "YUYV");
    shares(Planar::Multi, "NV12M");
    shares(Planar::Multi, "NV16M");
}

#[test]
fn frame_that_is_shared_costs_what_the_design_allows() {
    const FRAMES: u64 = 300;
    leaving_nothing(|| {
        let Some(mut s) = Scene::new(Planar::Single, "NV12", 12) else { return };
        let mut subscribers: Vec<_> = (0..3).map(|_| s.join(Policy::Latest)).collect();
        let mut turn = || {
            let before = syscalls();
            s.publish();
            let published = syscalls();
            subscribers.iter_mut().for_each(|a| drop(received(a)));
            (published - before, syscalls() - published)
        };
        for _ in 0..20 {
            turn();
        }
        let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let (before, bytes) = ((fds(), maps()), cpu_bytes());
        let allocated = allocations::of_this_thread();
        let (mut publisher, mut consumers) = (0, 0);
        for _ in 0..FRAMES {
            let (p, c) = turn();
            publisher += p;
            consumers += c;
        }
        let allocated = allocations::of_this_thread() - allocated;
        assert_eq!(allocated, 0, "allocations in {FRAMES} frames");
        assert_eq!((fds(), maps()), before, "descriptors, mappings");
        assert_eq!(cpu_bytes(), bytes, "the CPU touched pixels");
        // 2 C + 4, with the wait for the camera, DQBUF and QBUF.
        let (publisher, consumers) = (publisher as f64 / FRAMES as f64, consumers as f64 / (3 * FRAMES) as f64);
        assert!(publisher <= 10.1 && consumers <= 2.1, "publisher {publisher}, subscriber {consumers} calls a frame");
    });
}

#[test]
fn camera_waits_for_the_last_holder_only() {
    leaving_nothing(|| {
        let Some(mut s) = Scene::new(Planar::Single, "YUYV", 8) else { return };
        let mut a = s.join(Policy::Latest);
        s.publish();
        let held = received(&mut a);
        let (slot, want) = (held.slot(), pixels(&held));
        let mut seen = HashSet::new();
        for _ in 0..30 {
            s.publish();
            let all = s.camera.buffers().unwrap();
            seen.insert(all.leased());
        }
        assert_eq!(pixels(&held), want, "overwritten under its holder");
        // Its lease, and the frame that waits for it, which is the newest.
        assert_eq!(seen.into_iter().max(), Some(2));
        drop(held);
        let mut slots = HashSet::new();
        for _ in 0..16 {
            s.publish();
            slots.insert(received(&mut a).slot());
        }
        assert!(slots.contains(&slot), "the buffer is in use again");
    });
}

#[test]
fn camera_may_be_dropped_while_subscribers_hold_frames() {
    leaving_nothing(|| {
        let Some(mut s) = Scene::new(Planar::Single, "NV12", 8) else { return };
        let mut a = s.join(Policy::Latest);
        s.publish();
        let held = received(&mut a);
        let want = pixels(&held);
        // First a new format: the old pool is retired, the subscriber gets the new one.
        s.camera.reconfigure(fourcc("YUYV"), Size::new(640, 480)).unwrap();
        s.publish();
        let start = Instant::now();
        while s.publisher.active() == 0 {
            assert!(start.elapsed() < SOON);
            drop(s.publisher.recv(Duration::from_millis(1)).unwrap());
            let _ = a.try_recv().unwrap();
        }
        s.publish();
        assert_eq!(pixels(&held), want);
        // Then the source is dropped.
        drop(s);
        assert_eq!(pixels(&held), want);
        drop(held);
        drop(a);
    });
}

#[test]
fn subscriber_s_own_device_attaches_each_buffer_once() {
    const BUFFERS: usize = 8;
    let Some(device) = vivid(Planar::Single) else { return };
    leaving_nothing(|| {
        let fast = camera(&device, "YUYV").size(Size::new(320, 180)).interval(FrameInterval::from_fps(120));
        let mut s = Scene::of(fast.buffers(BUFFERS).open().unwrap());
        let found = framelease::v4l2::Device::find(|d| d.driver == "vivid" && d.is_output() && !d.is_multi_planar());
        let Some(sink) = needed("vivid", found.map_err(|e| e.to_string())) else { return };
        let mut a = s.join_holding(Policy::Latest, 3);
        let layout = *s.camera.layout().unwrap();
        sink.set_format(Direction::Output, &FormatRequest::from_layout(&layout)).unwrap();
        let mut queue = Queue::new(&sink, Direction::Output).unwrap();
        queue.import(BUFFERS).unwrap();
        queue.start().unwrap();
        let mut is_first = true;
        let mut slots = HashSet::new();
        let mut shown = |frames| {
            for _ in 0..frames {
                s.publish();
                let frame = received(&mut a);
                slots.insert(frame.memory()[0].id());
                queue.queue(frame).taken();
                // vivid shows a frame until the next one is queued.
                if !std::mem::take(&mut is_first) {
                    // The lease ends when the device is done with the frame.
                    queue.dequeue(SOON).unwrap().item().expect("the output consumes the frame");
                }
            }
            slots.len() as u64
        };
        let mut seen = 0;
        let Some(attached) = calls_of(ATTACH, || seen = shown(40)) else { return };
        assert_eq!(attached, seen, "each buffer once");
        let attached = calls_of(ATTACH, || seen = shown(260) - seen).unwrap();
        assert_eq!(attached, seen, "only new buffers are attached");
        queue.stop().unwrap();
        s.publish();
        assert!(s.camera.buffers().unwrap().leased() <= 2, "the stopped output still holds its frame");
    });
}

#[test]
fn subscribers_that_come_stop_and_die_cost_no_camera_frame() {
    leaving_nothing(|| {
        let Some(mut s) = Scene::new(Planar::Single, "NV12", 14) else { return };
        let mut sibling = s.join(Policy::Latest);
        let Some(stopped) = s.peer(&[]) else { return };
        let Some(mut killed) = s.peer(&["--work-ms", "100000"]) else { return };
        run("kill", &["-STOP", &stopped.id().to_string()]);
        let mut stopped = Reaper(stopped);
        for i in 0..60 {
            if i == 20 {
                killed.kill().unwrap();
                killed.wait().unwrap();
            }
            let sequence = s.publish();
            assert_eq!(received(&mut sibling).meta().sequence, sequence);
            // Whether the emulated camera is in time depends on the machine. The test only checks that the camera has
            // buffers.
            assert!(s.camera.stats().queued >= 3, "the driver's reserve was leased");
        }
        assert_eq!(s.publisher.subscribers().count(), 2, "the killed subscriber is still connected");
        assert_eq!(sibling.stats().dropped, 0);
        stopped.0.kill().unwrap();
        stopped.0.wait().unwrap();
    });
}

struct Reaper(Child);

impl Drop for Reaper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number after `"key": ` at its first place after `from`.
fn number(json: &str, from: &str, key: &str) -> f64 {
    let rest = &json[json.find(from).unwrap_or_else(|| panic!("no {from} in {json}"))..];
    let key = format!("\"{key}\": ");
    let rest = &rest[rest.find(&key).unwrap_or_else(|| panic!("no {key} in {rest}")) + key.len()..];
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

fn fanout(args: &[&str]) -> Option<String> {
    let program = example("fanout")?;
    Some(run(program.to_str().unwrap(), args))
}

#[test]
fn fanout_example_shares_a_camera_without_a_copy() {
    if vivid(Planar::Single).is_none() {
        return;
    }
    leaving_nothing(|| {
        let args = ["--device", "auto", "--verify", "--json", "--frames", "40", "--size", "640x360", "--fps", "30"];
        let Some(json) = fanout(&args) else { return };
        assert!(json.contains("\"source\": \"camera\"") && json.contains("\"memory\": \"dmabuf\""), "{json}");
        let zero = "\"zero-copy\"";
        assert_eq!(number(&json, zero, "cpu_bytes_touched"), 0.0);
        assert_eq!(number(&json, zero, "corrupt"), 0.0);
        assert!(number(&json, zero, "received") >= 30.0, "{json}");
        assert_eq!(number(&json, "{", "source_bytes_written"), 0.0);
        // The copying path copies each frame once. To feed devices, it copies each frame once more for each consumer.
        let picture = 640.0 * 360.0 * 1.5;
        assert_eq!(number(&json, "\"copy\"", "bytes_copied"), 0.0, "consumers read in place");
        let total = &json[json.find("\"copy\"").unwrap()..json.find("\"copy-to-device\"").unwrap()];
        let total = total.rsplit("\"bytes_copied\": ").next().unwrap();
        assert_eq!(total.split('}').next().unwrap().parse::<f64>().unwrap(), 40.0 * picture);
    });
}

#[test]
fn list_and_capture_examples_work() {
    if vivid(Planar::Single).is_none() {
        return;
    }
    leaving_nothing(|| {
        let (Some(list), Some(capture)) = (example("list"), example("capture")) else { return };
        let (list, capture) = (list.to_str().unwrap(), capture.to_str().unwrap());
        let text = run(list, &[]);
        assert!(text.contains("(driver vivid, ") && text.contains("NV12") && text.contains("640x360"), "{text}");
        let json = run(list, &["--json"]);
        assert!(json.contains("\"driver\":\"vivid\"") && json.contains("\"fourcc\":\"NV12\""), "{json}");
        let folder = std::env::temp_dir().join(format!("framelease-capture-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (raw, png) = (folder.join("frames.yuv"), folder.join("frame.png"));
        let common = ["--size", "640x360", "--fourcc", "YUYV", "--fps", "30", "--frames", "5", "--json"];
        let files = ["--output", raw.to_str().unwrap(), "--png", png.to_str().unwrap()];
        let json = run(capture, &[&common[..], &files[..]].concat());
        assert!(json.contains("\"driver\":\"vivid\""), "{json}");
        assert_eq!(std::fs::metadata(&raw).unwrap().len(), 5 * 640 * 360 * 2);
        assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));
        // On a full disk, the example prints an error that names the file, and does not crash.
        let full = Command::new(capture).args(common).args(["--output", "/dev/full"]).output().unwrap();
        assert!(!full.status.success());
        assert!(String::from_utf8_lossy(&full.stderr).contains("error: "), "{full:?}");
        let _ = std::fs::remove_dir_all(folder);
    });
}

#[test]
fn fanout_example_shares_the_test_pattern_in_udmabufs() {
    if needed_path("udmabuf", "/dev/udmabuf").is_none() {
        return;
    }
    leaving_nothing(|| {
        let args = ["--verify", "--json", "--frames", "30", "--size", "640x360", "--mode", "zero-copy"];
        let Some(json) = fanout(&args) else { return };
        assert!(json.contains("\"source\": \"testpattern\"") && json.contains("\"memory\": \"dmabuf\""), "{json}");
        assert_eq!(number(&json, "\"zero-copy\"", "corrupt"), 0.0);
        assert!(number(&json, "{", "source_bytes_written") >= 30.0 * 640.0 * 360.0 * 1.5);
        assert!(!json.contains("\"copy\""), "the mode was not run");
    });
}

#[test]
fn fanout_example_ends_its_consumers_at_ctrl_c() {
    let Some(program) = example("fanout") else { return };
    leaving_nothing(|| {
        let mut command = Command::new(program);
        command.args(["--verify", "--json", "--frames", "100000", "--size", "640x360", "--mode", "zero-copy"]);
        // As a shell does: Ctrl-C goes to the whole group.
        let fanout = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = fanout.id();
        let reads_a_frame = |child: &str| {
            let about = |file| std::fs::read_to_string(format!("/proc/{child}/{file}")).unwrap_or_default();
            let maps = about("maps");
            // A new process has its parent's memory until it runs its program.
            about("cmdline").contains("--consumer-of") && (maps.contains("dmabuf") || maps.contains("memfd"))
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        while !children().split_whitespace().any(reads_a_frame) {
            assert!(Instant::now() < deadline, "no consumer reads: {:?}", children());
            std::thread::sleep(Duration::from_millis(10));
        }
        killpg(Pid::from_raw(pid as i32), Signal::SIGINT).unwrap();
        let output = fanout.wait_with_output().unwrap();
        let (json, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !errors.contains("error"), "{errors}");
        assert!(number(&json, "\"zero-copy\"", "received") >= 1.0, "{json}");
        assert_eq!(number(&json, "\"zero-copy\"", "corrupt"), 0.0, "{json}");
    });
}

#[test]
fn udmabufs_are_reported_as_writable_by_subscribers() {
    if needed_path("udmabuf", "/dev/udmabuf").is_none() {
        return;
    }
    leaving_nothing(|| {
        let mut source = TestPattern::builder(Size::new(64, 48)).unpaced().start().unwrap();
        assert_eq!(source.buffers().unwrap().memory(0)[0].kind(), MemoryKind::DmaBuf);
        let folder = std::env::temp_dir().join(format!("framelease-udmabuf-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let mut publisher = Publisher::builder(&path).bind().unwrap();
        publisher.announce(source.buffers().unwrap()).unwrap();
        let thread = std::thread::spawn(move || {
            let mut a = Subscriber::builder(path).connect(SOON).unwrap();
            let frame = received(&mut a);
            (a.is_writable(), frame.memory()[0].is_read_only())
        });
        while !thread.is_finished() {
            drop(publisher.recv(Duration::from_millis(1)).unwrap());
            if publisher.active() > 0 {
                if let Some(frame) = source.try_recv().unwrap().frame() {
                    assert!(publisher.publish(frame, SOON).unwrap().is_taken());
                }
            }
        }
        assert!(publisher.stats().writable_by_peers);
        assert_eq!(thread.join().unwrap(), (true, false));
        let _ = std::fs::remove_dir_all(folder);
    });
}

#[test]
#[cfg(feature = "unixfd")]
fn unixfd_message_marks_a_dma_buf() {
    use std::io::Read;

    if needed_path("udmabuf", "/dev/udmabuf").is_none() {
        return;
    }
    leaving_nothing(|| {
        let mut source = TestPattern::builder(Size::new(64, 48)).unpaced().start().unwrap();
        assert_eq!(source.buffers().unwrap().memory(0)[0].kind(), MemoryKind::DmaBuf);
        let folder = std::env::temp_dir().join(format!("framelease-unixfd-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("gst");
        let terms = framelease::share::UnixfdTerms::hold(1);
        let mut publisher = Publisher::builder(folder.join("socket")).unixfd(&path, terms).bind().unwrap();
        publisher.announce(source.buffers().unwrap()).unwrap();
        let mut client = std::os::unix::net::UnixStream::connect(path).unwrap();
        drop(publisher.recv(SOON).unwrap());
        assert!(publisher.publish(source.recv(SOON).unwrap().frame().unwrap(), SOON).unwrap().is_taken());
        // CAPS, NEW_BUFFER. Without room for the descriptor, the kernel closes it.
        for expected in [2u8, 0] {
            let mut header = [0; 8];
            client.read_exact(&mut header).unwrap();
            assert_eq!(header[0], expected);
            let mut payload = vec![0; u32::from_ne_bytes(header[4..].try_into().unwrap()) as usize];
            client.read_exact(&mut payload).unwrap();
            assert!(expected == 2 || payload[52..54] == [1, 1], "of type dma-buf, one memory");
        }
        drop(publisher);
        let _ = std::fs::remove_dir_all(folder);
    });
}
