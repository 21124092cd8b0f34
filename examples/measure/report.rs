//! The figures as a table and as JSON.

use std::fmt::Write;
use std::fs;

use super::common::quoted;
use super::costs::{Costs, Row};
use super::meter::NAMES;
use super::paths::Memory;
use super::Options;

impl Costs {
    /// CPU above what the capture alone costs: of the processes (0), of the machine (1).
    fn beyond_capture(&self, row: &Row, which: usize) -> Option<f64> {
        let capture = self.rows.iter().find(|r| r.path == row.path.capture() && r.failed.is_none())?;
        Some(row.counts[which] - capture.counts[which])
    }

    /// The copy's CPU to that of the dma-buf, both without the capture.
    fn ratio(&self, row: &Row, which: usize) -> Option<f64> {
        let is_base = |r: &&Row| r.path == row.path && r.memory == Memory::DmaBuf && r.failed.is_none();
        let base = self.beyond_capture(self.rows.iter().find(is_base)?, which)?;
        (row.memory == Memory::Copy && base > 0.0).then_some(self.beyond_capture(row, which)? / base)
    }
}

pub fn table(costs: &Costs) -> String {
    let mut out = String::from(
        "| path | memory | CPU of its processes | of the machine | both without capture | copy to dmabuf | system calls | \
         page faults | context switches | bytes copied | lost |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &costs.rows {
        let (path, memory) = (row.path.name(), row.memory.name());
        if let Some(why) = &row.failed {
            let _ = writeln!(out, "| {path} | {memory} | NOT RUN: {} | | | | | | | | |", why.replace(['|', '\n'], " "));
            continue;
        }
        let [cpu, machine, calls, copied, faults, switches, ..] = row.counts;
        let pair = |of: &dyn Fn(usize) -> Option<f64>, digits: usize| match (of(0), of(1)) {
            (Some(a), Some(b)) => format!("{a:.digits$}, {b:.digits$}"),
            _ => String::new(),
        };
        let is_capture = row.path == row.path.capture();
        let beyond = if is_capture { String::new() } else { pair(&|i| costs.beyond_capture(row, i), 0) };
        let ratios = pair(&|i| costs.ratio(row, i), 2);
        let _ = writeln!(
            out,
            "| {path} | {memory} | {cpu:.0} | {machine:.0} | {beyond} | {ratios} | {calls:.2} | {faults:.2} | \
             {switches:.2} | {copied:.0} | {} |",
            row.lost
        );
    }
    out
}

pub fn json(o: &Options, costs: &Costs) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/device-tree/model");
    let kernel = format!("{} {}", read("/proc/sys/kernel/osrelease").trim(), std::env::consts::ARCH);
    let optional = |text: Option<&String>| text.map_or("null".into(), |t| quoted(t));
    let rows = costs.rows.iter().map(|row| {
        let mut line = format!("{{\"path\": \"{}\", \"memory\": \"{}\"", row.path.name(), row.memory.name());
        if row.failed.is_none() {
            let _ = write!(line, ", \"devices\": {}", quoted(&row.devices));
            let _ = write!(line, ", \"lost\": {}", row.lost);
            let shown = if costs.no_bus.is_some() { NAMES.len() - 2 } else { NAMES.len() };
            for (name, value) in NAMES.iter().zip(row.counts).take(shown) {
                let _ = write!(line, ", \"{name}\": {value:.2}");
            }
            for (which, name) in ["process_ratio", "machine_ratio"].into_iter().enumerate() {
                if let Some(ratio) = costs.ratio(row, which) {
                    let _ = write!(line, ", \"{name}\": {ratio:.3}");
                }
            }
        }
        format!("{line}, \"failed\": {}}}", optional(row.failed.as_ref()))
    });
    format!(
        "{{\n  \"board\": {}, \"kernel\": {},\n  \"width\": {}, \"height\": {}, \"fps\": {}, \"codec\": \"{}\",\n  \
         \"frames\": {}, \"turns\": {}, \"no_ddr_counters\": {},\n  \"rows\": [\n    {}\n  ]\n}}\n",
        quoted(model.trim_matches(['\0', '\n'])),
        quoted(&kernel),
        o.size.width,
        o.size.height,
        o.fps,
        o.codec,
        o.frames,
        o.turns,
        optional(costs.no_bus.as_ref()),
        rows.collect::<Vec<_>>().join(",\n    ")
    )
}
