//! Compares the CPU converter with ffmpeg's swscale, an independent implementation: scaled and converted pictures with
//! sharp edges and noise.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use framelease::convert::{Blend, Scaling};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::format::{Flip, Layout, Rect, Rotation};

fn raw(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.read(DEFAULT_WAIT).unwrap().write_to(&mut out).unwrap();
    out
}

/// A frame of color bars, a checkerboard and noise that is the same in every run.
fn busy(layout: Layout) -> Frame {
    let (w, h) = (layout.size().width, layout.size().height);
    let rgb = super::layout("RGB24", w, h, 1);
    let mut seed = 1u32;
    let mut frame = Pool::new(&Allocator::Memfd, rgb, 1).unwrap().try_acquire().unwrap();
    {
        let mut write = frame.write(DEFAULT_WAIT).unwrap();
        for y in 0..h {
            let row: Vec<u8> = (0..w)
                .flat_map(|x| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let bar = x * 8 / w + 1;
                    let noise = |shift: u32| (seed >> shift & 15) as u8;
                    let checker = if y > h / 2 && (x / 16 + y / 16) % 2 == 0 { 60 } else { 0 };
                    [0, 1, 2].map(|c| if bar >> c & 1 == 1 { 170 } else { 20 } + checker + noise(8 + 4 * c))
                })
                .collect();
            write.copy_row(0, y, &row).unwrap();
        }
    }
    convert(&Request::convert(Layer::default()), &[frame.freeze_full(0, 0)], layout)
}

/// Runs an ffmpeg filter graph on the frames. Returns `None` without ffmpeg.
fn ffmpeg(sources: &[&Frame], names: &[&str], graph: &str, to: &str) -> Option<Vec<u8>> {
    let folder =
        std::env::temp_dir().join(format!("framelease-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y"]);
    for (i, (frame, name)) in sources.iter().zip(names).enumerate() {
        let path = folder.join(format!("{i}.raw"));
        std::fs::File::create(&path).unwrap().write_all(&raw(frame)).unwrap();
        let size = frame.layout().size().to_string();
        command.args(["-f", "rawvideo", "-pix_fmt", name, "-s", &size, "-i"]).arg(path);
    }
    command.args(["-lavfi", graph]);
    let output = command.args(["-f", "rawvideo", "-pix_fmt", to, "-"]).stdin(Stdio::null()).output();
    std::fs::remove_dir_all(&folder).unwrap();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(output.stdout)
        }
        Err(e) => {
            eprintln!("skipped: no ffmpeg to compare with ({e})");
            None
        }
    }
}

#[test]
fn cpu_scales_and_converts_as_swscale() {
    let fixed =
        "flags=area+accurate_rnd+full_chroma_int:in_color_matrix=bt601:out_color_matrix=bt601:in_range=tv:out_range=tv";
    for (from, from_name, to, to_name, (w, h), least) in [
        ("NV12", "nv12", "RGB24", "rgb24", (320, 240), 31.0),
        ("RGB24", "rgb24", "NV12", "nv12", (320, 240), 55.0),
        ("YUYV", "yuyv422", "NV12", "nv12", (320, 240), 55.0),
        ("NV12", "nv12", "NV12", "nv12", (160, 120), 55.0),
        ("NV12", "nv12", "NV12", "nv12", (214, 398), 50.0),
        ("RGB24", "rgb24", "BGR24", "bgr24", (100, 75), 48.0),
        ("RGB24", "rgb24", "RGB24", "rgb24", (640, 480), 48.0),
        ("NV12", "nv12", "RGBA32", "rgba", (160, 120), 40.0),
        ("RGB565", "rgb565le", "YUV420", "yuv420p", (320, 240), 39.0),
    ] {
        let source = busy(super::layout(from, 320, 240, 4));
        let Some(expected) = ffmpeg(&[&source], &[from_name], &format!("scale={w}:{h}:{fixed}"), to_name) else {
            return;
        };
        let got = raw(&convert(&Request::convert(Layer::default()), &[source], super::layout(to, w, h, 2)));
        let db = picture::psnr(&expected, &got, |_| true);
        eprintln!("{from} to {to} {w}x{h}: {db:.1} dB");
        assert!(db > least, "{from} to {to} {w}x{h}: {db:.1} dB");
    }
}

#[test]
fn color_matrices_and_ranges_are_as_in_swscale() {
    use framelease::format::{Colorimetry, Encoding, Range};
    for (encoding, matrix) in [(Encoding::Bt601, "bt601"), (Encoding::Bt709, "bt709"), (Encoding::Bt2020, "bt2020")] {
        for (range, name) in [(Range::Full, "pc"), (Range::Limited, "tv")] {
            let colors = Colorimetry { encoding, range, ..Colorimetry::default() };
            let target = super::layout("YUV420", 320, 240, 4).with_colorimetry(colors);
            let source = busy(super::layout("RGB24", 320, 240, 1));
            let graph = format!("scale=flags=accurate_rnd:out_color_matrix={matrix}:out_range={name}");
            let Some(expected) = ffmpeg(&[&source], &["rgb24"], &graph, "yuv420p") else { return };
            let got = raw(&convert(&Request::convert(Layer::default()), &[source], target));
            let db = picture::psnr(&expected, &got, |_| true);
            eprintln!("{matrix} {name}: {db:.1} dB");
            assert!(db > 40.0, "{matrix} {name}: {db:.1} dB");
        }
    }
}

#[test]
fn orientation_is_as_in_ffmpeg_byte_for_byte() {
    let source = busy(super::layout("RGB24", 96, 64, 1));
    for (rotation, flip, graph) in [
        (Rotation::Clockwise90, Flip::None, "transpose=clock"),
        (Rotation::Half, Flip::None, "hflip,vflip"),
        (Rotation::Clockwise270, Flip::None, "transpose=cclock"),
        (Rotation::None, Flip::Horizontal, "hflip"),
        (Rotation::None, Flip::Vertical, "vflip"),
        (Rotation::Clockwise90, Flip::Horizontal, "hflip,transpose=clock"),
        (Rotation::Clockwise270, Flip::Vertical, "vflip,transpose=cclock"),
    ] {
        let Some(expected) = ffmpeg(&[&source], &["rgb24"], graph, "rgb24") else { return };
        let (w, h) = if rotation.is_quarter() { (64, 96) } else { (96, 64) };
        let request = Request::convert(Layer::default().rotation(rotation).flip(flip));
        let got = raw(&convert(&request, std::slice::from_ref(&source), super::layout("RGB24", w, h, 1)));
        assert!(got == expected, "{graph}");
    }
}

#[test]
fn letterbox_and_overlay_are_as_in_ffmpeg() {
    let source = busy(super::layout("RGB24", 160, 90, 1));
    let request = Request::convert(Layer::default().fit(Scaling::Keep));
    let graph = "scale=120:68:flags=area+accurate_rnd,pad=120:120:0:26:black";
    let Some(expected) = ffmpeg(&[&source], &["rgb24"], graph, "rgb24") else { return };
    let got = raw(&convert(&request, std::slice::from_ref(&source), super::layout("RGB24", 120, 120, 1)));
    let db = picture::psnr(&expected, &got, |_| true);
    assert!(db > 40.0, "{db:.1} dB");

    let top = picture::frame(&Allocator::Memfd, &super::layout("RGBA32", 64, 48, 1), 0, false);
    let place = Rect::new(32, 16, Size::new(64, 48));
    let request = Request::compose([Layer::default(), Layer::default().place(place).blend(Blend::Straight)]);
    let graph = "[0][1]overlay=32:16:format=rgb";
    let Some(expected) = ffmpeg(&[&source, &top], &["rgb24", "rgba"], graph, "rgb24") else { return };
    let got = raw(&convert(&request, &[source, top], super::layout("RGB24", 160, 90, 1)));
    let db = picture::psnr(&expected, &got, |_| true);
    assert!(db > 45.0, "{db:.1} dB");
}
