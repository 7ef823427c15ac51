//! Findings of one bug that began as different programs end as one, and keep their signature when
//! they are minimized again. Adding a case is adding an entry.

use harness::campaign::smallest;
use harness::cuts::Plan;
use harness::finding::Finding;
use harness::minimize::{Effort, meet, minimize};
use harness::program::{AfterLine, ChooserKind, Content, Kind, kind, strict};
use harness::session::Session;
use std::rc::Rc;

/// What campaigns of different seeds had found, once smaller and once larger.
const BEGINNINGS: &[(&str, &[&str])] = &[
    (
        "dedupe-eof-tail-unaligned",
        &[
            "create f\nwrite f 0 32K fill=0xaa\ntruncate f 30310\ndedupe f 20K to f 0 9830",
            "create g\nwrite g 0 15K fill=0xaa\ndedupe g 12K to g 0 3K",
        ],
    ),
    (
        "post-eof-not-zeroed",
        &[
            "create g\ntruncate g 13004\nmmap m g 0 16K\nstore m 12K 4K\ntruncate g 16K",
            "create g\nwrite g 8K 14397\nmmap m g 20K 4K\nstore m 0 4K\ntruncate g 24K",
        ],
    ),
    (
        "clone-lost-isize",
        &[
            "create f\nwrite f 4K 4K\nclone f 0 to f 8K 4K\nread f 8K 4K",
            "create g\ndwrite g 12K 8K\nfsync g\nclone g 4K to g 24K 4K\nread g 24K 4K",
        ],
    ),
    (
        "super-no-preflush",
        &["create f\nwrite f 0 4K\nsync", "create k\ndwrite k 12K 8K\ntruncate k 14000\nfsync k"],
    ),
];

/// The first finding of a program without tasks, as a campaign has it.
fn finding(defect: &str, setup: &str) -> Finding {
    let setup: String = setup.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("powerfail 1\ndefect {defect}\nsetup\n{setup}");
    let program = Rc::new(strict(&text).expect("it is a program"));
    let shown = Session::default().replay(&program).expect("it can be executed");
    shown.first().unwrap_or_else(|| panic!("{defect}: nothing found in\n{text}")).clone()
}

#[test]
fn findings_of_one_bug_end_as_one() {
    for (defect, beginnings) in BEGINNINGS {
        let ended = beginnings.iter().map(|setup| {
            let begun = finding(defect, setup);
            let small = smallest(&mut Session::default(), begun.clone());
            assert_eq!(small.wrong.key(), begun.wrong.key(), "{defect}");
            small
        });
        let ended: Vec<Finding> = ended.collect();
        for other in &ended[1..] {
            assert_eq!(other.signature(), ended[0].signature(), "{defect}");
        }
        let again = smallest(&mut Session::default(), ended[0].clone());
        assert_eq!(again.text(), ended[0].text(), "{defect}: what is smallest stays as it is");
    }
}

#[test]
fn where_a_finding_ends_does_not_depend_on_its_schedule() {
    let text = "powerfail 1\ndefect punch-no-invalidate-lock\nsetup\n  create f\n  write f 0 8K\n  \
                mmap m f 0 8K\ntask a\n  punch f 0 4K\n  read f 4K 4K\ntask b\n  load m 4K 4K\n  \
                store m 0 4K\n";
    let mut session = Session::default();
    let mut shown: Vec<Finding> = Vec::new();
    for seed in 1000..1200 {
        let mut program = strict(text).expect("it is a program");
        (program.machine.seed, program.machine.chooser) = (seed, ChooserKind::Random);
        let run = session.run(&Rc::new(program), &Plan::campaign(), seed).expect("it can be run");
        let found = run.first().cloned();
        shown.extend(
            found.filter(|found| {
                shown.iter().all(|it| it.program.schedule != found.program.schedule)
            }),
        );
    }
    let key = shown.first().expect("it is found").wrong.key();
    shown.retain(|found| found.wrong.key() == key);
    assert!(shown.len() > 2, "{} schedules show {key}", shown.len());
    let ended = shown[..3].iter().map(|found| {
        let ended = minimize(&mut session, found, Effort::default(), &mut |_| {});
        // The way there is the same, not the end alone.
        (ended.finding.text(), ended.executions)
    });
    let ended: Vec<(String, u32)> = ended.collect();
    assert_eq!([&ended[0]; 2], [&ended[1], &ended[2]]);
}

/// Smallest programs of one bug, between which no change leads that is always for the better.
const SHOWN_BY_SEVERAL: &[(&str, [&str; 2])] = &[
    (
        "clone-hole-not-logged",
        [
            "create f\nwrite f 4K 4K\nclone f 0 to f 4K 4K\nfsync f",
            "create f\nwrite f 0 4K\nwrite f 8K 4K\nclone f 4K to f 0 4K\nfsync f",
        ],
    ),
    (
        "clone-beyond-eof-gap-not-zeroed",
        [
            "create f\nwrite f 4K 2K\nmmap m f 4K 4K\nstore m 0 4K\nclone f 0 to f 8K 4K",
            "create f\nwrite f 4K 2K\nmmap m f 0 8K\nstore m 4K 4K\nclone f 0 to f 8K 4K",
        ],
    ),
];

/// Two bugs that show the same, each by its smallest program.
const SHOWN_ALIKE: &[[(&str, &str); 2]] = &[
    [
        ("remap-dst-pagecache-stale", "create f\nwrite f 4K 4K\nclone f 0 to f 4K 4K"),
        ("zero-range-partial-stale", "create f\nwrite f 0 4K\npunch f 0 2K"),
    ],
    [
        ("dedupe-eof-tail-unaligned", "create f\nwrite f 0 6K fill=0xaa\ndedupe f 4K to f 0 2K"),
        (
            "post-eof-not-zeroed",
            "create f\nwrite f 0 2K\nmmap m f 0 4K\nstore m 0 4K\ntruncate f 4K",
        ),
    ],
];

fn are_one(one: &Finding, other: &Finding) -> bool {
    assert_eq!(one.wrong.key(), other.wrong.key());
    meet(&mut Session::default(), one, other, Effort::default(), &mut |_| {})
}

#[test]
fn what_a_chain_leads_to_is_one_bug() {
    for (defect, programs) in SHOWN_BY_SEVERAL {
        let [one, same] = programs.map(|setup| finding(defect, setup));
        assert!(are_one(&one, &one) && are_one(&one, &same) && are_one(&same, &one), "{defect}");
    }
}

#[test]
fn what_no_chain_leads_to_is_another_bug() {
    for pair in SHOWN_ALIKE {
        let defects = format!("{}\ndefect {}", pair[0].0, pair[1].0);
        let [one, other] = pair.map(|(_, setup)| finding(&defects, setup));
        assert!(!are_one(&one, &other) && !are_one(&other, &one), "{defects}");
    }
}

/// What `after` demands of a write must stay about a write: of an operation that writes nothing it
/// holds never.
#[test]
fn what_a_person_demands_keeps_its_meaning() {
    let text = "powerfail 1\nmount flusher=0 committer=0 reclaimer=0\nsetup\n  create f\n  \
                dwrite f 4K 8K\n  fsync f\n  dwrite f 4K 4K\n  fsync f\nafter\n  \
                content f 4K 4K tag=2\n";
    let program = Rc::new(strict(text).expect("it is a program"));
    let shown = Session::default().replay(&program).expect("it can be executed");
    let small = smallest(&mut Session::default(), shown.first().expect("it shows it").clone());
    let Some(AfterLine::Content { holds: Content::Tag(tag), .. }) = small.program.after.first()
    else {
        panic!("the demand is gone:\n{}", small.text());
    };
    let (_, demanded) = small.program.operation(*tag).expect("it is there");
    assert_eq!(kind(demanded), Kind::Write, "{}", small.text());
}
