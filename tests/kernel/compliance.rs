//! Runs `v4l2-compliance` on the drivers of the lab. A failure that is not in the list of explained ones fails the
//! test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use framelease::v4l2;

use crate::devices::*;

/// `NAME OF THE NODE: NAME OF THE TEST`, each with an explanation above it.
const EXPECTED: &str = include_str!("compliance-expected.txt");

#[test]
fn compliance_failures_of_the_drivers_are_all_explained() {
    let promised = std::env::var("FRAMELEASE_LAB_PROMISES").unwrap_or_default();
    if !promised.contains("v4l2-compliance") {
        needed::<()>("v4l2-compliance", Err("it tests drivers, not this crate: the x86_64 guest is enough".into()));
        return;
    }
    let Some(()) = program("v4l2-compliance") else { return };
    // Injected errors are not part of a driver's contract.
    reload_vivid("n_devs=2 node_types=0x101,0x101 multiplanar=1,2 cache_hints=1,1 no_error_inj=1");
    let failed = std::thread::scope(|scope| {
        let others = [("vivid", 4), ("vicodec", 3), ("vim2m", 1), ("fl_scaler", 1)];
        let others = others.map(|(driver, nodes)| scope.spawn(move || judge(driver, nodes)));
        // Parameters of the encoder.
        let mut failed = BTreeSet::new();
        for habits in ["", "multiplanar=0 align=16 key_flags=0 delay=2 min_buffers=3"] {
            reload("fl_h264", habits);
            failed.extend(judge("fl_h264", 1));
        }
        failed.extend(others.into_iter().flat_map(|judged| judged.join().unwrap()));
        failed
    });
    let expected: BTreeSet<String> =
        EXPECTED.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(String::from).collect();
    let mut new: BTreeSet<_> = failed.difference(&expected).cloned().collect();
    if !new.is_empty() {
        // Nodes that are tested at the same time may disturb each other. A new failure must also occur alone.
        let again = [("vivid", 4), ("vicodec", 3), ("vim2m", 1), ("fl_scaler", 1), ("fl_h264", 1)];
        let again: BTreeSet<_> = again.into_iter().flat_map(|(driver, nodes)| judge_alone(driver, nodes)).collect();
        new.retain(|failure| again.contains(failure));
    }
    reload("fl_h264", "");
    reload_vivid(crate::devices::VIVID);
    assert!(new.is_empty(), "failures that the list does not explain: {new:#?}");
}

/// Returns the failures on the nodes of a driver, which must have at least `least` nodes. Tests one node after another.
fn judge_alone(driver: &str, least: usize) -> BTreeSet<String> {
    let nodes: Vec<_> = v4l2::devices().into_iter().filter(|info| info.driver == driver).collect();
    assert!(nodes.len() >= least, "{driver}: {} nodes", nodes.len());
    nodes.iter().flat_map(|info| failures(&info.path)).collect()
}

fn judge(driver: &str, least: usize) -> BTreeSet<String> {
    // The tests mostly wait, so all nodes are tested at once, except vivid's: they disturb each other.
    if driver == "vivid" {
        return judge_alone(driver, least);
    }
    let nodes: Vec<_> = v4l2::devices().into_iter().filter(|info| info.driver == driver).collect();
    assert!(nodes.len() >= least, "{driver}: {} nodes", nodes.len());
    std::thread::scope(|scope| {
        let judged: Vec<_> = nodes.iter().map(|info| scope.spawn(|| failures(&info.path))).collect();
        judged.into_iter().flat_map(|node| node.join().unwrap()).collect()
    })
}

fn failures(path: &Path) -> Vec<String> {
    let node = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let name = fs::read_to_string(format!("/sys/class/video4linux/{node}/name")).unwrap();
    let out = Command::new("v4l2-compliance").arg("-d").arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("Total for "), "{}: {text}", name.trim());
    let failed = text.lines().filter_map(|line| line.trim().strip_prefix("test ")?.strip_suffix(": FAIL"));
    failed.map(|test| format!("{}: {test}", name.trim())).collect()
}
