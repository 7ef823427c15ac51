//! Programs: printed back byte for byte, and executed with the same answers and the same steps.
//! Together they have every word of the language, so a new word needs a new file.

use super::images::{self, Blocks};
use super::{compare, files, name, root, trial};
use harness::execution::{self, Executed, Executor, Manner};
use harness::finding::replayer;
use harness::images::Images;
use harness::program::options::{KNOBS, Values};
use harness::program::syntax::{Arg, SHAPES, split};
use harness::program::{AfterLine, Program, lenient, limits, strict};
use harness::replay::replay;
use harness::session::Session;
use libtest_mimic::Trial;
use machine::Chooser;
use oracle::operation::{Fill, Operation, Sync};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::rc::Rc;

pub fn trials() -> Vec<Trial> {
    let all = files("program", "pf").into_iter();
    let mut trials: Vec<Trial> =
        all.map(|file| trial(name(&file), move || is_read_the_same(&file))).collect();
    trials.push(trial("every_operation_is_golden", every_operation));
    trials.push(trial("every_knob_is_golden", every_knob));
    trials.push(trial("every_default_is_golden", every_default));
    trials.push(trial("every_word_is_golden", every_word));
    trials.push(trial("the_version_of_programs_is_golden", the_version));
    trials
}

fn is_read_the_same(file: &Path) {
    let text = fs::read_to_string(file).expect("the file is readable");
    let program = strict(&text).expect("it is readable for ever");
    assert_eq!(program.to_string(), text, "it is printed back");
    let repaired = lenient(text.as_bytes());
    assert_eq!((repaired.skipped, repaired.repaired), (0, 0), "nothing is repaired");
    assert_eq!(repaired.program, program, "both parsers read it alike");
    compare(file, &told(program));
}

/// What a program shows: the verdict; which operations succeed, and what the files hold in the end;
/// last, and alone a matter of the engine, its steps.
fn told(program: Program) -> String {
    let replayed = replay(&mut Session::default(), &program).expect("it is executable");
    let program = Rc::new(program);
    let (mut executor, mut images) = (Executor::new(), Images::default());
    executor.observe(true);
    let chooser: Box<dyn Chooser> = match &program.schedule {
        Some(schedule) => Box::new(replayer(schedule)),
        None => execution::chooser(&program),
    };
    let executed = executor.execute_with(&mut images, &program, Manner::default(), chooser);
    let (executed, _) = executed.expect("it is executable");
    let verdict = if replayed.as_expected { "as expected" } else { "NOT as expected" };
    let mut told = format!("{verdict}: {}\n\n", replayed.found);
    executor.with_oracle(|oracle| {
        for call in oracle.account() {
            let text = program.operation_text(call.op);
            let ended = match (call.returned, call.failed) {
                (None, _) => "has not returned",
                (Some(_), true) => "failed",
                (Some(_), false) => "done",
            };
            told += &format!("#{} {text}: {ended}\n", call.id.0);
        }
    });
    if executed.wrong.is_none() {
        told += &format!("\n{}", images::files(Blocks::last_of(&executor)));
    }
    let Executed { trace_hash, results_hash, decisions, .. } = executed;
    told += &format!("\nresults {results_hash:016x}, steps {trace_hash:016x}, ");
    told + &format!("decisions {decisions}, strayed {}\n", replayed.divergences)
}

/// All golden programs.
fn programs() -> Vec<Program> {
    let read = |file| fs::read_to_string(file).expect("the file is readable");
    let all = files("program", "pf").into_iter().map(read);
    all.map(|text| strict(&text).expect("it is readable for ever")).collect()
}

fn operations(program: &Program) -> impl Iterator<Item = &Operation> {
    let after = program.after.iter().filter_map(|line| match line {
        AfterLine::Operation(operation) => Some(operation),
        _ => None,
    });
    program.setup.iter().chain(program.tasks.iter().flat_map(|task| &task.ops)).chain(after)
}

/// Every kind of operation, with and without each argument that may be left out.
fn every_operation() {
    let mut seen = BTreeSet::new();
    for program in &programs() {
        for operation in operations(program) {
            let (kind, fields) = split(operation);
            seen.insert((kind, None));
            for arg in kind.shape().args {
                let is_there = match arg {
                    Arg::Fill => fields.fill != Fill::Tag,
                    Arg::Sync => fields.sync != Sync::None,
                    Arg::Keep => fields.keep,
                    _ => continue,
                };
                seen.insert((kind, Some((format!("{arg:?}"), is_there))));
            }
        }
    }
    for shape in SHAPES {
        let name = shape.kind.name();
        assert!(seen.contains(&(shape.kind, None)), "no golden program has `{name}`");
        let optional = |arg: &&Arg| matches!(arg, Arg::Fill | Arg::Sync | Arg::Keep);
        for arg in shape.args.iter().filter(optional) {
            for is_there in [false, true] {
                let wanted = (shape.kind, Some((format!("{arg:?}"), is_there)));
                let how = if is_there { "with" } else { "without" };
                assert!(seen.contains(&wanted), "no golden program has `{name}` {how} {arg:?}");
            }
        }
    }
}

/// Every knob with a value that is not its default, and each word that is one.
fn every_knob() {
    let programs = programs();
    for knob in KNOBS {
        let set: BTreeSet<u64> = programs.iter().map(|program| (knob.get)(program)).collect();
        let wanted = match knob.values {
            Values::Switch => 2,
            Values::Word(words) => words.len(),
            Values::Number { .. } => 2,
        };
        let (line, key) = (knob.group.word(), knob.key);
        assert!(set.len() >= wanted, "golden programs have {set:?} only of `{line} {key}`");
    }
}

/// A text names every knob with its default, so that the record of it has none: a default that
/// changed would give old programs another meaning.
fn every_default() {
    let read = |file| fs::read(file).expect("the file is readable");
    let texts: Vec<Vec<u8>> = files("text", "txt").into_iter().map(read).collect();
    let texts: Vec<_> = texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
    for knob in KNOBS {
        let (group, key, value) = (knob.group.word(), knob.key, knob.text(knob.default));
        let word = format!("{key}={value}");
        let has = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some(group) && words.any(|it| it == word)
        };
        let is_named = texts.iter().flat_map(|text| text.lines()).any(has);
        assert!(is_named, "no golden text has `{group} {word}`");
    }
}

/// Every word that the dictionary of fuzzers has: it has all of the language.
fn every_word() {
    let all = files("program", "pf").into_iter().chain(files("text", "txt"));
    let mut words = BTreeSet::new();
    for file in all {
        let text = fs::read(file).expect("the file is readable");
        let text = String::from_utf8_lossy(&text);
        let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        for word in code.flat_map(str::split_whitespace) {
            words.insert(word.to_string());
            words.extend(word.split_once('=').map(|(key, _)| format!("{key}=")));
            words.extend(word.starts_with("fill=0x").then(|| "fill=0x".to_string()));
        }
    }
    let dictionary = root().join("../../fuzz/options/program.dict");
    let dictionary = fs::read_to_string(dictionary).expect("the file is readable");
    let mut missing = Vec::new();
    for line in dictionary.lines() {
        let word = line.trim_matches('"');
        if !word.split(' ').all(|part| words.contains(part)) {
            missing.push(word);
        }
    }
    assert!(missing.is_empty(), "no golden file has {missing:?}");
}

/// What is written today is read tomorrow: the newest version has its folder.
fn the_version() {
    let folder = root().join(format!("program-v{}", limits::VERSION));
    let version = format!("powerfail {}\n", limits::VERSION);
    let written = Program::default().to_string();
    assert_eq!(written, version);
    let files = fs::read_dir(&folder).unwrap_or_else(|_| panic!("{}", folder.display()));
    for file in files {
        let file = file.expect("the entry is readable").path();
        if file.extension().is_some_and(|it| it == "pf") {
            let text = fs::read_to_string(&file).expect("the file is readable");
            assert!(text.starts_with(&version), "{} is of {version}", file.display());
        }
    }
}
