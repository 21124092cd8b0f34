//! The limits of what sharing may cost, beside what was measured.

use std::fmt::Write;

use super::build::{FLOOR, ICEORYX2_COPIED, OURS, SHMSINK, UNIXFD};
use super::figures::{quantile, Figures, Key};
use super::report::{flat_rows, is_flat_only};
use super::spread::Spread;
use super::turn::Turn;

pub struct Budget {
    pub what: String,
    pub limit: f64,
    pub measured: Spread,
}

impl Budget {
    pub fn holds(&self) -> bool {
        self.measured.median <= self.limit
    }
}

pub fn list(figures: &Figures) -> Vec<Budget> {
    let mut list = Vec::new();
    let keys = figures.keys();
    for key in keys.iter().filter(|k| !is_flat_only(k, &keys)) {
        let mut add = |what: &str, limit, rival, compare: &dyn Fn(&Turn, &Turn) -> Option<f64>| {
            if let Some(measured) = spread(figures, *key, rival, compare) {
                list.push(Budget { what: format!("{what}, {key}"), limit, measured });
            }
        };
        let cpu = |rival: &'static str| {
            let [own, other] = [OURS, rival].map(|name| figures.source(name, key.size.fps));
            // A contender that loses frames for want of CPU cannot be compared.
            move |a: &Turn, b: &Turn| {
                let is_whole = a.received.min(b.received) >= 0.95;
                is_whole.then(|| (a.whole_us() - own) / (b.whole_us() - other))
            }
        };
        if key.reads {
            add("CPU to the floor's", 1.1, FLOOR, &cpu(FLOOR));
            add("CPU to shmsink's", 1.0, SHMSINK, &cpu(SHMSINK));
            add("CPU to iceoryx2's, copied in", 1.0, ICEORYX2_COPIED, &cpu(ICEORYX2_COPIED));
            continue;
        }
        let medians = |a: &Turn, b: &Turn| Some((quantile(&a.latencies_us, 0.5)?, quantile(&b.latencies_us, 0.5)?));
        let (above, of_unixfd) = match key.consumers {
            0..=2 => (25.0, 1.0),
            3..=7 => (25.0, 0.6),
            _ => (50.0, 0.5),
        };
        add("CPU to the floor's", 1.2, FLOOR, &cpu(FLOOR));
        add("latency p50 above the floor's, µs", above, FLOOR, &|a, b| medians(a, b).map(|(a, b)| a - b));
        add("CPU to unixfd's", of_unixfd, UNIXFD, &cpu(UNIXFD));
        // One turn has too few frames for it.
        let late = |name| figures.row(*key, name)?.latency(0.99);
        if let (Some(a), Some(b)) = (late(OURS), late(FLOOR)) {
            let measured = Spread { median: a / b, interval: None };
            list.push(Budget { what: format!("latency p99 of all turns to the floor's, {key}"), limit: 1.4, measured });
        }
    }
    let flat: Vec<f64> = flat_rows(figures, OURS).iter().map(|r| r.net).collect();
    if let [first, _, last] = flat[..] {
        // Its spread over turns is as wide.
        let measured = Spread { median: last / first, interval: None };
        list.push(Budget { what: "CPU of 3840x2160 to 640x360".into(), limit: 1.15, measured });
    }
    list
}

/// Compares framelease with a rival turn by turn: the two run one after the other, under the same load of the machine.
fn spread(
    figures: &Figures,
    key: Key,
    rival: &'static str,
    compare: &dyn Fn(&Turn, &Turn) -> Option<f64>,
) -> Option<Spread> {
    let pairs = figures.turns(key, OURS).iter().zip(figures.turns(key, rival));
    Spread::of(&pairs.filter_map(|(a, b)| compare(a, b)).collect::<Vec<_>>())
}

pub fn table(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let list = list(figures);
    if list.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n### Budgets\n\nMeasured: the median over the turns, and from five turns on the interval that contains the \
         true median in 90 of 100 cases.\n\n| what | budget: at most | measured | holds |\n|---|---|---|---|"
    )?;
    for b in list {
        let holds = if b.holds() { "yes" } else { "no" };
        writeln!(out, "| {} | {} | {} | {holds} |", b.what, b.limit, b.measured)?;
    }
    Ok(())
}
