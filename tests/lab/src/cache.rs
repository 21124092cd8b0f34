//! Everything fetched or built once: `${FRAMELEASE_LAB_CACHE:-${XDG_CACHE_HOME:-~/.cache}/framelease/lab}`.
//!
//! A result is a folder whose name ends in a hash of all its inputs. It is built under another
//! name and renamed when complete, so an interrupted lab never leaves half a result that looks
//! whole, and a changed input never meets an old result.

use std::env;
use std::fs::{self, File};
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use crate::say;
use crate::Res;

pub struct Cache {
    root: PathBuf,
    /// Held while results are made; other labs wait. The system releases it if we die.
    _lock: File,
}

impl Cache {
    pub fn open() -> Res<Cache> {
        let root = location()?;
        fs::create_dir_all(&root).map_err(|e| format!("cannot create the cache folder {}: {e}", root.display()))?;
        let lock = File::create(root.join("lock"))
            .map_err(|e| format!("cannot write to the cache folder {}: {e}", root.display()))?;
        if lock.try_lock().is_err() {
            say!("waiting for another lab that is filling the cache");
            lock.lock().map_err(|e| format!("cannot lock the cache: {e}"))?;
        }
        Ok(Cache { root, _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder made by `make` from the inputs named in `key`, made now if it is not there.
    pub fn step(&self, name: &str, key: &str, make: impl FnOnce(&Path) -> Res<()>) -> Res<PathBuf> {
        let done = self.root.join(format!("{name}-{}", hash(key.as_bytes())));
        if done.is_dir() {
            return Ok(done);
        }
        let building = self.root.join(format!("{name}.building"));
        remove_dir(&building)?;
        fs::create_dir_all(&building).map_err(|e| format!("{}: {e}", building.display()))?;
        make(&building)?;
        fs::rename(&building, &done).map_err(|e| format!("{}: {e}", done.display()))?;
        Ok(done)
    }

    /// A short text found out once, such as a version.
    pub fn note(&self, name: &str, find: impl FnOnce() -> Res<String>) -> Res<String> {
        let path = self.root.join(name);
        if let Ok(text) = fs::read_to_string(&path) {
            return Ok(text);
        }
        let text = find()?;
        let building = self.root.join(format!("{name}.building"));
        fs::write(&building, &text)
            .and_then(|()| fs::rename(&building, &path))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(text)
    }
}

pub fn location() -> Res<PathBuf> {
    let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = match set("FRAMELEASE_LAB_CACHE") {
        Some(own) => own,
        None => set("XDG_CACHE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".cache")))
            .ok_or("neither FRAMELEASE_LAB_CACHE nor HOME is set: where should the cache be?")?
            .join("framelease/lab"),
    };
    std::path::absolute(&base).map_err(|e| format!("{}: {e}", base.display()))
}

pub fn remove_dir(path: &Path) -> Res<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("cannot remove {}: {e}", path.display())),
        _ => Ok(()),
    }
}

/// FNV-1a: stable from one Rust release to the next, unlike the standard hasher.
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub fn hash(bytes: &[u8]) -> String {
    let mut hasher = Fnv::default();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv1a() {
        assert_eq!(hash(b""), "cbf29ce484222325");
        assert_eq!(hash(b"a"), "af63dc4c8601ec8c");
    }
}
