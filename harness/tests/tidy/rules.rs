//! The rules, each a function from a text to what is wrong with it.

use super::source::Source;

/// The longest line, in characters.
const LINE_CHARS_MAX: usize = 100;
/// The longest file, in lines.
const FILE_LINES_MAX: usize = 700;
/// The longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// The longest fuzz target, in lines: it is glue.
const TARGET_LINES_MAX: usize = 60;

/// Functions that may be longer, each with the reason.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    // (path, function, reason)
];

/// Where `unsafe` may stand, each with the reason. The argument is in the file.
const UNSAFE_ROOMS: &[(&str, &str)] = &[
    ("machine/src/fibre.rs", "the switch between fibres"),
    ("machine/src/medium.rs", "the memory map of an image"),
    ("harness/src/target/kernel/mapping.rs", "memory that only the kernel touches"),
    ("harness/src/target/kernel/ioctl.rs", "FICLONERANGE and FIDEDUPERANGE"),
    ("harness/src/fuzzing/counters.rs", "the section in which libFuzzer looks for counters"),
];

/// A name that must not stand in code, with its replacement and the files that are excepted.
struct Banned {
    name: &'static str,
    instead: &'static str,
    except: &'static [&'static str],
}

const BANNED: &[Banned] = &[
    Banned {
        name: "HashMap",
        instead: "its order differs between runs: FxHashMap that nobody iterates, or BTreeMap",
        except: &[],
    },
    Banned {
        name: "HashSet",
        instead: "its order differs between runs: FxHashSet that nobody iterates, or BTreeSet",
        except: &[],
    },
    Banned { name: "RandomState", instead: "it is seeded at random: FxBuildHasher", except: &[] },
    Banned {
        name: "Instant",
        instead: "time is Machine::now; people's clock is harness::clock",
        except: &["harness/src/clock.rs"],
    },
    Banned {
        name: "SystemTime",
        instead: "time is Machine::now; people's clock is harness::clock",
        except: &["harness/src/clock.rs"],
    },
    Banned {
        name: "thread_rng",
        instead: "numbers come from a Chooser or from Dice with a seed",
        except: &[],
    },
    Banned {
        name: "getrandom",
        instead: "numbers come from a Chooser or from Dice with a seed",
        except: &[],
    },
    Banned {
        name: "std::thread",
        instead: "concurrency is tasks of the machine; jobs and conformance have their own modules",
        except: &[
            "harness/src/campaign.rs",
            "harness/src/jobs.rs",
            "harness/src/commands/litmus.rs",
            "harness/src/conform/threads.rs",
            "harness/src/target/kernel/perform.rs",
        ],
    },
    Banned { name: "todo!", instead: "write it, or leave it out", except: &[] },
    Banned { name: "unimplemented!", instead: "write it, or leave it out", except: &[] },
    Banned { name: "dbg!", instead: "remove it", except: &[] },
    Banned { name: "#[ignore", instead: "a test runs or is removed", except: &[] },
    Banned { name: "#[should_panic", instead: "assert the error", except: &[] },
    Banned { name: "thread::sleep", instead: "wait for what is meant", except: &[] },
];

/// Characters beyond ASCII that have a use.
const KNOWN_CHARS: &str = "§×·…²³∞→←↓↑≤≥≠µé–—⌈⌉│─├└┌┐┘┤┬┴┼█▏✓✗";

/// First folders of absolute paths that mean the same on every machine.
const KNOWN_ROOTS: &[&str] = &["dev", "proc", "sys", "mnt", "usr", "bin", "nonexistent"];

/// Folders that tools make, which pages may name.
const MADE: &[&str] = &["fuzz/corpus", "fuzz/artifacts", "fuzz/coverage", "findings"];

/// Every file says in its first line what lives in it.
pub fn module_doc(source: &Source) -> Vec<String> {
    let documented = source.text.starts_with("//! ");
    if !source.is_rust() || documented {
        return Vec::new();
    }
    vec![source.at(1, "the file must open with `//! ` and what it promises")]
}

/// Lines, functions and files have a size that a person can look at.
pub fn size(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    if !source.is_rust() && !source.text.starts_with("#!") {
        return wrong;
    }
    for (line, text) in source.lines() {
        let chars = text.chars().count();
        if chars > LINE_CHARS_MAX {
            wrong.push(source.at(line, format!("{chars} characters, {LINE_CHARS_MAX} at most")));
        }
    }
    let lines = source.lines().count();
    let target = source.path.starts_with("fuzz/fuzz_targets/");
    let max = if target { TARGET_LINES_MAX } else { FILE_LINES_MAX };
    if lines > max {
        wrong.push(source.at(lines, format!("the file has {lines} lines, {max} at most")));
    }
    for function in functions(source) {
        let excepted = |row: &&(&str, &str, &str)| row.0 == source.path && row.1 == function.name;
        if function.lines > FUNCTION_LINES_MAX && !LONG_FUNCTIONS.iter().any(|row| excepted(&row)) {
            let (name, lines) = (&function.name, function.lines);
            let message = format!("fn {name} has {lines} lines, {FUNCTION_LINES_MAX} at most");
            wrong.push(source.at(function.line, message));
        }
    }
    wrong
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// The functions with a body, by their braces.
fn functions(source: &Source) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, _) in source.code.match_indices("fn ") {
        let before = source.code[..start].chars().next_back();
        let name: String = source.code[start + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if name.is_empty() || before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let Some(len) = body_len(&source.code[start..]) else { continue };
        let line = source.code[..start].matches('\n').count() + 1;
        let lines = source.code[start..start + len].matches('\n').count() + 1;
        found.push(Function { name, line, lines });
    }
    found
}

/// Bytes from `fn` to the brace that closes the body; `None` for a declaration.
fn body_len(code: &str) -> Option<usize> {
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (index, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces <= 0 {
                    return (braces == 0).then_some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Names whose use makes executions differ, or leaves work undone.
pub fn banned_names(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, code) in source.code_lines() {
        for banned in BANNED {
            let excepted = banned.except.contains(&source.path.as_str());
            if !excepted && has_name(code, banned.name) {
                wrong.push(source.at(line, format!("`{}`: {}", banned.name, banned.instead)));
            }
        }
    }
    wrong
}

/// Whether `name` stands in the line as a word of its own.
fn has_name(code: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(word);
        let after = code[at + name.len()..].chars().next().is_some_and(word);
        !before && (!after || !name.ends_with(word))
    })
}

/// `unsafe` lives in its rooms.
pub fn unsafe_rooms(source: &Source) -> Vec<String> {
    if UNSAFE_ROOMS.iter().any(|(room, _)| *room == source.path) {
        return Vec::new();
    }
    let uses = source.code_lines().filter(|(_, code)| has_name(code, "unsafe"));
    uses.map(|(line, _)| {
        source.at(line, "`unsafe` outside of its rooms (see UNSAFE_ROOMS in tests/tidy)")
    })
    .collect()
}

/// What tasks share tells explorers that it is touched.
pub fn shared_cells(source: &Source) -> Vec<String> {
    let is_engine = source.path.starts_with("engine/src/") && !source.path.contains("/tests");
    if !is_engine && source.path != "harness/src/target/engine.rs" {
        return Vec::new();
    }
    let uses = source.code_lines().filter(|(_, code)| code.contains("std::cell"));
    uses.map(|(line, _)| {
        source.at(line, "`std::cell`: tasks share state through `machine::cell` alone")
    })
    .collect()
}

/// Crates know only what lies below them.
pub fn crate_arrows(source: &Source) -> Vec<String> {
    const MAY_USE: &[(&str, &[&str])] = &[
        ("machine/", &[]),
        ("engine/", &["machine"]),
        ("oracle/", &[]),
        ("harness/", &["machine", "engine", "oracle"]),
        ("fuzz/", &["harness"]),
    ];
    let Some((own, below)) = MAY_USE.iter().find(|(own, _)| source.path.starts_with(own)) else {
        return Vec::new();
    };
    let own = own.trim_end_matches('/');
    let mut wrong = Vec::new();
    for name in ["machine", "engine", "oracle", "harness"] {
        if name == own || below.contains(&name) {
            continue;
        }
        let (package, path) = (format!("powerfail-{name}"), format!("{name}::"));
        let message = format!("{own} must not know {name}");
        let manifest = source.path.ends_with("Cargo.toml");
        for (line, text) in source.lines().filter(|_| manifest) {
            let dependency = text.starts_with(&package);
            if dependency {
                wrong.push(source.at(line, &message));
            }
        }
        for (line, code) in source.code_lines() {
            if has_crate_path(code, &path) {
                wrong.push(source.at(line, &message));
            }
        }
    }
    wrong
}

/// Whether a path starts with this crate: `engine::` but not `crate::engine::` or `my_engine::`.
fn has_crate_path(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// Oracles say what they verify and what they do not.
pub fn oracle_headers(source: &Source) -> Vec<String> {
    const JUDGES: &[&str] = &["judge.rs", "results.rs", "errors.rs", "floor.rs", "history.rs"];
    let Some(name) = source.path.strip_prefix("oracle/src/") else { return Vec::new() };
    let head: Vec<&str> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
    let head = head.join("\n");
    let judges = JUDGES.contains(&name) || head.contains("*Verified*");
    if judges && !(head.contains("*Verified*") && head.contains("*Not verified")) {
        return vec![source.at(1, "an oracle opens with *Verified* and *Not verified, because*")];
    }
    Vec::new()
}

/// ASCII, or one of the few other characters that are in use.
pub fn known_characters(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, text) in source.lines() {
        let strange = text.chars().find(|c| !c.is_ascii() && !KNOWN_CHARS.contains(*c));
        if let Some(c) = strange {
            wrong
                .push(source.at(line, format!("the character U+{:04X} has no use here", c as u32)));
        }
    }
    wrong
}

/// Nothing depends on a path of somebody's machine.
pub fn no_outside_path(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, text) in source.lines() {
        if let Some(path) = outside_path(text) {
            wrong.push(source.at(line, format!("`{path}` is a path outside of the repository")));
        }
    }
    wrong
}

/// An absolute path of at least two parts, unless it means the same everywhere.
fn outside_path(text: &str) -> Option<&str> {
    let opens = |c: char| c.is_whitespace() || "\"'`(=".contains(c);
    let part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    for (at, _) in text.match_indices('/') {
        let before = text[..at].chars().next_back();
        if !before.is_none_or(opens) {
            continue;
        }
        let len = text[at..].find(|c: char| !part(c) && c != '/').unwrap_or(text.len() - at);
        let path = &text[at..at + len];
        let mut parts = path[1..].split('/');
        let first = parts.next().unwrap_or_default();
        let second = parts.next().unwrap_or_default();
        if !first.is_empty() && !second.is_empty() && !KNOWN_ROOTS.contains(&first) {
            return Some(path);
        }
    }
    None
}

/// Commands of the scripts and files that a page names are there. `exists` knows the repository.
pub fn pages_are_true(source: &Source, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if !source.path.ends_with(".md") {
        return wrong;
    }
    let folder = source.path.rfind('/').map_or("", |at| &source.path[..=at]);
    for (line, text) in source.lines() {
        for target in links(text) {
            let path = target.split('#').next().unwrap_or_default();
            let outside = path.contains("://") || path.is_empty();
            if !outside && !exists(&normal(folder, path)) {
                wrong.push(source.at(line, format!("the link `{target}` leads nowhere")));
            }
        }
        for name in quoted(text) {
            let path = name.split(' ').next().unwrap_or_default();
            let ours = ["ci/", "harness/", "machine/", "engine/", "oracle/", "fuzz/", "docs/"];
            let told = ours.iter().any(|root| path.starts_with(root));
            let pattern = path.contains(['*', '<', '{', '…']);
            let made = MADE.iter().any(|folder| path.starts_with(folder));
            if told && !pattern && !made && !exists(path) {
                wrong.push(source.at(line, format!("there is no `{path}`")));
            }
        }
        let command = text.split(' ').next().unwrap_or_default();
        if command.starts_with("ci/") && !exists(command) {
            wrong.push(source.at(line, format!("there is no command `{command}`")));
        }
    }
    wrong
}

/// The targets of the links of a line of Markdown.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split(')').next())
}

/// What stands between backticks in a line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A path relative to a folder, as one from the root.
fn normal(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
