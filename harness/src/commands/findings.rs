//! `powerfail findings`: what a folder of findings holds.

use super::{Exit, Failure, print_json, say};
use crate::findings::{self, Entry, PROGRAM, Record, Sighting};
use clap::Args;
use comfy_table::Table;
use jiff::Timestamp;
use serde::Serialize;
use std::path::PathBuf;

/// Which folder.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The folder of a campaign, or of many.
    #[arg(value_name = "DIR", default_value = "findings")]
    folder: PathBuf,
}

#[derive(Serialize)]
struct Row<'a> {
    file: PathBuf,
    report: Option<PathBuf>,
    also: Vec<PathBuf>,
    #[serde(flatten)]
    record: &'a Record,
}

/// Lists findings, those seen last first; exit 1 if there is one.
///
/// # Errors
/// The folder cannot be read.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let entries = findings::list(&arguments.folder).map_err(|error| {
        Failure::Input(format!("failed to read {}: {error}", arguments.folder.display()))
    })?;
    if json {
        print_json(&entries.iter().map(row).collect::<Vec<_>>());
    } else {
        print_text(&entries);
    }
    Ok(if entries.is_empty() { Exit::Expected } else { Exit::Violation })
}

fn row(entry: &Entry) -> Row<'_> {
    let (file, report, also) = (entry.folder.join(PROGRAM), entry.report(), entry.others());
    Row { file, report, also, record: &entry.record }
}

fn print_text(entries: &[Entry]) {
    if entries.is_empty() {
        return say("no finding");
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["finding", "seen", "first", "last", "tasks", "operations"]);
    for entry @ Entry { folder, record } in entries {
        let name = folder.file_name().map_or_else(String::new, |it| it.display().to_string());
        let story = entry.report().map_or_else(String::new, |page| format!("\n{}", page.display()));
        let others = match entry.others().len() {
            0 => String::new(),
            1 => "\nand by another program, in also".to_string(),
            count => format!("\nand by {count} other programs, in also"),
        };
        table.add_row([
            format!("{name}\n{}{others}{story}", record.message),
            record.count.to_string(),
            when(&record.first_seen),
            when(&record.last_seen),
            record.tasks.to_string(),
            record.operations.to_string(),
        ]);
    }
    say(&table.to_string());
}

/// The minute, and the program of the campaign.
fn when(seen: &Sighting) -> String {
    let time = i64::try_from(seen.unix_seconds).ok().and_then(|it| Timestamp::from_second(it).ok());
    let time = time.map_or_else(String::new, |it| it.strftime("%Y-%m-%d %H:%M").to_string());
    match (seen.seed, seen.program) {
        (Some(seed), Some(program)) => format!("{time}\nseed {seed}, program {program}"),
        _ => time,
    }
}
