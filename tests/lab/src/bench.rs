//! `cargo lab bench`: the paths of the example `framelease-doctor` in a guest whose clock counts instructions.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::args::Bench;
use crate::cargo::{self, RUN_FEATURES};
use crate::guest::{self, End, Limits, Lines};
use crate::initramfs::Job;
use crate::prepare::prepare;
use crate::qemu::Pace;
use crate::rivals::insert;
use crate::run::{environment, report, EXAMPLES};
use crate::{modules, prerequisites, say, Res};

const EXAMPLE: &str = "framelease-doctor";
/// vivid's timestamps are those of the end of a frame, which it delivers before that time. Here they are of its start.
const START: &str =
    "for node in /dev/video*; do v4l2-ctl -d $node -c timestamp_source=1 2>/dev/null; done; exec \"$@\"";
const LIMIT: Duration = Duration::from_secs(3600);

pub fn bench(workspace: &Path, wish: &Bench) -> Res<i32> {
    prerequisites::for_guest(wish.arch)?;
    let words = ["build", "--package", "framelease", "--features", RUN_FEATURES, "--example", EXAMPLE];
    let program =
        cargo::build(workspace, wish.arch, &words)?.pop().ok_or("cargo built no example framelease-doctor")?;
    let mut machine = prepare(wish.arch, workspace)?;
    machine.pace = Pace::Instructions;
    let place = format!("{EXAMPLES}/{EXAMPLE}");
    let name = format!("bench-{}.json", wish.arch);
    let mut command: Vec<String> =
        ["sh", "-c", START, "sh", &place, "--part", "paths", "--json"].map(String::from).into();
    command.push(format!("/out/{name}"));
    command.extend(["--frames".into(), wish.frames.to_string(), "--turns".into(), wish.turns.to_string()]);
    let job = Job {
        modules: modules::load_lines(&machine.own_modules, &[]),
        env: environment(wish.arch),
        command,
        programs: vec![(place[1..].to_string(), program.executable)],
    };
    let mut lines = Lines::default();
    let outcome = guest::run(&machine, &job, &Limits { time: Some(LIMIT), pass_interrupt: true }, &mut lines)?;
    match outcome.end {
        End::Exited(0) => {}
        End::Exited(status) => return Ok(status),
        End::Interrupted => return Ok(130),
        end => {
            report(&machine, &end, &outcome.console.tail(40));
            return Ok(1);
        }
    }
    let table = String::from_utf8_lossy(&lines.0).into_owned();
    print!("{table}");
    // The next run empties the guest's folder.
    let kept = machine.out.with_file_name(&name);
    fs::rename(machine.out.join(&name), &kept).map_err(|e| format!("{}: {e}", kept.display()))?;
    say!("all figures are in {}", kept.display());
    if table.contains("NOT RUN") {
        return Err("a path did not run although this guest has its devices".into());
    }
    if wish.update_docs {
        let page = workspace.join("docs/performance.md");
        let text = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
        let text = insert(&text, &format!("cargo lab bench {}", wish.arch), &table)?;
        fs::write(&page, text).map_err(|e| format!("{}: {e}", page.display()))?;
    }
    Ok(0)
}
