//! libg2d in the example `framelease-doctor`, and the environment variables, in child processes.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use framelease::convert::g2d::Abi;

use super::support::*;

/// Returns the example's path if this run of cargo has built it. The lab always does.
fn example() -> Option<PathBuf> {
    let folder = match std::env::var_os("FRAMELEASE_EXAMPLES_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe().unwrap().parent().unwrap().join("../examples"),
    };
    let path = folder.join("framelease-doctor");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("FRAMELEASE_LAB_ARCH").is_none(), "{path:?}");
    let _ = writeln!(std::io::stderr(), "SKIPPED framelease-doctor: not built; cargo test --features drm builds it");
    None
}

/// Runs the part about libg2d. Returns the text, the report and what went to standard error.
fn run(environment: &[(&str, &str)]) -> Option<[String; 3]> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let report = std::env::temp_dir().join(format!("framelease-report-{}-{number}.json", std::process::id()));
    let mut command = Command::new(example()?);
    command.env_remove("FRAMELEASE_G2D_ABI").env_remove("FRAMELEASE_G2D_LIBRARY");
    command.args(["--part", "g2d", "--part", "answers", "--json"]).arg(&report);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    let json = std::fs::read_to_string(&report).unwrap();
    std::fs::remove_file(report).unwrap();
    Some([out, json, err])
}

/// The line of the report with the answer to a question.
fn answer<'a>(json: &'a str, question: &str) -> &'a str {
    let name = format!("\"question\": \"{question}\"");
    json.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("no {question} in {json}"))
}

#[test]
fn doctor_prints_the_facts_of_the_library() {
    for (abi, word) in [(Abi::Legacy, "legacy"), (Abi::Modern, "modern")] {
        let fake = Fake::new(abi);
        let path = fake.path.to_str().unwrap();
        let Some([out, json, _]) = run(&[("FRAMELEASE_G2D_LIBRARY", path)]) else { return };
        for text in
            [&format!("layout: {word} ("), "NV12 as target: no", "variant: the GPU's", "g2d_blit_dmabuf", "YUYV"]
        {
            assert!(out.contains(text), "{text}: {out}");
        }
        assert!(json.contains(&format!("\"abi\": \"{word}\"")) && json.contains("\"abi_forced\": false"), "{json}");
    }
}

#[test]
fn doctor_answers_change_with_the_library() {
    let ask = |fake: &Fake, more: &[(&str, &str)]| {
        run(&[&[("FRAMELEASE_G2D_LIBRARY", fake.path.to_str().unwrap())], more].concat())
    };
    let Some([_, json, _]) = ask(&Fake::new(Abi::Modern), &[]) else { return };
    let is = |json: &str, question: &str, value: &str| {
        let line = answer(json, question).to_owned();
        assert!(line.contains(&format!("\"value\": \"{value}")), "{line}");
    };
    for (question, value) in [
        ("g2d-probes", "yes\""),
        ("g2d-symbols", "none\""),
        ("g2d-dmabuf", "works"),
        ("g2d-nv12", "no"),
        ("g2d-matrices", "BLEND DITHER"),
        ("g2d-formats", "none\""),
        ("g2d-fence", "no"),
    ] {
        is(&json, question, value);
    }
    // The probes disagree. The doctor reports it, until the environment variable decides.
    let lying = Changes { replace: &[("6.4.11:1049711:", "6.4.11:1010101:")], ..Changes::default() };
    let lying = Fake::changed(Abi::Modern, &lying);
    let [out, json, _] = ask(&lying, &[]).unwrap();
    assert!(out.contains("layout: NOT KNOWN") && !out.contains("formats, by trial"), "{out}");
    is(&json, "g2d-probes", "no\"");
    assert!(answer(&json, "g2d-matrices").contains("\"not_asked\": \"there was no trial\""), "{json}");
    let [out, json, _] = ask(&lying, &[("FRAMELEASE_G2D_ABI", "modern")]).unwrap();
    assert!(out.contains("layout: modern (64-bit physical addresses), as chosen"), "{out}");
    is(&json, "g2d-probes", "overridden");
    let without = Fake::without(Abi::Modern, &["g2d_blit_dmabuf", "g2d_create_fence_fd"]);
    let [_, json, _] = ask(&without, &[]).unwrap();
    is(&json, "g2d-symbols", "g2d_create_fence_fd g2d_blit_dmabuf");
    is(&json, "g2d-dmabuf", "refused");
    let pxp = Fake::changed(Abi::Legacy, &Changes { file: Some("libg2d-pxp.so.2"), ..Changes::default() });
    let [_, json, _] = ask(&pxp, &[("FAKE_G2D", "variant=2")]).unwrap();
    is(&json, "g2d-matrices", "BLEND GLOBAL_ALPHA\"");
    let [_, json, _] = ask(&Fake::new(Abi::Modern), &[("FAKE_G2D", "variant=1,nv12_target=1,fence=1")]).unwrap();
    is(&json, "g2d-nv12", "yes");
    is(&json, "g2d-fence", "yes");
    let [_, json, _] = ask(&Fake::new(Abi::Modern), &[("FAKE_G2D", "blit_fails_at=1")]).unwrap();
    assert!(answer(&json, "g2d-formats").contains("YUYV as source"), "{json}");
}

#[test]
fn doctor_reports_a_missing_library() {
    let Some([out, json, err]) = run(&[("FRAMELEASE_G2D_LIBRARY", "/nowhere/libg2d.so.2")]) else { return };
    assert!(out.contains("NOT FOUND: ") && out.contains("/nowhere/libg2d.so.2"), "{out}{err}");
    assert!(answer(&json, "g2d-fence").contains("\"not_asked\": \"no libg2d: "), "{json}");
}
