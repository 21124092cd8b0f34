//! The contract of a station, by the checks of `tests/contract`, for a display with and without a converter in front.

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

/// A display and its frames: memfds if it has a converter.
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

    /// Pulls the plug. The next submit notices that.
    fn unplug(&mut self) {
        self.plug.pull();
        // It asks twice a second.
        std::thread::sleep(Duration::from_millis(600));
        let start = std::time::Instant::now();
        while self.submit() {
            assert!(start.elapsed() < 10 * SECOND, "the loss is noticed");
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
        // The display is looked after while a flip is pending, and a converter has a picture.
        extra_wakes: 2,
        most_ignored: Some(3),
        fail: Some(Self::unplug),
        // It has no end.
        end: None,
        gives_before_end: false,
        // A slow machine shows each before the next is drawn: then there is always room.
        fill: Some(|scene| {
            let _ = (0..8).all(|_| scene.submit());
        }),
        // What makes room is a flip, which does not wait to be received from here.
        make_room: None,
        // No other thread can make something possible.
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
        // It has no clients.
        crowd: None,
        // The CRTC is free for another one, and no frame is leased.
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
        // The mode is set, and the display was looked after for the last time.
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
