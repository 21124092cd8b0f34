//! Tests of examples/gpu_view, by Mesa's lavapipe under Vulkan's validation layer. Its pictures are compared with those
//! of `convert::Cpu`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use framelease::capture::FrameSource;
use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::Allocator;
use framelease::format::{ColorSpace, Colorimetry, FourCc, Layout, Range, Size};
use framelease::frame::{Frame, FrameMut, Pool};
use framelease::share::Publisher;
use framelease::Station;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::conformance::picture;
use crate::devices::*;
use crate::display::{checksum, displayed, rgb, vkms, SECOND};
use crate::share::SOON;
use crate::vulkan_driver;

const SIZE: Size = Size::new(320, 180);
/// Of the errors that the layer finds, those that are defects of lavapipe 25.0: it has the features of a modifier in
/// `VkDrmFormatModifierPropertiesListEXT`, where the program looks for them, and the layer looks in the newer
/// `VkDrmFormatModifierPropertiesList2EXT`.
const DEFECTS: [&str; 3] = ["ImageViewCreateInfo-None-02273", "CmdDraw-magFilter-04553", "CmdDraw-blendEnable-04727"];
/// What vkms prefers.
const SCREEN: Size = Size::new(1024, 768);

/// The program, if the lab has built it, and a folder for a test.
fn program(test: &str) -> Option<(PathBuf, PathBuf)> {
    let folder = std::env::var_os("FRAMELEASE_EXAMPLES_DIR").map(PathBuf::from).unwrap_or_default();
    let program = folder.join("gpu_view");
    needed(
        "gpu_view",
        program.exists().then_some(()).ok_or_else(|| "not built: `cargo lab test gpu_view` builds it".to_owned()),
    )?;
    vulkan_driver::install();
    let folder = std::env::temp_dir().join(format!("framelease-gpu-view-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    Some((program, folder))
}

/// Starts the program on lavapipe.
fn view(program: &Path, socket: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(["--device", "llvmpipe", "--socket"]).arg(socket).args(args);
    vulkan_driver::add_layer(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Publishes what `next` gives until the program ends.
fn serve(publisher: &mut Publisher, child: Child, mut next: impl FnMut() -> Frame) -> Output {
    let (thread, start) = (std::thread::spawn(move || ended(child)), Instant::now());
    while !thread.is_finished() {
        assert!(start.elapsed() < 6 * SOON, "the program does not end");
        publisher.dispatch().unwrap();
        if publisher.active() > 0 {
            assert!(publisher.try_publish(next()).unwrap().is_taken());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    thread.join().unwrap()
}

/// What a program printed that must have succeeded. The validation layer has found nothing.
fn printed(output: &Output) -> String {
    let found = vulkan_driver::found_by_layer(output);
    let is_known = |line: &String| DEFECTS.iter().any(|defect| line.contains(defect));
    assert!(found.iter().all(is_known), "{found:#?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Draws a frame into a target, by the CPU.
fn by_cpu(source: &Frame, target: FrameMut) -> Frame {
    let plan = Plan::new(&Request::convert(Layer::default()), &[*source.layout()], target.layout()).unwrap().into();
    let mut cpu = Cpu::new().unwrap();
    assert!(cpu.try_submit(&plan, std::slice::from_ref(source), target).unwrap().is_taken());
    cpu.recv(SOON).unwrap().frame().unwrap()
}

/// The pixels of a frame, as the CPU converts them.
fn expected(frame: &Frame) -> Vec<u8> {
    let layout = Layout::packed(FourCc::RGB24, frame.layout().size()).unwrap();
    let pool = Pool::new(&Allocator::Memfd, layout, 1).unwrap();
    rgb(&by_cpu(frame, pool.try_acquire().unwrap()))
}

/// A publisher of buffers that every process can write to, and frames with different pictures.
fn publisher(socket: &Path, layout: Layout, pictures: usize) -> (Publisher, Pool, Vec<Frame>) {
    let pool = Pool::new(&Allocator::Udmabuf, layout, 6).unwrap();
    let source = Layout::packed(FourCc::RGB24, layout.size()).unwrap();
    let draw = |n| by_cpu(&picture::frame(&Allocator::Memfd, &source, n, false), pool.try_acquire().unwrap());
    let frames = (0..pictures).map(draw).collect();
    let mut publisher = Publisher::builder(socket).reserve(0).bind().unwrap();
    publisher.announce(pool.buffers()).unwrap();
    (publisher, pool, frames)
}

/// The size and the pixels of a PNG.
fn png(path: &Path) -> (Size, Vec<u8>) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (Size::new(info.width, info.height), pixels)
}

/// The label of a picture: the number in it, and its rectangle in pixels. Digits have 3 by 5 cells, from the left upper
/// one.
fn label(pixels: &[u8]) -> (u64, Size) {
    const FONT: [&str; 10] = [
        "xxxx.xx.xx.xxxx",
        "xx..x..x..x.xxx",
        "xxx..xxxxx..xxx",
        "xxx..xxxx..xxxx",
        "x.xx.xxxx..x..x",
        "xxxx..xxx..xxxx",
        "xxxx..xxxx.xxxx",
        "xxx..x..x..x..x",
        "xxxx.xxxxx.xxxx",
        "xxxx.xxxx..xxxx",
    ];
    let cell = SIZE.width / 160;
    // The label begins a cell from the corner, with a rim of a cell.
    let is_white = |x: u32, y: u32| {
        let at = ((2 + y) * cell * SIZE.width + (2 + x) * cell) as usize * 3;
        pixels[at..at + 3] == [255; 3]
    };
    let (mut number, mut digits) = (0, 0);
    loop {
        let cells: String = (0..15).map(|n| if is_white(4 * digits + n % 3, n / 3) { 'x' } else { '.' }).collect();
        match FONT.iter().position(|glyph| **glyph == cells) {
            Some(digit) => (number, digits) = (10 * number + digit as u64, digits + 1),
            None => return (number, Size::new((4 * digits + 2) * cell, 8 * cell)),
        }
    }
}

#[test]
fn gpu_view_draws_what_cpu_converts() {
    let Some((program, folder)) = program("cpu") else { return };
    let default = Colorimetry::default();
    let (hdtv, full) =
        (Colorimetry { space: ColorSpace::Rec709, ..default }, Colorimetry { range: Range::Full, ..default });
    leaving_nothing(|| {
        for (fourcc, align, colors) in [
            (FourCc::NV12, 1, hdtv),
            (FourCc::new(b"NV61"), 64, full),
            (FourCc::YVU420, 1, default),
            (FourCc::RGBX32, 256, default),
        ] {
            let layout = Layout::aligned(fourcc, SIZE, align).unwrap().with_colorimetry(colors);
            let (socket, path) = (folder.join("socket"), folder.join("drawn.png"));
            let (mut publisher, _pool, frames) = publisher(&socket, layout, 1);
            let child = view(&program, &socket, &["--png", path.to_str().unwrap(), "--no-overlay"]);
            let text = printed(&serve(&mut publisher, child, || frames[0].clone()));
            assert!(text.contains("1 frames drawn by llvmpipe") && text.contains(", 1 buffers imported"), "{text}");
            let (size, drawn) = png(&path);
            assert_eq!(size, SIZE);
            let db = picture::psnr(&expected(&frames[0]), &drawn, |_| true);
            println!("{layout}: {db:.1} dB");
            assert!(db > 45.0, "{layout}: {db:.1} dB");
        }
    });
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn gpu_view_imports_each_buffer_once_and_labels_frames() {
    let Some((program, folder)) = program("label") else { return };
    leaving_nothing(|| {
        let (socket, path) = (folder.join("socket"), folder.join("drawn.png"));
        let layout = Layout::packed(FourCc::NV12, SIZE).unwrap();
        let (mut publisher, pool, frames) = publisher(&socket, layout, 3);
        let child = view(&program, &socket, &["--png", path.to_str().unwrap(), "--frames", "12"]);
        let mut sequence = 1000;
        let output = serve(&mut publisher, child, || {
            sequence += 1;
            let mut meta = *frames[sequence as usize % 3].meta();
            meta.sequence = sequence;
            frames[sequence as usize % 3].clone().with_meta(meta)
        });
        let text = printed(&output);
        assert!(text.contains("12 frames drawn"), "{text}");
        // Which of the three buffers come, is a matter of time.
        assert!((1..=3).any(|n| text.contains(&format!(", {n} buffers imported, 0 flips"))), "{text}");
        let (_, drawn) = png(&path);
        let (number, area) = label(&drawn);
        assert!((1012..=sequence).contains(&number), "{number} of 1000 to {sequence}");
        let is_outside = |at: usize| {
            let (x, y) = (at as u32 % SIZE.width, at as u32 / SIZE.width);
            x >= area.width || y >= area.height
        };
        let picture = expected(&frames[number as usize % 3]);
        let db = picture::psnr(&picture, &drawn, is_outside);
        assert!(db > 45.0, "{db:.1} dB");
        // The picture shows through.
        let db = picture::psnr(&picture, &drawn, |at| !is_outside(at));
        assert!((5.0..20.0).contains(&db), "{db:.1} dB");
        if Path::new("/out").is_dir() {
            std::fs::copy(&path, "/out/gpu-view.png").unwrap();
        }
        drop(publisher);
        assert_eq!(pool.buffers().leased(), 3);
    });
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn gpu_view_shows_what_it_draws() {
    let (Some(card), Some((program, folder))) = (vkms(), program("display")) else { return };
    card.drop_master().unwrap();
    leaving_nothing(|| {
        let socket = folder.join("socket");
        // RGB of the display's size is drawn as it is.
        let (mut publisher, _pool, frames) = publisher(&socket, packed("RGBX32", SCREEN), 1);
        let picture = checksum(&rgb(&frames[0]));
        let path = card.info().path.display().to_string();
        let child = view(&program, &socket, &["--drm", &path, "--no-overlay"]);
        let (pid, start) = (Pid::from_raw(child.id() as i32), Instant::now());
        let (mut is_published, mut is_shown) = (false, false);
        while !is_shown && start.elapsed() < 40 * SECOND {
            publisher.dispatch().unwrap();
            if publisher.active() > 0 && !is_published {
                is_published = publisher.try_publish(frames[0].clone()).unwrap().is_taken();
            }
            is_shown = is_published && displayed(&card) == picture;
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(pid, Signal::SIGINT).unwrap();
        let text = printed(&ended(child));
        assert!(is_shown, "the picture is not shown: {text}");
        assert!(text.contains("1 frames drawn by llvmpipe") && text.contains(", 1 buffers imported, "), "{text}");
        assert!(text.contains(", 0 bytes touched by the CPU"), "{text}");
    });
    std::fs::remove_dir_all(folder).unwrap();
}

/// Checks that a program has failed with an error of these words, and wrote no file.
fn fails(output: Output, path: &Path, words: &[&str]) {
    let all = String::from_utf8_lossy(&output.stderr);
    let error = all.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{all}");
    words.iter().for_each(|word| assert!(error.contains(word), "{word} is not in: {all}"));
    assert!(!path.exists());
}

#[test]
fn gpu_view_explains_which_buffers_it_cannot_import() {
    let (Some(device), Some((program, folder))) = (vivid(Planar::Single), program("import")) else { return };
    let (socket, path) = (folder.join("socket"), folder.join("drawn.png"));
    let args = ["--png", path.to_str().unwrap()];
    // The exports of a camera are read-only, and lavapipe maps them for writing.
    let mut camera = camera(&device, "NV12").size(SIZE).buffers(8).open().unwrap();
    let mut publisher = Publisher::builder(&socket).reserve(3).bind().unwrap();
    publisher.announce(camera.buffers().unwrap()).unwrap();
    let output = serve(&mut publisher, view(&program, &socket, &args), || frame(&mut camera));
    fails(output, &path, &["R8Unorm 320x180", "cannot be imported", "writable"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn gpu_view_explains_which_formats_it_cannot_draw() {
    let Some((program, folder)) = program("format") else { return };
    let (socket, path) = (folder.join("socket"), folder.join("drawn.png"));
    let (mut publisher, _pool, frames) = publisher(&socket, packed("YUYV", SIZE), 1);
    let child = view(&program, &socket, &["--png", path.to_str().unwrap()]);
    let output = serve(&mut publisher, child, || frames[0].clone());
    fails(output, &path, &["YUYV 320x180", "converter"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn gpu_view_explains_which_publisher_is_missing() {
    let Some((program, folder)) = program("publisher") else { return };
    let (socket, path) = (folder.join("socket"), folder.join("drawn.png"));
    let args = ["--png", path.to_str().unwrap()];
    fails(ended(view(&program, &socket, &args)), &path, &[socket.to_str().unwrap()]);
    // A publisher that ends.
    let (mut publisher, ..) = publisher(&socket, packed("NV12", SIZE), 0);
    let child = view(&program, &socket, &args);
    while publisher.active() == 0 {
        publisher.dispatch().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(publisher);
    fails(ended(child), &path, &["the publisher ended before its first frame"]);
    std::fs::remove_dir_all(folder).unwrap();
}
