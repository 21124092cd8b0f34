//! The figures of every stage and consumer, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use super::common::quoted;

pub struct Row {
    stage: &'static str,
    /// Whom it is for.
    to: String,
    frames: u64,
    dropped: u64,
    bytes: Option<u64>,
    cpu: Option<Duration>,
    /// The time since the camera took the picture, in microseconds: half and 99 of 100 are below it.
    latency: Option<(u64, u64)>,
    /// Pixel bytes that the CPU read or wrote.
    touched: Option<u64>,
}

impl Row {
    pub fn new(stage: &'static str, to: &str, frames: u64, dropped: u64) -> Self {
        Self { stage, to: to.into(), frames, dropped, bytes: None, cpu: None, latency: None, touched: None }
    }

    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    pub fn cpu(self, cpu: Duration) -> Self {
        Self { cpu: Some(cpu), ..self }
    }

    pub fn latency(self, latency: Option<(u64, u64)>) -> Self {
        Self { latency, ..self }
    }

    pub fn touched(self, bytes: u64) -> Self {
        Self { touched: Some(bytes), ..self }
    }
}

pub struct Status {
    pub seconds: f64,
    pub cpu: Duration,
    pub copied_bytes: u64,
    pub rows: Vec<Row>,
}

impl Status {
    pub fn table(&self) -> String {
        let mut out = format!(
            "{:<8} {:<30} {:>9} {:>8} {:>11} {:>7} {:>17} {:>13}\n",
            "stage", "consumer", "frames", "dropped", "KiB", "CPU %", "latency p50/p99", "pixels touched"
        );
        let or = |text: Option<String>| text.unwrap_or_default();
        for r in &self.rows {
            let percent = |cpu: Duration| format!("{:.1}", cpu.as_secs_f64() * 100.0 / self.seconds.max(1e-3));
            let latency = or(r.latency.map(|(p50, p99)| format!("{p50}/{p99} us")));
            let touched = or(r.touched.map(|bytes| format!("{bytes} B")));
            let (bytes, cpu) = (or(r.bytes.map(|b| (b / 1024).to_string())), or(r.cpu.map(percent)));
            let (stage, to, frames, dropped) = (r.stage, &r.to, r.frames, r.dropped);
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{stage:<8} {to:<30} {frames:>9} {dropped:>8} {bytes:>11} {cpu:>7} {latency:>17} {touched:>13}"
            );
        }
        let percent = self.cpu.as_secs_f64() * 100.0 / self.seconds.max(1e-3);
        let copied = self.copied_bytes / 1024;
        let _ = writeln!(out, "{:.1} s, {percent:.1} % CPU in all, {copied} KiB of packets copied", self.seconds);
        out
    }

    pub fn json(&self) -> String {
        let row = |r: &Row| {
            let mut out = format!(
                "{{\"stage\":\"{}\",\"to\":{},\"frames\":{},\"dropped\":{}",
                r.stage,
                quoted(&r.to),
                r.frames,
                r.dropped
            );
            if let Some(bytes) = r.bytes {
                let _ = write!(out, ",\"bytes\":{bytes}");
            }
            if let Some(cpu) = r.cpu {
                let _ = write!(out, ",\"cpu_us\":{}", cpu.as_micros());
            }
            if let Some((p50, p99)) = r.latency {
                let _ = write!(out, ",\"latency_us_p50\":{p50},\"latency_us_p99\":{p99}");
            }
            if let Some(bytes) = r.touched {
                let _ = write!(out, ",\"cpu_bytes\":{bytes}");
            }
            out + "}"
        };
        let rows: Vec<String> = self.rows.iter().map(row).collect();
        format!(
            "{{\"seconds\":{:.3},\"cpu_us\":{},\"packet_bytes_copied\":{},\"rows\":[{}]}}",
            self.seconds,
            self.cpu.as_micros(),
            self.copied_bytes,
            rows.join(",")
        )
    }

    /// Prometheus' text format: counters with the stage and its consumer as labels.
    pub fn prometheus(&self) -> String {
        let mut out = String::new();
        let mut metric = |name: &str, help: &str, value: &dyn Fn(&Row) -> Option<f64>| {
            let _ = write!(out, "# HELP framelease_{name} {help}\n# TYPE framelease_{name} counter\n");
            for row in &self.rows {
                if let Some(value) = value(row) {
                    // Its strings are escaped as JSON's are.
                    let (stage, to) = (row.stage, quoted(&row.to));
                    let _ = writeln!(out, "framelease_{name}{{stage=\"{stage}\",to={to}}} {value}");
                }
            }
        };
        metric("frames_total", "Frames that went through.", &|r| Some(r.frames as f64));
        metric("dropped_total", "Frames that did not.", &|r| Some(r.dropped as f64));
        metric("bytes_total", "Coded bytes.", &|r| r.bytes.map(|b| b as f64));
        metric("cpu_seconds_total", "CPU time.", &|r| r.cpu.map(|c| c.as_secs_f64()));
        metric("pixel_bytes_total", "Pixel bytes that the CPU read or wrote.", &|r| r.touched.map(|b| b as f64));
        out
    }
}
