//! The colors of both queues in V4L2 formats (`colorspaces-details.rst`): what to request of a driver, and whether its
//! answer is what the plan needs.

use crate::format::{ColorSpace, Colorimetry, Encoding, FormatKind, Layout, Range};

fn kind(layout: &Layout) -> FormatKind {
    layout.fourcc().info().map_or(FormatKind::Yuv, |i| i.kind)
}

/// Returns the matrix that the conversion needs: that of its YUV side, or the target's if both sides are YUV.
fn matrix(source: &Layout, target: &Layout) -> Option<Encoding> {
    [target, source].into_iter().find(|l| kind(l) == FormatKind::Yuv).map(|l| l.colorimetry().matrix())
}

/// Describes a side's colors for every driver. rockchip-rga uses only the color space. imx-pxp uses the encoding of a
/// YUV source and the space of an RGB source. vim2m copies the fields of its output side to its capture side. None of
/// them converts primaries, so the space can express the matrix.
fn named(layout: &Layout, matrix: Option<Encoding>) -> Colorimetry {
    let (kind, mut colors) = (kind(layout), layout.colorimetry());
    let Some(matrix) = matrix else {
        if colors.space == ColorSpace::Default {
            colors.space = ColorSpace::Srgb;
        }
        return colors;
    };
    let implied = Colorimetry { encoding: Encoding::Default, ..colors }.matrix();
    if colors.space == ColorSpace::Default || implied != matrix {
        colors.space = ColorSpace::with_matrix(matrix);
    }
    colors.encoding = if kind == FormatKind::Yuv { matrix } else { Encoding::Default };
    let range = layout.colorimetry().quantization(kind);
    let implied = Colorimetry { range: Range::Default, ..colors }.quantization(kind);
    // Some drivers take YUV as limited if its range is not set to full, whatever its space implies.
    let is_said = range == implied && (kind == FormatKind::Rgb || range == Range::Limited);
    colors.range = if is_said { Range::Default } else { range };
    colors
}

/// Returns the colors to request of the output queue and of the capture queue.
pub(super) fn asked(source: &Layout, target: &Layout) -> (Colorimetry, Colorimetry) {
    let needed = matrix(source, target);
    let of_source = match kind(source) {
        FormatKind::Yuv => Some(source.colorimetry().matrix()),
        _ => needed,
    };
    (named(source, of_source), named(target, needed))
}

/// Checks that the driver's format means the same as `wanted`. No driver converts primaries and transfer functions.
pub(super) fn check(wanted: &Layout, given: &Layout) -> Result<(), String> {
    let kind = kind(wanted);
    let of = |layout: &Layout| (layout.colorimetry().matrix(), layout.colorimetry().quantization(kind));
    let ((matrix, range), (has_matrix, has_range)) = (of(wanted), of(given));
    let same_matrix = kind == FormatKind::Rgb || matrix == has_matrix;
    if same_matrix && range == has_range {
        return Ok(());
    }
    Err(format!(
        "{} with matrix {matrix:?} and range {range:?}; the device has {has_matrix:?} and {has_range:?}",
        wanted.fourcc()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Size;

    fn layout(fourcc: &str, space: ColorSpace, encoding: Encoding, range: Range) -> Layout {
        let layout = Layout::packed(fourcc.parse().unwrap(), Size::new(64, 48)).unwrap();
        layout.with_colorimetry(Colorimetry { space, encoding, range, ..Colorimetry::default() })
    }

    fn plain(fourcc: &str) -> Layout {
        layout(fourcc, ColorSpace::Default, Encoding::Default, Range::Default)
    }

    /// Models a driver that, like imx-pxp and vim2m, derives its capture side from its output side's space.
    fn derived(source: Colorimetry, target: &Layout) -> Layout {
        target.with_colorimetry(Colorimetry { range: Range::Default, ..source })
    }

    #[test]
    fn asked_colors_are_right_for_drivers_that_derive_one_side() {
        for target in [
            plain("NV12"),
            layout("NV12", ColorSpace::Rec709, Encoding::Default, Range::Default),
            layout("NV12", ColorSpace::Default, Encoding::Bt709, Range::Default),
            layout("NV12", ColorSpace::Default, Encoding::Bt2020, Range::Default),
            layout("NV12", ColorSpace::Rec709, Encoding::Bt601, Range::Limited),
        ] {
            let (source, _) = asked(&plain("RGB24"), &target);
            assert_eq!(check(&target, &derived(source, &target)), Ok(()), "{target:?}");
        }
        // Two YUV sides may differ. Then the driver must do more than derive.
        let (from, to) = (plain("NV12"), layout("YUYV", ColorSpace::Default, Encoding::Bt709, Range::Default));
        let (source, target) = asked(&from, &to);
        assert_eq!((source.matrix(), target.matrix()), (Encoding::Bt601, Encoding::Bt709));
        assert!(check(&to, &derived(source, &to)).is_err());
    }

    #[test]
    fn asked_colors_set_every_field_that_drivers_use() {
        // A space that contradicts the matrix, and one that implies full range.
        let odd = layout("NV12", ColorSpace::Rec709, Encoding::Bt601, Range::Default);
        let jpeg = layout("NV12", ColorSpace::Jpeg, Encoding::Default, Range::Default);
        let (of_odd, of_rgb) = asked(&odd, &plain("RGB24"));
        assert_eq!(
            (of_odd.space, of_odd.encoding, of_odd.range),
            (ColorSpace::Smpte170m, Encoding::Bt601, Range::Default)
        );
        assert_eq!((of_rgb.space, of_rgb.encoding), (ColorSpace::Smpte170m, Encoding::Default));
        let (of_jpeg, _) = asked(&jpeg, &plain("RGB24"));
        assert_eq!((of_jpeg.space, of_jpeg.encoding, of_jpeg.range), (ColorSpace::Jpeg, Encoding::Bt601, Range::Full));
        let (of_rgb, of_odd) = asked(&plain("RGB24"), &odd);
        assert_eq!((of_rgb.space, of_odd.space), (ColorSpace::Smpte170m, ColorSpace::Smpte170m));
        assert_eq!(asked(&plain("RGB24"), &plain("BGR24")).0.space, ColorSpace::Srgb);
    }

    #[test]
    fn asked_colors_keep_the_meaning() {
        let spaces = [ColorSpace::Default, ColorSpace::Rec709, ColorSpace::Jpeg, ColorSpace::Srgb, ColorSpace::Bt2020];
        let matrices = [Encoding::Default, Encoding::Bt601, Encoding::Bt709, Encoding::Bt2020];
        for space in spaces {
            for encoding in matrices {
                for range in [Range::Default, Range::Full, Range::Limited] {
                    for (from, to) in [("NV12", "RGB24"), ("RGB24", "NV12"), ("YUYV", "NV12")] {
                        let (from, to) = (layout(from, space, encoding, range), layout(to, space, encoding, range));
                        let (source, target) = asked(&from, &to);
                        for (layout, colors) in [(from, source), (to, target)] {
                            assert_eq!(check(&layout, &layout.with_colorimetry(colors)), Ok(()), "{layout:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn other_matrices_and_ranges_are_told_apart_where_they_matter() {
        let rec709 = |f| layout(f, ColorSpace::Rec709, Encoding::Default, Range::Default);
        let e = check(&plain("NV12"), &rec709("NV12")).unwrap_err();
        assert!(e.contains("Bt601") && e.contains("Bt709"), "{e}");
        assert_eq!(check(&plain("RGB24"), &rec709("RGB24")), Ok(()), "RGB has no matrix");
        let full = layout("NV12", ColorSpace::Default, Encoding::Default, Range::Full);
        assert!(check(&plain("NV12"), &full).is_err());
    }
}
