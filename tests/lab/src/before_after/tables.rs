//! The tables, for the terminal and for docs/performance.md, and all figures as JSON.

use std::fmt::Write;

use serde_json::{json, Value};

use super::contenders::{title, Contender, ALL, OURS};
use super::figures::{Figures, Row};
use super::plan::{Cell, Size, FULL_RATE};

type Rows<'a> = Vec<(&'a Cell, &'a Row)>;

impl Figures {
    /// Those at the rate at which all can follow, or those at the full rate, in the contenders' order.
    fn rows(&self, size: (u32, u32), consumers: u32, is_full: bool) -> Rows<'_> {
        let of = |contender: &Contender| {
            self.0.iter().find(|(cell, _)| {
                (cell.width, cell.height, cell.consumers) == (size.0, size.1, consumers)
                    && cell.contender == contender.name
                    && (cell.fps == FULL_RATE) == is_full
            })
        };
        ALL.iter().filter_map(of).collect()
    }

    pub fn row(&self, name: &str, size: Size, consumers: u32) -> Option<&Row> {
        let rows = self.rows((size.width, size.height), consumers, false);
        rows.into_iter().find(|(cell, _)| cell.contender == name).map(|(_, row)| row)
    }

    fn jobs(&self) -> Vec<(u32, u32, u32, u32)> {
        let mut jobs: Vec<_> = self.0.keys().map(|c| (c.width, c.height, c.fps, c.consumers)).collect();
        jobs.sort_unstable();
        jobs.dedup();
        jobs
    }
}

pub fn tables(figures: &Figures, turns: u32, seconds: u64) -> String {
    let mut out = String::new();
    write_all(&mut out, figures, turns, seconds).unwrap_or_default();
    out
}

fn write_all(out: &mut String, figures: &Figures, turns: u32, seconds: u64) -> std::fmt::Result {
    writeln!(
        out,
        "{turns} turns, {seconds} s in all. CPU is in thousands of instructions for each frame of the camera."
    )?;
    summary(out, figures)?;
    for (width, height, fps, consumers) in figures.jobs().into_iter().filter(|job| job.2 != FULL_RATE) {
        let plural = if consumers == 1 { "" } else { "s" };
        writeln!(out, "\n### {width}x{height} at {fps} a second, {consumers} consumer{plural}\n")?;
        writeln!(
            out,
            "| contender | CPU of its processes (least to most) | user, system | to `node` | of the machine | \
             system calls | page faults | processes, threads | memory: peak, shared pages once, MiB | lost |\n\
             |---|---|---|---|---|---|---|---|---|---|"
        )?;
        let rows = figures.rows((width, height), consumers, false);
        let ours =
            rows.iter().find(|(cell, row)| cell.contender == OURS && !row.turns.is_empty()).map(|(_, r)| r.cpu());
        for (cell, row) in &rows {
            line(out, cell, row, ours)?;
        }
        stand_ins(out, &rows)?;
    }
    full_rate(out, figures)?;
    notes(out, figures)
}

/// Contenders by sizes and consumers.
fn summary(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let jobs: Vec<_> = figures.jobs().into_iter().filter(|job| job.2 != FULL_RATE).collect();
    let heads: String =
        jobs.iter().map(|(_, height, _, consumers)| format!(" {height} lines, {consumers} |")).collect();
    writeln!(out, "\n| CPU of all processes | {}\n|---|{}", heads.trim_start(), "---|".repeat(jobs.len()))?;
    for contender in &ALL {
        let cell = |job: &(u32, u32, u32, u32)| {
            let rows = figures.rows((job.0, job.1), job.3, false);
            let row = rows.into_iter().find(|(cell, _)| cell.contender == contender.name);
            row.filter(|(_, row)| !row.turns.is_empty()).map(|(_, row)| amount(row.cpu()))
        };
        let cells: Vec<Option<String>> = jobs.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let cells: String = cells.into_iter().map(|c| format!(" {} |", c.unwrap_or_else(|| "–".into()))).collect();
            writeln!(out, "| {} (`{}`) |{cells}", contender.title, contender.name)?;
        }
    }
    Ok(())
}

fn line(out: &mut String, cell: &Cell, row: &Row, ours: Option<f64>) -> std::fmt::Result {
    write!(out, "| {} ", title(&cell.contender))?;
    let Some(first) = row.turns.first() else {
        let why = row.errors.first().map_or("not measured", String::as_str);
        return writeln!(out, "| NOT MEASURED: {} | | | | | | | | |", short(why));
    };
    let (least, most) = row.spread();
    let split = row.split().map_or("–".into(), |(user, system)| format!("{}, {}", amount(user), amount(system)));
    let ratio = match ours {
        Some(ours) if cell.contender != OURS => format!("{:.2}", row.cpu() / ours),
        _ => String::new(),
    };
    let calls = row.calls().map_or("–".into(), |n| format!("{n:.0}"));
    let mib = |kib: u64| format!("{:.0}", kib as f64 / 1024.0);
    writeln!(
        out,
        "| {} ({} to {}) | {split} | {ratio} | {} | {calls} | {:.1} | {}, {} | {}, {} | {} |",
        amount(row.cpu()),
        amount(least),
        amount(most),
        amount(row.machine()),
        row.faults(),
        first.processes,
        first.threads,
        mib(first.peak_kib),
        mib(first.proportional_kib),
        row.lost(),
    )
}

/// The work of others, which is counted apart.
fn stand_ins(out: &mut String, rows: &Rows) -> std::fmt::Result {
    let range = |which: fn(&Row) -> f64| {
        let all = rows.iter().filter(|(_, row)| !row.turns.is_empty()).map(|(_, row)| which(row));
        let (least, most) = all.fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
        if least > most {
            "–".into()
        } else {
            format!("{} to {}", amount(least), amount(most))
        }
    };
    writeln!(out, "\nCounted apart: hardware {}, receivers {}.", range(Row::hardware), range(Row::receivers))
}

/// The pictures that arrive at the full rate.
fn full_rate(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let Some((width, height, _, consumers)) = figures.jobs().into_iter().find(|job| job.2 == FULL_RATE) else {
        return Ok(());
    };
    writeln!(
        out,
        "\n### {width}x{height} at {FULL_RATE} a second, {consumers} consumers\n\n\
         The processor of the guest executes 10⁹ instructions a second, those of the stand-ins for hardware among them.\n\n\
         | contender | different pictures at each RTP receiver, a second | CPU of its processes, a second |\n|---|---|---|"
    )?;
    for (cell, row) in figures.rows((width, height), consumers, true) {
        write!(out, "| {} ", title(&cell.contender))?;
        let Some(measured) = row.turns.first() else {
            let why = row.errors.first().map_or("not measured", String::as_str);
            writeln!(out, "| NOT MEASURED: {} | |", short(why))?;
            continue;
        };
        let seconds = f64::from(row.frames) / f64::from(FULL_RATE);
        let pictures = match &row.checked {
            Some(Ok(checked)) => checked.pictures.clone(),
            _ => measured.outputs.iter().map(|o| o.frames).collect(),
        };
        let range = match (pictures.iter().min(), pictures.iter().max()) {
            (Some(least), Some(most)) => {
                format!("{:.1} to {:.1}", *least as f64 / seconds, *most as f64 / seconds)
            }
            _ => "–".into(),
        };
        writeln!(out, "| {range} | {:.0} % |", measured.cpu * f64::from(FULL_RATE) / 1e4)?;
    }
    Ok(())
}

/// Cells that were not measured or looked at, and what is wrong with streams.
fn notes(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let mut unchecked = None;
    let (mut looked, mut frames) = (0, 0);
    for (cell, row) in &figures.0 {
        let what = format!("{}, {}x{}, {} consumers", cell.contender, cell.width, cell.height, cell.consumers);
        for error in &row.errors {
            writeln!(out, "\nNOT MEASURED: {what} at {} a second: {}", cell.fps, short(error))?;
        }
        let broken: u64 = row.turns.iter().flat_map(|m| &m.outputs).map(|o| o.lost_packets + o.malformed).sum();
        if broken > 0 {
            writeln!(out, "\n{what} at {} a second: {broken} RTP packets were lost or malformed.", cell.fps)?;
        }
        match &row.checked {
            Some(Ok(checked)) => {
                looked += 1;
                frames += checked.frames;
                let (repeated, missing) = (checked.repeated, checked.missing);
                if repeated + missing > 0 {
                    writeln!(
                        out,
                        "\n{what} at {} a second: {repeated} pictures came twice, {missing} are missing at an output.",
                        cell.fps
                    )?;
                }
            }
            Some(Err(why)) => unchecked = Some(format!("{what}: {}", short(why))),
            None => {}
        }
    }
    if looked > 0 {
        writeln!(
            out,
            "\nffmpeg decoded the outputs of {looked} runs and found {frames} frames of the measured time in them. \
             Except for what is named here, every output has every frame."
        )?;
    }
    match unchecked {
        Some(why) => writeln!(out, "\nNOT CHECKED: streams of {why}"),
        None => Ok(()),
    }
}

/// Thousands of instructions: 1234 is "1,234".
fn amount(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let rest = digits.len() - at;
        if at > 0 && rest % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// One line that fits.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().replace('|', "/");
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

pub fn json(figures: &Figures, turns: u32, seconds: u64) -> Value {
    let row = |(cell, row): (&Cell, &Row)| {
        let checked = row.checked.as_ref().and_then(|c| c.as_ref().ok());
        let first = row.turns.first();
        let measured = |value: f64| (!row.turns.is_empty()).then(|| (value * 10.0).round() / 10.0);
        json!({
            "contender": cell.contender,
            "width": cell.width,
            "height": cell.height,
            "fps": cell.fps,
            "consumers": cell.consumers,
            "frames": row.frames,
            "cpu": first.and_then(|_| measured(row.cpu())),
            "cpu_least": first.and_then(|_| measured(row.spread().0)),
            "cpu_most": first.and_then(|_| measured(row.spread().1)),
            "user": row.split().map(|s| s.0.round()),
            "system": row.split().map(|s| s.1.round()),
            "machine": first.and_then(|_| measured(row.machine())),
            "hardware": first.and_then(|_| measured(row.hardware())),
            "receivers": first.and_then(|_| measured(row.receivers())),
            "system_calls": row.calls(),
            "page_faults": first.and_then(|_| measured(row.faults())),
            "processes": first.map(|m| m.processes),
            "threads": first.map(|m| m.threads),
            "peak_kib": first.map(|m| m.peak_kib),
            "proportional_kib": first.map(|m| m.proportional_kib),
            "received": row.outputs().iter().map(|o| o.frames).collect::<Vec<_>>(),
            "different_pictures": checked.map(|c| c.pictures.clone()),
            "lost": row.lost(),
            "repeated": checked.map(|c| c.repeated),
            "missing": checked.map(|c| c.missing),
            "not_checked": row.checked.as_ref().and_then(|c| c.as_ref().err()),
            "errors": row.errors,
        })
    };
    json!({
        "unit": "thousands of instructions for each frame of the camera",
        "turns": turns,
        "seconds": seconds,
        "rows": figures.0.iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Figures, Measured, Output};
    use super::super::outputs::Checked;
    use super::*;

    fn row(cpu: f64) -> Row {
        let output = Output { frames: 30, ..Output::default() };
        let turn = Measured { cpu, machine: cpu + 1.0, processes: 1, outputs: vec![output], ..Measured::default() };
        Row { frames: 60, turns: vec![turn], ..Row::default() }
    }

    fn cell(contender: &str, fps: u32) -> Cell {
        Cell { width: 640, height: 480, fps, consumers: 3, contender: contender.into() }
    }

    #[test]
    fn amounts_have_groups() {
        assert_eq!([0.4, 999.5, 1234.0, 70_500_000.0].map(amount), ["0", "1,000", "1,234", "70,500,000"]);
        assert_eq!([-12.0, -123.0, -1234.0].map(amount), ["-12", "-123", "-1,234"]);
    }

    #[test]
    fn tables_have_ratios_and_reasons() {
        let mut figures = Figures::default();
        figures.0.insert(cell("node", 10), row(200.0));
        figures.0.insert(cell("as-reported", 10), row(14_000.0));
        let failed = Row { errors: vec!["no | frame\nmore".into()], ..Row::default() };
        figures.0.insert(cell("gst-tee", 10), failed);
        let mut full = row(9.0);
        full.checked = Some(Ok(Checked { pictures: vec![20, 24], repeated: 3, ..Checked::default() }));
        figures.0.insert(cell("node", FULL_RATE), full);
        let text = tables(&figures, 1, 9);
        assert!(text.contains("14,000 (14,000 to 14,000) | – | 70.00 | 14,001 |"), "{text}");
        assert!(text.contains("NOT MEASURED: no / frame |"), "{text}");
        assert!(text.contains("| 10.0 to 12.0 |") && text.contains("3 pictures came twice"), "{text}");
        let json = json(&figures, 1, 9);
        assert_eq!(json["rows"].as_array().map(Vec::len), Some(4));
        assert_eq!(json["rows"][0]["cpu"], 14_000.0);
    }
}
