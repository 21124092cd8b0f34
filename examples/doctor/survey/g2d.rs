//! libg2d: its layout, symbols, features, formats by trial blits, and how it imports buffers.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use framelease::convert::G2d;
use framelease::dmabuf::Allocator;

use super::super::findings::{self, Failure};
use super::super::json::{object, Json};
use super::super::{child, common::Result};

pub const PROBE: &str = "g2d";
const LIMIT: Duration = Duration::from_secs(20);

/// Asks the library in a process of its own.
pub fn g2d() -> findings::G2d {
    if cfg!(target_feature = "crt-static") {
        return findings::G2d::Static;
    }
    let reply = child::run(&["--probe".into(), PROBE.into()], LIMIT);
    let reply = reply.and_then(|text| Json::parse(&text).map_err(|e| Failure::new("", format!("its report: {e}"))));
    match reply {
        Ok(reply) => {
            let text = reply.get("text").text().unwrap_or_default().to_owned();
            findings::G2d::Found(reply.get("report").clone(), text)
        }
        Err(failure) => findings::G2d::Failed(failure),
    }
}

/// Standard output without what libg2d prints there, perhaps only when the process ends.
pub fn quiet_output() -> Result<File> {
    let out = File::from(nix::unistd::dup(std::io::stdout())?);
    nix::unistd::dup2_stdout(std::io::stderr())?;
    Ok(out)
}

/// The other side of [`g2d`].
pub fn probe() -> Result<()> {
    let contiguous = |a: &Allocator| a.to_string().contains("cma");
    let heap = Allocator::heaps().into_iter().find(contiguous);
    let buffer = heap.and_then(|heap| heap.allocate(64 * 64 * 4, "framelease-doctor").ok());
    let mut out = quiet_output()?;
    let report = G2d::builder().inspect(buffer.as_ref())?;
    let json = Json::parse(&report.to_json())?;
    writeln!(out, "{}", object([("report", json), ("text", report.to_string().into())]))?;
    Ok(())
}
