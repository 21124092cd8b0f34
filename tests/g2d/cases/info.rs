//! The example `g2d_info` and the environment variables, in child processes.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use framelease::convert::g2d::Abi;

use super::support::*;

/// Returns the example's path if this run of cargo has built it. The lab always does.
fn example() -> Option<PathBuf> {
    let folder = match std::env::var_os("FRAMELEASE_EXAMPLES_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe().unwrap().parent().unwrap().join("../examples"),
    };
    let path = folder.join("g2d_info");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("FRAMELEASE_LAB_ARCH").is_none(), "{path:?}");
    let _ = writeln!(std::io::stderr(), "SKIPPED g2d_info: not built; plain cargo test builds it");
    None
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Option<(Output, String, String)> {
    let mut command = Command::new(example()?);
    command.env_remove("FRAMELEASE_G2D_ABI").env_remove("FRAMELEASE_G2D_LIBRARY").args(arguments);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Some((output, out, err))
}

#[test]
fn g2d_info_prints_the_facts_of_the_library() {
    for (abi, word) in [(Abi::Legacy, "legacy"), (Abi::Modern, "modern")] {
        let fake = Fake::new(abi);
        let path = fake.path.to_str().unwrap();
        let Some((output, out, err)) = run(&["--library", path], &[]) else { return };
        assert!(output.status.success(), "{err}");
        for text in
            [&format!("layout: {word} ("), "NV12 as target: no", "variant: the GPU's", "g2d_blit_dmabuf", "YUYV"]
        {
            assert!(out.contains(text), "{text}: {out}");
        }
        let (output, out, _) = run(&["--json"], &[("FRAMELEASE_G2D_LIBRARY", path)]).unwrap();
        assert!(output.status.success());
        assert!(out.starts_with('{') && out.ends_with("}\n") && out.lines().count() == 1, "{out}");
        assert!(out.contains(&format!("\"abi\":\"{word}\",\"abi_forced\":false")), "{out}");
    }
    // The probes disagree. The example reports it, until the environment variable decides.
    let lying = Changes { replace: &[("6.4.11:1049711:", "6.4.11:1010101:")], ..Changes::default() };
    let fake = Fake::changed(Abi::Modern, &lying);
    let path = fake.path.to_str().unwrap();
    let Some((output, out, _)) = run(&["--library", path], &[]) else { return };
    assert!(output.status.success() && out.contains("layout: NOT KNOWN") && !out.contains("formats"), "{out}");
    let (_, out, _) = run(&["--library", path], &[("FRAMELEASE_G2D_ABI", "modern")]).unwrap();
    assert!(out.contains("layout: modern (64-bit physical addresses), as chosen"), "{out}");
}

#[test]
fn g2d_info_reports_a_missing_library() {
    let Some((output, out, err)) = run(&["--library", "/nowhere/libg2d.so.2"], &[]) else { return };
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""));
    assert!(err.contains("/nowhere/libg2d.so.2") && err.contains("imx-gpu-g2d"), "{err}");
    let (output, _, err) = run(&["--nonsense"], &[]).unwrap();
    assert!(output.status.code() == Some(1) && err.contains("--nonsense"), "{err}");
    let (output, out, _) = run(&["--help"], &[]).unwrap();
    assert!(output.status.success() && out.contains("--library PATH"));
}
