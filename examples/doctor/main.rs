//! Examines the video devices of a machine: `framelease-doctor --help`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/offers.rs"]
mod offers;
#[path = "../common/picture.rs"]
mod picture;

mod advice;
mod ages;
mod child;
mod costs;
mod findings;
mod json;
mod meter;
mod options;
mod paths;
mod private;
mod questions;
mod report;
mod survey;
mod table;

use std::io::Write;
use std::process::ExitCode;

use common::{Progress, Result};
use options::{Options, Part};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, socket, first_frames] = &words[..] {
        if flag == paths::SUBSCRIBER {
            return child::exit(paths::subscribe(socket.as_ref(), first_frames.parse().unwrap_or(0)));
        }
    }
    let o = match options::parse() {
        Ok(Some(o)) => o,
        Ok(None) => return ExitCode::SUCCESS,
        Err(e) => return common::exit(Err(e)),
    };
    if let Some(probe) = &o.probe {
        return child::exit(questions::probe(&o, probe));
    }
    if let (Some(memory), [path]) = (o.memory, &o.paths[..]) {
        return child::exit(paths::run(&o, *path, memory));
    }
    common::exit(examine(&o))
}

fn examine(o: &Options) -> Result<()> {
    let mut progress = Progress::new();
    let mut findings = survey::survey();
    let asked = |part| o.parts.contains(&part);
    if asked(Part::G2d) {
        findings.g2d = survey::g2d::g2d();
    }
    if asked(Part::Answers) {
        questions::ask(o, &mut findings, &mut progress);
    }
    if asked(Part::Paths) {
        findings.costs = Some(costs::measure(o, &mut progress));
    }
    progress.done();
    let advice = advice::advice(&findings);
    let private = private::words();
    let write = |path: &str, text: &str| {
        std::fs::write(path, private::without(text, &private)).map_err(|e| format!("{path}: {e}"))
    };
    if let Some(path) = &o.json {
        write(path, &format!("{}\n", report::json(&findings, &advice)))?;
    }
    let text = table::text(&findings, &advice, &o.parts);
    match &o.output {
        Some(path) => write(path, &text)?,
        None => std::io::stdout().write_all(private::without(&text, &private).as_bytes())?,
    }
    Ok(())
}
