//! Programs build in each way, and what a program does wrong is an error.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::build::{compiled, example, folder, has, installed, program, root, run, skipped, STATIC_LIBS, STRICT};

const PROGRAMS: [&str; 4] = ["camnode", "consumer", "devices", "show"];

/// Flags for a language.
fn flags<'a>(standard: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&STRICT[..], &["-O1", standard], more].concat()
}

#[test]
fn examples_compile_as_c_and_as_cpp_without_a_warning() {
    for name in PROGRAMS {
        let source = example(&format!("{name}.c"));
        for (compiler, standard) in [("gcc", "-std=gnu11"), ("clang", "-std=gnu11"), ("gcc", "-std=gnu17")] {
            compiled(compiler, &flags(standard, &[]), &source, &format!("{name}-{compiler}{standard}"));
        }
        for (compiler, standard) in [("g++", "-std=gnu++17"), ("clang++", "-std=gnu++17"), ("g++", "-std=gnu++20")] {
            let flags = flags(standard, &["-x", "c++"]);
            compiled(compiler, &flags, &source, &format!("{name}-{compiler}{standard}"));
        }
    }
}

#[test]
fn header_compiles_in_each_standard_without_a_warning() {
    let source = folder("header").join("header.c");
    let code = "#include <framelease.h>
int main(void) {
    fl_camera_options options = FL_INIT(fl_camera_options);
    options.flags |= FL_CAMERA_PACKETS | FL_CAMERA_REOPEN;
    options.flags &= ~FL_CAMERA_PACKETS;
    float numbers[3] = {0};
    fl_tensor_write(NULL, NULL, numbers, sizeof numbers, NULL);
    return options.flags == FL_CAMERA_REOPEN && FL_FOURCC('N', 'V', '1', '2') == 0x3231564eu ? 0 : 1;
}
";
    fs::write(&source, code).unwrap();
    let builds: [(&str, &[&str]); 6] = [
        ("gcc", &["-std=c99", "-Wc++-compat", "-Wcast-align", "-Wshadow"]),
        ("clang", &["-std=c99"]),
        ("gcc", &["-std=c11"]),
        ("g++", &["-x", "c++", "-std=c++11", "-Wold-style-cast", "-Wsign-conversion"]),
        ("clang++", &["-x", "c++", "-std=c++17", "-Wold-style-cast", "-Wsign-conversion"]),
        ("g++", &["-x", "c++", "-std=c++20", "-Wold-style-cast"]),
    ];
    for (i, (compiler, more)) in builds.into_iter().enumerate() {
        let built = compiled(compiler, &[&STRICT[..], more].concat(), &source, &format!("header-{i}"));
        built.map(program).map(|mut command| run(&mut command));
    }
}

#[test]
fn misuse_is_an_error_with_a_message() {
    let source = root().join("tests/c/misuse.c");
    let files = folder("misuse");
    let check = |mut command: Command| {
        let output = run(command.arg(&files));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "misuse: all as expected\n");
    };
    let Some(plain) = compiled("gcc", &flags("-std=gnu11", &["-g"]), &source, "misuse") else { return };
    check(program(&plain));
    if has("valgrind") {
        let mut command = program("valgrind");
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
        command.arg(&plain);
        check(command);
    } else {
        skipped("misuse in valgrind", "no valgrind here");
    }
    let sanitized = flags("-std=gnu11", &["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    if let Some(sanitized) = compiled("gcc", &sanitized, &source, "misuse-asan") {
        check(program(sanitized));
    }
    // C++ compiles the same calls.
    compiled("g++", &["-std=gnu++17", "-x", "c++", "-Wall", "-Wextra", "-Werror"], &source, "misuse++")
        .map(program)
        .map(check);
}

#[test]
fn cpp_handles_close_themselves() {
    let source = root().join("tests/c/handles.cpp");
    let flags = flags("-std=c++17", &["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    let Some(built) = compiled("g++", &flags, &source, "handles") else { return };
    let output = run(&mut program(built));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "handles: all as expected\n");
}

/// A copy of the examples, as a user has them.
fn copy(name: &str) -> std::path::PathBuf {
    let to = folder(name);
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
    to
}

fn with_pkg_config(command: &mut Command, at: &Path) -> Command {
    let mut whole = std::mem::replace(command, Command::new("true"));
    whole.current_dir(at).env("PKG_CONFIG_PATH", installed().join("lib/pkgconfig"));
    whole
}

#[test]
fn examples_build_by_make_cmake_and_meson() {
    if !has("pkg-config") {
        return skipped("builds by pkg-config", "no pkg-config here");
    }
    let builds: [(&str, &str, &[&[&str]]); 3] = [
        ("make", ".", &[&["make", "all"]]),
        ("cmake", "build", &[&["cmake", "-S", ".", "-B", "build"], &["cmake", "--build", "build"]]),
        ("meson", "build", &[&["meson", "setup", "build"], &["meson", "compile", "-C", "build"]]),
    ];
    for (tool, result, commands) in builds {
        if !has(tool) {
            skipped("a build of the examples", &format!("no {tool} here"));
            continue;
        }
        let at = copy(tool);
        let _ = fs::remove_dir_all(at.join("build"));
        for words in commands {
            run(&mut with_pkg_config(Command::new(words[0]).args(&words[1..]), &at));
        }
        for name in PROGRAMS {
            let output = run(program(at.join(result).join(name)).arg("--help"));
            assert!(String::from_utf8_lossy(&output.stdout).starts_with(&format!("usage: {name}")), "{tool} {name}");
        }
    }
}

#[test]
fn static_library_needs_nothing_but_libc() {
    if !has("gcc") {
        return skipped("a static link", "no gcc here");
    }
    let to = folder("programs").join("consumer-static");
    let mut command = Command::new("gcc");
    command.args(["-O1", "-I"]).arg(installed().join("include")).arg(example("consumer.c")).arg("-o").arg(&to);
    command.arg("-Wl,--gc-sections").arg(installed().join("lib/libframelease.a"));
    run(command.args(STATIC_LIBS.split(' ')));
    // Without the folder of the shared library.
    run(Command::new(&to).arg("--help"));
    let output = run(Command::new("ldd").arg(&to));
    let libraries = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!libraries.contains("framelease"), "{libraries}");
}
