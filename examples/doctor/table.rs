//! The report as text: Markdown that is easy to read in a terminal.

use std::fmt::Write;

use super::advice::Advice;
use super::findings::{Answer, Costs, Display, Findings, G2d, Machine, Node, Video};
use super::options::Part;
use super::questions::text_of;

pub fn text(findings: &Findings, advice: &[Advice], parts: &[Part]) -> String {
    let mut out = String::new();
    if parts.contains(&Part::Devices) {
        machine(&mut out, &findings.machine);
        out += "\n## Video devices\n\n";
        if findings.video.is_empty() {
            out += "No /dev/video* exists.\n";
        }
        findings.video.iter().for_each(|v| video(&mut out, v));
        memory(&mut out, findings);
        out += "\n## Displays\n\n";
        if findings.displays.is_empty() {
            out += "No /dev/dri/card* exists.\n";
        }
        findings.displays.iter().for_each(|d| display(&mut out, d));
    }
    if parts.contains(&Part::G2d) {
        out += "\n## libg2d\n\n";
        out += &match &findings.g2d {
            G2d::NotAsked => String::new(),
            G2d::Static => "not asked: static build. The other build of this program loads libg2d.\n".into(),
            G2d::Failed(failure) if failure.kind == "NotFound" => format!("NOT FOUND: {}\n", failure.text),
            G2d::Failed(failure) => format!("NOT USABLE: {}\n", failure.text),
            G2d::Found(_, text) => format!("```text\n{}\n```\n", text.trim_end()),
        };
    }
    if parts.contains(&Part::Answers) {
        answers(&mut out, &findings.answers);
    }
    if let Some(all) = &findings.costs {
        if parts.len() > 1 {
            let (w, h) = (all.width, all.height);
            let _ = write!(out, "\n## Paths of a frame, {w}x{h} at {} fps\n\n", all.fps);
        }
        costs(&mut out, all);
    }
    if parts.len() > 1 {
        out += "\n## What to do\n\n";
        if advice.is_empty() {
            out += "Nothing was found that is slow or wrong.\n";
        }
        for (i, a) in (1..).zip(advice) {
            let _ = writeln!(out, "{i}. {}: {}\n   {}", a.about, a.problem, a.action);
        }
    }
    out.trim_start_matches('\n').to_owned()
}

fn machine(out: &mut String, m: &Machine) {
    let model = if m.model.is_empty() { "a machine that does not name its model" } else { &m.model };
    let _ = writeln!(out, "# {model}\n");
    let memory = m.memory_kib / 1024;
    let _ =
        writeln!(out, "Linux {} on {}, {} processors, {memory} MiB of memory", m.kernel, m.architecture, m.processors);
    let _ = match m.cma_kib {
        Some((total, free)) => writeln!(out, "contiguous memory (CMA): {} MiB, {} MiB free", total / 1024, free / 1024),
        None => writeln!(out, "contiguous memory (CMA): none reported"),
    };
    if !m.is_root {
        *out += "This user is not root: other users' processes cannot be seen.\n";
    }
}

/// Who has the node open, or why it cannot be opened.
fn state(node: &Node) -> String {
    let mut text = String::new();
    if let Some(failure) = &node.failed {
        let _ = write!(text, ": NOT OPENED: {}", failure.text);
    }
    if !node.holders.is_empty() {
        let names: Vec<String> = node.holders.iter().map(|h| format!("{} ({})", h.name, h.pid)).collect();
        let _ = write!(text, "; open in {}", names.join(", "));
    }
    text
}

/// A long list of formats or sizes helps no reader. The JSON has all of it.
const SHOWN: usize = 100;
/// For the reason of a refusal.
const REASON: usize = 160;

fn short(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{} ...", text[..at].trim_end_matches([',', ' '])),
        None => text.to_owned(),
    }
}

fn video(out: &mut String, video: &Video) {
    let Video { node, driver, card, role, .. } = video;
    if node.failed.is_some() {
        let _ = writeln!(out, "{}{}", node.path, state(node));
        return;
    }
    let planar = if video.multi_planar { ", multi-planar" } else { "" };
    let _ = writeln!(out, "{}: {}, {driver} ({card}){planar}{}", node.path, role.name(), state(node));
    for queue in &video.queues {
        for (codes, sizes) in &queue.formats {
            let _ =
                writeln!(out, "    {} {}: {}", queue.direction, short(&codes.join(" "), SHOWN), short(sizes, SHOWN));
        }
        if queue.unknown > 0 {
            let _ =
                writeln!(out, "    {}: {} formats that framelease does not lay out", queue.direction, queue.unknown);
        }
    }
    if let Some(path) = &video.media_path {
        let _ = writeln!(out, "    media path: {path}");
    }
}

fn memory(out: &mut String, findings: &Findings) {
    *out += "\n## Memory to share\n\n";
    for (name, failure) in &findings.memory.heaps {
        let _ = match failure {
            None => writeln!(out, "{name}: yes"),
            Some(failure) => writeln!(out, "{name}: NO: {}", failure.text),
        };
    }
    let chosen = findings.memory.for_devices.as_deref().unwrap_or("none");
    let _ = writeln!(out, "chosen for buffers that devices import: {chosen}");
}

fn display(out: &mut String, display: &Display) {
    let Display { node, driver, .. } = display;
    if node.failed.is_some() {
        let _ = writeln!(out, "{}{}", node.path, state(node));
        return;
    }
    let kind = if display.atomic { "atomic" } else { "without atomic modesetting" };
    let imports = if display.imports { "" } else { ", imports no dma-bufs" };
    let _ = writeln!(out, "{}: {driver}, {kind}{imports}{}", node.path, state(node));
    for connector in &display.connectors {
        let _ = writeln!(out, "    connector {connector}");
    }
    for plane in &display.planes {
        let _ = writeln!(out, "    plane {}", short(plane, SHOWN));
    }
}

fn cell(text: &str) -> String {
    text.replace(['|', '\n'], " ")
}

/// A row for each answer. Questions that were not asked for one reason share a line.
fn answers(out: &mut String, answers: &[Answer]) {
    *out += "\n## Questions of docs/boards.md\n\n| question | device | answer |\n|---|---|---|\n";
    let mut unasked: Vec<(String, Vec<&str>)> = Vec::new();
    for Answer { question, device, answer } in answers {
        let text = text_of(question);
        match answer {
            Ok((_, answer)) => {
                let _ = writeln!(out, "| {text} | {} | {} |", cell(device), cell(&short(answer, REASON)));
            }
            Err(why) if !device.is_empty() => {
                let _ = writeln!(out, "| {text} | {} | no answer: {} |", cell(device), cell(&short(why, REASON)));
            }
            Err(why) => match unasked.iter_mut().find(|(reason, _)| reason == why) {
                Some((_, texts)) => texts.push(text),
                None => unasked.push((why.clone(), vec![text])),
            },
        }
    }
    for (why, texts) in unasked {
        let _ = writeln!(out, "\nnot asked, {why}: {}", texts.join("; "));
    }
}

fn costs(out: &mut String, costs: &Costs) {
    *out += "| path | memory | CPU of its processes | of the machine | both without capture | copy to dmabuf | system calls | \
             page faults | context switches | bytes copied | latency, us: p50, p99 | lost |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|\n";
    for row in &costs.rows {
        let (path, memory) = (row.path, row.memory);
        if let Some(why) = &row.failed {
            let _ = writeln!(out, "| {path} | {memory} | NOT RUN: {} | | | | | | | | | |", cell(&why.text));
            continue;
        }
        let [cpu, machine, calls, copied, faults, switches, half, most, ..] = row.counts;
        let pair = |of: &dyn Fn(usize) -> Option<f64>, digits: usize| match (of(0), of(1)) {
            (Some(a), Some(b)) => format!("{a:.digits$}, {b:.digits$}"),
            _ => String::new(),
        };
        let is_capture = row.path == row.capture;
        let beyond = if is_capture { String::new() } else { pair(&|i| costs.beyond_capture(row, i), 0) };
        let ratios = pair(&|i| costs.ratio(row, i), 2);
        let _ = writeln!(
            out,
            "| {path} | {memory} | {cpu:.0} | {machine:.0} | {beyond} | {ratios} | {calls:.2} | {faults:.2} | \
             {switches:.2} | {copied:.0} | {} | {} |",
            if half.is_nan() { "not known".into() } else { format!("{half:.0}, {most:.0}") },
            row.lost
        );
    }
}
