//! What an encoder is asked for, and what it made of it.

use std::fmt;

use crate::bitstream::Codec;
use crate::error::Error;
use crate::format::{Colorimetry, FrameInterval, Size};

/// How bits are spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RateMode {
    /// By need, around the bitrate; a peak can be set.
    Variable,
    /// Evenly (`CBR`).
    Constant,
    /// By a quality, at whatever rate it takes.
    Quality,
}

/// Where parameter sets go at the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HeaderMode {
    /// Into a buffer of their own.
    Separate,
    /// Into the buffer of the first frame.
    Joined,
}

/// How a picture is cut into slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SliceMode {
    /// One slice.
    Single,
    /// Slices of at most so many macroblocks.
    Macroblocks(u32),
    /// Slices of at most so many bytes.
    Bytes(u32),
}

/// A profile, by the standard's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// H.264 Baseline.
    Baseline,
    /// H.264 Constrained Baseline.
    ConstrainedBaseline,
    /// H.264 or H.265 Main.
    Main,
    /// H.265 Main 10.
    Main10,
    /// H.264 High.
    High,
    /// VP8's 0 to 3.
    Vp8(u8),
}

/// A level of H.264 or HEVC, such as 4.1. (H.264's 1b is no number and not offered.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Level 4.1 is `Level::new(4, 1)`.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self(major.saturating_mul(10).saturating_add(minor))
    }

    /// As drivers and bitstreams count it: 41 for 4.1.
    pub(crate) const fn times_ten(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Off or on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// Off.
    Off,
    /// On.
    On,
}

/// One setting of an encoder. They are applied in the order in which they stand here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// The profile.
    Profile(Profile),
    /// The level.
    Level(Level),
    /// How bits are spent.
    RateMode(RateMode),
    /// Rate control from frame to frame: off means fixed quantizers.
    FrameRateControl(Switch),
    /// Rate control within a frame.
    MacroblockRateControl(Switch),
    /// Bits per second.
    BitrateBps(u32),
    /// The most bits per second under [`RateMode::Variable`].
    PeakBitrateBps(u32),
    /// 1 (worst) to 100, for [`RateMode::Quality`].
    Quality(u32),
    /// Size of the decoder's buffer that the rate is for, in kilobytes.
    VbvKilobytes(u32),
    /// Frames from one key frame to the next.
    Gop(u32),
    /// B-frames between two others. Where this is not asked for and can be set, it is 0: no frame waits for a later one.
    BFrames(u32),
    /// The smallest quantizer.
    MinQp(u32),
    /// The largest quantizer.
    MaxQp(u32),
    /// The quantizer of intra frames where the rate is not controlled.
    IntraQp(u32),
    /// The quantizer of P-frames where the rate is not controlled.
    InterQp(u32),
    /// Parameter sets at the beginning.
    HeaderMode(HeaderMode),
    /// Parameter sets before every key frame.
    RepeatHeaders(Switch),
    /// An access unit delimiter before every frame.
    Delimiters(Switch),
    /// All of the picture is refreshed in so many frames, without key frames.
    IntraRefreshFrames(u32),
    /// Slices.
    Slices(SliceMode),
}

impl Setting {
    /// `true` for another value of the same setting.
    fn is_same(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What became of a setting.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The driver took it.
    Exact,
    /// The driver took another value, in the setting's own unit.
    Adjusted(i64),
    /// The driver has no such control.
    Missing,
    /// The driver has it and refused this value: the error has what it offers.
    Refused(Error),
}

/// A setting that was asked for, and what became of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Applied {
    /// What was asked.
    pub setting: Setting,
    /// What became of it.
    pub outcome: Outcome,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, outcome } = self;
        match outcome {
            Outcome::Exact => write!(f, "{setting:?}"),
            Outcome::Adjusted(value) => write!(f, "{setting:?}: the device takes {value}"),
            Outcome::Missing => write!(f, "{setting:?}: the device has no such control"),
            Outcome::Refused(e) => write!(f, "{setting:?}: {e}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) setting: Setting,
    pub(super) is_required: bool,
}

/// A stream as it is wanted: codec and visible size, and any number of [`Setting`]s.
///
/// A setting that the driver lacks, refuses or rounds is told by [`Encoder::applied`](super::Encoder::applied); it is an
/// error only if it was [required](Params::require).
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::codec::{Level, Params, Profile, Setting, Switch};
/// use framelease::format::{FrameInterval, Size};
///
/// let params = Params::new(Codec::H264, Size::new(1920, 1080))
///     .interval(FrameInterval::from_fps(30))
///     .wish(Setting::BitrateBps(4_000_000))
///     .wish(Setting::Gop(60))
///     .wish(Setting::RepeatHeaders(Switch::On))
///     .require(Setting::Profile(Profile::High))
///     .require(Setting::Level(Level::new(4, 1)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Params {
    pub(super) codec: Codec,
    pub(super) size: Size,
    pub(crate) interval: Option<FrameInterval>,
    pub(super) colorimetry: Option<Colorimetry>,
    pub(super) packet_bytes: u32,
    pub(super) packet_buffers: usize,
    wishes: Vec<Wish>,
}

impl Params {
    /// A stream of a codec whose visible picture has this size.
    pub fn new(codec: Codec, size: Size) -> Self {
        Self { codec, size, interval: None, colorimetry: None, packet_bytes: 0, packet_buffers: 6, wishes: Vec::new() }
    }

    /// The same for another picture: the one that [`negotiate`](super::negotiate) came to.
    pub fn resized(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// The source's frame interval, which rate control goes by. The driver's default is rarely right.
    pub fn interval(mut self, interval: FrameInterval) -> Self {
        self.interval = Some(interval);
        self
    }

    /// What the source's numbers mean, if its layout does not say.
    pub fn colorimetry(mut self, colorimetry: Colorimetry) -> Self {
        self.colorimetry = Some(colorimetry);
        self
    }

    /// The most bytes of a packet, instead of the driver's guess. A frame that needs more comes damaged.
    pub fn packet_bytes(mut self, bytes: u32) -> Self {
        self.packet_bytes = bytes;
        self
    }

    /// Bitstream buffers to ask for (6): what all sinks together may lease, and two for the driver.
    pub fn packet_buffers(mut self, count: usize) -> Self {
        self.packet_buffers = count;
        self
    }

    /// Asks for a setting. The last word on a setting counts.
    pub fn wish(self, setting: Setting) -> Self {
        self.with(Wish { setting, is_required: false })
    }

    /// Asks for a setting, exactly or not at all.
    pub fn require(self, setting: Setting) -> Self {
        self.with(Wish { setting, is_required: true })
    }

    fn with(mut self, wish: Wish) -> Self {
        self.wishes.retain(|w| !w.setting.is_same(&wish.setting));
        self.wishes.push(wish);
        self.wishes.sort_by_key(|w| w.setting);
        self
    }

    /// The codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The visible picture.
    pub fn size(&self) -> Size {
        self.size
    }

    /// What was asked for, in the order in which it is applied.
    pub(super) fn wishes(&self) -> &[Wish] {
        &self.wishes
    }

    /// `true` if a value of this setting was asked for.
    pub(super) fn names(&self, setting: &Setting) -> bool {
        self.wishes.iter().any(|w| w.setting.is_same(setting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_the_order_is_the_drivers() {
        let params = Params::new(Codec::H264, Size::new(64, 48))
            .wish(Setting::Gop(30))
            .wish(Setting::BitrateBps(1))
            .require(Setting::Profile(Profile::High))
            .require(Setting::BitrateBps(2))
            .wish(Setting::RateMode(RateMode::Constant));
        let settings: Vec<Setting> = params.wishes().iter().map(|w| w.setting).collect();
        let expected = [
            Setting::Profile(Profile::High),
            Setting::RateMode(RateMode::Constant),
            Setting::BitrateBps(2),
            Setting::Gop(30),
        ];
        assert_eq!(settings, expected);
        assert!(
            params.wishes()[2].is_required && params.names(&Setting::Gop(0)) && !params.names(&Setting::BFrames(0))
        );
        assert_eq!(Level::new(4, 1).to_string(), "4.1");
    }
}
