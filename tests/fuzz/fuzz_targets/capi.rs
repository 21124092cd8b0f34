//! The C interface under random sequences of legal calls: whatever a program calls, in any order, with handles that may
//! be NULL, of another kind, or closed before what they gave. No call may crash, and nothing may stay leased at the
//! end.

#![no_main]

use std::ffi::CString;
use std::mem::{size_of, MaybeUninit};
use std::ptr;
use std::sync::OnceLock;

use framelease_capi::capture::*;
use framelease_capi::codec::*;
use framelease_capi::convert::*;
use framelease_capi::format::*;
use framelease_capi::frame::*;
use framelease_capi::packet::*;
use framelease_capi::share::*;
use framelease_capi::sink::*;
use framelease_capi::station::*;
use framelease_capi::status::*;
use libfuzzer_sys::fuzz_target;

/// Handles of each type. A call takes one by number.
struct World {
    stations: [*mut fl_station; 4],
    frames: [*mut fl_frame; 4],
    packets: [*mut fl_packet; 4],
    buffers: [*mut fl_buffers; 2],
    targets: [*mut fl_buffer; 3],
    pools: [*mut fl_pool; 2],
    mappings: [*mut fl_mapping; 2],
    fanouts: [*mut fl_fanout; 2],
    tensors: [*mut fl_tensor; 2],
}

/// What FL_INIT does.
fn init<T>() -> T {
    // SAFETY: the structures of the C interface may be all zeros, and begin with their size.
    unsafe {
        let mut value = MaybeUninit::<T>::zeroed();
        value.as_mut_ptr().cast::<usize>().write(size_of::<T>());
        value.assume_init()
    }
}

fn reference<'a, T>(handle: *mut T) -> Option<&'a T> {
    // SAFETY: NULL, or a live handle: closing makes it NULL.
    unsafe { handle.as_ref() }
}

/// The fuzzer's bytes, zeros after their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn number(&mut self) -> u32 {
        // Small, or at a border.
        match self.byte() {
            250 => u32::MAX,
            251 => i32::MAX as u32,
            252 => 65_536,
            small => small.into(),
        }
    }
}

fn path(name: &str) -> CString {
    static FOLDER: OnceLock<String> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("framelease-fuzz-capi-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder.to_str().unwrap().to_owned()
    });
    CString::new(format!("{folder}/{name}")).unwrap()
}

impl World {
    fn empty() -> Self {
        Self {
            stations: [ptr::null_mut(); 4],
            frames: [ptr::null_mut(); 4],
            packets: [ptr::null_mut(); 4],
            buffers: [ptr::null_mut(); 2],
            targets: [ptr::null_mut(); 3],
            pools: [ptr::null_mut(); 2],
            mappings: [ptr::null_mut(); 2],
            fanouts: [ptr::null_mut(); 2],
            tensors: [ptr::null_mut(); 2],
        }
    }

    fn open(&mut self, input: &mut Input, at: usize) {
        let to = &mut self.stations[at];
        fl_station_close(to);
        match input.below(7) {
            0 => {
                let mut options: fl_pattern_options = init();
                (options.width, options.height) = (input.number().min(128), input.number().min(128));
                options.fourcc = [0, code(b"NV12"), code(b"YUYV"), code(b"RGB3"), input.number()][input.below(5)];
                options.buffers = input.number().min(80);
                (options.interval.numerator, options.interval.denominator) = (input.number(), input.number().wrapping_mul(1000));
                fl_pattern_open(&options, to);
            }
            1 => {
                let path = path("socket");
                let mut options: fl_publisher_options = init();
                options.path = path.as_ptr();
                (options.reserve, options.max_hold) = (input.number(), input.number());
                (options.lease_revoke_ms, options.lease_end_ms) = (input.number(), input.number());
                fl_publisher_open(&options, to);
            }
            2 => {
                let path = path(["file.mkv", "file.mp4", "none/file.mkv"][input.below(3)]);
                let mut options: fl_recorder_options = init();
                options.path = path.as_ptr();
                (options.container, options.rotate_ms) = (input.number(), input.number());
                fl_recorder_open(&options, to);
            }
            3 => {
                let mut options: fl_rtp_options = init();
                (options.mtu, options.spread_percent, options.ttl) = (input.number(), input.number(), input.number());
                fl_rtp_open(input.number(), &options, to);
            }
            4 => {
                let mut source: fl_layout = init();
                fl_layout_make(code(b"NV12"), 64, 48, 0, &mut source);
                let mut options: fl_converter_options = init();
                options.backend = fl_backend::FL_BACKEND_CPU as u32;
                options.fourcc = [code(b"NV12"), code(b"RGB3"), input.number()][input.below(3)];
                (options.width, options.height) = (input.number().min(128), input.number().min(128));
                (options.sources, options.source_count) = (&source, 1);
                fl_converter_open(&options, to);
            }
            5 => {
                let mut options: fl_ring_options = init();
                (options.before_ms, options.after_ms, options.bytes) = (1, 1, input.number().into());
                let path = path("event.mkv");
                let mut recorder: fl_recorder_options = init();
                recorder.path = path.as_ptr();
                fl_event_recorder_open(&recorder, &options, to);
            }
            _ => {
                fl_fanout_attach(self.fanouts[at % 2], input.below(4), input.below(4), input.number(), to);
            }
        }
    }

    /// Puts what the event holds where a handle was, which is given back.
    fn recv(&mut self, input: &mut Input, at: usize) {
        let mut event: fl_event = init();
        fl_station_recv(reference(self.stations[at]), 0, &mut event);
        if !event.frame.is_null() {
            let place = &mut self.frames[input.below(4)];
            std::mem::swap(place, &mut event.frame);
        }
        if !event.packet.is_null() {
            std::mem::swap(&mut self.packets[input.below(4)], &mut event.packet);
        }
        if !event.buffer.is_null() {
            std::mem::swap(&mut self.targets[input.below(3)], &mut event.buffer);
        }
        fl_event_clear(&mut event);
    }

    fn step(&mut self, input: &mut Input) {
        let (s, f, p) = (input.below(4), input.below(4), input.below(4));
        let (b, t) = (input.below(2), input.below(3));
        let station = reference(self.stations[s]);
        match input.byte() % 34 {
            0 | 1 => self.open(input, s),
            2..=6 => self.recv(input, s),
            7 | 8 => drop(fl_station_submit(station, reference(self.frames[f]), 0)),
            9 | 10 => drop(fl_station_submit_packet(station, reference(self.packets[p]), 0)),
            11 => drop(fl_station_dispatch(station)),
            12 => fl_station_close(&mut self.stations[s]),
            13 => fl_frame_unref(&mut self.frames[f]),
            14 => {
                fl_frame_unref(&mut self.frames[p]);
                if p != f {
                    self.frames[p] = fl_frame_ref(self.frames[f]);
                }
            }
            15 => {
                fl_buffers_close(&mut self.buffers[b]);
                fl_station_buffers(station, &mut self.buffers[b]);
            }
            16 => drop(fl_publisher_announce(station, reference(self.buffers[b]))),
            17 => {
                fl_mapping_close(&mut self.mappings[b]);
                fl_frame_map(self.frames[f], 0, &mut self.mappings[b]);
            }
            18 => {
                // SAFETY: the call below overwrites it, also when it fails.
                let mut pixels: fl_pixels = unsafe { std::mem::zeroed() };
                fl_mapping_plane(reference(self.mappings[b]), input.number(), &mut pixels);
                if !pixels.data.is_null() {
                    // SAFETY: the mapping is open, so `bytes` bytes can be read.
                    let bytes = unsafe { std::slice::from_raw_parts(pixels.data, pixels.bytes) };
                    std::hint::black_box(bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
                }
            }
            19 => {
                let mut row = [0; 512];
                let bytes = input.number().min(512) as usize;
                let mapping = reference(self.mappings[b]);
                fl_mapping_copy_row(mapping, input.number(), input.number(), row.as_mut_ptr(), bytes);
            }
            20 => {
                fl_pool_close(&mut self.pools[b]);
                let mut layout: fl_layout = init();
                let side = input.number().min(128);
                fl_layout_make(code(b"NV12"), side, side, input.number().min(4096), &mut layout);
                if input.byte() > 200 {
                    layout.planes[input.below(4)].offset_bytes = input.number();
                }
                fl_pool_create(c"memfd".as_ptr(), &layout, input.below(6), &mut self.pools[b]);
            }
            21 => {
                fl_buffer_release(&mut self.targets[t]);
                fl_pool_acquire(reference(self.pools[b]), 0, &mut self.targets[t]);
            }
            22 => {
                let from = [7; 1024];
                let (rows, stride, row) = (input.number().min(8), input.below(128), input.below(128));
                let first = input.number();
                fl_buffer_write_rows(self.targets[t], input.number(), first, rows, from.as_ptr().cast(), stride, row);
            }
            23 => {
                fl_frame_unref(&mut self.frames[f]);
                if input.byte() < 128 {
                    fl_buffer_freeze(&mut self.targets[t], 1, input.number().into(), &mut self.frames[f]);
                } else {
                    let mut info: fl_frame_info = init();
                    (info.flags, info.memory[0].offset_bytes) = (input.number(), input.number());
                    info.memory[0].bytes = input.number();
                    fl_buffer_freeze_with(&mut self.targets[t], &info, &mut self.frames[f]);
                }
            }
            24 => {
                let sources = [self.frames[f], self.frames[p]];
                fl_converter_submit(station, sources.as_ptr(), input.below(3), &mut self.targets[t]);
            }
            25 => {
                fl_packet_unref(&mut self.packets[p]);
                let bytes = [0, 0, 0, 1, 0x65, 0x88, 0x84, 0x21, input.byte(), input.byte()];
                let mut info: fl_packet_info = init();
                (info.data, info.bytes) = (bytes.as_ptr(), input.below(11));
                (info.codec, info.flags) = (input.number(), input.number());
                (info.width, info.height) = (64, 48);
                info.timestamp_ns = u64::from(input.number()) << 20;
                fl_packet_create(&info, &mut self.packets[p]);
            }
            26 => {
                let mut detached = ptr::null_mut();
                fl_packet_detach(reference(self.packets[p]), &mut detached);
                fl_packet_unref(&mut self.packets[f]);
                self.packets[f] = detached;
            }
            27 => {
                fl_fanout_close(&mut self.fanouts[b]);
                fl_fanout_create(&mut self.fanouts[b]);
            }
            28 => drop(fl_fanout_push(self.fanouts[b], reference(self.packets[p]))),
            29 => {
                fl_tensor_close(&mut self.tensors[b]);
                let mut options: fl_tensor_options = init();
                (options.width, options.height) = (input.number().min(64), input.number().min(64));
                (options.element, options.channels, options.fit) = (input.number(), input.number(), input.number());
                fl_tensor_create(&options, &mut self.tensors[b]);
            }
            30 => {
                let mut data = vec![0u8; 64 * 64 * 3 * 4];
                let bytes = if input.byte() > 30 { input.below(256) * 192 } else { data.len() };
                let mut placement = fl_placement::default();
                let frame = reference(self.frames[f]);
                fl_tensor_write(self.tensors[b], frame, data.as_mut_ptr().cast(), bytes, &mut placement);
            }
            31 => {
                fl_recorder_finish(station);
                fl_event_recorder_trigger(station);
                fl_encoder_force_key(station);
                fl_decoder_drain(station);
                fl_rtsp_unmount(station, input.number());
            }
            32 => {
                // SAFETY: counts are overwritten before they are read.
                let mut stats: [fl_stat; 4] = unsafe { std::mem::zeroed() };
                let mut count = 0;
                fl_station_stats(station, stats.as_mut_ptr(), input.below(5), &mut count);
                let mut error: fl_error = init();
                fl_error_get(station, &mut error);
                std::hint::black_box(fl_message(station));
            }
            _ => {
                let mut destination = 0;
                let to = [c"127.0.0.1:9", c"nowhere", c"239.1.1.1:9"][input.below(3)];
                fl_rtp_add(station, to.as_ptr(), &mut destination);
                fl_rtp_pause(station, destination);
                fl_rtp_remove(station, input.number());
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What gave a handle may be closed before or after it.
        self.stations.iter_mut().for_each(|station| fl_station_close(station));
        self.pools.iter_mut().for_each(|pool| fl_pool_close(pool));
        self.frames.iter_mut().for_each(|frame| fl_frame_unref(frame));
        self.mappings.iter_mut().for_each(|mapping| fl_mapping_close(mapping));
        self.targets.iter_mut().for_each(|target| fl_buffer_release(target));
        self.packets.iter_mut().for_each(|packet| fl_packet_unref(packet));
        self.buffers.iter_mut().for_each(|buffers| fl_buffers_close(buffers));
        self.fanouts.iter_mut().for_each(|fanout| fl_fanout_close(fanout));
        self.tensors.iter_mut().for_each(|tensor| fl_tensor_close(tensor));
    }
}

fn code(text: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*text)
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut world = World::empty();
    for _ in 0..data.len() / 4 {
        world.step(&mut input);
    }
});
