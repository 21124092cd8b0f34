//! The figures as one JSON object.

use std::fmt::Write;

use super::figures::{Figures, Row};
use super::report::budget_list;

pub fn of(figures: &Figures) -> String {
    let mut out = format!(
        "{{\n  \"machine\": {},\n  \"turns\": {},\n  \"seconds\": {},\n  \"ping_us\": {:.2},\n",
        text(&figures.machine),
        figures.turns,
        figures.seconds,
        figures.physics.ping_us
    );
    let copies = figures.physics.copy_us.iter();
    let copies = copies.map(|(size, us)| format!("\"{}x{}\": {us:.1}", size.width, size.height));
    let _ = writeln!(out, "  \"memcpy_us\": {{{}}},", copies.collect::<Vec<_>>().join(", "));
    let rows = figures.keys().into_iter().flat_map(|key| figures.rows(key)).map(|r| row(figures, &r));
    list(&mut out, "rows", rows.collect());
    let budgets = budget_list(figures).into_iter().map(|b| {
        let (what, holds) = (text(&b.what), b.holds());
        format!("{{\"what\": {what}, \"at_most\": {}, \"measured\": {:.3}, \"holds\": {holds}}}", b.limit, b.measured)
    });
    list(&mut out, "budgets", budgets.collect());
    let upsets = figures.upsets.iter().map(|(name, upset)| match upset {
        Ok(u) => format!(
            "{{\"contender\": {}, \"lost_while_one_stopped\": {}, \"lost_after_one_killed\": {}}}",
            text(name),
            u.stop.0,
            u.kill.0
        ),
        Err(e) => format!("{{\"contender\": {}, \"error\": {}}}", text(name), text(e)),
    });
    list(&mut out, "upsets", upsets.collect());
    let failed = figures.failures().map(|(key, name, why)| {
        format!("{{\"contender\": {}, \"job\": {}, \"error\": {}}}", text(name), text(&key.to_string()), text(why))
    });
    list(&mut out, "failed", failed.collect());
    let absent =
        figures.absent.iter().map(|(name, why)| format!("{{\"contender\": {}, \"why\": {}}}", text(name), text(why)));
    list(&mut out, "not_measured", absent.collect());
    // The last comma is one too many.
    out.truncate(out.trim_end().len() - 1);
    out.push_str("\n}\n");
    out
}

fn list(out: &mut String, name: &str, items: Vec<String>) {
    let _ = match items.is_empty() {
        true => writeln!(out, "  \"{name}\": [],"),
        false => writeln!(out, "  \"{name}\": [\n    {}\n  ],", items.join(",\n    ")),
    };
}

fn row(figures: &Figures, r: &Row) -> String {
    let number = |value: Option<f64>| value.map_or("null".into(), |v| format!("{v:.2}"));
    let [whole, least, most] = r.whole;
    format!(
        "{{\"contender\": {}, \"width\": {}, \"height\": {}, \"fps\": {}, \"consumers\": {}, \"reads\": {}, \
         \"cpu_us\": {whole:.2}, \"cpu_us_least\": {least:.2}, \"cpu_us_most\": {most:.2}, \"source_us\": {:.2}, \
         \"cpu_us_without_source\": {:.2}, \"publisher_us\": {:.2}, \"consumer_us\": {:.2}, \"received_percent\": {:.1}, \
         \"latency_us_p50\": {}, \"latency_us_p99\": {}, \"latency_us_p999\": {}, \"publisher_calls\": {}, \
         \"consumer_calls\": {}, \"memory_mb\": {:.1}}}",
        text(r.name),
        r.key.size.width,
        r.key.size.height,
        r.key.size.fps,
        r.key.consumers,
        r.key.reads,
        figures.source(r.name, r.key.size.fps),
        r.net,
        r.producer,
        r.consumer,
        r.received,
        number(r.latency(0.5)),
        number(r.latency(0.99)),
        number(r.latency(0.999)),
        number(r.calls.map(|c| c.0)),
        number(r.calls.map(|c| c.1)),
        r.memory_mb
    )
}

fn text(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_escaped() {
        assert_eq!(super::text("a \"b\"\n\\"), "\"a \\\"b\\\" \\\\\"");
    }
}
