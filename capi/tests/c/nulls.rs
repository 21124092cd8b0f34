//! Every function of the header takes zeros for all of its arguments without a crash.

use std::collections::BTreeSet;
use std::fs;

use crate::build::{compiled, folder, program, root, run};

/// A function of the header.
pub struct Function {
    pub result: String,
    pub name: String,
    /// From the result to the closing parenthesis.
    pub declaration: String,
    pub arguments: usize,
}

pub fn functions() -> Vec<Function> {
    let header = fs::read_to_string(root().join("include/framelease.h")).unwrap();
    let mut found = Vec::new();
    let mut lines = header.lines();
    while let Some(line) = lines.next() {
        let is_start = ["fl_", "void fl_", "int fl_", "bool fl_", "size_t fl_", "uint32_t fl_", "const char *fl_"];
        if !is_start.iter().any(|start| line.starts_with(start)) || !line.contains('(') {
            continue;
        }
        let mut whole = line.to_owned();
        while !whole.ends_with(';') {
            whole.push_str(lines.next().unwrap().trim());
        }
        let declaration = whole.trim_end_matches(';').to_owned();
        let (start, list) = declaration.split_once('(').unwrap();
        let name = start.rsplit([' ', '*']).next().unwrap().to_owned();
        let result = start.trim_end_matches(name.as_str()).trim().to_owned();
        let arguments = if list == "void)" { 0 } else { list.split(',').count() };
        found.push(Function { result, name, declaration, arguments });
    }
    found
}

/// Those for which NULL is not an error: what they return then.
const ALLOWED: [(&str, &str); 2] = [("fl_camera_open", "the options may be NULL"), ("fl_hotplug_open", "")];

#[test]
fn functions_refuse_null() {
    let functions = functions();
    assert!(functions.len() > 90, "{}", functions.len());
    let mut code = String::from("#include <stdio.h>\n#include <framelease.h>\nint main(void) {\n    int wrong = 0;\n");
    for Function { result, name, arguments, .. } in &functions {
        let zeros = vec!["0"; *arguments].join(", ");
        let call = format!("{name}({zeros})");
        match result.as_str() {
            "fl_status" if !ALLOWED.iter().any(|(allowed, _)| allowed == name) => {
                code.push_str(&format!("    if ({call} >= 0) {{ puts(\"{name} takes NULL\"); wrong = 1; }}\n"));
            }
            _ => code.push_str(&format!("    (void){call};\n")),
        }
    }
    code.push_str("    return wrong;\n}\n");
    let source = folder("nulls").join("nulls.c");
    fs::write(&source, code).unwrap();
    let flags = ["-std=gnu11", "-g", "-Wno-nonnull", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let Some(built) = compiled("gcc", &flags, &source, "nulls") else { return };
    run(&mut program(built));
}

#[test]
fn symbols_are_those_of_the_header() {
    let library = crate::build::installed().join("lib/libframelease.so.0");
    let output = run(std::process::Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let symbols: BTreeSet<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let functions = functions();
    let declared: BTreeSet<&str> = functions.iter().map(|function| function.name.as_str()).collect();
    let differ: Vec<_> = symbols.symmetric_difference(&declared).collect();
    assert!(differ.is_empty(), "in the library alone, or in the header alone: {differ:?}");
}
