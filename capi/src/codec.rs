//! Encoders, decoders, and the negotiation between camera and encoder.
//!
//! An encoder takes frames and gives FL_EVENT_PACKET. If the device cannot read the source's frames, the library puts a
//! converter between them: a device, never the CPU. A decoder takes packets and gives FL_EVENT_FRAME, after
//! FL_EVENT_FORMAT with its buffers. Both give FL_EVENT_LOST and FL_EVENT_RETURNED.

use std::ffi::c_char;

use framelease::codec::{
    Decoder, DecoderEvent, EncoderEvent, HeaderMode, Level, Outcome, Params, Profile, RateMode, Setting, SliceMode,
    Switch,
};
use framelease::format::FourCc;
use framelease::frame::{BufferBudget, BufferSet, Frame, Packet};
use framelease::negotiate::{EncoderChain, Negotiated, Negotiation};
use framelease::v4l2::Device;
use framelease::{Submit, Submitted};

use crate::capture::{camera, fl_camera_options, fl_pattern_options, pattern, Source};
use crate::ffi::{self, sized, Bool, Out};
use crate::format::{codec, fl_colorimetry, fl_interval, fl_rect, needed_size, size};
use crate::frame::fl_buffers;
use crate::station::fl_event_kind::{FL_EVENT_FORMAT, FL_EVENT_LOST, FL_EVENT_RETURNED};
use crate::station::{fl_stat, fl_station, open, station, stats, submitted, AnyStation, Event};
use crate::status::fl_status::{self, FL_FULL, FL_NOTHING, FL_OK};
use crate::status::{call, call_on, invalid, numbers, state, unsupported, Failure};

/// A setting of an encoder.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_setting_id {
    /// Bits a second.
    FL_SETTING_BITRATE_BPS = 1,
    /// Bits a second, with FL_RATE_VARIABLE.
    FL_SETTING_PEAK_BITRATE_BPS = 2,
    /// An fl_rate_mode.
    FL_SETTING_RATE_MODE = 3,
    /// Frames from a key frame to the next.
    FL_SETTING_GOP = 4,
    /// B frames between two others.
    FL_SETTING_B_FRAMES = 5,
    /// An fl_profile.
    FL_SETTING_PROFILE = 6,
    /// Ten times the level: 41 is 4.1.
    FL_SETTING_LEVEL = 7,
    /// 1: parameter sets before every key frame. Receivers that come later need them.
    FL_SETTING_REPEAT_HEADERS = 8,
    /// 1: parameter sets in a packet of their own. 0: joined to the first frame.
    FL_SETTING_SEPARATE_HEADERS = 9,
    /// 1: access unit delimiters.
    FL_SETTING_DELIMITERS = 10,
    /// Quantization of key frames.
    FL_SETTING_INTRA_QP = 11,
    /// Quantization of other frames.
    FL_SETTING_INTER_QP = 12,
    FL_SETTING_MIN_QP = 13,
    FL_SETTING_MAX_QP = 14,
    /// With FL_RATE_QUALITY, and for JPEG: 1 to 100.
    FL_SETTING_QUALITY = 15,
    /// Macroblocks in a slice.
    FL_SETTING_SLICE_MACROBLOCKS = 16,
    /// Bytes in a slice.
    FL_SETTING_SLICE_BYTES = 17,
    /// The decoder's buffer, in kilobytes.
    FL_SETTING_VBV_KILOBYTES = 18,
    /// Frames in which all macroblocks are refreshed.
    FL_SETTING_INTRA_REFRESH_FRAMES = 19,
    /// 1: the rate control works by frame.
    FL_SETTING_FRAME_RATE_CONTROL = 20,
    /// 1: the rate control works by macroblock.
    FL_SETTING_MACROBLOCK_RATE_CONTROL = 21,
}

numbers!(
    fl_setting_id:
    FL_SETTING_BITRATE_BPS, FL_SETTING_PEAK_BITRATE_BPS, FL_SETTING_RATE_MODE, FL_SETTING_GOP, FL_SETTING_B_FRAMES,
    FL_SETTING_PROFILE, FL_SETTING_LEVEL, FL_SETTING_REPEAT_HEADERS, FL_SETTING_SEPARATE_HEADERS,
    FL_SETTING_DELIMITERS, FL_SETTING_INTRA_QP, FL_SETTING_INTER_QP, FL_SETTING_MIN_QP, FL_SETTING_MAX_QP,
    FL_SETTING_QUALITY, FL_SETTING_SLICE_MACROBLOCKS, FL_SETTING_SLICE_BYTES, FL_SETTING_VBV_KILOBYTES,
    FL_SETTING_INTRA_REFRESH_FRAMES, FL_SETTING_FRAME_RATE_CONTROL, FL_SETTING_MACROBLOCK_RATE_CONTROL
);

#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_rate_mode {
    FL_RATE_CONSTANT = 1,
    FL_RATE_VARIABLE = 2,
    FL_RATE_QUALITY = 3,
}

numbers!(fl_rate_mode: FL_RATE_CONSTANT, FL_RATE_VARIABLE, FL_RATE_QUALITY);

#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_profile {
    FL_PROFILE_BASELINE = 1,
    FL_PROFILE_CONSTRAINED_BASELINE = 2,
    FL_PROFILE_MAIN = 3,
    FL_PROFILE_HIGH = 4,
    FL_PROFILE_MAIN_10 = 5,
    /// VP8's profiles: this number plus 0 to 3.
    FL_PROFILE_VP8 = 100,
}

numbers!(
    fl_profile:
    FL_PROFILE_BASELINE, FL_PROFILE_CONSTRAINED_BASELINE, FL_PROFILE_MAIN, FL_PROFILE_HIGH, FL_PROFILE_MAIN_10,
    FL_PROFILE_VP8
);

/// A setting and its value.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_setting {
    /// sizeof(fl_setting): FL_INIT sets it.
    pub size: usize,
    /// An fl_setting_id.
    pub id: u32,
    /// Fail if the driver does not have the setting or changes the value. Otherwise it is a wish.
    pub is_required: Bool,
    /// In the unit of fl_setting_id.
    pub value: i64,
}

sized!(fl_setting);

/// What an encoder shall do. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_encoder_options {
    /// sizeof(fl_encoder_options): FL_INIT sets it.
    pub size: usize,
    /// An fl_codec. Required.
    pub codec: u32,
    /// The size of the coded picture, in pixels. Default: that of the frames. fl_negotiate() needs it.
    pub width: u32,
    pub height: u32,
    /// The time between frames, for the rate control. Default: 1/30 s.
    pub interval: fl_interval,
    /// The device node. Default: the first encoder that has the codec.
    pub path: *const c_char,
    /// Settings of the encoder. Each begins with its size (FL_INIT), and is a wish or required.
    pub settings: *const fl_setting,
    /// The number of `settings`.
    pub setting_count: usize,
    /// The number of buffers for packets, at most 32. The driver needs two, and sinks hold the others. Default: 6.
    pub packet_buffers: u32,
    /// The size of a buffer for a packet, in bytes. Default: the driver's.
    pub packet_bytes: u32,
    /// Default: that of the frames.
    pub colorimetry: fl_colorimetry,
}

sized!(fl_encoder_options);

fn setting(given: &fl_setting) -> Result<Setting, Failure> {
    let number = || {
        let text = format!("setting {}: {} is not in 0 to {}", given.id, given.value, u32::MAX);
        u32::try_from(given.value).map_err(|_| invalid(text))
    };
    let switch = || match given.value {
        0 => Ok(Switch::Off),
        1 => Ok(Switch::On),
        other => Err(invalid(format!("setting {}: {other} is not 0 or 1", given.id))),
    };
    let unknown = |of: &str| invalid(format!("setting {}: {} is not an {of}", given.id, given.value));
    Ok(match given.id {
        FL_SETTING_BITRATE_BPS => Setting::BitrateBps(number()?),
        FL_SETTING_PEAK_BITRATE_BPS => Setting::PeakBitrateBps(number()?),
        FL_SETTING_RATE_MODE => Setting::RateMode(match number()? {
            FL_RATE_CONSTANT => RateMode::Constant,
            FL_RATE_VARIABLE => RateMode::Variable,
            FL_RATE_QUALITY => RateMode::Quality,
            _ => return Err(unknown("fl_rate_mode")),
        }),
        FL_SETTING_GOP => Setting::Gop(number()?),
        FL_SETTING_B_FRAMES => Setting::BFrames(number()?),
        FL_SETTING_PROFILE => Setting::Profile(match number()? {
            FL_PROFILE_BASELINE => Profile::Baseline,
            FL_PROFILE_CONSTRAINED_BASELINE => Profile::ConstrainedBaseline,
            FL_PROFILE_MAIN => Profile::Main,
            FL_PROFILE_HIGH => Profile::High,
            FL_PROFILE_MAIN_10 => Profile::Main10,
            vp8 @ FL_PROFILE_VP8..=103 => Profile::Vp8((vp8 - FL_PROFILE_VP8) as u8),
            _ => return Err(unknown("fl_profile")),
        }),
        FL_SETTING_LEVEL => match given.value {
            level @ 10..=99 => Setting::Level(Level::new((level / 10) as u8, (level % 10) as u8)),
            other => return Err(invalid(format!("level {other}: ten times the level, such as 41"))),
        },
        FL_SETTING_REPEAT_HEADERS => Setting::RepeatHeaders(switch()?),
        FL_SETTING_SEPARATE_HEADERS => Setting::HeaderMode(match switch()? {
            Switch::On => HeaderMode::Separate,
            _ => HeaderMode::Joined,
        }),
        FL_SETTING_DELIMITERS => Setting::Delimiters(switch()?),
        FL_SETTING_INTRA_QP => Setting::IntraQp(number()?),
        FL_SETTING_INTER_QP => Setting::InterQp(number()?),
        FL_SETTING_MIN_QP => Setting::MinQp(number()?),
        FL_SETTING_MAX_QP => Setting::MaxQp(number()?),
        FL_SETTING_QUALITY => Setting::Quality(number()?),
        FL_SETTING_SLICE_MACROBLOCKS => Setting::Slices(SliceMode::Macroblocks(number()?)),
        FL_SETTING_SLICE_BYTES => Setting::Slices(SliceMode::Bytes(number()?)),
        FL_SETTING_VBV_KILOBYTES => Setting::VbvKilobytes(number()?),
        FL_SETTING_INTRA_REFRESH_FRAMES => Setting::IntraRefreshFrames(number()?),
        FL_SETTING_FRAME_RATE_CONTROL => Setting::FrameRateControl(switch()?),
        FL_SETTING_MACROBLOCK_RATE_CONTROL => Setting::MacroblockRateControl(switch()?),
        other => return Err(invalid(format!("setting {other}: see fl_setting_id"))),
    })
}

/// The parameters of the options, for frames of this size.
fn params(options: &fl_encoder_options, frames: Option<framelease::format::Size>) -> Result<Params, Failure> {
    let size = match (size(options.width, options.height, "the encoder's size")?, frames) {
        (Some(size), _) | (None, Some(size)) => size,
        (None, None) => return Err(invalid("the encoder's size is 0x0")),
    };
    let mut params = Params::new(codec(options.codec)?, size);
    if let Some(interval) = options.interval.get("the encoder's interval")? {
        params = params.interval(interval);
    }
    if options.packet_buffers > 0 {
        params = params.packet_buffers(options.packet_buffers as usize);
    }
    if options.packet_bytes > 0 {
        params = params.packet_bytes(options.packet_bytes);
    }
    if let Some(colorimetry) = options.colorimetry.get() {
        params = params.colorimetry(colorimetry);
    }
    for given in ffi::elements(options.settings, options.setting_count, "setting")? {
        let setting = setting(&given)?;
        params = if given.is_required.get() { params.require(setting) } else { params.wish(setting) };
    }
    Ok(params)
}

fn negotiation(options: &fl_encoder_options, frames: Option<framelease::format::Size>) -> Result<Negotiation, Failure> {
    let negotiation = Negotiation::new(params(options, frames)?);
    Ok(match ffi::optional_path(options.path) {
        Some(path) => negotiation.encoder(Device::open(path)?),
        None => negotiation,
    })
}

fn encoder_event(event: EncoderEvent) -> Event {
    match event {
        EncoderEvent::Packet(packet) => Event::packet(packet),
        EncoderEvent::Lost(error) => Event::error(FL_EVENT_LOST, error),
        EncoderEvent::Returned => Event::new(FL_EVENT_RETURNED),
        other => Event::other(other),
    }
}

impl AnyStation for EncoderChain {
    station!("an encoder", encoder_event);

    fn submit_frame(&mut self, frame: Frame, timeout: std::time::Duration) -> Result<fl_status, Failure> {
        submitted(Submit::submit(self, frame, timeout))
    }

    fn stats(&self) -> Vec<fl_stat> {
        let stats = self.encoder().stats();
        stats!(stats => frames, packets, keys, bytes, errors, refused, in_flight, leased)
    }
}

/// Opens an encoder for frames in these buffers: those of a camera, a subscriber, a pool. Opens a converter too if the
/// encoder cannot read them. When FL_EVENT_FORMAT says that the source has other buffers, close it and open another.
///
/// The encoder reads several frames at the same time: a camera needs buffers for them, and a subscriber's `hold` must
/// cover them (4 is enough for most).
///
/// If the device is lost, the encoder opens it again by itself when it is back.
#[no_mangle]
pub extern "C" fn fl_encoder_open(
    options: *const fl_encoder_options,
    buffers: Option<&fl_buffers>,
    station: *mut *mut fl_station,
) -> fl_status {
    open("fl_encoder_open", station, || {
        let options = ffi::read(options, "options")?;
        let buffers = &buffers.ok_or_else(|| invalid("buffers is NULL"))?.buffers;
        Ok(negotiation(&options, Some(buffers.layout().size()))?.open_for(buffers)?)
    })
}

/// Opens a camera and an encoder that fit each other: the devices, one layout, one set of buffers, and a converter if
/// no layout suits both.
///
/// The source is the camera of `camera_options` (NULL: the first camera), or the test pattern of `pattern_options` if
/// that is not NULL. `subscriber_buffers` is the sum of the quotas of all subscribers of a publisher: for each, the
/// frames that it holds and those that may wait. `reserve` gets the number for fl_publisher_options; it may be NULL.
#[no_mangle]
pub extern "C" fn fl_negotiate(
    camera_options: *const fl_camera_options,
    pattern_options: *const fl_pattern_options,
    encoder_options: *const fl_encoder_options,
    subscriber_buffers: u32,
    source: *mut *mut fl_station,
    encoder: *mut *mut fl_station,
    reserve: *mut u32,
) -> fl_status {
    call("fl_negotiate", || {
        if source == encoder {
            return Err(invalid("source and encoder are the same pointer, which has room for one handle"));
        }
        let (source_out, encoder_out) = (Out::handle(source, "source")?, Out::handle(encoder, "encoder")?);
        let options = ffi::read(encoder_options, "encoder_options")?;
        let mut budget = BufferBudget::default();
        budget.subscribers = subscriber_buffers as usize;
        let mut wanted = negotiation(&options, None)?.budget(budget);
        if pattern_options.is_null() {
            wanted = wanted.camera(camera(&ffi::read_or_zero(camera_options, "camera_options")?)?);
        } else {
            wanted = wanted.test_pattern(pattern(&ffi::read(pattern_options, "pattern_options")?)?);
        }
        let Negotiated { source, encoder, budget, .. } = wanted.open()?;
        if !reserve.is_null() {
            Out::number(reserve, "reserve")?.put(budget.reserve() as u32);
        }
        source_out.put_box(fl_station::new(Source::Other(source)));
        encoder_out.put_box(fl_station::new(encoder));
        Ok(FL_OK)
    })
}

fn with_encoder(
    function: &'static str,
    station: Option<&fl_station>,
    run: impl FnOnce(&mut EncoderChain) -> Result<fl_status, Failure>,
) -> fl_status {
    call_on(function, station, |station| station.with("an encoder", run))
}

/// Makes the next frame a key frame. Costs nothing until that frame was received, so call it each time that a sink
/// awaits one. A driver that cannot force key frames keeps its own interval.
#[no_mangle]
pub extern "C" fn fl_encoder_force_key(encoder: Option<&fl_station>) -> fl_status {
    with_encoder("fl_encoder_force_key", encoder, |encoder| {
        encoder.force_key()?;
        Ok(FL_OK)
    })
}

/// Changes a setting while the encoder runs, such as the bit rate. `applied`, which may be NULL, gets the value that
/// the driver has set. FL_NOTHING if the driver does not have the setting.
#[no_mangle]
pub extern "C" fn fl_encoder_apply(encoder: Option<&fl_station>, id: u32, value: i64, applied: *mut i64) -> fl_status {
    with_encoder("fl_encoder_apply", encoder, |encoder| {
        let setting = setting(&fl_setting { size: 0, id, is_required: Bool::default(), value })?;
        let set = match encoder.encoder_mut().apply(setting)? {
            Outcome::Exact => value,
            Outcome::Adjusted(set) => set,
            Outcome::Missing => return Ok(FL_NOTHING),
            Outcome::Refused(error) => return Err(error.into()),
            _ => return Err(unsupported("the outcome is of a later version")),
        };
        if !applied.is_null() {
            Out::number(applied, "applied")?.put(set);
        }
        Ok(FL_OK)
    })
}

/// Ends the stream: the encoder gives the packets of all frames that it has, then FL_ENDED.
#[no_mangle]
pub extern "C" fn fl_encoder_drain(encoder: Option<&fl_station>) -> fl_status {
    with_encoder("fl_encoder_drain", encoder, |encoder| {
        encoder.drain()?;
        Ok(FL_OK)
    })
}

/// Copies the stream's parameter sets in Annex B form to `to`, which has room for `capacity` bytes, and gives their
/// length. FL_NOTHING before the first key frame. If `capacity` is smaller than the length, nothing is copied; `to` may
/// be NULL if `capacity` is 0.
#[no_mangle]
pub extern "C" fn fl_encoder_parameter_sets(
    encoder: Option<&fl_station>,
    to: *mut u8,
    capacity: usize,
    length: *mut usize,
) -> fl_status {
    with_encoder("fl_encoder_parameter_sets", encoder, |encoder| {
        let out = Out::number(length, "length")?;
        let Some(sets) = encoder.encoder().parameter_sets() else { return Ok(FL_NOTHING) };
        let bytes = sets.to_annexb();
        if bytes.len() <= capacity {
            ffi::fill_array(to, capacity, &bytes, "to")?;
        }
        out.put(bytes.len());
        Ok(FL_OK)
    })
}

/// What a decoder shall do. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_decoder_options {
    /// sizeof(fl_decoder_options): FL_INIT sets it.
    pub size: usize,
    /// An fl_codec. Required.
    pub codec: u32,
    /// The device node. Default: the first decoder that has the codec.
    pub path: *const c_char,
    /// Formats of the frames, best first. Default: what the device prefers.
    pub fourccs: *const u32,
    /// The number of `fourccs`.
    pub fourcc_count: usize,
    /// The expected size, in pixels, which decides the size of the packet buffers. Default: 1920x1088.
    pub width: u32,
    pub height: u32,
    /// The number of frames that the program holds at the same time, besides those of the decoder. Default: 4.
    pub frames_held: u32,
    /// The size of the largest packet, in bytes. Default: the driver's estimate.
    pub packet_bytes: u32,
}

sized!(fl_decoder_options);

fn decoder_event(event: DecoderEvent) -> Event {
    match event {
        DecoderEvent::Frame(frame) => Event::frame(frame),
        DecoderEvent::Format(pictures) => Event::text(FL_EVENT_FORMAT, pictures.buffers.layout().to_string()),
        DecoderEvent::Lost(error) => Event::error(FL_EVENT_LOST, error),
        DecoderEvent::Returned => Event::new(FL_EVENT_RETURNED),
        other => Event::other(other),
    }
}

fn no_pictures() -> Failure {
    state("the decoder has not found the stream's format yet: wait for FL_EVENT_FORMAT")
}

impl AnyStation for Decoder {
    station!("a decoder", decoder_event);

    fn submit_packet(&mut self, packet: Packet, timeout: std::time::Duration) -> Result<fl_status, Failure> {
        submitted(Submit::submit(self, packet, timeout))
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        Ok(Decoder::reopen(self)?)
    }

    fn buffers(&self) -> Result<BufferSet, Failure> {
        Ok(self.pictures().ok_or_else(no_pictures)?.buffers.clone())
    }

    fn stats(&self) -> Vec<fl_stat> {
        stats!(Decoder::stats(self) => packets, frames, bytes, errors, formats)
    }
}

/// Opens a decoder. fl_station_submit_packet() gives it packets.
#[no_mangle]
pub extern "C" fn fl_decoder_open(options: *const fl_decoder_options, station: *mut *mut fl_station) -> fl_status {
    open("fl_decoder_open", station, || {
        let options = ffi::read(options, "options")?;
        let mut builder = Decoder::builder(codec(options.codec)?);
        if let Some(path) = ffi::optional_path(options.path) {
            builder = builder.device(Device::open(path)?);
        }
        let formats = ffi::slice(options.fourccs, options.fourcc_count, "fourccs")?;
        if !formats.is_empty() {
            builder = builder.formats(formats.iter().map(|&code| FourCc::from(code)).collect::<Vec<FourCc>>());
        }
        if options.width != 0 || options.height != 0 {
            builder = builder.size(needed_size(options.width, options.height, "the size")?);
        }
        if options.frames_held > 0 {
            builder = builder.frames_held(options.frames_held as usize);
        }
        if options.packet_bytes > 0 {
            builder = builder.packet_bytes(options.packet_bytes);
        }
        Ok(builder.open()?)
    })
}

/// Gives a decoder the bytes of one access unit or frame, without a packet. The decoded frame gets the number and the
/// time. FL_FULL while the device uses all buffers.
#[no_mangle]
pub extern "C" fn fl_decoder_submit_bytes(
    decoder: Option<&fl_station>,
    data: *const u8,
    bytes: usize,
    sequence: u64,
    timestamp_ns: u64,
) -> fl_status {
    call_on("fl_decoder_submit_bytes", decoder, |station| {
        let data = ffi::slice(data, bytes, "data")?;
        station.with("a decoder", |decoder: &mut Decoder| {
            Ok(match decoder.try_submit_bytes(data, sequence, timestamp_ns)? {
                Submitted::Taken => FL_OK,
                Submitted::Full(()) => FL_FULL,
            })
        })
    })
}

/// Gives the visible part of each frame, such as 1080 of 1088 rows. FL_ERROR_STATE before FL_EVENT_FORMAT.
#[no_mangle]
pub extern "C" fn fl_decoder_get_visible(decoder: Option<&fl_station>, visible: *mut fl_rect) -> fl_status {
    call_on("fl_decoder_get_visible", decoder, |station| {
        let out = Out::number(visible, "visible")?;
        station.with("a decoder", |decoder: &mut Decoder| {
            out.put(decoder.pictures().ok_or_else(no_pictures)?.visible.into());
            Ok(FL_OK)
        })
    })
}

/// Ends the stream: the decoder gives the frames of all packets that it has, then FL_ENDED.
#[no_mangle]
pub extern "C" fn fl_decoder_drain(decoder: Option<&fl_station>) -> fl_status {
    call_on("fl_decoder_drain", decoder, |station| {
        station.with("a decoder", |decoder: &mut Decoder| Ok(decoder.drain()?))?;
        Ok(FL_OK)
    })
}

/// Drops what the decoder has, for a jump in the stream. Continue with a key frame.
#[no_mangle]
pub extern "C" fn fl_decoder_flush(decoder: Option<&fl_station>) -> fl_status {
    call_on("fl_decoder_flush", decoder, |station| {
        station.with("a decoder", |decoder: &mut Decoder| Ok(decoder.flush()?))?;
        Ok(FL_OK)
    })
}

#[cfg(feature = "jpeg")]
impl AnyStation for framelease::codec::JpegDecoder {
    station!("a JPEG decoder", decoder_event);

    fn submit_packet(&mut self, packet: Packet, timeout: std::time::Duration) -> Result<fl_status, Failure> {
        submitted(Submit::submit(self, packet, timeout))
    }

    fn buffers(&self) -> Result<BufferSet, Failure> {
        Ok(self.pictures().ok_or_else(no_pictures)?.buffers.clone())
    }

    fn stats(&self) -> Vec<fl_stat> {
        stats!(framelease::codec::JpegDecoder::stats(self) => packets, frames, bytes, errors, formats)
    }
}

/// Opens a decoder of Motion JPEG on the CPU, for webcams, with `buffers` buffers for frames (1 to 64). `allocator` is
/// as for fl_pool_create(), but NULL is "cpu". FL_ERROR_UNSUPPORTED if the library was built without it.
#[no_mangle]
pub extern "C" fn fl_jpeg_decoder_open(
    allocator: *const c_char,
    buffers: u32,
    station: *mut *mut fl_station,
) -> fl_status {
    #[cfg(feature = "jpeg")]
    return open("fl_jpeg_decoder_open", station, || {
        if !(1..=64).contains(&buffers) {
            return Err(invalid(format!("buffers is {buffers}: 1 to 64")));
        }
        let allocator = crate::frame::allocator(allocator)?;
        let allocator = allocator.unwrap_or_else(framelease::dmabuf::Allocator::for_cpu_source);
        Ok(framelease::codec::JpegDecoder::new(&allocator, buffers as usize)?)
    });
    #[cfg(not(feature = "jpeg"))]
    return call("fl_jpeg_decoder_open", || {
        let _ = (allocator, buffers);
        Out::handle(station, "station")?;
        Err(unsupported("this library was built without the feature jpeg"))
    });
}
