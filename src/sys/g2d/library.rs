//! Opens libg2d and finds its symbols.

use std::ffi::{c_char, c_int, c_void, CStr, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(super) type RawHandle = *mut c_void;
/// A surface or an array of pairs, in the layout that the probes detected.
type Struct = *mut c_void;

type Open = unsafe extern "C" fn(*mut RawHandle) -> c_int;
type OnHandle = unsafe extern "C" fn(RawHandle) -> c_int;
type OnStruct = unsafe extern "C" fn(RawHandle, Struct) -> c_int;
type TwoStructs = unsafe extern "C" fn(RawHandle, Struct, Struct) -> c_int;
type Number = unsafe extern "C" fn(RawHandle, u32) -> c_int;
type Query = unsafe extern "C" fn(RawHandle, u32, *mut c_int) -> c_int;
type MultiBlit = unsafe extern "C" fn(RawHandle, *mut Struct, c_int) -> c_int;
type Copy = unsafe extern "C" fn(RawHandle, Struct, Struct, c_int) -> c_int;
type Alloc = unsafe extern "C" fn(c_int, c_int) -> Struct;
type FromFd = unsafe extern "C" fn(c_int) -> Struct;
type OnBuf = unsafe extern "C" fn(Struct) -> c_int;

macro_rules! symbols {
    (core { $($core:ident = $core_name:literal: $core_type:ty,)* } optional { $($name:ident = $symbol:literal: $type:ty,)* }) => {
        /// The library's functions. The core functions are required; each of the others may be missing.
        pub(super) struct Symbols {
            $(pub(super) $core: $core_type,)*
            $(pub(super) $name: Option<$type>,)*
        }

        impl Symbols {
            fn find(library: &libloading::Library) -> Result<Self, LoadError> {
                Ok(Self {
                    $($core: find::<$core_type>(library, $core_name).ok_or(LoadError::NoSymbol($core_name))?,)*
                    $($name: find::<$type>(library, $symbol),)*
                })
            }

            fn list(&self) -> Vec<Symbol> {
                vec![
                    $(Symbol { name: $core_name, present: true },)*
                    $(Symbol { name: $symbol, present: self.$name.is_some() },)*
                ]
            }
        }
    };
}

symbols! {
    core {
        open = "g2d_open": Open,
        close = "g2d_close": OnHandle,
        blit = "g2d_blit": TwoStructs,
        finish = "g2d_finish": OnHandle,
        enable = "g2d_enable": Number,
        disable = "g2d_disable": Number,
    }
    optional {
        alloc = "g2d_alloc": Alloc,
        free = "g2d_free": OnBuf,
        clear = "g2d_clear": OnStruct,
        copy = "g2d_copy": Copy,
        flush = "g2d_flush": OnHandle,
        multi_blit = "g2d_multi_blit": MultiBlit,
        query_hardware = "g2d_query_hardware": Query,
        query_feature = "g2d_query_feature": Query,
        buf_from_fd = "g2d_buf_from_fd": FromFd,
        buf_export_fd = "g2d_buf_export_fd": OnBuf,
        create_fence_fd = "g2d_create_fence_fd": OnHandle,
        set_warp_coordinates = "g2d_set_warp_coordinates": OnStruct,
        blit_dmabuf = "g2d_blit_dmabuf": TwoStructs,
        blit_ex = "g2d_blitEx": TwoStructs,
        // Only their presence is checked, because it shows the version of the header. They are not called.
        get_warp_coordinates_from_dct_file = "g2d_get_warp_coordinates_from_dct_file": *const c_void,
        query_cap = "g2d_query_cap": *const c_void,
        cache_op = "g2d_cache_op": *const c_void,
        make_current = "g2d_make_current": *const c_void,
        set_clipping = "g2d_set_clipping": *const c_void,
        set_csc_matrix = "g2d_set_csc_matrix": *const c_void,
        buf_from_virt_addr = "g2d_buf_from_virt_addr": *const c_void,
        version = "_G2D_VERSION": *const *const c_char,
    }
}

fn find<T: std::marker::Copy>(library: &libloading::Library, name: &str) -> Option<T> {
    // SAFETY: only the address is read. A null address must not become a function.
    let address = unsafe { library.get::<*const c_void>(name.as_bytes()) }.ok().map(|symbol| *symbol)?;
    if address.is_null() {
        return None;
    }
    // SAFETY: the type is the header's for this name (the table above), of pointer size, and the address is not null.
    // The library is never closed, so the copied pointer stays valid.
    unsafe { library.get::<T>(name.as_bytes()) }.ok().map(|symbol| *symbol)
}

/// A symbol of the headers, and whether the library exports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: &'static str,
    pub(crate) present: bool,
}

/// The reason why the library cannot be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The error text of the dynamic loader.
    NotLoaded(String),
    /// The file is not libg2d: this core symbol is missing.
    NoSymbol(&'static str),
}

/// An open libg2d. It is never closed, because that would corrupt the state of drivers that it has loaded.
pub(crate) struct Library {
    pub(super) symbols: Symbols,
    path: PathBuf,
}

// The table holds function addresses and one data address. None of them belongs to a thread.
// SAFETY: memory: plain addresses in a library that is never unloaded. Contract: all calls go through `Handle`, which
// is neither Send nor Sync; the data symbol is constant text.
unsafe impl Send for Library {}
// SAFETY: as for Send; its content never changes.
unsafe impl Sync for Library {}

impl Library {
    /// Opens the library by its path, or by the name that the dynamic loader looks up. It is never closed.
    pub(crate) fn load(name: &OsStr) -> Result<&'static Self, LoadError> {
        // SAFETY: contract: the user named this file, and so requested to run its initialization functions; those of
        // libg2d may run in any process. Lifetime: the library is leaked below, so no address in it dangles.
        let library = unsafe { libloading::Library::new(name) }.map_err(|e| LoadError::NotLoaded(describe(&e)))?;
        // Leaks it before the symbols are checked: another library may have started threads, and must not be unloaded
        // either.
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        let symbols = Symbols::find(library)?;
        static OPEN: Mutex<Vec<&'static Library>> = Mutex::new(Vec::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.iter().find(|l| l.symbols.blit as usize == symbols.blit as usize) {
            return Ok(known);
        }
        let path = file_of(symbols.blit as *const c_void).unwrap_or_else(|| Path::new(name).to_owned());
        let library: &'static Self = Box::leak(Box::new(Self { symbols, path }));
        open.push(library);
        Ok(library)
    }

    /// Returns the path of the file, with symbolic links resolved.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the headers' symbols and whether the library exports them.
    pub(crate) fn symbols(&self) -> Vec<Symbol> {
        self.symbols.list()
    }

    /// Returns the text that `_G2D_VERSION` points to, a `char *` in the GPU's library. At most 255 bytes.
    pub(crate) fn version_text(&self) -> Option<String> {
        const MOST: usize = 255;
        let variable = self.symbols.version.filter(|p| !p.is_null())?;
        // SAFETY: memory: by the library's convention, the symbol is the address of a `char *` variable, aligned by
        // the linker. Lifetime: the library is never unloaded.
        let text = unsafe { variable.read_unaligned() };
        if text.is_null() {
            return None;
        }
        let mut bytes = Vec::new();
        for i in 0..MOST {
            // SAFETY: a C string by the same convention, read up to its NUL. The text of the GPU's library begins
            // with an empty line and a NUL, and continues after that. There, the bytes are read as long as they are
            // "$VERSION$", then up to the next NUL.
            let byte = unsafe { text.cast::<u8>().add(i).read() };
            let marker = i.checked_sub(2).and_then(|i| b"$VERSION$".get(i));
            match byte {
                0 if i == 1 && bytes == b"\n" => continue,
                0 => break,
                _ if bytes.first() == Some(&b'\n') && bytes.len() == i - 1 && marker.is_some_and(|m| *m != byte) => {
                    break
                }
                _ => bytes.push(byte),
            }
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns whether two libraries are the same file.
    pub(crate) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Library").field(&self.path).finish()
    }
}

/// Returns the text of the loader, which libloading's `Display` leaves out.
fn describe(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { desc } => {
            let text = format!("{desc:?}");
            text.trim_matches('"').to_owned()
        }
        other => other.to_string(),
    }
}

/// Returns the file that a loaded address belongs to, with symbolic links resolved.
fn file_of(address: *const c_void) -> Option<PathBuf> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is a live `Dl_info` that dladdr fills; the address is only compared.
    let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) };
    // SAFETY: all-zero is a valid `Dl_info` (pointers), and dladdr only writes valid ones.
    let info = unsafe { info.assume_init() };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a C string that the dynamic loader keeps as long as the library is loaded, which is forever.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    Some(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
}
