//! The lab's H.264 encoder behind a camera: what ffmpeg decodes from the stream is what the camera gave, byte for byte.
//! (Decoded on the host after the run, from the pairs that these tests leave in `/out/streams`.)

use std::fs::{create_dir_all, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use framelease::dmabuf::{cpu_bytes, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::frame::{Frame, FrameFlags};
use framelease::v4l2::{CacheWish, Device, Direction, FormatRequest, MemToMem, Processed, Resumed};

use crate::devices::*;

const WAIT: Duration = Duration::from_secs(10);
const FRAMES: usize = 12;

fn encoder() -> Option<Device> {
    let found = Device::find_mem_to_mem(|d| d.device.driver == "fl_h264" && d.encodes_to(fourcc("H264")));
    needed("fl_h264", found.map_err(|e| e.to_string()))
}

/// Both queues of an encoder for pictures as the camera gives them, every 4th of them a key frame.
fn pair(device: &Device, camera: &framelease::capture::Camera) -> MemToMem {
    let layout = camera.layout().unwrap();
    device.set_format(Direction::Capture, &FormatRequest::new(fourcc("H264"), layout.size())).unwrap();
    device.set_format_exact(Direction::Output, layout).unwrap();
    set(device, "Video GOP Size", 4);
    let mut pair = MemToMem::new(device).unwrap();
    pair.output_mut().import(camera.buffers().unwrap().slots()).unwrap();
    pair.capture_mut().allocate(4, CacheWish::default()).unwrap();
    pair.start().unwrap();
    pair
}

/// The next coded frame; source frames go back to the camera meanwhile. `None` at the end.
fn coded(pair: &mut MemToMem) -> Option<Frame> {
    loop {
        match pair.next(WAIT).unwrap() {
            Some(Processed::Result { frame, source }) => {
                let bytes = frame.meta().payload[0].bytes;
                assert_eq!(source.is_some(), bytes > 0, "a coded frame knows its source");
                return Some(frame);
            }
            Some(Processed::Source(_)) => {}
            Some(Processed::Ended) => return None,
            other => panic!("no coded frame but {other:?}"),
        }
    }
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.meta().payload[0].bytes as usize];
    frame.read(DEFAULT_WAIT).unwrap().copy_payload(0, 0, &mut bytes).unwrap();
    bytes
}

/// Types of the NAL units of an Annex B stream.
fn nal_types(stream: &[u8]) -> Vec<u8> {
    stream.windows(4).filter(|w| w[..3] == [0, 0, 1]).map(|w| w[3] & 31).collect()
}

/// A coded stream and its frames, where the lab compares them; elsewhere they are not kept.
struct Pair {
    coded: File,
    raw: File,
}

impl Pair {
    fn new(name: &str) -> Self {
        let folder = match std::env::var_os("FRAMELEASE_LAB_PROMISES") {
            Some(_) => PathBuf::from("/out/streams"),
            None => std::env::temp_dir(),
        };
        create_dir_all(&folder).unwrap();
        let file = |kind: &str| File::create(folder.join(format!("{name}.{kind}"))).unwrap();
        Self { coded: file("h264"), raw: file("nv12") }
    }
}

fn encodes(planar: Planar, format: &str, size: Size) {
    let (Some(vivid), Some(device)) = (vivid(planar), encoder()) else { return };
    leaving_nothing(|| {
        let mut camera = camera(&vivid, format).size(size).open().unwrap();
        let mut pair = pair(&device, &camera);
        let mut files = Pair::new(&format!("{planar:?}-{format}-{size}"));
        let mut keys = Vec::new();
        for i in 0..FRAMES {
            let frame = frame(&mut camera);
            files.raw.write_all(&pixels(&frame)).unwrap();
            if i == 6 {
                press(&device, "Force Key Frame");
            }
            let before = cpu_bytes();
            let meta = *frame.meta();
            pair.queue(frame).unwrap();
            let coded = coded(&mut pair).unwrap();
            assert_eq!(cpu_bytes(), before, "encoding touches no pixel");
            assert_eq!(coded.meta().timestamp_ns, meta.timestamp_ns);
            let stream = bytes(&coded);
            if coded.meta().flags.contains(FrameFlags::KEY) {
                keys.push(i);
            }
            let expected: &[u8] = match i {
                0 => &[7, 8, 5],
                4 | 6 | 10 => &[5],
                _ => &[1],
            };
            assert_eq!(nal_types(&stream), expected, "frame {i}");
            files.coded.write_all(&stream).unwrap();
        }
        assert_eq!(keys, [0, 4, 6, 10]);
        pair.drain().unwrap();
        let last = coded(&mut pair).unwrap();
        assert!(last.meta().flags.contains(FrameFlags::LAST) && last.meta().payload[0].bytes == 0);
        drop(last);
        assert!(coded(&mut pair).is_none());
        // The same stream goes on: neither headers nor a key frame.
        assert_eq!(pair.resume().unwrap(), Resumed::Continued);
        let frame = frame(&mut camera);
        files.raw.write_all(&pixels(&frame)).unwrap();
        pair.queue(frame).unwrap();
        let stream = bytes(&coded(&mut pair).unwrap());
        assert_eq!(nal_types(&stream), [1]);
        files.coded.write_all(&stream).unwrap();
    });
}

#[test]
fn a_camera_s_frames_come_back_whole() {
    encodes(Planar::Multi, "NV12", SMALL);
    encodes(Planar::Multi, "NV12M", SMALL);
    encodes(Planar::Single, "NV12", SMALL);
}

#[test]
fn a_drain_gives_every_frame() {
    let (Some(vivid), Some(device)) = (vivid(Planar::Multi), encoder()) else { return };
    let mut camera = camera(&vivid, "NV12").buffers(8).open().unwrap();
    let mut pair = pair(&device, &camera);
    for _ in 0..3 {
        let frame = frame(&mut camera);
        pair.queue(frame).unwrap();
    }
    pair.drain().unwrap();
    let mut flags = Vec::new();
    while let Some(frame) = coded(&mut pair) {
        assert!(frame.meta().payload[0].bytes > 0 || frame.meta().flags.contains(FrameFlags::LAST));
        if frame.meta().payload[0].bytes > 0 {
            flags.push(frame.meta().flags & FrameFlags::KEY);
        }
    }
    assert_eq!(flags, [FrameFlags::KEY, FrameFlags::empty(), FrameFlags::empty()]);
}
