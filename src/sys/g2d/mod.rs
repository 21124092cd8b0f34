//! libg2d: the structs of its headers in both layouts, its symbols, and its calls. The crate does not link the
//! library.
//!
//! Numbers and field orders were taken from `g2d.h` and `g2dExt.h` 1.2 to 2.5.

mod abi;
mod handle;
mod library;

pub(crate) use handle::{Buffer, Handle, Warp, MAX_PAIRS};
pub(crate) use library::{Library, LoadError};

/// Names the calling thread as `top -H` shows it, cut to 15 bytes.
pub(crate) fn name_thread(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|b| *b != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(bytes) {
        // SAFETY: a live C string of at most 16 bytes including its NUL; the kernel reads at most that.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

/// The layout of the library's structs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Abi {
    /// Physical addresses have 32 bits: headers up to 2.2.
    Legacy,
    /// Physical addresses are `unsigned long`: headers from 2.3 on.
    Modern,
}

/// The result of a call. Only 0 is success; 1 is `G2D_STATUS_NOT_SUPPORTED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    /// -1, and every number that the headers do not define.
    Failed(i32),
    NotSupported,
    /// The library does not export the symbol.
    Missing,
}

impl Status {
    fn of(code: i32) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::NotSupported,
            other => Self::Failed(other),
        }
    }

    pub(crate) fn is_ok(self) -> bool {
        self == Self::Ok
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ok => f.write_str("0 (ok)"),
            Self::Failed(code) => write!(f, "{code} (failed)"),
            Self::NotSupported => f.write_str("1 (not supported)"),
            Self::Missing => f.write_str("no such symbol"),
        }
    }
}

/// A surface independent of the layout. Each call creates a `struct g2d_surface` from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surface {
    /// `enum g2d_format`.
    pub(crate) format: u32,
    /// The addresses of the planes, or their offsets in the files for [`Handle::blit_dmabuf`].
    pub(crate) planes: [u64; 3],
    pub(crate) left: i32,
    pub(crate) top: i32,
    pub(crate) right: i32,
    pub(crate) bottom: i32,
    /// The stride in pixels.
    pub(crate) stride: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
    /// `enum g2d_blend_func`.
    pub(crate) blend: u32,
    /// The global alpha, from 0 to 255.
    pub(crate) alpha: u8,
    /// The color to clear with: R, G, B, A.
    pub(crate) clear: [u8; 4],
    /// `enum g2d_rotation`.
    pub(crate) rotation: u32,
    pub(crate) tiling: Tiling,
}

/// `enum g2d_tiling`, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Tiling {
    #[default]
    Linear = 1,
    Amphion = 8,
}

/// `enum g2d_blend_func`.
pub(crate) mod blend {
    pub(crate) const ZERO: u32 = 0;
    pub(crate) const ONE: u32 = 1;
    pub(crate) const ONE_MINUS_SRC_ALPHA: u32 = 3;
    /// Added to a blend factor: the hardware first multiplies color by alpha. For input with straight alpha.
    pub(crate) const PRE_MULTIPLY: u32 = 0x10;
}

/// `enum g2d_cap_mode`.
pub(crate) mod cap {
    pub(crate) const BLEND: u32 = 0;
    pub(crate) const DITHER: u32 = 1;
    pub(crate) const GLOBAL_ALPHA: u32 = 2;
    pub(crate) const BT_601: u32 = 5;
    pub(crate) const BT_709: u32 = 6;
    pub(crate) const BT_601_FULL: u32 = 7;
    pub(crate) const BT_709_FULL: u32 = 8;
    pub(crate) const WARPING: u32 = 9;
    pub(crate) const NAMES: [&str; 10] = [
        "BLEND",
        "DITHER",
        "GLOBAL_ALPHA",
        "BLEND_DIM",
        "BLUR",
        "YUV_BT_601",
        "YUV_BT_709",
        "YUV_BT_601FR",
        "YUV_BT_709FR",
        "WARPING",
    ];
}

/// `enum g2d_feature`.
pub(crate) mod feature {
    pub(crate) const NAMES: [&str; 7] =
        ["SCALING", "ROTATION", "SRC_YUV", "DST_YUV", "MULTI_SOURCE_BLT", "FAST_CLEAR", "WARP_DEWARP"];
}

/// `enum g2d_hardware_type`, from header 2.4 on. Earlier headers have only 2D and VG.
pub(crate) mod hardware {
    pub(crate) const NAMES: [&str; 6] = ["2D", "VG", "DPU_V1", "DPU_V2", "PXP_V1", "PXP_V2"];
}

/// `enum g2d_rotation`: clockwise quarter turns, then the two flips.
pub(crate) mod rotation {
    pub(crate) const FLIP_H: u32 = 4;
    pub(crate) const FLIP_V: u32 = 5;
}
