//! The figures as one JSON object.

use serde_json::{json, Value};

use super::budgets;
use super::figures::{Figures, Row};

pub fn of(figures: &Figures) -> Value {
    let copies = figures.physics.copy_us.iter();
    let copies = copies.map(|(size, us)| (format!("{}x{}", size.width, size.height), json!(rounded(*us))));
    let rows = figures.keys().into_iter().flat_map(|key| figures.rows(key));
    let losses = figures.losses.iter().map(|(name, losses)| match losses {
        Ok(l) => json!({
            "contender": name, "lost_while_one_stopped": l.stop.0, "lost_after_one_killed": l.kill.0,
        }),
        Err(e) => json!({"contender": name, "error": e}),
    });
    json!({
        "machine": figures.machine,
        "turns": figures.turns,
        "seconds": figures.seconds,
        "ping_us": rounded(figures.physics.ping_us),
        "memcpy_us": copies.collect::<serde_json::Map<_, _>>(),
        "rows": rows.map(|r| row(figures, &r)).collect::<Vec<_>>(),
        "budgets": budgets::list(figures)
            .iter()
            .map(|b| json!({
                "what": b.what,
                "at_most": b.limit,
                "measured": rounded(b.measured.median),
                "interval_90_percent": b.measured.interval.map(|interval| interval.map(rounded)),
                "holds": b.holds(),
            }))
            .collect::<Vec<_>>(),
        "losses": losses.collect::<Vec<_>>(),
        "failed": figures
            .failures()
            .map(|(key, name, why)| json!({"contender": name, "job": key.to_string(), "error": why}))
            .collect::<Vec<_>>(),
        "not_measured":
            figures.absent.iter().map(|(name, why)| json!({"contender": name, "why": why})).collect::<Vec<_>>(),
    })
}

fn row(figures: &Figures, r: &Row) -> Value {
    let [whole, least, most] = r.whole.map(rounded);
    json!({
        "contender": r.name,
        "width": r.key.size.width,
        "height": r.key.size.height,
        "fps": r.key.size.fps,
        "consumers": r.key.consumers,
        "reads": r.key.reads,
        "cpu_us": whole,
        "cpu_us_least": least,
        "cpu_us_most": most,
        "source_us": rounded(figures.source(r.name, r.key.size.fps)),
        "cpu_us_without_source": rounded(r.net),
        "publisher_us": rounded(r.producer),
        "consumer_us": rounded(r.consumer),
        "received_percent": rounded(r.received),
        "latency_us_p50": r.latency(0.5).map(rounded),
        "latency_us_p99": r.latency(0.99).map(rounded),
        "latency_us_p999": r.latency(0.999).map(rounded),
        "publisher_calls": r.calls.map(|c| rounded(c.0)),
        "consumer_calls": r.calls.map(|c| rounded(c.1)),
        "memory_mb": rounded(r.memory_mb),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_have_two_digits() {
        assert_eq!([1.0 / 3.0, 12.999, f64::from(7)].map(super::rounded), [0.33, 13.0, 7.0]);
    }
}
