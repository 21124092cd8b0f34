//! What a guest's encoders wrote, decoded by ffmpeg on this machine: it must be what went in.
//!
//! A kernel test that encodes leaves a pair in `/out/streams`: `NAME.h264` or `.mkv`, which ffmpeg knows by its name,
//! and `NAME.nv12`, the frames. Each pair is one more test of the run. `NAME.parts` is for streams of one source that
//! begin and end anywhere. Its first line names a file that has all of the frames. Each other line names a file whose
//! frames must be among those, in order, how many there are at least, and format and size of raw pixels: see [`Part`].

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::exec::on_path;
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
    let mut files: Vec<PathBuf> = match fs::read_dir(out.join(STREAMS)) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(_) => return Ok(compared),
    };
    files.sort();
    if files.is_empty() {
        return Ok(compared);
    }
    if on_path("ffmpeg").is_none() {
        return Err("no ffmpeg here".into());
    }
    let mut count = |name: &str, verdict: Res<String>| match verdict {
        Ok(what) => {
            println!("ffmpeg decodes {name} to {what} ... ok");
            compared.same += 1;
        }
        Err(why) => {
            println!("ffmpeg decodes {name} to what went in ... FAILED: {why}");
            compared.different += 1;
        }
    };
    for stream in files.iter().filter(|file| !is(file, "nv12") && is_pair(file)) {
        let name = stream.file_name().unwrap_or_default().to_string_lossy();
        count(&name, same(stream).map(|bytes| format!("the {bytes} bytes that went in")));
    }
    for list in files.iter().filter(|file| is(file, "parts")) {
        match parts(list) {
            Ok(all) => all.into_iter().for_each(|(name, verdict)| count(&name, verdict)),
            Err(why) => count(&list.display().to_string(), Err(why)),
        }
    }
    Ok(compared)
}

/// A stream and its frames; one without them fails there, unless a list speaks of it.
fn is_pair(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let is_of_list = |list: PathBuf| {
        let text = fs::read_to_string(&list).unwrap_or_default();
        is(&list, "parts") && text.lines().any(|l| l.split(' ').next() == Some(&*name))
    };
    let folder = file.parent().map(fs::read_dir);
    let mut others = folder.into_iter().flatten().flatten().flatten().map(|e| e.path());
    !is(file, "parts") && !others.any(is_of_list)
}

fn is(file: &Path, kind: &str) -> bool {
    file.extension().is_some_and(|e| e == kind)
}

/// A line of a list.
struct Part<'a> {
    name: &'a str,
    least: usize,
    /// Format and size of a file of pixels.
    raw: Option<(&'a str, &'a str)>,
}

impl<'a> Part<'a> {
    fn of(line: &'a str) -> Res<Self> {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or("");
        let least = words.next().and_then(|n| n.parse().ok()).ok_or_else(|| format!("'{line}' has no count"))?;
        Ok(Self { name, least, raw: words.next().zip(words.next()) })
    }
}

/// Name and verdict of each part of a list.
fn parts(list: &Path) -> Res<Vec<(String, Res<String>)>> {
    let text = fs::read_to_string(list).map_err(|e| format!("{}: {e}", list.display()))?;
    let mut lines = text.lines();
    let whole = list.with_file_name(lines.next().unwrap_or(""));
    let whole = hashes(&whole, None)?;
    let mut verdicts = Vec::new();
    for line in lines {
        let part = Part::of(line)?;
        let verdict = hashes(&list.with_file_name(part.name), part.raw).and_then(|of| {
            let count = of.len();
            match in_order(&of, &whole) {
                Ok(()) if count >= part.least => Ok(format!("{count} of the {} frames that went in", whole.len())),
                Ok(()) => Err(format!("{count} frames, {} at least", part.least)),
                Err(at) => Err(format!("frame {at} of {count} is not among the {} that went in", whole.len())),
            }
        });
        verdicts.push((part.name.to_owned(), verdict));
    }
    Ok(verdicts)
}

/// The number of the first frame that is not among the others, after the one before it.
fn in_order(part: &[String], whole: &[String]) -> Result<(), usize> {
    let mut rest = whole.iter();
    match part.iter().position(|frame| !rest.any(|other| other == frame)) {
        Some(at) => Err(at),
        None => Ok(()),
    }
}

/// Returns a hash of each frame.
pub fn hashes(file: &Path, raw: Option<(&str, &str)>) -> Res<Vec<String>> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-r", "30"]);
    if let Some((format, size)) = raw {
        ffmpeg.args(["-f", "rawvideo", "-pix_fmt", format, "-video_size", size]);
    }
    let output = ffmpeg
        .arg("-i")
        .arg(file)
        .args(["-fps_mode", "passthrough", "-pix_fmt", "nv12", "-f", "framemd5", "-"])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("ffmpeg: {e}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !words.trim().is_empty() {
        return Err(format!("{}: ffmpeg ends with {} and says: {}", file.display(), output.status, words.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let frames = text.lines().filter(|l| !l.starts_with('#'));
    Ok(frames.filter_map(|l| l.rsplit(", ").next()).map(str::to_owned).collect())
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
    fn difference_is_found_wherever_it_is() {
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

    #[test]
    fn parts_are_in_order() {
        let of = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let whole = of("abcdef");
        assert_eq!(in_order(&of("bdf"), &whole), Ok(()));
        assert_eq!(in_order(&of("abcdef"), &whole), Ok(()));
        assert_eq!(in_order(&of("bda"), &whole), Err(2));
        assert_eq!(in_order(&of("bb"), &whole), Err(1));
        assert!(Part::of("a.raw 3 nv12 4x4").is_ok_and(|p| p.least == 3 && p.raw == Some(("nv12", "4x4"))));
        assert!(Part::of("a.h264 many").is_err());
    }
}
