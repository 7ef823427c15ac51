//! The screen of given states, as a terminal of 80 columns shows it.

use super::*;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_string).collect()
}

fn row(signature: &str, count: u64, ago_seconds: u64) -> Row {
    Row { signature: signature.to_string(), count, ago_seconds }
}

fn state() -> State {
    State {
        seed: 7,
        jobs: 2,
        seconds: 42.4,
        seconds_max: Some(3600.0),
        programs: 28123,
        cuts: 25210,
        crash_states: 465012,
        recoveries: 181034,
        new_seconds: 3.9,
        sites: 117,
        sites_known: Some(124),
        pairs: 2496,
        classes: 1042,
        twice: 440,
        latest: 28121,
        swarm: Emphasis {
            shape: vec!["3 tasks".to_string(), "2 files".to_string(), "faults".to_string()],
            often: words("store truncate"),
            kinds: words(
                "create write read dwrite awrite aread reap mmap load msync punch zero clone \
                 fsync fdatasync sync",
            ),
            knobs: words("leaf logdev delalloc"),
            choosers: words("pct pos"),
        },
        findings: vec![
            row("lost-data G-11 crash: interrupted at fsync.collect", 12, 3),
            row("poison G-1 crash: lost data", 1, 75),
        ],
        ..State::default()
    }
}

#[test]
fn a_state_is_a_screen() {
    insta::assert_snapshot!(lines(&state(), 80).join("\n"), @r"
    time       42 s of 1 h 00 min          campaign   seed 7, 2 workers
    programs   28123 (663/s)               new        3 s ago
    states     465012 (10967/s)            sites      117 of 124
    recoveries 181034 (4270/s)             pairs      2496
    cuts       25210 (595/s)               classes    1042
    stability  100 % of 440 executed twice
    swarm      program 28121: 3 tasks, 2 files, faults
      often    store truncate
      kinds    create write read dwrite awrite aread reap mmap load msync punch +5
      knobs    leaf logdev delalloc
      choosers pct pos
    findings   2 signatures, seen 13 times
           1x 1 min 15 s ago  poison G-1 crash: lost data
          12x        3 s ago  lost-data G-11 crash: interrupted at fsync.collect
    ");
}

#[test]
fn a_difference_between_two_executions_is_not_to_be_overlooked() {
    let difference = "step 57 was write.copy of task 1 at 3:7:0, and then none".to_string();
    let unstable_programs = vec![(77, difference)];
    let state = State { unstable: 1, unstable_programs, ..state() };
    let shown = lines(&state, 80);
    insta::assert_snapshot!(shown[5..7].join("\n"), @r"
    stability  99.7 %, 1 of 440 executed twice DIFFER
    UNSTABLE   program 77: step 57 was write.copy of task 1 at 3:7:0, and then none
    ");
}

#[test]
fn what_is_not_known_yet_is_not_made_up() {
    let shown = lines(&State { jobs: 1, ..State::default() }, 80);
    insta::assert_snapshot!(shown.join("\n"), @r"
    time       0 s                         campaign   seed 0, 1 worker
    programs   0 (0/s)                     new        0 s ago
    states     0 (0/s)                     sites      0
    recoveries 0 (0/s)                     pairs      0
    cuts       0 (0/s)                     classes    0
    stability  nothing executed twice yet
    swarm      program 0: none
      often    none
      kinds    none
      knobs    none
      choosers none
    findings   none
    ");
}

#[test]
fn many_findings_fit_a_terminal() {
    let long = "x".repeat(200);
    let findings = (0..50).map(|index| row(&format!("{index} {long}"), index, 9000)).collect();
    let unstable_programs = vec![(1, long.clone()), (2, long.clone()), (3, long.clone())];
    let state = State { findings, unstable: 3, unstable_programs, ..state() };
    let shown = lines(&state, 60);
    assert!(shown.len() < 24, "{} lines", shown.len());
    assert!(shown.iter().all(|line| line.chars().count() <= 60), "{shown:#?}");
    assert!(shown[14].contains("49 xxx"), "the newest comes first: {shown:#?}");
    assert!(shown.last().is_some_and(|last| last.ends_with("42 more")), "{shown:#?}");
}

#[test]
fn one_of_many_that_differs_is_not_rounded_away() {
    assert_eq!(stability(100_000, 1), "99.9 %, 1 of 100000 executed twice DIFFER");
    assert_eq!(stability(3, 3), "0.0 %, 3 of 3 executed twice DIFFER");
}
