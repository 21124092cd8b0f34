//! Tests with a display driver that refuses ioctls.

use std::time::Duration;

use framelease::drm::{Api, Device, Framebuffer, LayerRequirements, PlaneKind, Scanout, ScanoutEvent};
use framelease::frame::Pool;
use framelease::{ErrorKind, Received, Result, Station};
use nix::errno::Errno;

use crate::devices::*;
use crate::display::{checksum, displayed, noise, present, refused, rgb, screen, settle, vkms, SCREEN, SECOND};
use crate::ioctls::{self, Fault};

/// Shows two frames.
fn show(card: &Device, pool: &Pool) -> Result<()> {
    let mut screen = Scanout::builder().device(card).size(SCREEN).open()?;
    let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout()))?;
    for turn in 0..2 {
        let frame = noise(pool, turn);
        let slot = frame.slot();
        let presented = screen.present_frame(layer, frame, SECOND).map_err(|rejected| {
            assert_eq!(rejected.item.slot(), slot, "a consuming call gives back what it was given");
            rejected.error
        })?;
        drop(presented);
        // Wait until no flip is pending.
        let _ = screen.present(Duration::from_millis(300))?;
        while let Received::Item(event) = screen.try_recv()? {
            if let ScanoutEvent::Lost(error) = event {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The ioctls of `sys::drm` that a display uses.
const IOCTLS: [(u8, &str, u32); 8] = [
    (0x09, "DRM_IOCTL_GEM_CLOSE", 1),
    (0x2e, "DRM_IOCTL_PRIME_FD_TO_HANDLE", 2),
    (0xa7, "DRM_IOCTL_MODE_GETCONNECTOR", 1),
    (0xaa, "DRM_IOCTL_MODE_GETPROPERTY", 2),
    (0xaf, "DRM_IOCTL_MODE_RMFB", 1),
    (0xb2, "DRM_IOCTL_MODE_CREATE_DUMB", 1),
    (0xb8, "DRM_IOCTL_MODE_ADDFB2", 2),
    // The atomic test, two flips, and the end.
    (0xbc, "DRM_IOCTL_MODE_ATOMIC", 4),
];

#[test]
fn ioctl_errors_name_the_call_and_return_the_frames() {
    let Some(card) = vkms() else { return };
    let path = card.info().path.clone();
    leaving_nothing(|| {
        let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
        drop(card);
        for (number, name, times) in IOCTLS {
            let mut failed = 0;
            for nth in 1..=times {
                for errno in [Errno::ENODEV, Errno::EINVAL, Errno::ENOMEM, Errno::EBUSY] {
                    let card = Device::open(&path).unwrap();
                    let shown = ioctls::with(Fault { kind: b'd', number, nth, errno }, || show(&card, &pool));
                    let what = format!("{name} {nth} {errno}");
                    if let Err(e) = &shown {
                        failed += 1;
                        let text = e.to_string();
                        assert!(text.contains("(vkms)") && text.contains("DRM_IOCTL_"), "{what}: {text}");
                        // Before an import, the library checks that the device exists, by an ioctl that is not refused
                        // here.
                        let is_import = e.op() == "DRM_IOCTL_PRIME_FD_TO_HANDLE";
                        let lost = errno == Errno::ENODEV && e.errno().is_some() && !is_import;
                        assert!(!lost || e.kind() == ErrorKind::DeviceLost, "{what}: {text}");
                    }
                    assert_eq!((pool.buffers().leased(), card.open_handles()), (0, 0), "{what}: {shown:?}");
                }
            }
            assert!(failed > 0, "{name} was never refused");
        }
        // The same device works afterwards.
        show(&Device::open(&path).unwrap(), &pool).unwrap();
    });
}

#[test]
fn pitch_that_is_refused_is_named_with_the_driver_s_own() {
    let Some(card) = vkms() else { return };
    let layout = framelease::format::Layout::aligned(fourcc("XBGR32"), SCREEN, 4096).unwrap();
    let frame = noise(&Pool::new(&framelease::dmabuf::Allocator::Udmabuf, layout, 1).unwrap(), 1);
    let fault = Fault { kind: b'd', number: 0xb8, nth: 1, errno: Errno::EINVAL };
    let added = ioctls::with(fault, || Framebuffer::new(&card, &frame, None).map(drop));
    let words = ["DRM_IOCTL_MODE_ADDFB2 on ", "(vkms)", "pitches [4096]", "dumb buffers of this size with pitch 2560"];
    refused(added, ErrorKind::InvalidArgument, &words);
    assert_eq!((frame.buffers().leased(), card.open_handles()), (1, 0));
}

#[test]
fn frame_that_a_failed_flip_has_shown_stays_leased() {
    let Some(card) = vkms() else { return };
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    let mut screen = Scanout::builder().device(&card).size(SCREEN).api(Api::Legacy).open().unwrap();
    let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
    // SETCRTC shows the frame before PAGE_FLIP requests the event.
    let fault = Fault { kind: b'd', number: 0xb0, nth: 1, errno: Errno::EBUSY };
    let rejected = ioctls::with(fault, || screen.present_frame(layer, noise(&pool, 1), SECOND)).unwrap_err();
    assert_eq!((rejected.error.kind(), rejected.error.op()), (ErrorKind::Busy, "DRM_IOCTL_MODE_PAGE_FLIP"));
    let picture = checksum(&rgb(&rejected.item));
    drop(rejected);
    assert_eq!(displayed(&card), picture);
    assert_eq!(pool.buffers().leased(), 1, "the screen reads it");
    present(&mut screen, layer, noise(&pool, 2));
    settle(&mut screen).unwrap();
    assert_eq!((pool.buffers().leased(), screen.stats().flips), (1, 1));
    assert!(screen.turn_off(SECOND).unwrap().is_taken());
    assert_eq!(pool.buffers().leased(), 0);
}

#[test]
fn turn_off_without_master_keeps_the_frames() {
    let Some(card) = vkms() else { return };
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    for api in [Api::Atomic, Api::Legacy] {
        let mut screen = Scanout::builder().device(&card).size(SCREEN).api(api).open().unwrap();
        let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
        present(&mut screen, layer, noise(&pool, 1));
        settle(&mut screen).unwrap();
        card.drop_master().unwrap();
        let rejected = screen.present_frame(layer, noise(&pool, 2), SECOND).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::PermissionDenied, "{}", rejected.error);
        drop(rejected);
        for _ in 0..2 {
            let e = screen.turn_off(SECOND).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
            assert_eq!(pool.buffers().leased(), 1, "the picture is still on the screen");
        }
        card.acquire_master().unwrap();
        assert!(screen.turn_off(SECOND).unwrap().is_taken());
        assert_eq!(pool.buffers().leased(), 0, "{api:?}");
    }
}

#[test]
fn scanout_whose_reopen_failed_leaves_the_screen_to_others() {
    let Some(card) = vkms() else { return };
    let other = Device::open(&card.info().path).unwrap();
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    let wish = LayerRequirements::for_layout(pool.buffers().layout()).plane(PlaneKind::Primary);
    let mut console = screen(&card);
    let layer = console.add_layer(&wish).unwrap();
    present(&mut console, layer, noise(&pool, 1));
    settle(&mut console);
    card.drop_master().unwrap();
    other.acquire_master().unwrap();
    let mut first = screen(&other);
    let layer = first.add_layer(&wish).unwrap();
    present(&mut first, layer, noise(&pool, 2));
    settle(&mut first);
    // The first atomic commit switches the screen off, the second one tests the plane.
    let fault = Fault { kind: b'd', number: 0xbc, nth: 2, errno: Errno::EINVAL };
    let e = ioctls::with(fault, || first.reopen()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    let mut second = screen(&other);
    let layer = second.add_layer(&wish).unwrap();
    present(&mut second, layer, noise(&pool, 3));
    settle(&mut second);
    let picture = checksum(&rgb(second.shown(layer).unwrap()));
    drop(first);
    assert_eq!(displayed(&card), picture);
}

#[test]
fn layer_of_another_scanout_is_refused() {
    let Some(card) = vkms() else { return };
    let other = Device::open(&card.info().path).unwrap();
    let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
    let wish = LayerRequirements::for_layout(pool.buffers().layout());
    let mut ours = screen(&card);
    let layer = ours.add_layer(&wish).unwrap();
    let mut theirs = Scanout::builder().device(&other).size(SCREEN).api(Api::Legacy).open().unwrap();
    let foreign = theirs.add_layer(&wish).unwrap();
    let rejected = ours.stage(foreign, noise(&pool, 1)).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::State, "{}", rejected.error);
    assert_eq!(ours.hide(foreign).unwrap_err().kind(), ErrorKind::State);
    present(&mut ours, layer, rejected.item);
    settle(&mut ours).unwrap();
    ours.reopen().unwrap();
    present(&mut ours, layer, noise(&pool, 2));
    settle(&mut ours).unwrap();
}
