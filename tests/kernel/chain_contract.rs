//! The contract of a station, by the checks of `tests/contract`, for an encoder chain with and without a converter.

use std::path::Path;
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::capture::{FrameSource, TestPattern};
use framelease::codec::{Encoder, EncoderEvent};
use framelease::dmabuf::Allocator;
use framelease::negotiate::{EncoderChain, Negotiation};
use framelease::v4l2::Device;
use framelease::{Station, Submit};

use crate::boards::ENCODERS;
use crate::coding::{h264, params, WAIT};
use crate::devices::*;
use crate::scene::{Description, Kind, Scene, Task};

struct Chained {
    chain: EncoderChain,
    source: TestPattern,
    /// More frames than the chain can hold.
    spare: TestPattern,
}

impl Chained {
    /// Opens the encoder, which was loaded before, and makes the frames for it.
    fn new() -> Self {
        let device = Encoder::find(Codec::H264).unwrap();
        let pattern = |buffers| {
            let builder = TestPattern::builder(SMALL).layout(packed("NV12", SMALL)).buffers(buffers).unpaced();
            builder.allocator(Allocator::Udmabuf).start().unwrap()
        };
        let source = pattern(8);
        let negotiation = Negotiation::new(params(Codec::H264, SMALL)).encoder(device);
        let chain = negotiation.open_for(source.buffers().unwrap()).unwrap();
        Self { chain, source, spare: pattern(60) }
    }

    /// Loads the encoder with these parameters.
    fn is_here(parameters: &str) -> bool {
        h264(parameters).is_some() && needed_path("udmabuf", "/dev/udmabuf").is_some()
    }

    /// Submits a frame. `false` if there was no room.
    fn submit(&mut self) -> bool {
        let frame = self.source.try_recv().unwrap().frame().or_else(|| self.spare.recv(WAIT).unwrap().frame());
        self.chain.try_submit(frame.expect("a free buffer")).unwrap().is_taken()
    }

    fn fill(&mut self) {
        while self.submit() {}
    }

    /// The encoder has no buffer for another packet.
    fn elsewhere(&mut self) -> Task {
        let mut held = Vec::new();
        loop {
            let is_full = !self.submit();
            match self.chain.recv(Duration::from_millis(200)).unwrap().item() {
                Some(EncoderEvent::Packet(packet)) => held.push(packet),
                None if is_full => break,
                _ => {}
            }
        }
        assert!(!held.is_empty());
        Box::new(move || drop(held))
    }

    fn last_lease(&mut self) -> Task {
        assert!(self.submit());
        let Some(EncoderEvent::Packet(packet)) = self.chain.recv(WAIT).unwrap().item() else { panic!() };
        Box::new(move || assert!(!packet.bytes().is_empty()))
    }

    /// Unbinds a driver's device and binds it again, while frames are in flight.
    fn replug(&mut self, driver: &'static str) {
        self.fill();
        unplug(driver, || self.told(|event| matches!(event, EncoderEvent::Lost(_))));
        self.told(|event| matches!(event, EncoderEvent::Returned));
    }

    fn told(&mut self, what: fn(&EncoderEvent) -> bool) {
        while !what(&self.chain.recv(WAIT).unwrap().item().expect("an event")) {}
    }
}

/// Unbinds a driver's device, as if it were unplugged, while `test` runs.
fn unplug(driver: &'static str, test: impl FnOnce()) {
    /// Binds it again, also if the test fails.
    struct Bind(&'static str);
    impl Drop for Bind {
        fn drop(&mut self) {
            let folder = Path::new("/sys/bus/platform/drivers").join(self.0);
            let _ = std::fs::write(folder.join("bind"), self.0);
        }
    }
    let _bind = Bind(driver);
    std::fs::write(Path::new("/sys/bus/platform/drivers").join(driver).join("unbind"), driver).unwrap();
    test();
}

fn kind(event: &EncoderEvent) -> Kind {
    match event {
        EncoderEvent::Packet(_) => Kind::Item,
        EncoderEvent::Lost(_) => Kind::Error,
        _ => Kind::Other,
    }
}

/// With each encoder that fl_h264 imitates.
mod direct {
    use super::*;

    /// The number is the index of the encoder in [`ENCODERS`].
    struct Direct<const ENCODER: usize>(Chained);

    impl<const ENCODER: usize> Scene for Direct<ENCODER> {
        type Station = EncoderChain;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| assert!(scene.0.submit()),
            most_waiting: 2,
            many: 40,
            // One wake-up for a frame that was read, one for its packet.
            extra_wakes: 2,
            most_ignored: None,
            fail: Some(|scene| {
                scene.0.fill();
                unplug("fl_h264", || {});
            }),
            end: Some(|scene| scene.0.chain.drain().unwrap()),
            gives_before_end: true,
            fill: Some(|scene| scene.0.fill()),
            // The device makes room by itself. It does not wait for a receive.
            make_room: None,
            elsewhere: Some(|scene| scene.0.elsewhere()),
            restart: Some(|scene| scene.0.replug("fl_h264")),
            last_lease: Some(|scene| scene.0.last_lease()),
            // A chain has no clients.
            crowd: None,
            drop_is_seen: None,
        };

        fn is_here() -> bool {
            Chained::is_here(ENCODERS[ENCODER].0)
        }

        fn new() -> Self {
            let scene = Self(Chained::new());
            assert_eq!(scene.0.chain.converter(), None);
            scene
        }

        fn station(&mut self) -> &mut EncoderChain {
            &mut self.0.chain
        }

        fn kind(event: &EncoderEvent) -> Kind {
            kind(event)
        }
    }

    macro_rules! of {
        ($($name:ident $index:literal,)*) => { $(
            mod $name {
                use super::*;

                crate::contract!(Direct<$index>);
            }
        )* };
    }

    of! { plain 0, vsi 1, amphion 2, venus 3, coda 4, bcm2835 5, }
}

mod converted {
    use super::*;

    /// An encoder that needs rows of another length, and a scaler that makes them. With `SCALER_FAILS` the scaler is
    /// unplugged, otherwise the encoder.
    struct Converted<const SCALER_FAILS: bool>(Chained);

    impl<const SCALER_FAILS: bool> Converted<SCALER_FAILS> {
        const DRIVER: &'static str = if SCALER_FAILS { "fl_scaler" } else { "fl_h264" };
    }

    impl<const SCALER_FAILS: bool> Scene for Converted<SCALER_FAILS> {
        type Station = EncoderChain;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| assert!(scene.0.submit()),
            most_waiting: 2,
            many: 40,
            // One wake-up each: a frame that the scaler has read, its picture, a picture that was read, and its packet.
            extra_wakes: 4,
            most_ignored: None,
            fail: Some(|scene| {
                scene.0.fill();
                unplug(Self::DRIVER, || {});
            }),
            end: Some(|scene| scene.0.chain.drain().unwrap()),
            gives_before_end: true,
            fill: Some(|scene| scene.0.fill()),
            // The devices make room by themselves. They do not wait for a receive.
            make_room: None,
            elsewhere: Some(|scene| scene.0.elsewhere()),
            restart: Some(|scene| scene.0.replug(Self::DRIVER)),
            last_lease: Some(|scene| scene.0.last_lease()),
            // A chain has no clients.
            crowd: None,
            drop_is_seen: None,
        };

        fn is_here() -> bool {
            let scaler = Device::find(|d| d.driver == "fl_scaler").map_err(|e| e.to_string());
            Chained::is_here("align=256") && needed("fl_scaler", scaler).is_some()
        }

        fn new() -> Self {
            let scene = Self(Chained::new());
            let name = scene.0.chain.converter().expect("a converter").to_owned();
            let scaler = Device::find(|d| d.driver == "fl_scaler").unwrap();
            assert!(name.contains(&*scaler.info().path.to_string_lossy()), "{name}, and not {scaler}");
            scene
        }

        fn station(&mut self) -> &mut EncoderChain {
            &mut self.0.chain
        }

        fn kind(event: &EncoderEvent) -> Kind {
            kind(event)
        }
    }

    mod scaler {
        use super::*;

        crate::contract!(Converted<true>);
    }

    mod encoder {
        use super::*;

        crate::contract!(Converted<false>);
    }
}
