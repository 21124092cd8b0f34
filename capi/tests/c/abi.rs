//! The ABI: symbols and layouts are those of `capi/abi.xml`, which abidw made of a library in C with the header's
//! types. A change that breaks programs is found by abidiff. To write it again:
//! `UPDATE_ABI=1 cargo test -p framelease-capi abi`.

use std::fs;
use std::process::Command;

use crate::build::{folder, has, installed, root, run, skipped};

/// A library in C with the functions of the header, none of which does anything: its debug information has all types,
/// and none of Rust's.
fn stub() -> std::path::PathBuf {
    let header = fs::read_to_string(root().join("include/framelease.h")).unwrap();
    let mut code = String::from("#include <framelease.h>\n");
    for function in crate::nulls::functions() {
        // Results of all types but void begin with 0.
        let body = if function.result == "void" { "{ }" } else { "{ return 0; }" };
        code.push_str(&format!("{} {body}\n", function.declaration));
    }
    // Types that no function names: the numbers of integers.
    for (i, line) in header.lines().filter(|line| line.starts_with("typedef enum ")).enumerate() {
        let name = line.split(' ').nth(2).unwrap();
        code.push_str(&format!("enum {name} fl_abi_number_{i};\n"));
    }
    let at = folder("abi");
    fs::write(at.join("stub.c"), code).unwrap();
    let library = at.join("libframelease.so.0");
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu11", "-g", "-w", "-shared", "-fPIC", "-Wl,-soname,libframelease.so.0", "-I"]);
    // The file's name becomes a part of abi.xml.
    run(gcc.current_dir(&at).arg(installed().join("include")).arg("stub.c").arg("-o").arg(&library));
    library
}

#[test]
fn abi_is_the_committed_one() {
    if !has("abidiff") || !has("gcc") {
        return skipped("the ABI", "no abidiff here (Debian: abigail-tools)");
    }
    if std::env::consts::ARCH != "x86_64" {
        return skipped("the ABI", "abi.xml is that of x86_64");
    }
    let (library, committed) = (stub(), root().join("abi.xml"));
    if std::env::var_os("UPDATE_ABI").is_some() {
        let mut abidw = Command::new("abidw");
        abidw.args(["--no-comp-dir-path", "--no-corpus-path", "--no-show-locs", "--out-file"]);
        run(abidw.arg(&committed).arg(&library));
    }
    assert!(!fs::read_to_string(&committed).unwrap().contains("path='/"), "abi.xml has a path of this machine");
    let output =
        Command::new("abidiff").args(["--no-show-locs", "--no-added-syms"]).arg(&committed).arg(&library).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.is_empty(), "UPDATE_ABI=1 if this is meant:\n{text}");
}
