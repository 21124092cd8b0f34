//! Tests of the example `framelease-doctor`, as a user runs it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use framelease::convert::g2d::Abi;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::coding::h264;
use crate::devices::*;
use crate::display::vkms;
use crate::display_gpu::gpu;
use crate::g2d::support::Fake;
use crate::share::example;

/// A number in a row of the JSON.
fn figure(row: &str, key: &str) -> f64 {
    let rest = row.split(&format!("\"{key}\": ")).nth(1).unwrap_or_else(|| panic!("no {key} in {row}"));
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

fn doctor() -> Option<PathBuf> {
    example("framelease-doctor")
}

fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs the doctor and returns its text and its report.
fn examined(command: &mut Command) -> (String, String) {
    let folder = std::env::temp_dir().join(format!("framelease-report-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    // Another user must be able to write there.
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    let report = folder.join("report.json");
    command.arg("--json").arg(&report).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = ended(command.spawn().unwrap());
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let json = std::fs::read_to_string(&report).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    (text, json)
}

/// Asks some questions and returns the report.
fn asked(program: &Path, questions: &[&str], environment: &[(&str, &str)]) -> String {
    let mut args = vec!["--part", "devices", "--part", "g2d", "--part", "answers"];
    args.extend(questions.iter().flat_map(|question| ["--question", question]));
    examined(command(program, &args).envs(environment.iter().copied())).1
}

/// The values of the answers that a device gives.
fn answers(json: &str, driver: &str) -> Vec<(String, String)> {
    let rows = json.lines().filter(|line| line.contains("\"question\": ") && line.contains(driver));
    let field = |line: &str, name: &str| {
        let rest = line.split(&format!("\"{name}\": ")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
        rest.strip_prefix('"').map_or("null", |rest| rest.split('"').next().unwrap()).to_owned()
    };
    rows.map(|line| (field(line, "question"), field(line, "value"))).collect()
}

#[track_caller]
fn assert_answers(json: &str, driver: &str, expected: &[(&str, &str)]) {
    let found = answers(json, driver);
    for (question, value) in expected {
        let answer = found.iter().find(|(q, _)| q == question);
        assert_eq!(answer.map(|(_, v)| v.as_str()), Some(*value), "{question} of {driver}: {json}");
    }
}

#[test]
fn doctor_runs_each_path_without_a_copied_byte() {
    let Some(program) = doctor() else { return };
    if vivid(Planar::Single).is_none() || h264("").is_none() || vkms().is_none() {
        return;
    }
    leaving_nothing(|| {
        let (table, json) = examined(&mut command(&program, &["--part", "paths", "--frames", "5"]));
        let rows: Vec<&str> = json.lines().filter(|l| l.contains("\"memory\": \"") && l.contains("\"path\"")).collect();
        assert_eq!((rows.len(), table.lines().count()), (12, 14), "{table}{json}");
        for row in rows {
            assert!(row.contains("\"failed\": null"), "{row}");
            // At least 640x480 rows, each byte once.
            let copied = figure(row, "copied_bytes");
            assert!(if row.contains("\"dmabuf\"") { copied == 0.0 } else { copied >= 460_800.0 }, "{row}");
            assert!(figure(row, "process_cpu_us") > 0.0 && figure(row, "system_calls") >= 3.0, "{row}");
        }
    });
}

/// Replaces perf: 3 reads and 2 writes a nanosecond.
const PERF: &str = r#"#!/bin/sh
case "$*" in *"-- true") exit ;; esac
for file; do :; done
trap 'printf "3000,,imx8_ddr0/read-cycles/,1000,100.00,,\n2000,,imx8_ddr0/write-cycles/,1000,100.00,,\n" >"$file"; exit' INT
while :; do sleep 0.1; done
"#;

#[test]
fn doctor_counts_memory_bus_cycles_and_frames() {
    let (Some(_), Some(program)) = (vivid(Planar::Single), doctor()) else { return };
    let folder = std::env::temp_dir().join(format!("framelease-perf-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let (perf, json) = (folder.join("perf"), folder.join("json"));
    std::fs::write(&perf, PERF).unwrap();
    std::fs::set_permissions(&perf, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", folder.display(), std::env::var("PATH").unwrap());
    let args = ["--part", "paths", "--path", "capture", "--fps", "30", "--frames", "30", "--json"];
    run("env", &[&[&path, program.to_str().unwrap()][..], &args, &[json.to_str().unwrap()]].concat());
    let json = std::fs::read_to_string(json).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let (read, write) = (figure(&json, "ddr_read_cycles"), figure(&json, "ddr_write_cycles"));
    assert!(json.contains("\"no_ddr_counters\": null"), "{json}");
    // A frame takes 33 ms, or longer on a slow guest.
    assert!(read > 3.0 * 30e6 && (read / write - 1.5).abs() < 0.01, "{json}");
}

#[test]
fn doctor_explains_its_options_and_errors() {
    let Some(program) = doctor() else { return };
    let name = program.to_str().unwrap();
    assert!(run(name, &["--help"]).contains("--path NAME"));
    for (args, words) in [
        (&["--path", "walk"][..], "convert-encode"),
        (&["--turns", "0"], "1 at least"),
        (&["--part", "soul"], "answers"),
        (&["--question", "encoder-"], "camera, encoder"),
        (&["--nonsense"], "--nonsense"),
        (&["--part", "g2d", "--json", "/nowhere/report.json"], "/nowhere/report.json"),
    ] {
        let out = ended(start(name, args));
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains(words), "{args:?}");
    }
    // A path that cannot run is a row with the reason.
    let args = ["--part", "paths", "--path", "capture", "--camera", "/dev/null", "--frames", "1"];
    let (table, json) = examined(&mut command(&program, &args));
    assert!(table.contains("| capture | dmabuf | NOT RUN: "), "{table}");
    assert!(json.contains("\"failed\": \"open on /dev/null: "), "{json}");
}

#[test]
fn doctor_lists_devices_and_keeps_the_host_name_private() {
    let (Some(_), Some(program)) = (vivid(Planar::Single), doctor()) else { return };
    if vim2m().is_none() || vkms().is_none() || needed_path("udmabuf", "/dev/udmabuf").is_none() {
        return;
    }
    const HOST: &str = "/proc/sys/kernel/hostname";
    if std::env::var_os("FRAMELEASE_LAB_PROMISES").is_some() {
        // The lab's own name is too short to identify anything.
        std::fs::write(HOST, "board-of-a-customer").unwrap();
    }
    let camera = format!("/dev/{}/video", std::fs::read_to_string(HOST).unwrap().trim());
    let (text, json) = examined(&mut command(&program, &["--quick"]));
    for word in
        ["camera, vivid", "media path: 'vim2m-source':0", "Virtual-1: connected", "/dev/udmabuf: yes", "What to do"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(json.contains("\"role\": \"converter\"") && json.contains("\"paths\": null"), "{json}");
    assert!(!json.contains("platform:vivid"), "{json}");
    let args = ["--part", "devices", "--part", "paths", "--path", "capture", "--camera", &camera];
    let (text, json) = examined(&mut command(&program, &args));
    assert!(text.contains("/dev/(removed)/video") && json.contains("/dev/(removed)/video"), "{text}{json}");
    assert!(!text.contains(&camera) && !json.contains(&camera), "{text}{json}");
}

#[test]
fn doctor_names_the_process_that_has_the_camera() {
    let (Some(device), Some(program)) = (vivid(Planar::Single), doctor()) else { return };
    let path = device.info().path.clone();
    let mut holder = camera(&device, "NV12").open().unwrap();
    drop(frame(&mut holder));
    let args = ["--part", "devices", "--part", "paths", "--path", "capture", "--camera", path.to_str().unwrap()];
    let (text, json) = examined(&mut command(&program, &args));
    let pid = std::process::id();
    let problem = text.lines().find(|line| line.contains("in use by ")).unwrap_or_else(|| panic!("{text}"));
    assert!(problem.contains(&format!("(pid {pid})")) && problem.contains(path.to_str().unwrap()), "{problem}");
    assert!(json.contains(&format!("({pid})\"]")), "{json}");
    drop(holder);
}

#[test]
fn doctor_reports_nodes_without_permission() {
    let (Some(device), Some(program)) = (vivid(Planar::Single), doctor()) else { return };
    if !nix::unistd::geteuid().is_root() {
        return needed("root", Err("only root can become another user".into())).unwrap_or(());
    }
    let (text, json) = examined(command(&program, &[]).uid(65534).gid(65534));
    let path = device.info().path.display().to_string();
    assert!(text.contains(&format!("{path}: NOT OPENED: open on {path}: EACCES")), "{text}");
    assert!(text.contains("no permission; the group "), "{text}");
    assert!(json.contains("\"problem\": \"no permission"), "{json}");
    // Nothing ends the program: every path is a row, and every question has a reason.
    assert_eq!(text.matches("NOT RUN: ").count(), 12, "{text}");
    assert!(json.lines().filter(|l| l.contains("\"question\"")).all(|l| l.contains("\"answer\": null")), "{json}");
}

#[test]
fn doctor_that_is_interrupted_leaves_its_devices_free() {
    let Some(program) = doctor() else { return };
    if vivid(Planar::Single).is_none() || h264("").is_none() || vkms().is_none() {
        return;
    }
    for path in ["capture", "convert-encode", "display"] {
        leaving_nothing(|| {
            let args = ["--part", "paths", "--path", path, "--fps", "30", "--frames", "100000"];
            let mut command = command(&program, &args);
            // A terminal interrupts the whole group.
            let mut child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
            std::thread::sleep(Duration::from_secs(2));
            assert!(child.try_wait().unwrap().is_none(), "{path} ended before");
            let group = Pid::from_raw(-i32::try_from(child.id()).unwrap());
            nix::sys::signal::kill(group, Signal::SIGINT).unwrap();
            assert!(!ended(child).status.success());
        });
    }
}

#[test]
fn doctor_answers_change_with_the_camera() {
    let (Some(_), Some(program), Some(_)) = (vivid(Planar::Single), doctor(), vkms()) else { return };
    let json = asked(&program, &["camera", "display"], &[]);
    assert_answers(&json, "vivid", &[("camera-cache", "yes"), ("camera-import", "yes")]);
    assert_answers(&json, "vivid", &[("camera-colors", "Srgb Bt601 Limited")]);
    assert_answers(&json, "vkms", &[("display-nv12", "no"), ("display-scaling", "no"), ("display-memory", "yes")]);
    reload_vivid(&VIVID.replace("cache_hints=1,1", "cache_hints=0,0"));
    let device = vivid_as_is(Planar::Single).unwrap();
    // Rec. 709
    set(&device, "Colorspace", 1);
    drop(device);
    let json = asked(&program, &["camera"], &[]);
    assert_answers(&json, "vivid", &[("camera-cache", "unknown"), ("camera-colors", "Rec709 Bt709 Limited")]);
    // Buffers that must be contiguous.
    reload_vivid(&format!("{VIVID} allocators=1,1"));
    assert_answers(&asked(&program, &["camera-import"], &[]), "vivid", &[("camera-import", "no")]);
    reload_vivid(VIVID);
}

#[test]
fn doctor_answers_change_with_the_encoder() {
    let Some(program) = doctor() else { return };
    let ask = |parameters: &str, expected: &[(&str, &str)]| {
        h264(parameters)?;
        let questions: Vec<&str> = expected.iter().map(|(question, _)| *question).collect();
        assert_answers(&asked(&program, &questions, &[]), "fl_h264", expected);
        Some(())
    };
    let usual = [
        ("encoder-drain", "yes"),
        ("encoder-resume", "continues"),
        ("encoder-key", "next queued"),
        ("encoder-buffer", "yes"),
        ("encoder-cache", "no hint"),
        ("encoder-range", "as named"),
    ];
    if ask("pause=20", &usual).is_none() {
        return;
    }
    ask("pause=20 late_key=1 cache_hints=1", &[("encoder-key", "next encoded"), ("encoder-cache", "hint")]);
    ask("misses_drain=1 swaps_range=1", &[("encoder-drain", "no"), ("encoder-range", "exchanged")]);
    ask("broken_start=1 tight=1", &[("encoder-resume", "a new stream begins"), ("encoder-buffer", "no")]);
    // Offsets are asked of drivers that are known to read them.
    ask("card=vsi_v4l2enc", &[("encoder-offset", "yes")]);
    ask("card=vsi_v4l2enc ignores_offset=1", &[("encoder-offset", "no")]);
    h264("");
}

#[test]
fn doctor_answers_change_with_the_converter() {
    let Some(program) = doctor() else { return };
    let ask = |parameters: &str, expected: &[(&str, &str)]| {
        reload("fl_scaler", parameters);
        let questions: Vec<&str> = expected.iter().map(|(question, _)| *question).collect();
        assert_answers(&asked(&program, &questions, &[]), "fl_scaler", expected);
    };
    if needed("fl_scaler", framelease::v4l2::Device::find(|d| d.driver == "fl_scaler").map_err(|e| e.to_string()))
        .is_none()
    {
        return;
    }
    let usual = [
        ("converter-rotate", "clockwise"),
        ("converter-outside", "kept"),
        ("converter-matrix", "as named"),
        ("converter-range", "limited, refused"),
        ("converter-alpha", "255"),
        ("converter-scale", "1/16 to 16"),
    ];
    ask("", &usual);
    let other = [
        ("converter-rotate", "counterclockwise"),
        ("converter-outside", "changed"),
        ("converter-matrix", "BT.601, BT.601"),
        ("converter-range", "limited, limited"),
        ("converter-alpha", "0"),
    ];
    ask("counterclockwise=1 clears=1 one_matrix=1 one_range=1 no_alpha=1", &other);
    reload("fl_scaler", "");
}

/// libg2d in software, which draws with the CPU.
#[test]
fn doctor_answers_change_with_libg2d_and_the_display() {
    let Some(program) = doctor() else { return };
    if needed_path("udmabuf", "/dev/udmabuf").is_none() || vkms().is_none() || gpu().is_none() {
        return;
    }
    let fake = Fake::new(Abi::Modern);
    let ask = |settings: &str, questions: &[&str]| {
        let library = fake.path.to_str().unwrap();
        asked(&program, questions, &[("FRAMELEASE_G2D_LIBRARY", library), ("FAKE_G2D", settings)])
    };
    let json = ask("", &["converter"]);
    assert_answers(
        &json,
        "libg2d",
        &[
            ("converter-rotate", "clockwise"),
            ("converter-flip", "flip, then turn"),
            ("converter-outside", "kept"),
            ("converter-matrix", "as named"),
            ("converter-range", "as named"),
            ("converter-alpha", "255"),
            ("converter-rgb565", "as V4L2's RGBP"),
            ("converter-blend", "mixed"),
        ],
    );
    // virtio-gpu shows only its own buffers.
    let questions = ["converter-rotate", "converter-outside", "converter-blend", "display-memory", "display-offset"];
    let json = ask("no_matrices=1,no_raster=1", &questions);
    assert_answers(
        &json,
        "libg2d",
        &[("converter-rotate", "unknown"), ("converter-outside", "nothing drawn"), ("converter-blend", "wrong")],
    );
    assert_answers(&json, "vkms", &[("display-memory", "yes"), ("display-offset", "yes")]);
    assert_answers(&json, "virtio_gpu", &[("display-memory", "no"), ("display-offset", "no")]);
}
