//! Source texts as the rules see them: with line numbers, and with comments and literals blanked
//! out, so that a rule about code does not stumble over words.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing written by people.
const SKIPPED: &[&str] = &["target", "fuzz/target", "fuzz/corpus", "fuzz/artifacts", "findings"];

/// One text of the repository.
pub struct Source {
    /// The path from the root of the repository, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// The text of a Rust file without comments and literals, each character replaced by a space.
    pub code: String,
}

impl Source {
    /// A text at a path; for the tests of the rules too.
    pub fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { blank(text) } else { String::new() };
        Source { path: path.to_string(), text: text.to_string(), code }
    }

    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The lines of the code with their numbers, from 1.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// What is wrong at a line, in the form that editors jump to.
    pub fn at(&self, line: usize, message: impl std::fmt::Display) -> String {
        format!("{}:{line}: {message}", self.path)
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.parent().expect("the harness is in the workspace").to_path_buf()
}

/// Every text of the repository that a rule may be about, in the order of the paths.
pub fn all() -> Vec<Source> {
    let root = root();
    let mut paths = Vec::new();
    walk(&root, &root, &mut paths);
    paths.sort();
    let sources: Vec<Source> = paths
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(root.join(path)).ok()?;
            is_text(path, &text).then(|| Source::new(path, &text))
        })
        .collect();
    assert!(sources.iter().any(|source| source.path == "Cargo.toml"), "the walk found the root");
    assert!(sources.iter().filter(|source| source.is_rust()).count() > 50, "and the crates");
    sources
}

fn is_text(path: &str, text: &str) -> bool {
    let by_name = [".rs", ".md", ".toml", ".sh", ".yml"].iter().any(|end| path.ends_with(end));
    by_name || text.starts_with("#!")
}

fn walk(root: &Path, folder: &Path, paths: &mut Vec<String>) {
    let entries = fs::read_dir(folder).expect("the folder is readable");
    for entry in entries {
        let path = entry.expect("the entry is readable").path();
        let inside = path.strip_prefix(root).expect("it is inside").to_string_lossy();
        let inside = inside.replace('\\', "/");
        let hidden = inside.starts_with('.') && !inside.starts_with(".ci");
        if hidden || SKIPPED.contains(&inside.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, paths);
        } else {
            paths.push(inside);
        }
    }
}

/// Replaces comments, strings and characters by spaces; line ends stay.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `at` if none starts there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |ahead: usize| chars.get(at + ahead).copied().unwrap_or('\0');
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next(1)) {
        ('/', '/') => chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('r', '"' | '#') if !in_word => raw_string_end(chars, at),
        ('\'', '\\') => {
            let close = chars[at + 3..].iter().position(|&c| c == '\'');
            close.map_or(chars.len(), |n| at + 3 + n + 1)
        }
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut index = at;
    while index + 1 < chars.len() {
        match (chars[index], chars[index + 1]) {
            ('/', '*') => (depth, index) = (depth + 1, index + 2),
            ('*', '/') => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            return index;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut index: usize) -> usize {
    while index < chars.len() {
        match chars[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let closes = |index: usize| {
        let tail = chars.get(index + 1..index + 1 + hashes);
        chars[index] == '"' && tail.is_some_and(|tail| tail.iter().all(|&c| c == '#'))
    };
    let close = (at + 2 + hashes..chars.len()).find(|&index| closes(index));
    close.map_or(chars.len(), |index| index + 1 + hashes)
}

#[test]
fn comments_and_literals_are_blank() {
    let text = "let a = \"unsafe \\\" x\"; // unsafe\nlet b = r#\"un\"safe\"#; /* a /* b */ c */ d";
    let code = blank(text);
    assert_eq!(code.lines().count(), 2);
    assert!(!code.contains("unsafe") && !code.contains("safe") && !code.contains('c'));
    assert!(code.ends_with(" d") && code.contains("let b ="));
    assert_eq!(blank("'a' 'b: '\\n' '\\'' x"), "    'b:           x");
}
