//! Reads Rust as far as the rules need it, and lists the files of the workspace.

use std::fs;
use std::path::Path;

use crate::BINARY_CRATES;

/// The same text twice, lines kept: once without comments and the insides of literals, once with
/// nothing but the comments.
pub(crate) struct Split {
    pub(crate) code: String,
    pub(crate) comments: String,
}

impl Split {
    pub(crate) fn of(text: &str) -> Self {
        let (mut code, mut comments) = (String::new(), String::new());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let (len, kind) = lexeme(rest, first, code.chars().next_back());
            let (piece, tail) = rest.split_at(len);
            code.push_str(&if kind == Kind::Code {
                piece.to_owned()
            } else {
                blank(piece)
            });
            comments.push_str(&if kind == Kind::Comment {
                piece.to_owned()
            } else {
                blank(piece)
            });
            rest = tail;
        }
        Self { code, comments }
    }
}

#[derive(PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

fn blank(piece: &str) -> String {
    piece
        .chars()
        .map(|c| if c == '\n' { '\n' } else { ' ' })
        .collect()
}

fn lexeme(rest: &str, first: char, before: Option<char>) -> (usize, Kind) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Kind::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment_len(rest), Kind::Comment);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && (first == 'r' || rest.starts_with("br")) {
        let hashes = rest.trim_start_matches(['b', 'r']);
        let count = hashes.len() - hashes.trim_start_matches('#').len();
        if hashes[count..].starts_with('"') {
            let start = rest.len() - hashes.len() + count + 1;
            let end = format!("\"{}", "#".repeat(count));
            let len = rest[start..]
                .find(&end)
                .map_or(rest.len(), |at| start + at + end.len());
            return (len, Kind::Literal);
        }
    }
    match first {
        '"' => (quoted_len(rest, '"'), Kind::Literal),
        '\'' if is_char_literal(rest) => (quoted_len(rest, '\''), Kind::Literal),
        _ => {
            let first_len = first.len_utf8();
            let next = rest[first_len..].find(['/', '"', '\'', 'r', 'b']);
            (next.map_or(rest.len(), |len| first_len + len), Kind::Code)
        }
    }
}

fn block_comment_len(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        match (tail.starts_with(b"/*"), tail.starts_with(b"*/")) {
            (true, _) => (depth, at) = (depth + 1, at + 2),
            (_, true) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

/// Words, `::` and single signs, with the line (from 1) each stands on.
pub(crate) fn tokens(code: &str) -> Vec<(usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut line, mut rest) = (Vec::new(), 1, code);
    while let Some(first) = rest.chars().next() {
        let len = match first {
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        if !first.is_whitespace() {
            found.push((line, &rest[..len]));
        }
        line += usize::from(first == '\n');
        rest = &rest[len..];
    }
    found
}

/// `rt/net/stream.rs` is `[rt, net, stream]`; `lib.rs` and `main.rs` are the root.
pub(crate) fn module_path(inner: &str) -> Vec<String> {
    let stem = inner.strip_suffix(".rs").unwrap_or(inner);
    let parts = stem
        .split('/')
        .filter(|part| !matches!(*part, "mod" | "lib" | "main"));
    parts.map(str::to_owned).collect()
}

/// Every path that starts at `crate`, `super` or one of our crates, as seen from the crate's root.
pub(crate) fn named_paths(code: &str, modules: &[String]) -> Vec<(usize, Vec<String>)> {
    let words = tokens(code);
    let mut found = Vec::new();
    let mut inline: Vec<bool> = Vec::new(); // one per open brace: does it belong to a `mod`?
    for (at, (line, word)) in words.iter().enumerate() {
        let is_mod = at >= 2 && words[at - 2].1 == "mod";
        match *word {
            "{" => inline.push(is_mod),
            "}" => {
                inline.pop();
            }
            _ => (),
        }
        let starts = at == 0 || words[at - 1].1 != "::";
        let ours = *word == "hp_core" || BINARY_CRATES.contains(word);
        if !starts || !(ours || matches!(*word, "crate" | "super")) {
            continue;
        }
        let depth = inline.iter().filter(|is_mod| **is_mod).count();
        let mut here: Vec<String> = modules.to_vec();
        here.extend((0..depth).map(|_| "mod".to_owned()));
        let mut paths = Vec::new();
        use_tree(&words[at..], Vec::new(), &mut paths);
        found.extend(
            paths
                .into_iter()
                .map(|path| (*line, from_root(path, &here))),
        );
    }
    found
}

fn from_root(path: Vec<String>, here: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    if ups == 0 {
        return path;
    }
    let mut root = vec!["crate".to_owned()];
    root.extend_from_slice(&here[..here.len().saturating_sub(ups)]);
    root.extend_from_slice(&path[ups..]);
    root
}

/// Reads `a::b::{c, d::e}` from the front; returns how many words it took.
fn use_tree(words: &[(usize, &str)], prefix: Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix;
    let mut at = 0;
    loop {
        match words.get(at).map(|(_, word)| *word) {
            Some("{") => {
                at += 1;
                while words.get(at).is_some_and(|(_, word)| *word != "}") {
                    at += use_tree(&words[at..], path.clone(), paths).max(1);
                }
                return at + 1;
            }
            Some(word) if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                path.push(word.to_owned());
                at += 1;
            }
            _ => break,
        }
        if words.get(at).is_none_or(|(_, word)| *word != "::") {
            break;
        }
        at += 1;
    }
    paths.push(path);
    at
}

/// The code with its `#[cfg(test)] mod …` cut out, comments and literals blanked.
pub(crate) fn without_tests(text: &str) -> String {
    let code = Split::of(text).code;
    let (mut kept, mut at) = (String::new(), 0);
    while let Some(found) = code[at..].find("#[cfg(test)]") {
        let start = at + found;
        let head = code[start..]
            .find([';', '{'])
            .map_or(code.len(), |len| start + len);
        let is_mod = tokens(&code[start..head])
            .iter()
            .any(|(_, word)| *word == "mod");
        let has_body = is_mod && code[head..].starts_with('{');
        let end = if has_body {
            block_end(&code, head)
        } else {
            head
        };
        kept.push_str(&code[at..if is_mod { start } else { end }]);
        at = end;
    }
    kept + &code[at..]
}

fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        depth += usize::from(c == '{');
        depth -= usize::from(c == '}');
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

/// Every file of the workspace with its path from the root; the text only of what the rules read.
pub(crate) fn tree() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(root.join(&folder)).expect("a folder of the workspace is readable")
        {
            let entry = entry.expect("an entry of a folder is readable");
            let name = entry
                .file_name()
                .into_string()
                .expect("file names are UTF-8");
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if kind.is_file() {
                let read = [".rs", ".md", "Cargo.toml"]
                    .iter()
                    .any(|end| name.ends_with(end));
                let text = if read {
                    fs::read_to_string(entry.path())
                } else {
                    Ok(String::new())
                };
                files.push((path, text.expect("sources are UTF-8")));
            }
        }
    }
    files.sort();
    assert!(
        files
            .iter()
            .any(|(path, _)| path == "hp-core/tests/layers.rs"),
        "the wrong folder"
    );
    files
}
