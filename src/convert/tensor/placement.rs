//! Where the picture is in the tensor.

use super::options::Fit;
use crate::convert::plan::keep_ratio;
use crate::format::{Rect, Size};

/// Where the picture is in the tensor. Maps what a model found in the tensor back to pixels of the picture.
///
/// ```
/// use framelease::convert::tensor::{Fit, Tensor};
/// use framelease::convert::Color;
/// use framelease::format::{FourCc, Layout, Rect, Size};
///
/// let tensor = Tensor::builder(Size::new(640, 640)).fit(Fit::Letterbox(Color::BLACK)).build()?;
/// let placement = tensor.placement(&Layout::packed(FourCc::NV12, Size::new(1920, 1080))?)?;
/// assert_eq!(placement.place, Rect::new(0, 140, Size::new(640, 360)));
/// // Left, top, right, bottom.
/// assert_eq!(placement.to_picture([320.0, 320.0, 640.0, 600.0]), [960.0, 540.0, 1920.0, 1080.0]);
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// The part of the picture that the tensor shows, in the picture's pixels.
    pub crop: Rect,
    /// The rectangle of the tensor that shows it, in the tensor's pixels. Other pixels of the tensor are margins.
    pub place: Rect,
}

impl Placement {
    /// Fits a part of a picture into a tensor.
    pub(super) fn new(crop: Rect, tensor: Size, fit: Fit) -> Self {
        let whole = Rect::from(tensor);
        match fit {
            Fit::Stretch => Self { crop, place: whole },
            Fit::Letterbox(_) => Self { crop, place: keep_ratio(crop.size, whole, (1, 1)) },
            Fit::Crop => Self { crop: keep_ratio(tensor, crop, (1, 1)), place: whole },
        }
    }

    /// Maps a box of the tensor to pixels of the picture. A box has its left, top, right and bottom edge. The parts of
    /// a box that are in a margin are cut off.
    pub fn to_picture(&self, [left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
        let map = |at: f32, (place, place_side): (i32, u32), (crop, crop_side): (i32, u32)| {
            let part = (at - place as f32) / place_side as f32;
            crop as f32 + part.clamp(0.0, 1.0) * crop_side as f32
        };
        let (place, crop) = (self.place, self.crop);
        let x = |at| map(at, (place.left, place.size.width), (crop.left, crop.size.width));
        let y = |at| map(at, (place.top, place.size.height), (crop.top, crop.size.height));
        [x(left), y(top), x(right), y(bottom)]
    }
}
