//! Tests of a display as a station: its descriptor, its events, an unplugged display, and a flip that does not come.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use framelease::drm::{Api, Connection, Device, LayerRequirements, Scanout, ScanoutEvent};
use framelease::{ErrorKind, Received, Station};

use crate::devices::*;
use crate::display::{checksum, displayed, noise, present, refused, rgb, screen, settle, vgem, vkms, SCREEN, SECOND};
use crate::station::{assert_signal_ends_recv, idle_wakes, is_readable, is_readable_within};
use crate::vgem::Fence;

const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn present_is_full_until_the_flip_completes_then_readable_once() {
    let Some(card) = vkms() else { return };
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 4).unwrap();
    let mut screen = screen(&card);
    let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
    let descriptor = screen.as_fd().as_raw_fd();
    assert!(!is_readable(&screen) && screen.try_present().unwrap().is_taken(), "nothing is staged");
    let mut fulls = 0;
    for turn in 0..10 {
        screen.stage(layer, noise(&pool, turn)).unwrap();
        assert!(screen.try_present().unwrap().is_taken());
        // Unless the flip has completed already.
        fulls += usize::from(!screen.try_present().unwrap().is_taken());
        assert!(is_readable_within(&screen, SECOND));
        if turn % 3 == 0 {
            // Another call finds the flip. Its event is still not received.
            assert!(screen.try_present().unwrap().is_taken() && is_readable(&screen));
        }
        assert!(matches!(screen.try_recv().unwrap(), Received::Item(ScanoutEvent::Shown(_))));
        assert!(screen.try_recv().unwrap().is_nothing() && !is_readable(&screen));
    }
    assert!(fulls > 0, "every flip completed at once");
    assert!(idle_wakes(&mut screen) <= 1);
    assert_eq!(screen.as_fd().as_raw_fd(), descriptor);
}

#[test]
fn recv_ends_at_its_timeout_and_at_a_signal() {
    let Some(card) = vkms() else { return };
    let mut screen = screen(&card);
    let start = Instant::now();
    assert!(screen.recv(MOMENT).unwrap().is_nothing() && start.elapsed() >= MOMENT, "nothing is pending");
    assert_signal_ends_recv(&mut screen);
}

#[test]
fn present_waits_for_an_unplugged_display() {
    let Some(card) = vkms() else { return };
    let name = card.info().path.file_name().unwrap().to_str().unwrap().to_owned();
    let status = format!("/sys/class/drm/{name}-Virtual-1/status");
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    for api in [Api::Atomic, Api::Legacy] {
        let mut ours = Scanout::builder().device(&card).size(SCREEN).api(api).open().unwrap();
        let layer = ours.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
        present(&mut ours, layer, noise(&pool, 1));
        settle(&mut ours);
        assert_eq!(ours.connection().unwrap(), Connection::Connected);
        std::fs::write(&status, "off").unwrap();
        assert_eq!(ours.connection().unwrap(), Connection::Disconnected);
        // A present checks the display if the last check is half a second old.
        std::thread::sleep(Duration::from_millis(600));
        for turn in 2..5 {
            let back = ours.present_frame(layer, noise(&pool, turn), MOMENT).unwrap().full().expect("no display");
            assert_eq!(back.meta().sequence, turn.into());
        }
        assert_eq!((pool.buffers().leased(), ours.stats().flips), (1, 1), "the frame on the screen is not leased");
        assert!(is_readable(&ours));
        match ours.try_recv().unwrap() {
            Received::Item(ScanoutEvent::Lost(e)) => {
                refused(Err(e), ErrorKind::Disconnected, &["GETCONNECTOR", "(vkms)", "Virtual-1"]);
            }
            other => panic!("{other:?}"),
        }
        assert!(idle_wakes(&mut ours) <= 3, "the screen checks twice a second");
        refused(ours.reopen(), ErrorKind::NotFound, &["Virtual-1 (Disconnected"]);
        let open = Scanout::builder().device(&card).connector("Virtual-1").open().map(drop);
        refused(open, ErrorKind::NotFound, &["Virtual-1 (Disconnected"]);

        ours.stage(layer, noise(&pool, 6)).unwrap();
        std::fs::write(&status, "detect").unwrap();
        let got = ours.recv(2 * SECOND).unwrap();
        assert!(matches!(got, Received::Item(ScanoutEvent::Returned)), "{got:?}");
        assert!(ours.try_present().unwrap().is_taken(), "the staged frame is lost");
        settle(&mut ours).unwrap();
        assert_eq!(displayed(&card), checksum(&rgb(ours.shown(layer).unwrap())));
        // A display that is unplugged at the end keeps no frame.
        std::fs::write(&status, "off").unwrap();
        drop(ours);
        assert_eq!((pool.buffers().leased(), card.open_handles()), (0, 0), "{api:?}");
        std::fs::write(&status, "detect").unwrap();
    }
}

#[test]
fn reopen_keeps_the_descriptor_and_the_layers() {
    let Some(card) = vkms() else { return };
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    let mut screen = screen(&card);
    let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
    let descriptor = screen.as_fd().as_raw_fd();
    for turn in 1..5 {
        present(&mut screen, layer, noise(&pool, turn));
        screen.stage(layer, noise(&pool, 50)).unwrap();
        screen.reopen().unwrap();
        assert_eq!((pool.buffers().leased(), screen.as_fd().as_raw_fd()), (0, descriptor));
    }
    while let Received::Item(event) = screen.try_recv().unwrap() {
        assert!(matches!(event, ScanoutEvent::Shown(_)), "{event:?}");
    }
    assert!(!is_readable(&screen));
    present(&mut screen, layer, noise(&pool, 9));
    settle(&mut screen).unwrap();
    assert_eq!(displayed(&card), checksum(&rgb(screen.shown(layer).unwrap())));
    drop(screen);
    assert_eq!((pool.buffers().leased(), card.open_handles()), (0, 0));
}

#[test]
fn drop_leaves_frames_leased_until_a_pending_flip_completes() {
    let (Some(card), Some(gpu)) = (vkms(), vgem()) else { return };
    leaving_nothing(|| {
        let path = card.info().path.clone();
        drop(card);
        let card = Device::open(&path).unwrap();
        let drawn = gpu.dumb_pool(fourcc("XBGR32"), SCREEN, 1).unwrap();
        let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 2).unwrap();
        let wish = LayerRequirements::for_layout(pool.buffers().layout());
        for is_closed in [false, true] {
            let mut ours = screen(&card);
            let layer = ours.add_layer(&wish).unwrap();
            present(&mut ours, layer, noise(&pool, 1));
            settle(&mut ours);
            let frame = noise(&drawn, 2);
            let fence = Fence::on(&gpu, &frame.memory()[0]);
            present(&mut ours, layer, frame);
            assert!(ours.turn_off(MOMENT).unwrap().full().is_some());
            drop(ours);
            assert_eq!((pool.buffers().leased(), drawn.buffers().leased()), (1, 1), "the display may read both");
            let busy = Scanout::builder().device(&card).size(SCREEN).open().map(drop);
            refused(busy, ErrorKind::Busy, &[]);
            fence.signal();
            std::thread::sleep(MOMENT);
            if !is_closed {
                drop(screen(&card));
                assert_eq!((pool.buffers().leased(), drawn.buffers().leased(), card.open_handles()), (0, 0, 0));
            }
        }
        drop(card);
        assert_eq!(
            (pool.buffers().leased(), drawn.buffers().leased()),
            (0, 0),
            "the file is closed, and buffers are still leased"
        );
    });
}
