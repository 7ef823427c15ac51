//! No preemption: a task runs until it blocks or ends, then the next in order. The baseline
//! without concurrency, for set-up and for recovery.

use crate::choice::{Chooser, Ready};

/// Runs each task until it blocks.
#[derive(Default)]
pub struct RoundRobin;

impl Chooser for RoundRobin {
    fn run(&mut self, _ready: &Ready<'_>) -> u32 {
        0
    }

    fn pick(&mut self, _label: &'static str, _n: u32) -> u32 {
        0
    }

    fn preempts(&self) -> bool {
        false
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
