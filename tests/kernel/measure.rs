//! Example `measure`, as its user meets it.

use crate::coding::h264;
use crate::devices::*;
use crate::display::vkms;
use crate::share::example;

/// A figure of a row of the JSON.
fn figure(row: &str, key: &str) -> f64 {
    let rest = row.split(&format!("\"{key}\": ")).nth(1).unwrap_or_else(|| panic!("no {key} in {row}"));
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn every_path_runs_by_dma_buf_without_a_copied_byte() {
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
            // Rows of 640x480 at least, each byte once.
            let copied = figure(row, "copied_bytes");
            assert!(if row.contains("\"dmabuf\"") { copied == 0.0 } else { copied >= 460_800.0 }, "{row}");
            assert!(figure(row, "process_cpu_us") > 0.0 && figure(row, "system_calls") >= 3.0, "{row}");
        }
    });
}

#[test]
fn the_example_explains_itself_and_its_refusals() {
    let Some(program) = example("measure") else { return };
    let program = program.to_str().unwrap();
    assert!(run(program, &["--help"]).contains("--path NAME"));
    for (args, words) in [(&["--path", "walk"][..], "convert-encode"), (&["--turns", "0"], "1 at least")] {
        let out = ended(start(program, args));
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains(words), "{args:?}");
    }
    // A path that cannot run is named in the table, and the others go on.
    let args = ["--path", "capture", "--camera", "/dev/null", "--frames", "1", "--turns", "1"];
    assert!(run(program, &args).contains("| capture | dmabuf | NOT RUN: "));
}
