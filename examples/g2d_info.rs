//! Prints what this board's libg2d is and can do.

#[path = "common/mod.rs"]
mod common;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use framelease::convert::g2d::Abi;
use framelease::convert::G2d;
use framelease::dmabuf::Allocator;
use framelease::ErrorKind;

const HELP: &str = "\
Prints what libg2d is and what it can do: file, struct layout and the answer of each probe, version, symbols, hardware,
features, formats by trial blits, and how it imports buffers.

Usage: g2d_info [OPTIONS]

  --library PATH  the library (default: libg2d.so.2, as the dynamic loader finds it)
  --abi WHICH     use the struct layout legacy or modern, whatever the probes answer
  --heap PATH     import a buffer of this dma-heap (default: the first CMA heap)
  --json          print one JSON object on standard output
  --help          print this text

Exit status: 0; 1 after an error; 2 without a libg2d. Output of libg2d itself goes to standard error.
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
    let report = builder.inspect(buffer.as_ref())?;
    if json {
        writeln!(out, "{}", report.to_json())?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}
