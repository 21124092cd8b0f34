//! Are all frames in every output? The streams of a cell's first turn, decoded on this machine: the encoder has no
//! loss and each of vivid's pictures has its number in it, so that a frame is known by a hash of its pixels.

use std::path::Path;
use std::process::Command;

use crate::exec::output;
use crate::ffmpeg_check::hashes;
use crate::Res;

use super::figures::Output;

/// Of all outputs of a cell together, in the measured time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Decoded frames.
    pub frames: u64,
    /// Pictures that came twice: videorate puts them where a frame is missing.
    pub repeated: u64,
    /// Frames of one output that another does not have between the same neighbors.
    pub missing: u64,
    /// Different pictures of each receiver.
    pub pictures: Vec<usize>,
}

/// Looks at the recording and at what each receiver got.
pub fn check(folder: &Path, frames: usize, fps: u32, outputs: &[Output]) -> Res<Checked> {
    let path = folder.join("rec.mkv");
    let recording = hashes(&path, None)?;
    let mut received = Vec::new();
    for (index, output) in outputs.iter().enumerate() {
        let path = folder.join(format!("rtp-{}.h264", 5002 + 2 * index));
        let all = hashes(&path, None)?;
        let window = all.get(output.first..output.first + output.frames);
        received.push(window.ok_or_else(|| format!("{}: {} frames decoded", path.display(), all.len()))?.to_vec());
    }
    let mut checked = compare(&recording, frames, &received);
    if outputs.is_empty() {
        // No receiver's timestamps say what was lost before the outputs.
        checked.missing = gaps(last(&times(&path)?, frames), fps);
    }
    Ok(checked)
}

/// Seconds of each packet.
fn times(recording: &Path) -> Res<Vec<f64>> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "csv=p=0"]);
    Ok(output(ffprobe.arg(recording))?.lines().filter_map(|l| l.trim_end_matches(',').parse().ok()).collect())
}

/// Frames that times at this rate lack.
fn gaps(times: &[f64], fps: u32) -> u64 {
    times.windows(2).map(|w| ((w[1] - w[0]) * f64::from(fps)).round() as u64).map(|n| n.saturating_sub(1)).sum()
}

/// The last of a recording but for those from the time when processes end.
fn last<T>(all: &[T], count: usize) -> &[T] {
    let end = all.len().saturating_sub(2);
    &all[end.saturating_sub(count)..end]
}

fn compare(recording: &[String], frames: usize, received: &[Vec<String>]) -> Checked {
    // A receiver's frames say which of the recording are of the same time.
    let recorded = received.first().map_or(last(recording, frames), |window| span(recording, window));
    let mut checked = Checked { pictures: received.iter().map(|w| different(w)).collect(), ..Checked::default() };
    for window in received.iter().map(Vec::as_slice).chain([recorded]) {
        checked.frames += window.len() as u64;
        checked.repeated += (window.len() - different(window)) as u64;
    }
    if let Some(first) = received.first() {
        let others = received[1..].iter().map(Vec::as_slice).chain([recorded]);
        checked.missing = others.map(|other| missing(first, other)).sum();
    }
    checked
}

/// The frames of a recording from the first to the last that is among these.
fn span<'a>(recording: &'a [String], frames: &[String]) -> &'a [String] {
    let from = recording.iter().position(|hash| frames.contains(hash));
    let to = recording.iter().rposition(|hash| frames.contains(hash));
    from.zip(to).map_or(&[], |(from, to)| &recording[from..=to])
}

fn different(frames: &[String]) -> usize {
    let mut sorted: Vec<&String> = frames.iter().collect();
    sorted.sort();
    sorted.dedup();
    sorted.len()
}

/// Frames that one of two has and the other has not, between the first and the last that both have.
fn missing(a: &[String], b: &[String]) -> u64 {
    let inner = |of: &[String], other: &[String]| -> Option<u64> {
        let from = of.iter().position(|hash| other.contains(hash))?;
        let to = of.iter().rposition(|hash| other.contains(hash))?;
        Some(of[from..=to].iter().filter(|hash| !other.contains(hash)).count() as u64)
    };
    match (inner(a, b), inner(b, a)) {
        (Some(x), Some(y)) => x + y,
        // No frame in common.
        _ => a.len().max(b.len()) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn outputs_with_the_same_frames_lose_none() {
        let checked = compare(&of("abcdefghij"), 4, &[of("cdef"), of("defg")]);
        assert_eq!((checked.frames, checked.repeated, checked.missing), (12, 0, 0));
        assert_eq!(checked.pictures, [4, 4]);
    }

    #[test]
    fn repeated_and_missing_frames_are_counted() {
        let checked = compare(&of("abcefghij"), 4, &[of("bcdeef"), of("bcdef")]);
        // One repeated e, and no d in the recording.
        assert_eq!((checked.repeated, checked.missing), (1, 1));
        assert_eq!(missing(&of("abc"), &of("xyz")), 3);
    }

    #[test]
    fn recording_alone_is_looked_at_before_its_end() {
        assert_eq!(compare(&of("aabcddxx"), 4, &[]), Checked { frames: 4, repeated: 1, ..Checked::default() });
        assert_eq!(compare(&[], 4, &[]), Checked::default());
        assert_eq!(gaps(&[0.0, 0.101, 0.4, 0.5], 10), 2);
    }
}
