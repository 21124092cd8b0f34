//! The chart of docs/before-after.svg: CPU of a frame over the number of consumers, one panel for each size.

use std::fmt::Write;

use super::contenders::ALL;
use super::figures::Figures;
use super::plan::{Size, SIZES};

const PANEL: f64 = 250.0;
const GAP: f64 = 30.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 64.0;
const HEIGHT: f64 = 300.0;

/// The text of the file. Colors of text and lines follow the reader's scheme.
pub fn svg(figures: &Figures, consumers: &[u32]) -> String {
    let mut out = String::new();
    draw(&mut out, figures, consumers).unwrap_or_default();
    out
}

fn draw(out: &mut String, figures: &Figures, consumers: &[u32]) -> std::fmt::Result {
    let lines: Vec<_> = ALL.iter().filter_map(|c| c.color.map(|color| (c, color))).collect();
    let values: Vec<f64> = SIZES
        .iter()
        .flat_map(|&size| consumers.iter().map(move |&n| (size, n)))
        .flat_map(|(size, n)| lines.iter().filter_map(move |(c, _)| value(figures, c.name, size, n)))
        .collect();
    let scale = Scale::of(&values);
    let width = LEFT + 3.0 * PANEL + 2.0 * GAP + 20.0;
    let legend = TOP + HEIGHT + 56.0;
    let height = legend + 20.0 * lines.len() as f64 + 6.0;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" role=\"img\">\n\
         <title>CPU of all processes for each frame, over the number of consumers</title>\n\
         <style>\n\
         .t {{ fill: #24292f }} .g {{ stroke: #d0d7de }} .a {{ stroke: #57606a }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         .t {{ fill: #e6edf3 }} .g {{ stroke: #3d444d }} .a {{ stroke: #9198a1 }}\n\
         }}\n\
         </style>"
    )?;
    text(out, LEFT, 20.0, "start", "CPU of all processes for each frame: instructions, logarithmic")?;
    for (index, &size) in SIZES.iter().enumerate() {
        let left = LEFT + index as f64 * (PANEL + GAP);
        panel(out, left, size, &scale, consumers, index == 0)?;
        for (contender, color) in &lines {
            let points: Vec<(f64, f64)> = consumers
                .iter()
                .enumerate()
                .filter_map(|(at, &n)| {
                    Some((across(left, at, consumers.len()), scale.at(value(figures, contender.name, size, n)?)))
                })
                .collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2.5\"/>",
                path.join(" ")
            )?;
            for (x, y) in points {
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"/>")?;
            }
        }
    }
    text(out, LEFT + 1.5 * PANEL + GAP, TOP + HEIGHT + 38.0, "middle", "consumers")?;
    for (at, (contender, color)) in lines.iter().enumerate() {
        let y = legend + 20.0 * at as f64;
        writeln!(out, "<circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"{color}\"/>", LEFT + 6.0, y - 4.5)?;
        text(out, LEFT + 20.0, y, "start", contender.title)?;
    }
    writeln!(out, "</svg>")
}

fn panel(out: &mut String, left: f64, size: Size, scale: &Scale, consumers: &[u32], labels: bool) -> std::fmt::Result {
    text(out, left + PANEL / 2.0, TOP - 14.0, "middle", &format!("{}x{}", size.width, size.height))?;
    for decade in scale.decades() {
        let y = scale.at(decade);
        writeln!(out, "<line class=\"g\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\"/>", left + PANEL)?;
        if labels {
            let label = if decade >= 1e3 { format!("{} M", decade / 1e3) } else { format!("{decade} k") };
            text(out, left - 8.0, y + 4.5, "end", &label)?;
        }
    }
    let bottom = TOP + HEIGHT;
    writeln!(out, "<line class=\"a\" x1=\"{left}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\"/>", left + PANEL)?;
    for (at, n) in consumers.iter().enumerate() {
        text(out, across(left, at, consumers.len()), bottom + 18.0, "middle", &n.to_string())?;
    }
    Ok(())
}

/// Consumers have equal distances.
fn across(left: f64, at: usize, count: usize) -> f64 {
    left + PANEL * (at as f64 + 0.5) / count as f64
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, what: &str) -> std::fmt::Result {
    writeln!(out, "<text class=\"t\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>")
}

fn value(figures: &Figures, name: &str, size: Size, consumers: u32) -> Option<f64> {
    figures.row(name, size, consumers).filter(|row| !row.turns.is_empty()).map(|row| row.cpu())
}

/// Whole decades, logarithmic.
struct Scale {
    least: i32,
    most: i32,
}

impl Scale {
    fn of(values: &[f64]) -> Self {
        let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
        match least > 0.0 && least <= most {
            true => {
                let least = least.log10().floor() as i32;
                Self { least, most: (most.log10().ceil() as i32).max(least + 1) }
            }
            false => Self { least: 0, most: 1 },
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.least)) / f64::from(self.most - self.least);
        TOP + HEIGHT * (1.0 - share)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.least..=self.most).map(|power| 10f64.powi(power))
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Measured, Row};
    use super::super::plan::Cell;
    use super::*;

    #[test]
    fn scale_has_whole_decades() {
        let scale = Scale::of(&[230.0, 70_000.0]);
        assert_eq!((scale.least, scale.most), (2, 5));
        assert!((scale.at(1e5) - TOP).abs() < 1e-9 && (scale.at(100.0) - TOP - HEIGHT).abs() < 1e-9);
        assert_eq!(scale.decades().count(), 4);
        assert_eq!(Scale::of(&[]).decades().count(), 2);
    }

    #[test]
    fn points_are_those_that_were_measured() {
        let mut figures = Figures::default();
        for (consumers, cpu) in [(1, 100.0), (3, 1000.0)] {
            let cell = Cell { width: 640, height: 480, fps: 10, consumers, contender: "node".into() };
            let turns = vec![Measured { cpu, ..Measured::default() }];
            figures.0.insert(cell, Row { turns, ..Row::default() });
        }
        let svg = svg(&figures, &[1, 3, 8]);
        assert_eq!(svg.matches("r=\"4\"").count(), 2);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }
}
