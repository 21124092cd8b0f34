//! The choices that describe a tensor.

use crate::convert::Color;

/// The order of a tensor's dimensions. A batch of several pictures is several tensors, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Axes {
    /// One plane for each channel, as PyTorch and ONNX models want it (NCHW). This is the default.
    #[default]
    Chw,
    /// The channels of a pixel together, as TensorFlow Lite models want it (NHWC).
    Hwc,
}

/// The channels of a tensor, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Channels {
    /// Red, green, blue. This is the default.
    #[default]
    Rgb,
    /// Blue, green, red, as in OpenCV's pictures.
    Bgr,
    /// One channel: luma, from 0 to 255.
    Grey,
}

impl Channels {
    /// Returns the number of channels.
    pub const fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// How the picture fills the tensor when their shapes differ. All of them assume square pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fit {
    /// Fills the tensor. The aspect ratio may change. This is the default.
    #[default]
    Stretch,
    /// Keeps the aspect ratio. The picture is in the middle, and the margins have this color. Detectors are often
    /// trained with `Color::rgb(114, 114, 114)`.
    Letterbox(Color),
    /// Keeps the aspect ratio and fills the tensor. Cuts off what does not fit, the same on both sides.
    Crop,
}

/// How pixels are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filter {
    /// Mixes the four pixels around the center of the target pixel. Most models are trained and used with this filter.
    /// It ignores other pixels, so a picture that is reduced much has aliases. This is the default.
    ///
    /// The samples are those of OpenCV's `INTER_LINEAR`: pixel centers are at half pixels.
    #[default]
    Bilinear,
    /// Takes the mean of the pixels that the target pixel covers. It reads all pixels, so it is slower.
    ///
    /// The means are those of OpenCV's `INTER_AREA`. A picture that is enlarged, in width or height, is scaled as by
    /// `Bilinear`.
    Area,
}
