//! Resolves a request for given layouts: which rectangle of which source goes where, in which order.

use crate::dmabuf::{DmaBuf, MemoryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::flags::Flags;
use crate::format::{Flip, FormatInfo, FormatKind, Layout, Rect, Rotation, Size};
use crate::frame::{BufferSet, Frame, FrameFlags, FrameMeta, FrameMut, PoolId};

use super::request::{Blend, Color, Layer, Request, Scaling, MAX_LAYERS};

/// If the background has more rectangles than this, the whole target is filled instead.
const MAX_BACKGROUND_RECTS: usize = 8;

/// A rectangle of the target that gets a color, alpha included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The rectangle in the target.
    pub rect: Rect,
    /// The color, which replaces the pixels.
    pub color: Color,
}

/// A rectangle of a source that is drawn into a rectangle of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Draw {
    /// The index of the source.
    pub source: usize,
    /// The part of the source that is drawn.
    pub crop: Rect,
    /// The reflection of the crop, which comes before the rotation.
    pub flip: Flip,
    /// The rotation of the crop.
    pub rotation: Rotation,
    /// The place in the target, after the rotation.
    pub place: Rect,
    /// The opacity of the whole layer.
    pub alpha: u8,
    /// How the source covers the pixels below; [`Blend::Replace`] if it has no alpha component.
    pub blend: Blend,
}

impl Draw {
    /// Returns `true` if the pixels below do not show.
    pub fn is_opaque(&self) -> bool {
        self.alpha == 255 && self.blend == Blend::Replace
    }

    /// Returns the size of the crop after the rotation, before scaling.
    pub fn upright(&self) -> Size {
        upright(self.crop.size, self.rotation)
    }

    /// Returns `true` if the size of the place differs from that of the upright crop.
    #[cfg(feature = "simd")]
    pub fn is_scaled(&self) -> bool {
        self.upright() != self.place.size
    }
}

/// One operation on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Fills a rectangle with a color.
    Fill(Fill),
    /// Draws a source into a rectangle.
    Draw(Draw),
}

/// A [`Request`] resolved for the layouts of its sources and its target.
///
/// Make a plan once and use it for every frame. A plan leaves out what cannot be seen: layers below an opaque layer,
/// and the background below opaque layers.
///
/// ```
/// use framelease::convert::{Layer, Plan, Request, Scaling};
/// use framelease::format::{FourCc, Layout, Size};
///
/// let source = Layout::packed(FourCc::NV12, Size::new(1920, 1080))?;
/// let target = Layout::packed(FourCc::RGB24, Size::new(640, 640))?;
/// let letterbox = Request::convert(Layer::default().fit(Scaling::Keep));
/// let plan = Plan::new(&letterbox, &[source], &target)?;
/// assert_eq!(plan.target().size(), Size::new(640, 640));
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    sources: Vec<Layout>,
    target: Layout,
    steps: Vec<Step>,
    keeps_old: bool,
    memory: MemoryKind,
    #[cfg_attr(not(feature = "vulkan"), allow(dead_code))]
    is_read_only: bool,
    pool: Option<PoolId>,
}

impl Plan {
    /// Resolves `request`. Layer n draws frames of the n-th layout in `sources`.
    ///
    /// # Errors
    /// `InvalidArgument` if the request does not have 1 to 16 layers, or if the number of `sources` differs from the
    /// number of layers. `InvalidArgument`, with the layer, for a rectangle that is empty, exceeds its picture, or
    /// begins or ends between the pixels of one chroma sample. `Unsupported` for a format without pixels, and for an
    /// opaque target.
    pub fn new(request: &Request, sources: &[Layout], target: &Layout) -> Result<Self> {
        if !(1..=MAX_LAYERS).contains(&request.layers.len()) {
            return Err(invalid(format!("{} layers; 1 to {MAX_LAYERS} are possible", request.layers.len())));
        }
        if request.layers.len() != sources.len() {
            return Err(invalid(format!("{} layers for {} sources", request.layers.len(), sources.len())));
        }
        let target_info = pixels(target)?;
        target.check_rows("convert").map_err(|e| e.on("the target"))?;
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_by_key(|&i| request.layers[i].z_order);
        let mut steps = Vec::with_capacity(sources.len());
        for i in order {
            let layer = |e: Error| e.on(format!("layer {i}"));
            let source_info = pixels(&sources[i]).map_err(layer)?;
            draw(i, &request.layers[i], (&sources[i], source_info), (target, target_info), &mut steps)
                .map_err(layer)?;
        }
        drop_hidden(&mut steps);
        let open = uncovered(target.size(), &steps);
        let keeps_old = !open.is_empty() && request.background.is_none();
        if let Some(color) = request.background {
            steps.splice(0..0, open.into_iter().map(|rect| Step::Fill(Fill { rect, color })));
        }
        let (memory, pool) = (MemoryKind::DmaBuf, None);
        Ok(Self { sources: sources.to_vec(), target: *target, steps, keeps_old, memory, is_read_only: false, pool })
    }

    /// Sets the kind of memory that the frames are in. Default: dma-bufs. Devices cannot import memfds.
    pub fn memory(mut self, memory: MemoryKind) -> Self {
        self.memory = memory;
        self
    }

    /// Sets the kind of memory that the sources are in, as that of a frame: dma-bufs or memfds, read-only or writable.
    /// A camera's buffers are read-only unless
    /// [`CameraBuilder::writable_buffers`](crate::capture::CameraBuilder::writable_buffers) says otherwise. A backend
    /// that cannot use them then refuses the plan, and not its first job.
    pub fn memory_of(self, frame: &Frame) -> Self {
        self.memory_in(frame.memory())
    }

    /// As [`Plan::memory_of`], for frames in these buffers. Without a buffer the kind of memory stays as it is.
    pub(crate) fn memory_in(mut self, buffers: &[DmaBuf]) -> Self {
        if let Some(buffer) = buffers.first() {
            self.memory = buffer.kind();
        }
        self.is_read_only = buffers.iter().any(DmaBuf::is_read_only);
        self
    }

    /// Returns `true` if the sources' buffers are read-only.
    #[cfg(feature = "vulkan")]
    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Restricts the plan to targets of one pool generation.
    ///
    /// # Errors
    /// `Mismatch` if the pool's layout differs from the plan's target.
    #[doc(hidden)]
    pub fn bound_to(mut self, pool: &BufferSet) -> Result<Self> {
        self.check_target(pool.layout())?;
        self.pool = Some(pool.id());
        Ok(self)
    }

    /// Returns the layouts of the sources.
    #[doc(hidden)]
    pub fn sources(&self) -> &[Layout] {
        &self.sources
    }

    /// Returns the layout of the target.
    pub fn target(&self) -> &Layout {
        &self.target
    }

    /// The operations on the target, in order.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns `true` if the result shows pixels that the target held before.
    pub(crate) fn keeps_old(&self) -> bool {
        self.keeps_old
    }

    /// Returns the kind of memory that the frames are in.
    pub(crate) fn memory_kind(&self) -> MemoryKind {
        self.memory
    }

    /// Checks that the frames fit the plan: their number, layouts and pool; that their data are complete and within
    /// their buffers; and that the target is not a source. Every [`Converter`](super::Converter) calls this first.
    ///
    /// # Errors
    /// `InvalidArgument`, `Mismatch` or `Revoked`, with the source.
    pub(crate) fn check_frames(&self, sources: &[Frame], target: &FrameMut) -> Result<()> {
        if sources.len() != self.sources.len() {
            return Err(invalid(format!("{} frames for a plan with {} sources", sources.len(), self.sources.len())));
        }
        self.check_target(target.layout())?;
        if self.pool.is_some_and(|id| id != target.buffers().id()) {
            let text = "the target is of another pool generation than the plan is bound to";
            return Err(Error::new(ErrorKind::Mismatch, "convert", text));
        }
        for (i, (frame, layout)) in sources.iter().zip(&self.sources).enumerate() {
            check_source(frame, layout, target).map_err(|e| e.on(format!("source {i}")))?;
        }
        Ok(())
    }

    /// Returns what a target takes from the first source: time, number and flags.
    pub(super) fn carried(&self, first: &FrameMeta) -> FrameMeta {
        let flags = first.flags & (FrameFlags::ERROR | FrameFlags::MONOTONIC) | self.fields(first.flags);
        FrameMeta { flags, ..*first }
    }

    /// Returns the flags of an interlaced picture, or of a field. It remains one where a single layer is drawn row by
    /// row. Where its even rows become odd ones, the other field comes first, or it is the other field.
    fn fields(&self, flags: FrameFlags) -> FrameFlags {
        const BOTH: [FrameFlags; 2] = [FrameFlags::TOP_FIELD, FrameFlags::BOTTOM_FIELD];
        let mut draws = self.steps.iter().filter_map(|step| match step {
            Step::Draw(draw) => Some(draw),
            Step::Fill(_) => None,
        });
        let (Some(draw), None) = (draws.next(), draws.next()) else { return FrameFlags::default() };
        let (rows, is_turned) = (draw.crop.size.height, draw.rotation.is_quarter());
        if is_turned || rows != draw.place.size.height {
            return FrameFlags::default();
        }
        let is_upside_down = (draw.flip == Flip::Vertical) != (draw.rotation == Rotation::Half);
        if let Some(field) = BOTH.into_iter().find(|field| flags.contains(*field)) {
            // A row of a field is two rows of the picture.
            return if is_upside_down { BOTH[usize::from(field == BOTH[0])] } else { field };
        }
        if !flags.contains(FrameFlags::INTERLACED) {
            return FrameFlags::default();
        }
        let shift = i64::from(draw.crop.top) + i64::from(draw.place.top);
        let shift = if is_upside_down { shift + i64::from(rows) - 1 } else { shift };
        let mut fields = flags & (FrameFlags::INTERLACED | FrameFlags::BOTTOM_FIRST);
        if shift % 2 != 0 {
            fields.set(FrameFlags::BOTTOM_FIRST, !flags.contains(FrameFlags::BOTTOM_FIRST));
        }
        fields
    }

    fn check_target(&self, layout: &Layout) -> Result<()> {
        if *layout == self.target {
            return Ok(());
        }
        let text =
            format!("the target is {layout}, the plan is for {}: {layout:?} against {:?}", self.target, self.target);
        Err(Error::new(ErrorKind::Mismatch, "convert", text))
    }
}

/// Returns the metadata of a finished target, by what [`Plan::carried`] made of its first source's.
pub(super) fn meta(carried: &FrameMeta, target: &FrameMut) -> FrameMeta {
    FrameMeta { payload: target.full_payload(), published_ns: 0, ..*carried }
}

fn check_source(frame: &Frame, layout: &Layout, target: &FrameMut) -> Result<()> {
    let mismatch = |text: String| Err(Error::new(ErrorKind::Mismatch, "convert", text));
    if frame.layout() != layout {
        return mismatch(format!("the frame is {}, the plan is for {layout}", frame.layout()));
    }
    if !frame.is_valid() {
        return Err(Error::new(ErrorKind::Revoked, "convert", "the frame's lease has ended"));
    }
    for (i, plane) in layout.planes().iter().enumerate() {
        let (has, needs) = (frame.meta().payload[plane.memory as usize].bytes, layout.plane_end(i));
        if u64::from(has) < needs {
            return mismatch(format!("plane {i} ends at byte {needs}, the frame has {has} bytes"));
        }
    }
    for (i, (payload, memory)) in frame.meta().payload.iter().zip(frame.memory()).enumerate() {
        let (end, has) = (u64::from(payload.offset_bytes) + u64::from(payload.bytes), memory.size_bytes());
        if end > has as u64 {
            return mismatch(format!("the data of memory plane {i} end at byte {end} of a buffer of {has}"));
        }
    }
    if frame.memory().iter().any(|m| target.memory().iter().any(|t| t.id() == m.id())) {
        return Err(invalid("the target overlaps the source: they are the same buffer".into()));
    }
    Ok(())
}

fn draw(
    index: usize,
    layer: &Layer,
    (source, source_info): (&Layout, &FormatInfo),
    (target, target_info): (&Layout, &FormatInfo),
    steps: &mut Vec<Step>,
) -> Result<()> {
    let crop = layer.crop.unwrap_or(Rect::from(source.size()));
    let area = layer.place.unwrap_or(Rect::from(target.size()));
    check_rect("crop", crop, source, source_info)?;
    check_rect("place", area, target, target_info)?;
    let place = match layer.fit {
        Scaling::Stretch => area,
        Scaling::Keep => keep_ratio(upright(crop.size, layer.rotation), area, target_info.subsampling()),
    };
    if let Some(color) = layer.margin {
        steps.extend(subtract(area, place).map(|rect| Step::Fill(Fill { rect, color })));
    }
    let blend = if source_info.has_alpha() { layer.blend } else { Blend::Replace };
    if layer.alpha > 0 {
        let (flip, rotation, alpha) = (layer.flip, layer.rotation, layer.alpha);
        steps.push(Step::Draw(Draw { source: index, crop, flip, rotation, place, alpha, blend }));
    }
    Ok(())
}

/// Checks that the rectangle is inside its picture, not empty, and on the grid of chroma samples.
fn check_rect(what: &str, rect: Rect, layout: &Layout, info: &FormatInfo) -> Result<()> {
    let size = layout.size();
    if rect.size.width == 0 || rect.size.height == 0 {
        return Err(invalid(format!("{what} {rect} is empty")));
    }
    if !Rect::from(size).contains(&rect) {
        return Err(invalid(format!("{what} {rect} exceeds the picture of {size}")));
    }
    let (across, down) = info.subsampling();
    let (right, bottom) = rect.end();
    let on_grid = |begin: i32, end: i64, side: u32, unit: u32| {
        begin as u32 % unit == 0 && (end % i64::from(unit) == 0 || end == i64::from(side))
    };
    if on_grid(rect.left, right, size.width, across) && on_grid(rect.top, bottom, size.height, down) {
        return Ok(());
    }
    let text = format!("{what} {rect} is odd: one chroma sample of {} has {across}x{down} pixels", layout.fourcc());
    Err(invalid(text))
}

/// Returns the largest rectangle with the shape of `upright` in `area`, centered, on the grid of chroma samples.
pub(crate) fn keep_ratio(upright: Size, area: Rect, (across, down): (u32, u32)) -> Rect {
    let (w, h) = (u64::from(upright.width), u64::from(upright.height));
    let (room_w, room_h) = (u64::from(area.size.width), u64::from(area.size.height));
    let scale = |side: u64, by: u64, over: u64| (side * by + over / 2) / over;
    let (fit_w, fit_h) =
        if w * room_h >= h * room_w { (room_w, scale(room_w, h, w)) } else { (scale(room_h, w, h), room_h) };
    let snap = |fit: u64, room: u64, unit: u32| {
        let unit = u64::from(unit);
        let fit = if fit >= room { room } else { (fit / unit * unit).clamp(unit.min(room), room) };
        (fit as u32, ((room - fit) / 2 / unit * unit) as i32)
    };
    let ((width, left), (height, top)) = (snap(fit_w, room_w, across), snap(fit_h, room_h, down));
    Rect::new(area.left + left, area.top + top, Size::new(width, height))
}

/// Returns the parts of `area` outside `hole`, which lies within it: at most four rectangles.
fn subtract(area: Rect, hole: Rect) -> impl Iterator<Item = Rect> {
    let ((right, bottom), (hole_right, hole_bottom)) = (area.end(), hole.end());
    let rect = |left: i64, top: i64, right: i64, bottom: i64| {
        Rect::new(left as i32, top as i32, Size::new((right - left) as u32, (bottom - top) as u32))
    };
    let (left, top) = (i64::from(area.left), i64::from(area.top));
    let (hole_left, hole_top) = (i64::from(hole.left), i64::from(hole.top));
    [
        rect(left, top, right, hole_top),
        rect(left, hole_bottom, right, bottom),
        rect(left, hole_top, hole_left, hole_bottom),
        rect(hole_right, hole_top, right, hole_bottom),
    ]
    .into_iter()
    .filter(|r| r.size.width > 0 && r.size.height > 0)
}

/// Drops the steps that a later opaque layer covers.
fn drop_hidden(steps: &mut Vec<Step>) {
    let opaque = |step: &Step| match step {
        Step::Draw(draw) if draw.is_opaque() => Some(draw.place),
        Step::Fill(fill) => Some(fill.rect),
        Step::Draw(_) => None,
    };
    let area = |step: &Step| match step {
        Step::Draw(draw) => draw.place,
        Step::Fill(fill) => fill.rect,
    };
    for i in (0..steps.len()).rev() {
        let hidden = area(&steps[i]);
        if steps[i + 1..].iter().filter_map(opaque).any(|cover| cover.contains(&hidden)) {
            steps.remove(i);
        }
    }
}

/// Returns the parts of the target that no opaque layer covers.
fn uncovered(size: Size, steps: &[Step]) -> Vec<Rect> {
    let mut open = vec![Rect::from(size)];
    for step in steps {
        let cover = match step {
            Step::Draw(draw) if draw.is_opaque() => draw.place,
            Step::Fill(fill) => fill.rect,
            Step::Draw(_) => continue,
        };
        open = open
            .into_iter()
            .flat_map(|rect| match intersect(rect, cover) {
                Some(hole) => subtract(rect, hole).collect(),
                None => vec![rect],
            })
            .collect();
    }
    if open.len() > MAX_BACKGROUND_RECTS {
        return vec![Rect::from(size)];
    }
    open
}

fn intersect(a: Rect, b: Rect) -> Option<Rect> {
    let ((a_right, a_bottom), (b_right, b_bottom)) = (a.end(), b.end());
    let (left, top) = (a.left.max(b.left), a.top.max(b.top));
    let width = a_right.min(b_right) - i64::from(left);
    let height = a_bottom.min(b_bottom) - i64::from(top);
    (width > 0 && height > 0).then(|| Rect::new(left, top, Size::new(width as u32, height as u32)))
}

fn upright(size: Size, rotation: Rotation) -> Size {
    if rotation.is_quarter() {
        Size::new(size.height, size.width)
    } else {
        size
    }
}

/// Returns the format of a source or target. Sources may be opaque.
fn pixels(layout: &Layout) -> Result<&'static FormatInfo> {
    layout.fourcc().info().filter(|info| info.kind != FormatKind::Compressed).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "convert", format!("{} has no pixels to convert", layout.fourcc()))
    })
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, "convert", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(fourcc: &str, width: u32, height: u32) -> Layout {
        Layout::aligned(fourcc.parse().unwrap(), Size::new(width, height), 4).unwrap()
    }

    fn rect(left: i32, top: i32, width: u32, height: u32) -> Rect {
        Rect::new(left, top, Size::new(width, height))
    }

    #[test]
    fn fields_keep_their_order_or_change_it_with_the_rows() {
        let (top, bottom) = (FrameFlags::INTERLACED, FrameFlags::INTERLACED | FrameFlags::BOTTOM_FIRST);
        let fields = |layer: Layer, rows: u32, from: FrameFlags| {
            let request = Request::compose([layer]).background(None);
            Plan::new(&request, &[layout("GREY", 64, 64)], &layout("GREY", 64, rows)).unwrap().fields(from)
        };
        let plain = Layer::default;
        assert_eq!((fields(plain(), 64, top), fields(plain(), 64, bottom)), (top, bottom));
        assert_eq!(fields(plain(), 64, FrameFlags::default()), FrameFlags::default());
        assert_eq!(fields(plain().flip(Flip::Horizontal), 64, top), top);
        // 64 rows upside down: the first becomes the last.
        assert_eq!(fields(plain().flip(Flip::Vertical), 64, top), bottom);
        assert_eq!(fields(plain().rotation(Rotation::Half), 64, bottom), top);
        assert_eq!(fields(plain().rotation(Rotation::Half).flip(Flip::Vertical), 64, top), top);
        let crop = plain().crop(rect(0, 1, 64, 62));
        assert_eq!(fields(crop.place(rect(0, 0, 64, 62)), 64, top), bottom);
        assert_eq!(fields(crop.place(rect(0, 1, 64, 62)), 64, top), top);
        // Both fields are mixed.
        assert_eq!(fields(plain(), 32, top), FrameFlags::default());
        assert_eq!(fields(plain().rotation(Rotation::Clockwise90), 64, top), FrameFlags::default());
        // A frame that is a field.
        let (top, bottom) = (FrameFlags::TOP_FIELD, FrameFlags::BOTTOM_FIELD);
        for (field, other) in [(top, bottom), (bottom, top)] {
            assert_eq!(fields(plain(), 64, field), field);
            assert_eq!(fields(plain().flip(Flip::Vertical), 64, field), other);
            assert_eq!(fields(crop.place(rect(0, 0, 64, 62)), 64, field), field);
            assert_eq!(fields(plain(), 32, field), FrameFlags::default(), "a picture of its own");
        }
    }

    fn draws(plan: &Plan) -> Vec<Draw> {
        plan.steps().iter().filter_map(|s| if let Step::Draw(d) = s { Some(*d) } else { None }).collect()
    }

    fn fills(plan: &Plan) -> Vec<Rect> {
        plan.steps().iter().filter_map(|s| if let Step::Fill(f) = s { Some(f.rect) } else { None }).collect()
    }

    #[test]
    fn letterbox_is_centered_on_the_chroma_grid_and_only_the_margins_are_filled() {
        let request = Request::convert(Layer::default().fit(Scaling::Keep));
        let plan = Plan::new(&request, &[layout("NV12", 1920, 1080)], &layout("NV12", 640, 640)).unwrap();
        assert_eq!(draws(&plan)[0].place, rect(0, 140, 640, 360));
        assert_eq!(fills(&plan), [rect(0, 0, 640, 140), rect(0, 500, 640, 140)]);
        let turned = Request::convert(Layer::default().fit(Scaling::Keep).rotation(Rotation::Clockwise90));
        let plan = Plan::new(&turned, &[layout("NV12", 1920, 1080)], &layout("RGB24", 640, 640)).unwrap();
        assert_eq!(draws(&plan)[0].place, rect(140, 0, 360, 640));
    }

    #[test]
    fn plan_leaves_out_what_cannot_be_seen() {
        let quarter = |x, y| Layer::default().place(rect(x, y, 32, 32));
        let request = Request::compose([quarter(0, 0), quarter(32, 0), quarter(0, 32), quarter(32, 32)]);
        let plan = Plan::new(&request, &[layout("NV12", 64, 64); 4], &layout("NV12", 64, 64)).unwrap();
        assert!(fills(&plan).is_empty() && draws(&plan).len() == 4, "{plan:?}");
        let request =
            Request::compose([quarter(0, 0).z_order(1), Layer::default().z_order(2), quarter(0, 0).z_order(3)]);
        let plan = Plan::new(&request, &[layout("NV12", 64, 64); 3], &layout("NV12", 64, 64)).unwrap();
        assert_eq!(draws(&plan).iter().map(|d| d.source).collect::<Vec<_>>(), [1, 2]);
        // A translucent layer hides nothing. An invisible layer is not drawn.
        let request = Request::compose([quarter(0, 0), Layer::default().alpha(200), quarter(0, 0).alpha(0)]);
        let plan = Plan::new(&request, &[layout("NV12", 64, 64); 3], &layout("NV12", 64, 64)).unwrap();
        assert_eq!(draws(&plan).len(), 2);
        assert_eq!(fills(&plan).len(), 2);
    }

    #[test]
    fn impossible_requests_name_the_layer_and_the_rule() {
        let (source, target) = (layout("NV12", 64, 48), layout("YUYV", 64, 48));
        let one = |layer| Plan::new(&Request::convert(layer), &[source], &target).unwrap_err();
        for (layer, text) in [
            (Layer::default().crop(rect(0, 0, 0, 16)), "crop 0x16@0,0 is empty"),
            (Layer::default().crop(rect(32, 0, 34, 16)), "exceeds the picture of 64x48"),
            (Layer::default().crop(rect(-2, 0, 32, 16)), "exceeds"),
            (Layer::default().crop(rect(i32::MAX, 0, u32::MAX, 16)), "exceeds"),
            (Layer::default().crop(rect(0, 1, 32, 16)), "crop 32x16@0,1 is odd"),
            (Layer::default().place(rect(1, 0, 32, 16)), "place 32x16@1,0 is odd"),
        ] {
            let e = one(layer);
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            assert!(e.to_string().starts_with("convert on layer 0: ") && e.to_string().contains(text), "{e}");
        }
        let e = Plan::new(&Request::compose(vec![Layer::default(); 100]), &[source; 100], &target).unwrap_err();
        assert_eq!(e.to_string(), "convert: 100 layers; 1 to 16 are possible");
        for (layers, sources) in [(0, 0), (1, 2), (2, 1)] {
            let request = Request::compose(vec![Layer::default(); layers]);
            assert!(Plan::new(&request, &vec![source; sources], &target).is_err());
        }
        let coded = Layout::from_strides("H264".parse().unwrap(), Size::new(64, 48), &[], &[4096]).unwrap();
        let e = Plan::new(&Request::convert(Layer::default()), &[coded], &target).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn odd_edge_of_the_picture_is_on_the_grid() {
        let (source, target) = (layout("NV12", 63, 47), layout("NV12", 33, 35));
        let layer = Layer::default().crop(rect(2, 2, 61, 45)).fit(Scaling::Keep);
        assert!(Plan::new(&Request::convert(layer), &[source], &target).is_ok());
    }

    proptest! {
        #[test]
        fn steps_stay_inside_and_on_the_grid(
            (w, h) in (1u32..300, 1u32..300), (tw, th) in (1u32..300, 1u32..300),
            quarter: bool, formats in prop::sample::select(vec![("NV12", "RGB24"), ("RGB24", "NV12"), ("YUYV", "NV16")]),
        ) {
            let rotation = if quarter { Rotation::Clockwise270 } else { Rotation::None };
            let request = Request::convert(Layer::default().fit(Scaling::Keep).rotation(rotation).margin(Color::BLACK));
            let target = layout(formats.1, tw, th);
            let plan = Plan::new(&request, &[layout(formats.0, w, h)], &target).unwrap();
            let mut area = 0;
            for step in plan.steps() {
                let rect = match step { Step::Fill(f) => f.rect, Step::Draw(d) => d.place };
                prop_assert!(check_rect("step", rect, &target, target.fourcc().info().unwrap()).is_ok(), "{}", rect);
                area += u64::from(rect.size.width) * u64::from(rect.size.height);
            }
            // Together they cover every pixel once.
            prop_assert_eq!(area, u64::from(tw) * u64::from(th));
        }
    }
}
