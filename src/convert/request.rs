//! What is to become of the sources: geometry, blending, colors, in any pixel format.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

use crate::format::{Flip, Rect, Rotation};

/// The most layers of one request.
pub const MAX_LAYERS: usize = 16;

/// A color: full-range R'G'B' with straight alpha, 8 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color {
    /// Red.
    pub red: u8,
    /// Green.
    pub green: u8,
    /// Blue.
    pub blue: u8,
    /// Opacity: 255 hides what is below.
    pub alpha: u8,
}

impl Color {
    /// Opaque black.
    pub const BLACK: Self = Self::rgb(0, 0, 0);

    /// An opaque color.
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
    /// Fills it, whatever becomes of the aspect ratio.
    #[default]
    Stretch,
    /// Keeps the ratio and leaves margins (letterbox, pillarbox). Pixels are taken as square.
    Keep,
}

/// How a layer covers what is below it.
///
/// Colors are mixed as if what is below were opaque or premultiplied; so are those of a target that keeps alpha.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blend {
    /// Replaces it, alpha component included. Below a layer alpha of 255 it is mixed in by the layer alpha alone.
    #[default]
    Replace,
    /// Over it, by the pixels' alpha; color components are independent of alpha.
    Straight,
    /// Over it, by the pixels' alpha; color components are already multiplied by alpha.
    Premultiplied,
}

/// One source in the picture. In this order: crop, flip, rotate, scale to the place, blend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// The part of the source that is drawn, in its pixels; none for all of it.
    pub crop: Option<Rect>,
    /// Reflection, before the rotation.
    pub flip: Flip,
    /// Rotation.
    pub rotation: Rotation,
    /// Where it lies in the target, after rotation, in the target's pixels; none for all of it.
    pub place: Option<Rect>,
    /// What happens if the shapes of crop and place differ.
    pub fit: Scaling,
    /// Color of the margins that [`Scaling::Keep`] leaves; none to let shine through what is below.
    pub margin: Option<Color>,
    /// Opacity of the whole layer; multiplies the pixels' alpha.
    pub alpha: u8,
    /// How it covers what is below.
    pub blend: Blend,
    /// Layers are drawn in rising order; equal ones in the order of the request.
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
    /// Draws a part of the source, in its pixels.
    crop: Rect => Some(crop);
    /// Reflects it, before the rotation.
    flip: Flip => flip;
    /// Rotates it.
    rotation: Rotation => rotation;
    /// Places it, in the target's pixels.
    place: Rect => Some(place);
    /// What happens if the shapes of crop and place differ.
    fit: Scaling => fit;
    /// Color of the margins that [`Scaling::Keep`] leaves.
    margin: Color => Some(margin);
    /// Opacity of the whole layer.
    alpha: u8 => alpha;
    /// How it covers what is below.
    blend: Blend => blend;
    /// Layers are drawn in rising order.
    z_order: i32 => z_order;
}

/// Layers, one per source, over a background.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The layers: the first belongs to the first source.
    pub layers: Vec<Layer>,
    /// What lies below the layers where they leave something open. None: it keeps what the buffer held before, which
    /// for a pool's buffer is an older picture.
    pub background: Option<Color>,
}

impl Request {
    /// One source, on opaque black.
    pub fn convert(layer: Layer) -> Self {
        Self::compose([layer])
    }

    /// Several sources, on opaque black.
    pub fn compose(layers: impl IntoIterator<Item = Layer>) -> Self {
        Self { layers: layers.into_iter().collect(), background: Some(Color::BLACK) }
    }

    /// What lies below the layers; none to keep what the buffer held.
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
