//! Canonical form: whatever was done to a program, [`Program::fixup`] makes it valid again.
//!
//! Generators, mutators and the lenient parser build freely and finish here, so no other code has
//! to keep the bounds in mind. For a canonical program the call changes nothing.

use oracle::operation::{Errno, OpId, Operation};

use super::syntax::{Arg, Fields, Kind, build, split};
use super::{
    AfterLine, Comment, Content, CutSpec, Expect, KeptSpec, Move, Place, Program, limits, options,
    words,
};

impl Program {
    /// Brings the program into canonical form: within the limits, names in the order of their first
    /// use, comments in the order of the text. An operation that is valid keeps its meaning.
    pub fn fixup(&mut self) {
        self.version = limits::VERSION;
        for knob in options::KNOBS {
            let value = (knob.get)(self);
            let nearest = knob.values.clamp(value);
            if nearest != value {
                (knob.set)(self, nearest);
            }
        }
        self.fix_counts();
        self.fix_references();
        self.fix_names();
        self.fix_defects();
        self.fix_replay();
        if !self.comments.is_empty() {
            self.fix_comments();
        }
    }

    fn fix_counts(&mut self) {
        self.setup.truncate(limits::SETUP_OPS_MAX);
        self.tasks.truncate(limits::TASKS_MAX);
        self.after.truncate(limits::AFTER_LINES_MAX);
        self.choices.truncate(limits::CHOICES_BYTES_MAX);
        let mut left = limits::TOTAL_OPS_MAX - self.setup.len();
        for task in &mut self.tasks {
            task.ops.truncate(limits::TASK_OPS_MAX.min(left));
            left -= task.ops.len();
        }
        for index in 0..self.tasks.len() {
            let (before, rest) = self.tasks.split_at_mut(index);
            let taken = |name: &str| before.iter().any(|task| task.name == name);
            let task = &mut rest[0];
            if !words::is_symbol(task.name.as_bytes()) || taken(&task.name) {
                let free = words::TASKS.iter().find(|name| !taken(name));
                task.name = free.map_or_else(String::new, |name| (*name).to_owned());
            }
        }
    }

    /// Clamps the arguments of all operations and numbers the names in the order of their use.
    fn fix_names(&mut self) {
        let paths = Renaming::new(self.paths.len().min(limits::PATHS_MAX));
        let maps = Renaming::new(self.maps.len().min(limits::MAPS_MAX));
        let mut names = Names { paths, maps };
        for operation in &mut self.setup {
            names.operation(operation);
        }
        for operation in self.tasks.iter_mut().flat_map(|task| &mut task.ops) {
            names.operation(operation);
        }
        for line in &mut self.after {
            names.after_line(line);
        }
        names.paths.apply(&mut self.paths, &words::PATHS, words::is_path_name);
        names.maps.apply(&mut self.maps, &words::MAPS, words::is_symbol);
    }

    /// Drops references to operations that do not exist.
    fn fix_references(&mut self) {
        let last = self.operation_count();
        let valid = |op: OpId| (1..=last).contains(&usize::from(op.0));
        self.after.retain(|line| match line {
            AfterLine::Content { holds: Content::Tag(op), .. } => valid(*op),
            _ => true,
        });
        self.faults.truncate(limits::FAULTS_MAX);
        for fault in &mut self.faults {
            fault.nth = fault.nth.clamp(1, limits::FAULT_NTH_MAX as u32);
            fault.errno = Errno::EIO;
            fault.op = fault.op.filter(|op| valid(*op));
        }
    }

    fn fix_defects(&mut self) {
        self.defects.retain(|name| words::is_symbol(name.as_bytes()));
        let mut index = 0;
        while index < self.defects.len() {
            if self.defects[..index].contains(&self.defects[index]) {
                self.defects.remove(index);
            } else {
                index += 1;
            }
        }
        self.defects.truncate(limits::DEFECTS_MAX);
        let bound = |preemptions: &mut u32| {
            *preemptions = (*preemptions).min(limits::PREEMPTIONS_MAX as u32);
        };
        match &mut self.expect {
            Some(Expect::Violation { guarantee, .. }) => {
                *guarantee = guarantee.map(|g| g.clamp(1, limits::GUARANTEE_MAX as u16));
            }
            Some(Expect::Reachable { preemptions, .. } | Expect::Unreachable { preemptions }) => {
                bound(preemptions);
            }
            Some(Expect::Pass) | None => {}
        }
        if let Some(Expect::Violation { kind, .. } | Expect::Reachable { kind, .. }) = &self.expect
            && !words::is_symbol(kind.as_bytes())
        {
            self.expect = None;
        }
    }

    fn fix_replay(&mut self) {
        if let Some(schedule) = &mut self.schedule {
            schedule.moves.truncate(limits::MOVES_MAX);
            schedule.moves.retain_mut(|step| match step {
                Move::Run { who, steps } => *steps > 0 && words::is_symbol(who.as_bytes()),
                Move::Complete { .. } => true,
                Move::Choose { label, n, chosen } => {
                    *n = (*n).max(1);
                    *chosen = (*chosen).min(*n - 1);
                    words::is_symbol(label.as_bytes())
                }
            });
        }
        if let Some(cut) = &mut self.cut {
            let CutSpec { kept, inside_recovery, kept_inside, .. } = cut;
            if inside_recovery.is_none() {
                kept_inside.clear();
            }
            for list in [kept, kept_inside] {
                list.truncate(limits::KEPT_MAX);
                for KeptSpec { device, .. } in list {
                    *device = (*device).min(limits::DEVICE_MAX as u8);
                }
            }
        }
    }

    /// Puts each comment before a line that is printed; those before the first go to the head.
    fn fix_comments(&mut self) {
        let mut comments = std::mem::take(&mut self.comments);
        let task_places = (0..limits::TASKS_MAX as u8).map(Place::Task);
        let places: Vec<Place> = [Place::Head]
            .into_iter()
            .chain(options::Group::ALL.map(Place::Knobs))
            .chain([Place::Defects, Place::Faults, Place::Setup])
            .chain(task_places)
            .chain([Place::After, Place::Expect, Place::Schedule, Place::Cut])
            .chain([Place::RecoveryCut, Place::Choices, Place::End])
            .collect();
        let printed = |place: Place| self.line_count(place) > 0;
        let first = places.iter().copied().find(|&place| printed(place));
        for comment in &mut comments {
            let Comment { place, item, text } = comment;
            if *place != Place::Head && *item >= self.line_count(*place) {
                let later = places.iter().copied().find(|&p| p > *place && printed(p));
                (*place, *item) = (later.unwrap_or(Place::End), 0);
            }
            if *place == Place::Head || Some(*place) == first && *item == 0 || first.is_none() {
                (*place, *item) = (Place::Head, 0);
            }
            fix_comment_text(text);
        }
        comments.sort_by_key(|comment| (comment.place, comment.item));
        self.comments = comments;
    }

    /// How many lines the canonical text has at a place, comments not counted.
    fn line_count(&self, place: Place) -> u32 {
        let section = |items: usize| if items == 0 { 0 } else { items + 1 };
        let count = match place {
            Place::Head | Place::End => 0,
            Place::Knobs(group) => {
                let mut knobs = options::KNOBS.iter().filter(|knob| knob.group == group);
                usize::from(knobs.any(|knob| (knob.get)(self) != knob.default))
            }
            Place::Defects => self.defects.len(),
            Place::Faults => self.faults.len(),
            Place::Setup => section(self.setup.len()),
            Place::Task(index) => {
                self.tasks.get(usize::from(index)).map_or(0, |task| task.ops.len() + 1)
            }
            Place::After => section(self.after.len()),
            Place::Expect => usize::from(self.expect.is_some()),
            Place::Schedule => self.schedule.as_ref().map_or(0, |s| s.moves.len() + 1),
            Place::Cut => self.cut.as_ref().map_or(0, |cut| cut.kept.len() + 1),
            Place::RecoveryCut => match &self.cut {
                Some(CutSpec { inside_recovery: Some(_), kept_inside, .. }) => {
                    kept_inside.len() + 1
                }
                _ => 0,
            },
            Place::Choices => self.choices.len().div_ceil(limits::CHOICES_LINE_BYTES),
        };
        count as u32
    }
}

/// A comment is one line without trailing space.
fn fix_comment_text(text: &mut String) {
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
    text.truncate(text.trim_end().len());
}

/// New numbers for names, given out in the order of first use.
struct Renaming {
    /// Indexed by the old number.
    new: [Option<u8>; 4],
    used: u8,
    count: usize,
}

impl Renaming {
    fn new(count: usize) -> Self {
        Renaming { new: [None; 4], used: 0, count }
    }

    fn rename(&mut self, old: u8, max: usize) -> u8 {
        let old = usize::from(old) % self.count.clamp(1, max);
        *self.new[old].get_or_insert_with(|| {
            self.used += 1;
            self.used - 1
        })
    }

    /// Reorders the table and gives a default name where there is none that is valid and unique.
    fn apply(&self, table: &mut Vec<String>, defaults: &[&str], valid: fn(&[u8]) -> bool) {
        let used = usize::from(self.used);
        let same = (0..used).all(|index| self.new[index] == Some(index as u8));
        if !same {
            let mut sorted = vec![String::new(); used];
            for (name, new) in table.iter_mut().zip(self.new) {
                if let Some(new) = new {
                    sorted[usize::from(new)] = std::mem::take(name);
                }
            }
            *table = sorted;
        }
        table.resize(used, String::new());
        for index in 0..used {
            let good = valid(table[index].as_bytes()) && !table[..index].contains(&table[index]);
            if !good {
                let free = defaults.iter().find(|name| !table.iter().any(|taken| taken == **name));
                table[index] = free.map_or_else(String::new, |name| (*name).to_owned());
            }
        }
    }
}

struct Names {
    paths: Renaming,
    maps: Renaming,
}

impl Names {
    fn operation(&mut self, operation: &mut Operation) {
        let (kind, mut fields) = split(operation);
        clamp(kind, &mut fields);
        // In the order of the text: `mmap m f` names the mapping first.
        for arg in kind.shape().args {
            match arg {
                Arg::Path => self.path(&mut fields.path),
                Arg::Target => self.path(&mut fields.target),
                Arg::Map => fields.map.0 = self.maps.rename(fields.map.0, limits::MAPS_MAX),
                _ => {}
            }
        }
        *operation = build(kind, &fields);
    }

    fn path(&mut self, path: &mut oracle::operation::PathId) {
        path.0 = self.paths.rename(path.0, limits::PATHS_MAX);
    }

    fn after_line(&mut self, line: &mut AfterLine) {
        match line {
            AfterLine::Operation(operation) => self.operation(operation),
            AfterLine::Exists(path) | AfterLine::Absent(path) => self.path(path),
            AfterLine::Size { path, size } => {
                *size = (*size).min(limits::FILE_BYTES_MAX);
                self.path(path);
            }
            AfterLine::Content { path, span, .. } => {
                span.offset = span.offset.min(limits::FILE_BYTES_MAX);
                span.len = span.len.min(limits::FILE_BYTES_MAX - span.offset);
                self.path(path);
            }
        }
    }
}

/// Brings all ranges within [`limits::FILE_BYTES_MAX`].
pub(super) fn clamp(kind: Kind, fields: &mut Fields) {
    fields.offset = fields.offset.min(limits::FILE_BYTES_MAX);
    fields.other = fields.other.min(limits::FILE_BYTES_MAX);
    fields.node.0 = fields.node.0.min(limits::NODE_MAX as u8);
    let from =
        if kind.shape().has(Arg::Other) { fields.offset.max(fields.other) } else { fields.offset };
    fields.len = fields.len.min(limits::FILE_BYTES_MAX - from);
}
