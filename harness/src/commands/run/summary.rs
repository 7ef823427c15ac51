//! What a campaign says in the end, as text and as a JSON document.
//!
//! Promises that both say the same. It must never know how it was shown while it ran.

use super::Tone;
use super::screen::{coverage, stability};
use crate::campaign::{Kept, Options, Report, Unstable};
use serde::Serialize;
use std::path::PathBuf;

/// What is said if a program that was executed twice did something else.
pub const BROKEN: &str = "DETERMINISM IS BROKEN: the same program made other steps the second \
                          time, so no verdict here can be trusted to repeat";

/// Sites that are named in the text; the document names all.
const NAMED_MAX: usize = 16;

#[derive(Serialize)]
struct FindingRow {
    signature: String,
    kind: String,
    guarantee: String,
    message: String,
    count: u64,
    program: u64,
    seconds: f64,
    last_program: u64,
    last_seconds: f64,
    file: Option<PathBuf>,
}

/// Sites: which were not reached, or, where not all are known, which were.
#[derive(Serialize)]
struct SitesRow {
    reached: usize,
    known: Option<usize>,
    never_reached: Option<Vec<&'static str>>,
    names: Vec<&'static str>,
}

#[derive(Serialize)]
struct UnstableRow {
    program: u64,
    difference: String,
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct StabilityRow {
    executed_twice: u64,
    unstable: u64,
    programs: Vec<UnstableRow>,
}

/// The JSON document.
#[derive(Serialize)]
pub struct Document {
    seed: u64,
    programs: u64,
    operations: u64,
    decisions: u64,
    cuts: u64,
    crash_states: u64,
    recoveries: u64,
    refused: u64,
    interleaving_pairs: u32,
    state_classes: u32,
    sites: SitesRow,
    stability: StabilityRow,
    new_seconds: f64,
    next: u64,
    seconds: f64,
    interrupted: bool,
    findings: Vec<FindingRow>,
}

/// The document of a campaign on a target that has these sites, if it knows them.
pub fn document(options: &Options, report: &Report, known: Option<&[&'static str]>) -> Document {
    let stats = &report.stats;
    let row = |kept: &Kept| FindingRow {
        signature: kept.signature.clone(),
        kind: kept.finding.wrong.kind.clone(),
        guarantee: format!("G-{}", kept.finding.wrong.guarantee),
        message: kept.finding.wrong.message.clone(),
        count: kept.count,
        program: kept.program,
        seconds: kept.seconds_until,
        last_program: kept.last_program,
        last_seconds: kept.last_seconds,
        file: kept.file.clone(),
    };
    let unstable = |it: &Unstable| UnstableRow {
        program: it.program,
        difference: it.difference.clone(),
        file: it.file.clone(),
    };
    Document {
        seed: options.seed,
        programs: stats.programs,
        operations: stats.operations,
        decisions: stats.decisions,
        cuts: stats.totals.cuts,
        crash_states: stats.totals.crash_states,
        recoveries: stats.totals.recoveries,
        refused: stats.refused,
        interleaving_pairs: report.coverage.interleaving_pairs(),
        state_classes: report.coverage.state_classes(),
        sites: SitesRow {
            reached: stats.sites.count(),
            known: known.map(<[_]>::len),
            never_reached: known.map(|known| stats.sites.missing_of(known)),
            names: stats.sites.names().collect(),
        },
        stability: StabilityRow {
            executed_twice: stats.twice,
            unstable: stats.unstable,
            programs: stats.unstable_programs.iter().map(unstable).collect(),
        },
        new_seconds: stats.new_seconds,
        next: stats.next,
        seconds: stats.seconds,
        interrupted: report.interrupted,
        findings: report.findings.iter().map(row).collect(),
    }
}

/// The text of a campaign on a target that has these sites, if it knows them.
pub fn lines(report: &Report, known: Option<&[&'static str]>, tone: Tone<'_>) -> Vec<String> {
    let stats = &report.stats;
    let mut lines = vec![
        format!(
            "{} programs, {} operations, {} decisions, {} cuts, {} crash states, {} recoveries \
             in {:.1} s{}",
            stats.programs,
            stats.operations,
            stats.decisions,
            stats.totals.cuts,
            stats.totals.crash_states,
            stats.totals.recoveries,
            stats.seconds,
            if report.interrupted { " (interrupted)" } else { "" }
        ),
        format!(
            "{} interleaving pairs, {} state classes, {} sites",
            report.coverage.interleaving_pairs(),
            report.coverage.state_classes(),
            coverage(stats.sites.count(), known.map(<[_]>::len)),
        ),
    ];
    lines.extend(sites(report, known));
    lines.extend(unstable(report));
    if let Some(refusal) = &stats.refusal {
        lines.push(format!("{} programs were refused, the last because: {refusal}", stats.refused));
    }
    if let Some(why) = &stats.unwritten {
        lines.push(format!("a finding could not be written: {why}"));
    }
    if report.findings.is_empty() {
        lines.push("no finding".to_string());
    }
    for kept in &report.findings {
        lines.extend(finding(kept, tone));
    }
    lines
}

/// What was not reached; or what was, where nobody knows what else there is.
fn sites(report: &Report, known: Option<&[&'static str]>) -> Option<String> {
    let sites = &report.stats.sites;
    let (what, names) = match known {
        Some(known) => ("never reached", sites.missing_of(known)),
        None => ("reached (the target does not say which others it has)", sites.names().collect()),
    };
    let named = &names[..names.len().min(NAMED_MAX)];
    let more = match names.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!names.is_empty()).then(|| format!("{what}: {}{more}", named.join(", ")))
}

fn unstable(report: &Report) -> Vec<String> {
    let stats = &report.stats;
    if stats.twice == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("stability: {}", stability(stats.twice, stats.unstable))];
    lines.extend((stats.unstable > 0).then(|| BROKEN.to_string()));
    for Unstable { program, difference, file } in &stats.unstable_programs {
        let file = file.as_ref().map_or(String::new(), |file| format!("  {}", file.display()));
        lines.push(format!("  program {program}: {difference}{file}"));
    }
    lines
}

fn finding(kept: &Kept, tone: Tone<'_>) -> Vec<String> {
    let mut lines = vec![
        format!("\n{}  (seen {} times)", kept.signature, kept.count),
        format!("  {}", kept.finding.wrong.message),
    ];
    if let Some(file) = &kept.file {
        lines.push(format!("  replay: {} replay {}", tone.command, file.display()));
    }
    if tone.texts {
        lines.push(format!("\n{}", kept.finding.text().trim_end()));
    }
    lines
}
