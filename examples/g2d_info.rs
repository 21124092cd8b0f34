//! Prints what this board's libg2d is and can do.

#[path = "common/mod.rs"]
mod common;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use common::quoted;
use framelease::convert::g2d::{Abi, Answer, FormatTrial, Report, Survey};
use framelease::convert::G2d;
use framelease::dmabuf::Allocator;
use framelease::ErrorKind;

const HELP: &str = "\
Prints what libg2d is and can do: file, struct layout and how each probe of it
voted, version, symbols, hardware, features, caps, formats by trial blits,
and how buffers get in.

Usage: g2d_info [OPTIONS]

  --library PATH  this file; default: libg2d.so.2 as the dynamic loader finds it
  --abi WHICH     legacy or modern, whatever the probes say
  --heap PATH     a dma-heap whose buffer is imported; default: the first CMA heap
  --json          one JSON object on standard output
  --help          this text

Exit status: 0, 1 for an error, 2 if there is no libg2d.
What libg2d itself prints goes to standard error.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            let missing = e
                .downcast_ref::<framelease::Error>()
                .is_some_and(|e| e.kind() == ErrorKind::NotFound && e.op() == "dlopen");
            if missing {
                eprintln!(
                    "i.MX boards with a 2D engine have it in imx-gpu-g2d, imx-dpu-g2d or imx-g2d-pxp (not 8MN, 8MQ)"
                );
            }
            ExitCode::from(if missing { 2 } else { 1 })
        }
    }
}

fn run() -> common::Result<()> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let (mut builder, mut json, mut heap) = (G2d::builder(), false, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("library") => builder = builder.library(PathBuf::from(parser.value()?)),
            Long("abi") => match parser.value()?.string()?.as_str() {
                "legacy" => builder = builder.abi(Abi::Legacy),
                "modern" => builder = builder.abi(Abi::Modern),
                other => return Err(format!("--abi {other}: legacy or modern").into()),
            },
            Long("heap") => heap = Some(Allocator::Heap(PathBuf::from(parser.value()?))),
            Long("json") => json = true,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let contiguous = |a: &Allocator| a.to_string().contains("cma");
    let heap = heap.or_else(|| Allocator::heaps().into_iter().find(contiguous));
    let buffer = heap.map(|heap| heap.allocate(64 * 64 * 4, "g2d_info")).transpose()?;
    // libg2d prints to standard output what it refuses, perhaps only when the process ends: ours is another descriptor.
    let mut out = File::from(nix::unistd::dup(std::io::stdout())?);
    nix::unistd::dup2_stdout(std::io::stderr())?;
    let (report, survey) = builder.inspect(buffer.as_ref())?;
    if json {
        writeln!(out, "{}", as_json(&report, survey.as_ref()))?;
    } else {
        as_text(&mut out, &report, survey.as_ref())?;
    }
    Ok(())
}

fn as_text(out: &mut impl Write, report: &Report, survey: Option<&Survey>) -> std::io::Result<()> {
    writeln!(out, "library: {}", report.path.display())?;
    let forced = if report.abi_forced { ", as asked for" } else { "" };
    match report.abi {
        Some(abi) => writeln!(out, "layout: {abi}{forced}")?,
        None => writeln!(out, "layout: NOT KNOWN, the probes disagree or say nothing; --abi decides")?,
    }
    for vote in &report.votes {
        writeln!(out, "  {vote}")?;
    }
    writeln!(out, "version: {}", report.version.as_deref().map_or("not told", str::trim))?;
    writeln!(out, "variant: {}", report.variant)?;
    let symbols = |present| {
        let names: Vec<&str> = report.symbols.iter().filter(|(_, p)| *p == present).map(|(name, _)| *name).collect();
        if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(" ")
        }
    };
    writeln!(out, "symbols: {}\n  missing: {}", symbols(true), symbols(false))?;
    writeln!(out, "hardware: {}", answers(&report.hardware))?;
    writeln!(out, "features: {}", answers(&report.features))?;
    writeln!(out, "NV12 as target: {} ({})", report.nv12_target, report.nv12_why)?;
    let Some(survey) = survey else { return Ok(()) };
    let caps: Vec<String> =
        survey.caps.iter().map(|(name, on, why)| if *on { (*name).into() } else { format!("{name}: {why}") }).collect();
    writeln!(out, "caps: {}", caps.join(", "))?;
    writeln!(out, "fence: {}", if survey.fence { "yes" } else { "no" })?;
    if survey.formats.is_empty() {
        writeln!(out, "formats: no g2d_alloc, not tried")?;
    } else {
        writeln!(
            out,
            "formats, by trial blits from and to RGBA32:\n  {:8} {:20} {:20} rules",
            "", "as source", "as target"
        )?;
    }
    for FormatTrial { fourcc, source, target, rules, .. } in &survey.formats {
        writeln!(out, "  {fourcc:8} {:20} {:20} {} {}", source.1, target.1, rules.0, rules.1)?;
    }
    writeln!(out, "imports, in the order in which they are tried:")?;
    for (name, works, why) in &survey.imports {
        writeln!(out, "  {name}: {}, {why}", if *works { "yes" } else { "no" })?;
    }
    if survey.imports.len() < 2 {
        writeln!(out, "  those by address: no CMA heap here to try them with")?;
    }
    Ok(())
}

fn answers(all: &[(&'static str, Answer)]) -> String {
    all.iter().map(|(name, answer)| format!("{name} {answer}")).collect::<Vec<_>>().join(", ")
}

fn as_json(report: &Report, survey: Option<&Survey>) -> String {
    let list = |items: Vec<String>| items.join(",");
    let abi = |abi: Option<Abi>| match abi {
        Some(Abi::Legacy) => "\"legacy\"",
        Some(Abi::Modern) => "\"modern\"",
        None => "null",
    };
    let votes = report
        .votes
        .iter()
        .map(|v| format!("{{\"probe\":{},\"abi\":{},\"why\":{}}}", quoted(v.probe), abi(v.abi), quoted(&v.why)));
    let symbols = report.symbols.iter().map(|(name, present)| format!("{}:{present}", quoted(name)));
    let map = |all: &[(&'static str, Answer)]| {
        list(all.iter().map(|(name, a)| format!("{}:{}", quoted(name), quoted(&a.to_string()))).collect())
    };
    let tried = |all: &[(&'static str, bool, String)]| {
        let one = |(name, works, why): &(&str, bool, String)| {
            format!("{{\"name\":{},\"works\":{works},\"answer\":{}}}", quoted(name), quoted(why))
        };
        list(all.iter().map(one).collect())
    };
    let survey = survey.map_or("null".to_owned(), |s| {
        let formats = s.formats.iter().map(|f| {
            let side = |(works, why): &(bool, String), rule: Answer| {
                format!("{{\"works\":{works},\"answer\":{},\"rule\":{}}}", quoted(why), quoted(&rule.to_string()))
            };
            let (source, target) = (side(&f.source, f.rules.0), side(&f.target, f.rules.1));
            format!("{{\"fourcc\":{},\"source\":{source},\"target\":{target}}}", quoted(&f.fourcc.to_string()))
        });
        let formats = list(formats.collect());
        let (caps, imports) = (tried(&s.caps), tried(&s.imports));
        format!("{{\"fence\":{},\"caps\":[{caps}],\"imports\":[{imports}],\"formats\":[{formats}]}}", s.fence)
    });
    format!(
        "{{\"path\":{},\"abi\":{},\"abi_forced\":{},\"votes\":[{}],\"version\":{},\"variant\":{},\"symbols\":{{{}}},\
         \"hardware\":{{{}}},\"features\":{{{}}},\"nv12_target\":{},\"nv12_why\":{},\"survey\":{survey}}}",
        quoted(&report.path.display().to_string()),
        abi(report.abi),
        report.abi_forced,
        list(votes.collect()),
        report.version.as_deref().map_or("null".into(), |v| quoted(v.trim())),
        quoted(&report.variant.to_string()),
        list(symbols.collect()),
        map(&report.hardware),
        map(&report.features),
        quoted(&report.nv12_target.to_string()),
        quoted(&report.nv12_why),
    )
}
