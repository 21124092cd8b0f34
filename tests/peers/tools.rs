//! Tests of framelease-cat and framelease.view as a user runs them, and of the ways to build the C client.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use framelease::dmabuf::DEFAULT_WAIT;
use framelease::Station;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::peer::{compiled, has, here, python, skipped};
use crate::support::{Stage, SOON};

fn cat(s: &Stage) -> Option<Command> {
    let mut command = Command::new(compiled("framelease-cat", "cc", "examples/peers/c/framelease-cat.c", &["-O2"])?);
    command.arg("--socket").arg(s.folder.socket());
    Some(command)
}

/// Runs a program to its end while frames are published.
fn run(s: &mut Stage, mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let thread = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !thread.is_finished() {
        // With policy block and a program that is about to end, the publisher must not wait forever.
        let frame = s.source.recv(SOON).unwrap().frame().unwrap();
        assert!(s.publisher.publish(frame, Duration::from_millis(50)).unwrap().is_taken());
        drop(s.publisher.recv(Duration::from_millis(1)).unwrap());
    }
    thread.join().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn framelease_cat_writes_what_the_library_writes() {
    let mut s = Stage::new(20);
    let Some(mut command) = cat(&s) else { return };
    command.args(["--frames", "3", "--policy", "block", "--stats"]);
    let mut want = Vec::new();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    s.until("it takes frames", |p| p.active() == 1);
    for _ in 0..3 {
        let frame = s.source.recv(SOON).unwrap().frame().unwrap();
        frame.read(DEFAULT_WAIT).unwrap().write_to(&mut want).unwrap();
        assert!(s.publisher.publish(frame, SOON).unwrap().is_taken());
    }
    let thread = std::thread::spawn(move || child.wait_with_output().unwrap());
    s.until("it has ended", |_| thread.is_finished());
    let output = thread.join().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == want, "{} bytes instead of {}", output.stdout.len(), want.len());
    assert!(text(&output.stderr).contains("3 frames"), "{}", text(&output.stderr));
}

#[test]
fn framelease_cat_ends_well_on_a_full_disk_a_closed_pipe_and_a_signal() {
    let mut s = Stage::new(20);
    let Some(mut command) = cat(&s) else { return };
    command.args(["--output", "/dev/full", "--frames", "500"]);
    let output = run(&mut s, command);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/dev/full: No space left on device"), "{}", text(&output.stderr));

    let mut child = cat(&s).unwrap().stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || pipe.read_exact(&mut [0; 100]).unwrap());
    while child.try_wait().unwrap().is_none() {
        s.publish();
        drop(s.publisher.recv(Duration::from_millis(1)).unwrap());
    }
    reader.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "the reader closed the pipe");

    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        s.until("no subscriber is left", |p| p.subscribers().count() == 0);
        let mut child = cat(&s).unwrap().args(["--none", "--stats"]).stderr(Stdio::piped()).spawn().unwrap();
        s.until("it takes frames", |p| p.active() == 1);
        // It waits: nothing is published.
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn framelease_cat_names_errors() {
    let s = Stage::new(20);
    let Some(mut command) = cat(&s) else { return };
    let output = command.args(["--policy", "fifo:33"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).contains("fifo")), (Some(2), true));
    let output = cat(&s).unwrap().args(["--socket", "/nowhere", "--hash"]).output().unwrap();
    assert_eq!(text(&output.stderr), "error: /nowhere: connect: No such file or directory (not-found)\n");
    assert_eq!(output.status.code(), Some(1));
    // This publisher is not served.
    let output = cat(&s).unwrap().args(["--timeout", "0.05", "--hash"]).output().unwrap();
    assert!(text(&output.stderr).contains("no answer to HELLO within 50 ms"), "{}", text(&output.stderr));
    let help = text(&cat(&s).unwrap().arg("--help").output().unwrap().stdout);
    assert!(["--hash", "--hold", "--every", "--timeout", "--stats"].iter().all(|o| help.contains(o)));
}

#[test]
fn view_saves_pictures() {
    let mut s = Stage::new(20);
    let Some(python) = python() else { return };
    let file = s.folder.socket().with_extension("png");
    let mut command = Command::new(python);
    command
        .args(["-B", "-m", "framelease.view"])
        .env("PYTHONPATH", here("python/src"))
        .arg("--socket")
        .arg(s.folder.socket());
    command.arg("--png").arg(&file);
    let output = run(&mut s, command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(file).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height, info.color_type), (64, 48, png::ColorType::Rgb));
    // The test pattern's bars: all eight colors are there, and almost nothing else.
    let bars = pixels.chunks_exact(3).filter(|p| p.iter().all(|&c| !(6..=249).contains(&c))).count();
    let colors: std::collections::HashSet<_> =
        pixels.chunks_exact(3).map(|p| [p[0] > 127, p[1] > 127, p[2] > 127]).collect();
    assert!(colors.len() == 8 && bars > 64 * 48 * 9 / 10, "{} colors, {bars} pixels", colors.len());
}

#[test]
fn documents_have_programs_that_compile() {
    let page = include_str!("../../docs/interop.md");
    let block = |language: &str| page.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    let check = |mut command: Command, source: &str| {
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    if has("cc") {
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", "-", "-I"]);
        command.arg(here("examples/peers/c"));
        check(command, block("c"));
    }
    if let Some(python) = python() {
        let mut command = Command::new(python);
        command.args(["-c", "import ast, sys; ast.parse(sys.stdin.read())"]);
        check(command, block("python"));
    }
}

#[test]
fn build_of_the_c_client_by_make_cmake_and_as_cpp() {
    let source = here("examples/peers/c");
    let copy = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-client");
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir_all(&copy).unwrap();
    for name in ["fls.h", "fls.c", "framelease-cat.c", "Makefile", "CMakeLists.txt"] {
        std::fs::copy(source.join(name), copy.join(name)).unwrap();
    }
    let build = |program: &str, args: &[&str]| {
        if !has(program) {
            return skipped("a build of the C client", &format!("no {program} here"));
        }
        let output = Command::new(program).args(args).current_dir(&copy).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    };
    let strict = ["-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Wshadow", "-Werror", "-fsyntax-only"];
    for compiler in ["gcc", "clang"] {
        build(compiler, &[&strict[..], &["-std=c11", "fls.c", "framelease-cat.c"]].concat());
    }
    for compiler in ["g++", "clang++"] {
        build(compiler, &[&strict[..], &["-std=c++17", "-x", "c++", "fls.c"]].concat());
    }
    build("make", &["install", "DESTDIR=root"]);
    if has("make") {
        assert!(copy.join("root/usr/local/include/fls.h").exists());
    }
    if has("cmake") {
        build("cmake", &["-S", ".", "-B", "build"]);
        build("cmake", &["--build", "build"]);
    } else {
        skipped("a build of the C client", "no cmake here");
    }
}
