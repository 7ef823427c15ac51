//! Files by block: before the tasks ran, as they may be, and as recovery shows them.
//!
//! Promises that what is allowed comes from the oracle, and what is found from the ordinary read
//! interface. It must never know the image.

use super::story::{BlockStory, Contents, FileStory, Run};
use crate::program::Program;
use crate::seen::Seen;
use oracle::content::{Origin, identify};
use oracle::operation::{BLOCK_BYTES, OpId, PathId};
use oracle::{Bytes, Oracle, State, View, When};

/// Blocks of one file that are shown.
const BLOCKS_MAX: u64 = 64;
/// States of one block that are shown.
const STATES_MAX: usize = 8;
/// Bytes in a block and in a sector, as indices.
const BLOCK: usize = BLOCK_BYTES as usize;
const SECTOR: usize = 512;

/// What the stories of files are told from.
pub struct Files<'a> {
    /// The program.
    pub program: &'a Program,
    /// The oracle.
    pub oracle: &'a Oracle,
    /// Before the tasks.
    pub before: When,
    /// When it went wrong.
    pub then: When,
    /// What recovery showed, if it came so far.
    pub seen: Option<&'a Seen>,
    /// The message of the finding.
    pub message: &'a str,
}

impl Files<'_> {
    /// The files that the program names.
    pub fn stories(&self) -> Vec<FileStory> {
        let paths = (0..self.program.paths.len()).map(|index| PathId(index as u8));
        paths.map(|path| self.story(path)).collect()
    }

    fn story(&self, path: PathId) -> FileStory {
        let before = self.oracle.allowed_name(path, self.before);
        let then = self.oracle.allowed_name(path, self.then);
        let shown = self.seen.and_then(|seen| seen.file(path));
        let found_size = shown.map(|file| file.size);
        let blocks = [
            found_size.map_or(0, |size| size.div_ceil(BLOCK_BYTES)),
            self.oracle.blocks_of(path, self.then),
            self.oracle.blocks_of(path, self.before),
        ];
        let count = blocks.into_iter().max().unwrap_or(0).min(BLOCKS_MAX);
        FileStory {
            name: self.program.path_name(path).to_string(),
            before_size: before.sizes.last().copied().filter(|_| before.may_exist),
            may_be_absent: then.may_be_absent,
            allowed_sizes: then.sizes,
            found_size,
            was_shown: self.seen.is_some(),
            blocks: (0..count).map(|number| self.block(path, number)).collect(),
        }
    }

    fn block(&self, path: PathId, number: u64) -> BlockStory {
        let states = |when| self.oracle.allowed_block(path, number, when);
        let (before, allowed) = (states(self.before).states, states(self.then));
        let told = |states: &[State]| {
            states.iter().take(STATES_MAX).map(|state| self.told(path, number, state)).collect()
        };
        let (mut found, mut closest) = (None, None);
        let name = self.program.path_name(path);
        let mut fits = !self.message.contains(&format!("block {number} of {name} "));
        if let Some(seen) = self.seen
            && let Some(file) = seen.file(path)
            && number < file.size.div_ceil(BLOCK_BYTES)
        {
            let inside = (file.size - number * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
            let mut bytes = [0; BLOCK];
            seen.block_bytes(path, number, &mut bytes);
            let bytes = &bytes[..inside];
            found = Some(match seen.read_error(path, number) {
                Some(errno) => unreadable(&format!("{errno:?}")),
                None => self.found(path, number, bytes),
            });
            closest = closest_to(&allowed.states, bytes);
            fits = fits
                && seen.read_error(path, number).is_none()
                && (allowed.states.is_empty() || fit(&allowed.states, bytes));
        }
        BlockStory {
            number,
            before: told(&before),
            allowed: told(&allowed.states),
            closest,
            found,
            fits,
            promised_by: allowed.promised_by.map(|by| by.0),
        }
    }

    /// A state that the oracle allows, in words.
    fn told(&self, path: PathId, number: u64, state: &State) -> Contents {
        let ends = state.iter().skip(1).map(|(start, _)| usize::from(*start));
        let runs = state.iter().zip(ends.chain([BLOCK]));
        let run = |((from, bytes), to): (&(u16, Bytes), usize)| {
            let at = number * BLOCK_BYTES + u64::from(*from);
            let (text, class, op) = match *bytes {
                Bytes::Zero => ("zeros".to_string(), "zero", None),
                Bytes::Byte(byte) => (format!("bytes {byte:#04x}"), "byte", None),
                Bytes::Op { op, path: stream, position } => {
                    (self.op_text(path, at, op, stream, position), "op", Some(op.0))
                }
            };
            Run { from: u32::from(*from), to: to as u32, text, class, op }
        };
        Contents(runs.map(run).collect())
    }

    /// Bytes that were found, in words.
    fn found(&self, path: PathId, number: u64, bytes: &[u8]) -> Contents {
        let mut runs: Vec<Run> = Vec::new();
        for (index, origin) in identify(bytes).into_iter().enumerate() {
            let from = (index * 16) as u32;
            let to = (index * 16 + 16).min(bytes.len()) as u32;
            let at = number * BLOCK_BYTES + u64::from(from);
            let (text, class, op) = match origin {
                Origin::Zero => ("zeros".to_string(), "zero", None),
                Origin::Byte(byte) => (format!("bytes {byte:#04x}"), "byte", None),
                Origin::Tag { op, path: stream, offset } => {
                    (self.op_text(path, at, op, stream, offset), "op", Some(op.0))
                }
                Origin::Poison { device, block } => {
                    (format!("the never-written block {block} of device {device}"), "poison", None)
                }
                Origin::Unknown => ("bytes that nobody wrote".to_string(), "unknown", None),
            };
            match runs.last_mut() {
                Some(last) if last.text == text => last.to = to,
                _ => runs.push(Run { from, to, text, class, op }),
            }
        }
        Contents(runs)
    }

    /// Whose bytes, and from where, if they are of another place.
    fn op_text(&self, path: PathId, at: u64, op: OpId, stream: PathId, position: i64) -> String {
        let verb = match self.program.operation(op) {
            Some((_, operation)) => verb(&self.program.operation_text(operation)),
            None => "operation".to_string(),
        };
        let shift = position.wrapping_sub(at as i64);
        let is_mapped = usize::from(stream.0) >= 0xc0;
        match (is_mapped || stream == path, shift) {
            (true, 0) => format!("{verb} #{}", op.0),
            (true, shift) if is_mapped || verb.contains("append") => {
                format!("{verb} #{} ({shift:+})", op.0)
            }
            (true, shift) => format!("{verb} #{} moved by {}", op.0, -shift),
            (false, 0) => format!("{verb} #{} to {}", op.0, self.program.path_name(stream)),
            (false, _) => format!(
                "{verb} #{} to {}, moved by {}",
                op.0,
                self.program.path_name(stream),
                -shift
            ),
        }
    }
}

fn unreadable(errno: &str) -> Contents {
    let text = format!("cannot be read: {errno}");
    Contents(vec![Run { from: 0, to: BLOCK as u32, text, class: "error", op: None }])
}

/// The word by which an operation begins.
pub fn verb(text: &str) -> String {
    let mut words = text.split(' ');
    match (words.next(), words.next()) {
        (Some("node"), Some(second)) => format!("node {second}"),
        (first, _) => first.unwrap_or_default().to_string(),
    }
}

/// The state that has most in common with these bytes; the newest of equals.
fn closest_to(states: &[State], bytes: &[u8]) -> Option<usize> {
    let alike = |state: &State| {
        let state = render(state);
        let pairs = bytes.chunks(16).zip(state.chunks(16));
        pairs.filter(|(found, state)| *found == &state[..found.len()]).count()
    };
    let counted = states.iter().take(STATES_MAX).map(alike).enumerate();
    counted.max_by_key(|(_, alike)| *alike).map(|(index, _)| index)
}

/// Whether every sector is that of some state: finer mixtures are the oracle's to allow.
fn fit(states: &[State], bytes: &[u8]) -> bool {
    let rendered: Vec<Box<[u8; BLOCK]>> = states.iter().map(render).collect();
    bytes.chunks(SECTOR).enumerate().all(|(index, sector)| {
        let at = index * SECTOR;
        rendered.iter().any(|state| state[at..at + sector.len()] == *sector)
    })
}

fn render(state: &State) -> Box<[u8; BLOCK]> {
    let mut out = Box::new([0; BLOCK]);
    let ends = state.iter().skip(1).map(|(start, _)| usize::from(*start));
    for ((from, bytes), to) in state.iter().zip(ends.chain([BLOCK])) {
        bytes.render(&mut out[usize::from(*from)..to]);
    }
    out
}
