//! Source files taken apart: what people read in them.

/// How comments and strings look in a file.
#[derive(Clone, Copy)]
pub enum Syntax {
    Rust,
    C,
    /// Shell, Python, TOML, YAML.
    Script,
    Markdown,
}

/// A paragraph, a string or a name, in lower case, without code spans and addresses.
pub struct Piece {
    pub text: String,
    /// Where each line begins in `text`, and its number and width in the file.
    lines: Vec<(usize, usize, usize)>,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Comment,
    String,
    Name,
}

impl Piece {
    fn new(text: &str, line: usize, kind: Kind) -> Self {
        Self { text: plain(text), lines: vec![(0, line, 0)], kind }
    }

    pub fn line_of(&self, at: usize) -> usize {
        self.lines.iter().rev().find(|(begin, ..)| *begin <= at).map_or(0, |&(_, line, _)| line)
    }

    /// Where a comment line is wider than `width` columns.
    pub fn too_wide(&self, width: usize) -> Option<usize> {
        self.lines.iter().find(|(.., columns)| self.kind == Kind::Comment && *columns > width).map(|&(begin, ..)| begin)
    }
}

impl Syntax {
    pub fn of(name: &str) -> Option<Self> {
        let file = name.rsplit('/').next()?;
        match file.rsplit_once('.') {
            Some((_, "rs")) => Some(Self::Rust),
            Some((_, "c" | "h")) => Some(Self::C),
            Some((_, "sh" | "py" | "toml" | "yml" | "yaml")) => Some(Self::Script),
            Some((_, "md")) => Some(Self::Markdown),
            None if name.starts_with(".ci/") && file != "coverage-floor" => Some(Self::Script),
            _ => None,
        }
    }

    pub fn pieces(self, text: &str) -> Vec<Piece> {
        match self {
            Self::Markdown => paragraphs(text.lines().enumerate().map(|(i, line)| (i + 1, line, 0))),
            _ => code(self, text),
        }
    }
}

/// Lower case; what stands between backticks and addresses are left out.
fn plain(text: &str) -> String {
    let mut all = String::new();
    for (i, part) in text.split('`').enumerate() {
        all.push_str(if i % 2 == 0 { part } else { "`" });
    }
    let words = all.split(' ').map(|word| if word.contains("://") { "`" } else { word });
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Lines (number, text, width in the file) as paragraphs, without what stands in fences.
fn paragraphs<'a>(lines: impl Iterator<Item = (usize, &'a str, usize)>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    let (mut raw, mut marks): (String, Vec<(usize, usize, usize)>) = Default::default();
    let mut is_code = false;
    let mut end = |raw: &mut String, marks: &mut Vec<(usize, usize, usize)>| {
        if !marks.is_empty() {
            let whole = std::mem::take(raw);
            // Spans may go over the ends of lines: the paragraph is made plain as a whole, and its lines are found
            // again.
            let lines = marks.drain(..).map(|(at, line, width)| (plain(&whole[..at]).len(), line, width)).collect();
            all.push(Piece { text: plain(&whole), lines, kind: Kind::Comment });
        }
    };
    for (number, line, width) in lines {
        let text = line.trim();
        if text.starts_with("```") {
            is_code = !is_code;
        }
        let is_item = text.starts_with(['-', '*', '#', '|', '>']) || text.starts_with("1.");
        if is_code || text.is_empty() || is_item || text.starts_with("```") {
            end(&mut raw, &mut marks);
        }
        if !is_code && !text.is_empty() && !text.starts_with("```") {
            if !raw.is_empty() {
                raw.push(' ');
            }
            marks.push((raw.len(), number, width));
            raw.push_str(text);
        }
    }
    end(&mut raw, &mut marks);
    all
}

fn code(syntax: Syntax, text: &str) -> Vec<Piece> {
    let mut scan = Scan { syntax, rest: text, line: 1, pieces: Vec::new(), comments: Vec::new() };
    while !scan.rest.is_empty() {
        scan.step();
    }
    let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
    let mut blocks: Vec<Vec<(usize, &str, usize)>> = Vec::new();
    for (line, comment) in scan.comments {
        let entry = (line, comment, widths.get(line - 1).copied().unwrap_or(0));
        match blocks.last_mut() {
            Some(block) if block.last().is_some_and(|last| last.0 + 1 == line) => block.push(entry),
            _ => blocks.push(vec![entry]),
        }
    }
    scan.pieces.extend(blocks.into_iter().flat_map(|block| paragraphs(block.into_iter())));
    scan.pieces
}

struct Scan<'a> {
    syntax: Syntax,
    rest: &'a str,
    line: usize,
    pieces: Vec<Piece>,
    comments: Vec<(usize, &'a str)>,
}

impl<'a> Scan<'a> {
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn step(&mut self) {
        let rest = self.rest;
        let is_script = matches!(self.syntax, Syntax::Script);
        let line_end = rest.find('\n').unwrap_or(rest.len());
        if !is_script && rest.starts_with("//") || is_script && rest.starts_with('#') {
            let line = self.line;
            let comment = self.take(line_end);
            self.comments.push((line, comment.trim_start_matches(['/', '!', '#'])));
        } else if !is_script && rest.starts_with("/*") {
            let first = self.line;
            let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            let lines = self.take(length).lines();
            let texts = lines.map(|line| line.trim().trim_start_matches(['/', '*']).trim_end_matches(['*', '/']));
            self.comments.extend((first..).zip(texts));
        } else if let Some(hashes) = self.raw_string() {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = rest.find('"').map_or(1, |at| at + 1);
            let length = rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len());
            self.string(length);
        } else if rest.starts_with('"') || is_script && rest.starts_with('\'') {
            self.string(quoted(rest));
        } else if let Some(after) = rest.strip_prefix('\'') {
            // A character, or a lifetime.
            let mut chars = after.chars();
            let first = chars.next();
            let length = match first {
                Some('\\') => after[1..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(2, |(at, _)| at + 3),
                Some(c) if chars.next() == Some('\'') => 2 + c.len_utf8(),
                _ => 1,
            };
            self.take(length);
        } else {
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            if length == 0 {
                self.take(rest.chars().next().map_or(1, char::len_utf8));
                return;
            }
            let line = self.line;
            let name = self.take(length);
            // ALL_CAPITALS are constants of the kernel's, mostly.
            if name.chars().any(char::is_lowercase) {
                self.pieces.push(Piece::new(&words(name), line, Kind::Name));
            }
        }
    }

    fn string(&mut self, length: usize) {
        let line = self.line;
        let text = self.take(length);
        // A line of a string that goes on is one sentence.
        let joined = text.replace("\\\n", " ").replace("\\n", " . ");
        let joined = joined.split_whitespace().collect::<Vec<_>>().join(" ");
        self.pieces.push(Piece::new(joined.trim_matches(['"', '\'']), line, Kind::String));
    }

    /// The number of hashes, if a raw string begins here.
    fn raw_string(&self) -> Option<usize> {
        let after = self.rest.strip_prefix("br").or_else(|| self.rest.strip_prefix('r'))?;
        let hashes = after.len() - after.trim_start_matches('#').len();
        (matches!(self.syntax, Syntax::Rust) && after[hashes..].starts_with('"')).then_some(hashes)
    }
}

/// The length of a string with its quotes.
fn quoted(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A name's words: `anewWay` and `anew_way` are "anew way".
fn words(name: &str) -> String {
    let mut all = String::new();
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            all.push(' ');
        }
        if c != '_' {
            all.push(c);
        }
    }
    all.trim().to_owned()
}
