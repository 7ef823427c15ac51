//! The only place that reads a clock: for budgets and rates of campaigns, never for a decision
//! inside an execution.

use std::time::{Duration, Instant};

/// Time since a start.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[expect(clippy::disallowed_methods, reason = "the one place that may read the clock")]
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// Whether the time is up.
    pub fn exceeds(&self, budget: Option<Duration>) -> bool {
        budget.is_some_and(|budget| self.0.elapsed() >= budget)
    }
}
