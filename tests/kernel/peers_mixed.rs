//! Tests of one publisher of a camera's own buffers, with consumers in Rust, C, Python and GStreamer at once.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{mpsc, OnceLock};
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::capture::{Camera, FrameSource};
use framelease::codec::Encoder;
use framelease::dmabuf::MemoryKind;
use framelease::format::Size;
use framelease::share::{Policy, Publisher, Reconnect, SubscriberEvent, UnixfdSubscriber, UnixfdTerms};
use framelease::stats::cpu_bytes;
use framelease::{Received, Station, Submit};
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::Pid;

use crate::coding::{h264, packet, params, Judged};
use crate::crc32::crc32;
use crate::devices::*;
use crate::share::{example, SOON};

const LANGUAGES: [&str; 4] = ["Rust", "C", "Python", "GStreamer"];
const SIZE: Size = Size::new(320, 180);
/// How long an interpreter may take to start through 9p in an emulated machine.
const START: Duration = Duration::from_secs(50);

/// The lab's Debian root with GStreamer and Python, mounted, and `python/src` as its `/lab`.
pub fn others() -> Option<&'static Path> {
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

/// `gst-launch-1.0` of that root.
pub fn gst(root: &Path) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).args(["/usr/bin/gst-launch-1.0", "--quiet"]);
    command.env("GST_PLUGIN_SYSTEM_PATH_1_0", "/plugins").env("GST_REGISTRY_1_0", "/tmp/gst-registry");
    command.env("GST_REGISTRY_FORK", "no");
    command
}

/// A consumer's process, and its output: the CRC of each frame.
struct Consumer {
    language: &'static str,
    child: Ending,
    seen: mpsc::Receiver<u32>,
}

impl Consumer {
    /// The consumer holds up to four frames, so there is always room for the next one after the last was printed.
    fn start(language: &'static str, folder: &Path, root: &Path, frame_bytes: usize) -> Option<Self> {
        let printing = |mut command: Command| {
            command.args(["--hash", "--hold", "4", "--timeout", "60"]);
            command
        };
        let mut command = match language {
            "Rust" => {
                let mut command = Command::new(example("subscriber")?);
                command.args(["--output", "/proc/self/fd/1", "--hold", "4"]);
                command
            }
            "C" => printing(Command::new(example("framelease-cat")?)),
            "Python" => {
                let mut command = Command::new("chroot");
                command.arg(root).args(["/usr/bin/python3", "-B", "-m", "framelease.view"]).env("PYTHONPATH", "/lab");
                printing(command)
            }
            _ => gst(root),
        };
        match language {
            "GStreamer" => {
                let path = format!("socket-path={}", folder.join("gst").display());
                command.args(["unixfdsrc", &path, "!", "fdsink", "enable-last-sample=false"])
            }
            _ => command.arg("--socket").arg(folder.join("socket")),
        };
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (send, seen) = mpsc::channel();
        std::thread::spawn(move || match language {
            "C" | "Python" => {
                for line in out.lines().map_while(Result::ok) {
                    // After the sequence number.
                    let _ = send.send(u32::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap());
                }
            }
            _ => {
                let mut frame = vec![0; frame_bytes];
                while out.read_exact(&mut frame).is_ok() {
                    let _ = send.send(crc32(0, &frame));
                }
            }
        });
        Some(Self { language, child: Ending(child), seen })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.0.id() as i32)
    }
}

/// A process that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Stage {
    source: Camera,
    publisher: Publisher,
    folder: PathBuf,
    root: &'static Path,
}

impl Stage {
    /// `None` if a needed program is missing.
    fn new() -> Option<Self> {
        let (Some(device), Some(root), Some(_)) = (vivid(Planar::Multi), others(), example("framelease-cat")) else {
            return None;
        };
        let folder = std::env::temp_dir().join(format!("framelease-languages-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = camera(&device, "NV12").size(SIZE).buffers(32).open().unwrap();
        let layout = source.layout().unwrap();
        let memory: u32 = layout.memory_bytes().iter().sum();
        assert_eq!(u64::from(memory), layout.pixel_bytes(), "GStreamer shall write no padding");
        let builder = Publisher::builder(folder.join("socket")).reserve(3).handshake_timeout(START);
        let mut publisher = builder.unixfd(folder.join("gst"), UnixfdTerms::hold(4)).bind().unwrap();
        publisher.announce(source.buffers().unwrap()).unwrap();
        Some(Self { source, publisher, folder, root })
    }

    /// Serves the publisher until `done` returns true.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Publisher) -> bool) {
        let start = Instant::now();
        while !done(&self.publisher) {
            assert!(start.elapsed() < START, "not within {START:?}: {what}");
            drop(self.publisher.recv(Duration::from_millis(5)).unwrap());
        }
    }

    fn join(&mut self, languages: &[&'static str]) -> Vec<Consumer> {
        let active = self.publisher.active() + languages.len();
        let frame_bytes = self.source.layout().unwrap().pixel_bytes() as usize;
        let start = |language: &&'static str| {
            Consumer::start(language, &self.folder, self.root, frame_bytes).expect("its program is here")
        };
        let consumers = languages.iter().map(start).collect();
        self.until("the consumers are active", |p| p.active() == active);
        consumers
    }

    /// Publishes frames and checks that every consumer prints each of them. Returns how many differ from the one
    /// before.
    fn publish(&mut self, frames: usize, consumers: &[Consumer]) -> usize {
        let (mut last, mut changes) = (0, 0);
        for _ in 0..frames {
            let frame = frame(&mut self.source);
            let crc = crc32(0, &pixels(&frame));
            changes += usize::from(crc != last);
            last = crc;
            assert!(self.publisher.publish(frame, SOON).unwrap().is_taken());
            for Consumer { language, seen, .. } in consumers {
                assert_eq!(seen.recv_timeout(SOON), Ok(crc), "{language}");
            }
            self.publisher.dispatch().unwrap();
        }
        changes
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn camera_frames_are_the_same_in_rust_c_python_and_gstreamer() {
    leaving_nothing(|| {
        let Some(mut s) = Stage::new() else { return };
        let consumers = s.join(&LANGUAGES);
        assert!(s.publish(1000, &consumers) > 900, "the picture moves");
        assert!(s.publisher.subscribers().all(|f| f.sent == 1000 && f.dropped == 0));
        assert_eq!(s.publisher.stats().violations, 0);
    });
}

#[test]
fn subscriber_stopped_and_killed_costs_others_no_camera_frame() {
    leaving_nothing(|| {
        let Some(mut s) = Stage::new() else { return };
        let mut consumers = s.join(&LANGUAGES);
        for language in LANGUAGES {
            let victim = consumers.remove(0);
            assert_eq!(victim.language, language);
            kill(victim.pid(), Signal::SIGSTOP).unwrap();
            waitpid(victim.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
            s.publish(40, &consumers);
            let dropped: Vec<_> = s.publisher.subscribers().map(|f| f.dropped).filter(|&d| d > 0).collect();
            // It has the frames that it may hold, or fewer if it had not released all. The newest one waits for it.
            assert!(matches!(dropped[..], [35..=39]), "{language}: {dropped:?}");
            kill(victim.pid(), Signal::SIGKILL).unwrap();
            drop(victim);
            s.until("the dead one is gone", |p| p.subscribers().count() == consumers.len());
            s.publish(20, &consumers);
            consumers.extend(s.join(&[language]));
            // A subscriber that joins late gets the newest frame at once, which the others already had.
            let late = consumers.last().unwrap();
            let start = Instant::now();
            while late.seen.try_recv().is_err() {
                assert!(start.elapsed() < START, "{language} gets no frame");
                drop(s.publisher.recv(Duration::from_millis(5)).unwrap());
            }
        }
        s.publish(20, &consumers);
        assert_eq!(s.publisher.stats().violations, 0);
    });
}

/// The other direction: a pipeline captures from the camera, and our encoder gets the camera's buffers.
#[test]
fn unixfd_sink_s_camera_buffers_go_into_an_encoder() {
    const FRAMES: usize = 60;
    leaving_nothing(|| {
        let (Some(root), Some(camera), Some(device)) = (others(), vivid(Planar::Single), h264("")) else { return };
        set_hdmi(&camera);
        let socket = std::env::temp_dir().join(format!("framelease-sink-{}", std::process::id()));
        let mut pipeline = gst(root);
        pipeline.args(["v4l2src", "io-mode=dmabuf", &format!("num-buffers={FRAMES}")]);
        pipeline.arg(format!("device={}", camera.info().path.display())).arg("!");
        pipeline.arg(format!("video/x-raw,format=NV12,width={},height={}", SIZE.width, SIZE.height));
        pipeline.args(["!", "unixfdsink", "wait-for-connection=true"]);
        pipeline.arg(format!("socket-path={}", socket.display()));
        drop(camera);
        let mut pipeline = Ending(pipeline.stdin(Stdio::null()).spawn().unwrap());
        // An encoder keeps a frame until it is called again.
        let builder = UnixfdSubscriber::builder(&socket).hold(2).policy(Policy::Block).reconnect(Reconnect::Always);
        let mut subscriber = builder.connect(START).unwrap();
        let mut judged = Judged::new("from-unixfdsink");
        let (mut encoder, mut frames, mut memories) = (None, 0, 0);
        loop {
            match subscriber.recv(SOON).unwrap() {
                Received::Item(SubscriberEvent::Format(_)) => {}
                Received::Item(SubscriberEvent::Frame(frame)) => {
                    assert!(frame.memory().iter().all(|m| m.kind() == MemoryKind::DmaBuf));
                    judged.frame(&frame);
                    let buffers = subscriber.buffers().unwrap();
                    memories = (0..buffers.slots()).filter(|&slot| !buffers.memory(slot).is_empty()).count();
                    let encoder = encoder.get_or_insert_with(|| {
                        let builder = Encoder::builder(params(Codec::H264, SIZE)).device(device.clone());
                        builder.open(buffers).unwrap()
                    });
                    let touched = cpu_bytes();
                    encoder.try_submit(frame).taken();
                    judged.packet(&packet(encoder).unwrap());
                    assert_eq!(cpu_bytes(), touched, "the encoder takes the camera's own buffer");
                    frames += 1;
                }
                // The pipeline's end of stream.
                Received::Item(SubscriberEvent::Paused) => break,
                other => panic!("{other:?} after {frames} frames"),
            }
        }
        assert_eq!((frames, subscriber.stats().dropped), (FRAMES, 0));
        assert!((1..=16).contains(&memories), "only the buffers of the pipeline's pool: {memories}");
        assert!(pipeline.0.wait().unwrap().success());
    });
}
