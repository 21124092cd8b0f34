//! Component planes in private memory, and the position of components in each format.

use crate::format::{FormatKind, Layout};

/// Samples of one component: a rectangle of bytes in private memory.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) data: Vec<u8>,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Samples {
    /// Sets the size. The content is then unspecified.
    pub(super) fn reshape(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.data.resize(width * height, 0);
    }

    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width..][..self.width]
    }

    pub(super) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.data[y * self.width..][..self.width]
    }
}

/// The most components of a format: Y, U, V or R, G, B; then alpha.
pub(in crate::convert) const COMPONENTS: usize = 4;

/// A component of a format: the byte of its first sample in a row.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Component {
    pub(in crate::convert) index: usize,
    pub(in crate::convert) first_byte: usize,
}

/// Components that are read and written together: those of one color plane, with one sample per `step_bytes`.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Group {
    pub(in crate::convert) plane: usize,
    pub(in crate::convert) step_bytes: usize,
    /// Pixels per sample, horizontally and vertically.
    pub(in crate::convert) across: usize,
    pub(in crate::convert) down: usize,
    components: [Component; COMPONENTS],
    count: usize,
    /// The components are 5, 6 and 5 bits of a little-endian word.
    pub(in crate::convert) is_565: bool,
    /// Samples have 16 bits, and a component is the upper byte of one. The lower byte is not read, so such a format can
    /// be a source but not a target.
    is_upper_byte: bool,
}

impl Group {
    pub(in crate::convert) fn components(&self) -> &[Component] {
        &self.components[..self.count]
    }

    fn new(plane: usize, step_bytes: usize, (across, down): (usize, usize), parts: &[(usize, usize)]) -> Self {
        let mut components = [Component { index: 0, first_byte: 0 }; COMPONENTS];
        for (to, &(index, first_byte)) in components.iter_mut().zip(parts) {
            *to = Component { index, first_byte };
        }
        Self { plane, step_bytes, across, down, components, count: parts.len(), is_565: false, is_upper_byte: false }
    }

    /// Unpacks the samples of one row: `to` gets component `which` of [`Group::components`].
    pub(super) fn unpack(&self, bytes: &[u8], which: usize, to: &mut [u8]) {
        if self.is_565 {
            for (to, word) in to.iter_mut().zip(bytes.chunks_exact(2)) {
                let word = u16::from_le_bytes([word[0], word[1]]);
                *to = match which {
                    0 => expand(word >> 11, 5),
                    1 => expand(word >> 5 & 63, 6),
                    _ => expand(word & 31, 5),
                };
            }
            return;
        }
        let from = bytes.get(self.components[which].first_byte..).unwrap_or(&[]);
        match self.step_bytes {
            1 => to.copy_from_slice(&from[..to.len()]),
            2 => spread::<2>(from, to),
            3 => spread::<3>(from, to),
            _ => spread::<4>(from, to),
        }
    }

    /// Packs one component of a row into its bytes.
    pub(super) fn pack(&self, from: &[u8], which: usize, bytes: &mut [u8]) {
        if self.is_565 {
            for (from, word) in from.iter().zip(bytes.chunks_exact_mut(2)) {
                let old = u16::from_le_bytes([word[0], word[1]]);
                let part = match which {
                    0 => old & 0x07ff | squeeze(*from, 5) << 11,
                    1 => old & 0xf81f | squeeze(*from, 6) << 5,
                    _ => old & 0xffe0 | squeeze(*from, 5),
                };
                word.copy_from_slice(&part.to_le_bytes());
            }
            return;
        }
        let to = bytes.get_mut(self.components[which].first_byte..).unwrap_or(&mut []);
        match self.step_bytes {
            1 => to[..from.len()].copy_from_slice(from),
            2 => gather::<2>(from, to),
            3 => gather::<3>(from, to),
            _ => gather::<4>(from, to),
        }
    }
}

/// The last sample may lack the bytes of other components after it, so only the first byte of a step counts.
fn spread<const STEP: usize>(from: &[u8], to: &mut [u8]) {
    let whole = from.chunks_exact(STEP);
    let rest = whole.remainder().first();
    let (head, tail) = to.split_at_mut(whole.len().min(to.len()));
    head.iter_mut().zip(whole).for_each(|(to, from)| *to = from[0]);
    tail.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
}

fn gather<const STEP: usize>(from: &[u8], to: &mut [u8]) {
    let whole = to.len() / STEP;
    let (head, tail) = from.split_at(whole.min(from.len()));
    let mut steps = to.chunks_exact_mut(STEP);
    head.iter().zip(&mut steps).for_each(|(from, to)| to[0] = *from);
    steps.into_remainder().iter_mut().zip(tail).take(1).for_each(|(to, from)| *to = *from);
}

fn expand(value: u16, bits: u32) -> u8 {
    let most = (1 << bits) - 1;
    ((u32::from(value) * 255 + most / 2) / most) as u8
}

fn squeeze(value: u8, bits: u32) -> u16 {
    let most = (1u32 << bits) - 1;
    ((u32::from(value) * most + 127) / 255) as u16
}

/// Returns the position of a layout's components. `None` for a format that this backend does not support.
pub(in crate::convert) fn groups(layout: &Layout) -> Option<Vec<Group>> {
    let info = layout.fourcc().info()?;
    let sub = |plane: usize| {
        let p = info.planes[plane];
        (p.horizontal as usize, p.vertical as usize)
    };
    let two =
        |u: usize, v: usize| vec![Group::new(0, 1, (1, 1), &[(0, 0)]), Group::new(1, 2, sub(1), &[(1, u), (2, v)])];
    let three = |u: usize, v: usize| {
        let chroma = |plane: usize, index: usize| Group::new(plane, 1, sub(plane), &[(index, 0)]);
        vec![Group::new(0, 1, (1, 1), &[(0, 0)]), chroma(u, 1), chroma(v, 2)]
    };
    let packed = |y: usize, u: usize, v: usize| {
        vec![Group::new(0, 2, (1, 1), &[(0, y)]), Group::new(0, 4, (2, 1), &[(1, u), (2, v)])]
    };
    // The memory planes of the M formats are the color planes.
    let upper_bytes = |mut group: Group| {
        group.is_upper_byte = true;
        group
    };
    Some(match info.name.trim_end_matches('M') {
        "NV12" | "NV16" | "NV24" => two(0, 1),
        "NV21" | "NV61" | "NV42" => two(1, 0),
        "YUV420" | "YUV422P" | "YUV422" | "YUV444" if info.planes.len() == 3 => three(1, 2),
        "YVU420" | "YVU422" | "YVU444" => three(2, 1),
        "YUYV" => packed(0, 1, 3),
        "YVYU" => packed(0, 3, 1),
        "UYVY" => packed(1, 0, 2),
        "VYUY" => packed(1, 2, 0),
        "P010" | "P012" => {
            let luma = Group::new(0, 2, (1, 1), &[(0, 1)]);
            [luma, Group::new(1, 4, sub(1), &[(1, 1), (2, 3)])].map(upper_bytes).into()
        }
        "GREY" => vec![Group::new(0, 1, (1, 1), &[(0, 0)])],
        "RGB565" => vec![Group { is_565: true, ..Group::new(0, 2, (1, 1), &[(0, 0), (1, 0), (2, 0)]) }],
        name => {
            // The name has the order of bytes in memory, except that "ABGR32" and "XBGR32" are B, G, R, A and X.
            let order: &[(usize, usize)] = match name {
                "RGB24" => &[(0, 0), (1, 1), (2, 2)],
                "BGR24" => &[(0, 2), (1, 1), (2, 0)],
                "RGBA32" | "RGBX32" => &[(0, 0), (1, 1), (2, 2), (3, 3)],
                "ABGR32" | "XBGR32" | "BGR32" => &[(0, 2), (1, 1), (2, 0), (3, 3)],
                "ARGB32" | "XRGB32" | "RGB32" => &[(0, 1), (1, 2), (2, 3), (3, 0)],
                "BGRA32" | "BGRX32" => &[(0, 3), (1, 2), (2, 1), (3, 0)],
                _ => return None,
            };
            vec![Group::new(0, info.planes[0].bytes as usize, (1, 1), order)]
        }
    })
}

/// Returns [`groups`] for a layout that is written.
pub(in crate::convert) fn target_groups(layout: &Layout) -> Option<Vec<Group>> {
    groups(layout).filter(|groups| groups.iter().all(|group| !group.is_upper_byte))
}

/// Returns `true` if the components are luma and chroma, without regard to alpha.
pub(super) fn is_yuv(layout: &Layout) -> bool {
    layout.fourcc().info().is_some_and(|info| info.kind == FormatKind::Yuv)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Size, FORMATS};

    #[test]
    fn samples_of_ten_bits_lose_two_and_are_not_written() {
        let layout = Layout::packed("P010".parse().unwrap(), Size::new(4, 2)).unwrap();
        let groups = groups(&layout).unwrap();
        let bytes = [0x1fff_u16, 0x2000, 0xe0c0, 0xffc0].map(u16::to_le_bytes).concat();
        let mut luma = [0; 4];
        groups[0].unpack(&bytes, 0, &mut luma);
        assert_eq!(luma, [0x1f, 0x20, 0xe0, 0xff]);
        let mut chroma = [[0; 2]; 2];
        chroma.iter_mut().enumerate().for_each(|(which, to)| groups[1].unpack(&bytes, which, to));
        assert_eq!(chroma, [[0x1f, 0xe0], [0x20, 0xff]]);
        assert!(target_groups(&layout).is_none());
    }

    #[test]
    fn every_format_with_pixels_packs_what_it_unpacked() {
        let mut count = 0;
        for info in FORMATS.iter().filter(|i| i.has_rows()) {
            let layout = Layout::aligned(info.fourcc, Size::new(7, 3), 4).unwrap();
            let Some(groups) = target_groups(&layout) else { continue };
            count += 1;
            let mut again = vec![vec![0; 64]; layout.planes().len()];
            let row = |plane: usize| (0..layout.row_bytes(plane)).map(|b| (b * 7 + 1) as u8).collect::<Vec<_>>();
            for g in &groups {
                for which in 0..g.components().len() {
                    let mut samples = vec![0; 7usize.div_ceil(g.across)];
                    g.unpack(&row(g.plane), which, &mut samples);
                    let len = layout.row_bytes(g.plane) as usize;
                    g.pack(&samples, which, &mut again[g.plane][..len]);
                }
            }
            for (plane, bytes) in again.iter().enumerate() {
                let mut expected = row(plane);
                if info.planes[0].bytes == 4 && info.kind == FormatKind::Yuv {
                    // The eighth pixel of a row of seven does not have its own luma.
                    let last_luma = if info.name.starts_with('Y') { 14 } else { 15 };
                    expected[last_luma] = 0;
                }
                assert_eq!(&bytes[..expected.len()], expected, "{} plane {plane}", info.name);
            }
        }
        // The others are raw, sources only, or have components of another size than 8 bits.
        assert_eq!(count, 37);
    }
}
