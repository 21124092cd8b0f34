//! Tests of what vkms does not have: two CRTCs, syncobjs, removal. QEMU's virtio-gpu shows only its own buffers.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use framelease::convert::Scaling;
use framelease::dmabuf::{Access, Allocator};
use framelease::drm::{Device, LayerRequirements, NodeKind, Scanout, ScanoutEvent};
use framelease::format::Size;
use framelease::frame::Pool;
use framelease::negotiate::DisplayChain;
use framelease::{ErrorKind, Received, Station, Submit};

use crate::devices::*;
use crate::display::{checksum, displayed, noise, present, refused, rgb, screen, settle, vgem, vkms, SCREEN, SECOND};
use crate::station::{idle_wakes, is_readable, is_readable_within};
use crate::vgem::Fence;

const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_gpu";

/// The emulator's GPU. Its driver stays loaded, because the console uses it.
pub fn gpu() -> Option<Device> {
    if std::env::var_os("FRAMELEASE_LAB_PROMISES").is_some() && !Path::new(DRIVER).exists() {
        run("modprobe", &["virtio_gpu"]);
    }
    let found = Device::find(|d| d.driver == "virtio_gpu" && d.kind == NodeKind::Primary);
    needed("virtio-gpu", found.map_err(|e| e.to_string()))
}

/// A screen at the device's `n`-th connector. A display is plugged in there first.
fn screen_at(gpu: &Device, n: usize) -> Scanout {
    let name = gpu.connectors().unwrap()[n].name.clone();
    let card = gpu.info().path.file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::write(format!("/sys/class/drm/{card}-{name}/status"), "on").unwrap();
    Scanout::builder().device(gpu).connector(name).size(SCREEN).open().unwrap()
}

#[test]
fn frame_is_shown_on_three_screens() {
    let (Some(gpu), Some(card)) = (gpu(), vkms()) else { return };
    leaving_nothing(|| {
        let pool = gpu.dumb_pool(fourcc("XBGR32"), SCREEN, 2).unwrap();
        let wish = LayerRequirements::for_layout(pool.buffers().layout());
        let mut screens = vec![screen_at(&gpu, 0), screen_at(&gpu, 1), screen(&card)];
        let layers: Vec<_> = screens.iter_mut().map(|s| s.add_layer(&wish).unwrap()).collect();
        assert_ne!(layers[0].plane_id(), layers[1].plane_id());
        let mut held = Vec::new();
        for turn in 1..20 {
            let frame = noise(&pool, turn);
            let picture = checksum(&rgb(&frame));
            for (screen, &layer) in screens.iter_mut().zip(&layers) {
                screen.stage(layer, frame.clone()).unwrap();
                assert!(screen.try_present().unwrap().is_taken());
            }
            drop(frame);
            // In any order: a screen that reads the file keeps the events of the other.
            for screen in screens.iter_mut().rev() {
                settle(screen).unwrap();
                held.push(pool.buffers().leased());
            }
            assert_eq!(held.pop(), Some(1), "the old frame is free after the last screen has replaced it");
            assert_eq!((gpu.open_handles(), card.open_handles()), (turn.min(2) as usize, turn.min(2) as usize));
            if turn % 5 == 0 {
                assert_eq!(displayed(&card), picture);
            }
        }
        assert!(held.contains(&2), "until then the old frame is leased");
        drop(screens);
        assert_eq!((pool.buffers().leased(), gpu.open_handles(), card.open_handles()), (0, 0, 0));
    });
}

#[test]
fn syncobj_passes_a_fence_on() {
    let (Some(gpu), Some(vgem)) = (gpu(), vgem()) else { return };
    refused(vgem.syncobj().map(drop), ErrorKind::Unsupported, &["SYNCOBJ_CREATE", "vgem"]);
    leaving_nothing(|| {
        let small = Size::new(64, 64);
        let syncobj = gpu.syncobj().unwrap();
        refused(syncobj.export().map(drop), ErrorKind::State, &["no fence", "virtio_gpu"]);
        let drawn = noise(&vgem.dumb_pool(fourcc("XBGR32"), small, 1).unwrap(), 1);
        let fence = Fence::on(&vgem, &drawn.memory()[0]);
        syncobj.import(&drawn.memory()[0].export_sync_file(Access::Read).unwrap()).unwrap();
        let handed_on = syncobj.export().unwrap();
        drop(syncobj);
        // As if that work wrote to one of our buffers.
        let frame = noise(&Pool::new(&Allocator::Udmabuf, packed("XBGR32", small), 1).unwrap(), 2);
        let before = pixels(&frame);
        frame.memory()[0].import_sync_file(&handed_on, Access::Write).unwrap();
        assert!(!handed_on.wait(Duration::from_millis(20)).unwrap());
        let e = frame.read(Duration::from_millis(50)).map(drop).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
        fence.signal();
        assert!(handed_on.wait(SECOND).unwrap());
        assert!(pixels(&frame) == before);
    });
}

/// Unbinds the device, as if it were unplugged, while `test` runs.
fn unplugging(test: impl FnOnce()) {
    let driver = PathBuf::from(DRIVER);
    let names = std::fs::read_dir(&driver).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let name = names.into_iter().find(|n| n.strip_prefix("virtio").is_some_and(|n| n.parse::<u32>().is_ok())).unwrap();
    // virtio_gpu of Linux 6.12 loses the commands that are in progress, and the buffers in them. Its last dma-buf then
    // causes a warning in drm_mm_takedown.
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(driver.join("unbind"), &name).unwrap();
    test();
    std::fs::write(driver.join("bind"), &name).unwrap();
}

/// Returns the next event that is not `Shown`.
fn change(screen: &mut Scanout) -> ScanoutEvent {
    loop {
        match screen.recv(5 * SECOND).unwrap() {
            Received::Item(ScanoutEvent::Shown(_)) => {}
            Received::Item(event) => return event,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn lost_device_returns_its_frames_and_is_reopened() {
    let Some(card) = gpu() else { return };
    let pool = Pool::new(&Allocator::Udmabuf, packed("XBGR32", SCREEN), 3).unwrap();
    let own = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    let wish = LayerRequirements::for_layout(own.buffers().layout());
    let mut screen = screen_at(&card, 0);
    let layer = screen.add_layer(&wish).unwrap();
    let descriptor = screen.as_fd().as_raw_fd();
    for turn in 0..2 {
        present(&mut screen, layer, noise(&own, turn));
    }
    unplugging(|| {
        // The next check notices it, by a timer or in this call.
        let lost = |result, op| refused(result, ErrorKind::DeviceLost, &["(virtio_gpu)", op]);
        let rejected = loop {
            match screen.present_frame(layer, noise(&own, 7), SECOND) {
                Err(rejected) => break rejected,
                Ok(_) => std::thread::sleep(Duration::from_millis(600)),
            }
        };
        assert_eq!(rejected.item.meta().sequence, 7);
        drop(rejected.item);
        lost(Err(rejected.error), "DRM_IOCTL_");
        assert!(is_readable(&screen));
        match change(&mut screen) {
            ScanoutEvent::Lost(e) => assert_eq!(e.kind(), ErrorKind::DeviceLost, "{e}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(own.buffers().leased(), 0, "a lost device still holds buffers");
        assert!(idle_wakes(&mut screen) <= 3, "the screen looks for the device twice a second");
        lost(screen.connection().map(drop), "GETCONNECTOR");
        lost(screen.add_layer(&wish).map(drop), "DRM_IOCTL_");
        lost(screen.try_present().map(drop), "DRM_IOCTL_");
        lost(card.connectors().map(drop), "GETRESOURCES");
        lost(card.planes().map(drop), "GETRESOURCES");
        lost(card.import(&pool.buffers().memory(0)[0]).map(drop), "PRIME_FD_TO_HANDLE");
        lost(card.dumb_pool(fourcc("XBGR32"), SCREEN, 1).map(drop), "CREATE_DUMB");
        lost(card.syncobj().map(drop), "SYNCOBJ_CREATE");
        lost(Scanout::builder().device(&card).open().map(drop), "GETRESOURCES");
        refused(screen.reopen(), ErrorKind::NotFound, &[]);
    });
    drop((own, card));
    assert!(is_readable_within(&screen, 2 * SECOND));
    assert!(matches!(change(&mut screen), ScanoutEvent::Returned));
    // The status that the test set is lost with the device.
    drop(screen_at(&gpu().unwrap(), 0));
    screen.reopen().unwrap();
    assert_eq!(screen.as_fd().as_raw_fd(), descriptor);
    let card = screen.device().clone();
    let own = card.dumb_pool(fourcc("XBGR32"), SCREEN, 2).unwrap();
    // The layer is the one from before.
    for turn in 0..2 {
        present(&mut screen, layer, noise(&own, turn));
    }
    settle(&mut screen).unwrap();
    drop(screen);
    assert_eq!((own.buffers().leased(), card.open_handles()), (0, 0));
}

#[test]
fn display_chain_is_reopened_after_a_lost_device() {
    let Some(card) = gpu() else { return };
    let memfds = Pool::new(&Allocator::Memfd, packed("XBGR32", SCREEN), 4).unwrap();
    let own = card.dumb_pool(fourcc("XBGR32"), SCREEN, 4).unwrap();
    let chain = |pool: &Pool| DisplayChain::open(screen_at(&card, 0), pool.buffers(), Scaling::Keep).unwrap();
    let show = |chain: &mut DisplayChain, pool: &Pool| {
        for turn in 0..4 {
            assert!(chain.submit(noise(pool, turn), SECOND).unwrap().is_taken());
            assert!(matches!(chain.recv(SECOND).unwrap(), Received::Item(ScanoutEvent::Shown(_))));
        }
    };
    drop({
        let mut direct = chain(&own);
        assert_eq!(direct.converter(), None);
        show(&mut direct, &own);
        direct
    });
    // Dma-bufs that the device does not show.
    let foreign = Pool::new(&Allocator::Udmabuf, packed("XBGR32", SCREEN), 4).unwrap();
    drop({
        let mut converted = chain(&foreign);
        assert!(converted.converter().is_some());
        show(&mut converted, &foreign);
        converted
    });
    let mut chain = chain(&memfds);
    let descriptor = chain.as_fd().as_raw_fd();
    assert_eq!(chain.converter(), Some("cpu"));
    show(&mut chain, &memfds);
    drop((own, card));
    let told = |chain: &mut DisplayChain| loop {
        match chain.recv(5 * SECOND).unwrap() {
            Received::Item(ScanoutEvent::Shown(_)) => {}
            Received::Item(event) => return event,
            other => panic!("{other:?}"),
        }
    };
    unplugging(|| {
        let rejected = loop {
            match chain.try_submit(noise(&memfds, 7)) {
                Err(rejected) => break rejected,
                Ok(_) => std::thread::sleep(Duration::from_millis(600)),
            }
        };
        assert_eq!((rejected.error.kind(), rejected.item.meta().sequence), (ErrorKind::DeviceLost, 7));
        drop(rejected);
        match told(&mut chain) {
            ScanoutEvent::Lost(e) => assert_eq!(e.kind(), ErrorKind::DeviceLost, "{e}"),
            other => panic!("{other:?}"),
        }
        refused(chain.reopen(memfds.buffers()), ErrorKind::NotFound, &[]);
        let rejected = chain.try_submit(noise(&memfds, 8)).unwrap_err();
        refused(Err(rejected.error), ErrorKind::DeviceLost, &["reopen"]);
        assert!(idle_wakes(&mut chain) <= 3, "the chain looks for the device twice a second");
    });
    assert!(is_readable_within(&chain, 2 * SECOND));
    assert!(matches!(told(&mut chain), ScanoutEvent::Returned));
    // The status that the test set is lost with the device.
    drop(screen_at(&gpu().unwrap(), 0));
    chain.reopen(memfds.buffers()).unwrap();
    assert_eq!((chain.as_fd().as_raw_fd(), chain.converter()), (descriptor, Some("cpu")));
    show(&mut chain, &memfds);
    let card = chain.scanout().device().clone();
    drop(chain);
    assert_eq!((memfds.buffers().leased(), card.open_handles()), (0, 0));
}

#[test]
fn scanouts_of_one_device_wake_each_other() {
    let Some(card) = gpu() else { return };
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 4).unwrap();
    let wish = LayerRequirements::for_layout(pool.buffers().layout());
    let mut screens = [screen_at(&card, 0), screen_at(&card, 1)];
    let layers = screens.each_mut().map(|s| s.add_layer(&wish).unwrap());
    for turn in 0..20 {
        for (screen, layer) in screens.iter_mut().zip(layers) {
            present(screen, layer, noise(&pool, turn));
        }
        std::thread::sleep(Duration::from_millis(50));
        // The first screen reads the events of both.
        let [first, second] = &mut screens;
        for screen in [first, second] {
            assert!(is_readable_within(screen, SECOND));
            assert!(matches!(screen.try_recv().unwrap(), Received::Item(ScanoutEvent::Shown(_))));
            assert!(screen.try_recv().unwrap().is_nothing() && !is_readable(screen));
        }
    }
    assert!(screens.iter_mut().map(idle_wakes).all(|wakes| wakes <= 1));
}
