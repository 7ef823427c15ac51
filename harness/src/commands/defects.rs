//! `powerfail defects`: is each historical defect found, from an empty corpus?

mod agreement;
mod pairs;
mod schedules;

use super::{Exit, Failure, bar, interruptible, print_json, say};
use crate::campaign::{self, Options};
use crate::clock::Stopwatch;
use crate::finding::Finding;
use crate::jobs;
use crate::known;
use crate::minimize::Effort;
use crate::program::{Comment, Place, Program};
use crate::session::Session;
use crate::triage::Known;
use agreement::Agreement;
use clap::{Args, value_parser};
use comfy_table::Table;
use engine::defects::{Defect, Family};
use pairs::Pairs;
use schedules::{Again, Schedules};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

/// Which defects, and for how long.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Only this family.
    #[arg(long, value_name = "F")]
    family: Option<String>,
    /// Only these.
    #[arg(long = "defect", value_name = "D")]
    defects: Vec<String>,
    /// Seconds for each, at most.
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    seconds: f64,
    /// What the programs are derived from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// From how many seeds, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    seeds: u64,
    /// How many are looked for at the same time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = value_parser!(u16).range(1..=1024))]
    jobs: u16,
    /// Write the findings to this folder, each under the name of its defect; in a folder for each
    /// seed, if there are several.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Compare the minimized findings with the smallest programs that are known.
    #[arg(long)]
    minimize: bool,
    /// And see how often findings of two defects, both switched on, are taken for one bug.
    #[arg(long, requires = "minimize", conflicts_with = "markdown")]
    pairs: bool,
    /// And minimize each finding again, from as many other schedules of the program that showed it.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "minimize")]
    schedules: u64,
    /// Print the table of docs/defects.md.
    #[arg(long)]
    markdown: bool,
}

#[derive(Serialize, Default)]
struct Row {
    name: &'static str,
    seed: u64,
    family: &'static str,
    source: &'static str,
    /// Whether something was found that is not found without the defect.
    found: bool,
    /// Whether what was found is a bug of the engine or of the oracle.
    shown_without: bool,
    kind: Option<String>,
    guarantee: Option<String>,
    programs: u64,
    seconds: f64,
    operations: Option<usize>,
    tasks: Option<usize>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    minimized: Option<Minimized>,
    file: Option<PathBuf>,
}

/// How a minimized finding compares with the smallest program that is known.
#[derive(Serialize, Default)]
struct Minimized {
    key: String,
    signature: String,
    /// The signature of the finding that it is taken for, of those that earlier seeds led to.
    bug: String,
    switches: usize,
    minimal_tasks: Option<usize>,
    minimal_operations: Option<usize>,
    minimize_seconds: f64,
    /// What other schedules of the same program led to.
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<Again>,
    #[serde(skip)]
    finding: Option<Finding>,
}

impl Minimized {
    /// Whether a program of this size has at most one operation and one task more than is known.
    fn is_small(&self, operations: Option<usize>, tasks: Option<usize>) -> bool {
        let fits = |size: Option<usize>, known: Option<usize>| {
            size.zip(known).is_none_or(|(size, known)| size <= known + 1)
        };
        fits(operations, self.minimal_operations) && fits(tasks, self.minimal_tasks)
    }
}

/// Switches each defect on and runs a campaign until it is found; exit 1 if one is not.
///
/// # Errors
/// No such family or defect.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    if arguments.pairs && json {
        return Err(Failure::Input("--pairs is told as text only".to_string()));
    }
    let chosen = chosen(arguments)?;
    let stop = interruptible();
    let seeds = (0..arguments.seeds).map(|more| arguments.seed.wrapping_add(more));
    let all = chosen.iter().flat_map(|it| seeds.clone().map(move |seed| (*it, seed)));
    let all: Vec<(Defect, u64)> = all.collect();
    let bar = bar(Some(all.len() as u64));
    let jobs = usize::from(arguments.jobs);
    let rows = jobs::in_order(&all, jobs, &stop, &|_, (defect, seed)| {
        bar.set_message(defect.name());
        let row = measured(arguments, *defect, *seed, &stop);
        bar.inc(1);
        row
    });
    let mut rows = rows.into_iter().flatten().collect::<Result<Vec<Row>, Failure>>()?;
    bar.set_message("which of them are one bug");
    triage(&mut rows, jobs, &stop);
    bar.finish_and_clear();
    match (json, arguments.markdown) {
        (true, _) => print_json(&rows),
        (false, true) => print_markdown(&rows),
        (false, false) => print_text(&rows),
    }
    if arguments.minimize && !json {
        say(Agreement::of(&rows).to_string().trim_end());
    }
    if arguments.schedules > 0 && !json {
        say(Schedules::of(&rows).to_string().trim_end());
    }
    if arguments.pairs && !json {
        say(Pairs::of(&rows, jobs, &stop).to_string().trim_end());
    }
    let all = rows.iter().all(|row| row.found);
    Ok(if all { Exit::Expected } else { Exit::Violation })
}

/// Looks for a defect with one seed.
fn measured(
    arguments: &Arguments,
    defect: Defect,
    seed: u64,
    stop: &AtomicBool,
) -> Result<Row, Failure> {
    let options = Options {
        seconds: Some(arguments.seconds),
        seed,
        defects: vec![defect.name().to_string()],
        stop_at_first: true,
        minimize: !arguments.minimize,
        ..Options::default()
    };
    let mut report = campaign::run(&options, stop, &mut |_, _| {});
    let minimized = match report.findings.first_mut() {
        Some(kept) if arguments.minimize => {
            Some(minimized(defect, &mut kept.finding, arguments.schedules))
        }
        _ => None,
    };
    let first = report.findings.first();
    let shown_without = first.is_some_and(|kept| is_shown_without(&kept.finding));
    let program = first.map(|kept| &kept.finding.program);
    let file = match (first, &arguments.out) {
        (Some(kept), Some(folder)) if arguments.seeds == 1 => {
            Some(write(folder, defect, &kept.finding)?)
        }
        (Some(kept), Some(folder)) => {
            Some(write(&folder.join(seed.to_string()), defect, &kept.finding)?)
        }
        _ => None,
    };
    Ok(Row {
        name: defect.name(),
        seed,
        family: defect.family().name(),
        source: defect.description().source,
        found: first.is_some() && !shown_without,
        shown_without,
        kind: first.map(|kept| kept.finding.wrong.kind.clone()),
        guarantee: first.map(|kept| format!("G-{}", kept.finding.wrong.guarantee)),
        programs: first.map_or(report.stats.programs, |kept| kept.program + 1),
        seconds: first.map_or(report.stats.seconds, |kept| kept.seconds_until),
        operations: program.map(|program| program.operation_count()),
        tasks: program.map(|program| program.tasks.len()),
        minimized,
        file,
    })
}

/// Whether a finding is shown with its schedule and cut while no defect is on: then it is a bug of
/// the engine or of the oracle.
fn is_shown_without(finding: &Finding) -> bool {
    let clean = Program { defects: Vec::new(), expect: None, ..finding.program.clone() };
    let shown = Session::default().replay(&Rc::new(clean));
    shown.is_ok_and(|shown| shown.first().is_some())
}

fn chosen(arguments: &Arguments) -> Result<Vec<Defect>, Failure> {
    let family = match &arguments.family {
        None => None,
        Some(name) => Some(Family::by_name(name).ok_or_else(|| {
            let known: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
            Failure::Input(format!(
                "failed to find family {name:?}; there are {}",
                known.join(", ")
            ))
        })?),
    };
    let mut chosen = Vec::new();
    for name in &arguments.defects {
        let defect = Defect::by_name(name).map_err(|error| Failure::Input(error.to_string()))?;
        chosen.push(defect);
    }
    if chosen.is_empty() {
        chosen.extend(Defect::ALL);
    }
    chosen.retain(|defect| family.is_none_or(|family| defect.family() == family));
    Ok(chosen)
}

/// Minimizes a finding, and compares it with what is known, and with what other schedules lead to.
fn minimized(defect: Defect, finding: &mut Finding, schedules: u64) -> Minimized {
    let mut session = Session::default();
    let again = (schedules > 0).then(|| Again::of(&mut session, finding, schedules));
    let clock = Stopwatch::start();
    *finding = campaign::smallest(&mut session, finding.clone());
    let known = known::smallest(defect.name());
    Minimized {
        key: finding.wrong.key(),
        signature: finding.signature(),
        bug: finding.signature(),
        finding: Some(finding.clone()),
        switches: finding.switches(),
        minimal_tasks: known.map(|size| size.tasks),
        minimal_operations: known.map(|size| size.operations),
        minimize_seconds: clock.seconds(),
        again,
    }
}

/// Says of each finding which bug it is, of those of the same defect, as one folder of findings
/// would.
fn triage(rows: &mut [Row], jobs: usize, stop: &AtomicBool) {
    let of_defects: Vec<&[Row]> = rows.chunk_by(|one, next| one.name == next.name).collect();
    let bugs = jobs::in_order(&of_defects, jobs, stop, &|_, rows| {
        let (known, mut session) = (Known::default(), Session::default());
        let mut place = |row: &Row| {
            let finding = row.minimized.as_ref()?.finding.as_ref()?;
            Some(known.place(&mut session, finding, Effort::default()).signature)
        };
        rows.iter().map(&mut place).collect::<Vec<_>>()
    });
    let counts = of_defects.iter().map(|rows| rows.len());
    let bugs = bugs.into_iter().zip(counts);
    let bugs: Vec<_> =
        bugs.flat_map(|(bugs, count)| bugs.unwrap_or_else(|| vec![None; count])).collect();
    for (row, bug) in rows.iter_mut().zip(bugs) {
        if let (Some(minimized), Some(bug)) = (&mut row.minimized, bug) {
            minimized.bug = bug;
        }
    }
}

/// Writes a finding as the regression corpus has it: with the story of the defect at its head.
fn write(folder: &Path, defect: Defect, finding: &Finding) -> Result<PathBuf, Failure> {
    let about = defect.description();
    let mut program = finding.program.clone();
    program.comments.retain(|comment| comment.place != Place::Head);
    for text in wrapped(&format!("{} {} {}", about.change, about.breaks, about.source)) {
        program.comments.push(Comment { place: Place::Head, item: 0, text });
    }
    let finding = Finding { program, ..finding.clone() };
    finding.write_as(folder, &format!("{defect}.pf")).map_err(|error| {
        Failure::Input(format!("failed to write to {}: {error}", folder.display()))
    })
}

/// Lines of at most 96 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= 96 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}

fn print_markdown(rows: &[Row]) {
    say("| defect | family | source | found as | programs | seconds |");
    say("| --- | --- | --- | --- | ---: | ---: |");
    for row in rows {
        let found = match (&row.kind, &row.guarantee) {
            (Some(kind), Some(guarantee)) if row.found => format!("{kind}, {guarantee}"),
            (Some(kind), _) => format!("{kind}, without the defect, too"),
            _ => "not found".to_string(),
        };
        say(&format!(
            "| `{}` | {} | {} | {found} | {} | {:.1} |",
            row.name, row.family, row.source, row.programs, row.seconds
        ));
    }
}

fn print_text(rows: &[Row]) {
    let is_minimized = rows.iter().any(|row| row.minimized.is_some());
    let mut header = vec!["defect", "seed", "found", "programs", "seconds", "operations", "tasks"];
    if is_minimized {
        header.extend(["known", "minimized in"]);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    let number = |count: Option<usize>| count.map_or(String::new(), |count| count.to_string());
    for row in rows {
        let found = match &row.kind {
            None => "MISSED".to_string(),
            Some(kind) if row.found => kind.clone(),
            Some(kind) => format!("{kind} WITHOUT IT, TOO"),
        };
        let mut cells = vec![
            row.name.to_string(),
            row.seed.to_string(),
            found,
            row.programs.to_string(),
            format!("{:.1}", row.seconds),
            number(row.operations),
            number(row.tasks),
        ];
        if let Some(it) = &row.minimized {
            let sizes = it.minimal_operations.zip(it.minimal_tasks);
            let known = sizes.map(|(operations, tasks)| format!("{operations} in {tasks} tasks"));
            cells.extend([known.unwrap_or_default(), format!("{:.1} s", it.minimize_seconds)]);
        }
        table.add_row(cells);
    }
    say(&table.to_string());
    let found = rows.iter().filter(|row| row.found).count();
    say(&format!("{found} of {} found", rows.len()));
    let own = rows.iter().filter(|row| row.shown_without).count();
    if own > 0 {
        say(&format!(
            "{own} of what was found is shown without the defect, too: see to these first"
        ));
    }
    let minimized = || rows.iter().filter_map(|row| row.minimized.as_ref().map(|it| (row, it)));
    if is_minimized {
        let small = minimized().filter(|(row, it)| it.is_small(row.operations, row.tasks));
        let mut times: Vec<f64> = minimized().map(|(_, it)| it.minimize_seconds).collect();
        times.sort_by(f64::total_cmp);
        say(&format!(
            "{} of {} have at most one operation and one task more than is known; minimizing took \
             {:.1} s in the median and {:.1} s at most",
            small.count(),
            times.len(),
            times[times.len() / 2],
            times[times.len() - 1],
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::strict;

    /// What a race of the regression corpus shows.
    pub(super) fn finding_of_corpus() -> Finding {
        let file = "../corpus/regress/defects/isize-before-dio-complete.pf";
        let text = std::fs::read_to_string(file).expect("it is there");
        let program = Rc::new(strict(&text).expect("it is a program"));
        let shown = Session::default().replay(&program).expect("it is executable");
        shown.first().expect("it is found").clone()
    }

    #[test]
    fn what_takes_its_defect_is_not_shown_without() {
        assert!(!is_shown_without(&finding_of_corpus()));
    }
}
