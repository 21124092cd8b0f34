//! The programs in the documents are the examples, word for word.

/// The Rust programs of a Markdown document.
fn programs(document: &str) -> Vec<String> {
    let mut all = Vec::new();
    for part in document.split("```rust").skip(1) {
        let (_attributes, rest) = part.split_once('\n').expect("a line");
        all.push(rest.split("```").next().expect("an end of the block").to_owned());
    }
    all
}

/// An example without the description in its first lines.
fn example(source: &str) -> String {
    let program = source.lines().skip_while(|line| line.starts_with("//!") || line.is_empty());
    program.map(|line| format!("{line}\n")).collect()
}

#[test]
fn readme_shows_the_first_programs() {
    let shown = programs(include_str!("../README.md"));
    let service = example(include_str!("../examples/camera_service.rs"));
    let consumer = example(include_str!("../examples/camera_consumer.rs"));
    assert_eq!(shown, [service.as_str(), consumer.as_str()]);
    for program in [service, consumer] {
        let lines = program.lines().filter(|line| !line.is_empty()).count();
        assert!(lines < 25, "a first program has {lines} lines");
    }
}

#[test]
fn embedding_shows_the_event_loop_and_the_node() {
    let shown = programs(include_str!("../docs/embedding.md"));
    let (event_loop, node) = (include_str!("../examples/event_loop.rs"), include_str!("../examples/camera_node.rs"));
    let recorder = include_str!("../examples/camera_recorder.rs");
    assert_eq!(shown[..3], [example(event_loop), example(node), example(recorder)]);
    let lines = example(node).lines().filter(|line| !line.is_empty()).count();
    assert!(lines < 70, "the whole node has {lines} lines");
}

#[test]
fn c_shows_the_first_program() {
    let page = include_str!("../docs/c.md");
    let shown: Vec<&str> = page.split("```c\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let first = include_str!("../capi/examples/first.c").split_once("\n").unwrap().1;
    assert_eq!(shown[0], first);
    let node = include_str!("../capi/examples/camnode.c");
    for line in shown[1].lines() {
        assert!(node.contains(line.trim()), "camnode.c does not have: {line}");
    }
}

/// The text between backticks outside of fenced blocks.
fn spans(document: &str) -> Vec<&str> {
    let prose = document.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

fn documents() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "contrib/meta-framelease", "docs", "docs/adr", "docs/boards"].map(|folder| root.join(folder));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    let pages = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "md"));
    let named = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text)
    };
    pages.map(named).collect()
}

#[test]
fn documents_name_files_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for (page, text) in documents() {
        let folder = root.join(&page).parent().unwrap().to_owned();
        let paths = spans(&text).into_iter().filter(|span| {
            let is_ours =
                ["src/", "tests/", "docs/", "examples/", "benches/", "contrib/", "packaging/", "capi/", ".ci/"]
                    .iter()
                    .any(|at| span.starts_with(at));
            is_ours && !span.contains([' ', '*', '{', '<']) && !span.contains("NAME")
        });
        missing.extend(paths.filter(|path| !root.join(path).exists()).map(|path| format!("{page}: {path}")));
        let inline = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in inline.chain(definitions(&text).map(|(_, target)| target)) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let target = if file.is_empty() { root.join(&page) } else { folder.join(file) };
            let has_anchor = || {
                let headings = std::fs::read_to_string(&target).unwrap();
                let headings = headings.lines().filter_map(|line| line.strip_prefix('#'));
                headings.map(|line| slug(line.trim_start_matches('#'))).any(|slug| slug == anchor)
            };
            if !target.exists() || (!anchor.is_empty() && !has_anchor()) {
                missing.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// What bitbake fetches and checks.
#[test]
fn recipe_has_the_crates_of_the_lock_file_and_the_licenses() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let printed = |program: &mut std::process::Command| {
        let output = program.current_dir(root).output().expect("a program of every Linux");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let crates = printed(&mut std::process::Command::new("packaging/yocto-crates.sh"));
    let locked = include_str!("../Cargo.lock").matches("checksum = ").count();
    assert_eq!((crates.matches("crate://").count(), crates.matches("sha256sum").count()), (locked, locked));
    let list = include_str!("../contrib/meta-framelease/recipes-multimedia/framelease/framelease-crates.inc");
    assert!(
        crates == list,
        "Cargo.lock has changed. The README of contrib/meta-framelease has the command for its list"
    );
    let recipe = include_str!("../contrib/meta-framelease/recipes-multimedia/framelease/framelease_0.1.0.bb");
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let sum = printed(std::process::Command::new("md5sum").arg(license));
        let sum = sum.split(' ').next().unwrap();
        assert!(recipe.contains(&format!("file://{license};md5={sum} ")), "{license}: {sum}");
    }
    let path =
        format!("contrib/meta-framelease/recipes-multimedia/framelease/framelease_{}.bb", env!("CARGO_PKG_VERSION"));
    assert!(root.join(&path).exists(), "the recipe is to be renamed to {path}");
}

/// `[label]: target`
fn definitions(document: &str) -> impl Iterator<Item = (&str, &str)> {
    document.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "))
}

#[test]
fn guides_link_to_pages_and_items_of_the_documentation() {
    let links = include_str!("../src/guide/links.md");
    let pages = include_str!("../src/guide/mod.rs");
    let mut checked = 0;
    for (page, text) in documents() {
        if !pages.contains(&format!("\"{page}\"")) {
            continue;
        }
        // An inline link leads to a file, which the documentation does not have.
        let inline = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in inline {
            assert!(
                link.contains("://") || link.starts_with('#'),
                "{page}: ({link}) must be a reference, see links.md"
            );
        }
        for (label, _) in definitions(&text) {
            assert!(definitions(links).any(|(known, _)| known == label), "{page}: links.md lacks [{label}]");
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn documents_name_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    let mut named = 0;
    for (page, text) in documents() {
        // `name_of_a_test` in `tests/file.rs`
        for (before, after) in text.match_indices("` in `tests/").map(|(at, _)| text.split_at(at)) {
            let test = before.rsplit('`').next().unwrap();
            let file = after.split('`').nth(2).unwrap();
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            if !source.contains(&format!("fn {test}(")) {
                missing.push(format!("{page}: {test} in {file}"));
            }
            named += 1;
        }
    }
    assert!(named > 20 && missing.is_empty(), "{named} named, missing:\n{}", missing.join("\n"));
}

/// The anchor that a heading gets.
fn slug(heading: &str) -> String {
    let words = heading.trim().to_lowercase().replace(' ', "-");
    words.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

#[test]
fn documents_name_items_that_exist() {
    // A method of a type with a lifetime: `FrameRead<'_>::plane`.
    let api = include_str!("../docs/public-api.txt").replace("<'_>", "").replace("<'a>", "");
    let is_name = |part: &str| part.chars().all(|c| c.is_alphanumeric() || c == '_') && !part.is_empty();
    let headers =
        [include_str!("../capi/include/framelease.h"), include_str!("../capi/include/framelease.hpp")].concat();
    let others = "fl_ fl_h264 fl_scaler"; // The prefix, and drivers of the lab.
    let names = headers.split(|c: char| !c.is_alphanumeric() && c != '_').chain(others.split(' '));
    let c_names: std::collections::HashSet<&str> = names.collect();
    let mut missing = Vec::new();
    for (page, text) in documents() {
        for span in spans(&text) {
            let path = span.trim_end_matches("()");
            let parts: Vec<&str> = path.split("::").collect();
            // `Frame::read`, `convert::Request`. A path that begins with the name of another crate is not checked.
            let is_ours = parts.len() > 1 && parts.iter().all(|part| is_name(part)) && !FOREIGN.contains(&parts[0]);
            let last = parts[parts.len().saturating_sub(2)..].join("::");
            let ends = [" ", "(", "<", "\n", ":", ",", ")", ">"];
            // The names of C++, and of C: `fl::Station`, `fl_station_recv`.
            if parts[0] == "fl" || is_name(path) && path.to_lowercase().starts_with("fl_") {
                if !c_names.contains(&parts[parts.len() - 1]) {
                    missing.push(format!("{page}: {span}"));
                }
                continue;
            }
            if is_ours && !ends.iter().any(|end| api.contains(&format!("::{last}{end}"))) {
                missing.push(format!("{page}: {span}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Crates, and modules that are not public.
const FOREIGN: &[&str] = &["cv", "std", "tokio", "nix", "libc", "v4l", "drm_rs", "log"];
