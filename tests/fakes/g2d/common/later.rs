//! What legacy libraries do not export.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use crate::common::abi::{Buf, SurfaceDmabuf, Warp};
use crate::common::control::{count, setting, violation};
use crate::common::memory::Region;
use crate::common::raster::{form, Picture};
use crate::common::{
    acceptable, alignment, exports, forced, handle, inode, lawful, queue_blit, take, FAIL, NOT_SUPPORTED,
};

#[no_mangle]
pub extern "C" fn g2d_blit_dmabuf(raw: *mut c_void, src: *mut SurfaceDmabuf, dst: *mut SurfaceDmabuf) -> c_int {
    let (Some(handle), Some(s), Some(d)) = (handle(raw), take(src), take(dst)) else { return FAIL };
    count("dmabuf_blits");
    if setting("blit_dmabuf") != 0 {
        return setting("blit_dmabuf") as c_int;
    }
    if let Some(result) = forced() {
        return result;
    }
    if let Some(result) = acceptable(&s.base, &d.base) {
        return result;
    }
    if !lawful(&s.base, "source") || !lawful(&d.base, "target") {
        return FAIL;
    }
    let refused = setting("refuse_inode");
    if refused != 0 && s.plane_fd.iter().chain(&d.plane_fd).any(|fd| inode(*fd) == refused) {
        return FAIL;
    }
    let (Some(from), Some(to)) = (by_files(&s, "source"), by_files(&d, "target")) else { return FAIL };
    queue_blit(handle, from, to)
}

fn by_files(d: &SurfaceDmabuf, what: &str) -> Option<Picture> {
    let form = form(d.base.format)?;
    let mut planes = [None, None, None];
    for (i, to) in planes.iter_mut().enumerate().take(form.planes()) {
        if u64::from(d.plane_offset[i]) % alignment(form) != 0 {
            violation(format!("{what}: offset {}", d.plane_offset[i]));
            return None;
        }
        // To be measured is what is around the calls, not how this one finds memory that it will not draw in.
        if setting("no_raster") != 0 {
            continue;
        }
        let region = match exported(d.plane_fd[i]) {
            Some(own) => own,
            None => Region::of_file(d.plane_fd[i])?,
        };
        *to = Some((region, d.plane_offset[i] as usize));
    }
    Some(Picture { s: d.base, planes, is_tiled: false })
}

/// The memory behind a descriptor of `g2d_buf_export_fd`.
fn exported(fd: c_int) -> Option<Arc<Region>> {
    let mut all = exports();
    all.retain(|(_, region)| region.strong_count() > 0);
    if all.is_empty() {
        return None;
    }
    let wanted = inode(fd);
    all.iter().find(|(i, _)| *i == wanted).and_then(|(_, region)| region.upgrade())
}

#[no_mangle]
pub extern "C" fn g2d_get_warp_coordinates_from_dct_file(
    raw: *mut c_void,
    _: *const c_char,
    _: *mut Buf,
    _: *mut Warp,
) -> c_int {
    if handle(raw).is_some() {
        NOT_SUPPORTED
    } else {
        FAIL
    }
}
