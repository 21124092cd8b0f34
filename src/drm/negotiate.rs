//! Finds the plane that shows a format: by the plane's list, then by a test commit (TEST_ONLY).

use super::commit::Committer;
use super::framebuffer::{drm_code, Framebuffer};
use super::layer::{LayerRequirements, PlaneState};
use super::objects::{code, Plane, PlaneKind};
use super::output::{Api, Output};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FormatKind, FourCc, Rect, Size};

/// Takes a plane that meets the requirements besides the planes in use, and returns its state.
pub(super) fn take_plane(
    output: &mut Output,
    committer: &mut Committer,
    used: &[PlaneState],
    wish: &LayerRequirements,
) -> Result<PlaneState> {
    check(output, committer, wish)?;
    let planes = output.reachable_planes()?;
    let candidates = candidates(output, committer, &planes, wish);
    let mut trials = Vec::new();
    let mut is_busy = false;
    for &fourcc in &wish.formats {
        let Ok(wanted) = drm_code(fourcc) else { continue };
        let modifier = wish.modifier_of(fourcc);
        // Without a list, the driver reads rows.
        let fits = |p: &&&Plane| match fourcc.tiling() {
            Some(_) => p.lists(wanted, modifier),
            None => p.takes(wanted, modifier),
        };
        for &plane in candidates.iter().filter(fits) {
            if !output.device.claim_plane(plane.id) {
                is_busy = true;
                continue;
            }
            let error = match tried(output, committer, used, (plane, fourcc), wish) {
                Ok(state) => {
                    output.planes.push(plane.id);
                    return Ok(state);
                }
                Err(error) => error,
            };
            output.device.release_plane(plane.id);
            if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::DeviceLost) {
                return Err(error);
            }
            trials.push(format!("{fourcc} on plane {}: {error}", plane.id));
        }
    }
    let is_busy = is_busy && trials.is_empty();
    Err(no_plane(&planes, &candidates, wish, &trials, is_busy).on(&output.device))
}

/// Refuses requirements that no plane can meet.
fn check(output: &Output, committer: &Committer, wish: &LayerRequirements) -> Result<()> {
    let Size { width, height } = wish.source.size;
    let is_empty = wish.formats.is_empty() || width == 0 || height == 0;
    if is_empty || !Rect::from(wish.size).contains(&wish.source) {
        let text = format!("{} of {} in {} formats", wish.source, wish.size, wish.formats.len());
        return Err(Error::new(ErrorKind::InvalidArgument, "add_layer", text).on(&output.device));
    }
    let whole = Rect::from(output.mode.size());
    if committer.api() == Api::Legacy && (wish.destination != whole || wish.source.size != whole.size) {
        let text = format!(
            "the legacy interface shows one picture on the whole screen: asked {} to {}, the mode is {}",
            wish.source, wish.destination, output.mode
        );
        return Err(Error::new(ErrorKind::Unsupported, "add_layer", text).on(&output.device));
    }
    Ok(())
}

/// Returns the planes to try, best first: those that other CRTCs cannot use, and that this CRTC uses now.
fn candidates<'a>(
    output: &Output,
    committer: &Committer,
    planes: &'a [Plane],
    wish: &LayerRequirements,
) -> Vec<&'a Plane> {
    let rank = |plane: &Plane| match (wish.kind, plane.kind) {
        (Some(kind), own) => (kind == own).then_some(0),
        (None, PlaneKind::Primary) => Some(0),
        (None, PlaneKind::Overlay) => Some(1),
        (None, PlaneKind::Cursor) => None,
    };
    // The legacy flip changes the primary plane.
    let usable = |p: &&Plane| committer.api() != Api::Legacy || p.kind == PlaneKind::Primary;
    let mut found: Vec<_> = planes.iter().filter(usable).filter_map(|p| Some((rank(p)?, p))).collect();
    found.sort_by_key(|(rank, p)| (*rank, p.crtcs.count_ones(), p.crtc != output.crtc));
    found.into_iter().map(|(_, plane)| plane).collect()
}

fn tried(
    output: &mut Output,
    committer: &mut Committer,
    used: &[PlaneState],
    (plane, fourcc): (&Plane, FourCc),
    wish: &LayerRequirements,
) -> Result<PlaneState> {
    let mut state = PlaneState::new(&output.device, plane, wish, fourcc)?;
    if committer.api() == Api::Legacy {
        return Ok(state);
    }
    // Formats with several memory planes are tested in their single-plane form. A format without dumb buffers is
    // tested by its first frame.
    let linear = fourcc.drm().and_then(FourCc::from_drm).filter(|_| fourcc.tiling().is_none());
    let single = linear.unwrap_or(fourcc);
    let Ok(dumb) = output.device.dumb(single, wish.size) else { return Ok(state) };
    let trial = Framebuffer::of_dumb(&output.device, dumb, state.modifier)?;
    committer.try_plane(output, used, &state, trial.id()).map_err(|refusal| {
        let error = refusal.explain(output, used);
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::DeviceLost => error,
            _ => error.detail(format!("{} (TEST_ONLY)", refusal.errno.desc())),
        }
    })?;
    state.trial = Some(trial);
    Ok(state)
}

fn no_plane(
    planes: &[Plane],
    candidates: &[&Plane],
    wish: &LayerRequirements,
    trials: &[String],
    is_busy: bool,
) -> Error {
    let shown = |f: &FourCc| f.drm().map_or(f.to_string(), |drm| format!("{} ({})", code(drm), wish.modifier_of(*f)));
    let formats: Vec<_> = wish.formats.iter().map(shown).collect();
    let mut text = format!("asked {} of {}, {} to {}", formats.join(", "), wish.size, wish.source, wish.destination);
    let list = |text: &mut String, planes: &[&Plane]| {
        for plane in planes {
            text.push_str(&format!("; {plane}"));
        }
    };
    if candidates.is_empty() {
        text.push_str("; no plane of that kind can be used; the planes are");
        list(&mut text, &planes.iter().collect::<Vec<_>>());
    } else {
        list(&mut text, candidates);
    }
    for trial in trials {
        text.push_str(&format!("; tried {trial}"));
    }
    let yuv = |f: &FourCc| f.info().is_some_and(|i| matches!(i.kind, FormatKind::Yuv | FormatKind::Opaque));
    if is_busy {
        text.push_str("; another layer has the plane");
    } else if wish.formats.iter().any(yuv) {
        text.push_str("; convert to a format in the list first (framelease::convert)");
    }
    let kind = if is_busy { ErrorKind::Busy } else { ErrorKind::Unsupported };
    Error::new(kind, "add_layer", text)
}
