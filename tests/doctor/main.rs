//! The parts of `framelease-doctor` that are functions of their arguments: advice, JSON, the removal of private words.
//! `tests/kernel/doctor.rs` runs the whole program on devices.

#![allow(dead_code)] // Of the example's modules, the tests need a part.

#[path = "../../examples/doctor/advice.rs"]
mod advice;
#[path = "../../examples/doctor/findings.rs"]
mod findings;
#[path = "../../examples/doctor/json.rs"]
mod json;
#[path = "../../examples/doctor/private.rs"]
mod private;
#[path = "../../examples/doctor/questions/sps.rs"]
mod sps;

mod common {
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}

mod questions;

use advice::advice;
use findings::{Costs, Display, Failure, Findings, G2d, Holder, Machine, Node, Reads, Role, Row, Video};
use json::{list, object, Json};
use proptest::prelude::*;

fn video(path: &str, role: Role) -> Video {
    Video { node: Node { path: path.into(), group: "video".into(), ..Node::default() }, role, ..Video::default() }
}

/// A machine of which nothing is wrong.
fn healthy() -> Findings {
    let mut findings = Findings {
        machine: Machine { model: "NXP i.MX8MPlus EVK board".into(), is_root: true, ..Machine::default() },
        video: vec![
            video("/dev/video0", Role::Camera),
            video("/dev/video1", Role::Encoder),
            video("/dev/video2", Role::Converter),
        ],
        costs: Some(costs(Row { path: "capture", capture: "capture", memory: "dmabuf", ..Row::default() })),
        ..Findings::default()
    };
    findings.memory.heaps = vec![("/dev/dma_heap/linux,cma".into(), None)];
    findings.memory.for_devices = Some("/dev/dma_heap/linux,cma".into());
    findings.machine.cma_kib = Some((1 << 19, 1 << 19));
    findings
}

fn costs(row: Row) -> Costs {
    Costs { width: 1920, height: 1080, frames: 60, turns: 1, rows: vec![row], ..Costs::default() }
}

fn failed(kind: &str, text: &str) -> Option<Costs> {
    let failed = Some(Failure::new(kind, text));
    Some(costs(Row { path: "capture", capture: "capture", memory: "dmabuf", failed, ..Row::default() }))
}

/// The only piece of advice: its subject, and the rest of its text.
#[track_caller]
fn only(findings: &Findings) -> (String, String) {
    match &advice(findings)[..] {
        [a] => (a.about.clone(), format!("{} {}", a.problem, a.action)),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_advice(findings: &Findings, about: &str, words: &[&str]) {
    let (subject, text) = only(findings);
    assert_eq!(subject, about);
    words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
}

#[test]
fn advice_is_empty_for_a_healthy_board() {
    assert_eq!(advice(&healthy()), []);
}

#[test]
fn advice_names_the_group_of_nodes_without_permission() {
    let mut findings = healthy();
    let denied = || Some(Failure::new("PermissionDenied", "open on /dev/video0: EACCES: Permission denied"));
    findings.video[0].node.failed = denied();
    findings.video[1].node.failed = denied();
    assert_advice(&findings, "/dev/video0, /dev/video1", &["the group video", "usermod -aG video USER"]);
    for v in &mut findings.video {
        v.node.group = "root".into();
    }
    // No user should join the group root.
    let (_, text) = only(&findings);
    assert!(text.contains("udev rule") && !text.contains("usermod"), "{text}");
    let mut findings = healthy();
    findings.memory.heaps[0].1 = denied();
    assert_advice(&findings, "/dev/dma_heap/linux,cma", &["SUBSYSTEM==\"dma_heap\""]);
}

#[test]
fn advice_names_the_process_that_has_the_camera() {
    let mut findings = healthy();
    findings.costs = failed("Busy", "VIDIOC_REQBUFS on /dev/video0 (mxc-isi): EBUSY: Device or resource busy");
    findings.video[0].node.holders = vec![Holder { name: "gst-launch-1.0".into(), pid: 411 }];
    assert_advice(&findings, "/dev/video0", &["in use by gst-launch-1.0 (pid 411)", "share::Publisher"]);
    // /dev/video01 is another node.
    findings.costs = failed("Busy", "VIDIOC_REQBUFS on /dev/video01 (mxc-isi): EBUSY");
    assert_advice(&findings, "path capture", &["cannot be seen"]);
    findings.video[0].node.holders.clear();
    findings.costs = failed("Busy", "VIDIOC_REQBUFS on /dev/video0 (mxc-isi): EBUSY");
    findings.machine.is_root = false;
    assert_advice(&findings, "/dev/video0", &["Run this as root"]);
}

#[test]
fn advice_names_the_process_that_has_the_display() {
    let mut findings = healthy();
    let holders = vec![Holder { name: "weston".into(), pid: 300 }];
    let node = Node { path: "/dev/dri/card0".into(), holders, ..Node::default() };
    findings.displays.push(Display { node, ..Display::default() });
    findings.costs =
        failed("PermissionDenied", "present on /dev/dri/card0 (imx-drm): EACCES: this process is not DRM master");
    assert_advice(&findings, "/dev/dri/card0", &["in use by weston (pid 300)"]);
    // A node without permission is not busy.
    findings.displays[0].node.failed = Some(Failure::new("PermissionDenied", "open on /dev/dri/card0: EACCES"));
    assert_advice(&findings, "/dev/dri/card0", &["no permission"]);
}

#[test]
fn advice_repeats_the_commands_for_a_media_graph() {
    let mut findings = healthy();
    let text =
        "VIDIOC_STREAMON on /dev/video0 (mxc-isi): EPIPE: media-ctl -V \"'mxc_isi.0':0 [fmt:UYVY8_1X16/640x480]\"";
    findings.costs = failed("Pipeline", text);
    assert_advice(&findings, "/dev/video0", &["media-ctl -V", "Run the media-ctl lines"]);
}

#[test]
fn advice_compares_contiguous_memory_with_the_need() {
    let mut findings = healthy();
    // 24 buffers of 1920x1080 NV12 are 71.2 MiB.
    findings.machine.cma_kib = Some((64 << 10, 40 << 10));
    assert_advice(&findings, "contiguous memory (CMA)", &["40 MiB of 64 MiB", "72 MiB", "cma=256M"]);
    findings.machine.cma_kib = Some((128 << 10, 73 << 10));
    assert_eq!(advice(&findings), []);
    // It can be split into pieces that are too small.
    findings.costs = failed("Exhausted", "VIDIOC_CREATE_BUFS on /dev/video0 (mxc-isi): ENOMEM: Out of memory");
    assert_advice(&findings, "contiguous memory (CMA)", &["73 MiB of 128 MiB"]);
    // Machines without it have an IOMMU, or drivers that need none.
    findings = healthy();
    findings.machine.cma_kib = Some((0, 0));
    assert_eq!(advice(&findings), []);
    findings.costs = failed("Exhausted", "VIDIOC_CREATE_BUFS on /dev/video0 (mxc-isi): ENOMEM: Out of memory");
    assert_advice(&findings, "memory", &["Out of memory", "smaller size"]);
}

#[test]
fn advice_starts_the_daemon_that_the_codec_needs() {
    let mut findings = healthy();
    findings.video[1].driver = "vsi_v4l2enc".into();
    assert_advice(&findings, "the i.MX8M's codecs", &["systemctl start vsidaemon"]);
    findings.video[1].node.failed = Some(Failure::new("Os", "VIDIOC_QUERYCAP on /dev/video1: ENODEV: No such device"));
    findings.video[1].driver.clear();
    assert_advice(&findings, "/dev/video1", &["vsidaemon does not run"]);
    findings.machine.has_vsidaemon = true;
    assert_eq!(advice(&findings), []);
}

#[test]
fn advice_reports_uncached_reads() {
    let mut findings = healthy();
    let reads =
        |camera_mib_s| Some(Reads { device: "/dev/video0 (mxc-isi)".into(), camera_mib_s, cached_mib_s: 1500.0 });
    findings.reads = reads(100.0);
    assert_advice(&findings, "/dev/video0 (mxc-isi)", &["100 MiB/s, 15 times slower", "CameraBuilder::cache"]);
    findings.reads = reads(1100.0);
    assert_eq!(advice(&findings), []);
}

#[test]
fn advice_reports_memory_that_devices_cannot_import() {
    let mut findings = healthy();
    findings.memory.heaps.clear();
    assert_advice(&findings, "memory to share", &["/dev/dma_heap does not exist", "CONFIG_DMABUF_HEAPS_CMA"]);
    findings.memory.no_memory = Some(Failure::new("Unsupported", "no allocator of this machine gives dma-bufs"));
    assert_advice(&findings, "memory to share", &["no allocator", "udmabuf"]);
}

#[test]
fn advice_reports_a_missing_converter() {
    let mut findings = healthy();
    findings.g2d = G2d::Failed(Failure::new("NotFound", "dlopen on libg2d.so.2"));
    assert_advice(&findings, "libg2d", &["imx-gpu-g2d"]);
    findings.machine.model = "a board by others".into();
    assert_eq!(advice(&findings), [], "the mem-to-mem device converts");
    findings.video.pop();
    assert_advice(&findings, "converters", &["only the CPU"]);
    findings.g2d = G2d::Found(Json::Null, String::new());
    assert_eq!(advice(&findings), []);
    findings.g2d = G2d::Static;
    assert_eq!(advice(&findings), [], "a static build cannot know");
    findings = healthy();
    findings.g2d = G2d::Failed(Failure::new("Signal", "the process was ended by SIGSEGV"));
    assert_advice(&findings, "libg2d", &["SIGSEGV", "FRAMELEASE_G2D_ABI"]);
}

#[test]
fn advice_reports_missing_devices_and_lost_frames() {
    let mut findings = healthy();
    findings.video.remove(0);
    assert_advice(&findings, "cameras", &["no camera", "dmesg"]);
    let mut findings = healthy();
    findings.video.remove(1);
    assert_advice(&findings, "encoders", &["no encoder", "module"]);
    let mut findings = healthy();
    let lost = |lost| Some(costs(Row { path: "encode", memory: "dmabuf", lost, ..Row::default() }));
    findings.costs = lost(7);
    assert_advice(&findings, "lost frames", &["lost 7 frames while encode by dmabuf"]);
    findings.costs = lost(6);
    assert_eq!(advice(&findings), []);
}

#[test]
fn advice_asks_for_reports_of_crashes() {
    let mut findings = healthy();
    findings.costs = failed("Signal", "the process was ended by SIGSEGV");
    assert_advice(&findings, "path capture", &["SIGSEGV", "Please report it"]);
    findings.costs = failed("Timeout", "no result after 40 s");
    assert_advice(&findings, "path capture", &["no result after 40 s", "dmesg"]);
}

#[test]
fn g2d_addresses_of_an_import_are_compared() {
    let report = |phys: &str, from_fd: &str| {
        let trial = |name: &str, answer: &str| {
            let works = answer.starts_with("0x");
            object([("name", name.into()), ("works", works.into()), ("answer", answer.into())])
        };
        let imports = Json::List(vec![trial("DMA_BUF_IOCTL_PHYS", phys), trial("g2d_buf_from_fd", from_fd)]);
        object([("survey", object([("imports", imports)]))])
    };
    let value = |phys: &str, from_fd: &str| questions::g2d::from_fd(&report(phys, from_fd)).unwrap().0;
    assert_eq!(value("0x40000000", "0x40000000"), "yes");
    // An address above 4 GiB, cut to 32 bits.
    assert_eq!(value("0x140000000", "0x40000000"), "no");
    assert_eq!(value("ENOTTY", "0x40000000"), "unknown");
    assert_eq!(value("0x40000000", "NULL"), "refused");
    let e = questions::g2d::from_fd(&object([])).unwrap_err();
    assert_eq!(e.to_string(), "no CMA heap was found");
}

#[test]
fn g2d_formats_that_contradict_the_rules_are_named() {
    let side = |works: bool, rule: &str| object([("works", works.into()), ("rule", rule.into())]);
    let format =
        |source: Json, target: Json| object([("fourcc", "NV12".into()), ("source", source), ("target", target)]);
    let value = |source, target| {
        let report = object([("survey", object([("formats", Json::List(vec![format(source, target)]))]))]);
        questions::g2d::formats(&report).unwrap().0
    };
    assert_eq!(value(side(true, "yes"), side(false, "no")), "none");
    assert_eq!(value(side(false, "yes"), side(true, "unknown")), "NV12 as source");
    assert_eq!(value(side(true, "yes"), side(true, "no")), "NV12 as target");
}

#[test]
fn private_words_and_addresses_are_removed() {
    let words = ["board-17".to_owned(), "0123456789abcdef".into(), "lab".into(), "localhost".into()];
    let without = |text: &str| private::without(text, &words);
    assert_eq!(without("on board-17, board-170 and board-17."), "on (removed), board-170 and (removed).");
    assert_eq!(without("serial 0123456789abcdef"), "serial (removed)");
    assert_eq!(without("net 00:1B:44:11:3a:b7!"), "net (removed)!");
    assert_eq!(
        without("yes, 0x40a00000; control 0x009909e5; red is 0xf800"),
        "yes, (removed); control 0x009909e5; red is 0xf800"
    );
    // Too short, or every machine's.
    assert_eq!(without("label lab localhost 12:30:59"), "label lab localhost 12:30:59");
}

#[test]
fn json_is_read_as_it_was_written() {
    let value = object([
        ("a", list(["x \"y\" \\ \n\u{1}é", ""])),
        ("b", object([("c", Json::Null), ("d", true.into()), ("e", 1.5.into()), ("f", 12u64.into())])),
        ("g", Json::List(vec![object([]), Json::List(vec![])])),
    ]);
    assert_eq!(Json::parse(&value.to_string()), Ok(value.clone()));
    assert_eq!(value.get("b").to_string(), "{\"c\": null, \"d\": true, \"e\": 1.5, \"f\": 12}");
    assert_eq!(Json::from(f64::NAN).to_string(), "null");
}

#[test]
fn json_that_is_damaged_is_refused_with_its_place() {
    for (text, error) in [
        ("{\"a\": }", "byte 6: a value was expected"),
        ("[1, 2", "byte 5: ',' or ']' was expected"),
        ("{\"a\" 1}", "byte 5: ':' was expected"),
        ("{a: 1}", "byte 1: a name was expected"),
        ("\"a", "byte 1: a string without an end"),
        ("\"\\q\"", "byte 1: an unknown escape in a string"),
        ("1 2", "byte 2: the text continues after the value"),
    ] {
        assert_eq!(Json::parse(text), Err(error.to_owned()), "{text}");
    }
    assert!(Json::parse(&"[".repeat(100_000)).unwrap_err().contains("too deep"));
}

/// Sets of x264, 32x32: High limited and full, Baseline limited, and High without a video signal type.
const SETS: [(&str, Option<bool>); 4] = [
    ("6764000aacd9496c05a810100a000003000200000300641e244b2c", Some(false)),
    ("6764000aacd9496c05b810100a000003000200000300641e244b2c", Some(true)),
    ("6742c00ad9096c05a810100a000003000200000300641e244c90", Some(false)),
    ("6764000aacd9496c0440000003004000000c83c4896580", None),
];

#[test]
fn sps_full_range_is_read() {
    for (hex, expected) in SETS {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        assert_eq!(sps::full_range(&bytes), expected, "{hex}");
        assert_eq!(sps::full_range(&bytes[..8]), None, "a part of {hex}");
    }
    assert_eq!(sps::full_range(&[0x68, 0xce, 0x38, 0x80]), None, "a picture parameter set");
}

proptest! {
    #[test]
    fn sps_accepts_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = sps::full_range(&[&[0x67], &bytes[..]].concat());
    }

    #[test]
    fn json_accepts_any_text_without_a_panic(text in "[\\[\\]{}\":,\\\\u0-9a-z \\PC]{0,60}") {
        let _ = Json::parse(&text);
    }

    #[test]
    fn private_words_are_removed_from_any_text(text in "\\PC{0,60}", word in "\\PC{4,8}") {
        let _ = private::without(&text, &[word]);
    }
}
