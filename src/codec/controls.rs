//! Encoder settings as V4L2 controls (`ext-ctrls-codec.rst`), in one table.

use super::parameters::{Applied, HeaderMode, Level, Outcome, Params, Profile, RateMode, Setting, SliceMode, Switch};
use crate::bitstream::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::v4l2::{Control, ControlId, ControlKind, ControlValue, Device};

/// `V4L2_CID_CODEC_BASE`
const fn codec(offset: u32) -> ControlId {
    ControlId::new(0x0099_0900 + offset)
}

/// `V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME`
pub(super) const FORCE_KEY_FRAME: ControlId = codec(229);
const B_FRAMES: ControlId = codec(202);

/// `V4L2_CID_JPEG_COMPRESSION_QUALITY`
const JPEG_QUALITY: ControlId = ControlId::new(0x009d_0903);

/// One control to write: the first of these ids that the device has.
type Step = (Vec<ControlId>, i64);

fn is_on(switch: Switch) -> i64 {
    i64::from(switch == Switch::On)
}

/// Returns the menu entry of `V4L2_CID_MPEG_VIDEO_H264_LEVEL` or `_HEVC_LEVEL`.
fn level(of: Codec, level: Level) -> Option<i64> {
    const H264: [u8; 20] = [10, 0, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52, 60, 61, 62];
    const HEVC: [u8; 13] = [10, 20, 21, 30, 31, 40, 41, 50, 51, 52, 60, 61, 62];
    let all: &[u8] = if of == Codec::Hevc { &HEVC } else { &H264 };
    all.iter().position(|&l| l != 0 && l == level.times_ten()).map(|i| i as i64)
}

/// Returns the menu entry of `V4L2_CID_MPEG_VIDEO_H264_PROFILE`, `_HEVC_PROFILE` or `_VP8_PROFILE`.
fn profile(of: Codec, profile: Profile) -> Option<i64> {
    match (of, profile) {
        (Codec::H264, Profile::Baseline) => Some(0),
        (Codec::H264, Profile::ConstrainedBaseline) => Some(1),
        (Codec::H264, Profile::Main) => Some(2),
        (Codec::H264, Profile::High) => Some(4),
        (Codec::Hevc, Profile::Main) => Some(0),
        (Codec::Hevc, Profile::Main10) => Some(2),
        (Codec::Vp8, Profile::Vp8(n @ 0..=3)) => Some(n.into()),
        _ => None,
    }
}

/// Returns a quantizer's control for the codec, if there is one.
fn by_codec(of: Codec, h264: u32, hevc: u32, vpx: u32, fwht: Option<u32>) -> Vec<ControlId> {
    match of {
        Codec::H264 => vec![codec(h264)],
        Codec::Hevc => vec![codec(hevc)],
        Codec::Vp8 => vec![codec(vpx)],
        Codec::Fwht => fwht.map(codec).into_iter().collect(),
        Codec::Mjpeg => Vec::new(),
    }
}

/// Returns the controls to write for a setting, or `None` if the codec does not have the setting.
fn steps(of: Codec, setting: Setting) -> Option<Vec<Step>> {
    let one = |offset: u32, value: i64| Some(vec![(vec![codec(offset)], value)]);
    let qp = |ids: Vec<ControlId>, value: u32| (!ids.is_empty()).then(|| vec![(ids, i64::from(value))]);
    match setting {
        Setting::Profile(p) => {
            let offset = match of {
                Codec::H264 => 363,
                Codec::Hevc => 615,
                Codec::Vp8 => 511,
                Codec::Fwht | Codec::Mjpeg => return None,
            };
            one(offset, profile(of, p)?)
        }
        Setting::Level(l) => match of {
            Codec::H264 => one(359, level(of, l)?),
            Codec::Hevc => one(616, level(of, l)?),
            _ => None,
        },
        Setting::RateMode(mode) => one(
            206,
            match mode {
                RateMode::Variable => 0,
                RateMode::Constant => 1,
                RateMode::Quality => 2,
            },
        ),
        Setting::FrameRateControl(on) => one(215, is_on(on)),
        Setting::MacroblockRateControl(on) => one(218, is_on(on)),
        Setting::BitrateBps(bps) => one(207, bps.into()),
        Setting::PeakBitrateBps(bps) => one(208, bps.into()),
        Setting::Quality(quality) if of == Codec::Mjpeg => Some(vec![(vec![JPEG_QUALITY], quality.into())]),
        Setting::Quality(quality) => one(645, quality.into()),
        Setting::VbvKilobytes(size) => one(222, size.into()),
        Setting::Gop(frames) => {
            // Some drivers have only the period of H.264's I-frames.
            let ids = if of == Codec::H264 { vec![codec(203), codec(358)] } else { vec![codec(203)] };
            Some(vec![(ids, frames.into())])
        }
        Setting::BFrames(frames) => Some(vec![(vec![B_FRAMES], frames.into())]),
        Setting::MinQp(value) => qp(by_codec(of, 353, 600, 507, None), value),
        Setting::MaxQp(value) => qp(by_codec(of, 354, 601, 508, None), value),
        Setting::IntraQp(value) => qp(by_codec(of, 350, 602, 509, Some(290)), value),
        Setting::InterQp(value) => qp(by_codec(of, 351, 603, 510, Some(291)), value),
        Setting::HeaderMode(mode) => one(216, i64::from(mode == HeaderMode::Joined)),
        // Drivers have one of these two.
        Setting::RepeatHeaders(on) => Some(vec![(vec![codec(226), codec(644)], is_on(on))]),
        Setting::Delimiters(on) => one(231, is_on(on)),
        Setting::IntraRefreshFrames(frames) => one(236, frames.into()),
        Setting::Slices(mode) => Some(match mode {
            SliceMode::Single => vec![(vec![codec(221)], 0)],
            // The size first: the mode requires it.
            SliceMode::Macroblocks(n) => vec![(vec![codec(220)], n.into()), (vec![codec(221)], 1)],
            SliceMode::Bytes(n) => vec![(vec![codec(219)], n.into()), (vec![codec(221)], 2)],
        }),
    }
}

/// Returns the first of these controls that the device has and that can be written.
fn find(device: &Device, ids: &[ControlId]) -> Result<Option<Control>> {
    for &id in ids {
        match device.control(id) {
            Ok(c) if !c.is_disabled && !c.is_read_only => return Ok(Some(c)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Returns the nearest value within a number's range.
fn clamped(control: &Control, value: i64) -> i64 {
    match control.kind {
        ControlKind::Integer | ControlKind::Integer64 if control.minimum <= control.maximum => {
            value.clamp(control.minimum, control.maximum)
        }
        _ => value,
    }
}

/// Applies a setting as closely as the device allows. Ioctls: `VIDIOC_QUERY_EXT_CTRL`, `VIDIOC_S_EXT_CTRLS`.
///
/// # Errors
/// `DeviceLost`. Everything else is an outcome.
pub(super) fn apply(device: &Device, of: Codec, setting: Setting) -> Result<Outcome> {
    let Some(steps) = steps(of, setting) else { return Ok(Outcome::Missing) };
    let mut outcome = Outcome::Exact;
    for (ids, value) in steps {
        let Some(control) = find(device, &ids)? else { return Ok(Outcome::Missing) };
        match device.set_control(control.id, clamped(&control, value)) {
            Ok(ControlValue::Number(given)) if given != value => outcome = Outcome::Adjusted(given),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::DeviceLost => return Err(e),
            Err(e) => return Ok(Outcome::Refused(e)),
        }
    }
    Ok(outcome)
}

/// Applies the requested settings, and disables B-frames unless they were requested. Returns the outcomes.
///
/// # Errors
/// `Unsupported` or `InvalidArgument` for a required setting that the device does not apply exactly.
pub(super) fn apply_all(device: &Device, params: &Params) -> Result<Vec<Applied>> {
    let mut applied = Vec::new();
    for wish in params.wishes() {
        let outcome = apply(device, params.codec(), wish.setting)?;
        let done = Applied { setting: wish.setting, outcome };
        if wish.is_required {
            let kind = match &done.outcome {
                Outcome::Exact => None,
                Outcome::Missing => Some(ErrorKind::Unsupported),
                Outcome::Adjusted(_) => Some(ErrorKind::InvalidArgument),
                Outcome::Refused(e) => Some(e.kind()),
            };
            if let Some(kind) = kind {
                return Err(Error::new(kind, "VIDIOC_S_EXT_CTRLS", format!("required {done}")).on(device));
            }
        }
        applied.push(done);
    }
    let no_b_frames = Setting::BFrames(0);
    if !params.names(&no_b_frames) {
        // The kernel's default is 2, with which frames wait for later frames.
        apply(device, params.codec(), no_b_frames)?;
    }
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(of: Codec, setting: Setting) -> Option<Vec<(u32, i64)>> {
        Some(steps(of, setting)?.into_iter().map(|(ids, value)| (u32::from(ids[0]), value)).collect())
    }

    #[test]
    fn setting_selects_the_codec_s_own_control() {
        use Setting as S;
        for (of, setting, expected) in [
            (Codec::H264, S::BitrateBps(5), Some(vec![(0x0099_09cf, 5)])),
            (Codec::H264, S::Level(Level::new(4, 1)), Some(vec![(0x0099_0a67, 12)])),
            (Codec::Hevc, S::Level(Level::new(4, 1)), Some(vec![(0x0099_0b68, 6)])),
            (Codec::H264, S::Level(Level::new(0, 0)), None),
            (Codec::Vp8, S::Level(Level::new(4, 1)), None),
            (Codec::H264, S::Profile(Profile::High), Some(vec![(0x0099_0a6b, 4)])),
            (Codec::Hevc, S::Profile(Profile::High), None),
            (Codec::Vp8, S::Profile(Profile::Vp8(2)), Some(vec![(0x0099_0aff, 2)])),
            (Codec::Fwht, S::IntraQp(3), Some(vec![(0x0099_0a22, 3)])),
            (Codec::Mjpeg, S::Quality(80), Some(vec![(0x009d_0903, 80)])),
            (Codec::Mjpeg, S::IntraQp(3), None),
            (Codec::H264, S::Quality(80), Some(vec![(0x0099_0b85, 80)])),
            (Codec::Fwht, S::MinQp(3), None),
            (Codec::Vp8, S::MaxQp(60), Some(vec![(0x0099_0afc, 60)])),
            (Codec::H264, S::RepeatHeaders(Switch::On), Some(vec![(0x0099_09e2, 1)])),
            (Codec::H264, S::Slices(SliceMode::Bytes(1200)), Some(vec![(0x0099_09db, 1200), (0x0099_09dd, 2)])),
        ] {
            assert_eq!(written(of, setting), expected, "{of} {setting:?}");
        }
        assert_eq!(u32::from(FORCE_KEY_FRAME), 0x0099_09e5);
    }
}
