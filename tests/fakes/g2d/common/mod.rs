//! The calls. Every quirk that is known of some libg2d is here and can be switched on: what this takes wrongly, or a
//! rule that its caller breaks, is counted as a violation with a text.

pub(crate) mod abi;
pub(crate) mod control;
pub(crate) mod memory;
pub(crate) mod raster;
#[path = "../../sealed.rs"]
mod sealed;

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use crate::Address;
use abi::{Buf, Pair, Surface, SurfaceEx, Warp};
use control::{count, counted_down, set, setting, violation};
use memory::Region;
use raster::{form, Caps, Command, Form, Picture};

pub(crate) const OK: c_int = 0;
pub(crate) const FAIL: c_int = -1;
pub(crate) const NOT_SUPPORTED: c_int = 1;

const GPU: i64 = 0;
const DPU: i64 = 1;
const PXP: i64 = 2;

/// `char *_G2D_VERSION`.
#[repr(transparent)]
pub struct Text(*const c_char);
// SAFETY: a pointer to constant text.
unsafe impl Sync for Text {}

/// As the real one: an empty line and a NUL before what is to be read.
static VERSION: [u8; 41] = if crate::MODERN {
    *b"\n\0$VERSION$6.4.11:1049711:0123456789ab$\n\0"
} else {
    *b"\n\0$VERSION$6.4.11:1010101:0123456789ab$\n\0"
};

#[no_mangle]
pub static _G2D_VERSION: Text = Text(VERSION.as_ptr().cast());

pub(crate) struct Handle {
    thread: std::thread::ThreadId,
    caps: [bool; 10],
    queue: Vec<Command>,
    clip: Option<[i32; 4]>,
    warp: Option<Warp>,
}

/// The handle behind a pointer, if the call is from its own thread.
pub(crate) fn handle<'a>(raw: *mut c_void) -> Option<&'a mut Handle> {
    // SAFETY: `g2d_open` made it by Box, and callers pass nothing else; the check below keeps it to one thread.
    let handle = unsafe { raw.cast::<Handle>().as_mut() }?;
    if handle.thread != std::thread::current().id() {
        violation("a call from another thread than g2d_open's".into());
        return None;
    }
    Some(handle)
}

/// Copies a struct and ruins the caller's: what the caller needs again it must have kept.
pub(crate) fn take<T: Copy>(from: *mut T) -> Option<T> {
    if from.is_null() {
        violation("a struct at NULL".into());
        return None;
    }
    // SAFETY: the caller passes a struct of this layout, alive and writable for the call.
    unsafe {
        let copy = from.read_unaligned();
        from.cast::<u8>().write_bytes(0x5a, std::mem::size_of::<T>());
        Some(copy)
    }
}

#[no_mangle]
pub extern "C" fn g2d_open(out: *mut *mut c_void) -> c_int {
    while setting("open_hangs") != 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    if setting("open_fails") != 0 || out.is_null() {
        return FAIL;
    }
    count("opens");
    let thread = std::thread::current().id();
    let handle = Box::new(Handle { thread, caps: [false; 10], queue: Vec::new(), clip: None, warp: None });
    // SAFETY: the caller passes a pointer variable.
    unsafe { *out = Box::into_raw(handle).cast() };
    OK
}

#[no_mangle]
pub extern "C" fn g2d_close(raw: *mut c_void) -> c_int {
    if handle(raw).is_none() {
        return FAIL;
    }
    count("closes");
    // SAFETY: made by Box in `g2d_open`; the caller does not use it again.
    drop(unsafe { Box::from_raw(raw.cast::<Handle>()) });
    OK
}

#[no_mangle]
pub extern "C" fn g2d_make_current(raw: *mut c_void, _: c_uint) -> c_int {
    if handle(raw).is_none() || setting("variant") == PXP {
        FAIL
    } else {
        OK
    }
}

#[no_mangle]
pub extern "C" fn g2d_enable(raw: *mut c_void, cap: c_uint) -> c_int {
    switch(raw, cap, true)
}

#[no_mangle]
pub extern "C" fn g2d_disable(raw: *mut c_void, cap: c_uint) -> c_int {
    switch(raw, cap, false)
}

fn switch(raw: *mut c_void, cap: c_uint, on: bool) -> c_int {
    let Some(handle) = handle(raw) else { return FAIL };
    let since = match cap {
        5 | 6 => 15,
        7 | 8 => 16,
        9 => 21,
        _ => 0,
    };
    if setting("no_cap") == i64::from(cap) + 1 || setting("header") < since {
        return FAIL;
    }
    // As its published library: blending and the global alpha, and no others.
    if setting("variant") == PXP {
        match cap {
            0 | 2 => {}
            9 => return NOT_SUPPORTED,
            _ => return FAIL,
        }
    }
    match handle.caps.get_mut(cap as usize) {
        Some(state) => {
            *state = on;
            OK
        }
        None => FAIL,
    }
}

#[no_mangle]
pub extern "C" fn g2d_query_cap(raw: *mut c_void, cap: c_uint, out: *mut c_int) -> c_int {
    let Some(on) = handle(raw).and_then(|h| h.caps.get(cap as usize).copied()) else { return FAIL };
    answer(out, on)
}

fn answer(out: *mut c_int, yes: bool) -> c_int {
    if out.is_null() {
        return FAIL;
    }
    // SAFETY: the caller passes an `int`.
    unsafe { *out = c_int::from(yes) };
    OK
}

#[no_mangle]
pub extern "C" fn g2d_query_hardware(raw: *mut c_void, kind: c_uint, out: *mut c_int) -> c_int {
    if handle(raw).is_none() {
        return FAIL;
    }
    let variant = setting("variant");
    match kind {
        0 => answer(out, variant == GPU),
        1 => answer(out, false),
        2..=5 if crate::MODERN => answer(out, kind == 2 && variant == DPU || kind == 4 && variant == PXP),
        _ => FAIL,
    }
}

#[no_mangle]
pub extern "C" fn g2d_query_feature(raw: *mut c_void, feature: c_uint, out: *mut c_int) -> c_int {
    if handle(raw).is_none() {
        return FAIL;
    }
    match feature {
        0..=2 => answer(out, true),
        3 => answer(out, setting("dst_yuv") != 0),
        4 => answer(out, setting("multi_source") != 0),
        5 => answer(out, true),
        6 => answer(out, setting("warp") != 0),
        _ => FAIL,
    }
}

/// Whether the hardware of this variant takes a format: `None` for one that no libg2d has.
fn takes(format: u32, target: bool) -> Option<bool> {
    let form = form(format)?;
    let wide = matches!(form, Form::Rgb565 { .. }) || matches!(form, Form::Rgb { bytes: 4, .. });
    if setting("variant") == PXP && matches!(format, 7 | 9 | 10 | 11) {
        violation(format!("format {format}, which the PXP's library takes for another"));
    }
    if format == 11 && setting("header") < 16 {
        return Some(false);
    }
    if format == 22 && setting("header") <= 12 {
        violation("YV12, whose planes libraries up to header 1.2 exchange".into());
    }
    Some(match (setting("variant"), target) {
        (GPU, false) => format != 27,
        (_, false) => true,
        (_, true) if format == 20 => setting("nv12_target") != 0,
        (DPU, true) => wide || matches!(format, 10 | 24 | 26),
        (PXP, true) => wide,
        (_, true) => wide || matches!(format, 10 | 24),
    })
}

/// Rules that the caller must know by itself; the real thing garbles the picture or reads where nothing is.
pub(crate) fn lawful(s: &Surface, what: &str) -> bool {
    let Some(form) = form(s.format) else {
        violation(format!("{what}: format {}", s.format));
        return false;
    };
    let mut broken = Vec::new();
    let mut rule = |kept: bool, text: &str| {
        if !kept {
            broken.push(text.to_owned());
        }
    };
    rule(s.rot <= 5, "rot");
    rule(s.blendfunc & !0x3f == 0 && s.blendfunc & 0xf <= 5, "blendfunc");
    rule((0..=255).contains(&s.global_alpha), "global_alpha");
    rule(s.width >= 4 && s.height >= 4 && s.height % 2 == 0, "size");
    rule(s.stride >= s.width && s.stride <= 65536, "stride");
    rule(0 <= s.left && s.left < s.right && s.right <= s.width, "left and right");
    rule(0 <= s.top && s.top < s.bottom && s.bottom <= s.height, "top and bottom");
    rule(!form.is_yuv() || s.width % 2 == 0 && s.left % 2 == 0 && s.right % 2 == 0, "even columns");
    let bytes = match form {
        Form::Rgb565 { .. } | Form::Packed { .. } => 2,
        Form::Rgb { bytes, .. } => bytes as i32,
        _ => 1,
    };
    rule(s.stride * bytes % 16 == 0, "stride of 16 bytes");
    rule(!matches!(form, Form::Planar { .. }) || s.stride % 32 == 0, "stride of 32 pixels");
    if broken.is_empty() {
        return true;
    }
    violation(format!("{what}: {} of {s:?}", broken.join(", ")));
    false
}

pub(crate) fn alignment(form: Form) -> u64 {
    if form.planes() > 1 {
        64
    } else {
        16
    }
}

/// A surface with the memory at its addresses.
fn by_address(s: &Surface, what: &str) -> Option<Picture> {
    let form = form(s.format)?;
    let mut planes = [None, None, None];
    for (to, &address) in planes.iter_mut().zip(&s.planes).take(form.planes()) {
        #[allow(clippy::unnecessary_cast)]
        let address = if crate::MODERN { address as u64 } else { u64::from(address as u32) };
        if address % alignment(form) != 0 {
            violation(format!("{what}: address {address:#x}"));
            return None;
        }
        let Some(found) = memory::find(address) else {
            violation(format!("{what}: nothing is at {address:#x}"));
            return None;
        };
        *to = Some(found);
    }
    Some(Picture { s: *s, planes, is_tiled: false })
}

/// The matrix of the one YUV cap that is on, and the others that blits look at.
fn caps(handle: &Handle) -> Caps {
    let on: Vec<u32> = (5..=8).filter(|c| handle.caps[*c as usize]).collect();
    let has_one = setting("variant") == PXP || setting("header") < 15;
    if on.len() != usize::from(!has_one) {
        violation(format!("{} of the matrices' caps are on", on.len()));
    }
    let matrix = on.first().copied().unwrap_or(5);
    set("matrix", i64::from(matrix));
    Caps { blend: handle.caps[0], global_alpha: handle.caps[2], matrix }
}

pub(crate) fn queue_blit(handle: &mut Handle, from: Picture, to: Picture) -> c_int {
    if !to.is_writable() {
        violation("a target that cannot be written".into());
        return FAIL;
    }
    if from.s.format >= 20 && from.s.global_alpha == 255 {
        // Silently, and it stays off.
        handle.caps[0] = false;
    }
    let caps = caps(handle);
    if setting("variant") == PXP && caps.blend && to.s.rot != 0 {
        violation("rotation and blending are two passes on the PXP".into());
    }
    let clip = handle.clip.take();
    if handle.caps[9] && handle.warp.take().is_some() {
        count("warps");
    }
    handle.queue.push(Command::Blit { from, to, caps, clip });
    OK
}

/// What a blit answers before it looks at its surfaces.
pub(crate) fn forced() -> Option<c_int> {
    counted_down("blit_fails_at").then(|| setting("blit_result") as c_int)
}

pub(crate) fn acceptable(s: &Surface, d: &Surface) -> Option<c_int> {
    if takes(s.format, false) != Some(true) || takes(d.format, true) != Some(true) {
        return Some(NOT_SUPPORTED);
    }
    if setting("variant") == PXP {
        if s.rot != 0 {
            violation("rotation on the source is two passes on the PXP".into());
        }
        if matches!(s.blendfunc & 0xf, 2 | 3) {
            return Some(NOT_SUPPORTED);
        }
    }
    None
}

#[no_mangle]
pub extern "C" fn g2d_blit(raw: *mut c_void, src: *mut Surface, dst: *mut Surface) -> c_int {
    let (Some(handle), Some(s), Some(d)) = (handle(raw), take(src), take(dst)) else { return FAIL };
    count("blits");
    if let Some(result) = forced() {
        return result;
    }
    if let Some(result) = acceptable(&s, &d) {
        return result;
    }
    if !lawful(&s, "source") || !lawful(&d, "target") {
        return FAIL;
    }
    let (Some(from), Some(to)) = (by_address(&s, "source"), by_address(&d, "target")) else { return FAIL };
    queue_blit(handle, from, to)
}

pub(crate) fn inode(fd: c_int) -> i64 {
    std::fs::metadata(format!("/proc/self/fd/{fd}")).map_or(0, |m| std::os::unix::fs::MetadataExt::ino(&m) as i64)
}

#[no_mangle]
pub extern "C" fn g2d_multi_blit(raw: *mut c_void, pairs: *mut *mut Pair, layers: c_int) -> c_int {
    let Some(handle) = handle(raw) else { return FAIL };
    count("multi_blits");
    if setting("multi_source") == 0 {
        return NOT_SUPPORTED;
    }
    let mut all = Vec::new();
    for i in 0..usize::try_from(layers).unwrap_or(0) {
        // SAFETY: the caller passes an array of that many pointers.
        let Some(pair) = take(unsafe { *pairs.add(i) }) else { return FAIL };
        all.push(pair);
    }
    if !(1..=8).contains(&all.len()) {
        violation(format!("{} layers", all.len()));
        return FAIL;
    }
    let rect = |s: &Surface| [s.left, s.top, s.right, s.bottom];
    for Pair { s, d } in &all {
        if rect(s) != rect(d) || d.rot != 0 || d.planes != all[0].d.planes {
            violation("the target's rectangle, rotation or planes in a multi-blit".into());
            return FAIL;
        }
        if let Some(result) = acceptable(s, d) {
            return result;
        }
        if !lawful(s, "source") || !lawful(d, "target") {
            return FAIL;
        }
        let (Some(from), Some(to)) = (by_address(s, "source"), by_address(d, "target")) else { return FAIL };
        if queue_blit(handle, from, to) != OK {
            return FAIL;
        }
    }
    OK
}

#[no_mangle]
pub extern "C" fn g2d_clear(raw: *mut c_void, area: *mut Surface) -> c_int {
    let (Some(handle), Some(s)) = (handle(raw), take(area)) else { return FAIL };
    count("clears");
    if !matches!(form(s.format), Some(Form::Rgb565 { .. } | Form::Rgb { bytes: 4, .. })) && !matches!(s.format, 24 | 26)
    {
        return NOT_SUPPORTED;
    }
    if !lawful(&s, "clear") {
        return FAIL;
    }
    let Some(area) = by_address(&s, "clear").filter(Picture::is_writable) else { return FAIL };
    handle.queue.push(Command::Clear { area, color: s.clrcolor.to_le_bytes() });
    OK
}

#[no_mangle]
pub extern "C" fn g2d_copy(raw: *mut c_void, to: *mut Buf, from: *mut Buf, bytes: c_int) -> c_int {
    let Some(handle) = handle(raw) else { return FAIL };
    count("copies");
    let (Some(to), Some(from)) = (region_of(to), region_of(from)) else { return FAIL };
    let bytes = usize::try_from(bytes).unwrap_or(0);
    if setting("variant") == PXP {
        violation("the PXP copies a part of a row by an address of the CPU, which is NULL".into());
    }
    handle.queue.push(Command::Copy { from, to, bytes });
    OK
}

fn run(handle: &mut Handle) {
    for command in handle.queue.drain(..) {
        if setting("no_raster") == 0 {
            raster::execute(&command);
        }
    }
}

#[no_mangle]
pub extern "C" fn g2d_flush(raw: *mut c_void) -> c_int {
    if handle(raw).is_some() {
        OK
    } else {
        FAIL
    }
}

#[no_mangle]
pub extern "C" fn g2d_finish(raw: *mut c_void) -> c_int {
    let Some(handle) = handle(raw) else { return FAIL };
    count("finishes");
    while setting("finish_hangs") != 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    if counted_down("lost_at_finish") {
        handle.queue.clear();
        return FAIL;
    }
    run(handle);
    OK
}

#[no_mangle]
pub extern "C" fn g2d_create_fence_fd(raw: *mut c_void) -> c_int {
    let Some(handle) = handle(raw) else { return FAIL };
    let kind = setting("fence");
    if kind == 0 {
        return FAIL;
    }
    count("fences");
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return FAIL;
    }
    let signal = move |fd: c_int| {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of our own.
        unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
    };
    run(handle);
    if kind == 1 {
        signal(fd);
        return fd;
    }
    // A descriptor of the thread's own: the caller may close its.
    // SAFETY: no memory is passed.
    let own = unsafe { libc::dup(fd) };
    std::thread::spawn(move || {
        while setting("fence_signals") == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        signal(own);
        // SAFETY: the thread's own descriptor.
        unsafe { libc::close(own) };
    });
    fd
}

#[no_mangle]
pub extern "C" fn g2d_set_warp_coordinates(raw: *mut c_void, warp: *mut Warp) -> c_int {
    let (Some(handle), Some(warp)) = (handle(raw), take(warp)) else { return FAIL };
    #[allow(clippy::unnecessary_cast)]
    let address = if crate::MODERN { warp.addr as u64 } else { u64::from(warp.addr as u32) };
    if memory::find(address).is_none() || warp.format > 2 || warp.width <= 0 || warp.height <= 0 || warp.bpp <= 0 {
        violation(format!("a warp table at {address:#x}"));
        return FAIL;
    }
    handle.warp = Some(warp);
    if setting("warp") != 0 {
        OK
    } else {
        FAIL
    }
}

#[no_mangle]
pub extern "C" fn g2d_set_clipping(raw: *mut c_void, left: c_int, top: c_int, right: c_int, bottom: c_int) -> c_int {
    let Some(handle) = handle(raw) else { return FAIL };
    handle.clip = Some([left, top, right, bottom]);
    OK
}

#[no_mangle]
pub extern "C" fn g2d_set_csc_matrix(raw: *mut c_void, _: *const c_uint) -> c_int {
    c_int::from(handle(raw).is_none())
}

/// What a `g2d_buf`'s `buf_handle` points to.
struct Kept {
    region: Arc<Region>,
    at: u64,
    file: Option<std::fs::File>,
    from_fd: bool,
}

fn kept<'a>(buf: *mut Buf) -> Option<&'a mut Kept> {
    // SAFETY: buffers of `g2d_alloc` and `g2d_buf_from_fd`, which callers do not use behind `g2d_free`.
    unsafe { buf.as_mut()?.buf_handle.cast::<Kept>().as_mut() }
}

fn region_of(buf: *mut Buf) -> Option<Arc<Region>> {
    Some(Arc::clone(&kept(buf)?.region))
}

fn new_buf(region: Arc<Region>, size: c_int, from_fd: bool) -> *mut Buf {
    let at = memory::place(&region);
    let vaddr = if from_fd { None } else { region.writable() };
    let told = if setting("sign_extend") != 0 { i64::from(at as i32) as u64 } else { at };
    let kept = Box::new(Kept { region, at, file: None, from_fd });
    let buf = Buf {
        buf_handle: Box::into_raw(kept).cast(),
        buf_vaddr: vaddr.map_or(std::ptr::null_mut(), |at| at.cast()),
        buf_paddr: told as Address,
        // The real one leaves it at 0.
        buf_size: if from_fd { 0 } else { size },
        poison: [0xee; 32],
    };
    Box::into_raw(Box::new(buf))
}

#[no_mangle]
pub extern "C" fn g2d_alloc(size: c_int, _cacheable: c_int) -> *mut Buf {
    let len = usize::try_from(size).ok().filter(|s| *s > 0 && setting("alloc_fails") == 0);
    match len.and_then(Region::allocate) {
        Some(region) => new_buf(region, size, false),
        None => std::ptr::null_mut(),
    }
}

#[no_mangle]
pub extern "C" fn g2d_free(buf: *mut Buf) -> c_int {
    if kept(buf).is_none() {
        return FAIL;
    }
    count("frees");
    // SAFETY: both were made by Box in `new_buf`; the caller does not use them again.
    unsafe {
        let buf = Box::from_raw(buf);
        if buf.poison != [0xee; 32] {
            violation("something was written behind a g2d_buf".into());
        }
        let kept = Box::from_raw(buf.buf_handle.cast::<Kept>());
        memory::remove(kept.at);
    }
    OK
}

#[no_mangle]
pub extern "C" fn g2d_buf_from_fd(fd: c_int) -> *mut Buf {
    if setting("from_fd_fails") != 0 {
        return std::ptr::null_mut();
    }
    count("imports");
    match Region::of_file(fd) {
        Some(region) => new_buf(region, 0, true),
        None => std::ptr::null_mut(),
    }
}

/// The file of a `g2d_alloc` buffer: the library's own descriptor, not a duplicate.
#[no_mangle]
pub extern "C" fn g2d_buf_export_fd(buf: *mut Buf) -> c_int {
    let Some(kept) = kept(buf) else { return FAIL };
    if kept.from_fd {
        return -libc::EINVAL;
    }
    if kept.file.is_none() {
        // A name for the memory; `exported` finds the memory by it.
        // SAFETY: a constant C string.
        let fd = unsafe { libc::memfd_create(b"fake g2d\0".as_ptr().cast(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return FAIL;
        }
        // SAFETY: just made, for this file alone.
        let file = unsafe { <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        exports().push((inode(fd), Arc::downgrade(&kept.region)));
        kept.file = Some(file);
    }
    kept.file.as_ref().map_or(FAIL, |f| f.as_raw_fd())
}

pub(crate) type Exports = Vec<(i64, std::sync::Weak<Region>)>;

pub(crate) fn exports() -> std::sync::MutexGuard<'static, Exports> {
    static ALL: std::sync::Mutex<Exports> = std::sync::Mutex::new(Vec::new());
    ALL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[no_mangle]
pub extern "C" fn g2d_cache_op(_: *mut Buf, _: c_uint) -> c_int {
    OK
}

#[no_mangle]
pub extern "C" fn g2d_buf_from_virt_addr(_: *mut c_void, _: c_int) -> *mut Buf {
    std::ptr::null_mut()
}

/// Of `enum g2d_tiling`.
const LINEAR: c_uint = 1;
const AMPHION_TILED: c_uint = 8;

#[no_mangle]
pub extern "C" fn g2d_blitEx(raw: *mut c_void, src: *mut SurfaceEx, dst: *mut SurfaceEx) -> c_int {
    let (Some(handle), Some(s), Some(d)) = (handle(raw), take(src), take(dst)) else { return FAIL };
    count("tiled_blits");
    if let Some(result) = forced() {
        return result;
    }
    if s.ts != [0; 4] || d.ts != [0; 4] || s.reserved != [0; 8] || d.reserved != [0; 8] {
        violation("a tile status or reserved fields that are set".into());
    }
    match (setting("variant"), s.tiling, d.tiling) {
        (_, LINEAR, LINEAR) => {}
        (DPU, AMPHION_TILED, LINEAR) if s.base.format == 20 => {}
        (PXP, ..) => violation("tiles, which the PXP's library reads as rows".into()),
        _ => return NOT_SUPPORTED,
    }
    if let Some(result) = acceptable(&s.base, &d.base) {
        return result;
    }
    if !lawful(&s.base, "source") || !lawful(&d.base, "target") {
        return FAIL;
    }
    let (Some(mut from), Some(to)) = (by_address(&s.base, "source"), by_address(&d.base, "target")) else {
        return FAIL;
    };
    from.is_tiled = s.tiling == AMPHION_TILED;
    queue_blit(handle, from, to)
}
