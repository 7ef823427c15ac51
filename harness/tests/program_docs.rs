//! The tables of `docs/program-text.md` are those of the code, and its examples parse.

use harness::program::options::{Group, KNOBS};
use harness::program::syntax::{Arg, SHAPES};
use harness::program::{lenient, strict};

const DOCS: &str = include_str!("../../docs/program-text.md");

/// The rows of the table between two marks.
fn table(begin: &str, end: &str) -> Vec<&'static str> {
    let (_, rest) = DOCS.split_once(begin).expect("the mark is there");
    let (table, _) = rest.split_once(end).expect("the end mark is there");
    table.lines().filter(|line| line.starts_with("| `")).collect()
}

/// Compares a table with what it should be; the message is the text to paste.
#[track_caller]
fn check(found: Vec<&str>, wanted: Vec<String>) {
    assert!(found == wanted, "the table in docs/program-text.md should be\n{}", wanted.join("\n"));
}

#[test]
fn the_knobs_of_the_page_are_those_of_the_code() {
    let row = |knob: &harness::program::options::Knob| {
        let (line, key) = (knob.group.word(), knob.key);
        let (values, default) = (knob.values.describe(), knob.text(knob.default));
        format!("| `{line}` | `{key}` | {values} | `{default}` | {} |", knob.doc)
    };
    check(table("<!-- knobs:", "<!-- end of knobs -->"), KNOBS.iter().map(row).collect());
}

#[test]
fn the_operations_of_the_page_are_those_of_the_code() {
    let row = |shape: &harness::program::syntax::Shape| {
        let mut line = shape.word.to_owned();
        for arg in shape.args {
            let part = match arg {
                Arg::Path => " F",
                Arg::Target => " G",
                Arg::Map => " M",
                Arg::Offset | Arg::Other => " OFFSET",
                Arg::Len => " LEN",
                Arg::Size => " SIZE",
                Arg::Node => " N",
                Arg::Word(word) => {
                    line += " ";
                    word
                }
                Arg::Fill => " [fill=0xNN]",
                Arg::Sync => " [sync]",
                Arg::Keep => " [keep]",
            };
            line += part;
        }
        format!("| `{line}` | {} |", shape.doc)
    };
    let wanted = SHAPES.iter().map(row).collect();
    check(table("<!-- operations:", "<!-- end of operations -->"), wanted);
}

#[test]
fn defaults_are_those_of_an_empty_program() {
    let program = strict("powerfail 1\n").expect("it is valid");
    for knob in KNOBS {
        assert_eq!((knob.get)(&program), knob.default, "{}", knob.key);
        assert_eq!(knob.values.clamp(knob.default), knob.default, "{}", knob.key);
    }
    assert!(Group::ALL.iter().all(|group| KNOBS.iter().any(|knob| knob.group == *group)));
}

#[test]
fn the_examples_of_the_page_are_valid() {
    let blocks: Vec<&str> = DOCS.split("```\n").skip(1).step_by(2).collect();
    assert_eq!(strict(blocks[0]).map(|program| program.to_string()), Ok(blocks[0].to_owned()));
    let finding = format!("powerfail 1\n{}", blocks[1]);
    assert_eq!(strict(&finding).map(|program| program.to_string()), Ok(finding));
    let wrong = blocks[0].replace("  create f\n", "  dwrit f 0 4K\n");
    let message = strict(&wrong).expect_err("it is wrong").to_string();
    assert_eq!(message, blocks[2].trim());
}

#[test]
fn the_lines_that_the_page_describes_are_valid() {
    for (section, line) in [
        ("schedule", "run a 1"),
        ("schedule", "complete 1"),
        ("schedule", "decide x 2 1"),
        ("cut after=1", "keep 1 v1"),
        ("cut after=1 rest=lost", "tear 1 v1 sectors=0x01"),
        ("cut after=1 rest=kept", "lose 1"),
        ("after", "absent f"),
        ("after", "content f 0 4K zero"),
    ] {
        let text = format!("powerfail 1\n{section}\n  {line}\n");
        let repaired = lenient(text.as_bytes());
        assert_eq!((repaired.skipped, repaired.repaired), (0, 0), "{text}");
    }
}
