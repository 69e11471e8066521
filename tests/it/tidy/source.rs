//! Source files as the rules see them: with and without comments and strings, and the paths they name.

use std::fs;
use std::path::Path;

/// What holds no source of ours; `.git` is a file in a worktree.
const SKIPPED: [&str; 4] = [".git", "target", "data", "node_modules"];

/// A text file of the tree.
pub(crate) struct Source {
    /// Relative to the root, with slashes.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// For Rust: comments blanked. Line breaks stay, so lines have the same numbers.
    pub(crate) code: String,
    /// For Rust: comments and what strings and characters hold blanked.
    pub(crate) bare: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, bare) = if path.ends_with(".rs") { blank(text) } else { (text.to_owned(), text.to_owned()) };
        Self { path: path.to_owned(), text: text.to_owned(), code, bare }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is Rust that ends up in the product, not a test of it.
    pub(crate) fn is_product(&self) -> bool {
        self.is_rust() && !self.path.split('/').any(|part| part == "tests" || part == "benches")
    }

    /// Every path it names, imports spelled out: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        let mut import: Option<(usize, String)> = None;
        for (index, line) in self.bare.lines().enumerate() {
            if import.is_none() && is_import(line.trim_start()) {
                let tree = line.split_once("use ").map_or("", |(_, tree)| tree);
                import = Some((index + 1, tree.to_owned()));
            } else if let Some((_, tree)) = &mut import {
                tree.push_str(line);
            } else {
                paths.extend(inline_paths(line).map(|path| (index + 1, path)));
            }
            if let Some((number, tree)) = import.take_if(|(_, tree)| tree.contains(';')) {
                expand("", tree.split(';').next().unwrap_or_default(), &mut |path| paths.push((number, path)));
            }
        }
        paths
    }
}

/// Every text file below `root`, in order.
pub(crate) fn tree(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    walk(root, root, &mut sources);
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

fn walk(root: &Path, dir: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("a readable folder").map(|entry| entry.expect("a readable entry")) {
        if SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, sources);
            continue;
        }
        let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
        if let Ok(text) = fs::read_to_string(&path) {
            sources.push(Source::new(&relative, &text)); // what is not UTF-8 is not source
        }
    }
}

fn is_import(line: &str) -> bool {
    let after_visibility = line.strip_prefix("pub").map_or(line, |rest| match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')').map_or("", |(_, rest)| rest),
        None => rest,
    });
    after_visibility.trim_start().starts_with("use ")
}

/// `a::b::c` as written in a line of code.
fn inline_paths(line: &str) -> impl Iterator<Item = String> {
    line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':'))
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.contains("::"))
        .map(str::to_owned)
}

fn expand(prefix: &str, tree: &str, found: &mut impl FnMut(String)) {
    let tree = tree.trim();
    if let Some((stem, branches)) = tree.strip_suffix('}').and_then(|tree| tree.split_once('{')) {
        let prefix = format!("{prefix}{}", stem.trim());
        split_outside_braces(branches).iter().for_each(|branch| expand(&prefix, branch, found));
    } else if !tree.is_empty() {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        let path = format!("{prefix}{name}");
        found(path.trim_start_matches("::").trim_end_matches("::self").to_owned());
    }
}

fn split_outside_braces(branches: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for letter in branches.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("never empty").push(letter);
    }
    parts
}

/// The text without comments, and without comments and literals.
fn blank(text: &str) -> (String, String) {
    let letters: Vec<char> = text.chars().collect();
    let mut blanker = Blanker { letters: &letters, at: 0, code: String::new(), bare: String::new() };
    blanker.run();
    (blanker.code, blanker.bare)
}

struct Blanker<'a> {
    letters: &'a [char],
    at: usize,
    code: String,
    bare: String,
}

impl Blanker<'_> {
    fn run(&mut self) {
        while self.at < self.letters.len() {
            match (self.letters[self.at], self.peek(1)) {
                ('/', Some('/')) => self.comment(|blanker| blanker.peek(0) == Some('\n')),
                ('/', Some('*')) => self.block_comment(),
                ('r', Some('"' | '#')) if !self.continues_a_word() && self.raw_hashes().is_some() => self.raw_string(),
                ('"', _) => self.quoted('"'),
                ('\'', Some('\\')) => self.quoted('\''),
                ('\'', _) if self.peek(2) == Some('\'') => self.quoted('\''),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn continues_a_word(&self) -> bool {
        // `br"…"` is one literal; its `b` may stay behind as code.
        self.at > 0 && matches!(self.letters[self.at - 1], 'a' | 'c'..='z' | 'A'..='Z' | '0'..='9' | '_')
    }

    /// How many `#` stand before the quote of a raw string that begins here.
    fn raw_hashes(&self) -> Option<usize> {
        let hashes = self.letters[self.at + 1..].iter().take_while(|letter| **letter == '#').count();
        (self.peek(1 + hashes) == Some('"')).then_some(hashes)
    }

    fn keep(&mut self) {
        self.code.push(self.letters[self.at]);
        self.bare.push(self.letters[self.at]);
        self.at += 1;
    }

    fn literal(&mut self) {
        let letter = self.letters[self.at];
        self.code.push(letter);
        self.bare.push(if letter == '\n' { '\n' } else { ' ' });
        self.at += 1;
    }

    fn erase(&mut self) {
        let blank = if self.letters[self.at] == '\n' { '\n' } else { ' ' };
        self.code.push(blank);
        self.bare.push(blank);
        self.at += 1;
    }

    fn comment(&mut self, is_over: impl Fn(&Self) -> bool) {
        while self.at < self.letters.len() && !is_over(self) {
            self.erase();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.letters.len() {
            match (self.letters[self.at], self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    self.erase();
                    continue;
                }
            }
            self.erase();
            self.erase();
            if depth == 0 {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: char) {
        self.keep();
        while let Some(letter) = self.peek(0) {
            if letter == quote {
                return self.keep();
            }
            self.literal();
            if letter == '\\' && self.peek(0).is_some() {
                self.literal();
            }
        }
    }

    fn raw_string(&mut self) {
        let hashes = self.raw_hashes().unwrap_or_default();
        (0..hashes + 2).for_each(|_| self.keep());
        while let Some(letter) = self.peek(0) {
            let is_end = letter == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            if is_end {
                return (0..=hashes).for_each(|_| self.keep());
            }
            self.literal();
        }
    }
}

#[test]
fn comments_and_literals_are_told_from_code() {
    let text = r####"let a = "// \" no"; // yes "b"
/* x /* y */ "z" */ let c = r#"raw " // text"#; let d: &'static str = "e"; let f = '"'; g();"####;
    let source = Source::new("x.rs", text);
    assert_eq!(source.code.lines().next().map(str::trim_end), Some(r#"let a = "// \" no";"#));
    assert!(source.code.contains(r##"let c = r#"raw " // text"#;"##), "{}", source.code);
    let bare: Vec<&str> = source.bare.split_whitespace().collect();
    let expected = r##"let a = " "; let c = r#" "#; let d: &'static str = " "; let f = ' '; g();"##;
    assert_eq!(bare.join(" "), expected);
    assert_eq!(source.bare.lines().count(), 2);
}

#[test]
fn imports_are_spelled_out() {
    let text = "pub(crate) use a::{\n    b, c::{self, D as E},\n    f::*};\nuse ::g;\nlet x = h::i::j(k);\n";
    let paths = Source::new("x.rs", text).paths();
    let expected = [(1, "a::b"), (1, "a::c"), (1, "a::c::D"), (1, "a::f::*"), (4, "g"), (5, "h::i::j")];
    assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
}
