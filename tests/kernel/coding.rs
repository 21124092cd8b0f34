//! Helpers for tests of encoders and decoders: the lab's drivers with their parameters, and streams for the host's
//! ffmpeg to check.

use std::fs::{create_dir_all, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use framelease::bitstream::{nal_units, Codec, NalKind};
use framelease::capture::{Camera, FrameSource};
use framelease::codec::{negotiate, Agreement, Encoder, EncoderEvent, Params, Quirks, Setting, SourceMemory};
use framelease::format::{FourCc, Size};
use framelease::frame::{Frame, Packet};
use framelease::v4l2::Device;
use framelease::{Received, Station, Submit};

use crate::devices::*;

pub const WAIT: Duration = Duration::from_secs(10);

/// Returns fl_h264, loaded with these parameters.
pub fn h264(parameters: &str) -> Option<Device> {
    reload("fl_h264", parameters);
    let found = Device::find_mem_to_mem("device", |d| d.device.driver == "fl_h264" && d.encodes_to(fourcc("H264")));
    needed("fl_h264", found.map_err(|e| e.to_string()))
}

/// vicodec's stateful encoder.
pub fn fwht(planar: Planar) -> Option<Device> {
    vicodec(planar)?;
    needed("vicodec", Encoder::find(Codec::Fwht).map_err(|e| e.to_string()))
}

/// Quirks of a driver that reads each plane at its `data_offset`.
pub fn reading_offsets() -> Quirks {
    let mut quirks = Quirks::default();
    quirks.reads_data_offset = true;
    quirks
}

pub fn params(codec: Codec, size: Size) -> Params {
    Params::new(codec, size).wish(Setting::Gop(4))
}

/// A camera and an encoder that agree on a format.
pub fn pair(camera: &Device, encoder: Device, params: Params, formats: &[FourCc]) -> (Camera, Encoder, Agreement) {
    let agreement = negotiate(&encoder, camera, &params, formats).unwrap();
    let (camera, encoder) = open(camera, encoder, params, &agreement, Quirks::default());
    (camera, encoder, agreement)
}

pub fn open(
    camera: &Device,
    encoder: Device,
    params: Params,
    agreement: &Agreement,
    quirks: Quirks,
) -> (Camera, Encoder) {
    let builder = Camera::builder()
        .device(camera.clone())
        .layout(&agreement.source)
        .interval(framelease::format::FrameInterval::from_fps(60));
    let builder = match agreement.memory {
        SourceMemory::Camera => builder,
        _ => builder.allocator(framelease::dmabuf::Allocator::Udmabuf),
    };
    let camera = builder.open().unwrap();
    let builder = Encoder::builder(params.resized(agreement.size)).device(encoder).quirks(quirks);
    let encoder = builder.open(camera.buffers().unwrap()).unwrap();
    (camera, encoder)
}

/// The next packet; `None` at the end of a drain.
pub fn packet(encoder: &mut Encoder) -> Option<Packet> {
    match encoder.recv(WAIT) {
        Ok(Received::Item(EncoderEvent::Packet(packet))) => Some(packet),
        Ok(Received::Ended) => None,
        other => panic!("instead of a packet: {other:?}"),
    }
}

/// Encodes a frame and returns its packet.
pub fn coded(encoder: &mut Encoder, frame: Frame) -> Packet {
    encoder.try_submit(frame).taken();
    packet(encoder).unwrap()
}

/// Returns every packet up to the end of a drain.
pub fn drained(encoder: &mut Encoder) -> Vec<Packet> {
    encoder.drain().unwrap();
    std::iter::from_fn(|| packet(encoder).map(Packet::detach)).collect()
}

/// Returns the NAL units of an H.264 packet, one letter for each.
pub fn units(packet: &Packet) -> String {
    let letter = |kind| match kind {
        NalKind::Sps => 's',
        NalKind::Pps => 'p',
        NalKind::Slice { is_key: true } => 'I',
        NalKind::Slice { is_key: false } => 'P',
        _ => '?',
    };
    nal_units(packet.bytes()).map(|u| letter(u.kind(Codec::H264))).collect()
}

/// A coded stream and its frames, in the lab, which compares them. Elsewhere they are not kept.
pub struct Judged {
    coded: File,
    raw: File,
}

impl Judged {
    /// The folder in which the lab looks for pairs of a stream and its frames.
    pub fn folder() -> PathBuf {
        let folder = match std::env::var_os("FRAMELEASE_LAB_PROMISES") {
            Some(_) => PathBuf::from("/out/streams"),
            None => std::env::temp_dir(),
        };
        create_dir_all(&folder).unwrap();
        folder
    }

    pub fn new(name: &str) -> Self {
        let folder = Self::folder();
        let file = |kind: &str| File::create(folder.join(format!("{name}.{kind}"))).unwrap();
        Self { coded: file("h264"), raw: file("nv12") }
    }

    pub fn frame(&mut self, frame: &Frame) {
        self.raw.write_all(&pixels(frame)).unwrap();
    }

    pub fn packet(&mut self, packet: &Packet) {
        if let Some(sets) = packet.parameter_sets().filter(|_| packet.is_key() && !packet.carries_parameters()) {
            self.coded.write_all(&sets.to_annexb()).unwrap();
        }
        self.coded.write_all(packet.bytes()).unwrap();
    }
}
