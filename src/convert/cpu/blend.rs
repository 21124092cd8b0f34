//! Blends one row of a component over another.

use crate::convert::{Blend, Draw};

/// How a draw mixes: by its layer alpha and, if it has them, the pixels' alphas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    pub(super) blend: Blend,
    pub(super) layer_alpha: u8,
}

impl Mix {
    pub(super) fn of(draw: &Draw) -> Self {
        Self { blend: draw.blend, layer_alpha: draw.alpha }
    }

    /// Blends `from` over `to`. `alphas` are those of the pixels. `zero` is the code of no signal, from which
    /// premultiplied codes are counted.
    pub(super) fn row(&self, from: &[u8], alphas: Option<&[u8]>, zero: i32, to: &mut [u8]) {
        let layer = i32::from(self.layer_alpha);
        match (self.blend, alphas) {
            (Blend::Replace, _) | (_, None) if layer == 255 => to.copy_from_slice(from),
            (Blend::Replace, _) | (_, None) => {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = div(i32::from(from) * layer + i32::from(*to) * (255 - layer));
                }
            }
            (Blend::Straight, Some(alphas)) => {
                for ((to, &from), &alpha) in to.iter_mut().zip(from).zip(alphas) {
                    let alpha = i32::from(div(i32::from(alpha) * layer));
                    *to = div(i32::from(from) * alpha + i32::from(*to) * (255 - alpha));
                }
            }
            (Blend::Premultiplied, Some(alphas)) => {
                for ((to, &from), &alpha) in to.iter_mut().zip(from).zip(alphas) {
                    let alpha = i32::from(div(i32::from(alpha) * layer));
                    let sum = (i32::from(from) - zero) * layer + (i32::from(*to) - zero) * (255 - alpha);
                    *to = ((sum + if sum < 0 { -127 } else { 127 }) / 255 + zero).clamp(0, 255) as u8;
                }
            }
        }
    }

    /// Blends the target's alpha component. `alphas` are the source's pixels' own; without them, the source is opaque.
    pub(super) fn alpha_row(&self, alphas: Option<&[u8]>, to: &mut [u8]) {
        let layer = i32::from(self.layer_alpha);
        let replaces = self.blend == Blend::Replace;
        for (i, to) in to.iter_mut().enumerate() {
            let own = alphas.map_or(255, |a| i32::from(a[i]));
            if replaces {
                *to = div(own * layer + i32::from(*to) * (255 - layer));
            } else {
                let alpha = i32::from(div(own * layer));
                *to = div(alpha * 255 + i32::from(*to) * (255 - alpha));
            }
        }
    }
}

/// Converts a sum of products of codes and alphas back to a code.
fn div(sum: i32) -> u8 {
    ((sum + 127) / 255).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(blend: Blend, layer_alpha: u8, from: u8, alpha: Option<u8>, to: u8) -> u8 {
        let mut to = [to];
        let alphas = alpha.map(|a| [a]);
        Mix { blend, layer_alpha }.row(&[from], alphas.as_ref().map(|a| &a[..]), 0, &mut to);
        to[0]
    }

    #[test]
    fn blend_over_operator() {
        assert_eq!(mix(Blend::Replace, 255, 200, Some(0), 10), 200);
        assert_eq!(mix(Blend::Replace, 128, 200, Some(0), 100), 150);
        assert_eq!(mix(Blend::Straight, 255, 200, Some(128), 100), 150);
        assert_eq!(mix(Blend::Straight, 128, 200, Some(255), 100), 150);
        assert_eq!(mix(Blend::Straight, 255, 200, Some(0), 100), 100);
        // Premultiplied: 100 of 200 at half opacity, then again through a half-opaque layer.
        assert_eq!(mix(Blend::Premultiplied, 255, 100, Some(128), 100), 150);
        assert_eq!(mix(Blend::Premultiplied, 128, 100, Some(128), 100), 125);
        let mut alpha = [100];
        Mix { blend: Blend::Straight, layer_alpha: 255 }.alpha_row(Some(&[128]), &mut alpha);
        assert_eq!(alpha, [178]);
    }
}
