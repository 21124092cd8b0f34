//! Finds files that import each other, and types whose methods are in several folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module's path within the crate: `["codec", "encoder"]`.
type Module = Vec<String>;

struct File {
    module: Module,
    /// A `mod.rs` or `lib.rs`: it does not use the names that it re-exports.
    is_facade: bool,
    /// Code without comments and tests.
    code: String,
    /// The names that its `use` lines bring in: the name here, and the path as written.
    names: Vec<(String, Vec<String>, bool)>,
}

pub struct Tree(BTreeMap<Module, File>);

impl Tree {
    pub fn read(src: &Path) -> Self {
        let mut tree = Self(BTreeMap::new());
        tree.add(src, &[]);
        tree
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self(BTreeMap::new());
        for (path, text) in files {
            tree.insert(Path::new(path), text);
        }
        tree
    }

    fn add(&mut self, folder: &Path, within: &[String]) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                self.add(&path, &[within, &[name]].concat());
            } else if name.ends_with(".rs") {
                let inside: PathBuf = within.iter().collect::<PathBuf>().join(name);
                self.insert(&inside, &std::fs::read_to_string(path).unwrap());
            }
        }
    }

    fn insert(&mut self, path: &Path, text: &str) {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let mut module: Module = path.parent().unwrap().iter().map(|p| p.to_str().unwrap().to_owned()).collect();
        let is_facade = stem == "mod" || stem == "lib";
        if !is_facade {
            module.push(stem.to_owned());
        }
        let code = code(text);
        let names = uses(&code);
        self.0.insert(module.clone(), File { module, is_facade, code, names });
    }

    /// Finds the file of a path, as it is written in `file`, through re-exports.
    fn resolve(&self, file: &File, path: &[String], depth: usize) -> Option<&File> {
        let (mut at, rest): (Module, &[String]) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (file.module.clone(), &path[1..]),
            "super" => {
                let ups = path.iter().take_while(|p| *p == "super").count();
                (file.module[..file.module.len().checked_sub(ups)?].to_vec(), &path[ups..])
            }
            // A child module. Other names are other crates.
            child => {
                let below = [&file.module[..], &[child.to_owned()]].concat();
                if !self.0.contains_key(&below) {
                    return None;
                }
                (file.module.clone(), path)
            }
        };
        let mut rest = rest;
        while let Some(next) = rest.first() {
            let below = [&at[..], std::slice::from_ref(next)].concat();
            if !self.0.contains_key(&below) {
                break;
            }
            (at, rest) = (below, &rest[1..]);
        }
        let found = self.0.get(&at)?;
        let Some(item) = rest.first().filter(|_| found.is_facade && depth < 8) else { return Some(found) };
        match found.names.iter().find(|(name, ..)| name == item) {
            Some((_, path, _)) => self.resolve(found, path, depth + 1),
            None => Some(found),
        }
    }

    /// Returns the modules that a file uses.
    fn imports(&self, file: &File) -> BTreeSet<Module> {
        let by_name = file
            .names
            .iter()
            .filter(|(.., is_public)| !(file.is_facade && *is_public))
            .map(|(_, path, _)| path.clone());
        let in_line = ["super::", "crate::"].into_iter().flat_map(|start| {
            let begins = file.code.match_indices(start).filter(|(at, _)| !file.code[..*at].ends_with(':'));
            begins.map(|(at, _)| written_path(&file.code[at..])).collect::<Vec<_>>()
        });
        let found = by_name.chain(in_line).filter_map(|path| self.resolve(file, &path, 0));
        found.filter(|other| other.module != file.module).map(|other| other.module.clone()).collect()
    }

    /// Pairs of files that import each other.
    pub fn pairs(&self) -> Vec<String> {
        let imports: BTreeMap<&Module, BTreeSet<Module>> =
            self.0.values().map(|f| (&f.module, self.imports(f))).collect();
        let mut pairs = Vec::new();
        for (one, theirs) in &imports {
            for other in theirs.iter().filter(|other| *other > one) {
                if imports.get(other).is_some_and(|back| back.contains(*one)) {
                    pairs.push(format!("{} and {}", one.join("/"), other.join("/")));
                }
            }
        }
        pairs
    }

    /// Types that have methods outside the folder in which they are defined.
    pub fn spread(&self) -> Vec<String> {
        let mut spread = Vec::new();
        for file in self.0.values() {
            for name in inherent_impls(&file.code) {
                let is_here = ["struct ", "enum ", "union "].iter().any(|kind| defines(&file.code, kind, &name));
                let named = file.names.iter().find(|(own, ..)| *own == name).map(|(_, path, _)| path);
                let home = match named {
                    _ if is_here => continue,
                    Some(path) => self.resolve(file, path, 0),
                    None => None,
                };
                if let Some(home) = home.filter(|home| folder(home) != folder(file)) {
                    spread.push(format!("{name} of {} in {}", home.module.join("/"), file.module.join("/")));
                }
            }
        }
        spread
    }
}

fn folder(file: &File) -> &[String] {
    let len = if file.is_facade { file.module.len() } else { file.module.len() - 1 };
    &file.module[..len]
}

fn defines(code: &str, kind: &str, name: &str) -> bool {
    code.match_indices(kind).any(|(at, _)| identifier(&code[at + kind.len()..]) == name)
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// `super::a::B` at the beginning of a text.
fn written_path(text: &str) -> Vec<String> {
    let mut path = Vec::new();
    let mut rest = text;
    loop {
        let part = identifier(rest);
        rest = &rest[part.len()..];
        if part.is_empty() {
            return path;
        }
        path.push(part);
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => return path,
        }
    }
}

/// Types of `impl Type {`, without traits.
fn inherent_impls(code: &str) -> Vec<String> {
    let blocks = code.lines().filter_map(|line| line.strip_prefix("impl")).filter(|line| !line.contains(" for "));
    let names = blocks.map(|line| {
        let line = match line.strip_prefix('<') {
            // Skip the parameters, which do not contain a `>` here.
            Some(rest) => rest.split_once("> ").map_or("", |(_, rest)| rest),
            None => line.trim_start(),
        };
        identifier(line)
    });
    names.filter(|name| !name.is_empty()).collect()
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The names that `use` lines bring in, with their paths, and whether they are re-exported.
fn uses(code: &str) -> Vec<(String, Vec<String>, bool)> {
    let mut names = Vec::new();
    for statement in code.split(';') {
        let start = statement.lines().position(|line| {
            let line = line.trim_start();
            line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ")
        });
        let Some(start) = start else { continue };
        let text: String = statement.lines().skip(start).map(str::trim).collect::<Vec<_>>().join(" ");
        let Some((visibility, tree)) = text.split_once("use ") else { continue };
        expand(tree, &[], visibility.starts_with("pub"), &mut names);
    }
    names
}

fn expand(tree: &str, before: &[String], is_public: bool, names: &mut Vec<(String, Vec<String>, bool)>) {
    let tree = tree.trim();
    if let Some((head, list)) = tree.split_once('{') {
        let head: Vec<String> =
            head.split("::").filter(|p| !p.trim().is_empty()).map(|p| p.trim().to_owned()).collect();
        let before = [before, &head].concat();
        let list = list.rsplit_once('}').map_or(list, |(list, _)| list);
        let (mut depth, mut from) = (0, 0);
        for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&list[from..at], &before, is_public, names);
                    from = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, name) = match tree.split_once(" as ") {
        Some((path, name)) => (path, Some(name.trim().to_owned())),
        None => (tree, None),
    };
    let mut path: Vec<String> = path.split("::").map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect();
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let path = [before, &path].concat();
    if let Some(name) = name.or_else(|| path.last().cloned()) {
        names.push((name, path, is_public));
    }
}
