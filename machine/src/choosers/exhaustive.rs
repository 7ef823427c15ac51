//! Every schedule within a preemption bound, one after the other: an odometer over the decisions
//! (Kladov's exhaustigen; CHESS's bound).
//!
//! A preemption is a switch away from a ready task to another task. Completions of requests, and
//! who runs when the current task blocks or ends, are free (races.md §0.2).

use crate::choice::{Actor, Chooser, Ready};
use smallvec::SmallVec;

/// Depth-first search over decisions.
pub struct Exhaustive {
    bound: u32,
    path: Vec<Level>,
    depth: usize,
    preemptions: u32,
    executions: u64,
}

struct Level {
    /// What may be chosen here within the bound, in order.
    options: SmallVec<[Opt; 8]>,
    next: usize,
}

#[derive(Clone, Copy)]
struct Opt {
    index: u32,
    preempts: bool,
}

impl Exhaustive {
    /// All schedules with at most `bound` preemptions.
    pub fn new(bound: u32) -> Self {
        Exhaustive { bound, path: Vec::new(), depth: 0, preemptions: 0, executions: 0 }
    }

    /// Prepares the next execution; false when all have been made. To be called before each
    /// execution, the first included.
    pub fn advance(&mut self) -> bool {
        if self.executions > 0 {
            // What lies below the depth reached is kept only if the execution got there.
            self.path.truncate(self.depth);
            while let Some(level) = self.path.last_mut() {
                level.next += 1;
                if level.next < level.options.len() {
                    break;
                }
                self.path.pop();
            }
            if self.path.is_empty() {
                return false;
            }
        }
        self.executions += 1;
        self.depth = 0;
        self.preemptions = 0;
        true
    }

    /// Executions begun so far.
    pub fn executions(&self) -> u64 {
        self.executions
    }

    /// Preemptions of the current execution.
    pub fn preemptions(&self) -> u32 {
        self.preemptions
    }

    fn take(&mut self, options: impl FnOnce(u32) -> SmallVec<[Opt; 8]>) -> u32 {
        assert!(self.executions > 0, "advance comes before an execution");
        if self.depth == self.path.len() {
            let left = self.bound - self.preemptions;
            let options = options(left);
            assert!(!options.is_empty(), "a decision with no option within the bound");
            self.path.push(Level { options, next: 0 });
        }
        let level = &self.path[self.depth];
        let option = level.options[level.next];
        self.depth += 1;
        self.preemptions += u32::from(option.preempts);
        option.index
    }
}

impl Chooser for Exhaustive {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        self.take(|left| {
            let option = |(index, candidate): (usize, &crate::choice::Candidate)| Opt {
                index: index as u32,
                preempts: ready.current_is_ready && index > 0 && candidate.actor != Actor::Device,
            };
            let all = ready.candidates.iter().enumerate().map(option);
            all.filter(|option| left > 0 || !option.preempts).collect()
        })
    }

    fn pick(&mut self, _label: &'static str, n: u32) -> u32 {
        self.take(|_| (0..n).map(|index| Opt { index, preempts: false }).collect())
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
