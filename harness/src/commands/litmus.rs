//! `powerfail litmus`: every program of a folder, explored and compared with what it expects.

use super::{Exit, Failure, bar, interruptible, print_json, program_files, read_program, say};
use crate::litmus::{self, Allowance, Verdict};
use crate::program::Program;
use clap::Args;
use comfy_table::Table;
use machine::choosers::Shard;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Which files, and how far.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A program file, or a folder of files ending in `.pf`.
    #[arg(value_name = "PATH", default_value = "corpus/litmus")]
    path: PathBuf,
    /// Files explored at the same time; 0 is as many as there are cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    jobs: usize,
    /// Schedules of one file at most; with more its verdict is inconclusive.
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    schedules: u64,
    /// Show `unreachable` up to so many preemptions, where a file demands fewer.
    #[arg(long, value_name = "N", default_value_t = 0)]
    preemptions: u32,
    /// Only each Nth file, from the Ith.
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    shard: Shard,
}

#[derive(Serialize)]
struct Row {
    file: PathBuf,
    expected: String,
    found: String,
    as_expected: bool,
    pmin: Option<u32>,
    schedules: u64,
    crash_states: u64,
    exhausted: bool,
    seconds: f64,
    message: Option<String>,
}

/// Explores files; exit 1 unless each shows what it expects.
///
/// # Errors
/// A file that cannot be read, parsed or executed, or that expects nothing of an exploration.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let all = program_files(std::slice::from_ref(&arguments.path))?;
    if all.is_empty() {
        let path = arguments.path.display();
        return Err(Failure::Input(format!("failed to find any program file (*.pf) in {path}")));
    }
    let numbered = (0..).zip(all);
    let own = numbered.filter(|(number, _)| arguments.shard.owns(*number));
    let files: Vec<PathBuf> = own.map(|(_, file)| file).collect();
    let programs = files.iter().map(|file| read(file)).collect::<Result<Vec<Program>, _>>()?;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let jobs = if arguments.jobs == 0 { cores } else { arguments.jobs };
    let Arguments { schedules, preemptions, .. } = *arguments;
    let stop = interruptible();
    let bar = bar(Some(files.len() as u64));
    let answers = litmus::check_all(
        &programs,
        Allowance { schedules, preemptions },
        jobs.min(files.len()),
        &stop,
        &|index| {
            bar.set_message(files[index].display().to_string());
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for (file, answer) in files.iter().zip(answers) {
        let Some(answer) = answer else { continue };
        let fail = |why| Failure::Input(format!("failed to explore {}: {why}", file.display()));
        rows.push(row(file, answer.map_err(fail)?));
    }
    match json {
        true => print_json(&rows),
        false => print_text(&rows),
    }
    let fine = rows.len() == files.len() && rows.iter().all(|row| row.as_expected);
    Ok(if fine { Exit::Expected } else { Exit::Violation })
}

/// Reads a file, which must say what is reachable.
fn read(file: &Path) -> Result<Program, Failure> {
    let program = read_program(file)?;
    if litmus::is_litmus(&program) {
        return Ok(program);
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    let is_expect = |line: &str| line.split_whitespace().next() == Some("expect");
    let line = text.lines().position(is_expect).map_or(text.lines().count(), |line| line + 1);
    let wanted = "`expect reachable KIND preemptions=N` or `expect unreachable preemptions=N`";
    let file = file.display();
    Err(Failure::Input(format!("{file}: line {line}: a litmus test must say {wanted}")))
}

fn row(file: &Path, verdict: Verdict) -> Row {
    let Verdict { expected, found, as_expected, explored, seconds } = verdict;
    Row {
        file: file.to_owned(),
        expected,
        found,
        as_expected,
        pmin: explored.pmin,
        schedules: explored.schedules,
        crash_states: explored.totals.crash_states,
        exhausted: explored.exhausted,
        seconds,
        message: explored.first().map(|finding| finding.wrong.message.clone()),
    }
}

fn print_text(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["litmus", "expected", "found", "schedules", "crash states", "seconds", ""]);
    for row in rows {
        let name = row.file.file_stem().map(|name| name.to_string_lossy().into_owned());
        let pmin = row.pmin.map_or(String::new(), |pmin| format!(" preemptions={pmin}"));
        table.add_row([
            name.unwrap_or_default(),
            row.expected.clone(),
            format!("{}{pmin}", row.found),
            row.schedules.to_string(),
            row.crash_states.to_string(),
            format!("{:.1}", row.seconds),
            if row.as_expected { "as expected" } else { "NOT as expected" }.to_string(),
        ]);
    }
    say(&table.to_string());
    let right = rows.iter().filter(|row| row.as_expected).count();
    let exhausted = rows.iter().filter(|row| row.exhausted).count();
    say(&format!(
        "{right} of {} as expected, {exhausted} exhausted, {:.1} s",
        rows.len(),
        rows.iter().map(|row| row.seconds).sum::<f64>()
    ));
}
