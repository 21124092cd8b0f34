//! Any bytes as a file of frames and as a recording: they are played or refused.

#![no_main]

use std::path::PathBuf;

use framelease::replay::{FrameReplay, PacketReplay};
use framelease::{Received, Station};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let path = PathBuf::from(format!("/dev/shm/framelease-fuzz-replay-{}", std::process::id()));
    std::fs::write(&path, input).expect("memory");
    if let Ok(replay) = FrameReplay::builder(&path).buffers(2).open() {
        play(replay);
    }
    if let Ok(replay) = FrameReplay::builder(&path).buffers(1).looped(true).open() {
        play(replay);
    }
    for is_looped in [false, true] {
        if let Ok(replay) = PacketReplay::open(&path) {
            play(replay.looped(is_looped));
        }
    }
    let _ = std::fs::remove_file(&path);
});

/// Takes what is due.
fn play(mut replay: impl Station) {
    let mut nothings = 0;
    for _ in 0..100 {
        match replay.try_recv() {
            Ok(Received::Nothing) if nothings < 3 => nothings += 1,
            Ok(Received::Nothing | Received::Ended) => break,
            Ok(Received::Item(_)) | Err(_) => {}
        }
    }
}
