//! Device nodes: which exist, which group owns them, which processes have them open.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::findings::{Holder, Node};

/// The nodes of a folder whose names begin so, in the order of their numbers.
pub fn nodes(folder: &str, prefix: &str) -> Vec<Node> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix(prefix).and_then(|number| number.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort();
    let holders = holders();
    let node = |path: PathBuf| Node {
        group: group(&path),
        holders: holders.get(&path).cloned().unwrap_or_default(),
        path: path.display().to_string(),
        failed: None,
    };
    found.into_iter().map(|(_, path)| node(path)).collect()
}

fn group(path: &Path) -> String {
    let Ok(gid) = path.metadata().map(|m| m.gid().to_string()) else { return String::new() };
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2) == Some(&gid.as_str())).then(|| fields[0].to_owned())
    });
    name.unwrap_or(gid)
}

/// For each open file below /dev, the other processes that have it open. A user sees only his own processes.
fn holders() -> HashMap<PathBuf, Vec<Holder>> {
    let mut found: HashMap<PathBuf, Vec<Holder>> = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned();
        for file in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Some(path) = fs::read_link(file.path()).ok().filter(|path| path.starts_with("/dev")) else { continue };
            let holder = Holder { name: name.clone(), pid };
            let holders = found.entry(path).or_default();
            if !holders.contains(&holder) {
                holders.push(holder);
            }
        }
    }
    found
}
