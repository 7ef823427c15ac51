//! The timeline as SVG: one lane for each task and worker, one for the disk, and the likelihood of
//! the violation below.
//!
//! Promises a picture that says something without any script: what a script adds is in the page.
//! It must never know more than the explanation.

use super::escape;
use crate::explain::{Explanation, Fate, LaneKind, RequestSeen};
use std::fmt::Write;
use std::ops::Range;

/// Width of a letter.
const LETTER: u64 = 6;
/// Width of one event.
const EVENT: u64 = 7;
/// Room for the names of lanes.
const LEFT: u64 = 84;
/// Room behind the last event.
const RIGHT: u64 = 96;
/// Height of the row of operations.
const BAR: u64 = 25;
/// Height of a wait, at the foot of its operation.
const WAIT: u64 = 6;
/// Height of the row of steps.
const TICK: u64 = 10;
/// Height of one lock or request.
const THIN: u64 = 8;
/// Locks drawn beside each other in a lane, at most.
const LOCK_ROWS: usize = 6;
/// Requests drawn beside each other, at most.
const REQUEST_ROWS: usize = 10;
/// Height of the curve.
const CURVE: u64 = 48;
/// Height of the scale.
const SCALE: u64 = 34;
/// Width of a strip on paper.
const STRIP: u64 = 900;
/// Between lanes.
const GAP: u64 = 10;

/// A lane as it is drawn.
struct Row {
    lane: usize,
    top: u64,
    height: u64,
    /// The row of each lock, by its index; nothing, if it is not drawn.
    locks: Vec<(usize, usize)>,
}

struct Drawing<'a> {
    story: &'a Explanation,
    first: u64,
    last: u64,
    rows: Vec<Row>,
    out: String,
}

/// The picture of an explanation.
pub fn picture(story: &Explanation) -> String {
    let first = first_event(story);
    let mut drawing = Drawing {
        story,
        first,
        last: story.failure.max(first + 8),
        rows: Vec::new(),
        out: String::new(),
    };
    let bottom = drawing.arrange();
    let width = LEFT + (drawing.last - first + 1) * EVENT + RIGHT;
    let height = bottom + if story.likelihood.points.is_empty() { 0 } else { CURVE + 2 * GAP };
    drawing.draw(width, bottom);
    let label = escape(&format!("timeline of {}", story.file));
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg id=\"timeline\" role=\"img\" aria-label=\"{label}\" width=\"{width}\" \
         height=\"{height}\" viewBox=\"0 0 {width} {height}\" data-left=\"{LEFT}\" \
         data-event=\"{EVENT}\" data-first=\"{first}\">{}</svg>",
        drawing.out
    );
    strips(width, height, &mut svg);
    svg
}

/// After which event the picture begins: where the tasks start, or with the first operation if it
/// went wrong before, or there are none.
fn first_event(story: &Explanation) -> u64 {
    let is_task = |name: &str| name != "setup" && name != "end";
    let mut lanes = story.lanes.iter();
    let has_tasks = lanes.any(|lane| lane.kind == LaneKind::Task && is_task(&lane.name));
    if has_tasks && story.failure > story.tasks_start {
        return story.tasks_start;
    }
    story.operations.first().map_or(0, |it| it.invoked.saturating_sub(1)).min(story.failure)
}

/// The same once more for paper, in strips below each other.
fn strips(width: u64, height: u64, svg: &mut String) {
    let drawn = width - LEFT - RIGHT;
    for left in (0..drawn).step_by(STRIP as usize) {
        let wide = LEFT + STRIP + RIGHT;
        let _ = write!(
            svg,
            "<svg class=\"strip\" aria-hidden=\"true\" viewBox=\"{left} 0 {wide} {height}\">\
             <use href=\"#drawing\"/><use href=\"#names\" x=\"{left}\"/></svg>"
        );
    }
}

impl Drawing<'_> {
    /// Gives each lane its place; the bottom of the last one.
    fn arrange(&mut self) -> u64 {
        let mut top = SCALE;
        for lane in 0..self.story.lanes.len() {
            let is_disk = lane + 1 == self.story.lanes.len();
            let locks = if is_disk { Vec::new() } else { self.stack_locks(lane) };
            let is_used = is_disk || !locks.is_empty() || self.has_any(lane);
            if !is_used {
                continue;
            }
            let deep = locks.iter().map(|(_, row)| row + 1).max().unwrap_or(0) as u64;
            let height = match is_disk {
                true => THIN * self.request_rows().clamp(2, REQUEST_ROWS) as u64 + TICK,
                false => BAR + TICK + deep * THIN,
            };
            self.rows.push(Row { lane, top, height, locks });
            top += height + GAP;
        }
        top
    }

    fn has_any(&self, lane: usize) -> bool {
        let story = self.story;
        story.steps.iter().any(|step| step.lane == lane && step.moment > self.first)
            || story
                .operations
                .iter()
                .any(|it| it.lane == lane && self.shows(it.invoked, it.returned))
    }

    /// Whether any of a time is in the picture.
    fn shows(&self, from: u64, until: Option<u64>) -> bool {
        until.unwrap_or(self.last) > self.first && from <= self.last
    }

    fn x(&self, moment: u64) -> u64 {
        LEFT + (moment.clamp(self.first, self.last) - self.first) * EVENT
    }

    /// The place of a time: at least as wide as an event.
    fn span(&self, from: u64, until: Option<u64>) -> (u64, u64) {
        let start = self.x(from);
        let end = self.x(until.unwrap_or(self.last + 1));
        (start, end.max(start + EVENT / 2) - start)
    }

    /// Locks of a lane, each in the first row that is free.
    fn stack_locks(&self, lane: usize) -> Vec<(usize, usize)> {
        let mut ends: Vec<u64> = Vec::new();
        let mut placed = Vec::new();
        for (index, lock) in self.story.locks.iter().enumerate() {
            if lock.lane != lane || !self.shows(lock.from, lock.until) {
                continue;
            }
            let row = ends.iter().position(|end| *end <= lock.from).unwrap_or(ends.len());
            if row == LOCK_ROWS {
                continue;
            }
            let end = lock.until.unwrap_or(u64::MAX).max(lock.from + 1);
            if row == ends.len() {
                ends.push(end)
            } else {
                ends[row] = end
            }
            placed.push((index, row));
        }
        placed
    }

    fn request_rows(&self) -> usize {
        self.stack_requests().iter().map(|(_, row)| row + 1).max().unwrap_or(0)
    }

    fn stack_requests(&self) -> Vec<(&RequestSeen, usize)> {
        let mut ends: Vec<u64> = Vec::new();
        let mut placed = Vec::new();
        for request in self.story.requests.iter() {
            let until = durable_until(request);
            if !self.shows(request.submitted, until) {
                continue;
            }
            let row = ends.iter().position(|end| *end <= request.submitted);
            let row = row.unwrap_or(ends.len());
            if row == REQUEST_ROWS {
                continue;
            }
            let end = until.unwrap_or(u64::MAX).max(request.submitted + 2);
            if row == ends.len() {
                ends.push(end)
            } else {
                ends[row] = end
            }
            placed.push((request, row));
        }
        placed
    }

    fn draw(&mut self, width: u64, bottom: u64) {
        self.out.push_str(
            "<defs><pattern id=\"wait\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M0 0v6\"/></pattern></defs>",
        );
        self.out.push_str("<g id=\"drawing\">");
        self.scale(bottom);
        for index in 0..self.rows.len() {
            let Row { lane, top, height, .. } = self.rows[index];
            let is_disk = lane + 1 == self.story.lanes.len();
            let name = escape(self.story.lane_name(lane));
            let inner = width - 4;
            let _ = write!(
                self.out,
                "<g class=\"lane\" data-name=\"{name}\"><rect class=\"bed\" x=\"2\" y=\"{top}\" \
                 width=\"{inner}\" height=\"{height}\" rx=\"4\"/>"
            );
            if is_disk {
                self.requests(top);
            } else {
                self.operations(lane, top);
                self.waits(lane, top);
                self.ticks(lane, top + BAR);
                self.locks(index, top + BAR + TICK);
            }
            self.out.push_str("</g>");
        }
        self.switches();
        self.marks(bottom);
        self.curve(bottom + GAP);
        self.out.push_str("</g>");
        self.names(bottom);
    }

    /// The names of lanes, which stay in sight.
    fn names(&mut self, bottom: u64) {
        let (wide, high) = (LEFT - 8, bottom + CURVE + 2 * GAP);
        let _ = write!(
            self.out,
            "<g id=\"names\"><rect class=\"column\" width=\"{wide}\" height=\"{high}\"/>\
             <text class=\"name\" x=\"10\" y=\"12\">event</text>"
        );
        for row in &self.rows {
            let (name, y) = (escape(self.story.lane_name(row.lane)), row.top + 13);
            let _ = write!(self.out, "<text class=\"name\" x=\"10\" y=\"{y}\">{name}</text>");
        }
        if !self.story.likelihood.points.is_empty() {
            let y = bottom + GAP + 13;
            let _ = write!(self.out, "<text class=\"name\" x=\"10\" y=\"{y}\">likelihood</text>");
        }
        self.out.push_str("</g>");
    }

    fn scale(&mut self, bottom: u64) {
        let span = self.last - self.first;
        let stride = [5, 10, 20, 25, 50, 100, 200, 500, 1000, 5000];
        let stride = stride.into_iter().find(|it| span / it <= 24).unwrap_or(10_000);
        let mut moment = self.first.next_multiple_of(stride);
        self.out.push_str("<g class=\"scale\">");
        while moment <= self.last {
            let x = self.x(moment);
            let _ = write!(self.out, "<path d=\"M{x} {SCALE}V{bottom}\"/>");
            let _ = write!(self.out, "<text x=\"{x}\" y=\"12\">{moment}</text>");
            moment += stride;
        }
        self.out.push_str("</g>");
    }

    fn operations(&mut self, lane: usize, top: u64) {
        let story = self.story;
        for it in story.operations.iter().filter(|it| it.lane == lane) {
            if !self.shows(it.invoked, it.returned) {
                continue;
            }
            let (x, wide) = self.span(it.invoked, it.returned);
            let how = match (it.returned, it.failed) {
                (None, _) => "had not returned",
                (Some(_), true) => "failed",
                (Some(_), false) => "returned",
            };
            let end = it.returned.map_or(String::new(), |at| format!("..{at}"));
            let text = escape(&it.text);
            let class = if it.failed && it.returned.is_some() { "op failed" } else { "op" };
            let hue = hue(it.number);
            let _ = write!(
                self.out,
                "<g class=\"{class}\" style=\"--h:{hue}\"><title>#{} {text}: events {}{end}, \
                 {how}</title><rect x=\"{x}\" y=\"{}\" width=\"{wide}\" height=\"{}\" rx=\"3\"/>",
                it.number,
                it.invoked,
                top + 1,
                BAR - 3
            );
            if let Some(label) = label(it.number, &it.text, wide) {
                let (x, y) = (x + 3, top + 12);
                let _ = write!(self.out, "<text x=\"{x}\" y=\"{y}\">{}</text>", escape(&label));
            }
            self.out.push_str("</g>");
        }
    }

    fn waits(&mut self, lane: usize, top: u64) {
        let story = self.story;
        for wait in story.waits.iter().filter(|it| it.lane == lane) {
            if !self.shows(wait.from, wait.until) {
                continue;
            }
            let (x, wide) = self.span(wait.from, wait.until);
            let end = wait.until.map_or("for ever".to_string(), |at| format!("until {at}"));
            let _ = write!(
                self.out,
                "<rect class=\"wait\" x=\"{x}\" y=\"{}\" width=\"{wide}\" height=\"{}\">\
                 <title>waits for {} from event {} {end}, {}</title></rect>",
                top + BAR - 8,
                WAIT,
                escape(&wait.name()),
                wait.from,
                escape(&wait.place)
            );
        }
    }

    /// All steps of a lane as one path: their words are in the table of steps.
    fn ticks(&mut self, lane: usize, top: u64) {
        let mut path = String::new();
        for step in self.story.steps.iter().filter(|it| it.lane == lane) {
            let _ = write!(path, "M{} {}v{}", self.x(step.moment), top + 1, TICK - 3);
        }
        if !path.is_empty() {
            let _ = write!(self.out, "<path class=\"ticks\" d=\"{path}\"/>");
        }
    }

    fn locks(&mut self, row: usize, top: u64) {
        let placed = self.rows[row].locks.clone();
        let story = self.story;
        for (index, row) in placed {
            let lock = &story.locks[index];
            let (x, wide) = self.span(lock.from, lock.until);
            let y = top + row as u64 * THIN;
            let class = match (lock.until, lock.shared) {
                (None, _) => "lock held",
                (_, true) => "lock shared",
                _ => "lock",
            };
            let end = lock.until.map_or("to the end".to_string(), |at| format!("to {at}"));
            let name = escape(&lock.name());
            let _ = write!(
                self.out,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{}\">\
                 <title>{name}: events {} {end}, {}</title></rect>",
                THIN - 2,
                lock.from,
                escape(&lock.place)
            );
        }
    }

    fn requests(&mut self, top: u64) {
        let placed: Vec<(RequestSeen, usize)> =
            self.stack_requests().into_iter().map(|(it, row)| (it.clone(), row)).collect();
        for (request, row) in placed {
            let (x, wide) = self.span(request.submitted, request.completed);
            let y = top + 4 + row as u64 * THIN;
            let class = match request.op {
                "write" => format!("write {}", fate(request.fate)),
                other => other.to_string(),
            };
            let text = escape(&request_text(&request));
            let _ = write!(
                self.out,
                "<g class=\"request {class}\"><title>{text}</title><rect x=\"{x}\" y=\"{y}\" \
                 width=\"{wide}\" height=\"{}\"/>",
                THIN - 2
            );
            let in_cache = request.op == "write" && !request.fua;
            if let Some(done) = request.completed.filter(|_| in_cache) {
                let (from, length) = self.span(done, request.durable.map(|(_, at)| at));
                let _ = write!(self.out, "<path d=\"M{from} {}h{length}\"/>", y + THIN / 2 - 1);
            }
            self.out.push_str("</g>");
        }
    }

    /// A line from lane to lane wherever another task goes on.
    fn switches(&mut self) {
        let disk = self.story.lanes.len().saturating_sub(1);
        let mut path = String::new();
        let mut last: Option<(u64, u64)> = None;
        for step in self.story.steps.iter().filter(|step| step.lane != disk) {
            let Some(row) = self.rows.iter().find(|row| row.lane == step.lane) else { continue };
            let y = row.top + BAR + TICK / 2;
            let x = self.x(step.moment);
            if let Some((from, before)) = last.filter(|(_, before)| *before != y) {
                let _ = write!(path, "M{from} {before}L{x} {y}");
            }
            last = Some((x, y));
        }
        if !path.is_empty() {
            let _ = write!(self.out, "<path class=\"switches\" d=\"{path}\"/>");
        }
    }

    fn marks(&mut self, bottom: u64) {
        let story = self.story;
        let mut taken = Vec::new();
        match &story.cut {
            Some(cut) => {
                let words = format!("power cut after event {}", cut.moment);
                self.mark("cut", cut.moment + 1, "power cut", &words, bottom, &mut taken);
            }
            None => {
                let words = format!("it goes wrong after event {}", story.failure);
                self.mark("cut", story.failure + 1, "failure", &words, bottom, &mut taken);
            }
        }
        if let Some(other) = &story.nearest.schedule {
            let words = format!("it would pass with: {}", other.chosen);
            self.mark("nearest", other.moment + 1, "passes", &words, bottom, &mut taken);
        }
        if let Some(decisive) = &story.likelihood.decisive {
            let words = format!("decisive choice: {}", decisive.chosen);
            self.mark("decisive", decisive.moment + 1, "decisive", &words, bottom, &mut taken);
        }
    }

    /// A line, and its label on the side where there is room.
    fn mark(
        &mut self,
        class: &str,
        moment: u64,
        label: &str,
        words: &str,
        bottom: u64,
        taken: &mut Vec<Range<u64>>,
    ) {
        let x = LEFT + moment.saturating_sub(self.first) * EVENT;
        let words = escape(words);
        let _ = write!(
            self.out,
            "<g class=\"mark {class}\"><title>{words}</title><path d=\"M{x} {}V{bottom}\"/>",
            SCALE - 5
        );
        let wide = label.len() as u64 * LETTER;
        let places = [x + 3, x.saturating_sub(3 + wide)].map(|from| from..from + wide);
        let is_free = |place: &Range<u64>| {
            let mut others = taken.iter();
            place.start >= LEFT
                && others.all(|it| it.end + LETTER <= place.start || place.end + LETTER <= it.start)
        };
        if let Some(place) = places.into_iter().find(is_free) {
            let (x, y) = (place.start, SCALE - 8);
            let _ = write!(self.out, "<text x=\"{x}\" y=\"{y}\">{label}</text>");
            taken.push(place);
        }
        self.out.push_str("</g>");
    }

    fn curve(&mut self, top: u64) {
        let likelihood = &self.story.likelihood;
        if likelihood.points.is_empty() {
            return;
        }
        let mut path = String::new();
        let mut dots = String::new();
        for point in &likelihood.points {
            let x = self.x(point.moment);
            let percent = u64::from(likelihood.percent(point.violations));
            let y = top + CURVE - percent * CURVE / 100;
            let _ = write!(path, "{}{x} {y}", if path.is_empty() { "M" } else { "L" });
            let _ = write!(
                dots,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\"><title>{} of {} choices kept: {percent} \
                 %</title></circle>",
                point.kept, likelihood.choices
            );
        }
        let _ = write!(
            self.out,
            "<g class=\"curve\">\
             <path class=\"grid\" d=\"M{LEFT} {top}H{right}M{LEFT} {low}H{right}\"/>\
             <path d=\"{path}\"/>{dots}</g>",
            right = self.x(self.last),
            low = top + CURVE
        );
    }
}

/// What a bar says of its operation: all, its first word, or its number, as there is room.
fn label(number: u16, text: &str, wide: u64) -> Option<String> {
    let verb = text.split(' ').next().unwrap_or_default();
    let labels = [format!("#{number} {text}"), format!("#{number} {verb}"), format!("#{number}")];
    labels.into_iter().find(|label| label.len() as u64 * LETTER + 4 <= wide)
}

/// Until when a request is drawn: until nothing can be lost of it any more.
fn durable_until(request: &RequestSeen) -> Option<u64> {
    if request.op != "write" || request.fua || request.failed {
        return request.completed;
    }
    request.durable.map(|(_, at)| at)
}

/// The colour of an operation, as an angle.
pub fn hue(number: u16) -> u32 {
    u32::from(number) * 137 % 360
}

/// The class of a fate.
pub fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Durable => "durable",
        Fate::Kept => "kept",
        Fate::Torn => "torn",
        Fate::Lost => "lost",
        Fate::None => "none",
    }
}

/// A request in words.
pub fn request_text(request: &RequestSeen) -> String {
    let what = if request.what.is_empty() { "" } else { " of " };
    let mut text = format!("#{} {}{what}{}", request.number, request.op, request.what);
    let (device, block) = (request.device, request.block);
    match request.count {
        0 => {
            let _ = write!(text, " on device {device}");
        }
        1 => {
            let _ = write!(text, " at {device}:{block}");
        }
        count => {
            let _ = write!(text, " at {device}:{block}..{}", block + count);
        }
    }
    if request.fua {
        text.push_str(" FUA");
    }
    let _ = write!(text, ": submitted {}", request.submitted);
    match request.completed {
        Some(at) if request.failed => {
            let _ = write!(text, ", failed {at}");
        }
        Some(at) => {
            let _ = write!(text, ", completed {at}");
        }
        None => text.push_str(", in flight"),
    }
    if let Some((by, at)) = request.durable.filter(|_| !request.fua) {
        let _ = write!(text, ", durable {at} by #{by}");
    }
    match request.fate {
        Fate::Kept => text.push_str("; not durable, and kept"),
        Fate::Torn => text.push_str("; not durable, and kept in part"),
        Fate::Lost => text.push_str("; not durable, and lost"),
        Fate::Durable | Fate::None => {}
    }
    text
}
