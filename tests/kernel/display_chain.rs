//! Tests of a display chain: it shows frames from any source in one call, on a plane or through a converter.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::capture::FrameSource;
use framelease::convert::{Converter, Cpu, Layer, Plan, Request, Scaling};
use framelease::dmabuf::{Allocator, MemoryKind, DEFAULT_WAIT};
use framelease::drm::{Connection, Device, LayerRequirements, Scanout, ScanoutEvent};
use framelease::format::{Layout, Rect, Size};
use framelease::frame::{Frame, Pool};
use framelease::negotiate::DisplayChain;
use framelease::stats::cpu_bytes;
use framelease::{ErrorKind, Received, Station, Submit};

use crate::allocations;
use crate::devices::*;
use crate::display::{checksum, composed, displayed, noise, present, refused, rgb, screen, vgem, vkms, SCREEN, SECOND};
use crate::station::{is_readable_within, signaled};
use crate::vgem::Fence;

const MOMENT: Duration = Duration::from_millis(100);

fn memfds(format: &str, size: Size, count: usize) -> Pool {
    Pool::new(&Allocator::Memfd, packed(format, size), count).unwrap()
}

fn open(card: &Device, pool: &Pool) -> DisplayChain {
    DisplayChain::open(screen(card), pool.buffers(), Scaling::Keep).unwrap()
}

/// Shows a frame, and waits until it is on the screen.
fn show(chain: &mut DisplayChain, frame: Frame) {
    chain.submit(frame, SECOND).taken();
    settle(chain);
}

/// Receives until the newest frame is on the screen.
fn settle(chain: &mut DisplayChain) {
    let mut flips = 0;
    while let Received::Item(event) = chain.recv(if flips == 0 { SECOND } else { MOMENT }).unwrap() {
        assert!(matches!(event, ScanoutEvent::Shown(_)), "{event:?}");
        flips += 1;
    }
    assert!(flips > 0, "no flip in a second");
}

/// Returns the next event that is not a flip.
fn told(chain: &mut DisplayChain) -> ScanoutEvent {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < 5 * SECOND, "no event");
        match chain.recv(SECOND).unwrap() {
            Received::Item(ScanoutEvent::Shown(_)) | Received::Nothing => {}
            Received::Item(event) => return event,
            Received::Ended => panic!("a display has no end"),
        }
    }
}

/// Returns the pixels of a frame as the CPU draws it in a size.
fn drawn(frame: &Frame, size: Size) -> Vec<u8> {
    let layout = packed("XBGR32", size);
    let request = Request::convert(Layer::default());
    let plan = Plan::new(&request, &[*frame.layout()], &layout).unwrap().memory(frame.memory()[0].kind());
    let target = memfds("XBGR32", size, 1).try_acquire().unwrap();
    let mut cpu = Cpu::new().unwrap();
    cpu.try_submit(&Arc::new(plan), std::slice::from_ref(frame), target).taken();
    rgb(&cpu.recv(SECOND).unwrap().frame().unwrap())
}

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = allocations::of_this_thread();
    work();
    allocations::of_this_thread() - before
}

/// Returns the checksum of a picture on a black screen.
fn on_black(picture: &[u8], place: Rect) -> u32 {
    let mut all = vec![0; SCREEN.width as usize * SCREEN.height as usize * 3];
    composed(&mut all, picture, place.size, Rect::from(place.size), (place.left as u32, place.top as u32));
    checksum(&all)
}

/// The plug of vkms's only display. It is plugged in again at the end.
pub struct Plug(String);

impl Plug {
    pub fn of(card: &Device) -> Self {
        Self(format!("/sys/class/drm/{}-Virtual-1/status", card.info().path.file_name().unwrap().to_str().unwrap()))
    }

    pub fn pull(&self) {
        std::fs::write(&self.0, "off").unwrap();
    }

    pub fn put(&self) {
        let _ = std::fs::write(&self.0, "detect");
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.put();
    }
}

#[test]
fn display_chain_shows_a_camera_s_buffers_as_they_are() {
    let (Some(camera_device), Some(card)) = (vivid(Planar::Single), vkms()) else { return };
    set(&camera_device, "Test Pattern", 21); // noise: every pixel, every frame differs
    leaving_nothing(|| {
        let mut camera = camera(&camera_device, "XBGR32").size(SCREEN).buffers(5).open().unwrap();
        let before = cpu_bytes();
        let mut chain = DisplayChain::open(screen(&card), camera.buffers().unwrap(), Scaling::Keep).unwrap();
        assert_eq!((chain.converter(), chain.scanout().connector().name.as_str()), (None, "Virtual-1"));
        let mut show_one = || {
            chain.submit(frame(&mut camera), SECOND).taken();
            while chain.try_recv().unwrap().item().is_some() {}
            assert!(camera.stats().leased <= 2);
        };
        (0..20).for_each(|_| show_one());
        assert_eq!(allocations_of(|| (0..20).for_each(|_| show_one())), 0);
        let last = frame(&mut camera);
        show(&mut chain, last.clone());
        assert_eq!(cpu_bytes(), before, "the CPU touched a pixel");
        assert_eq!(displayed(&card), checksum(&rgb(&last)));
        assert!(chain.scanout().stats().flips >= 21);
        drop((chain, last));
        assert_eq!((camera.stats().leased, card.open_handles()), (0, 0));
    });
}

#[test]
fn display_chain_is_full_while_a_flip_is_pending_and_then_readable() {
    let (Some(card), Some(gpu)) = (vkms(), vgem()) else { return };
    leaving_nothing(|| {
        let pool = gpu.dumb_pool(fourcc("XBGR32"), SCREEN, 4).unwrap();
        let mut chain = open(&card, &pool);
        let descriptor = chain.as_fd().as_raw_fd();
        assert!(!is_readable(&chain) && chain.try_recv().unwrap().is_nothing());
        show(&mut chain, noise(&pool, 1));
        for round in 0..4 {
            let frame = noise(&pool, 2);
            let fence = Fence::on(&gpu, &frame.memory()[0]);
            chain.try_submit(frame).taken();
            let mut back = chain
                .try_submit(noise(&pool, 3))
                .unwrap()
                .full()
                .expect("the chain takes a frame while a flip is pending");
            back = chain.submit(back, MOMENT).unwrap().full().expect("the chain takes a frame while a flip is pending");
            assert_eq!((back.meta().sequence, pool.buffers().leased()), (3, 3));
            assert!(chain.try_recv().unwrap().is_nothing() && !is_readable(&chain));
            fence.signal();
            assert!(is_readable_within(&chain, SECOND), "room does not make the descriptor readable");
            if round % 2 == 0 {
                assert!(matches!(chain.try_recv().unwrap(), Received::Item(ScanoutEvent::Shown(_))));
            }
            // Also while the event is not received.
            chain.submit(back, SECOND).taken();
            settle(&mut chain);
            assert_eq!(pool.buffers().leased(), 1);
            assert!(!is_readable(&chain) && chain.as_fd().as_raw_fd() == descriptor);
        }
        let got = signaled(nix::sys::signal::SaFlags::SA_RESTART, || chain.recv(60 * SECOND)).unwrap();
        assert!(got.is_nothing(), "{got:?}");
        drop(chain);
        assert_eq!((pool.buffers().leased(), card.open_handles()), (0, 0));
    });
}

#[test]
fn display_chain_has_a_bounded_number_of_pictures() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let pool = memfds("XBGR32", SCREEN, 9);
        let mut chain = open(&card, &pool);
        let picture = noise(&pool, 1);
        show(&mut chain, picture.clone());
        let buffers = dma_bufs();
        let mut taken = 0;
        for _ in 0..50 {
            // No event is received.
            taken += usize::from(chain.try_submit(picture.clone()).unwrap().is_taken());
            assert!(card.open_handles() <= 3 && chain.scanout().stats().framebuffers <= 3);
        }
        assert!(taken >= 2, "at least the one whose flip is pending, and one that waits");
        for _ in 0..10 {
            chain.submit(picture.clone(), SECOND).taken();
        }
        settle(&mut chain);
        assert_eq!((dma_bufs(), pool.buffers().leased()), (buffers, 1));
    });
}

#[test]
fn display_chain_converts_memfds_by_the_cpu() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let pool = memfds("XBGR32", SCREEN, 2);
        let mut chain = open(&card, &pool);
        assert_eq!(chain.converter(), Some("cpu"));
        let picture = noise(&pool, 1);
        show(&mut chain, picture.clone());
        assert_eq!(displayed(&card), checksum(&rgb(&picture)));
        for seed in 2..20 {
            show(&mut chain, noise(&pool, seed));
        }
        // Only this frame is held: the CPU has read the others.
        assert_eq!(pool.buffers().leased(), 1);
        let (handles, buffers) = (card.open_handles(), dma_bufs());
        let heap = allocations_of(|| {
            for _ in 0..100 {
                chain.submit(picture.clone(), SECOND).taken();
                while chain.try_recv().unwrap().item().is_some() {}
            }
        });
        // Allocations of the CPU converter alone.
        let request = Request::convert(Layer::default());
        let layout = *picture.layout();
        let plan = Arc::new(Plan::new(&request, &[layout], &layout).unwrap().memory(MemoryKind::Memfd));
        let (mut cpu, targets) = (Cpu::new().unwrap(), memfds("XBGR32", SCREEN, 2));
        let mut convert = || {
            cpu.try_submit(&plan, std::slice::from_ref(&picture), targets.try_acquire().unwrap()).taken();
            drop(cpu.try_recv().unwrap().frame().unwrap());
        };
        convert();
        let own = allocations_of(|| (0..100).for_each(|_| convert()));
        // Twice a second the chain also checks the display.
        assert!(heap <= own + 20, "{heap} allocations, {own} of the CPU converter");
        assert_eq!((card.open_handles(), dma_bufs()), (handles, buffers));
        settle(&mut chain);
        drop(chain);
        assert_eq!((pool.buffers().leased(), card.open_handles()), (1, 0));
    });
}

#[test]
fn display_chain_places_a_picture_of_another_shape_in_the_middle() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        // Each is as high or as wide as the screen, so nothing is scaled.
        for (size, place) in [
            (Size::new(320, 480), Rect::new(160, 0, Size::new(320, 480))),
            (Size::new(640, 200), Rect::new(0, 140, Size::new(640, 200))),
        ] {
            for pool in [memfds("XBGR32", size, 2), card.dumb_pool(fourcc("XBGR32"), size, 2).unwrap()] {
                let mut chain = open(&card, &pool);
                let picture = noise(&pool, 1);
                show(&mut chain, picture.clone());
                assert_eq!(displayed(&card), on_black(&rgb(&picture), place), "{chain:?}, {size}");
                // Another picture leaves nothing of the first.
                let picture = noise(&pool, 2);
                show(&mut chain, picture.clone());
                assert_eq!(displayed(&card), on_black(&rgb(&picture), place), "{chain:?}, {size}");
            }
        }
        // Stretched, and with a shape that needs scaling.
        let pool = memfds("XBGR32", Size::new(100, 300), 1);
        for (fit, place) in
            [(Scaling::Stretch, Rect::from(SCREEN)), (Scaling::Keep, Rect::new(240, 0, Size::new(160, 480)))]
        {
            let mut chain = DisplayChain::open(screen(&card), pool.buffers(), fit).unwrap();
            let picture = noise(&pool, 3);
            show(&mut chain, picture.clone());
            assert_eq!(displayed(&card), on_black(&drawn(&picture, place.size), place), "{fit:?}");
        }
    });
}

#[test]
fn display_chain_converts_a_layout_that_no_plane_takes() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let pool = Pool::new(&Allocator::Udmabuf, packed("GREY", Size::new(320, 240)), 2).unwrap();
        let mut chain = open(&card, &pool);
        assert_eq!(chain.converter(), Some("cpu"), "a converter of this machine reads GREY");
        let picture = noise(&pool, 1);
        show(&mut chain, picture.clone());
        assert_eq!(displayed(&card), on_black(&drawn(&picture, SCREEN), Rect::from(SCREEN)));
    });
}

#[test]
fn display_chain_survives_the_loss_of_its_converter() {
    let (Some(card), Some(_)) = (vkms(), vim2m()) else { return };
    leaving_nothing(|| {
        let pool = Pool::new(&Allocator::Udmabuf, packed("RGB24", SCREEN), 6).unwrap();
        let mut chain = open(&card, &pool);
        let name = chain.converter().unwrap().to_owned();
        assert!(name.starts_with("m2m"), "{name}");
        let descriptor = chain.as_fd().as_raw_fd();
        for seed in 0..5 {
            show(&mut chain, noise(&pool, seed));
        }
        assert_eq!(pool.buffers().leased(), 0);
        if !name.contains(&*vim2m().unwrap().info().path.to_string_lossy()) {
            return;
        }
        // These frames are in flight.
        let _ = (0..4).all(|_| chain.try_submit(noise(&pool, 7)).unwrap().is_taken());
        unplugging_vim2m(|| {
            match told(&mut chain) {
                ScanoutEvent::Lost(e) => assert_eq!(e.kind(), ErrorKind::DeviceLost, "{e}"),
                other => panic!("{other:?}"),
            }
            let rejected = chain.try_submit(noise(&pool, 7)).unwrap_err();
            assert_eq!((rejected.error.kind(), rejected.item.meta().sequence), (ErrorKind::DeviceLost, 7));
            // Another converter replaces it.
            chain.reopen(pool.buffers()).unwrap();
            assert_ne!(chain.converter(), Some(name.as_str()));
            show(&mut chain, noise(&pool, 8));
        });
        chain.reopen(pool.buffers()).unwrap();
        show(&mut chain, noise(&pool, 9));
        assert_eq!((chain.as_fd().as_raw_fd(), pool.buffers().leased()), (descriptor, 0));
    });
}

#[test]
fn display_chain_reopens_for_another_layout_with_the_picture() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let small = Size::new(320, 240);
        let direct = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
        let grey = Pool::new(&Allocator::Udmabuf, packed("GREY", small), 2).unwrap();
        let other = memfds("XBGR32", Size::new(320, 480), 2);
        let mut chain = open(&card, &direct);
        let descriptor = chain.as_fd().as_raw_fd();
        show(&mut chain, noise(&direct, 1));
        let (mut on_screen, mut is_direct) = (displayed(&card), true);
        for round in 0..3 {
            for (pool, place) in [
                (&grey, Rect::from(SCREEN)),
                (&other, Rect::new(160, 0, Size::new(320, 480))),
                (&direct, Rect::from(SCREEN)),
            ] {
                let next = noise(pool, round + 5);
                let rejected = chain.try_submit(next).unwrap_err();
                assert!(matches!(rejected.error.kind(), ErrorKind::Mismatch | ErrorKind::Unsupported), "{rejected:?}");
                assert_eq!(rejected.item.buffers().id(), pool.buffers().id());
                chain.reopen(rejected.item.buffers()).unwrap();
                assert_eq!(displayed(&card), on_screen, "the picture is gone");
                assert_eq!(
                    direct.buffers().leased(),
                    usize::from(is_direct) + usize::from(pool.buffers().id() == direct.buffers().id())
                );
                show(&mut chain, rejected.item.clone());
                on_screen = on_black(&drawn(&rejected.item, place.size), place);
                assert_eq!(displayed(&card), on_screen, "{chain:?}");
                is_direct = chain.converter().is_none();
                drop(rejected);
                assert_eq!(direct.buffers().leased(), usize::from(is_direct), "buffers of the old picture");
            }
        }
        // With a flip that is pending.
        chain.submit(noise(&direct, 3), SECOND).taken();
        chain.reopen(grey.buffers()).unwrap();
        // And without a frame after it.
        assert_eq!(chain.as_fd().as_raw_fd(), descriptor);
        drop(chain);
        let leased = [&direct, &grey, &other].map(|pool| pool.buffers().leased());
        assert_eq!((leased, card.open_handles()), ([0; 3], 0));
        show(&mut open(&card, &grey), noise(&grey, 1));
    });
}

#[test]
fn display_chain_that_cannot_be_opened_names_the_reason() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let direct = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
        let tiny = memfds("XBGR32", Size::new(4, 4), 1);
        let e = DisplayChain::open(screen(&card), tiny.buffers(), Scaling::Keep).unwrap_err();
        let words = ["(vkms)", "memfds", "XR24 at 480x480@80,0, AR24 at", "[m2m", "[cpu]", "scaled by more than 64"];
        refused(Err(e), ErrorKind::Unsupported, &words);
        let mut chain = open(&card, &direct);
        show(&mut chain, noise(&direct, 1));
        // The old chain continues to work.
        let e = chain.reopen(tiny.buffers()).unwrap_err();
        words.iter().for_each(|word| assert!(e.to_string().contains(word), "no '{word}' in: {e}"));
        let picture = noise(&direct, 2);
        show(&mut chain, picture.clone());
        assert_eq!(displayed(&card), checksum(&rgb(&picture)));
        // Refusals of the planes, for a dma-buf.
        let wide = Pool::new(&Allocator::Udmabuf, packed("GREY", Size::new(4, 4)), 1).unwrap();
        let e = chain.reopen(wide.buffers()).unwrap_err();
        for word in ["asked", "primary plane", "takes", "XR24", "[cpu]", "scaled by more than 64"] {
            assert!(e.to_string().contains(word), "no '{word}' in: {e}");
        }
    });
}

#[test]
fn display_chain_waits_for_an_unplugged_display() {
    let Some(card) = vkms() else { return };
    let plug = Plug::of(&card);
    for pool in [card.dumb_pool(fourcc("XBGR32"), SCREEN, 9).unwrap(), memfds("XBGR32", SCREEN, 9)] {
        leaving_nothing(|| {
            let mut chain = open(&card, &pool);
            show(&mut chain, noise(&pool, 1));
            assert_eq!(chain.scanout().connection().unwrap(), Connection::Connected);
            plug.pull();
            // A present checks the display if the last check is half a second old.
            std::thread::sleep(Duration::from_millis(600));
            let start = Instant::now();
            while chain.try_submit(noise(&pool, 2)).unwrap().is_taken() {
                assert!(start.elapsed() < SECOND, "never full");
            }
            assert!(is_readable(&chain));
            match told(&mut chain) {
                ScanoutEvent::Lost(e) => refused(Err(e), ErrorKind::Disconnected, &["(vkms)", "Virtual-1"]),
                other => panic!("{other:?}"),
            }
            let e = chain.submit(noise(&pool, 3), MOMENT).unwrap().full().expect("no display");
            drop(e);
            assert!(!is_readable(&chain));
            plug.put();
            assert!(matches!(told(&mut chain), ScanoutEvent::Returned));
            let start = Instant::now();
            let picture = noise(&pool, 4);
            while !chain.submit(picture.clone(), MOMENT).unwrap().is_taken() {
                assert!(start.elapsed() < SECOND, "still full");
                while chain.try_recv().unwrap().item().is_some() {}
            }
            settle(&mut chain);
            assert_eq!(displayed(&card), checksum(&rgb(&picture)));
            plug.pull();
            drop(chain);
            plug.put();
            assert_eq!(card.open_handles(), 0);
        });
        assert_eq!(pool.buffers().leased(), 0);
    }
}

#[test]
fn display_chain_is_refused_while_another_process_is_master() {
    let Some(card) = vkms() else { return };
    let other = Device::open(&card.info().path).unwrap();
    for pool in [card.dumb_pool(fourcc("XBGR32"), SCREEN, 5).unwrap(), memfds("XBGR32", SCREEN, 5)] {
        let mut chain = open(&card, &pool);
        show(&mut chain, noise(&pool, 1));
        card.drop_master().unwrap();
        other.acquire_master().unwrap();
        drop(open(&other, &pool));
        // A converted picture may wait before that is noticed.
        let rejected = match chain.try_submit(noise(&pool, 2)) {
            Ok(submitted) => {
                assert!(submitted.is_taken() && chain.converter().is_some());
                assert!(chain.try_recv().unwrap().is_nothing());
                chain.try_submit(noise(&pool, 2)).unwrap_err()
            }
            Err(rejected) => rejected,
        };
        assert_eq!((rejected.error.kind(), rejected.item.meta().sequence), (ErrorKind::PermissionDenied, 2));
        assert_eq!(chain.reopen(pool.buffers()).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(chain.try_recv().unwrap().is_nothing() && !is_readable(&chain));
        other.drop_master().unwrap();
        card.acquire_master().unwrap();
        let picture = rejected.item;
        let start = Instant::now();
        while !chain.submit(picture.clone(), SECOND).unwrap().is_taken() {
            assert!(start.elapsed() < 5 * SECOND, "still full");
            while chain.try_recv().unwrap().item().is_some() {}
        }
        settle(&mut chain);
        assert_eq!(displayed(&card), checksum(&rgb(&picture)));
    }
}

#[test]
fn display_chain_dropped_during_a_flip_leaves_frames_leased() {
    let (Some(card), Some(gpu)) = (vkms(), vgem()) else { return };
    leaving_nothing(|| {
        let drawn = gpu.dumb_pool(fourcc("XBGR32"), SCREEN, 2).unwrap();
        let mut chain = open(&card, &drawn);
        show(&mut chain, noise(&drawn, 1));
        let frame = noise(&drawn, 2);
        let fence = Fence::on(&gpu, &frame.memory()[0]);
        chain.submit(frame, SECOND).taken();
        // The flip does not complete, so no layout can be changed.
        let e = chain.reopen(drawn.buffers()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
        drop(chain);
        assert_eq!(drawn.buffers().leased(), 2, "the display may read both");
        fence.signal();
        std::thread::sleep(MOMENT);
        show(&mut open(&card, &drawn), noise_of(&drawn));
        assert_eq!((drawn.buffers().leased(), card.open_handles()), (0, 0));
        // A picture that a converter has drawn.
        let pool = memfds("XBGR32", SCREEN, 4);
        let mut chain = open(&card, &pool);
        // A slow machine shows each picture before the next is drawn.
        let _ = (0..4).all(|_| chain.try_submit(noise_of(&pool)).unwrap().is_taken());
        drop(chain);
        drop(screen(&card));
        assert_eq!((pool.buffers().leased(), card.open_handles()), (0, 0));
    });
}

/// A frame of a pool that may have no free buffer for a moment.
fn noise_of(pool: &Pool) -> Frame {
    pool.acquire(SECOND).expect("a free buffer").freeze_full(0, 0)
}

/// Layers that existed before stay.
#[test]
fn display_chain_takes_a_plane_beside_other_layers() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
        let small = card.dumb_pool(fourcc("XBGR32"), Size::new(64, 64), 1).unwrap();
        let mut screen: Scanout = screen(&card);
        let wish = LayerRequirements::for_layout(small.buffers().layout());
        let overlay = screen.add_layer(&wish.plane(framelease::drm::PlaneKind::Overlay)).unwrap();
        let mark = noise(&small, 1);
        present(&mut screen, overlay, mark.clone());
        let mut chain = DisplayChain::open(screen, pool.buffers(), Scaling::Keep).unwrap();
        let picture = noise(&pool, 2);
        show(&mut chain, picture.clone());
        let mut expected = rgb(&picture);
        composed(&mut expected, &rgb(&mark), Size::new(64, 64), Rect::from(Size::new(64, 64)), (0, 0));
        assert_eq!(displayed(&card), checksum(&expected));
        drop(mark);
        assert_eq!(small.buffers().leased(), 1);
    });
}

/// The chain detects a driver's pitch, and memory that the display cannot reach, before the first frame.
#[test]
fn display_chain_converts_buffers_that_the_device_refuses() {
    let Some(card) = vkms() else { return };
    leaving_nothing(|| {
        let layout = Layout::aligned(fourcc("XBGR32"), SCREEN, 4096).unwrap();
        let pool = Pool::new(&Allocator::Udmabuf, layout, 1).unwrap();
        let fault = crate::ioctls::Fault { kind: b'd', number: 0xb8, nth: 2, errno: nix::errno::Errno::EINVAL };
        // The second framebuffer, after that of the atomic test.
        let mut chain = crate::ioctls::with(fault, || open(&card, &pool));
        assert!(chain.converter().is_some());
        let picture = noise(&pool, 1);
        show(&mut chain, picture.clone());
        assert_eq!(displayed(&card), checksum(&rgb(&picture)));
        drop(picture.read(DEFAULT_WAIT).unwrap());
    });
}
