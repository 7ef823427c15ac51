//! Tidy: properties of the code itself, held as tests.
//!
//! Each rule has two tests: one that holds the repository to it, one that shows its message. A rule
//! that is wrong for a place gets an exception with a reason in its table, never a silent skip.

mod rules;
mod source;

use source::{Source, all, root};

/// Holds every text to a rule.
#[track_caller]
fn holds(rule: impl Fn(&Source) -> Vec<String>) {
    let wrong: Vec<String> = all().iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// A rule says this, and nothing else, of a text.
#[track_caller]
fn says(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str, expected: &[&str]) {
    assert_eq!(rule(&Source::new(path, text)), expected);
}

fn pages(source: &Source) -> Vec<String> {
    rules::pages_are_true(source, &|path| root().join(path).exists())
}

#[test]
fn every_file_opens_with_its_doc() {
    holds(rules::module_doc);
}

#[test]
fn lines_functions_and_files_have_a_size_to_look_at() {
    holds(rules::size);
}

#[test]
fn no_name_makes_executions_differ() {
    holds(rules::banned_names);
}

#[test]
fn unsafe_stays_in_its_rooms() {
    holds(rules::unsafe_rooms);
}

#[test]
fn tasks_share_state_through_cells_that_tell() {
    holds(rules::shared_cells);
}

#[test]
fn crates_know_only_what_lies_below() {
    holds(rules::crate_arrows);
}

#[test]
fn oracles_say_what_they_verify() {
    holds(rules::oracle_headers);
}

#[test]
fn characters_are_known() {
    holds(rules::known_characters);
}

#[test]
fn no_path_leads_outside() {
    holds(rules::no_outside_path);
}

#[test]
fn pages_name_what_is_there() {
    holds(pages);
}

#[test]
fn a_missing_doc_is_named() {
    let doc = "a.rs:1: the file must open with `//! ` and what it promises";
    says(rules::module_doc, "a.rs", "use b;\n", &[doc]);
    says(rules::module_doc, "a.rs", "//! Promises.\nuse b;\n", &[]);
    says(rules::module_doc, "a.md", "Words.\n", &[]);
}

#[test]
fn a_size_is_named() {
    let long = format!("//! D.\n{}\n", "x".repeat(101));
    says(rules::size, "a.rs", &long, &["a.rs:2: 101 characters, 100 at most"]);
    let function = format!("//! D.\nfn f() -> [u8; 3] {{\n{}}}\n", "    g();\n".repeat(69));
    says(rules::size, "a.rs", &function, &["a.rs:2: fn f has 71 lines, 70 at most"]);
    let function = function.replacen("    g();\n", "", 1);
    says(rules::size, "a.rs", &function, &[]);
    let glue = "//! D.\n".repeat(61);
    let message = "fuzz/fuzz_targets/t.rs:61: the file has 61 lines, 60 at most";
    says(rules::size, "fuzz/fuzz_targets/t.rs", &glue, &[message]);
    let file = "//! D.\n".repeat(701);
    says(rules::size, "a.rs", &file, &["a.rs:701: the file has 701 lines, 700 at most"]);
}

#[test]
fn a_banned_name_is_named_with_its_replacement() {
    let text =
        "//! HashMap\nlet a = HashMap::new(); // HashSet\nlet b: FxHashMap = x(\"Instant\");\n";
    let map = "a.rs:2: `HashMap`: its order differs between runs: FxHashMap that nobody iterates, \
               or BTreeMap";
    says(rules::banned_names, "a.rs", text, &[map]);
    says(
        rules::banned_names,
        "a.rs",
        "#[ignore]\n",
        &["a.rs:1: `#[ignore`: a test runs or is removed"],
    );
    let clock = "use std::time::Instant;\n";
    says(rules::banned_names, "harness/src/clock.rs", clock, &[]);
    let message = "a.rs:1: `Instant`: time is Machine::now; people's clock is harness::clock";
    says(rules::banned_names, "a.rs", clock, &[message]);
}

#[test]
fn an_unsafe_block_outside_is_named() {
    let text = "//! D.\nlet x = unsafe { y() };\nfn unsafely() {}\n";
    let message = "a.rs:2: `unsafe` outside of its rooms (see UNSAFE_ROOMS in tests/tidy)";
    says(rules::unsafe_rooms, "a.rs", text, &[message]);
    says(rules::unsafe_rooms, "machine/src/fibre.rs", text, &[]);
}

#[test]
fn a_cell_that_does_not_tell_is_named() {
    let text = "//! D.\nuse std::cell::Cell;\n";
    let message = "engine/src/a.rs:2: `std::cell`: tasks share state through `machine::cell` alone";
    says(rules::shared_cells, "engine/src/a.rs", text, &[message]);
    says(rules::shared_cells, "machine/src/a.rs", text, &[]);
}

#[test]
fn an_arrow_upwards_is_named() {
    let rule = rules::crate_arrows;
    let up = "use engine::Fs;\nuse crate::engine::Fs;\nlet my_engine::X = 1;\n";
    says(rule, "machine/src/a.rs", up, &["machine/src/a.rs:1: machine must not know engine"]);
    says(rule, "oracle/src/a.rs", up, &["oracle/src/a.rs:1: oracle must not know engine"]);
    says(rule, "harness/src/a.rs", up, &[]);
    let manifest = "[dependencies]\npowerfail-oracle.workspace = true\n";
    let message = "engine/Cargo.toml:2: engine must not know oracle";
    says(rule, "engine/Cargo.toml", manifest, &[message]);
}

#[test]
fn an_oracle_without_limits_is_named() {
    let message =
        "oracle/src/judge.rs:1: an oracle opens with *Verified* and *Not verified, because*";
    says(
        rules::oracle_headers,
        "oracle/src/judge.rs",
        "//! J.\n//!\n//! *Verified*: a.\n",
        &[message],
    );
    let whole = "//! J.\n//!\n//! *Verified*: a. *Not verified, because* b.\n";
    says(rules::oracle_headers, "oracle/src/judge.rs", whole, &[]);
}

#[test]
fn a_strange_character_is_named() {
    let message = "a.md:2: the character U+201C has no use here";
    says(rules::known_characters, "a.md", "§ 2 × 3\n\u{201c}\n", &[message]);
}

#[test]
fn a_path_outside_is_named() {
    let text = format!("see `{}home{}me/x`, {}dev{}fuse and a/b/c\n", '/', '/', '/', '/');
    let message = format!("a.md:1: `{}home/me/x` is a path outside of the repository", '/');
    says(rules::no_outside_path, "a.md", &text, &[&message]);
}

#[test]
fn a_page_that_lies_is_named() {
    let text = "[a](b/c.md) and [d](../e.md#f)\n`ci/nothing 60` `harness/none.rs`\nci/gone 3\n";
    let rule = |source: &Source| rules::pages_are_true(source, &|path| path == "e.md");
    let expected = [
        "docs/p.md:1: the link `b/c.md` leads nowhere",
        "docs/p.md:2: there is no `ci/nothing`",
        "docs/p.md:2: there is no `harness/none.rs`",
        "docs/p.md:3: there is no command `ci/gone`",
    ];
    says(rule, "docs/p.md", text, &expected);
}
