//! Sets up an encoder before its queues have buffers, in the order of `dev-encoder.rst`, "Initialization".

use super::controls::{self, apply_all};
use super::parameters::{Applied, Setting, Switch};
use super::{Params, Quirks};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Colorimetry, FormatKind, FourCc, FrameInterval, Layout, Rect};
use crate::v4l2::{geometry, holds, splits, Device, Direction, FormatRequest, SelectionTarget};

/// The result of setting up an encoder for sources of one layout.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) queue: Layout,
    /// The planes of a source share a buffer, and the queue has a buffer for each plane.
    pub(super) is_split: bool,
    pub(super) interval: Option<FrameInterval>,
    pub(super) applied: Vec<Applied>,
}

/// Sets the coded format, which determines the formats of the output queue.
pub(super) fn set_coded_format(device: &Device, params: &Params, colors: Colorimetry) -> Result<()> {
    let offered = device.formats(Direction::Capture)?;
    let has = |fourcc| offered.iter().any(|offer| offer.fourcc == fourcc);
    let fourcc = params.codec().fourcc_among(has).unwrap_or(params.codec().fourcc());
    let mut request = FormatRequest::new(fourcc, params.size());
    request.memory_bytes[0] = params.packet_bytes;
    request.colorimetry = colors;
    device.set_format(Direction::Capture, &request).map(drop)
}

/// Returns the layout that an encoder expects for pictures of this format and of the stream's size. Use this layout to
/// allocate or convert frames that do not come from a camera. The encoder crops the rows and columns beyond
/// [`Params::size`]. The call sets the encoder's coded format. Ioctls: `VIDIOC_S_FMT` on the capture queue,
/// `VIDIOC_TRY_FMT`.
///
/// # Errors
/// `Unsupported` if the encoder does not read the format. The text lists the formats that it reads.
#[doc(alias = "VIDIOC_TRY_FMT")]
pub fn source_layout(encoder: &Device, params: &Params, fourcc: FourCc) -> Result<Layout> {
    set_coded_format(encoder, params, Colorimetry::default())?;
    encoder.try_format(Direction::Output, &FormatRequest::new(fourcc, params.size()))
}

/// Returns the request to read a source's layout, perhaps in the format with a buffer for each plane.
pub(super) fn reading(source: &Layout, read: FourCc, params: &Params) -> FormatRequest {
    let mut request = FormatRequest::from_layout(source);
    request.fourcc = read;
    // The encoder determines the sizes of the buffers.
    request.memory_bytes = Default::default();
    if read != source.fourcc() {
        for (stride, plane) in request.stride_bytes.iter_mut().zip(source.planes()) {
            *stride = plane.stride_bytes;
        }
    }
    if let Some(colorimetry) = params.colorimetry {
        request.colorimetry = colorimetry;
    }
    // vsi_v4l2enc and amphion copy these fields into the stream. They derive nothing from the color space.
    if read.info().is_some_and(|i| i.kind == FormatKind::Yuv) {
        request.colorimetry = request.colorimetry.stated(FormatKind::Yuv);
    }
    request
}

impl Setup {
    /// Sets up a device whose queues have no buffers. Ioctls: `VIDIOC_S_FMT` twice, `VIDIOC_S_PARM`,
    /// `VIDIOC_S_SELECTION`, `VIDIOC_S_EXT_CTRLS`.
    pub(super) fn apply(device: &Device, params: &Params, source: &Layout, quirks: Quirks) -> Result<Self> {
        let colors = reading(source, source.fourcc(), params).colorimetry;
        set_coded_format(device, params, colors)?;
        let (queue, is_split) = set_source_format(device, params, source, quirks)?;
        keep_packet_bytes(device, params, colors, |queue| fits(source, queue, is_split))?;
        let interval = set_interval(device, params)?;
        set_crop(device, params, source, &queue)?;
        let applied = apply_all(device, params)?;
        let repeats = Setting::RepeatHeaders(Switch::On);
        if quirks.restart_continues && !params.names(&repeats) {
            controls::apply(device, params.codec(), repeats)?;
        }
        Ok(Self { queue, is_split, interval, applied })
    }
}

/// Returns whether frames of a layout can be queued as they are, or plane by plane.
pub(super) fn fits(source: &Layout, queue: &Layout, is_split: bool) -> bool {
    if is_split {
        splits(source, queue)
    } else {
        holds(source, queue)
    }
}

/// Sets the output queue to the layout of the source. Accepts no other layout.
fn set_source_format(device: &Device, params: &Params, source: &Layout, quirks: Quirks) -> Result<(Layout, bool)> {
    let split = source.fourcc().split().filter(|_| quirks.reads_data_offset);
    for (read, is_split) in [(Some(source.fourcc()), false), (split, true)] {
        let Some(read) = read else { continue };
        let request = reading(source, read, params);
        if device.try_format(Direction::Output, &request).is_ok_and(|queue| fits(source, &queue, is_split)) {
            let given = device.set_format(Direction::Output, &request)?;
            if fits(source, &given, is_split) {
                return Ok((given, is_split));
            }
        }
    }
    let queue = device.try_format(Direction::Output, &reading(source, source.fourcc(), params))?;
    let text = format!("the source has {}, the encoder reads {}", geometry(source), geometry(&queue));
    Err(Error::new(ErrorKind::Mismatch, "VIDIOC_TRY_FMT", text).on(device))
}

/// Requests the size of the bitstream buffers again, if setting the source format has changed it.
fn keep_packet_bytes(
    device: &Device,
    params: &Params,
    colors: Colorimetry,
    fits: impl FnOnce(&Layout) -> bool,
) -> Result<()> {
    let has = device.format(Direction::Capture)?.memory_bytes().first().copied().unwrap_or(0);
    if has >= params.packet_bytes {
        return Ok(());
    }
    // vsi_v4l2enc and bcm2835-codec have one set of colors for both queues.
    set_coded_format(device, params, colors)?;
    let queue = device.format(Direction::Output)?;
    if fits(&queue) {
        return Ok(());
    }
    let text =
        format!("for packets of {} bytes, the encoder reads another layout: {}", params.packet_bytes, geometry(&queue));
    Err(Error::new(ErrorKind::Mismatch, "VIDIOC_S_FMT", text).on(device))
}

/// Sets the frame interval, always: the driver's own may be 25 seconds (vsi_v4l2enc). Returns the one that the driver
/// chose, or `None` if it cannot be set.
fn set_interval(device: &Device, params: &Params) -> Result<Option<FrameInterval>> {
    let wanted = params.interval.unwrap_or(FrameInterval::from_fps(30));
    match device.set_frame_interval(Direction::Output, wanted) {
        // The encoder works without an interval.
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::InvalidArgument) => Ok(None),
        done => done.map(Some),
    }
}

/// Sets the part of the buffers that is the picture: 1080 of 1088 rows.
fn set_crop(device: &Device, params: &Params, source: &Layout, queue: &Layout) -> Result<()> {
    const OP: &str = "VIDIOC_S_SELECTION";
    let visible = Rect::from(params.size());
    let whole = Rect::from(queue.size());
    if !Rect::from(source.size()).contains(&visible) {
        let text = format!("the picture of {} does not fit the frames of {}", params.size(), source.size());
        return Err(Error::new(ErrorKind::InvalidArgument, OP, text).on(device));
    }
    match device.set_region(Direction::Output, SelectionTarget::Crop, visible) {
        Ok(given) if given == visible => Ok(()),
        Ok(given) => {
            let text = format!("the picture is {visible} of {}; the device encodes {given}", queue.size());
            Err(Error::new(ErrorKind::Unsupported, OP, text).on(device))
        }
        Err(e) if e.kind() == ErrorKind::DeviceLost => Err(e),
        // A device without selections encodes the whole buffer.
        Err(_) if visible == whole => Ok(()),
        Err(e) => {
            let text = format!("the picture is {visible} of {}; the device cannot crop: {e}", queue.size());
            Err(Error::new(ErrorKind::Unsupported, OP, text).on(device))
        }
    }
}
