//! Any bytes as files that a crash has left: they are finished, refused, or left as they are.

#![no_main]

use std::path::PathBuf;

use framelease::sink::{matroska, mp4, Repaired};
use framelease::Result;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let path = PathBuf::from(format!("/dev/shm/framelease-fuzz-{}", std::process::id()));
    for repair in [(|path| matroska::repair(path)) as fn(&PathBuf) -> Result<Option<Repaired>>, |path| mp4::repair(path)] {
        std::fs::write(&path, input).expect("memory");
        match repair(&path) {
            Ok(Some(repaired)) => {
                let after = std::fs::read(&path).expect("the file");
                assert_eq!(after.len() as u64, repaired.bytes);
                // It is finished now.
                assert_eq!(repair(&path).expect("a finished file"), None);
                assert!(std::fs::read(&path).expect("the file") == after);
            }
            Ok(None) | Err(_) => assert!(std::fs::read(&path).expect("the file") == input),
        }
    }
    let _ = std::fs::remove_file(&path);
});
