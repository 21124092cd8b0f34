//! Tests that open a camera and an encoder in one call, on real drivers, and that run the first programs unchanged.

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::capture::{Camera, TestPattern};
use framelease::codec::{EncoderEvent, Setting};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, FrameInterval, Size};
use framelease::frame::{BufferBudget, Pool};
use framelease::negotiate::{Negotiated, Negotiation};
use framelease::share::{Reconnect, Subscriber, SubscriberEvent};
use framelease::stats::cpu_bytes;
use framelease::v4l2::{ControlId, ControlValue};
use framelease::{wait, ErrorKind, Received, Station, Submit};
use nix::errno::Errno;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::coding::*;
use crate::devices::*;
use crate::encode_faults::unplugging_h264;
use crate::ioctls::{self, Fault};
use crate::share::example;

const SMALLER: Size = Size::new(320, 180);

/// Returns packets of a source's frames, and the number of bytes that the CPU touched for them.
fn packets(negotiated: &mut Negotiated, wanted: usize) -> (Vec<framelease::frame::Packet>, u64) {
    let Negotiated { source, encoder, .. } = negotiated;
    let before = cpu_bytes();
    let (start, mut packets) = (Instant::now(), Vec::new());
    while packets.len() < wanted {
        assert!(start.elapsed() < Duration::from_secs(20), "{} packets", packets.len());
        wait(&[&*source, &*encoder], Duration::from_secs(5)).unwrap();
        if let Some(frame) = source.try_recv().unwrap().frame() {
            let _ = encoder.try_submit(frame).unwrap();
        }
        while let Received::Item(event) = encoder.try_recv().unwrap() {
            match event {
                EncoderEvent::Packet(packet) => packets.push(packet.detach()),
                other => panic!("{other:?}"),
            }
        }
    }
    let after = cpu_bytes();
    (packets, after.read - before.read + after.written - before.written)
}

/// Ends the stream. Returns the number of packets that came after that.
fn drained(negotiated: &mut Negotiated) -> usize {
    negotiated.encoder.drain().unwrap();
    let mut rest = 0;
    loop {
        match negotiated.encoder.recv(WAIT).unwrap() {
            Received::Item(EncoderEvent::Packet(_)) => rest += 1,
            Received::Ended => return rest,
            other => panic!("{other:?} in a drain"),
        }
    }
}

#[test]
fn negotiation_opens_a_camera_and_an_encoder_in_one_call() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("")) else { return };
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALL).interval(FrameInterval::from_fps(60));
        let least = match encoder.control_value(ControlId::new(0x0098_0928)) {
            Ok(ControlValue::Number(least)) => usize::try_from(least).unwrap(),
            other => panic!("{other:?}"),
        };
        let mut budget = BufferBudget::default();
        budget.local = 1;
        let negotiation = Negotiation::new(params).encoder(encoder).budget(budget);
        let mut negotiated = negotiation.camera(Camera::builder().device(camera)).open().unwrap();
        assert_eq!(negotiated.encoder.converter(), None);
        let BufferBudget { driver, local, subscribers, .. } = negotiated.budget;
        assert_eq!((driver, local, subscribers), (budget.driver, least + 1, budget.subscribers));
        assert!(negotiated.source.buffers().unwrap().slots() >= negotiated.budget.total());
        let (packets, touched) = packets(&mut negotiated, 10);
        assert!(packets[0].is_key());
        assert_eq!(touched, 0, "the camera's buffers are the encoder's");
        drained(&mut negotiated);
        assert_eq!(negotiated.source.stats().leased, 0);
    });
}

#[test]
fn negotiated_encoder_leaves_the_camera_its_buffers() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("")) else { return };
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALL).interval(FrameInterval::from_fps(60));
        let negotiation = Negotiation::new(params).encoder(encoder).camera(Camera::builder().device(camera));
        let mut negotiated = negotiation.open().unwrap();
        let Negotiated { source, encoder, budget, .. } = &mut negotiated;
        let mut next = || source.recv(WAIT).unwrap().frame().expect("a frame");
        // Its packets are not taken. It stops when it has no buffer for a packet.
        let mut fulls = 0;
        while fulls < 20 {
            fulls += u32::from(!encoder.try_submit(next()).unwrap().is_taken());
            assert!(encoder.in_flight() <= budget.local, "{} of {budget}", encoder.in_flight());
        }
        while encoder.try_recv().unwrap().item().is_some() {}
        let start = Instant::now();
        while !encoder.try_submit(next()).unwrap().is_taken() {
            assert!(start.elapsed() < WAIT, "the chain stays full");
            while encoder.try_recv().unwrap().item().is_some() {}
        }
        drained(&mut negotiated);
        assert_eq!(negotiated.source.stats().leased, 0);
    });
}

#[test]
fn negotiation_gives_an_encoder_more_frames_than_it_reports() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("delay=4 hides_delay=1")) else { return };
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALL).interval(FrameInterval::from_fps(60));
        let negotiation = Negotiation::new(params).encoder(encoder).camera(Camera::builder().device(camera));
        let mut negotiated = negotiation.open().unwrap();
        assert!(negotiated.budget.local < 5, "{}", negotiated.budget);
        packets(&mut negotiated, 10);
        drained(&mut negotiated);
    });
}

#[test]
fn encoder_chain_reopens_an_unplugged_encoder() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("")) else { return };
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALL).interval(FrameInterval::from_fps(60));
        let negotiation = Negotiation::new(params).encoder(encoder).camera(Camera::builder().device(camera));
        let mut negotiated = negotiation.open().unwrap();
        packets(&mut negotiated, 2);
        let Negotiated { source, encoder, .. } = &mut negotiated;
        let mut next = || source.recv(WAIT).unwrap().frame().expect("a frame");
        unplugging_h264(|| {
            // The first call notices it: a frame finds no room, or an event reports it once.
            let (mut lost, mut refused) = (0, 0);
            for _ in 0..20 {
                refused += usize::from(!encoder.try_submit(next()).unwrap().is_taken());
                while let Received::Item(event) = encoder.try_recv().unwrap() {
                    lost += usize::from(matches!(event, EncoderEvent::Lost(_)));
                }
                encoder.force_key().unwrap();
            }
            assert!(lost == 1 && refused > 10, "{lost} events, {refused} frames");
        });
        let returned = (0..100).any(|_| matches!(encoder.recv(WAIT).unwrap().item(), Some(EncoderEvent::Returned)));
        assert!(returned, "it does not come back");
        assert!(encoder.try_submit(next()).unwrap().is_taken());
        let first = encoder.recv(WAIT).unwrap().item();
        assert!(matches!(&first, Some(EncoderEvent::Packet(packet)) if packet.is_key()), "{first:?}");
    });
}

#[test]
fn encoder_chain_forces_one_key_frame_for_many_requests() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("")) else { return };
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALL).wish(Setting::Gop(1000)).interval(FrameInterval::from_fps(60));
        let negotiation = Negotiation::new(params).encoder(encoder).camera(Camera::builder().device(camera));
        let Negotiated { mut source, mut encoder, .. } = negotiation.open().unwrap();
        let mut keys = Vec::new();
        for turn in 0..20 {
            // Three sinks ask at every turn until they have it.
            if turn >= 10 && !keys.iter().any(|key| *key >= 10) {
                (0..3).for_each(|_| encoder.force_key().unwrap());
            }
            let frame = source.recv(WAIT).unwrap().frame().expect("a frame");
            assert!(encoder.submit(frame, WAIT).unwrap().is_taken());
            match encoder.recv(WAIT).unwrap() {
                Received::Item(EncoderEvent::Packet(packet)) => keys.extend(packet.is_key().then_some(turn)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(keys, [0, 10]);
    });
}

#[test]
fn negotiation_refuses_too_few_frames_at_once() {
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    let Some(encoder) = h264("delay=4") else { return };
    let pool = Pool::new(&Allocator::Udmabuf, packed("NV12", SMALL), 4).unwrap();
    let negotiation = Negotiation::new(params(Codec::H264, SMALL)).encoder(encoder);
    let e = negotiation.open_for(pool.buffers()).unwrap_err();
    assert!(
        e.kind() == ErrorKind::Mismatch && e.to_string().contains("needs 5") && e.to_string().contains("lends 4"),
        "{e}"
    );
}

#[test]
fn negotiation_adds_a_converter_if_the_layouts_differ() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("")) else { return };
    if framelease::v4l2::Device::find(|d| d.driver == "fl_scaler").is_err() {
        needed::<()>("fl_scaler", Err("no such device".into()));
        return;
    }
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALLER).interval(FrameInterval::from_fps(60));
        let wishes = Camera::builder().device(camera).formats([FourCc::NV12, FourCc::NV12M]).size(SMALL);
        let mut negotiated = Negotiation::new(params).encoder(encoder).camera(wishes).open().unwrap();
        let name = negotiated.encoder.converter().expect("a converter").to_owned();
        assert!(name.starts_with("m2m"), "{name}");
        let (packets, touched) = packets(&mut negotiated, 10);
        assert!(packets[0].is_key());
        assert_eq!(touched, 0, "no pixel is touched by the CPU");
        // More frames than the chain can hold: none is lost, and nothing spins.
        let mut waiting = Vec::new();
        for _ in 0..12 {
            let frame = negotiated.source.recv(WAIT).unwrap().frame().expect("a frame");
            match negotiated.encoder.try_submit(frame).unwrap().full() {
                Some(frame) => {
                    waiting.push(frame);
                    break;
                }
                None => continue,
            }
        }
        drop(waiting);
        let submitted = negotiated.encoder.in_flight();
        assert!(submitted > 0 && submitted < 12, "{submitted} in flight");
        assert!(drained(&mut negotiated) >= 1);
        assert_eq!((negotiated.encoder.in_flight(), negotiated.source.stats().leased), (0, 0));
        assert!(!is_readable(&negotiated.encoder), "after the end");
    });
}

#[test]
fn test_pattern_replaces_a_camera() {
    let Some(encoder) = h264("") else { return };
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALLER).interval(FrameInterval::from_fps(60));
        let negotiation = |size| {
            let pattern = TestPattern::builder(size);
            Negotiation::new(params.clone()).encoder(encoder.clone()).test_pattern(pattern).open().unwrap()
        };
        let mut negotiated = negotiation(SMALLER);
        assert!(packets(&mut negotiated, 5).0[0].is_key() && negotiated.encoder.converter().is_none());
        drop(negotiated);
        // A pattern of another size is scaled.
        if framelease::v4l2::Device::find(|d| d.driver == "fl_scaler").is_ok() {
            let mut negotiated = negotiation(SMALL);
            assert!(packets(&mut negotiated, 5).0[0].is_key() && negotiated.encoder.converter().is_some());
        }
    });
}

/// Encodes the frames of a pool, which may be a subscriber's. Returns the converter's name and the number of packets.
fn encoded_from(pool: &Pool, encoder: framelease::v4l2::Device) -> (Option<String>, usize) {
    let params = params(Codec::H264, pool.buffers().layout().size());
    let mut chain = Negotiation::new(params).encoder(encoder).open_for(pool.buffers()).unwrap();
    let mut packets = 0;
    for sequence in 0..5 {
        let mut frame = pool.acquire(WAIT).expect("a free buffer");
        let bytes = vec![100; frame.layout().memory_bytes()[0] as usize];
        frame.write(WAIT).unwrap().copy_payload(0, &bytes).unwrap();
        assert!(chain.submit(frame.freeze_full(sequence, sequence * 33_333_333), WAIT).unwrap().is_taken());
        while let Received::Item(EncoderEvent::Packet(_)) = chain.recv(Duration::from_millis(200)).unwrap() {
            packets += 1;
        }
    }
    // A slow machine has the last ones later.
    while packets < 5 && matches!(chain.recv(WAIT).unwrap(), Received::Item(EncoderEvent::Packet(_))) {
        packets += 1;
    }
    (chain.converter().map(str::to_owned), packets)
}

#[test]
fn open_for_encodes_the_frames_of_a_pool() {
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    let pool = Pool::new(&Allocator::Udmabuf, packed("NV12", SMALL), 4).unwrap();
    let Some(encoder) = h264("") else { return };
    leaving_nothing(|| assert_eq!(encoded_from(&pool, encoder), (None, 5)));
    // An encoder that reads rows of another length.
    let Some(encoder) = h264("align=256") else { return };
    leaving_nothing(|| {
        let (between, packets) = encoded_from(&pool, encoder);
        assert!(between.is_some_and(|name| name.starts_with("m2m")), "a converter");
        assert_eq!(packets, 5);
    });
    assert_eq!(pool.buffers().leased(), 0);
}

#[test]
fn negotiation_tries_the_next_format_if_the_encoder_refuses_one() {
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    let Some(encoder) = h264("align=256") else { return };
    let pool = Pool::new(&Allocator::Udmabuf, packed("NV12", SMALL), 4).unwrap();
    // Two for the frames as they are, one for the list of formats, and the first of the list.
    let fault = Fault { kind: b'V', number: 64, nth: 4, errno: Errno::EINVAL };
    let negotiation = Negotiation::new(params(Codec::H264, SMALL)).encoder(encoder);
    let chain = ioctls::with(fault, || negotiation.open_for(pool.buffers())).unwrap();
    assert!(chain.converter().is_some());
    assert_eq!(chain.encoder().layout().fourcc(), FourCc::NV12M);
}

#[test]
fn negotiation_error_has_the_reason_of_each_device() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Single), h264("")) else { return };
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALLER);
        let wishes = Camera::builder().device(camera).formats([fourcc("GREY")]).size(SMALLER);
        let e = Negotiation::new(params).encoder(encoder).camera(wishes).open().unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Mismatch), "{e}");
        assert!(e.to_string().contains("GREY") && e.to_string().contains("no backend converts this"), "{e}");
    });
}

/// A program that is killed when its test ends.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn running(name: &str, args: &[&str]) -> Option<Running> {
    let mut command = Command::new(example(name)?);
    Some(Running(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()))
}

/// Receives frames of a service until there are enough. Waits while the service restarts.
fn received(subscriber: &mut Subscriber, enough: usize) {
    let (start, mut frames) = (Instant::now(), HashSet::new());
    while frames.len() < enough {
        assert!(start.elapsed() < Duration::from_secs(30), "{} frames", frames.len());
        if let Received::Item(SubscriberEvent::Frame(frame)) = subscriber.recv(Duration::from_secs(1)).unwrap() {
            frames.insert(frame.meta().sequence);
        }
    }
}

#[test]
fn first_programs_survive_dead_consumers_and_restarts() {
    if vivid(Planar::Single).is_none() {
        return;
    }
    for name in ["camera_service", "event_loop"] {
        let folder = std::env::temp_dir().join(format!("framelease-first-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("socket");
        let path = socket.to_str().unwrap();
        let Some(service) = running(name, &[path]) else { return };
        let builder = Subscriber::builder(&socket).reconnect(Reconnect::Always);
        let mut subscriber = builder.connect(Duration::from_secs(20)).unwrap();
        received(&mut subscriber, 10);
        // A consumer that dies, and one that is stopped, do not block the others.
        let dies = running("camera_consumer", &[path]).unwrap();
        let stops = running("camera_consumer", &[path]).unwrap();
        received(&mut subscriber, 10);
        kill(Pid::from_raw(stops.0.id() as i32), Signal::SIGSTOP).unwrap();
        drop(dies);
        received(&mut subscriber, 20);
        drop(stops);
        // The service dies and is started again. The subscriber reconnects.
        drop(service);
        let again = running(name, &[path]).unwrap();
        received(&mut subscriber, 10);
        drop((again, subscriber));
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[test]
fn camera_node_shares_records_and_serves() {
    let (Some(_), Some(_)) = (vivid(Planar::Multi), h264("")) else { return };
    let folder = std::env::temp_dir().join(format!("framelease-first-node-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (socket, file) = (folder.join("socket"), folder.join("camera.mkv"));
    let rtsp = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let args = [socket.to_str().unwrap(), &rtsp.to_string(), file.to_str().unwrap()];
    let Some(_node) = running("camera_node", &args) else { return };
    let builder = Subscriber::builder(&socket).reconnect(Reconnect::Always);
    let mut subscriber = builder.connect(Duration::from_secs(20)).unwrap();
    received(&mut subscriber, 20);
    let mut client = crate::client::Client::connect(rtsp);
    let session = client.setup("RTP/AVP/TCP;unicast;interleaved=0-1").session();
    assert_eq!(client.ask("PLAY", "/live", &format!("Session: {session}\r\n")).status, 200);
    assert!(!client.read_packets(20).is_empty());
    received(&mut subscriber, 20);
    let recorded = std::fs::read_dir(&folder).unwrap().flatten().any(|entry| {
        entry.path().extension().is_some_and(|e| e == "mkv") && entry.metadata().is_ok_and(|meta| meta.len() > 1000)
    });
    assert!(recorded, "no file grows");
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn camera_recorder_records_another_process_over_its_restart() {
    let (Some(_), Some(_)) = (vivid(Planar::Single), h264("")) else { return };
    let folder = std::env::temp_dir().join(format!("framelease-first-recorder-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (socket, file) = (folder.join("socket"), folder.join("camera.mkv"));
    let bytes = || {
        let files = std::fs::read_dir(&folder).unwrap().flatten();
        let recordings = files.filter(|entry| entry.path().extension().is_some_and(|end| end == "mkv"));
        recordings.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum::<u64>()
    };
    let until_grown = |before: u64| {
        let start = Instant::now();
        while bytes() < before + 1000 {
            assert!(start.elapsed() < Duration::from_secs(30), "{} bytes, {before} before", bytes());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let Some(service) = running("camera_service", &[socket.to_str().unwrap()]) else { return };
    let args = [socket.to_str().unwrap(), "127.0.0.1:0", file.to_str().unwrap()];
    let Some(_recorder) = running("camera_recorder", &args) else { return };
    until_grown(0);
    drop(service);
    // What was in flight. Then nothing more comes.
    std::thread::sleep(Duration::from_secs(1));
    let before = bytes();
    // The next publisher has other buffers, and the encoder is opened for them.
    let Some(_service) = running("camera_service", &[socket.to_str().unwrap()]) else { return };
    until_grown(before);
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn camera_service_names_a_path_that_it_cannot_bind() {
    let (Some(_), Some(program)) = (vivid(Planar::Single), example("camera_service")) else { return };
    let out = ended(start(program.to_str().unwrap(), &["/nonexistent/folder/socket"]));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("/nonexistent/folder"), "{text}");
}

#[test]
fn camera_service_survives_an_unplugged_camera() {
    if vivid(Planar::Single).is_none() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("framelease-first-unplug-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("socket");
    let Some(_service) = running("camera_service", &[socket.to_str().unwrap()]) else { return };
    let builder = Subscriber::builder(&socket).reconnect(Reconnect::Always);
    let mut subscriber = builder.connect(Duration::from_secs(20)).unwrap();
    received(&mut subscriber, 10);
    let driver = std::path::Path::new("/sys/bus/platform/drivers/vivid");
    std::fs::write(driver.join("unbind"), "vivid.0").unwrap();
    // Frames that were in flight. Then no more come, while the service continues to run.
    let start = Instant::now();
    while subscriber.recv(Duration::from_millis(500)).unwrap().frame().is_some() {
        assert!(start.elapsed() < Duration::from_secs(10), "frames of a camera that is gone");
    }
    std::fs::write(driver.join("bind"), "vivid.0").unwrap();
    received(&mut subscriber, 20);
    let _ = std::fs::remove_dir_all(folder);
}
