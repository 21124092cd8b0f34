//! The formats of a device, grouped by the sizes and rates in which they come.

use framelease::format::{FourCc, Size};
use framelease::v4l2::{Device, Direction, FormatOffer, Intervals, Sizes};

/// The sizes for which intervals are shown.
pub fn shown(sizes: &Sizes) -> Vec<Size> {
    match sizes {
        Sizes::Discrete(all) => all.clone(),
        Sizes::Stepwise { max, .. } => vec![*max],
        _ => Vec::new(),
    }
}

pub fn intervals(device: &Device, fourcc: FourCc, size: Size) -> Intervals {
    device.intervals(fourcc, size).unwrap_or(Intervals::Unknown)
}

/// Whether a queue's formats have frame rates.
pub fn is_timed(device: &Device, direction: Direction) -> bool {
    direction == Direction::Capture && !device.info().is_m2m()
}

/// Formats that come in the same sizes and rates, and the text of these.
pub struct Group {
    /// Those that this library can lay out.
    pub known: Vec<FourCc>,
    pub unknown: usize,
    pub sizes: String,
}

pub fn grouped(device: &Device, direction: Direction, offers: &[FormatOffer]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for offer in offers {
        let sizes = geometry(device, offer.fourcc, is_timed(device, direction));
        let at = groups.iter().position(|group| group.sizes == sizes).unwrap_or_else(|| {
            groups.push(Group { known: Vec::new(), unknown: 0, sizes });
            groups.len() - 1
        });
        match offer.fourcc.info() {
            Some(_) => groups[at].known.push(offer.fourcc),
            None => groups[at].unknown += 1,
        }
    }
    groups
}

/// Sizes, each with the range of its frame rates.
fn geometry(device: &Device, fourcc: FourCc, timed: bool) -> String {
    let sizes = device.sizes(fourcc).unwrap_or(Sizes::Unknown);
    if !timed || !matches!(sizes, Sizes::Discrete(_)) {
        return sizes.to_string();
    }
    let each = shown(&sizes).into_iter().map(|size| match intervals(device, fourcc, size) {
        Intervals::Discrete(all) => {
            let fps = all.iter().map(|i| i.fps());
            let (low, high) = fps.fold((f64::MAX, 0.0), |(low, high): (f64, f64), f| (low.min(f), high.max(f)));
            format!("{size} ({low} to {high} fps)")
        }
        other => format!("{size} ({other})"),
    });
    each.collect::<Vec<_>>().join(", ")
}
