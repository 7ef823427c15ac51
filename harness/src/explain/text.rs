//! An explanation as text, for a terminal.
//!
//! It must never know more than the explanation.

use super::story::{BlockStory, Contents, Explanation, FileStory, Likelihood, StepSeen};
use std::fmt::Write;

/// Steps that are shown: the last before the failure.
const STEPS_MAX: usize = 32;
/// Steps on each side of the decisive choice.
const AROUND: usize = 10;
/// Columns are this wide.
const WIDTH: usize = 27;
/// The longest bar of the curve.
const BAR: usize = 24;
/// Points of the curve that are shown at most.
const POINTS_MAX: usize = 16;

/// The text.
pub fn text(story: &Explanation) -> String {
    let mut out = String::new();
    headline(story, &mut out);
    broken(story, &mut out);
    lanes(story, &mut out);
    holders(story, &mut out);
    decisive(story, &mut out);
    nearest(story, &mut out);
    medium(story, &mut out);
    files(story, &mut out);
    section("What next", &mut out);
    for command in &story.commands {
        line(&mut out, format!("  {:<26} {}", command.purpose, command.line));
    }
    out
}

fn line(out: &mut String, text: impl AsRef<str>) {
    out.push_str(text.as_ref().trim_end());
    out.push('\n');
}

fn section(title: &str, out: &mut String) {
    line(out, format!("\n{title}"));
}

/// Adds words, broken at the width of a page.
fn paragraph(indent: &str, text: &str, out: &mut String) {
    let mut row = indent.to_string();
    for word in text.split_whitespace() {
        if row.chars().count() + word.chars().count() > 98 && row.trim() != "" {
            line(out, &row);
            row = indent.to_string();
        }
        let is_first = row.trim().is_empty();
        row = format!("{row}{}{word}", if is_first { "" } else { " " });
    }
    line(out, row);
}

fn headline(story: &Explanation, out: &mut String) {
    let found = &story.finding;
    line(out, format!("{}: {} {}", story.file, found.title, found.phase));
    found.message.iter().for_each(|text| line(out, format!("  {text}")));
    if let Some(expected) = &found.expected_instead {
        line(out, format!("  the file expects {expected}"));
    }
    if found.divergences > 0 {
        let places = found.divergences;
        line(out, format!("  the recorded schedule did not fit in {places} places"));
    }
}

fn broken(story: &Explanation, out: &mut String) {
    let promise = &story.guarantee;
    section("What was broken", out);
    line(out, format!("  {} {} ({})", promise.name, promise.title, promise.tier));
    paragraph("    ", &promise.text, out);
    for rule in &story.rules {
        line(out, format!("  rule {}", rule.name));
        paragraph("    ", &rule.text, out);
    }
    for defect in &story.defects {
        line(out, format!("  defect {} ({})", defect.name, defect.family));
        paragraph("    ", &format!("{} {}", defect.change, defect.breaks), out);
    }
}

fn lanes(story: &Explanation, out: &mut String) {
    let spare = story.steps.len().saturating_sub(STEPS_MAX);
    let decisive = decisive_step(story).filter(|at| *at < spare);
    if let Some(at) = decisive {
        section("The steps around the decisive choice", out);
        let around = at.saturating_sub(AROUND)..(at + AROUND).min(spare);
        window(story, &story.steps[around], out);
    }
    section("The last steps", out);
    if story.steps.is_empty() {
        return line(out, "  no task had started");
    }
    window(story, &story.steps[spare..], out);
    match &story.cut {
        Some(cut) => line(out, format!("       == the power is cut after event {}", cut.moment)),
        None => line(out, format!("       == it went wrong after event {}", story.failure)),
    }
}

/// The first step after the choice that decides most, or that the nearest schedule takes otherwise.
fn decisive_step(story: &Explanation) -> Option<usize> {
    let decisive = story.likelihood.decisive.as_ref().map(|it| it.moment);
    let nearest = story.nearest.schedule.as_ref().map(|it| it.moment);
    let moment = decisive.or(nearest)?;
    story.steps.iter().position(|step| step.moment > moment)
}

/// Steps in the lanes of those who make them.
fn window(story: &Explanation, shown: &[StepSeen], out: &mut String) {
    let mut used: Vec<usize> = shown.iter().map(|step| step.lane).collect();
    used.sort_unstable();
    used.dedup();
    let mut row = format!("{:>6} ", "event");
    used.iter().for_each(|&lane| row.push_str(&format!("{:<WIDTH$}", story.lane_name(lane))));
    line(out, row);
    let first = shown.first().map_or(0, |step| step.moment);
    let last = shown.last().map_or(0, |step| step.moment);
    let mut marks = marks(story, first, last).into_iter().peekable();
    for step in shown {
        while let Some((_, text)) = marks.next_if(|(moment, _)| *moment < step.moment) {
            line(out, format!("       -- {text}"));
        }
        let column = used.iter().position(|&lane| lane == step.lane).unwrap_or(0);
        line(out, format!("{:>6} {}{}", step.moment, " ".repeat(column * WIDTH), step.text));
    }
    marks.for_each(|(_, text)| line(out, format!("       -- {text}")));
}

/// What is written between the steps, with the event after which it is.
fn marks(story: &Explanation, first: u64, last: u64) -> Vec<(u64, String)> {
    let mut marks = Vec::new();
    for operation in &story.operations {
        let who = story.lane_name(operation.lane);
        let text = format!("{who}: {} #{}", operation.text, operation.number);
        marks.push((operation.invoked, format!("{text} begins")));
        if let Some(at) = operation.returned {
            let how = if operation.failed { "fails" } else { "returns" };
            marks.push((at, format!("{text} {how}")));
        }
    }
    if let Some(decisive) = &story.likelihood.decisive {
        marks.push((decisive.moment, format!("the decisive choice: {}", decisive.chosen)));
    }
    if let Some(nearest) = &story.nearest.schedule {
        let text = format!("here it would pass with \"{}\"", nearest.chosen);
        marks.push((nearest.moment, text));
    }
    marks.retain(|(moment, _)| *moment + 1 >= first && *moment <= last + 1);
    marks.sort_by_key(|(moment, _)| *moment);
    marks
}

fn holders(story: &Explanation, out: &mut String) {
    section(&format!("Locks held after event {}", story.failure), out);
    let mut none = true;
    for lock in story.held() {
        none = false;
        let who = match lock.handed {
            Some(_) => format!("an IO of {}", story.lane_name(lock.lane)),
            None => story.lane_name(lock.lane).to_string(),
        };
        let since = format!("since event {}, {}", lock.from, lock.place);
        line(out, format!("  {who} holds {} {since}", lock.name()));
    }
    for wait in story.waiting() {
        none = false;
        let (who, place) = (story.lane_name(wait.lane), &wait.place);
        let since = format!("since event {}, {place}", wait.from);
        line(out, format!("  {who} waits for {} {since}", wait.name()));
    }
    if none {
        line(out, "  none, and nobody waits");
    }
}

fn decisive(story: &Explanation, out: &mut String) {
    let Likelihood { choices, samples, points, decisive, .. } = &story.likelihood;
    section("The decisive moment", out);
    if points.is_empty() {
        return paragraph("  ", "No choice of the schedule was made before it went wrong.", out);
    }
    let stride = points.len().div_ceil(POINTS_MAX).max(1);
    let decides = decisive.as_ref().map(|it| it.choice);
    for (index, point) in points.iter().enumerate() {
        let near = decides.is_some_and(|at| point.kept == at || point.kept + 1 == at);
        if index % stride != 0 && index + 1 != points.len() && !near {
            continue;
        }
        let percent = point.violations * 100 / samples;
        let bar = "█".repeat(point.violations as usize * BAR / *samples as usize);
        let (kept, moment) = (point.kept, point.moment);
        let row = format!("  first {kept:>4} of {choices} choices kept, to event {moment:>4}");
        line(out, format!("{row}: {percent:>3} % {bar}"));
    }
    match decisive {
        Some(it) => {
            let percent = |count: u32| count * 100 / samples;
            let (before, after) = (percent(it.before), percent(it.after));
            let mut text = format!(
                "Choice {} after event {}: {}. The likelihood rises from {before} % to {after} %.",
                it.choice, it.moment, it.chosen
            );
            if !it.others.is_empty() {
                let _ = write!(text, " Instead: {}.", it.others.join("; "));
            }
            paragraph("  ", &text, out);
        }
        None => paragraph("  ", &story.likelihood.without_jump(), out),
    }
}

fn nearest(story: &Explanation, out: &mut String) {
    section("What is nearest and passes", out);
    let tried = story.nearest.schedules_tried;
    match &story.nearest.schedule {
        Some(other) => {
            let text = format!(
                "The schedule that differs at choice {}, after event {}: instead of \"{}\", \"{}\" \
                 ({}).",
                other.choice, other.moment, other.instead_of, other.chosen, other.then
            );
            paragraph("  ", &text, out);
        }
        None if tried == 0 => paragraph("  ", "The schedule has no part in it.", out),
        None => {
            let text = format!("None of {tried} schedules that differ in one choice passes.");
            paragraph("  ", &text, out);
        }
    }
    for block in &story.nearest.blocks {
        let text = format!(
            "The same cut with {} in block {} of device {} ({}).",
            block.instead, block.block, block.device, block.what
        );
        paragraph("  ", &text, out);
    }
}

fn medium(story: &Explanation, out: &mut String) {
    let Some(cut) = &story.cut else { return };
    section("The medium", out);
    let window = cut.window.map_or(String::new(), |(from, to)| {
        format!("; the same is found at any cut after events {from} to {to}")
    });
    line(out, format!("  power was lost after event {}{window}", cut.moment));
    if let Some(inner) = cut.inside_recovery {
        line(out, format!("  and again, after event {inner} of recovery"));
    }
    if cut.medium.is_empty() {
        line(out, "  everything that was written was durable");
    }
    for block in &cut.medium {
        let writes: Vec<String> =
            block.pending.iter().map(|it| format!("#{} {}", it.request, it.what)).collect();
        let writes = writes.join(", ");
        let place = format!("block {}:{}", block.device, block.block);
        line(out, format!("  {place} (pending {writes}): {}", block.verdict));
    }
}

fn files(story: &Explanation, out: &mut String) {
    section("The files", out);
    if story.files.is_empty() {
        line(out, "  the program names none");
    }
    for file in &story.files {
        line(out, format!("  {}", sizes(file)));
        let blocks = file.blocks.iter().filter(|block| !block.fits || is_telling(block));
        for block in blocks.take(12) {
            file_block(story, block, out);
        }
    }
}

/// Whether there is anything to tell of a block.
fn is_telling(block: &BlockStory) -> bool {
    let zeros = |contents: &Contents| contents.0.iter().all(|run| run.class == "zero");
    !(block.allowed.iter().all(zeros) && block.found.as_ref().is_none_or(zeros))
}

fn sizes(file: &FileStory) -> String {
    let before = file.before_size.map_or("not there".to_string(), |size| size.to_string());
    let mut allowed: Vec<String> = file.allowed_sizes.iter().map(u64::to_string).collect();
    if file.may_be_absent {
        allowed.insert(0, "absent".to_string());
    }
    let found = match (file.was_shown, file.found_size) {
        (true, Some(size)) => format!("; found {size}"),
        (true, None) => "; not found".to_string(),
        (false, _) => String::new(),
    };
    let allowed = allowed.join(", ");
    format!("{}: size before {before}; allowed {allowed}{found}", file.name)
}

fn file_block(story: &Explanation, block: &BlockStory, out: &mut String) {
    let join = |all: &[Contents]| match all {
        [] => "anything".to_string(),
        all => all.iter().map(|one| format!("[{one}]")).collect::<Vec<_>>().join(" "),
    };
    let mark = if block.fits { " " } else { "✗" };
    let mut row = format!("  {mark} block {}: before {}", block.number, join(&block.before));
    let _ = write!(row, "; allowed {}", join(&block.allowed));
    if let Some(found) = &block.found {
        let _ = write!(row, "; found [{found}]");
    }
    if let Some(closest) = block.closest.filter(|_| !block.fits && block.allowed.len() > 1) {
        let _ = write!(row, "; closest [{}]", block.allowed[closest]);
    }
    if let Some(by) = block.promised_by {
        let text = story.operation(by).map_or("", |operation| operation.text.as_str());
        let _ = write!(row, " (#{by} {text} had returned)");
    }
    line(out, row);
}
