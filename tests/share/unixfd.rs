//! The publisher's other face: GStreamer's `unixfd` protocol, by hand and by an unchanged `unixfdsrc`.

use std::fs;
use std::io::{ErrorKind as Io, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framelease::capture::TestPattern;
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::Frame;
use framelease::share::{Policy, Publisher, PublisherBuilder, Rate, UnixfdTerms};
use framelease::ErrorKind;
use nix::sys::signal::{kill, Signal};
use nix::sys::socket::{recvmsg, ControlMessageOwned, MsgFlags};
use nix::unistd::Pid;

use crate::raw::own;
use crate::support::{frame, pixels, Folder, Stage, SOON};

const NEW_BUFFER: u32 = 0;
const RELEASE: u32 = 1;
const CAPS: u32 = 2;
const EOS: u32 = 3;

fn path(s: &Stage) -> PathBuf {
    s.folder.file("gst")
}

/// A publisher of both faces.
fn stage(buffers: usize, terms: UnixfdTerms) -> Stage {
    stage_with(buffers, terms, |b| b)
}

fn stage_with(
    buffers: usize,
    terms: UnixfdTerms,
    settings: impl FnOnce(PublisherBuilder) -> PublisherBuilder,
) -> Stage {
    Stage::in_folder(buffers, |folder, b| settings(b.unixfd(folder.file("gst"), terms)))
}

fn message(kind: u32, payload: &[u8]) -> Vec<u8> {
    [&kind.to_ne_bytes()[..], &(payload.len() as u32).to_ne_bytes(), payload].concat()
}

fn release(id: u64) -> Vec<u8> {
    message(RELEASE, &id.to_ne_bytes())
}

/// A `unixfdsrc` that does as it is told.
struct Raw {
    socket: UnixStream,
    fds: Vec<OwnedFd>,
}

impl Raw {
    fn join(s: &mut Stage) -> Self {
        let active = s.publisher.active();
        let socket = UnixStream::connect(path(s)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        s.until("the client is active", |p| p.active() == active + 1);
        Self { socket, fds: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Reads as GStreamer does: the header with descriptors, then all of the payload at once.
    fn receive(&mut self) -> (u32, Vec<u8>) {
        let mut header = [0; 8];
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let mut iov = [std::io::IoSliceMut::new(&mut header)];
        let got =
            recvmsg::<()>(self.socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
        for control in got.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(raw) = control {
                self.fds.extend(raw.into_iter().map(own));
            }
        }
        assert_eq!(got.bytes, 8, "the publisher hung up");
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let (kind, len) = (word(0), word(4) as usize);
        let mut payload = vec![0; len];
        if len > 0 {
            assert_eq!(self.socket.read(&mut payload).unwrap(), len, "the payload comes whole");
        }
        (kind, payload)
    }

    fn buffer(&mut self) -> (u64, Vec<u8>) {
        let (kind, payload) = self.receive();
        assert_eq!(kind, NEW_BUFFER);
        (number(&payload, 0), payload)
    }

    fn caps(&mut self) -> String {
        let (kind, mut payload) = self.receive();
        assert_eq!((kind, payload.pop()), (CAPS, Some(0)));
        String::from_utf8(payload).unwrap()
    }

    fn nothing(&mut self) {
        self.socket.set_nonblocking(true).unwrap();
        let got = self.socket.read(&mut [0; 1]);
        assert_eq!(got.map_err(|e| e.kind()), Err(Io::WouldBlock));
        self.socket.set_nonblocking(false).unwrap();
    }

    fn is_hung_up(&mut self) -> bool {
        matches!(self.socket.read(&mut [0; 1]), Ok(0))
            || matches!(self.socket.take_error(), Ok(Some(e)) if e.kind() == Io::ConnectionReset)
    }
}

fn number(payload: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(payload[at..at + 8].try_into().unwrap())
}

/// How to start `gst-launch-1.0` with `unixfdsrc`: this machine's, or Debian 13's in the lab's cache, as
/// `cargo lab rivals` and `cargo lab rival` left it there.
fn gst() -> Option<Command> {
    let own = || Command::new("gst-launch-1.0");
    let has = Command::new("gst-inspect-1.0").args(["--exists", "unixfdsrc"]).stderr(Stdio::null()).status();
    if has.is_ok_and(|s| s.success()) {
        return Some(own());
    }
    let found = cached();
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED unixfdsrc: neither GStreamer 1.24 nor the lab's cache of it here");
    }
    found
}

fn cached() -> Option<Command> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("FRAMELEASE_LAB_CACHE").or_else(|| {
        let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(base.join("framelease/lab"))
    })?;
    let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let has = |file: &str| {
        let roots = fs::read_dir(&cache).ok()?.flatten().map(|e| e.path());
        roots.filter(|r| r.file_name().is_some_and(|n| n.to_string_lossy().starts_with("gstreamer-"))).find_map(|r| {
            let path = r.join(&libraries).join(file);
            path.exists().then_some((r, path))
        })
    };
    let (plain, convert) = has("gstreamer-1.0/libgstvideoconvertscale.so")?;
    let (more, unixfd) = has("gstreamer-1.0/libgstunixfd.so")?;
    let loader = fs::read_dir(plain.join(&libraries)).ok()?.flatten().map(|e| e.path());
    let loader =
        loader.into_iter().find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ld-linux")))?;
    // These plug-ins alone: others of that folder lack their libraries.
    let plugins = std::env::temp_dir().join(format!("framelease-gst-{}", std::process::id()));
    let _ = fs::create_dir(&plugins);
    for plugin in [convert.with_file_name("libgstcoreelements.so"), convert, unixfd] {
        let _ = std::os::unix::fs::symlink(&plugin, plugins.join(plugin.file_name()?));
    }
    let mut command = Command::new(loader);
    let folders = [plain.join(&libraries), more.join(&libraries)].map(|p| p.display().to_string()).join(":");
    command.arg("--library-path").arg(folders).arg(plain.join("usr/bin/gst-launch-1.0"));
    command.env("GST_PLUGIN_SYSTEM_PATH_1_0", &plugins).env("GST_REGISTRY_FORK", "no");
    command.env("GST_REGISTRY_1_0", plugins.join("registry.bin"));
    Some(command)
}

/// A pipeline that ends with the test.
struct Pipeline(Child);

impl Pipeline {
    /// Starts it and serves the publisher until frames go to it.
    fn join(s: &mut Stage, mut gst: Command, elements: &str, output: &Path) -> Self {
        let active = s.publisher.active();
        gst.args(["--quiet", "unixfdsrc"]).arg(format!("socket-path={}", path(s).display())).args(elements.split(' '));
        gst.args(["!", "filesink", "buffer-mode=unbuffered"]).arg(format!("location={}", output.display()));
        let child = gst.stdin(Stdio::null()).spawn().unwrap();
        let pipeline = Self(child);
        s.until("the pipeline is active", |p| p.active() == active + 1);
        pipeline
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a picture is in memory, padding left out, by its layout.
fn without_padding(layout: &Layout, memory: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, plane) in layout.planes().iter().enumerate() {
        for row in 0..layout.rows(i) {
            let at = (plane.offset_bytes + row * plane.stride_bytes) as usize;
            out.extend_from_slice(&memory[at..at + layout.row_bytes(i) as usize]);
        }
    }
    out
}

/// A hundred frames with padded rows through an unchanged `unixfdsrc` into a file: as they lie in memory, and through
/// an element that finds the pixels by the video meta.
fn through_gstreamer(fourcc: &[u8; 4], elements: &str, convert: fn(&[u8]) -> Vec<u8>) {
    let Some(gst) = gst() else { return };
    let mut s = stage(12, UnixfdTerms::hold(4).policy(Policy::Block));
    let layout = Layout::aligned(FourCc::new(fourcc), Size::new(64, 48), 256).unwrap();
    s.source = TestPattern::builder(layout.size())
        .layout(layout)
        .buffers(12)
        .allocator(Allocator::Memfd)
        .unpaced()
        .start()
        .unwrap();
    s.publisher.announce(s.source.buffers()).unwrap();
    let output = s.folder.file("out");
    let mut pipeline = Pipeline::join(&mut s, gst, elements, &output);
    let mut expected = Vec::new();
    for _ in 0..100 {
        let frame = s.source.next(SOON).unwrap().expect("a free buffer");
        expected.push(convert(&pixels(&frame)));
        s.publisher.publish(frame, SOON).unwrap();
    }
    assert!(s.publisher.end_stream(SOON).unwrap());
    s.until("the pipeline has ended", |_| pipeline.is_over());
    assert!(pipeline.0.wait().unwrap().success());
    let got = fs::read(&output).unwrap();
    assert_eq!(got.len() % 100, 0);
    for (i, (got, expected)) in got.chunks(got.len() / 100).zip(&expected).enumerate() {
        let is_padded = got.len() > expected.len();
        let got = if is_padded { without_padding(&layout, got) } else { got.to_vec() };
        assert!(got == *expected, "frame {i} of {layout}");
    }
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn nv12_through_gstreamer() {
    through_gstreamer(b"NV12", "! identity", <[u8]>::to_vec);
}

#[test]
fn yuyv_through_gstreamer() {
    through_gstreamer(b"YUYV", "! identity", <[u8]>::to_vec);
}

#[test]
fn nv12_through_the_video_meta() {
    through_gstreamer(b"NV12", "! videoconvert ! video/x-raw,format=I420", |nv12| {
        let (luma, chroma) = nv12.split_at(64 * 48);
        let every = |n: usize| chroma.iter().skip(n).step_by(2).copied().collect::<Vec<_>>();
        [luma, &every(0), &every(1)].concat()
    });
}

#[test]
fn yuyv_through_the_video_meta() {
    through_gstreamer(b"YUYV", "! videoconvert ! video/x-raw,format=UYVY", |yuyv| {
        yuyv.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect()
    });
}
