//! `cargo lab soak`: the kernel tests' soak in a guest, and its figures over time as a picture.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::arch::Arch;
use crate::cargo;
use crate::guest::{self, End, Limits};
use crate::prepare::prepare;
use crate::results::Results;
use crate::run::{empty_out, report};
use crate::test::{build, job};
use crate::{say, Res};

const TEST: &str = "soak::a_camera_shared_encoded_and_recorded_for_long";
/// For the start and the end of a soak.
const BESIDE: Duration = Duration::from_secs(180);

pub fn soak(workspace: &Path, arch: Arch, minutes: u32) -> Res<i32> {
    cargo::toolchain(arch)?;
    let built = build(workspace, arch)?;
    let machine = prepare(arch, workspace)?;
    empty_out(&machine.out)?;
    let mut job = job(&machine, built, None);
    job.command.extend(["--exact", TEST, "--nocapture"].map(String::from));
    job.env.push(("FRAMELEASE_SOAK_MINUTES".into(), minutes.to_string()));
    say!("soaking for {minutes} minutes");
    let limits = Limits { time: Some(Duration::from_secs(60 * u64::from(minutes)) + BESIDE), pass_interrupt: true };
    let mut results = Results::default();
    let outcome = guest::run(&machine, &job, &limits, &mut results)?;
    results.flush().map_err(|e| format!("cannot print: {e}"))?;
    let trouble = outcome.console.trouble();
    trouble.iter().for_each(|line| say!("{arch} kernel: {line}"));
    let (from, to) = (machine.out.join("soak.csv"), workspace.join("target/lab/soak.svg"));
    // Without what it needs, the test is skipped and writes nothing.
    let csv = fs::read_to_string(&from).map_err(|e| format!("no figures in {}: {e}", from.display()));
    let drawn = csv.and_then(|csv| draw(&csv));
    if let Ok(svg) = &drawn {
        fs::write(&to, svg).map_err(|e| format!("{}: {e}", to.display()))?;
        say!("{} and {}", from.display(), to.display());
    }
    match outcome.end {
        End::Exited(0) if trouble.is_empty() => drawn.map(|_| 0),
        End::Exited(_) => Ok(1),
        End::Interrupted => Ok(130),
        end => {
            report(&machine, &end, &outcome.console.tail(60));
            Ok(1)
        }
    }
}

const WIDTH: f64 = 760.0;
const PANEL: f64 = 110.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;

/// A panel for each column but the first, one below the other, over time.
fn draw(csv: &str) -> Res<String> {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().ok_or("the soak wrote nothing")?.split(',').collect();
    let row = |line: &str| line.split(',').map(|n| n.parse().ok()).collect::<Option<Vec<f64>>>();
    let rows: Vec<Vec<f64>> = lines.map_while(row).filter(|r| r.len() == names.len()).collect();
    let end = rows.last().ok_or("the soak was too short for a figure")?[0].max(1.0);
    let height = PANEL * (names.len() - 1) as f64 + 30.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (i, name) in names.iter().enumerate().skip(1) {
        let (top, bottom) = (PANEL * (i - 1) as f64 + 24.0, PANEL * i as f64 - 6.0);
        let most = rows.iter().fold(1.0f64, |most, r| most.max(r[i]));
        let x = |v: f64| LEFT + v / end * (WIDTH - LEFT - RIGHT);
        let y = |v: f64| bottom - v / most * (bottom - top);
        let points: Vec<String> = rows.iter().map(|r| format!("{:.1},{:.1}", x(r[0]), y(r[i]))).collect();
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{}\">{name}</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most}</text>\
             <text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\
             <path d=\"M{LEFT} {top}V{bottom}H{}\" fill=\"none\" stroke=\"#bbb\"/>\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#0072b2\" stroke-width=\"1.5\"/>",
            top - 6.0,
            LEFT - 8.0,
            top + 8.0,
            LEFT - 8.0,
            WIDTH - RIGHT,
            points.join(" "),
        );
    }
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">0 to {end} s</text>\n</svg>", height - 10.0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_a_panel_and_what_was_cut_off_is_left_out() {
        let svg = draw("second,a,b\n1,5,0\n2,10,7\n3,1").unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        // Half of the height, at half of the time.
        assert!(svg.contains("points=\"410.0,64.0 740.0,24.0\""), "{svg}");
        assert!(draw("").is_err() && draw("second,a\n").is_err());
    }
}
