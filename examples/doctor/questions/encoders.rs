//! What an encoder does with some frames of noise.

use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::codec::{source_layout, Encoder, EncoderEvent, Params, Setting};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{ColorSpace, Colorimetry, FrameInterval, Layout, Range};
use framelease::frame::{Frame, FrameFlags, Packet, Pool};
use framelease::v4l2::{Device, Direction, Resumed};
use framelease::{Received, Station, Submit, Submitted};

use super::super::common::Result;
use super::super::options::Options;
use super::super::paths::FORMATS;
use super::paint::moved;
use super::{reply, sps, unasked, Reply};

const CODECS: [Codec; 4] = [Codec::H264, Codec::Hevc, Codec::Vp8, Codec::Fwht];
/// For one packet.
const WAIT: Duration = Duration::from_secs(3);
const BUFFERS: usize = 8;

/// An encoder and buffers of its layout.
struct Coder {
    encoder: Encoder,
    pool: Pool,
    frames: u64,
}

fn params(o: &Options, device: &Device) -> Result<Params> {
    let offers = device.formats(Direction::Capture)?;
    let codec = CODECS.into_iter().find(|codec| offers.iter().any(|offer| offer.fourcc == codec.fourcc()));
    let codec = codec.ok_or("it has none of the codecs of framelease")?;
    Ok(Params::new(codec, o.size).interval(FrameInterval::from_fps(30)).wish(Setting::Gop(1000)))
}

fn layout(device: &Device, params: &Params) -> Result<Layout> {
    let mut refused = None;
    for format in FORMATS {
        match source_layout(device, params, format) {
            Ok(layout) => return Ok(layout),
            Err(e) => refused.get_or_insert(e),
        };
    }
    Err(refused.map_or_else(|| "no formats to try".into(), Into::into))
}

impl Coder {
    fn open(o: &Options, node: &str) -> Result<Self> {
        let device = Device::open(node)?;
        let params = params(o, &device)?;
        let layout = layout(&device, &params)?;
        Self::with(device, params, layout)
    }

    fn with(device: Device, params: Params, layout: Layout) -> Result<Self> {
        let pool = Pool::new(&Allocator::for_devices()?, layout, BUFFERS)?;
        let encoder = Encoder::builder(params).device(device).open(pool.buffers())?;
        Ok(Self { encoder, pool, frames: 0 })
    }

    /// The next frame of noise, which is the same in every process.
    fn noise(&mut self) -> Result<Frame> {
        let mut frame = self.pool.acquire(WAIT).ok_or("the encoder gives no frame back")?;
        let layout = *frame.layout();
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ self.frames;
        let mut write = frame.write(DEFAULT_WAIT)?;
        for plane in 0..layout.planes().len() {
            let mut row = vec![0; layout.row_bytes(plane) as usize];
            for y in 0..layout.rows(plane) {
                for byte in &mut row {
                    // xorshift64
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    *byte = state as u8;
                }
                write.copy_row(plane, y, &row)?;
            }
        }
        drop(write);
        self.frames += 1;
        Ok(frame.freeze_full(self.frames, self.frames * 33_000_000))
    }

    /// `false`: it has no room for another frame.
    fn submit(&mut self) -> Result<bool> {
        let frame = self.noise()?;
        match self.encoder.try_submit(frame) {
            Ok(Submitted::Taken) => Ok(true),
            Ok(Submitted::Full(_)) => Ok(false),
            Err(e) => Err(e.error.into()),
        }
    }

    /// None: the stream has ended. Some(None): nothing came in time.
    fn packet(&mut self) -> Result<Option<Option<Packet>>> {
        match self.encoder.recv(WAIT)? {
            Received::Item(EncoderEvent::Packet(packet)) => Ok(Some(Some(packet))),
            Received::Item(EncoderEvent::Lost(e)) => Err(e.into()),
            Received::Ended => Ok(None),
            _ => Ok(Some(None)),
        }
    }

    /// Drains it. Returns the packets, and whether the end came.
    fn drained(&mut self) -> Result<(Vec<Packet>, bool)> {
        self.encoder.drain()?;
        let mut packets = Vec::new();
        loop {
            match self.packet()? {
                Some(Some(packet)) => packets.push(packet.detach()),
                Some(None) => return Ok((packets, false)),
                None => return Ok((packets, true)),
            }
        }
    }

    /// Submits frames until it has no room.
    fn submitted(&mut self, frames: u64) -> Result<u64> {
        let mut taken = 0;
        while taken < frames && self.submit()? {
            taken += 1;
        }
        Ok(taken)
    }
}

pub fn drain(o: &Options, node: &str) -> Result<Reply> {
    let mut coder = Coder::open(o, node)?;
    let frames = coder.submitted(3)?;
    let (packets, ended) = coder.drained()?;
    let counts = format!("{frames} frames, {} packets", packets.len());
    match ended {
        true => reply("yes", format!("yes: {counts}, and the end")),
        false => reply("no", format!("no: {counts}, and no end within {} s", WAIT.as_secs())),
    }
}

pub fn resume(o: &Options, node: &str) -> Result<Reply> {
    let mut coder = Coder::open(o, node)?;
    coder.submitted(2)?;
    if !coder.drained()?.1 {
        return unasked("the drain does not end");
    }
    let value = match coder.encoder.resume()? {
        Resumed::Continued => "continues",
        _ => "a new stream begins",
    };
    coder.submit()?;
    let is_coded = matches!(coder.packet()?, Some(Some(_))) || !coder.drained()?.0.is_empty();
    let after = if is_coded { "the next frame is encoded" } else { "but the next frame gives no packet" };
    reply(value, format!("{value}, {after}"))
}

pub fn key(o: &Options, node: &str) -> Result<Reply> {
    let mut coder = Coder::open(o, node)?;
    // The first is a key frame anyway.
    coder.submit()?;
    let first = coder.packet()?;
    let before = coder.submitted(3)?;
    coder.encoder.force_key()?;
    // Those that are done cannot be changed any more.
    let mut packets = Vec::new();
    while let Received::Item(event) = coder.encoder.try_recv()? {
        if let EncoderEvent::Packet(packet) = event {
            packets.push(packet.detach());
        }
    }
    let done = packets.len() as u64;
    let after = coder.submitted(2)?;
    packets.extend(coder.drained()?.0);
    // If the encoder delays, the first one may come late.
    packets.retain(|packet| packet.meta().source != Some(1));
    let _ = first;
    let Some(at) = packets.iter().position(Packet::is_key).map(|at| at as u64) else {
        return reply("ignored", format!("none of {} frames is a key frame", packets.len()));
    };
    let text = format!(
        "{before} frames were queued before it, of which {done} were done, and {after} after it; frame {} is the key",
        at + 1
    );
    match at < before {
        true => reply("next encoded", format!("the next encoded: {text}")),
        false if done == before => unasked("the encoder had encoded every queued frame; try a larger --size"),
        false => reply("next queued", format!("the next queued: {text}")),
    }
}

pub fn buffer(o: &Options, node: &str) -> Result<Reply> {
    let mut coder = Coder::open(o, node)?;
    let frames = coder.submitted(3)?;
    let (packets, _) = coder.drained()?;
    let largest = packets.iter().map(|packet| packet.bytes().len()).max().unwrap_or(0);
    let damaged = coder.encoder.stats().errors;
    let flagged = packets.iter().filter(|packet| packet.meta().flags.contains(FrameFlags::ERROR)).count() as u64;
    let text = format!("{frames} frames of noise: {} packets, the largest of {largest} bytes", packets.len());
    match damaged.max(flagged) {
        0 => reply("yes", format!("yes: {text}")),
        damaged => reply("no", format!("no: {text}, {damaged} damaged; set Params::packet_bytes")),
    }
}

/// MiB/s of reading these bytes: the best of several times.
fn speed(bytes: &[u8]) -> f64 {
    let mut best = 0.0f64;
    let mut copy = Vec::with_capacity(bytes.len());
    for _ in 0..16 {
        copy.clear();
        let start = Instant::now();
        copy.extend_from_slice(bytes);
        best = best.max(std::hint::black_box(&copy).len() as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 20));
    }
    best
}

pub fn cache(o: &Options, node: &str) -> Result<Reply> {
    let mut coder = Coder::open(o, node)?;
    let hints = coder.encoder.device().memory_capabilities(Direction::Capture)?;
    coder.submit()?;
    let packet = match coder.packet()? {
        Some(Some(packet)) => packet,
        _ => return unasked("no packet came"),
    };
    let (here, cached) = (speed(packet.bytes()), speed(packet.detach().bytes()));
    let value = match hints.map(|memory| memory.cache_hints) {
        Some(true) => "hint",
        Some(false) => "no hint",
        None => "unknown",
    };
    let taken = match value {
        "hint" => "the driver takes the hint",
        "no hint" => "the driver does not take the hint",
        _ => "the driver does not report the hint",
    };
    reply(value, format!("{taken}; packets are read at {here:.0} MiB/s, cached memory at {cached:.0} MiB/s"))
}

pub fn range(o: &Options, node: &str) -> Result<Reply> {
    let written = |range: Range| -> Result<Option<bool>> {
        let device = Device::open(node)?;
        // The kernel drops the range of a format without a color space.
        let color = Colorimetry { space: ColorSpace::Rec709, range, ..Colorimetry::default() };
        let params = params(o, &device)?.colorimetry(color);
        if params.codec() != Codec::H264 {
            return unasked("only headers of H.264 are read");
        }
        let layout = layout(&device, &params)?.with_colorimetry(color);
        let mut coder = Coder::with(device, params, layout)?;
        coder.submit()?;
        coder.drained()?;
        let sets = coder.encoder.parameter_sets().ok_or("no parameter sets came")?;
        let found = sets.iter().find_map(sps::full_range);
        Ok(found)
    };
    let name = |full: Option<bool>| match full {
        Some(true) => "full",
        Some(false) => "limited",
        None => "none",
    };
    let (limited, full) = (name(written(Range::Limited)?), name(written(Range::Full)?));
    let value = match (limited, full) {
        ("limited", "full") => "as named",
        ("full", "limited") => "exchanged",
        ("none", "none") => "none",
        _ => "one for both",
    };
    reply(value, format!("{value}: limited is written as {limited}, full as {full}"))
}

pub fn offset(o: &Options, node: &str) -> Result<Reply> {
    let device = Device::open(node)?;
    let params = params(o, &device)?;
    let plain = layout(&device, &params)?;
    let moved = moved(&plain)?;
    let first = |mut coder: Coder| -> Result<Vec<u8>> {
        coder.submit()?;
        let packets = coder.drained()?.0;
        Ok(packets.first().ok_or("no packet came")?.bytes().to_vec())
    };
    let with_offset = Coder::with(device, params.clone(), moved).and_then(first);
    let with_offset = with_offset.map_err(|e| format!("framelease sets it for known drivers only: {e}"))?;
    let without = first(Coder::with(Device::open(node)?, params, plain)?)?;
    match with_offset == without {
        true => reply("yes", "yes: the same picture at another offset gives the same packet"),
        false => reply("no", "no: the same picture at another offset gives another packet"),
    }
}
