//! What a guest's encoders wrote, decoded by ffmpeg on this machine: it must be what went in.
//!
//! A kernel test that encodes leaves a pair in `/out/streams`: `NAME.h264` or `.mkv`, which ffmpeg knows by its name, and
//! `NAME.nv12`, the frames. Each pair is one more test of the run.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::exec::{ensure, Need};
use crate::Res;

const STREAMS: &str = "streams";

/// Verdicts of one run.
#[derive(Debug, Default)]
pub struct Compared {
    pub same: usize,
    pub different: usize,
}

/// Forgets what an earlier run left.
pub fn clear(out: &Path) {
    // It may not be there.
    let _ = fs::remove_dir_all(out.join(STREAMS));
}

/// Compares every pair of a run, and says how it went in the words of a test harness.
pub fn compare(out: &Path) -> Res<Compared> {
    let mut compared = Compared::default();
    let mut streams: Vec<PathBuf> = match fs::read_dir(out.join(STREAMS)) {
        Ok(entries) => entries.flatten().map(|e| e.path()).filter(|p| !is_raw(p)).collect(),
        Err(_) => return Ok(compared),
    };
    streams.sort();
    if streams.is_empty() {
        return Ok(compared);
    }
    ensure(&[Need("ffmpeg", "ffmpeg")])?;
    for stream in streams {
        let name = stream.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match same(&stream) {
            Ok(frames) => {
                println!("ffmpeg decodes {name} to the {frames} bytes that went in ... ok");
                compared.same += 1;
            }
            Err(why) => {
                println!("ffmpeg decodes {name} to what went in ... FAILED: {why}");
                compared.different += 1;
            }
        }
    }
    Ok(compared)
}

fn is_raw(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "nv12")
}

/// Bytes compared.
fn same(stream: &Path) -> Res<u64> {
    let raw = stream.with_extension("nv12");
    let expected = File::open(&raw).map_err(|e| format!("{}: {e}", raw.display()))?;
    let mut child = Command::new("ffmpeg")
        // Timestamps are not judged here, and a camera's jitter would only be complained about.
        .args(["-v", "error", "-r", "30", "-i"])
        .arg(stream)
        .args(["-fps_mode", "passthrough", "-pix_fmt", "nv12", "-f", "rawvideo", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("ffmpeg: {e}"))?;
    let decoded = child.stdout.take().ok_or("ffmpeg has no standard output")?;
    let compared = equal(&mut BufReader::new(expected), &mut BufReader::new(decoded));
    let output = child.wait_with_output().map_err(|e| format!("ffmpeg: {e}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    match compared {
        Ok(bytes) if output.status.success() && words.trim().is_empty() && bytes > 0 => Ok(bytes),
        Ok(0) => Err(format!("nothing to compare; ffmpeg says: {}", words.trim())),
        Ok(_) => Err(format!("ffmpeg ends with {} and says: {}", output.status, words.trim())),
        Err(why) => Err(format!("{why}; ffmpeg says: {}", words.trim())),
    }
}

/// The number of bytes, if both are the same to their ends.
fn equal(expected: &mut impl Read, got: &mut impl Read) -> Res<u64> {
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0u64;
    loop {
        let n = fill(expected, &mut a).map_err(|e| e.to_string())?;
        let m = fill(got, &mut b).map_err(|e| e.to_string())?;
        if let Some(i) = a[..n].iter().zip(&b[..m]).position(|(x, y)| x != y) {
            return Err(format!("byte {} differs", at + i as u64));
        }
        if n != m {
            return Err(format!("{} bytes went in, {} came out, or more", at + n as u64, at + m as u64));
        }
        if n == 0 {
            return Ok(at);
        }
        at += n as u64;
    }
}

fn fill(from: &mut impl Read, to: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < to.len() {
        match from.read(&mut to[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        let long = vec![7u8; 200_000];
        let with = |at: usize| {
            let mut other = long.clone();
            other[at] = 8;
            other
        };
        assert_eq!(equal(&mut &long[..], &mut &long[..]), Ok(200_000));
        for at in [0, 65_535, 65_536, 199_999] {
            assert_eq!(equal(&mut &long[..], &mut &with(at)[..]), Err(format!("byte {at} differs")));
        }
        assert!(equal(&mut &long[..], &mut &long[..199_999]).is_err());
        assert!(equal(&mut &long[..65_536], &mut &long[..]).is_err());
    }
}
