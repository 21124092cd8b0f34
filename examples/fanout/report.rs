//! The figures as a table and as JSON.

use std::fmt::Write;

use super::producer::Run;
use super::{Mode, Options};

/// CPU of all processes per published frame, without the source's own work.
fn total_cpu(run: &Run) -> f64 {
    let frames = run.frames.max(1) as f64;
    run.cpu_us_per_frame + run.subscribers.iter().map(|s| s.cpu_us_per_frame * s.received as f64 / frames).sum::<f64>()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

pub fn table(options: &Options, runs: &[Run]) -> String {
    let mut out = String::new();
    let Some(first) = runs.first() else { return "Nothing was run.\n".into() };
    let _ = writeln!(
        out,
        "{} from {} at {} fps into {}, {} consumers, policy {}\n",
        first.layout, first.source, options.fps, first.memory, options.consumers, options.policy
    );
    let _ = writeln!(
        out,
        "{:<15} {:<12} {:>9} {:>9} {:>11} {:>9} {:>9} {:>9} {:>12}",
        "mode", "process", "received", "dropped", "CPU/frame", "p50", "p99", "syscalls", "copied/frame"
    );
    for run in runs {
        let per_frame = |bytes: u64, frames: u64| mib(bytes) / frames.max(1) as f64;
        let copied_by_consumers: u64 = run.subscribers.iter().map(|s| s.bytes_copied).sum();
        let _ = writeln!(
            out,
            "{:<15} {:<12} {:>9} {:>9} {:>8.0} µs {:>9} {:>9} {:>9.1} {:>8.2} MiB",
            run.mode.name(),
            "publisher",
            run.frames,
            run.lost,
            run.cpu_us_per_frame,
            "",
            "",
            run.syscalls_per_frame,
            per_frame(run.bytes_copied - copied_by_consumers, run.frames)
        );
        for (i, s) in run.subscribers.iter().enumerate() {
            let _ = writeln!(
                out,
                "{:<15} {:<12} {:>9} {:>9} {:>8.0} µs {:>6.0} µs {:>6.0} µs {:>9.1} {:>8.2} MiB",
                "",
                format!("consumer {i}"),
                s.received,
                s.dropped,
                s.cpu_us_per_frame,
                s.latency_us_p50,
                s.latency_us_p99,
                s.syscalls_per_frame,
                per_frame(s.bytes_copied, s.received)
            );
        }
    }
    let _ = writeln!(
        out,
        "\nThe source's own work, {:.0} µs a frame, is not in the CPU figures.",
        first.source_cpu_us_per_frame
    );
    for run in runs {
        let _ = writeln!(
            out,
            "{:<15} all processes {:>7.0} µs CPU a frame, {:>8.1} MiB copied, {:>8.1} MiB touched by the CPU",
            run.mode.name(),
            total_cpu(run),
            mib(run.bytes_copied),
            mib(run.bytes_touched)
        );
    }
    if let Some(zero) = runs.iter().find(|r| r.mode == Mode::ZeroCopy) {
        for run in runs.iter().filter(|r| r.mode != Mode::ZeroCopy) {
            let _ = writeln!(
                out,
                "{} takes {:.1} times the CPU of zero-copy.",
                run.mode.name(),
                total_cpu(run) / total_cpu(zero).max(0.1)
            );
        }
    }
    if options.verify {
        let frames: usize = runs.iter().flat_map(|r| &r.subscribers).map(|s| s.hashes.len()).sum();
        let corrupt: u64 = runs.iter().flat_map(|r| &r.subscribers).map(|s| s.corrupt).sum();
        let _ = writeln!(out, "Verified {frames} received frames: {corrupt} corrupt. (Hashing is in the CPU figures.)");
    }
    out
}

pub fn json(options: &Options, runs: &[Run]) -> String {
    let Some(first) = runs.first() else { return "{}".into() };
    let mut modes = Vec::new();
    for run in runs {
        let subscribers: Vec<String> = run
            .subscribers
            .iter()
            .map(|s| {
                format!(
                    "{{\"received\": {}, \"dropped\": {}, \"corrupt\": {}, \"latency_us_p50\": {:.1}, \
                     \"latency_us_p99\": {:.1}, \"cpu_us_per_frame\": {:.1}, \"syscalls_per_frame\": {:.2}, \
                     \"bytes_copied\": {}}}",
                    s.received,
                    s.dropped,
                    s.corrupt,
                    s.latency_us_p50,
                    s.latency_us_p99,
                    s.cpu_us_per_frame,
                    s.syscalls_per_frame,
                    s.bytes_copied
                )
            })
            .collect();
        modes.push(format!(
            "\"{}\": {{\"publisher\": {{\"frames\": {}, \"lost\": {}, \"cpu_us_per_frame\": {:.1}, \
             \"source_cpu_us_per_frame\": {:.1}, \"syscalls_per_frame\": {:.2}}}, \"subscribers\": [{}], \
             \"cpu_us_per_frame\": {:.1}, \"cpu_bytes_touched\": {}, \"bytes_copied\": {}}}",
            run.mode.name(),
            run.frames,
            run.lost,
            run.cpu_us_per_frame,
            run.source_cpu_us_per_frame,
            run.syscalls_per_frame,
            subscribers.join(", "),
            total_cpu(run),
            run.bytes_touched,
            run.bytes_copied
        ));
    }
    format!(
        "{{\"source\": \"{}\", \"memory\": \"{}\", \"width\": {}, \"height\": {}, \"fourcc\": \"{}\", \
         \"frames\": {}, \"consumers\": {}, \"source_bytes_written\": {}, \"verify_bytes_read\": {}, \
         \"modes\": {{{}}}}}",
        first.source,
        first.memory,
        first.layout.size().width,
        first.layout.size().height,
        first.layout.fourcc(),
        first.frames,
        options.consumers,
        runs.iter().map(|r| r.source_bytes_written).sum::<u64>(),
        runs.iter().map(|r| r.verify_bytes_read).sum::<u64>(),
        modes.join(", ")
    )
}
