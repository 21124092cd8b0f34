//! Which pixels of the source make a pixel of the target.

/// The two source pixels that a target pixel is mixed of, along one axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tap {
    pub(super) near: u32,
    pub(super) far: u32,
    /// The weight of `far`, in units of 2^-15. The weight of `near` is the rest.
    pub(super) weight: i16,
}

impl Tap {
    /// Returns the taps that scale `from` pixels, beginning at `first`, to `to` pixels.
    pub(super) fn all(first: u32, from: u32, to: u32) -> Vec<Self> {
        let (last, scale) = (from.saturating_sub(1), f64::from(from) / f64::from(to));
        let tap = |i: u32| {
            let center = ((f64::from(i) + 0.5) * scale - 0.5).clamp(0.0, f64::from(last));
            let near = center as u32;
            let weight = ((center - f64::from(near)) * 32768.0).round().min(32767.0) as i16;
            let far = if weight == 0 { near } else { near + 1 };
            Self { near: first + near, far: first + far, weight }
        };
        (0..to).map(tap).collect()
    }
}

/// The source pixels that a target pixel covers, along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cover {
    pub(super) first: u32,
    pub(super) count: u32,
    /// The weights of the first and the last pixel. Those between weigh 1.
    pub(super) ends: [f32; 2],
}

impl Cover {
    /// Returns the covers that reduce `from` pixels, beginning at `first_pixel`, to `to` pixels.
    pub(super) fn all(first_pixel: u32, from: u32, to: u32) -> Vec<Self> {
        let (from, to) = (u64::from(from), u64::from(to));
        // In units of 1/to source pixels, so without rounding.
        let cover = |i: u64| {
            let (begin, end) = (i * from, (i + 1) * from);
            let (first, last) = (begin / to, (end - 1) / to);
            let part = |pixel: u64| (end.min((pixel + 1) * to) - begin.max(pixel * to)) as f32 / to as f32;
            Self {
                first: first_pixel + first as u32,
                count: (last - first + 1) as u32,
                ends: [part(first), part(last)],
            }
        };
        (0..to).map(cover).collect()
    }

    /// Returns the weight of covered pixel `i`, counted from the first.
    pub(super) fn weight(&self, i: u32) -> f32 {
        match i {
            0 => self.ends[0],
            _ if i + 1 == self.count => self.ends[1],
            _ => 1.0,
        }
    }

    /// Returns the sum of the weights.
    pub(super) fn area(&self) -> f32 {
        (0..self.count).map(|i| self.weight(i)).sum()
    }
}
