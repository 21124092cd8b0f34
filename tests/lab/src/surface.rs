//! Counts the library's public items, by rustdoc's JSON. They cannot change any more once programs use them.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use serde_json::Value;

use crate::cargo::cargo;
use crate::Res;

const LIMIT: &str = "docs/public-api-limit";
const FEATURES: &str = "g2d,drm,log,mjpeg,tls,tokio,unixfd,vulkan";

/// Prints the items if `lists`, and their number. Status 1 above the limit.
pub fn surface(workspace: &Path, lists: bool) -> Res<i32> {
    let items = items(&rustdoc(workspace)?)?;
    let limit = std::fs::read_to_string(workspace.join(LIMIT)).map_err(|e| format!("{LIMIT}: {e}"))?;
    let limit: usize = limit.trim().parse().map_err(|e| format!("{LIMIT}: {e}"))?;
    if lists {
        items.iter().for_each(|item| println!("{item}"));
    }
    println!("{} public items, and {LIMIT} allows {limit}", items.len());
    Ok(i32::from(items.len() > limit))
}

/// rustdoc's JSON of the library with all its features.
pub fn rustdoc(workspace: &Path) -> Res<Value> {
    let folder = workspace.join("target/lab/surface");
    let mut command = cargo(workspace);
    // rustdoc's JSON is not stable. The parts that this reads have not changed for years.
    command.args(["rustdoc", "--quiet", "--package", "framelease", "--no-default-features", "--features", FEATURES]);
    command.arg("--target-dir").arg(&folder).env("RUSTC_BOOTSTRAP", "1");
    command.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    let status = command.status().map_err(|e| format!("cannot run cargo rustdoc: {e}"))?;
    if !status.success() {
        return Err(format!("cargo rustdoc: {status}"));
    }
    let path = folder.join("doc/framelease.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Public types, traits, functions, methods and constants by their paths. Variants, fields and impls of traits are part
/// of their types. A re-exported item counts in each place.
fn items(rustdoc: &Value) -> Res<BTreeSet<String>> {
    let index = &rustdoc["index"];
    let root = id(&rustdoc["root"]);
    let mut walk = Walk { index, found: BTreeSet::new(), seen: HashSet::new() };
    let modules = children(walk.item(&root).ok_or("rustdoc's JSON has no root")?);
    walk.all(&modules, "framelease");
    Ok(walk.found)
}

struct Walk<'a> {
    index: &'a Value,
    found: BTreeSet<String>,
    seen: HashSet<String>,
}

impl<'a> Walk<'a> {
    fn item(&self, id: &str) -> Option<&'a Value> {
        self.index.get(id)
    }

    fn all(&mut self, ids: &[String], path: &str) {
        for id in ids {
            let Some(item) = self.item(id) else { continue };
            let (kind, inner) = inner(item);
            if item["visibility"] != "public" {
                continue;
            }
            match kind {
                "use" => self.reexported(inner, path),
                "impl" => {}
                // Pages, which have no items.
                "module" if name(item) == "guide" => {}
                _ => self.add(id, item, &format!("{path}::{}", name(item))),
            }
        }
    }

    fn reexported(&mut self, inner: &Value, path: &str) {
        let target = id(&inner["id"]);
        let Some(item) = self.item(&target) else { return };
        if inner["is_glob"] == true {
            self.all(&children(item), path);
        } else {
            self.add(&target, item, &format!("{path}::{}", inner["name"].as_str().unwrap_or_default()));
        }
    }

    fn add(&mut self, id: &str, item: &'a Value, path: &str) {
        self.found.insert(path.to_owned());
        // A second place counts once, for its name.
        if !self.seen.insert(id.to_owned()) {
            return;
        }
        let (kind, inner) = inner(item);
        match kind {
            "module" => self.all(&children(item), path),
            "trait" => self.own(&inner["items"], path, false),
            _ => {
                for block in ids(&inner["impls"]) {
                    let block = self.item(&block).map_or(&Value::Null, |block| &block["inner"]["impl"]);
                    if block["trait"].is_null() {
                        self.own(&block["items"], path, true);
                    }
                }
            }
        }
    }

    /// Methods and constants of a type or trait.
    fn own(&mut self, list: &Value, path: &str, only_public: bool) {
        let index = self.index;
        let items = ids(list).into_iter().filter_map(|id| index.get(id));
        let counted = items.filter(|item| !only_public || item["visibility"] == "public");
        self.found.extend(counted.map(|item| format!("{path}::{}", name(item))));
    }
}

/// A number in newer versions, a string before.
pub fn id(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub fn ids(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(id).collect()
}

pub fn name(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}

/// What kind of item it is, and what belongs to that kind.
pub fn inner(item: &Value) -> (&str, &Value) {
    let inner = item["inner"].as_object().and_then(|inner| inner.iter().next());
    inner.map_or(("", &Value::Null), |(kind, inner)| (kind, inner))
}

fn children(module: &Value) -> Vec<String> {
    ids(&inner(module).1["items"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn methods_traits_and_re_exports_count_and_private_items_do_not() {
        let item = |name: &str, visibility: &str, kind: &str, inner: Value| json!({"name": name, "visibility": visibility, "inner": {kind: inner}});
        let rustdoc = json!({"root": 0, "index": {
            "0": item("framelease", "public", "module", json!({"items": [1, 2, 7]})),
            "1": item("frame", "public", "module", json!({"items": [3, 6]})),
            "2": item("", "public", "use", json!({"id": 3, "name": "Frame", "is_glob": false})),
            "3": item("Frame", "public", "struct", json!({"impls": [4, 8]})),
            "4": item("", "default", "impl", json!({"trait": null, "items": [5, 9]})),
            "5": item("read", "public", "function", json!({})),
            "6": item("Hidden", "crate", "struct", json!({"impls": []})),
            "7": item("Station", "public", "trait", json!({"items": [10]})),
            "8": item("", "default", "impl", json!({"trait": {"path": "Clone"}, "items": [5]})),
            "9": item("own", "crate", "function", json!({})),
            "10": item("recv", "default", "function", json!({})),
        }});
        let all: Vec<String> = items(&rustdoc).unwrap().into_iter().collect();
        let expected = ["Frame", "Station", "Station::recv", "frame", "frame::Frame", "frame::Frame::read"];
        assert_eq!(all, expected.map(|item| format!("framelease::{item}")));
    }
}
