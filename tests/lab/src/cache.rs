//! Everything fetched or built once: `${FRAMELEASE_LAB_CACHE:-${XDG_CACHE_HOME:-~/.cache}/framelease/lab}`.
//!
//! A result is a folder whose name ends in a hash of all its inputs. It is built under another
//! name and renamed when complete, so an interrupted lab never leaves half a result that looks
//! whole, and a changed input never meets an old result.

use std::env;
use std::fs::{self, File};
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use crate::say;
use crate::Res;

/// 14 days.
const KEEP_UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);

pub struct Cache {
    root: PathBuf,
    /// Held while results are made; other labs wait. The system releases it if we die.
    _lock: Flock<File>,
}

impl Cache {
    pub fn open() -> Res<Cache> {
        let root = location()?;
        fs::create_dir_all(&root).map_err(|e| format!("cannot create the cache folder {}: {e}", root.display()))?;
        let lock = File::create(root.join("lock"))
            .map_err(|e| format!("cannot write to the cache folder {}: {e}", root.display()))?;
        // Not `File::lock`, which is newer than Debian 13's Rust.
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((lock, _)) => {
                say!("waiting for another lab that is filling the cache");
                Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| format!("cannot lock the cache: {e}"))?
            }
        };
        Ok(Cache { root, _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn place(&self, name: &str, key: &str) -> PathBuf {
        self.root.join(format!("{name}-{}", hash(key.as_bytes())))
    }

    pub fn has(&self, name: &str, key: &str) -> bool {
        self.place(name, key).is_dir()
    }

    /// The folder made by `make` from the inputs named in `key`, made now if it is not there.
    pub fn step(&self, name: &str, key: &str, make: impl FnOnce(&Path) -> Res<()>) -> Res<PathBuf> {
        let done = self.place(name, key);
        if done.is_dir() {
            // Shows `prune` that it is in use.
            let _ = File::open(&done).and_then(|f| f.set_modified(SystemTime::now()));
            return Ok(done);
        }
        let building = self.root.join(format!("{name}.building"));
        remove_dir(&building)?;
        fs::create_dir_all(&building).map_err(|e| format!("{}: {e}", building.display()))?;
        make(&building)?;
        fs::rename(&building, &done).map_err(|e| format!("{}: {e}", done.display()))?;
        self.prune(name, &done);
        Ok(done)
    }

    /// Removes other results of the same step that were not used for long. Not at once: another
    /// working copy, or a guest that runs now, may use them.
    fn prune(&self, name: &str, keep: &Path) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let path = entry.path();
            let file = entry.file_name().to_string_lossy().into_owned();
            let sibling = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
            let is_result = sibling.is_some_and(|h| h.len() == 16 && !h.contains('-'));
            let used = entry.metadata().and_then(|m| m.modified()).ok();
            let old = used.and_then(|t| t.elapsed().ok()).is_some_and(|age| age > KEEP_UNUSED);
            if is_result && old && path != keep {
                let _ = fs::remove_dir_all(path);
            }
        }
    }

    /// A short text to remember.
    pub fn note(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root.join(name)).ok()
    }

    pub fn set_note(&self, name: &str, text: &str) -> Res<()> {
        let path = self.root.join(name);
        let building = self.root.join(format!("{name}.building"));
        fs::write(&building, text)
            .and_then(|()| fs::rename(&building, &path))
            .map_err(|e| format!("{}: {e}", path.display()))
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
