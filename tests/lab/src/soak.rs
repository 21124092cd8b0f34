//! `cargo lab soak`: the kernel tests' soak in a guest, and a table of its figures.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::arch::Arch;
use crate::guest::{self, End, Limits};
use crate::prepare::prepare;
use crate::results::Results;
use crate::run::{empty_out, report};
use crate::test::{build, job};
use crate::{prerequisites, say, Res};

const TEST: &str = "soak::camera_is_shared_encoded_and_recorded_for_long";
/// For the start and the end of a soak.
const BESIDE: Duration = Duration::from_secs(180);

pub fn soak(workspace: &Path, arch: Arch, minutes: u32) -> Res<i32> {
    prerequisites::for_guest(arch)?;
    let built = build(workspace, arch, Some(TEST))?;
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
    let path = machine.out.join("soak.csv");
    // Without what it needs, the test is skipped and writes nothing.
    let csv = fs::read_to_string(&path).map_err(|e| format!("no figures in {}: {e}", path.display()));
    let table = csv.and_then(|csv| summary(&csv));
    if let Ok(table) = &table {
        print!("{table}");
        say!("each second's figures are in {}", path.display());
    }
    match outcome.end {
        End::Exited(0) if trouble.is_empty() => table.map(|_| 0),
        End::Exited(_) => Ok(1),
        End::Interrupted => Ok(130),
        end => {
            report(&machine, &end, &outcome.console.tail(60));
            Ok(1)
        }
    }
}

/// Least, median and most of each column but the first, which is the time.
fn summary(csv: &str) -> Res<String> {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().ok_or("the soak wrote nothing")?.split(',').collect();
    let row = |line: &str| line.split(',').map(|n| n.parse().ok()).collect::<Option<Vec<f64>>>();
    // A run that is cut off ends within a line.
    let rows: Vec<Vec<f64>> = lines.map_while(row).filter(|r| r.len() == names.len()).collect();
    let end = rows.last().ok_or("the soak was too short for a figure")?[0];
    let mut out = format!("| over {end} s | least | median | most | at the end |\n|---|---|---|---|---|\n");
    for (i, name) in names.iter().enumerate().skip(1) {
        let mut all: Vec<f64> = rows.iter().map(|r| r[i]).collect();
        let last = all[all.len() - 1];
        all.sort_by(f64::total_cmp);
        let (least, median, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
        out.push_str(&format!("| {name} | {least} | {median} | {most} | {last} |\n"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_line() {
        let table = summary("second,a,b\n1,5,0\n2,10,7\n3,7,1\n4,1").unwrap();
        assert!(table.starts_with("| over 3 s |"), "{table}");
        assert!(table.ends_with("| a | 5 | 7 | 10 | 7 |\n| b | 0 | 1 | 7 | 1 |\n"), "{table}");
        assert!(summary("").is_err() && summary("second,a\n").is_err());
    }
}
