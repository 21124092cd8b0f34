//! Which plane shows which format: by its list, then by a commit that is only tried (TEST_ONLY).

use super::commit::FenceWish;
use super::framebuffer::{drm_code, Framebuffer};
use super::layer::{LayerRequirements, PlaneLayer, Work};
use super::objects::{code, Plane, PlaneKind};
use super::scanout::Scanout;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FormatKind, FourCc, Rect, Size};
use crate::sys;

impl Scanout {
    /// The planes that reach this screen's CRTC, with what they take.
    ///
    /// # Errors
    /// As [`Device::planes`](super::Device::planes).
    pub fn planes(&self) -> Result<Vec<Plane>> {
        let bit = 1u32.checked_shl(self.crtc_index).unwrap_or(0);
        Ok(self.device.planes()?.into_iter().filter(|p| p.crtcs & bit != 0).collect())
    }

    /// Takes a plane for pictures of the wished size, in the first wished format that one shows: each format is looked
    /// up in the planes' lists with its modifier, then tried with a dumb buffer in a commit that changes nothing
    /// (`DRM_MODE_ATOMIC_TEST_ONLY`) beside the layers that there are. The legacy interface cannot try, and shows one
    /// picture on the whole screen.
    ///
    /// # Errors
    /// `Unsupported` if no plane shows any of the formats so: the text says what each plane takes and what each trial
    /// said, and, for YUV, that a converter can help. `Busy` if only planes would do that another layer has,
    /// `InvalidArgument` for a source outside of the picture or no format, `PermissionDenied` while another process is
    /// master.
    #[doc(alias = "DRM_MODE_ATOMIC_TEST_ONLY")]
    pub fn add_layer(&mut self, wish: &LayerRequirements) -> Result<PlaneLayer> {
        let Size { width, height } = wish.source.size;
        let empty = wish.formats.is_empty() || width == 0 || height == 0;
        if empty || !Rect::from_size(wish.size).contains(&wish.source) {
            let text = format!("{} of {} in {} formats", wish.source, wish.size, wish.formats.len());
            return Err(Error::new(ErrorKind::InvalidArgument, "add_layer", text).on(&self.device));
        }
        let whole = Rect::from_size(self.size());
        if self.atomic.is_none() && (wish.destination != whole || wish.source.size != whole.size) {
            let text = format!(
                "the legacy interface shows a picture on the whole screen alone: asked {} to {}, the mode is {}",
                wish.source,
                wish.destination,
                self.mode()
            );
            return Err(Error::new(ErrorKind::Unsupported, "add_layer", text).on(&self.device));
        }
        let planes = self.planes()?;
        let mut trials = Vec::new();
        let mut busy = false;
        for &fourcc in &wish.formats {
            let Ok(wanted) = drm_code(fourcc) else { continue };
            for plane in self.candidates(&planes, wish) {
                if !plane.takes(wanted, wish.modifier) {
                    continue;
                }
                if !self.claim(plane.id) {
                    busy = true;
                    continue;
                }
                let error = match self.tried(plane, wish, fourcc) {
                    Ok(work) => {
                        let layer = PlaneLayer { index: self.work.len(), fourcc, plane: plane.id, kind: plane.kind };
                        self.work.push(work);
                        return Ok(layer);
                    }
                    Err(error) => error,
                };
                self.device.screens().planes.retain(|&p| p != plane.id);
                if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::DeviceLost) {
                    return Err(error);
                }
                trials.push(format!("{fourcc} on plane {}: {error}", plane.id));
            }
        }
        Err(self.no_plane(&planes, wish, &trials, busy && trials.is_empty()))
    }

    /// Takes a plane, unless a layer of this device has it.
    fn claim(&self, plane: u32) -> bool {
        let mut screens = self.device.screens();
        let free = !screens.planes.contains(&plane);
        if free {
            screens.planes.push(plane);
        }
        free
    }

    /// The planes to try, best first: those that no other CRTC can use, and that this one uses now.
    fn candidates<'a>(&self, planes: &'a [Plane], wish: &LayerRequirements) -> Vec<&'a Plane> {
        let rank = |plane: &Plane| match (wish.kind, plane.kind) {
            (Some(kind), own) => (kind == own).then_some(0),
            (None, PlaneKind::Primary) => Some(0),
            (None, PlaneKind::Overlay) => Some(1),
            (None, PlaneKind::Cursor) => None,
        };
        // The legacy flip is the primary plane's.
        let usable = |p: &&Plane| self.atomic.is_some() || p.kind == PlaneKind::Primary;
        let mut found: Vec<_> = planes.iter().filter(usable).filter_map(|p| Some((rank(p)?, p))).collect();
        found.sort_by_key(|(rank, p)| (*rank, p.crtcs.count_ones(), p.crtc != self.crtc));
        found.into_iter().map(|(_, plane)| plane).collect()
    }

    fn tried(&mut self, plane: &Plane, wish: &LayerRequirements, fourcc: FourCc) -> Result<Work> {
        let mut work = Work::new(&self.device, plane, wish, fourcc)?;
        if self.atomic.is_none() {
            return Ok(work);
        }
        // Formats with several memory planes are tried in one. What has no dumb buffer is tried by its first frame.
        let single = fourcc.drm().and_then(FourCc::from_drm).unwrap_or(fourcc);
        let Ok(dumb) = self.device.dumb(single, wish.size) else { return Ok(work) };
        let trial = Framebuffer::of_dumb(&self.device, dumb, work.modifier)?;
        self.begin(true, FenceWish::None);
        work.write(&mut self.commit, self.crtc, Some((trial.id(), None)));
        for other in &self.work {
            let id = other.newest().map(|s| s.framebuffer.id()).or(other.trial.as_ref().map(Framebuffer::id));
            other.write(&mut self.commit, self.crtc, id.map(|id| (id, None)));
        }
        self.others_off();
        let flags = sys::drm::TEST_ONLY | sys::drm::ALLOW_MODESET;
        self.commit.submit(self.device.fd(), flags, 0).map_err(|e| {
            let error = self.flip_failed("DRM_IOCTL_MODE_ATOMIC", e);
            match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::DeviceLost => error,
                _ => error.detail(format!("{} (TEST_ONLY)", e.desc())),
            }
        })?;
        work.trial = Some(trial);
        Ok(work)
    }

    fn no_plane(&self, planes: &[Plane], wish: &LayerRequirements, trials: &[String], busy: bool) -> Error {
        let formats: Vec<_> = wish.formats.iter().map(|f| f.drm().map_or(f.to_string(), code)).collect();
        let mut text = format!(
            "asked {} ({}) of {}, {} to {}",
            formats.join(", "),
            wish.modifier,
            wish.size,
            wish.source,
            wish.destination
        );
        let list = |text: &mut String, planes: &[&Plane]| {
            for plane in planes {
                text.push_str(&format!("; {plane}"));
            }
        };
        let candidates = self.candidates(planes, wish);
        if candidates.is_empty() {
            text.push_str("; no plane of that kind can be used; there are");
            list(&mut text, &planes.iter().collect::<Vec<_>>());
        } else {
            list(&mut text, &candidates);
        }
        for trial in trials {
            text.push_str(&format!("; tried {trial}"));
        }
        let yuv = |f: &FourCc| f.info().is_some_and(|i| i.kind == FormatKind::Yuv);
        if busy {
            text.push_str("; another layer has the plane");
        } else if wish.formats.iter().any(yuv) {
            text.push_str("; convert to a format in the list first (framelease::convert)");
        }
        let kind = if busy { ErrorKind::Busy } else { ErrorKind::Unsupported };
        Error::new(kind, "add_layer", text).on(&self.device)
    }
}
