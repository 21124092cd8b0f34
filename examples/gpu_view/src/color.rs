//! The matrix from samples to red, green and blue, by the frame's colorimetry.

use framelease::format::{Encoding, FormatKind, Layout, Range};

/// Rows of a matrix from samples of 0 to 1. The fourth number is added.
pub type Rows = [[f32; 4]; 3];

/// The weights of red and blue in luma.
fn weights(encoding: Encoding) -> (f32, f32) {
    match encoding {
        Encoding::Bt709 | Encoding::XvYcc709 => (0.2126, 0.0722),
        Encoding::Bt2020 | Encoding::Bt2020ConstantLuminance => (0.2627, 0.0593),
        Encoding::Smpte240m => (0.212, 0.087),
        _ => (0.299, 0.114),
    }
}

/// The matrix of a picture.
pub fn matrix(layout: &Layout) -> Rows {
    let kind = layout.fourcc().info().map_or(FormatKind::Rgb, |info| info.kind);
    let colors = layout.colorimetry();
    let is_full = colors.quantization(kind) == Range::Full;
    // Black, and the scales of luma and chroma.
    let (black, luma, chroma) = match is_full {
        true => (0.0, 1.0, 1.0),
        false => (16.0 / 255.0, 255.0 / 219.0, 255.0 / 224.0),
    };
    if kind == FormatKind::Rgb {
        let add = -black * luma;
        return [[luma, 0.0, 0.0, add], [0.0, luma, 0.0, add], [0.0, 0.0, luma, add]];
    }
    let (kr, kb) = weights(colors.matrix());
    let kg = 1.0 - kr - kb;
    let (b, r) = (2.0 * (1.0 - kb) * chroma, 2.0 * (1.0 - kr) * chroma);
    let row = |u: f32, v: f32| [luma, u, v, -black * luma - (u + v) * 128.0 / 255.0];
    [row(0.0, r), row(-kb * b / kg, -kr * r / kg), row(b, 0.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use framelease::format::{ColorSpace, Colorimetry, FourCc, Size};

    fn rgb(fourcc: FourCc, colors: Colorimetry, samples: [u8; 3]) -> [u8; 3] {
        let layout = Layout::packed(fourcc, Size::new(16, 16)).unwrap().with_colorimetry(colors);
        let s = samples.map(|n| f32::from(n) / 255.0);
        matrix(&layout)
            .map(|[a, b, c, d]| ((a * s[0] + b * s[1] + c * s[2] + d) * 255.0).round().clamp(0.0, 255.0) as u8)
    }

    #[test]
    fn matrix_follows_range_and_color_space() {
        let (default, hdtv) =
            (Colorimetry::default(), Colorimetry { space: ColorSpace::Rec709, ..Colorimetry::default() });
        let full = Colorimetry { range: Range::Full, ..default };
        assert_eq!(rgb(FourCc::NV12, default, [16, 128, 128]), [0; 3]);
        assert_eq!(rgb(FourCc::NV12, default, [235, 128, 128]), [255; 3]);
        assert_eq!(rgb(FourCc::NV12, full, [235, 128, 128]), [235; 3]);
        // Red, as BT.601 and BT.709 code it.
        assert_eq!(rgb(FourCc::NV12, default, [81, 90, 240]), [254, 0, 0]);
        assert_eq!(rgb(FourCc::NV12, hdtv, [63, 102, 240]), [255, 1, 0]);
        assert_eq!(rgb(FourCc::RGBX32, default, [1, 2, 3]), [1, 2, 3]);
        let limited = Colorimetry { range: Range::Limited, ..default };
        assert_eq!(rgb(FourCc::RGBX32, limited, [16, 235, 126]), [0, 255, 128]);
    }
}
