//! The lines for OpenCV in docs/interop.md, on frames with padded rows.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Layout, Size};
use framelease::Station;

use crate::peer::{has, here, python, skipped};
use crate::support::{Stage, SOON};

/// The lines in a language.
fn lines(language: &str) -> &'static str {
    let section = include_str!("../../docs/interop.md").split("\n## OpenCV\n").nth(1).unwrap();
    section.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap()
}

/// Runs a program that takes one frame of 72x48 pixels, whose rows have 128 bytes.
fn run(mut program: Command) -> Output {
    let mut s = Stage::new(20);
    let layout = Layout::aligned(FourCc::NV12, Size::new(72, 48), 128).unwrap();
    assert_eq!(layout.planes()[1].stride_bytes, 128);
    let builder = TestPattern::builder(layout.size()).layout(layout).unpaced().allocator(Allocator::Memfd);
    s.source = builder.buffers(20).start().unwrap();
    s.publisher.announce(s.source.buffers().unwrap()).unwrap();
    let child = program.arg(s.folder.socket()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let thread = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !thread.is_finished() {
        let frame = s.source.recv(SOON).unwrap().frame().unwrap();
        assert!(s.publisher.publish(frame, Duration::from_millis(50)).unwrap().is_taken());
        drop(s.publisher.recv(Duration::from_millis(1)).unwrap());
    }
    thread.join().unwrap()
}

fn passes(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn opencv_reads_frames_in_place_in_python() {
    let Some(python) = python() else { return };
    let has_opencv = Command::new(python).args(["-c", "import cv2"]).stderr(Stdio::null()).status();
    if !has_opencv.is_ok_and(|status| status.success()) {
        return skipped("OpenCV in Python", "no cv2 here");
    }
    let source = format!(
        r#"
import sys, tracemalloc
sys.path.insert(0, sys.argv[1])
import framelease
with framelease.Subscriber(sys.argv[2]).connect() as subscriber:
    for frame in subscriber:
        {}
        assert bgr.shape == (48, 72, 3)
        colors = {{tuple(int(c > 127) for c in pixel) for pixel in bgr.reshape(-1, 3)}}
        assert len(colors) == 8, colors
        luma = frame.numpy(0)
        assert luma.strides == (128, 1) and not luma.flags.writeable
        # NumPy counts its memory there, also that of OpenCV's copies.
        def peak(array):
            tracemalloc.start()
            cv2.minMaxLoc(array)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return peak
        assert peak(luma) < luma.nbytes / 2, "a copy"
        assert peak(luma[:, ::-1]) >= luma.nbytes, "a copy that is not seen"
        del luma
        break
"#,
        lines("python").trim_end().replace('\n', "\n        ")
    );
    let mut program = Command::new(python);
    program.args(["-B", "-c", &source]).arg(here("python/src"));
    passes(&run(program));
}

#[test]
fn opencv_reads_frames_in_place_in_cpp() {
    let include = Path::new("/usr/include/opencv4");
    if !has("g++") {
        return skipped("OpenCV in C++", "no g++ here");
    }
    if !include.join("opencv2/core.hpp").exists() {
        return skipped("OpenCV in C++", "no libopencv-core-dev here");
    }
    let source = format!(
        r#"
#include <cstdio>
#include <cstdlib>
#include <fls.h>
#include <opencv2/core.hpp>
static void require(bool holds, const char *what) {{ if (!holds) {{ std::fprintf(stderr, "%s\n", what); std::exit(1); }} }}
int main(int, char **argv) {{
    fls_options options = {{}};
    options.path = argv[1];
    fls_client *client;
    require(fls_open(&options, &client) == FLS_OK && fls_connect(client, 5000) == FLS_OK, "connect");
    fls_event event = FLS_NOTHING;
    fls_frame *frame = nullptr;
    while (event != FLS_FRAME) require(fls_next(client, 5000, &event, &frame) == FLS_OK, fls_message(client));
    require(fls_begin_read(client, frame, 1000) == FLS_OK, fls_message(client));
    {{
        {}
        require(luma.data == fls_pixels(frame, 0) && chroma.data == fls_pixels(frame, 1), "a copy");
        require(luma.rows == 48 && luma.cols == 72 && luma.step == 128 && !luma.isContinuous(), "luma");
        require(chroma.rows == 24 && chroma.cols == 36 && chroma.step == 128, "chroma");
        double least, most;
        cv::minMaxLoc(luma, &least, &most);
        require(least == 16 && most == 235, "the bars are not from black to white");
    }}
    fls_end_read(frame);
    fls_close(client);
}}
"#,
        lines("cpp")
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (file, program) = (folder.join("opencv.cpp"), folder.join("opencv"));
    std::fs::write(&file, source).unwrap();
    let mut compiler = Command::new("g++");
    compiler.args(["-std=c++17", "-w", "-I"]).arg(include).arg("-I").arg(here("examples/peers/c")).arg(&file);
    compiler.arg(here("examples/peers/c/fls.c")).args(["-lopencv_core", "-o"]).arg(&program);
    passes(&compiler.output().unwrap());
    passes(&run(Command::new(program)));
}
