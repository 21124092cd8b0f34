//! Which cells are measured, in which order.

use std::fmt;

use super::contenders::{Contender, Scope, ALL};
use crate::Res;

/// Frames from one key frame to the next.
pub const GOP: u32 = 30;
/// The rate at which the slowest contenders cannot follow.
pub const FULL_RATE: u32 = 30;

/// A camera's size, and the rate at which the slowest contender loses no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    pub width: u32,
    pub height: u32,
    pub fps: u32,
}

pub const SIZES: [Size; 3] = [
    Size { width: 640, height: 480, fps: 10 },
    Size { width: 1280, height: 720, fps: 5 },
    Size { width: 1920, height: 1080, fps: 4 },
];

/// What the user asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct BeforeAfter {
    /// On this machine, with x264.
    pub host: bool,
    /// Parts of names; empty: all.
    pub contenders: Vec<String>,
    pub sizes: Vec<Size>,
    pub consumers: Vec<u32>,
    /// In each turn.
    pub frames: u32,
    pub turns: u32,
    pub update_docs: bool,
}

impl Default for BeforeAfter {
    fn default() -> Self {
        Self {
            host: false,
            contenders: Vec::new(),
            sizes: SIZES.to_vec(),
            consumers: vec![1, 3, 8],
            frames: GOP,
            turns: 3,
            update_docs: false,
        }
    }
}

/// One contender with one job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    pub consumers: u32,
    pub contender: String,
}

/// A cell in one turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub cell: Cell,
    pub frames: u32,
    /// Frames in which system calls are counted; 0: they are not.
    pub calls: u32,
    /// Below the guest's `/out`, of its streams; empty: they are not kept.
    pub folder: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { width, height, fps, consumers, contender } = &self.cell;
        write!(f, "{contender}:{width}x{height}:{consumers}:{fps}:{}:{}:{}", self.frames, self.calls, self.folder)
    }
}

impl Run {
    /// From what `fmt` writes.
    pub fn parse(text: &str) -> Res<Self> {
        let parse = || {
            let [contender, size, consumers, fps, frames, calls, folder] =
                text.split(':').collect::<Vec<_>>().try_into().ok()?;
            let (width, height) = size.split_once('x')?;
            let number = |word: &str| word.parse::<u32>().ok();
            let cell = Cell {
                width: number(width)?,
                height: number(height)?,
                fps: number(fps)?,
                consumers: number(consumers)?,
                contender: contender.into(),
            };
            Some(Self { cell, frames: number(frames)?, calls: number(calls)?, folder: folder.into() })
        };
        parse().ok_or_else(|| format!("not a cell: {text}"))
    }
}

/// The cells of all turns. Each turn begins with another contender.
pub fn runs(wish: &BeforeAfter) -> Res<Vec<Run>> {
    let is_wanted = |c: &&Contender| {
        wish.contenders.is_empty() || wish.contenders.iter().any(|part| c.name.contains(part.as_str()))
    };
    let contenders: Vec<&Contender> = ALL.iter().filter(is_wanted).collect();
    if contenders.is_empty() {
        let names: Vec<&str> = ALL.iter().map(|c| c.name).collect();
        return Err(format!("no contender's name contains {}: {}", wish.contenders.join(", "), names.join(", ")));
    }
    let (first, middle) = (wish.sizes[0], wish.consumers[wish.consumers.len() / 2]);
    let most = wish.consumers.iter().copied().max().unwrap_or(1);
    let mut runs = Vec::new();
    let mut add = |contender: &Contender, size: Size, consumers: u32, turn: u32, frames: u32| {
        let Size { width, height, fps } = size;
        let cell = Cell { width, height, fps, consumers, contender: contender.name.into() };
        // Counting them slows the processes down, and they do not depend on the size but by the packets.
        let calls = if turn == 0 && fps != FULL_RATE && size == first { GOP } else { 0 };
        let folder = format!("{}-{width}-{consumers}-{fps}", contender.name);
        runs.push(Run { cell, frames, calls, folder: if turn == 0 { folder } else { String::new() } });
    };
    for turn in 0..wish.turns {
        for &size in &wish.sizes {
            for &consumers in &wish.consumers {
                for at in 0..contenders.len() {
                    let contender = contenders[(at + turn as usize) % contenders.len()];
                    let is_here = match contender.scope {
                        Scope::All => true,
                        Scope::FirstSize => size == first,
                        Scope::One => size == first && consumers == middle,
                    };
                    if is_here {
                        add(contender, size, consumers, turn, wish.frames);
                    }
                }
            }
        }
    }
    for contender in contenders.iter().filter(|c| c.scope != Scope::One) {
        add(contender, Size { fps: FULL_RATE, ..first }, most, 0, 2 * FULL_RATE);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_read_as_they_are_written() {
        let all = runs(&BeforeAfter::default()).unwrap();
        assert!(all.iter().all(|run| Run::parse(&run.to_string()).as_ref() == Ok(run)));
        assert!(Run::parse("node:640x480:3:10:30:0").is_err());
        assert!(Run::parse("node:640:3:10:30:0:").is_err());
    }

    #[test]
    fn runs_alternate_and_know_their_scope() {
        let all = runs(&BeforeAfter::default()).unwrap();
        let of = |name: &str| all.iter().filter(|r| r.cell.contender == name && r.cell.fps != FULL_RATE).count();
        assert_eq!((of("node"), of("gst-unixfd"), of("gst-tee-defaults")), (27, 9, 3));
        assert_ne!(all[0].cell.contender, all.iter().find(|r| r.folder.is_empty()).unwrap().cell.contender);
        assert!(all.iter().all(|r| r.calls == 0 || (r.cell.height == 480 && r.cell.fps == 10)));
        assert_eq!(all.iter().filter(|r| r.cell.fps == FULL_RATE).count(), 7);
    }

    #[test]
    fn contenders_can_be_chosen() {
        let wish = |name: &str| BeforeAfter { contenders: vec![name.into()], turns: 1, ..BeforeAfter::default() };
        assert!(runs(&wish("node")).unwrap().iter().all(|r| r.cell.contender.contains("node")));
        assert!(runs(&wish("ffmpeg")).unwrap_err().contains("as-reported"));
    }
}
