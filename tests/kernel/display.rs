//! Frames on a screen: vkms, whose writeback connector tells what the screen shows; vgem for buffers.

use std::io::Read;
use std::time::Duration;

use framelease::capture::Camera;
use framelease::dmabuf::cpu_bytes;
use framelease::drm::{Device, LayerWish, Scanout};
use framelease::format::Size;
use framelease::frame::Frame;

use crate::devices::*;
use crate::picture;

const SECOND: Duration = Duration::from_secs(1);
/// A size that both vivid and vkms have.
const SCREEN: Size = Size::new(640, 480);

/// vkms with its overlay planes, as after boot.
fn vkms() -> Option<Device> {
    reload("vkms", "enable_overlay=1");
    needed("vkms", Device::find(|d| d.driver == "vkms").map_err(|e| e.to_string()))
}

fn screen(device: &Device) -> Scanout {
    Scanout::builder().device(device).size(SCREEN).open().unwrap()
}

/// A screen in memory alone: vkms writes back where no display is.
fn memory_screen(device: &Device) -> Scanout {
    Scanout::builder().device(device).connector("Writeback-1").size(SCREEN).open().unwrap()
}

/// What a memory screen shows.
fn written_back(screen: &mut Scanout) -> Frame {
    let pool = screen.device().dumb_pool(fourcc("XBGR32"), screen.size(), 1).unwrap();
    let target = pool.try_acquire().unwrap();
    screen.write_back(target, SECOND).unwrap().wait(SECOND).unwrap()
}

/// R, G and B of every pixel.
fn rgb(frame: &Frame) -> Vec<u8> {
    picture::rgb(frame).unwrap()
}

/// The checksum that vkms makes of the composed picture: CRC-32 over A, R, G and B in 16 bits each, alpha full.
fn checksum(rgb: &[u8]) -> u32 {
    let mut table = [0u32; 256];
    for (i, entry) in (0u32..).zip(&mut table) {
        *entry = (0..8).fold(i, |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 });
    }
    let step = |crc: u32, byte: u8| table[usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    // A channel of 8 bits in 16 is the byte twice.
    rgb.chunks_exact(3).fold(0, |crc, p| [255, 255, p[0], p[0], p[1], p[1], p[2], p[2]].into_iter().fold(crc, step))
}

/// What is on the display, by the checksum of the second picture from now.
fn displayed(device: &Device) -> u32 {
    let card = device.info().path.file_name().unwrap().to_str().unwrap().to_owned();
    let crc = format!("/sys/kernel/debug/dri/{}/crtc-0/crc", card.strip_prefix("card").unwrap());
    std::fs::write(format!("{crc}/control"), "auto").unwrap();
    let mut data = std::fs::File::open(format!("{crc}/data")).unwrap();
    let mut last = String::new();
    for _ in 0..3 {
        let mut line = [0; 256];
        let length = data.read(&mut line).unwrap();
        last = String::from_utf8_lossy(&line[..length]).into_owned();
    }
    // The frame's number and the checksum.
    let text = last.split_whitespace().nth(1).unwrap().strip_prefix("0x").unwrap().to_owned();
    u32::from_str_radix(&text, 16).unwrap()
}

/// Three frames of a camera; the last one.
fn show_camera(camera: &mut Camera, screen: &mut Scanout) -> Frame {
    let layer = screen.add_layer(&LayerWish::of(camera.layout().unwrap())).unwrap();
    let mut shown = frame(camera);
    for _ in 0..3 {
        shown = frame(camera);
        screen.present(layer, shown.clone(), SECOND).unwrap();
    }
    screen.wait(SECOND).unwrap();
    assert_eq!(screen.shown(layer).unwrap().meta(), shown.meta());
    shown
}

#[test]
fn the_screen_shows_the_captured_picture() {
    let (Some(camera_device), Some(card)) = (vivid(Planar::Single), vkms()) else { return };
    set(&camera_device, "Test Pattern", 21); // noise: every pixel, every frame differs
    leaving_nothing(|| {
        let mut camera = camera(&camera_device, "XBGR32").size(SCREEN).open().unwrap();
        let before = cpu_bytes();
        let mut display = screen(&card);
        let shown = show_camera(&mut camera, &mut display);
        assert_eq!(cpu_bytes(), before, "the CPU touched a pixel");
        assert_eq!(displayed(&card), checksum(&rgb(&shown)), "the display shows something else");
        drop(display);

        let mut memory = memory_screen(&card);
        let shown = show_camera(&mut camera, &mut memory);
        let picture = written_back(&mut memory);
        assert!(rgb(&picture) == rgb(&shown), "what is written back is something else");
        assert_eq!(checksum(&rgb(&picture)), checksum(&rgb(&shown)));
    });
    leave_png(&camera_device, &card);
}

/// For a person to look at.
fn leave_png(camera_device: &framelease::v4l2::Device, card: &Device) {
    if !std::path::Path::new("/out").is_dir() {
        return;
    }
    set(camera_device, "Test Pattern", 0);
    let mut camera = camera(camera_device, "XBGR32").size(SCREEN).open().unwrap();
    let mut memory = memory_screen(card);
    show_camera(&mut camera, &mut memory);
    let picture = written_back(&mut memory);
    let file = std::fs::File::create("/out/display-writeback.png").unwrap();
    picture::write_png(file, SCREEN.width, SCREEN.height, &rgb(&picture)).unwrap();
}
