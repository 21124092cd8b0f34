//! The floor under this project's English: words that its readers had to read twice fail here, in documents, comments,
//! string literals and names. CONTRIBUTING.md has the rules; this is only what a machine can find of them.

mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source::{Kind, Piece, Syntax};

/// Phrases, and what to write. The list may grow, never shrink. A name matches with its words apart.
const PHRASES: &[(&str, &str)] = &[
    ("nobody", "name who: no subscriber, no process"),
    ("somebody", "name who: a user, another process"),
    ("whoever", "name who: a caller that"),
    ("anybody", "anyone"),
    ("anew", "again"),
    ("for ever", "forever"),
    ("so many", "say how many"),
    ("is none", "there is no"),
    ("has not the", "does not have the"),
    ("hangs at", "is attached to"),
    ("behind it", "after it"),
    ("behind them", "after them"),
    ("behind the", "after the"),
    ("its own affair", "say who decides"),
    ("is told", "is notified, learns, gets"),
];

/// British spellings, by the beginning of a word. Not "grey", which is V4L2's.
const BRITISH: &[&str] = &[
    "analyse",
    "artefact",
    "behaviour",
    "cancell",
    "catalogue",
    "centre",
    "colour",
    "defence",
    "favour",
    "finalis",
    "honour",
    "initialis",
    "judgement",
    "labelled",
    "labelling",
    "licence",
    "maximis",
    "metre",
    "minimis",
    "modelled",
    "modelling",
    "neighbour",
    "normalis",
    "optimis",
    "organis",
    "prioritis",
    "realis",
    "recognis",
    "rumour",
    "serialis",
    "signalled",
    "specialis",
    "summaris",
    "synchronis",
    "travelled",
    "travelling",
    "utilis",
    "whilst",
];

/// Words that begin like British ones and are not: an API's, or American too.
const AMERICAN: &[&str] = &["cancellation", "cancellations", "optimist", "optimistic", "realistic", "realism"];

const WIDTH: usize = 120;

/// Names and text that other projects chose.
const FOREIGN: &[&str] = &["docs/public-api.txt"];

#[test]
fn prose_has_no_phrase_that_is_read_twice() {
    let mut wrong = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in files(root) {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let Some(syntax) = Syntax::of(&name) else { continue };
        if FOREIGN.contains(&name.as_str()) || name.starts_with("tests/words/") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for piece in syntax.pieces(&text) {
            for (at, what) in faults(&piece) {
                wrong.insert(format!("{name}:{}: {what}", piece.line_of(at)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn phrases_are_found_in_text_and_names() {
    let found = |syntax: Syntax, text: &str| -> Vec<String> {
        syntax.pieces(text).iter().flat_map(faults).map(|(_, what)| what).collect()
    };
    assert_eq!(found(Syntax::Rust, "// Waits for\n// ever."), ["\"for ever\": forever"]);
    assert_eq!(found(Syntax::Rust, "let s = \"it is no camera\";").len(), 1);
    assert_eq!(found(Syntax::Rust, "fn nobody_waits() {}").len(), 1);
    assert_eq!(found(Syntax::Rust, "// `nobody` is a user's name, and it is no longer here.\n"), [""; 0]);
    assert_eq!(found(Syntax::Rust, "/// ```\n/// let nobody = 1;\n/// ```\nfn f<'a>(c: char) { c == '\"' }"), [""; 0]);
    assert_eq!(found(Syntax::Markdown, "What is held is kept. What is a lease?\n").len(), 1);
    assert_eq!(found(Syntax::Markdown, "```text\nnobody\n```\nThe colour of https://example.org/colour\n").len(), 1);
    assert_eq!(found(Syntax::Script, "x='anew' # whoever\n").len(), 2);
    let wide = format!("// {}\n", "x ".repeat(60));
    assert_eq!(found(Syntax::Rust, &wide).len(), 1);
}

#[test]
fn test_names_begin_with_a_word_of_their_subject() {
    const REFUSED: &str = "a an the what who whoever it they there of in is no one two three all any that this we our";
    let (mut wrong, mut tests) = (Vec::new(), 0);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in ["tests", "src", "capi"].iter().flat_map(|folder| files(&root.join(folder))) {
        if path.extension().map_or(true, |extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(str::trim);
        while lines.any(|line| line == "#[test]") {
            // More attributes and comments may follow.
            let Some(name) = lines.find_map(|line| line.strip_prefix("fn ")) else { break };
            let name = name.split(['(', '<']).next().unwrap();
            let first = name.split('_').next().unwrap();
            tests += 1;
            if name.len() > 80 || REFUSED.split(' ').any(|word| word == first) {
                wrong.push(format!("{}: {name}", path.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(tests > 500 && wrong.is_empty(), "{tests} tests, of which:\n{}", wrong.join("\n"));
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_ours = !name.starts_with('.') || [".ci", ".github"].contains(&name.as_str());
            let is_made =
                ["target", "corpus", "artifacts", "proptest-regressions", "__pycache__"].contains(&name.as_str());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && is_ours && !is_made => folders.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Offsets in the piece, and what is wrong there.
fn faults(piece: &Piece) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if let Some(at) = piece.too_wide(WIDTH) {
        found.push((at, format!("a comment wider than {WIDTH} columns")));
    }
    let text = &piece.text;
    let is_word = |c: char| c.is_alphanumeric() || c == '\'';
    let bounded =
        |at: usize, length: usize| !text[..at].ends_with(is_word) && !text[at + length..].starts_with(is_word);
    let phrase = |phrase: &str| -> Vec<usize> {
        text.match_indices(phrase).map(|(at, _)| at).filter(|&at| bounded(at, phrase.len())).collect()
    };
    // `Option::is_none`.
    let phrases = PHRASES.iter().filter(|(bad, _)| *bad != "is none" || piece.kind != Kind::Name);
    for (bad, good) in phrases {
        found.extend(phrase(bad).into_iter().map(|at| (at, format!("\"{bad}\": {good}"))));
    }
    for at in phrase("is no") {
        let next = text[at + "is no".len()..].trim_start();
        if !["longer", "more"].iter().any(|word| next.starts_with(word)) {
            found.push((at, "\"is no\": is not a".to_owned()));
        }
    }
    for at in phrase("what is") {
        let before = text[..at].trim_end();
        let is_start = before.is_empty() || before.ends_with(['.', '!', '?', ':', '|']);
        let end = text[at..].find(['.', '?', '!', '|']).map(|end| text.as_bytes()[at + end]);
        if is_start && end != Some(b'?') {
            found.push((at, "\"What is\" as a subject: name it".to_owned()));
        }
    }
    for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
        if BRITISH.iter().any(|british| word.starts_with(british)) && !AMERICAN.contains(&word) {
            let at = word.as_ptr() as usize - text.as_ptr() as usize;
            found.push((at, format!("\"{word}\": American spelling")));
        }
    }
    found
}
