//! The contract of a station, by the checks of `tests/contract`, for stations that have a device; and how their epoll
//! instances watch V4L2 descriptors.

use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::capture::{Camera, CameraEvent, FrameSource, TestPattern};
use framelease::codec::{Decoder, DecoderEvent, Encoder, EncoderEvent};
use framelease::convert::{Converter, ConverterEvent, M2m};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::frame::{Frame, Packet};
use framelease::{Station, Submit};
use nix::errno::Errno;

use crate::coding::{coded, fwht, params, WAIT};
use crate::devices::*;
use crate::epoll_ctl::{watched, Seen};
use crate::ioctls;
use crate::jobs::{kind, Jobs};
use crate::scene::{Description, Kind, Scene};

/// Asserts design rules (b) and (d) of a V4L2 descriptor.
fn assert_lawful(seen: &Seen) {
    assert!(seen.added > 0 && seen.added == seen.deleted, "{seen:?}");
    assert_eq!((seen.modified, seen.closed_first), (0, 0), "{seen:?}");
}

mod camera {
    use super::*;

    /// A camera whose buffers are all held. With `COPIES`, its driver does not export buffers.
    pub(super) struct Held<const COPIES: bool> {
        camera: Camera,
        held: Vec<Frame>,
        device: framelease::v4l2::Device,
    }

    impl<const COPIES: bool> Held<COPIES> {
        /// Takes frames until no buffer is left for another.
        fn starve(&mut self) {
            while let Some(event) = self.camera.recv(Duration::from_millis(300)).unwrap().item() {
                self.keep(event);
            }
            assert!(!self.held.is_empty());
        }

        fn give(&mut self) {
            drop(self.held.remove(0));
        }

        /// Runs a function while the driver exports no buffers.
        fn with_driver<T>(test: impl FnOnce() -> T) -> T {
            const EXPBUF: u8 = 16;
            match COPIES {
                true => ioctls::refusing([EXPBUF; 2], Errno::ENOTTY, test),
                false => test(),
            }
        }
    }

    impl<const COPIES: bool> Scene for Held<COPIES> {
        type Station = Camera;

        const DESCRIPTION: Description<Self> = Description {
            give: Self::give,
            most_waiting: 3,
            many: 30,
            // A buffer that came back, on any thread.
            extra_wakes: 2,
            most_ignored: None,
            fail: Some(|scene| press(&scene.device, "Inject Fatal Streaming Error")),
            // vivid has no end.
            end: None,
            gives_before_end: false,
            // A camera takes no items.
            fill: None,
            make_room: None,
            elsewhere: Some(|scene| {
                let frame = scene.held.remove(0);
                Box::new(move || drop(frame))
            }),
            restart: Some(|scene| {
                press(&scene.device, "Inject Fatal Streaming Error");
                let lost = scene.camera.recv(WAIT).unwrap().item();
                assert!(matches!(lost, Some(CameraEvent::Lost(_))), "{lost:?}");
                Self::with_driver(|| scene.camera.reopen().unwrap());
                scene.held.clear();
                scene.starve();
            }),
            last_lease: Some(|scene| {
                let frames = std::mem::take(&mut scene.held);
                Box::new(move || frames.iter().for_each(|frame| drop(frame.read(DEFAULT_WAIT).unwrap())))
            }),
            // A camera has no clients.
            crowd: None,
            // Another camera can use the device.
            drop_is_seen: Some(|scene| {
                let Self { camera, held, device } = scene;
                drop((camera, held));
                let mut other = crate::devices::camera(&device, "YUYV").open().unwrap();
                drop(frame(&mut other));
            }),
        };

        fn is_here() -> bool {
            vivid(Planar::Single).is_some()
        }

        fn new() -> Self {
            let device = vivid_as_is(Planar::Single).unwrap();
            let builder = crate::devices::camera(&device, "YUYV").buffers(5);
            let builder = if COPIES { builder.allow_copy() } else { builder };
            let camera = Self::with_driver(|| builder.open().unwrap());
            let mut scene = Self { camera, held: Vec::new(), device };
            scene.starve();
            scene
        }

        fn station(&mut self) -> &mut Camera {
            &mut self.camera
        }

        fn kind(event: &CameraEvent) -> Kind {
            match event {
                CameraEvent::Frame(_) => Kind::Item,
                CameraEvent::Lost(_) => Kind::Error,
                _ => Kind::Other,
            }
        }

        fn keep(&mut self, event: CameraEvent) {
            if let CameraEvent::Frame(frame) = event {
                self.held.push(frame);
            }
        }
    }

    crate::contract!(Held<false>);

    #[test]
    fn epoll_entry_is_deleted_and_never_modified() {
        if !Held::<false>::is_here() {
            return;
        }
        let ((), seen) = watched(|| {
            let mut scene = Held::<false>::new();
            scene.give();
            scene.starve();
            (Held::<false>::DESCRIPTION.restart.unwrap())(&mut scene);
            scene.camera.reconfigure(fourcc("NV12"), SMALL).unwrap();
            drop(frame(&mut scene.camera));
            (Held::<false>::DESCRIPTION.fail.unwrap())(&mut scene);
            told(&mut scene.camera, lost);
        });
        assert_lawful(&seen);
    }
}

mod camera_copies {
    use super::camera::Held;

    crate::contract!(Held<true>);
}

mod m2m {
    use super::*;

    impl Scene for Jobs<M2m> {
        type Station = M2m;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| assert!(scene.submit()),
            most_waiting: 2,
            many: 40,
            extra_wakes: 2,
            most_ignored: None,
            // Each job in flight fails before that.
            fail: Some(|scene| {
                while scene.submit() {}
                unplugging_vim2m(|| {});
            }),
            // A converter has no end.
            end: None,
            gives_before_end: false,
            fill: Some(|scene| while scene.submit() {}),
            // `try_recv` makes room.
            make_room: None,
            // Another thread cannot make anything possible.
            elsewhere: None,
            restart: Some(|scene| {
                while scene.submit() {}
                let mut told = |what: fn(&ConverterEvent) -> bool| loop {
                    let event = scene.converter.recv(WAIT).unwrap().item().expect("an event");
                    if what(&event) {
                        break;
                    }
                };
                unplugging_vim2m(|| told(|event| matches!(event, ConverterEvent::Lost(_))));
                told(|event| matches!(event, ConverterEvent::Returned));
                scene.converter.reopen().unwrap();
            }),
            last_lease: Some(|scene| {
                assert!(scene.submit());
                let frame = scene.converter.recv(WAIT).unwrap().frame().unwrap();
                Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
            }),
            // A converter has no clients.
            crowd: None,
            drop_is_seen: None,
        };

        fn is_here() -> bool {
            vim2m().is_some() && needed_path("udmabuf", "/dev/udmabuf").is_some()
        }

        fn new() -> Self {
            let device = vim2m().unwrap();
            // Some jobs are still in flight when the device is unplugged.
            set(&device, "Transaction Time (msec)", 20);
            let converter = M2m::new(&device).unwrap();
            Self::new(converter, packed("RGB24", Size::new(320, 240)), &Allocator::Udmabuf, &[60, 10])
        }

        fn station(&mut self) -> &mut M2m {
            &mut self.converter
        }

        fn kind(event: &ConverterEvent) -> Kind {
            match event {
                ConverterEvent::Lost(_) => Kind::Error,
                ConverterEvent::Failed { .. } => Kind::Other,
                event => kind(event),
            }
        }
    }

    crate::contract!(Jobs<M2m>);

    #[test]
    fn epoll_entry_is_deleted_and_never_modified() {
        if !Jobs::<M2m>::is_here() {
            return;
        }
        let ((), seen) = watched(|| {
            let mut scene = <Jobs<M2m> as Scene>::new();
            for _ in 0..3 {
                while scene.submit() {}
                while scene.converter.recv(Duration::from_millis(300)).unwrap().item().is_some() {}
            }
        });
        assert_lawful(&seen);
    }
}

mod m2m_lost {
    use super::*;

    #[test]
    fn jobs_that_fail_together_keep_the_descriptor_readable() {
        if !Jobs::<M2m>::is_here() {
            return;
        }
        let mut scene = <Jobs<M2m> as Scene>::new();
        while scene.submit() {}
        unplugging_vim2m(|| {
            let mut failed = 0;
            loop {
                match scene.converter.recv(WAIT).unwrap().item().expect("an event") {
                    ConverterEvent::Frame(_) => {}
                    ConverterEvent::Failed { .. } => {
                        failed += 1;
                        assert!(is_readable(&scene.converter), "the next event does not make the descriptor readable");
                    }
                    event => {
                        assert!(matches!(event, ConverterEvent::Lost(_)), "{event:?}");
                        break;
                    }
                }
            }
            assert!(failed > 0);
        });
    }
}

mod encoder {
    use super::*;

    struct Encoding {
        encoder: Encoder,
        source: TestPattern,
        /// More frames than the encoder can hold.
        spare: TestPattern,
    }

    impl Encoding {
        /// Submits a frame. `false` if there was no room.
        fn submit(&mut self) -> bool {
            let frame = self.source.try_recv().unwrap().frame().or_else(|| self.spare.recv(WAIT).unwrap().frame());
            let frame = frame.expect("a free buffer");
            self.encoder.try_submit(frame).unwrap().is_taken()
        }
    }

    impl Scene for Encoding {
        type Station = Encoder;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| assert!(scene.submit()),
            most_waiting: 2,
            many: 40,
            // One wake-up for a frame that was read, one for its packet.
            extra_wakes: 2,
            most_ignored: None,
            // vicodec has no failures of its own.
            fail: None,
            end: Some(|scene| scene.encoder.drain().unwrap()),
            gives_before_end: true,
            fill: Some(|scene| while scene.submit() {}),
            // The device makes room by itself. It does not wait for a receive.
            make_room: None,
            // The device has no buffer for another packet.
            elsewhere: Some(|scene| {
                let mut held = Vec::new();
                loop {
                    let is_full = !scene.submit();
                    match scene.encoder.recv(Duration::from_millis(200)).unwrap().item() {
                        Some(EncoderEvent::Packet(packet)) => held.push(packet),
                        None if is_full => break,
                        _ => {}
                    }
                }
                assert!(!held.is_empty());
                Box::new(move || drop(held))
            }),
            restart: Some(|scene| drop(scene.encoder.reopen().unwrap())),
            last_lease: Some(|scene| {
                assert!(scene.submit());
                let Some(EncoderEvent::Packet(packet)) = scene.encoder.recv(WAIT).unwrap().item() else { panic!() };
                Box::new(move || assert!(!packet.bytes().is_empty()))
            }),
            // An encoder has no clients.
            crowd: None,
            drop_is_seen: None,
        };

        fn is_here() -> bool {
            fwht(Planar::Single).is_some() && needed_path("udmabuf", "/dev/udmabuf").is_some()
        }

        fn new() -> Self {
            let layout = packed("YUYV", SMALL);
            let pattern = |buffers| {
                let builder = TestPattern::builder(SMALL).layout(layout).buffers(buffers).unpaced();
                builder.allocator(Allocator::Udmabuf).start().unwrap()
            };
            let source = pattern(4);
            let builder = Encoder::builder(params(Codec::Fwht, SMALL)).device(Encoder::find(Codec::Fwht).unwrap());
            Self { encoder: builder.open(source.buffers().unwrap()).unwrap(), source, spare: pattern(60) }
        }

        fn station(&mut self) -> &mut Encoder {
            &mut self.encoder
        }

        fn kind(event: &EncoderEvent) -> Kind {
            match event {
                EncoderEvent::Packet(_) => Kind::Item,
                EncoderEvent::Lost(_) => Kind::Error,
                _ => Kind::Other,
            }
        }
    }

    crate::contract!(Encoding);

    #[test]
    fn epoll_entry_is_deleted_and_never_modified() {
        if !Encoding::is_here() {
            return;
        }
        let ((), seen) = watched(|| {
            let mut scene = Encoding::new();
            for _ in 0..3 {
                while scene.submit() {}
                while scene.encoder.recv(Duration::from_millis(300)).unwrap().item().is_some() {}
                drop(scene.encoder.reopen().unwrap());
            }
            assert!(scene.submit());
            scene.encoder.drain().unwrap();
            while scene.encoder.recv(WAIT).unwrap().item().is_some() {}
        });
        assert_lawful(&seen);
    }

    /// Packets of a test pattern, for a decoder.
    pub fn packets(count: usize) -> Vec<Packet> {
        let mut scene = Encoding::new();
        let source = &mut scene.source;
        (0..count).map(|_| coded(&mut scene.encoder, source.recv(WAIT).unwrap().frame().unwrap()).detach()).collect()
    }
}

mod decoder {
    use super::*;

    struct Decoding {
        decoder: Decoder,
        packets: Vec<Packet>,
        next: usize,
    }

    impl Decoding {
        /// Submits a packet. `false` if there was no room.
        fn submit(&mut self) -> bool {
            let packet = self.packets[self.next % self.packets.len()].clone();
            let is_taken = self.decoder.try_submit(packet).unwrap().is_taken();
            self.next += usize::from(is_taken);
            is_taken
        }
    }

    impl Scene for Decoding {
        type Station = Decoder;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| assert!(scene.submit()),
            most_waiting: 2,
            many: 40,
            // One wake-up for a packet that was read, one for its frame.
            extra_wakes: 2,
            most_ignored: None,
            // vicodec has no failures of its own.
            fail: None,
            end: Some(|scene| scene.decoder.drain().unwrap()),
            gives_before_end: true,
            fill: Some(|scene| while scene.submit() {}),
            // The device makes room by itself. It does not wait for a receive.
            make_room: None,
            // The device has no buffer for another frame.
            elsewhere: Some(|scene| {
                let mut held = Vec::new();
                loop {
                    let is_full = !scene.submit();
                    match scene.decoder.recv(Duration::from_millis(200)).unwrap().item() {
                        Some(DecoderEvent::Frame(frame)) => held.push(frame),
                        None if is_full => break,
                        _ => {}
                    }
                }
                assert!(!held.is_empty());
                Box::new(move || drop(held))
            }),
            // A reopen reports a format again. The tests of decoders check it.
            restart: None,
            last_lease: Some(|scene| {
                assert!(scene.submit());
                let Some(DecoderEvent::Frame(frame)) = scene.decoder.recv(WAIT).unwrap().item() else { panic!() };
                Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
            }),
            // A decoder has no clients.
            crowd: None,
            drop_is_seen: None,
        };

        fn is_here() -> bool {
            fwht(Planar::Single).is_some() && needed_path("udmabuf", "/dev/udmabuf").is_some()
        }

        fn new() -> Self {
            let packets = encoder::packets(4);
            let decoder = Decoder::builder(Codec::Fwht).frames_held(4).open().unwrap();
            let mut scene = Self { decoder, packets, next: 0 };
            // The format, and the first frames.
            while scene.next < scene.packets.len() {
                scene.submit();
                while scene.decoder.recv(Duration::from_millis(300)).unwrap().item().is_some() {}
            }
            scene
        }

        fn station(&mut self) -> &mut Decoder {
            &mut self.decoder
        }

        fn kind(event: &DecoderEvent) -> Kind {
            match event {
                DecoderEvent::Frame(_) => Kind::Item,
                DecoderEvent::Lost(_) => Kind::Error,
                _ => Kind::Other,
            }
        }
    }

    crate::contract!(Decoding);

    #[test]
    fn epoll_entry_is_deleted_and_never_modified() {
        if !Decoding::is_here() {
            return;
        }
        let ((), seen) = watched(|| {
            let mut scene = Decoding::new();
            while scene.submit() {}
            while scene.decoder.recv(Duration::from_millis(300)).unwrap().item().is_some() {}
            scene.decoder.reopen().unwrap();
            scene.next = 0;
            assert!(scene.submit());
            while scene.decoder.recv(Duration::from_millis(300)).unwrap().item().is_some() {}
        });
        assert_lawful(&seen);
    }
}
