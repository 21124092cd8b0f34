//! C programs beside Rust's publisher and subscriber, with their frames compared.

use std::process::Stdio;
use std::time::{Duration, Instant};

use framelease::capture::TestPattern;
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::format::Size;
use framelease::frame::Frame;
use framelease::share::{Policy, Publisher, Subscriber};
use framelease::{Received, Station};

use crate::build::{compiled, example, folder, has, program, root, run, skipped};

const SOON: Duration = Duration::from_secs(20);

/// The mean of the first color plane, as consumer.c computes it.
fn mean(frame: &Frame) -> u64 {
    let read = frame.read(DEFAULT_WAIT).unwrap();
    let plane = read.plane(0).unwrap();
    let sum: u64 = plane.rows().map(|row| row.fold(0, |sum, byte| sum + u64::from(byte))).sum();
    sum / (u64::from(plane.row_count()) * plane.row_bytes() as u64)
}

#[test]
fn consumer_reads_the_frames_of_a_rust_publisher() {
    const FRAMES: u64 = 5;
    let Some(built) = compiled("gcc", &["-O1", "-std=gnu11"], &example("consumer.c"), "consumer") else { return };
    let socket = folder("peers").join("rust");
    let mut pattern = TestPattern::builder(Size::new(70, 48)).unpaced().start().unwrap();
    let mut publisher = Publisher::builder(&socket).bind().unwrap();
    publisher.announce(framelease::capture::FrameSource::buffers(&pattern).unwrap()).unwrap();
    let mut command = program(built);
    command.args(["--frames", &FRAMES.to_string()]).arg(&socket).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (start, mut want) = (Instant::now(), std::collections::BTreeMap::new());
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < SOON, "the consumer does not take {FRAMES} frames");
        drop(publisher.recv(Duration::from_millis(2)).unwrap());
        if let Some(frame) = pattern.try_recv().unwrap().frame() {
            want.insert(frame.meta().sequence, mean(&frame));
            assert!(publisher.try_publish(frame).unwrap().is_taken());
        }
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let (sequence, value) = line.strip_prefix("frame ").unwrap().split_once(": mean ").unwrap();
        assert_eq!(want[&sequence.parse::<u64>().unwrap()], value.parse::<u64>().unwrap(), "{line}");
    }
    assert_eq!(text.lines().count() as u64, FRAMES, "{text}");
}

#[test]
fn rust_subscriber_reads_the_frames_of_a_c_publisher() {
    let Some(built) = compiled("gcc", &["-O1", "-std=gnu11"], &root().join("tests/c/share.c"), "share") else { return };
    reads_pattern(program(built), "c");
}

#[test]
fn rust_subscriber_reads_the_frames_of_a_glib_program() {
    if !has("pkg-config") || !std::process::Command::new("pkg-config").arg("glib-2.0").status().unwrap().success() {
        return skipped("the GLib example", "no glib-2.0 here (Debian: libglib2.0-dev)");
    }
    let output = run(std::process::Command::new("pkg-config").args(["--cflags", "--libs", "glib-2.0"]));
    let words = String::from_utf8(output.stdout).unwrap();
    let source = example("camshare.c");
    let (flags, libraries): (Vec<&str>, Vec<&str>) = words.split_whitespace().partition(|word| !word.starts_with("-l"));
    // A library comes after the file that needs it.
    let mut all = vec!["-O1", "-std=gnu11", "-Wl,--no-as-needed"];
    all.extend(flags);
    all.extend(libraries);
    let Some(built) = compiled("gcc", &all, &source, "camshare") else { return };
    reads_pattern(program(built), "glib");
}

/// The program shares a pattern of 320x240 at its argument, until it gets SIGTERM.
fn reads_pattern(mut command: std::process::Command, name: &str) {
    let socket = folder("peers").join(name);
    let _ = std::fs::remove_file(&socket);
    let mut child = command.arg("--pattern").arg(&socket).stderr(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let mut subscriber = loop {
        // The file exists a moment before the program listens.
        match Subscriber::builder(&socket).policy(Policy::Fifo(4)).connect(SOON) {
            Ok(subscriber) => break subscriber,
            Err(e) => assert!(start.elapsed() < SOON && child.try_wait().unwrap().is_none(), "{e}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut reference = TestPattern::builder(Size::new(320, 240)).unpaced().start().unwrap();
    let mut compared = 0;
    let start = Instant::now();
    while compared < 5 {
        assert!(start.elapsed() < SOON, "{compared} frames");
        let Some(frame) = subscriber.recv(SOON).unwrap().frame() else { continue };
        let wanted = loop {
            let wanted = reference.try_recv().unwrap().frame().unwrap();
            if wanted.meta().sequence == frame.meta().sequence {
                break wanted;
            }
        };
        let bytes = |frame: &Frame| {
            let mut bytes = Vec::new();
            frame.read(DEFAULT_WAIT).unwrap().write_to(&mut bytes).unwrap();
            bytes
        };
        assert!(bytes(&frame) == bytes(&wanted), "frame {}", frame.meta().sequence);
        compared += 1;
    }
    run(std::process::Command::new("kill").arg(child.id().to_string()));
    // The publisher says that it ends.
    let start = Instant::now();
    while !matches!(subscriber.recv(SOON), Ok(Received::Ended)) {
        assert!(start.elapsed() < SOON);
    }
    assert!(child.wait().unwrap().success());
}
