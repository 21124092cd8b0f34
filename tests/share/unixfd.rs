//! Tests of the publisher's other protocol, GStreamer's `unixfd`: by hand, and with an unchanged `unixfdsrc`.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{FrameFlags, FrameMeta, Payload, Pool};
use framelease::share::{Policy, Publisher, PublisherBuilder, PublisherEvent, Rate, UnixfdTerms};
use framelease::ErrorKind;
use framelease::Station;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, SockType};

use crate::support::{self, dead_socket, frame, pixels, publisher_at, Folder, Stage, SOON};
use crate::unixfd_client::{message, number, release, Client, CAPS, EOS, NEW_BUFFER, RELEASE};

fn path(s: &Stage) -> PathBuf {
    s.folder.file("gst")
}

/// A publisher with both protocols.
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

/// Connects a client and serves the publisher until frames are sent to it.
fn join(s: &mut Stage) -> Client {
    let active = s.publisher.active();
    let client = Client::connect(&path(s)).unwrap();
    s.until("the client is active", |p| p.active() == active + 1);
    client
}

/// Returns the command for `gst-launch-1.0` with `unixfdsrc` and `unixfdsink`: of this machine, or of the lab's cache
/// after `cargo lab test`.
pub fn gst(folder: &Folder) -> Option<Command> {
    let has = Command::new("gst-inspect-1.0").args(["--exists", "unixfdsrc"]).stderr(Stdio::null()).status();
    if has.is_ok_and(|s| s.success()) {
        return Some(Command::new("gst-launch-1.0"));
    }
    let found = cached(folder);
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED unixfd: neither GStreamer 1.24 nor the lab's cache of it here");
    }
    found
}

fn cached(folder: &Folder) -> Option<Command> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("FRAMELEASE_LAB_CACHE").or_else(|| {
        let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(base.join("framelease/lab"))
    })?;
    let named = |p: &PathBuf, start: &str| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start));
    let within = |folder: &Path, start: &str| {
        fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).find(|path| named(path, start))
    };
    let arch = std::env::consts::ARCH;
    let root = within(&cache, &format!("others-{arch}-"))?;
    let libraries = root.join(format!("usr/lib/{arch}-linux-gnu"));
    let mut command = Command::new(within(&libraries, "ld-linux")?);
    command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin/gst-launch-1.0"));
    // Only these plug-ins: the libraries of others are missing.
    command.env("GST_PLUGIN_SYSTEM_PATH_1_0", root.join("plugins")).env("GST_REGISTRY_FORK", "no");
    command.env("GST_REGISTRY_1_0", folder.file("registry.bin"));
    // One more plug-in, which the guests do not need.
    let more = folder.file("plugins");
    let _ = fs::create_dir(&more);
    let freeze = "libgstimagefreeze.so";
    let _ = std::os::unix::fs::symlink(libraries.join("gstreamer-1.0").join(freeze), more.join(freeze));
    command.env("GST_PLUGIN_PATH_1_0", more);
    Some(command)
}

/// A pipeline that ends with the test.
pub struct Pipeline(pub Child);

impl Pipeline {
    /// Starts the pipeline and serves the publisher until frames are sent to it.
    fn join(s: &mut Stage, mut gst: Command, elements: &str, output: &Path) -> Self {
        let active = s.publisher.active();
        gst.args(["--quiet", "unixfdsrc"]).arg(format!("socket-path={}", path(s).display())).args(elements.split(' '));
        gst.args(["!", "filesink", "buffer-mode=unbuffered"]).arg(format!("location={}", output.display()));
        let child = gst.stdin(Stdio::null()).spawn().unwrap();
        let pipeline = Self(child);
        s.until("the pipeline is active", |p| p.active() == active + 1);
        pipeline
    }

    pub fn signal(&self, signal: Signal) {
        support::signal(&self.0, signal);
    }

    pub fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the pixels of a picture in memory, without the padding of its layout.
pub fn without_padding(layout: &Layout, memory: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, plane) in layout.planes().iter().enumerate() {
        for row in 0..layout.rows(i) {
            let at = (plane.offset_bytes + row * plane.stride_bytes) as usize;
            out.extend_from_slice(&memory[at..at + layout.row_bytes(i) as usize]);
        }
    }
    out
}

/// Sends a hundred frames with padded rows through an unchanged `unixfdsrc` into a file: as they are in memory, and
/// through an element that finds the pixels by the video meta.
fn through_gstreamer(fourcc: &[u8; 4], elements: &str, convert: fn(&[u8]) -> Vec<u8>) {
    let mut s = stage(12, UnixfdTerms::hold(4).policy(Policy::Block));
    let Some(mut version) = gst(&s.folder) else { return };
    let version = version.arg("--version").output().unwrap();
    if elements.contains("convert") && String::from_utf8_lossy(&version.stdout).contains("GStreamer 1.28.") {
        // It cannot read that of its own unixfdsink either: see docs/interop.md.
        let _ = writeln!(std::io::stderr(), "SKIPPED GstVideoMeta: unixfdsrc 1.28 cannot read one");
        return;
    }
    let gst = gst(&s.folder).unwrap();
    let layout = Layout::aligned(FourCc::new(fourcc), Size::new(64, 48), 256).unwrap();
    s.source = TestPattern::builder(layout.size())
        .layout(layout)
        .buffers(12)
        .allocator(Allocator::Memfd)
        .unpaced()
        .start()
        .unwrap();
    s.publisher.announce(s.source.buffers().unwrap()).unwrap();
    let output = s.folder.file("out");
    let mut pipeline = Pipeline::join(&mut s, gst, elements, &output);
    let mut expected = Vec::new();
    for _ in 0..100 {
        let frame = s.source.recv(SOON).unwrap().frame().expect("a free buffer");
        expected.push(convert(&pixels(&frame)));
        assert!(s.publisher.publish(frame, SOON).unwrap().is_taken());
    }
    assert!(s.publisher.pause(SOON).unwrap());
    s.until("the pipeline has ended", |_| pipeline.is_over());
    assert!(pipeline.0.wait().unwrap().success());
    let got = fs::read(&output).unwrap();
    assert_eq!(got.len() % 100, 0);
    for (i, (got, expected)) in got.chunks(got.len() / 100).zip(&expected).enumerate() {
        let is_padded = got.len() > expected.len();
        // The first picture of a process that has not used a video meta yet: unixfdsrc 1.26 does not know the meta
        // then.
        if i == 0 && !is_padded {
            continue;
        }
        let got = if is_padded { without_padding(&layout, got) } else { got.to_vec() };
        assert!(got == *expected, "frame {i} of {layout}");
    }
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn unixfd_nv12_through_gstreamer() {
    through_gstreamer(b"NV12", "! identity", <[u8]>::to_vec);
}

#[test]
fn unixfd_yuyv_through_gstreamer() {
    through_gstreamer(b"YUYV", "! identity", <[u8]>::to_vec);
}

#[test]
fn unixfd_nv12_through_the_video_meta() {
    through_gstreamer(b"NV12", "! videoconvert ! video/x-raw,format=I420", |nv12| {
        let (luma, chroma) = nv12.split_at(64 * 48);
        let every = |n: usize| chroma.iter().skip(n).step_by(2).copied().collect::<Vec<_>>();
        [luma, &every(0), &every(1)].concat()
    });
}

#[test]
fn unixfd_nv12_in_two_memories_through_the_video_meta() {
    through_gstreamer(b"NM12", "! videoconvert ! video/x-raw,format=I420", |nv12| {
        let (luma, chroma) = nv12.split_at(64 * 48);
        let every = |n: usize| chroma.iter().skip(n).step_by(2).copied().collect::<Vec<_>>();
        [luma, &every(0), &every(1)].concat()
    });
}

#[test]
fn unixfd_yuyv_through_the_video_meta() {
    through_gstreamer(b"YUYV", "! videoconvert ! video/x-raw,format=UYVY", |yuyv| {
        yuyv.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect()
    });
}

#[test]
fn unixfd_session_byte_for_byte() {
    let mut s = stage(8, UnixfdTerms::hold(2));
    let mut client = join(&mut s);
    let caps = "video/x-raw, format=(string)NV12, width=(int)64, height=(int)48, framerate=(fraction)0/1, \
                interlace-mode=(string)progressive, pixel-aspect-ratio=(fraction)1/1, colorimetry=(string)2:4:16:4";
    assert_eq!(client.caps(), caps);
    let frame = s.source.recv(SOON).unwrap().frame().unwrap();
    let (meta, expected) = (*frame.meta(), pixels(&frame));
    assert!(s.publisher.publish(frame, SOON).unwrap().is_taken());
    let (id, payload) = client.buffer();
    let words = |words: &[u64]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<_>>();
    let golden = [
        words(&[id, meta.timestamp_ns, u64::MAX, u64::MAX, meta.sequence, meta.sequence + 1]),
        // No flags, memfd, one memory, one meta.
        [&0u32.to_ne_bytes()[..], &[0, 1], &1u16.to_ne_bytes()].concat(),
        words(&[64 * 48 * 3 / 2, 0]),
        [&[90, 0, 0, 0, 12, 0, 0, 0][..], b"GstVideoMeta\0\0"].concat(),
        [0u32, 23, 64, 48, 2].iter().flat_map(|w| w.to_le_bytes()).collect(),
        [0u64, 64 * 48].iter().flat_map(|w| w.to_le_bytes()).collect(),
        [64u32, 64, 0, 0, 0, 0, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect(),
    ];
    assert_eq!(payload, golden.concat());
    assert_eq!(client.fds.len(), 1);
    let mut got = vec![0; expected.len()];
    let fd = fs::File::from(client.fds.pop().unwrap());
    std::os::unix::fs::FileExt::read_exact_at(&fd, &mut got, 0).unwrap();
    assert!(got == expected);
    // It gets its second frame, and no third before a release.
    s.publish();
    let (second, _) = client.buffer();
    s.publish();
    client.nothing();
    client.send(&release(id));
    s.until("the waiting frame is sent", |p| p.subscribers().next().unwrap().sent == 3);
    let (third, payload) = client.buffer();
    assert!(third > second && second > id, "an id is never used twice");
    assert_eq!(number(&payload, 32), 2, "its sequence number");
    client.send(&[release(second), release(third)].concat());
    assert!(s.publisher.pause(SOON).unwrap());
    assert_eq!(client.receive(), (EOS, Vec::new()));
    s.until("every lease has ended", |p| p.subscribers().next().unwrap().held == 0);
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn format_comes_before_its_first_frame() {
    let mut s = stage(8, UnixfdTerms::hold(4));
    let mut client = join(&mut s);
    assert!(client.caps().contains("format=(string)NV12"));
    s.publish();
    let (old, _) = client.buffer();
    // Formats without frames are not sent, so that they do not collect in the socket of a client that does not read.
    let sources = [b"YUYV", b"GREY", b"YUYV"].map(|code| {
        let builder = TestPattern::builder(Size::new(32, 16)).fourcc(FourCc::new(code)).buffers(8).unpaced();
        builder.allocator(Allocator::Memfd).start().unwrap()
    });
    sources.iter().for_each(|source| s.publisher.announce(source.buffers().unwrap()).unwrap());
    client.nothing();
    let [_, _, yuyv] = sources;
    s.source = yuyv;
    s.publish();
    assert!(client.caps().contains("format=(string)YUY2, width=(int)32, height=(int)16"));
    let (new, payload) = client.buffer();
    assert_eq!(number(&payload, 56), 32 * 16 * 2);
    // The same format in new buffers is not sent again. A lease of an old pool is released like any other.
    client.send(&[release(old), release(new)].concat());
    let builder = TestPattern::builder(Size::new(32, 16)).fourcc(FourCc::YUYV).buffers(8).unpaced();
    s.source = builder.allocator(Allocator::Memfd).start().unwrap();
    s.publish();
    client.buffer();
    assert_eq!(s.publisher.subscribers().next().unwrap().held, 1);
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn interlaced_frames_have_their_caps_and_flags() {
    let mut s = stage(8, UnixfdTerms::hold(4));
    let layout = Layout::packed(FourCc::YUYV, Size::new(32, 16)).unwrap();
    let pool = Pool::new(&Allocator::Memfd, layout, 8).unwrap();
    s.publisher.announce(pool.buffers()).unwrap();
    let mut client = join(&mut s);
    assert!(client.caps().contains("interlace-mode=(string)progressive"));
    const INTERLACED: u32 = 1 << 20;
    const TOP_FIRST: u32 = 1 << 21;
    let interlaced = FrameFlags::INTERLACED;
    for (flags, expected, mode) in [
        (FrameFlags::default(), 0, None),
        (interlaced, INTERLACED | TOP_FIRST, Some("interlace-mode=(string)mixed")),
        (interlaced | FrameFlags::BOTTOM_FIRST, INTERLACED, None),
        (FrameFlags::default(), 0, None),
    ] {
        let mut meta = FrameMeta::default();
        meta.flags = flags;
        meta.payload[0] = Payload { offset_bytes: 0, bytes: layout.memory_bytes()[0] };
        assert!(s.publisher.publish(pool.try_acquire().unwrap().freeze(meta), SOON).unwrap().is_taken());
        if let Some(mode) = mode {
            let caps = client.caps();
            assert!(caps.contains(mode), "{caps}");
        }
        let (_, payload) = client.buffer();
        assert_eq!(u32::from_ne_bytes(payload[48..52].try_into().unwrap()), expected);
    }
}

#[test]
fn frames_of_one_field_end_the_connection_with_the_reason() {
    for field in [FrameFlags::TOP_FIELD, FrameFlags::BOTTOM_FIELD] {
        let mut s = stage(8, UnixfdTerms::hold(4));
        let mut client = join(&mut s);
        client.caps();
        let frame = s.source.recv(SOON).unwrap().frame().unwrap();
        let mut meta = *frame.meta();
        meta.flags |= field;
        let _ = s.publisher.publish(frame.with_meta(meta), Duration::ZERO).unwrap();
        let error = loop {
            let event = s.publisher.recv(SOON).unwrap().item().expect("the client leaves");
            if let PublisherEvent::Left { error, .. } = event {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("each frame is one field"), "{error}");
    }
}

#[test]
fn bitstream_has_its_caps_and_flags() {
    let mut s = stage(8, UnixfdTerms::hold(4));
    let layout = |code| Layout::from_strides(FourCc::new(code), Size::new(640, 480), &[0], &[4096]).unwrap();
    let pool = Pool::new(&Allocator::Memfd, layout(b"H264"), 8).unwrap();
    s.publisher.announce(pool.buffers()).unwrap();
    let mut client = join(&mut s);
    let caps = client.caps();
    assert!(caps.starts_with("video/x-h264, stream-format=(string)byte-stream, alignment=(string)au"), "{caps}");
    let publish = |s: &mut Stage, flags, lost, bytes| {
        let mut meta = FrameMeta::default();
        (meta.flags, meta.lost, meta.timestamp_ns) = (flags, lost, 5);
        meta.payload[0] = Payload { offset_bytes: 16, bytes };
        let frame = pool.try_acquire().unwrap().freeze(meta);
        assert!(s.publisher.publish(frame, SOON).unwrap().is_taken());
    };
    const DISCONT: u32 = 1 << 6;
    const CORRUPTED: u32 = 1 << 8;
    const DELTA_UNIT: u32 = 1 << 13;
    let key = FrameFlags::KEY | FrameFlags::MONOTONIC;
    for (flags, lost, expected) in
        [(key, 0, 0), (FrameFlags::MONOTONIC, 3, DELTA_UNIT | DISCONT), (key | FrameFlags::ERROR, 0, CORRUPTED)]
    {
        publish(&mut s, flags, lost, 1000);
        let (_, payload) = client.buffer();
        assert_eq!(payload.len(), 56 + 16, "no video meta");
        assert_eq!((number(&payload, 8), number(&payload, 56), number(&payload, 64)), (5, 1000, 16));
        assert_eq!(u32::from_ne_bytes(payload[48..52].try_into().unwrap()), expected);
    }
    // The source has another clock: the time is that of the publish.
    publish(&mut s, FrameFlags::KEY, 0, 1);
    assert!(number(&client.buffer().1, 8) > 1_000_000);
    // GStreamer does not have a name for this format.
    let pool = Pool::new(&Allocator::Memfd, layout(b"FWHT"), 8).unwrap();
    s.publisher.announce(pool.buffers()).unwrap();
    assert_eq!((s.publisher.active(), s.publisher.stats().violations), (0, 0));
    assert_eq!(client.socket.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn unixfd_violations_end_only_their_connection() {
    let mut s = stage(16, UnixfdTerms::hold(2));
    let mut native = s.join(s.subscriber().hold(2));
    type Script = fn(u64) -> Vec<u8>;
    let scripts: [(&str, Script); 5] = [
        ("a buffer twice", |id| [release(id), release(id)].concat()),
        ("a buffer that it never had", |id| release(id + 100)),
        ("a release that is too short", |_| message(RELEASE, &[0; 4])),
        ("a buffer of its own", |_| message(NEW_BUFFER, &[0; 56])),
        ("caps", |_| message(CAPS, b"x\0")),
    ];
    for (n, (what, script)) in scripts.into_iter().enumerate() {
        let mut client = join(&mut s);
        client.caps();
        let mut sent = s.publish();
        // A client that joins late gets the newest frame at once.
        let (mut id, mut payload) = client.buffer();
        while number(&payload, 32) != sent {
            (id, payload) = client.buffer();
        }
        assert_eq!(frame(&mut native).meta().sequence, sent);
        client.send(&script(id));
        // The publisher reads releases at the next publish, except from clients that hold nothing.
        for _ in 0..3 {
            sent = s.publish();
            assert_eq!(frame(&mut native).meta().sequence, sent, "{what}");
        }
        assert_eq!((s.publisher.stats().violations, s.publisher.active()), (n as u64 + 1, 1), "{what}");
    }
    assert_eq!(s.source.buffers().unwrap().leased(), 1, "only the newest frame is leased, by the native subscriber");
}

#[test]
fn unixfd_incomplete_messages_cost_the_others_nothing() {
    let mut s = stage(24, UnixfdTerms::hold(2));
    let mut native = s.join(s.subscriber().hold(2));
    let scripts = [
        // Half a header, half a release, a length of 4 GiB, a message of a later version.
        vec![1, 0, 0],
        release(1)[..12].to_vec(),
        [77u32.to_ne_bytes(), [0xff; 4]].concat(),
        message(77, &[1; 4000]),
    ];
    let mut clients: Vec<Client> = scripts
        .into_iter()
        .map(|script| {
            let mut client = join(&mut s);
            client.caps();
            client.send(&script);
            client
        })
        .collect();
    for _ in 0..50 {
        let sent = s.publish();
        assert_eq!(frame(&mut native).meta().sequence, sent);
    }
    let stats: Vec<_> = s.publisher.subscribers().collect();
    assert_eq!(stats.iter().map(|s| s.held).max(), Some(2), "no more than their quota");
    assert_eq!((stats[0].sent, stats[0].dropped), (50, 0));
    assert_eq!((s.publisher.stats().violations, s.publisher.active()), (0, 5));
    // The last client sent a message of a later version, and is served like all others.
    let client = clients.last_mut().unwrap();
    let (id, _) = client.buffer();
    client.send(&release(id));
    s.until("it gets another frame", |p| p.subscribers().any(|s| s.sent == 3));
    drop(clients);
    s.until("their connections have ended", |p| p.active() == 1);
}

#[test]
fn unixfd_descriptors_from_a_client_are_a_violation() {
    let mut s = stage(8, UnixfdTerms::hold(2));
    let client = join(&mut s);
    s.publish();
    let fds = [client.socket.as_raw_fd()];
    let bytes = release(1);
    let control = [nix::sys::socket::ControlMessage::ScmRights(&fds)];
    let iov = [std::io::IoSlice::new(&bytes)];
    nix::sys::socket::sendmsg::<()>(fds[0], &iov, &control, MsgFlags::empty(), None).unwrap();
    s.publish();
    s.until("the violation is counted", |p| p.stats().violations == 1);
    assert_eq!(s.publisher.active(), 0);
}

#[test]
fn lease_deadline_ends_the_frames_and_not_the_lease() {
    let deadline = Duration::from_millis(20);
    let mut s = stage_with(8, UnixfdTerms::hold(2), |b| b.lease_deadline(deadline, 2 * deadline));
    let mut client = join(&mut s);
    client.caps();
    s.publish();
    let (id, _) = client.buffer();
    s.until("the client is expelled", |p| p.active() == 0);
    assert_eq!(s.publisher.stats().revoked, 1);
    let held = |p: &Publisher| p.subscribers().map(|s| s.held).sum::<usize>();
    assert_eq!(held(&s.publisher), 1, "quarantine: memory is not reused under a reader");
    assert_eq!(client.socket.read(&mut [0; 8]).unwrap(), 0, "the end of the stream is the only notice");
    client.send(&release(id));
    s.until("it has released its last buffer", |p| p.subscribers().count() == 0);
}

#[test]
fn unixfd_terms_set_rate_policy_and_quota() {
    let mut s = stage(10, UnixfdTerms::hold(2).policy(Policy::Fifo(3)).rate(Rate::EveryNth(2)));
    let mut client = join(&mut s);
    client.caps();
    let sent: Vec<u64> = (0..7).map(|_| s.publish()).collect();
    for expected in [sent[0], sent[2], sent[4], sent[6]] {
        let (id, payload) = client.buffer();
        assert_eq!(number(&payload, 32), expected);
        client.send(&release(id));
        s.publisher.dispatch().unwrap();
    }
    // 5 of 10 are its own, 2 the source's reserve, 1 the newest: no room for another client.
    let mut second = UnixStream::connect(path(&s)).unwrap();
    s.until("the second is refused", |p| p.stats().refused == 1);
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(s.publisher.active(), 1);
}

#[test]
fn bind_refuses_impossible_settings_and_leaves_no_file() {
    let folder = Folder::new();
    let bind = |terms| publisher_at(folder.socket()).unixfd(folder.file("gst"), terms).bind();
    assert_eq!(bind(UnixfdTerms::hold(0)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(!folder.socket().exists() && !folder.file("gst").exists());
    let first = bind(UnixfdTerms::hold(1)).unwrap();
    assert!(folder.file("gst").exists());
    let other = publisher_at(folder.file("other")).unixfd(folder.file("gst"), UnixfdTerms::hold(1));
    assert_eq!(other.bind().unwrap_err().kind(), ErrorKind::Busy);
    let other = publisher_at(folder.file("gst"));
    assert_eq!(other.bind().unwrap_err().kind(), ErrorKind::Busy, "any listener on the path");
    drop(first);
    assert!(!folder.socket().exists() && !folder.file("gst").exists());
    // A socket that a dead publisher left is replaced.
    dead_socket(&folder.file("gst"), SockType::Stream);
    assert!(folder.file("gst").exists());
    bind(UnixfdTerms::hold(1)).unwrap();
}

#[test]
fn unixfd_source_that_is_stopped_costs_only_its_quota() {
    let mut s = stage(12, UnixfdTerms::hold(3));
    let Some(gst) = gst(&s.folder) else { return };
    let mut native = s.join(s.subscriber().hold(2));
    let output = s.folder.file("out");
    let mut pipeline = Pipeline::join(&mut s, gst, "! identity", &output);
    let mut publish = |s: &mut Stage| {
        let sent = s.publish();
        assert_eq!(frame(&mut native).meta().sequence, sent);
    };
    (0..10).for_each(|_| publish(&mut s));
    pipeline.signal(Signal::SIGSTOP);
    (0..500).for_each(|_| publish(&mut s));
    let stats: Vec<_> = s.publisher.subscribers().collect();
    assert_eq!((stats[0].sent, stats[0].dropped), (510, 0), "the native subscriber loses nothing");
    assert!(stats[1].held <= 3 && stats[1].sent <= 10 + 3 + 3, "{stats:?}");
    assert!(s.source.buffers().unwrap().leased() <= 3 + 1 + 1 + 2);
    // It continues after SIGCONT.
    let sent = stats[1].sent;
    pipeline.signal(Signal::SIGCONT);
    s.until("it releases a buffer", |p| p.subscribers().last().unwrap().sent > sent);
    // After SIGKILL, its leases end.
    pipeline.signal(Signal::SIGSTOP);
    (0..10).for_each(|_| publish(&mut s));
    pipeline.signal(Signal::SIGKILL);
    s.until("its connection has ended", |p| p.active() == 1);
    assert!(pipeline.0.wait().is_ok());
    publish(&mut s);
    assert_eq!(s.source.buffers().unwrap().leased(), 1, "only the newest frame is leased, by the native subscriber");
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn publisher_that_closes_ends_the_pipeline() {
    let mut s = stage(8, UnixfdTerms::hold(3));
    let Some(gst) = gst(&s.folder) else { return };
    let output = s.folder.file("out");
    let mut pipeline = Pipeline::join(&mut s, gst, "! identity", &output);
    s.publish();
    s.publisher = publisher_at(s.folder.file("next")).bind().unwrap();
    let start = Instant::now();
    while !pipeline.is_over() {
        assert!(start.elapsed() < SOON, "the pipeline hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!pipeline.0.wait().unwrap().success(), "the pipeline ends without an error on its bus");
}
