//! The properties by which a plane reads YUV: `COLOR_ENCODING` and `COLOR_RANGE`.

use super::device::Device;
use super::objects::Props;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Encoding, FormatKind, Layout, Range};
use crate::sys;
use crate::sys::drm::ValueProp;

/// The properties to set for a picture. `None` for RGB, and for a plane without the property.
pub(super) type Set = [Option<(ValueProp, u64)>; 2];

/// An enum property, and the values that the plane offers, by name.
#[derive(Debug)]
struct Choice {
    name: &'static str,
    prop: ValueProp,
    offered: Vec<(String, u64)>,
}

impl Choice {
    fn of(device: &Device, props: &Props, name: &'static str) -> Result<Option<Self>> {
        let Some(prop) = props.value(name) else { return Ok(None) };
        let offered = sys::drm::property_values(device.fd(), prop);
        Ok(Some(Self { name, prop, offered: offered.map_err(|e| device.failed("DRM_IOCTL_MODE_GETPROPERTY", e))? }))
    }

    fn set(&self, wanted: &str) -> Result<(ValueProp, u64)> {
        if let Some((_, value)) = self.offered.iter().find(|(name, _)| name == wanted) {
            return Ok((self.prop, *value));
        }
        let offered: Vec<_> = self.offered.iter().map(|(name, _)| name.as_str()).collect();
        let text = format!("the frame has {wanted}; the plane offers {}", offered.join(", "));
        Err(Error::new(ErrorKind::Unsupported, self.name, text))
    }
}

/// The color properties of a plane. Without them, the driver chooses matrix and range.
#[derive(Debug)]
pub(super) struct ColorProperties {
    encoding: Option<Choice>,
    range: Option<Choice>,
}

impl ColorProperties {
    pub(super) fn of(device: &Device, props: &Props) -> Result<Self> {
        let choice = |name| Choice::of(device, props, name);
        Ok(Self { encoding: choice("COLOR_ENCODING")?, range: choice("COLOR_RANGE")? })
    }

    /// Returns the values for a layout. Fails with `Unsupported` if the plane has the property without the value,
    /// because the picture would have wrong colors.
    pub(super) fn set(&self, layout: &Layout) -> Result<Set> {
        if !layout.fourcc().info().is_some_and(|i| matches!(i.kind, FormatKind::Yuv | FormatKind::Opaque)) {
            return Ok([None; 2]);
        }
        let colors = layout.colorimetry();
        // The kernel's names (`drm_color_mgmt.c`). The numbers depend on the driver.
        let encoding = match colors.matrix() {
            Encoding::Default | Encoding::Bt601 | Encoding::XvYcc601 => "ITU-R BT.601 YCbCr",
            Encoding::Bt709 | Encoding::XvYcc709 => "ITU-R BT.709 YCbCr",
            Encoding::Bt2020 => "ITU-R BT.2020 YCbCr",
            // DRM has no names for these.
            Encoding::Bt2020ConstantLuminance => "BT.2020 with constant luminance",
            Encoding::Smpte240m => "SMPTE 240M",
        };
        let range = match colors.quantization(FormatKind::Yuv) {
            Range::Full => "YCbCr full range",
            Range::Limited | Range::Default => "YCbCr limited range",
        };
        let set = |choice: &Option<Choice>, wanted| choice.as_ref().map(|c| c.set(wanted)).transpose();
        Ok([set(&self.encoding, encoding)?, set(&self.range, range)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ColorSpace, Colorimetry, Size};

    fn choice(name: &'static str, offered: &[(&str, u64)]) -> Option<Choice> {
        let offered = offered.iter().map(|&(n, v)| (n.to_owned(), v)).collect();
        Some(Choice { name, prop: ValueProp::for_tests(7), offered })
    }

    fn layout(fourcc: &str, space: ColorSpace, range: Range) -> Layout {
        let colors = Colorimetry { space, range, ..Colorimetry::default() };
        Layout::packed(fourcc.parse().unwrap(), Size::new(64, 64)).unwrap().with_colorimetry(colors)
    }

    fn values(colors: &ColorProperties, layout: &Layout) -> [Option<u64>; 2] {
        colors.set(layout).unwrap().map(|set| set.map(|(_, value)| value))
    }

    #[test]
    fn color_properties_follow_the_frame_if_the_plane_offers_them() {
        let encodings = [("ITU-R BT.601 YCbCr", 4), ("ITU-R BT.709 YCbCr", 9)];
        let ranges = [("YCbCr limited range", 1), ("YCbCr full range", 0)];
        let all =
            ColorProperties { encoding: choice("COLOR_ENCODING", &encodings), range: choice("COLOR_RANGE", &ranges) };
        assert_eq!(values(&all, &layout("NV12", ColorSpace::Rec709, Range::Default)), [Some(9), Some(1)]);
        assert_eq!(values(&all, &layout("YUYV", ColorSpace::Jpeg, Range::Default)), [Some(4), Some(0)]);
        assert_eq!(values(&all, &layout("NV12", ColorSpace::Default, Range::Full)), [Some(4), Some(0)]);
        assert_eq!(values(&all, &layout("XBGR32", ColorSpace::Rec709, Range::Limited)), [None, None]);
        let some = ColorProperties { encoding: None, range: choice("COLOR_RANGE", &ranges) };
        assert_eq!(values(&some, &layout("NV12", ColorSpace::Bt2020, Range::Default)), [None, Some(1)]);

        let e = all.set(&layout("NV12", ColorSpace::Bt2020, Range::Default)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        let words = ["COLOR_ENCODING", "has ITU-R BT.2020", "offers ITU-R BT.601 YCbCr, ITU-R BT.709 YCbCr"];
        words.iter().for_each(|w| assert!(e.to_string().contains(w), "{e}"));
    }
}
