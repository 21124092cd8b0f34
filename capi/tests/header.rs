//! `include/framelease.h` is what cbindgen makes of the sources, section by section. To write it again:
//! `UPDATE_HEADER=1 cargo test -p framelease-capi --test header`.

use std::fs;
use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationStyle, Language, Layout, Style};

const BEGIN: &str = "\
/* framelease: zero-copy video on Linux.
 *
 * Capture, convert, encode, share, record, stream and show dma-bufs, with one descriptor for each station and no
 * thread. docs/c.md shows whole programs. This file is made from the sources of the library: do not edit it.
 *
 * Rules for all functions:
 * - A handle (fl_station, fl_frame, ...) comes from the function that opens, creates or receives it. The functions that
 *   close or release one take a pointer to the handle and make it NULL, so that a second call does nothing. A function
 *   that gives a handle overwrites the pointer, also when it fails: release an earlier handle first.
 * - A pointer is NULL only where its function says so; elsewhere NULL is FL_ERROR_INVALID_ARGUMENT, not a crash.
 * - A structure that begins with its size is initialized with FL_INIT(type), which makes all other fields 0: the
 *   default. Later versions append fields, and programs that were built before keep working.
 * - Text is UTF-8 and ends with NUL; paths are bytes that end with NUL. Times have their unit in their names.
 * - A timeout of 0 does not wait. One below 0 waits for a day, and then returns as after any timeout.
 * - Frames, packets and buffer sets may be used by any thread, also at the same time. Every other handle is for one
 *   thread at a time.
 * - After fork(), the child uses no handle, not even to close it, and ends by exec() or _exit(): both processes would
 *   drive one device. Every descriptor is closed by exec().
 * - No callbacks, no signals, no locale. The library sets no signal handler. It writes no output, except one message to
 *   standard error before FL_ERROR_INTERNAL.
 */

#ifndef FRAMELEASE_H
#define FRAMELEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A structure of this type with its size set and all other fields 0:
 *     fl_camera_options options = FL_INIT(fl_camera_options);
 */
#ifdef __cplusplus
template <typename T> inline T fl_init_() {
    T value = T();
    value.size = sizeof(T);
    return value;
}
#define FL_INIT(type) fl_init_<type>()
#define FL_UINT32_(number) static_cast<uint32_t>(number)
extern \"C\" {
#else
#define FL_INIT(type) ((type){.size = sizeof(type)})
#define FL_UINT32_(number) ((uint32_t)(number))
#endif

/* A format's number: FL_FOURCC('N', 'V', '1', '2'). */
#define FL_FOURCC(a, b, c, d) \\
    (FL_UINT32_(a) | FL_UINT32_(b) << 8 | FL_UINT32_(c) << 16 | FL_UINT32_(d) << 24)
";

const END: &str = "
#ifdef __cplusplus
}
#endif

#endif /* FRAMELEASE_H */
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

/// The modules of lib.rs in their order: `pub mod NAME;`.
fn modules() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned));
    names.collect()
}

fn config(source: &str) -> Config {
    let mut config = Config {
        language: Language::C,
        style: Style::Both,
        no_includes: true,
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::C,
        tab_width: 4,
        ..Config::default()
    };
    config.function.args = Layout::Horizontal;
    // Also what no function of the section names.
    let names = source.lines().filter_map(|line| {
        let name = line.strip_prefix("pub enum ").or_else(|| line.strip_prefix("pub struct "))?;
        name.strip_suffix(" {").filter(|name| name.starts_with("fl_"))
    });
    config.export.include = names.map(str::to_owned).collect();
    config
}

/// Whether a paragraph declares a handle: a structure without a layout for C. They come before all sections, because
/// sections use each other's, and C99 does not allow a type to be declared twice.
fn is_handle(paragraph: &str) -> bool {
    paragraph.lines().last().is_some_and(|line| line.starts_with("typedef struct fl_") && line.ends_with(';'))
}

/// The section as people write C: short comments in one line, a star in each line of the others, long declarations
/// wrapped.
fn by_hand(section: &str) -> String {
    let mut text = String::new();
    let mut comment: Option<Vec<&str>> = None;
    for line in section.lines() {
        let (indent, content) = (&line[..line.len() - line.trim_start().len()], line.trim());
        match (&mut comment, content) {
            (None, "/*") => comment = Some(Vec::new()),
            (Some(lines), "*/") => {
                // The indent is that of the end: one space more than the beginning's.
                let indent = &indent[1..];
                match lines.as_slice() {
                    [line] => text.push_str(&format!("{indent}/* {line} */\n")),
                    lines => {
                        for (i, line) in lines.iter().enumerate() {
                            let start = if i == 0 { "/*" } else { " *" };
                            text.push_str(format!("{indent}{start} {line}").trim_end());
                            text.push('\n');
                        }
                        text.push_str(&format!("{indent} */\n"));
                    }
                }
                comment = None;
            }
            (Some(lines), content) => lines.push(content),
            // A call changes its station, also where Rust sees a shared reference.
            (None, _) => {
                let line = line.replace("const struct fl_station *", "fl_station *");
                let line = line.replace("const fl_station *", "fl_station *").replace("Bool ", "bool ");
                // Flags are unsigned, so that ~FLAG is.
                let is_flag = line.starts_with("#define FL_") && !line.contains("FL_MAX_");
                let line = if is_flag { line + "u" } else { line };
                let is_type = line.starts_with("typedef");
                wrap(
                    &mut text,
                    &if is_type { line } else { line.replace("struct fl_", "fl_").replace("enum fl_", "fl_") },
                );
            }
        }
    }
    text
}

const WIDTH: usize = 120;

fn wrap(text: &mut String, line: &str) {
    match line.split_once('(') {
        Some((start, arguments)) if line.len() > WIDTH => {
            text.push_str(&format!("{start}("));
            let mut column = WIDTH;
            for (i, argument) in arguments.split(", ").enumerate() {
                if column + argument.len() + 2 > WIDTH {
                    text.push_str(if i == 0 { "\n    " } else { ",\n    " });
                    column = 4;
                } else {
                    text.push_str(", ");
                    column += 2;
                }
                text.push_str(argument);
                column += argument.len();
            }
            text.push('\n');
        }
        _ => text.push_str(&format!("{line}\n")),
    }
}

fn header() -> String {
    let (mut handles, mut sections) = (String::new(), String::new());
    for name in modules() {
        let path = root().join(format!("src/{name}.rs"));
        let text = fs::read_to_string(&path).unwrap();
        sections.push_str("\n/* ");
        sections.push_str(&"=".repeat(114));
        sections.push('\n');
        for line in text.lines().map_while(|line| line.strip_prefix("//!")) {
            sections.push_str(&format!(" *{line}\n"));
        }
        sections.push_str(" */\n");
        let bindings = Builder::new().with_src(path).with_config(config(&text)).generate().unwrap();
        let mut section = Vec::new();
        bindings.write(&mut section);
        for paragraph in by_hand(String::from_utf8(section).unwrap().trim()).split("\n\n") {
            let to = if is_handle(paragraph) { &mut handles } else { &mut sections };
            to.push_str(&format!("\n{}\n", paragraph.trim_end()));
        }
    }
    let mut header = [BEGIN, &handles, &sections].concat();
    header.push_str(END);
    header
}

#[test]
fn header_is_that_of_the_sources() {
    let path = root().join("include/framelease.h");
    let made = header();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differ = committed.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        committed == made,
        "include/framelease.h differs from line {:?} on: UPDATE_HEADER=1 cargo test -p framelease-capi --test header",
        differ.map_or(committed.lines().count() + 1, |at| at + 1)
    );
}
