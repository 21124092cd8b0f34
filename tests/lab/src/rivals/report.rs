//! The tables, for the terminal and for docs/performance.md.

use std::fmt::Write;

use super::budgets;
use super::build::OURS;
use super::figures::{Figures, Key, Row};
use super::{FLAT, SIZES};
use crate::Res;

/// Puts a text where the page has the two marks for it.
pub fn insert(page: &str, name: &str, text: &str) -> Res<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let missing = || format!("the page has lost its lines {begin} and {end}");
    let (head, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{head}{begin}\n\n{}\n\n{end}{tail}", text.trim_end()))
}

pub fn tables(figures: &Figures) -> String {
    let mut out = String::new();
    write(&mut out, figures).unwrap_or_default();
    out
}

fn write(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let Figures { machine, turns, seconds, physics, .. } = figures;
    writeln!(out, "{machine}; {turns} turns, {seconds} s in all.\n")?;
    write!(out, "What the machine itself costs: a 64-byte message to another process and 16 bytes back ")?;
    write!(out, "{:.1} µs", physics.ping_us)?;
    for (size, us) in &physics.copy_us {
        write!(out, "; a `memcpy` of a {}x{} frame {us:.0} µs", size.width, size.height)?;
    }
    writeln!(out, ".")?;
    for (name, why) in &figures.absent {
        writeln!(out, "\nNOT MEASURED: {name}: {why}.")?;
    }
    budgets::table(out, figures)?;
    let keys = figures.keys();
    let mut jobs: Vec<Key> = keys.iter().filter(|k| !is_flat_only(k, &keys)).copied().collect();
    jobs.dedup_by_key(|k| (k.size, k.reads));
    for job in jobs {
        let what = if job.reads { "read every pixel" } else { "only receive and release" };
        writeln!(out, "\n### {}, consumers that {what}\n", job.size.name())?;
        if let Some((_, us)) = physics.copy_us.iter().find(|(size, _)| *size == job.size) {
            writeln!(out, "Beside it: one `memcpy` of the frame is {us:.0} µs, one ping {:.1} µs.\n", physics.ping_us)?;
        }
        writeln!(
            out,
            "| consumers | contender | CPU of all, µs a frame (least to most) | without its source | publisher | \
             a consumer | ours to it | latency p50, p99, p99.9, µs | memory, MB | received |\n\
             |---|---|---|---|---|---|---|---|---|---|"
        )?;
        for key in keys.iter().filter(|k| (k.size, k.reads) == (job.size, job.reads)) {
            let rows = figures.rows(*key);
            let ours = rows.iter().find(|r| r.name == OURS);
            for row in &rows {
                line(out, row, ours)?;
            }
        }
    }
    latencies(out, figures)?;
    calls(out, figures)?;
    flat(out, figures)?;
    losses(out, figures)?;
    for (key, name, why) in figures.failures() {
        writeln!(out, "\nFAILED: {name}, {key}: {why}")?;
    }
    Ok(())
}

fn line(out: &mut String, row: &Row, ours: Option<&Row>) -> std::fmt::Result {
    let [whole, least, most] = row.whole;
    let ratio = match ours {
        Some(ours) if row.name != OURS && row.net > 0.0 => {
            // A contender that loses frames for want of CPU cannot be compared.
            let is_overloaded = ours.received.min(row.received) < 95.0;
            if is_overloaded {
                "–".into()
            } else {
                format!("{:.2}", ours.net / row.net)
            }
        }
        _ => String::new(),
    };
    let latency = |q| row.latency(q).map_or("–".into(), |us| format!("{us:.0}"));
    writeln!(
        out,
        "| {} | {} | {whole:.0} ({least:.0} to {most:.0}) | {:.0} | {:.0} | {:.0} | {ratio} | {}, {}, {} | {:.1} | \
         {:.0} % |",
        row.key.consumers,
        row.name,
        row.net,
        row.producer,
        row.consumer,
        latency(0.5),
        latency(0.99),
        latency(0.999),
        row.memory_mb,
        row.received
    )
}

/// Of the job with most samples that each contender can do.
fn latencies(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let is_it = |k: &Key| !k.reads && k.size == SIZES[0] && k.consumers == 3;
    let Some(key) = figures.keys().into_iter().find(is_it) else { return Ok(()) };
    writeln!(
        out,
        "\n### Latency\n\nFrom publish to receive, µs, {key}: this share of the frames is received within.\n\n\
         | contender | 10 % | 25 % | 50 % | 75 % | 90 % | 99 % |\n|---|---|---|---|---|---|---|"
    )?;
    for row in figures.rows(key) {
        let cells: String = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
            .map(|q| row.latency(q).map_or(" – |".into(), |us| format!(" {us:.0} |")))
            .concat();
        writeln!(out, "| {} |{cells}", row.name)?;
    }
    Ok(())
}

fn calls(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let traced = |key: &Key| figures.rows(*key).into_iter().any(|r| r.calls.is_some());
    let keys: Vec<Key> = figures.keys().into_iter().filter(traced).collect();
    if keys.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n### System calls a frame\n\nCounted by `strace -f -c` after the figure's time: publisher, one consumer.\n"
    )?;
    let heads: String = keys.iter().map(|k| format!(" C = {} |", k.consumers)).collect();
    writeln!(out, "| contender |{heads}\n|---|{}", "---|".repeat(keys.len()))?;
    for name in &figures.names {
        let cell = |key: &Key| match figures.row(*key, name).and_then(|r| r.calls) {
            Some((producer, consumer)) => format!(" {producer:.1}, {consumer:.1} |"),
            None => " – |".into(),
        };
        let cells: String = keys.iter().map(cell).collect();
        writeln!(out, "| {name} |{cells}")?;
    }
    Ok(())
}

/// One pace, one number of consumers, three sizes.
pub fn flat_rows(figures: &Figures, name: &'static str) -> Vec<Row> {
    let consumers = figures.keys().into_iter().find(|k| k.size == FLAT[0]).map_or(0, |k| k.consumers);
    FLAT.iter().filter_map(|&size| figures.row(Key { size, consumers, reads: false }, name)).collect()
}

/// Measured for the curve over sizes alone.
pub fn is_flat_only(key: &Key, keys: &[Key]) -> bool {
    !key.reads && FLAT.contains(&key.size) && !keys.contains(&Key { reads: true, ..*key })
}

fn flat(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let Some(first) = flat_rows(figures, OURS).first().map(|r| r.key) else { return Ok(()) };
    writeln!(
        out,
        "\n### Over size\n\n{} frames a second, {} consumers that only receive: CPU of all without the source, µs a \
         frame.\n\n| contender | 640x360 | 1920x1080 | 3840x2160 | last to first |\n|---|---|---|---|---|",
        first.size.fps, first.consumers
    )?;
    for name in &figures.names {
        let rows = flat_rows(figures, name);
        if let [a, b, c] = &rows[..] {
            writeln!(out, "| {name} | {:.0} | {:.0} | {:.0} | {:.2} |", a.net, b.net, c.net, c.net / a.net)?;
        }
    }
    Ok(())
}

fn losses(out: &mut String, figures: &Figures) -> std::fmt::Result {
    if figures.losses.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n### Frames lost by the others\n\n1080p at 30, three consumers, once: one is stopped for 10 s and continued, \
         another one is killed. Of the others, the one that lost most.\n\n\
         | contender | while one was stopped | after one was killed |\n|---|---|---|"
    )?;
    for (name, losses) in &figures.losses {
        match losses {
            Ok(u) => writeln!(out, "| {name} | {} of {} | {} of {} |", u.stop.0, u.stop.1, u.kill.0, u.kill.1)?,
            Err(e) => writeln!(out, "| {name} | NOT MEASURED: {e} | |")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let new = insert(page, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n");
        assert_eq!(insert(&new, "x", "new").unwrap(), new);
        assert!(insert(&new, "y", "new").is_err());
    }
}
