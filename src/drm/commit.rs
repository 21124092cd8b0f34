//! The two kernel interfaces that change a screen: atomic commits, and the legacy ioctls.

use ::drm::control::{connector, crtc, framebuffer, from_u32, Device as _};
use nix::errno::Errno;

use super::device::Device;
use super::layer::{Change, PlaneState};
use super::objects::Plane;
use super::output::{Api, Output};
use super::writeback_port::WriteBackPort;
use crate::dmabuf::SyncFile;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;
use crate::sys::drm::{Commit, FenceProp, ValueProp};

/// Whether a flip requests a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FenceWish {
    None,
    Out,
}

/// A commit that the kernel refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) op: &'static str,
    pub(super) errno: Errno,
}

impl Refusal {
    fn atomic(errno: Errno) -> Self {
        Self { op: "DRM_IOCTL_MODE_ATOMIC", errno }
    }

    /// Returns an error that explains the refusal.
    pub(super) fn explain(self, output: &mut Output, planes: &[PlaneState]) -> Error {
        let Self { op, errno } = self;
        let error = output.device.failed(op, errno);
        match errno {
            Errno::EACCES | Errno::EPERM => {
                output.is_lit = false;
                let text = "this process is not DRM master (drm-uapi, \"master\")";
                error.kind_is(ErrorKind::PermissionDenied).detail(text)
            }
            Errno::EBUSY => error.detail("another commit to this CRTC is under way"),
            Errno::EINVAL | Errno::ERANGE | Errno::ENOSPC => {
                let layers = planes.iter().filter_map(|p| {
                    let shown = p.newest()?;
                    let (source, destination) = (p.requirements.source, p.requirements.destination);
                    Some(format!("{} {source} at {destination} on {}", shown.frame.layout(), p.plane))
                });
                let layers = layers.collect::<Vec<_>>().join("; ");
                let text = format!("{}; mode {}; asked {layers}", errno.desc(), output.mode);
                error.kind_is(ErrorKind::InvalidArgument).detail(text)
            }
            _ => error,
        }
    }
}

/// The result of a commit.
type Committed<T> = std::result::Result<T, Refusal>;

/// A write-back of the picture as part of a commit.
#[derive(Clone, Copy)]
pub(super) struct WriteTo<'a> {
    pub(super) port: &'a WriteBackPort,
    pub(super) framebuffer: u32,
}

/// The kernel interface in use.
pub(super) enum Committer {
    Atomic(Box<Atomic>),
    Legacy,
}

impl Committer {
    /// Chooses the interface. Fails with `Unsupported` if the driver does not have it.
    pub(super) fn open(output: &Output) -> Result<Self> {
        let atomic = output.device.info().atomic;
        match output.requirements.api {
            Api::Legacy => Ok(Self::Legacy),
            Api::Auto if !atomic => Ok(Self::Legacy),
            Api::Atomic if !atomic => {
                let text = "the driver does not have atomic modesetting";
                Err(Error::new(ErrorKind::Unsupported, "DRM_IOCTL_SET_CLIENT_CAP", text).on(&output.device))
            }
            Api::Auto | Api::Atomic => Ok(Self::Atomic(Box::new(Atomic::open(output)?))),
        }
    }

    pub(super) fn api(&self) -> Api {
        match self {
            Self::Atomic(_) => Api::Atomic,
            Self::Legacy => Api::Legacy,
        }
    }

    /// Returns `true` if a flip can give a fence.
    pub(super) fn has_out_fence(&self) -> bool {
        matches!(self, Self::Atomic(atomic) if atomic.out_fence.is_some())
    }

    /// Sets the mode with a staged picture, if the interface has a call of its own for that. Returns `true` if the
    /// screen shows this picture now. The call gives no event.
    pub(super) fn set_mode(&self, output: &Output, planes: &[PlaneState]) -> Committed<bool> {
        match self {
            Self::Atomic(_) => Ok(false),
            Self::Legacy => set_mode_legacy(output, planes).map(|()| true),
        }
    }

    /// Submits the staged changes. The completion event contains `mark`.
    pub(super) fn flip(
        &mut self,
        output: &Output,
        planes: &[PlaneState],
        wish: FenceWish,
        mark: u64,
    ) -> Committed<Option<SyncFile>> {
        match self {
            Self::Atomic(atomic) => atomic.flip(output, planes, wish, mark).map_err(Refusal::atomic),
            Self::Legacy => flip_legacy(output, planes, mark).map(|()| None),
        }
    }

    /// Submits a write-back of the picture to memory. Returns `None` if the driver does not give a fence.
    pub(super) fn write_back(
        &mut self,
        output: &Output,
        planes: &[PlaneState],
        to: WriteTo<'_>,
        mark: u64,
    ) -> Committed<Option<SyncFile>> {
        match self {
            Self::Atomic(atomic) => atomic.write_back(output, planes, to, mark).map_err(Refusal::atomic),
            Self::Legacy => Err(Refusal::atomic(Errno::EOPNOTSUPP)),
        }
    }

    /// Returns the writeback connector that is tied to the CRTC.
    pub(super) fn tied(&self) -> Option<&WriteBackPort> {
        match self {
            Self::Atomic(atomic) => atomic.tied.as_ref(),
            Self::Legacy => None,
        }
    }

    /// Tests a plane with a framebuffer besides the other planes. Changes nothing. The legacy interface cannot test.
    pub(super) fn try_plane(
        &mut self,
        output: &Output,
        planes: &[PlaneState],
        candidate: &PlaneState,
        framebuffer: u32,
    ) -> Committed<()> {
        match self {
            Self::Atomic(atomic) => atomic.try_plane(output, planes, candidate, framebuffer).map_err(Refusal::atomic),
            Self::Legacy => Ok(()),
        }
    }

    /// Switches the screen off, and waits until it is off.
    pub(super) fn turn_off(&mut self, output: &Output, planes: &[PlaneState]) -> Committed<()> {
        match self {
            Self::Atomic(atomic) => atomic.turn_off(output, planes).map_err(Refusal::atomic),
            Self::Legacy => {
                let off = from_u32::<crtc::Handle>(output.crtc)
                    .map_or(Ok(()), |crtc| output.device.0.node.set_crtc(crtc, None, (0, 0), &[], None));
                off.map_err(|e| Refusal { op: "DRM_IOCTL_MODE_SETCRTC", errno: errno(e) })
            }
        }
    }
}

/// The atomic interface: its properties, and a commit that is reused, so that a flip does not allocate.
pub(super) struct Atomic {
    device: Device,
    connector_crtc: ValueProp,
    active: ValueProp,
    mode: ValueProp,
    out_fence: Option<FenceProp>,
    /// The mode as a property blob.
    blob: u64,
    commit: Commit,
    /// The writeback connector that is tied to the CRTC.
    tied: Option<WriteBackPort>,
}

impl Atomic {
    fn open(output: &Output) -> Result<Self> {
        let device = &output.device;
        let lacks = |what: &str| {
            let text = format!("the driver does not have the property {what}");
            Error::new(ErrorKind::Unsupported, "DRM_IOCTL_MODE_OBJ_GETPROPERTIES", text).on(device)
        };
        let connector = from_u32::<connector::Handle>(output.connector.id).ok_or_else(|| lacks("of connector 0"))?;
        let crtc = from_u32::<crtc::Handle>(output.crtc).ok_or_else(|| lacks("of CRTC 0"))?;
        let (connector, crtc) = (device.props(connector)?, device.props(crtc)?);
        let connector_crtc = connector.value("CRTC_ID").ok_or_else(|| lacks("CRTC_ID"))?;
        let active = crtc.value("ACTIVE").ok_or_else(|| lacks("ACTIVE"))?;
        let mode = crtc.value("MODE_ID").ok_or_else(|| lacks("MODE_ID"))?;
        // `Mode` is `struct drm_mode_modeinfo`.
        let blob = device.0.node.create_property_blob(&output.mode.raw);
        let blob = blob.map_err(device.failed_io("DRM_IOCTL_MODE_CREATEPROPBLOB"))?.into();
        let (device, out_fence, commit) = (device.clone(), crtc.fence("OUT_FENCE_PTR"), Commit::default());
        Ok(Self { device, connector_crtc, active, mode, out_fence, blob, commit, tied: None })
    }

    /// Begins a commit: sets the mode if needed, and requests a fence.
    fn begin(&mut self, output: &Output, is_modeset: bool, wish: FenceWish) {
        self.commit.clear();
        if is_modeset {
            self.commit.object(output.connector.id);
            self.commit.set(self.connector_crtc, output.crtc.into());
        }
        let fence = self.out_fence.filter(|_| wish == FenceWish::Out);
        if is_modeset || fence.is_some() {
            self.commit.object(output.crtc);
        }
        if is_modeset {
            self.commit.set(self.mode, self.blob);
            self.commit.set(self.active, 1);
        }
        if let Some(prop) = fence {
            self.commit.ask_fence(prop);
        }
    }

    fn flip(
        &mut self,
        output: &Output,
        planes: &[PlaneState],
        wish: FenceWish,
        mark: u64,
    ) -> std::result::Result<Option<SyncFile>, Errno> {
        let is_modeset = !output.is_lit;
        let mut flags = sys::drm::NONBLOCK | sys::drm::PAGE_FLIP_EVENT;
        if is_modeset {
            flags |= sys::drm::ALLOW_MODESET;
        }
        self.begin(output, is_modeset, wish);
        for plane in planes {
            match &plane.next {
                Some(Change::Show(shown)) => {
                    let show = (shown.framebuffer.id(), shown.fence.as_ref());
                    plane.write(&mut self.commit, output.crtc, Some(show));
                }
                Some(Change::Hide) => plane.write(&mut self.commit, output.crtc, None),
                // Another master may have changed the plane.
                None if is_modeset => {
                    let show = plane.shown.as_ref().map(|s| (s.framebuffer.id(), None));
                    plane.write(&mut self.commit, output.crtc, show);
                }
                None => {}
            }
        }
        if is_modeset {
            self.others_off(output);
        }
        self.commit.submit(self.device.fd(), flags, mark)?;
        Ok(self.commit.take_fence(0).map(SyncFile::from_fd))
    }

    fn write_back(
        &mut self,
        output: &Output,
        planes: &[PlaneState],
        to: WriteTo<'_>,
        mark: u64,
    ) -> std::result::Result<Option<SyncFile>, Errno> {
        self.begin(output, false, FenceWish::None);
        to.port.attach(&mut self.commit, output.crtc, to.framebuffer);
        // Some drivers compose only the planes that a commit contains.
        for plane in planes {
            let show = plane.shown.as_ref().map(|s| (s.framebuffer.id(), None));
            plane.write(&mut self.commit, output.crtc, show);
        }
        let ties = self.tied.is_none() && !output.connector.writeback;
        let first = if ties { sys::drm::ALLOW_MODESET } else { 0 };
        let flags = sys::drm::NONBLOCK | sys::drm::PAGE_FLIP_EVENT | first;
        self.commit.submit(self.device.fd(), flags, mark)?;
        self.tied = Some(to.port.clone());
        Ok(self.commit.take_fence(0).map(SyncFile::from_fd))
    }

    fn try_plane(
        &mut self,
        output: &Output,
        planes: &[PlaneState],
        candidate: &PlaneState,
        framebuffer: u32,
    ) -> std::result::Result<(), Errno> {
        self.begin(output, true, FenceWish::None);
        candidate.write(&mut self.commit, output.crtc, Some((framebuffer, None)));
        for other in planes {
            let id = other.newest().map(|s| s.framebuffer.id()).or(other.trial.as_ref().map(|f| f.id()));
            other.write(&mut self.commit, output.crtc, id.map(|id| (id, None)));
        }
        self.others_off(output);
        let flags = sys::drm::TEST_ONLY | sys::drm::ALLOW_MODESET;
        self.commit.submit(self.device.fd(), flags, 0)
    }

    /// Adds to the commit that it switches off planes and connectors that another program left on this CRTC.
    fn others_off(&mut self, output: &Output) {
        let tied = self.tied.as_ref().map(|port| port.id);
        for (id, prop) in self.device.connectors_at(output.crtc) {
            if id != output.connector.id && Some(id) != tied {
                self.commit.object(id);
                self.commit.set(prop, 0);
            }
        }
        let planes = self.device.planes().unwrap_or_default();
        let claimed = self.device.claimed_planes();
        let foreign = |p: &&Plane| p.crtc == output.crtc && !claimed.contains(&p.id);
        for plane in planes.iter().filter(foreign) {
            PlaneState::write_off(plane, &mut self.commit);
        }
    }

    fn turn_off(&mut self, output: &Output, planes: &[PlaneState]) -> std::result::Result<(), Errno> {
        self.commit.clear();
        for plane in planes {
            plane.write(&mut self.commit, output.crtc, None);
        }
        self.commit.object(output.connector.id);
        self.commit.set(self.connector_crtc, 0);
        if let Some(port) = self.tied.as_ref().filter(|port| port.id != output.connector.id) {
            port.detach(&mut self.commit);
        }
        self.others_off(output);
        self.commit.object(output.crtc);
        self.commit.set(self.mode, 0);
        self.commit.set(self.active, 0);
        self.commit.submit(self.device.fd(), sys::drm::ALLOW_MODESET, 0)?;
        self.tied = None;
        Ok(())
    }
}

impl Drop for Atomic {
    fn drop(&mut self) {
        let _ = self.device.0.node.destroy_property_blob(self.blob);
    }
}

/// Returns the plane with a staged picture, and the framebuffer. The legacy interface changes one plane.
fn staged(planes: &[PlaneState]) -> Option<(&PlaneState, u32)> {
    planes.iter().find_map(|p| match &p.next {
        Some(Change::Show(shown)) => Some((p, shown.framebuffer.id())),
        _ => None,
    })
}

fn set_mode_legacy(output: &Output, planes: &[PlaneState]) -> Committed<()> {
    const SET: &str = "DRM_IOCTL_MODE_SETCRTC";
    let (plane, id) = staged(planes).ok_or(Refusal { op: SET, errno: Errno::EINVAL })?;
    let (Some(crtc), Some(fb), Some(connector)) = (
        from_u32::<crtc::Handle>(output.crtc),
        from_u32::<framebuffer::Handle>(id),
        from_u32::<connector::Handle>(output.connector.id),
    ) else {
        return Err(Refusal { op: SET, errno: Errno::EINVAL });
    };
    let source = plane.requirements.source;
    let at = (source.left.max(0) as u32, source.top.max(0) as u32);
    let set = output.device.0.node.set_crtc(crtc, Some(fb), at, &[connector], Some(output.mode.raw));
    set.map_err(|e| Refusal { op: SET, errno: errno(e) })
}

fn flip_legacy(output: &Output, planes: &[PlaneState], mark: u64) -> Committed<()> {
    const FLIP: &str = "DRM_IOCTL_MODE_PAGE_FLIP";
    let (_, id) = staged(planes).ok_or(Refusal { op: FLIP, errno: Errno::EINVAL })?;
    sys::drm::page_flip(output.device.fd(), output.crtc, id, mark).map_err(|errno| Refusal { op: FLIP, errno })
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
