//! What the guest's meter measured, and medians of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::outputs::Checked;
use super::plan::{Cell, Run};
use crate::rivals::median;
use crate::Res;

/// Ticks of the kernel's clock that the split of user and system time needs.
const LEAST_TICKS: f64 = 50.0;

/// One run of a cell. Times are thousands of instructions for each frame of the camera.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    pub cpu: f64,
    /// Of every task of the machine, without hardware and receivers.
    pub machine: f64,
    /// Of the kernel threads that stand for hardware.
    pub hardware: f64,
    /// Of the receivers.
    pub receivers: f64,
    pub user_ticks: f64,
    pub system_ticks: f64,
    pub faults: f64,
    pub calls: Option<f64>,
    pub processes: u64,
    pub threads: u64,
    pub peak_kib: u64,
    pub proportional_kib: u64,
    pub outputs: Vec<Output>,
}

/// What one receiver got in the measured time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Before the measured time.
    pub first: usize,
    pub frames: usize,
    /// By gaps of the RTP timestamps.
    pub lost: u64,
    pub lost_packets: u64,
    pub malformed: u64,
}

impl Measured {
    /// From the meter's JSON.
    fn of(json: &Value) -> Option<Self> {
        let number = |name: &str| json[name].as_f64();
        let frames = number("frames").filter(|n| *n > 0.0)?;
        let each = |name: &str| number(name).map(|us| us / frames);
        let (camera, workers, meter) = (each("camera_us")?, each("workers_us")?, each("meter_us")?);
        let output = |o: &Value| {
            let number = |name: &str| o[name].as_u64();
            Some(Output {
                first: number("first")? as usize,
                frames: number("frames")? as usize,
                lost: number("lost")?,
                lost_packets: number("lost_packets")?,
                malformed: number("malformed")?,
            })
        };
        Some(Self {
            cpu: each("cpu_us")?,
            machine: each("machine_us")? - camera - workers - meter,
            hardware: camera + workers,
            receivers: meter,
            user_ticks: number("user_ticks")?,
            system_ticks: number("system_ticks")?,
            faults: each("faults")?,
            calls: number("calls"),
            processes: json["processes"].as_u64()?,
            threads: json["threads"].as_u64()?,
            peak_kib: json["peak_kib"].as_u64()?,
            proportional_kib: json["proportional_kib"].as_u64()?,
            outputs: json["outputs"].as_array()?.iter().map(output).collect::<Option<_>>()?,
        })
    }
}

/// All runs of a cell.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Of each turn: frames, and what was measured or why not.
    pub frames: u32,
    pub turns: Vec<Measured>,
    pub errors: Vec<String>,
    /// What the streams of the first turn hold. An error: why they were not looked at.
    pub checked: Option<Res<Checked>>,
}

impl Row {
    fn all(&self, which: impl Fn(&Measured) -> f64) -> Vec<f64> {
        self.turns.iter().map(which).collect()
    }

    pub fn cpu(&self) -> f64 {
        median(&self.all(|m| m.cpu))
    }

    /// Least and most.
    pub fn spread(&self) -> (f64, f64) {
        self.all(|m| m.cpu).iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)))
    }

    pub fn machine(&self) -> f64 {
        median(&self.all(|m| m.machine))
    }

    pub fn hardware(&self) -> f64 {
        median(&self.all(|m| m.hardware))
    }

    pub fn receivers(&self) -> f64 {
        median(&self.all(|m| m.receivers))
    }

    pub fn faults(&self) -> f64 {
        median(&self.all(|m| m.faults))
    }

    /// User and system time, if the kernel's clock has seen enough of them.
    pub fn split(&self) -> Option<(f64, f64)> {
        let sum = |which: fn(&Measured) -> f64| self.all(which).iter().sum::<f64>();
        let (user, system) = (sum(|m| m.user_ticks), sum(|m| m.system_ticks));
        let all = user + system;
        (all >= LEAST_TICKS).then(|| (self.cpu() * user / all, self.cpu() * system / all))
    }

    pub fn calls(&self) -> Option<f64> {
        self.turns.iter().find_map(|m| m.calls)
    }

    pub fn outputs(&self) -> &[Output] {
        self.turns.first().map_or(&[], |m| &m.outputs)
    }

    /// Frames lost at all outputs in the turns: by timestamps, and those that a repeated frame stands for.
    pub fn lost(&self) -> u64 {
        let gaps: u64 = self.turns.iter().flat_map(|m| &m.outputs).map(|o| o.lost).sum();
        let checked = self.checked.as_ref().and_then(|c| c.as_ref().ok());
        gaps + checked.map_or(0, |c| c.repeated + c.missing)
    }
}

#[derive(Debug, Default)]
pub struct Figures(pub BTreeMap<Cell, Row>);

impl Figures {
    /// From the guest's lines: a cell and JSON. A cell that the guest did not come to has an error.
    pub fn of(text: &str, planned: &[Run]) -> Res<Self> {
        let mut figures = Self::default();
        for line in text.lines() {
            let (cell, json) = line.split_once(' ').ok_or_else(|| format!("not a line of the guest's: {line}"))?;
            let run = Run::parse(cell)?;
            let row = figures.0.entry(run.cell).or_default();
            row.frames = run.frames;
            let json: Value = serde_json::from_str(json).unwrap_or_default();
            match (Measured::of(&json), json["error"].as_str()) {
                (Some(measured), None) => row.turns.push(measured),
                (_, error) => row.errors.push(error.unwrap_or("the meter said nothing of it").into()),
            }
        }
        for run in planned {
            let row = figures.0.entry(run.cell.clone()).or_default();
            if row.turns.is_empty() && row.errors.is_empty() {
                row.errors.push("the guest did not come to it".into());
            }
        }
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn line(cell: &str, cpu: u32) -> String {
        format!(
            "{cell} {{\"calls\":7.5,\"camera_us\":3000.0,\"cpu_us\":{cpu}.0,\"faults\":60,\"frames\":30,\
             \"machine_us\":9900.0,\"meter_us\":300.0,\"workers_us\":3000.0,\"user_ticks\":30,\"system_ticks\":10,\
             \"processes\":1,\"threads\":2,\"peak_kib\":3,\"proportional_kib\":4,\"outputs\":[{{\"first\":5,\
             \"frames\":30,\"lost\":1,\"lost_packets\":0,\"malformed\":0}}]}}\n"
        )
    }

    #[test]
    fn figures_are_for_a_frame() {
        let cell = "node:640x480:3:10:30:30:x";
        let text = line(cell, 3000) + &line("node:640x480:3:10:30:0:", 6000);
        let figures = Figures::of(&text, &[]).unwrap();
        let row = figures.0.values().next().unwrap();
        assert_eq!((figures.0.len(), row.turns.len()), (1, 2));
        assert_eq!((row.cpu(), row.spread()), (150.0, (100.0, 200.0)));
        // 9900 less 3000, 3000 and 300.
        assert!((row.machine() - 120.0).abs() < 1e-6 && (row.hardware() - 200.0).abs() < 1e-6);
        assert_eq!((row.faults(), row.calls(), row.lost()), (2.0, Some(7.5), 2));
        let (user, system) = row.split().unwrap();
        assert!((user - 112.5).abs() < 1e-6 && (system - 37.5).abs() < 1e-6);
    }

    #[test]
    fn split_needs_enough_ticks() {
        let figures = Figures::of(&line("node:640x480:3:10:30:30:x", 3000), &[]).unwrap();
        assert_eq!(figures.0.values().next().unwrap().split(), None);
    }

    #[test]
    fn cells_without_figures_say_why() {
        let planned = [Run::parse("gst-tee:640x480:3:10:30:0:").unwrap()];
        let text = "node:640x480:3:10:30:0: {\"error\":\"no frame\"}\nnode-raw:640x480:3:10:30:0: \n";
        let figures = Figures::of(text, &planned).unwrap();
        let errors: Vec<&str> = figures.0.values().map(|row| row.errors[0].as_str()).collect();
        assert_eq!(errors, ["the guest did not come to it", "no frame", "the meter said nothing of it"]);
        assert!(Figures::of("nonsense", &[]).is_err());
    }
}
