//! Tests of the queue pair of mem-to-mem devices: vim2m as a converter, vicodec as an encoder and a decoder.

use std::os::fd::AsFd;
use std::time::Duration;

use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{Layout, Rect, Size};
use framelease::frame::{Frame, FrameFlags, FrameMeta, FrameMut, Pool};
use framelease::v4l2::{
    mem_to_mem_devices, CacheHint, CodecCommand, Device, Direction, Event, EventKind, FormatRequest, MemToMem,
    Processed, Queue, Resumed, SelectionTarget,
};
use framelease::ErrorKind;
use framelease::{Received, Station};
use nix::poll::{poll, PollFd, PollFlags};

use crate::devices::*;

const WAIT: Duration = Duration::from_secs(10);
const QVGA: Size = Size::new(320, 240);

/// A frame of the pool whose bytes are derived from `seed`.
fn painted(pool: &Pool, seed: u8, timestamp_ns: u64) -> Frame {
    let mut frame = pool.acquire(WAIT).expect("a free buffer");
    paint(&mut frame, seed);
    frame.freeze_full(seed.into(), timestamp_ns)
}

fn paint(frame: &mut FrameMut, seed: u8) {
    let layout = *frame.layout();
    let mut write = frame.write(DEFAULT_WAIT).unwrap();
    for plane in 0..layout.planes().len() {
        for y in 0..layout.rows(plane) {
            let row: Vec<u8> =
                (0..layout.row_bytes(plane)).map(|x| (x as u8).wrapping_mul(3) ^ (y as u8) ^ seed).collect();
            write.copy_row(plane, y, &row).unwrap();
        }
    }
}

fn udmabufs(layout: Layout, count: usize) -> Pool {
    Pool::new(&Allocator::Udmabuf, layout, count).unwrap()
}

/// vim2m as a copier of RGB24, with `count` imports on each side.
fn copier(count: usize) -> Option<(MemToMem, Pool, Pool)> {
    let device = vim2m()?;
    needed_path("udmabuf", "/dev/udmabuf")?;
    let request = FormatRequest::new(fourcc("RGB24"), QVGA);
    let [from, to] = [Direction::Output, Direction::Capture].map(|d| device.set_format(d, &request).unwrap());
    let mut pair = MemToMem::new(&device).unwrap();
    pair.output_mut().import(count).unwrap();
    pair.capture_mut().import(count).unwrap();
    Some((pair, udmabufs(from, count), udmabufs(to, count)))
}

fn next(pair: &mut MemToMem) -> Processed {
    match pair.recv(WAIT) {
        Ok(Received::Item(got)) => got,
        other => panic!("{other:?} instead of a frame"),
    }
}

/// Everything up to the end of a drain.
fn to_the_end(pair: &mut MemToMem, mut keep: impl FnMut(Processed, &mut MemToMem)) {
    loop {
        match pair.recv(WAIT) {
            Ok(Received::Item(got)) => keep(got, pair),
            Ok(Received::Ended) => return,
            other => panic!("{other:?} instead of the end"),
        }
    }
}

/// The next result, and the source frames that came back before it.
fn result(pair: &mut MemToMem) -> (Frame, Option<FrameMeta>) {
    loop {
        match next(pair) {
            Processed::Result { frame, source } => return (frame, source),
            Processed::Source(_) => {}
            other => panic!("{other:?} instead of a result"),
        }
    }
}

#[test]
fn mem_to_mem_results_name_their_sources() {
    let Some((mut pair, from, to)) = copier(4) else { return };
    leaving_nothing(|| {
        for _ in 0..4 {
            pair.queue_empty(to.try_acquire().unwrap()).taken();
        }
        // Times that V4L2 cannot hold, times that are equal, and times that run backwards.
        let times = [1_000_000_001, 1_000_000_999, 1_000_000_001, 5];
        for (i, time) in times.into_iter().enumerate() {
            pair.queue(painted(&from, i as u8, time)).taken();
        }
        pair.start().unwrap();
        let (mut results, mut sources) = (Vec::new(), Vec::new());
        while results.len() + sources.len() < 8 {
            match next(&mut pair) {
                Processed::Result { frame, source } => results.push((frame, source.expect("vim2m copies the time"))),
                Processed::Source(frame) => sources.push(frame),
                other => panic!("{other:?}"),
            }
        }
        for (i, ((frame, source), back)) in results.iter().zip(&sources).enumerate() {
            assert_eq!((source.sequence, source.timestamp_ns), (i as u64, times[i]));
            assert_eq!((frame.meta().sequence, frame.meta().timestamp_ns), (i as u64, times[i]));
            assert!(frame.meta().flags.contains(FrameFlags::MONOTONIC), "as its source");
            assert_eq!(back.meta(), source, "the source comes back unchanged");
            assert!(pixels(frame) == pixels(back), "frame {i}");
        }
        assert_eq!((pair.output().queued(), pair.capture().queued()), (0, 0));
    });
}

#[test]
fn mem_to_mem_is_not_polled_when_idle_and_does_not_spin() {
    let Some((mut pair, from, to)) = copier(2) else { return };
    set(pair.device(), "Transaction Time (msec)", 300);
    assert!(!is_readable(&pair) && pair.try_recv().unwrap().is_nothing(), "not started");
    pair.start().unwrap();
    // Nothing is queued: the device itself reports POLLERR at once, for as long as that lasts.
    let mut fds = [PollFd::new(pair.device().as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
    poll(&mut fds, 0u8).unwrap();
    assert!(fds[0].revents().unwrap().contains(PollFlags::POLLERR));
    assert!(!is_readable(&pair) && pair.recv(Duration::from_millis(20)).unwrap().is_nothing());

    // Only a buffer to fill, then only a source: nothing happens, and nothing is reported.
    pair.queue_empty(to.try_acquire().unwrap()).taken();
    assert!(!is_readable(&pair) && pair.recv(Duration::ZERO).unwrap().is_nothing());
    pair.queue(painted(&from, 1, 0)).taken();
    // The device works for 300 ms: not ready, and no error.
    assert!(!is_readable(&pair) && pair.try_recv().unwrap().is_nothing());
    assert!(pair.recv(Duration::from_millis(1)).unwrap().is_nothing(), "the wait times out");
    let both = [next(&mut pair), next(&mut pair)];
    assert!(both.iter().any(|p| matches!(p, Processed::Result { .. })), "{both:?}");
    assert!(both.iter().any(|p| matches!(p, Processed::Source(_))), "{both:?}");
    drop(both);
    assert!(pair.try_recv().unwrap().is_nothing() && !is_readable(&pair));

    // The second source waits for a buffer to fill.
    pair.queue(painted(&from, 2, 0)).taken();
    assert!(pair.recv(Duration::from_millis(20)).unwrap().is_nothing());
    pair.queue_empty(to.acquire(WAIT).unwrap()).taken();
    let (frame, source) = result(&mut pair);
    assert_eq!((source.unwrap().sequence, frame.meta().sequence), (2, 1));
}

#[test]
fn stop_returns_every_frame_in_order() {
    let Some((mut pair, from, to)) = copier(4) else { return };
    leaving_nothing(|| {
        set(pair.device(), "Transaction Time (msec)", 200);
        let slots: Vec<usize> = (0..4)
            .map(|_| {
                let empty = to.try_acquire().unwrap();
                let slot = empty.slot();
                pair.queue_empty(empty).taken();
                slot
            })
            .collect();
        (0..4).for_each(|i| pair.queue(painted(&from, i, 0)).taken());
        pair.start().unwrap();
        let (first, _) = result(&mut pair);
        assert_eq!(first.slot(), slots[0]);
        let back = pair.stop().unwrap();
        let numbers: Vec<u64> = back.frames.iter().map(|f| f.meta().sequence).collect();
        let empty: Vec<usize> = back.empty.iter().map(FrameMut::slot).collect();
        // The first source may have come back before.
        assert_eq!(numbers[numbers.len() - 3..], [1, 2, 3]);
        assert_eq!(empty, slots[1..]);
        assert_eq!((pair.output().queued(), pair.capture().queued()), (0, 0));
        // It starts again with the same imports.
        back.empty.into_iter().for_each(|f| pair.queue_empty(f).taken());
        back.frames.into_iter().for_each(|f| pair.queue(f).taken());
        pair.start().unwrap();
        result(&mut pair);
        // After the buffers are freed, the device accepts another format.
        let back = pair.free();
        assert_eq!(back.empty.len(), 2);
        let request = FormatRequest::new(fourcc("RGB565"), QVGA);
        pair.device().set_format(Direction::Output, &request).unwrap();
        drop(back);
        assert_eq!((from.buffers().leased(), to.buffers().leased()), (0, 1));
        drop((pair, first));
    });
}

#[test]
fn lost_device_ends_the_wait_and_returns_every_frame() {
    let Some((mut pair, from, to)) = copier(4) else { return };
    leaving_nothing(|| {
        set(pair.device(), "Transaction Time (msec)", 300);
        (0..4).for_each(|_| pair.queue_empty(to.try_acquire().unwrap()).taken());
        (0..3).for_each(|i| pair.queue(painted(&from, i, 0)).taken());
        pair.start().unwrap();
        let (first, _) = result(&mut pair);
        unplugging_vim2m(|| {
            // The wait ends at once although its timeout is long, and once.
            let lost = next(&mut pair);
            assert!(matches!(&lost, Processed::Lost(e) if e.kind() == ErrorKind::DeviceLost), "{lost:?}");
            assert!(pair.try_recv().unwrap().is_nothing());
            let rejected = pair.queue(painted(&from, 9, 0)).unwrap_err();
            assert_eq!((rejected.error.kind(), rejected.item.meta().sequence), (ErrorKind::DeviceLost, 9));
            let back = pair.stop().unwrap();
            assert!((2..=3).contains(&back.frames.len()), "{back:?}");
            assert_eq!(back.empty.len(), 3);
            drop(rejected);
            drop(back);
            assert_eq!((from.buffers().leased(), to.buffers().leased()), (0, 1));
            assert!(!pixels(&first).is_empty());
            assert!(pair.start().is_err());
            drop((pair, first, from, to));
        });
        let Some((mut pair, from, to)) = copier(1) else { return };
        pair.queue_empty(to.try_acquire().unwrap()).taken();
        pair.queue(painted(&from, 1, 0)).taken();
        pair.start().unwrap();
        result(&mut pair);
    });
}

#[test]
fn mem_to_mem_works_with_the_driver_s_own_buffers() {
    let Some(device) = vim2m() else { return };
    leaving_nothing(|| {
        let request = FormatRequest::new(fourcc("RGB565"), QVGA);
        for direction in [Direction::Output, Direction::Capture] {
            device.set_format(direction, &request).unwrap();
        }
        let mut pair = MemToMem::new(&device).unwrap();
        pair.output_mut().allocate(2, Default::default()).unwrap();
        let results = pair.capture_mut().allocate(2, Default::default()).unwrap().clone();
        assert!(results.memory(0)[0].is_read_only());
        pair.start().unwrap();
        for i in 0..6 {
            let mut empty = pair.output_mut().try_acquire().expect("a free buffer");
            paint(&mut empty, i);
            pair.queue(empty.freeze_full(i.into(), 0)).taken();
            let (mut made, mut back) = (None, None);
            while made.is_none() || back.is_none() {
                match next(&mut pair) {
                    Processed::Result { frame, source } => made = Some((frame, source)),
                    Processed::Source(frame) => back = Some(frame),
                    other => panic!("{other:?}"),
                }
            }
            let ((frame, source), back) = (made.unwrap(), back.unwrap());
            assert_eq!(source.unwrap().sequence, u64::from(i));
            assert!(pixels(&frame) == pixels(&back));
        }
        // All results are leased. A result comes when a lease ends on another thread.
        let mut held = Vec::new();
        for i in 0..2 {
            let empty = pair.output_mut().try_acquire().unwrap();
            pair.queue(empty.freeze_full(i, 0)).taken();
            held.push(result(&mut pair).0);
            while pair.output().queued() > 0 {
                assert!(matches!(next(&mut pair), Processed::Source(_)));
            }
        }
        assert!(!is_readable(&pair));
        assert!(pair.recv(Duration::from_millis(20)).unwrap().is_nothing(), "a lease may end, so this is not an error");
        let empty = pair.output_mut().try_acquire().unwrap();
        pair.queue(empty.freeze_full(7, 0)).taken();
        assert!(pair.recv(Duration::from_millis(20)).unwrap().is_nothing());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                drop(held);
            });
            assert_eq!(result(&mut pair).1.unwrap().sequence, 7);
        });
        drop(pair);
    });
}

#[test]
fn mem_to_mem_opens_are_separate_and_a_handle_has_one_pair() {
    let Some((pair, _, _)) = copier(2) else { return };
    let e = MemToMem::new(pair.device()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
    let path = pair.device().info().path.clone();
    let other = MemToMem::new(&Device::open(&path).unwrap()).unwrap();
    assert_eq!(other.device().format(Direction::Output).unwrap().size(), Size::new(640, 480), "its own formats");
    let device = pair.device().clone();
    drop(pair);
    MemToMem::new(&device).unwrap();
    if let Some(camera) = vivid(Planar::Single) {
        let e = MemToMem::new(&camera).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        assert!(e.to_string().contains("(vivid)"), "{e}");
    }
}

#[test]
fn find_mem_to_mem_selects_by_function() {
    if vim2m().is_none() || vicodec(Planar::Single).is_none() {
        return;
    }
    let [rgb, yuyv, nv12, fwht] = ["RGB24", "YUYV", "NV12", "FWHT"].map(fourcc);
    let converter = Device::find_mem_to_mem("device", |d| d.converts_between(rgb, yuyv)).unwrap();
    // Which of them has the lower number depends on the tests before.
    assert!(["vim2m", "fl_scaler"].contains(&converter.info().driver.as_str()), "{converter:?}");
    let encoder = Device::find_mem_to_mem("device", |d| d.encodes_to(fwht)).unwrap();
    let decoder = Device::find_mem_to_mem("device", |d| d.decodes(fwht)).unwrap();
    assert_ne!(encoder.info().path, decoder.info().path);
    assert!(encoder.takes_encoder_command(CodecCommand::Stop).unwrap());
    assert!(!encoder.takes_decoder_command(CodecCommand::Stop).unwrap());
    assert!(decoder.takes_decoder_command(CodecCommand::Start).unwrap());
    assert!(!decoder.takes_encoder_command(CodecCommand::Start).unwrap());
    let all = mem_to_mem_devices();
    assert!(all.iter().any(|d| d.encodes_to(fwht) && d.takes.iter().any(|o| o.fourcc == nv12)));
    assert_eq!(all.iter().filter(|d| d.decodes(fwht)).count(), 1, "the stateless decoder is not one of them");
    let converters: Vec<&str> = all.iter().filter(|d| d.converts()).map(|d| d.device.driver.as_str()).collect();
    assert!(converters.contains(&"vim2m") && !converters.contains(&"vicodec"), "{converters:?}");
    let e = Device::find_mem_to_mem("encoder of hevc", |d| d.encodes_to(fourcc("HEVC"))).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let text = e.to_string();
    assert!(text.contains("encoder of hevc not found among /dev/video") && text.contains("(vim2m)"), "{text}");
    assert!(text.len() < 300, "too long for a log: {text}");
}

const HD: Size = Size::new(1280, 720);

/// vicodec's encoder with NV12 imports and its own FWHT buffers, started.
fn encoder(planar: Planar) -> Option<(MemToMem, Pool)> {
    vicodec(planar)?;
    needed_path("udmabuf", "/dev/udmabuf")?;
    let device = Device::find_mem_to_mem("device", |d| d.encodes_to(fourcc("FWHT"))).unwrap();
    device.set_format(Direction::Capture, &FormatRequest::new(fourcc("FWHT"), HD)).unwrap();
    let from = device.set_format(Direction::Output, &FormatRequest::new(fourcc("NV12"), HD)).unwrap();
    for quality in ["FWHT I-Frame QP Value", "FWHT P-Frame QP Value"] {
        set(&device, quality, 1);
    }
    let mut pair = MemToMem::new(&device).unwrap();
    pair.subscribe(EventKind::EndOfStream).unwrap();
    pair.output_mut().import(3).unwrap();
    pair.capture_mut().allocate(3, Default::default()).unwrap();
    pair.start().unwrap();
    Some((pair, udmabufs(from, 3)))
}

/// A smooth picture, so that the codec loses little.
fn smooth(pool: &Pool, seed: u8) -> Frame {
    let mut frame = pool.acquire(WAIT).expect("a free buffer");
    let layout = *frame.layout();
    {
        let mut write = frame.write(DEFAULT_WAIT).unwrap();
        for plane in 0..layout.planes().len() {
            for y in 0..layout.rows(plane) {
                let row: Vec<u8> = (0..layout.row_bytes(plane)).map(|x| (x / 16 + y / 8) as u8 + 9 * seed).collect();
                write.copy_row(plane, y, &row).unwrap();
            }
        }
    }
    frame.freeze_full(seed.into(), u64::from(seed) * 1_000_000)
}

fn bitstream(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.meta().payload[0].bytes as usize];
    frame.read(DEFAULT_WAIT).unwrap().copy_payload(0, 0, &mut bytes).unwrap();
    bytes
}

/// Encodes these pictures and drains. Returns the bitstreams, each with the number of its source.
fn encoded(pair: &mut MemToMem, pool: &Pool, seeds: std::ops::Range<u8>) -> Vec<(u64, Vec<u8>)> {
    let mut coded = Vec::new();
    let (mut last, mut eos) = (0, false);
    let mut keep = |got: Processed| match got {
        Processed::Result { frame, source } => {
            last += u32::from(frame.meta().flags.contains(FrameFlags::LAST));
            if frame.meta().payload[0].bytes > 0 {
                coded.push((source.expect("vicodec copies the time").sequence, bitstream(&frame)));
            }
        }
        Processed::Event(Event::EndOfStream) => eos = true,
        _ => {}
    };
    for seed in seeds {
        pair.queue(smooth(pool, seed)).taken();
        if pair.output().free_slots() == 0 {
            while pair.output().free_slots() == 0 {
                keep(next(pair));
            }
        }
    }
    pair.drain().unwrap();
    to_the_end(pair, |got, _| keep(got));
    // Packets that were encoded before the end still come. After the end was reported, calls are errors.
    let over = loop {
        match pair.try_recv() {
            Ok(Received::Item(got)) => keep(got),
            other => break other,
        }
    };
    assert_eq!(over.unwrap_err().kind(), ErrorKind::State);
    while let Some(event) = pair.device().try_event().unwrap() {
        keep(Processed::Event(event));
    }
    assert!(!is_readable(pair), "the kernel reports a drained queue as readable");
    assert_eq!((last, eos), (1, true));
    coded
}

fn encodes_drains_and_resumes(planar: Planar) {
    let Some((mut pair, pool)) = encoder(planar) else { return };
    leaving_nothing(|| {
        assert_eq!(pair.resume().unwrap_err().kind(), ErrorKind::State, "nothing has ended");
        let first = encoded(&mut pair, &pool, 0..8);
        assert_eq!(first.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        // vicodec's own START does not resume on Linux 6.12.
        assert_eq!(pair.resume().unwrap(), Resumed::Restarted);
        let again = encoded(&mut pair, &pool, 0..8);
        assert_eq!(first, again, "a new stream begins with a key frame");
        assert_eq!(pool.buffers().leased(), 0);
        // A frame that is queued after the end waits, and nothing spins in the meantime.
        pair.queue(smooth(&pool, 5)).taken();
        assert!(!is_readable(&pair));
        pair.resume().unwrap();
        assert_eq!(result(&mut pair).1.unwrap().sequence, 5);
        // Nothing is queued in between: an empty last buffer.
        assert!(encoded(&mut pair, &pool, 0..0).is_empty());
        pair.stop().unwrap();
        assert_eq!(pair.drain().unwrap_err().kind(), ErrorKind::State, "there is nothing to drain");
        drop(pair);
    });
}

#[test]
fn encoder_drains_and_resumes_single_planar() {
    encodes_drains_and_resumes(Planar::Single);
}

#[test]
fn encoder_drains_and_resumes_multi_planar() {
    encodes_drains_and_resumes(Planar::Multi);
}

/// The end of a drain, while the caller holds every buffer. Both waits report it, for the driver's own buffers and for
/// imports.
#[test]
fn dequeue_reports_the_end_while_every_buffer_is_leased() {
    for is_own in [true, false] {
        let (Some(_), Some(())) = (vicodec(Planar::Single), needed_path("udmabuf", "/dev/udmabuf")) else { return };
        let device = Device::find_mem_to_mem("device", |d| d.encodes_to(fourcc("FWHT"))).unwrap();
        device.set_format(Direction::Capture, &FormatRequest::new(fourcc("FWHT"), SMALL)).unwrap();
        let from = device.set_format(Direction::Output, &FormatRequest::new(fourcc("NV12"), SMALL)).unwrap();
        // The source's size decides how large a coded picture may be.
        let to = device.format(Direction::Capture).unwrap();
        let (pictures, coded) = (udmabufs(from, 3), udmabufs(to, 8));
        let mut output = Queue::new(&device, Direction::Output).unwrap();
        let mut capture = Queue::new(&device, Direction::Capture).unwrap();
        output.import(3).unwrap();
        let slots = match is_own {
            true => capture.allocate(2, CacheHint::Driver).unwrap().slots(),
            false => {
                capture.import(2).unwrap();
                let slots = capture.free_slots();
                for _ in 0..slots {
                    assert!(capture.queue_empty(coded.try_acquire().unwrap()).unwrap().is_taken());
                }
                slots
            }
        };
        output.start().unwrap();
        capture.start().unwrap();
        let mut held = Vec::new();
        let frame = |capture: &mut Queue| match capture.dequeue(WAIT).unwrap() {
            Received::Item(frame) => frame,
            other => panic!("{other:?}"),
        };
        // As many pictures as leave the last buffer for LAST.
        for i in 1..slots {
            let picture = painted(&pictures, i as u8, i as u64 * 1_000_000);
            assert!(output.queue(picture).unwrap().is_taken());
            held.push(frame(&mut capture));
        }
        device.encoder_command(CodecCommand::Stop).unwrap();
        while held.last().map_or(true, |f| !f.meta().flags.contains(FrameFlags::LAST)) {
            held.push(frame(&mut capture));
        }
        assert_eq!((held.len(), capture.queued()), (slots, 0));
        assert!(capture.dequeue(WAIT).unwrap().is_ended(), "own buffers: {is_own}");
        assert_eq!(capture.dequeue(WAIT).unwrap_err().kind(), ErrorKind::State);
    }
}

/// Decodes bitstreams that are all in one buffer, at one index of the queue. Returns the pictures.
fn decoded(planar: Planar, coded: &[(u64, Vec<u8>)]) -> Vec<(u64, Vec<u8>)> {
    let device = Device::find_mem_to_mem("device", |d| d.decodes(fourcc("FWHT"))).unwrap();
    assert_eq!(device.info().is_multi_planar(), planar == Planar::Multi);
    let layout = device.set_format(Direction::Output, &FormatRequest::new(fourcc("FWHT"), HD)).unwrap();
    let pool = udmabufs(layout, 1);
    let mut pair = MemToMem::new(&device).unwrap();
    pair.subscribe(EventKind::SourceChange(0)).unwrap();
    pair.output_mut().import(1).unwrap();
    assert_eq!(pair.output().free_slots(), 1, "vicodec allocates a single buffer");
    pair.output_mut().start().unwrap();
    let (mut pictures, mut changes) = (Vec::new(), 0);
    let mut keep = |got: Processed, pair: &mut MemToMem| match got {
        Processed::Event(Event::SourceChange { .. }) => {
            changes += 1;
            if changes > 1 {
                return;
            }
            // Now the driver knows the picture's format.
            assert_eq!(device.format(Direction::Capture).unwrap().size(), HD);
            let shown = device.region(Direction::Capture, SelectionTarget::Compose).unwrap();
            assert_eq!(shown.active, Rect { left: 0, top: 0, size: HD });
            device.set_format(Direction::Capture, &FormatRequest::new(fourcc("NV12"), HD)).unwrap();
            pair.capture_mut().allocate(4, Default::default()).unwrap();
            pair.capture_mut().start().unwrap();
        }
        Processed::Result { frame, source } if frame.meta().payload[0].bytes > 0 => {
            assert!(!frame.meta().flags.contains(FrameFlags::ERROR));
            pictures.push((source.expect("vicodec copies the time").sequence, pixels(&frame)));
        }
        _ => {}
    };
    for (number, bytes) in coded {
        let empty = loop {
            match pool.try_acquire() {
                Some(empty) => break empty,
                None => {
                    let got = next(&mut pair);
                    keep(got, &mut pair);
                }
            }
        };
        empty.memory()[0].clone().write(DEFAULT_WAIT).unwrap().copy_from(0, bytes).unwrap();
        let frame = empty.freeze_full(*number, 1000 * number);
        let mut meta = *frame.meta();
        meta.payload[0].bytes = bytes.len() as u32;
        pair.queue(frame.with_meta(meta)).taken();
    }
    while !pair.capture().is_streaming() {
        let got = next(&mut pair);
        keep(got, &mut pair);
    }
    pair.drain().unwrap();
    to_the_end(&mut pair, keep);
    pictures
}

fn bitstream_in_one_buffer_feeds_a_decoder(planar: Planar) {
    let Some((mut pair, pool)) = encoder(planar) else { return };
    leaving_nothing(|| {
        let coded = encoded(&mut pair, &pool, 0..8);
        let lengths: std::collections::HashSet<usize> = coded.iter().map(|(_, b)| b.len()).collect();
        assert!(lengths.len() > 4, "bitstreams of different lengths: {lengths:?}");
        let originals: Vec<Vec<u8>> = (0..8).map(|seed| pixels(&smooth(&pool, seed))).collect();
        drop(pair);
        let pictures = decoded(planar, &coded);
        assert_eq!(pictures.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        for ((number, picture), original) in pictures.iter().zip(&originals) {
            let worst = picture.iter().zip(original).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(4), "picture {number}: off by {worst:?}");
        }
    });
}

#[test]
fn bitstream_in_one_buffer_feeds_a_decoder_single_planar() {
    bitstream_in_one_buffer_feeds_a_decoder(Planar::Single);
}

#[test]
fn bitstream_in_one_buffer_feeds_a_decoder_multi_planar() {
    bitstream_in_one_buffer_feeds_a_decoder(Planar::Multi);
}

/// Traces every QBUF in the kernel while `test` runs. Returns the `bytesused` of plane 0 that drivers get.
fn traced(test: impl FnOnce()) -> Option<Vec<u32>> {
    let file = |name: &str| format!("/sys/kernel/debug/tracing/{name}");
    let on = file("events/vb2/vb2_qbuf/enable");
    let there = std::fs::write(&on, "1").map_err(|e| format!("{on}: {e}"));
    needed("tracing", there)?;
    std::fs::write(file("trace"), "").unwrap();
    test();
    let text = std::fs::read_to_string(file("trace")).unwrap();
    std::fs::write(&on, "0").unwrap();
    let used = |line: &str| line.split_once("bytesused = ")?.1.split(',').next()?.trim().parse().ok();
    Some(text.lines().filter_map(used).collect())
}

#[test]
fn payloads_of_a_buffer_reach_the_driver_at_the_same_index() {
    let Some(()) = vicodec(Planar::Single) else { return };
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    leaving_nothing(|| {
        let device = Device::find_mem_to_mem("device", |d| d.encodes_to(fourcc("FWHT"))).unwrap();
        let layout = device.set_format(Direction::Output, &FormatRequest::new(fourcc("NV12"), HD)).unwrap();
        let whole = layout.memory_bytes()[0];
        let pool = udmabufs(layout, 1);
        let mut pair = MemToMem::new(&device).unwrap();
        pair.output_mut().import(1).unwrap();
        pair.capture_mut().allocate(2, Default::default()).unwrap();
        pair.start().unwrap();
        let lengths = [whole, whole - 1, whole - 1, 5, whole - 2, whole];
        let seen = traced(|| {
            for bytes in lengths {
                let frame = pool.try_acquire().unwrap().freeze_full(0, 0);
                let mut meta = *frame.meta();
                meta.payload[0].bytes = bytes;
                pair.queue(frame.with_meta(meta)).taken();
                result(&mut pair);
                while pair.output().queued() > 0 {
                    next(&mut pair);
                }
            }
        });
        let Some(seen) = seen else { return };
        // The buffers of the results are queued too.
        let seen: Vec<u32> = seen.into_iter().filter(|bytes| lengths.contains(bytes)).collect();
        assert_eq!(seen, lengths, "the bytesused that the driver got");
    });
}
