//! Opening and finding devices.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::errno::Errno;

use crate::device_nodes::open_node;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::{flags, Flags};
use crate::sys;
use crate::sys::from_kernel::text;
use crate::sys::v4l2::BufType;
use crate::sys::v4l2::{Capability, Picture, Plain};
use crate::v4l2::overrule::Overrule;
use crate::v4l2::sysfs::NodeFolder;

/// The major number of every V4L2 node (`Documentation/admin-guide/devices.txt`).
const V4L2_MAJOR: u64 = 81;

flags! {
    /// The capabilities of a device node: `device_caps` of `VIDIOC_QUERYCAP`, which are this node's and not the whole
    /// device's.
    pub(crate) struct Capabilities {
        /// Captures video, single-planar API.
        pub(crate) const VIDEO_CAPTURE = 1;
        /// Captures video, multi-planar API.
        pub(crate) const VIDEO_CAPTURE_MPLANE = 0x1000;
        /// Takes video buffers, single-planar API.
        pub(crate) const VIDEO_OUTPUT = 2;
        /// Takes video buffers, multi-planar API.
        pub(crate) const VIDEO_OUTPUT_MPLANE = 0x2000;
        /// Mem-to-mem, multi-planar API.
        pub(crate) const VIDEO_M2M_MPLANE = 0x4000;
        /// Mem-to-mem, single-planar API.
        pub(crate) const VIDEO_M2M = 0x8000;
        /// Captures metadata.
        pub(crate) const META_CAPTURE = 0x80_0000;
        /// `read` and `write` work.
        pub(crate) const READ_WRITE = 0x100_0000;
        /// Buffers can be queued.
        pub(crate) const STREAMING = 0x400_0000;
        /// Inputs and outputs are routed in the media graph, not by this node.
        pub(crate) const IO_MC = 0x2000_0000;
    }
}

/// A queue of a device, from the device's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The queue whose buffers the device fills.
    Capture,
    /// The queue whose buffers the device reads.
    Output,
}

/// The properties of a node, from `VIDIOC_QUERYCAP`. Displays as `/dev/video2 (mxc-isi)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The path of the node, such as `/dev/video0`.
    pub path: PathBuf,
    /// The driver's name, such as `mxc-isi`.
    pub driver: String,
    /// The device's name, such as `vivid`.
    pub card: String,
    /// The place of the device on its bus, such as `platform:vivid-000`.
    pub bus: String,
    /// The serial number of a USB device. Not every USB camera has one, and cameras of one model may share one.
    pub serial: Option<String>,
    pub(crate) capabilities: Capabilities,
}

impl DeviceInfo {
    /// Returns `true` for a camera or grabber. Such a device captures video into buffers and is not a mem-to-mem
    /// device.
    ///
    /// It is `false` for the metadata node of a UVC camera. This crate does not read metadata: most of it has the
    /// layout of one vendor, and uvcvideo makes the timestamps of the frames from the rest. For the exposure, see
    /// [`ControlId::EXPOSURE_ABSOLUTE`](super::ControlId::EXPOSURE_ABSOLUTE).
    pub fn is_capture(&self) -> bool {
        self.capabilities.contains(Capabilities::STREAMING)
            && self.buf_type(Direction::Capture).is_some()
            && !self.is_m2m()
    }

    /// Returns `true` for a device that takes video from buffers and is not a mem-to-mem device.
    pub fn is_output(&self) -> bool {
        self.capabilities.contains(Capabilities::STREAMING)
            && self.buf_type(Direction::Output).is_some()
            && !self.is_m2m()
    }

    /// Returns `true` for an encoder, decoder, scaler or converter.
    pub fn is_m2m(&self) -> bool {
        self.capabilities.intersects(Capabilities::VIDEO_M2M | Capabilities::VIDEO_M2M_MPLANE)
    }

    /// Returns `true` for a node that captures metadata and no video.
    pub(crate) fn is_metadata(&self) -> bool {
        self.capabilities.contains(Capabilities::META_CAPTURE) && self.buf_type(Direction::Capture).is_none()
    }

    /// Returns `true` if pads of the media graph give the node its pictures (`V4L2_CAP_IO_MC`).
    pub(crate) fn is_routed_by_graph(&self) -> bool {
        self.capabilities.contains(Capabilities::IO_MC)
    }

    /// Returns the names of the node's capabilities, such as `STREAMING`.
    pub fn capabilities(&self) -> Vec<&'static str> {
        self.capabilities.names()
    }

    /// Returns `true` if the node has the multi-planar API.
    pub fn is_multi_planar(&self) -> bool {
        use Capabilities as C;
        self.capabilities.intersects(C::VIDEO_CAPTURE_MPLANE | C::VIDEO_OUTPUT_MPLANE | C::VIDEO_M2M_MPLANE)
    }

    pub(crate) fn buf_type(&self, direction: Direction) -> Option<BufType> {
        use Capabilities as C;
        let (multi, single, types) = match direction {
            Direction::Capture => {
                (C::VIDEO_CAPTURE_MPLANE, C::VIDEO_CAPTURE, (BufType::CaptureMplane, BufType::Capture))
            }
            Direction::Output => (C::VIDEO_OUTPUT_MPLANE, C::VIDEO_OUTPUT, (BufType::OutputMplane, BufType::Output)),
        };
        if self.capabilities.intersects(multi | C::VIDEO_M2M_MPLANE) {
            Some(types.0)
        } else if self.capabilities.intersects(single | C::VIDEO_M2M) {
            Some(types.1)
        } else {
            None
        }
    }
}

/// Displays the device as errors name it: `/dev/video2 (mxc-isi)`.
impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.driver)
    }
}

/// A condition for devices, which also chooses the device after a loss.
#[derive(Clone)]
pub(crate) struct Condition(Arc<dyn Fn(&DeviceInfo) -> bool + Send + Sync>);

impl Condition {
    pub(crate) fn new(wanted: impl Fn(&DeviceInfo) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(wanted))
    }

    pub(crate) fn accepts(&self, info: &DeviceInfo) -> bool {
        (self.0)(info)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition")
    }
}

/// An open V4L2 node, as a counted handle. The node is closed when the last clone and the last queue are dropped.
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    fd: OwnedFd,
    info: DeviceInfo,
    /// Whether a capture and an output [`Queue`](super::Queue) of this open file exist. A second one would free or
    /// replace the buffers of the first.
    queues: [AtomicBool; 2],
    /// What the driver last answered to S_FMT, by direction.
    set: [Mutex<Option<Picture>>; 2],
    /// What a camera's user says instead of the driver.
    overrule: Mutex<Overrule>,
    /// The index of the node within its device.
    index: Option<u32>,
    /// What a camera's user accepts in place of a lost device.
    condition: OnceLock<Condition>,
}

impl Device {
    /// Opens a node in non-blocking mode and reads its properties. Ioctl: `VIDIOC_QUERYCAP`.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied` or `Busy` if the node cannot be opened. `WrongFile` if the file is not a V4L2
    /// video node.
    #[doc(alias = "VIDIOC_QUERYCAP")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_fd(open_node(path, "V4L2", V4L2_MAJOR)?, path)
    }

    /// Takes any descriptor as a device. The fuzzer answers its ioctls.
    #[cfg(fuzzing)]
    pub fn made_up(fd: OwnedFd) -> Result<Self> {
        Self::from_fd(fd, Path::new("made-up"))
    }

    /// Takes an open, non-blocking node. `path` is for error texts.
    pub(crate) fn from_fd(fd: OwnedFd, path: &Path) -> Result<Self> {
        let mut cap = Capability::zeroed();
        match sys::v4l2_calls::querycap(fd.as_fd(), &mut cap) {
            Ok(()) => {}
            Err(Errno::ENODEV) => {
                let text = "ENODEV: the driver does not answer; on i.MX8M codecs, vsidaemon must run";
                return Err(Error::os("VIDIOC_QUERYCAP", Errno::ENODEV).on(path.display()).detail(text));
            }
            Err(e) => {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let what = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
                    "v4l-subdev" => "a subdevice of a media pipeline; open the /dev/videoN at the pipeline's end",
                    "media" => "a media controller; open the /dev/videoN at the pipeline's end",
                    _ => "not a video device",
                };
                let text = format!("{what}: VIDIOC_QUERYCAP: {}", e.desc());
                return Err(Error::new(ErrorKind::WrongFile, "open", text).on(path.display()));
            }
        }
        let bits = if cap.capabilities & 0x8000_0000 != 0 { cap.device_caps } else { cap.capabilities };
        let folder = NodeFolder::of(fd.as_fd());
        let index = folder.as_ref().and_then(NodeFolder::index);
        let info = DeviceInfo {
            path: path.to_owned(),
            driver: text(&cap.driver),
            card: text(&cap.card),
            bus: text(&cap.bus_info),
            serial: folder.as_ref().and_then(NodeFolder::serial),
            capabilities: Capabilities::from_bits(bits),
        };
        Ok(Self::new(fd, info, index))
    }

    /// Opens a subdevice of a media graph. It has no queue, but controls, an EDID or timings. Errors name it as
    /// `/dev/v4l-subdev2 (imx219 10-0010)`.
    pub(super) fn open_subdevice(path: &Path, name: &str) -> Result<Self> {
        let info = DeviceInfo {
            path: path.to_owned(),
            driver: name.to_owned(),
            card: name.to_owned(),
            bus: String::new(),
            serial: None,
            capabilities: Capabilities::default(),
        };
        Ok(Self::new(open_node(path, "V4L2", V4L2_MAJOR)?, info, None))
    }

    fn new(fd: OwnedFd, info: DeviceInfo, index: Option<u32>) -> Self {
        let (queues, set, overrule) = Default::default();
        Self(Arc::new(Inner { fd, info, queues, set, overrule, index, condition: OnceLock::new() }))
    }

    /// Opens the first node, by number, for which `wanted` returns `true`.
    ///
    /// ```no_run
    /// let camera = framelease::v4l2::Device::find(|d| d.is_capture() && d.driver == "mxc-isi")?;
    /// # Ok::<(), framelease::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` if no node matches. The text lists the nodes, with the errors of those that could not be opened.
    pub fn find(wanted: impl Fn(&DeviceInfo) -> bool) -> Result<Self> {
        let describe = |d: &Self| {
            let info = d.info();
            let serial = info.serial.as_ref().map_or(String::new(), |serial| format!(", serial {serial}"));
            format!("{d} is {}: '{}' on {}{serial}", role(info), info.card, info.bus)
        };
        crate::device_nodes::find("/dev/video*", &nodes(), |path| Self::open(path), |d| wanted(d.info()), describe)
    }

    /// Returns the index of the node within its device, from sysfs.
    pub(super) fn index(&self) -> Option<u32> {
        self.0.index
    }

    /// Sets what is accepted in place of this device after a loss.
    pub(crate) fn select(&self, condition: &Condition) {
        // The first one stays: it chose this device.
        let _ = self.0.condition.set(condition.clone());
    }

    pub(super) fn condition(&self) -> Option<&Condition> {
        self.0.condition.get()
    }

    /// Returns `true` for a clone of this handle, which is the same open file.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the properties of the node.
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    pub(crate) fn buf_type(&self, direction: Direction, op: &'static str) -> Result<BufType> {
        self.info().buf_type(direction).ok_or_else(|| {
            let text = format!("the {} queue does not exist: the device is {}", name(direction), role(self.info()));
            Error::new(ErrorKind::Unsupported, op, text).on(self)
        })
    }

    /// Remembers the driver's answer to S_FMT.
    pub(super) fn remember(&self, direction: Direction, answer: &Picture) {
        *self.0.set[direction as usize].lock().unwrap_or_else(PoisonError::into_inner) = Some(*answer);
    }

    /// Adds to the driver's answer to G_FMT what its answer to S_FMT had: mx6s_capture keeps neither the format nor the
    /// stride.
    pub(super) fn complete(&self, direction: Direction, answer: Picture) -> Picture {
        let set = *self.0.set[direction as usize].lock().unwrap_or_else(PoisonError::into_inner);
        match set {
            Some(set) if set.is_completion_of(&answer) => set,
            _ => answer,
        }
    }

    /// Replaces what the driver says of captured pictures from now on.
    pub(crate) fn overrule(&self, overrule: Overrule) {
        *self.0.overrule.lock().unwrap_or_else(PoisonError::into_inner) = overrule;
    }

    /// Returns what replaces the driver's words about a direction.
    pub(super) fn overruled(&self, direction: Direction) -> Overrule {
        match direction {
            Direction::Capture => *self.0.overrule.lock().unwrap_or_else(PoisonError::into_inner),
            Direction::Output => Overrule::default(),
        }
    }

    /// Reserves a queue for the caller, until [`Device::leave_queue`].
    pub(super) fn take_queue(&self, direction: Direction) -> Result<()> {
        if self.0.queues[direction as usize].swap(true, Ordering::Acquire) {
            let text = format!("the {} queue is in use by this handle or a clone of it", name(direction));
            return Err(Error::new(ErrorKind::Busy, "queue", text).on(self));
        }
        Ok(())
    }

    pub(super) fn leave_queue(&self, direction: Direction) {
        self.0.queues[direction as usize].store(false, Ordering::Release);
    }

    /// Creates the error of a device that reports an error condition and has no buffer.
    pub(crate) fn broken(&self) -> Error {
        let text = "the device reports an error condition (POLLERR) and has no buffer";
        Error::new(ErrorKind::DeviceLost, "poll", text).on(self)
    }

    /// Creates the error of an ioctl on this device.
    pub(crate) fn failed(&self, op: &'static str, errno: Errno) -> Error {
        let error = Error::os(op, errno).on(self);
        match (errno, op) {
            // On a queue, EIO means that the driver gave up. Elsewhere it may be one failed I2C transfer.
            (Errno::EIO, "VIDIOC_DQBUF" | "VIDIOC_QBUF" | "poll") => error.kind_is(ErrorKind::DeviceLost),
            _ => error,
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.info.fmt(f)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self})")
    }
}

/// Returns all V4L2 video nodes that can be opened, sorted by number. Leaves out nodes that disappear or deny access.
pub fn devices() -> Vec<DeviceInfo> {
    nodes().iter().filter_map(|path| Device::open(path).ok()).map(|device| device.info().clone()).collect()
}

pub(crate) fn nodes() -> Vec<PathBuf> {
    crate::device_nodes::list("/dev", &["video"])
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Capture => "capture",
        Direction::Output => "output",
    }
}

fn role(info: &DeviceInfo) -> &'static str {
    if info.is_m2m() {
        "a mem-to-mem device"
    } else if info.is_capture() {
        "a capture device"
    } else if info.is_output() {
        "an output device"
    } else {
        "neither a video capture nor output device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_names_files_that_are_not_video_nodes() {
        for (path, kind) in [
            ("/dev/null", ErrorKind::WrongFile),
            ("/", ErrorKind::WrongFile),
            ("/dev/video-none", ErrorKind::NotFound),
            ("/dev/null/video0", ErrorKind::WrongFile),
        ] {
            let e = Device::open(path).unwrap_err();
            assert_eq!(e.kind(), kind, "{e}");
            assert!(e.to_string().contains(path), "{e}");
        }
    }

    #[test]
    fn buf_type_follows_from_the_capabilities() {
        let info = |bits: u32| DeviceInfo {
            path: "/dev/video0".into(),
            driver: String::new(),
            card: String::new(),
            bus: String::new(),
            serial: None,
            capabilities: Capabilities::from_bits(bits | 0x400_0000),
        };
        assert_eq!(info(1).buf_type(Direction::Capture), Some(BufType::Capture));
        assert_eq!(info(1).buf_type(Direction::Output), None);
        assert_eq!(info(0x2000).buf_type(Direction::Output), Some(BufType::OutputMplane));
        assert_eq!(info(0x8000).buf_type(Direction::Output), Some(BufType::Output));
        assert_eq!(info(0x4000).buf_type(Direction::Capture), Some(BufType::CaptureMplane));
        assert!(info(0x1000).is_capture() && !info(0x4000).is_capture() && !info(0x80_0000).is_capture());
    }
}
