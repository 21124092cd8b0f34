//! Tests of frames on a screen. vkms shows them: its writeback connector returns the screen's content. vgem provides
//! buffers.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drm::{Device as _, VblankWaitFlags, VblankWaitTarget};
use framelease::bitstream::Codec;
use framelease::capture::{Camera, FrameSource};
use framelease::codec::{negotiate, Encoder};
use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::{Access, Allocator};
use framelease::drm::{
    Api, Device, Flipped, Framebuffer, LayerRequirements, Modifier, NodeKind, PlaneKind, PlaneLayer, Scanout,
    ScanoutBuilder, ScanoutEvent, WriteBack,
};
use framelease::format::{FrameInterval, Layout, Rect, Size};
use framelease::frame::{Frame, FrameFlags, Pool};
use framelease::share::Policy;
use framelease::stats::{cpu_bytes, syscalls};
use framelease::{ErrorKind, Received, Station, Submit};

use crate::allocations;
use crate::coding::{fwht, packet, params};
use crate::devices::*;
use crate::ioctls::{self, Habit};
use crate::picture;
use crate::share::{received, Scene};
use crate::vgem::Fence;

pub const SECOND: Duration = Duration::from_secs(1);
/// A size that both vivid and vkms support.
pub const SCREEN: Size = Size::new(640, 480);

/// vkms with its overlay planes, as after boot.
pub fn vkms() -> Option<Device> {
    reload("vkms", "enable_overlay=1");
    needed("vkms", Device::find(|d| d.driver == "vkms").map_err(|e| e.to_string()))
}

pub fn screen(device: &Device) -> Scanout {
    Scanout::builder().device(device).size(SCREEN).open().unwrap()
}

/// A screen in memory only: vkms writes back if no display is connected.
pub fn memory_screen(device: &Device) -> Scanout {
    Scanout::builder().device(device).connector("Writeback-1").size(SCREEN).open().unwrap()
}

/// Presents a frame.
pub fn present(screen: &mut Scanout, layer: PlaneLayer, frame: Frame) {
    assert!(screen.present_frame(layer, frame, SECOND).unwrap().is_taken(), "still full after a second");
}

/// Waits until no flip is pending. Returns the newest flip that was not received yet.
pub fn settle(screen: &mut Scanout) -> Option<Flipped> {
    // With nothing staged, this waits for the pending flip and does nothing.
    assert!(screen.present(SECOND).unwrap().is_taken(), "the flip has not completed in a second");
    let mut newest = None;
    while let Received::Item(event) = screen.try_recv().unwrap() {
        match event {
            ScanoutEvent::Shown(flipped) => newest = Some(flipped),
            other => panic!("{other:?}"),
        }
    }
    newest
}

/// Returns the content of a memory screen.
fn written_back(screen: &mut Scanout) -> Frame {
    let pool = screen.device().dumb_pool(fourcc("XBGR32"), screen.size(), 1).unwrap();
    let target = pool.try_acquire().unwrap();
    settle(screen);
    let job = screen.write_back(target, SECOND).unwrap();
    let picture = written(screen.device(), job);
    // The completion of a writeback is not a flip.
    assert_eq!(settle(screen), None);
    picture
}

/// Returns the picture of a writeback.
///
/// The writeback before may switch the composer of vkms (Linux 6.12) off when this one has switched it on, because vkms
/// ends it in a work queue, later. Then vkms writes when the composer is switched on again, for a checksum.
fn written(device: &Device, mut job: WriteBack) -> Frame {
    let mut received = job.recv(SECOND).unwrap();
    if matches!(received, Received::Nothing) {
        let _composer = checksums(device);
        received = job.recv(SECOND).unwrap();
    }
    let picture = received.frame().expect("no picture in two seconds");
    assert!(job.recv(SECOND).unwrap().is_ended());
    assert_eq!(job.recv(SECOND).unwrap_err().kind(), ErrorKind::State);
    picture
}

/// R, G and B of every pixel.
pub fn rgb(frame: &Frame) -> Vec<u8> {
    picture::rgb(frame).unwrap()
}

/// The checksum that vkms computes for the composed picture: CRC-32 over A, R, G and B in 16 bits each, alpha full.
pub fn checksum(rgb: &[u8]) -> u32 {
    let mut table = [0u32; 256];
    for (i, entry) in (0u32..).zip(&mut table) {
        *entry = (0..8).fold(i, |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 });
    }
    let step = |crc: u32, byte: u8| table[usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    // A channel of 8 bits in 16 is the byte twice.
    rgb.chunks_exact(3).fold(0, |crc, p| [255, 255, p[0], p[0], p[1], p[1], p[2], p[2]].into_iter().fold(crc, step))
}

/// The library's own descriptor: another one might become DRM master.
struct Node<'a>(BorrowedFd<'a>);

impl AsFd for Node<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0
    }
}

impl drm::Device for Node<'_> {}

/// Waits for vblanks. The event of a first flip comes before the CRTC's vblanks run. vkms of Linux 6.12 loses count of
/// them, and warns, if its checksums are read that early.
fn wait_for_vblanks(device: &Device) {
    let (node, start) = (Node(device.as_fd()), Instant::now());
    while node.wait_vblank(VblankWaitTarget::Relative(1), VblankWaitFlags::empty(), 0, 0).is_err() {
        assert!(start.elapsed() < 5 * SECOND, "the display has no vblanks");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Opens the file of the display's checksums. While it is open, the display is composed.
fn checksums(device: &Device) -> std::fs::File {
    let card = device.info().path.file_name().unwrap().to_str().unwrap().to_owned();
    let crc = format!("/sys/kernel/debug/dri/{}/crtc-0/crc", card.strip_prefix("card").unwrap());
    std::fs::write(format!("{crc}/control"), "auto").unwrap();
    std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(format!("{crc}/data")).unwrap()
}

/// The checksum of the display's content. A slow composer may still report the old content first, so the first pictures
/// do not count.
pub fn displayed(device: &Device) -> u32 {
    wait_for_vblanks(device);
    let (mut data, start) = (checksums(device), Instant::now());
    let (mut last, mut pictures) = (String::new(), 0);
    while start.elapsed() < Duration::from_millis(300) || (pictures < 4 && start.elapsed() < 5 * SECOND) {
        let mut line = [0; 256];
        match data.read(&mut line) {
            Ok(length) => (last, pictures) = (String::from_utf8_lossy(&line[..length]).into_owned(), pictures + 1),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => panic!("{e}"),
        }
    }
    assert!(!last.is_empty(), "the display shows nothing");
    // The number of the frame, and its checksum.
    let text = last.split_whitespace().nth(1).unwrap().strip_prefix("0x").unwrap().to_owned();
    u32::from_str_radix(&text, 16).unwrap()
}

/// Shows three frames of a camera. Returns the last one.
fn show_camera(camera: &mut Camera, screen: &mut Scanout) -> Frame {
    let layer = screen.add_layer(&LayerRequirements::for_layout(camera.layout().unwrap())).unwrap();
    let mut shown = frame(camera);
    for _ in 0..3 {
        shown = frame(camera);
        present(screen, layer, shown.clone());
    }
    settle(screen);
    assert_eq!(screen.shown(layer).unwrap().meta(), shown.meta());
    shown
}

#[test]
fn scanout_shows_the_captured_picture() {
    let (Some(camera_device), Some(card)) = (vivid(Planar::Single), vkms()) else { return };
    set(&camera_device, "Test Pattern", 21); // noise: every pixel, every frame differs
    leaving_nothing(|| {
        let mut camera = camera(&camera_device, "XBGR32").size(SCREEN).open().unwrap();
        let before = cpu_bytes();
        let mut display = screen(&card);
        let shown = show_camera(&mut camera, &mut display);
        assert_eq!(cpu_bytes(), before, "the CPU touched a pixel");
        assert_eq!(displayed(&card), checksum(&rgb(&shown)), "the display shows another picture");
        drop(display);

        let mut memory = memory_screen(&card);
        let shown = show_camera(&mut camera, &mut memory);
        let picture = written_back(&mut memory);
        assert!(rgb(&picture) == rgb(&shown), "the writeback has another picture");
        assert_eq!(checksum(&rgb(&picture)), checksum(&rgb(&shown)));
    });
    leave_png(&camera_device, &card);
}

/// Leaves a picture for a person to look at.
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

pub fn vgem() -> Option<Device> {
    needed("vgem", Device::find(|d| d.driver == "vgem" && d.kind == NodeKind::Primary).map_err(|e| e.to_string()))
}

/// A frame with pseudo-random pixels; each `seed` gives other pixels.
pub fn noise(pool: &Pool, seed: u32) -> Frame {
    let mut frame = pool.try_acquire().unwrap();
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let row: Vec<u8> = (0..frame.layout().row_bytes(0) + 1024)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect();
    let (rows, bytes) = (frame.layout().rows(0), frame.layout().row_bytes(0) as usize);
    let mut write = frame.write(SECOND).unwrap();
    for y in 0..rows {
        let from = (y as usize * 37) % 1024;
        write.copy_row(0, y, &row[from..from + bytes]).unwrap();
    }
    drop(write);
    frame.freeze_full(seed.into(), 0)
}

/// Copies `over` to a place of `picture`, both opaque.
pub fn composed(picture: &mut [u8], over: &[u8], over_size: Size, source: Rect, (left, top): (u32, u32)) {
    for y in 0..source.size.height {
        let from = ((y + source.top as u32) * over_size.width + source.left as u32) as usize * 3;
        let to = ((y + top) * SCREEN.width + left) as usize * 3;
        let bytes = source.size.width as usize * 3;
        picture[to..to + bytes].copy_from_slice(&over[from..from + bytes]);
    }
}

#[test]
fn layers_are_composed_in_one_flip() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let small = Size::new(320, 180);
        let below = noise(&card.dumb_pool(fourcc("XBGR32"), SCREEN, 1).unwrap(), 1);
        let above = noise(&card.dumb_pool(fourcc("XBGR32"), small, 1).unwrap(), 2);
        let crop = Rect::new(16, 8, Size::new(160, 90));
        for in_memory in [false, true] {
            let mut screen = if in_memory { memory_screen(&card) } else { screen(&card) };
            let primary = screen.add_layer(&LayerRequirements::for_layout(below.layout())).unwrap();
            let wish = LayerRequirements::for_layout(above.layout()).plane(PlaneKind::Overlay);
            let overlay = screen.add_layer(&wish.clone().destination(Rect::new(100, 60, small))).unwrap();
            // A part of the primary plane's frame again, on a second overlay.
            let wish = LayerRequirements::for_layout(below.layout()).plane(PlaneKind::Overlay);
            let again = wish.source(crop).destination(Rect::new(300, 200, crop.size));
            let again = screen.add_layer(&again).unwrap();
            assert_eq!((primary.kind(), overlay.kind()), (PlaneKind::Primary, PlaneKind::Overlay));
            let mut expected = rgb(&below);
            composed(&mut expected, &rgb(&above), small, Rect::from(small), (100, 60));
            composed(&mut expected, &rgb(&below), SCREEN, crop, (300, 200));
            for (layer, frame) in [(primary, &below), (overlay, &above), (again, &below)] {
                assert!(screen.stage(layer, frame.clone()).unwrap().is_none());
            }
            assert!(screen.try_present().unwrap().is_taken());
            settle(&mut screen).unwrap();
            assert!(screen.stats().flips == 1 && screen.try_present().unwrap().is_taken(), "nothing is staged");
            // A buffer on two planes is imported once.
            assert_eq!((card.open_handles(), screen.stats().framebuffers), (2, 2));
            if in_memory {
                assert!(rgb(&written_back(&mut screen)) == expected, "the writeback has another picture");
            } else {
                assert_eq!(displayed(&card), checksum(&expected));
            }
            for layer in [overlay, again] {
                screen.hide(layer).unwrap();
            }
            assert!(screen.try_present().unwrap().is_taken());
            settle(&mut screen);
            assert!(screen.shown(overlay).is_none() && screen.shown(primary).is_some());
            if !in_memory {
                assert_eq!(displayed(&card), checksum(&rgb(&below)));
            }
        }
        assert_eq!((below.buffers().leased(), above.buffers().leased()), (1, 1));
        assert_eq!(card.open_handles(), 0);
    });
}

#[test]
fn frame_is_leased_until_the_next_flip_has_completed() {
    let Some(card) = vkms() else { return };
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 4).unwrap();
    for api in [Api::Atomic, Api::Legacy] {
        let builder = Scanout::builder().device(&card).size(SCREEN).api(api);
        let mut screen = builder.open().unwrap();
        assert_eq!(screen.api(), api);
        let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
        present(&mut screen, layer, noise(&pool, 1));
        let first = settle(&mut screen).unwrap();
        assert_eq!(pool.buffers().leased(), 1);
        for turn in 2..10 {
            screen.stage(layer, noise(&pool, 90)).unwrap();
            // This frame is replaced before it is shown.
            assert!(screen.stage(layer, noise(&pool, turn)).unwrap().is_some());
            assert_eq!(pool.buffers().leased(), 2);
            assert!(screen.try_present().unwrap().is_taken());
            if screen.try_recv().unwrap().is_nothing() {
                assert_eq!(pool.buffers().leased(), 2, "the old frame may still be read");
                let flipped = settle(&mut screen).unwrap();
                assert!(flipped.time_ns > first.time_ns && flipped.vblank != first.vblank);
            }
            assert_eq!(pool.buffers().leased(), 1, "{api:?}");
            assert_eq!(screen.shown(layer).unwrap().meta().sequence, u64::from(turn));
        }
        let shown = rgb(screen.shown(layer).unwrap());
        assert_eq!(displayed(&card), checksum(&shown), "{api:?}");
        assert_eq!((screen.stats().flips, screen.stats().replaced), (9, 8));
        assert!(screen.turn_off(SECOND).unwrap().is_taken());
        assert_eq!(pool.buffers().leased(), 0);
        // The screen is turned on again.
        present(&mut screen, layer, noise(&pool, 5));
        settle(&mut screen).unwrap();
        drop(screen);
        assert_eq!((pool.buffers().leased(), card.open_handles()), (0, 0), "{api:?}");
    }
}

#[test]
fn flips_lose_no_lease_and_keep_every_count() {
    let (Some(camera_device), Some(card)) = (vivid(Planar::Single), vkms()) else { return };
    leaving_nothing(|| {
        let mut camera = camera(&camera_device, "XBGR32").size(SCREEN).buffers(5).open().unwrap();
        let mut screen = screen(&card);
        let layer = screen.add_layer(&LayerRequirements::for_layout(camera.layout().unwrap())).unwrap();
        for _ in 0..50 {
            present(&mut screen, layer, frame(&mut camera));
        }
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let counts = |screen: &Scanout| {
            (dma_bufs(), card.open_handles(), screen.stats().framebuffers, descriptors(), cpu_bytes())
        };
        let before = counts(&screen);
        assert_eq!(before.1, camera.buffers().unwrap().slots());
        let (calls, heap, flips) = (syscalls(), allocations::of_this_thread(), screen.stats().flips);
        for _ in 0..1000 {
            // The frame on the screen, and the frame that replaces it.
            present(&mut screen, layer, frame(&mut camera));
            assert!(camera.stats().leased <= 2);
        }
        let (calls, heap) = (syscalls() - calls, allocations::of_this_thread() - heap);
        assert_eq!(screen.stats().flips - flips, 1000);
        assert_eq!(counts(&screen), before);
        assert_eq!(heap, 0, "allocations");
        // poll, DQBUF, QBUF; poll, epoll_wait, read, ATOMIC. Twice a second the screen also checks the display.
        assert!(calls <= 7 * 1000 + 400, "{calls} system calls in 1000 frames");
        drop(screen);
        assert_eq!((camera.stats().leased, card.open_handles()), (0, 0));
    });
}

#[test]
fn framebuffers_are_removed_with_their_pool() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let mut screen = screen(&card);
        let pool = |count| card.dumb_pool(fourcc("XBGR32"), SCREEN, count).unwrap();
        let old = pool(3);
        let layer = screen.add_layer(&LayerRequirements::for_layout(old.buffers().layout())).unwrap();
        for seed in 0..6 {
            present(&mut screen, layer, noise(&old, seed));
        }
        settle(&mut screen);
        assert_eq!((screen.stats().framebuffers, card.open_handles()), (3, 3));
        drop(old);
        // The frame on the screen keeps the pool.
        let new = pool(1);
        present(&mut screen, layer, noise(&new, 9));
        assert_eq!(screen.stats().framebuffers, 4);
        settle(&mut screen);
        assert_eq!((screen.stats().framebuffers, card.open_handles()), (1, 1));
        assert_eq!(displayed(&card), checksum(&rgb(screen.shown(layer).unwrap())));
    });
}

/// Another process may choose where the payload begins.
#[test]
fn buffer_has_one_framebuffer_wherever_its_frames_begin() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let mut screen = screen(&card);
        let bytes = SCREEN.width * 4 * (SCREEN.height + 80);
        let layout = Layout::from_strides(fourcc("XBGR32"), SCREEN, &[SCREEN.width * 4], &[bytes]).unwrap();
        let pool = Pool::new(&Allocator::Udmabuf, layout, 3).unwrap();
        let layer = screen.add_layer(&LayerRequirements::for_layout(&layout)).unwrap();
        for row in 0..12 {
            let frame = noise(&pool, row);
            let mut meta = *frame.meta();
            meta.payload[0].offset_bytes = row * SCREEN.width * 4;
            present(&mut screen, layer, frame.with_meta(meta));
            settle(&mut screen);
            let shown = screen.shown(layer).unwrap();
            // vkms of Linux 6.12 adds a framebuffer's offset twice.
            let mut twice = *shown.meta();
            twice.payload[0].offset_bytes *= 2;
            let pictures = [shown.clone(), shown.clone().with_meta(twice)].map(|frame| checksum(&rgb(&frame)));
            assert!(pictures.contains(&displayed(&card)), "from row {row}");
            assert!(screen.stats().framebuffers <= 3 && card.open_handles() <= 3, "{:?}", screen.stats());
        }
    });
}

#[test]
fn strides_and_imported_memory_are_shown() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let layout = Layout::aligned(fourcc("XBGR32"), SCREEN, 4096).unwrap();
        assert_eq!(layout.planes()[0].stride_bytes, 4096);
        let mut screen = screen(&card);
        let layer = screen.add_layer(&LayerRequirements::for_layout(&layout)).unwrap();
        let mut allocators = vec![Allocator::Udmabuf];
        allocators.extend(Allocator::heaps());
        for allocator in allocators {
            let pool = Pool::new(&allocator, layout, 1).unwrap();
            present(&mut screen, layer, noise(&pool, 7));
            settle(&mut screen);
            assert_eq!(displayed(&card), checksum(&rgb(screen.shown(layer).unwrap())), "{allocator}");
        }
    });
}

/// Asserts that an error has this kind, and that its text has these words.
pub fn refused(result: framelease::Result<()>, kind: ErrorKind, words: &[&str]) {
    let e = result.unwrap_err();
    assert_eq!(e.kind(), kind, "{e}");
    words.iter().for_each(|w| assert!(e.to_string().contains(w), "no '{w}' in: {e}"));
}

#[test]
fn scanout_refuses_with_the_supported_formats_and_limits() {
    let Some(card) = vkms() else { return };
    let builder = || Scanout::builder().device(&card);
    let open = |b: ScanoutBuilder| b.open().map(drop);
    refused(open(builder().connector("HDMI-A-9")), ErrorKind::NotFound, &["HDMI-A-9", "Virtual-1 (Connected"]);
    let mut legacy = builder().size(SCREEN).api(Api::Legacy).open().unwrap();
    let small = LayerRequirements::new([fourcc("XBGR32")], Size::new(320, 240));
    refused(legacy.add_layer(&small).map(drop), ErrorKind::Unsupported, &["320x240", "whole screen"]);
    let over = LayerRequirements::new([fourcc("XBGR32")], SCREEN).plane(PlaneKind::Overlay);
    refused(legacy.add_layer(&over).map(drop), ErrorKind::Unsupported, &["no plane of that kind", "primary plane"]);
    let layer = legacy.add_layer(&LayerRequirements::new([fourcc("XBGR32")], SCREEN)).unwrap();
    refused(legacy.hide(layer).map(drop), ErrorKind::Unsupported, &["legacy"]);
    let tiles = LayerRequirements::new(["NV12_8L128".parse().unwrap()], SCREEN);
    let words = ["asked NV12 (0xf000000000000001) of", "primary plane"];
    refused(legacy.add_layer(&tiles).map(drop), ErrorKind::Unsupported, &words);
    refused(legacy.try_present_fenced().map(drop), ErrorKind::Unsupported, &["OUT_FENCE_PTR"]);
    drop(legacy);
    refused(open(builder().size(Size::new(641, 481))), ErrorKind::NotFound, &["641x481", "640x480@"]);
    if let Some(vgem) = vgem() {
        refused(open(Scanout::builder().device(&vgem)), ErrorKind::Unsupported, &["does not have displays"]);
        refused(Device::open("/dev/dri/renderD128").unwrap().connectors().map(drop), ErrorKind::Unsupported, &[]);
    }

    let mut screen = screen(&card);
    refused(open(builder()), ErrorKind::Busy, &["Virtual-1"]);
    let mut add = |wish: LayerRequirements| screen.add_layer(&wish).map(drop);
    let yuv = LayerRequirements::new([fourcc("NV12"), fourcc("YUYV")], SCREEN);
    refused(add(yuv), ErrorKind::Unsupported, &["NV12", "YUYV", "primary plane", "XR24 (V4L2 XBGR32)", "convert"]);
    let rgb32 = || LayerRequirements::new([fourcc("XBGR32")], SCREEN);
    let tiled = rgb32().modifier(Modifier::from(0x0100_0000_0000_0001));
    refused(add(tiled), ErrorKind::Unsupported, &["0x0100000000000001", "XR24"]);
    // vkms does not scale: the atomic test reports it.
    let scaled = rgb32().destination(Rect::from(Size::new(320, 240)));
    refused(add(scaled), ErrorKind::Unsupported, &["TEST_ONLY", "640x480@0,0 to 320x240@0,0"]);
    refused(add(rgb32().source(Rect::new(1, 0, SCREEN))), ErrorKind::InvalidArgument, &["640x480@1,0"]);
    refused(add(LayerRequirements::new([], SCREEN)), ErrorKind::InvalidArgument, &[]);
    // The first format that the plane supports is used.
    let layer = screen.add_layer(&LayerRequirements::new(["NV12", "XBGR32", "RGB565"].map(fourcc), SCREEN)).unwrap();
    assert_eq!((layer.fourcc(), layer.kind()), (fourcc("XBGR32"), PlaneKind::Primary));
    let primary = rgb32().plane(PlaneKind::Primary);
    refused(screen.add_layer(&primary).map(drop), ErrorKind::Busy, &["another layer"]);

    // Frames come back.
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 2).unwrap();
    let mut stage = |frame: Frame| {
        let slot = frame.slot();
        let rejected = screen.stage(layer, frame).unwrap_err();
        assert_eq!(rejected.item.slot(), slot);
        Err::<(), _>(rejected.error)
    };
    let memfd = Pool::new(&Allocator::Memfd, Layout::packed(fourcc("XBGR32"), SCREEN).unwrap(), 1).unwrap();
    refused(stage(noise(&memfd, 1)), ErrorKind::Unsupported, &["Memfd", "dma-buf"]);
    let other = card.dumb_pool(fourcc("XBGR32"), Size::new(320, 240), 1).unwrap();
    refused(stage(noise(&other, 1)), ErrorKind::Mismatch, &["320x240", "640x480"]);
    let frame = noise(&pool, 1);
    let mut meta = *frame.meta();
    meta.payload[0].offset_bytes = 4;
    refused(stage(frame.with_meta(meta)), ErrorKind::Mismatch, &["ends at byte", "1228800 bytes"]);
    assert_eq!((pool.buffers().leased(), card.open_handles()), (0, 1), "the buffer of the atomic test alone");
    // Only the driver knows its limits.
    let wide = Pool::new(&Allocator::Udmabuf, Layout::packed(fourcc("XBGR32"), Size::new(9000, 16)).unwrap(), 1);
    let added = Framebuffer::new(&card, &noise(&wide.unwrap(), 1), None).map(drop);
    refused(added, ErrorKind::InvalidArgument, &["9000x16", "pitches [36000]", "up to 8192x8192"]);
    let target = other.try_acquire().unwrap();
    let rejected = screen.write_back(target, SECOND).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::State, "{}", rejected.error);
    // Besides a display, current versions of vkms do not write back: the result is an error or a picture, and nothing
    // hangs.
    present(&mut screen, layer, noise(&pool, 3));
    let target = pool.try_acquire().unwrap();
    match screen.write_back(target, SECOND) {
        Ok(job) => assert!(rgb(&written(&card, job)) == rgb(screen.shown(layer).unwrap())),
        Err(rejected) => {
            refused(Err(rejected.error), ErrorKind::InvalidArgument, &["does not write back besides Virtual-1"])
        }
    }
    present(&mut screen, layer, noise(&pool, 4));
}

#[test]
fn master_is_required_to_flip_and_can_be_acquired_again() {
    let Some(card) = vkms() else { return };
    let other = Device::open(&card.info().path).unwrap();
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    let wish = LayerRequirements::for_layout(pool.buffers().layout());
    let mut theirs = screen(&other);
    let e = theirs.add_layer(&wish).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    assert!(e.to_string().contains("not DRM master"), "{e}");
    assert_eq!(other.acquire_master().unwrap_err().kind(), ErrorKind::Busy);

    let mut ours = screen(&card);
    let layer = ours.add_layer(&wish).unwrap();
    present(&mut ours, layer, noise(&pool, 1));
    settle(&mut ours);
    card.drop_master().unwrap();
    other.acquire_master().unwrap();
    // A flip is refused. The frame comes back, and the frame on the screen stays leased.
    let rejected = ours.present_frame(layer, noise(&pool, 2), SECOND).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(rejected.item.meta().sequence, 2);
    drop(rejected);
    assert_eq!(pool.buffers().leased(), 1);
    let their_layer = theirs.add_layer(&wish).unwrap();
    let picture = noise(&pool, 3);
    present(&mut theirs, their_layer, picture.clone());
    settle(&mut theirs);
    assert_eq!(displayed(&card), checksum(&rgb(&picture)));
    drop((theirs, other));

    card.acquire_master().unwrap();
    present(&mut ours, layer, noise(&pool, 4));
    settle(&mut ours).unwrap();
    assert_eq!(displayed(&card), checksum(&rgb(ours.shown(layer).unwrap())));
}

#[test]
fn scanout_restores_the_previous_picture_when_dropped() {
    let Some(card) = vkms() else { return };
    let other = Device::open(&card.info().path).unwrap();
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    let wish = LayerRequirements::for_layout(pool.buffers().layout());
    let mut console = screen(&card);
    let layer = console.add_layer(&wish).unwrap();
    present(&mut console, layer, noise(&pool, 1));
    settle(&mut console);
    card.drop_master().unwrap();
    other.acquire_master().unwrap();
    let picture = checksum(&rgb(console.shown(layer).unwrap()));
    for api in [Api::Atomic, Api::Legacy] {
        let mut guest = Scanout::builder().device(&other).size(SCREEN).api(api).open().unwrap();
        let layer = guest.add_layer(&wish).unwrap();
        present(&mut guest, layer, noise(&pool, 2));
        settle(&mut guest);
        assert_eq!(displayed(&card), checksum(&rgb(guest.shown(layer).unwrap())));
        if api == Api::Legacy {
            assert!(guest.turn_off(SECOND).unwrap().is_taken());
        }
        drop(guest);
        assert_eq!(displayed(&card), picture, "{api:?}");
        assert_eq!((pool.buffers().leased(), other.open_handles()), (1, 0));
    }
    // A picture that its owner has removed cannot be restored.
    let mut guest = screen(&other);
    let layer = guest.add_layer(&wish).unwrap();
    present(&mut guest, layer, noise(&pool, 3));
    settle(&mut guest);
    drop(console);
    drop(guest);
    assert_eq!((pool.buffers().leased(), card.open_handles() + other.open_handles()), (0, 0));
}

#[test]
fn present_waits_for_fences_and_returns_one() {
    let (Some(card), Some(gpu)) = (vkms(), vgem()) else { return };
    leaving_nothing(|| {
        let drawn = gpu.dumb_pool(fourcc("XBGR32"), SCREEN, 1).unwrap();
        let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
        let mut screen = screen(&card);
        let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
        present(&mut screen, layer, noise(&pool, 1));
        settle(&mut screen);
        let moment = Duration::from_millis(100);

        // A fence on the dma-buf itself.
        let frame = noise(&drawn, 2);
        let fence = Fence::on(&gpu, &frame.memory()[0]);
        present(&mut screen, layer, frame);
        assert!(screen.recv(moment).unwrap().is_nothing());
        assert!(!screen.try_present().unwrap().is_taken());
        assert_eq!((pool.buffers().leased(), drawn.buffers().leased()), (1, 1), "both are leased");
        fence.signal();
        settle(&mut screen).unwrap();
        assert_eq!((pool.buffers().leased(), drawn.buffers().leased()), (0, 1));

        // A fence that is passed in, and a fence that is returned.
        let other = gpu.dumb_pool(fourcc("XBGR32"), Size::new(64, 64), 1).unwrap();
        let buffer = &other.buffers().memory(0)[0];
        let fence = Fence::on(&gpu, buffer);
        let wait_for = buffer.export_sync_file(Access::Read).unwrap();
        screen.stage_fenced(layer, noise(&pool, 3), wait_for).unwrap();
        let (submitted, done) = screen.try_present_fenced().unwrap();
        let done = done.expect("an out-fence");
        assert!(submitted.is_taken() && !done.wait(moment).unwrap() && screen.try_recv().unwrap().is_nothing());
        fence.signal();
        assert!(done.wait(SECOND).unwrap());
        settle(&mut screen).unwrap();
        assert_eq!(displayed(&card), checksum(&rgb(screen.shown(layer).unwrap())));
    });
}

#[test]
fn handle_closes_with_its_last_import() {
    let (Some(card), Some(gpu)) = (vkms(), vgem()) else { return };
    leaving_nothing(|| {
        let pool = gpu.dumb_pool(fourcc("XBGR32"), SCREEN, 1).unwrap();
        assert_eq!(gpu.open_handles(), 0, "the dma-buf keeps the memory");
        let frame = noise(&pool, 1);
        let buffer = &frame.memory()[0];
        for device in [&card, &gpu] {
            let first = device.import(buffer).unwrap();
            let second = device.import(buffer).unwrap();
            assert_eq!((first.handle(), device.open_handles()), (second.handle(), 1));
            drop(first);
            // Closing one handle did not break the other.
            let back = second.export().unwrap();
            assert_eq!(back.id(), buffer.id(), "the same dma-buf");
            let framebuffer = (device.info().driver == "vkms").then(|| Framebuffer::new(device, &frame, None).unwrap());
            drop(second);
            assert_eq!(device.open_handles(), usize::from(framebuffer.is_some()));
            drop(framebuffer);
            assert_eq!(device.open_handles(), 0);
        }
        // Bytes written through one mapping are read through the export of an import.
        let back = card.import(buffer).unwrap().export().unwrap();
        let again = Pool::from_memory(*frame.layout(), vec![vec![back]]).unwrap();
        let again = again.try_acquire().unwrap().freeze_full(0, 0);
        assert!(pixels(&again) == pixels(&frame));
        let memfd = Allocator::Memfd.allocate(4096, "no dma-buf").unwrap();
        assert_eq!(card.import(&memfd).unwrap_err().kind(), ErrorKind::Unsupported);
        // Several threads import and close the same buffer.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        card.import(buffer).unwrap().export().unwrap();
                    }
                });
            }
        });
        assert_eq!(card.open_handles(), 0);
    });
}

#[test]
fn timeout_of_the_cpu_converter_is_that_of_all_buffers_together() {
    let Some(gpu) = vgem() else { return };
    leaving_nothing(|| {
        let pool = gpu.dumb_pool(fourcc("XBGR32"), Size::new(64, 64), 3).unwrap();
        let layout = *pool.buffers().layout();
        let inset = Layer::default().place(Rect::new(0, 0, Size::new(32, 32))).z_order(1);
        let plan = Arc::new(Plan::new(&Request::compose([Layer::default(), inset]), &[layout; 2], &layout).unwrap());
        let sources = [noise(&pool, 1), noise(&pool, 2)];
        let fences = [0, 1].map(|i| Fence::on(&gpu, &sources[i].memory()[0]));
        std::thread::scope(|scope| {
            // Each fence alone is signaled within the limit of one second.
            scope.spawn(|| {
                for fence in fences {
                    std::thread::sleep(Duration::from_millis(600));
                    fence.signal();
                }
            });
            let mut cpu = Cpu::new().unwrap();
            let rejected = cpu.try_submit(&plan, &sources, pool.try_acquire().unwrap()).unwrap_err();
            assert_eq!(rejected.error.kind(), ErrorKind::Timeout, "{}", rejected.error);
        });
        drop((sources, pool, gpu));
    });
}

#[test]
fn fence_delays_a_reader_until_it_is_signaled() {
    let Some(gpu) = vgem() else { return };
    leaving_nothing(|| {
        let pool = gpu.dumb_pool(fourcc("XBGR32"), Size::new(64, 64), 1).unwrap();
        let frame = noise(&pool, 1);
        let before = pixels(&frame);
        let fence = Fence::on(&gpu, &frame.memory()[0]);
        let e = frame.read(Duration::from_millis(50)).map(drop).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
        let waits = frame.memory()[0].export_sync_file(Access::Read).unwrap();
        assert!(!waits.wait(Duration::from_millis(20)).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                fence.signal();
            });
            // The reader waits for the fence, and then reads.
            assert!(pixels(&frame) == before);
        });
        assert!(waits.wait(Duration::ZERO).unwrap());
    });
}

#[test]
fn frame_is_shown_encoded_and_shared_at_once() {
    let (Some(camera_device), Some(card)) = (vivid(Planar::Single), vkms()) else { return };
    let Some(encoder) = fwht(Planar::Single) else { return };
    leaving_nothing(|| {
        let params = params(Codec::Fwht, SCREEN);
        let agreement = negotiate(&encoder, &camera_device, &params, &[fourcc("XBGR32")]).unwrap();
        let builder = Camera::builder().device(camera_device.clone()).layout(&agreement.source).buffers(10);
        let camera = builder.interval(FrameInterval::from_fps(60)).open().unwrap();
        let mut encoder = Encoder::builder(params).device(encoder).open(camera.buffers().unwrap()).unwrap();
        let mut scene = Scene::of(camera);
        let mut subscriber = scene.join_holding(Policy::Latest, 3);
        let mut screen = screen(&card);
        let layout = *scene.camera.layout().unwrap();
        let ours = screen.add_layer(&LayerRequirements::for_layout(&layout)).unwrap();
        let small = Size::new(64, 32);
        let corner =
            LayerRequirements::for_layout(&layout).plane(PlaneKind::Overlay).source(Rect::new(320, 240, small));
        let theirs = screen.add_layer(&corner.destination(Rect::from(small))).unwrap();
        for _ in 0..20 {
            let frame = frame(&mut scene.camera);
            let expected = rgb(&frame);
            encoder.try_submit(frame.clone()).taken();
            assert!(scene.publisher.publish(frame.clone(), SECOND).unwrap().is_taken());
            let peer = received(&mut subscriber);
            assert_eq!(peer.memory()[0].id(), frame.memory()[0].id());
            // The subscriber's lease of the same buffer on another plane: one handle for both.
            screen.stage(ours, frame).unwrap();
            screen.stage(theirs, peer).unwrap();
            assert!(screen.try_present().unwrap().is_taken());
            settle(&mut screen).unwrap();
            assert!(packet(&mut encoder).is_some_and(|p| !p.bytes().is_empty()));
            assert!(rgb(screen.shown(ours).unwrap()) == expected, "a leased frame was written to");
            assert!(card.open_handles() <= scene.camera.buffers().unwrap().slots());
            scene.publisher.dispatch().unwrap();
        }
        let mut expected = rgb(screen.shown(ours).unwrap());
        let whole = expected.clone();
        composed(&mut expected, &whole, SCREEN, Rect::new(320, 240, small), (0, 0));
        assert_eq!(displayed(&card), checksum(&expected));
        drop((screen, subscriber, encoder));
        scene.publisher.dispatch().unwrap();
        assert_eq!(card.open_handles(), 0);
    });
}

#[test]
fn write_back_of_a_device_that_fails_is_damaged() {
    let Some(card) = vkms() else { return };
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 2).unwrap();
    let mut screen = memory_screen(&card);
    let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
    present(&mut screen, layer, pool.try_acquire().unwrap().freeze_full(0, 0));
    let is_damaged = |screen: &mut Scanout| written_back(screen).meta().flags.contains(FrameFlags::ERROR);
    assert!(!is_damaged(&mut screen));
    assert!(ioctls::answering_as(Habit::FailedFence, || is_damaged(&mut screen)));
}
