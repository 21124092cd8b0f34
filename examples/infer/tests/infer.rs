//! Runs the example beside a publisher of the test pattern, and compares what it prints with where the bars are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, Pool};
use framelease::share::{Publisher, PublisherEvent};
use framelease::{Received, Station};

const SIZE: Size = Size::new(1280, 720);
/// The pattern's bars, from the left.
const COLORS: [&str; 8] = ["white", "yellow", "cyan", "green", "magenta", "red", "blue", "black"];
const BAR: i64 = SIZE.width as i64 / 8;
/// Pixels that a bar moves to the left in each frame, and from row 0 to the last.
const STEP: i64 = 4;
const SLANT: i64 = (SIZE.height as i64 - 1) / 16 * STEP;

/// How many pixels an edge may be off: a cell of the model.
const NEAR: i64 = 80;

/// A socket's path, in a folder that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("infer-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program in Rust.
fn rust() -> Command {
    Command::new(env!("CARGO_BIN_EXE_infer"))
}

/// The program in Python with a runtime, if its packages are here.
fn python(runtime: &str, module: &str) -> Option<Command> {
    let has = Command::new("python3").args(["-c", &format!("import numpy, {module}")]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED infer.py by {module}: not here");
        return None;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = std::env::var("PYTHONPATH").unwrap_or_default();
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", format!("{}:{packages}", here.join("../../python/src").display()));
    command.arg("-B").arg(here.join("infer.py")).args(["--runtime", runtime]);
    Some(command)
}

fn start(mut program: Command, socket: &Path, args: &[&str]) -> Child {
    program.arg("--socket").arg(socket).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Publishes what `next` gives until the program ends.
fn serve(publisher: &mut Publisher, child: Child, mut next: impl FnMut() -> Option<Frame>) -> Output {
    let thread = std::thread::spawn(move || child.wait_with_output().unwrap());
    let start = Instant::now();
    while !thread.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(120), "the program does not end");
        while let Received::Item(event) = publisher.try_recv().unwrap() {
            assert!(!matches!(event, PublisherEvent::Refused { .. }), "{event:?}");
        }
        match next() {
            Some(frame) => drop(publisher.try_publish(frame).unwrap()),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    thread.join().unwrap()
}

/// What the program says of each frame: the color, then the left, upper, right and lower edge.
fn found(output: &Output) -> HashMap<i64, Vec<(String, [i64; 4])>> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut frames: HashMap<_, Vec<_>> = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let edges = std::array::from_fn(|n| words[3 + n].parse().unwrap());
        frames.entry(words[0].parse().unwrap()).or_default().push((words[1].to_owned(), edges));
    }
    frames
}

/// The bars of a frame: the color and the left and right edge of each, and whether all of it is in the picture.
fn bars(sequence: i64) -> Vec<(&'static str, [i64; 2], bool)> {
    let width = i64::from(SIZE.width);
    let bar = |n: i64| {
        let right = n * BAR + BAR - sequence * STEP % width;
        (COLORS[n as usize % 8], [right - BAR - SLANT, right])
    };
    let visible = (0..20).map(bar).filter(|(_, [left, right])| *right > 0 && *left < width);
    visible
        .map(|(color, [left, right])| (color, [left.max(0), right.min(width)], left >= 0 && right <= width))
        .collect()
}

/// Runs a program beside the test pattern, and compares what it says of 30 frames with where their bars are.
fn finds_the_bars(program: Command, folder: &Folder, args: &[&str]) {
    let mut publisher = Publisher::builder(folder.socket()).bind().unwrap();
    let mut pattern = TestPattern::builder(SIZE).start().unwrap();
    let child = start(program, &folder.socket(), &[&["--frames", "30"], args].concat());
    let output = serve(&mut publisher, child, || pattern.recv(Duration::from_millis(20)).unwrap().frame());
    let frames = found(&output);
    assert_eq!(frames.len(), 30);
    let mut whole = 0;
    for (sequence, found) in frames {
        let bars = bars(sequence);
        let is_at = |[left, right]: [i64; 2], at: &[i64; 4]| {
            [left - at[0], at[1], right - at[2], i64::from(SIZE.height) - at[3]].iter().all(|off| off.abs() <= NEAR)
        };
        for (color, edges, _) in bars.iter().filter(|(_, _, is_whole)| *is_whole) {
            let count = found.iter().filter(|(name, at)| name == color && is_at(*edges, at)).count();
            assert_eq!(count, 1, "frame {sequence}: {color} at {edges:?}, found {found:?}");
            whole += 1;
        }
        for (name, [left, _, right, _]) in &found {
            let center = (left + right) / 2;
            let is_there =
                bars.iter().any(|(color, [left, right], _)| color == name && (*left..*right).contains(&center));
            assert!(is_there, "frame {sequence}: {name} from {left} to {right} is not in the picture");
        }
    }
    assert!(whole >= 30 * 5, "{whole}");
}

#[test]
fn infer_finds_the_bars_of_the_test_pattern() {
    let folder = Folder::new("pattern");
    let png = folder.0.join("found.png");
    finds_the_bars(rust(), &folder, &["--png", png.to_str().unwrap()]);
    let file = std::io::BufReader::new(std::fs::File::open(&png).unwrap());
    let mut picture = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; picture.output_buffer_size().unwrap()];
    picture.next_frame(&mut pixels).unwrap();
    let rim = pixels.chunks_exact(3).filter(|pixel| pixel == &[128; 3]).count();
    assert!(rim > 5 * 2 * 1000, "{rim} pixels of boxes");
}

#[test]
fn infer_py_finds_the_bars_by_onnx_runtime() {
    if let Some(program) = python("onnx", "onnxruntime") {
        finds_the_bars(program, &Folder::new("onnx"), &[]);
    }
}

#[test]
fn infer_py_finds_the_bars_by_litert() {
    if let Some(program) = python("litert", "ai_edge_litert") {
        finds_the_bars(program, &Folder::new("litert"), &[]);
    }
}

#[test]
fn infer_finds_nothing_in_a_gray_picture() {
    let folder = Folder::new("gray");
    let mut publisher = Publisher::builder(folder.socket()).bind().unwrap();
    let pool = Pool::new(&Allocator::Memfd, Layout::packed(FourCc::GREY, SIZE).unwrap(), 12).unwrap();
    let mut sequence = 0;
    let child = start(rust(), &folder.socket(), &["--frames", "5"]);
    let output = serve(&mut publisher, child, || {
        let mut frame = pool.try_acquire()?;
        let mut write = frame.write(DEFAULT_WAIT).unwrap();
        (0..SIZE.height).for_each(|row| write.copy_row(0, row, &[128; SIZE.width as usize]).unwrap());
        drop(write);
        std::thread::sleep(Duration::from_millis(20));
        sequence += 1;
        Some(frame.freeze_full(sequence, 0))
    });
    assert_eq!(found(&output), HashMap::new());
}

#[test]
fn infer_ends_with_its_publisher_and_by_a_signal() {
    for is_signal in [false, true] {
        let folder = Folder::new(&format!("end-{is_signal}"));
        let mut publisher = Publisher::builder(folder.socket()).bind().unwrap();
        let mut pattern = TestPattern::builder(SIZE).start().unwrap();
        publisher.announce(pattern.buffers().unwrap()).unwrap();
        let child = start(rust(), &folder.socket(), &[]);
        let began = Instant::now();
        while publisher.active() == 0 || publisher.stats().published < 5 {
            assert!(began.elapsed() < Duration::from_secs(60), "the program does not connect");
            publisher.dispatch().unwrap();
            if let Some(frame) = pattern.recv(Duration::from_millis(20)).unwrap().frame() {
                drop(publisher.try_publish(frame).unwrap());
            }
        }
        if is_signal {
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        } else {
            drop(publisher);
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn infer_names_errors() {
    let text = |args: &[&str]| {
        let output = start(rust(), Path::new("/nowhere"), args).wait_with_output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, missing) = text(&[]);
    assert!(code == Some(1) && missing.starts_with("error: connect on /nowhere: ENOENT"), "{missing}");
    assert_eq!(text(&["--frames", "x"]), (Some(1), "error: --frames x: invalid digit found in string\n".into()));
    let (code, help) = text(&["--help"]);
    assert!(code == Some(0) && ["--socket", "--frames", "--png"].iter().all(|option| help.contains(option)), "{help}");
}
