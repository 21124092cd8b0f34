//! Imports point down. A module that uses a higher one fails here, and so does a station that uses another, two files
//! that import each other, and a type with methods in two folders.

mod tangles;

use std::collections::BTreeSet;
use std::path::Path;

use tangles::Tree;

/// Lowest first. Modules of one row must not use each other, except those of the first row.
const LAYERS: &[&[&str]] = &[
    &["error", "flags", "format", "log", "bitstream"],
    &["sys"],
    &["device_nodes", "stats"],
    &["dmabuf"],
    &["frame"],
    &["station"],
    &["v4l2"],
    &["capture", "codec", "convert", "drm", "share", "sink"],
    &["guide", "negotiate", "reactor", "replay"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The crate's modules that a source file names in its code. Tests and comments are left out.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .split("#[cfg(test)]\nmod tests")
        .take(1)
        .flat_map(str::lines)
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let name = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            // `use crate::{error::Error, format::Size}`
            Some(list) => found.extend(list.split('}').next().unwrap_or("").split(',').map(|part| name(part.trim()))),
            None => drop(found.insert(name(rest))),
        }
    }
    found
}

fn check(folder: &Path, module: Option<&str>, wrong: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            check(&path, Some(module.unwrap_or(&stem)), wrong);
            continue;
        }
        let module = module.unwrap_or(&stem);
        if module == "lib" || path.extension().map_or(true, |extension| extension != "rs") {
            continue;
        }
        let Some(own) = layer(module) else {
            wrong.push(format!("{} belongs to no layer: add it to LAYERS", path.display()));
            continue;
        };
        for used in imports(&std::fs::read_to_string(&path).unwrap()) {
            // Re-exports of lib.rs, macros and other names are not modules.
            let Some(theirs) = layer(&used) else { continue };
            if used != module && (theirs > own || theirs == own && own > 0) {
                wrong.push(format!("{}: {module} uses {used}", path.display()));
            }
        }
    }
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_that_point_up_are_found() {
    let used = imports("use crate::{error::Error, frame::Frame};\n// crate::share\nfn f() { crate::sys::x() }\n#[cfg(test)]\nmod tests { use crate::v4l2; }");
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["error", "frame", "sys"]);
    assert!(layer("share") > layer("frame") && layer("share") == layer("capture"));
}

#[test]
fn imports_never_form_a_pair() {
    let pairs = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).pairs();
    assert!(pairs.is_empty(), "{}", pairs.join("\n"));
}

#[test]
fn methods_of_a_type_are_in_one_folder() {
    let spread = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).spread();
    assert!(spread.is_empty(), "{}", spread.join("\n"));
}

#[test]
fn imports_through_re_exports_are_found() {
    let tree = Tree::of(&[
        ("lib.rs", "pub mod a;\npub mod b;\n"),
        ("a/mod.rs", "mod one;\nmod two;\npub use one::{One, Other};\npub use two::Two;\n"),
        ("a/one.rs", "use super::Two;\npub struct One;\npub struct Other;\n"),
        ("a/two.rs", "use std::fmt;\nuse super::{Other as Own};\npub struct Two;\nimpl Two {\n}\n"),
        ("b.rs", "use crate::a::One;\n// use crate::a::Two\nimpl One {\n}\nimpl fmt::Debug for One {\n}\n"),
    ]);
    assert_eq!(tree.pairs(), ["a/one and a/two"]);
    assert_eq!(tree.spread(), ["One of a/one in b"]);
}
