//! One plane of a scanout: its requirements, and its present and coming pictures.

use std::sync::Arc;

use super::color_properties::{ColorProperties, Set};
use super::device::Device;
use super::framebuffer::{drm_code, Framebuffer};
use super::objects::{Modifier, Plane, PlaneKind, Props};
use crate::dmabuf::SyncFile;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, Layout, Rect, Size};
use crate::frame::Frame;
use crate::sys::drm::{Commit, ValueProp};

/// The requirements for a layer. By default, the layer shows the whole picture, unscaled, in the upper left corner of
/// the screen. The layer uses the primary plane if this plane is free, else an overlay plane.
///
/// ```
/// use framelease::drm::{LayerRequirements, PlaneKind};
/// use framelease::format::{FourCc, Rect, Size};
///
/// let size = Size::new(640, 480);
/// let overlay = LayerRequirements::new([FourCc::NV12, FourCc::YUYV], size)
///     .plane(PlaneKind::Overlay)
///     .destination(Rect::new(100, 50, size));
/// # let _ = overlay;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct LayerRequirements {
    pub(super) formats: Vec<FourCc>,
    pub(super) size: Size,
    pub(super) kind: Option<PlaneKind>,
    pub(super) modifier: Modifier,
    pub(super) source: Rect,
    pub(super) destination: Rect,
    pub(super) zpos: Option<u64>,
}

impl LayerRequirements {
    /// Requires pictures of this size, in one of these formats, best first.
    pub fn new(formats: impl IntoIterator<Item = FourCc>, size: Size) -> Self {
        let all = Rect::from(size);
        let formats = formats.into_iter().collect();
        Self { formats, size, kind: None, modifier: Modifier::LINEAR, source: all, destination: all, zpos: None }
    }

    /// Requires pictures of this format and size. The driver accepts or refuses the stride with the first frame.
    #[doc(hidden)]
    pub fn for_layout(layout: &Layout) -> Self {
        Self::new([layout.fourcc()], layout.size())
    }

    /// Sets the kind of plane to use.
    pub fn plane(mut self, kind: PlaneKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Sets the tiling or compression of the pixels. The default is [`Modifier::LINEAR`]. An opaque format has its own
    /// ([`FourCc::modifier`](crate::format::FourCc::modifier)).
    pub fn modifier(mut self, modifier: Modifier) -> Self {
        self.modifier = modifier;
        self
    }

    /// Returns the modifier of a picture in one of the formats.
    pub(super) fn modifier_of(&self, fourcc: FourCc) -> Modifier {
        fourcc.tiling().map_or(self.modifier, Modifier::from)
    }

    /// Sets the part of the picture to show. The default is the whole picture.
    pub fn source(mut self, source: Rect) -> Self {
        self.source = source;
        self
    }

    /// Sets the rectangle on the screen in which the layer appears. If this rectangle and the shown part of the picture
    /// differ in size, the plane scales the picture. Not every plane can scale.
    pub fn destination(mut self, destination: Rect) -> Self {
        self.destination = destination;
        self
    }

    /// Sets the `zpos` property. A plane with a higher value covers a plane with a lower value. Planes without this
    /// property have a fixed order.
    pub fn zpos(mut self, zpos: u64) -> Self {
        self.zpos = Some(zpos);
        self
    }
}

/// A layer of a scanout: a plane, and the format that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneLayer {
    /// The number of the scanout.
    pub(super) scanout: u64,
    pub(super) index: usize,
    pub(super) fourcc: FourCc,
    pub(super) plane: u32,
    pub(super) kind: PlaneKind,
}

impl PlaneLayer {
    /// Returns the index of the layer, if it belongs to the scanout with this number.
    pub(super) fn index_in(&self, scanout: u64) -> Option<usize> {
        (self.scanout == scanout).then_some(self.index)
    }

    /// Returns the first of the required formats that the plane supports.
    pub fn fourcc(&self) -> FourCc {
        self.fourcc
    }

    /// Returns the KMS object id of the plane, as it was when the layer was added.
    pub fn plane_id(&self) -> u32 {
        self.plane
    }

    /// Returns the kind of the plane.
    pub fn kind(&self) -> PlaneKind {
        self.kind
    }
}

/// A picture that is on the screen or will be. The framebuffer is removed before the lease ends.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) framebuffer: Arc<Framebuffer>,
    pub(super) frame: Frame,
    pub(super) fence: Option<SyncFile>,
}

/// A change of a plane.
#[derive(Debug)]
pub(super) enum Change {
    Show(Shown),
    Hide,
}

/// The properties of a plane that an atomic commit sets.
#[derive(Clone, Copy, Debug)]
struct PlaneProps {
    fb: ValueProp,
    crtc: ValueProp,
    source: [ValueProp; 4],
    destination: [ValueProp; 4],
    in_fence: Option<ValueProp>,
    zpos: Option<ValueProp>,
}

impl PlaneProps {
    fn of(props: &Props) -> Option<Self> {
        let four = |names: [&str; 4]| -> Option<[ValueProp; 4]> {
            let [a, b, c, d] = names.map(|n| props.value(n));
            Some([a?, b?, c?, d?])
        };
        Some(Self {
            fb: props.value("FB_ID")?,
            crtc: props.value("CRTC_ID")?,
            source: four(["SRC_X", "SRC_Y", "SRC_W", "SRC_H"])?,
            destination: four(["CRTC_X", "CRTC_Y", "CRTC_W", "CRTC_H"])?,
            in_fence: props.value("IN_FENCE_FD"),
            zpos: props.value("zpos"),
        })
    }
}

/// A plane of a scanout: its requirements, and its present and coming pictures.
#[derive(Debug)]
pub(super) struct PlaneState {
    pub(super) plane: Plane,
    props: Option<PlaneProps>,
    pub(super) fourcc: FourCc,
    pub(super) requirements: LayerRequirements,
    pub(super) modifier: Option<Modifier>,
    colors: ColorProperties,
    /// The values of the frame that was staged last.
    color_values: Set,
    pub(super) next: Option<Change>,
    /// The change that the pending flip makes.
    pub(super) pending: Option<Change>,
    pub(super) shown: Option<Shown>,
    /// The buffer of the test commit, until there is a frame. Drivers refuse a CRTC without its primary plane.
    pub(super) trial: Option<Framebuffer>,
}

impl PlaneState {
    pub(super) fn new(
        device: &Device,
        plane: &Plane,
        requirements: &LayerRequirements,
        fourcc: FourCc,
    ) -> Result<Self> {
        let code = drm_code(fourcc)?;
        // Only named if the plane lists modifiers. Drivers without modifiers mean LINEAR.
        let listed = plane.formats.iter().any(|f| f.code == code && !f.modifiers.is_empty());
        let modifier = (device.info().modifiers && listed).then_some(requirements.modifier_of(fourcc));
        Ok(Self {
            props: PlaneProps::of(&plane.props),
            plane: plane.clone(),
            fourcc,
            requirements: requirements.clone(),
            modifier,
            colors: ColorProperties::of(device, &plane.props)?,
            color_values: [None; 2],
            next: None,
            pending: None,
            shown: None,
            trial: None,
        })
    }

    /// Shows the pending picture, because the flip has completed.
    pub(super) fn advance(&mut self) {
        match self.pending.take() {
            Some(Change::Show(shown)) => self.shown = Some(shown),
            Some(Change::Hide) => self.shown = None,
            None => {}
        }
    }

    /// Notes that the screen shows the staged picture before its flip. Returns `false` if none is staged.
    pub(super) fn show_staged(&mut self) -> bool {
        let Some(Change::Show(Shown { framebuffer, frame, .. })) = &self.next else { return false };
        self.shown = Some(Shown { framebuffer: Arc::clone(framebuffer), frame: frame.clone(), fence: None });
        true
    }

    /// Refuses a frame that does not fit the layer, and takes its colorimetry.
    pub(super) fn check(&mut self, layout: &Layout) -> Result<()> {
        if layout.fourcc().has_bytes_of(self.fourcc) && layout.size() == self.requirements.size {
            self.color_values = self.colors.set(layout)?;
            return Ok(());
        }
        let text = format!(
            "the layer shows {} {}, the frame is {layout}; {}",
            self.fourcc, self.requirements.size, self.plane
        );
        Err(Error::new(ErrorKind::Mismatch, "stage", text))
    }

    /// Returns `true` if the plane supports fences.
    pub(super) fn takes_fences(&self) -> bool {
        self.props.is_some_and(|p| p.in_fence.is_some())
    }

    /// Returns the picture that the plane shows after every change so far.
    pub(super) fn newest(&self) -> Option<&Shown> {
        match (&self.next, &self.pending) {
            (Some(Change::Show(shown)), _) | (None, Some(Change::Show(shown))) => Some(shown),
            (Some(Change::Hide), _) | (None, Some(Change::Hide)) => None,
            (None, None) => self.shown.as_ref(),
        }
    }

    /// Adds the plane to a commit, with a framebuffer or switched off.
    pub(super) fn write(&self, commit: &mut Commit, crtc: u32, show: Option<(u32, Option<&SyncFile>)>) {
        use std::os::fd::{AsFd, AsRawFd};
        let Some(props) = &self.props else { return };
        commit.object(self.plane.id);
        let Some((framebuffer, fence)) = show else {
            commit.set(props.fb, 0);
            commit.set(props.crtc, 0);
            return;
        };
        commit.set(props.fb, framebuffer.into());
        commit.set(props.crtc, crtc.into());
        // 16.16 fixed point.
        let Rect { left, top, size } = self.requirements.source;
        let fixed = |v: u32| u64::from(v) << 16;
        let source = [fixed(left.max(0) as u32), fixed(top.max(0) as u32), fixed(size.width), fixed(size.height)];
        let Rect { left, top, size } = self.requirements.destination;
        // A signed range: two's complement in 64 bits.
        let destination = [i64::from(left) as u64, i64::from(top) as u64, size.width.into(), size.height.into()];
        for (prop, value) in props.source.into_iter().zip(source).chain(props.destination.into_iter().zip(destination))
        {
            commit.set(prop, value);
        }
        if let (Some(prop), Some(fence)) = (props.in_fence, fence) {
            commit.set(prop, fence.as_fd().as_raw_fd() as u64);
        }
        if let (Some(prop), Some(zpos)) = (props.zpos, self.requirements.zpos) {
            commit.set(prop, zpos);
        }
        for (prop, value) in self.color_values.into_iter().flatten() {
            commit.set(prop, value);
        }
    }

    /// Switches off a plane that another program left on.
    pub(super) fn write_off(plane: &Plane, commit: &mut Commit) {
        if let Some(props) = PlaneProps::of(&plane.props) {
            commit.object(plane.id);
            commit.set(props.fb, 0);
            commit.set(props.crtc, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_use_the_modifier_of_an_opaque_format() {
        let other = Modifier::from(7);
        let wish = LayerRequirements::new([], Size::new(64, 64)).modifier(other);
        let own = Modifier::from(0xf000_0000_0000_0001);
        assert_eq!((wish.modifier_of(FourCc::NV12), wish.modifier_of("NV12M_8L128".parse().unwrap())), (other, own));
    }
}
