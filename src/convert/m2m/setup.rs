//! The settings that a plan needs of a mem-to-mem device, and the ioctls that apply them.

use crate::dmabuf::MemoryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Flip, Layout, Rect, Rotation, Size};
use crate::v4l2::{ControlId, Device, Direction, SelectionTarget};

use super::super::{Blend, Plan, Step};
use super::colors;

/// One source that is drawn once, which is all that such a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    source: Layout,
    target: Layout,
    crop: Rect,
    place: Rect,
    turn: Turn,
}

/// An orientation as controls: flips, and a clockwise rotation in degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
    degrees: i64,
    horizontal: bool,
    vertical: bool,
}

pub(super) fn unsupported(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, "convert", text)
}

impl Turn {
    fn of(flip: Flip, rotation: Rotation) -> Result<Self> {
        let (horizontal, vertical) = (flip == Flip::Horizontal, flip == Flip::Vertical);
        let degrees = match rotation {
            Rotation::None => 0,
            // A half turn is both flips.
            Rotation::Half => {
                return Ok(Self { degrees: 0, horizontal: !horizontal, vertical: !vertical });
            }
            Rotation::Clockwise90 => 90,
            Rotation::Clockwise270 => 270,
        };
        if degrees != 0 && flip != Flip::None {
            return Err(unsupported("a flip and a quarter turn: V4L2 does not say which of them comes first"));
        }
        Ok(Self { degrees, horizontal, vertical })
    }

    fn apply(self, device: &Device) -> Result<()> {
        let has = |id| usable(device, id);
        let mut turn = self;
        if turn.horizontal && turn.vertical && !(has(ControlId::HORIZONTAL_FLIP)? && has(ControlId::VERTICAL_FLIP)?) {
            turn = Self { degrees: 180, horizontal: false, vertical: false };
        }
        for (id, value, what) in [
            (ControlId::HORIZONTAL_FLIP, i64::from(turn.horizontal), "flip horizontally (V4L2_CID_HFLIP)"),
            (ControlId::VERTICAL_FLIP, i64::from(turn.vertical), "flip vertically (V4L2_CID_VFLIP)"),
            (ControlId::ROTATE, turn.degrees, "rotate (V4L2_CID_ROTATE)"),
        ] {
            if !has(id)? {
                if value != 0 {
                    return Err(unsupported(format!("the device does not {what}")).on(device));
                }
            } else if device.set_control(id, value)? != value.into() {
                return Err(unsupported(format!("the device does not {what} by {value}")).on(device));
            }
        }
        Ok(())
    }
}

/// Returns `true` if a device has a control that can be written.
fn usable(device: &Device, id: ControlId) -> Result<bool> {
    match device.control(id) {
        Ok(control) => Ok(!control.is_disabled && !control.is_read_only),
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(false),
        Err(e) => Err(e),
    }
}

impl Setup {
    /// Returns the settings for a plan, if mem-to-mem devices can carry out plans of its kind.
    pub(super) fn of(plan: &Plan) -> Result<Self> {
        if plan.memory_kind() != MemoryKind::DmaBuf {
            return Err(unsupported("the frames are in memfds, and devices import only dma-bufs"));
        }
        let [source] = plan.sources() else {
            return Err(unsupported(format!("{} sources; a mem-to-mem device takes one", plan.sources().len())));
        };
        source.check_rows("convert")?;
        let draw = match plan.steps() {
            [Step::Draw(draw)] => draw,
            [] => return Err(unsupported("nothing is drawn")),
            _ => {
                let text =
                    "a background or margins: the device fills nothing. Fill the targets once, and ask for the place \
                            alone, without a background (Layer::place, Request::background)";
                return Err(unsupported(text));
            }
        };
        if draw.alpha != 255 || draw.blend != Blend::Replace {
            return Err(unsupported("a translucent layer: the device replaces what was there"));
        }
        let has_alpha = |layout: &Layout| layout.fourcc().info().is_some_and(|i| i.has_alpha());
        if has_alpha(source) && has_alpha(plan.target()) {
            let text = "V4L2 does not define what happens to the source's alpha in a target that has alpha";
            return Err(unsupported(text));
        }
        Ok(Self {
            source: *source,
            target: *plan.target(),
            crop: draw.crop,
            place: draw.place,
            turn: Turn::of(draw.flip, draw.rotation)?,
        })
    }

    /// Applies the settings to a device. Both queues must be without buffers. Ioctls: `VIDIOC_S_EXT_CTRLS`,
    /// `VIDIOC_S_FMT`, `VIDIOC_S_SELECTION`.
    ///
    /// # Errors
    /// `Unsupported`, with the device's rule; other errors of the device.
    pub(super) fn apply(&self, device: &Device) -> Result<()> {
        self.apply_all(device).map_err(|e| match e.kind() {
            // The error contains what the device would do instead.
            ErrorKind::InvalidArgument | ErrorKind::Mismatch => e.kind_is(ErrorKind::Unsupported),
            _ => e,
        })
    }

    fn apply_all(&self, device: &Device) -> Result<()> {
        // Quarter turns exchange the sides of the formats, so they come first.
        self.turn.apply(device)?;
        self.apply_alpha(device)?;
        let (of_source, of_target) = colors::asked(&self.source, &self.target);
        let wrong = |text: String| unsupported(text).on(device);
        // The output side comes first, because drivers limit the capture side by it.
        let given = device.set_format_exact(Direction::Output, &self.source.with_colorimetry(of_source))?;
        colors::check(&self.source, &given).map_err(wrong)?;
        apply_region(device, Direction::Output, SelectionTarget::Crop, self.crop, given.size())?;
        let given = device.set_format_exact(Direction::Capture, &self.target.with_colorimetry(of_target))?;
        colors::check(&self.target, &given).map_err(wrong)?;
        apply_region(device, Direction::Capture, SelectionTarget::Compose, self.place, given.size())
    }

    /// Makes the target opaque if it has alpha and the source does not.
    fn apply_alpha(&self, device: &Device) -> Result<()> {
        if !self.target.fourcc().info().is_some_and(|i| i.has_alpha()) {
            return Ok(());
        }
        if !usable(device, ControlId::ALPHA_COMPONENT)? {
            let text = "the target has alpha, which the device does not set (V4L2_CID_ALPHA_COMPONENT)";
            return Err(unsupported(text).on(device));
        }
        device.set_control(ControlId::ALPHA_COMPONENT, 255).map(drop)
    }
}

/// Sets crop or compose. Devices without selections always use the whole picture of `size`.
fn apply_region(
    device: &Device,
    direction: Direction,
    target: SelectionTarget,
    wanted: Rect,
    size: Size,
) -> Result<()> {
    let whole = wanted == Rect::from(size);
    match device.set_region(direction, target, wanted) {
        Ok(given) if given == wanted => {}
        Ok(given) => {
            return Err(unsupported(format!("{target:?} {wanted}: the device takes {given}")).on(device));
        }
        Err(_) if whole => return Ok(()),
        Err(e) => {
            let text = format!("{target:?} {wanted} of a picture of {size}: the device has no such selection: {e}");
            return Err(if e.kind() == ErrorKind::DeviceLost { e } else { unsupported(text).on(device) });
        }
    }
    if !whole && target == SelectionTarget::Compose {
        if let Some(padded) = device.region(direction, target)?.padded.filter(|&p| p != wanted) {
            return Err(unsupported(format!("place {wanted}: the device writes all of {padded}")).on(device));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{Layer, Request, Scaling};

    fn layout(fourcc: &str, width: u32, height: u32) -> Layout {
        Layout::packed(fourcc.parse().unwrap(), Size::new(width, height)).unwrap()
    }

    fn setup(layer: Layer, from: &str, to: &str) -> Result<Setup> {
        let plan = Plan::new(&Request::convert(layer), &[layout(from, 64, 48)], &layout(to, 64, 48)).unwrap();
        Setup::of(&plan)
    }

    #[test]
    fn setup_refuses_unsupported_plans_with_the_rule() {
        let plain = Layer::default();
        let part = Rect::new(0, 0, Size::new(32, 48));
        for (layer, from, to, rule) in [
            (plain.place(part), "NV12", "NV12", "Fill the targets once"),
            (plain.fit(Scaling::Keep).rotation(Rotation::Clockwise90), "NV12", "NV12", "fills nothing"),
            (plain.alpha(100), "NV12", "NV12", "a background or margins"),
            (plain.blend(Blend::Straight), "RGBA32", "NV12", "a background or margins"),
            (plain, "RGBA32", "ABGR32", "alpha"),
            (plain.rotation(Rotation::Clockwise90).flip(Flip::Vertical), "NV12", "NV12", "which of them comes first"),
            (plain.alpha(0), "NV12", "NV12", "fills nothing"),
        ] {
            let e = setup(layer, from, to).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Unsupported);
            assert!(e.to_string().contains(rule), "{layer:?}: {e}");
        }
        let pair = [layout("NV12", 64, 48); 2];
        let shown = Layer::default().alpha(128);
        let both = Request::compose([Layer::default(), shown]);
        let e = Setup::of(&Plan::new(&both, &pair, &pair[0]).unwrap()).unwrap_err();
        assert!(e.to_string().contains("2 sources"), "{e}");
        // A translucent layer over the target's old pixels.
        let old = Request::convert(shown).background(None);
        let e = Setup::of(&Plan::new(&old, &pair[..1], &pair[0]).unwrap()).unwrap_err();
        assert!(e.to_string().contains("translucent"), "{e}");
        let memfd = Plan::new(&Request::convert(plain), &pair[..1], &pair[0]).unwrap().memory(MemoryKind::Memfd);
        assert!(Setup::of(&memfd).unwrap_err().to_string().contains("memfd"));
    }

    #[test]
    fn orientations_become_controls() {
        let turn = |flip, rotation| Turn::of(flip, rotation).map(|t| (t.degrees, t.horizontal, t.vertical)).ok();
        use {Flip as F, Rotation as R};
        for (flip, rotation, wanted) in [
            (F::None, R::None, Some((0, false, false))),
            (F::Horizontal, R::None, Some((0, true, false))),
            (F::Vertical, R::None, Some((0, false, true))),
            (F::None, R::Half, Some((0, true, true))),
            (F::Horizontal, R::Half, Some((0, false, true))),
            (F::Vertical, R::Half, Some((0, true, false))),
            (F::None, R::Clockwise90, Some((90, false, false))),
            (F::None, R::Clockwise270, Some((270, false, false))),
            (F::Horizontal, R::Clockwise270, None),
        ] {
            assert_eq!(turn(flip, rotation), wanted, "{flip:?} {rotation:?}");
        }
    }
}
