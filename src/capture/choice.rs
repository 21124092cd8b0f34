//! Chooses the format, the size and the rate of a camera together, from what the device lists.

use std::fmt;

use super::builder::Fit;
use crate::error::Result;
use crate::format::{FormatInfo, FourCc, FrameInterval, Size};
use crate::v4l2::{nearest_rate, Device, Direction, FormatOffer, Intervals, Sizes};

/// Of longer lists, only the nearest sizes are looked at. Webcams list up to 20.
const MOST_SIZES: usize = 32;
const MOST_FORMATS: usize = 64;

/// The lists of a device.
pub(super) trait Offers {
    fn formats(&self) -> Result<Vec<FormatOffer>>;
    fn sizes(&self, fourcc: FourCc) -> Result<Sizes>;
    fn intervals(&self, fourcc: FourCc, size: Size) -> Result<Intervals>;
}

impl Offers for Device {
    fn formats(&self) -> Result<Vec<FormatOffer>> {
        Device::formats(self, Direction::Capture)
    }

    fn sizes(&self, fourcc: FourCc) -> Result<Sizes> {
        Device::sizes(self, fourcc)
    }

    fn intervals(&self, fourcc: FourCc, size: Size) -> Result<Intervals> {
        Device::intervals(self, fourcc, size)
    }
}

/// What to choose by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// The acceptable formats, best first. If empty: the present one, then every one that has pixels.
    pub(super) formats: &'a [FourCc],
    pub(super) size: Size,
    pub(super) size_fit: Fit,
    pub(super) interval: Option<FrameInterval>,
    pub(super) interval_fit: Fit,
    /// The present format of the device.
    pub(super) present: Option<FourCc>,
}

/// A format and a size to request, and how well they fit. Displays as `YUYV 640x480 at 30 fps`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) fourcc: FourCc,
    pub(super) size: Size,
    /// The nearest rate that the device lists. `None` without a wish or a list.
    fps: Option<f64>,
    pub(super) misfit: Misfit,
}

/// How far a candidate is from the wish. What comes first weighs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Misfit {
    /// Columns and rows.
    size: u32,
    /// Thousandths.
    rate: u32,
    /// The place in the list of acceptable formats.
    format: usize,
}

/// The result of a choice.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// What to try, best first.
    pub(super) candidates: Vec<Candidate>,
    /// What the device lists instead, nearest first, for the text of an error.
    pub(super) nearest: Vec<Candidate>,
}

impl Choice {
    /// A choice of one.
    pub(super) fn of(fourcc: FourCc, size: Size) -> Self {
        let misfit = Misfit { size: 0, rate: 0, format: 0 };
        Self { candidates: vec![Candidate { fourcc, size, fps: None, misfit }], nearest: Vec::new() }
    }
}

/// Chooses among the lists of a device. Candidates that fit the whole wish come first. A size that the device does not
/// list is left to the driver, which may know better than its list.
///
/// # Errors
/// The errors of the lists.
pub(super) fn choose(wish: &Wish<'_>, offers: &impl Offers) -> Result<Choice> {
    let mut all = Vec::new();
    let formats = unique(acceptable(wish, &offers.formats()?));
    for (format, &fourcc) in formats.iter().enumerate().take(MOST_FORMATS) {
        // A list is optional. If the device is lost, the next call says so.
        for size in nearest_sizes(&offers.sizes(fourcc).unwrap_or(Sizes::Unknown), wish.size) {
            let (fps, rate) = match wish.interval {
                Some(interval) => nearest_rate(&offers.intervals(fourcc, size).unwrap_or(Intervals::Unknown), interval),
                None => (None, 0),
            };
            let misfit = Misfit { size: distance(size, wish.size), rate, format };
            all.push(Candidate { fourcc, size, fps, misfit });
        }
    }
    all.sort_by_key(|candidate| candidate.misfit);
    let has_rate = |c: &Candidate| wish.interval_fit == Fit::Nearest || c.misfit.rate == 0;
    let has_size = |c: &Candidate| wish.size_fit == Fit::Nearest || c.misfit.size == 0;
    let (mut candidates, nearest): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| has_rate(c) && has_size(c));
    if candidates.is_empty() && wish.interval_fit == Fit::Nearest {
        let unlisted = |(format, &fourcc): (usize, &FourCc)| {
            let misfit = Misfit { size: u32::MAX, rate: 0, format };
            Candidate { fourcc, size: wish.size, fps: None, misfit }
        };
        candidates = formats.iter().enumerate().map(unlisted).collect();
    }
    Ok(Choice { candidates, nearest })
}

fn acceptable(wish: &Wish<'_>, offered: &[FormatOffer]) -> Vec<FourCc> {
    let is_offered = |fourcc: &FourCc| offered.iter().any(|offer| offer.fourcc == *fourcc);
    if !wish.formats.is_empty() {
        return wish.formats.iter().copied().filter(is_offered).collect();
    }
    let mut formats: Vec<FourCc> = wish.present.into_iter().collect();
    // libv4l converts to the emulated ones on the CPU.
    for emulated in [false, true] {
        let of = offered.iter().filter(|offer| offer.emulated == emulated).map(|offer| offer.fourcc);
        formats.extend(of.filter(|f| f.info().is_some_and(FormatInfo::has_rows)));
    }
    formats
}

/// Removes repetitions. Some cameras list a format or a size twice.
fn unique<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut unique = Vec::with_capacity(list.len());
    for entry in list {
        if !unique.contains(&entry) {
            unique.push(entry);
        }
    }
    unique
}

fn distance(a: Size, b: Size) -> u32 {
    a.width.abs_diff(b.width).saturating_add(a.height.abs_diff(b.height))
}

fn nearest_sizes(sizes: &Sizes, wanted: Size) -> Vec<Size> {
    match sizes {
        Sizes::Unknown => vec![wanted],
        Sizes::Discrete(list) => {
            let mut list = list.clone();
            list.sort_by_key(|&size| distance(size, wanted));
            list = unique(list);
            list.truncate(MOST_SIZES);
            list
        }
        Sizes::Stepwise { min, max, step } => {
            let side = |wanted: u32, min: u32, max: u32, step: u32| {
                // A driver may list a maximum below its minimum.
                let above = wanted.min(max).saturating_sub(min);
                min.saturating_add(above - above % step.max(1))
            };
            let width = side(wanted.width, min.width, max.width, step.width);
            vec![Size::new(width, side(wanted.height, min.height, max.height, step.height))]
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.fourcc, self.size)?;
        match self.fps {
            Some(fps) => write!(f, " at {} fps", (fps * 100.0).round() / 100.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "choice_devices.rs"]
mod devices;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sizes, and the rates of each.
    type SizeList = Vec<(Size, Vec<u32>)>;

    #[derive(Clone, Debug)]
    struct Lists(Vec<(FourCc, SizeList)>);

    impl Lists {
        fn sizes_of(&self, fourcc: FourCc) -> &[(Size, Vec<u32>)] {
            self.0.iter().find(|(f, _)| *f == fourcc).map_or(&[], |(_, sizes)| sizes)
        }
    }

    impl Offers for Lists {
        fn formats(&self) -> Result<Vec<FormatOffer>> {
            let offer = |(fourcc, _): &(FourCc, _)| FormatOffer {
                fourcc: *fourcc,
                description: String::new(),
                compressed: *fourcc == mjpg(),
                emulated: false,
            };
            Ok(self.0.iter().map(offer).collect())
        }

        fn sizes(&self, fourcc: FourCc) -> Result<Sizes> {
            Ok(Sizes::Discrete(self.sizes_of(fourcc).iter().map(|(size, _)| *size).collect()))
        }

        fn intervals(&self, fourcc: FourCc, size: Size) -> Result<Intervals> {
            let sizes = self.sizes_of(fourcc).iter().filter(|(listed, _)| *listed == size);
            let rates: Vec<_> = sizes.flat_map(|(_, rates)| rates).map(|&fps| FrameInterval::from_fps(fps)).collect();
            Ok(if rates.is_empty() { Intervals::Unknown } else { Intervals::Discrete(rates) })
        }
    }

    const VGA: Size = Size::new(640, 480);
    const HD: Size = Size::new(1280, 720);
    const FULL: Size = Size::new(1920, 1080);

    fn mjpg() -> FourCc {
        "MJPG".parse().unwrap()
    }

    /// As most webcams: YUYV is slow above VGA.
    fn webcam() -> Lists {
        let quick = [VGA, HD, FULL].map(|size| (size, vec![30, 15])).to_vec();
        Lists(vec![(mjpg(), quick), (FourCc::YUYV, vec![(VGA, vec![30, 15]), (HD, vec![10]), (FULL, vec![5])])])
    }

    fn wish(formats: &[FourCc], size: Size) -> Wish<'_> {
        let (size_fit, interval_fit) = (Fit::Nearest, Fit::Nearest);
        Wish { formats, size, size_fit, interval: None, interval_fit, present: None }
    }

    fn best(wish: &Wish<'_>, lists: &Lists) -> String {
        choose(wish, lists).unwrap().candidates.first().map_or("none".into(), Candidate::to_string)
    }

    #[test]
    fn choice_fits_the_whole_wish_before_the_first_format() {
        let both = [FourCc::YUYV, mjpg()];
        let at = |size, fps| Wish { interval: Some(FrameInterval::from_fps(fps)), ..wish(&both, size) };
        assert_eq!(best(&wish(&both, FULL), &webcam()), "YUYV 1920x1080");
        assert_eq!(best(&at(FULL, 30), &webcam()), "MJPG 1920x1080 at 30 fps");
        assert_eq!(best(&at(FULL, 5), &webcam()), "YUYV 1920x1080 at 5 fps");
        assert_eq!(best(&at(VGA, 30), &webcam()), "YUYV 640x480 at 30 fps");
        assert_eq!(best(&at(HD, 60), &webcam()), "MJPG 1280x720 at 30 fps");
        // The size weighs more than the rate.
        let yuyv = Wish { formats: &both[..1], ..at(FULL, 30) };
        assert_eq!(best(&yuyv, &webcam()), "YUYV 1920x1080 at 5 fps");
        assert_eq!(best(&Wish { interval_fit: Fit::Exact, ..yuyv }, &webcam()), "YUYV 640x480 at 30 fps");
        let strict = Wish { interval_fit: Fit::Exact, size_fit: Fit::Exact, ..yuyv };
        let choice = choose(&strict, &webcam()).unwrap();
        assert!(choice.candidates.is_empty());
        assert_eq!(choice.nearest[0].to_string(), "YUYV 1920x1080 at 5 fps");
    }

    #[test]
    fn choice_leaves_a_size_that_is_not_listed_to_the_driver() {
        let exact = Wish { size_fit: Fit::Exact, ..wish(&[FourCc::YUYV], Size::new(800, 600)) };
        let choice = choose(&exact, &webcam()).unwrap();
        assert_eq!(choice.candidates.iter().map(Candidate::to_string).collect::<Vec<_>>(), ["YUYV 800x600"]);
        assert_eq!(choice.nearest[0].to_string(), "YUYV 640x480");
        let near = wish(&[FourCc::YUYV], Size::new(800, 600));
        assert_eq!(best(&near, &webcam()), "YUYV 640x480");
    }

    #[test]
    fn choice_without_formats_keeps_the_present_one() {
        let present = |fourcc| Wish { present: Some(fourcc), ..wish(&[], FULL) };
        assert_eq!(best(&present(mjpg()), &webcam()), "MJPG 1920x1080");
        assert_eq!(best(&present(FourCc::YUYV), &webcam()), "YUYV 1920x1080");
        assert_eq!(best(&wish(&[], FULL), &webcam()), "YUYV 1920x1080", "no bitstream that was not asked for");
        // With a rate, another format may fit.
        let thirty = Wish { interval: Some(FrameInterval::from_fps(30)), ..present(mjpg()) };
        assert_eq!(best(&thirty, &webcam()), "MJPG 1920x1080 at 30 fps");
    }

    #[test]
    fn nearest_size_of_steps_is_within_them() {
        let steps = |min, max, step| Sizes::Stepwise { min, max, step };
        let listed = steps(Size::new(64, 64), FULL, Size::new(16, 8));
        assert_eq!(nearest_sizes(&listed, Size::new(1000, 1080)), [Size::new(992, 1080)]);
        assert_eq!(nearest_sizes(&listed, Size::new(10, 9000)), [Size::new(64, 1080)]);
        // Steps of 0, and a maximum below the minimum.
        assert_eq!(nearest_sizes(&steps(VGA, FULL, Size::default()), HD), [HD]);
        assert_eq!(nearest_sizes(&steps(FULL, VGA, Size::new(2, 2)), HD), [FULL]);
    }

    fn lists() -> impl Strategy<Value = Lists> {
        let size = (1u32..5, 1u32..5).prop_map(|(w, h)| Size::new(w * 320, h * 240));
        let sizes = prop::collection::vec((size, prop::collection::vec(1u32..61, 0..4)), 0..6);
        let all = [mjpg(), FourCc::YUYV, FourCc::NV12];
        prop::collection::vec(sizes, 3).prop_map(move |sizes| Lists(all.into_iter().zip(sizes).collect()))
    }

    proptest! {
        /// A listed candidate that fits the whole wish comes first, and a required part is never broken.
        #[test]
        fn choice_is_the_best_of_the_lists(
            lists in lists(), w in 1u32..5, h in 1u32..5, fps in 1u32..61, strict in any::<(bool, bool)>()
        ) {
            let formats = [FourCc::NV12, FourCc::YUYV, mjpg()];
            let fit = |strict| if strict { Fit::Exact } else { Fit::Nearest };
            let wanted = Size::new(w * 320, h * 240);
            let interval = FrameInterval::from_fps(fps);
            let (size_fit, interval_fit) = (fit(strict.0), fit(strict.1));
            let wish = Wish { interval: Some(interval), size_fit, interval_fit, ..wish(&formats, wanted) };
            let choice = choose(&wish, &lists).unwrap();
            let fits = |fourcc: &FourCc| {
                let is_listed = lists.sizes_of(*fourcc).iter().any(|(size, _)| *size == wanted);
                is_listed && nearest_rate(&lists.intervals(*fourcc, wanted).unwrap(), interval).1 == 0
            };
            match formats.into_iter().find(fits) {
                Some(fourcc) => {
                    let first = &choice.candidates[0];
                    prop_assert_eq!((first.fourcc, first.size), (fourcc, wanted));
                }
                None => {
                    let keeps = |c: &Candidate| {
                        let rate = nearest_rate(&lists.intervals(c.fourcc, c.size).unwrap(), interval).1;
                        (!strict.0 || c.size == wanted) && (!strict.1 || rate == 0)
                    };
                    prop_assert!(choice.candidates.iter().all(keeps));
                }
            }
        }
    }
}
