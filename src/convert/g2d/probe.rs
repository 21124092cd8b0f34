//! Finds out which layout a library has, and which hardware it drives. No function returns these, so several signs must
//! agree.

use std::path::Path;

use crate::format::{FourCc, Layout, Rect, Size};
use crate::sys::g2d::{cap, feature, hardware, Buffer, Handle, Status, Surface};

use super::report::{Abi, Answer, Report, Variant, Vote};
use super::rules;

/// The first version of the GPU's library with modern structs, in the numbers of its `_G2D_VERSION`.
const FIRST_MODERN: [u64; 4] = [6, 4, 11, 1_049_711];
/// How many bytes the probe allocates: whole pages, and a number that cannot be half of an address.
const PROBE_BYTES: i32 = 0x1_3000;
/// The side of the pictures of trial blits.
pub(super) const TRIAL_SIDE: u32 = 64;
const TRIAL_BYTES: i32 = 0x4000;

/// Returns the layout on which all probes that vote agree. With 32-bit pointers, addresses have 32 bits in both
/// layouts, so they are the same: an old library for such a target votes legacy, and no vote contradicts it.
fn decide(votes: &[Vote], pointer_bits: u32) -> Option<Abi> {
    if pointer_bits == 32 {
        return Some(Abi::Legacy);
    }
    let mut cast = votes.iter().filter_map(|v| v.abi);
    let first = cast.next()?;
    cast.all(|abi| abi == first).then_some(first)
}

pub(super) fn votes(handle: &Handle) -> Vec<Vote> {
    let symbols = handle.library().symbols();
    let has = |name: &str| symbols.iter().any(|s| s.name == name && s.present);
    vec![by_version(handle.library().version_text().as_deref()), by_symbols(&has), by_alloc(handle)]
}

fn by_version(text: Option<&str>) -> Vote {
    let vote = |abi, why: String| Vote { probe: "_G2D_VERSION", abi, why };
    let Some(text) = text else { return vote(None, "the symbol is missing".into()) };
    let shown = text.trim().to_owned();
    match version(text) {
        Some(numbers) if numbers >= FIRST_MODERN => vote(Some(Abi::Modern), shown),
        Some(_) => vote(Some(Abi::Legacy), shown),
        None => vote(None, format!("not a version: {shown:?}")),
    }
}

/// Parses the four numbers of a text such as `$VERSION$6.4.11:1049711:abcdef$`.
fn version(text: &str) -> Option<[u64; 4]> {
    let rest = text.split_once("$VERSION$")?.1;
    let mut parts = rest.split([':', '$']);
    let mut dotted = parts.next()?.split('.').map(|n| n.trim().parse().ok());
    let mut next = || dotted.next().flatten();
    Some([next()?, next()?, next()?, parts.next()?.trim().parse().ok()?])
}

fn by_symbols(has: &dyn Fn(&str) -> bool) -> Vote {
    let vote = |abi, why: &str| Vote { probe: "exported symbols", abi, why: why.to_owned() };
    for (name, header) in [("g2d_blit_dmabuf", "2.5"), ("g2d_get_warp_coordinates_from_dct_file", "2.3")] {
        if has(name) {
            return vote(Some(Abi::Modern), &format!("{name} is of header {header}"));
        }
    }
    if !has("g2d_set_warp_coordinates") {
        return vote(Some(Abi::Legacy), "g2d_set_warp_coordinates of header 2.1 is missing");
    }
    vote(None, "the library has the symbols of header 2.1, which both layouts may have")
}

#[cfg(target_pointer_width = "64")]
fn by_alloc(handle: &Handle) -> Vote {
    let vote = |abi, why: &str| Vote { probe: "g2d_alloc", abi, why: why.to_owned() };
    match handle.probe_alloc(PROBE_BYTES) {
        Some(crate::sys::g2d::Abi::Legacy) => vote(Some(Abi::Legacy), "buf_size is at byte 20"),
        Some(crate::sys::g2d::Abi::Modern) => vote(Some(Abi::Modern), "buf_size is not at byte 20"),
        None => vote(None, "no buffer was returned"),
    }
}

#[cfg(not(target_pointer_width = "64"))]
fn by_alloc(_: &Handle) -> Vote {
    let why = format!("addresses have 32 bits in both; {PROBE_BYTES} bytes need no probe");
    Vote { probe: "g2d_alloc", abi: None, why }
}

/// Returns the environment's choice: `FRAMELEASE_G2D_ABI` is `legacy` or `modern`.
pub(super) fn from_environment() -> Option<Abi> {
    match std::env::var("FRAMELEASE_G2D_ABI").ok()?.as_str() {
        "legacy" => Some(Abi::Legacy),
        "modern" => Some(Abi::Modern),
        _ => None,
    }
}

/// Queries everything, without trials.
pub(super) fn report(handle: &Handle, forced: Option<Abi>) -> Report {
    let library = handle.library();
    let votes = votes(handle);
    let ask = |names: &[&'static str], call: &dyn Fn(u32) -> Option<bool>| -> Vec<(&'static str, Answer)> {
        (0..).zip(names).map(|(i, name)| (*name, Answer::from(call(i)))).collect()
    };
    let hardware = ask(&hardware::NAMES, &|i| handle.hardware(i));
    let symbols: Vec<_> = library.symbols().iter().map(|s| (s.name, s.present)).collect();
    Report {
        path: library.path().to_owned(),
        abi: forced.or_else(|| decide(&votes, usize::BITS)),
        votes,
        abi_forced: forced.is_some(),
        version: library.version_text(),
        variant: variant(&hardware, library.path(), &symbols),
        symbols,
        hardware,
        features: ask(&feature::NAMES, &|i| handle.feature(i)),
        nv12_target: Answer::Unknown,
        nv12_why: "not asked".into(),
        survey: None,
    }
}

/// Returns the hardware by its query, or else by the file's name, or else by missing symbols.
fn variant(hardware: &[(&str, Answer)], path: &Path, symbols: &[(&str, bool)]) -> Variant {
    let is = |kind: &str| hardware.iter().any(|(name, answer)| name.starts_with(kind) && *answer == Answer::Yes);
    if is("DPU") {
        return Variant::Dpu;
    }
    if is("PXP") {
        return Variant::Pxp;
    }
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for (part, variant) in [("viv", Variant::Gpu), ("dpu", Variant::Dpu), ("pxp", Variant::Pxp)] {
        if file.contains(part) {
            return variant;
        }
    }
    let has = |name: &str| symbols.iter().any(|(n, present)| *n == name && *present);
    match has("_G2D_VERSION") {
        true => Variant::Gpu,
        false if !has("g2d_multi_blit") && !has("g2d_set_csc_matrix") => Variant::Pxp,
        false => Variant::Unknown,
    }
}

/// Two buffers of the library's own, between which trials draw.
pub(super) struct Trial<'a> {
    handle: &'a Handle,
    abi: Abi,
    buffers: Option<(Buffer, Buffer)>,
}

impl<'a> Trial<'a> {
    /// Returns `None` if the library has no `g2d_alloc`.
    pub(super) fn new(handle: &'a Handle, abi: Abi) -> Option<Self> {
        // As for every operation, only one matrix is enabled.
        for cap in [cap::BLEND, cap::BT_709, cap::BT_601_FULL, cap::BT_709_FULL] {
            let _ = handle.disable(cap);
        }
        let _ = handle.enable(cap::BT_601);
        let first = handle.alloc(TRIAL_BYTES)?;
        match handle.alloc(TRIAL_BYTES) {
            Some(second) => Some(Self { handle, abi, buffers: Some((first, second)) }),
            None => {
                handle.free(first);
                None
            }
        }
    }

    /// Draws between the two buffers, and calls `g2d_finish`.
    pub(super) fn blit(&self, from: FourCc, to: FourCc) -> Status {
        let Some((source, target)) = &self.buffers else { return Status::Missing };
        let abi = self.abi.raw();
        let (Some(s), Some(d)) = (trial_surface(from, source.address(abi)), trial_surface(to, target.address(abi)))
        else {
            return Status::NotSupported;
        };
        let status = self.handle.blit(abi, &s, &d);
        match self.handle.finish() {
            Status::Ok => status,
            failed => failed,
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some((a, b)) = self.buffers.take() {
            self.handle.free(a);
            self.handle.free(b);
        }
    }
}

fn trial_surface(fourcc: FourCc, address: u64) -> Option<Surface> {
    let size = Size::new(TRIAL_SIDE, TRIAL_SIDE);
    // Rows of RGB888 have 192 bytes, which are whole pixels already.
    let layout = Layout::packed(fourcc, size).ok().filter(|l| l.memory_bytes().len() == 1)?;
    let address = if address >> 32 == u64::from(u32::MAX) { address & u64::from(u32::MAX) } else { address };
    let mut surface = rules::surface(&layout, Rect::from(size)).ok()?;
    for (to, plane) in surface.planes.iter_mut().zip(layout.planes()) {
        *to = address + u64::from(plane.offset_bytes);
    }
    surface.blend = crate::sys::g2d::blend::ONE;
    Some(surface)
}

/// Finds out whether NV12 can be a target. The feature's query can only deny it; a trial decides.
pub(super) fn nv12_target(report: &mut Report, trial: Option<&Trial<'_>>) {
    let (answer, why) = match (report.feature("DST_YUV"), trial) {
        (Answer::No, _) => (Answer::No, "g2d_query_feature(DST_YUV): no".to_owned()),
        (query, None) => (Answer::Unknown, format!("DST_YUV: {query}; no g2d_alloc for a trial")),
        (query, Some(trial)) => {
            let status = trial.blit(FourCc::RGBA32, FourCc::NV12);
            let answer = if status.is_ok() { Answer::Yes } else { Answer::No };
            (answer, format!("DST_YUV: {query}; trial blit: {status}"))
        }
    };
    (report.nv12_target, report.nv12_why) = (answer, why);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(abi: Option<Abi>) -> Vote {
        Vote { probe: "x", abi, why: String::new() }
    }

    #[test]
    fn probes_that_vote_must_agree() {
        let (old, new) = (Some(Abi::Legacy), Some(Abi::Modern));
        for (votes, expected) in [
            (vec![], None),
            (vec![None, None], None),
            (vec![None, old], old),
            (vec![new, None, new], new),
            (vec![new, old], None),
            (vec![old, None, new], None),
        ] {
            let votes: Vec<_> = votes.into_iter().map(vote).collect();
            assert_eq!(decide(&votes, 64), expected, "{votes:?}");
            assert_eq!(decide(&votes, 32), old, "{votes:?}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, expected) in [
            ("\n\0$VERSION$", None),
            ("\n$VERSION$6.4.11:1049711:abc$\n", Some(Abi::Modern)),
            ("$VERSION$6.4.11:1049710:abc$", Some(Abi::Legacy)),
            ("$VERSION$6.4.3:1049711:abc$", Some(Abi::Legacy)),
            ("$VERSION$6.10.2:5:abc$", Some(Abi::Modern)),
            ("$VERSION$6.4:11:abc$", None),
            ("$VERSION$99999999999999999999.4.11:1:x$", None),
            ("6.4.11", None),
        ] {
            assert_eq!(by_version(Some(text)).abi, expected, "{text:?}");
        }
        assert_eq!(by_version(None).abi, None);
    }

    #[test]
    fn symbols_vote_by_the_header_that_brought_them() {
        let abi = |names: &[&str]| by_symbols(&|name: &str| names.contains(&name)).abi;
        assert_eq!(abi(&["g2d_blit_dmabuf"]), Some(Abi::Modern));
        assert_eq!(abi(&["g2d_get_warp_coordinates_from_dct_file", "g2d_set_warp_coordinates"]), Some(Abi::Modern));
        assert_eq!(abi(&["g2d_set_warp_coordinates"]), None);
        assert_eq!(abi(&["g2d_blit"]), Some(Abi::Legacy));
    }

    #[test]
    fn variant_is_found_by_hardware_then_file_then_symbols() {
        let path = Path::new("/usr/lib/libg2d-viv.so");
        assert_eq!(variant(&[("PXP_V1", Answer::Yes)], path, &[]), Variant::Pxp);
        assert_eq!(variant(&[("DPU_V2", Answer::No)], path, &[]), Variant::Gpu);
        let plain = Path::new("/usr/lib/libg2d.so.2");
        assert_eq!(variant(&[], plain, &[("g2d_multi_blit", true)]), Variant::Unknown);
        assert_eq!(variant(&[], plain, &[("g2d_multi_blit", false)]), Variant::Pxp);
        assert_eq!(variant(&[], plain, &[("_G2D_VERSION", true)]), Variant::Gpu);
    }
}
