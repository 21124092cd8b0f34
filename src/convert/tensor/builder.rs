//! [`TensorBuilder`]: what a tensor looks like.

use super::options::{Axes, Channels, Filter, Fit};
use crate::format::{Rect, Size};

/// Describes a tensor. [`Tensor::builder`](super::Tensor::builder) creates it.
///
/// ```
/// use framelease::convert::tensor::{Axes, Channels, Fit, Tensor};
/// use framelease::format::Size;
///
/// // A quantized classifier for TensorFlow Lite: 224x224x3 bytes, from the middle of the picture.
/// let builder = Tensor::builder(Size::new(224, 224)).axes(Axes::Hwc).channels(Channels::Rgb).fit(Fit::Crop);
/// assert_eq!(builder.build()?.elements(), 224 * 224 * 3);
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TensorBuilder {
    pub(super) size: Size,
    pub(super) axes: Axes,
    pub(super) channels: Channels,
    pub(super) mean: [f32; 3],
    pub(super) scale: [f32; 3],
    pub(super) fit: Fit,
    pub(super) crop: Option<Rect>,
    pub(super) filter: Filter,
}

impl TensorBuilder {
    pub(super) fn new(size: Size) -> Self {
        Self {
            size,
            axes: Axes::default(),
            channels: Channels::default(),
            mean: [0.0; 3],
            scale: [1.0; 3],
            fit: Fit::default(),
            crop: None,
            filter: Filter::default(),
        }
    }

    /// Sets the order of the dimensions. Default: [`Axes::Chw`].
    pub fn axes(mut self, axes: Axes) -> Self {
        self.axes = axes;
        self
    }

    /// Sets the channels. Default: [`Channels::Rgb`].
    pub fn channels(mut self, channels: Channels) -> Self {
        self.channels = channels;
        self
    }

    /// Sets what is subtracted from each channel, in the order of the tensor's channels. Values are from 0 to 255.
    /// Default: 0.
    pub fn mean(mut self, mean: [f32; 3]) -> Self {
        self.mean = mean;
        self
    }

    /// Sets the factor of each channel, in the order of the tensor's channels. An element is `(value - mean) * scale`.
    /// For elements from 0 to 1, it is `1.0 / 255.0`. Default: 1.
    pub fn scale(mut self, scale: [f32; 3]) -> Self {
        self.scale = scale;
        self
    }

    /// Sets how the picture fills the tensor when their shapes differ. Default: [`Fit::Stretch`].
    pub fn fit(mut self, fit: Fit) -> Self {
        self.fit = fit;
        self
    }

    /// Shows only a part of the picture, in the picture's pixels. Any pixel can be the first. Default: the whole
    /// picture.
    pub fn crop(mut self, crop: Rect) -> Self {
        self.crop = Some(crop);
        self
    }

    /// Sets how pixels are scaled. Default: [`Filter::Bilinear`].
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }
}
