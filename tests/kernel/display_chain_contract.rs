//! The contract of a station, by the checks of `tests/contract`, for a display chain with and without a converter.

use std::time::Duration;

use framelease::convert::Scaling;
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::drm::{Device, ScanoutEvent};
use framelease::frame::{Frame, Pool};
use framelease::negotiate::DisplayChain;
use framelease::{Station, Submit};

use crate::devices::*;
use crate::display::{screen, vkms, SCREEN, SECOND};
use crate::display_chain::Plug;
use crate::scene::{Description, Kind, Scene};

/// A display and its frames, which are memfds if the chain has a converter.
struct Shown<const CONVERTS: bool> {
    chain: DisplayChain,
    pool: Pool,
    plug: Plug,
}

impl<const CONVERTS: bool> Shown<CONVERTS> {
    fn frame(&self) -> Frame {
        self.pool.acquire(SECOND).expect("a free buffer").freeze_full(0, 0)
    }

    /// Submits a frame. `false` if there was no room.
    fn submit(&mut self) -> bool {
        let frame = self.frame();
        self.chain.try_submit(frame).unwrap().is_taken()
    }

    /// Unplugs the display. The next submit notices it.
    fn unplug(&mut self) {
        self.plug.pull();
        // The chain checks twice a second.
        std::thread::sleep(Duration::from_millis(600));
        let start = std::time::Instant::now();
        while self.submit() {
            assert!(start.elapsed() < 10 * SECOND, "the loss is not noticed");
        }
    }
}

impl<const CONVERTS: bool> Scene for Shown<CONVERTS> {
    type Station = DisplayChain;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| {
            let frame = scene.frame();
            scene.chain.submit(frame, SECOND).taken();
        },
        // The newest flip replaces an older one.
        most_waiting: 1,
        many: 30,
        // The chain checks the display while a flip is pending. A converter also has a picture.
        extra_wakes: 2,
        most_ignored: Some(3),
        fail: Some(Self::unplug),
        // A display chain has no end.
        end: None,
        gives_before_end: false,
        // A slow machine shows each frame before the next is drawn, so there is always room.
        fill: Some(|scene| {
            let _ = (0..8).all(|_| scene.submit());
        }),
        // A flip makes room. It does not wait for a receive.
        make_room: None,
        // Another thread cannot make anything possible.
        elsewhere: None,
        restart: Some(|scene| {
            scene.unplug();
            let mut told = |what: fn(&ScanoutEvent) -> bool| {
                while !what(&scene.chain.recv(2 * SECOND).unwrap().item().expect("an event")) {}
            };
            told(|event| matches!(event, ScanoutEvent::Lost(_)));
            scene.plug.put();
            told(|event| matches!(event, ScanoutEvent::Returned));
            scene.chain.reopen(scene.pool.buffers()).unwrap();
        }),
        last_lease: Some(|scene| {
            let frame = scene.frame();
            assert!(scene.chain.try_submit(frame.clone()).unwrap().is_taken());
            while scene.chain.recv(Duration::from_millis(300)).unwrap().item().is_some() {}
            Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
        }),
        // A display chain has no clients.
        crowd: None,
        // Another chain can use the CRTC, and no frame is leased.
        drop_is_seen: Some(|scene| {
            let Self { chain, pool, .. } = scene;
            let card = chain.scanout().device().clone();
            drop(chain);
            assert_eq!(pool.buffers().leased(), 0);
            let mut other = DisplayChain::open(screen(&card), pool.buffers(), Scaling::Keep).unwrap();
            let frame = pool.acquire(SECOND).unwrap().freeze_full(0, 0);
            assert!(other.try_submit(frame).unwrap().is_taken());
            assert!(other.recv(SECOND).unwrap().item().is_some(), "a flip");
        }),
    };

    fn is_here() -> bool {
        vkms().is_some()
    }

    fn new() -> Self {
        let card = Device::find(|d| d.driver == "vkms").unwrap();
        let pool = match CONVERTS {
            true => Pool::new(&Allocator::Memfd, packed("XBGR32", SCREEN), 6).unwrap(),
            false => card.dumb_pool(fourcc("XBGR32"), SCREEN, 6).unwrap(),
        };
        let chain = DisplayChain::open(screen(&card), pool.buffers(), Scaling::Keep).unwrap();
        assert_eq!(chain.converter().is_some(), CONVERTS);
        let mut scene = Self { chain, pool, plug: Plug::of(&card) };
        // The mode is set, and the display was checked for the last time.
        assert!(scene.submit());
        while scene.chain.recv(Duration::from_millis(600)).unwrap().item().is_some() {}
        scene
    }

    fn station(&mut self) -> &mut DisplayChain {
        &mut self.chain
    }

    fn kind(event: &ScanoutEvent) -> Kind {
        match event {
            ScanoutEvent::Shown(_) => Kind::Item,
            ScanoutEvent::Lost(_) => Kind::Error,
            _ => Kind::Other,
        }
    }
}

mod direct {
    use super::*;

    crate::contract!(Shown<false>);
}

mod converted {
    use super::*;

    crate::contract!(Shown<true>);
}
