//! Tests the choice on what real devices list, which `tests/devices` has.
//!
//! A line is a format and a size with its rates in frames per second: `YUYV 640x480 30 7.5`. Steps of sizes are
//! `16x16..1920x1080/2x2`, a range of rates is `1..90`. A device that lists no sizes or no rates has none here. An
//! empty line separates a format from the same format, listed again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::v4l2::is_same_rate;

const VGA: Size = Size::new(640, 480);
const SVGA: Size = Size::new(800, 600);
const HD: Size = Size::new(1280, 720);
const FULL: Size = Size::new(1920, 1080);
const UHD: Size = Size::new(3840, 2160);
const SIZES: [Size; 5] = [VGA, SVGA, HD, FULL, UHD];
const FITS: [Fit; 2] = [Fit::Nearest, Fit::Exact];

struct Listed {
    sizes: Sizes,
    rates: Intervals,
}

impl Listed {
    fn has_size(&self, size: Size) -> bool {
        match &self.sizes {
            Sizes::Discrete(sizes) => sizes.contains(&size),
            Sizes::Stepwise { min, max, step } => {
                let has_side = |side: u32, min, max, step| (min..=max).contains(&side) && (side - min) % step == 0;
                has_side(size.width, min.width, max.width, step.width)
                    && has_side(size.height, min.height, max.height, step.height)
            }
            Sizes::Unknown => true,
        }
    }
}

struct ListedDevice {
    name: String,
    formats: Vec<(FourCc, Vec<Listed>)>,
}

impl ListedDevice {
    fn parse(name: &str, text: &str) -> Self {
        let mut formats: Vec<(FourCc, Vec<Listed>)> = Vec::new();
        let mut is_new = true;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let Some(fourcc) = words.next().map(code) else {
                is_new = true;
                continue;
            };
            if is_new || formats.last().map_or(true, |(last, _)| *last != fourcc) {
                formats.push((fourcc, Vec::new()));
            }
            is_new = false;
            if let Some(sizes) = words.next().map(parse_sizes) {
                formats.last_mut().unwrap().1.push(Listed { sizes, rates: parse_rates(&words.collect::<Vec<_>>()) });
            }
        }
        assert!(!formats.is_empty(), "{name}");
        Self { name: name.to_owned(), formats }
    }

    /// Like the kernel's drivers, answers for the first format of a code.
    fn listed(&self, fourcc: FourCc) -> &[Listed] {
        self.formats.iter().find(|(listed, _)| *listed == fourcc).map_or(&[], |(_, listed)| listed)
    }

    fn codes(&self) -> Vec<FourCc> {
        self.formats.iter().map(|(fourcc, _)| *fourcc).collect()
    }

    /// Returns `true` if the device lists the size, or no size at all.
    fn has_size(&self, fourcc: FourCc, size: Size) -> bool {
        let listed = self.listed(fourcc);
        listed.is_empty() || listed.iter().any(|listed| listed.has_size(size))
    }

    /// Returns `true` if the device lists the rate for the format and size, or lists no rate for them.
    fn has_rate(&self, fourcc: FourCc, size: Size, wanted: FrameInterval) -> bool {
        match self.intervals(fourcc, size).unwrap() {
            Intervals::Discrete(rates) => rates.iter().any(|rate| is_same_rate(*rate, wanted)),
            Intervals::Stepwise { min, max } => (max.fps()..=min.fps()).contains(&wanted.fps()),
            Intervals::Unknown => true,
        }
    }
}

impl Offers for ListedDevice {
    fn formats(&self) -> Result<Vec<FormatOffer>> {
        let offer = |fourcc| FormatOffer { fourcc, description: String::new(), compressed: false, emulated: false };
        Ok(self.codes().into_iter().map(offer).collect())
    }

    fn sizes(&self, fourcc: FourCc) -> Result<Sizes> {
        let mut all = Vec::new();
        for listed in self.listed(fourcc) {
            match &listed.sizes {
                Sizes::Discrete(sizes) => all.extend(sizes),
                steps => return Ok(steps.clone()),
            }
        }
        Ok(if all.is_empty() { Sizes::Unknown } else { Sizes::Discrete(all) })
    }

    fn intervals(&self, fourcc: FourCc, size: Size) -> Result<Intervals> {
        let listed = self.listed(fourcc).iter().find(|listed| listed.has_size(size));
        Ok(listed.map_or(Intervals::Unknown, |listed| listed.rates.clone()))
    }
}

fn code(text: &str) -> FourCc {
    FourCc::new(format!("{text:4}").as_bytes().try_into().unwrap_or_else(|_| panic!("{text} is not a code")))
}

fn parse_size(text: &str) -> Size {
    let (width, height) = text.split_once('x').unwrap_or_else(|| panic!("{text} is not a size"));
    Size::new(width.parse().unwrap(), height.parse().unwrap())
}

fn parse_sizes(text: &str) -> Sizes {
    let Some((min, rest)) = text.split_once("..") else { return Sizes::Discrete(vec![parse_size(text)]) };
    let (max, step) = rest.split_once('/').unwrap_or_else(|| panic!("{text} has no steps"));
    Sizes::Stepwise { min: parse_size(min), max: parse_size(max), step: parse_size(step) }
}

fn parse_rates(words: &[&str]) -> Intervals {
    let parse = |fps: &str| rate(fps.parse().unwrap_or_else(|_| panic!("{fps} is not a rate")));
    match words {
        [] => Intervals::Unknown,
        [range] if range.contains("..") => {
            let (slowest, fastest) = range.split_once("..").unwrap();
            Intervals::Stepwise { min: parse(fastest), max: parse(slowest) }
        }
        rates => Intervals::Discrete(rates.iter().map(|fps| parse(fps)).collect()),
    }
}

fn rate(fps: f64) -> FrameInterval {
    // A conversion from a float saturates: the interval of 0 fps is the longest.
    if fps < 1.0 {
        FrameInterval { numerator: fps.recip() as u32, denominator: 1 }
    } else {
        FrameInterval { numerator: 1000, denominator: (fps * 1000.0).round() as u32 }
    }
}

fn devices() -> Vec<ListedDevice> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/devices");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "{} devices", paths.len());
    let parse = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        ListedDevice::parse(name, &std::fs::read_to_string(path).unwrap())
    };
    paths.iter().map(parse).collect()
}

fn wish(formats: &[FourCc], size: Size, fps: Option<f64>) -> Wish<'_> {
    let (size_fit, interval_fit) = (Fit::Nearest, Fit::Nearest);
    Wish { formats, size, size_fit, interval: fps.map(rate), interval_fit, present: None }
}

/// Calls `check` with every device, every wish, the formats that are acceptable, and the choice.
fn for_each_wish(check: impl Fn(&ListedDevice, &Wish<'_>, &[FourCc], &Choice)) {
    for device in devices() {
        let own = device.codes();
        let has_pixels = |fourcc: &FourCc| fourcc.info().is_some_and(FormatInfo::has_rows);
        for formats in [vec![], vec![FourCc::YUYV, code("MJPG")], vec![FourCc::NV12], own.clone()] {
            let acceptable: Vec<FourCc> = match formats.len() {
                0 => own.iter().copied().filter(|f| *f == own[0] || has_pixels(f)).collect(),
                _ => formats.iter().copied().filter(|f| own.contains(f)).collect(),
            };
            let rates = [None, Some(5.0), Some(15.0), Some(25.0), Some(30.0), Some(59.94), Some(60.0)];
            for (size, fps) in SIZES.iter().flat_map(|size| rates.iter().map(|fps| (*size, *fps))) {
                for (size_fit, interval_fit) in FITS.iter().flat_map(|a| FITS.iter().map(|b| (*a, *b))) {
                    let wish = wish(&formats, size, fps);
                    let wish = Wish { size_fit, interval_fit, present: own.first().copied(), ..wish };
                    check(&device, &wish, &acceptable, &choose(&wish, &device).unwrap());
                }
            }
        }
    }
}

fn has_rate(device: &ListedDevice, wish: &Wish<'_>, fourcc: FourCc, size: Size) -> bool {
    wish.interval.map_or(true, |interval| device.has_rate(fourcc, size, interval))
}

#[test]
fn choice_of_real_devices_is_the_whole_wish_if_they_list_it() {
    for_each_wish(|device, wish, acceptable, choice| {
        let fits = |&fourcc: &FourCc, size| device.has_size(fourcc, size) && has_rate(device, wish, fourcc, size);
        if acceptable.iter().any(|fourcc| fits(fourcc, wish.size)) {
            let first = choice.candidates.first().unwrap_or_else(|| panic!("{}: none for {wish:?}", device.name));
            assert!(acceptable.contains(&first.fourcc), "{}: {first} for {wish:?}", device.name);
            assert!(
                first.size == wish.size && fits(&first.fourcc, first.size),
                "{}: {first} for {wish:?}",
                device.name
            );
        }
    });
}

#[test]
fn choice_of_real_devices_keeps_what_is_required() {
    for_each_wish(|device, wish, acceptable, choice| {
        let name = &device.name;
        for candidate in &choice.candidates {
            assert!(acceptable.contains(&candidate.fourcc), "{name}: {candidate} for {wish:?}");
            // The driver decides about a size that it does not list.
            if device.has_size(candidate.fourcc, candidate.size) {
                let is_kept = (wish.size_fit == Fit::Nearest || candidate.size == wish.size)
                    && (wish.interval_fit == Fit::Nearest || has_rate(device, wish, candidate.fourcc, candidate.size));
                assert!(is_kept, "{name}: {candidate} for {wish:?}");
            }
        }
    });
}

#[test]
fn choice_of_real_devices_names_the_nearest_if_nothing_fits() {
    for_each_wish(|device, wish, acceptable, choice| {
        let is_listed = |candidate: &Candidate| device.has_size(candidate.fourcc, candidate.size);
        if !choice.candidates.iter().any(is_listed) && !acceptable.is_empty() {
            assert!(!choice.nearest.is_empty(), "{}: {wish:?}", device.name);
        }
        assert!(choice.nearest.iter().all(is_listed), "{}: {wish:?}", device.name);
    });
}

#[test]
fn choice_of_real_devices_is_short_and_without_repetition() {
    for_each_wish(|device, wish, _, choice| {
        let all: Vec<_> = choice.candidates.iter().chain(&choice.nearest).collect();
        assert!(all.len() <= MOST_FORMATS * MOST_SIZES, "{}: {} for {wish:?}", device.name, all.len());
        for list in [&choice.candidates, &choice.nearest] {
            let different: HashSet<_> = list.iter().map(|c| (c.fourcc, c.size.width, c.size.height)).collect();
            assert_eq!(different.len(), list.len(), "{}: {list:?} for {wish:?}", device.name);
        }
    });
}

/// Only the nearest sizes are looked at. They are enough for every device here.
#[test]
fn choice_of_real_devices_finds_every_rate_that_they_list() {
    for device in devices() {
        for fourcc in device.codes() {
            for listed in device.listed(fourcc) {
                let rates = match &listed.rates {
                    Intervals::Discrete(rates) => rates.clone(),
                    Intervals::Stepwise { min, max } => vec![*min, *max],
                    Intervals::Unknown => continue,
                };
                for (size, interval) in SIZES.iter().flat_map(|size| rates.iter().map(|rate| (*size, *rate))) {
                    let formats = [fourcc];
                    let wish = wish(&formats, size, None);
                    let wish = Wish { interval: Some(interval), interval_fit: Fit::Exact, ..wish };
                    let choice = choose(&wish, &device).unwrap();
                    assert!(!choice.candidates.is_empty(), "{}: none for {wish:?}", device.name);
                }
            }
        }
    }
}

#[test]
fn choice_of_real_devices_without_a_wish_is_the_present_format_and_size() {
    for device in devices() {
        for fourcc in device.codes() {
            let mut sizes = SIZES.to_vec();
            sizes.retain(|size| device.has_size(fourcc, *size));
            match device.sizes(fourcc).unwrap() {
                Sizes::Discrete(listed) => sizes.extend(listed),
                Sizes::Stepwise { min, max, .. } => sizes.extend([min, max]),
                Sizes::Unknown => {}
            }
            for size in sizes {
                let choice = choose(&Wish { present: Some(fourcc), ..wish(&[], size, None) }, &device).unwrap();
                let first = &choice.candidates[0];
                assert_eq!((first.fourcc, first.size), (fourcc, size), "{}", device.name);
            }
        }
    }
}

#[test]
fn choice_of_known_devices() {
    let devices = devices();
    let none = "none";
    for (name, formats, size, fps, interval_fit, expected) in [
        ("logitech-c922", "YUYV MJPG", FULL, 30.0, Fit::Nearest, "MJPG 1920x1080 at 30 fps"),
        ("logitech-c922", "YUYV MJPG", VGA, 30.0, Fit::Nearest, "YUYV 640x480 at 30 fps"),
        ("logitech-c922", "YUYV MJPG", HD, 60.0, Fit::Nearest, "MJPG 1280x720 at 60 fps"),
        ("logitech-c922", "YUYV", FULL, 30.0, Fit::Nearest, "YUYV 1920x1080 at 5 fps"),
        ("logitech-c922", "YUYV", FULL, 30.0, Fit::Exact, "YUYV 800x448 at 30 fps"),
        ("logitech-c922", "YUYV", FULL, 60.0, Fit::Exact, none),
        ("logitech-brio", "NV12 MJPG", UHD, 30.0, Fit::Nearest, "MJPG 3840x2160 at 30 fps"),
        ("logitech-brio", "YUYV NV12 MJPG", FULL, 60.0, Fit::Nearest, "MJPG 1920x1080 at 60 fps"),
        ("obsbot-tiny-4k", "YUYV", UHD, 30.0, Fit::Nearest, "YUYV 3840x2160 at 1 fps"),
        ("obsbot-tiny-4k", "YUYV", UHD, 30.0, Fit::Exact, "YUYV 640x360 at 30 fps"),
        ("elgato-cam-link-4k-1080p", "NV12", FULL, 60.0, Fit::Exact, "NV12 1920x1080 at 59.94 fps"),
        ("elgato-cam-link-4k-2160p", "NV12", FULL, 60.0, Fit::Nearest, "NV12 3840x2160 at 30 fps"),
        ("elgato-cam-link-4k-2160p", "NV12", FULL, 60.0, Fit::Exact, none),
        ("hdmi-grabber-1080p50", "YUYV MJPG", HD, 25.0, Fit::Nearest, "YUYV 1920x1080 at 50 fps"),
        ("nvidia-jetson-nano-imx219", "", FULL, 60.0, Fit::Exact, "RG10 1280x720 at 60 fps"),
        ("nvidia-jetson-nano-imx219", "YUYV NV12", FULL, 30.0, Fit::Nearest, none),
        ("nxp-imx93-isi-ov5645", "NV12", VGA, 30.0, Fit::Exact, "NV12 1280x960"),
        ("lemaker-ov5640", "NV21", UHD, 30.0, Fit::Exact, "NV21 3840x2160"),
        ("raspberrypi-camera-v2-mmal", "NV12", UHD, 60.0, Fit::Exact, "NV12 3280x2160 at 60 fps"),
        ("raspberrypi-unicam", "RG10", UHD, 30.0, Fit::Exact, "RG10 3840x2160"),
        ("rockchip-rkisp-selfpath", "NV12", UHD, 30.0, Fit::Nearest, "NV12 1920x2160"),
        ("rockchip-rkisp-v5", "NV12", FULL, 30.0, Fit::Nearest, "NV12 800x600"),
        ("alliedvision-alvium-1800-c240c", "GREY", FULL, 60.0, Fit::Nearest, "GREY 1936x1216 at 34.72 fps"),
        ("realsense-d457-depth", "", VGA, 60.0, Fit::Exact, "Z16 640x480 at 60 fps"),
        ("oculus-rift-cv1-sensor", "GREY MJPG", HD, 60.0, Fit::Exact, "MJPG 1280x720 at 60 fps"),
        ("groupgets-purethermal-lepton", "Y16", Size::new(160, 120), 9.0, Fit::Exact, "Y16 160x120 at 9 fps"),
        ("raspberrypi-pico-ov2640", "YUYV", VGA, 30.0, Fit::Nearest, "YUYV 320x240 at 25 fps"),
        ("linux-v4l2loopback", "NV12", FULL, 59.94, Fit::Exact, "NV12 1920x1080 at 59.94 fps"),
        ("linux-vivid-webcam", "YUYV NV12", FULL, 30.0, Fit::Exact, "YUYV 640x360 at 30 fps"),
    ] {
        let device = devices.iter().find(|device| device.name == name).unwrap_or_else(|| panic!("no {name}"));
        let formats: Vec<_> = formats.split_whitespace().map(code).collect();
        let choice = choose(&Wish { interval_fit, ..wish(&formats, size, Some(fps)) }, device).unwrap();
        let first = choice.candidates.first().map_or(none.into(), Candidate::to_string);
        assert_eq!(first, expected, "{name}, {size} at {fps} fps");
    }
}
