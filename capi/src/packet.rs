//! Packets: coded frames.
//!
//! One encode can feed any number of sinks: a packet is counted, and no sink copies its bytes. They lie in a buffer of
//! the encoder, which returns with the last reference; so do not keep packets for long, or detach them.

use framelease::format::Size;
use framelease::frame::{FrameFlags, Overflow, Packet, PacketFanout, PacketMeta, PacketReceiver, QueueCapacity};

use crate::ffi::{self, sized, Fill, Out};
use crate::format::{codec, codec_number};
use crate::frame::{flags, FL_FRAME_KEY, FL_FRAME_MONOTONIC};
use crate::station::{fl_station, station, stats, AnyStation, Event};
use crate::status::fl_status::{self, FL_OK};
use crate::status::{call, invalid, numbers, value};

/// A coded frame. Counted: fl_packet_ref() and fl_packet_unref().
#[allow(non_camel_case_types)]
pub struct fl_packet {
    pub(crate) packet: Packet,
}

/// The facts of a packet, and its bytes.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_packet_info {
    /// sizeof(fl_packet_info): FL_INIT sets it.
    pub size: usize,
    /// The bytes, in Annex B form for H.264 and H.265. Valid as long as you hold the packet.
    pub data: *const u8,
    /// The number of bytes.
    pub bytes: usize,
    /// An fl_codec.
    pub codec: u32,
    /// FL_FRAME_...: FL_FRAME_KEY and others.
    pub flags: u32,
    /// The width of the picture, in pixels.
    pub width: u32,
    /// The height of the picture, in pixels.
    pub height: u32,
    /// The number of the packet in its stream. A gap means that packets were dropped on the way.
    pub sequence: u64,
    /// When the frame was taken, in nanoseconds.
    pub timestamp_ns: u64,
    /// The sequence of the frame that was encoded, or UINT64_MAX if the encoder could not match it.
    pub source_sequence: u64,
}

sized!(fl_packet_info);

/// Adds a reference and returns `packet`. Each reference needs one fl_packet_unref().
#[no_mangle]
pub extern "C" fn fl_packet_ref(packet: *mut fl_packet) -> *mut fl_packet {
    ffi::count_up(packet)
}

/// Gives a reference back and makes the pointer NULL. NULL, or a pointer to NULL, is allowed.
#[no_mangle]
pub extern "C" fn fl_packet_unref(packet: *mut *mut fl_packet) {
    call("fl_packet_unref", || {
        ffi::count_down(packet);
        Ok(FL_OK)
    });
}

/// Fills `info`. No system call, and no copy.
#[no_mangle]
pub extern "C" fn fl_packet_get_info(packet: Option<&fl_packet>, info: *mut fl_packet_info) -> fl_status {
    call("fl_packet_get_info", || {
        let packet = &packet.ok_or_else(|| invalid("the packet is NULL"))?.packet;
        let meta = packet.meta();
        Fill::new(info, "info")?.put(&fl_packet_info {
            size: 0,
            data: packet.bytes().as_ptr(),
            bytes: packet.bytes().len(),
            codec: codec_number(meta.codec),
            flags: flags(meta.flags),
            width: meta.size.width,
            height: meta.size.height,
            sequence: meta.sequence,
            timestamp_ns: meta.timestamp_ns,
            source_sequence: meta.source.unwrap_or(u64::MAX),
        });
        Ok(FL_OK)
    })
}

/// Makes a packet of your program's bytes, which it copies: for a decoder, or for the sinks of another encoder. Of
/// `info`, `source_sequence` is not read, and of the flags FL_FRAME_KEY and FL_FRAME_MONOTONIC.
#[no_mangle]
pub extern "C" fn fl_packet_create(info: *const fl_packet_info, packet: *mut *mut fl_packet) -> fl_status {
    call("fl_packet_create", || {
        let out = Out::handle(packet, "packet")?;
        let info = ffi::read(info, "info")?;
        let bytes = ffi::slice(info.data, info.bytes, "data")?;
        let size = Size::new(info.width, info.height);
        let mut meta = PacketMeta::new(codec(info.codec)?, size, info.sequence, info.timestamp_ns);
        for (bit, flag) in [(FL_FRAME_KEY, FrameFlags::KEY), (FL_FRAME_MONOTONIC, FrameFlags::MONOTONIC)] {
            if info.flags & bit != 0 {
                meta.flags |= flag;
            }
        }
        out.put(ffi::counted(fl_packet { packet: Packet::new(meta, bytes, None) }));
        Ok(FL_OK)
    })
}

/// Gives a packet with a copy of the bytes, so that the encoder's buffer can return. Use it for packets that wait for
/// long.
#[no_mangle]
pub extern "C" fn fl_packet_detach(packet: Option<&fl_packet>, detached: *mut *mut fl_packet) -> fl_status {
    call("fl_packet_detach", || {
        let out = Out::handle(detached, "detached")?;
        let packet = packet.ok_or_else(|| invalid("the packet is NULL"))?.packet.clone();
        out.put(ffi::counted(fl_packet { packet: packet.detach() }));
        Ok(FL_OK)
    })
}

/// Shares packets with receivers, which may be in other threads: for example a recorder, whose disk may stall. Close it
/// with fl_fanout_close().
#[allow(non_camel_case_types)]
pub struct fl_fanout {
    fanout: PacketFanout,
}

/// What a full queue of a receiver does.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_overflow {
    /// The packets that wait are dropped. For live consumers.
    FL_OVERFLOW_DROP_WAITING = 0,
    /// The packets that wait are kept, and the new packet is dropped. For files.
    FL_OVERFLOW_DROP_NEW = 1,
}

numbers!(fl_overflow: FL_OVERFLOW_DROP_WAITING, FL_OVERFLOW_DROP_NEW);

/// Creates a fan-out without receivers.
#[no_mangle]
pub extern "C" fn fl_fanout_create(fanout: *mut *mut fl_fanout) -> fl_status {
    call("fl_fanout_create", || {
        Out::handle(fanout, "fanout")?.put_box(fl_fanout { fanout: PacketFanout::new() });
        Ok(FL_OK)
    })
}

/// Adds a receiver, which is a station: its events are FL_EVENT_PACKET, beginning with a key frame, and FL_ENDED after
/// fl_fanout_close(). At most `packets` packets with `bytes` bytes together wait for it; 0 is the default of 60 packets
/// and 8 MiB. `overflow` is an fl_overflow. Close the receiver with fl_station_close().
#[no_mangle]
pub extern "C" fn fl_fanout_attach(
    fanout: *mut fl_fanout,
    packets: usize,
    bytes: usize,
    overflow: u32,
    receiver: *mut *mut fl_station,
) -> fl_status {
    call("fl_fanout_attach", || {
        let out = Out::handle(receiver, "receiver")?;
        let fanout = ffi::exclusive(fanout, "the fan-out")?;
        let overflow = match overflow {
            FL_OVERFLOW_DROP_WAITING => Overflow::DropWaiting,
            FL_OVERFLOW_DROP_NEW => Overflow::DropNew,
            other => return Err(invalid(format!("overflow {other}: see fl_overflow"))),
        };
        let default = QueueCapacity::default();
        let or = |number: usize, default: usize| if number == 0 { default } else { number };
        let capacity = QueueCapacity::new(or(packets, default.packets), or(bytes, default.bytes), overflow);
        out.put_box(fl_station::new(fanout.fanout.attach(capacity)?));
        Ok(FL_OK)
    })
}

/// Gives a packet to every receiver. Never blocks.
#[no_mangle]
pub extern "C" fn fl_fanout_push(fanout: *mut fl_fanout, packet: Option<&fl_packet>) -> fl_status {
    call("fl_fanout_push", || {
        let packet = packet.ok_or_else(|| invalid("the packet is NULL"))?;
        ffi::exclusive(fanout, "the fan-out")?.fanout.push(&packet.packet);
        Ok(FL_OK)
    })
}

/// Returns whether a receiver waits for a key frame: call fl_encoder_force_key().
#[no_mangle]
pub extern "C" fn fl_fanout_awaits_key(fanout: Option<&fl_fanout>) -> bool {
    value("fl_fanout_awaits_key", false, || {
        Ok(fanout.ok_or_else(|| invalid("the fan-out is NULL"))?.fanout.awaits_key())
    })
}

/// Ends all receivers' streams, after the packets that wait, and makes the pointer NULL. NULL is allowed.
#[no_mangle]
pub extern "C" fn fl_fanout_close(fanout: *mut *mut fl_fanout) {
    call("fl_fanout_close", || {
        ffi::free_box(fanout);
        Ok(FL_OK)
    });
}

impl AnyStation for PacketReceiver {
    station!("a packet receiver", Event::packet);

    fn stats(&self) -> Vec<crate::station::fl_stat> {
        struct Counts {
            dropped: u64,
            waiting: usize,
        }
        stats!(Counts { dropped: self.dropped(), waiting: self.waiting() } => dropped, waiting)
    }
}
