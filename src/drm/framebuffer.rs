//! Framebuffers on imported dma-bufs. They are kept as long as the pool of the buffers.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use super::device::Device;
use super::gem::{Dumb, Gem};
use super::objects::{code, Modifier};
use crate::dmabuf::{BufferId, DmaBuf};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, Layout, MAX_PLANES};
use crate::frame::{Frame, Payload, WeakBuffers};
use crate::sys;
use crate::sys::drm::FbPlanes;

/// A picture's format, size and memory, as a plane shows it. A scanout creates one framebuffer for each buffer.
///
/// Dropping it removes it from the kernel (`DRM_IOCTL_MODE_RMFB`). The kernel switches off a plane that still shows
/// it.
///
/// ```
/// use framelease::drm::{Device, Framebuffer};
/// use framelease::frame::Frame;
///
/// fn framebuffer(card: &Device, frame: &Frame) -> framelease::Result<Framebuffer> {
///     Framebuffer::new(card, frame, None)
/// }
/// ```
pub struct Framebuffer {
    device: Device,
    id: u32,
    /// The device removes it later. See [`Framebuffer::leave`].
    is_left: AtomicBool,
    /// The kernel has its own references. These keep the handles for the next import of the same buffers.
    _gems: Vec<Gem>,
}

/// The properties that two pictures share if they can share a framebuffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    memory: [Option<BufferId>; MAX_PLANES],
    layout: Layout,
    modifier: Option<Modifier>,
}

impl Framebuffer {
    /// Creates a framebuffer on a frame's buffers. Imports each memory plane, and gives each color plane its handle,
    /// pitch and offset (including the payload's `data_offset`). Ioctls: `DRM_IOCTL_PRIME_FD_TO_HANDLE`,
    /// `DRM_IOCTL_MODE_ADDFB2`.
    ///
    /// Pass a modifier if planes of this device list modifiers. With `None`, the driver derives the modifier from the
    /// buffer. An opaque layout has its own modifier, which is used instead.
    ///
    /// # Errors
    /// `Mismatch` if a buffer is smaller than the picture. `Unsupported` if no DRM format has these bytes, for a memfd,
    /// and for a device that cannot import. `InvalidArgument` for a pitch, an offset or a size that the driver refuses
    /// (the text says what the driver accepts).
    #[doc(alias = "DRM_IOCTL_MODE_ADDFB2")]
    pub fn new(device: &Device, frame: &Frame, modifier: Option<Modifier>) -> Result<Self> {
        Self::of(device, frame.memory(), frame.layout(), &frame.meta().payload, modifier)
    }

    pub(super) fn of(
        device: &Device,
        memory: &[DmaBuf],
        layout: &Layout,
        payload: &[Payload; MAX_PLANES],
        modifier: Option<Modifier>,
    ) -> Result<Self> {
        check_room(device, memory, layout, payload)?;
        let modifier = layout.fourcc().tiling().map(Modifier::from).or(modifier);
        let gems = memory.iter().map(|buffer| device.import(buffer)).collect::<Result<Vec<_>>>()?;
        Self::add(device, gems, layout, payload, modifier)
    }

    /// Creates a framebuffer on a dumb buffer, to test a format.
    pub(super) fn of_dumb(device: &Device, dumb: Dumb, modifier: Option<Modifier>) -> Result<Self> {
        Self::add(device, vec![dumb.gem], &dumb.layout, &Default::default(), modifier)
    }

    fn add(
        device: &Device,
        gems: Vec<Gem>,
        layout: &Layout,
        payload: &[Payload; MAX_PLANES],
        modifier: Option<Modifier>,
    ) -> Result<Self> {
        const OP: &str = "DRM_IOCTL_MODE_ADDFB2";
        let format = drm_code(layout.fourcc()).map_err(|e| e.on(device))?;
        let mut planes = FbPlanes::default();
        for (i, plane) in layout.planes().iter().enumerate() {
            let memory = plane.memory as usize;
            let (Some(gem), Some(data)) = (gems.get(memory), payload.get(memory)) else { continue };
            planes.handles[i] = gem.handle();
            planes.pitches[i] = plane.stride_bytes;
            planes.offsets[i] = plane.offset_bytes.saturating_add(data.offset_bytes);
        }
        let size = (layout.size().width, layout.size().height);
        let id = sys::drm::add_fb2(device.fd(), size, format, &planes, modifier.map(u64::from)).map_err(|e| {
            let count = layout.planes().len();
            let modifier = modifier.map_or("no modifier".into(), |m| format!("modifier {m}"));
            let text = format!(
                "{}; asked {layout} ({}), pitches {:?}, offsets {:?}, {modifier}; {}",
                e.desc(),
                code(format),
                &planes.pitches[..count],
                &planes.offsets[..count],
                offered(device, layout)
            );
            device.failed(OP, e).detail(text)
        })?;
        Ok(Self { device: device.clone(), id, is_left: AtomicBool::new(false), _gems: gems })
    }

    /// Returns the KMS object id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Leaves the removal to the device, because it would block now until the display has finished with the
    /// framebuffer. Returns the id.
    pub(super) fn leave(&self) -> u32 {
        self.is_left.store(true, Ordering::Relaxed);
        self.id
    }
}

impl Drop for Framebuffer {
    fn drop(&mut self) {
        if !self.is_left.load(Ordering::Relaxed) {
            // The kernel has removed it already if the device was unplugged.
            let _ = sys::drm::rm_fb(self.device.fd(), self.id);
        }
    }
}

impl fmt::Debug for Framebuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Framebuffer({} of {})", self.id, self.device)
    }
}

/// Describes what ADDFB2 accepts, as far as the kernel reports it: the largest size, and the pitch of the device's
/// own buffers.
fn offered(device: &Device, layout: &Layout) -> String {
    fn most(range: impl RangeBounds<u32>) -> u32 {
        match range.end_bound() {
            Bound::Included(&most) => most,
            _ => u32::MAX,
        }
    }
    let limits = device.resources().map(|all| {
        format!("framebuffers up to {}x{}", most(all.supported_fb_width()), most(all.supported_fb_height()))
    });
    // The format with all color planes in one memory plane has the same pitch.
    let single = layout.fourcc().drm().and_then(FourCc::from_drm).unwrap_or(layout.fourcc());
    let own = device.dumb(single, layout.size()).ok();
    let pitch = own.and_then(|dumb| dumb.layout.planes().first().map(|p| p.stride_bytes));
    let pitch =
        pitch.map_or("no dumb buffer of this size".into(), |p| format!("dumb buffers of this size with pitch {p}"));
    format!("the device has {}, {pitch}", limits.unwrap_or_else(|e| e.to_string()))
}

/// Returns the DRM code of a format.
pub(super) fn drm_code(fourcc: FourCc) -> Result<u32> {
    let unknown = || Error::new(ErrorKind::Unsupported, "format", format!("no DRM format has the bytes of {fourcc}"));
    fourcc.drm().ok_or_else(unknown)
}

fn check_room(device: &Device, memory: &[DmaBuf], layout: &Layout, payload: &[Payload; MAX_PLANES]) -> Result<()> {
    let wrong = |text| Err(Error::new(ErrorKind::Mismatch, "DRM_IOCTL_MODE_ADDFB2", text).on(device));
    if layout.is_compressed() || memory.len() != layout.memory_bytes().len() {
        return wrong(format!("{layout} in {} buffers cannot be shown", memory.len()));
    }
    for (i, plane) in layout.planes().iter().enumerate() {
        let at = plane.memory as usize;
        let has = memory.get(at).map_or(0, DmaBuf::size_bytes) as u64;
        let end = layout.plane_end(i) + payload.get(at).map_or(0, |p| u64::from(p.offset_bytes));
        if end > has {
            return wrong(format!("color plane {i} of {layout} ends at byte {end} of a buffer of {has} bytes"));
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Entry {
    pool: WeakBuffers,
    /// The offsets of the payloads. They are not in the key: a buffer whose frames begin at different offsets has one
    /// framebuffer at a time.
    offsets: [u32; MAX_PLANES],
    framebuffer: Arc<Framebuffer>,
}

/// The framebuffers of the pools in use, by the identity of their buffers.
#[derive(Debug, Default)]
pub(super) struct Framebuffers {
    entries: HashMap<Key, Entry>,
}

impl Framebuffers {
    /// Returns the framebuffer of a frame. Creates it for a new buffer. For a known buffer, it needs no system call
    /// or allocation.
    pub(super) fn get(
        &mut self,
        device: &Device,
        frame: &Frame,
        modifier: Option<Modifier>,
    ) -> Result<Arc<Framebuffer>> {
        let mut key = Key { memory: [None; MAX_PLANES], layout: *frame.layout(), modifier };
        // Offsets of planes that the buffer does not have are ignored, because another process may send any.
        let mut offsets = [0; MAX_PLANES];
        for (i, buffer) in frame.memory().iter().take(MAX_PLANES).enumerate() {
            key.memory[i] = Some(buffer.id());
            offsets[i] = frame.meta().payload[i].offset_bytes;
        }
        if let Some(entry) = self.entries.get_mut(&key).filter(|e| e.offsets == offsets) {
            // Another pool of the same buffers may have outlived the first.
            if !entry.pool.is_alive() {
                entry.pool = frame.buffers().downgrade();
            }
            return Ok(Arc::clone(&entry.framebuffer));
        }
        let framebuffer = Arc::new(Framebuffer::new(device, frame, modifier)?);
        let entry = Entry { pool: frame.buffers().downgrade(), offsets, framebuffer: Arc::clone(&framebuffer) };
        self.entries.insert(key, entry);
        Ok(framebuffer)
    }

    /// Drops the framebuffers of pools that are gone. A framebuffer that is on a screen exists until it is replaced.
    pub(super) fn sweep(&mut self) {
        self.entries.retain(|_, entry| entry.pool.is_alive());
    }

    /// Leaves the removal of all framebuffers to the device. Returns their ids.
    pub(super) fn leave(self) -> Vec<u32> {
        self.entries.values().map(|entry| entry.framebuffer.leave()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
