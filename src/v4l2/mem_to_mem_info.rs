//! The function of a mem-to-mem device, derived from the formats of its two queues.

use std::fmt;

use super::device::{nodes, Device, DeviceInfo, Direction};
use super::formats::FormatOffer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FormatKind, FourCc};

/// A mem-to-mem node with the formats that it lists on both queues.
///
/// A driver lists only the formats of a queue that match the present format of the other queue. A list can be longer
/// after the other format is set.
///
/// ```
/// for info in framelease::v4l2::mem_to_mem_devices() {
///     println!("{info}, converts: {}", info.converts());
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemToMemInfo {
    /// The properties of the node.
    pub device: DeviceInfo,
    /// The formats that its output queue takes.
    pub takes: Vec<FormatOffer>,
    /// The formats that its capture queue gives.
    pub gives: Vec<FormatOffer>,
}

fn is_coded(offer: &FormatOffer) -> bool {
    // Some drivers omit the flag. The kernel sets it for formats that it knows.
    offer.compressed || offer.fourcc.info().is_some_and(|i| i.kind == FormatKind::Compressed)
}

fn lists(offers: &[FormatOffer], fourcc: FourCc) -> bool {
    offers.iter().any(|o| o.fourcc == fourcc)
}

impl MemToMemInfo {
    /// Returns the formats that a device lists now. Ioctl: `VIDIOC_ENUM_FMT`.
    ///
    /// # Errors
    /// `Unsupported` if the device is not a mem-to-mem device.
    #[doc(alias = "VIDIOC_ENUM_FMT")]
    pub fn for_device(device: &Device) -> Result<Self> {
        if !device.info().is_m2m() {
            let text = "not a mem-to-mem device";
            return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(device));
        }
        let (takes, gives) = (device.formats(Direction::Output)?, device.formats(Direction::Capture)?);
        Ok(Self { device: device.info().clone(), takes, gives })
    }

    /// Returns `true` if the device encodes pictures to `coded`.
    pub fn encodes_to(&self, coded: FourCc) -> bool {
        lists(&self.gives, coded) && self.takes.iter().any(|o| !is_coded(o))
    }

    /// Returns `true` if the device decodes `coded` to pictures and keeps the stream's state itself. Stateless
    /// decoders list other formats (`S264`).
    pub fn decodes(&self, coded: FourCc) -> bool {
        lists(&self.takes, coded) && self.gives.iter().any(|o| !is_coded(o))
    }

    /// Returns `true` if the device takes pictures and gives pictures: a scaler, rotator or color converter.
    pub fn converts(&self) -> bool {
        [&self.takes, &self.gives].iter().all(|side| side.iter().any(|o| !is_coded(o)))
    }

    /// Returns `true` if the device takes pictures in the format `from` and gives them in the format `to`.
    pub fn converts_between(&self, from: FourCc, to: FourCc) -> bool {
        self.converts() && lists(&self.takes, from) && lists(&self.gives, to)
    }
}

/// Displays as `/dev/video4 (vim2m) takes RGBP, RGB3 and gives RGBP, YUYV`.
impl fmt::Display for MemToMemInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |side: &[FormatOffer]| match side {
            [] => "nothing".to_owned(),
            side => side.iter().map(|o| o.fourcc.to_string()).collect::<Vec<_>>().join(", "),
        };
        write!(f, "{} takes {} and gives {}", self.device, list(&self.takes), list(&self.gives))
    }
}

/// Returns every mem-to-mem node that can be opened, by number. Leaves out nodes that disappear or deny access.
/// Ioctls: `VIDIOC_QUERYCAP`, `VIDIOC_ENUM_FMT`.
pub fn mem_to_mem_devices() -> Vec<MemToMemInfo> {
    let opened = nodes().into_iter().filter_map(|path| Device::open(path).ok());
    opened.filter_map(|device| MemToMemInfo::for_device(&device).ok()).collect()
}

impl Device {
    /// Opens the first mem-to-mem node, by number, for which `wanted` returns `true`.
    ///
    /// ```no_run
    /// use framelease::format::FourCc;
    /// let encoder = framelease::v4l2::Device::find_mem_to_mem("encoder of h264", |d| d.encodes_to(FourCc::H264))?;
    /// # Ok::<(), framelease::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` if no node matches. The text lists the mem-to-mem nodes, and the errors of those that could not be
    /// opened.
    #[doc(hidden)]
    #[doc(alias = "VIDIOC_ENUM_FMT")]
    pub fn find_mem_to_mem(what: &str, wanted: impl Fn(&MemToMemInfo) -> bool) -> Result<Self> {
        let mut seen = Vec::new();
        for path in nodes() {
            match Self::open(&path) {
                Ok(device) if !device.info().is_m2m() => {}
                Ok(device) => match MemToMemInfo::for_device(&device) {
                    Ok(info) if wanted(&info) => return Ok(device),
                    Ok(info) => seen.push(info.device.to_string()),
                    Err(e) => seen.push(e.to_string()),
                },
                Err(e) => seen.push(e.to_string()),
            }
        }
        let text = match seen.len() {
            0 => format!("{what} not found: this machine does not have a mem-to-mem device"),
            _ => format!("{what} not found among {}", seen.join("; ")),
        };
        Err(Error::new(ErrorKind::NotFound, "find", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v4l2::device::Capabilities;

    fn side(formats: &[&str]) -> Vec<FormatOffer> {
        let offer = |f: &&str| FormatOffer {
            fourcc: f.parse().unwrap(),
            description: String::new(),
            compressed: false,
            emulated: false,
        };
        formats.iter().map(offer).collect()
    }

    fn info(takes: &[&str], gives: &[&str]) -> MemToMemInfo {
        let device = DeviceInfo {
            path: "/dev/video7".into(),
            driver: "some".into(),
            card: String::new(),
            bus: String::new(),
            serial: None,
            capabilities: Capabilities::VIDEO_M2M,
        };
        MemToMemInfo { device, takes: side(takes), gives: side(gives) }
    }

    #[test]
    fn mem_to_mem_info_derives_the_function_from_the_formats() {
        let [h264, vp8, nv12] = ["H264", "VP80", "NV12"].map(|f| f.parse::<FourCc>().unwrap());
        let encoder = info(&["NV12", "YUYV"], &["H264"]);
        assert!(encoder.encodes_to(h264) && !encoder.encodes_to(vp8) && !encoder.decodes(h264) && !encoder.converts());
        let decoder = info(&["H264", "VP80"], &["NV12"]);
        assert!(decoder.decodes(vp8) && !decoder.encodes_to(h264) && !decoder.encodes_to(nv12) && !decoder.converts());
        // The kernel's format for the input of a stateless H.264 decoder.
        assert!(!info(&["S264"], &["NV12"]).decodes(h264));
        let scaler = info(&["YUYV"], &["YUYV", "NV12"]);
        assert!(scaler.converts_between("YUYV".parse().unwrap(), nv12) && !scaler.converts_between(nv12, nv12));
        assert!(!info(&["H264"], &["VP80"]).decodes(h264), "a transcoder gives no pictures");
        assert_eq!(encoder.to_string(), "/dev/video7 (some) takes NV12, YUYV and gives H264");
        assert!(info(&[], &["NV12"]).to_string().contains("takes nothing"));
    }
}
