//! Tests of the example `display`, as a user runs it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use framelease::drm::LayerRequirements;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::devices::*;
use crate::display::{checksum, displayed, noise, present, rgb, screen, settle, vkms, SCREEN, SECOND};
use crate::share::example;

/// A process that is killed when the test ends, also if it fails.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Option<String> {
    example("display").map(|p| p.to_str().unwrap().to_owned())
}

/// A figure of the example's JSON.
fn figure(json: &str, key: &str) -> f64 {
    let rest = json.split(&format!("\"{key}\": ")).nth(1).unwrap_or_else(|| panic!("no {key} in {json}"));
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn display_example_shows_a_camera_a_pattern_and_a_publisher() {
    let (Some(_), Some(card)) = (vivid(Planar::Single), vkms()) else { return };
    let Some(program) = program() else { return };
    let path = card.info().path.display().to_string();
    // This process is DRM master as long as it has the device open.
    drop(card);
    let display = |args: &[&str]| {
        let always = ["--device", &path, "--size", "640x480", "--frames", "30", "--json"];
        run(&program, &[&always, args].concat())
    };
    leaving_nothing(|| {
        for args in [&["--input", "camera"][..], &["--input", "testpattern", "--overlay", "--mode", "640x480@60"]] {
            let json = display(args);
            assert!(figure(&json, "flips") >= 30.0, "{json}");
            assert!(json.contains("\"mode\": \"640x480@59.94\"") && json.contains("\"fourcc\": \"XR24\""), "{json}");
            // A late timer of the guest gives a flip the time of the vblank that it was late for, so the median may be
            // 0.
            assert!(figure(&json, "latency_us_p99") >= figure(&json, "latency_us_p50"), "{json}");
            assert!(figure(&json, "latency_us_p99") > 0.0, "{json}");
            assert!(figure(&json, "missed_vblanks") >= 0.0, "{json}");
            // The drawing of the test pattern is counted like the work of a camera.
            assert_eq!(figure(&json, "cpu_bytes_touched"), 0.0, "{json}");
        }
        let socket = std::env::temp_dir().join(format!("framelease-display-{}", std::process::id()));
        let publisher = example("publisher").unwrap();
        let args = ["--fourcc", "XBGR32", "--size", "640x480", "--device", "auto", "--json", "--socket"];
        let publisher = Command::new(publisher).args(args).arg(&socket).stdout(Stdio::null()).spawn();
        let publisher = Background(publisher.unwrap());
        for _ in 0..100 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let json = display(&["--input", socket.to_str().unwrap()]);
        assert!(figure(&json, "flips") >= 30.0 && figure(&json, "cpu_bytes_touched") == 0.0, "{json}");
        drop(publisher);
        let _ = std::fs::remove_file(socket);
    });
}

#[test]
fn display_example_explains_its_options_and_errors() {
    let (Some(card), Some(program)) = (vkms(), program()) else { return };
    let help = run(&program, &["--help"]);
    for option in ["--input", "--device", "--mode", "--plane", "--overlay", "--frames", "--json", "Ctrl-C"] {
        assert!(help.contains(option), "{option} is not in the help");
    }
    let path = card.info().path.display().to_string();
    drop(card);
    for (args, words) in [
        (&["--device", "/dev/dri/card99"][..], &["/dev/dri/card99", "ENOENT"][..]),
        (&["--device", "/dev/null"], &["/dev/null", "not a DRM device"]),
        (&["--device", &path, "--mode", "641x481"], &["641x481", "Virtual-1 has", "640x480@59.94"]),
        (&["--device", &path, "--mode", "640x480@75000"], &["75000 Hz", "640x480@59.94"]),
        (&["--device", &path, "--mode", "wide"], &["--mode wide", "WxH"]),
        (&["--device", &path, "--connector", "HDMI-A-9"], &["HDMI-A-9", "Virtual-1 (Connected"]),
        (&["--device", &path, "--fourcc", "NV12"], &["NV12", "plane", "takes AR24", "convert"]),
        (&["--device", &path, "--input", "/run/nowhere"], &["/run/nowhere"]),
        (&["--plane", "top"], &["--plane top", "overlay"]),
        (&["--color"], &["--color"]),
    ] {
        let out = ended(start(&program, args));
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.starts_with("error: ") && out.stdout.is_empty(), "{args:?}: {text}");
        words.iter().for_each(|w| assert!(text.contains(w), "no '{w}' in: {text}"));
    }
}

#[test]
fn display_example_restores_the_console_on_ctrl_c() {
    let (Some(card), Some(program)) = (vkms(), program()) else { return };
    // Stands for the console, whose picture the kernel draws.
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 1).unwrap();
    let mut console = screen(&card);
    let layer = console.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
    present(&mut console, layer, noise(&pool, 1));
    settle(&mut console);
    let picture = checksum(&rgb(console.shown(layer).unwrap()));
    card.drop_master().unwrap();
    let path = card.info().path.display().to_string();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let child = start(&program, &["--device", &path, "--size", "640x480", "--overlay", "--json"]);
        let start = std::time::Instant::now();
        while displayed(&card) == picture {
            assert!(start.elapsed() < 20 * SECOND, "the example shows no picture");
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let out = ended(child);
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{:?}: {}", out.status, String::from_utf8_lossy(&out.stderr));
        assert!(figure(&text, "flips") > 0.0, "{text}");
        assert_eq!(displayed(&card), picture, "{signal}");
    }
}

#[test]
fn display_example_waits_for_an_unplugged_display() {
    let (Some(card), Some(program)) = (vkms(), program()) else { return };
    let name = card.info().path.file_name().unwrap().to_str().unwrap().to_owned();
    let status = format!("/sys/class/drm/{name}-Virtual-1/status");
    let path = card.info().path.display().to_string();
    drop(card);
    let child = start(&program, &["--device", &path, "--size", "640x480", "--frames", "120", "--json"]);
    std::thread::sleep(SECOND);
    std::fs::write(&status, "off").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    std::fs::write(&status, "detect").unwrap();
    let out = ended(child);
    let (text, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && figure(&text, "flips") >= 120.0, "{text}{said}");
    assert!(said.contains("no display is plugged into Virtual-1"), "{said}");
}
