//! The crash state of a finding: what the medium kept of each block, what recovery made of it, and
//! which block alone would have made it right.
//!
//! Promises that the state is the one that a replay judges. It must never know schedules.

use super::story::{Cut, Fate, MediumBlock, OtherBlock, PendingWrite, RequestSeen};
use crate::execution::Executor;
use crate::finding;
use crate::program::{CutSpec, Program};
use crate::recovery::{Depth, Recovered, Recoverer, Share};
use crate::target::PowerTarget;
use crate::verdict::{CHECK_FAILED, Wrong};
use machine::Moment;
use machine::disk::{
    Ages, CrashState, History, Kept, Options, Selection, Source, Strategy, TornPolicy,
};
use std::rc::Rc;

/// Moments tried on each side of the cut.
const WINDOW_MAX: usize = 200;
/// Blocks tried for their other version.
const BLOCKS_MAX: usize = 32;

/// The crash state that a finding describes.
pub struct Medium<'a, T> {
    executor: &'a Executor<T>,
    program: Rc<Program>,
    spec: &'a CutSpec,
    cut: Moment,
    history: Rc<History>,
    selection: Selection,
    strategy: Strategy,
    recoverer: Recoverer<T>,
    /// What recovery showed.
    pub recovered: Recovered,
    /// Blocks with what was read of them.
    blocks: Vec<Block>,
}

/// A block of which the medium may have held more than one version.
struct Block {
    seen: MediumBlock,
    options: Rc<Options>,
    ages: Ages,
}

impl<'a, T: PowerTarget> Medium<'a, T> {
    /// The crash state of a cut of the last execution, recovered.
    pub fn new(
        executor: &'a Executor<T>,
        program: &Rc<Program>,
        spec: &'a CutSpec,
        end: Moment,
    ) -> Self {
        let history = Rc::new(History::new(executor.machine().disk().log()));
        let mut medium = Medium {
            executor,
            program: program.clone(),
            spec,
            cut: finding::moment(spec).min(end),
            history,
            selection: finding::selection(&spec.kept),
            strategy: finding::strategy(spec),
            recoverer: Recoverer::of_target(),
            recovered: Recovered::default(),
            blocks: Vec::new(),
        };
        let (cut, selection) = (medium.cut, medium.selection.clone());
        let state = medium.state(cut, &selection);
        medium.recovered = medium.recover(&state);
        medium.blocks = medium.read_blocks(&state);
        medium
    }

    fn state(&self, cut: Moment, selection: &Selection) -> Rc<CrashState> {
        CrashState::with_selection(self.history.clone(), cut, selection, self.strategy)
    }

    /// Recovers as a replay does. What the full check refuses is read all the same.
    fn recover(&mut self, state: &Rc<CrashState>) -> Recovered {
        let base = self.executor.base().clone();
        if let Some(moment) = self.spec.inside_recovery {
            let kept = finding::selection(&self.spec.kept_inside);
            let inner = Moment(moment);
            return self.recoverer.recover_twice(state, &self.program, &base, inner, &kept);
        }
        let recovered = self.recoverer.recover(state, &self.program, &base, Depth::FULL);
        match &recovered.wrong {
            Some(wrong) if wrong.kind == CHECK_FAILED => {
                let depth = Depth { check: false, usable: Share::Never, inner_cuts: Share::Never };
                let state = self.state(self.cut, &self.selection);
                let seen = self.recoverer.recover(&state, &self.program, &base, depth).seen;
                Recovered { seen, ..recovered }
            }
            _ => recovered,
        }
    }

    /// What is wrong with a state.
    fn wrong(&mut self, cut: Moment, selection: &Selection) -> Option<Wrong> {
        let state = self.state(cut, selection);
        let recovered = self.recover(&state);
        let judge = || {
            let at = oracle::Moment(cut.0);
            let verdict = self.executor.with_oracle(|oracle| oracle.judge(at, &recovered.seen));
            verdict.err().map(|v| Wrong::from_violation(&v, crate::verdict::Phase::Recovered))
        };
        recovered.wrong.clone().or_else(judge)
    }

    fn read_blocks(&self, state: &Rc<CrashState>) -> Vec<Block> {
        let read: Vec<_> = state.footprint().iter().map(|step| (step.device, step.block)).collect();
        let mut blocks = Vec::new();
        for slot in 0..self.history.slots() {
            let options = self.history.options(slot, self.cut, TornPolicy::None);
            if options.pending.is_empty() {
                continue;
            }
            let (device, block) = self.history.place(slot);
            state.read_block(device, block);
            let steps = state.footprint();
            let step = steps.iter().find(|step| (step.device, step.block) == (device, block));
            let ages = step.map_or(Ages::default(), |step| step.ages);
            let was_read = read.contains(&(device, block));
            let seen = self.describe(device.0, block, &options, &ages, was_read);
            blocks.push(Block { seen, options, ages });
        }
        blocks.sort_by_key(|block| (block.seen.device, block.seen.block));
        blocks
    }

    fn describe(
        &self,
        device: u8,
        block: u64,
        options: &Options,
        ages: &Ages,
        was_read: bool,
    ) -> MediumBlock {
        let disk = self.executor.machine().disk();
        let pending: Vec<PendingWrite> = options
            .pending
            .iter()
            .map(|(version, _)| PendingWrite {
                request: version.request.0,
                what: disk.log().get(version.request).map_or("", |it| it.note.what).to_string(),
            })
            .collect();
        let name = |age: u16| match age.checked_sub(1).and_then(|at| pending.get(usize::from(at))) {
            Some(write) => format!("request #{} ({})", write.request, write.what),
            None => "what was durable".to_string(),
        };
        let newest = pending.len() as u16;
        let lost = ages.iter().any(|age| *age != newest);
        let verdict = if ages.iter().all(|age| *age == ages[0]) {
            let word = if lost { "lost what is newer than" } else { "kept" };
            match (lost, ages[0]) {
                (true, 0) => "lost: it holds what was durable".to_string(),
                _ => format!("{word} {}", name(ages[0])),
            }
        } else {
            let mut parts: Vec<String> = Vec::new();
            let mut first = 0;
            for run in ages.chunk_by(|a, b| a == b) {
                let last = first + run.len() - 1;
                let sectors = match run.len() {
                    1 => format!("sector {first}"),
                    _ => format!("sectors {first} to {last}"),
                };
                parts.push(format!("{sectors} {}", name(run[0])));
                first = last + 1;
            }
            format!("torn: {}", parts.join(", "))
        };
        let kept = ages.to_vec();
        MediumBlock { device, block, pending, kept, verdict, lost, was_read }
    }

    /// The cut with its medium and the window in which it shows the same kind of violation.
    pub fn cut(&mut self, kind: &str) -> Cut {
        let window = self.window(kind);
        Cut {
            moment: self.cut.0,
            window,
            inside_recovery: self.spec.inside_recovery,
            medium: self.blocks.iter().map(|block| block.seen.clone()).collect(),
        }
    }

    fn window(&mut self, kind: &str) -> Option<(u64, u64)> {
        let starts = self.executor.machine().disk().log().cuts();
        let home = starts.partition_point(|start| *start <= self.cut).checked_sub(1)?;
        let selection = self.selection.clone();
        let last = |index: usize| match starts.get(index + 1) {
            Some(next) => next.before(),
            None => self.executor.machine().now().max(starts[index]),
        };
        let ends: Vec<Moment> = (0..starts.len()).map(last).collect();
        let mut same = |index: usize| {
            self.wrong(ends[index], &selection).is_some_and(|wrong| wrong.kind == kind)
        };
        let (mut low, mut high) = (home, home);
        while low > 0 && home - low < WINDOW_MAX && same(low - 1) {
            low -= 1;
        }
        while high + 1 < starts.len() && high - home < WINDOW_MAX && same(high + 1) {
            high += 1;
        }
        Some((starts[low].0, ends[high].0))
    }

    /// The blocks each of which alone decides: with its other version, nothing is wrong.
    pub fn deciding(&mut self) -> Vec<OtherBlock> {
        let mut found = Vec::new();
        for index in 0..self.blocks.len().min(BLOCKS_MAX) {
            let Block { seen, options, ages } = &self.blocks[index];
            let newest = options.pending.len() as u16;
            let wanted = if seen.lost { newest } else { 0 };
            if !seen.was_read || ages.iter().all(|age| *age == wanted) {
                continue;
            }
            let last = seen.pending.last().map_or(String::new(), |write| write.what.clone());
            let other = OtherBlock {
                device: seen.device,
                block: seen.block,
                what: last,
                instead: if seen.lost { "what was written last" } else { "what was durable" }
                    .to_string(),
            };
            let selection = self.with_age(index, wanted);
            if self.wrong(self.cut, &selection).is_none() {
                found.push(other);
            }
        }
        found
    }

    /// The selection with one block of another age.
    fn with_age(&self, index: usize, age: u16) -> Selection {
        let Block { seen, options, .. } = &self.blocks[index];
        let source = match age.checked_sub(1) {
            None => Source::Durable,
            Some(at) => {
                let (version, _) = &options.pending[usize::from(at)];
                Source::Pending { request: version.request, index: version.index, age }
            }
        };
        let device = machine::DeviceId(seen.device);
        let mut selection = self.selection.clone();
        selection.0.retain(|kept| (kept.device, kept.block) != (device, seen.block));
        let sources = smallvec::smallvec![(u8::MAX, source)];
        selection.0.push(Kept { device, block: seen.block, sources });
        selection
    }

    /// What the cut left of a request that writes.
    pub fn fate(&self, request: &RequestSeen) -> Fate {
        let mut fates = Vec::new();
        for Block { options, ages, .. } in &self.blocks {
            let position =
                options.pending.iter().position(|(it, _)| it.request.0 == request.number);
            let Some(age) = position.map(|at| at as u16 + 1) else { continue };
            fates.extend(ages.iter().map(|kept| *kept >= age));
        }
        let kept = fates.iter().filter(|kept| **kept).count();
        match (fates.len(), kept) {
            (0, _) => Fate::Durable,
            (all, kept) if all == kept => Fate::Kept,
            (_, 0) => Fate::Lost,
            _ => Fate::Torn,
        }
    }
}
