//! Tests of the example `measure`, as a user runs it.

use crate::coding::h264;
use crate::devices::*;
use crate::display::vkms;
use crate::share::example;

/// A number in a row of the JSON.
fn figure(row: &str, key: &str) -> f64 {
    let rest = row.split(&format!("\"{key}\": ")).nth(1).unwrap_or_else(|| panic!("no {key} in {row}"));
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn measure_example_runs_each_path_without_a_copied_byte() {
    let Some(program) = example("measure") else { return };
    if vivid(Planar::Single).is_none() || h264("").is_none() || vkms().is_none() {
        return;
    }
    leaving_nothing(|| {
        let file = std::env::temp_dir().join(format!("framelease-measure-{}.json", std::process::id()));
        let args = ["--frames", "5", "--turns", "1", "--json", file.to_str().unwrap()];
        let table = run(program.to_str().unwrap(), &args);
        let json = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        let rows: Vec<&str> = json.lines().filter(|l| l.contains("\"path\"")).collect();
        assert_eq!((rows.len(), table.lines().count()), (12, 14), "{table}{json}");
        for row in rows {
            assert!(row.contains("\"failed\": null"), "{row}");
            // At least 640x480 rows, each byte once.
            let copied = figure(row, "copied_bytes");
            assert!(if row.contains("\"dmabuf\"") { copied == 0.0 } else { copied >= 460_800.0 }, "{row}");
            assert!(figure(row, "process_cpu_us") > 0.0 && figure(row, "system_calls") >= 3.0, "{row}");
        }
    });
}

/// Replaces perf: 3 reads and 2 writes a nanosecond.
const PERF: &str = r#"#!/bin/sh
case "$*" in *"-- true") exit ;; esac
for file; do :; done
trap 'printf "3000,,imx8_ddr0/read-cycles/,1000,100.00,,\n2000,,imx8_ddr0/write-cycles/,1000,100.00,,\n" >"$file"; exit' INT
while :; do sleep 0.1; done
"#;

#[test]
fn measure_example_counts_memory_bus_cycles_and_frames() {
    use std::os::unix::fs::PermissionsExt;
    let (Some(_), Some(program)) = (vivid(Planar::Single), example("measure")) else { return };
    let folder = std::env::temp_dir().join(format!("framelease-perf-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let (perf, json) = (folder.join("perf"), folder.join("json"));
    std::fs::write(&perf, PERF).unwrap();
    std::fs::set_permissions(&perf, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", folder.display(), std::env::var("PATH").unwrap());
    let args = ["--path", "capture", "--fps", "30", "--frames", "30", "--turns", "1", "--json"];
    run("env", &[&[&path, program.to_str().unwrap()][..], &args, &[json.to_str().unwrap()]].concat());
    let json = std::fs::read_to_string(json).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let (read, write) = (figure(&json, "ddr_read_cycles"), figure(&json, "ddr_write_cycles"));
    assert!(json.contains("\"no_ddr_counters\": null"), "{json}");
    // A frame takes 33 ms, or longer on a slow guest.
    assert!(read > 3.0 * 30e6 && (read / write - 1.5).abs() < 0.01, "{json}");
}

#[test]
fn measure_example_explains_its_options_and_errors() {
    let Some(program) = example("measure") else { return };
    let program = program.to_str().unwrap();
    assert!(run(program, &["--help"]).contains("--path NAME"));
    for (args, words) in [(&["--path", "walk"][..], "convert-encode"), (&["--turns", "0"], "1 at least")] {
        let out = ended(start(program, args));
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains(words), "{args:?}");
    }
    // The table names a path that cannot run, and the others continue. If none can, that is an error.
    let args = ["--path", "capture", "--camera", "/dev/null", "--frames", "1", "--turns", "1"];
    let out = ended(start(program, &args));
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("| capture | dmabuf | NOT RUN: "));
    assert!(String::from_utf8_lossy(&out.stderr).contains("no path could be measured"));
}
