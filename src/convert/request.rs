//! Requests: what to draw, as geometry, blending and colors, for any pixel format.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

use crate::format::{Flip, Rect, Rotation};

/// The largest number of layers in one request: 16.
pub const MAX_LAYERS: usize = 16;

/// A color: full-range R'G'B' with straight alpha, 8 bits each.
///
/// ```
/// use framelease::convert::Color;
///
/// let orange = Color::rgb(255, 128, 0);
/// assert_eq!("ff8000".parse::<Color>()?, orange);
/// assert_eq!(orange.to_string(), "#ff8000ff");
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color {
    /// The red component, full range.
    pub red: u8,
    /// The green component, full range.
    pub green: u8,
    /// The blue component, full range.
    pub blue: u8,
    /// The opacity: 255 hides the pixels below.
    pub alpha: u8,
}

impl Color {
    /// The opaque color black.
    pub const BLACK: Self = Self::rgb(0, 0, 0);

    /// Returns an opaque color of these components.
    pub const fn rgb(red: u8, green: u8, blue: u8) -> Self {
        Self { red, green, blue, alpha: 255 }
    }
}

impl FromStr for Color {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let digits = s.strip_prefix('#').unwrap_or(s);
        let hex = matches!(digits.len(), 6 | 8) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u32::from_str_radix(digits, 16).ok().filter(|_| hex);
        let value = value
            .ok_or_else(|| Error::parse(format!("'{s}' is not a color such as ff8000 or ff8000c0 (RRGGBB[AA])")))?;
        let [red, green, blue, alpha] = if digits.len() == 6 { value << 8 | 0xff } else { value }.to_be_bytes();
        Ok(Self { red, green, blue, alpha })
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}{:02x}", self.red, self.green, self.blue, self.alpha)
    }
}

/// How a source fills its place when their shapes differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scaling {
    /// Fills the place. The aspect ratio may change. This is the default.
    #[default]
    Stretch,
    /// Keeps the aspect ratio and leaves margins (letterbox, pillarbox). Assumes square pixels.
    Keep,
}

/// How a layer covers the pixels below.
///
/// The colors of the pixels below are used as opaque or premultiplied colors, even if the target keeps alpha.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blend {
    /// Replaces the pixels below, including their alpha. If [`Layer::alpha`] is below 255, mixes the layer and the
    /// pixels below by this value. `Replace` is the default.
    #[default]
    Replace,
    /// Draws over the pixels below, by the alpha of the layer's pixels. The color components of the layer's pixels are
    /// not multiplied by alpha.
    Straight,
    /// Draws over the pixels below, by the alpha of the layer's pixels. The color components of the layer's pixels are
    /// already multiplied by alpha.
    Premultiplied,
}

/// One source in the picture. Its steps are, in this order: crop, flip, rotate, scale to the place, blend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// The part of the source that is drawn, in the source's pixels. `None`, the default, draws the whole source.
    pub crop: Option<Rect>,
    /// The reflection of the crop, which comes before the rotation.
    pub flip: Flip,
    /// The rotation of the crop, which comes after the reflection.
    pub rotation: Rotation,
    /// The rectangle of the target in which the rotated source is drawn, in the target's pixels. `None`, the default,
    /// is the whole target.
    pub place: Option<Rect>,
    /// How to scale if the shapes of crop and place differ.
    pub fit: Scaling,
    /// The color of the margins that [`Scaling::Keep`] leaves. With `None`, the default, the margins show the pixels
    /// below.
    pub margin: Option<Color>,
    /// The opacity of the whole layer, which multiplies the pixels' alpha. Default: 255, opaque.
    pub alpha: u8,
    /// How the layer covers the pixels below.
    pub blend: Blend,
    /// The order of drawing. Layers with lower numbers are drawn first. Layers with equal numbers are drawn in the
    /// order of the request. Default: 0.
    pub z_order: i32,
}

impl Default for Layer {
    fn default() -> Self {
        Self {
            crop: None,
            flip: Flip::None,
            rotation: Rotation::None,
            place: None,
            fit: Scaling::Stretch,
            margin: None,
            alpha: 255,
            blend: Blend::Replace,
            z_order: 0,
        }
    }
}

macro_rules! options {
    ($($(#[$meta:meta])* $name:ident: $from:ty => $value:expr;)*) => {
        impl Layer {
            $($(#[$meta])*
            pub fn $name(mut self, $name: $from) -> Self {
                self.$name = $value;
                self
            })*
        }
    };
}

options! {
    /// Draws only a part of the source, in the source's pixels.
    crop: Rect => Some(crop);
    /// Reflects the crop, before the rotation.
    flip: Flip => flip;
    /// Rotates the crop, after the reflection.
    rotation: Rotation => rotation;
    /// Sets the place in the target, in the target's pixels.
    place: Rect => Some(place);
    /// Sets how to scale if the shapes of crop and place differ.
    fit: Scaling => fit;
    /// Sets the color of the margins that [`Scaling::Keep`] leaves.
    margin: Color => Some(margin);
    /// Sets the opacity of the whole layer.
    alpha: u8 => alpha;
    /// Sets how the layer covers the pixels below.
    blend: Blend => blend;
    /// Sets the order of drawing: lower layers are drawn first.
    z_order: i32 => z_order;
}

/// Layers, one per source, over a background.
///
/// ```
/// use framelease::convert::{Color, Layer, Request};
/// use framelease::format::{Rect, Size};
///
/// // The second source in a corner, over the first.
/// let inset = Layer::default().place(Rect::new(480, 0, Size::new(160, 120))).z_order(1);
/// let request = Request::compose([Layer::default(), inset]).background(Some(Color::BLACK));
/// assert_eq!(request.layers.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The layers. Layer n draws source n.
    pub layers: Vec<Layer>,
    /// The color of pixels that no layer covers. With `None` these pixels keep their old values. In a pool's buffer,
    /// the old values are a part of an older picture.
    pub background: Option<Color>,
}

impl Request {
    /// Creates a request that draws one source, on opaque black.
    pub fn convert(layer: Layer) -> Self {
        Self::compose([layer])
    }

    /// Creates a request that draws several sources, on opaque black.
    pub fn compose(layers: impl IntoIterator<Item = Layer>) -> Self {
        Self { layers: layers.into_iter().collect(), background: Some(Color::BLACK) }
    }

    /// Sets the color of pixels that no layer covers. With `None` these pixels keep their old values. Default: opaque
    /// black.
    pub fn background(mut self, background: Option<Color>) -> Self {
        self.background = background;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_parse_and_print() {
        assert_eq!("ff8000".parse::<Color>().unwrap(), Color::rgb(255, 128, 0));
        assert_eq!("#01020304".parse::<Color>().unwrap(), Color { red: 1, green: 2, blue: 3, alpha: 4 });
        assert_eq!(Color::rgb(1, 2, 255).to_string().parse::<Color>().unwrap(), Color::rgb(1, 2, 255));
        for bad in ["", "fff", "gg0000", "ff80001", "+f8000"] {
            assert!(bad.parse::<Color>().is_err(), "{bad}");
        }
    }
}
