//! What a campaign shows while it runs, as AFL++ does: rates, what is covered and since when
//! nothing new was, what the swarm tries, what was found, and whether executions are stable.
//!
//! Promises lines that are a function of a state and a width, no wider than that, and few enough
//! for a terminal of 24 lines. It must never know a campaign, a clock or a terminal.

use crate::program::Emphasis;

/// Findings and unstable programs that have lines of their own.
const FINDINGS_MAX: usize = 8;
const UNSTABLE_MAX: usize = 2;

/// Columns of the names of fields, and of the left half.
const NAME: usize = 11;
const LEFT: usize = 38;

/// What is shown.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What the programs are derived from.
    pub seed: u64,
    /// Workers.
    pub jobs: u32,
    /// Seconds since the start.
    pub seconds: f64,
    /// Seconds after which it ends.
    pub seconds_max: Option<f64>,
    /// Programs executed.
    pub programs: u64,
    /// Cuts judged.
    pub cuts: u64,
    /// Crash states judged.
    pub crash_states: u64,
    /// Recoveries run.
    pub recoveries: u64,
    /// Seconds since something new was seen.
    pub new_seconds: f64,
    /// Sites reached.
    pub sites: usize,
    /// All sites, if that is known.
    pub sites_known: Option<usize>,
    /// Interleaving pairs seen.
    pub pairs: u32,
    /// State classes seen.
    pub classes: u32,
    /// Programs executed twice.
    pub twice: u64,
    /// How many of these did something else.
    pub unstable: u64,
    /// The first of them, and what was different.
    pub unstable_programs: Vec<(u64, String)>,
    /// The program that the swarm was drawn for.
    pub latest: u64,
    /// What the swarm tries.
    pub swarm: Emphasis,
    /// What was found, in the order of discovery.
    pub findings: Vec<Row>,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The signature.
    pub signature: String,
    /// How often it was seen.
    pub count: u64,
    /// Seconds since it was seen last.
    pub ago_seconds: u64,
}

/// The lines for a state.
pub fn lines(state: &State, width: usize) -> Vec<String> {
    let mut lines = figures(state);
    for (program, difference) in state.unstable_programs.iter().take(UNSTABLE_MAX) {
        lines.push(field("UNSTABLE", &format!("program {program}: {difference}")));
    }
    lines.extend(swarm(state, width));
    lines.extend(findings(&state.findings));
    lines.iter().map(|line| cut(line, width)).collect()
}

/// The part of the twice executed programs that did the same again.
pub fn stability(twice: u64, unstable: u64) -> String {
    match (twice, unstable) {
        (0, _) => "nothing executed twice yet".to_string(),
        (_, 0) => format!("100 % of {twice} executed twice"),
        _ => {
            let same = (twice - unstable.min(twice)) as f64;
            let percent = (same / twice as f64 * 1000.0).floor() / 10.0;
            format!("{percent:.1} %, {unstable} of {twice} executed twice DIFFER")
        }
    }
}

/// Sites that were reached, of those that are known.
pub fn coverage(reached: usize, known: Option<usize>) -> String {
    match known {
        Some(known) => format!("{reached} of {known}"),
        None => reached.to_string(),
    }
}

fn figures(state: &State) -> Vec<String> {
    let rate = |count: u64| format!("{count} ({:.0}/s)", count as f64 / state.seconds.max(1e-9));
    let time = match state.seconds_max {
        Some(max) => format!("{} of {}", duration(state.seconds), duration(max)),
        None => duration(state.seconds),
    };
    let workers = if state.jobs == 1 { "worker" } else { "workers" };
    let head = format!("seed {}, {} {workers}", state.seed, state.jobs);
    let new = format!("{} ago", duration(state.new_seconds));
    vec![
        pair(("time", &time), ("campaign", &head)),
        pair(("programs", &rate(state.programs)), ("new", &new)),
        pair(
            ("states", &rate(state.crash_states)),
            ("sites", &coverage(state.sites, state.sites_known)),
        ),
        pair(("recoveries", &rate(state.recoveries)), ("pairs", &state.pairs.to_string())),
        pair(("cuts", &rate(state.cuts)), ("classes", &state.classes.to_string())),
        field("stability", &stability(state.twice, state.unstable)),
    ]
}

fn swarm(state: &State, width: usize) -> Vec<String> {
    let Emphasis { shape, often, kinds, knobs, choosers } = &state.swarm;
    let room = width.saturating_sub(NAME);
    let last = shape.len().saturating_sub(1);
    let comma = |(index, word): (usize, &String)| match index == last {
        true => word.clone(),
        false => format!("{word},"),
    };
    let shape: Vec<String> = shape.iter().enumerate().map(comma).collect();
    let program = format!("program {}: ", state.latest);
    let head = fitting(&shape, room.saturating_sub(program.len()));
    let mut lines = vec![field("swarm", &(program + &head))];
    let rows = [("often", often), ("kinds", kinds), ("knobs", knobs), ("choosers", choosers)];
    for (name, words) in rows {
        lines.push(field(&format!("  {name}"), &fitting(words, room)));
    }
    lines
}

/// As many of the words as there is room for, and how many more there are.
fn fitting(words: &[String], room: usize) -> String {
    let more = |left: usize| format!(" +{left}");
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        let left = words.len() - index - 1;
        let tail = if left == 0 { 0 } else { more(left).len() };
        if !text.is_empty() && text.len() + 1 + word.len() + tail > room {
            return text + &more(left + 1);
        }
        let space = if text.is_empty() { "" } else { " " };
        text = text + space + word;
    }
    if text.is_empty() { "none".to_string() } else { text }
}

/// Those that were discovered last come first.
fn findings(rows: &[Row]) -> Vec<String> {
    if rows.is_empty() {
        return vec![field("findings", "none")];
    }
    let seen: u64 = rows.iter().map(|row| row.count).sum();
    let mut lines =
        vec![field("findings", &format!("{} signatures, seen {seen} times", rows.len()))];
    for row in rows.iter().rev().take(FINDINGS_MAX) {
        let ago = format!("{} ago", duration(row.ago_seconds as f64));
        lines.push(format!("{:>8}x {ago:>14}  {}", row.count, row.signature));
    }
    if rows.len() > FINDINGS_MAX {
        lines.push(format!("{:>9} {:>14}  {} more", "", "", rows.len() - FINDINGS_MAX));
    }
    lines
}

fn field(name: &str, value: &str) -> String {
    format!("{name:<NAME$}{value}")
}

fn pair(left: (&str, &str), right: (&str, &str)) -> String {
    format!("{:<LEFT$} {}", field(left.0, left.1), field(right.0, right.1))
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// A line that is no wider than the width.
fn cut(line: &str, width: usize) -> String {
    let line = line.trim_end();
    if line.chars().count() <= width {
        return line.to_string();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests;
