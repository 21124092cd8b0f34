//! Small line plots as SVG: logarithmic axes, a legend, nothing else.

use std::fmt::Write;

use super::figures::{Figures, Key};
use super::report::flat_rows;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart by the colour-blind, too.
const COLOURS: [&str; 6] = ["#0072b2", "#000000", "#d55e00", "#e69f00", "#009e73", "#cc79a7"];

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

struct Plot {
    title: String,
    x: &'static str,
    y: &'static str,
    /// Where the x axis has marks, and what they say.
    marks: Vec<(f64, String)>,
    is_y_log: bool,
    lines: Vec<Line>,
}

/// Name and picture.
pub fn all(figures: &Figures) -> Vec<(&'static str, String)> {
    let plots =
        [("cpu-over-consumers", consumers(figures)), ("cpu-over-size", sizes(figures)), ("latency", latency(figures))];
    plots.into_iter().filter(|(_, p)| !p.lines.is_empty()).map(|(name, p)| (name, p.draw())).collect()
}

fn lines(figures: &Figures, points: impl Fn(&'static str) -> Vec<(f64, f64)>) -> Vec<Line> {
    let lines = figures.names.iter().map(|name| Line { name: (*name).into(), points: points(name) });
    lines.filter(|line| line.points.len() > 1).collect()
}

fn consumers(figures: &Figures) -> Plot {
    let first = figures.keys().into_iter().find(|k| !k.reads && k.size.height == 1080 && k.size.fps == 30);
    let keys: Vec<Key> =
        figures.keys().into_iter().filter(|k| first.is_some_and(|f| f.size == k.size) && !k.reads).collect();
    let point = |key: &Key, name| Some((f64::from(key.consumers), figures.row(*key, name)?.net));
    Plot {
        title: "CPU of all processes without the source, 1080p at 30, consumers that only receive".into(),
        x: "consumers",
        y: "µs a frame",
        marks: keys.iter().map(|k| (f64::from(k.consumers), k.consumers.to_string())).collect(),
        is_y_log: true,
        lines: lines(figures, |name| keys.iter().filter_map(|k| point(k, name)).collect()),
    }
}

fn sizes(figures: &Figures) -> Plot {
    let pixels = |k: Key| f64::from(k.size.width) * f64::from(k.size.height);
    let keys: Vec<Key> = figures
        .names
        .iter()
        .map(|n| flat_rows(figures, n))
        .max_by_key(Vec::len)
        .unwrap_or_default()
        .iter()
        .map(|r| r.key)
        .collect();
    Plot {
        title: "CPU of all processes without the source, 60 frames a second, consumers that only receive".into(),
        x: "frame size",
        y: "µs a frame",
        marks: keys.iter().map(|k| (pixels(*k), format!("{}x{}", k.size.width, k.size.height))).collect(),
        is_y_log: true,
        lines: lines(figures, |name| flat_rows(figures, name).iter().map(|r| (pixels(r.key), r.net)).collect()),
    }
}

fn latency(figures: &Figures) -> Plot {
    let is_it = |k: &Key| !k.reads && k.size.height == 1080 && k.size.fps == 30 && k.consumers == 3;
    let key = figures.keys().into_iter().find(is_it);
    let curve = |name| {
        let row = key.and_then(|key| figures.row(key, name));
        let sorted = row.map(|r| r.latencies).unwrap_or_default();
        let steps = (1..100).map(|percent| sorted.get(sorted.len() * percent / 100).map(|us| (*us, percent as f64)));
        steps.flatten().collect()
    };
    Plot {
        title: "From publish to receive, 1080p at 30, three consumers that only receive".into(),
        x: "µs",
        y: "% of frames",
        marks: [10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0].map(|us: f64| (us, us.to_string())).to_vec(),
        is_y_log: false,
        lines: lines(figures, curve),
    }
}

impl Plot {
    fn draw(&self) -> String {
        let all = || self.lines.iter().flat_map(|l| &l.points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v.max(1.0)), b.max(v.max(1.0))))
        };
        let (x0, x1) = range(&mut all().map(|p| p.0));
        let (y0, y1) = match self.is_y_log {
            // To whole decades.
            true => {
                let (a, b) = range(&mut all().map(|p| p.1));
                (10f64.powf(a.log10().floor()), 10f64.powf(b.log10().ceil()))
            }
            false => (0.0, 100.0),
        };
        let scale = |v: f64, a: f64, b: f64, log: bool| match log {
            true => (v.max(1.0).ln() - a.ln()) / (b.ln() - a.ln()).max(1e-9),
            false => (v - a) / (b - a),
        };
        let x = |v: f64| LEFT + scale(v, x0, x1, true) * (WIDTH - LEFT - RIGHT);
        let y = |v: f64| HEIGHT - BOTTOM - scale(v, y0, y1, self.is_y_log) * (HEIGHT - TOP - BOTTOM);
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n<text x=\"{LEFT}\" \
             y=\"20\" font-size=\"13\">{}</text>\n",
            self.title
        );
        let mut grid = |x1: f64, y1: f64, x2: f64, y2: f64| {
            let _ = writeln!(out, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#ddd\"/>");
        };
        let marks: Vec<&(f64, String)> = self.marks.iter().filter(|m| (x0..=x1).contains(&m.0)).collect();
        let levels: Vec<f64> = match self.is_y_log {
            true => (0..12).map(|n| y0 * 10f64.powi(n)).take_while(|v| *v <= y1 * 1.001).collect(),
            false => [0.0, 25.0, 50.0, 75.0, 100.0].to_vec(),
        };
        marks.iter().for_each(|m| grid(x(m.0), TOP, x(m.0), bottom));
        levels.iter().for_each(|v| grid(LEFT, y(*v), right, y(*v)));
        let mut label = |at: (f64, f64), anchor: &str, text: &str| {
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>", at.0, at.1);
        };
        marks.iter().for_each(|m| label((x(m.0), bottom + 18.0), "middle", &m.1));
        levels.iter().for_each(|v| label((LEFT - 8.0, y(*v) + 4.0), "end", &v.to_string()));
        label(((LEFT + right) / 2.0, HEIGHT - 12.0), "middle", self.x);
        label((8.0, TOP - 6.0), "start", self.y);
        // From the top line to the lowest, as they end.
        let mut order: Vec<usize> = (0..self.lines.len()).collect();
        let last = |i: usize| self.lines[i].points.last().map_or(0.0, |p| if self.is_y_log { p.1 } else { p.0 });
        order.sort_by(|&a, &b| last(b).total_cmp(&last(a)));
        for (place, &i) in order.iter().enumerate() {
            let (line, colour) = (&self.lines[i], COLOURS[i % COLOURS.len()]);
            let points: Vec<String> = line.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
            let width = if i == 0 { 3 } else { 2 };
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
                points.join(" ")
            );
            let (at_x, at_y) = (right + 12.0, TOP + 20.0 * place as f64 + 8.0);
            let _ = writeln!(
                out,
                "<path d=\"M{at_x} {at_y}h20\" stroke=\"{colour}\" stroke-width=\"{width}\"/><text x=\"{}\" \
                 y=\"{}\">{}</text>",
                at_x + 26.0,
                at_y + 4.0,
                line.name
            );
        }
        out + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stay_within_the_axes() {
        let line = Line { name: "a".into(), points: vec![(1.0, 12.0), (8.0, 900.0)] };
        let marks = vec![(1.0, "1".into()), (20.0, "20".into())];
        let plot = Plot { title: "t".into(), x: "x", y: "y", marks, is_y_log: true, lines: vec![line] };
        let svg = plot.draw();
        // 10 to 1000: both axes' ends, and no mark beyond them.
        assert!(svg.contains("points=\"70.0,337.") && svg.contains("500.0,"), "{svg}");
        assert!(svg.contains(">1000<") && !svg.contains(">20<"), "{svg}");
    }
}
