//! Unusual streams through every sink, compared with their source frame by frame.

mod change;
mod depacketize;
mod list;
mod made;
mod paff;
mod recipe;
mod sinks;

use std::fs;
use std::time::Instant;

use framelease::bitstream::Codec;

use crate::decode;
use crate::Res;
use made::Made;
use recipe::Recipe;
use sinks::{Out, Sink, Stream, SINKS};

/// Names and codecs of the streams whose names contain one of `filters`; without filters, of all.
pub fn list(filters: &[String]) {
    for recipe in chosen(filters) {
        println!("{:6} {}", recipe.codec.to_string(), recipe.name);
    }
}

fn chosen(filters: &[String]) -> Vec<Recipe> {
    let mut all = list::all();
    all.retain(|recipe| filters.is_empty() || filters.iter().any(|filter| recipe.name.contains(filter.as_str())));
    all
}

/// Prints the table. Returns how many cells were not as expected.
pub fn run(filters: &[String]) -> Res<usize> {
    let recipes = chosen(filters);
    if recipes.is_empty() {
        return Err(format!("no stream's name contains {}; --list has them", filters.join(" or ")));
    }
    let names: Vec<&str> = SINKS.iter().map(|sink| sink.name).collect();
    println!("| stream | frames | {} |", names.join(" | "));
    println!("|---|---{}|", "|---".repeat(names.len()));
    let (begun, mut wrong, mut reasons) = (Instant::now(), Vec::new(), Vec::new());
    for recipe in &recipes {
        let row = row(recipe);
        println!("| {} | {} | {} |", recipe.name, row.frames, row.cells.join(" | "));
        wrong.extend(row.wrong);
        reasons.extend(recipe.reasons());
    }
    if !reasons.is_empty() {
        println!("\nExpected:\n");
        reasons.iter().for_each(|line| println!("- {line}"));
    }
    println!();
    wrong.iter().for_each(|line| println!("NOT AS EXPECTED: {line}"));
    println!("{} streams in {} s, {} not as expected", recipes.len(), begun.elapsed().as_secs(), wrong.len());
    Ok(wrong.len())
}

/// An ordinary stream of a hundred frames.
pub fn source(codec: Codec) -> Res<Made> {
    let recipe = match codec {
        Codec::H264 => Recipe::h264("source", ""),
        _ => Recipe::h265("source", ""),
    };
    recipe.size(320, 192).frames(100).make()
}

struct Row {
    frames: String,
    cells: Vec<String>,
    wrong: Vec<String>,
}

fn row(recipe: &Recipe) -> Row {
    let folder = std::env::temp_dir().join(format!("framelease-corpus-{}", std::process::id()));
    let cells = fs::create_dir_all(&folder).map_err(|e| e.to_string()).and_then(|()| {
        let made = recipe.make()?;
        let source = decode::of_bytes(recipe.codec, &made.file(recipe.codec))?;
        let packets = made.split(recipe.codec)?;
        let stream = Stream { codec: recipe.codec, size: made.size, packets: &packets, folder: &folder };
        Ok((source.len(), SINKS.map(|sink| cell(&sink, &stream, &source))))
    });
    let _ = fs::remove_dir_all(&folder);
    match cells {
        Ok((0, _)) => failed(recipe, "ffmpeg decodes no frame of the source"),
        Ok((frames, cells)) => {
            let wrong = SINKS.iter().zip(&cells).filter(|(sink, cell)| !recipe.is_expected(sink.name, cell));
            let wrong = wrong.map(|(sink, cell)| format!("{}, {}: {}", recipe.name, sink.name, cell)).collect();
            Row { frames: frames.to_string(), cells: cells.to_vec(), wrong }
        }
        Err(why) => failed(recipe, &why),
    }
}

/// A row of a stream that could not be made.
fn failed(recipe: &Recipe, why: &str) -> Row {
    let wrong = vec![format!("{}: {why}", recipe.name)];
    Row { frames: "0".into(), cells: vec![why.to_owned(); SINKS.len()], wrong }
}

fn cell(sink: &Sink, stream: &Stream<'_>, source: &[String]) -> String {
    if sink.without.contains(&stream.codec) {
        return "-".into();
    }
    match (sink.run)(stream) {
        Ok(out) => compare(&out, source),
        Err(why) => why,
    }
}

fn compare(out: &Out, source: &[String]) -> String {
    let common = common(&out.sums, source);
    let (missing, other) = (source.len() - common, out.sums.len() - common);
    let mut text = match (missing, other) {
        (0, 0) => "same".to_owned(),
        (_, 0) => format!("{missing} missing"),
        (0, _) => format!("{other} more"),
        _ => format!("{missing} differ, {} frames", out.sums.len()),
    };
    if out.files > 1 {
        text.push_str(&format!(", {} files", out.files));
    }
    if let Some((count, why)) = &out.refused {
        text = format!("{text}; {count} refused: {why}");
    }
    text
}

/// The length of the longest common subsequence: how many frames came through in order.
fn common(one: &[String], other: &[String]) -> usize {
    let mut lengths = vec![0; other.len() + 1];
    for sum in one {
        let mut diagonal = 0;
        for (i, another) in other.iter().enumerate() {
            let above = lengths[i + 1];
            lengths[i + 1] = if sum == another { diagonal + 1 } else { above.max(lengths[i]) };
            diagonal = above;
        }
    }
    lengths[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_counts_frames_that_are_missing_and_frames_that_are_others() {
        let sums = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let text = |got: &str, files| compare(&Out { sums: sums(got), files, refused: None }, &sums("abcd"));
        assert_eq!(text("abcd", 1), "same");
        assert_eq!(text("abcd", 2), "same, 2 files");
        assert_eq!(text("acd", 1), "1 missing");
        assert_eq!(text("abxcd", 1), "1 more");
        assert_eq!(text("axcd", 1), "1 differ, 4 frames");
        assert_eq!(text("", 0), "4 missing");
        let refused = Out { sums: sums("abc"), files: 1, refused: Some((1, "too wide".into())) };
        assert_eq!(compare(&refused, &sums("abc")), "same; 1 refused: too wide");
    }
}
