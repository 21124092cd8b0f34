//! The contract of a station, by the checks of `tests/contract`, for a display and its writeback.

use std::time::Duration;

use framelease::dmabuf::DEFAULT_WAIT;
use framelease::drm::{Device, LayerRequirements, PlaneLayer, Scanout, ScanoutEvent, WriteBack};
use framelease::frame::{Frame, Pool};
use framelease::Station;

use crate::devices::fourcc;
use crate::display::{memory_screen, present, screen, settle, vgem, vkms, SCREEN, SECOND};
use crate::scene::{Description, Kind, Scene};
use crate::vgem::Fence;

/// A driver's card, as it was loaded.
fn find(driver: &str) -> Device {
    Device::find(|d| d.driver == driver).unwrap()
}

fn frame(pool: &Pool) -> Frame {
    pool.try_acquire().expect("a free buffer").freeze_full(0, 0)
}

mod scanout {
    use super::*;

    /// The display's plug. It is plugged in again at the end.
    struct Plug(String);

    impl Plug {
        fn of(card: &Device) -> Self {
            let name = card.info().path.file_name().unwrap().to_str().unwrap().to_owned();
            Self(format!("/sys/class/drm/{name}-Virtual-1/status"))
        }

        fn pull(&self) {
            std::fs::write(&self.0, "off").unwrap();
        }

        fn put(&self) {
            let _ = std::fs::write(&self.0, "detect");
        }
    }

    impl Drop for Plug {
        fn drop(&mut self) {
            self.put();
        }
    }

    /// A screen. Its items are flips.
    struct Screen {
        screen: Scanout,
        layer: PlaneLayer,
        plug: Plug,
        /// The fence that the screen waits for before it shows the frame.
        fence: Option<Fence>,
        pool: Pool,
        drawn: Pool,
        gpu: Device,
        card: Device,
    }

    impl Screen {
        fn give(&mut self) {
            present(&mut self.screen, self.layer, frame(&self.pool));
        }

        /// Presents while a flip waits for its fence, and takes the frame back.
        fn fill(&mut self) {
            if self.fence.is_none() {
                let frame = frame(&self.drawn);
                self.fence = Some(Fence::on(&self.gpu, &frame.memory()[0]));
                present(&mut self.screen, self.layer, frame);
            }
            self.refused();
        }

        /// Presents a frame while a flip is pending, and takes the frame back.
        fn refused(&mut self) {
            let presented = self.screen.present_frame(self.layer, frame(&self.pool), Duration::ZERO);
            assert!(presented.unwrap().full().is_some(), "it was not full");
        }

        /// Unplugs the display. The next present notices it.
        fn unplug(&mut self) {
            settle(&mut self.screen);
            self.plug.pull();
            // The screen checks twice a second.
            std::thread::sleep(Duration::from_millis(600));
            self.refused();
        }
    }

    impl Scene for Screen {
        type Station = Scanout;

        const DESCRIPTION: Description<Self> = Description {
            give: Self::give,
            // The newest flip replaces an older one.
            most_waiting: 1,
            many: 30,
            // The screen checks the display twice a second while a flip is pending.
            extra_wakes: 1,
            most_ignored: Some(3),
            fail: Some(Self::unplug),
            // A screen has no end.
            end: None,
            gives_before_end: false,
            fill: Some(Self::fill),
            make_room: Some(|scene| scene.fence.take().unwrap().signal()),
            elsewhere: Some(|scene| {
                scene.fill();
                let fence = scene.fence.take().unwrap();
                Box::new(move || fence.signal())
            }),
            restart: Some(|scene| {
                scene.unplug();
                let lost = scene.screen.recv(SECOND).unwrap().item();
                assert!(matches!(lost, Some(ScanoutEvent::Lost(_))), "{lost:?}");
                scene.plug.put();
                let returned = scene.screen.recv(2 * SECOND).unwrap().item();
                assert!(matches!(returned, Some(ScanoutEvent::Returned)), "{returned:?}");
                scene.screen.reopen().unwrap();
            }),
            last_lease: Some(|scene| {
                scene.give();
                settle(&mut scene.screen);
                let frame = scene.screen.shown(scene.layer).unwrap().clone();
                Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
            }),
            // A screen has no clients.
            crowd: None,
            // Another screen can use the CRTC, and no frame is leased.
            drop_is_seen: Some(|scene| {
                let Self { screen: ours, pool, card, .. } = scene;
                drop(ours);
                assert_eq!(pool.buffers().leased(), 0);
                let mut other = screen(&card);
                let layer = other.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
                present(&mut other, layer, frame(&pool));
                settle(&mut other).expect("a flip");
            }),
        };

        fn is_here() -> bool {
            vkms().is_some() && vgem().is_some()
        }

        fn new() -> Self {
            let (card, gpu) = (find("vkms"), vgem().unwrap());
            let pool = card.dumb_pool(fourcc("XBGR32"), SCREEN, 5).unwrap();
            let drawn = gpu.dumb_pool(fourcc("XBGR32"), SCREEN, 3).unwrap();
            let mut screen = screen(&card);
            let layer = screen.add_layer(&LayerRequirements::for_layout(pool.buffers().layout())).unwrap();
            // The mode is set.
            present(&mut screen, layer, frame(&pool));
            settle(&mut screen);
            Self { screen, layer, plug: Plug::of(&card), fence: None, pool, drawn, gpu, card }
        }

        fn station(&mut self) -> &mut Scanout {
            &mut self.screen
        }

        fn kind(event: &ScanoutEvent) -> Kind {
            match event {
                ScanoutEvent::Shown(_) => Kind::Item,
                ScanoutEvent::Lost(_) => Kind::Error,
                _ => Kind::Other,
            }
        }
    }

    crate::contract!(Screen);
}

mod write_back {
    use super::*;

    /// A writeback that waits for the fence of its frame.
    struct Picture {
        job: WriteBack,
        fence: Option<Fence>,
        targets: Pool,
        screen: Scanout,
    }

    impl Scene for Picture {
        type Station = WriteBack;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| scene.fence.take().unwrap().signal(),
            most_waiting: 1,
            many: 1,
            extra_wakes: 0,
            most_ignored: None,
            // The device does not report a failed writeback.
            fail: None,
            // The writeback ends after its item.
            end: Some(|_| {}),
            gives_before_end: true,
            // A writeback takes no items.
            fill: None,
            make_room: None,
            elsewhere: Some(|scene| {
                let fence = scene.fence.take().unwrap();
                Box::new(move || fence.signal())
            }),
            // It cannot be started again.
            restart: None,
            last_lease: Some(|scene| {
                scene.fence.take().unwrap().signal();
                let frame = scene.job.recv(SECOND).unwrap().frame().unwrap();
                Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
            }),
            // A writeback has no clients.
            crowd: None,
            // The screen can write another picture.
            drop_is_seen: Some(|scene| {
                let Self { job, targets, mut screen, .. } = scene;
                drop(job);
                assert_eq!(targets.buffers().leased(), 0);
                let mut next = screen.write_back(targets.try_acquire().unwrap(), SECOND).unwrap();
                assert!(next.recv(SECOND).unwrap().frame().is_some());
            }),
        };

        fn is_here() -> bool {
            vkms().is_some() && vgem().is_some()
        }

        fn new() -> Self {
            let (card, gpu) = (find("vkms"), vgem().unwrap());
            let targets = card.dumb_pool(fourcc("XBGR32"), SCREEN, 1).unwrap();
            let drawn = gpu.dumb_pool(fourcc("XBGR32"), SCREEN, 1).unwrap();
            let mut screen = memory_screen(&card);
            let layer = screen.add_layer(&LayerRequirements::for_layout(drawn.buffers().layout())).unwrap();
            present(&mut screen, layer, frame(&drawn));
            settle(&mut screen);
            let fence = Fence::on(&gpu, &screen.shown(layer).unwrap().memory()[0]);
            let job = screen.write_back(targets.try_acquire().unwrap(), SECOND).unwrap();
            Self { job, fence: Some(fence), targets, screen }
        }

        fn station(&mut self) -> &mut WriteBack {
            &mut self.job
        }

        fn kind(_: &Frame) -> Kind {
            Kind::Item
        }
    }

    crate::contract!(Picture);
}
