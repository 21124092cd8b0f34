//! `cargo lab rivals --job share`: one fan-out by framelease and by others, in one run on this machine.
//!
//! Every contender is a producer process and consumer processes. `tests/rivals/contender.h` says how they talk to the
//! lab. Turns alternate the order; docs/performance.md says how to read the figures.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cargo::cargo;
use crate::exec::output;
use crate::prerequisites::{ensure, Need};
use crate::{say, Res};

use super::figures::{Figures, Key};
use super::turn::{self, Scene};
use super::{build, disturb, json, report};

/// What the user asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Parts of names; empty: all.
    pub contenders: Vec<String>,
    pub consumers: Vec<u32>,
    pub sizes: Vec<Size>,
    pub turns: usize,
    /// A figure's time, once all run.
    pub window: Duration,
    pub update_docs: bool,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            contenders: Vec::new(),
            consumers: vec![1, 3, 8],
            sizes: SIZES.to_vec(),
            turns: 3,
            window: Duration::from_millis(1200),
            update_docs: false,
        }
    }
}

/// A picture and its pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    pub width: u32,
    pub height: u32,
    pub fps: u32,
}

pub const SIZES: [Size; 2] = [Size { width: 1920, height: 1080, fps: 30 }, Size { width: 3840, height: 2160, fps: 60 }];
/// At one pace: is the cost flat in size?
pub const FLAT: [Size; 3] = [
    Size { width: 640, height: 360, fps: 60 },
    Size { width: 1920, height: 1080, fps: 60 },
    Size { width: 3840, height: 2160, fps: 60 },
];

impl Size {
    pub fn name(self) -> String {
        let short = match self.height {
            1080 => "1080p".into(),
            2160 => "4K".into(),
            _ => format!("{}x{}", self.width, self.height),
        };
        format!("{short} at {}", self.fps)
    }
}

pub fn share(workspace: &Path, wish: &Share) -> Res<i32> {
    ensure(&[Need::new("cc", "gcc"), Need::new("strace", "strace")])?;
    let all = build::build(workspace, &wish.contenders)?;
    let contenders = &all.there;
    if contenders.is_empty() {
        return Err(format!("no contender's name contains {}", wish.contenders.join(", ")));
    }
    let begun = Instant::now();
    let mut figures = Figures::new(wish, &all, turn::physics(&all.floor)?);
    for turn in 0..wish.turns {
        for key in keys(wish) {
            say!("turn {} of {}, {key}, after {} s", turn + 1, wish.turns, begun.elapsed().as_secs());
            for at in 0..contenders.len() {
                // None is always first.
                let contender = &contenders[(at + turn) % contenders.len()];
                // Calls do not depend on pixels; tracing slows, so it comes after the figure's time.
                let trace = turn == 0 && !key.reads && key.size == wish.sizes[0];
                let scene = Scene { contender, key, window: wish.window, trace };
                match scene.run() {
                    Ok(got) => figures.add(contender, key, got),
                    Err(e) => figures.fail(contender, key, e),
                }
            }
        }
        for fps in paces(wish) {
            for contender in contenders {
                figures.add_source(contender, fps, turn::source_alone(contender, fps, wish.window)?);
            }
        }
    }
    for contender in contenders.iter().filter(|c| !c.is_floor()) {
        say!("{}: a consumer is stopped, one is killed; after {} s", contender.name, begun.elapsed().as_secs());
        figures.losses.push((contender.name, disturb::run(contender)));
    }
    figures.seconds = begun.elapsed().as_secs();
    let path = workspace.join("target/rivals.json");
    write(&path, &format!("{:#}\n", json::of(&figures)))?;
    let tables = report::tables(&figures);
    print!("{tables}");
    println!("{}", path.display());
    if wish.update_docs {
        update_docs(workspace, &tables)?;
    }
    Ok(0)
}

fn write(path: &Path, text: &str) -> Res<()> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// The tables, and the table of the bench `copy_vs_zero_copy`, which is run for it.
fn update_docs(workspace: &Path, tables: &str) -> Res<()> {
    say!("running cargo bench --bench copy_vs_zero_copy");
    let printed = output(cargo(workspace).args(["bench", "--quiet", "--bench", "copy_vs_zero_copy"]))?;
    let copies: String = printed.lines().filter(|l| l.starts_with('|')).map(|l| format!("{l}\n")).collect();
    let page = workspace.join("docs/performance.md");
    let text = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
    let text = report::insert(&text, "cargo lab rivals", tables)?;
    write(&page, &report::insert(&text, "copy_vs_zero_copy", &copies)?)
}

fn keys(wish: &Share) -> Vec<Key> {
    let mut keys = Vec::new();
    for &size in &wish.sizes {
        for reads in [false, true] {
            keys.extend(wish.consumers.iter().map(|&consumers| Key { size, consumers, reads }));
        }
    }
    // Only in a whole run: it is about ratios between its rows.
    if wish.sizes == SIZES {
        let flat = FLAT.map(|size| Key { size, consumers: wish.consumers[wish.consumers.len() / 2], reads: false });
        keys.extend(flat.into_iter().filter(|k| !wish.sizes.contains(&k.size)));
    }
    keys
}

fn paces(wish: &Share) -> Vec<u32> {
    let mut paces: Vec<u32> = keys(wish).iter().map(|k| k.size.fps).collect();
    paces.sort_unstable();
    paces.dedup();
    paces
}
