//! What a scanout tells the kernel: atomic commits, their legacy counterparts, and what a refusal means.

use ::drm::control::{connector, crtc, framebuffer, from_u32, Device as _};
use nix::errno::Errno;

use super::device::Device;
use super::layer::{Change, Work};
use super::objects::Mode;
use super::scanout::Scanout;
use crate::dmabuf::SyncFile;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;
use crate::sys::drm::{FenceProp, ValueProp};

/// Whether a flip asks for a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FenceWish {
    None,
    Out,
}

/// What atomic commits set on connector and CRTC.
pub(super) struct AtomicProps {
    pub(super) connector_crtc: ValueProp,
    active: ValueProp,
    mode: ValueProp,
    pub(super) out_fence: Option<FenceProp>,
    /// The mode as a property blob.
    pub(super) blob: u64,
}

impl AtomicProps {
    pub(super) fn of(device: &Device, connector: u32, crtc: u32, mode: &Mode) -> Result<Self> {
        let lacks = |what: &str| {
            let text = format!("the driver has no property {what}");
            Error::new(ErrorKind::Unsupported, "DRM_IOCTL_MODE_OBJ_GETPROPERTIES", text).on(device)
        };
        let connector = from_u32::<connector::Handle>(connector).ok_or_else(|| lacks("of connector 0"))?;
        let crtc = from_u32::<crtc::Handle>(crtc).ok_or_else(|| lacks("of CRTC 0"))?;
        let (connector, crtc) = (device.props(connector)?, device.props(crtc)?);
        let connector_crtc = connector.value("CRTC_ID").ok_or_else(|| lacks("CRTC_ID"))?;
        let active = crtc.value("ACTIVE").ok_or_else(|| lacks("ACTIVE"))?;
        let mode_id = crtc.value("MODE_ID").ok_or_else(|| lacks("MODE_ID"))?;
        // `Mode` is `struct drm_mode_modeinfo`.
        let blob = device.0.node.create_property_blob(&mode.raw);
        let blob = blob.map_err(device.failed_io("DRM_IOCTL_MODE_CREATEPROPBLOB"))?.into();
        Ok(Self { connector_crtc, active, mode: mode_id, out_fence: crtc.fence("OUT_FENCE_PTR"), blob })
    }
}

impl Scanout {
    pub(super) fn commit_atomic(
        &mut self,
        wish: FenceWish,
        modeset: bool,
        mark: u64,
    ) -> std::result::Result<Option<SyncFile>, Errno> {
        let mut flags = sys::drm::NONBLOCK | sys::drm::PAGE_FLIP_EVENT;
        if modeset {
            flags |= sys::drm::ALLOW_MODESET;
        }
        self.begin(modeset, wish);
        for work in &self.work {
            match &work.next {
                Some(Change::Show(shown)) => {
                    let show = (shown.framebuffer.id(), shown.fence.as_ref());
                    work.write(&mut self.commit, self.crtc, Some(show));
                }
                Some(Change::Hide) => work.write(&mut self.commit, self.crtc, None),
                // Another master may have taken the plane.
                None if modeset => {
                    let show = work.shown.as_ref().map(|s| (s.framebuffer.id(), None));
                    work.write(&mut self.commit, self.crtc, show);
                }
                None => {}
            }
        }
        if modeset {
            self.others_off();
        }
        self.commit.submit(self.device.fd(), flags, mark)?;
        Ok(self.commit.take_fence(0).map(SyncFile::from_fd))
    }

    /// Begins a commit: the mode, if it is to be set, and the fence.
    pub(super) fn begin(&mut self, modeset: bool, wish: FenceWish) {
        self.commit.clear();
        let Some(props) = &self.atomic else { return };
        if modeset {
            self.commit.object(self.connector.id);
            self.commit.set(props.connector_crtc, self.crtc.into());
        }
        let fence = props.out_fence.filter(|_| wish == FenceWish::Out);
        if modeset || fence.is_some() {
            self.commit.object(self.crtc);
        }
        if modeset {
            self.commit.set(props.mode, props.blob);
            self.commit.set(props.active, 1);
        }
        if let Some(prop) = fence {
            self.commit.ask_fence(prop);
        }
    }

    /// Adds to the commit that planes and connectors which somebody else left on this CRTC are switched off.
    pub(super) fn others_off(&mut self) {
        let written_back = self.written_back.as_ref().map(|port| port.id);
        for (id, prop) in self.device.connectors_at(self.crtc) {
            if id != self.connector.id && Some(id) != written_back {
                self.commit.object(id);
                self.commit.set(prop, 0);
            }
        }
        let planes = self.device.planes().unwrap_or_default();
        let claimed = self.device.screens().planes.clone();
        let foreign = |p: &&super::Plane| p.crtc == self.crtc && !claimed.contains(&p.id);
        for plane in planes.iter().filter(foreign) {
            Work::write_off(plane, &mut self.commit);
        }
    }

    pub(super) fn flip_legacy(
        &mut self,
        modeset: bool,
        mark: u64,
    ) -> (std::result::Result<Option<SyncFile>, Errno>, &'static str) {
        let shown = self.work.iter().find_map(|w| match &w.next {
            Some(Change::Show(shown)) => Some((w, shown.framebuffer.id())),
            _ => None,
        });
        let Some((work, id)) = shown else { return (Err(Errno::EINVAL), "DRM_IOCTL_MODE_PAGE_FLIP") };
        if modeset {
            let (Some(crtc), Some(fb), Some(connector)) = (
                from_u32::<crtc::Handle>(self.crtc),
                from_u32::<framebuffer::Handle>(id),
                from_u32::<connector::Handle>(self.connector.id),
            ) else {
                return (Err(Errno::EINVAL), "DRM_IOCTL_MODE_SETCRTC");
            };
            let at = (work.source.left.max(0) as u32, work.source.top.max(0) as u32);
            let set = self.device.0.node.set_crtc(crtc, Some(fb), at, &[connector], Some(self.mode.raw));
            if let Err(e) = set {
                return (Err(errno(e)), "DRM_IOCTL_MODE_SETCRTC");
            }
        }
        // After SETCRTC once more, for its event.
        let flipped = sys::drm::page_flip(self.device.fd(), self.crtc, id, mark);
        (flipped.map(|()| None), "DRM_IOCTL_MODE_PAGE_FLIP")
    }

    /// What a refused flip means.
    pub(super) fn flip_failed(&mut self, op: &'static str, errno: Errno) -> Error {
        let error = self.device.failed(op, errno);
        let asked = || {
            let layers = self.work.iter().filter_map(|w| {
                let shown = w.newest()?;
                Some(format!("{} {} at {} on {}", shown.frame.layout(), w.source, w.destination, w.plane))
            });
            layers.collect::<Vec<_>>().join("; ")
        };
        match errno {
            Errno::EACCES | Errno::EPERM => {
                self.lit = false;
                error
                    .kind_is(ErrorKind::PermissionDenied)
                    .detail("this process is not DRM master (drm-uapi, \"master\")")
            }
            Errno::EBUSY => error.detail("another commit to this CRTC is under way"),
            Errno::EINVAL | Errno::ERANGE | Errno::ENOSPC => error.kind_is(ErrorKind::InvalidArgument).detail(format!(
                "{}; mode {}; asked {}",
                errno.desc(),
                self.mode,
                asked()
            )),
            _ => error,
        }
    }

    /// Switches everything off that is ours, and waits for it.
    pub(super) fn commit_off(&mut self) -> (std::result::Result<(), Errno>, &'static str) {
        let Some(props) = &self.atomic else {
            let off = from_u32::<crtc::Handle>(self.crtc)
                .map_or(Ok(()), |crtc| self.device.0.node.set_crtc(crtc, None, (0, 0), &[], None));
            return (off.map_err(errno), "DRM_IOCTL_MODE_SETCRTC");
        };
        self.commit.clear();
        for work in &self.work {
            work.write(&mut self.commit, self.crtc, None);
        }
        self.commit.object(self.connector.id);
        self.commit.set(props.connector_crtc, 0);
        if let Some(port) = &self.written_back {
            port.detach(&mut self.commit, self.connector.id);
        }
        self.commit.object(self.crtc);
        self.commit.set(props.mode, 0);
        self.commit.set(props.active, 0);
        (self.commit.submit(self.device.fd(), sys::drm::ALLOW_MODESET, 0), "DRM_IOCTL_MODE_ATOMIC")
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
