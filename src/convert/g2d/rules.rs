//! The known abilities and limits of libg2d, as rules on numbers. They turn a plan into calls, or into an error that
//! names the rule.
//!
//! Sources: the i.MX G2D API guide (alignments, sizes), measurements on 8MP boards (formats), the PXP's published
//! library. `docs/boards.md` lists the rules that a board still has to confirm.

use std::fmt;
use std::sync::Arc;

use crate::convert::{Blend, Color, Draw, Fill, Plan, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Encoding, Flip, FormatInfo, FormatKind, FourCc, Layout, Range, Rect, Rotation, Size};
use crate::sys::g2d::{blend, cap, rotation, Surface, Tiling, MAX_PAIRS};

use super::report::{Answer, Variant};

/// The smallest side of a picture, in pixels.
const MIN_SIDE: u32 = 4;
/// The PXP decimates by up to 8, and then scales by up to 2.
const PXP_MAX_SHRINK: u32 = 16;
/// No document gives the other cores' limits. This is beyond practical use, and no fixed-point factor overflows.
const MAX_SCALE: u32 = 256;
/// The side of the square that fills are drawn from.
pub(super) const SWATCH: u32 = 64;
/// `G2D_RGBX8888`: without an alpha component, so targets get an opaque one.
pub(super) const SWATCH_FORMAT: u32 = 2;

/// The properties of a handle that the rules depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profile {
    pub(super) variant: Variant,
    /// Whether NV12 can be written, by query and trial together.
    pub(super) nv12_target: Answer,
    pub(super) multi_blit: bool,
    pub(super) clear: bool,
    pub(super) alloc: bool,
    /// `g2d_copy` can be used, with `g2d_buf_from_fd` for its buffers.
    pub(super) copy: bool,
    pub(super) warp: bool,
    /// Sources may be in the tiles of the i.MX8's Amphion decoder, by `g2d_blitEx`.
    pub(super) tiles: bool,
    /// The library's header is 1.3 or later, which brought `g2d_blitEx`. Earlier libraries exchange the planes of YV12.
    pub(super) yv12: bool,
    pub(super) matrices: Matrices,
}

/// The caps of the matrices.
pub(super) const MATRICES: [u32; 4] = [cap::BT_601, cap::BT_709, cap::BT_601_FULL, cap::BT_709_FULL];

/// The matrices that a library can choose. A library without these caps has one matrix: BT.601 in limited range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Matrices(u32);

impl Matrices {
    pub(super) fn add(&mut self, cap: u32) {
        self.0 |= 1 << cap;
    }

    /// Returns the caps that the library has.
    pub(super) fn caps(self) -> impl Iterator<Item = u32> + Clone {
        MATRICES.into_iter().filter(move |&cap| self.has(cap))
    }

    /// Returns `true` if the library has a cap.
    fn has(self, cap: u32) -> bool {
        self.0 & 1 << cap != 0
    }

    /// Returns the matrix if the library has it.
    fn check(self, matrix: u32) -> Result<u32> {
        if self.has(matrix) || self == Self::default() && matrix == cap::BT_601 {
            return Ok(matrix);
        }
        let name = cap::NAMES[matrix as usize];
        Err(rule(match self == Self::default() {
            true => format!("{name}: this libg2d has one matrix, {}", cap::NAMES[cap::BT_601 as usize]),
            false => format!("{name}: this libg2d does not have this matrix"),
        }))
    }
}

/// The caps of one operation. All others are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caps {
    pub(super) blend: bool,
    pub(super) global_alpha: bool,
    /// The matrix. Exactly one of the four is enabled.
    pub(super) matrix: u32,
}

/// One source that is drawn onto the target. Each job fills the addresses in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blit {
    pub(super) source: usize,
    pub(super) from: Surface,
    pub(super) to: Surface,
    pub(super) caps: Caps,
}

/// One step of a program.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Blit(Blit),
    /// Layers for `g2d_multi_blit` in one pass. If that fails, they are drawn one by one.
    Multi(Vec<Blit>),
    /// Copies the only source byte by byte, by `g2d_copy`, which does not depend on formats.
    Copy,
    /// Fills with a color. Uses `g2d_clear` if the target has no alpha component and the call can address it, otherwise
    /// draws from a square of that color.
    Fill {
        color: [u8; 4],
        to: Surface,
        clear: bool,
        caps: Caps,
    },
}

/// A plan as calls.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) plan: Arc<Plan>,
    pub(super) ops: Vec<Op>,
    pub(super) has_fill: bool,
    /// Uses `g2d_copy`, which takes `g2d_buf`s and no file descriptors.
    pub(super) has_copy: bool,
    /// Uses `g2d_blitEx`, which takes addresses and no file descriptors.
    pub(super) has_tiles: bool,
}

impl Program {
    pub(super) fn new(plan: &Arc<Plan>, profile: &Profile) -> Result<Self> {
        let ops = compile(plan, profile)?;
        let has_fill = ops.iter().any(|op| matches!(op, Op::Fill { .. }));
        let has_copy = ops.iter().any(|op| matches!(op, Op::Copy));
        let has_tiles = plan.sources().iter().any(|layout| layout.fourcc().tiling().is_some());
        Ok(Self { plan: Arc::clone(plan), ops, has_fill, has_copy, has_tiles })
    }
}

pub(super) fn compile(plan: &Plan, profile: &Profile) -> Result<Vec<Op>> {
    let target = plan.target();
    if is_copy(plan)
        && profile.copy
        && takes(profile, Role::Target, info(target)?.g2d.unwrap_or(u32::MAX)) == Some(false)
    {
        return Ok(vec![Op::Copy]);
    }
    check_picture(target, profile, Role::Target).map_err(|e| e.on("the target"))?;
    let mut ops: Vec<Op> = Vec::with_capacity(plan.steps().len());
    for step in plan.steps() {
        match step {
            Step::Fill(fill) => ops.push(compile_fill(fill, target, profile)?),
            Step::Draw(draw) => {
                let on = |e: Error| e.on(format!("source {}", draw.source));
                let Some(source) = plan.sources().get(draw.source) else {
                    return Err(Error::new(
                        ErrorKind::InvalidArgument,
                        "g2d",
                        "the plan draws a source that it does not have",
                    ));
                };
                check_picture(source, profile, Role::Source).map_err(on)?;
                let blit = compile_draw(draw, source, target, profile).map_err(on)?;
                join(&mut ops, blit, profile);
            }
        }
    }
    Ok(ops)
}

/// Returns `true` if the plan only copies its one source.
fn is_copy(plan: &Plan) -> bool {
    let [Step::Draw(draw)] = plan.steps() else { return false };
    let whole = Rect::from(plan.target().size());
    plan.sources() == [*plan.target()]
        && draw.is_opaque()
        && (draw.crop, draw.place) == (whole, whole)
        && (draw.flip, draw.rotation) == (Flip::None, Rotation::None)
}

/// Adds a blit. Joins it with the blits before it to one multi-blit if the call can take them all: same place in source
/// and target, no rotation, the same caps.
fn join(ops: &mut Vec<Op>, blit: Blit, profile: &Profile) {
    let fits = |b: &Blit| {
        let edges = |s: &Surface| (s.left, s.top, s.right, s.bottom);
        edges(&b.from) == edges(&b.to) && (b.from.rotation, b.to.rotation) == (0, 0) && b.from.tiling == Tiling::Linear
    };
    if profile.multi_blit && fits(&blit) {
        match ops.last_mut() {
            Some(Op::Multi(layers)) if layers.len() < MAX_PAIRS && layers[0].caps == blit.caps => {
                return layers.push(blit);
            }
            Some(Op::Blit(one)) if fits(one) && one.caps == blit.caps => {
                let layers = vec![*one, blit];
                ops.pop();
                return ops.push(Op::Multi(layers));
            }
            _ => {}
        }
    }
    ops.push(Op::Blit(blit));
}

fn compile_fill(fill: &Fill, target: &Layout, profile: &Profile) -> Result<Op> {
    let info = info(target)?;
    let Color { red, green, blue, alpha } = fill.color;
    if info.has_alpha() && alpha != 255 {
        let text =
            format!("{} fill of {}: g2d_clear ignores alpha, so only opaque fills are exact", fill.color, target);
        return Err(rule(text));
    }
    // With an alpha component the result of g2d_clear would not be opaque. For YUV its color space is unknown.
    let clear = profile.clear && info.kind == FormatKind::Rgb && !info.has_alpha() && info.planes[0].bytes != 3;
    if !clear && !profile.alloc {
        return Err(rule(format!("a fill of {target} needs g2d_alloc, which this library lacks")));
    }
    check_scale(swatch_part(fill.rect.size), fill.rect.size, profile)?;
    let caps = Caps { blend: false, global_alpha: false, matrix: profile.matrices.check(matrix(target)?)? };
    Ok(Op::Fill { color: [red, green, blue, alpha], to: surface(target, fill.rect)?, clear, caps })
}

/// Returns the part of the square from which a fill of this size is drawn, without scaling if possible.
pub(super) fn swatch_part(fill: Size) -> Size {
    Size::new(fill.width.min(SWATCH), fill.height.min(SWATCH))
}

fn compile_draw(draw: &Draw, source: &Layout, target: &Layout, profile: &Profile) -> Result<Blit> {
    let (from_info, to_info) = (info(source)?, info(target)?);
    check_scale(draw.upright(), draw.place.size, profile)?;
    let mut from = surface(source, draw.crop)?;
    let mut to = surface(target, draw.place)?;
    let (flip, turn) = orientation(draw.flip, draw.rotation, profile)?;
    from.rotation = flip;
    to.rotation = turn;
    let caps = Caps {
        blend: !draw.is_opaque(),
        global_alpha: draw.alpha < 255,
        matrix: profile.matrices.check(common_matrix((source, from_info), (target, to_info))?)?,
    };
    if profile.variant == Variant::Pxp && caps.blend && (flip, turn) != (0, 0) {
        return Err(rule("the PXP blends or turns, not both in one pass".into()));
    }
    (from.blend, to.blend) = (blend::ONE, blend::ZERO);
    if caps.blend {
        if to_info.kind == FormatKind::Yuv {
            return Err(rule(format!("blending reads the target, which cannot be {}", target.fourcc())));
        }
        to.blend = blend::ONE_MINUS_SRC_ALPHA;
        match draw.blend {
            Blend::Premultiplied if draw.alpha < 255 => {
                let text = "premultiplied pixels with a layer alpha: it is not documented how the hardware scales them";
                return Err(rule(text.into()));
            }
            Blend::Premultiplied => {}
            Blend::Straight => from.blend = blend::ONE | blend::PRE_MULTIPLY,
            Blend::Replace => {
                from.blend = blend::ONE | blend::PRE_MULTIPLY;
                // Only the layer's alpha applies: the pixels' own alpha must be ignored.
                if from_info.has_alpha() {
                    if to_info.has_alpha() {
                        let (from, to) = (source.fourcc(), target.fourcc());
                        let text = format!("{from} mixed into {to} by the layer alpha alone: no call ignores the pixels' alpha and also writes it");
                        return Err(rule(text));
                    }
                    from.format = opaque_twin(from.format);
                }
            }
        }
        from.alpha = draw.alpha;
    }
    Ok(Blit { source: draw.source, from, to, caps })
}

/// Returns the format with the same bytes as RGBA, BGRA, ARGB or ABGR that ignores alpha.
fn opaque_twin(format: u32) -> u32 {
    match format {
        1 => 2,
        3 => 4,
        6 => 8,
        7 => 9,
        other => other,
    }
}

/// Returns the flip for the source and the rotation for the target. So all eight orientations take one pass, except on
/// hardware where only one of them at a time is safe.
fn orientation(flip: Flip, turn: Rotation, profile: &Profile) -> Result<(u32, u32)> {
    let flip_code = match flip {
        Flip::None => 0,
        Flip::Horizontal => rotation::FLIP_H,
        Flip::Vertical => rotation::FLIP_V,
    };
    let turn_code = match turn {
        Rotation::None => 0,
        Rotation::Clockwise90 => 1,
        Rotation::Half => 2,
        Rotation::Clockwise270 => 3,
    };
    if profile.variant != Variant::Pxp {
        return Ok((flip_code, turn_code));
    }
    match (flip, turn) {
        (Flip::None, _) => Ok((0, turn_code)),
        (_, Rotation::None) => Ok((0, flip_code)),
        (Flip::Horizontal, Rotation::Half) => Ok((0, rotation::FLIP_V)),
        (Flip::Vertical, Rotation::Half) => Ok((0, rotation::FLIP_H)),
        _ => Err(rule("the PXP flips or rotates, not both in one pass".into())),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Source,
    Target,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Source { "source" } else { "target" })
    }
}

/// Formats by their numbers in `enum g2d_format`.
const RGB16_AND_32: [u32; 9] = [0, 1, 2, 3, 4, 6, 7, 8, 9];
/// The PXP's library draws another format for those that its table lacks, without an error.
const RGB_OF_PXP: [u32; 7] = [0, 1, 2, 3, 4, 6, 8];
const RGB888: u32 = 10;
const BGR888: u32 = 11;
const NV12: u32 = 20;
const YV12: u32 = 22;
const PLANAR: [u32; 3] = [20, 21, 22];
const YUYV: u32 = 24;
const UYVY: u32 = 26;
const VYUY: u32 = 27;

/// Returns whether a variant takes a format. `None` if it is not documented; the library's own answer then decides.
fn takes(profile: &Profile, role: Role, format: u32) -> Option<bool> {
    let yuv = (PLANAR[0]..=29).contains(&format);
    match (role, profile.variant) {
        (Role::Target, _) if format == NV12 => match profile.nv12_target {
            Answer::Yes => Some(true),
            Answer::No => Some(false),
            Answer::Unknown => None,
        },
        (Role::Source, _) if format == YV12 && !profile.yv12 => Some(false),
        (_, Variant::Unknown) => None,
        // Header 1.6 brought the format and this cap.
        (Role::Source, Variant::Gpu | Variant::Dpu) if format == BGR888 => Some(profile.matrices.has(cap::BT_601_FULL)),
        (Role::Source, Variant::Gpu) if format == VYUY => Some(false),
        (Role::Source, Variant::Pxp) => Some(yuv || RGB_OF_PXP.contains(&format)),
        (Role::Source, _) => Some(yuv || RGB16_AND_32.contains(&format) || format == RGB888 || format == BGR888),
        (Role::Target, Variant::Gpu) => Some(RGB16_AND_32.contains(&format) || format == RGB888 || format == YUYV),
        (Role::Target, Variant::Dpu) => {
            Some(RGB16_AND_32.contains(&format) || format == RGB888 || format == YUYV || format == UYVY)
        }
        (Role::Target, Variant::Pxp) => Some(RGB_OF_PXP.contains(&format)),
    }
}

/// Returns whether a handle takes a format of the table as source or as target, as far as the rules know.
pub(super) fn format_allowed(profile: &Profile, fourcc: FourCc, target: bool) -> Option<bool> {
    takes(profile, if target { Role::Target } else { Role::Source }, fourcc.g2d()?)
}

/// Checks the rules for a picture that do not depend on the drawing.
fn check_picture(layout: &Layout, profile: &Profile, role: Role) -> Result<()> {
    let info = info(layout)?;
    let Some(format) = info.g2d else {
        return Err(rule(format!("{} is not a format of libg2d", layout.fourcc())));
    };
    if takes(profile, role, format) == Some(false) {
        let why = match (format, role) {
            (NV12, Role::Target) => " (query and trial)",
            (YV12, Role::Source) if !profile.yv12 => " before header 1.3, which exchanges its planes",
            (BGR888, Role::Source) => " before header 1.6",
            _ => "",
        };
        return Err(rule(format!("{} is not a {role} format of {}{why}", layout.fourcc(), profile.variant)));
    }
    if info.kind == FormatKind::Opaque && !profile.tiles {
        return Err(rule(format!("{}: this libg2d does not read its tiles", layout.fourcc())));
    }
    let Size { width, height } = layout.size();
    if width < MIN_SIDE || height < MIN_SIDE {
        return Err(rule(format!("{}: a picture has at least {MIN_SIDE}x{MIN_SIDE} pixels", layout.size())));
    }
    let (across, _) = info.subsampling();
    if width % across != 0 || height % 2 != 0 {
        return Err(rule(format!("{}: width and rows of {} must be even", layout.size(), layout.fourcc())));
    }
    check_strides(layout, info)
}

fn check_strides(layout: &Layout, info: &FormatInfo) -> Result<()> {
    let Some(first) = layout.planes().first() else { return Err(rule(format!("{layout} has no planes"))) };
    let unit = stride_unit(info);
    if first.stride_bytes % unit != 0 {
        return Err(rule(format!("{layout}: the stride must be a multiple of {unit} bytes")));
    }
    for (i, plane) in layout.planes().iter().enumerate() {
        let follows = info.following_stride(i, first.stride_bytes);
        if plane.stride_bytes != follows {
            let text = format!(
                "{layout}: libg2d has one stride for all planes; plane {i} has {}, not {follows}",
                plane.stride_bytes
            );
            return Err(rule(text));
        }
        let align = address_align(info);
        if u64::from(plane.offset_bytes) % align != 0 {
            let text =
                format!("{layout}: plane {i} begins at byte {}, not at a multiple of {align}", plane.offset_bytes);
            return Err(rule(text));
        }
    }
    Ok(())
}

/// Returns the bytes of which the first plane's stride must be a multiple: 16 and whole pixels for RGB, 8 pixels for
/// packed and 16 bytes for semi-planar YUV, 32 pixels for planar YUV.
fn stride_unit(info: &FormatInfo) -> u32 {
    match (info.kind, info.stored_planes()) {
        (FormatKind::Rgb, [one]) if one.bytes == 3 => 48,
        (_, [_, _, _]) => 32,
        _ => 16,
    }
}

/// Returns the bytes of which the address of each plane must be a multiple.
pub(super) fn address_align(info: &FormatInfo) -> u64 {
    if info.stored_planes().len() > 1 {
        64
    } else {
        16
    }
}

/// Returns a layout that keeps all these rules.
pub(super) fn target_layout(fourcc: FourCc, size: Size) -> Result<Layout> {
    let three_bytes = fourcc.info().is_some_and(|i| i.planes.len() == 1 && i.planes[0].bytes == 3);
    Layout::aligned(fourcc, size, if three_bytes { 48 } else { 64 })
}

fn check_scale(from: Size, to: Size, profile: &Profile) -> Result<()> {
    let shrink = if profile.variant == Variant::Pxp { PXP_MAX_SHRINK } else { MAX_SCALE };
    for (from, to) in [(from.width, to.width), (from.height, to.height)] {
        let (from, to) = (u64::from(from), u64::from(to));
        if from > to * u64::from(shrink) || to > from * u64::from(MAX_SCALE) {
            let text = format!(
                "{from} to {to} pixels: {} shrinks by {shrink} and enlarges by {MAX_SCALE} at most",
                profile.variant
            );
            return Err(rule(text));
        }
    }
    Ok(())
}

/// Describes a layout with a rectangle of it as a surface: without addresses, opaque, no blending.
pub(super) fn surface(layout: &Layout, rect: Rect) -> Result<Surface> {
    let info = info(layout)?;
    let stored = info.stored_planes().first();
    let (Some(format), Some(plane), Some(sample)) = (info.g2d, layout.planes().first(), stored) else {
        return Err(rule(format!("{layout} is not a picture for libg2d")));
    };
    // A packed 4:2:2 sample has two pixels.
    let stride = u64::from(plane.stride_bytes) * u64::from(sample.horizontal) / u64::from(sample.bytes);
    let (right, bottom) = rect.end();
    let int = |n: i64| i32::try_from(n).map_err(|_| rule(format!("{rect} of {layout} is out of range")));
    Ok(Surface {
        format,
        planes: [0; 3],
        left: rect.left,
        top: rect.top,
        right: int(right)?,
        bottom: int(bottom)?,
        stride: int(stride as i64)?,
        width: int(i64::from(layout.size().width))?,
        height: int(i64::from(layout.size().height))?,
        blend: blend::ONE,
        alpha: 255,
        clear: [0; 4],
        rotation: 0,
        tiling: if info.kind == FormatKind::Opaque { Tiling::Amphion } else { Tiling::Linear },
    })
}

/// Returns the cap for a picture's colors. RGB does not have one and uses the default.
fn matrix(layout: &Layout) -> Result<u32> {
    let (color, kind) = (layout.colorimetry(), info(layout)?.kind);
    let full = color.quantization(kind) == Range::Full;
    if kind == FormatKind::Rgb {
        if !full {
            return Err(rule(format!("{layout} in limited range: libg2d takes RGB as full range")));
        }
        return Ok(cap::BT_601);
    }
    let wide = match color.matrix() {
        Encoding::Bt601 | Encoding::XvYcc601 => false,
        Encoding::Bt709 | Encoding::XvYcc709 => true,
        other => return Err(rule(format!("{layout} in {other:?}: libg2d has the matrices of BT.601 and BT.709"))),
    };
    Ok(match (wide, full) {
        (false, false) => cap::BT_601,
        (true, false) => cap::BT_709,
        (false, true) => cap::BT_601_FULL,
        (true, true) => cap::BT_709_FULL,
    })
}

/// Returns the cap that serves a blit between these layouts.
fn common_matrix((source, from): (&Layout, &FormatInfo), (target, to): (&Layout, &FormatInfo)) -> Result<u32> {
    let (a, b) = (matrix(source)?, matrix(target)?);
    match (from.kind != FormatKind::Rgb, to.kind != FormatKind::Rgb) {
        (true, true) if a != b => {
            let text = format!(
                "{source} in {} to {target} in {}: libg2d has one matrix for both",
                cap::NAMES[a as usize],
                cap::NAMES[b as usize]
            );
            Err(rule(text))
        }
        (true, _) => Ok(a),
        _ => Ok(b),
    }
}

fn info(layout: &Layout) -> Result<&'static FormatInfo> {
    let info = layout.fourcc().info().filter(|i| i.kind != FormatKind::Compressed);
    info.ok_or_else(|| rule(format!("{} has no pixels", layout.fourcc())))
}

fn rule(text: String) -> Error {
    Error::new(ErrorKind::Unsupported, "libg2d's rules", text)
}
