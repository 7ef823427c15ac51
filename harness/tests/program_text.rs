//! The text of programs: what the printer writes, and what the strict parser says of mistakes.

use harness::program::{
    Comment, CutSpec, Expect, KeptSpec, Move, Place, Program, Rest, Task, lenient, strict,
};
use oracle::operation::{Fill, OpId, Operation, PathId, Span, Sync};

const GOLDEN: &str = include_str!("../../corpus/golden/program-v1/every-form.pf");

/// The text `body` after the first line parses and prints as `canonical`.
#[track_caller]
fn prints(body: &str, canonical: &str) {
    let program = strict(&format!("powerfail 1\n{body}")).expect("the text is valid");
    assert_eq!(program.to_string(), format!("powerfail 1\n{canonical}"));
    assert_eq!(strict(&program.to_string()), Ok(program));
}

/// The strict parser says `message` of the text, and the lenient one makes a program of it.
#[track_caller]
fn refuses(text: &str, message: &str) {
    let error = strict(text).expect_err("the text is invalid");
    assert_eq!(error.to_string(), message);
    assert!(error.span.start <= error.span.end && error.span.end <= text.len());
    let repaired = lenient(text.as_bytes());
    assert!(repaired.skipped + repaired.repaired > 0, "nothing was repaired");
    assert_eq!(strict(&repaired.program.to_string()), Ok(repaired.program));
}

/// The strict parser says `message` of the text `body` after the first line.
#[track_caller]
fn refuses_body(body: &str, message: &str) {
    refuses(&format!("powerfail 1\n{body}"), message);
}

#[test]
fn the_golden_file_of_format_1_never_changes() {
    let program = strict(GOLDEN).expect("format 1 is readable for ever");
    assert_eq!(program.to_string(), GOLDEN);
    let repaired = lenient(GOLDEN.as_bytes());
    assert_eq!((repaired.skipped, repaired.repaired), (0, 0));
    assert_eq!(repaired.program, program);
}

#[test]
fn the_golden_file_means_what_it_says() {
    let program = strict(GOLDEN).expect("format 1 is readable for ever");
    assert_eq!(program.image.blocks, 64);
    assert_eq!(program.machine.seed, u64::MAX);
    assert_eq!(program.paths, ["f", "g"]);
    assert_eq!(program.maps, ["m", "n"]);
    let names: Vec<&str> = program.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["a", "writer-2", "b", "empty"]);
    let (path, fill, sync) = (PathId(0), Fill::Byte(0), Sync::Data);
    let write = Operation::DirectWrite { path, span: Span::new(512, 512), fill, sync };
    assert_eq!(program.tasks[0].ops[1], write);
    assert_eq!(program.operation(OpId(10)).map(|(_, op)| op), Some(&write));
    let kind = "stale-data".to_owned();
    assert_eq!(program.expect, Some(Expect::Violation { kind, guarantee: Some(7) }));
    let cut = program.cut.expect("there is a cut");
    assert_eq!((cut.moment, cut.rest, cut.inside_recovery), (17, Rest::Kept, Some(5)));
    let torn = KeptSpec { device: 0, block: 6, version: 0, sectors: Some(0xf0) };
    assert_eq!(cut.kept[2], torn);
    let moves = program.schedule.expect("there is a schedule").moves;
    assert_eq!(moves[1], Move::Complete { request: 3 });
    assert_eq!(program.choices.len(), 34);
}

#[test]
fn only_what_differs_from_its_default_is_printed() {
    prints("image datasum=on blocks=256\nmount alloc=lowest\n", "");
    prints("mount workers=2\nimage leaf=5\n", "image leaf=5\nmount workers=2\n");
    prints("setup\n", "");
    prints("task a\n", "task a\n");
    prints("schedule\n", "schedule\n");
}

#[test]
fn sizes_have_their_largest_exact_unit() {
    prints(
        "setup\n  truncate f 4096\n  truncate f 1048576\n  truncate f 1536\n  truncate f 1025\n",
        "setup\n  truncate f 4K\n  truncate f 1M\n  truncate f 1536\n  truncate f 1025\n",
    );
}

#[test]
fn options_may_stand_in_any_order() {
    prints("task a\n  write f 0 4K sync fill=170\n", "task a\n  write f 0 4K fill=0xaa sync\n");
}

#[test]
fn comments_stay_with_their_lines() {
    prints(
        "#one\nimage leaf=4 # two\n#  three\ntask a # four\n  sync # five\n\n# six\n",
        "# one\n# two\nimage leaf=4\n#  three\n# four\ntask a\n  # five\n  sync\n# six\n",
    );
}

#[test]
fn comments_of_lines_that_are_not_printed_go_to_the_next() {
    prints(
        "task a\n# of the image\nimage leaf=0\n# of b\ntask b\n",
        "# of the image\ntask a\n# of b\ntask b\n",
    );
}

#[test]
fn what_follows_the_end_is_ignored() {
    prints("task a\n  sync\nend\n  what ever\n", "task a\n  sync\n");
}

#[test]
fn windows_line_ends_are_spaces() {
    prints("task a\r\n  sync\r\n", "task a\n  sync\n");
}

#[test]
fn names_may_be_words_of_the_language() {
    prints(
        "task sync\n  create sync\n  clone to 0 to from 0 4K\n  dwrite to 0 4K from from 0\n",
        "task sync\n  create sync\n  clone to 0 to from 0 4K\n  dwrite to 0 4K from from 0\n",
    );
}

#[test]
fn names_are_numbered_in_the_order_of_the_canonical_text() {
    let program = strict("powerfail 1\ntask a\n  fsync late\nsetup\n  create early\n").unwrap();
    assert_eq!(program.paths, ["early", "late"]);
}

#[test]
fn a_removed_operation_takes_its_references_along() {
    let text = "powerfail 1\nfault write nth=1 errno=EIO op=3\nsetup\n  create f\n  # Two.\n  \
                write f 0 4K\n  # Three.\n  write f 4K 4K\nafter\n  content f 0 4K tag=2\n  \
                content f 4K 4K tag=3\n";
    let mut program = strict(text).unwrap();
    let (slot, _) = program.operation(OpId(2)).expect("there are three");
    let removed = program.remove_operation(slot).expect("there is one");
    program.fixup();
    assert_eq!(
        program.to_string(),
        "powerfail 1\nfault write nth=1 errno=EIO op=2\nsetup\n  create f\n  # Two.\n  # Three.\n  \
         write f 4K 4K\nafter\n  content f 4K 4K tag=2\n"
    );
    program.insert_operation(slot, removed);
    program.fixup();
    assert!(program.to_string().contains("op=3"));
    assert!(program.to_string().contains("content f 4K 4K tag=3"));
}

#[test]
fn fixup_repairs_what_code_built_badly() {
    let beyond = Operation::Write {
        path: PathId(200),
        span: Span::new(u64::MAX, 9),
        fill: Fill::Tag,
        sync: Sync::None,
    };
    let mut program = Program {
        version: 9,
        paths: vec!["..".into(), "a b".into(), String::new()],
        tasks: vec![Task { name: "#".into(), ops: vec![beyond; 99] }; 9],
        choices: vec![1; 9999],
        cut: Some(CutSpec { kept_inside: vec![], ..CutSpec::at(u64::MAX) }),
        expect: Some(Expect::Violation { kind: "\n".into(), guarantee: None }),
        ..Program::default()
    };
    program.comments.push(Comment { place: Place::Task(77), item: 5, text: "two\nlines\n".into() });
    program.fixup();
    assert_eq!(strict(&program.to_string()), Ok(program.clone()));
    let mut again = program.clone();
    again.fixup();
    assert_eq!(again, program);
}

#[test]
fn the_first_line_names_the_version() {
    refuses(
        "",
        "line 1, column 1: found the end of the text, expected `powerfail 1` on the first \
                 line",
    );
    refuses("task a\n", "line 1, column 1: found `task`, expected `powerfail 1` on the first line");
    refuses(
        "# Two.\npowerfail 2\n",
        "line 2, column 11: found `2`, expected a known version of the text: 1",
    );
}

#[test]
fn misspelled_words_are_explained() {
    refuses_body(
        "task a\n  dwrit f 0 4K\n",
        "line 3, column 3: found `dwrit`, expected an operation; did you mean `dwrite`?",
    );
    refuses_body(
        "taks a\n",
        "line 2, column 1: found `taks`, expected image, mount, machine, defect, fault, setup, \
         task, after, expect, schedule, cut, recovery-cut, choices or end; did you mean `task`?",
    );
    refuses_body(
        "image datasums=on\n",
        "line 2, column 7: found `datasums=on`, expected key=value with the key blocks, datasum, \
         datacow, leaf, logdev, log_trees or buffers; did you mean `datasum`?",
    );
    refuses_body(
        "mount alloc=lowes\n",
        "line 2, column 13: found `lowes`, expected lowest or next or reuse for alloc; did you \
         mean `lowest`?",
    );
    refuses_body(
        "after\n  exist f\n",
        "line 3, column 3: found `exist`, expected an operation or a check; did you mean `exists`?",
    );
    refuses_body(
        "expect unreachabel preemptions=1\n",
        "line 2, column 8: found `unreachabel`, expected pass, violation, reachable or \
         unreachable; did you mean `unreachable`?",
    );
}

#[test]
fn missing_and_superfluous_words_are_explained() {
    refuses_body(
        "task a\n  write f 0\n",
        "line 3, column 12: found the end of the line, expected a size of at most 4M, such as 0, \
         512, 4K or 1M",
    );
    refuses_body("task a\n  clone f 0 g 0 4K\n", "line 3, column 13: found `g`, expected `to`");
    refuses_body(
        "task a\n  fsync f now\n",
        "line 3, column 11: found `now`, expected the end of the line",
    );
    refuses_body(
        "task a\n  write f 0 4K keep\n",
        "line 3, column 16: found `keep`, expected `fill=0xNN`, `sync` or the end of the line",
    );
    refuses_body(
        "  create f\n",
        "line 2, column 3: found `create`, expected a section such as `setup` or `task a` before \
         indented lines",
    );
    refuses_body(
        "setup\ncreate f\n",
        "line 3, column 1: found `create`, expected a section, or two spaces before an operation",
    );
}

#[test]
fn values_out_of_range_are_explained() {
    refuses_body(
        "image blocks=63\n",
        "line 2, column 14: found `63`, expected a number from 64 to 4096 for blocks",
    );
    refuses_body(
        "image leaf=3\n",
        "line 2, column 12: found `3`, expected 0 or a number from 4 to 192 for leaf",
    );
    refuses_body(
        "setup\n  write f 4M 4K\n",
        "line 3, column 14: found `4K`, expected a range that ends within 4M",
    );
    refuses_body(
        "setup\n  write f 0 4K fill=256\n",
        "line 3, column 21: found `256`, expected a number from 0 to 255",
    );
    refuses_body(
        "setup\n  create f\nafter\n  content f 0 4K tag=9\n",
        "line 5, column 22: found `9`, expected the number of an operation, from 1 to 1",
    );
    refuses_body(
        "schedule\n  decide x 2 2\n",
        "line 3, column 14: found `2`, expected a number from 0 to 1",
    );
}

#[test]
fn there_may_not_be_too_many() {
    let creates: String = (0..5).map(|n| format!("  create f{n}\n")).collect();
    refuses_body(
        &format!("setup\n{creates}"),
        "line 7, column 10: found `f4`, expected at most 4 names of files",
    );
    let tasks: String = (0..5).map(|n| format!("task t{n}\n")).collect();
    refuses_body(&tasks, "line 6, column 6: found `t4`, expected at most 4 tasks");
    refuses_body(
        &format!("setup\n{}", "  sync\n".repeat(33)),
        "line 35, column 3: found `sync`, expected at most 32 operations in setup",
    );
    refuses_body(
        "setup\nsetup\n",
        "line 3, column 1: found `setup`, expected something else: this is there already",
    );
}

#[test]
fn columns_count_characters() {
    refuses_body(
        "setup\n  create é f\n",
        "line 3, column 10: found `é`, expected the name of a file",
    );
}

#[test]
fn the_lenient_parser_keeps_what_it_can() {
    let repaired = lenient(
        b"image blocks=9 colour=red leaf=4\ntask a\n  write f 0 9M\n  fly f\n  write f 0\nsync\n\
          \xff\n",
    );
    assert_eq!(
        repaired.program.to_string(),
        "powerfail 1\nimage blocks=64 leaf=4\ntask a\n  write f 0 4M\n  sync\n"
    );
    assert_eq!(repaired.skipped, 3);
    assert_eq!(repaired.repaired, 5);
}
