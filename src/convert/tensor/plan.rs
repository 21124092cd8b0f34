//! The plan of a tensor for one layout of a source: its tables, without pixels.

use super::builder::TensorBuilder;
use super::colors::Colors;
use super::line::Columns;
use super::options::Filter;
use super::placement::Placement;
use super::rows::Span;
use super::taps::{Cover, Tap};
use crate::convert::cpu::samples::{groups, Group};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Layout, Rect, MAX_PLANES};

/// How a source becomes a tensor.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) layout: Layout,
    pub(super) placement: Placement,
    pub(super) spans: [Span; MAX_PLANES],
    pub(super) colors: Colors,
    pub(super) columns: Columns,
    pub(super) scaling: Scaling,
}

/// How rows, and for means also columns, are scaled.
#[derive(Debug)]
pub(super) enum Scaling {
    Bilinear { rows: Vec<Tap> },
    Area { columns: Vec<Cover>, rows: Vec<Cover> },
}

impl Plan {
    pub(super) fn new(tensor: &TensorBuilder, layout: &Layout) -> Result<Self> {
        let placement = placement(tensor, layout)?;
        let groups = pixels(layout)?;
        let Placement { crop, place } = placement;
        let (from, to) = (crop.size, place.size);
        let (left, top) = (crop.left as u32, crop.top as u32);
        let is_reduced = to.width <= from.width && to.height <= from.height;
        let (taps, scaling) = if tensor.filter == Filter::Area && is_reduced {
            let (columns, rows) = (Cover::all(0, from.width, to.width), Cover::all(top, from.height, to.height));
            (Tap::all(left, from.width, from.width), Scaling::Area { columns, rows })
        } else {
            let rows = Tap::all(top, from.height, to.height);
            (Tap::all(left, from.width, to.width), Scaling::Bilinear { rows })
        };
        let components: usize = groups.iter().map(|g| g.components().iter().filter(|c| c.index < 3).count()).sum();
        let colors = Colors::new(layout, components, tensor.channels);
        let needed = colors.counts().0;
        let mut spans = [Span::default(); MAX_PLANES];
        for group in groups.iter().filter(|g| g.components().iter().any(|c| c.index < needed)) {
            spans[group.plane].add(span(group, crop, layout));
        }
        let columns = Columns::new(&taps, &groups, needed, &spans);
        Ok(Self { layout: *layout, placement, spans, colors, columns, scaling })
    }
}

/// Returns where the picture is in the tensor.
pub(super) fn placement(tensor: &TensorBuilder, layout: &Layout) -> Result<Placement> {
    let whole = Rect::from(layout.size());
    let crop = tensor.crop.unwrap_or(whole);
    if crop.size.width == 0 || crop.size.height == 0 || !whole.contains(&crop) {
        let text = format!("the crop {crop} is empty or exceeds the picture, {layout}");
        return Err(Error::new(ErrorKind::InvalidArgument, "tensor", text));
    }
    Ok(Placement::new(crop, tensor.size, tensor.fit))
}

fn pixels(layout: &Layout) -> Result<Vec<Group>> {
    layout.check_rows("tensor")?;
    groups(layout).filter(|groups| groups.iter().all(|g| !g.is_565)).ok_or_else(|| {
        let text = format!("{layout} cannot become a tensor; NV12, YUYV, RGB24 and their relatives can");
        Error::new(ErrorKind::Unsupported, "tensor", text)
    })
}

/// Returns the bytes of a group's samples that the crop needs.
fn span(group: &Group, crop: Rect, layout: &Layout) -> Span {
    let (left, right) = (crop.left as usize, crop.left as usize + crop.size.width as usize);
    let end = right.div_ceil(group.across) * group.step_bytes;
    Span {
        first_byte: left / group.across * group.step_bytes,
        end: end.min(layout.row_bytes(group.plane) as usize),
        down: group.down as u32,
    }
}
