//! Tests of encoders with a camera as the source. The frames that ffmpeg decodes from fl_h264's streams equal the
//! camera's frames byte for byte; the lab decodes them on the host after the run. Those that vicodec decodes are
//! similar.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::bitstream::{Codec, NalKind};
use framelease::capture::FrameSource;
use framelease::codec::{
    Encoder, EncoderEvent, HeaderMode, Level, Outcome, Params, Profile, RateMode, Setting, Switch,
};
use framelease::dmabuf::Allocator;
use framelease::format::{ColorSpace, Colorimetry, FrameInterval, Layout, Size};
use framelease::frame::{Frame, FrameFlags, Overflow, Packet, PacketFanout, Pool, QueueCapacity};
use framelease::replay::{FrameReplay, FrameStore};
use framelease::sink::matroska::Writer;
use framelease::sink::{WriterOptions, Written};
use framelease::stats::{cpu_bytes, syscalls};
use framelease::v4l2::{Direction, Resumed};
use framelease::ErrorKind;
use framelease::{Received, Station, Submit};
use nix::errno::Errno;

use crate::allocations;
use crate::coding::*;
use crate::devices::*;
use crate::ioctls::{self, Fault};

/// A pool of pictures, for an encoder without a camera.
pub fn pool(format: &str, size: Size, count: usize) -> Option<Pool> {
    needed_path("udmabuf", "/dev/udmabuf")?;
    Some(Pool::new(&Allocator::Udmabuf, packed(format, size), count).unwrap())
}

const TINY: Size = Size::new(64, 48);

/// A picture of one brightness.
pub fn grey(pool: &Pool, number: u64) -> Frame {
    picture(pool, number, |_, _| 0)
}

/// A picture with the pixels of `texture`, a little brighter from number to number.
fn picture(pool: &Pool, number: u64, texture: impl Fn(u32, u32) -> u8) -> Frame {
    let mut frame = pool.acquire(WAIT).expect("a free buffer");
    let layout = *frame.layout();
    let mut write = frame.write(WAIT).unwrap();
    for plane in 0..layout.planes().len() {
        for y in 0..layout.rows(plane) {
            let pixel = |x| if plane == 0 { texture(x, y).wrapping_add(number as u8) } else { 128 };
            let row: Vec<u8> = (0..layout.row_bytes(plane)).map(pixel).collect();
            write.copy_row(plane, y, &row).unwrap();
        }
    }
    drop(write);
    frame.freeze_full(number, number * 1_000_000)
}

pub fn tiny_pool() -> Option<Pool> {
    pool("NV12", TINY, 4)
}

pub fn tiny_encoder(parameters: &str, params: Params) -> Option<(Encoder, Pool)> {
    let (device, pool) = (h264(parameters)?, tiny_pool()?);
    let encoder = Encoder::builder(params).device(device).open(pool.buffers()).unwrap();
    Some((encoder, pool))
}

pub fn tiny() -> Params {
    params(Codec::H264, TINY)
}

#[test]
fn packets_name_the_fields_of_their_frames() {
    let Some((mut encoder, pool)) = tiny_encoder("", tiny()) else { return };
    let interlaced = FrameFlags::INTERLACED;
    let all = [interlaced, interlaced | FrameFlags::BOTTOM_FIRST, FrameFlags::TOP_FIELD, FrameFlags::BOTTOM_FIELD];
    for (number, flags) in (0..).zip([FrameFlags::default()].into_iter().chain(all)) {
        let frame = grey(&pool, number);
        let mut meta = *frame.meta();
        meta.flags = flags;
        let packet = coded(&mut encoder, frame.with_meta(meta));
        let seen = all.into_iter().rfind(|fields| packet.meta().flags.contains(*fields));
        assert_eq!(seen.unwrap_or_default(), flags);
    }
}

/// The lab compares the stream with the frames of the replay.
#[test]
fn encoder_takes_a_replay_in_the_place_of_a_camera() {
    let size = Size::new(320, 180);
    let (Some(device), Some(pool)) = (h264(""), pool("NV12", size, 6)) else { return };
    let path = std::env::temp_dir().join("replay.frames");
    let mut store = FrameStore::create(&path).unwrap();
    for number in 0..6 {
        store.write(&picture(&pool, number * 2, |x, y| (x * 3 + y) as u8)).unwrap();
    }
    store.finish().unwrap();
    let mut replay = FrameReplay::builder(&path).allocator(Allocator::Udmabuf).open().unwrap();
    let builder = Encoder::builder(params(Codec::H264, size)).device(device);
    let mut encoder = builder.open(replay.buffers().unwrap()).unwrap();
    let mut judge = Judged::new("replay");
    for number in 0..6 {
        let frame = replay.recv(WAIT).unwrap().frame().unwrap();
        judge.frame(&frame);
        let meta = *frame.meta();
        let packet = coded(&mut encoder, frame);
        assert_eq!((packet.meta().timestamp_ns, packet.meta().source), (meta.timestamp_ns, Some(number * 2)));
        judge.packet(&packet);
    }
    assert!(replay.recv(WAIT).unwrap().is_ended());
    std::fs::remove_file(path).unwrap();
}

/// Encodes twelve frames of a camera. Every fourth is a key frame, and one more is forced. The streams are compared
/// with the frames.
pub fn encodes(planar: Planar, parameters: &str, format: &str) {
    let (Some(camera), Some(device)) = (vivid(planar), h264(parameters)) else { return };
    leaving_nothing(|| {
        let (mut camera, mut encoder, agreement) = pair(&camera, device, params(Codec::H264, SMALL), &[fourcc(format)]);
        assert_eq!((agreement.source, agreement.size), (*camera.layout().unwrap(), SMALL));
        let words = parameters.replace(' ', "-");
        let mut judge = Judged::new(&format!("{planar:?}-{format}-{words}"));
        for i in 0..12u64 {
            let frame = frame(&mut camera);
            judge.frame(&frame);
            if i == 6 {
                encoder.force_key().unwrap();
            }
            let (before, meta) = (cpu_bytes(), *frame.meta());
            let packet = coded(&mut encoder, frame);
            assert_eq!(cpu_bytes(), before, "encoding touches no pixel");
            assert_eq!((packet.meta().timestamp_ns, packet.meta().source), (meta.timestamp_ns, Some(meta.sequence)));
            assert_eq!((packet.meta().sequence, packet.meta().size), (i, SMALL));
            let is_key = [0, 4, 6, 10].contains(&i);
            assert_eq!(packet.is_key(), is_key, "packet {i}");
            assert!(packet.is_leased());
            let sets = packet.parameter_sets().expect("the first packet has parameter sets");
            assert_eq!(sets.of(NalKind::Sps).count(), 1);
            let first = if packet.carries_parameters() { "spI" } else { "I" };
            assert_eq!(
                units(&packet),
                if i == 0 {
                    first
                } else if is_key {
                    "I"
                } else {
                    "P"
                }
            );
            assert_eq!(packet.picture()[..4], [0, 0, 0, 1]);
            judge.packet(&packet);
        }
        assert!(drained(&mut encoder).is_empty());
        let stats = encoder.stats();
        assert_eq!((stats.frames, stats.packets, stats.keys, stats.errors), (12, 12, 4, 0));
        assert_eq!((stats.in_flight, stats.leased, stats.refused), (0, 0, 0));
        drop((encoder, camera));
    });
}

#[test]
fn encoder_keeps_the_camera_s_frames_whole() {
    encodes(Planar::Single, "", "NV12");
}

#[test]
fn packets_are_leased_to_a_recording_and_a_slow_consumer() {
    let (Some(camera), Some(device)) = (vivid(Planar::Multi), h264("")) else { return };
    leaving_nothing(|| {
        let (mut camera, mut encoder, _) = pair(&camera, device, params(Codec::H264, SMALL), &[fourcc("NV12")]);
        let folder = Judged::folder();
        let mut raw = std::fs::File::create(folder.join("recorded.nv12")).unwrap();
        let mut writer = Writer::create(folder.join("recorded.mkv"), WriterOptions::default()).unwrap();
        let mut fanout = PacketFanout::new();
        let mut recording = fanout.attach(QueueCapacity::default()).unwrap();
        let _stopped = fanout.attach(QueueCapacity::new(2, 1 << 20, Overflow::DropNew)).unwrap();
        for _ in 0..10 {
            let frame = frame(&mut camera);
            raw.write_all(&pixels(&frame)).unwrap();
            let before = cpu_bytes();
            fanout.push(&coded(&mut encoder, frame));
            let Some(packet) = recording.try_recv().unwrap().item() else { panic!("a packet") };
            assert!(packet.is_leased(), "packets are not copied for a consumer that keeps up");
            assert_eq!(writer.write(&packet).unwrap(), Written::Stored);
            assert_eq!(cpu_bytes(), before, "camera to file touches no pixel");
        }
        assert_eq!(writer.finish().unwrap().packets, 10);
        drop((fanout, recording, encoder, camera));
    });
}

#[test]
fn encoder_single_planar_without_key_flags_does_the_same() {
    encodes(Planar::Single, "multiplanar=0 key_flags=0", "NV12");
    encodes(Planar::Multi, "multiplanar=0", "NV12");
}

#[test]
fn parameter_sets_in_their_own_buffer_come_with_packet_1() {
    let Some((mut encoder, pool)) = tiny_encoder("", tiny().require(Setting::HeaderMode(HeaderMode::Separate))) else {
        return;
    };
    let first = coded(&mut encoder, grey(&pool, 1));
    assert!(first.is_key() && !first.carries_parameters() && units(&first) == "I");
    let sets = Arc::clone(first.parameter_sets().unwrap());
    assert_eq!(encoder.parameter_sets(), Some(&sets));
    assert_eq!(sets.of(NalKind::Pps).count(), 1);
    assert_eq!((first.meta().sequence, encoder.stats().packets), (0, 1), "headers are not a packet");
    // Repeated parameter sets are the same, and in the key frame's own buffer.
    let Ok(Outcome::Exact) = encoder.apply(Setting::RepeatHeaders(Switch::On)) else { panic!("repeats") };
    encoder.force_key().unwrap();
    let again = coded(&mut encoder, grey(&pool, 2));
    assert_eq!((units(&again).as_str(), again.carries_parameters()), ("spI", true));
    assert!(Arc::ptr_eq(again.parameter_sets().unwrap(), &sets));
}

#[test]
fn drain_gives_every_frame_and_the_stream_continues() {
    let Some((mut encoder, pool)) = tiny_encoder("", tiny()) else { return };
    leaving_nothing(|| {
        assert_eq!(encoder.drain().unwrap_err().kind(), ErrorKind::State, "there is nothing to drain");
        assert!(encoder.try_recv().unwrap().is_nothing() && !is_readable(&encoder));
        for i in 0..3 {
            encoder.try_submit(grey(&pool, i)).taken();
        }
        let packets = drained(&mut encoder);
        assert_eq!(packets.iter().map(|p| p.meta().source).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
        assert_eq!(packets.iter().map(units).collect::<String>(), "spIPP");
        assert_eq!((pool.buffers().leased(), is_readable(&encoder)), (0, false));
        // A frame that is submitted after the end waits, and the end was reported.
        encoder.try_submit(grey(&pool, 3)).taken();
        assert_eq!(encoder.recv(Duration::from_millis(50)).unwrap_err().kind(), ErrorKind::State);
        assert!(!is_readable(&encoder));
        assert_eq!(encoder.resume().unwrap(), Resumed::Continued);
        assert_eq!(units(&packet(&mut encoder).unwrap()), "P", "neither headers nor a key frame");
        drop(encoder);
    });
}

#[test]
fn drain_starts_a_new_stream_if_the_driver_cannot_resume() {
    let Some((mut encoder, pool)) = tiny_encoder("broken_start=1", tiny()) else { return };
    coded(&mut encoder, grey(&pool, 0));
    assert!(drained(&mut encoder).is_empty());
    assert_eq!(encoder.resume().unwrap(), Resumed::Restarted);
    assert!(encoder.parameter_sets().is_none());
    let packet = coded(&mut encoder, grey(&pool, 1));
    assert_eq!((units(&packet), packet.meta().sequence), ("spI".into(), 1));
}

/// A picture that changes little from frame to frame: vicodec codes flat pictures as key frames.
fn textured(pool: &Pool, number: u64) -> Frame {
    picture(pool, number, |x, y| (x.wrapping_mul(37) ^ y.wrapping_mul(11)) as u8 & 63)
}

/// vicodec answers EPIPE forever after its own START. The library begins a new stream.
fn vicodec_resumes_and_resets(planar: Planar) {
    let size = Size::new(640, 368);
    let (Some(device), Some(pool)) = (fwht(planar), pool("NV12", size, 4)) else { return };
    leaving_nothing(|| {
        // Its own GOP would give the next key frame at 10.
        let mut encoder = Encoder::builder(Params::new(Codec::Fwht, size)).device(device).open(pool.buffers()).unwrap();
        for i in 0..3 {
            encoder.try_submit(textured(&pool, i)).taken();
        }
        let packets = drained(&mut encoder);
        let about = |p: &Packet| (p.meta().source, p.is_key());
        assert_eq!(
            packets.iter().map(about).collect::<Vec<_>>(),
            [(Some(0), true), (Some(1), false), (Some(2), false)]
        );
        assert_eq!(encoder.resume().unwrap(), Resumed::Restarted);
        assert_eq!(about(&coded(&mut encoder, textured(&pool, 3))), (Some(3), true));
        assert_eq!(about(&coded(&mut encoder, textured(&pool, 4))), (Some(4), false));
        encoder.reset().unwrap();
        assert_eq!(about(&coded(&mut encoder, textured(&pool, 5))), (Some(5), true));
        // vicodec does not have this control.
        assert_eq!(encoder.force_key().unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(matches!(encoder.apply(Setting::Gop(2)).unwrap(), Outcome::Exact));
        assert!(matches!(encoder.apply(Setting::InterQp(40)).unwrap(), Outcome::Adjusted(_) | Outcome::Exact));
        drop((packets, encoder));
    });
}

#[test]
fn encoder_resumes_and_resets_vicodec_single_planar() {
    vicodec_resumes_and_resets(Planar::Single);
}

#[test]
fn encoder_resumes_and_resets_vicodec_multi_planar() {
    vicodec_resumes_and_resets(Planar::Multi);
}

#[test]
fn reset_begins_a_new_stream() {
    let Some((mut encoder, pool)) = tiny_encoder("", tiny()) else { return };
    assert_eq!(encoder.reset().unwrap_err().kind(), ErrorKind::State);
    coded(&mut encoder, grey(&pool, 0));
    assert_eq!(units(&coded(&mut encoder, grey(&pool, 1))), "P");
    encoder.reset().unwrap();
    assert_eq!(units(&coded(&mut encoder, grey(&pool, 2))), "spI", "a new stream");
}

#[test]
fn drain_gives_frames_that_the_driver_held_back() {
    let Some((mut encoder, pool)) = tiny_encoder("delay=3 min_buffers=3", tiny()) else { return };
    for i in 0..3 {
        encoder.try_submit(grey(&pool, i)).taken();
    }
    assert!(encoder.recv(Duration::from_millis(100)).unwrap().is_nothing());
    let first = coded(&mut encoder, grey(&pool, 3));
    assert_eq!(first.meta().source, Some(0));
    assert_eq!(drained(&mut encoder).iter().map(|p| p.meta().source).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
}

#[test]
fn drain_ends_in_every_state_of_the_driver() {
    let Some((mut encoder, pool)) = tiny_encoder("pause=200", tiny()) else { return };
    // Before the driver has released the source, between that and the packet, and after both.
    for (number, late) in [(0, 100), (1, 300), (2, 600)] {
        encoder.try_submit(grey(&pool, number)).taken();
        std::thread::sleep(Duration::from_millis(late));
        let sources: Vec<_> = drained(&mut encoder).iter().map(|p| p.meta().source).collect();
        assert_eq!(sources, [Some(number)], "drained {late} ms later");
        assert_eq!(encoder.resume().unwrap(), Resumed::Continued);
    }
}

#[test]
fn drain_that_a_driver_misses_is_ended_by_a_reset() {
    // A busy machine may let the driver finish both frames before the drain. The driver then does not miss it.
    let missed = (0..20).find_map(|_| {
        let (mut encoder, pool) = tiny_encoder("misses_drain=1", tiny())?;
        encoder.try_submit(grey(&pool, 0)).taken();
        encoder.try_submit(grey(&pool, 1)).taken();
        encoder.drain().unwrap();
        assert_eq!([0, 1].map(|_| packet(&mut encoder).unwrap().meta().source), [Some(0), Some(1)]);
        encoder.recv(Duration::from_millis(100)).unwrap().is_nothing().then_some((encoder, pool))
    });
    let Some((mut encoder, pool)) = missed else {
        assert!(h264("").is_none(), "the driver misses no drain");
        return;
    };
    assert_eq!((encoder.stats().in_flight, pool.buffers().leased()), (0, 0));
    assert_eq!(encoder.drain().unwrap_err().kind(), ErrorKind::Busy);
    encoder.reset().unwrap();
    assert_eq!(units(&coded(&mut encoder, grey(&pool, 2))), "spI");
}

#[test]
fn damaged_buffers_are_packets_and_the_stream_continues() {
    let Some((mut encoder, pool)) = tiny_encoder("error_every=3", tiny()) else { return };
    let packets: Vec<_> = (0..7).map(|i| coded(&mut encoder, grey(&pool, i)).detach()).collect();
    let damaged: Vec<bool> = packets.iter().map(|p| p.meta().flags.contains(FrameFlags::ERROR)).collect();
    assert_eq!(damaged, [false, false, true, false, false, true, false]);
    assert!(packets[3].is_key(), "the driver starts a new stream");
    assert_eq!(encoder.stats().errors, 2);
    assert!(packets.iter().map(|p| p.meta().source).eq((0..7).map(Some)), "a damaged packet also names its frame");
}

/// As with a rate control that skips frames: the other packets keep the number and time of their frames.
#[test]
fn source_of_a_packet_is_right_after_a_frame_without_one() {
    let Some((device, pool)) = h264("drop_every=3").zip(pool("NV12", TINY, 8)) else { return };
    let mut encoder = Encoder::builder(tiny()).device(device).open(pool.buffers()).unwrap();
    let sources = |packets: &[Packet]| packets.iter().map(|p| p.meta().source.unwrap()).collect::<Vec<_>>();
    leaving_nothing(|| {
        (0..7).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
        let packets = drained(&mut encoder);
        assert_eq!(sources(&packets), [0, 1, 3, 4, 6]);
        assert!(packets.iter().all(|p| p.meta().timestamp_ns == p.meta().source.unwrap() * 1_000_000));
        assert!(packets.iter().map(|p| p.meta().sequence).eq(0..5), "packets are counted, not frames");
        assert_eq!((encoder.stats().in_flight, pool.buffers().leased()), (0, 0));
        // Outside a drain, the wait times out, and the buffer comes back.
        assert_eq!(encoder.resume().unwrap(), Resumed::Continued);
        (7..9).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
        assert_eq!(packet(&mut encoder).unwrap().meta().source, Some(7));
        let start = Instant::now();
        while encoder.stats().in_flight > 0 {
            assert!(start.elapsed() < WAIT);
            assert!(encoder.recv(Duration::from_millis(10)).unwrap().is_nothing());
        }
        assert_eq!(pool.buffers().leased(), 0);
        drop(encoder);
    });
    // With a delay, the dropped frame is the last of the drain. The drain ends with an empty buffer, which is not a
    // packet.
    let Some((mut encoder, pool)) = tiny_encoder("drop_every=3 delay=2", tiny()) else { return };
    (0..3).for_each(|i| encoder.try_submit(grey(&pool, i)).taken());
    assert_eq!(sources(&drained(&mut encoder)), [0, 1]);
    assert_eq!((encoder.stats().in_flight, pool.buffers().leased()), (0, 0));
}

#[test]
fn damaged_empty_packet_replaces_a_picture_that_does_not_fit() {
    let Some(pool) = pool("NV12", TINY, 4) else { return };
    let Some(device) = h264("tight=1") else { return };
    // Uncompressed, a picture of zeros has half as many bytes again, because no zeros may look like a start code.
    let room = 64 * 48 * 3 / 2 + 512;
    let params = tiny().packet_bytes(room);
    let mut encoder = Encoder::builder(params).device(device.clone()).open(pool.buffers()).unwrap();
    assert_eq!(device.format(Direction::Capture).unwrap().memory_bytes()[0], room);
    let black = 256;
    let packets: Vec<_> = [1, black, 2].map(|i| coded(&mut encoder, grey(&pool, i)).detach()).into();
    let about = |p: &Packet| (p.bytes().is_empty(), p.meta().flags.contains(FrameFlags::ERROR), p.is_key());
    assert_eq!(
        packets.iter().map(about).collect::<Vec<_>>(),
        [(false, false, true), (true, true, false), (false, false, true)]
    );
    assert!(drained(&mut encoder).is_empty());
    assert_eq!((encoder.stats().packets, encoder.stats().errors, pool.buffers().leased()), (3, 1, 0));
}

#[test]
fn packet_buffers_have_the_requested_size() {
    let Some((device, pool)) = h264("").zip(pool("NV12", Size::new(640, 480), 2)) else { return };
    // fl_h264 raises a size that is too small, and accepts a larger one.
    for bytes in [1, 4 << 20] {
        let params = params(Codec::H264, Size::new(640, 480)).packet_bytes(bytes);
        let mut encoder = Encoder::builder(params).device(device.clone()).open(pool.buffers()).unwrap();
        let has = device.format(Direction::Capture).unwrap().memory_bytes()[0];
        assert!(has >= bytes && has >= 640 * 480 * 3 / 2, "{has}");
        assert!(!coded(&mut encoder, grey(&pool, 0)).meta().flags.contains(FrameFlags::ERROR));
    }
}

#[test]
fn settings_are_applied_adjusted_missing_or_required() {
    let wishes = tiny()
        .interval(FrameInterval::from_fps(25))
        .wish(Setting::BitrateBps(1))
        .wish(Setting::Profile(Profile::Main))
        .wish(Setting::Level(Level::new(4, 1)))
        .wish(Setting::RateMode(RateMode::Constant))
        .wish(Setting::Profile(Profile::High));
    let Some((mut encoder, pool)) = tiny_encoder("", wishes) else { return };
    let outcome = |encoder: &Encoder, wanted: Setting| {
        let all = encoder.applied();
        all.iter().find(|a| a.setting == wanted).unwrap_or_else(|| panic!("{wanted:?} in {all:?}")).outcome.clone()
    };
    assert!(matches!(outcome(&encoder, Setting::BitrateBps(1)), Outcome::Adjusted(10_000)));
    assert!(matches!(outcome(&encoder, Setting::Gop(4)), Outcome::Exact));
    assert!(matches!(outcome(&encoder, Setting::Level(Level::new(4, 1))), Outcome::Exact));
    assert!(matches!(outcome(&encoder, Setting::RateMode(RateMode::Constant)), Outcome::Missing));
    let Outcome::Refused(e) = outcome(&encoder, Setting::Profile(Profile::High)) else { panic!("High is not offered") };
    assert!(e.to_string().contains("Constrained Baseline"), "{e}");
    assert_eq!(encoder.interval(), Some(FrameInterval::from_fps(25)));
    let packet = coded(&mut encoder, grey(&pool, 0));
    let sps = packet.parameter_sets().unwrap().of(NalKind::Sps).next().unwrap();
    assert_eq!(sps[3], 41, "level_idc");
    let narrow = sps.to_vec();
    // While the encoder runs.
    assert!(matches!(encoder.apply(Setting::BitrateBps(5_000_000)).unwrap(), Outcome::Exact));
    assert!(matches!(encoder.apply(Setting::BFrames(2)).unwrap(), Outcome::Missing));
    drop((packet, encoder));

    let colors = Colorimetry { space: ColorSpace::Bt2020, ..Colorimetry::default() };
    let builder =
        Encoder::builder(tiny().colorimetry(colors).wish(Setting::Level(Level::new(4, 1)))).device(h264("").unwrap());
    let mut encoder = builder.open(pool.buffers()).unwrap();
    let packet = coded(&mut encoder, grey(&pool, 0));
    let sps = packet.parameter_sets().unwrap().of(NalKind::Sps).next().unwrap();
    assert_ne!(sps, narrow, "the parameter sets have the colors");
    drop((packet, encoder));

    for (required, kind) in [
        (Setting::RateMode(RateMode::Constant), ErrorKind::Unsupported),
        (Setting::BitrateBps(1), ErrorKind::InvalidArgument),
        (Setting::Profile(Profile::High), ErrorKind::InvalidArgument),
    ] {
        let builder = Encoder::builder(tiny().require(required)).device(h264("").unwrap());
        let e = builder.open(pool.buffers()).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains("required") && e.to_string().contains("fl_h264"), "{e}");
    }
}

#[test]
fn reconfigure_changes_stream_and_size_after_a_drain() {
    let (Some((mut encoder, first)), Some(second)) = (tiny_encoder("", tiny()), pool("NV12M", Size::new(128, 96), 3))
    else {
        return;
    };
    leaving_nothing(|| {
        let held = coded(&mut encoder, grey(&first, 7));
        let bytes = held.bytes().to_vec();
        assert!(drained(&mut encoder).is_empty());
        encoder.try_submit(grey(&first, 8)).taken();
        let larger = params(Codec::H264, Size::new(128, 96));
        let back = encoder.reconfigure(larger, second.buffers()).unwrap();
        assert_eq!(back.len(), 1, "the frame that was not encoded comes back");
        // A frame of the old size no longer fits.
        let rejected = encoder.try_submit(back.into_iter().next().unwrap()).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::Mismatch, "{}", rejected.error);
        drop(rejected);
        let packet = coded(&mut encoder, grey(&second, 9));
        assert_eq!((packet.meta().size, packet.meta().sequence), (Size::new(128, 96), 1));
        assert_eq!(units(&packet), "spI");
        assert_eq!(held.bytes(), bytes, "old packets stay valid");
        // If the device does not support the stream, the encoder must be configured again.
        let e = encoder.reconfigure(params(Codec::Vp8, TINY), first.buffers()).unwrap_err();
        assert_eq!(e.error.kind(), ErrorKind::Unsupported, "{}", e.error);
        assert_eq!(encoder.try_submit(grey(&first, 1)).unwrap_err().error.kind(), ErrorKind::State);
        encoder.reconfigure(tiny(), first.buffers()).unwrap();
        assert_eq!(coded(&mut encoder, grey(&first, 2)).meta().source, Some(2));
        drop((packet, held, encoder));
    });
}

#[test]
fn encoder_frames_allocate_attach_and_touch_nothing() {
    let Some((mut encoder, pool)) = tiny_encoder("", tiny().wish(Setting::Gop(30))) else { return };
    let frames: Vec<Frame> = (0..4).map(|i| grey(&pool, i)).collect();
    let mut round = |count: usize| {
        for i in 0..count {
            encoder.try_submit(frames[i % 4].clone()).taken();
            drop(packet(&mut encoder));
        }
    };
    // Each buffer is mapped and attached once.
    round(24);
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (allocations::of_this_thread(), cpu_bytes(), fds(), dma_bufs());
    let calls = syscalls();
    let attached = calls_of(ATTACH, || round(1000));
    let after = (allocations::of_this_thread(), cpu_bytes(), fds(), dma_bufs());
    // The probe allocates memory; nothing else does. So this runs once more without it.
    assert_eq!((after.1, after.2, after.3), (before.1, before.2, before.3));
    assert_eq!(attached.unwrap_or(0), 0, "no buffer is attached again");
    let before = allocations::of_this_thread();
    round(100);
    assert_eq!(allocations::of_this_thread(), before);
    // QBUF twice, DQBUF twice, and one or two polls.
    assert!((syscalls() - calls) <= 8 * 1100, "{} calls", syscalls() - calls);
}

#[test]
fn fanout_is_not_delayed_by_a_slow_sink() {
    let Some((mut encoder, pool)) = tiny_encoder("", tiny()) else { return };
    leaving_nothing(|| {
        let mut fanout = PacketFanout::new();
        let mut fast = fanout.attach(QueueCapacity::default()).unwrap();
        let mut file = fanout.attach(QueueCapacity::new(10, 1 << 20, Overflow::DropNew)).unwrap();
        let mut live = fanout.attach(QueueCapacity::new(10, 1 << 20, Overflow::DropWaiting)).unwrap();
        let got = |tap: &mut framelease::frame::PacketReceiver| {
            std::iter::from_fn(|| tap.try_recv().unwrap().item()).map(|p| p.meta().sequence).collect::<Vec<_>>()
        };
        let mut all = Vec::new();
        for i in 0..50 {
            fanout.push(&coded(&mut encoder, grey(&pool, i)));
            all.extend(got(&mut fast));
        }
        assert_eq!(all, (0..50).collect::<Vec<_>>(), "a sink that keeps up gets every packet");
        assert_eq!(fast.dropped(), 0);
        // One packet of each sink is the encoder's buffer. The others were copied.
        assert!(encoder.stats().leased <= 2 && fanout.copied_bytes() > 0, "{:?}", encoder.stats());
        assert_eq!(got(&mut file), (0..10).collect::<Vec<_>>());
        assert_eq!(file.dropped(), 40);
        let fresh = got(&mut live);
        assert_eq!((fresh[0] % 4, *fresh.last().unwrap()), (0, 49), "from a key frame on: {fresh:?}");
        assert_eq!(live.dropped() + fresh.len() as u64, 50);
        // Both continue with a key frame.
        for i in 50..56 {
            fanout.push(&coded(&mut encoder, grey(&pool, i)));
        }
        assert_eq!(got(&mut file), [52, 53, 54, 55]);
        drop((fanout, fast, file, live, encoder));
    });
}

#[test]
fn encoder_stops_while_sinks_hold_every_packet() {
    let Some((mut encoder, pool)) = tiny_encoder("", tiny().packet_buffers(3)) else { return };
    let mut held: Vec<_> = (0..3).map(|i| coded(&mut encoder, grey(&pool, i))).collect();
    encoder.try_submit(grey(&pool, 3)).taken();
    assert!(encoder.recv(Duration::from_millis(200)).unwrap().is_nothing(), "the wait times out");
    assert_eq!(encoder.stats().leased, 3);
    let one = held.remove(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(one);
        });
        assert_eq!(packet(&mut encoder).unwrap().meta().source, Some(3));
    });
    // A copy does not hold a buffer.
    let copied: Vec<_> = held.into_iter().map(framelease::frame::Packet::detach).collect();
    assert_eq!(encoder.stats().leased, 0);
    assert_eq!(copied[0].meta().source, Some(1));
}

#[test]
fn encoders_share_a_camera_and_the_last_lease_returns_a_buffer() {
    let (Some(camera), Some(h264), Some(fwht)) = (vivid(Planar::Multi), h264(""), fwht(Planar::Multi)) else { return };
    leaving_nothing(|| {
        // vicodec needs 368 rows of NV12. The HDMI input scales to any size.
        set_hdmi(&camera);
        let size = Size::new(640, 368);
        let (mut camera, mut first, _) = pair(&camera, h264, params(Codec::H264, size), &[fourcc("NV12")]);
        let builder = Encoder::builder(params(Codec::Fwht, size)).device(fwht);
        let mut second = builder.open(camera.buffers().unwrap()).unwrap();
        for _ in 0..6 {
            let frame = frame(&mut camera);
            let sequence = Some(frame.meta().sequence);
            first.try_submit(frame.clone()).taken();
            second.try_submit(frame).taken();
            let packets = [packet(&mut first).unwrap(), packet(&mut second).unwrap()];
            assert_eq!(packets.map(|p| p.meta().source), [sequence; 2]);
        }
        assert!(drained(&mut first).is_empty() && drained(&mut second).is_empty());
        assert_eq!(camera.stats().leased, 0);
        drop((first, second, camera));
    });
}

#[test]
fn planes_in_one_buffer_go_to_an_encoder_that_needs_two() {
    let (Some(device), Some(pool)) = (h264("align=16"), pool("NV12", Size::new(640, 352), 3)) else { return };
    // NV12 fits as it is. Only a layout of another source needs the split: its chroma begins long after the luma.
    let own = packed("NV12", Size::new(640, 352));
    let mut planes = own.planes().to_vec();
    planes[1].offset_bytes += 640 * 4;
    let bytes = [own.memory_bytes()[0] + 640 * 4];
    let apart = Layout::from_planes(own.fourcc(), own.size(), &bytes, &planes).unwrap();
    drop(pool);
    let apart = Pool::new(&Allocator::Udmabuf, apart, 3).unwrap();
    let params = || params(Codec::H264, Size::new(640, 352));
    let e = Encoder::builder(params()).device(device.clone()).open(apart.buffers()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Mismatch, "not every driver reads data_offset: {e}");
    let builder = Encoder::builder(params()).device(device).quirks(reading_offsets());
    let mut encoder = builder.open(apart.buffers()).unwrap();
    assert_eq!(encoder.layout().memory_bytes().len(), 2);
    let mut judge = Judged::new("split-planes");
    for i in 0..5 {
        let frame = grey(&apart, 40 * i);
        judge.frame(&frame);
        judge.packet(&coded(&mut encoder, frame));
    }
}

#[test]
fn encoder_names_why_it_refuses_frames_and_settings() {
    let Some(pool) = pool("NV12", TINY, 2) else { return };
    let Some(device) = h264("") else { return };
    let open = |params: Params| Encoder::builder(params).device(device.clone()).open(pool.buffers()).unwrap_err();
    let e = open(params(Codec::Hevc, TINY));
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("gives H264"), "{e}");
    let e = open(params(Codec::H264, Size::new(128, 48)));
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "more than the frames have: {e}");
    let e = open(params(Codec::H264, Size::new(63, 47)));
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("63x47") && e.to_string().contains("the device encodes 62x46"), "{e}");
    let no_selections = Fault { kind: b'V', number: 95, nth: 1, errno: Errno::ENOTTY };
    let e = ioctls::with(no_selections, || open(params(Codec::H264, Size::new(62, 46))));
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("62x46") && e.to_string().contains("the device cannot crop"), "{e}");
    let e = Encoder::find(Codec::Vp8).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("fl_h264"), "{e}");
    let memfds = Pool::new(&Allocator::Memfd, packed("NV12", TINY), 2).unwrap();
    let mut encoder = Encoder::builder(tiny()).device(device).open(memfds.buffers()).unwrap();
    let e = encoder.try_submit(grey(&memfds, 0)).unwrap_err();
    assert_eq!((e.error.kind(), e.item.meta().sequence), (ErrorKind::WrongFile, 0));
    // More data than the encoder takes: the frame comes back.
    let frames: Vec<Frame> = (0..2).map(|i| grey(&pool, i)).collect();
    let packets: Vec<_> = std::iter::repeat_with(|| encoder.try_submit(frames[0].clone())).take(3).collect();
    assert!(packets[0].is_ok());
    let e = packets.into_iter().find_map(Result::err);
    assert!(e.is_none() || e.unwrap().error.kind() == ErrorKind::Exhausted);
    assert!(matches!(encoder.recv(WAIT), Ok(Received::Item(EncoderEvent::Packet(_)))));
}
