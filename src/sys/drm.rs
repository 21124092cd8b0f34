//! `drm/drm.h`, `drm/drm_mode.h`: the calls of every frame, and calls whose results the `drm` crate unwraps.
//!
//! Property ids have a type by what the kernel does with their value. A property whose value is a pointer that the
//! kernel writes through ([`FenceProp`]) cannot be set to a number.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::from_kernel::{own, text};
use super::syscall_count::retry;

/// `DRM_MODE_PAGE_FLIP_EVENT`.
pub(crate) const PAGE_FLIP_EVENT: u32 = 1;
/// `DRM_MODE_ATOMIC_TEST_ONLY`.
pub(crate) const TEST_ONLY: u32 = 0x100;
/// `DRM_MODE_ATOMIC_NONBLOCK`.
pub(crate) const NONBLOCK: u32 = 0x200;
/// `DRM_MODE_ATOMIC_ALLOW_MODESET`.
pub(crate) const ALLOW_MODESET: u32 = 0x400;
/// `DRM_MODE_FB_MODIFIERS`.
const FB_MODIFIERS: u32 = 2;

#[repr(C)]
struct GemClose {
    handle: u32,
    pad: u32,
}

#[repr(C)]
struct PrimeHandle {
    handle: u32,
    flags: u32,
    fd: i32,
}

#[repr(C)]
#[derive(Default)]
struct CreateDumb {
    height: u32,
    width: u32,
    bpp: u32,
    flags: u32,
    handle: u32,
    pitch: u32,
    size: u64,
}

#[repr(C)]
#[derive(Default)]
struct FbCmd2 {
    fb_id: u32,
    width: u32,
    height: u32,
    pixel_format: u32,
    flags: u32,
    handles: [u32; 4],
    pitches: [u32; 4],
    offsets: [u32; 4],
    modifier: [u64; 4],
}

#[repr(C)]
#[derive(Default)]
struct GetProperty {
    values_ptr: u64,
    enum_blob_ptr: u64,
    prop_id: u32,
    flags: u32,
    name: [u8; 32],
    count_values: u32,
    count_enum_blobs: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PropertyEnum {
    value: u64,
    name: [u8; 32],
}

#[repr(C)]
#[derive(Default)]
struct GetConnector {
    encoders_ptr: u64,
    modes_ptr: u64,
    props_ptr: u64,
    prop_values_ptr: u64,
    count_modes: u32,
    count_props: u32,
    count_encoders: u32,
    encoder_id: u32,
    connector_id: u32,
    connector_type: u32,
    connector_type_id: u32,
    connection: u32,
    mm_width: u32,
    mm_height: u32,
    subpixel: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct SyncobjHandle {
    handle: u32,
    /// `DRM_SYNCOBJ_CREATE_*`. Padding in the destroy ioctl.
    flags: u32,
}

#[repr(C)]
struct SyncobjFd {
    handle: u32,
    flags: u32,
    fd: i32,
    pad: u32,
}

#[repr(C)]
struct PageFlip {
    crtc_id: u32,
    fb_id: u32,
    flags: u32,
    reserved: u32,
    user_data: u64,
}

#[repr(C)]
struct Atomic {
    flags: u32,
    count_objs: u32,
    objs_ptr: u64,
    count_props_ptr: u64,
    props_ptr: u64,
    prop_values_ptr: u64,
    reserved: u64,
    user_data: u64,
}

const _: () = {
    use std::mem::size_of;
    assert!(size_of::<GemClose>() == 8);
    assert!(size_of::<PrimeHandle>() == 12);
    assert!(size_of::<CreateDumb>() == 32);
    // A u64 is aligned to 4 bytes on 32-bit x86, and to 8 elsewhere.
    assert!(size_of::<FbCmd2>() == if std::mem::align_of::<u64>() == 4 { 100 } else { 104 });
    assert!(size_of::<GetProperty>() == 64);
    assert!(size_of::<PropertyEnum>() == 40);
    assert!(size_of::<GetConnector>() == 80);
    assert!(size_of::<SyncobjHandle>() == 8);
    assert!(size_of::<SyncobjFd>() == 16);
    assert!(size_of::<PageFlip>() == 24);
    assert!(size_of::<Atomic>() == 56);
};

mod raw {
    use super::{
        Atomic, CreateDumb, FbCmd2, GemClose, GetConnector, GetProperty, PageFlip, PrimeHandle, SyncobjFd,
        SyncobjHandle,
    };
    nix::ioctl_write_ptr!(gem_close, b'd', 0x09, GemClose);
    nix::ioctl_readwrite!(handle_to_fd, b'd', 0x2d, PrimeHandle);
    nix::ioctl_readwrite!(fd_to_handle, b'd', 0x2e, PrimeHandle);
    nix::ioctl_readwrite!(get_connector, b'd', 0xa7, GetConnector);
    nix::ioctl_readwrite!(get_property, b'd', 0xaa, GetProperty);
    nix::ioctl_readwrite!(rm_fb, b'd', 0xaf, u32);
    nix::ioctl_readwrite!(page_flip, b'd', 0xb0, PageFlip);
    nix::ioctl_readwrite!(create_dumb, b'd', 0xb2, CreateDumb);
    nix::ioctl_readwrite!(add_fb2, b'd', 0xb8, FbCmd2);
    nix::ioctl_readwrite!(atomic, b'd', 0xbc, Atomic);
    nix::ioctl_readwrite!(syncobj_create, b'd', 0xbf, SyncobjHandle);
    nix::ioctl_readwrite!(syncobj_destroy, b'd', 0xc0, SyncobjHandle);
    nix::ioctl_readwrite!(syncobj_to_fd, b'd', 0xc1, SyncobjFd);
    nix::ioctl_readwrite!(syncobj_from_fd, b'd', 0xc2, SyncobjFd);
}

/// Closes a handle (`DRM_IOCTL_GEM_CLOSE`). It is invalid afterwards, however often it was imported.
pub(crate) fn gem_close(fd: BorrowedFd<'_>, handle: u32) -> Result<(), Errno> {
    let arg = GemClose { handle, pad: 0 };
    // SAFETY: `arg` is a live `struct drm_gem_close`, which the kernel only reads; `fd` is open for the whole call.
    retry(|| unsafe { raw::gem_close(fd.as_raw_fd(), &arg) }).map(drop)
}

/// Returns the GEM handle of a dma-buf (`DRM_IOCTL_PRIME_FD_TO_HANDLE`). It is the same for every call in one open
/// file.
pub(crate) fn prime_fd_to_handle(fd: BorrowedFd<'_>, dma_buf: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut arg = PrimeHandle { handle: 0, flags: 0, fd: dma_buf.as_raw_fd() };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_prime_handle`. Both descriptors are open for the
    // call, and the kernel takes its own reference to the dma-buf.
    retry(|| unsafe { raw::fd_to_handle(fd.as_raw_fd(), &mut arg) })?;
    Ok(arg.handle)
}

/// Returns a new descriptor of a GEM handle's dma-buf, readable and writable (`DRM_IOCTL_PRIME_HANDLE_TO_FD`).
pub(crate) fn prime_handle_to_fd(fd: BorrowedFd<'_>, handle: u32) -> Result<OwnedFd, Errno> {
    let mut arg = PrimeHandle { handle, flags: (libc::O_CLOEXEC | libc::O_RDWR) as u32, fd: -1 };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_prime_handle`; `fd` is open for the whole call.
    retry(|| unsafe { raw::handle_to_fd(fd.as_raw_fd(), &mut arg) })?;
    own(arg.fd)
}

/// A buffer that `DRM_IOCTL_MODE_CREATE_DUMB` created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dumb {
    pub(crate) handle: u32,
    pub(crate) pitch_bytes: u32,
    pub(crate) size_bytes: u64,
}

/// Allocates `height` rows of `width` pixels of `bpp` bits (`DRM_IOCTL_MODE_CREATE_DUMB`).
pub(crate) fn create_dumb(fd: BorrowedFd<'_>, width: u32, height: u32, bpp: u32) -> Result<Dumb, Errno> {
    let mut arg = CreateDumb { width, height, bpp, ..CreateDumb::default() };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_mode_create_dumb`; `fd` is open for the whole call.
    retry(|| unsafe { raw::create_dumb(fd.as_raw_fd(), &mut arg) })?;
    Ok(Dumb { handle: arg.handle, pitch_bytes: arg.pitch, size_bytes: arg.size })
}

/// The memory of a framebuffer: for each color plane a GEM handle, a pitch and an offset.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FbPlanes {
    pub(crate) handles: [u32; 4],
    pub(crate) pitches: [u32; 4],
    pub(crate) offsets: [u32; 4],
}

/// Creates a framebuffer (`DRM_IOCTL_MODE_ADDFB2`), with the modifier for every plane in use if there is one.
pub(crate) fn add_fb2(
    fd: BorrowedFd<'_>,
    (width, height): (u32, u32),
    pixel_format: u32,
    planes: &FbPlanes,
    modifier: Option<u64>,
) -> Result<u32, Errno> {
    let FbPlanes { handles, pitches, offsets } = *planes;
    let mut arg = FbCmd2 { width, height, pixel_format, handles, pitches, offsets, ..FbCmd2::default() };
    if let Some(modifier) = modifier {
        arg.flags = FB_MODIFIERS;
        for (to, handle) in arg.modifier.iter_mut().zip(handles) {
            *to = if handle == 0 { 0 } else { modifier };
        }
    }
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_mode_fb_cmd2`; handles are looked up, not dereferenced.
    retry(|| unsafe { raw::add_fb2(fd.as_raw_fd(), &mut arg) })?;
    Ok(arg.fb_id)
}

/// Removes a framebuffer (`DRM_IOCTL_MODE_RMFB`). The kernel first switches off planes that show it.
pub(crate) fn rm_fb(fd: BorrowedFd<'_>, mut id: u32) -> Result<(), Errno> {
    // SAFETY: `id` is a live, exclusively borrowed `unsigned int`, which is all that the kernel reads.
    retry(|| unsafe { raw::rm_fb(fd.as_raw_fd(), &mut id) }).map(drop)
}

/// Flips the primary plane and requests an event (`DRM_IOCTL_MODE_PAGE_FLIP`).
pub(crate) fn page_flip(fd: BorrowedFd<'_>, crtc_id: u32, fb_id: u32, user_data: u64) -> Result<(), Errno> {
    let mut arg = PageFlip { crtc_id, fb_id, flags: PAGE_FLIP_EVENT, reserved: 0, user_data };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_mode_crtc_page_flip`. `user_data` is a number that
    // the event returns, and is never used as an address.
    retry(|| unsafe { raw::page_flip(fd.as_raw_fd(), &mut arg) }).map(drop)
}

/// A property whose value is a number. The kernel checks any value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueProp(u32);

#[cfg(test)]
impl ValueProp {
    pub(crate) fn for_tests(id: u32) -> Self {
        Self(id)
    }
}

/// A property whose value is the address of a descriptor that the kernel writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FenceProp(u32);

/// A property, by the kind of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prop {
    Value(ValueProp),
    Fence(FenceProp),
}

/// Returns name and kind of a property (`DRM_IOCTL_MODE_GETPROPERTY`).
pub(crate) fn property(fd: BorrowedFd<'_>, id: u32) -> Result<(String, Prop), Errno> {
    let mut arg = GetProperty { prop_id: id, ..GetProperty::default() };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_mode_get_property`. Both counts are 0, so the kernel
    // does not write through its pointers.
    retry(|| unsafe { raw::get_property(fd.as_raw_fd(), &mut arg) })?;
    let name = text(&arg.name);
    // The kernel has only OUT_FENCE_PTR and WRITEBACK_OUT_FENCE_PTR. A third one would have the same ending.
    let prop = if name.ends_with("_PTR") { Prop::Fence(FenceProp(id)) } else { Prop::Value(ValueProp(id)) };
    Ok((name, prop))
}

/// Returns the named values of an enum property (`DRM_IOCTL_MODE_GETPROPERTY`).
pub(crate) fn property_values(fd: BorrowedFd<'_>, prop: ValueProp) -> Result<Vec<(String, u64)>, Errno> {
    let mut arg = GetProperty { prop_id: prop.0, ..GetProperty::default() };
    // SAFETY: as in `property`.
    retry(|| unsafe { raw::get_property(fd.as_raw_fd(), &mut arg) })?;
    let mut values = vec![PropertyEnum::default(); (arg.count_enum_blobs as usize).min(64)];
    let count_enum_blobs = values.len() as u32;
    let enum_blob_ptr = values.as_mut_ptr() as usize as u64;
    let mut arg = GetProperty { prop_id: prop.0, enum_blob_ptr, count_enum_blobs, ..GetProperty::default() };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_mode_get_property`. The kernel writes at most
    // `count_enum_blobs` of `struct drm_mode_property_enum` through its one pointer, to `values`, which is
    // exclusively borrowed and outlives the call; any bytes are valid in it. The other count is 0.
    retry(|| unsafe { raw::get_property(fd.as_raw_fd(), &mut arg) })?;
    values.truncate(arg.count_enum_blobs as usize);
    Ok(values.iter().map(|v| (text(&v.name), v.value)).collect())
}

/// Returns `enum drm_connector_status`, 1 for connected, 2 for not, without a probe (`DRM_IOCTL_MODE_GETCONNECTOR`).
pub(crate) fn connection(fd: BorrowedFd<'_>, connector_id: u32) -> Result<u32, Errno> {
    // `struct drm_mode_modeinfo`. With a count of 0, the master's call would probe the display.
    let mut mode = [0u64; 9];
    let modes_ptr = mode.as_mut_ptr() as usize as u64;
    let mut arg = GetConnector { connector_id, modes_ptr, count_modes: 1, ..GetConnector::default() };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_mode_get_connector`. Of its arrays, only that of
    // modes has a count, which is 1: the kernel writes at most 68 bytes there, to `mode`, which is exclusively
    // borrowed and has 72.
    retry(|| unsafe { raw::get_connector(fd.as_raw_fd(), &mut arg) })?;
    Ok(arg.connection)
}

/// Creates a syncobj without a fence (`DRM_IOCTL_SYNCOBJ_CREATE`).
pub(crate) fn syncobj_create(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut arg = SyncobjHandle::default();
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_syncobj_create`; `fd` is open for the whole call.
    retry(|| unsafe { raw::syncobj_create(fd.as_raw_fd(), &mut arg) })?;
    Ok(arg.handle)
}

/// Destroys a syncobj (`DRM_IOCTL_SYNCOBJ_DESTROY`).
pub(crate) fn syncobj_destroy(fd: BorrowedFd<'_>, handle: u32) -> Result<(), Errno> {
    let mut arg = SyncobjHandle { handle, flags: 0 };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_syncobj_destroy`; handles are looked up.
    retry(|| unsafe { raw::syncobj_destroy(fd.as_raw_fd(), &mut arg) }).map(drop)
}

/// Exports the present fence of a syncobj (`DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD` with `EXPORT_SYNC_FILE`).
pub(crate) fn syncobj_export_sync_file(fd: BorrowedFd<'_>, handle: u32) -> Result<OwnedFd, Errno> {
    let mut arg = SyncobjFd { handle, flags: 1, fd: -1, pad: 0 };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_syncobj_handle`; `fd` is open for the whole call.
    retry(|| unsafe { raw::syncobj_to_fd(fd.as_raw_fd(), &mut arg) })?;
    own(arg.fd)
}

/// Replaces the fence of a syncobj (`DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE` with `IMPORT_SYNC_FILE`).
pub(crate) fn syncobj_import_sync_file(fd: BorrowedFd<'_>, handle: u32, fence: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut arg = SyncobjFd { handle, flags: 1, fd: fence.as_raw_fd(), pad: 0 };
    // SAFETY: `arg` is a live, exclusively borrowed `struct drm_syncobj_handle`. Both descriptors are open for the
    // call, and the kernel takes its own reference to the fence.
    retry(|| unsafe { raw::syncobj_from_fd(fd.as_raw_fd(), &mut arg) }).map(drop)
}

/// The properties of one `DRM_IOCTL_MODE_ATOMIC`. It is reused, so that a commit does not allocate.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    objects: Vec<u32>,
    counts: Vec<u32>,
    props: Vec<u32>,
    values: Vec<u64>,
    /// The values that are addresses of the descriptors next to them.
    fences: Vec<(usize, i32)>,
}

impl Commit {
    /// Removes all objects and properties.
    pub(crate) fn clear(&mut self) {
        self.objects.clear();
        self.counts.clear();
        self.props.clear();
        self.values.clear();
        self.fences.clear();
    }

    /// Begins the properties of another object. Call it once per object.
    pub(crate) fn object(&mut self, id: u32) {
        self.objects.push(id);
        self.counts.push(0);
    }

    /// Sets a property of the object.
    pub(crate) fn set(&mut self, prop: ValueProp, value: u64) {
        self.push(prop.0, value);
    }

    /// Requests a fence of the object. [`Commit::take_fence`] returns fences in the order of these calls.
    pub(crate) fn ask_fence(&mut self, prop: FenceProp) {
        self.fences.push((self.values.len(), -1));
        self.push(prop.0, 0);
    }

    fn push(&mut self, prop: u32, value: u64) {
        if let Some(count) = self.counts.last_mut() {
            *count += 1;
            self.props.push(prop);
            self.values.push(value);
        }
    }

    /// Submits the commit (`DRM_IOCTL_MODE_ATOMIC`).
    pub(crate) fn submit(&mut self, fd: BorrowedFd<'_>, flags: u32, user_data: u64) -> Result<(), Errno> {
        for (at, fence) in &mut self.fences {
            *fence = -1;
            if let Some(value) = self.values.get_mut(*at) {
                *value = fence as *mut i32 as usize as u64;
            }
        }
        let mut arg = Atomic {
            flags,
            count_objs: self.objects.len() as u32,
            objs_ptr: self.objects.as_ptr() as usize as u64,
            count_props_ptr: self.counts.as_ptr() as usize as u64,
            props_ptr: self.props.as_ptr() as usize as u64,
            prop_values_ptr: self.values.as_ptr() as usize as u64,
            reserved: 0,
            user_data,
        };
        // SAFETY: the kernel reads `count_objs` numbers at the first two pointers and `props.len()` at the other two,
        // because the counts add up to that by `push`. It writes through values only if the property's value is an
        // address, which is only true for `FenceProp`: to the `i32`s in `fences`, which `self` borrows exclusively
        // and does not move before the call returns. The kernel keeps none of these addresses.
        let done = retry(|| unsafe { raw::atomic(fd.as_raw_fd(), &mut arg) });
        if done.is_err() {
            // The kernel installed no descriptors.
            self.fences.iter_mut().for_each(|(_, fence)| *fence = -1);
        }
        done.map(drop)
    }

    /// Returns the `n`-th fence of a commit that succeeded. `None` after TEST_ONLY, and the second time.
    pub(crate) fn take_fence(&mut self, n: usize) -> Option<OwnedFd> {
        let (_, fence) = self.fences.get_mut(n)?;
        let fd = std::mem::replace(fence, -1);
        // SAFETY: the commit succeeded and installed this descriptor for its caller alone. The number was taken out
        // above, so no other code closes it.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Reads whole events, as many as fit. Returns EAGAIN if there are none.
pub(crate) fn read_events(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry(|| nix::unistd::read(fd, buffer))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ioctls_have_the_uapi_s_numbers() {
        assert_eq!(nix::request_code_write!(b'd', 0x09, 8), 0x4008_6409);
        assert_eq!(nix::request_code_readwrite!(b'd', 0x2e, 12), 0xc00c_642e);
        assert_eq!(nix::request_code_readwrite!(b'd', 0xa7, 80), 0xc050_64a7);
        assert_eq!(nix::request_code_readwrite!(b'd', 0xaa, 64), 0xc040_64aa);
        assert_eq!(nix::request_code_readwrite!(b'd', 0xaf, 4), 0xc004_64af);
        assert_eq!(nix::request_code_readwrite!(b'd', 0xb0, 24), 0xc018_64b0);
        assert_eq!(nix::request_code_readwrite!(b'd', 0xb2, 32), 0xc020_64b2);
        assert_eq!(nix::request_code_readwrite!(b'd', 0xbc, 56), 0xc038_64bc);
        assert_eq!(nix::request_code_readwrite!(b'd', 0xbf, 8), 0xc008_64bf);
        assert_eq!(nix::request_code_readwrite!(b'd', 0xc1, 16), 0xc010_64c1);
        let fb2 = nix::request_code_readwrite!(b'd', 0xb8, std::mem::size_of::<super::FbCmd2>());
        assert!(fb2 == 0xc068_64b8 || cfg!(target_arch = "x86"), "{fb2:#x}");
    }
}
