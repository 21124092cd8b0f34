//! `cargo lab before-after`: the set-up that the library replaces, the best that GStreamer can do instead, and the
//! library's own, whole, in one guest whose clock counts instructions.

mod chart;
mod contenders;
mod figures;
mod host;
mod outputs;
mod plan;
mod tables;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::cargo::{self, RUN_FEATURES};
use crate::exec::on_path;
use crate::gstreamer_rootfs::{self, Parts};
use crate::guest::End;
use crate::rivals::in_guest::{self, Ran, Script, ARCH};
use crate::rivals::insert;
use crate::run::{empty_out, report};
use crate::{modules, prerequisites, say, Res};

use figures::Figures;
pub use host::sizes as host_sizes;
use plan::Run;
pub use plan::{BeforeAfter, Size, GOP, SIZES};

const ROOT: Parts = Parts {
    name: "before-after",
    whole: &[
        "gstreamer1.0-tools",
        "gstreamer1.0-plugins-base",
        "libc6",
        "libgstreamer-plugins-bad1.0-0",
        "libgudev-1.0-0",
        "libv4l-0t64",
        "libbz2-1.0",
    ],
    alone: &["gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-good"],
    plugins: &[
        "coreelements",
        "matroska",
        "rtp",
        "shm",
        "udp",
        "unixfd",
        "video4linux2",
        "videoconvertscale",
        "videoparsersbad",
        "videorate",
    ],
};
/// One camera, one scaler, one encoder.
const DRIVERS: [&str; 3] = ["vivid", "fl_scaler", "fl_h264"];
/// Where it can, GStreamer asks for NV12M, and then cannot import a camera's NV12.
const NV12_ONLY: &str = "fl_h264 multiplanar=0; fl_scaler no_nv12m=1";
const LIMIT: Duration = Duration::from_secs(2400);

pub fn before_after(workspace: &Path, wish: &BeforeAfter) -> Res<i32> {
    if wish.host {
        return host::host(workspace, wish);
    }
    let runs = plan::runs(wish)?;
    let begun = Instant::now();
    let Some(text) = run(workspace, &runs)? else { return Ok(130) };
    let mut figures = Figures::of(&text, &runs)?;
    let out = workspace.join("target/lab/out");
    check_streams(&mut figures, &runs, &out);
    // Some hundred MB.
    empty_out(&out)?;
    let seconds = begun.elapsed().as_secs();
    let tables = tables::tables(&figures, wish.turns, seconds);
    print!("{tables}");
    let path = out.join("before-after.json");
    write(&path, &format!("{:#}\n", tables::json(&figures, wish.turns, seconds)))?;
    say!("all figures are in {}", path.display());
    let failed = figures.0.values().filter(|row| !row.errors.is_empty()).count();
    if failed > 0 {
        return Err(format!("{failed} cells have no figure or lack one of a turn; the table says why"));
    }
    if wish.update_docs {
        let page = workspace.join("docs/performance.md");
        let text = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
        write(&page, &insert(&text, "cargo lab before-after", &tables)?)?;
        write(&workspace.join("docs/before-after.svg"), &chart::svg(&figures, &wish.consumers))?;
    }
    Ok(0)
}

/// What the guest printed; `None` if the user interrupted it.
fn run(workspace: &Path, runs: &[Run]) -> Res<Option<String>> {
    prerequisites::for_guest(ARCH)?;
    let words = ["build", "--package", "framelease", "--features", RUN_FEATURES];
    let words = [&words[..], &["--example", "node", "--example", "subscriber"]].concat();
    let mut examples = cargo::build(workspace, ARCH, &words)?;
    examples.retain(|artifact| artifact.kind == "example");
    let meter = cargo::build(workspace, ARCH, &["build", "--package", "lab", "--bin", "meter"])?;
    let meter = meter.into_iter().next_back().ok_or("cargo built no program meter")?;
    let root = gstreamer_rootfs::unpack(&Cache::open()?, ARCH, &ROOT)?;
    let machine = in_guest::machine(workspace, root)?;
    empty_out(&machine.out)?;
    let mut modules = modules::load_lines(&machine.own_modules, &[NV12_ONLY.into()]);
    modules.retain(|line| DRIVERS.contains(&modules::name(line)));
    let script = Script {
        name: "before_after",
        arguments: runs.iter().map(Run::to_string).collect(),
        modules,
        examples,
        programs: vec![("meter", meter.executable)],
        limit: LIMIT,
    };
    say!("{} runs", runs.len());
    let Ran { end, text, tail } = in_guest::run(workspace, &machine, script)?;
    match end {
        End::Exited(0) => {}
        End::Exited(status) => return Err(format!("the runs ended with status {status}")),
        End::Interrupted => return Ok(None),
        // What was measured before counts.
        end => report(&machine, &end, &tail),
    }
    Ok(Some(text))
}

/// Decodes the outputs of the first turn.
fn check_streams(figures: &mut Figures, runs: &[Run], out: &Path) {
    let has_ffmpeg = on_path("ffmpeg").is_some();
    if has_ffmpeg {
        say!("decoding the outputs");
    }
    for run in runs.iter().filter(|run| !run.folder.is_empty()) {
        let Some(row) = figures.0.get_mut(&run.cell).filter(|row| !row.turns.is_empty()) else { continue };
        row.checked = Some(match has_ffmpeg {
            true => outputs::check(&out.join(&run.folder), run.frames as usize, run.cell.fps, row.outputs()),
            false => Err("this machine has no ffmpeg (apt-get install ffmpeg)".into()),
        });
    }
}

fn write(path: &Path, text: &str) -> Res<()> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
